"""The pictures of an evaluation's page, as SVG: which classes are confused, and whether the
probabilities can be believed."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from fleetfoot.evaluate.record import EvaluationRecord
from fleetfoot.evaluate.tally import Tally
from fleetfoot.report.evaluations import confusions
from fleetfoot.report.kit.markup import label, node
from fleetfoot.report.kit.svg import ADVANCE

MOST_WIDE, MOST_NARROW = 24, 12
"""Classes that a matrix shows by name at most."""
LETTERS = 18
"""Letters of a class's name beside the matrix."""
SHADES = (0.01, 0.05, 0.15, 0.4)
"""Shares of a class's pictures at which a box becomes darker; most confusions are rare."""
SLANT = math.radians(50)
"""Angle of the names above the matrix."""


def _extent(name: str, size: int) -> float:
    """Length of a name in pixels; names of classes have wide letters and hyphens."""
    return 1.1 * ADVANCE * size * len(name)


def short(name: str, most: int = LETTERS) -> str:
    """A name that is cut after so many letters.

    >>> short("great white shark, white shark")
    'great white shark…'
    """
    return name if len(name) <= most else f"{name[: most - 1].rstrip(' ,')}…"


def shown_classes(counts: Tally, most: int) -> list[int]:
    """The classes of a matrix: all that occur, if they are few; otherwise those of the pairs that
    are confused most often."""
    present = [one.number for one in counts.per_class if one.images or one.guessed]
    if len(present) <= most:
        return present
    chosen: dict[int, None] = {}
    for truth, guess, _ in confusions(counts):
        if len(chosen | {truth: None, guess: None}) > most:
            break
        chosen |= {truth: None, guess: None}
    return sorted(chosen) or present[:most]


TRUTH = "true class"
"""Title of the rows."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One box of a matrix."""

    share: float
    """Share of its row."""
    text: str
    """What stands in it if there is room; "" leaves it empty and pale."""
    said: str
    """What it says under the pointer."""


def matrix(record: EvaluationRecord, *, narrow: bool) -> Element:
    """Number of pictures by true class and best guess. The shade is the share of the true class's
    pictures; right answers lie on the diagonal."""
    counts = record.counts
    chosen = shown_classes(counts, MOST_NARROW if narrow else MOST_WIDE)
    images = {one.number: one.images for one in counts.per_class}

    def cell(truth: int, guess: int) -> Cell:
        count = counts.pairs[truth, guess]
        name = record.classes[truth]
        said = (
            f"{name} taken for {record.classes[guess]}: {count} of {images[truth]}"
            if truth != guess
            else f"{name}: {count} of {images[truth]} right"
        )
        share = count / images[truth] if images[truth] else 0
        return Cell(share=share, text=str(count or ""), said=said)

    return draw_matrix(
        [record.classes[number] for number in chosen],
        [[cell(truth, guess) for guess in chosen] for truth in chosen],
        titles=(TRUTH, "best guess"),
        says="Number of pictures by true class and best guess",
        narrow=narrow,
    )


def draw_matrix(
    classes: Sequence[str],
    cells: Sequence[Sequence[Cell]],
    *,
    titles: tuple[str, str],
    says: str,
    narrow: bool,
) -> Element:
    """A square of boxes, with the same names for rows and columns.

    Args:
        cells: row by row.
        titles: what the rows are, and what the columns are.
        says: what the picture shows, for those who cannot see it.
    """
    names = [short(name) for name in classes]
    size = 10 if narrow else 11
    width = 350 if narrow else 620
    longest = max((_extent(name, size) for name in names), default=0)
    left = max(longest, _extent(titles[0], size)) + 12
    slanted = [_extent(name, size) * math.cos(SLANT) for name in names]
    over = max((one - 12 * n for n, one in enumerate(reversed(slanted))), default=0)
    side = min(72.0, (width - left - over - 4) / max(1, len(names)))
    top = 20 + longest * math.sin(SLANT) + 14
    parts = [label(0, top - 8, titles[0], "title"), label(left, 11, titles[1], "title")]
    for row, name in enumerate(names):
        y = top + row * side
        parts.append(label(left - 7, y + side / 2 + 4, name, "tick end"))
        at = (round(left + row * side + side / 2 + 2, 1), round(top - 6, 1))
        text = label(0, 0, name, "tick")
        text.set("transform", f"translate({at[0]} {at[1]}) rotate({-math.degrees(SLANT):g})")
        parts.append(text)
        for column, cell in enumerate(cells[row]):
            kind = "hit" if row == column else "miss"
            shade = (bisect_left(SHADES, cell.share) + 1) * bool(cell.text)
            x = left + column * side
            box = node(
                "rect",
                x=round(x, 1),
                y=round(y, 1),
                width=round(side - 1, 1),
                height=round(side - 1, 1),
                class_=f"{kind} s{shade}",
            )
            if cell.text:
                box.append(node("title", cell.said))
            parts.append(box)
            if cell.text and side >= ADVANCE * size * len(cell.text) + 3:
                place = (x + side / 2, y + side / 2 + 4)
                parts.append(label(*place, cell.text, f"count middle s{shade}"))
    return node(
        "svg",
        *parts,
        class_="chart narrow" if narrow else "chart wide",
        viewBox=f"0 0 {width} {math.ceil(top + side * len(names) + 4)}",
        role="img",
        aria_label=says,
    )


def reliability(counts: Tally, *, narrow: bool) -> Element:
    """Accuracy by the probability of the best guess, beside the diagonal on which they are equal;
    below, the number of pictures."""
    width, height, foot = (350, 330, 56) if narrow else (460, 400, 64)
    left, right, top = 44, width - 12, 26
    bottom = height - 42 - foot
    across, up = right - left, bottom - top
    parts = []
    for tick in range(0, 101, 20):
        x, y = left + across * tick / 100, bottom - up * tick / 100
        parts.append(node("path", class_="grid", d=f"M{left} {y:.1f}H{right}"))
        parts.append(label(left - 7, y + 4, str(tick), "tick end"))
        parts.append(label(x, height - 26, str(tick), "tick middle"))
    most = max((one.images for one in counts.reliability), default=1) or 1
    base = height - 42
    for one in counts.reliability:
        if not one.images:
            continue
        x, wide = left + across * one.low, across * (one.high - one.low) - 1.5
        tall = up * one.accuracy
        said = (
            f"probability {100 * one.low:.0f} to {100 * one.high:.0f} %, "
            f"{100 * one.confidence:.1f} % in the mean: {one.right} of {one.images} right, "
            f"{100 * one.accuracy:.1f} %"
        )
        parts.append(
            node(
                "rect",
                node("title", said),
                class_="bar-right",
                x=round(x + 0.7, 1),
                y=round(bottom - tall, 1),
                width=round(wide, 1),
                height=round(max(tall, 0.5), 1),
            )
        )
        mean = bottom - up * one.confidence
        parts.append(node("path", class_="mean", d=f"M{x + 0.7:.1f} {mean:.1f}h{wide:.1f}"))
        share = (foot - 16) * one.images / most
        parts.append(
            node(
                "rect",
                node("title", f"{one.images} pictures"),
                class_="bar-count",
                x=round(x + 0.7, 1),
                y=round(base - share, 1),
                width=round(wide, 1),
                height=round(share, 1),
            )
        )
    parts += [
        node("path", class_="guide", d=f"M{left} {bottom}L{right} {top}"),
        node("path", class_="axis", d=f"M{left} {top}V{bottom}H{right}"),
        node("path", class_="axis", d=f"M{left} {base}H{right}"),
        label(6, 12, "right, %", "title"),
        label(left, base - foot + 14, "pictures", "tick"),
        label((left + right) / 2, height - 6, "probability of the best guess, %", "title middle"),
    ]
    return node(
        "svg",
        *parts,
        class_="chart narrow" if narrow else "chart wide",
        viewBox=f"0 0 {width} {height}",
        role="img",
        aria_label="Accuracy by the probability of the best guess",
    )


def whisker(low: float, high: float, value: float, of: Sequence[float]) -> Element:
    """A value with its interval, on the axis from ``of[0]`` to ``of[1]``."""
    width, height = 120, 14
    span = (of[1] - of[0]) or 1.0
    at = [round((one - of[0]) / span * (width - 8) + 4, 1) for one in (low, value, high)]
    return node(
        "svg",
        node("path", class_="rail", d=f"M0 {height / 2}H{width}"),
        node("path", class_="range", d=f"M{at[0]} {height / 2}H{at[2]}"),
        node("circle", cx=at[1], cy=height / 2, r=3.5),
        class_="whisker",
        viewBox=f"0 0 {width} {height}",
        width=width,
        height=height,
        aria_hidden="true",
    )
