"""A layer's feature maps of a picture, and how similar they are.

Chen et al. 2023, https://arxiv.org/abs/2303.03667, figure 3: the maps of different channels are
very similar, which is the redundancy that partial convolution uses.

B batch · C channels · H W space
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fleetfoot.errors import UnknownNameError

ALIKE = 0.9
"""Similarity from which two maps count as alike: one is nearly the other, up to sign and scale."""


@dataclass(frozen=True)
class Layer:
    """A module whose output is feature maps."""

    path: str
    kind: str
    shape: tuple[int, ...]
    """Shape of its last output, (B, C, H, W)."""


@dataclass(frozen=True)
class Similarity:
    """How similar the C maps of one layer are."""

    matrix: Tensor
    """(C, C): absolute correlation of every two maps, 0 to 1; 0 if one of them is constant."""
    constant: tuple[int, ...]
    """Channels whose map is one value, for example after a dead ReLU: similar to no other."""

    @property
    def neighbours(self) -> float:
        """Mean similarity of each channel and the next, without constant ones; NaN if fewer than
        two remain."""
        live = self._live()
        return live.diagonal(1).mean().item()

    @property
    def pairs(self) -> float:
        """Mean similarity of all pairs of different channels, to compare ``neighbours`` with."""
        live = self._live()
        count = len(live)
        total = (live.sum() - live.diagonal().sum()).item()
        return total / (count * (count - 1)) if count > 1 else float("nan")

    @property
    def alike(self) -> float:
        """Share of the channels that are at least ``ALIKE`` similar to another one; NaN if there
        are fewer than two."""
        live = self._live()
        if len(live) < 2:
            return float("nan")
        others = live - 2 * torch.eye(len(live), dtype=live.dtype)
        return (others.amax(1) >= ALIKE).double().mean().item()

    def _live(self) -> Tensor:
        kept = [i for i in range(len(self.matrix)) if i not in set(self.constant)]
        return self.matrix[kept][:, kept]


def layers(model: nn.Module, x: Tensor) -> list[Layer]:
    """Every module of ``model`` whose output for ``x``, (B, 3, H, W), is a tensor (B, C, H, W), in
    the order of their outputs. A module called more than once is listed at its last call. A map
    whose channels come last, as in Swin, is taken for one of H channels."""
    found: dict[str, Layer] = {}

    def note(path: str, module: nn.Module, answer: Tensor) -> None:
        found.pop(path, None)
        found[path] = Layer(path, type(module).__name__, tuple(answer.shape))

    with _listening(model, note):
        _answer(model, x)
    return list(found.values())


def maps_of(model: nn.Module, path: str, x: Tensor) -> Tensor:
    """Feature maps of the module at ``path``: its output at the last call for ``x``. (1, 3, H, W)
    -> (C, H', W'). The model is left in the mode in which it was.

    Raises:
        UnknownNameError: there is no module at ``path`` whose output is feature maps.
        ValueError: ``x`` is not one picture.
    """
    if x.ndim != 4 or len(x) != 1:
        raise ValueError(f"x must be one picture, (1, C, H, W), not {tuple(x.shape)}")
    kept: dict[str, Tensor] = {}

    def keep(name: str, module: nn.Module, answer: Tensor) -> None:
        if name == path:
            # copied: an activation in place may write over it
            kept[name] = answer.detach()[0].clone()

    with _listening(model, keep):
        _answer(model, x)
    if path not in kept:
        known = [layer.path for layer in layers(model, x)]
        raise UnknownNameError.of("layer", path, known, hint="--list shows them with their shapes.")
    return kept[path]


def default_layer(model: nn.Module, x: Tensor) -> str:
    """The last layer whose maps have an eighth of the height of ``x``, the end of the second stage
    in most networks; if there is none, the last with maps of more than one pixel.

    Raises:
        UnknownNameError: no module's output is feature maps.
    """
    found = [layer for layer in layers(model, x) if layer.path and layer.shape[-1] > 1]
    eighth = [layer for layer in found if layer.shape[-2] == x.shape[-2] // 8]
    if not found:
        raise UnknownNameError(f"no layer of {type(model).__name__} answers with feature maps")
    return (eighth or found)[-1].path


def similarity(maps: Tensor) -> Similarity:
    """Absolute correlation of every two of ``maps``, (C, H, W), over their pixels.

    Correlation and not the cosine: after a ReLU every map is positive, and the cosine of any two
    is large.
    """
    flat = maps.double().flatten(1)
    flat = flat - flat.mean(1, keepdim=True)
    norms = flat.norm(dim=1)
    # a constant map less its mean is rounding noise
    constant = norms <= 1e-6 * maps.double().flatten(1).norm(dim=1)
    unit = torch.where(constant[:, None], 0.0, flat / norms.clamp_min(1e-300)[:, None])
    matrix = (unit @ unit.T).abs().clamp_max(1)
    return Similarity(matrix, tuple(constant.nonzero().flatten().tolist()))


def _answer(model: nn.Module, x: Tensor) -> None:
    before = model.training
    model.eval()
    try:
        with torch.no_grad():  # inference tensors could not be changed in place by a user's hook
            model(x)
    finally:
        model.train(before)


@contextmanager
def _listening(model: nn.Module, heard: Callable[[str, nn.Module, Tensor], None]) -> Iterator[None]:
    """A block in which ``heard`` is called with every output that is a tensor of 4 dimensions."""

    def hook_of(path: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, given: Any, answer: Any) -> None:
            if isinstance(answer, Tensor) and answer.ndim == 4:
                heard(path, module, answer)

        return hook

    handles = [
        module.register_forward_hook(hook_of(path)) for path, module in model.named_modules()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
