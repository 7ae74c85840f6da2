"""The look of pictures, on paper and on the page: a colour for each family and a shape for each
engine, the same in every record."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fleetfoot.measure.record import Measurement
from fleetfoot.report.summary import family


@dataclass(frozen=True)
class Colour:
    """A hue, dark enough for a light page and light enough for a dark one (3:1 or more)."""

    light: str
    dark: str


_FAMILIES = {
    "FasterNet": Colour("#c2410c", "#fb8c4a"),
    "FastViT": Colour("#1d64b4", "#6aaefc"),
    "MobileOne": Colour("#15803d", "#56c97d"),
    "MobileNet": Colour("#7c3aad", "#c593f7"),
    "ShuffleNet": Colour("#946200", "#e0b94a"),
    "GhostNet": Colour("#59616c", "#a3abb6"),
    "MobileViT": Colour("#0f766e", "#3fc9b8"),
    "PoolFormer": Colour("#3f4652", "#ccd2da"),
    "ResNet": Colour("#b4236b", "#f47bb4"),
}
"""Colours of the zoo's families and of the peers that most records have."""
_OTHERS = (
    Colour("#7a4a1e", "#c9986b"),
    Colour("#2f7fa3", "#8fd0ee"),
    Colour("#5b7310", "#aac24b"),
    Colour("#a3360f", "#f2937a"),
    Colour("#4b4fb8", "#9da2f5"),
    Colour("#8a2be2", "#d4a5ff"),
)
_ENGINES = {
    "native": "circle",
    "onnxruntime": "triangle",
    "openvino": "square",
    "ncnn": "diamond",
    "executorch": "cross",
    "eager": "wedge",
    "compiled": "hexagon",
}
_OTHER_ENGINE = "saltire"
SHAPES = (*_ENGINES.values(), _OTHER_ENGINE)


def colour(family: str) -> Colour:
    """The colour of a family; it depends on the name alone, so it is the same in every record."""
    return _FAMILIES.get(family) or _OTHERS[zlib.crc32(family.encode()) % len(_OTHERS)]


def shape(engine: str) -> str:
    """The shape of an engine's mark; it depends on the name alone, as a family's colour does."""
    return _ENGINES.get(engine, _OTHER_ENGINE)


GUIDES = (1.0, 0.3, 0.1)
"""Shares of the measured peak for which the line of equal rate is drawn."""


def log_ticks(low: float, high: float, most: int | None = None) -> list[float]:
    """Round values from ``low`` to ``high`` on a logarithmic axis: 1, 2, 5 times powers of ten;
    more values if these are fewer than three, and fewer if they are more than ``most``."""
    powers = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)

    def within(steps: Sequence[float]) -> list[float]:
        values = [step * 10.0**power for power in powers for step in steps]
        return [value for value in values if low <= value <= high]

    found = within((1, 2, 5))
    if len(found) < 3:
        found = within((1, 1.5, 2, 3, 4, 5, 6, 8))
    if most and len(found) > most:
        found = next(
            (few for few in (within((1, 3)), within((1,))) if 2 <= len(few) <= most), found
        )
    return found[:: max(1, -(-len(found) // most))] if most else found


@dataclass(frozen=True)
class Look:
    """The colours and shapes of one record, the same in each of its pictures."""

    colours: dict[str, Colour]
    """Colours by family, the zoo's own first."""
    shapes: dict[str, str]
    """Shapes by engine, in alphabetical order."""

    @classmethod
    def of(cls, measurements: Iterable[Measurement]) -> Look:
        measurements = list(measurements)
        present = {family(m.model) for m in measurements}
        known = [name for name in _FAMILIES if name in present]
        names = [*known, *sorted(present.difference(known))]
        engines = sorted({m.engine for m in measurements})
        return cls({name: colour(name) for name in names}, {name: shape(name) for name in engines})

    def hue(self, model: str) -> str:
        """CSS class of a network's family on the page."""
        return f"f{list(self.colours).index(family(model))}"


def short(model: str) -> str:
    """A network's name without its library."""
    return model.split(":")[-1]
