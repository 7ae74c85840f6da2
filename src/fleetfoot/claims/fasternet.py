"""The claims of FasterNet's paper, about partial convolution and about its networks beside others.

Chen et al. 2023, https://arxiv.org/abs/2303.03667. Figures are those of version 3, whose PConv was
timed after a fault of version 1 was corrected (it wrote into the residual's input); if the two
disagree, both are shown and version 3 decides. Columns: throughput at batch 32 on an RTX 2080Ti;
latency at batch 1 on one thread of an i9-9900X and of a Cortex-A72.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from fleetfoot.claims.base import Claim, Experiment, Ratio, Subject
from fleetfoot.models import create_model
from fleetfoot.ops.pconv import PConv

PAPER = "FasterNet (https://arxiv.org/abs/2303.03667)"
STACK = 10
SHAPES = ((96, 56), (192, 28), (384, 14), (768, 7))
"""Channels, and height and width, of the four stages in the paper's table 1."""
GROUPS = 16

Figures = tuple[float, float, float]
"""Figures of a row: GPU images/s, CPU ms, ARM ms."""


@dataclass(frozen=True)
class Operator:
    """A row of table 1."""

    name: str
    layer: Callable[[int], nn.Module]
    """Makes a layer from its number of channels."""
    macs: tuple[float, float, float, float]
    """MACs of ten layers at each shape, as printed."""
    figures: tuple[Figures, Figures, Figures, Figures]


def conv3x3(channels: int, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, padding=1, groups=groups, bias=False)


CONV = Operator(
    "Conv 3×3", conv3x3, (2601e6,) * 4,
    ((3010, 35.67, 779.57), (4893, 28.41, 619.64), (4558, 31.85, 595.09), (3159, 62.71, 662.17)),
)  # fmt: skip
GCONV = Operator(
    f"GConv({GROUPS})", lambda c: conv3x3(c, GROUPS), (162e6,) * 4,
    ((2888, 21.90, 166.30), (10811, 7.58, 96.22), (15534, 4.40, 63.57), (16000, 4.28, 65.20)),
)  # fmt: skip
DWCONV = Operator(
    "DWConv", lambda c: conv3x3(c, c), (27.09e6, 13.54e6, 6.77e6, 3.38e6),
    ((11940, 3.59, 108.70), (23358, 1.97, 82.01), (46377, 1.06, 94.89), (88889, 0.68, 150.89)),
)  # fmt: skip
PCONV = Operator(
    "PConv(1/4)", PConv, (162e6,) * 4,
    ((9215, 5.46, 85.30), (14360, 3.09, 66.46), (24408, 3.58, 49.98), (32866, 5.02, 48.30)),
)  # fmt: skip
OPERATORS = (CONV, GCONV, DWCONV, PCONV)


def pconv_stack() -> Claim:
    experiments = []
    for index, (channels, size) in enumerate(SHAPES):
        place = f"{channels}×{size}²"

        def name(operator: Operator, place: str = place) -> str:
            return f"{operator.name}, {place}"

        def times(over: Operator, under: Operator, index: int = index) -> dict[str, float]:
            (gpu, cpu, arm), (gpu_u, cpu_u, arm_u) = over.figures[index], under.figures[index]
            return {"GPU": gpu_u / gpu, "CPU": cpu / cpu_u, "ARM": arm / arm_u}

        more = 9 * (channels // 4) ** 2 / (9 * channels)  # MACs of PConv over those of DWConv
        rates = {column: more * ratio for column, ratio in times(DWCONV, PCONV).items()}
        experiments.append(
            Experiment(
                name=place,
                subjects=tuple(
                    Subject(
                        name=name(operator),
                        build=_stack(operator.layer, channels),
                        size=size,
                        channels=channels,
                        fold=False,
                        published=_columns(operator.figures[index]),
                        published_macs=operator.macs[index],
                    )
                    for operator in OPERATORS
                ),
                ratios=(
                    Ratio(
                        text=f"FLOPS of PConv / of DWConv, {place}",
                        over=name(DWCONV), under=name(PCONV), factor=more, published=rates,
                        judged_by="CPU",
                    ),
                    *(
                        Ratio(
                            text=f"time of {other.name} / of PConv, {place}",
                            over=name(other), under=name(PCONV), published=times(other, PCONV),
                            judged_by="CPU",
                        )
                        for other in (GCONV, CONV)
                    ),
                ),
            )
        )  # fmt: skip
    return Claim(
        name="pconv-stack",
        source=f"{PAPER}, table 1",
        asserts="PConv does its arithmetic at many times the rate of a depthwise convolution (by "
        "the averages of the table 10.5× on the GPU, 6.2× on the CPU, 22.8× on ARM; a headline "
        "says 14×, 6.5×, 22.7×), and is faster than a grouped one of as many MACs.",
        method=f"stacks of {STACK} layers alone, without bias, norm or activation; batch 1.",
        experiments=tuple(experiments),
    )


PAIRED_CPU_MS = (7.88, 5.42, 6.86, 8.34)
PAIRED_GPU = (6970.0, 9580.0, 11430.0, 10460.0)
"""Images/s of ten PConv and 1×1 pairs (451 M MACs), from the authors' answer in issue 1 of their
repository."""


def depthwise_width(channels: int) -> int:
    """The channels, a multiple of 4, at which DWConv and 1×1 have most nearly the MACs that PConv
    and 1×1 have at ``channels``: 9·W + W² = 9·(C/4)² + C²."""
    wanted = 9 * (channels // 4) ** 2 + channels**2
    return min(
        range(channels, 2 * channels, 4), key=lambda width: abs(9 * width + width**2 - wanted)
    )


def pconv_pair() -> Claim:
    experiments = []
    for index, (channels, size) in enumerate(SHAPES):
        wide = depthwise_width(channels)
        kinds: tuple[tuple[str, int, Callable[[int], nn.Module]], ...] = (
            (f"PConv + 1×1, {channels}×{size}²", channels, PConv),
            (f"DWConv + 1×1, {wide}×{size}²", wide, DWCONV.layer),
            (f"GConv({GROUPS}) + 1×1, {channels}×{size}²", channels, GCONV.layer),
        )
        own = kinds[0][0]
        figures = {"GPU /s": PAIRED_GPU[index], "CPU ms": PAIRED_CPU_MS[index]}
        experiments.append(
            Experiment(
                name=f"{channels}×{size}²",
                subjects=tuple(
                    Subject(
                        name=name,
                        build=_pairs(layer, width),
                        size=size,
                        channels=width,
                        fold=False,
                        published=figures if name == own else {},
                        published_macs=451e6,
                    )
                    for name, width, layer in kinds
                ),
                ratios=tuple(
                    Ratio(text=f"{name} / PConv + 1×1 of {channels}", over=name, under=own)
                    for name, _, _ in kinds[1:]
                ),
            )
        )
    return Claim(
        name="pconv-pair",
        source=f"{PAPER}, section 3; issue 1 of the authors' repository for PConv's own times",
        asserts="PConv and a 1×1 convolution are faster than a depthwise or grouped convolution "
        "and "
        "a 1×1 at equal MACs.",
        method=f"stacks of {STACK} pairs, batch 1. At equal MACs the grouped pair has PConv's "
        f"channels ({GROUPS} groups: exactly equal), the depthwise pair is wider: "
        f"{', '.join(f'{depthwise_width(c)} for {c}' for c, _ in SHAPES)} (multiples of 4, within "
        "1 %). The paper gives no times of the other two pairs: the direction alone is judged.",
        experiments=tuple(experiments),
    )


@dataclass(frozen=True)
class Table3Row:
    """A row of table 3: a network as it is available here, and its figures."""

    name: str
    gmacs: float
    figures: tuple[float, float, float | None]
    """GPU images/s, CPU ms, ARM ms; None if the board ran out of memory."""
    size: int = 224


def _row(
    name: str, gmacs: float, gpu: float, cpu: float, arm: float | None, size: int = 224
) -> Table3Row:
    return Table3Row(name, gmacs, (gpu, cpu, arm), size)


# the MobileViTs and EdgeNeXts at 256 pixels, where their MACs are those that the paper prints
GROUPS_OF_TABLE_3: tuple[tuple[Table3Row, ...], ...] = (
    (
        _row("fasternet_t0", 0.34, 6807, 9.2, 143),
        _row("shufflenet_v2_x1_5", 0.30, 4878, 12.1, 266),
        _row("mobilenetv2_100", 0.31, 4198, 12.2, 442),
        _row("timm:mobilevit_xxs", 0.42, 2393, 30.8, 348, 256),
        _row("timm:edgenext_xx_small", 0.26, 2765, 15.7, 239, 256),
    ),
    (
        _row("fasternet_t1", 0.85, 3782, 17.7, 285),
        _row("timm:ghostnet_130", 0.24, 2988, 17.9, 481),
        _row("shufflenet_v2_x2_0", 0.59, 3339, 17.8, 403),
        _row("mobilenetv2_140", 0.60, 2711, 22.6, 650),
        _row("timm:mobilevit_xs", 1.05, 1392, 40.8, 648, 256),
        _row("timm:edgenext_x_small", 0.54, 1738, 24.4, 434, 256),
    ),
    (
        _row("fasternet_t2", 1.91, 1991, 33.5, 497),
        _row("cyclemlp_b1", 2.10, 865, 116.1, 892),
        _row("timm:poolformer_s12", 1.82, 1439, 49.0, 665),
        _row("timm:mobilevit_s", 2.03, 1039, 56.7, 941, 256),
        _row("timm:edgenext_small", 1.26, 1128, 39.2, 743, 256),
        _row("torchvision:resnet50", 4.11, 959, 73.0, 1131),
    ),
    (
        _row("fasternet_s", 4.56, 1029, 71.2, 1103),
        _row("cyclemlp_b2", 3.90, 528, 186.3, 1502),
        _row("timm:poolformer_s24", 3.41, 748, 92.8, 1261),
        _row("timm:poolformer_s36", 5.00, 507, 138.0, 1860),
        _row("timm:convnext_tiny", 4.47, 657, 86.3, 1889),
        _row("timm:swin_tiny_patch4_window7_224", 4.51, 609, 122.2, 1424),
    ),
    (
        _row("fasternet_m", 8.74, 500, 129.5, 2092),
        _row("timm:poolformer_m36", 8.80, 320, 215.0, 2979),
        _row("timm:convnext_small", 8.71, 377, 153.2, 3484),
        _row("timm:swin_small_patch4_window7_224", 8.77, 348, 224.2, 2613),
    ),
    (
        _row("fasternet_l", 15.52, 323, 219.5, None),
        _row("timm:poolformer_m48", 11.59, 242, 281.8, None),
        _row("timm:convnext_base", 15.38, 253, 257.1, None),
        _row("timm:swin_base_patch4_window7_224", 15.47, 237, 349.2, None),
    ),
)
"""Rows by accuracy group, as the paper's rules divide the table; FasterNet's row is first."""
ABSENT = {
    "PVT-Tiny, -Small, -Medium, -Large": "version 1 is in neither timm nor torchvision",
    "MicroNet, Mobile-Former (figure 2)": "in neither timm nor torchvision",
}
LIGHT_GROUPS = 1
"""Number of groups of table 3 that are always measured; the others build and run for minutes."""


def pairs() -> Claim:
    rows = {row.name: row for group in GROUPS_OF_TABLE_3 for row in group}
    swin = "timm:swin_base_patch4_window7_224"
    headlines: tuple[tuple[str, str, dict[str, float]], ...] = (
        # version 1's figures, as its text prints them
        ("timm:mobilevit_xxs", "fasternet_t0", {"GPU v1": 3.1, "CPU v1": 3.1, "ARM v1": 2.5}),
        (swin, "fasternet_l", {"GPU v1": 1.49, "CPU v1": 1 / (1 - 0.42)}),
        ("cyclemlp_b1", "torchvision:resnet50", {"CPU v1": 111.9 / 69.4}),
    )
    return Claim(
        name="pairs",
        source=f"{PAPER}, abstract, introduction and table 3; version 1 beside version 3",
        asserts="FasterNet-T0 is 2.8× / 3.3× / 2.4× (version 1: 3.1× / 3.1× / 2.5×) as fast as "
        "MobileViT-XXS on GPU / CPU / ARM; FasterNet-L has 36 % (49 %) more throughput on the GPU "
        "than Swin-B and takes 37 % (42 %) less time on the CPU; CycleMLP-B1 has half of "
        "ResNet-50's "
        "MACs and takes more time.",
        method="folded networks, batch 1; version 3's CPU column decides.",
        experiments=tuple(
            Experiment(
                name=f"{over} / {under}",
                subjects=(_network(rows[over]), _network(rows[under])),
                ratios=(_ratio(rows[over], rows[under], earlier),),
            )
            for over, under, earlier in headlines
        ),
    )


def table3() -> Claim:
    return Claim(
        name="table3",
        source=f"{PAPER}, table 3 and figure 2",
        asserts="FasterNet is faster than other networks of its accuracy, because it reaches "
        "higher "
        "FLOPS, not because it needs fewer FLOPs.",
        method="folded networks, batch 1, each group interleaved; time of the other network over "
        "that of the FasterNet of its group. Heavier groups run after all other claims. Weights "
        "are random, and accuracies are the papers'.",
        experiments=tuple(
            Experiment(
                name=f"group of {group[0].name}",
                subjects=tuple(_network(row) for row in group),
                ratios=tuple(_ratio(row, group[0], {}) for row in group[1:]),
                spare=index >= LIGHT_GROUPS,
            )
            for index, group in enumerate(GROUPS_OF_TABLE_3)
        ),
        absent=ABSENT,
    )


def _network(row: Table3Row) -> Subject:
    def build() -> nn.Module:
        return create_model(row.name)

    return Subject(
        name=row.name,
        build=build,
        size=row.size,
        published=_columns(row.figures),
        published_macs=row.gmacs * 1e9,
    )


def _ratio(over: Table3Row, under: Table3Row, earlier: Mapping[str, float]) -> Ratio:
    (gpu, cpu, arm), (gpu_u, cpu_u, arm_u) = over.figures, under.figures
    published = {"GPU": gpu_u / gpu, "CPU": cpu / cpu_u}
    if arm is not None and arm_u is not None:
        published["ARM"] = arm / arm_u
    return Ratio(
        text=f"{over.name} / {under.name}",
        over=over.name,
        under=under.name,
        published={**published, **earlier},
        judged_by="CPU",
    )


def _columns(figures: Sequence[float | None]) -> dict[str, float]:
    named = zip(("GPU /s", "CPU ms", "ARM ms"), figures, strict=True)
    return {column: figure for column, figure in named if figure is not None}


def _stack(layer: Callable[[int], nn.Module], channels: int) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*(layer(channels) for _ in range(STACK)))


def _pairs(layer: Callable[[int], nn.Module], channels: int) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        pairs = (
            (layer(channels), nn.Conv2d(channels, channels, 1, bias=False)) for _ in range(STACK)
        )
        return nn.Sequential(*(one for pair in pairs for one in pair))

    return build
