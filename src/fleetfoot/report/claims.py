"""Claims as a card in the terminal, a Markdown page, and pictures: the paper's figure, the figure
measured here, and the verdict side by side."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from fleetfoot.claims.base import HALF, NO_EFFECT, NOT_REACHED, Claim, Found, Ratio, Verdict, Word
from fleetfoot.measure.compare import NOISE_FLOOR
from fleetfoot.measure.record import Failure, Measurement
from fleetfoot.report.joined import join
from fleetfoot.report.kit.style import shape, short
from fleetfoot.report.kit.terminal import Name
from fleetfoot.report.plots import (
    INK,
    MARKERS,
    SOFT,
    name_points,
    new_axes,
    plain_ticks,
    save_figure,
)
from fleetfoot.report.record_tables import markdown_table, plain_table
from fleetfoot.report.summary import circumstances, digits

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLES: dict[Word, str] = {
    "holds": "green",
    "holds partly": "yellow",
    "does not hold": "red",
    "not clear": "magenta",
    "not measured": "dim",
    "not judged": "dim",
}
SIGNS: dict[Word, str] = {
    "holds": "✓",
    "holds partly": "~",
    "does not hold": "✗",
    "not clear": "?",
    "not measured": "",
    "not judged": "",
}
COLOURS: dict[Word, str] = {
    "holds": "#15803d",
    "holds partly": "#946200",
    "does not hold": "#b91c1c",
    "not clear": "#7c3aad",
    "not judged": "#59616c",
}
FILLS: dict[Word, Any] = {
    "holds": "full",
    "holds partly": "left",
    "does not hold": "none",
    "not clear": "top",
    "not judged": "bottom",
}
"""Fillings of marks, so that a verdict shows without its colour."""
BAR, OWN, OTHER = "#d9dce1", "#c2410c", "#59616c"
_DPI = 160
"""Resolution of a picture: two dozen ratios stay below 250 kB."""
LEGEND = (
    "The figure with a star decides a verdict. ✓ holds: the effect exists, and is at least "
    f"{HALF:g} of the asserted one as a logarithm; "
    "~ holds partly: it exists, but is smaller; ✗ does not hold: it does not exist, or is the "
    "inverse; ? not clear: the interval contains both; no sign: the paper itself has less than "
    f"{100 * (NO_EFFECT - 1):.0f} % to judge. It exists if the 95 % interval of the ratio (block "
    "bootstrap) "
    f"is above 1, and the ratio by more than {100 * NOISE_FLOOR:.0f} %. If no figure is "
    "asserted, "
    "only the direction is judged."
)


def print_claims(console: Console, verdicts: Sequence[Verdict], *, times: bool = False) -> None:
    """Prints for each claim a table of ratios and a line with the verdict; with ``times``, also the
    times that each ratio is made of."""
    for verdict in verdicts:
        claim = verdict.claim
        console.print(Text.assemble((claim.name, "bold"), f"  {claim.source}"))
        console.print(Text(claim.asserts))
        console.print(Text(claim.method, "dim"))
        for title, reasons in _reasons(verdict):
            console.print(Text.assemble((f"{title}: ", "dim"), reasons))
        if _measured(verdict):
            if times:
                _print_times(console, verdict)
            _print_ratios(console, verdict)
        word = verdict.word()
        console.print(
            Text.assemble("verdict: ", (word, STYLES[word]), _after(verdict.tally()), "\n")
        )
    console.print(Text(LEGEND, "dim"))


def print_list(console: Console, claims: Sequence[Claim]) -> None:
    """Prints the claims that can be tried."""
    for claim in claims:
        spare = sum(one.spare for one in claim.experiments)
        more = f", {spare} of them if time is left" if spare else ""
        count = f"{len(claim.experiments)} experiments{more}"
        console.print(Text.assemble((claim.name, "bold"), f"  {claim.source}; {count}"))
        console.print(Text(f"  {claim.asserts}"))


def list_record(claims: Sequence[Claim]) -> list[dict[str, Any]]:
    """The claims that can be tried, as plain values for programs."""
    return [
        {
            "claim": claim.name,
            "source": claim.source,
            "asserts": claim.asserts,
            "method": claim.method,
            "experiments": [
                {
                    "name": experiment.name,
                    "spare": experiment.spare,
                    "subjects": [subject.name for subject in experiment.subjects],
                }
                for experiment in claim.experiments
            ],
        }
        for claim in claims
    ]


def record(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """The verdicts as plain values, for programs."""
    return [
        {
            "claim": v.claim.name,
            "source": v.claim.source,
            "asserts": v.claim.asserts,
            "verdict": v.word(),
            "by_engine": {engine: v.word(engine) for engine in v.engines},
            "absent": dict(v.claim.absent),
            "ratios": [
                {**asdict(f), "ratio": asdict(f.ratio), "asserted": f.ratio.asserted}
                for f in v.found
            ],
            "times": [
                {
                    "subject": subject.name,
                    "engine": engine,
                    "macs": m.macs,
                    "median_s": m.median_s,
                    "ci95_s": m.ci95_s,
                    "achieved_gflops": m.achieved_gflops,
                    "published": dict(subject.published),
                    "published_macs": subject.published_macs,
                }
                for subject in v.claim.subjects
                for engine in v.engines
                if (m := v.times.get((subject.name, engine))) is not None
            ],
        }
        for v in verdicts
    ]


def markdown(
    verdicts: Sequence[Verdict],
    measurements: Sequence[Measurement],
    failures: Sequence[Failure],
    pictures: Sequence[Path],
    page: Path,
) -> str:
    """The whole page, with links from ``page`` to ``pictures``."""
    engines = list(dict.fromkeys(engine for v in verdicts for engine in v.engines))
    head = [
        "# What the papers claim, tried again",
        "",
        "Generated from a record by `fleetfoot claims --record FOLDER --page FILE`; no figure is "
        "typed "
        "by hand. `fleetfoot claims` does the same on your machine.",
        "",
        LEGEND,
        "",
    ]
    rows = [
        [f"[{v.claim.name}](#{v.claim.name})", _cell(v.claim.asserts), f"**{v.word()}**"]
        + [_join(v.word(engine), v.tally(engine)) for engine in engines]
        for v in verdicts
    ]
    titles = ["claim", "asserts", "here", *engines]
    lines = [*head, *markdown_table(titles, rows, left=range(len(titles))), ""]
    for v in verdicts:
        lines += _section(v, [p for p in pictures if p.stem.split(".")[0] == v.claim.name], page)
    lines += ["## How it was measured", ""]
    # absences are listed with the claims that they concern
    told = [
        row for row in circumstances(join(measurements, ()), failures) if row[0] != "did not run"
    ]
    lines += [f"- {name}: {_cell(text)}" for name, text in told]
    return "\n".join([*lines, ""])


def _section(v: Verdict, pictures: Sequence[Path], page: Path) -> list[str]:
    claim = v.claim
    lines = [
        f"## {claim.name}",
        "",
        f"{claim.asserts} ({claim.source}.)",
        "",
        f"Here: {claim.method}",
        "",
        f"Verdict: **{v.word()}**{_after(v.tally())}.",
        "",
    ]
    lines += [f"- {title}: {_cell(reasons)}" for title, reasons in _reasons(v)]
    lines += [""] if lines[-1] else []
    if not _measured(v):
        return lines
    titles, rows = _ratio_rows(v)
    lines += [*markdown_table(titles, [[_cell(c) for c in row] for row in rows]), ""]
    lines += ["<details><summary>times, ms</summary>", ""]
    titles, rows = _time_rows(v)
    lines += [*markdown_table(titles, [[_cell(c) for c in row] for row in rows]), ""]
    lines += ["</details>", ""]
    for picture in pictures:
        path = Path(os.path.relpath(picture, page.parent)).as_posix()
        lines += [f"![{claim.name}]({path})", ""]
    return lines


def _measured(v: Verdict) -> bool:
    return any(f.here is not None for f in v.found)


def _after(text: str) -> str:
    return f" ({text})" if text else ""


def _join(word: Word, tally: str) -> str:
    return f"{word}, {tally}" if tally else word


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _columns(ratios: Sequence[Ratio]) -> list[str]:
    return list(dict.fromkeys(column for ratio in ratios for column in ratio.published))


def _ratio_rows(v: Verdict) -> tuple[list[str], list[list[str]]]:
    """The ratios that were measured on some engine, a row each: the paper's columns, then the
    engines. The column that decides the verdict is marked."""
    cells = {(f.ratio.text, f.engine): f for f in v.found}
    ratios = list({f.ratio.text: f.ratio for f in v.found if f.here is not None}.values())
    columns = _columns(ratios)
    rows = []
    for ratio in ratios:
        row = [ratio.text]
        for column in columns:
            figure = ratio.published.get(column)
            mark = "*" if column == ratio.judged_by else ""
            row.append("" if figure is None else f"{digits(figure)}{mark}")
        row += [ratio_text(cells[ratio.text, engine]) for engine in v.engines]
        rows.append(row)
    return ["ratio", *(f"paper: {column}" for column in columns), *v.engines], rows


def ratio_text(found: Found) -> str:
    """A ratio as text, for example "2.28 (1.41 to 2.32) ✓"; "-" if there is none."""
    if found.here is None or found.interval is None:
        return "-"
    low, high = found.interval
    text = f"{digits(found.here)} ({digits(low)} to {digits(high)})"
    return f"{text} {SIGNS[found.word]}".rstrip()


def _time_rows(v: Verdict) -> tuple[list[str], list[list[str]]]:
    """Subjects, a row each: MACs counted, the paper's figures, milliseconds and GFLOP/s here."""
    subjects = [s for s in v.claim.subjects if any((s.name, e) in v.times for e in v.engines)]
    columns = list(dict.fromkeys(column for s in subjects for column in s.published))
    rows = []
    for subject in subjects:
        found = [v.times.get((subject.name, engine)) for engine in v.engines]
        macs = next(m.macs for m in found if m is not None)
        printed = "" if subject.published_macs is None else f"{subject.published_macs / 1e6:g}"
        figures = [subject.published.get(column) for column in columns]
        rows.append(
            [
                subject.name,
                digits(macs / 1e6, 4),
                printed,
                *("" if figure is None else f"{figure:g}" for figure in figures),
                *("-" if m is None else _time_text(m) for m in found),
            ]
        )
    titles = ["timed", "MACs M", "paper: MACs M", *(f"paper: {c}" for c in columns)]
    return [*titles, *(f"{engine} ms (GFLOP/s)" for engine in v.engines)], rows


def _time_text(m: Measurement) -> str:
    return f"{digits(m.median_s * 1e3)} ({digits(m.achieved_gflops)})"


def _print_ratios(console: Console, v: Verdict) -> None:
    titles, rows = _ratio_rows(v)
    _print(console, titles, rows, signs=True)


def _print_times(console: Console, v: Verdict) -> None:
    titles, rows = _time_rows(v)
    _print(console, titles, rows, signs=False)


def _print(
    console: Console, titles: Sequence[str], rows: Sequence[Sequence[str]], *, signs: bool
) -> None:
    table = plain_table()
    for number, title in enumerate(titles):
        wrapped = title.replace(": ", ":\n").replace(" ms (", "\nms (")
        table.add_column(wrapped, justify="right" if number else "left", overflow="fold")
    styles = {SIGNS[word]: style for word, style in STYLES.items() if SIGNS[word]}
    for row in rows:
        # the interval goes below its ratio, so that four engines fit into a terminal
        cells = [cell.replace(" (", "\n(") if signs and i else cell for i, cell in enumerate(row)]
        name, *figures = cells
        texts = (Text(c, styles.get(c[-1:], "") if signs else "") for c in figures)
        table.add_row(Name(name), *texts)
    console.print(table)


def _reasons(v: Verdict) -> list[tuple[str, str]]:
    """Cells that were not measured, once for each reason."""
    rows = [("absent", f"{name}: {reason}") for name, reason in v.claim.absent.items()]
    by_reason: dict[str, dict[str, None]] = {}
    for f in v.found:
        if f.reason:
            place = f.experiment if f.reason == NOT_REACHED else f"{f.ratio.text} on {f.engine}"
            by_reason.setdefault(f.reason, {})[place] = None
    for reason, places in by_reason.items():
        listed = list(places)
        rest = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
        rows.append(("not measured", f"{', '.join(listed[:3])}{rest}: {reason}"))
    return rows


def save(verdicts: Sequence[Verdict], folder: Path) -> list[Path]:
    """Saves PNGs in ``folder`` and returns them: the ratios of each claim, and rate against work
    for the networks of ``table3``."""
    figures: dict[str, Figure] = {}
    for v in verdicts:
        if _measured(v):
            figures[v.claim.name] = ratios_figure(v)
        if v.claim.name == "table3" and v.times:
            figures["table3.rate"] = rate_figure(v)
    written = []
    for name, figure in figures.items():
        written.append(folder / f"{name}.png")
        save_figure(figure, written[-1], _DPI)
    return written


def ratios_figure(v: Verdict) -> Figure:
    """A line for each ratio: the paper's value as a bar from 1, each engine's as a mark with its
    interval, in the colour and filling of its verdict."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    shapes = _shapes(v.engines)
    ratios = list({f.ratio.text: f.ratio for f in v.found if f.here is not None}.values())
    # from top to bottom
    place = {ratio.text: len(ratios) - 1 - i for i, ratio in enumerate(ratios)}
    figure, axes = new_axes(
        "ratio (logarithmic)", "", f"{v.claim.name}: {v.word()}", (7.2, 1.5 + 0.34 * len(ratios))
    )
    values, words = [1.0], set[Word]()
    for ratio in ratios:
        if ratio.asserted is not None:
            values.append(ratio.asserted)
            axes.barh(
                place[ratio.text],
                ratio.asserted - 1,
                left=1,
                height=0.62,
                color=BAR,
                zorder=1,
            )
    step = 0.5 / max(1, len(v.engines))
    for f in v.found:
        if f.here is None or f.interval is None:
            continue
        y = place[f.ratio.text] + step * ((len(v.engines) - 1) / 2 - v.engines.index(f.engine))
        values += [f.here, *f.interval]
        colour = COLOURS[f.word]
        words.add(f.word)
        axes.plot(f.interval, (y, y), "-", color=colour, lw=0.9, alpha=0.7, zorder=2)
        axes.plot(
            f.here, y, MARKERS[shapes[f.engine]], color=colour, markersize=4.5, zorder=3,
            markeredgewidth=0.7, fillstyle=FILLS[f.word], markerfacecoloralt="white",
        )  # fmt: skip
    axes.axvline(1, color=SOFT, lw=0.8, zorder=1)
    axes.set_yticks(list(place.values()), labels=list(place), fontsize=7)
    axes.set_ylim(-0.6, len(ratios) - 0.4)
    low, high = min(values) / 1.15, max(values) * 1.15
    axes.set_xlim(low, high)
    plain_ticks(axes.xaxis, low, high)
    asserted = Patch(color=BAR, label="as the paper has it")
    verdicts = [
        Line2D(
            [], [], ls="", marker="o", color=COLOURS[word], fillstyle=FILLS[word],
            markerfacecoloralt="white", label=word, markersize=5,
        )
        for word in COLOURS
        if word in words
    ]  # fmt: skip
    _legend(figure, shapes, asserted, *verdicts)
    return figure


def rate_figure(v: Verdict) -> Figure:
    """FLOPS against FLOPs. Of two networks with the same MACs, the higher is the faster."""
    from matplotlib.lines import Line2D

    shapes = _shapes(v.engines)
    figure, axes = new_axes("MACs, millions", "GFLOP/s reached", "FLOPS against FLOPs")
    axes.set_yscale("log")
    points = {key: (m.macs / 1e6, m.achieved_gflops) for key, m in v.times.items()}
    for (name, engine), (x, y) in points.items():
        axes.plot(
            x, y, MARKERS[shapes[engine]], color=OWN if _is_own(name) else OTHER, markersize=5,
            alpha=0.8, markeredgecolor="white", markeredgewidth=0.4,
        )  # fmt: skip
    xs, ys = zip(*points.values(), strict=True)
    for values, set_limits, axis in (
        (xs, axes.set_xlim, axes.xaxis), (ys, axes.set_ylim, axes.yaxis),
    ):  # fmt: skip
        low, high = min(values) / 1.4, max(values) * 1.4
        set_limits(low, high)
        plain_ticks(axis, low, high)
    hues = [
        Line2D([], [], ls="", marker="o", color=colour, label=name, markersize=5)
        for name, colour in (("FasterNet", OWN), ("others", OTHER))
    ]
    _legend(figure, shapes, *hues)
    # each network is named at its highest rate
    best = {name: key for key in sorted(points, key=lambda key: points[key][1]) for name in key[:1]}
    spots = [points[key] for key in best.values()]
    rest = [point for key, point in points.items() if key not in best.values()]
    names = [short(name).replace("_patch4_window7_224", "") for name in best]
    name_points(figure, axes, names, [*spots, *rest])
    return figure


def _is_own(subject: str) -> bool:
    return subject.startswith("fasternet")


def _shapes(engines: Sequence[str]) -> dict[str, str]:
    """Marks of the engines, in alphabetical order, as in every other picture."""
    return {name: shape(name) for name in sorted(engines)}


def _legend(figure: Figure, shapes: dict[str, str], *others: Any) -> None:
    from matplotlib.lines import Line2D

    handles: list[Any] = [
        Line2D([], [], ls="", marker=MARKERS[shape], color=SOFT, label=name, markersize=5)
        for name, shape in shapes.items()
    ]
    figure.legend(
        handles=[*handles, *others], loc="outside lower center",
        ncols=min(6, len(handles) + len(others)), fontsize=7.5,
        frameon=False, labelcolor=INK, handletextpad=0.2, columnspacing=1.2,
    )  # fmt: skip
