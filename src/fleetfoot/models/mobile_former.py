"""Mobile-Former: a MobileNet and a transformer of a few tokens in parallel, connected in both
directions in every block.

Chen et al. 2022, "Mobile-Former: Bridging MobileNet and Transformer",
https://arxiv.org/abs/2108.05895, section 3, figure 3 and the tables of the seven networks, whose
names are their millions of multiply-adds.

In each block the tokens attend to the map (the map has no projection), then to each other; the
first token controls the slopes of the convolutions' dynamic ReLUs; the map attends to the tokens
(without a projection of its own). The last tokens attend to the last map once more, and the first
of them is concatenated with the pooled map before the classifier.

The following is as in the released code (https://github.com/AAboys/MobileFormer), since its weights
need it: what tokens take from the map is weighted per channel by a hard sigmoid of the token; the
attentions have 2 heads at the bridges and 4 among the tokens; the block that halves the map (the
paper's downsample block) adds its second half to its first; and only 26M groups its 1×1
convolutions and shuffles after them. The code drops whole tokens although it means samples of the
batch, since its tensors have the tokens first; here samples are dropped (its recipes drop nothing).

B batch · C channels of the map · T tokens · D channels of a token · H W space · S stride
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from fleetfoot.models.base import Backbone, ClassifierHead, Config, FeatureInfo
from fleetfoot.ops.attention import CrossAttention
from fleetfoot.ops.conv import conv_norm_act
from fleetfoot.ops.drop_path import drop_path
from fleetfoot.ops.dynamic_relu import TokenReLU
from fleetfoot.ops.shuffle import ChannelShuffle


class FormerRow(NamedTuple):
    """One block with tokens."""

    channels: int
    expand: int
    """Channels of the depthwise convolution over the input's channels."""
    again: int = 0
    """Channels of a second depthwise convolution over ``channels``, in a block that halves the map.
    0: the block keeps the map's size."""


class LiteRow(NamedTuple):
    """The first block, which has no tokens."""

    stride: int
    channels: int
    expand: int


class Table(NamedTuple):
    """The convolutions and tokens of a network."""

    stem: int
    """Channels of the first convolution."""
    lite: LiteRow
    rows: tuple[FormerRow, ...]


_SMALL = Table(
    8,
    LiteRow(2, 12, 3),
    (
        FormerRow(12, 3),
        *(FormerRow(24, 6, 4), FormerRow(24, 3)),
        *(FormerRow(48, 6, 4), FormerRow(48, 4), FormerRow(64, 6)),
        *(FormerRow(96, 6, 4), FormerRow(96, 6)),
    ),
)

TABLES = {  # a line for each stage
    "508m": Table(
        24,
        LiteRow(1, 24, 2),
        (
            *(FormerRow(40, 6, 4), FormerRow(40, 3)),
            *(FormerRow(72, 6, 4), FormerRow(72, 3)),
            *(FormerRow(128, 6, 4), FormerRow(128, 4), FormerRow(176, 6), FormerRow(176, 6)),
            *(FormerRow(240, 6, 4), FormerRow(240, 6), FormerRow(240, 6)),
        ),
    ),
    "294m": Table(
        16,
        LiteRow(1, 16, 2),
        (
            *(FormerRow(24, 6, 4), FormerRow(24, 4)),
            *(FormerRow(48, 6, 4), FormerRow(48, 4)),
            *(FormerRow(96, 6, 4), FormerRow(96, 4), FormerRow(128, 6), FormerRow(128, 6)),
            *(FormerRow(192, 6, 4), FormerRow(192, 6), FormerRow(192, 6)),
        ),
    ),
    "214m": Table(
        12,
        LiteRow(1, 12, 2),
        (
            *(FormerRow(20, 6, 4), FormerRow(20, 3)),
            *(FormerRow(40, 6, 4), FormerRow(40, 4)),
            *(FormerRow(80, 6, 4), FormerRow(80, 4), FormerRow(112, 6), FormerRow(112, 6)),
            *(FormerRow(160, 6, 4), FormerRow(160, 6), FormerRow(160, 6)),
        ),
    ),
    "151m": Table(
        12,
        LiteRow(1, 12, 2),
        (
            *(FormerRow(16, 6, 4), FormerRow(16, 3)),
            *(FormerRow(32, 6, 4), FormerRow(32, 3)),
            *(FormerRow(64, 6, 4), FormerRow(64, 4), FormerRow(88, 6), FormerRow(88, 6)),
            *(FormerRow(128, 6, 4), FormerRow(128, 6), FormerRow(128, 6)),
        ),
    ),
    "96m": Table(
        12,
        LiteRow(1, 12, 2),
        (
            FormerRow(16, 6, 4),
            *(FormerRow(32, 6, 4), FormerRow(32, 3)),
            *(FormerRow(64, 6, 4), FormerRow(64, 4), FormerRow(88, 6)),
            *(FormerRow(128, 6, 4), FormerRow(128, 6)),
        ),
    ),
    "52m": _SMALL,
    "26m": _SMALL,
}


@dataclass(frozen=True, kw_only=True)
class MobileFormerConfig(Config):
    table: Literal["508m", "294m", "214m", "151m", "96m", "52m", "26m"]
    """Name of the network's row in ``TABLES``."""
    head_width: int
    """Channels of the linear layer before the classifier."""
    tokens: int = 6
    token_width: int = 192
    groups: int = 1
    """Groups of all 1×1 convolutions."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.table not in TABLES:
            raise ValueError(f"table must be one of {', '.join(TABLES)}, not {self.table!r}")
        if self.tokens < 1 or self.token_width < 4 or self.token_width % 4:
            raise ValueError(
                "tokens must be 1 or more and token_width a multiple of 4, "
                f"not {self.tokens} and {self.token_width}"
            )


VARIANTS: dict[str, Config] = {
    "mobile_former_508m": MobileFormerConfig(table="508m", head_width=1920, drop_rate=0.3),
    "mobile_former_294m": MobileFormerConfig(table="294m", head_width=1920, drop_rate=0.3),
    "mobile_former_214m": MobileFormerConfig(table="214m", head_width=1600, drop_rate=0.2),
    "mobile_former_151m": MobileFormerConfig(table="151m", head_width=1280, drop_rate=0.2),
    "mobile_former_96m": MobileFormerConfig(
        table="96m", head_width=1280, tokens=4, token_width=128, drop_rate=0.2
    ),
    "mobile_former_52m": MobileFormerConfig(
        table="52m", head_width=1024, tokens=3, token_width=128, drop_rate=0.2
    ),
    "mobile_former_26m": MobileFormerConfig(
        table="26m", head_width=1024, tokens=3, token_width=128, groups=4, drop_rate=0.1
    ),
}


def pixels(x: Tensor) -> Tensor:
    """A map as a sequence of pixels. (B, C, H, W) -> (B, H W, C)"""
    return x.flatten(2).transpose(1, 2)


def shuffle(channels: int, parts: int, groups: int) -> nn.Module:
    """A shuffle of ``channels`` into ``parts`` if 1×1 convolutions are grouped; otherwise the
    identity."""
    return ChannelShuffle(channels, parts) if groups > 1 else nn.Identity()


class MapToTokens(nn.Module):
    """The tokens read the map: norm(tokens + project(weighted attention to the map)). (B, C, H, W),
    (B, T, D) -> (B, T, D)"""

    def __init__(self, channels: int, token_width: int, drop: float) -> None:
        super().__init__()
        self.query = nn.Linear(token_width, channels)
        self.attention = CrossAttention(heads=2)
        self.weigh = nn.Sequential(nn.Linear(token_width, channels), nn.Hardsigmoid())
        self.project = nn.Linear(channels, token_width)
        self.drop_path = drop_path(drop)
        self.norm = nn.LayerNorm(token_width)

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        seen = pixels(x)
        taken = self.attention(self.query(tokens), seen, seen) * (2 * self.weigh(tokens))
        return self.norm(tokens + self.drop_path(self.project(taken)))


class Former(nn.Module):
    """Attention among the tokens, then an MLP, each followed by a norm. (B, T, D) -> (B, T, D)"""

    def __init__(self, token_width: int, drop: float) -> None:
        super().__init__()
        self.query = nn.Linear(token_width, token_width)
        self.attention = CrossAttention(heads=4)
        self.project = nn.Linear(token_width, token_width)
        self.drop_path = drop_path(drop)
        self.norm = nn.LayerNorm(token_width)
        self.mlp = nn.Sequential(
            nn.Linear(token_width, 2 * token_width),
            nn.GELU(),
            nn.Linear(2 * token_width, token_width),
        )
        self.mlp_norm = nn.LayerNorm(token_width)

    def forward(self, tokens: Tensor) -> Tensor:
        taken = self.project(self.attention(self.query(tokens), tokens, tokens))
        tokens = self.norm(tokens + self.drop_path(taken))
        return self.mlp_norm(tokens + self.mlp(tokens))


class TokensToMap(nn.Module):
    """The map reads the tokens: x + attention of its pixels to the tokens. (B, C, H, W), (B, T, D)
    -> (B, C, H, W)"""

    def __init__(self, channels: int, token_width: int, drop: float) -> None:
        super().__init__()
        self.key = nn.Linear(token_width, channels)
        self.value = nn.Linear(token_width, channels)
        self.attention = CrossAttention(heads=2)
        self.drop_path = drop_path(drop)

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        taken = self.attention(pixels(x), self.key(tokens), self.value(tokens))
        return x + self.drop_path(taken.transpose(1, 2).unflatten(2, x.shape[2:]))


class Lite(nn.Module):
    """A 3×3 depthwise convolution that widens, then a 1×1; the input is added if its shape is the
    output's. (B, C, H, W) -> (B, C', ceil(H / S), ceil(W / S))"""

    def __init__(self, channels: int, row: LiteRow, groups: int) -> None:
        super().__init__()
        wide = channels * row.expand
        self.depthwise = conv_norm_act(
            channels, wide, 3, stride=row.stride, groups=channels, act="relu6"
        )
        self.shuffle = shuffle(wide, channels, groups)
        self.pointwise = conv_norm_act(wide, row.channels, groups=groups, act="identity")
        self.shortcut = row.stride == 1 and channels == row.channels

    def forward(self, x: Tensor) -> Tensor:
        made = self.pointwise(self.shuffle(self.depthwise(x)))
        return x + made if self.shortcut else made


class Mobile(nn.Module):
    """MobileNetV2's block with ReLUs controlled by a token. (B, C, H, W), (B, D) -> (B, C', H,
    W)"""

    def __init__(
        self, channels: int, row: FormerRow, token_width: int, groups: int, drop: float
    ) -> None:
        super().__init__()
        wide = channels * row.expand
        self.expand = conv_norm_act(channels, wide, groups=groups, act="identity")
        self.expand_shuffle = shuffle(wide, groups, groups)
        self.expand_act = TokenReLU(wide, token_width)
        self.depthwise = conv_norm_act(wide, wide, 3, groups=wide, act="identity")
        self.depthwise_act = TokenReLU(wide, token_width)
        self.project = conv_norm_act(wide, row.channels, groups=groups, act="identity")
        self.project_shuffle = shuffle(row.channels, groups, groups)
        self.shortcut = channels == row.channels
        self.drop_path = drop_path(drop) if self.shortcut else nn.Identity()

    def forward(self, x: Tensor, token: Tensor) -> Tensor:
        made = self.expand_act(self.expand_shuffle(self.expand(x)), token)
        made = self.depthwise_act(self.depthwise(made), token)
        made = self.project_shuffle(self.project(made))
        return x + self.drop_path(made) if self.shortcut else made


class Downsample(nn.Module):
    """Two pairs of a widening depthwise convolution and a 1×1; the first pair has stride 2, the
    second a shortcut. (B, C, H, W), (B, D) -> (B, C', ceil(H / 2), ceil(W / 2))"""

    def __init__(
        self, channels: int, row: FormerRow, token_width: int, groups: int, drop: float
    ) -> None:
        super().__init__()
        wide, again = channels * row.expand, row.channels * row.again
        self.first = conv_norm_act(channels, wide, 3, stride=2, groups=channels, act="identity")
        self.first_shuffle = shuffle(wide, channels, groups)
        self.first_act = TokenReLU(wide, token_width)
        self.narrow = conv_norm_act(wide, row.channels, groups=groups, act="identity")
        self.second = conv_norm_act(row.channels, again, 3, groups=row.channels, act="identity")
        self.second_shuffle = shuffle(again, row.channels, groups)
        self.second_act = TokenReLU(again, token_width)
        self.project = conv_norm_act(again, row.channels, groups=groups, act="identity")
        self.drop_path = drop_path(drop)

    def forward(self, x: Tensor, token: Tensor) -> Tensor:
        x = self.narrow(self.first_act(self.first_shuffle(self.first(x)), token))
        made = self.second_act(self.second_shuffle(self.second(x)), token)
        return x + self.drop_path(self.project(made))


class Block(nn.Module):
    """Bridge to the tokens, tokens, convolutions, bridge to the map. (B, C, H, W), (B, T, D) -> (B,
    C', H', W'), (B, T, D)"""

    def __init__(
        self, channels: int, row: FormerRow, config: MobileFormerConfig, drop: float
    ) -> None:
        super().__init__()
        width = config.token_width
        mobile = Downsample if row.again else Mobile
        self.to_tokens = MapToTokens(channels, width, drop)
        self.former = Former(width, drop)
        self.mobile = mobile(channels, row, width, config.groups, drop)
        self.to_map = TokensToMap(row.channels, width, drop)

    def forward(self, x: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.former(self.to_tokens(x, tokens))
        return self.to_map(self.mobile(x, tokens[:, 0]), tokens), tokens


class Stage(nn.Module):
    """Blocks at one stride; the first stage of the small networks begins with the block without
    tokens."""

    def __init__(self, lite: nn.Module, blocks: list[Block]) -> None:
        super().__init__()
        self.lite = lite
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        x = self.lite(x)
        for block in self.blocks:
            x, tokens = block(x, tokens)
        return x, tokens


class MapAndTokens(NamedTuple):
    """The input of a Mobile-Former's head."""

    map: Tensor
    """The last map, (B, C, H, W)."""
    tokens: Tensor
    """The tokens, (B, T, D)."""


class HeadBody(nn.Module):
    """A last attention of the tokens to the map; then a linear layer over the pooled map and the
    first token. ((B, C, H, W), (B, T, D)) -> (B, F)"""

    def __init__(self, channels: int, config: MobileFormerConfig) -> None:
        super().__init__()
        wide = 6 * channels
        self.to_tokens = MapToTokens(channels, config.token_width, config.drop_path_rate)
        self.shuffle = shuffle(channels, config.groups, config.groups)
        self.conv = conv_norm_act(channels, wide, groups=config.groups, act="relu6")
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Hardswish(), nn.Flatten())
        self.linear = nn.Linear(wide + config.token_width, config.head_width)
        self.norm = nn.BatchNorm1d(config.head_width)
        self.act = nn.Hardswish()

    def forward(self, seen: MapAndTokens) -> Tensor:
        x, tokens = seen
        tokens = self.to_tokens(x, tokens)
        x = self.pool(self.conv(self.shuffle(x)))
        return self.act(self.norm(self.linear(torch.cat((x, tokens[:, 0]), dim=1))))


class MobileFormer(Backbone):
    """Mobile-Former. (B, 3, H, W) -> (B, num_classes); feature maps at strides 2 (the stem's), 4,
    8, 16, 32.

    ``features`` returns only the maps. ``forward_features`` returns a ``MapAndTokens``, since the
    head reads both.

    Raises:
        ValueError: ``groups`` does not divide the channels of some 1×1 convolution.
    """

    def __init__(self, config: MobileFormerConfig) -> None:
        stem_width, lite, rows = TABLES[config.table]
        first = conv_norm_act(config.in_chans, stem_width, 3, stride=2, act="relu6")
        alone = Lite(stem_width, lite, config.groups)
        in_stem = lite.stride == 1
        if in_stem:
            stem_width = lite.channels

        channels = lite.channels
        stages: list[list[Block]] = [] if in_stem else [[]]
        widths: list[int] = [] if in_stem else [channels]
        for i, row in enumerate(rows):
            if row.again:
                stages.append([])
                widths.append(row.channels)
            # the block without tokens counts among the blocks over which the rate rises
            drop = config.drop_path_rate * (i + 2) / (len(rows) + 1)
            stages[-1].append(Block(channels, row, config, drop))
            channels = widths[-1] = row.channels
        super().__init__(
            config,
            [
                FeatureInfo(stem_width, 2, "stem"),
                *(
                    FeatureInfo(width, 4 << i, f"stages.{i}.blocks.{len(blocks) - 1}.to_map")
                    for i, (width, blocks) in enumerate(zip(widths, stages, strict=True))
                ),
            ],
        )
        self.tokens = nn.Parameter(torch.randn(config.tokens, config.token_width))
        self.stem = nn.Sequential(first, alone) if in_stem else first
        self.stages = nn.ModuleList(
            Stage(nn.Identity() if i or in_stem else alone, blocks)
            for i, blocks in enumerate(stages)
        )
        self.head = ClassifierHead(
            HeadBody(channels, config),
            config.head_width,
            config.num_classes,
            drop_rate=config.drop_rate,
        )
        self.apply(_init)

    def _run(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        maps = [self.stem(x)]
        tokens = self.tokens.expand(x.shape[0], -1, -1)
        for stage in self.stages:
            x, tokens = stage(maps[-1], tokens)
            maps.append(x)
        return maps, tokens

    def features(self, x: Tensor) -> list[Tensor]:
        return self._run(x)[0]

    def forward_features(self, x: Tensor) -> MapAndTokens:  # type: ignore[override]
        """The last map and the tokens. (B, in_chans, H, W) -> (B, num_features, H', W'), (B, T,
        D)"""
        maps, tokens = self._run(x)
        return MapAndTokens(maps[-1], tokens)


def _init(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        reached = math.prod(module.kernel_size) * module.out_channels
        nn.init.normal_(module.weight, std=math.sqrt(2 / reached))
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(module.bias)
