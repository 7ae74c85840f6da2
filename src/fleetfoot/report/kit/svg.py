"""The two pictures of the page, as SVG: drawn here so that they work without a script, with classes
and ``data-`` attributes by which the page's script filters them.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from xml.etree.ElementTree import Element

from fleetfoot.measure.record import Measurement, fastest
from fleetfoot.report.joined import Joined
from fleetfoot.report.kit.labels import Box, anchor, place
from fleetfoot.report.kit.markup import label, node
from fleetfoot.report.kit.style import GUIDES, Look, log_ticks, short
from fleetfoot.report.summary import digits, pareto

ADVANCE = 0.56
"""Mean advance of a letter in em, in common sans-serif faces."""
GAP = 4
"""Smallest gap between the figures of two ticks, in pixels."""
_GLYPHS = {
    "circle": "M4.4 0A4.4 4.4 0 1 1-4.4 0A4.4 4.4 0 1 1 4.4 0Z",
    "triangle": "M0-5.2L4.9 3.4L-4.9 3.4Z",
    "square": "M-4-4H4V4H-4Z",
    "diamond": "M0-5.6L5.6 0L0 5.6L-5.6 0Z",
    "cross": "M-5-2H-2V-5H2V-2H5V2H2V5H-2V2H-5Z",
    "wedge": "M0 5.2L-4.9-3.4L4.9-3.4Z",
    "hexagon": "M0-5L4.4-2.5V2.5L0 5L-4.4 2.5V-2.5Z",
    "saltire": "M-5-3.2L-3.2-5L0-1.8L3.2-5L5-3.2L1.8 0L5 3.2L3.2 5L0 1.8L-3.2 5L-5 3.2L-1.8 0Z",
}


@dataclass(frozen=True)
class Scale:
    """Maps values to pixels along one axis."""

    low: float
    high: float
    start: float
    end: float
    log: bool

    @classmethod
    def around(cls, values: Sequence[float], start: float, end: float, *, log: bool) -> Scale:
        """A scale wide enough for ``values`` and a margin at both ends."""
        low, high = min(values), max(values)
        if log:
            margin = (high / low) ** 0.09 * 1.12
            return cls(low / margin, high * margin, start, end, log)
        margin = 0.09 * (high - low) + 0.4
        return cls(low - margin, high + margin, start, end, log)

    def __call__(self, value: float) -> float:
        along = (value - self.low) / (self.high - self.low)
        if self.log:
            along = math.log(value / self.low) / math.log(self.high / self.low)
        return round(self.start + along * (self.end - self.start), 2)

    def ticks(self, most: int = 8) -> list[float]:
        """Round values within the axis: at most ``most`` on a linear axis, and half as many again
        on a logarithmic one."""
        if self.log:
            return log_ticks(self.low, self.high, most + most // 2)
        steps = (0.5, *(unit * 10**power for power in range(9) for unit in (1, 2, 5)))
        step = next(s for s in steps if (self.high - self.low) / s <= most)
        return [step * i for i in range(math.ceil(self.low / step), int(self.high / step) + 1)]

    def clear_ticks(self, extent: Callable[[str], float]) -> list[float]:
        """Gives as many round values as there is room for. ``extent`` gives the length of a
        figure's text along the axis, in pixels."""
        for most in range(8, 1, -1):
            values = self.ticks(most)
            ends = [(self(value), extent(f"{value:g}") / 2) for value in values]
            if all(abs(b - a) >= p + q + GAP for (a, p), (b, q) in pairwise(ends)):
                break
        return values


def axes(x: Scale, y: Scale, area: Box, x_title: str, y_title: str) -> list[Element]:
    """The frame of a picture: lines at round values, their figures left and below, and titles."""
    parts = []
    for value in x.clear_ticks(lambda text: ADVANCE * 11 * len(text)):
        parts.append(node("path", class_="grid", d=f"M{x(value)} {area.y0}V{area.y1}"))
        parts.append(label(x(value), area.y1 + 16, f"{value:g}", "tick middle"))
    for value in y.clear_ticks(lambda _: 11):
        parts.append(node("path", class_="grid", d=f"M{area.x0} {y(value)}H{area.x1}"))
        parts.append(label(area.x0 - 7, y(value) + 4, f"{value:g}", "tick end"))
    parts.append(node("path", class_="axis", d=f"M{area.x0} {area.y0}V{area.y1}H{area.x1}"))
    parts.append(label((area.x0 + area.x1) / 2, area.y1 + 36, x_title, "title middle"))
    parts.append(label(6, 12, y_title, "title"))
    return parts


def latency_against_macs(
    rows: Sequence[Joined], ids: Sequence[str], look: Look, *, narrow: bool
) -> Element:
    """Time against work, both logarithmic. A network on a guide runs at that share of the measured
    peak; if FLOPs were the whole story, all networks would lie on one guide."""
    chart = _Chart(
        rows,
        ids,
        look,
        narrow,
        "MACs, millions",
        "latency, ms",
        lambda m: m.macs / 1e6,
        _ms,
        log_y=True,
    )
    peaks = [m.peak_gflops for m in rows if m.peak_gflops > 0]
    if peaks:
        # 2e6 operations in a million MACs, 1e6 operations a millisecond in a GFLOP/s
        slope = 2 * rows[0].batch / statistics.median(peaks)
        for share in GUIDES:
            chart.guide(slope / share, f"{100 * share:.0f} %")
        chart.caption("lines: share of the measured peak")
    chart.points()
    return chart.svg("Latency against multiply-accumulates, one point a network and engine")


def top1_against_latency(
    rows: Sequence[Joined], ids: Sequence[str], look: Look, *, narrow: bool
) -> Element:
    """Accuracy against time, with the front: no other network is both faster and more accurate."""
    known = [(m, i) for m, i in zip(rows, ids, strict=True) if m.top1 is not None]
    rows, ids = [m for m, _ in known], [i for _, i in known]
    chart = _Chart(
        rows, ids, look, narrow, "latency, ms", "published top-1, %", _ms, lambda m: m.top1 or 0.0
    )
    front = [(chart.x(_ms(m)), chart.y(m.top1 or 0.0)) for m in pareto(rows)]
    steps = "".join(f"H{x}V{y}" for x, y in front[1:])
    chart.add(node("path", class_="front", d=f"M{front[0][0]} {front[0][1]}{steps}"))
    chart.caption("line: the front, where no other is faster and as accurate")
    chart.points()
    return chart.svg("Published top-1 against latency, one point a network and engine")


def histogram(m: Measurement, *, width: int = 76, height: int = 18) -> Element:
    """The samples of one cell from the least to p99; larger ones are counted in the last bar."""
    bins = 19
    low, high = min(m.samples_s), max(m.p99_s, min(m.samples_s) * 1.0001)
    counts = [0] * bins
    for sample in m.samples_s:
        counts[min(bins - 1, int((sample - low) / (high - low) * bins))] += 1
    step = width / bins
    bars = "".join(
        f"M{i * step:.1f} {height}h{step - 1:.1f}v-{max(1.0, (height - 1) * c / max(counts)):.1f}"
        f"h-{step - 1:.1f}z"
        for i, c in enumerate(counts)
        if c
    )
    at = min(1.0, (m.median_s - low) / (high - low)) * (width - 1)
    text = (
        f"{len(m.samples_s)} samples, {digits(low * 1e3)} to {digits(max(m.samples_s) * 1e3)} ms, "
        f"p99 {digits(m.p99_s * 1e3)} ms"
    )
    return node(
        "svg",
        node("title", text),
        node("path", class_="bars", d=bars),
        node("path", class_="median", d=f"M{at:.1f} 0v{height}"),
        class_="samples",
        viewBox=f"0 0 {width} {height}",
        width=width,
        height=height,
        role="img",
        aria_label=text,
    )


def bar(share: float) -> Element:
    """A share between 0 and 1, as a thin line on its rail."""
    return node(
        "svg",
        node("path", d="M0 0h40v3h-40z", class_="rail"),
        node("path", d=f"M0 0h{40 * share:.1f}v3h-{40 * share:.1f}z"),
        viewBox="0 0 40 3",
        width=40,
        height=3,
        class_="bar",
        aria_hidden="true",
    )


def swatch(shape: str) -> Element:
    """An engine's mark, for the legend."""
    glyph = node("path", d=_GLYPHS[shape])
    return node("svg", glyph, viewBox="-7 -7 14 14", width=14, height=14, aria_hidden="true")


def _ms(m: Measurement) -> float:
    return m.median_s * 1e3


class _Chart:
    """Axes, marks and names of one picture."""

    def __init__(
        self,
        rows: Sequence[Joined],
        ids: Sequence[str],
        look: Look,
        narrow: bool,
        x_title: str,
        y_title: str,
        x_of: Callable[[Joined], float],
        y_of: Callable[[Joined], float],
        *,
        log_y: bool = False,
    ) -> None:
        self.rows, self.ids, self.look, self.narrow = rows, ids, look, narrow
        self.x_of, self.y_of = x_of, y_of
        self.width, self.height = (350, 380) if narrow else (580, 430)
        self.area = Box(44, 26, self.width - 40, self.height - 42)
        self.x = Scale.around([x_of(m) for m in rows], self.area.x0, self.area.x1, log=True)
        self.y = Scale.around([y_of(m) for m in rows], self.area.y1, self.area.y0, log=log_y)
        self.parts = axes(self.x, self.y, self.area, x_title, y_title)

    def add(self, part: Element) -> None:
        self.parts.append(part)

    def caption(self, text: str) -> None:
        if not self.narrow:
            self.add(label(self.width - 6, 12, text, "tick end"))

    def guide(self, slope: float, text: str) -> None:
        """The line y = slope · x across the picture, with its name outside at the upper end."""
        left = max(self.x.low, self.y.low / slope)
        right = min(self.x.high, self.y.high / slope)
        if left >= right:
            return
        x0, y0, x1, y1 = self.x(left), self.y(slope * left), self.x(right), self.y(slope * right)
        self.add(node("path", class_="guide", d=f"M{x0} {y0}L{x1} {y1}"))
        if right < self.x.high:
            self.add(label(x1, self.area.y0 - 4, text, "tick middle"))
        else:
            self.add(label(self.area.x1 + 3, y1 + 4, text, "tick"))

    def points(self) -> None:
        """A mark for each cell, hollow unless it is its network's fastest, and the names."""
        best = fastest(self.rows)
        chosen = {id(m) for m in best}
        marks = sorted(
            zip(self.rows, self.ids, strict=True), key=lambda pair: id(pair[0]) in chosen
        )
        for m, row in marks:  # the fastest last, so that they are on top
            x, y = self._spot(m)
            self.add(
                node(
                    "path",
                    class_=f"point {self.look.hue(m.model)}{' best' if id(m) in chosen else ''}",
                    d=_GLYPHS[self.look.shapes[m.engine]],
                    transform=f"translate({x} {y})",
                    data_row=row,
                )
            )
        self._names(best, [m for m in self.rows if id(m) not in chosen])

    def _names(self, best: Sequence[Joined], rest: Sequence[Joined]) -> None:
        row_of = {id(m): row for m, row in zip(self.rows, self.ids, strict=True)}
        spots = [self._spot(m) for m in best]
        size = 10 if self.narrow else 11
        sizes = [(ADVANCE * size * len(short(m.model)) + 2, size + 1.0) for m in best]
        front = {id(m) for m in pareto(self.rows)}
        must = [i for i, m in enumerate(best) if id(m) in front]
        points = [*spots, *map(self._spot, rest)]
        boxes = place(points, sizes, self.area, radius=7, must=must)
        for m, spot, box in zip(best, spots, boxes, strict=False):
            if box is None:
                continue
            name = label((box.x0 + box.x1) / 2, box.y1 - 2.5, short(m.model), "middle")
            group = node("g", name, class_="name", data_row=row_of[id(m)])
            end = anchor(spot, box)
            if math.dist(spot, end) > 10:
                line = f"M{spot[0]} {spot[1]}L{end[0]:.1f} {end[1]:.1f}"
                group.insert(0, node("path", class_="leader", d=line))
            self.add(group)

    def _spot(self, m: Joined) -> tuple[float, float]:
        return self.x(self.x_of(m)), self.y(self.y_of(m))

    def svg(self, title: str) -> Element:
        return node(
            "svg",
            *self.parts,
            class_="chart narrow" if self.narrow else "chart wide",
            viewBox=f"0 0 {self.width} {self.height}",
            role="img",
            aria_label=title,
        )
