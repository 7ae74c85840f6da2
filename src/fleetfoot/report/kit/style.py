"""How the pictures look, on paper and on the page: a colour a family, a shape an engine."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from fleetfoot.measure.record import Measurement
from fleetfoot.report.summary import family


@dataclass(frozen=True)
class Colour:
    """One hue, dark enough for a light page and light enough for a dark one (3:1 or more)."""

    light: str
    dark: str


_FAMILIES = {
    "FasterNet": Colour("#c2410c", "#fb8c4a"),
    "FastViT": Colour("#1d64b4", "#6aaefc"),
    "MobileOne": Colour("#15803d", "#56c97d"),
    "MobileNet": Colour("#7c3aad", "#c593f7"),
    "ShuffleNet": Colour("#946200", "#e0b94a"),
}
_OTHERS = (
    Colour("#59616c", "#a3abb6"),
    Colour("#0f766e", "#3fc9b8"),
    Colour("#b4236b", "#f47bb4"),
    Colour("#3f4652", "#ccd2da"),
)
SHAPES = (
    "circle",
    "triangle",
    "square",
    "diamond",
    "cross",
    "wedge",
    "hexagon",
    "saltire",
)
"""As many as there are engines that may stand in one record."""


GUIDES = (1.0, 0.3, 0.1)
"""Shares of the measured peak for which the line of equal rate is drawn."""


def log_ticks(low: float, high: float) -> list[float]:
    """Round values from ``low`` to ``high`` on a logarithmic axis: 1, 2, 5 times powers of ten,
    and those between where these are fewer than three."""
    powers = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
    found: list[float] = []
    for steps in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
        found = [step * 10.0**power for power in powers for step in steps]
        found = [value for value in found if low <= value <= high]
        if len(found) >= 3:
            break
    return found


@dataclass(frozen=True)
class Look:
    """The colours and shapes of one record, the same in each of its pictures."""

    colours: dict[str, Colour]
    """By family: the zoo's own first, and theirs the same in every record."""
    shapes: dict[str, str]
    """By engine, in alphabetical order."""

    @classmethod
    def of(cls, measurements: Iterable[Measurement]) -> Look:
        measurements = list(measurements)
        present = {family(m.model) for m in measurements}
        own = {name: colour for name, colour in _FAMILIES.items() if name in present}
        others = sorted(present - own.keys())
        engines = sorted({m.engine for m in measurements})
        return cls(
            own | {name: _OTHERS[i % len(_OTHERS)] for i, name in enumerate(others)},
            {name: SHAPES[i % len(SHAPES)] for i, name in enumerate(engines)},
        )

    def hue(self, model: str) -> str:
        """The class of a network's family on the page."""
        return f"f{list(self.colours).index(family(model))}"


def short(model: str) -> str:
    """A network's name without the library that it comes from."""
    return model.split(":")[-1]
