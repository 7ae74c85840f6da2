"""MobileNetV1: thirteen depthwise separable blocks and nothing else.

Howard et al. 2017, "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision
Applications", https://arxiv.org/abs/1704.04861, table 1. The paper's two knobs are the width
multiplier α (``width``) and the resolution multiplier ρ, which is the size of the image given.

Three decisions of this file:

- The activation is ReLU6. The paper says ReLU, but every set of released weights (TensorFlow's,
  Keras's, timm's) was trained with ReLU6; ``act="relu"`` gives the form that the paper states.
- The last depthwise convolution has stride 1. Table 1 prints "s2" and beside it an input of 7×7 and
  an output of 7×7; only stride 1 gives those.
- Widths are rounded to multiples of 8 (the paper's own need no rounding).

Keras's weights need ``padding="same", norm_eps=1e-3``. Keras pads its strided depthwise
convolutions only at the right and the bottom. This equals "same" padding as long as the sizes halve
evenly, that is at images of a multiple of 32 pixels; at others Keras's maps are a pixel smaller
than TensorFlow's.

B batch · C channels · H W space
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import nn

from fleetfoot.models.base import Backbone, ClassifierHead, Config, FeatureInfo
from fleetfoot.ops.activations import Activation
from fleetfoot.ops.conv import Padding, conv_norm_act, make_divisible
from fleetfoot.ops.separable import Brick, DepthwiseSeparable, initialise_


@dataclass(frozen=True, kw_only=True)
class MobileNetConfig(Config):
    """Fields that the configurations of the three MobileNets share."""

    width: float = 1.0
    """Multiplier of the channels of every layer, the paper's α. Any positive value."""
    padding: Padding = "symmetric"
    """Padding of strided convolutions: "same" pads as TensorFlow does; its and Keras's weights need
    it."""
    norm_eps: float = 1e-5
    """Value added to a batch norm's variance. The weights of TensorFlow, Keras and torchvision's V3
    need 1e-3."""
    norm_momentum: float = 0.1
    """Weight of a new batch in the running statistics. TensorFlow and torchvision's V3 use 0.01."""
    small_input: bool = False
    """Whether the stem has stride 1, for images of about 32 pixels: every map is twice as large."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.width > 0:
            raise ValueError(f"width must be above 0, not {self.width}; 1.0 is the full network")
        if not self.norm_eps > 0:
            raise ValueError(f"norm_eps must be above 0, not {self.norm_eps}; 1e-5 is usual")

    @property
    def stem_stride(self) -> int:
        return 1 if self.small_input else 2

    def brick(self, act: Activation) -> Brick:
        """``conv_norm_act`` with this network's padding and norm."""
        return partial(
            conv_norm_act,
            act=act,
            eps=self.norm_eps,
            momentum=self.norm_momentum,
            padding=self.padding,
        )


@dataclass(frozen=True, kw_only=True)
class MobileNetV1Config(MobileNetConfig):
    act: Activation = "relu6"
    head_width: int = 0
    """Channels of a 1×1 between the last map and the pooling; 0, the paper's form, for none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.head_width < 0:
            raise ValueError(f"head_width must be 0 or more, not {self.head_width}")


VARIANTS: dict[str, Config] = {
    "mobilenetv1_125": MobileNetV1Config(width=1.25),
    "mobilenetv1_100h": MobileNetV1Config(head_width=1024),
    "mobilenetv1_100": MobileNetV1Config(),
    "mobilenetv1_075": MobileNetV1Config(width=0.75),
    "mobilenetv1_050": MobileNetV1Config(width=0.5),
    "mobilenetv1_025": MobileNetV1Config(width=0.25),
}

STAGES = ((64,), (128, 128), (256, 256), (512,) * 6, (1024, 1024))
"""Channels of each block at width 1. Every stage but the first opens with stride 2."""


class MobileNetV1(Backbone):
    """MobileNetV1. (B, 3, H, W) -> (B, num_classes); feature maps at strides 2, 4, 8, 16, 32 (half
    of these with ``small_input``) with 64, 128, 256, 512, 1024 channels times ``width``.

    There is no shortcut, so ``drop_path_rate`` has nothing to drop.

    Raises:
        ValueError: ``drop_path_rate`` is not 0.
    """

    def __init__(self, config: MobileNetV1Config) -> None:
        if config.drop_path_rate:
            raise ValueError(
                f"drop_path_rate must be 0, not {config.drop_path_rate}: "
                "MobileNetV1 has no shortcut beside which a branch could be dropped"
            )

        def scaled(channels: int) -> int:
            return make_divisible(channels * config.width)

        super().__init__(
            config,
            [
                FeatureInfo(scaled(blocks[-1]), config.stem_stride << i, f"stages.{i}")
                for i, blocks in enumerate(STAGES)
            ],
        )
        brick = config.brick(config.act)
        channels = scaled(32)
        self.stem = brick(config.in_chans, channels, 3, stride=config.stem_stride)
        self.stages = nn.ModuleList()
        for i, blocks in enumerate(STAGES):
            stage = nn.Sequential()
            for j, width in enumerate(blocks):
                stride = 2 if i and j == 0 else 1
                stage.append(
                    DepthwiseSeparable(channels, scaled(width), stride=stride, brick=brick)
                )
                channels = scaled(width)
            self.stages.append(stage)

        body = nn.Sequential()
        if config.head_width:
            body.add_module("conv", brick(channels, config.head_width))
            channels = config.head_width
        body.add_module("pool", nn.AdaptiveAvgPool2d(1))
        body.add_module("flatten", nn.Flatten())
        self.head = ClassifierHead(body, channels, config.num_classes, drop_rate=config.drop_rate)
        self.apply(initialise_)
