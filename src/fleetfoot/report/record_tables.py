"""A record as a table: in the terminal, as CSV, as Markdown; and the comparison of two records."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fleetfoot.measure.compare import Comparison
from fleetfoot.measure.record import Cell, Failure, Start, fastest
from fleetfoot.report.busy import TITLE as BUSY_TITLE
from fleetfoot.report.busy import busy_rows, busy_sentences
from fleetfoot.report.joined import Joined
from fleetfoot.report.kit.terminal import Name
from fleetfoot.report.summary import (
    GAIN_TITLE,
    VERSUS_TITLE,
    Versus,
    circumstances,
    digits,
    findings,
    gain_text,
    grouped,
    mark,
    start_rows,
    steadiness,
    versus,
    versus_text,
)


@dataclass(frozen=True)
class MeasuredColumn:
    """A column of the table for people."""

    title: str
    unit: str
    text: Callable[[Joined], str]
    figure: Callable[[Joined], float | None]
    """Value to sort by; None if unknown."""
    spare: int = 0
    """Columns that do not fit are left out, the largest number first; 0 always stays."""


def half_interval_s(m: Joined) -> float:
    """The larger half of the 95 % interval of the median, in seconds."""
    return max(m.median_s - m.ci95_s[0], m.ci95_s[1] - m.median_s)


COLUMNS = (
    MeasuredColumn(
        "top-1", "%", lambda m: "-" if m.top1 is None else f"{m.top1:.1f}", lambda m: m.top1
    ),
    MeasuredColumn("params", "M", lambda m: digits(m.params / 1e6), lambda m: m.params, spare=2),
    MeasuredColumn("MACs", "M", lambda m: digits(m.macs / 1e6), lambda m: m.macs),
    MeasuredColumn(
        "memory", "MB", lambda m: digits(m.memory_access_bytes / 1e6),
        lambda m: m.memory_access_bytes, spare=3,
    ),
    MeasuredColumn("latency", "ms", lambda m: digits(m.median_s * 1e3), lambda m: m.median_s),
    MeasuredColumn(
        "±", "ms", lambda m: digits(half_interval_s(m) * 1e3, 2), half_interval_s, spare=5
    ),
    MeasuredColumn("p90", "ms", lambda m: digits(m.p90_s * 1e3), lambda m: m.p90_s, spare=4),
    MeasuredColumn(
        "images", "/s", lambda m: digits(m.images_per_s), lambda m: m.images_per_s, spare=1
    ),
    MeasuredColumn("GFLOPS", "", lambda m: digits(m.achieved_gflops), lambda m: m.achieved_gflops),
    MeasuredColumn(
        "peak", "%", lambda m: f"{100 * m.peak_share:.0f}" if m.peak_gflops else "-",
        lambda m: m.peak_share if m.peak_gflops else None,
    ),
)  # fmt: skip


def print_tables(
    console: Console,
    measurements: Sequence[Joined],
    failures: Sequence[Failure] = (),
    *,
    all_engines: bool = False,
) -> None:
    """Prints the whole answer: a table for each number of threads and batch size, findings, and how
    it was measured. ``all_engines``: print every cell; default: only the engine with the least
    median for each network."""
    for group, rows in grouped(measurements).items():
        shown = rows if all_engines else fastest(rows)
        title = f"{group}: {steadiness(rows)}"
        if len({m.engine for m in rows}) > 1:
            title += "; every engine" if all_engines else "; each network's engine of least median"
        print_table(console, shown, title)
        print_versus(console, rows, str(group))
        for sentence in findings(rows):
            console.print(Text(sentence))
        console.print()
    print_busy(console, measurements)
    for name, text in circumstances(measurements, failures):
        console.print(Text.assemble((f"{name}: ", "bold"), text))


def print_table(console: Console, rows: Sequence[Joined], title: str) -> None:
    """Prints a table as wide as it must be; columns without room are left out and named below."""
    print_fitting(console, COLUMNS, lambda columns: _table(rows, columns, title))


class Spare(Protocol):
    """A column that may be left out."""

    @property
    def title(self) -> str: ...
    @property
    def spare(self) -> int:
        """Order of leaving out: the largest number first; 0 always stays."""


C = TypeVar("C", bound=Spare)


def print_fitting(
    console: Console, columns: Sequence[C], made: Callable[[Sequence[C]], Table]
) -> None:
    """Prints the table that ``made`` makes of those ``columns`` that fit, and below it the names of
    the others."""
    shown = columns
    for spare in sorted({c.spare for c in columns if c.spare}, reverse=True):
        if _width(made(shown)) <= console.width:
            break
        shown = [c for c in shown if c.spare != spare]
    console.print(made(shown))
    gone = [c.title for c in columns if c not in shown]
    if gone:
        console.print(Text(f"no room for {', '.join(gone)}: a wider terminal shows them", "dim"))


def print_versus(console: Console, rows: Sequence[Joined], group: str) -> None:
    """Prints each network on each engine, if fleetfoot's own engine is among them; an engine that
    is faster than every other one beyond noise is bold. Engines that do not fit are named
    below."""
    engines, lines = versus(rows)
    if not lines:
        return
    shown = engines
    while len(shown) > 2 and _least_width(_versus_table(lines, shown, group)) > console.width:
        shown = shown[:-1]
    console.print(_versus_table(lines, shown, group))
    if gone := engines[len(shown) :]:
        console.print(Text(f"no room for {', '.join(gone)}: a wider terminal shows them", "dim"))


def _versus_table(lines: Sequence[Versus], engines: Sequence[str], group: str) -> Table:
    table = plain_table()
    table.title, table.title_justify = Text(f"{group}: {VERSUS_TITLE}", "bold"), "left"
    _add_networks(table, [line.model for line in lines])
    for engine in engines:
        table.add_column(engine, justify="right", no_wrap=True, min_width=len(engine))
    gain, _, own = GAIN_TITLE.partition(" / ")
    table.add_column(f"{gain}\n/ {own}", justify="right", no_wrap=True, min_width=len(gain))
    for line in lines:
        winner = line.winner
        cells = [
            Text(versus_text(line, engine), "bold" if engine == winner else "")
            for engine in engines
        ]
        table.add_row(Name(line.model), *cells, gain_text(line))
    return table


def print_starts(console: Console, starts: Sequence[Start]) -> None:
    """Prints the time and memory that a new process needs, starting from an engine's own file."""
    if not starts:
        return
    titles, rows = start_rows(starts)
    table = plain_table()
    table.title, table.title_justify = Text("From a file, in a new process", "bold"), "left"
    for number, title in enumerate(titles):
        table.add_column(title, justify="left" if number < 2 else "right")
    for row in rows:
        table.add_row(Name(row[0]), *(Text(cell) for cell in row[1:]))
    console.print(table)


def print_busy(console: Console, measurements: Sequence[Joined]) -> None:
    """Prints the cells that ran beside busy cores, each beside its time without them."""
    titles, rows = busy_rows(measurements)
    if not rows:
        return
    table = plain_table()
    table.title, table.title_justify = Text(BUSY_TITLE, "bold"), "left"
    for number, title in enumerate(titles):
        table.add_column(title, justify="left" if number < 2 else "right")
    for row in rows:
        table.add_row(Name(row[0]), *(Text(cell) for cell in row[1:]))
    console.print(table)
    for sentence in busy_sentences(measurements):
        console.print(Text(sentence))
    console.print()


def _table(rows: Sequence[Joined], columns: Sequence[MeasuredColumn], title: str) -> Table:
    table = plain_table()
    table.title, table.title_justify = Text(title, "bold"), "left"
    noisy = _mostly_unstable(rows)
    _add_networks(table, [m.model for m in rows])
    for column in columns:
        table.add_column(f"{column.title}\n{column.unit}", justify="right", no_wrap=True)
    table.add_column("engine", no_wrap=True)
    if noisy:
        table.add_column("noise\nspread", style="yellow", justify="right", no_wrap=True)
    for m in rows:
        name = Text(m.model)
        if not m.stable and not noisy:
            name.append(f"\n{mark(m)}", "yellow")
        cells = [column.text(m) for column in columns]
        table.add_row(Name(name), *cells, Text(m.engine), *([_instability(m)] if noisy else []))
    return table


def _mostly_unstable(rows: Sequence[Joined]) -> bool:
    """Whether verdicts get a column; a few verdicts are put below the names that they concern."""
    return sum(not m.stable for m in rows) > max(3, len(rows) // 2)


def _instability(m: Joined) -> str:
    return "" if m.stable else f"{100 * m.spread:.0f} %"


def _add_networks(table: Table, names: Sequence[str]) -> None:
    """Adds the first column: as wide as the longest name; text below a name wraps in it."""
    widest = max(len(line) for line in (*names, "unstable: spread 31 %"))
    table.add_column("network", overflow="fold", max_width=widest)


def plain_table() -> Table:
    """A table with a rule below the head alone, and a space between columns."""
    return Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 0, 0, 1))


def _width(table: Table) -> int:
    """Width of the table without limits."""
    wide = Console(width=10_000, file=io.StringIO())
    return table.__rich_measure__(wide, wide.options).maximum


def _least_width(table: Table) -> int:
    """Width of the table if its names wrap at every word."""
    wide = Console(width=10_000, file=io.StringIO())
    return table.__rich_measure__(wide, wide.options).minimum


# timm's benchmark columns, by its names and in its units: milliseconds a batch, millions of
# parameters, 1e9 MACs (its infer_macts, the activations of each layer, is not counted here)
TIMM_COLUMNS: dict[str, Callable[[Joined], object]] = {
    "model": lambda m: m.model,
    "infer_img_size": lambda m: m.size,
    "infer_samples_per_sec": lambda m: round(m.images_per_s, 2),
    "infer_step_time": lambda m: round(m.median_s * 1e3, 3),
    "infer_batch_size": lambda m: m.batch,
    "param_count": lambda m: round(m.params / 1e6, 2),
    "infer_gmacs": lambda m: round(m.macs / 1e9, 2),
}
OUR_COLUMNS = (
    "engine", "threads", "median_s", "p90_s", "p99_s", "ci95_low_s", "ci95_high_s", "samples",
    "warmup_s", "steady", "spread", "stable", "folded", "params", "macs", "memory_access_bytes",
    "achieved_gflops", "peak_gflops", "peak_share", "fma_gflops", "copy_gb_per_s", "top1",
    "top1_source", "precision", "layout", "device", "engine_version", "harness_s",
    "memory_peak_bytes", "beside", "protocol", "run_id", "started", "commit",
)  # fmt: skip


def to_csv(measurements: Iterable[Joined]) -> str:
    """CSV with a row for each measurement: timm's benchmark columns, then ours in exact figures.
    Rows are sorted as in timm's files, the fastest first."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*TIMM_COLUMNS, *OUR_COLUMNS])
    for m in sorted(measurements, key=lambda m: -m.images_per_s):
        ours = {
            **vars(m),
            "top1": m.top1,
            "top1_source": m.top1_source,
            "ci95_low_s": m.ci95_s[0],
            "ci95_high_s": m.ci95_s[1],
            "samples": len(m.samples_s),
        }
        row = [value(m) for value in TIMM_COLUMNS.values()]
        writer.writerow([_cell(value) for value in (*row, *(ours[name] for name in OUR_COLUMNS))])
    return text.getvalue()


def _cell(value: object) -> object:
    """A value made safe: a spreadsheet runs a text that opens with certain signs as a formula, and
    a name may be anything."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return "" if value is None else value


def markdown(measurements: Sequence[Joined]) -> str:
    """A Markdown table for each number of threads and batch size, with findings and how it was
    measured: every engine of each network if fleetfoot's own is among them, otherwise the engine
    with the least median. All settings but the first are folded away. Cells that ran beside busy
    cores come first, in a table of their own."""
    parts = _busy_lines(measurements)
    for number, (group, rows) in enumerate(grouped(measurements).items()):
        title, noise = str(group).capitalize(), escaped(steadiness(rows))
        head = f"**{title}**" if number == 0 else f"<details><summary>{title}</summary>"
        lines = [
            head,
            "",
            f"{noise[0].upper()}{noise[1:]}."
            + (" Bold: faster than each other engine beyond noise." if versus(rows)[1] else ""),
            "",
            *(_versus_lines(rows) or _fastest_lines(rows)),
            "",
            *(f"{escaped(sentence)}\n" for sentence in findings(rows)),
            *([] if number == 0 else ["</details>", ""]),
        ]
        parts.append("\n".join(lines))
    facts = "\n".join(f"- {name}: {escaped(text)}" for name, text in circumstances(measurements))
    return "\n".join([*parts, facts, ""])


def _busy_lines(measurements: Sequence[Joined]) -> list[str]:
    titles, rows = busy_rows(measurements)
    if not rows:
        return []
    table = markdown_table(titles, [[escaped(cell) for cell in row] for row in rows], left=(0, 1))
    said = (f"{escaped(sentence)}\n" for sentence in busy_sentences(measurements))
    return [f"**{BUSY_TITLE}**", "", *table, "", *said]


def _fastest_lines(rows: Sequence[Joined]) -> list[str]:
    noisy = _mostly_unstable(fastest(rows))
    titles = ["network", *(f"{c.title} {c.unit}".strip() for c in COLUMNS), "engine"]
    titles += ["noise: spread"] if noisy else []
    lines = []
    for m in fastest(rows):
        name = "; ".join([escaped(m.model), *([] if m.stable or noisy else [mark(m)])])
        cells = [name, *(column.text(m) for column in COLUMNS), escaped(m.engine)]
        lines.append([*cells, *([_instability(m)] if noisy else [])])
    return markdown_table(titles, lines, left=(0, len(COLUMNS) + 1, len(COLUMNS) + 2))


def markdown_table(
    titles: Sequence[str], rows: Iterable[Sequence[str]], *, left: Sequence[int] = (0,)
) -> list[str]:
    """The lines of a Markdown table. ``left``: indices of the columns that are not figures."""
    aligned = "".join("---|" if i in left else "---:|" for i in range(len(titles)))
    return [f"| {' | '.join(titles)} |", f"|{aligned}", *(f"| {' | '.join(r)} |" for r in rows)]


def _versus_lines(rows: Sequence[Joined]) -> list[str]:
    """Each network on each engine; nothing if fleetfoot's own engine is not among them."""
    engines, lines = versus(rows)
    if not lines:
        return []
    about = [column for column in COLUMNS if column.title in ("top-1", "MACs")]
    titles = ["network", *(f"{column.title} {column.unit}" for column in about)]
    titles += [*(f"{escaped(engine)} ms" for engine in engines), GAIN_TITLE]
    table = []
    for line in lines:
        any_engine, winner = next(iter(line.cells.values())), line.winner
        cells = [escaped(line.model), *(column.text(any_engine) for column in about)]
        for engine in engines:
            text = versus_text(line, engine)
            cells.append(f"**{text}**" if engine == winner else text)
        table.append([*cells, gain_text(line)])
    return markdown_table(titles, table)


def escaped(text: str) -> str:
    for sign in "\\`*<>|[]":  # an underscore inside a word is plain text
        text = text.replace(sign, "\\" + sign)
    return text.replace("\n", " ")


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Prints what is faster, what is slower, and what is noise; then other differences."""
    table = plain_table()
    _add_networks(table, [c.cell.model for c in comparison.changes])
    table.add_column("engine", no_wrap=True)
    settings = len({_setting(c.cell) for c in comparison.changes}) > 1
    if settings:
        table.add_column("threads\nbatch", justify="right", no_wrap=True)
    for title in ("before\nms", "after\nms", "time\n×", "95 %\ninterval"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("verdict")
    styles = {"faster": "green", "slower": "red", "noise": "dim"}
    for c in comparison.changes:
        said = Text(_verdict_words(c.ratio, c.verdict), styles[c.verdict])
        for note in c.notes:
            said.append(f"\n{note}", "yellow")
        table.add_row(
            Name(c.cell.model),
            Text(c.cell.engine),
            *([_setting(c.cell)] if settings else []),
            digits(c.before_s * 1e3),
            digits(c.after_s * 1e3),
            f"{c.ratio:.3f}",
            f"{c.ci95[0]:.3f} to {c.ci95[1]:.3f}",
            said,
        )
    console.print(table)
    verdicts = [c.verdict for c in comparison.changes]
    console.print(
        Text(
            f"{verdicts.count('faster')} faster, {verdicts.count('slower')} slower, "
            f"{verdicts.count('noise')} not beyond noise."
        )
    )
    console.print(Text(comparison.method, "dim"))
    for difference in comparison.differences:
        console.print(Text(f"not the same: {difference}"))
    for when, cells in (("before", comparison.only_before), ("after", comparison.only_after)):
        if cells:
            console.print(Text(f"only {when}: {_cells_words(cells)}"))


def _setting(cell: Cell) -> str:
    """Threads and batch, and busy cores if there were any."""
    return f"{cell.threads}, {cell.batch}" + (f"\nbeside {cell.beside}" if cell.beside else "")


def _verdict_words(ratio: float, verdict: str) -> str:
    if verdict == "noise":
        return "noise"
    return f"{100 * abs(ratio - 1):.1f} % {'less' if ratio < 1 else 'more'} time"


def _cells_words(cells: Sequence[Cell]) -> str:
    """Each cell by name if they are few, otherwise the number of cells of each setting."""
    settings = [
        f"{c.threads} thread{'s' * (c.threads > 1)}, batch {c.batch}"
        + (f", beside {c.beside} busy core{'s' * (c.beside > 1)}" if c.beside else "")
        for c in cells
    ]
    if len(cells) <= 6:
        named = zip(cells, settings, strict=True)
        return ", ".join(f"{c.model} on {c.engine} ({setting})" for c, setting in named)
    counts = Counter(settings)
    return ", ".join(f"{count} cells on {setting}" for setting, count in counts.items())
