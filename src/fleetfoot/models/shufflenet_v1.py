"""ShuffleNetV1: grouped 1×1 convolutions, and a shuffle that mixes channels between the groups.

Zhang et al. 2018, "ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile
Devices", https://arxiv.org/abs/1707.01083, table 1 and figure 2.

Where the paper and the released code (https://github.com/megvii-model/ShuffleNet-Series) differ,
the rows follow the code, since its weights need it: the shuffle comes after the depthwise
convolution and is the inverse of the paper's (section 3.1 and figure 2 have the shuffle itself, and
before it; ``shuffle`` chooses), the classifier has no bias, and the very first 1×1 is not grouped,
as the stem has few channels. Only the code's fixed 7×7 average pool is a global mean here: the same
at 224 pixels, and defined at other sizes.

Scales. Widths are table 1's times s, exactly. A bottleneck is a quarter of its unit's width,
rounded up to a multiple of the groups, which only changes groups 2 and 4 at scales below 2. The
stem is the released one if there is one: 12 channels at 0.5 (16 for 8 groups), 24 at 1 and 1.5, 48
at 2. At 0.25, which nobody released, 24·s = 6 channels would give 11 M multiply-adds while the
paper says 13; 12 channels, as at 0.5, give 13.2 and 13.3 at groups 1 and 3, and 8 groups take 8
channels for the 12.4 that is nearest. The paper states 140 M at 1, 38 M at 0.5 and 13 M at 0.25 for
all groups alike: the rows have 134 to 143, 37 to 41 and 12 to 14.

B batch · C channels · G groups · H W space
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from fleetfoot.models.base import Backbone, ClassifierHead, Config, FeatureInfo
from fleetfoot.ops.activations import Activation
from fleetfoot.ops.conv import conv_norm_act
from fleetfoot.ops.drop_path import drop_path, drop_path_rates
from fleetfoot.ops.shuffle import ChannelShuffle

ShufflePlace = Literal["after_depthwise", "before_depthwise"]


@dataclass(frozen=True, kw_only=True)
class ShuffleNetConfig(Config):
    """Fields that the configurations of the ShuffleNets share."""

    stem: tuple[int, ...] = (24,)
    """Channels of the first 3×3 convolutions; the first of them has stride 2."""
    widths: tuple[int, ...]
    """Channels of the stages: at strides 8, 16, 32, or four stages that begin at stride 4."""
    depths: tuple[int, ...] = (4, 8, 4)
    """Units in each stage."""
    classifier_bias: bool = False
    small_input: bool = False
    """Whether the stem has stride 1 and no max-pool follows, for images of about 32 pixels."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.widths) not in (3, 4) or len(self.depths) != len(self.widths):
            raise ValueError(
                "widths and depths must have one entry a stage, 3 or 4 stages; "
                f"they have {len(self.widths)} and {len(self.depths)}"
            )


@dataclass(frozen=True, kw_only=True)
class ShuffleNetV1Config(ShuffleNetConfig):
    groups: int
    """Groups of every 1×1 convolution but the first."""
    bottleneck_ratio: int = 4
    """Ratio of a unit's channels to those between its 1×1 convolutions."""
    shuffle: ShufflePlace = "after_depthwise"
    """Place of the shuffle: "before_depthwise" as in figure 2 of the paper; "after_depthwise" as in
    the released code, which un-shuffles there."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shuffle not in ("after_depthwise", "before_depthwise"):
            raise ValueError(
                f"shuffle must be 'after_depthwise' or 'before_depthwise', not {self.shuffle!r}"
            )
        if self.groups < 1 or self.bottleneck_ratio < 1:
            raise ValueError(
                "groups and bottleneck_ratio must be 1 or more, "
                f"not {self.groups} and {self.bottleneck_ratio}"
            )


def _row(groups: int, stem: int, width: int) -> ShuffleNetV1Config:
    return ShuffleNetV1Config(groups=groups, stem=(stem,), widths=(width, 2 * width, 4 * width))


VARIANTS: dict[str, Config] = {
    "shufflenet_v1_g1_x0_25": _row(groups=1, stem=12, width=36),
    "shufflenet_v1_g1_x0_5": _row(groups=1, stem=12, width=72),
    "shufflenet_v1_g1_x1_0": _row(groups=1, stem=24, width=144),
    "shufflenet_v1_g1_x1_5": _row(groups=1, stem=24, width=216),
    "shufflenet_v1_g1_x2_0": _row(groups=1, stem=48, width=288),
    "shufflenet_v1_g2_x0_25": _row(groups=2, stem=12, width=50),
    "shufflenet_v1_g2_x0_5": _row(groups=2, stem=12, width=100),
    "shufflenet_v1_g2_x1_0": _row(groups=2, stem=24, width=200),
    "shufflenet_v1_g2_x1_5": _row(groups=2, stem=24, width=300),
    "shufflenet_v1_g2_x2_0": _row(groups=2, stem=48, width=400),
    "shufflenet_v1_g3_x0_25": _row(groups=3, stem=12, width=60),
    "shufflenet_v1_g3_x0_5": _row(groups=3, stem=12, width=120),
    "shufflenet_v1_g3_x1_0": _row(groups=3, stem=24, width=240),
    "shufflenet_v1_g3_x1_5": _row(groups=3, stem=24, width=360),
    "shufflenet_v1_g3_x2_0": _row(groups=3, stem=48, width=480),
    "shufflenet_v1_g4_x0_25": _row(groups=4, stem=12, width=68),
    "shufflenet_v1_g4_x0_5": _row(groups=4, stem=12, width=136),
    "shufflenet_v1_g4_x1_0": _row(groups=4, stem=24, width=272),
    "shufflenet_v1_g4_x1_5": _row(groups=4, stem=24, width=408),
    "shufflenet_v1_g4_x2_0": _row(groups=4, stem=48, width=544),
    "shufflenet_v1_g8_x0_25": _row(groups=8, stem=8, width=96),
    "shufflenet_v1_g8_x0_5": _row(groups=8, stem=16, width=192),
    "shufflenet_v1_g8_x1_0": _row(groups=8, stem=24, width=384),
    "shufflenet_v1_g8_x1_5": _row(groups=8, stem=24, width=576),
    "shufflenet_v1_g8_x2_0": _row(groups=8, stem=48, width=768),
    # The 50-layer network that V2's paper compares with (its appendix, 2.3 G multiply-adds).
    # Its caption gives a bottleneck of 1:4, which makes 1.2 G; 1:2 makes the 2.3 of its table.
    "shufflenet_v1_50": ShuffleNetV1Config(
        groups=3,
        stem=(64,),
        widths=(360, 720, 1440, 2880),
        depths=(3, 4, 6, 3),
        bottleneck_ratio=2,
    ),
}


def bottleneck(
    channels: int,
    hidden: int,
    out_channels: int,
    *,
    stride: int,
    groups: int,
    first_groups: int,
    shuffle: ShufflePlace,
) -> nn.Sequential:
    """The main path of figure 2: 1×1, 3×3 depthwise, 1×1, with a shuffle between two of them.

    (B, C, H, W) -> (B, C', ceil(H / stride), ceil(W / stride)), ``hidden`` channels in between.
    """
    path = nn.Sequential()
    path.add_module("reduce", conv_norm_act(channels, hidden, groups=first_groups))
    if shuffle == "before_depthwise" and groups > 1:
        path.add_module("shuffle", ChannelShuffle(hidden, groups))
    path.add_module(
        "depthwise",
        conv_norm_act(hidden, hidden, 3, stride=stride, groups=hidden, act="identity"),
    )
    if shuffle == "after_depthwise" and groups > 1:
        path.add_module("unshuffle", ChannelShuffle(hidden, hidden // groups))
    path.add_module("expand", conv_norm_act(hidden, out_channels, groups=groups, act="identity"))
    return path


class SumUnit(nn.Module):
    """A unit of stride 1: relu(x + main(x)), figure 2(b). (B, C, H, W) -> (B, C, H, W)"""

    def __init__(self, main: nn.Sequential, drop: float) -> None:
        super().__init__()
        self.main = main
        self.drop_path = drop_path(drop)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x + self.drop_path(self.main(x)))


class ConcatUnit(nn.Module):
    """A unit of stride 2: concat of pooled x and relu(main(x)), figure 2(c). (B, C, H, W) -> (B, C
    + C', ceil(H / 2), ceil(W / 2))"""

    def __init__(self, main: nn.Sequential) -> None:
        super().__init__()
        self.main = main
        self.pool = nn.AvgPool2d(3, stride=2, padding=1)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.pool(x), self.act(self.main(x))), dim=1)


class WideningUnit(nn.Module):
    """A unit without a shortcut: relu(main(x)). (B, C, H, W) -> (B, C', H, W)

    The first unit of the 50-layer network goes from 64 to 360 channels at stride 1: too many for a
    sum, and a concat would leave the 3 groups 296 channels.
    """

    def __init__(self, main: nn.Sequential) -> None:
        super().__init__()
        self.main = main
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.main(x))


Units = Callable[[int, int, int, int], Iterator[nn.Module]]
"""A function that makes the modules of one stage from (channels, out_channels, depth, stride)."""


class ShuffleNet(Backbone):
    """The common structure of every ShuffleNet: stem, max-pool, stages. The stem gives map 0.

    There are five maps, at strides 2, 4, 8, 16, 32, or 1, 1, 2, 4, 8 with ``small_input``. At
    stride 4, a network of three stages has only the max-pool.
    """

    def __init__(
        self,
        config: ShuffleNetConfig,
        units: Units,
        *,
        max_pool: bool = True,
        act: Activation = "relu",
        eps: float = 1e-5,
    ) -> None:
        *_, channels = config.stem
        absent = 4 - len(config.widths)
        widths = (channels,) * absent + config.widths
        depths = (0,) * absent + config.depths
        strides = (1, 1, 2, 4, 8) if config.small_input else (2, 4, 8, 16, 32)
        names = ("stem", *(f"stages.{i}" for i in range(4)))
        super().__init__(
            config,
            [
                FeatureInfo(width, stride, name)
                for width, stride, name in zip((channels, *widths), strides, names, strict=True)
            ],
        )
        self.stem = nn.Sequential()
        for i, (before, after) in enumerate(
            zip((config.in_chans, *config.stem), config.stem, strict=False)
        ):
            stride = 1 if i or config.small_input else 2
            self.stem.append(conv_norm_act(before, after, 3, stride=stride, act=act, eps=eps))
        self.stages = nn.ModuleList()
        for i, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            stage = nn.Sequential()
            stride = 2
            if i == 0 and (max_pool or config.small_input):
                stride = 1
                if not config.small_input:
                    stage.add_module("pool", nn.MaxPool2d(3, stride=2, padding=1))
            if depth:
                for j, unit in enumerate(units(channels, width, depth, stride)):
                    stage.add_module(str(j), unit)
            self.stages.append(stage)
            channels = width


class ShuffleNetV1(ShuffleNet):
    """ShuffleNetV1. (B, 3, H, W) -> (B, num_classes); feature maps as ``ShuffleNet`` states.

    Raises:
        ValueError: ``groups`` does not divide the channels of some 1×1 convolution.
    """

    def __init__(self, config: ShuffleNetV1Config) -> None:
        groups = config.groups
        path = partial(bottleneck, groups=groups, shuffle=config.shuffle)
        rates = iter(drop_path_rates(config.drop_path_rate, sum(config.depths)))

        def units(channels: int, width: int, depth: int, stride: int) -> Iterator[nn.Module]:
            hidden = -(-width // (config.bottleneck_ratio * groups)) * groups
            first_groups = 1 if channels == config.stem[-1] else groups
            next(rates)  # the unit that opens a stage has no branch to drop
            if stride == 2:
                yield ConcatUnit(
                    path(channels, hidden, width - channels, stride=2, first_groups=first_groups)
                )
            else:
                yield WideningUnit(
                    path(channels, hidden, width, stride=1, first_groups=first_groups)
                )
            for _ in range(depth - 1):
                main = path(width, hidden, width, stride=1, first_groups=groups)
                yield SumUnit(main, next(rates))

        super().__init__(config, units)
        body = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = ClassifierHead(
            body,
            config.widths[-1],
            config.num_classes,
            drop_rate=config.drop_rate,
            bias=config.classifier_bias,
        )
        initialise_(self)


def initialise_(model: ShuffleNet) -> None:
    """Initialises in place as the released training code does.

    A convolution's weights have the deviation 1 / (inputs of one output, over channels only), the
    stem's and every linear layer's 0.01; a batch norm's shift is 1e-4.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            narrow = name.startswith("stem") or "squeeze_excite" in name
            nn.init.normal_(module.weight, std=0.01 if narrow else 1 / module.weight.shape[1])
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.bias, 1e-4)
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
