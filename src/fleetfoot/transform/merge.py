"""Add parallel convolutions of one input into one convolution.

Convolution is linear in its kernel, so branches that read the same input at the same stride add
up to one whose kernel is the sum of theirs, laid over each other by their centres: Ding et al.
2021, "RepVGG", https://arxiv.org/abs/2101.03697, section 3.3. Grouped kernels are widened by
zeros, a skip connection is a kernel with a single one at its centre.

Co output channels · Ci input channels · G groups · K kernel
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fleetfoot.errors import FoldError
from fleetfoot.transform.fold import Layer

_MODULES = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


@dataclass(frozen=True)
class Kernel:
    """A convolution without its bias, in any number of space dimensions; in none, a linear
    layer."""

    weight: Tensor  # (Co, Ci / G, K...)
    groups: int = 1
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    padding_mode: str = "zeros"

    @classmethod
    def of(cls, module: Layer) -> Kernel:
        """The kernel of a plain ``nn.Conv1d``, ``2d``, ``3d`` or ``nn.Linear``.

        Raises:
            FoldError: it is padded by more on one side than on the other.
        """
        weight = module.weight.detach()
        if isinstance(module, nn.Linear):
            return cls(weight)
        padding = module.padding
        if padding == "valid":
            padding = (0,) * (weight.dim() - 2)
        elif padding == "same":
            total = [d * (k - 1) for d, k in zip(module.dilation, weight.shape[2:], strict=True)]
            if any(t % 2 for t in total):
                raise FoldError("'same' padding of an even kernel is not symmetric")
            padding = tuple(t // 2 for t in total)
        return cls(
            weight, module.groups, module.stride, padding, module.dilation, module.padding_mode
        )

    @classmethod
    def skip(cls, scale: Tensor, space: int) -> Kernel:
        """The kernel of ``scale * x``. ``scale``: (C,)"""
        return cls(
            scale.view(-1, *[1] * (space + 1)),
            groups=len(scale),
            stride=(1,) * space,
            padding=(0,) * space,
            dilation=(1,) * space,
        )

    @property
    def in_channels(self) -> int:
        return self.weight.shape[1] * self.groups

    @property
    def size(self) -> tuple[int, ...]:
        """K of each space dimension."""
        return tuple(self.weight.shape[2:])

    def scaled(self, scale: Tensor) -> Kernel:
        """The kernel whose output channels are multiplied by ``scale``: (Co,) or ()."""
        if scale.dim():
            scale = scale.view(-1, *[1] * (self.weight.dim() - 1))
        return replace(self, weight=self.weight * scale)


def merge(kernels: Sequence[Kernel]) -> Kernel:
    """The kernel whose convolution is the sum of the given ones', for inputs of every size.

    Raises:
        FoldError: there is no such kernel (other strides, output sizes, paddings), or it would
        cost more multiply-adds than its parts.
    """
    if not kernels:
        raise ValueError("merge: give at least one kernel")
    first = kernels[0]
    for other in kernels[1:]:
        if len(other.size) != len(first.size) or other.stride != first.stride:
            raise FoldError(f"strides differ: {first.stride} and {other.stride}")
        shape, expected = (len(other.weight), other.in_channels), (
            len(first.weight), first.in_channels,
        )  # fmt: skip
        if shape != expected:
            raise FoldError(f"channels (out, in) differ: {expected} and {shape}")
    modes = {kernel.padding_mode for kernel in kernels if any(kernel.padding)}
    if len(modes) > 1:
        raise FoldError(f"padding modes differ: {', '.join(sorted(modes))}")
    groups = math.gcd(*(kernel.groups for kernel in kernels))
    if all(kernel.groups != groups for kernel in kernels):
        raise FoldError(f"groups {sorted({k.groups for k in kernels})} do not nest")
    axes = [_common_axis(kernels, axis) for axis in range(len(first.size))]
    merged = Kernel(
        weight=torch.zeros(
            len(first.weight),
            first.in_channels // groups,
            *[size for size, _, _ in axes],
            dtype=first.weight.dtype,
            device=first.weight.device,
        ),
        groups=groups,
        stride=first.stride,
        padding=tuple(padding for _, padding, _ in axes),
        dilation=tuple(dilation for _, _, dilation in axes),
        padding_mode=next(iter(modes), "zeros"),
    )
    if merged.weight.numel() > sum(kernel.weight.numel() for kernel in kernels):
        raise FoldError(
            f"the one kernel would hold {merged.weight.numel():,} values, "
            f"the branches hold {sum(kernel.weight.numel() for kernel in kernels):,}"
        )
    for kernel in kernels:
        merged.weight.add_(_laid_out(kernel, merged))
    return merged


def _common_axis(kernels: Sequence[Kernel], axis: int) -> tuple[int, int, int]:
    """(size, padding, dilation) of the merged kernel along one space axis.

    A kernel of size k, dilation d, padding p reads the input from -p to -p + d (k - 1) around each
    step, and its output is 2p - d (k - 1) longer than the input (before the stride). When these
    lengths agree, the ranges have one centre, and the widest holds the others.
    """
    rows = [(k.size[axis], k.padding[axis], k.dilation[axis]) for k in kernels]
    growths = {2 * p - d * (k - 1) for k, p, d in rows}
    if len(growths) > 1:
        raise FoldError(f"output sizes differ: by {sorted(growths)} from the input's")
    size, padding, dilation = max(rows, key=lambda row: row[1])
    dilations = {d for k, _, d in rows if k > 1}
    if len(dilations) > 1:
        raise FoldError(f"dilations differ: {sorted(dilations)}")
    if any((padding - p) % dilation for _, p, _ in rows):
        raise FoldError(f"centres differ: kernels of {sorted({k for k, _, _ in rows})}")
    return size, padding, dilation


def _laid_out(kernel: Kernel, merged: Kernel) -> Tensor:
    """``kernel``'s weight in the shape of ``merged``'s, zeros elsewhere."""
    margins: list[int] = []
    for axis in reversed(range(len(kernel.size))):  # F.pad counts from the last dimension
        before = (merged.padding[axis] - kernel.padding[axis]) // merged.dilation[axis]
        margins += [before, merged.size[axis] - kernel.size[axis] - before]
    weight = F.pad(kernel.weight, margins)
    if kernel.groups == merged.groups:
        return weight
    outputs, inputs = weight.shape[:2]
    row = torch.arange(outputs, device=weight.device)
    first = row // (outputs // kernel.groups) * inputs  # the first input channel of each output
    origin = row // (outputs // merged.groups) * merged.weight.shape[1]  # of its wide group
    column = (first - origin)[:, None] + torch.arange(inputs, device=weight.device)
    wide = torch.zeros_like(merged.weight)
    wide[row[:, None], column] = weight
    return wide


def module_of(kernel: Kernel, bias: Tensor | None, *, trained: bool = True) -> nn.Module:
    """The convolution or linear layer with that kernel. ``bias``: (Co,)"""
    # on the meta device: the weights that it would draw are not wanted, nor is the change of seed
    if kernel.size:
        made: nn.Module = _MODULES[len(kernel.size)](
            kernel.in_channels,
            len(kernel.weight),
            kernel.size,  # type: ignore[arg-type]
            stride=kernel.stride,  # type: ignore[arg-type]
            padding=kernel.padding,  # type: ignore[arg-type]
            dilation=kernel.dilation,  # type: ignore[arg-type]
            groups=kernel.groups,
            bias=bias is not None,
            padding_mode=kernel.padding_mode,  # type: ignore[arg-type]
            device="meta",
        )
    else:
        made = nn.Linear(
            kernel.in_channels, len(kernel.weight), bias=bias is not None, device="meta"
        )
    made.weight = nn.Parameter(kernel.weight, requires_grad=trained)
    if bias is not None:
        made.bias = nn.Parameter(bias, requires_grad=trained)
    return made
