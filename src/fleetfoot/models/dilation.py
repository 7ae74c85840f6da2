"""Denser feature maps of a given network: strides become dilations.

Chen et al. 2017, "Rethinking Atrous Convolution for Semantic Image Segmentation",
https://arxiv.org/abs/1706.05587, section 3.1. A layer that would take the map beyond the wanted
stride keeps stride 1, and every later one reads pixels that are as far apart as they would have
been. Of a network of convolutions and pooling the new maps therefore hold the old ones: pixel
(i, j) of an old map is pixel (r i, r j) of the new one, where r is the ratio of the strides. Where
a layer looks at the whole map (squeeze-excite, attention) this is only nearly so.

B batch · C channels · H W space · K kernel · S stride · r rate
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from fleetfoot.models.base import FeatureInfoList
from fleetfoot.ops.conv import UnevenPadConv2d
from fleetfoot.ops.cycle_fc import CycleFC

SIDE = 64
"""Height and width, in pixels, of the picture on which a network is observed."""

_RIGID = (
    nn.ConvTranspose2d,
    nn.Upsample,
    nn.PixelShuffle,
    nn.PixelUnshuffle,
    nn.Fold,
    nn.Unfold,
    nn.LPPool2d,
    nn.FractionalMaxPool2d,
)
"""Layers that mix pixels and cannot be dilated."""

Strides = tuple[tuple[int, int], tuple[int, int]]
"""Strides of the maps before and after a layer, along the height and along the width."""


@dataclass(frozen=True)
class FeatureMap:
    """One map of a network of feature maps."""

    channels: int
    stride: int
    """Pixels of the picture for one of the map, in height and in width."""


def feature_maps(body: nn.Module, in_chans: int = 3) -> list[FeatureMap]:
    """The maps that ``body`` gives, found by a run on a picture of ``SIDE`` pixels.

    Raises:
        ValueError: it cannot run on such a picture, or gives something other than maps
            (B, C, H, W).
    """
    modes = {module: module.training for module in body.modules()}
    body.eval()
    like = next(body.parameters())
    try:
        with torch.no_grad():
            maps = body(torch.zeros(1, in_chans, SIDE, SIDE).to(like))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ValueError(
            f"{type(body).__name__} does not run on a picture of {SIDE} x {SIDE}, so it cannot be "
            f"the backbone of pictures of any size: {error}"
        ) from error
    finally:
        for module, training in modes.items():
            module.training = training
    found = []
    for n, one in enumerate(maps):
        height, width = one.shape[-2:]
        if one.ndim != 4 or height != width or SIDE % height:
            raise ValueError(
                f"map {n} of {type(body).__name__} has shape {tuple(one.shape)} for a picture of "
                f"{SIDE} x {SIDE}; it must be (B, C, H, W), and H and W a whole fraction of {SIDE}"
            )
        found.append(FeatureMap(one.shape[1], SIDE // height))
    return found


def dilate_(
    body: nn.Module, output_stride: int, *, strided: bool = False, in_chans: int = 3
) -> None:
    """Changes ``body``, a network of feature maps, in place, so that no map has a stride above
    ``output_stride``.

    Args:
        output_stride: largest stride of a map, a power of two.
        strided: whether a layer whose stride is taken away is itself dilated already, as in
            torchvision's MobileNetV3. The new maps then do not hold the old ones.

    Raises:
        ValueError: ``output_stride`` is no power of two, or a layer cannot be dilated.
    """
    if output_stride < 1 or output_stride & (output_stride - 1):
        raise ValueError(
            f"output_stride must be a power of two, for example 8 or 16, not {output_stride}"
        )
    before, observed = _observed(body, in_chans)
    if all(one.stride <= output_stride for one in before):
        return
    for module, calls in observed.items():
        path = _path(body, module)
        if len(calls) != 1:
            raise ValueError(
                f"output_stride={output_stride} is not offered for this network: {path} "
                f"({type(module).__name__}) is called on maps of several strides, and has one "
                "dilation"
            )
        try:
            new = _changed(module, calls.pop(), output_stride, strided)
        except _Cannot as why:
            raise ValueError(
                f"output_stride={output_stride} is not offered for this network: {path} "
                f"({type(module).__name__}) {why}"
            ) from None
        if new is not None:
            owner, _, name = path.rpartition(".")
            setattr(body.get_submodule(owner), name, new)
    wanted = [replace(one, stride=min(one.stride, output_stride)) for one in before]
    after = feature_maps(body, in_chans)
    if after != wanted:
        raise ValueError(
            f"{type(body).__name__} has a layer with a stride that is no module: its maps have "
            f"strides {[one.stride for one in after]} and not {[one.stride for one in wanted]}, so "
            f"output_stride={output_stride} is not offered for it"
        )
    _restate(body, output_stride)


def _observed(
    body: nn.Module, in_chans: int
) -> tuple[list[FeatureMap], dict[nn.Module, set[Strides]]]:
    """The maps of ``body``, and the strides of those before and after every layer that mixes
    pixels."""
    calls: dict[nn.Module, set[Strides]] = defaultdict(set)

    def note(module: nn.Module, given: tuple[Any, ...], answer: Any) -> None:
        first = 1 if isinstance(module, CycleFC) else 2  # its channels come last
        sides = (one.shape[first : first + 2] for one in (given[0], answer))
        (top, left), (height, width) = ([round(SIDE / side) for side in both] for both in sides)
        calls[module].add(((top, height), (left, width)))

    handles = [one.register_forward_hook(note) for one in body.modules() if _mixes(one)]
    try:
        return feature_maps(body, in_chans), calls
    finally:
        for handle in handles:
            handle.remove()


def _mixes(module: nn.Module) -> bool:
    """Whether ``module`` reads more than one pixel, or not every pixel."""
    if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
        return _pair(module.kernel_size) != (1, 1) or _pair(module.stride) != (1, 1)
    return isinstance(module, (CycleFC, *_RIGID))


class _Cannot(Exception):
    """Why a layer cannot be dilated."""


@dataclass(frozen=True)
class _Axis:
    """One layer along the height or the width of its map, as it is to be."""

    kernel: int
    stride: int
    dilation: int
    before: int
    """Pixels of padding at the top or the left."""
    after: int

    @classmethod
    def of(
        cls,
        kernel: int,
        stride: int,
        dilation: int,
        padding: int,
        around: tuple[int, int],
        output_stride: int,
        strided: bool,
    ) -> _Axis:
        """The layer that has these values now, between maps of the strides ``around``."""
        stride_in, stride_out = around
        if max(around) <= output_stride:
            return cls(kernel, stride, dilation, padding, padding)
        if stride_out != stride_in * stride:
            raise _Cannot("changes the size by more than its stride")
        if stride_in < output_stride:
            raise _Cannot(f"goes from stride {stride_in} to {stride_out} in one step")
        rate = (stride_out if strided else stride_in) // output_stride
        dilation = dilation * rate if kernel > 1 else 1
        # pixel r i of the new output reads what pixel i has read, so that the padding before the
        # first pixel is r times the old; that after the last one keeps the size of the map
        before = padding * rate
        after = dilation * (kernel - 1) - before
        assert after >= 0, "a layer that pads beyond its kernel's reach has changed the size"
        return cls(kernel, 1, dilation, before, after)


def _changed(
    module: nn.Module, strides: Strides, output_stride: int, strided: bool
) -> nn.Module | None:
    """What stands for ``module`` in the denser network; None if the same module does, which may be
    changed in place."""
    if all(max(around) <= output_stride for around in strides):
        return None
    if isinstance(module, CycleFC):
        module.dilation = max(strides[0]) // output_stride
        return None
    if isinstance(module, _RIGID):
        raise _Cannot("cannot be dilated")
    assert isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d), "what _mixes lets through"
    own_padding = isinstance(module, nn.Conv2d) and _pads_by_itself(module)
    if isinstance(module.padding, str) and not own_padding:
        raise _Cannot(f"has padding={module.padding!r}")
    axes = [
        _Axis.of(kernel, stride, dilation, padding, around, output_stride, strided)
        for kernel, stride, dilation, padding, around in zip(
            _pair(module.kernel_size),
            _pair(module.stride),
            _pair(getattr(module, "dilation", 1)),
            (0, 0) if own_padding else _pair(module.padding),
            strides,
            strict=True,
        )
    ]
    if isinstance(module, nn.MaxPool2d):
        return _maximum(axes)
    if isinstance(module, nn.AvgPool2d):
        return _average(module, axes)
    return _convolution(module, axes, own_padding)


def _pads_by_itself(conv: nn.Conv2d) -> bool:
    """Whether a convolution computes its padding in its forward, as TensorFlow's "same" does: it
    keeps the size at stride 1, and pads both sides alike then."""
    return conv.padding == "same" or (
        type(conv).forward is not nn.Conv2d.forward
        and not isinstance(conv, UnevenPadConv2d)
        and _pair(conv.padding) == (0, 0)
        and _pair(conv.kernel_size) != (1, 1)
    )


def _convolution(conv: nn.Conv2d, axes: list[_Axis], own_padding: bool) -> nn.Module | None:
    if isinstance(conv, UnevenPadConv2d):
        raise _Cannot("is dilated already")
    height, width = axes
    if not own_padding and any(axis.before != axis.after for axis in axes):
        if type(conv) is not nn.Conv2d or conv.padding_mode != "zeros":
            raise _Cannot("has an even kernel, and pads in a way of its own")
        uneven = UnevenPadConv2d(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,
            stride=(height.stride, width.stride),
            dilation=(height.dilation, width.dilation),
            groups=conv.groups,
            bias=conv.bias is not None,
            device="meta",
            pads=(width.before, width.after, height.before, height.after),
        )
        uneven.weight, uneven.bias = conv.weight, conv.bias
        return uneven.train(conv.training)
    conv.stride = (height.stride, width.stride)
    conv.dilation = (height.dilation, width.dilation)
    if not own_padding:
        conv.padding = (height.before, width.before)
        conv._reversed_padding_repeated_twice = [width.before] * 2 + [height.before] * 2
    return None


def _maximum(axes: list[_Axis]) -> nn.Module:
    """The pooling of these axes; what it pads with is never the largest."""
    height, width = axes
    # PyTorch pads by half a kernel at most, whatever the dilation
    plain = all(axis.before == axis.after <= axis.kernel // 2 for axis in axes)
    pool = nn.MaxPool2d(
        (height.kernel, width.kernel),
        stride=(height.stride, width.stride),
        padding=(height.before, width.before) if plain else 0,
        dilation=(height.dilation, width.dilation),
    )
    if plain:
        return pool
    pads = (width.before, width.after, height.before, height.after)
    return nn.Sequential(nn.ConstantPad2d(pads, -math.inf), pool)


def _average(pool: nn.AvgPool2d, axes: list[_Axis]) -> nn.Module:
    """``pool`` with the strides of these axes. PyTorch has no dilated average."""
    height, width = axes
    if any(axis.dilation > 1 for axis in axes):
        raise _Cannot("is an average of pixels that would lie apart, which PyTorch has not")
    if any(axis.before != axis.after and axis.before for axis in axes):
        raise _Cannot("is an average with an even kernel and padding")
    even = all(axis.before == axis.after for axis in axes)
    plain = nn.AvgPool2d(
        (height.kernel, width.kernel),
        stride=(height.stride, width.stride),
        padding=(height.before, width.before) if even else 0,
        count_include_pad=pool.count_include_pad,
        divisor_override=pool.divisor_override,
    )
    if even:
        return plain
    return nn.Sequential(nn.ReplicationPad2d((0, width.after, 0, height.after)), plain)


def _restate(body: nn.Module, output_stride: int) -> None:
    """Brings the strides that ``feature_info`` states to those of the maps."""
    info: Any = getattr(body, "feature_info", None)
    if isinstance(info, FeatureInfoList):
        vars(body)["feature_info"] = FeatureInfoList(
            replace(one, reduction=min(one.reduction, output_stride)) for one in info
        )
    elif isinstance(getattr(info, "info", None), list):  # timm's
        for one in info.info:
            one["reduction"] = min(one["reduction"], output_stride)


def _path(body: nn.Module, module: nn.Module) -> str:
    return next(path for path, one in body.named_modules() if one is module)


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[-1])
