"""MobileNetV2: inverted residuals with linear bottlenecks.

Sandler et al. 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks",
https://arxiv.org/abs/1801.04381, tables 1 and 2.

The width multiplier is TensorFlow's, torchvision's, timm's and d-li14's: it scales the stem and the
first block too, widths are rounded to multiples of 8, and the last 1×1 keeps its 1280 channels
below width 1. (tonylins's port leaves stem and first block unscaled: another network at all widths
but 1.0.) At width 0.1, multiples of 8 would leave no layer narrow, so that row rounds to 4, as
d-li14's does. Table 4 states 6.9 M parameters at width 1.4; the network of table 2 has 6.11 M at
that width, in every implementation and here.

B batch · C channels · H W space
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import nn

from fleetfoot.models.base import Backbone, ClassifierHead, Config, FeatureInfo
from fleetfoot.models.mobilenet_v1 import MobileNetConfig
from fleetfoot.ops.conv import make_divisible
from fleetfoot.ops.drop_path import drop_path_rates
from fleetfoot.ops.separable import InvertedResidual, initialise_


@dataclass(frozen=True, kw_only=True)
class MobileNetV2Config(MobileNetConfig):
    divisor: int = 8
    """Number of which scaled widths are made multiples by rounding."""
    head_width: int = 1280
    """Channels of the 1×1 before the pooling; times ``width`` if that is above 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.divisor < 1:
            raise ValueError(f"divisor must be 1 or more, not {self.divisor}")
        if self.head_width < 1:
            raise ValueError(f"head_width must be 1 or more, not {self.head_width}")


VARIANTS: dict[str, Config] = {
    "mobilenetv2_140": MobileNetV2Config(width=1.4),
    "mobilenetv2_130": MobileNetV2Config(width=1.3),
    "mobilenetv2_100": MobileNetV2Config(),
    "mobilenetv2_075": MobileNetV2Config(width=0.75),
    "mobilenetv2_050": MobileNetV2Config(width=0.5),
    "mobilenetv2_035": MobileNetV2Config(width=0.35),
    "mobilenetv2_025": MobileNetV2Config(width=0.25),
    "mobilenetv2_010": MobileNetV2Config(width=0.1, divisor=4),
}


class BottleneckRow(NamedTuple):
    """One line of table 2, with its columns t, c, n, s."""

    expansion: int
    channels: int
    blocks: int
    stride: int
    """Stride of the first block; the others have stride 1."""


STAGES = (  # one tuple of rows a feature map
    (BottleneckRow(1, 16, 1, 1),),
    (BottleneckRow(6, 24, 2, 2),),
    (BottleneckRow(6, 32, 3, 2),),
    (BottleneckRow(6, 64, 4, 2), BottleneckRow(6, 96, 3, 1)),
    (BottleneckRow(6, 160, 3, 2), BottleneckRow(6, 320, 1, 1)),
)


class MobileNetV2(Backbone):
    """MobileNetV2. (B, 3, H, W) -> (B, num_classes); feature maps at strides 2, 4, 8, 16, 32 (half
    of these with ``small_input``) with 16, 24, 32, 96, 320 channels times ``width``.

    The maps are the narrow ends of the blocks. The 1×1 to 1280 channels belongs to the head, so
    ``forward_features`` has 320 channels; timm's has 1280.
    """

    def __init__(self, config: MobileNetV2Config) -> None:
        def scaled(channels: int) -> int:
            return make_divisible(channels * config.width, config.divisor)

        super().__init__(
            config,
            [
                FeatureInfo(scaled(rows[-1].channels), config.stem_stride << i, f"stages.{i}")
                for i, rows in enumerate(STAGES)
            ],
        )
        brick = config.brick("relu6")
        depth = sum(row.blocks for rows in STAGES for row in rows)
        rates = iter(drop_path_rates(config.drop_path_rate, depth))
        channels = scaled(32)
        self.stem = brick(config.in_chans, channels, 3, stride=config.stem_stride)
        self.stages = nn.ModuleList()
        for rows in STAGES:
            stage = nn.Sequential()
            for row in rows:
                for i in range(row.blocks):
                    stage.append(
                        InvertedResidual(
                            channels,
                            channels * row.expansion,
                            scaled(row.channels),
                            stride=row.stride if i == 0 else 1,
                            drop_path=next(rates),
                            brick=brick,
                        )
                    )
                    channels = scaled(row.channels)
            self.stages.append(stage)

        wide = make_divisible(config.head_width * max(1.0, config.width), config.divisor)
        body = nn.Sequential()
        body.add_module("conv", brick(channels, wide))
        body.add_module("pool", nn.AdaptiveAvgPool2d(1))
        body.add_module("flatten", nn.Flatten())
        self.head = ClassifierHead(body, wide, config.num_classes, drop_rate=config.drop_rate)
        self.apply(initialise_)
