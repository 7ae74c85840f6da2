"""ShuffleNetV2: equal widths, dense 1×1 convolutions, and half of the channels left unchanged.

Ma et al. 2018, "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design",
https://arxiv.org/abs/1807.11164, table 5, figure 3(c, d) and the appendix's table of large models.

Two networks go by this name, and no weights fit both:

- torchvision's (``shufflenet_v2_x1_0``) shuffles at the end of every unit; a unit of stride 2 has
  two branches of half the width each; the classifier has a bias.
- the authors' (``shufflenet_v2_x1_0_authors``, https://github.com/megvii-model/ShuffleNet-Series)
  separates even from odd channels at the start of every unit of stride 1; in a unit of stride 2 one
  branch keeps the number of its input channels and the other makes the rest; the classifier has no
  bias. Its multiply-adds are the paper's 146, 299 and 591 M, and 40.5 M for the paper's 41.

Apart from the bias, shapes differ in the first unit at most. The authors' fixed 7×7 average pool is
a global mean here: the same at 224 pixels, and defined at other sizes. The 50-layer network is in
the paper's appendix only; the authors' form counts 2.31 G multiply-adds, the paper's 2.3. The
164-layer network with squeeze-and-excitation that was released differs from the appendix's table:
it is ``shufflenet_v2_large``.

B batch · C channels · H W space
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from fleetfoot.models.base import ClassifierHead, Config
from fleetfoot.models.shufflenet_v1 import ShuffleNet, ShuffleNetConfig, initialise_
from fleetfoot.ops.conv import conv_norm_act
from fleetfoot.ops.shuffle import ChannelShuffle, channel_split

Form = Literal["torchvision", "authors"]


@dataclass(frozen=True, kw_only=True)
class ShuffleNetV2Config(ShuffleNetConfig):
    head_width: int = 1024
    """Channels of the 1×1 before the pooling."""
    form: Form
    """How the channels are mixed and divided between the branches; the module's docstring says
    more."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.form not in ("torchvision", "authors"):
            raise ValueError(f"form must be 'torchvision' or 'authors', not {self.form!r}")
        if any(width % 2 for width in self.widths):
            raise ValueError(f"widths must be even, since units halve them; not {self.widths}")
        if self.drop_path_rate:
            raise ValueError(
                f"drop_path_rate must be 0, not {self.drop_path_rate}: "
                "ShuffleNetV2 has no shortcut beside which a branch could be dropped"
            )


def _torchvision(widths: tuple[int, ...], head_width: int = 1024) -> ShuffleNetV2Config:
    return ShuffleNetV2Config(
        widths=widths, head_width=head_width, classifier_bias=True, form="torchvision"
    )


VARIANTS: dict[str, Config] = {
    "shufflenet_v2_x0_5": _torchvision((48, 96, 192)),
    "shufflenet_v2_x1_0": _torchvision((116, 232, 464)),
    "shufflenet_v2_x1_5": _torchvision((176, 352, 704)),
    "shufflenet_v2_x2_0": _torchvision((244, 488, 976), head_width=2048),
    "shufflenet_v2_x0_5_authors": ShuffleNetV2Config(widths=(48, 96, 192), form="authors"),
    "shufflenet_v2_x1_0_authors": ShuffleNetV2Config(widths=(116, 232, 464), form="authors"),
    "shufflenet_v2_x1_5_authors": ShuffleNetV2Config(widths=(176, 352, 704), form="authors"),
    "shufflenet_v2_x2_0_authors": ShuffleNetV2Config(
        widths=(244, 488, 976), head_width=2048, drop_rate=0.2, form="authors"
    ),
    "shufflenet_v2_50": ShuffleNetV2Config(
        stem=(64,), widths=(244, 488, 976, 1952), depths=(3, 4, 6, 3), head_width=2048,
        form="authors",
    ),
}  # fmt: skip


def main_branch(channels: int, hidden: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """A main branch: 1×1, 3×3 depthwise, 1×1. (B, C, H, W) -> (B, C', ceil(H / stride), ceil(W /
    stride))"""
    branch = nn.Sequential()
    branch.add_module("first", conv_norm_act(channels, hidden))
    branch.add_module(
        "depthwise", conv_norm_act(hidden, hidden, 3, stride=stride, groups=hidden, act="identity")
    )
    branch.add_module("last", conv_norm_act(hidden, out_channels))
    return branch


def side_branch(channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """A side branch: 3×3 depthwise, 1×1. (B, C, H, W) -> (B, C', ceil(H / stride), ceil(W /
    stride))"""
    branch = nn.Sequential()
    branch.add_module(
        "depthwise",
        conv_norm_act(channels, channels, 3, stride=stride, groups=channels, act="identity"),
    )
    branch.add_module("last", conv_norm_act(channels, out_channels))
    return branch


class SplitUnit(nn.Module):
    """torchvision's unit of stride 1: split in halves, convolve one, concat, shuffle.

    (B, C, H, W) -> (B, C, H, W)
    """

    def __init__(self, main: nn.Module, channels: int) -> None:
        super().__init__()
        self.main = main
        self.shuffle = ChannelShuffle(channels, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        kept, mixed = x.chunk(2, dim=1)
        return self.shuffle(torch.cat((kept, self.main(mixed)), dim=1))


class BranchUnit(nn.Module):
    """torchvision's first unit of a stage: two branches, concat, shuffle. (B, C, H, W) -> (B, C',
    ceil(H / stride), ceil(W / stride))"""

    def __init__(self, side: nn.Module, main: nn.Module, out_channels: int) -> None:
        super().__init__()
        self.side = side
        self.main = main
        self.shuffle = ChannelShuffle(out_channels, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.shuffle(torch.cat((self.side(x), self.main(x)), dim=1))


class AuthorsSplitUnit(nn.Module):
    """The authors' unit of stride 1: concat of the even channels and the convolved odd ones.

    (B, C, H, W) -> (B, C, H, W)
    """

    def __init__(self, main: nn.Module) -> None:
        super().__init__()
        self.main = main

    def forward(self, x: Tensor) -> Tensor:
        kept, mixed = channel_split(x)
        return torch.cat((kept, self.main(mixed)), dim=1)


class AuthorsBranchUnit(nn.Module):
    """The authors' first unit of a stage: two branches, concat. (B, C, H, W) -> (B, C', ceil(H /
    stride), ceil(W / stride))"""

    def __init__(self, side: nn.Module, main: nn.Module) -> None:
        super().__init__()
        self.side = side
        self.main = main

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.side(x), self.main(x)), dim=1)


def torchvision_units(channels: int, width: int, depth: int, stride: int) -> Iterator[nn.Module]:
    """A stage as torchvision builds it: both branches of the first unit make half of the width."""
    half = width // 2
    yield BranchUnit(
        side_branch(channels, half, stride), main_branch(channels, half, half, stride), width
    )
    for _ in range(depth - 1):
        yield SplitUnit(main_branch(half, half, half), width)


def authors_units(channels: int, width: int, depth: int, stride: int) -> Iterator[nn.Module]:
    """A stage as the authors build it: the side branch of the first unit keeps its channels."""
    half = width // 2
    yield AuthorsBranchUnit(
        side_branch(channels, channels, stride),
        main_branch(channels, half, width - channels, stride),
    )
    for _ in range(depth - 1):
        yield AuthorsSplitUnit(main_branch(half, half, half))


class ShuffleNetV2(ShuffleNet):
    """ShuffleNetV2. (B, 3, H, W) -> (B, num_classes); feature maps as ``ShuffleNet`` states.

    The 1×1 to ``head_width`` channels belongs to the head, not to the last map.

    Raises:
        ValueError: ``drop_path_rate`` is not 0, a width is odd, or ``form`` is no known name.
    """

    def __init__(self, config: ShuffleNetV2Config) -> None:
        authors = config.form == "authors"
        super().__init__(config, authors_units if authors else torchvision_units)
        body = nn.Sequential()
        body.add_module("conv", conv_norm_act(config.widths[-1], config.head_width))
        body.add_module("pool", nn.AdaptiveAvgPool2d(1))
        body.add_module("flatten", nn.Flatten())
        self.head = ClassifierHead(
            body,
            config.head_width,
            config.num_classes,
            drop_rate=config.drop_rate,
            bias=config.classifier_bias,
        )
        if authors:  # torchvision starts from torch's defaults
            initialise_(self)
