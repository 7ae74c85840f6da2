"""Fold what a batch norm does to its channels into the convolution or linear layer beside it.

In eval mode a batch norm is one multiply and one add a channel (Ioffe and Szegedy 2015, "Batch
Normalization", https://arxiv.org/abs/1502.03167, algorithm 2), and so is a layer scale:

    affine(y) = y * scale + shift     scale = gamma / sqrt(var + eps),  shift = beta - mean * scale

After a convolution, affine(W x + b) = (scale W) x + (scale b + shift). Before one that pads with
no zeros, W affine(x) + b = (W scale) x + (W shift + b).

Co output channels · Ci input channels · G groups
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fleetfoot.copying import copied
from fleetfoot.errors import FoldError
from fleetfoot.ops.conv import SamePadConv2d, UnevenPadConv2d

CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
LINEAR = (*CONVS, *TRANSPOSED, nn.Linear)

Layer: TypeAlias = Any
"""One of ``LINEAR`` or a batch norm: modules whose attributes are more than ``nn.Module`` tells."""

_PLAIN_FORWARDS = {kind.forward for kind in (*LINEAR, SamePadConv2d, UnevenPadConv2d)}
_PLAIN_CONVOLUTIONS = {kind._conv_forward for kind in (*CONVS, *TRANSPOSED)}
_NORM_FORWARDS = {_BatchNorm.forward, nn.SyncBatchNorm.forward}


@dataclass(frozen=True)
class Affine:
    """y * scale + shift along one axis; ``axis`` counts from the last, which is -1. ``scale`` and
    ``shift``: (C,)"""

    scale: Tensor
    shift: Tensor
    axis: int

    def part(self, start: int, stop: int) -> Affine:
        """What happens to channels ``start`` to ``stop`` alone."""
        return Affine(self.scale[start:stop], self.shift[start:stop], self.axis)


def loaded(module: str, *names: str) -> tuple[type, ...]:
    """Classes of a library; none if it has not been imported, for then a network has none of
    them."""
    home = sys.modules.get(module)
    return () if home is None else tuple(getattr(home, name) for name in names)


def is_batchnorm(module: nn.Module) -> bool:
    """Whether ``module`` is a batch norm of any kind, foldable or not."""
    return isinstance(module, _BatchNorm) or _is_frozen(module)


def _is_frozen(module: nn.Module) -> bool:
    return isinstance(module, loaded("torchvision.ops", "FrozenBatchNorm2d"))


def out_axis(module: Layer) -> int:
    """Where a convolution or linear layer puts its channels, counted from the last axis."""
    return -1 if isinstance(module, nn.Linear) else 1 - module.weight.dim()


def out_channels(module: Layer) -> int:
    return module.out_features if isinstance(module, nn.Linear) else module.out_channels


def is_replaced(module: nn.Module) -> bool:
    """Whether ``module`` answers otherwise than its class says: its forward was replaced on the
    instance, or its class has a way of its own to be called."""
    own = {"forward", "_conv_forward", "__call__", "_call_impl"} & vars(module).keys()
    return bool(own) or type(module).__call__ is not nn.Module.__call__


def why_not(module: Layer) -> str | None:
    """Why a convolution, linear layer or batch norm cannot be folded for what it is; None if it
    can."""
    if module._forward_hooks or module._forward_pre_hooks:
        return "it has forward hooks, which could change its result"
    if is_replaced(module):
        return f"the forward of this {type(module).__name__} was replaced by another"
    if is_batchnorm(module):
        if not _is_frozen(module) and type(module).forward not in _NORM_FORWARDS:
            return f"{type(module).__name__} has a forward of its own"
        if module.running_mean is None or module.running_var is None:
            return "it keeps no running statistics and takes those of each batch"
        return None
    same_pad = loaded("timm.layers.conv2d_same", "Conv2dSame")
    castable = loaded("timm.layers.linear", "Linear")  # differs under torch.jit alone
    known = {vars(kind)["forward"] for kind in (*same_pad, *castable)}
    if type(module).forward not in _PLAIN_FORWARDS | known:
        return f"{type(module).__name__} has a forward of its own"
    own = getattr(type(module), "_conv_forward", None)
    if own is not None and own not in _PLAIN_CONVOLUTIONS:
        return f"{type(module).__name__} has a convolution of its own"
    if "weight" not in module._parameters or module._parameters["weight"] is None:
        return "its weight is computed (a parametrisation), not stored"
    if module.weight.is_complex():
        return "its weight is complex"
    return None


def affine_of(batchnorm: Layer, rank: int) -> Affine:
    """What ``batchnorm`` does in eval mode to an input of ``rank`` dimensions.

    Raises:
        FoldError: it takes the statistics of the batch, or has a forward of its own.
    """
    reason = why_not(batchnorm)
    if reason:
        raise FoldError(f"{type(batchnorm).__name__}: {reason}")
    scale = torch.rsqrt(batchnorm.running_var + batchnorm.eps)
    if batchnorm.weight is not None:
        scale = scale * batchnorm.weight.detach()
    shift = -batchnorm.running_mean * scale
    if batchnorm.bias is not None:
        shift = shift + batchnorm.bias.detach()
    return Affine(scale, shift, 1 - rank)


def fold_after_(module: Layer, affine: Affine) -> None:
    """Makes ``module``, one of ``LINEAR``, answer with ``affine(module(x))``, in place."""
    weight = module.weight.detach()
    if isinstance(module, TRANSPOSED):  # (Ci, Co / G, ...): the outputs of a group lie together
        groups = module.groups
        grouped = weight.unflatten(0, (groups, -1))
        scale = affine.scale.view(groups, 1, -1, *[1] * (weight.dim() - 2))
        weight = (grouped * scale).flatten(0, 1)
    else:
        weight = weight * affine.scale.view(-1, *[1] * (weight.dim() - 1))
    bias = affine.shift
    if module.bias is not None:
        bias = bias + module.bias.detach() * affine.scale
    _set(module, weight, bias)


def pads_with_zeros(module: Layer) -> bool:
    """Whether zeros that no affine map has touched enter the sums of ``module``."""
    if isinstance(module, nn.Linear):
        return False
    if type(module).forward not in {kind.forward for kind in CONVS}:
        return True  # pads by itself, by how much depends on the size
    if module.padding_mode != "zeros" or module.padding == "valid":
        return False
    if module.padding == "same":
        return any(k > 1 for k in module.kernel_size)
    return any(module.padding)


def check_before(module: Layer, affine: Affine) -> None:
    """Raises FoldError if ``fold_before_`` cannot be exact: zeros of the padding would miss the
    shift."""
    if isinstance(module, TRANSPOSED):
        raise FoldError("a transposed convolution after it reads it beside zeros")
    if pads_with_zeros(module) and bool(affine.shift.any()):
        raise FoldError("the convolution after it pads with zeros, which its shift would miss")


def fold_before_(module: Layer, affine: Affine) -> None:
    """Makes ``module``, a convolution or a linear layer, answer with ``module(affine(x))``, in
    place.

    Raises:
        FoldError: ``check_before`` says why.
    """
    check_before(module, affine)
    weight = module.weight.detach()
    groups = 1 if isinstance(module, nn.Linear) else module.groups
    grouped = weight.unflatten(0, (groups, -1))  # (G, Co / G, Ci / G, ...)
    per_input = (groups, 1, -1, *[1] * (weight.dim() - 2))
    added = (grouped * affine.shift.view(per_input)).flatten(2).sum(2).flatten()
    bias = added if module.bias is None else module.bias.detach() + added
    if module.bias is None and not bool(affine.shift.any()):
        bias = None
    _set(module, (grouped * affine.scale.view(per_input)).flatten(0, 1), bias)


def _set(module: Layer, weight: Tensor, bias: Tensor | None) -> None:
    trained = module.weight.requires_grad
    module.weight = nn.Parameter(weight, requires_grad=trained)
    module.bias = None if bias is None else nn.Parameter(bias, requires_grad=trained)


def fold_batchnorm(conv: Layer, batchnorm: Layer) -> Layer:
    """The one convolution or linear layer equal to ``batchnorm(conv(x))`` in eval mode.

    ``conv`` and ``batchnorm`` stay as they are.

    Raises:
        FoldError: either cannot be folded, and why: hooks, a computed weight, no running
        statistics.
        ValueError: they differ in channels.
    """
    reason = why_not(conv) if isinstance(conv, LINEAR) else "not a convolution or linear layer"
    if reason:
        raise FoldError(f"{type(conv).__name__}: {reason}")
    affine = affine_of(batchnorm, rank=1 - out_axis(conv))
    if len(affine.scale) != out_channels(conv):
        raise ValueError(
            f"conv has {out_channels(conv)} output channels and batchnorm {len(affine.scale)}"
        )
    folded = copied(conv)
    fold_after_(folded, affine)
    return folded
