"""MobileNetV3: V2's block with squeeze-excite and hard-swish in places found by a search, and a
head that is wide only after pooling.

Howard et al. 2019, "Searching for MobileNetV3", https://arxiv.org/abs/1905.02244, tables 1 and 2.

Decisions on points on which the paper and its implementations do not agree:

- Small ends as in TensorFlow, torchvision, timm and d-li14: 1024 channels after the pooling and no
  squeeze-excite on the last 1×1. The paper's table 2 prints 1280 and one; no implementation has its
  2.9 M parameters and 66 M multiply-adds (2.54 M and 56.5 M here).
- Squeeze-excite comes after the activation of the depthwise convolution, as in TensorFlow,
  torchvision and timm. d-li14's port puts it before the activation: the same keys and shapes, but
  another network, whose weights do not work here.
- Width 0.75 names two networks. ``mobilenetv3_large_075`` is TensorFlow's, timm's and d-li14's: a
  block expands its scaled input by the table's ratio, and the head keeps its width.
  ``mobilenetv3_large_075_tv`` is torchvision's: every column of the table is scaled, the head's
  too.
- Norms are timm's in the rows that timm names (eps 1e-5), torchvision's in the ``_tv`` rows.
  torchvision's weights for the 1.0 networks need ``norm_eps=1e-3, norm_momentum=0.01``, and
  TensorFlow's ``padding="same", norm_eps=1e-3``. The minimalistic rows have TensorFlow's values,
  since its weights are the only ones.

B batch · C channels · H W space
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import nn

from fleetfoot.models.base import Backbone, ClassifierHead, Config, FeatureInfo
from fleetfoot.models.mobilenet_v1 import MobileNetConfig
from fleetfoot.ops.activations import Activation, activation
from fleetfoot.ops.conv import make_divisible
from fleetfoot.ops.drop_path import drop_path_rates
from fleetfoot.ops.separable import InvertedResidual, initialise_, squeezed

Size = Literal["large", "small"]
Scaling = Literal["ratio", "columns"]


@dataclass(frozen=True, kw_only=True)
class MobileNetV3Config(MobileNetConfig):
    size: Size
    """Table of the paper: "large" is table 1, "small" table 2."""
    head_width: int
    """Channels of the 1×1 after the pooling."""
    scaling: Scaling = "ratio"
    """Which channels ``width`` multiplies. "ratio": the blocks' ends; each block expands its own
    input by the table's ratio, the head keeps its width, and the stem its 16 channels below width
    0.75 (TensorFlow, timm). "columns": every column of the table, stem and head (torchvision)."""
    reduced_tail: bool = False
    """Whether the last stage and the head have half the channels, all but the expansion that enters
    the stage, as the paper's section 6.3 does for detection."""
    minimal: bool = False
    """Whether it is the minimalistic form: no squeeze-excite, ReLU for hard-swish, 3×3 for 5×5."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size not in TABLES:
            raise ValueError(f"size must be 'large' or 'small', not {self.size!r}")
        if self.scaling not in ("ratio", "columns"):
            raise ValueError(f"scaling must be 'ratio' or 'columns', not {self.scaling!r}")
        if self.head_width < 1:
            raise ValueError(f"head_width must be 1 or more, not {self.head_width}")


class BneckRow(NamedTuple):
    """One bneck line of tables 1 and 2, with their columns."""

    kernel: int
    expanded: int
    channels: int
    squeeze: bool
    act: Literal["RE", "HS"]
    stride: int


LARGE = (  # one tuple of rows a feature map
    (BneckRow(3, 16, 16, False, "RE", 1),),
    (
        BneckRow(3, 64, 24, False, "RE", 2),
        BneckRow(3, 72, 24, False, "RE", 1),
    ),
    (
        BneckRow(5, 72, 40, True, "RE", 2),
        BneckRow(5, 120, 40, True, "RE", 1),
        BneckRow(5, 120, 40, True, "RE", 1),
    ),
    (
        BneckRow(3, 240, 80, False, "HS", 2),
        BneckRow(3, 200, 80, False, "HS", 1),
        BneckRow(3, 184, 80, False, "HS", 1),
        BneckRow(3, 184, 80, False, "HS", 1),
        BneckRow(3, 480, 112, True, "HS", 1),
        BneckRow(3, 672, 112, True, "HS", 1),
    ),
    (
        BneckRow(5, 672, 160, True, "HS", 2),
        BneckRow(5, 960, 160, True, "HS", 1),
        BneckRow(5, 960, 160, True, "HS", 1),
    ),
)

SMALL: tuple[tuple[BneckRow, ...], ...] = (
    (),  # its first block has stride 2, so the first map is the stem's
    (BneckRow(3, 16, 16, True, "RE", 2),),
    (
        BneckRow(3, 72, 24, False, "RE", 2),
        BneckRow(3, 88, 24, False, "RE", 1),
    ),
    (
        BneckRow(5, 96, 40, True, "HS", 2),
        BneckRow(5, 240, 40, True, "HS", 1),
        BneckRow(5, 240, 40, True, "HS", 1),
        BneckRow(5, 120, 48, True, "HS", 1),
        BneckRow(5, 144, 48, True, "HS", 1),
    ),
    (
        BneckRow(5, 288, 96, True, "HS", 2),
        BneckRow(5, 576, 96, True, "HS", 1),
        BneckRow(5, 576, 96, True, "HS", 1),
    ),
)

TABLES = {"large": LARGE, "small": SMALL}


def _halved(rows: tuple[BneckRow, ...]) -> tuple[BneckRow, ...]:
    """The last stage with half the channels; the first expansion belongs to the stage before."""
    return tuple(
        row._replace(expanded=row.expanded // (2 if i else 1), channels=row.channels // 2)
        for i, row in enumerate(rows)
    )


STEM = 16
LAST = 6
"""Widening of the 1×1 that ends the last stage, over the block before it."""


VARIANTS: dict[str, Config] = {
    "mobilenetv3_large_100": MobileNetV3Config(size="large", head_width=1280),
    "mobilenetv3_large_075": MobileNetV3Config(size="large", head_width=1280, width=0.75),
    "mobilenetv3_large_075_tv": MobileNetV3Config(
        size="large",
        head_width=1280,
        width=0.75,
        scaling="columns",
        norm_eps=1e-3,
        norm_momentum=0.01,
    ),
    "mobilenetv3_large_minimal_100": MobileNetV3Config(
        size="large", head_width=1280, minimal=True, padding="same", norm_eps=1e-3
    ),
    "mobilenetv3_small_100": MobileNetV3Config(size="small", head_width=1024),
    "mobilenetv3_small_075": MobileNetV3Config(size="small", head_width=1024, width=0.75),
    "mobilenetv3_small_075_tv": MobileNetV3Config(
        size="small",
        head_width=1024,
        width=0.75,
        scaling="columns",
        norm_eps=1e-3,
        norm_momentum=0.01,
    ),
    "mobilenetv3_small_050": MobileNetV3Config(size="small", head_width=1024, width=0.5),
    "mobilenetv3_small_minimal_100": MobileNetV3Config(
        size="small", head_width=1024, minimal=True, padding="same", norm_eps=1e-3
    ),
}


class MobileNetV3(Backbone):
    """MobileNetV3. (B, 3, H, W) -> (B, num_classes); feature maps at strides 2, 4, 8, 16, 32 (half
    of these with ``small_input``).

    Channels at width 1: 16, 24, 40, 112, 960 (large); 16, 16, 24, 48, 576 (small, whose first map
    is the stem's). The last map comes after the 1×1 that ends the last stage, as in timm; the head
    pools it, then widens to ``head_width`` at a single pixel.
    """

    def __init__(self, config: MobileNetV3Config) -> None:
        def scaled(channels: int) -> int:
            return make_divisible(channels * config.width)

        by_ratio = config.scaling == "ratio"
        table = TABLES[config.size]
        if config.reduced_tail:
            table = (*table[:-1], _halved(table[-1]))
        narrow = table[-1][-1].channels
        last = scaled(LAST * narrow) if by_ratio else LAST * scaled(narrow)
        stem = STEM if by_ratio and config.width < 0.75 else scaled(STEM)
        widths = [scaled(rows[-1].channels) if rows else stem for rows in table[:-1]] + [last]
        super().__init__(
            config,
            [
                FeatureInfo(width, config.stem_stride << i, f"stages.{i}" if table[i] else "stem")
                for i, width in enumerate(widths)
            ],
        )
        late: Activation = "relu" if config.minimal else "hard_swish"
        rates = iter(drop_path_rates(config.drop_path_rate, sum(map(len, table))))
        channels, in_table = stem, STEM
        self.stem = config.brick(late)(config.in_chans, stem, 3, stride=config.stem_stride)
        self.stages = nn.ModuleList()
        for rows in table:
            stage = nn.Sequential()
            for row in rows:
                expanded = (
                    make_divisible(channels * row.expanded / in_table)
                    if by_ratio
                    else scaled(row.expanded)
                )
                stage.append(
                    InvertedResidual(
                        channels,
                        expanded,
                        scaled(row.channels),
                        kernel=3 if config.minimal else row.kernel,
                        stride=row.stride,
                        reduced=squeezed(expanded) if row.squeeze and not config.minimal else 0,
                        drop_path=next(rates),
                        brick=config.brick("relu" if row.act == "RE" else late),
                    )
                )
                channels, in_table = scaled(row.channels), row.channels
            self.stages.append(stage)
        stage.append(config.brick(late)(channels, last))

        head_width = config.head_width // (2 if config.reduced_tail else 1)
        wide = head_width if by_ratio else scaled(head_width)
        body = nn.Sequential()
        body.add_module("pool", nn.AdaptiveAvgPool2d(1))
        body.add_module("conv", nn.Conv2d(last, wide, 1))
        body.add_module("act", activation(late))
        body.add_module("flatten", nn.Flatten())
        self.head = ClassifierHead(body, wide, config.num_classes, drop_rate=config.drop_rate)
        self.apply(initialise_)
