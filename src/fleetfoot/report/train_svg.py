"""Curves of a training run over its epochs, as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from fleetfoot.report.kit.labels import Box
from fleetfoot.report.kit.markup import label, node
from fleetfoot.report.kit.svg import Scale, axes
from fleetfoot.report.summary import digits

DOTS = 60
"""Most epochs whose points are marked one by one."""


@dataclass(frozen=True)
class Series:
    """One curve: its name, its CSS class, and a value for each epoch that has one."""

    name: str
    hue: str
    points: Sequence[tuple[int, float]]


class FineScale(Scale):
    """A linear scale with round values of any size."""

    def ticks(self, most: int = 8) -> list[float]:
        span = self.high - self.low
        steps = (unit * 10.0**power for power in range(-9, 10) for unit in (1, 2, 5))
        step = next(s for s in steps if span / s <= most)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [float(f"{step * i:.6g}") for i in range(first, last + 1)]


def curves(
    series: Sequence[Series], y_title: str, text: str, *, narrow: bool, best: int | None = None
) -> Element:
    """A picture of curves over epochs, counted from 1.

    Args:
        y_title: what the values are, with their unit.
        text: what the picture shows, for those who do not see it.
        best: epoch to mark, from 1.
    """
    width, height = (350, 300) if narrow else (460, 320)
    drawn = [one for one in series if one.points]
    values = [value for one in drawn for _, value in one.points]
    epochs = [epoch for one in drawn for epoch, _ in one.points]
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    least = max(0.0, low - margin) if low >= 0 else low - margin
    first, last = min(epochs), max(epochs)
    side = 0.02 * (last - first) or 0.5
    area = Box(52, 26, width - 14, height - 42)
    x = FineScale(first - side, last + side, area.x0, area.x1, False)
    y = FineScale(least, high + margin, area.y1, area.y0, False)
    parts = axes(_Whole(x.low, x.high, x.start, x.end, False), y, area, "epoch", y_title)
    if best is not None:
        parts.append(node("path", class_="guide", d=f"M{x(best)} {area.y0}V{area.y1}"))
        parts.append(label(x(best), area.y0 - 4, "best", "tick middle"))
    for one in drawn:
        line = "L".join(f"{x(epoch)} {y(value)}" for epoch, value in one.points)
        parts.append(node("path", class_=f"curve {one.hue}", d=f"M{line}"))
        if len(one.points) <= DOTS:
            parts += [
                node(
                    "circle",
                    cx=x(epoch),
                    cy=y(value),
                    r=2.6,
                    class_=f"dot {one.hue}",
                    data_tip=f"epoch {epoch}",
                    data_value=f"{one.name}: {digits(value, 4)}",
                )
                for epoch, value in one.points
            ]
    return node(
        "svg",
        node("title", text),
        *parts,
        viewBox=f"0 0 {width} {height}",
        class_=f"chart {'narrow' if narrow else 'wide'}",
        role="img",
        aria_label=text,
    )


class _Whole(FineScale):
    """A scale of whole numbers."""

    def ticks(self, most: int = 8) -> list[float]:
        return [value for value in super().ticks(most) if value == round(value)]
