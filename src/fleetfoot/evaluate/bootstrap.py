"""How far figures would be off on other pictures of the same kind: the bootstrap over pictures.

Average precision and mean intersection over union are no means over pictures, so no formula gives
their interval. Efron 1979, "Bootstrap methods: another look at the jackknife": pictures are drawn
with replacement, as many as there are, and the figures of each such set are computed anew; the
middle 95 % of them are the interval, after their mean is moved to the figure itself. Two networks
are compared on the same draws, which keeps what is hard for both out of the difference.

P pictures · R sets of pictures
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWS = 500
"""Sets of pictures that are drawn. The ends of an interval vary by about a tenth of its width."""
SEED = 0
LEVEL = 0.05
METHOD = (
    f"bootstrap over pictures, {DRAWS} draws; between networks on the same draws; a difference is "
    "one when the 95 % interval leaves out 0"
)

AT_ONCE = 2**22
"""Weights that are held at a time."""

Weights = NDArray[np.int64]
Numbers = NDArray[np.float64]
Figures = Callable[[Weights], Mapping[str, Numbers]]
"""Figures of R sets by name, (R,), if each picture counts as often as its weight in the set says,
(R, P); NaN for a figure that there is none of."""


def once(pictures: int) -> Weights:
    """The weights of the set that holds each picture once, (1, P)."""
    return np.ones((1, pictures), np.int64)


def drawn(pictures: int) -> Iterator[Weights]:
    """How often each picture is in each set that is drawn, some sets at a time, (R, P)."""
    rng = np.random.default_rng(SEED)
    shares = np.full(pictures, 1 / pictures)
    left = DRAWS
    while left:
        count = min(left, max(1, AT_ONCE // pictures))
        yield rng.multinomial(pictures, shares, size=count)
        left -= count


def intervals(
    figures: Figures, pictures: int, ceilings: Mapping[str, float] | None = None
) -> dict[str, tuple[float, float]]:
    """The 95 % interval of each figure: low, high. Without two pictures there is none, and neither
    for a figure that is missing in some draw.

    Args:
        ceilings: the highest possible value of a figure, by its name. Default: there is none. No
            figure is below 0.
    """
    if pictures < 2:
        return {}
    whole = {name: float(value[0]) for name, value in figures(once(pictures)).items()}
    made = {}
    for name, column in _table(figures, pictures, list(whole)).items():
        if np.isnan([*column, whole[name]]).any():
            continue
        low, high = _interval(column, whole[name])
        made[name] = max(0.0, low), min((ceilings or {}).get(name, np.inf), high)
    return made


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One figure of two networks on the same pictures: the later one's minus the earlier one's."""

    value: float
    ci95: tuple[float, float] | None
    """None if no interval can be given: there are fewer than two pictures, or some draw has no such
    figure."""

    @property
    def is_beyond_noise(self) -> bool:
        return self.ci95 is not None and not self.ci95[0] <= 0 <= self.ci95[1]


def differences(before: Figures, after: Figures, pictures: int) -> dict[str, Difference]:
    """The difference of each figure that both have."""
    every = once(pictures)
    one, other = (
        {name: float(value[0]) for name, value in figures(every).items()}
        for figures in (before, after)
    )
    names = [
        name for name in one if name in other and not (np.isnan(one[name]) or np.isnan(other[name]))
    ]
    if pictures >= 2:
        first, second = (_table(figures, pictures, names) for figures in (before, after))
    made = {}
    for name in names:
        value = other[name] - one[name]
        ends = None
        if pictures >= 2:
            column = second[name] - first[name]
            ends = None if np.isnan(column).any() else _interval(column, value)
        made[name] = Difference(value=value, ci95=ends)
    return made


def _table(figures: Figures, pictures: int, names: list[str]) -> dict[str, Numbers]:
    """The figures of every draw, by name."""
    parts = [figures(weights) for weights in drawn(pictures)]
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def _interval(column: Numbers, value: float) -> tuple[float, float]:
    """The middle 95 % of the draws, moved so that their mean is the value itself: sets in which
    pictures repeat have a higher average precision, by points if classes have few objects."""
    low, high = (np.quantile(column, (LEVEL / 2, 1 - LEVEL / 2)) + value - column.mean()).tolist()
    return min(low, value), max(high, value)
