"""How good a latency model is: cards of a calibration and of a check, and the check's picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fleetfoot.choose.calibrate import Calibration
from fleetfoot.choose.calibration_check import PREDICTORS, Check, Checked
from fleetfoot.choose.prediction_error import Agreement
from fleetfoot.report.kit.terminal import Name
from fleetfoot.report.summary import absences, digits

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHECK_FILE = "check.json"
PICTURE_FILE = "predicted-against-measured.png"


@dataclass(frozen=True)
class Target:
    """An accuracy that the model should reach on networks not in its fit."""

    name: str
    text: str
    met: Callable[[Agreement], bool]


TARGETS = (
    Target("median error", "≤ 10 %", lambda found: found.median_error <= 0.10),
    Target("90th percentile", "≤ 25 %", lambda found: found.p90_error <= 0.25),
    Target("rank correlation", "≥ 0.97", lambda found: found.spearman >= 0.97),
)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def figures(found: Agreement) -> tuple[str, str, str]:
    """The figure for each of ``TARGETS``, as text."""
    return _percent(found.median_error), _percent(found.p90_error), f"{found.spearman:.3f}"


def setting(made: Calibration) -> str:
    """The engine, version, threads and processor, for example "native 0.1.0, 1 thread, EPYC"."""
    threads = f"{made.threads} thread{'s' if made.threads > 1 else ''}"
    return f"{made.engine} {made.engine_version}, {threads}, {made.cpu}"


def print_calibration(console: Console, made: Calibration, file: Path | None) -> None:
    """Prints what was measured, how well the model fits it, and the rates."""
    console.print(Text(f"latency model: {setting(made)}", "bold"), soft_wrap=True)
    median, p90, rank = figures(made.within)
    words = (
        f"{len(made.samples)} synthetic networks in {made.seconds:.0f} s. Held out by fifths: "
        f"median error {median}, 90th percentile {p90}, rank correlation {rank}."
    )
    console.print(Text(words), soft_wrap=True)
    if made.failures:
        words = (
            f"{len(made.failures)} of them it could not run, the first: {made.failures[0].reason}"
        )
        console.print(Text(words), soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("price", no_wrap=True)
    table.add_column("", justify="right", no_wrap=True)
    for name, rate in made.model.rates.items():
        table.add_row(name, _rate(name, rate))
    console.print(table)
    kept = "not kept" if file is None else f"kept in {file}"
    console.print(Text(f"{kept}; how good it is: fleetfoot calibrate --check"), soft_wrap=True)


def _rate(name: str, rate: float) -> str:
    what = name.rpartition(".")[2]
    if what in ("start", "call"):
        return f"{digits(1e6 * rate)} µs"
    unit = {"macs": "MAC", "operations": "FLOP"}.get(what, "byte")
    return f"{digits(1e12 * rate)} ps/{unit}"


def print_check(console: Console, made: Check) -> None:
    """Prints the predictors beside each other, then each network, the worst prediction last."""
    console.print(Text(f"latency model: {setting(made.calibration)}", "bold"), soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(f"on {len(made.networks)} networks not in the fit", no_wrap=True)
    for target in TARGETS:
        table.add_column(target.name, justify="right", no_wrap=True)
    for name in PREDICTORS:
        table.add_row(name, *figures(made.agreement(name)))
    table.add_row(Text("to reach", "dim"), *(Text(target.text, "dim") for target in TARGETS))
    console.print(table)
    rows = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    rows.add_column("network")
    for title in ("measured ms", "predicted ms", "off by"):
        rows.add_column(title, justify="right", no_wrap=True)
    for one in by_error(made.networks):
        rows.add_row(Name(one.model), *cells(one))
    console.print(rows)
    for line in absences(made.failures):
        console.print(Text(line), soft_wrap=True)


def by_error(networks: Sequence[Checked]) -> list[Checked]:
    """The networks by error, the best predicted first."""
    return sorted(networks, key=lambda one: abs(one.error))


def cells(one: Checked) -> tuple[str, str, str]:
    """Measured and predicted milliseconds of a network, and the error of the prediction."""
    return (
        digits(1e3 * one.measured_s),
        digits(1e3 * one.predicted_s),
        f"{100 * one.error:+.1f} %",
    )


def picture(made: Check) -> Figure:
    """Predicted against measured times, both logarithmic; the lines are 25 % off either way."""
    from fleetfoot.report.plots import LINE, SOFT, limits, new_axes

    title = f"Predicted against measured: {setting(made.calibration)}"
    figure, axes = new_axes("measured ms", "predicted ms", title)
    axes.set_yscale("log")
    measured = [1e3 * one.measured_s for one in made.networks]
    series = (
        ("MACs", "by_macs_s", "x", "#a3abb6"),
        ("latency model", "predicted_s", "o", "#1d64b4"),
    )
    values = {name: [1e3 * getattr(one, f) for one in made.networks] for name, f, *_ in series}
    every = [*measured, *(v for found in values.values() for v in found)]
    limits(axes, measured, every)
    low, high = min(every) / 2, max(every) * 2
    for factor, style in ((1.0, "-"), (1.25, ":"), (1 / 1.25, ":")):
        axes.plot([low, high], [factor * low, factor * high], style, color=SOFT, lw=0.8, zorder=1)
    for name, _, mark, colour in series:
        axes.plot(measured, values[name], mark, color=colour, markersize=4.5, label=name,
                  markeredgecolor="white" if mark == "o" else colour)  # fmt: skip
    axes.legend(frameon=False, fontsize=8, labelcolor=SOFT, edgecolor=LINE, loc="upper left")
    return figure


def save_picture(made: Check, folder: Path) -> Path:
    """Saves the picture as PNG in ``folder``; the same record gives the same bytes."""
    from fleetfoot.report.plots import save_figure

    file = folder / PICTURE_FILE
    save_figure(picture(made), file)
    return file
