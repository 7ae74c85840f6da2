"""Pictures of an explanation, as SVG that works without a script: the layers under the roofs of the
machine, and the time by nested modules.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from xml.etree.ElementTree import Element

from fleetfoot.machine.machine import Level, Machine
from fleetfoot.machine.roofline import Layer
from fleetfoot.report.counts import scaled
from fleetfoot.report.kit.labels import Box
from fleetfoot.report.kit.markup import label, node
from fleetfoot.report.kit.svg import Scale, axes
from fleetfoot.report.layers import KINDS, Branch, intensity, joined, kind, rate, step
from fleetfoot.report.summary import digits


def roofline(
    layers: Sequence[Layer], machine: Machine, precision: str, *, narrow: bool
) -> Element | None:
    """A dot for each layer at its intensity and achieved rate, its area its share of the time; a
    slanted roof for each memory level, and the flat roofs of the arithmetic. None if no layer
    computes.

    A dot links to ``#l`` and the number of its layer.
    """
    drawn = [(i, layer) for i, layer in enumerate(layers) if intensity(layer) and rate(layer)]
    if not drawn:
        return None
    spots = [(intensity(layer), rate(layer) / 1e9) for _, layer in drawn]
    picture = _Roofs(spots, machine, precision, narrow=narrow)
    total_s = sum(layer.time_s for layer in layers)
    largest_first = sorted(drawn, key=lambda pair: -pair[1].time_s)
    dots: list[Element] = []
    for index, layer in largest_first:  # so that the small dots are on top
        share = layer.time_s / total_s
        circle = node(
            "circle",
            class_=f"k{list(KINDS).index(kind(layer))}",
            cx=picture.x(intensity(layer)),
            cy=picture.y(rate(layer) / 1e9),
            r=round(max(2.5, (30 if narrow else 42) * math.sqrt(share)), 1),
        )
        said = (
            f"{layer.module or 'the network itself'}, {kind(layer)}: {ms(layer.time_s)} ms, "
            f"{percent(share)} of the time, {digits(rate(layer) / 1e9)} GFLOP/s at "
            f"{digits(intensity(layer))} FLOP/byte"
        )
        dots.append(
            node(
                "a",
                circle,
                href=f"#l{index}",
                class_="mark",
                data_row=f"l{index}",
                data_kind=kind(layer),
                aria_label=said,
                tabindex=-1 if dots else 0,
            )
        )
    return node(
        "svg",
        *picture.parts,
        node("g", *dots, class_="dots"),
        class_="chart narrow" if narrow else "chart wide",
        viewBox=f"0 0 {picture.width} {picture.height}",
        role="group",
        aria_label="Achieved rate against arithmetic intensity, one dot for each layer, under the "
        "roofs of the machine; arrow keys go from dot to dot",
    )


def fastest(level: Level) -> float:
    """Bytes a second that floors count with: the larger of reading and copying."""
    return max(level.read_bytes_per_s.value, level.copy_bytes_per_s.value)


class _Roofs:
    """Axes and roofs, wide enough for the given spots, (FLOP/byte, GFLOP/s)."""

    def __init__(
        self,
        spots: Sequence[tuple[float, float]],
        machine: Machine,
        precision: str,
        *,
        narrow: bool,
    ) -> None:
        self.width, self.height = (350, 400) if narrow else (680, 460)
        area = self.area = Box(44, 26, self.width - 14, self.height - 42)
        compute = machine.compute[precision]
        self.peak = compute.peak_flops_per_s / 1e9
        self.levels = [(level.name, fastest(level) / 1e9) for level in machine.levels]
        ridges = [self.peak / bandwidth for _, bandwidth in self.levels]
        xs, ys = [x for x, _ in spots], [y for _, y in spots]
        self.x = Scale(
            min([*xs, *ridges]) / 1.8, max([*xs, *ridges]) * 1.8, area.x0, area.x1, log=True
        )
        self.y = Scale(min(ys) / 2, max([*ys, self.peak]) * 1.9, area.y1, area.y0, log=True)
        self.parts = axes(self.x, self.y, area, "FLOP / byte", "GFLOP/s")
        self._levels()
        flat = [("multiply-adds in registers", compute.registers_flops_per_s),
                ("matrix product", compute.matmul_flops_per_s)]  # fmt: skip
        roofs = sorted(((r.value / 1e9, name) for name, r in flat if r), reverse=True)
        for place, (value, name) in enumerate(roofs):
            self._flat(value, name, above=place == 0)

    def _flat(self, value: float, name: str, *, above: bool) -> None:
        left = self.x(value / max(bandwidth for _, bandwidth in self.levels))
        y = self.y(value)
        kind = "roof" if above else "roof lower"
        self.parts.append(node("path", class_=kind, d=f"M{left} {y}H{self.area.x1}"))
        text = f"{name} {digits(value)} GFLOP/s"
        self.parts.append(label(left + 6, y - 5 if above else y + 13, text, "roof-name"))

    def _levels(self) -> None:
        """Slanted roofs, each with its name along it; if two are too close for both names, the
        second name is placed further along."""
        per_x = (self.area.x1 - self.area.x0) / math.log(self.x.high / self.x.low)
        per_y = (self.area.y1 - self.area.y0) / math.log(self.y.high / self.y.low)
        angle = math.atan2(per_y, per_x)
        before: tuple[float, float] | None = None  # bandwidth and end along the roof of a name
        for name, bandwidth in sorted(self.levels, key=lambda level: -level[1]):
            left = max(self.x.low, self.y.low / bandwidth)
            right = self.peak / bandwidth
            x0, y0 = self.x(left), self.y(left * bandwidth)
            self.parts.append(
                node("path", class_="roof", d=f"M{x0} {y0}L{self.x(right)} {self.y(self.peak)}")
            )
            text = f"{name} {scaled(bandwidth * 1e9, 'B/s')}"
            along = 8.0
            if before and math.log(before[0] / bandwidth) * per_y * math.cos(angle) < 13:
                along = before[1] + 8
            before = (bandwidth, along + 6 * len(text))
            spot = label(0, 0, text, "roof-name")
            spot.attrib |= {
                "transform": f"translate({x0:.1f} {y0:.1f}) rotate({-math.degrees(angle):.1f}) "
                f"translate({along:.1f} -4)"
            }
            self.parts.append(spot)


ROW = 26
"""Height of one level of modules, in pixels."""


def icicle(root: Branch, ids: Mapping[int, str]) -> Element:
    """The time from left to right in the order of the layers, the modules from the network down to
    its layers; the colour shows how far above its floor each one is.

    Args:
        ids: id of each branch's row in the table, by the branch's ``id()``.
    """
    cells: list[Element] = []
    depths = _cells(root, 0.0, root.time_s, 0, ids, cells)
    return node(
        "svg",
        *cells,
        class_="icicle",
        height=ROW * depths,
        role="group",
        aria_label="Time by module; Enter zooms into one, arrow keys go from one to the next",
    )


def _cells(
    branch: Branch,
    start: float,
    total_s: float,
    depth: int,
    ids: Mapping[int, str],
    cells: list[Element],
) -> int:
    """Appends the cells of ``branch`` and returns its number of levels. A module whose time is that
    of a single module within it shares its cell."""
    share = branch.time_s / total_s if total_s else 0.0
    if not share:
        return depth
    name = branch.name
    while depth and len(timed := [child for child in branch.children if child.time_s]) == 1:
        (branch,) = timed
        name = joined(name, branch.name)
    times = branch.times_floor
    said = f"{name}: {ms(branch.time_s)} ms, {percent(share)}"
    cells.append(
        node(
            "svg",
            node("rect", width="100%", height="100%"),
            node("text", name, x=6, y=17),
            class_=f"cell {'none' if times is None else f'h{step(times)}'}",
            x=f"{100 * start:.3f}%",
            y=ROW * depth,
            width=f"{100 * share:.3f}%",
            height=ROW - 1,
            data_x=f"{start:.6f}",
            data_w=f"{share:.6f}",
            data_row=ids[id(branch)],
            data_name=name,
            role="button",
            aria_label=said + (f", {digits(times)} × its floor" if times else ""),
            tabindex=-1 if cells else 0,
        )
    )
    depths = depth + 1
    for child in branch.children:
        depths = max(depths, _cells(child, start, total_s, depth + 1, ids, cells))
        start += child.time_s / total_s if total_s else 0.0
    return depths


def stack(shares: Mapping[str, float]) -> Element:
    """One bar of named shares; the rest up to 1 stays empty."""
    parts, at = [node("rect", class_="rail", width="100%", height=10)], 0.0
    for name, share in shares.items():
        width = f"{100 * share:.3f}%"
        parts.append(node("rect", class_=f"b-{name}", x=f"{100 * at:.3f}%", width=width, height=10))
        at += share
    return node("svg", *parts, class_="stack", height=10, aria_hidden="true")


def ms(seconds: float) -> str:
    """Milliseconds to three digits."""
    return digits(seconds * 1e3)


def percent(share: float) -> str:
    return f"{digits(100 * share, 2)} %"
