"""MobileOne: MobileNetV1's shape, with over-parameterised blocks that fold into plain ones.

Vasu et al. 2023, "MobileOne: An Improved One millisecond Mobile Backbone",
https://arxiv.org/abs/2206.04040, section 3.3 and tables 2 and 3.

This file has the training form, whose parameters are the larger of the two published figures;
``transform.fuse`` gives the folded form. Squeeze-and-excitation comes before the activation, and
the stem has one K×K branch whatever ``branches`` says, both as in the released code. The authors
train without stochastic depth; ``drop_path_rate`` drops the convolutions beside a batch-normed skip
and keeps the skip, as timm's does.

B batch · C channels · H W space
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from fleetfoot.models.base import Backbone, ClassifierHead, Config, FeatureInfo
from fleetfoot.ops.branches import MobileOneBlock
from fleetfoot.ops.drop_path import drop_path_rates

CHANNELS = (64, 128, 256, 512)
"""Channels of each stage at width 1."""
DEPTHS = (2, 8, 10, 1)
"""Blocks of each stage, in every variant."""


@dataclass(frozen=True, kw_only=True)
class MobileOneConfig(Config):
    widths: tuple[float, ...]
    """Multiplier of the channels of each stage."""
    branches: int = 1
    """Number of K×K convolutions that a block sums in training; the paper's k."""
    squeeze_excite: tuple[int, ...] = (0, 0, 0, 0)
    """Number of blocks with squeeze-and-excitation, at the end of each stage."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, given in (("widths", self.widths), ("squeeze_excite", self.squeeze_excite)):
            if len(given) != len(DEPTHS):
                raise ValueError(f"{name} must name {len(DEPTHS)} stages, not {len(given)}")
        if self.branches < 1:
            raise ValueError(f"branches must be 1 or more, not {self.branches}")


VARIANTS: dict[str, Config] = {
    "mobileone_s0": MobileOneConfig(widths=(0.75, 1.0, 1.0, 2.0), branches=4),
    "mobileone_s1": MobileOneConfig(widths=(1.5, 1.5, 2.0, 2.5)),
    "mobileone_s2": MobileOneConfig(widths=(1.5, 2.0, 2.5, 4.0)),
    "mobileone_s3": MobileOneConfig(widths=(2.0, 2.5, 3.0, 4.0)),
    "mobileone_s4": MobileOneConfig(widths=(3.0, 3.5, 3.5, 4.0), squeeze_excite=(0, 0, 5, 1)),
}


def separable(
    channels: int,
    out_channels: int,
    *,
    stride: int,
    branches: int,
    squeeze_excite: bool,
    drops: Iterator[float],
) -> nn.Sequential:
    """A depthwise 3×3 and a pointwise block, each with its own branches. (B, C, H, W) -> (B, C',
    ...)

    Squeeze-excite, if asked for, is in both and reduces to 1/16 of the channels.
    """
    block = nn.Sequential()
    block.add_module(
        "depthwise",
        MobileOneBlock(
            channels,
            channels,
            3,
            stride=stride,
            groups=channels,
            count=branches,
            reduced=channels // 16 if squeeze_excite else 0,
            drop=next(drops),
        ),
    )
    block.add_module(
        "pointwise",
        MobileOneBlock(
            channels,
            out_channels,
            count=branches,
            reduced=out_channels // 16 if squeeze_excite else 0,
            drop=next(drops),
        ),
    )
    return block


class MobileOne(Backbone):
    """MobileOne. (B, 3, H, W) -> (B, num_classes); feature maps at strides 2 (the stem's), 4, 8,
    16, 32."""

    def __init__(self, config: MobileOneConfig) -> None:
        widths = [int(c * width) for c, width in zip(CHANNELS, config.widths, strict=True)]
        channels = min(CHANNELS[0], widths[0])
        super().__init__(
            config,
            [
                FeatureInfo(channels, 2, "stem"),
                *(FeatureInfo(w, 4 << i, f"stages.{i}") for i, w in enumerate(widths)),
            ],
        )
        self.stem = MobileOneBlock(config.in_chans, channels, 3, stride=2)
        drops = iter(drop_path_rates(config.drop_path_rate, 2 * sum(DEPTHS)))
        self.stages = nn.ModuleList()
        for width, depth, excited in zip(widths, DEPTHS, config.squeeze_excite, strict=True):
            stage = nn.Sequential()
            for i in range(depth):
                stage.append(
                    separable(
                        channels,
                        width,
                        stride=1 if i else 2,
                        branches=config.branches,
                        squeeze_excite=i >= depth - excited,
                        drops=drops,
                    )
                )
                channels = width
            self.stages.append(stage)
        body = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = ClassifierHead(body, channels, config.num_classes, drop_rate=config.drop_rate)
