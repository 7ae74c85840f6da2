"""What takes the place of a convolution: a PConv and a 1×1, in its shapes.

Chen et al. 2023, "Run, Don't Walk", https://arxiv.org/abs/2303.03667, section 3.

Ci, Co channels in and out · P = Ci // ratio · K kernel
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fleetfoot.ops.pconv import PConv, PConvPointwise

KINDS = ("depthwise", "grouped", "plain")
Kind = Literal["depthwise", "grouped", "plain"]


def kind_of(conv: nn.Conv2d) -> Kind:
    if conv.groups == 1:
        return "plain"
    return "depthwise" if conv.groups == conv.in_channels else "grouped"


def sides(values: Any) -> str:
    """For example "3×3"; a word, such as the padding "same", stays."""
    return values if isinstance(values, str) else "×".join(map(str, values))


def words(conv: nn.Conv2d) -> str:
    """For example "3×3 grouped 8→16, groups 4"."""
    kind, groups = kind_of(conv), conv.groups
    text = f"{sides(conv.kernel_size)} {kind} {conv.in_channels}→{conv.out_channels}"
    text += f", groups {groups}" if kind == "grouped" else ""
    return text + (f", stride {sides(conv.stride)}" if conv.stride != (1, 1) else "")


@dataclass(frozen=True)
class FollowingPointwise:
    """A dense 1×1 that alone reads a depthwise convolution."""

    pointwise: str
    """Its path."""
    between: tuple[str, ...]
    """What stands between."""


@dataclass(frozen=True)
class Substitute:
    """What takes a convolution's place."""

    module: nn.Module
    """A PConv and a 1×1, or the PConv alone."""
    words: str
    pointwise: str
    """Path of the 1×1 that was there; "" where the module has its own."""
    between: tuple[str, ...]
    fit_error: float | None
    """Size of what its kernel misses of the old one, over the old one's; None where not fitted."""


def substitute(
    conv: nn.Conv2d, following: FollowingPointwise | None, ratio: int, init: Literal["fresh", "fit"]
) -> Substitute:
    """What takes the place of ``conv``; a 1×1 that is ``following`` it serves as its own."""
    module = layers(conv, ratio, alone=following is not None)
    error = _fit_(module, conv) if init == "fit" else None
    return Substitute(
        module,
        _new_words(module, conv, following),
        following.pointwise if following else "",
        following.between if following else (),
        error,
    )


def layers(conv: nn.Conv2d, ratio: int, *, alone: bool) -> nn.Module:
    """A PConv, or PConv and 1×1, in the shapes, dtype, device and mode of ``conv``."""
    kernel: int = conv.kernel_size[0]
    if alone:
        made: nn.Module = PConv(conv.in_channels, ratio=ratio, kernel=kernel)
    else:
        made = PConvPointwise(
            conv.in_channels,
            conv.out_channels,
            ratio=ratio,
            kernel=kernel,
            stride=(conv.stride[0], conv.stride[1]),
            bias=conv.bias is not None,
        )
    made.to(conv.weight).train(conv.training)
    return made.requires_grad_(conv.weight.requires_grad)


def _new_words(module: nn.Module, conv: nn.Conv2d, following: FollowingPointwise | None) -> str:
    pconv = module if isinstance(module, PConv) else module.pconv
    assert isinstance(pconv, PConv)
    text = f"PConv {sides(conv.kernel_size)} {pconv.convolved}/{conv.in_channels}"
    if following is not None:
        return f"{text}, own 1×1" + (", without the bias" if conv.bias is not None else "")
    text += f" + 1×1 {conv.in_channels}→{conv.out_channels}"
    return text + (f", stride {sides(conv.stride)}" if conv.stride != (1, 1) else "")


@torch.no_grad()
def _fit_(module: nn.Module, conv: nn.Conv2d) -> float:
    """Gives ``module`` the weights whose T-shaped kernel is nearest to that of ``conv``, and says
    how much is missing.

    Over the untouched channels a 1×1 has only the centre of each kernel, and the nearest is that
    centre. Over the P convolved ones a PConv and a 1×1 make every matrix (Co, P·K²) of rank P, and
    the nearest is the projection on its P principal outputs (Eckart and Young 1936, "The
    approximation of one matrix by another of lower rank"). Nearest over the weights means the least
    squared error of the outputs on white input.
    """
    old = _dense(conv).double()  # (Co, Ci, K, K)
    centre = old.shape[-1] // 2
    pconv = module if isinstance(module, PConv) else module.pconv
    assert isinstance(pconv, PConv)
    p = pconv.convolved
    missed = old[:, p:].clone()
    if isinstance(module, PConv):  # Co = Ci, each channel on its own
        pconv.conv.weight.copy_(old[:p, :p])
        missed[p:, :, centre, centre] -= torch.eye(len(old) - p).to(old)
        rest = 0.0
    else:
        pointwise = module.pointwise
        assert isinstance(pointwise, nn.Conv2d)
        head = old[:, :p].flatten(1)
        rank = min(p, len(old))  # where Co < P, the other outputs of the PConv start unread
        basis = torch.linalg.eigh(head @ head.T).eigenvectors[:, -rank:]  # (Co, rank)
        reached = basis.T @ head  # (rank, P·K²)
        pconv.conv.weight[:rank] = reached.view(rank, p, *old.shape[2:]).to(conv.weight)
        pointwise.weight[:, :rank, 0, 0] = basis.to(conv.weight)
        pointwise.weight[:, rank:p] = 0
        pointwise.weight[:, p:, 0, 0] = missed[:, :, centre, centre].to(conv.weight)
        rest = float((head - basis @ reached).square().sum())
        if conv.bias is not None and pointwise.bias is not None:
            pointwise.bias.copy_(conv.bias)
        missed[:, :, centre, centre] = 0
    size = float(old.square().sum())
    gone = float(missed.square().sum()) + rest
    return (gone / size) ** 0.5 if size else 0.0


def _dense(conv: nn.Conv2d) -> Tensor:
    """The kernel with zeros between the groups. (Co, Ci, K, K)"""
    weight = conv.weight.detach()
    co, per_group, *kernel = weight.shape
    dense = weight.new_zeros(conv.groups, co // conv.groups, conv.groups, per_group, *kernel)
    index = torch.arange(conv.groups)
    dense[index, :, index] = weight.unflatten(0, (conv.groups, -1))
    return dense.flatten(2, 3).flatten(0, 1)
