"""Denormal numbers of a network: float32 values below 2^-126 (1.2e-38) that are not 0.

Many processors compute with them up to a hundred times slower. Weights that decay in training get
there, and so do the maps that such weights make.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

EXPONENT = 0x7F800000
FRACTION = 0x007FFFFF
"""Bits of a float32. A denormal number has no bit of the exponent, and one of the fraction."""


@dataclass
class Denormals:
    """What one module has of them."""

    weights: int = 0
    of_weights: int = 0
    maps: int = 0
    """Denormal numbers that it read or gave in one run."""
    of_maps: int = 0

    @property
    def share(self) -> float:
        """The larger share, of its weights or of its maps."""
        return max(
            self.weights / self.of_weights if self.of_weights else 0.0,
            self.maps / self.of_maps if self.of_maps else 0.0,
        )


def denormals(model: nn.Module, example: Any) -> dict[str, Denormals]:
    """The modules that hold, read or give denormal numbers when ``model`` runs on ``example``, a
    tensor or a tuple of the network's arguments.

    >>> network = nn.Sequential(nn.Linear(2, 4, bias=False))
    >>> with torch.no_grad():
    ...     _ = network[0].weight.fill_(1).view(-1)[:3].fill_(1e-39)
    >>> found = denormals(network, torch.ones(1, 2))
    >>> found["0"].weights, found["0"].of_weights, found["0"].maps
    (3, 8, 1)
    """
    found: dict[str, Denormals] = {}
    with ExitStack() as hooks:
        for name, module in model.named_modules():
            row = found.setdefault(name, Denormals())
            for held in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
                few, many = _counted(held)
                row.weights, row.of_weights = row.weights + few, row.of_weights + many
            if not any(module.children()):
                hooks.callback(module.register_forward_hook(_counter(row)).remove)
        arguments = example if isinstance(example, tuple) else (example,)
        with torch.inference_mode():
            model(*arguments)
    return {name: row for name, row in found.items() if row.weights or row.maps}


def total(found: Mapping[str, Denormals]) -> Denormals:
    """The sum over modules."""
    rows = list(found.values())
    return Denormals(
        sum(row.weights for row in rows),
        sum(row.of_weights for row in rows),
        sum(row.maps for row in rows),
        sum(row.of_maps for row in rows),
    )


def _counter(row: Denormals) -> Any:
    def count(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        for value in (*inputs, output):
            if isinstance(value, Tensor):
                few, many = _counted(value)
                row.maps, row.of_maps = row.maps + few, row.of_maps + many

    return count


def _counted(values: Tensor) -> tuple[int, int]:
    """Denormal numbers among the values, and the values; nothing of other types than float32. By
    their bits: a processor that flushes denormal numbers would compare them as 0."""
    if values.dtype != torch.float32 or values.device.type == "meta":
        return 0, 0
    bits = values.detach().contiguous().view(torch.int32)
    small = ((bits & EXPONENT) == 0) & ((bits & FRACTION) != 0)
    return int(small.sum()), values.numel()
