"""The four guidelines of ShuffleNetV2, each by its own controlled experiment.

Ma et al. 2018, https://arxiv.org/abs/1807.11164, section 2, tables 1 to 4. Rates are batches a
second on a GTX 1080Ti and images a second on one thread of a Snapdragon 810, each the mean of 100
runs; x1, x2, x4 multiply the channels of a row. All maps are 56×56.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Literal

from torch import Tensor, nn

from fleetfoot.claims.base import Claim, Experiment, Ratio, Subject

SIZE = 56
STACK = 10
SCALES = (1, 2, 4)
PAPER = "ShuffleNetV2 (https://arxiv.org/abs/1807.11164)"
HOW = (
    f"stacks of {STACK} blocks on {SIZE}×{SIZE} maps, batch 1, without bias or norm. The "
    "Snapdragon's ratio, of one thread, decides. For channels that only the GPU's column has, "
    "which run after all other claims, only the direction is judged: a GPU is no CPU. "
)

Device = Literal["GPU", "ARM"]
Rates = Mapping[Device, tuple[float, float, float]]


@dataclass(frozen=True)
class WidthRow:
    """A row of a table: a name, the channels at x1 for each device, and the rates."""

    name: str
    channels: Mapping[Device, int | tuple[int, int]]
    rates: Rates


class Bottleneck(nn.Module):
    """1×1 to a quarter of the channels, 3×3, and 1×1 back. (B, C, H, W) -> (B, C, H, W)"""

    def __init__(self, channels: int, *, relu: bool, shortcut: bool) -> None:
        super().__init__()
        narrow = channels // 4
        act = nn.ReLU() if relu else nn.Identity()
        self.body = nn.Sequential(
            nn.Conv2d(channels, narrow, 1, bias=False), act,
            nn.Conv2d(narrow, narrow, 3, padding=1, bias=False), act,
            nn.Conv2d(narrow, channels, 1, bias=False),
        )  # fmt: skip
        self.act, self.shortcut = act, shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        return self.act(x + y if self.shortcut else y)


class Parallel(nn.Module):
    """The sum of ``count`` 1×1 convolutions of one input. (B, C, H, W) -> (B, C, H, W)"""

    def __init__(self, channels: int, count: int) -> None:
        super().__init__()
        self.fragments = nn.ModuleList(
            nn.Conv2d(channels, channels, 1, bias=False) for _ in range(count)
        )

    def forward(self, x: Tensor) -> Tensor:
        return reduce(operator.add, (fragment(x) for fragment in self.fragments))


def g1() -> Claim:
    rows = [
        WidthRow(name, {"GPU": gpu_channels, "ARM": arm_channels}, {"GPU": gpu, "ARM": arm})
        for name, gpu_channels, gpu, arm_channels, arm in (
            ("1:1", (128, 128), (1480, 723, 232), (32, 32), (76.2, 21.7, 5.3)),
            ("1:2", (90, 180), (1296, 586, 206), (22, 44), (72.9, 20.5, 5.1)),
            ("1:6", (52, 312), (876, 489, 189), (13, 78), (69.1, 17.9, 4.6)),
            ("1:12", (36, 432), (748, 392, 163), (9, 108), (57.6, 15.1, 4.4)),
        )
    ]

    def block(row: WidthRow, channels: tuple[int, int]) -> nn.Module:
        narrow, wide = channels
        return nn.Sequential(
            nn.Conv2d(narrow, wide, 1, bias=False), nn.Conv2d(wide, narrow, 1, bias=False)
        )

    return Claim(
        name="g1",
        source=f"{PAPER}, table 1",
        asserts="At equal MACs, a 1×1 convolution is fastest with as many channels out as in.",
        method=HOW + "A block is two 1×1 convolutions, c1 to c2 to c1.",
        experiments=_experiments(rows, block, slower=True, gpu_scales=(1, 2)),
    )


def g2() -> Claim:
    rows = [
        WidthRow(f"{groups} groups", {"GPU": c_gpu, "ARM": c_arm}, {"GPU": gpu, "ARM": arm})
        for groups, c_gpu, gpu, c_arm, arm in (
            (1, 128, (2451, 1289, 437), 64, (40.0, 10.2, 2.3)),
            (2, 180, (1725, 873, 341), 90, (35.0, 9.5, 2.2)),
            (4, 256, (1026, 644, 338), 128, (32.9, 8.7, 2.1)),
            (8, 360, (634, 445, 230), 180, (27.8, 7.5, 1.8)),
        )
    ]

    def block(row: WidthRow, channels: tuple[int, int]) -> nn.Module:
        groups = int(row.name.split()[0])
        return nn.Conv2d(*channels, 1, groups=groups, bias=False)

    return Claim(
        name="g2",
        source=f"{PAPER}, table 2",
        asserts="At equal MACs, more groups make a 1×1 convolution slower.",
        method=HOW + "A block is one grouped 1×1 convolution. The paper's 180 channels in 8 groups "
        "are no multiple of 8: 184 are used if the scale does not make them one.",
        experiments=_experiments(
            rows, block, slower=True, gpu_scales=(4,), multiple=lambda row: int(row.name[0])
        ),
    )


def g3() -> Claim:
    rows = [
        WidthRow(name, {"GPU": c_gpu, "ARM": c_arm}, {"GPU": gpu, "ARM": arm})
        for name, c_gpu, gpu, c_arm, arm in (
            ("1-fragment", 128, (2446, 1274, 434), 64, (40.2, 10.1, 2.3)),
            ("2-fragment-series", 90, (1790, 909, 336), 45, (38.6, 10.1, 2.2)),
            ("4-fragment-series", 64, (752, 745, 349), 32, (38.4, 10.1, 2.3)),
            ("2-fragment-parallel", 90, (1537, 803, 320), 45, (33.4, 9.1, 2.2)),
            ("4-fragment-parallel", 64, (691, 572, 292), 32, (35.0, 8.4, 2.1)),
        )
    ]

    def block(row: WidthRow, channels: tuple[int, int]) -> nn.Module:
        count, parallel = int(row.name[0]), row.name.endswith("parallel")
        if parallel:
            return Parallel(channels[0], count)
        return nn.Sequential(*(nn.Conv2d(*channels, 1, bias=False) for _ in range(count)))

    return Claim(
        name="g3",
        source=f"{PAPER}, table 3",
        asserts="At equal MACs, a block in several fragments is slower than in one: much on a GPU, "
        "in series hardly on a CPU.",
        method=HOW + "A block is 1 to 4 convolutions 1×1 with c channels in and out, one after the "
        "other, or side by side and added up; n fragments have c/√n channels, for equal MACs.",
        experiments=_experiments(rows, block, slower=True, gpu_scales=(4,)),
    )


def g4() -> Claim:
    kinds = {
        "ReLU and shortcut": ((2427, 2066, 1436), (56.7, 16.9, 5.0)),
        "ReLU only": ((2647, 2256, 1735), (61.9, 18.8, 5.2)),
        "shortcut only": ((2672, 2121, 1458), (57.3, 18.2, 5.1)),
        "neither": ((2842, 2376, 1782), (66.3, 20.2, 5.4)),
    }
    rows = [
        WidthRow(name, {"GPU": 32, "ARM": 32}, {"GPU": gpu, "ARM": arm})
        for name, (gpu, arm) in kinds.items()
    ]

    def block(row: WidthRow, channels: tuple[int, int]) -> nn.Module:
        return Bottleneck(
            channels[0],
            relu=row.name.startswith("ReLU"),
            shortcut="shortcut" in row.name,
        )

    return Claim(
        name="g4",
        source=f"{PAPER}, table 4",
        asserts="Element-wise operations are not free: a bottleneck without ReLU or shortcut is "
        "faster, at the same MACs.",
        method=HOW + "A block is ResNet's bottleneck with c = 32, 64, 128 channels outside and c/4 "
        "inside. The paper does not say which of the two c is; with c inside, its Snapdragon would "
        "have had to do 30 GMAC/s on one thread, but its registers allow 8.",
        experiments=_experiments(rows, block, slower=False),
    )


def _experiments(
    rows: Sequence[WidthRow],
    block: Callable[[WidthRow, tuple[int, int]], nn.Module],
    *,
    slower: bool,
    gpu_scales: Sequence[int] = (),
    multiple: Callable[[WidthRow], int] = lambda row: 1,
) -> tuple[Experiment, ...]:
    """An experiment for each scale of the Snapdragon's channels, and for those of ``gpu_scales`` of
    the GPU's channels that differ. ``slower``: whether the rows are to be slower than the first; a
    ratio is then their time divided by its time, and otherwise the inverse."""

    def channels(device: Device, scale: int) -> list[tuple[int, int]]:
        return [_channels(row.channels[device], scale, multiple(row)) for row in rows]

    def experiment(device: Device, index: int, also: Mapping[Device, int]) -> Experiment:
        place = f"{device} channels x{SCALES[index]}"
        columns = {device: index, **also}
        subjects = [
            Subject(
                name=f"{row.name}, {place}",
                build=_stack(block, row, width),
                size=SIZE,
                channels=width[0],
                fold=False,
                published={f"{one} /s": row.rates[one][i] for one, i in columns.items()},
            )
            for row, width in zip(rows, channels(device, SCALES[index]), strict=True)
        ]
        ratios = []
        for row, subject in zip(rows[1:], subjects[1:], strict=True):
            over, under = (row, subject), (rows[0], subjects[0])
            if not slower:
                over, under = under, over
            ratios.append(
                Ratio(
                    text=f"{over[0].name} / {under[0].name}, {place}",
                    over=over[1].name,
                    under=under[1].name,
                    published={
                        one: under[0].rates[one][i] / over[0].rates[one][i]
                        for one, i in columns.items()
                    },
                    judged_by="ARM" if device == "ARM" else "",
                )
            )
        return Experiment(
            name=place, subjects=tuple(subjects), ratios=tuple(ratios), spare=device == "GPU"
        )

    found = []
    for index, scale in enumerate(SCALES):
        same = [i for i, s in enumerate(SCALES) if channels("GPU", s) == channels("ARM", scale)]
        found.append(experiment("ARM", index, {"GPU": same[0]} if same else {}))
    return (*found, *(experiment("GPU", SCALES.index(scale), {}) for scale in gpu_scales))


def _channels(named: int | tuple[int, int], scale: int, multiple: int) -> tuple[int, int]:
    """Channels in and out at ``scale``, rounded up to a multiple if groups need one."""
    first, second = named if isinstance(named, tuple) else (named, named)
    up = [-(-channels * scale // multiple) * multiple for channels in (first, second)]
    return up[0], up[1]


def _stack(
    block: Callable[[WidthRow, tuple[int, int]], nn.Module],
    row: WidthRow,
    channels: tuple[int, int],
) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*(block(row, channels) for _ in range(STACK)))
