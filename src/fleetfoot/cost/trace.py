"""The list of operators that a network runs, with shapes, multiply-accumulates and bytes.

One forward pass on tensors without storage (the "meta" device): no weights are read and nothing is
computed, so a large network costs no more than a small one. Everything that counts reads this list.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fleetfoot.cost.formulas import FIRST_OUTPUT_ONLY, FREE, MACS, MOVES


@dataclass(frozen=True)
class Operator:
    """One operator as it ran: its ATen name, the shape of its first output, and what it cost."""

    name: str
    shape: tuple[int, ...]
    macs: int
    elements_read: int
    elements_written: int
    bytes_read: int
    bytes_written: int
    known: bool
    """Whether a formula, or the table of operators without multiply-accumulates, has it."""


@dataclass(frozen=True)
class Trace:
    """All operators of one forward pass, and their totals."""

    operators: tuple[Operator, ...]
    params: int
    """Learned values; a tensor that two modules share counts once."""

    @property
    def macs(self) -> int:
        """Multiply-accumulates of convolutions, linear layers and matrix products."""
        return sum(operator.macs for operator in self.operators)

    @property
    def memory_access_elements(self) -> int:
        """Values read and written, each operator reading its inputs and weights and writing its
        output once: FasterNet's h·w·2c + k²·c² summed over the network."""
        return sum(op.elements_read + op.elements_written for op in self.operators)

    @property
    def memory_access_bytes(self) -> int:
        """The same in bytes."""
        return sum(op.bytes_read + op.bytes_written for op in self.operators)

    @property
    def coverage(self) -> float:
        """Share of the operators that some formula knows; below 1 the totals are lower bounds."""
        if not self.operators:
            return 1.0
        return sum(operator.known for operator in self.operators) / len(self.operators)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Names of the operators that no formula knows."""
        return tuple(sorted({op.name for op in self.operators if not op.known}))


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operators: list[Operator] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        name = str(func.overloadpacket)
        if name in FREE:
            return out
        read = list(_tensors((args, kwargs)))
        written = list(_tensors(out))
        if name in FIRST_OUTPUT_ONLY:
            del written[1:]
        if not read and not written:
            return out
        formula = MACS.get(name)
        self.operators.append(
            Operator(
                name=name,
                shape=tuple(written[0].shape) if written else (),
                macs=formula(args, written[0]) if formula else 0,
                elements_read=sum(t.numel() for t in read),
                elements_written=sum(t.numel() for t in written),
                bytes_read=sum(t.numel() * t.element_size() for t in read),
                bytes_written=sum(t.numel() * t.element_size() for t in written),
                known=formula is not None or name in MOVES,
            )
        )
        return out


def _tensors(tree: Any) -> Iterable[Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))


def trace(model: nn.Module, example: Tensor) -> Trace:
    """Runs ``model`` once, in eval mode and on the meta device, and lists its operators.

    The given model is left as it is. ``example`` is (B, C, H, W); its values are not used.

    Raises:
        ValueError: the network cannot run on that shape; the message carries the network's own.
    """
    shadow = copy.deepcopy(model).to("meta").eval()
    image = example.to("meta")
    recorder = _Recorder()
    try:
        with torch.no_grad(), recorder:
            shadow(image)
    except Exception as error:  # whatever the network raises, said with the shape that it met
        raise ValueError(
            f"{type(model).__name__} cannot be counted at input {tuple(example.shape)}: {error}"
        ) from error
    return Trace(tuple(recorder.operators), sum(p.numel() for p in model.parameters()))


def count(model: nn.Module, example: Tensor) -> Trace:
    """The costs of one image: as ``trace``, at batch 1 whatever the batch of ``example``."""
    return trace(model, example[:1])
