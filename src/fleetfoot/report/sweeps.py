"""A sweep in a terminal: its progress, and a card with the trials and the settings to copy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fleetfoot.errors import counted, visible
from fleetfoot.report.kit.terminal import command_text
from fleetfoot.report.live import duration
from fleetfoot.report.training import Progress
from fleetfoot.train.events import Begun, EpochDone, Event, Notice
from fleetfoot.train.sweep import SweepOutcome, TrialBegun, TrialDone, Tried

SHOWN = 10
"""Trials in the card; ``summary.csv`` has all."""


class SweepProgress(Progress):
    """A context that receives the events of a sweep and shows them: a line for each trial, and in a
    terminal the progress within it."""

    def __call__(self, event: Event | TrialBegun | TrialDone) -> None:
        if isinstance(event, TrialBegun):
            again = ", continued" if event.resumed else ""
            self._say(
                f"trial {event.number + 1} of {event.trials}{again}: {values_text(event.values)}"
            )
        elif isinstance(event, TrialDone):
            self._say(f"  {ended_text(event.tried)}{' (best)' if event.is_best else ''}")
        elif not isinstance(event, Begun | EpochDone | Notice):
            super().__call__(event)


def values_text(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())


def ended_text(tried: Tried) -> str:
    """How a trial ended, in a line."""
    if tried.state == "failed":
        return f"failed: {visible(tried.reason)}"
    top1 = "no accuracy" if tried.top1 is None else f"top-1 {tried.top1:.2f} %"
    early = f", ended early after {counted(tried.epochs, 'epoch')}"
    return f"{top1} in {duration(tried.seconds)}{early if tried.state == 'pruned' else ''}"


def set_line(tried: Tried) -> str:
    """The settings of a trial, as a command takes them."""
    return " ".join(f"--set {change}" for change in tried.changes)


def ranked(trials: Sequence[Tried]) -> list[Tried]:
    """The trials, the best first: those that came to their end, then those that ended early, then
    failures."""
    order = {"complete": 0, "pruned": 1, "failed": 2}
    return sorted(trials, key=lambda t: (order[t.state], -(t.top1 or 0.0), t.number))


def sentences(outcome: SweepOutcome, pictures: int) -> list[str]:
    """What a reader should know first."""
    states = [tried.state for tried in outcome.trials]
    said = [
        f"{counted(len(states), 'trial')} of {outcome.wanted}: {states.count('complete')} to the "
        f"end, {states.count('pruned')} ended early, {states.count('failed')} failed."
    ]
    if outcome.interrupted:
        said.append(
            f"The sweep was interrupted ({outcome.interrupted}); the same command goes on with it."
        )
    if outcome.best is not None:
        said.append(
            f"Best top-1: {outcome.best.top1:.2f} % of {counted(pictures, 'validation picture')}, "
            f"in trial {outcome.best.number + 1}. It is the highest of {len(states)}, so it is a "
            "little too good: judge the settings by a run on test pictures."
        )
    return said


def print_card(console: Console, outcome: SweepOutcome, *, pictures: int, command: str) -> None:
    """Prints what came out, the best trials, and the best settings to copy.

    Args:
        pictures: number of validation pictures.
        command: the command of one run, to which the settings are added.
    """
    console.print(Text("Interrupted" if outcome.interrupted else "Swept", "bold"))
    for said in sentences(outcome, pictures):
        console.print(Text(said), soft_wrap=True)
    if outcome.trials:
        console.print(_table(ranked(outcome.trials)[:SHOWN]))
    if outcome.best is not None:
        console.print(Text("Next", "bold"))
        console.print(command_text(f"{command} {set_line(outcome.best)}"), crop=False)
    console.print(Text(f"  folder: {visible(outcome.folder)}"), soft_wrap=True)


def _table(trials: Sequence[Tried]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("trial", "top-1 %", "epochs", *trials[0].values):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("end")
    for one in trials:
        table.add_row(
            str(one.number + 1),
            "-" if one.top1 is None else f"{one.top1:.2f}",
            str(one.epochs),
            *one.values.values(),
            {"complete": "", "pruned": "early", "failed": "failed"}[one.state],
        )
    return table


def record(outcome: SweepOutcome) -> dict[str, Any]:
    """The outcome as ``--json`` prints it."""
    raw = asdict(outcome)
    weights = outcome.weights
    return {
        **raw,
        "folder": str(outcome.folder),
        "trials": [dict(asdict(one)) for one in outcome.trials],
        "weights": None if weights is None else str(weights),
        "set": None if outcome.best is None else set_line(outcome.best),
    }
