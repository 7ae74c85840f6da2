"""Convolutions by their field names, TensorFlow's "same" padding, and uneven padding.

Dense, grouped, depthwise and pointwise convolution differ only in ``groups`` and ``kernel``, so one
function makes them all. The separable pair: Howard et al. 2017, "MobileNets",
https://arxiv.org/abs/1704.04861, section 3.1.

B batch · C channels · H W space · K kernel · S stride
"""

from __future__ import annotations

from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from fleetfoot.ops.activations import Activation, activation

Padding = Literal["symmetric", "same"]


class SamePadConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow pads: output ceil(H / S), an odd pixel of padding at the
    right and the bottom.

    (B, C, H, W) -> (B, C', ceil(H / S), ceil(W / S)). At stride 2 and even H it pads only at the
    right and the bottom, while symmetric padding pads both sides. The two are different networks:
    weights trained with one lose accuracy in the other.
    """

    def forward(self, x: Tensor) -> Tensor:
        pads: list[int] = []
        for size, k, s, d in zip(
            (x.shape[-1], x.shape[-2]),  # F.pad counts from the last dimension
            self.kernel_size[::-1],
            self.stride[::-1],
            self.dilation[::-1],
            strict=True,
        ):
            total = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
            pads += [total // 2, total - total // 2]
        x = F.pad(x, pads)
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class UnevenPadConv2d(nn.Conv2d):
    """A convolution whose map is padded with zeros by another number of pixels on each side.

    (B, C, H, W) -> (B, C', H + top + bottom - D (K - 1), W + left + right - D (K - 1)) at stride 1,
    where D is the dilation. A convolution of even K keeps the size only so.

    Args:
        pads: pixels at the left, right, top and bottom.
    """

    def __init__(self, *args: Any, pads: tuple[int, int, int, int], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.pads = pads

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, self.pads)
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, pads={self.pads}"


def conv2d(
    in_channels: int,
    out_channels: int,
    kernel: int = 1,
    *,
    stride: int = 1,
    groups: int = 1,
    bias: bool = False,
    padding: Padding = "symmetric",
) -> nn.Conv2d:
    """A K×K convolution of odd K that keeps the size at stride 1. (B, Ci, H, W) -> (B, Co, ceil(H /
    S), ceil(W / S))

    The two paddings differ only if an odd number of padding pixels has to be divided between two
    sides. A 1×1, or an odd kernel at stride 1, is therefore a plain convolution under either name.

    Raises:
        ValueError: ``groups`` does not divide both channel counts, or ``padding`` is no known name.
    """
    if in_channels % groups or out_channels % groups:
        raise ValueError(
            f"groups ({groups}) must divide in_channels ({in_channels}) "
            f"and out_channels ({out_channels})"
        )
    if padding not in ("symmetric", "same"):
        raise ValueError(f"padding must be 'symmetric' or 'same', not {padding!r}")
    if padding == "same" and kernel > 1 and (stride > 1 or kernel % 2 == 0):
        return SamePadConv2d(
            in_channels, out_channels, kernel, stride=stride, groups=groups, bias=bias
        )
    return nn.Conv2d(
        in_channels,
        out_channels,
        kernel,
        stride=stride,
        padding=kernel // 2,
        groups=groups,
        bias=bias,
    )


def conv_norm_act(
    in_channels: int,
    out_channels: int,
    kernel: int = 1,
    *,
    stride: int = 1,
    groups: int = 1,
    act: Activation = "relu",
    eps: float = 1e-5,
    momentum: float = 0.1,
    padding: Padding = "symmetric",
) -> nn.Sequential:
    """Convolution, batch norm, activation: the building block of every family here. Keys ``0``
    (conv), ``1`` (norm).

    ``act="identity"`` leaves the activation out: a linear bottleneck.
    """
    layers: list[nn.Module] = [
        conv2d(in_channels, out_channels, kernel, stride=stride, groups=groups, padding=padding),
        nn.BatchNorm2d(out_channels, eps=eps, momentum=momentum),
    ]
    if act != "identity":
        layers.append(activation(act))
    return nn.Sequential(*layers)


def make_divisible(channels: float, divisor: int = 8) -> int:
    """``channels`` rounded to the nearest multiple of ``divisor``, never more than 10 % below it.

    This is how the width multiplier of the MobileNets rounds (V2,
    https://arxiv.org/abs/1801.04381, and its released code).
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    if rounded < 0.9 * channels:
        rounded += divisor
    return rounded
