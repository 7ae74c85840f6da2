"""MicroNet: convolutions factored into thin ones, so that maps are wide at a few million
multiply-adds, and an activation that mixes channels.

Li et al. 2021, "MicroNet: Improving Image Recognition with Extremely Low FLOPs",
https://arxiv.org/abs/2108.05894, sections 3 to 5.

A K×K depthwise convolution is K×1, then 1×K (section 3.2), and either may widen; a 1×1 is two
grouped ones with a shuffle between (section 3.1): the one that narrows ends a block, the one that
widens begins the next. Blocks are divided as in the released code
(https://github.com/liyunsheng13/micronet); the first three of each network have no widening 1×1
(their depthwise convolution widens), and the last consists of one alone.

The rows follow the code, since its weights need it. Its circular shift differs from the paper's
(``ops.shift_max``), and it has parts that the paper does not mention:

- a second shuffle, into groups of two or four, after most dynamic activations;
- in M3, dynamic activations only after the depthwise convolutions, ReLU6 before these and nothing
  at the end of a block;
- a batch norm and a hard swish after the classifier, so that no logit is below -0.375.

B batch · C channels · H W space · S stride
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

from torch import Tensor, nn

from fleetfoot.models.base import Backbone, ClassifierHead, Config, FeatureInfo
from fleetfoot.ops.conv import conv_norm_act, make_divisible
from fleetfoot.ops.drop_path import drop_path, drop_path_rates
from fleetfoot.ops.shift_max import DynamicShiftMax
from fleetfoot.ops.shuffle import ChannelShuffle


class MicroRow(NamedTuple):
    """One block of a network."""

    stride: int
    channels: int
    kernel: int
    """Kernel of the depthwise convolution; not read if there is none."""
    widen: tuple[int, int]
    """Output channels over input channels: of the K×1 and of the 1×K in a block without a widening
    1×1; otherwise their product is that of the widening 1×1."""
    groups: tuple[int, int]
    """Groups of the widening 1×1, 0 for none, and of the shuffle after it."""
    narrow: tuple[int, int]
    """Groups of the narrowing 1×1, 0 for none, and of the shuffle after it."""
    mixtures: tuple[int, int, int]
    """Mixtures of the dynamic activations after the widening 1×1, the depthwise convolution and the
    narrowing 1×1. 0 for none: ReLU6 in the first two places, nothing in the third."""
    reduction: int
    """One eighth of the ratio of the channels to those inside the dynamic activation."""


_M0 = (
    MicroRow(2, 8, 3, (2, 2), (0, 4), (2, 2), (2, 0, 1), 1),
    MicroRow(2, 12, 3, (2, 2), (0, 8), (4, 4), (2, 2, 1), 1),
    MicroRow(2, 16, 5, (2, 2), (0, 12), (4, 4), (2, 2, 1), 1),
    MicroRow(1, 32, 5, (1, 4), (4, 4), (4, 4), (2, 2, 1), 1),
    MicroRow(2, 64, 5, (1, 4), (8, 8), (8, 8), (2, 2, 1), 1),
    MicroRow(1, 96, 3, (1, 4), (8, 8), (8, 8), (2, 2, 1), 2),
    MicroRow(1, 384, 3, (1, 4), (12, 12), (0, 0), (2, 2, 1), 2),
)
_M1 = (
    MicroRow(2, 8, 3, (2, 2), (0, 6), (2, 2), (2, 0, 1), 1),
    MicroRow(2, 16, 3, (2, 2), (0, 8), (4, 4), (2, 2, 1), 1),
    MicroRow(2, 16, 5, (2, 2), (0, 16), (4, 4), (2, 2, 1), 1),
    MicroRow(1, 32, 5, (1, 6), (4, 4), (4, 4), (2, 2, 1), 1),
    MicroRow(2, 64, 5, (1, 6), (8, 8), (8, 8), (2, 2, 1), 1),
    MicroRow(1, 96, 3, (1, 6), (8, 8), (8, 8), (2, 2, 1), 2),
    MicroRow(1, 576, 3, (1, 6), (12, 12), (0, 0), (2, 2, 1), 2),
)
_M2 = (
    MicroRow(2, 12, 3, (2, 2), (0, 8), (4, 4), (2, 0, 1), 1),
    MicroRow(2, 16, 3, (2, 2), (0, 12), (4, 4), (2, 2, 1), 1),
    MicroRow(1, 24, 3, (2, 2), (0, 16), (4, 4), (2, 2, 1), 1),
    MicroRow(2, 32, 5, (1, 6), (6, 6), (4, 4), (2, 2, 1), 1),
    MicroRow(1, 32, 5, (1, 6), (8, 8), (4, 4), (2, 2, 1), 2),
    MicroRow(1, 64, 5, (1, 6), (8, 8), (8, 8), (2, 2, 1), 2),
    MicroRow(2, 96, 5, (1, 6), (8, 8), (8, 8), (2, 2, 1), 2),
    MicroRow(1, 128, 3, (1, 6), (12, 12), (8, 8), (2, 2, 1), 2),
    MicroRow(1, 768, 3, (1, 6), (16, 16), (0, 0), (2, 2, 1), 2),
)
_M3 = (
    MicroRow(2, 16, 3, (2, 2), (0, 12), (4, 4), (0, 2, 0), 1),
    MicroRow(2, 24, 3, (2, 2), (0, 16), (4, 4), (0, 2, 0), 1),
    MicroRow(1, 24, 3, (2, 2), (0, 24), (4, 4), (0, 2, 0), 1),
    MicroRow(2, 32, 5, (1, 6), (6, 6), (4, 4), (0, 2, 0), 1),
    MicroRow(1, 32, 5, (1, 6), (8, 8), (4, 4), (0, 2, 0), 2),
    MicroRow(1, 64, 5, (1, 6), (8, 8), (8, 8), (0, 2, 0), 2),
    MicroRow(1, 80, 5, (1, 6), (8, 8), (8, 8), (0, 2, 0), 2),
    MicroRow(1, 80, 5, (1, 6), (10, 10), (8, 8), (0, 2, 0), 2),
    MicroRow(2, 120, 5, (1, 6), (10, 10), (10, 10), (0, 2, 0), 2),
    MicroRow(1, 120, 5, (1, 6), (12, 12), (10, 10), (0, 2, 0), 2),
    MicroRow(1, 144, 3, (1, 6), (12, 12), (12, 12), (0, 2, 0), 2),
    MicroRow(1, 864, 3, (1, 6), (12, 12), (0, 0), (0, 2, 0), 2),
)


TABLES = {"m0": _M0, "m1": _M1, "m2": _M2, "m3": _M3}
"""The blocks after the stem; one of stride 2 begins a stage."""


@dataclass(frozen=True, kw_only=True)
class MicroNetConfig(Config):
    table: Literal["m0", "m1", "m2", "m3"]
    """Name of the network's row in ``TABLES``."""
    stem: tuple[int, int]
    """Channels of the stem's 3×1, and the factor by which its 1×3 widens them."""
    head_width: int
    """Channels of the linear layer after the pooling."""
    own: tuple[float, float] = (1.0, 1.0)
    """Initial weights of the map itself in the two mixtures of a dynamic activation."""
    shifted: tuple[float, float] = (0.0, 0.0)
    """Initial weights of the shifted map in the two mixtures of a dynamic activation."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.table not in TABLES:
            raise ValueError(f"table must be one of {', '.join(TABLES)}, not {self.table!r}")


VARIANTS: dict[str, Config] = {
    "micronet_m0": MicroNetConfig(table="m0", stem=(2, 2), head_width=640, drop_rate=0.05),
    "micronet_m1": MicroNetConfig(table="m1", stem=(3, 2), head_width=960, drop_rate=0.05),
    "micronet_m2": MicroNetConfig(table="m2", stem=(4, 2), head_width=1024, drop_rate=0.1),
    "micronet_m3": MicroNetConfig(
        table="m3",
        stem=(4, 3),
        head_width=1024,
        drop_rate=0.1,
        own=(1.0, 0.5),
        shifted=(0.0, 0.5),
    ),
}


def factored(
    channels: int,
    first: int,
    second: int,
    kernel: int,
    *,
    stride: int,
    groups: int,
) -> nn.Sequential:
    """A K×1 to ``first`` channels, then a 1×K within each of them to ``second``, each with a norm.

    (B, C, H, W) -> (B, C', ceil(H / S), ceil(W / S)). ``groups`` are those of the K×1: C if the two
    replace a depthwise convolution.
    """
    half = kernel // 2
    return nn.Sequential(
        nn.Conv2d(
            channels,
            first,
            (kernel, 1),
            stride=(stride, 1),
            padding=(half, 0),
            groups=groups,
            bias=False,
        ),
        nn.BatchNorm2d(first),
        nn.Conv2d(
            first,
            second,
            (1, kernel),
            stride=(1, stride),
            padding=(0, half),
            groups=first,
            bias=False,
        ),
        nn.BatchNorm2d(second),
    )


class MicroBlock(nn.Module):
    """The layers of one row, plus the input if its shape is the output's.

    (B, C, H, W) -> (B, C', ceil(H / S), ceil(W / S))
    """

    def __init__(self, channels: int, row: MicroRow, config: MicroNetConfig, drop: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(OrderedDict(_layers(channels, row, config)))
        self.shortcut = row.stride == 1 and channels == row.channels
        self.drop_path = drop_path(drop) if self.shortcut else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.layers(x)
        return x + self.drop_path(mixed) if self.shortcut else mixed


def _layers(
    channels: int, row: MicroRow, config: MicroNetConfig
) -> Iterator[tuple[str, nn.Module]]:
    """The layers of one row, each with its name."""
    wide = channels * math.prod(row.widen)
    (groups, parts), (narrow_groups, narrow_parts) = row.groups, row.narrow
    in_widen, in_depthwise, in_narrow = row.mixtures
    over = 8 * row.reduction

    def dynamic(channels: int, mixtures: int, groups: int, over: int) -> nn.Module:
        reduced = make_divisible(channels // over, 4)
        own, shifted = (config.own, config.shifted) if mixtures == 2 else ((1.0,), (0.0,))
        return DynamicShiftMax(channels, reduced, groups=groups, own=own, shifted=shifted)

    def behind(mixtures: int, groups: int) -> nn.Module:
        return dynamic(wide, mixtures, groups, over) if mixtures else nn.ReLU6()

    if not narrow_groups:
        yield "widen", conv_norm_act(channels, wide, groups=groups, act="identity")
        if in_narrow:
            yield "widen_act", dynamic(wide, in_narrow, parts, over)
        return
    if groups:
        yield "widen", conv_norm_act(channels, wide, groups=groups, act="identity")
        yield "widen_act", behind(in_widen, parts)
        yield "widen_shuffle", ChannelShuffle(wide, parts)
        yield "depthwise", factored(wide, wide, wide, row.kernel, stride=row.stride, groups=wide)
        yield "depthwise_act", behind(in_depthwise, wide // parts)
        dynamics = (in_widen > 0) + (in_depthwise > 0)
        in_narrow_over = over // 2 if row.channels < wide else over
    else:
        first = channels * row.widen[0]
        yield (
            "depthwise",
            factored(channels, first, wide, row.kernel, stride=row.stride, groups=channels),
        )
        yield "depthwise_act", behind(in_depthwise, parts)
        yield "widen_shuffle", ChannelShuffle(wide, parts)
        dynamics = int(in_depthwise > 0)
        in_narrow_over = over // 2
    if dynamics:
        yield "mixed_shuffle", ChannelShuffle(wide, wide // (2 * dynamics))
    yield "narrow", conv_norm_act(wide, row.channels, groups=narrow_groups, act="identity")
    if in_narrow:
        yield "narrow_act", dynamic(row.channels, in_narrow, narrow_parts, in_narrow_over)
    yield "narrow_shuffle", ChannelShuffle(row.channels, narrow_parts)
    if in_narrow:
        yield "last_shuffle", ChannelShuffle(row.channels, row.channels // 2)


class SwishLinear(nn.Sequential):
    """A linear layer, batch norm and hard swish. (B, C) -> (B, C')"""

    def __init__(self, features: int, out_features: int) -> None:
        super().__init__()
        self.out_features = out_features
        self.add_module("linear", nn.Linear(features, out_features))
        self.add_module("norm", nn.BatchNorm1d(out_features))
        self.add_module("act", nn.Hardswish())


class SwishHead(ClassifierHead):
    """A head whose classifier is a ``SwishLinear``. (B, C, H, W) -> (B, N)"""

    def _classifier(self, num_classes: int) -> nn.Module:
        return SwishLinear(self.features, num_classes) if num_classes else nn.Identity()


class MicroNet(Backbone):
    """MicroNet. (B, 3, H, W) -> (B, num_classes); feature maps at strides 2 (the stem's), 4, 8, 16,
    32.

    The last map comes after the widening 1×1 that ends the last stage. M0 and M1 have no shortcut,
    so ``drop_path_rate`` has nothing to drop there.

    Raises:
        ValueError: ``drop_path_rate`` is not 0 in a network without a shortcut.
    """

    def __init__(self, config: MicroNetConfig) -> None:
        rank, ratio = config.stem
        table = TABLES[config.table]
        starts = [i for i, row in enumerate(table) if row.stride == 2]
        stages = [table[start:stop] for start, stop in pairwise([*starts, len(table)])]
        widths = [rank * ratio, *(rows[-1].channels for rows in stages)]
        super().__init__(
            config,
            [
                FeatureInfo(width, 2 << i, f"stages.{i - 1}" if i else "stem")
                for i, width in enumerate(widths)
            ],
        )
        rates = iter(drop_path_rates(config.drop_path_rate, len(table)))
        self.stem = nn.Sequential(
            factored(config.in_chans, rank, rank * ratio, 3, stride=2, groups=1),
            nn.ReLU6(),
            ChannelShuffle(rank * ratio, rank),
        )
        self.stages = nn.ModuleList()
        channels = rank * ratio
        for rows in stages:
            stage = nn.Sequential()
            for row in rows:
                stage.append(MicroBlock(channels, row, config, next(rates)))
                channels = row.channels
            self.stages.append(stage)
        shortcuts = [m for m in self.modules() if isinstance(m, MicroBlock) and m.shortcut]
        if config.drop_path_rate and not shortcuts:
            raise ValueError(
                f"drop_path_rate must be 0, not {config.drop_path_rate}: "
                "no block of this network has a shortcut to drop beside"
            )
        body = nn.Sequential(
            nn.ReLU6(),
            nn.AdaptiveAvgPool2d(1),
            nn.Hardswish(),
            nn.Flatten(),
            SwishLinear(channels, config.head_width),
        )
        self.head = SwishHead(
            body, config.head_width, config.num_classes, drop_rate=config.drop_rate
        )
        self.apply(_init)


def _init(module: nn.Module) -> None:
    """Initialises as the released code does. Its linear layers are the classifier's and those that
    compute the weights of a dynamic activation; the latter are 1×1 convolutions with bias here."""
    if isinstance(module, nn.Conv2d) and module.bias is None:
        reached = math.prod(module.kernel_size) * module.out_channels
        nn.init.normal_(module.weight, std=math.sqrt(2 / reached))
    elif isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
