"""A neck that mixes a backbone's maps from coarse to fine and back: a path aggregation network.

Liu et al. 2018, "Path Aggregation Network for Instance Segmentation",
https://arxiv.org/abs/1803.01534, section 3.1. The blocks that mix two maps pass half of their
channels by: Wang et al. 2020, "CSPNet", https://arxiv.org/abs/1911.11929, section 3. One option
chooses what mixes neighbouring pixels in all of them.

B batch · C channels; the neck's maps all have as many, its width · H W space
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fleetfoot.ops.activations import Activation
from fleetfoot.ops.conv import conv_norm_act
from fleetfoot.ops.pconv import PConv

Mixer = Literal["depthwise", "pconv", "full"]
"""What mixes neighbouring pixels: a 3×3 within each channel, then a 1×1; a partial 3×3, then a 1×1;
or one dense 3×3."""

MIXERS: tuple[str, ...] = get_args(Mixer)

EPS = 1e-3
"""Added to the variance in batch norms, as in YOLOX, https://arxiv.org/abs/2107.08430. YOLOX's
momentum, 0.03, is for longer trainings: after 100 steps on eight pictures the statistics lagged so
far that the average precision at an overlap of 0.5 was 0.5; with torch's 0.1 it was 1."""


def brick(
    in_channels: int,
    out_channels: int,
    kernel: int = 1,
    *,
    stride: int = 1,
    groups: int = 1,
    act: Activation,
) -> nn.Sequential:
    """Convolution, batch norm, activation, with this detector's batch norms."""
    return conv_norm_act(
        in_channels,
        out_channels,
        kernel,
        stride=stride,
        groups=groups,
        act=act,
        eps=EPS,
    )


def mix(channels: int, mixer: Mixer, act: Activation) -> nn.Sequential:
    """Mixes neighbouring pixels and all channels. (B, C, H, W) -> (B, C, H, W)"""
    if mixer == "full":
        return nn.Sequential(brick(channels, channels, 3, act=act))
    if mixer == "pconv":
        return nn.Sequential(PConv(channels), brick(channels, channels, act=act))
    return nn.Sequential(
        brick(channels, channels, 3, groups=channels, act=act), brick(channels, channels, act=act)
    )


def halve(channels: int, mixer: Mixer, act: Activation) -> nn.Sequential:
    """Half the height and width. (B, C, H, W) -> (B, C, H / 2, W / 2)

    A PConv has no stride, so with ``pconv`` it is a 2×2 convolution over patches, as between the
    stages of FasterNet.
    """
    if mixer == "full":
        return nn.Sequential(brick(channels, channels, 3, stride=2, act=act))
    if mixer == "pconv":
        return nn.Sequential(
            nn.Conv2d(channels, channels, 2, stride=2, bias=False),
            nn.BatchNorm2d(channels, eps=EPS),
        )
    return nn.Sequential(
        brick(channels, channels, 3, stride=2, groups=channels, act=act),
        brick(channels, channels, act=act),
    )


class Residual(nn.Module):
    """x + mix(mix(x)). (B, C, H, W) -> (B, C, H, W)"""

    def __init__(self, channels: int, mixer: Mixer, act: Activation) -> None:
        super().__init__()
        self.first = mix(channels, mixer, act)
        self.second = mix(channels, mixer, act)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.first(x))


class Join(nn.Module):
    """Makes one map of two: half of the channels go through ``depth`` blocks, half pass by. Two
    maps (B, C, H, W) -> (B, C, H, W)"""

    def __init__(self, width: int, depth: int, mixer: Mixer, act: Activation) -> None:
        super().__init__()
        half = width // 2
        self.mixed = brick(2 * width, half, act=act)
        self.passed = brick(2 * width, half, act=act)
        self.blocks = nn.Sequential(*(Residual(half, mixer, act) for _ in range(depth)))
        self.out = brick(width, width, act=act)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        x = torch.cat((a, b), dim=1)
        return self.out(torch.cat((self.blocks(self.mixed(x)), self.passed(x)), dim=1))


class PathAggregation(nn.Module):
    """Maps of the backbone, the finest first, each of half the size of the one before -> as many
    maps of the same sizes with ``width`` channels.

    Raises:
        ValueError: ``mixer`` is no known name, ``depth`` is below 1, or ``width`` is not a multiple
        of 8, of whose half a PConv takes a quarter.
    """

    def __init__(
        self, channels: Sequence[int], *, width: int, depth: int, mixer: Mixer, act: Activation
    ) -> None:
        super().__init__()
        if mixer not in MIXERS:
            raise ValueError(f"neck must be one of {', '.join(MIXERS)}, not {mixer!r}")
        if width < 8 or width % 8:
            raise ValueError(f"width must be a multiple of 8, for example 96, not {width}")
        if depth < 1:
            raise ValueError(f"depth must be 1 or more, not {depth}")
        self.lateral = nn.ModuleList(brick(count, width, act=act) for count in channels)
        steps = len(channels) - 1
        self.finer = nn.ModuleList(Join(width, depth, mixer, act) for _ in range(steps))
        self.halve = nn.ModuleList(halve(width, mixer, act) for _ in range(steps))
        self.coarser = nn.ModuleList(Join(width, depth, mixer, act) for _ in range(steps))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        x = [lateral(one) for lateral, one in zip(self.lateral, maps, strict=True)]
        for i in reversed(range(len(x) - 1)):  # from coarse to fine
            x[i] = self.finer[i](x[i], F.interpolate(x[i + 1], scale_factor=2.0, mode="nearest"))
        for i in range(len(x) - 1):  # and back
            x[i + 1] = self.coarser[i](self.halve[i](x[i]), x[i + 1])
        return x
