"""The two pictures of a record as PNG, for a document: latency against multiply-accumulates, and
top-1 against latency with its front.

Figures are objects, drawn without pyplot: nothing is left open, no display is needed, and a program
that plots with its own settings is not disturbed.
"""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleetfoot.errors import visible
from fleetfoot.measure.record import Measurement, fastest
from fleetfoot.report.joined import Joined
from fleetfoot.report.kit.labels import Box, anchor, place
from fleetfoot.report.kit.style import GUIDES, Look, log_ticks, short
from fleetfoot.report.summary import Group, family, grouped, pareto

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, SOFT, LINE = "#1b1d21", "#5c626b", "#e4e5e8"
MARKERS = {
    "circle": "o", "triangle": "^", "square": "s", "diamond": "D", "cross": "P", "wedge": "v",
    "hexagon": "h", "saltire": "X",
}  # fmt: skip
DPI = 200


def save(measurements: Sequence[Joined], folder: Path) -> list[Path]:
    """Saves both pictures for each number of threads and batch size, as PNG in ``folder``; returns
    the files."""
    look, groups, written = Look.of(measurements), grouped(measurements), []
    for group, rows in groups.items():
        suffix = f"-{_slug(group)}" if len(groups) > 1 else ""
        figures = {"latency-against-macs": latency_against_macs(rows, look, str(group))}
        if any(m.top1 is not None for m in rows):
            figures["top1-against-latency"] = top1_against_latency(rows, look, str(group))
        for name, figure in figures.items():
            written.append(folder / f"{name}{suffix}.png")
            save_figure(figure, written[-1])
    return written


def save_figure(figure: Figure, path: Path, dpi: float = DPI) -> None:
    """Saves a picture as PNG without a date or version, so that the same record gives the same
    bytes. A sign that the font lacks is drawn as a box."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(path, format="png", dpi=dpi, metadata={"Software": None})


def latency_against_macs(rows: Sequence[Joined], look: Look, setting: str) -> Figure:
    """Time against work, both logarithmic, with lines for given shares of the measured peak. If
    FLOPs were the whole story, all networks would lie on one line."""
    figure, axes = new_axes("MACs, millions", "latency, ms", f"Latency against work: {setting}")
    axes.set_yscale("log")
    limits(axes, [m.macs / 1e6 for m in rows], [_ms(m) for m in rows])
    peaks = [m.peak_gflops for m in rows if m.peak_gflops > 0]
    if peaks:
        (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
        for share in GUIDES:
            # 2e6 operations in a million MACs, 1e6 operations a millisecond in a GFLOP/s
            slope = 2 * rows[0].batch / statistics.median(peaks) / share
            start, end = max(left, low / slope), min(right, high / slope)
            if start < end:
                axes.plot([start, end], [slope * start, slope * end], ":", color=SOFT, lw=0.8)
                offset, ha, va = ((3, 0), "left", "center")
                if end < right:  # the line leaves at the top
                    offset, ha, va = ((0, 3), "center", "bottom")
                axes.annotate(
                    f"{100 * share:.0f} % of peak", (end, slope * end), xytext=offset, ha=ha, va=va,
                    textcoords="offset points", fontsize=6.5, color=SOFT,
                )  # fmt: skip
    _marks(figure, axes, rows, look, lambda m: m.macs / 1e6, _ms)
    return figure


def top1_against_latency(rows: Sequence[Joined], look: Look, setting: str) -> Figure:
    """Accuracy against time. For a network on the front, no other is faster and as accurate."""
    known = [m for m in rows if m.top1 is not None]
    figure, axes = new_axes(
        "latency, ms", "published top-1, %", f"Accuracy against latency: {setting}"
    )
    limits(axes, [_ms(m) for m in known], [_top1(m) for m in known], log_y=False)
    front = pareto(known)
    xs, ys = [_ms(m) for m in front], [_top1(m) for m in front]
    axes.step(xs, ys, where="post", color=SOFT, lw=1, zorder=1)
    _marks(figure, axes, known, look, _ms, _top1)
    return figure


def _ms(m: Measurement) -> float:
    return m.median_s * 1e3


def _top1(m: Joined) -> float:
    assert m.top1 is not None  # the callers leave out cells without one
    return m.top1


def _slug(group: Group) -> str:
    parts = [f"t{group.threads}", f"b{group.batch}", group.device, group.precision]
    parts += [] if group.folded else ["not-folded"]
    parts += [f"beside{group.beside}"] if group.beside else []
    return "-".join("".join(c if c.isalnum() else "-" for c in part) for part in parts)


def new_axes(
    x_title: str, y_title: str, title: str, size: tuple[float, float] = (7.2, 4.8)
) -> tuple[Figure, Axes]:
    """An empty picture of ``size`` in inches with a logarithmic x axis."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_xscale("log")
    axes.set_xlabel(x_title, color=SOFT, fontsize=8.5)
    axes.set_ylabel(y_title, color=SOFT, fontsize=8.5)
    axes.set_title(title, loc="left", fontsize=10, color=INK, fontweight="bold", pad=14)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(SOFT)
    axes.tick_params(colors=SOFT, labelsize=8, which="both", width=0.6)
    axes.grid(True, color=LINE, lw=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def limits(axes: Axes, xs: Sequence[float], ys: Sequence[float], *, log_y: bool = True) -> None:
    """Sets limits with room around the points, and ticks in plain figures."""
    axes.set_xlim(*_around(xs))
    if log_y:
        axes.set_ylim(*_around(ys))
    else:
        margin = 0.09 * (max(ys) - min(ys)) + 0.4
        axes.set_ylim(min(ys) - margin, max(ys) + margin)
    plain_ticks(axes.xaxis, *axes.get_xlim())
    if log_y:
        plain_ticks(axes.yaxis, *axes.get_ylim())


def _around(values: Sequence[float]) -> tuple[float, float]:
    margin = (max(values) / min(values)) ** 0.09 * 1.12
    return min(values) / margin, max(values) * margin


def plain_ticks(axis: Any, low: float, high: float) -> None:
    """Sets round figures, written out, on a logarithmic axis."""
    from matplotlib.ticker import NullLocator

    ticks = log_ticks(low, high)
    axis.set_minor_locator(NullLocator())
    axis.set_ticks(ticks, labels=[f"{value:g}" for value in ticks])


def _marks(
    figure: Figure,
    axes: Axes,
    rows: Sequence[Joined],
    look: Look,
    x_of: Callable[[Joined], float],
    y_of: Callable[[Joined], float],
) -> None:
    """Draws a mark for each cell, hollow unless it is its network's fastest, names and legend."""
    best = fastest(rows)
    chosen = {id(m) for m in best}
    rest = [m for m in rows if id(m) not in chosen]
    for cells, solid in ((rest, False), (best, True)):
        for m in cells:
            hue = look.colours[family(m.model)].light
            axes.plot(
                x_of(m), y_of(m), MARKERS[look.shapes[m.engine]], markersize=6 if solid else 5,
                markerfacecolor=hue if solid else "white", markeredgewidth=0.7,
                markeredgecolor="white" if solid else hue, alpha=1 if solid else 0.55,
                zorder=3 if solid else 2,
            )  # fmt: skip
    _legend(figure, look)
    spots = [(x_of(m), y_of(m)) for m in [*best, *rest]]
    front = {id(m) for m in pareto(rows)}
    must = [i for i, m in enumerate(best) if id(m) in front]
    name_points(figure, axes, [short(m.model) for m in best], spots, must)


def name_points(
    figure: Figure,
    axes: Axes,
    names: Sequence[str],
    points: Sequence[tuple[float, float]],
    must: Collection[int] = (),
) -> None:
    """Puts each name beside the point of its index, clear of all points; names of the indices
    ``must`` are not left out. Call it last, because whatever changes the layout afterwards moves
    the names."""
    from matplotlib.patheffects import withStroke

    figure.draw_without_rendering()  # settles the layout; the names need pixels
    size = 7.0  # points
    pixel = figure.dpi / 72
    spots = [tuple(spot) for spot in axes.transData.transform(points)]
    # 0.57 em is the mean advance of DejaVu Sans, the face that matplotlib brings
    sizes = [((0.57 * len(name) + 0.3) * size * pixel, 1.2 * size * pixel) for name in names]
    frame = axes.get_window_extent()
    area = Box(frame.x0, frame.y0, frame.x1, frame.y1)
    back = axes.transData.inverted().transform
    boxes = place(spots, sizes, area, radius=4.5 * pixel, must=must)
    for name, spot, box in zip(names, spots, boxes, strict=False):
        if box is None:
            continue
        x, y = back(((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2))
        axes.text(
            x, y, visible(name), fontsize=size, parse_math=False, color=INK,
            ha="center", va="center", zorder=4,
            path_effects=[withStroke(linewidth=2, foreground="white")],
        )  # fmt: skip
        end = anchor(spot, box)
        if math.dist(spot, end) > 8 * pixel:
            (x0, y0), (x1, y1) = back(spot), back(end)
            axes.plot([x0, x1], [y0, y1], "-", color=SOFT, lw=0.5, zorder=1)


def _legend(figure: Figure, look: Look) -> None:
    """Draws the families below the picture, the engines above it at the right, by the title."""
    from matplotlib.lines import Line2D

    def mark(shape: str, colour: str, name: str) -> Line2D:
        return Line2D([], [], ls="", marker=shape, color=colour, label=name, markersize=5)

    style: dict[str, Any] = {
        "fontsize": 7.5, "frameon": False, "labelcolor": INK, "handletextpad": 0.2,
        "columnspacing": 1.2, "borderaxespad": 0.2,
    }  # fmt: skip
    families = [mark("o", colour.light, name) for name, colour in look.colours.items()]
    engines = [mark(MARKERS[shape], SOFT, name) for name, shape in look.shapes.items()]
    columns = min(8, len(families))
    figure.legend(handles=families, loc="outside lower center", ncols=columns, **style)
    # beside the title while there is room; from five on, in two rows above it
    rows = 1 if len(engines) < 5 else 2
    figure.legend(
        handles=engines, loc="outside upper right", ncols=-(-len(engines) // rows), **style
    )
