"""An explanation as a card: the network's latency and its floor, and its layers, the slowest
first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fleetfoot.count.trace import Operator
from fleetfoot.count.vocabulary import ATTENTION, CONVOLUTIONS, LINEAR
from fleetfoot.explain.explanation import Explanation
from fleetfoot.machine.roofline import Bound, Layer
from fleetfoot.report.findings import print_findings
from fleetfoot.report.kit.terminal import Name
from fleetfoot.report.record_tables import print_fitting
from fleetfoot.report.summary import digits

TOP = 15
"""Rows of the card by default."""
FINDINGS = 8
"""Findings on the card, those with the highest prices."""
BROKEN = 0.05
"""Share of the time in layers below their floors, above which the machine's rates are doubtful."""
NAMED = 3
"""Largest number of unmapped nodes that are named."""


class LayerRow(NamedTuple):
    """A row of the table: a layer, or all layers below one path."""

    module: str
    what: str
    time_s: float
    floor_s: float
    flops: int
    """Operations of everything that its nodes hold. The bytes follow."""
    moved_bytes: int
    bound: Bound


class LayerColumn(NamedTuple):
    title: str
    unit: str
    text: Callable[[LayerRow, Explanation], str]
    spare: int = 0
    """Columns that do not fit are left out, the largest number first; 0 always stays."""


COLUMNS = (
    LayerColumn("time", "ms", lambda row, _: _ms(row.time_s)),
    LayerColumn("share", "%", lambda row, e: _percent(row.time_s, e.nodes_s)),
    LayerColumn("floor", "ms", lambda row, _: _ms(row.floor_s), 2),
    LayerColumn("times", "floor", lambda row, _: _times(row.time_s, row.floor_s)),
    LayerColumn("GFLOP", "/s", lambda row, _: _rate(row), 3),
    LayerColumn("FLOP", "/byte", lambda row, _: _intensity(row), 4),
    LayerColumn("bound", "by", lambda row, _: row.bound, 1),
)


def print_card(
    console: Console, explanation: Explanation, *, depth: int | None = None, top: int = TOP
) -> None:
    """Prints the whole card.

    Args:
        depth: number of names of a path that are kept; layers below are added up. Default: each
            layer is a row.
        top: rows of the table; with ``depth`` all are shown.
    """
    for line in head(explanation):
        console.print(Text.assemble((f"{line[0]:<8} ", "bold"), line[1]), soft_wrap=True)
    console.print()
    rows = layer_rows(explanation.layers, depth)
    shown = rows if depth is not None else rows[:top]
    print_fitting(console, COLUMNS, lambda columns: _table(explanation, shown, columns))
    for sentence in remarks(explanation, rows[len(shown) :]):
        console.print(Text(sentence), soft_wrap=True)
    if explanation.findings:
        console.print()
    print_findings(console, explanation.findings[:FINDINGS])
    if more := explanation.findings[FINDINGS:]:
        price_s = sum(one.price_s for one in more)
        text = f"{len(more)} more findings, {_ms(price_s)} ms together: fleetfoot lint lists all"
        console.print(Text(text), soft_wrap=True)


def head(e: Explanation) -> list[tuple[str, str]]:
    """Lines above the table, each a name and a text."""
    machine = e.machine
    low, high = e.ci95_s
    noisy = "" if e.steady else "; the times did not settle"
    peak = e.peak_flops_per_s
    ridge = machine.ridge_flops_per_byte(machine.levels[-1].name, e.engine.precision)
    shares = sorted(e.bound_shares.items(), key=lambda item: -item[1])
    lines = [
        ("network", _what_ran(e)),
        (
            "latency",
            f"{_ms(e.latency_s)} ms ({_ms(low)} to {_ms(high)} at 95 %, p90 {_ms(e.p90_s)}, "
            f"{len(e.samples_s)} runs{noisy})",
        ),
        (
            "floor",
            f"{_ms(e.floor_s)} ms at the rates of {machine.cpu}; the latency is "
            f"{_times(e.latency_s, e.floor_s)} times that",
        ),
        (
            "rate",
            f"{digits(e.flops_per_s / 1e9)} GFLOP/s, {100 * e.flops_per_s / peak:.0f} % of the "
            f"{digits(peak / 1e9)} measured; below {digits(ridge, 2)} FLOP/byte "
            f"{machine.levels[-1].name} is the bound",
        ),
        (
            "bound",
            "of the layers' time "
            + ", ".join(f"{100 * share:.0f} % by {bound}" for bound, share in shares if share),
        ),
    ]
    return lines


def _what_ran(e: Explanation) -> str:
    engine = e.engine
    parts = [
        f"{e.model} on {engine.name} {engine.version}",
        f"{engine.threads} thread{'s' if engine.threads > 1 else ''}",
        f"input {' × '.join(map(str, e.input_shape))}",
        *([engine.precision] if engine.precision != "float32" else []),
        "folded" if e.folded else e.fold_note or "not folded",
        *([engine.note] if engine.note else []),
    ]
    return ", ".join(parts)


def remarks(e: Explanation, rest: Sequence[LayerRow]) -> list[str]:
    """Facts that the table omits: rows left out, time in no layer, layers without time."""
    lines = []
    if rest:
        time_s, floor_s = sum(row.time_s for row in rest), sum(row.floor_s for row in rest)
        lines.append(
            f"{len(rest)} more: {_ms(time_s)} ms, {_percent(time_s, e.nodes_s)} %, "
            f"{_times(time_s, floor_s)} times their floors"
        )
    together = f"the layers' times add up to {_ms(e.nodes_s)} ms"
    if e.profiled_s:
        above_s = e.profiled_s - e.latency_s
        said = "more than without it" if above_s > 0 else "less than the latency, in no node"
        together += f"; a run with timing takes {_ms(e.profiled_s)} ms"
        together += f", {_ms(abs(above_s))} ms {said}"
    lines.append(together)
    broken_s = sum(layer.time_s for layer in e.layers if layer.time_s < layer.floor.seconds)
    if broken_s > BROKEN * e.nodes_s:
        lines.append(
            f"{100 * broken_s / e.nodes_s:.0f} % of that is in layers faster than their floors: "
            "the machine was busy when it was measured; measure it again when it is quiet: "
            "fleetfoot machine --fresh"
        )
    transformed = sum(layer.macs_share < 1 for layer in e.layers)
    if transformed:
        lines.append(
            f"{_layers(transformed)} by Winograd's transforms, with fewer multiply-adds than are "
            "counted: floors are of what is left, rates of what is counted"
        )
    if e.unmapped:
        names = ", ".join(e.unmapped[:NAMED])
        more = f" and {len(e.unmapped) - NAMED} more" if len(e.unmapped) > NAMED else ""
        lines.append(
            f"unmapped: {100 * e.unmapped_share:.1f} % of that, in nodes for which "
            f"{e.engine.name} does not tell the module ({names}{more}); they are in the row of the "
            "network itself"
        )
    inside = sum(not layer.nodes and bool(layer.within) for layer in e.layers)
    gone = sum(not layer.nodes and not layer.within for layer in e.layers)
    if inside:
        own = "its" if inside == 1 else "their"
        lines.append(f"{_modules(inside)} ran within another's node and took no time of {own} own")
    if gone:
        lines.append(f"{_modules(gone)} took none: the engine had nothing left to do there")
    if e.trace_note:
        lines.append(e.trace_note)
    return lines


def _layers(count: int) -> str:
    return f"{count} layer{'s' if count > 1 else ''} run{'s' if count == 1 else ''}"


def _modules(count: int) -> str:
    return f"{count} module{'s' if count > 1 else ''}"


def layer_rows(layers: Sequence[Layer], depth: int | None = None) -> list[LayerRow]:
    """The layers that took time, the slowest first; with ``depth``, sums over the layers whose
    paths share their first names.

    Raises:
        ValueError: ``depth`` is negative.
    """
    if depth is not None and depth < 0:
        raise ValueError(f"depth must be 0 or more, not {depth}")
    groups: dict[str, list[Layer]] = {}
    for layer in layers:
        if layer.nodes:
            kept = layer.module.split(".")[:depth]
            groups.setdefault(".".join(kept), []).append(layer)
    rows = [_row(path, group, layers) for path, group in groups.items()]
    return sorted(rows, key=lambda row: -row.time_s)


def _row(path: str, group: Sequence[Layer], layers: Sequence[Layer]) -> LayerRow:
    by_bound: dict[Bound, float] = {}
    for layer in group:
        by_bound[layer.floor.bound] = by_bound.get(layer.floor.bound, 0.0) + layer.time_s
    return LayerRow(
        module=path,
        what=what(group[0], layers) if len(group) == 1 else f"{len(group)} layers",
        time_s=sum(layer.time_s for layer in group),
        floor_s=sum(layer.floor.seconds for layer in group),
        flops=sum(layer.held_flops for layer in group),
        moved_bytes=sum(layer.held_bytes for layer in group),
        bound=max(by_bound, key=by_bound.__getitem__),
    )


def what(layer: Layer, layers: Sequence[Layer]) -> str:
    """What a layer's nodes do, for example "conv 3×3 96→96 /2 g96 + hardswish"."""
    held = [*layer.operators]
    for other in layers:
        if other.within == (layer.module,) and not other.nodes:
            held += other.operators
    names = list(dict.fromkeys(_named(operator) for operator in held))
    main = max(held, key=lambda op: (op.macs or 0, op.bytes_read + op.bytes_written), default=None)
    if main is None:
        return "moves data"
    first = _named(main)
    rest = [name for name in names if name != first]
    return " + ".join([first, *rest[:2], *(["…"] if len(rest) > 2 else [])])


def _named(op: Operator) -> str:
    name = op.name.split(".", 1)[-1].strip("_")
    if op.name in CONVOLUTIONS:
        return _convolution(op)
    if op.name in LINEAR and len(op.shape) >= 1:
        return f"linear {op.input_shapes[name == 'addmm'][-1]}→{op.shape[-1]}"
    return "attention" if op.name in ATTENTION else name


def _convolution(op: Operator) -> str:
    """Kernel, channels, stride and groups, from the shapes; a weight is (Co, Ci / groups, K, K), or
    (Ci, Co / groups, K, K) if the convolution is transposed."""
    x, weight, *_ = op.input_shapes
    before, after, kernel = x[1], op.shape[1], "×".join(map(str, weight[2:]))
    transposed = weight[0] != after
    groups = (after if transposed else before) // weight[1]
    parts = [f"{'transposed ' if transposed else ''}conv {kernel} {before}→{after}"]
    stride = round(x[2] / op.shape[2])
    parts += [f"/{stride}"] if stride > 1 else []
    parts += [f"g{groups}"] if groups > 1 else []
    return " ".join(parts)


def _table(e: Explanation, rows: Sequence[LayerRow], columns: Sequence[LayerColumn]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 0, 0, 1))
    table.add_column("module", overflow="fold")
    table.add_column("what", overflow="fold")
    for column in columns:
        table.add_column(f"{column.title}\n{column.unit}", justify="right", no_wrap=True)
    for row in rows:
        cells = [column.text(row, e) for column in columns]
        table.add_row(Name(row.module or "(itself)"), Text(row.what), *cells)
    return table


def _ms(seconds: float) -> str:
    return digits(seconds * 1e3)


def _times(seconds: float, floor_s: float) -> str:
    return digits(seconds / floor_s, 2) if floor_s else "-"


def _percent(part: float, whole: float) -> str:
    """A share; an engine's clock may show no time for all of very small layers."""
    return f"{100 * part / whole:.1f}" if whole else "-"


def _rate(row: LayerRow) -> str:
    """GFLOP/s; none for a layer for which the engine's clock shows no time."""
    return digits(row.flops / row.time_s / 1e9) if row.flops and row.time_s else "-"


def _intensity(row: LayerRow) -> str:
    return digits(row.flops / row.moved_bytes, 2) if row.flops and row.moved_bytes else "-"
