"""The large ShuffleNetV2s: a residual path and squeeze-and-excitation in every unit.

Ma et al. 2018, https://arxiv.org/abs/1807.11164, table 6 and appendix figure 2(c), as released in
https://github.com/megvii-model/ShuffleNet-Series, folders ShuffleNetV2.Large and .ExLarge.

The paper's "SE-ShuffleNet v2-164" (18.56 % top-1 error, 12.7 G multiply-adds) was released as
Large, with these two figures, but it is not the network of the appendix's table (340, 680, 1360,
2720 channels, depthwise, 12.6 G): its 3×3 convolutions have 8 groups, and its widths are powers of
two. Large is the one with weights, and the one here. ExLarge (15.52 %, trained with further data)
has no paper.

Three auxiliary classifiers read the maps of strides 4, 8, 16 in training. They are built on request
(``auxiliary_heads``); ``forward`` returns the last classifier's logits only, in train mode too, and
``forward_with_auxiliary`` those of all four. The meaning of the released counts:

| network | published | parameters | with the auxiliary heads | multiply-adds |
|---|---|---|---|---|
| Large | 140.7 M, 12.7 G | 125,120,936 | 140,685,664 | 12,780,652,544 |
| ExLarge | 254.7 M, 46.2 G | 255,374,504 | 271,283,296 | 46,174,794,752 |

So Large's 140.7 M count the auxiliary heads; ExLarge's 254.7 M count neither those nor the norms
and biases (254,714,048 without).

B batch · C channels · H W space · N classes
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from fleetfoot.models.base import ClassifierHead, Config
from fleetfoot.models.shufflenet_v1 import ShuffleNet, ShuffleNetConfig, initialise_
from fleetfoot.ops.conv import conv_norm_act
from fleetfoot.ops.drop_path import drop_path, drop_path_rates
from fleetfoot.ops.shuffle import channel_split
from fleetfoot.ops.squeeze_excite import SqueezeExcite

Form = Literal["large", "exlarge"]


@dataclass(frozen=True, kw_only=True)
class ShuffleNetV2LargeConfig(ShuffleNetConfig):
    form: Form
    """Kind of unit of which the network is built."""
    groups: int
    """Groups of the 3×3 convolutions in the main branches."""
    head_width: int = 0
    """Channels of a 3×3 before the pooling; 0 for none."""
    norm_eps: float = 1e-5
    """Value added to a batch norm's variance."""
    auxiliary_widths: tuple[int, int, int]
    """Channels inside the auxiliary heads at strides 4, 8, 16."""
    auxiliary_heads: bool = False
    """Whether to build the auxiliary heads, for training with ``forward_with_auxiliary``."""
    classifier_bias: bool = True
    drop_rate: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.form not in ("large", "exlarge"):
            raise ValueError(f"form must be 'large' or 'exlarge', not {self.form!r}")
        if self.groups < 1:
            raise ValueError(f"groups must be 1 or more, not {self.groups}")
        if len(self.widths) != 4:
            raise ValueError(f"widths must name 4 stages, not {len(self.widths)}")


VARIANTS: dict[str, Config] = {
    "shufflenet_v2_large": ShuffleNetV2LargeConfig(
        form="large", groups=8,
        stem=(64, 64, 128), widths=(256, 512, 1024, 2048), depths=(10, 10, 23, 10),
        head_width=1280, norm_eps=1e-9, auxiliary_widths=(256, 512, 1024),
    ),
    "shufflenet_v2_exlarge": ShuffleNetV2LargeConfig(
        form="exlarge", groups=16,
        stem=(64, 128, 256), widths=(320, 640, 1280, 2560), depths=(8, 16, 36, 10),
        auxiliary_widths=(256, 512, 1024),
    ),
}  # fmt: skip

AUXILIARY_LOSS_WEIGHTS = (0.3, 0.5, 0.7)
"""Weights of the auxiliary losses at strides 4, 8, 16 in the released training code; the last
classifier's loss has weight 1."""


def main_branch(
    channels: int, hidden: int, out_channels: int, stride: int, config: ShuffleNetV2LargeConfig
) -> nn.Sequential:
    """A main branch: 1×1, grouped 3×3, in ExLarge a depthwise 3×3, 1×1, squeeze-and-excitation.

    (B, C, H, W) -> (B, C', ceil(H / stride), ceil(W / stride))
    """
    brick = partial(conv_norm_act, eps=config.norm_eps)
    branch = nn.Sequential()
    branch.add_module("first", brick(channels, hidden))
    branch.add_module("grouped", brick(hidden, hidden, 3, stride=stride, groups=config.groups))
    if config.form == "exlarge":
        branch.add_module("depthwise", brick(hidden, hidden, 3, groups=hidden, act="identity"))
    branch.add_module("last", brick(hidden, out_channels, act="identity"))
    reduced = out_channels if config.form == "large" else out_channels // 4
    branch.add_module("squeeze_excite", SqueezeExcite(out_channels, reduced))
    return branch


class ResidualUnit(nn.Module):
    """Concat of the even channels and relu(odd + main(odd)): appendix figure 2(c).

    (B, C, H, W) -> (B, C, H, W)

    The even channels have been through a ReLU in earlier units, so the second one that Large's
    released code applies to both halves changes nothing in them and is left out.
    """

    def __init__(self, main: nn.Module, drop: float) -> None:
        super().__init__()
        self.main = main
        self.drop_path = drop_path(drop)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        kept, mixed = channel_split(x)
        return torch.cat((kept, self.act(mixed + self.drop_path(self.main(mixed)))), dim=1)


class LargeEntry(nn.Module):
    """Large's first unit of a stage: 3×3 on the even channels, main branch on the odd ones.

    (B, C, H, W) -> (B, C', ceil(H / stride), ceil(W / stride))
    """

    def __init__(self, side: nn.Module, main: nn.Module, down: nn.Module) -> None:
        super().__init__()
        self.side = side
        self.main = main
        self.act = nn.ReLU()
        self.down = down

    def forward(self, x: Tensor) -> Tensor:
        even, odd = channel_split(x)
        return self.down(self.act(torch.cat((self.side(even), self.main(odd)), dim=1)))


class ExLargeEntry(nn.Module):
    """ExLarge's first unit of a stage: both branches read every channel.

    (B, C, H, W) -> (B, C', ceil(H / stride), ceil(W / stride)). Nothing is applied to the main
    branch after its squeeze-and-excitation.
    """

    def __init__(self, side: nn.Module, main: nn.Module) -> None:
        super().__init__()
        self.side = side
        self.main = main

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.side(x), self.main(x)), dim=1)


def large_units(
    channels: int,
    width: int,
    depth: int,
    stride: int,
    *,
    config: ShuffleNetV2LargeConfig,
    rates: Iterator[float],
) -> Iterator[nn.Module]:
    """A stage of Large; a 1×1 follows the first unit if that has stride 2."""
    brick = partial(conv_norm_act, eps=config.norm_eps)
    half = width // 2
    next(rates)  # the first unit has no shortcut
    yield LargeEntry(
        brick(channels // 2, half, 3, stride=stride, act="identity"),
        main_branch(channels // 2, half, half, stride, config),
        brick(width, width) if stride == 2 else nn.Identity(),
    )
    for _ in range(depth - 1):
        yield ResidualUnit(main_branch(half, half, half, 1, config), next(rates))


def exlarge_units(
    channels: int,
    width: int,
    depth: int,
    stride: int,
    *,
    config: ShuffleNetV2LargeConfig,
    rates: Iterator[float],
) -> Iterator[nn.Module]:
    """A stage of ExLarge: units that widen to the whole width inside, and a 1×1 at the end."""
    brick = partial(conv_norm_act, eps=config.norm_eps)
    half = width // 2
    next(rates)  # the first unit has no shortcut
    yield ExLargeEntry(
        brick(channels, half, 3, stride=stride),
        main_branch(channels, width, half, stride, config),
    )
    for _ in range(depth - 1):
        yield ResidualUnit(main_branch(half, width, half, 1, config), next(rates))
    yield brick(width, width)


def auxiliary_head(
    channels: int, hidden: int, num_classes: int, config: ShuffleNetV2LargeConfig
) -> ClassifierHead:
    """A head from a map in the middle of the network to logits. (B, C, H, W) -> (B, N)"""
    brick = partial(conv_norm_act, eps=config.norm_eps)
    body = nn.Sequential()
    body.add_module("max_pool", nn.MaxPool2d(3, stride=2, padding=1))
    body.add_module("first", brick(channels, hidden))
    body.add_module("last", brick(hidden, hidden, 3))
    body.add_module("pool", nn.AdaptiveAvgPool2d(1))
    body.add_module("flatten", nn.Flatten())
    return ClassifierHead(body, hidden, num_classes)


class ShuffleNetV2Large(ShuffleNet):
    """A large ShuffleNetV2. (B, 3, H, W) -> (B, num_classes); feature maps as ``ShuffleNet``
    states, each made by units.

    Raises:
        ValueError: ``groups`` does not divide a branch's channels, ``form`` is no known name, or
        there are not four stages.
    """

    def __init__(self, config: ShuffleNetV2LargeConfig) -> None:
        units = partial(
            large_units if config.form == "large" else exlarge_units,
            config=config,
            rates=iter(drop_path_rates(config.drop_path_rate, sum(config.depths))),
        )
        super().__init__(config, units, eps=config.norm_eps)
        features = config.widths[-1]
        body = nn.Sequential()
        if config.head_width:
            body.add_module(
                "conv", conv_norm_act(features, config.head_width, 3, eps=config.norm_eps)
            )
            features = config.head_width
        body.add_module("pool", nn.AdaptiveAvgPool2d(1))
        body.add_module("flatten", nn.Flatten())
        self.head = ClassifierHead(
            body,
            features,
            config.num_classes,
            drop_rate=config.drop_rate,
            bias=config.classifier_bias,
        )
        self.auxiliary_heads = nn.ModuleList()
        if config.auxiliary_heads:
            for channels, hidden in zip(config.widths, config.auxiliary_widths, strict=False):
                self.auxiliary_heads.append(
                    auxiliary_head(channels, hidden, config.num_classes, config)
                )
        initialise_(self)

    def forward_with_auxiliary(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits of the classifier, and of the auxiliary heads at strides 4, 8, 16. (B, 3, H, W) ->
        (B, N), 3 × (B, N)

        The released training code sums their losses with ``AUXILIARY_LOSS_WEIGHTS``.

        Raises:
            ValueError: the network was built without the heads.
        """
        if not self.auxiliary_heads:
            raise ValueError(
                "this network has no auxiliary heads; make it with auxiliary_heads=True"
            )
        _, *maps = self.features(x)
        logits = self.forward_head(maps[-1])
        return logits, [head(x) for head, x in zip(self.auxiliary_heads, maps, strict=False)]

    def reset_classifier(self, num_classes: int) -> None:
        """Replaces the classifiers of the head and of the auxiliary heads by fresh ones."""
        super().reset_classifier(num_classes)
        for head in self.auxiliary_heads:
            assert isinstance(head, ClassifierHead)
            head.reset(num_classes)
