"""A training run in a terminal: its progress while it goes on, and one card at its end."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fleetfoot.errors import visible
from fleetfoot.report.kit.terminal import command_text, rows
from fleetfoot.report.live import QUIET_S, LiveView, duration
from fleetfoot.report.summary import digits
from fleetfoot.train.checkpoint import Epoch
from fleetfoot.train.events import (
    BadImage,
    Begun,
    EpochDone,
    Evaluating,
    Event,
    Notice,
    RolledBack,
    Updated,
)
from fleetfoot.train.figures import MEASURED, Kind
from fleetfoot.train.loop import Outcome
from fleetfoot.train.settings import Line

SHOWN_BAD = 5
"""Bad pictures that are named; the rest is counted."""


class Progress(LiveView):
    """A context that receives the events of a run and shows them: in a terminal a bar over the last
    epochs, elsewhere a line for each epoch, and now and then one within a long epoch."""

    def __init__(self, console: Console, task: Kind = "classify") -> None:
        super().__init__(console)
        self._task: Kind = task
        self._said = time.monotonic()
        self._bad = self._epochs = 0
        self._now: Updated | None = None
        self._words = ""

    def __call__(self, event: Event) -> None:
        if isinstance(event, Notice):
            self._say(f"note: {visible(event.text)}")
        elif isinstance(event, Begun):
            self._epochs = event.epochs
            done = f", {event.update:,} of them done" if event.resumed else ""
            self._say(
                f"{event.updates:,} updates of {event.batch:,} pictures in {event.epochs:,} "
                f"epoch{'s' * (event.epochs != 1)}{done}"
            )
        elif isinstance(event, Updated):
            self._now, self._words = event, updated_text(event)
            self._show()
        elif isinstance(event, Evaluating):
            self._words = f"evaluating: {event.done:,} of {event.of:,} pictures"
            self._show()
        elif isinstance(event, EpochDone):
            said = epoch_text(event.row, self._epochs, is_best=event.is_best, task=self._task)
            self._say(said)
        elif isinstance(event, BadImage):
            self._bad += 1
            if self._bad <= SHOWN_BAD:
                self._say(f"bad picture: {visible(event.path)}: {visible(event.reason)}")
        elif isinstance(event, RolledBack):
            left_out = ", ".join(map(str, event.skipped))
            self._say(
                f"the loss of update {event.at} is not finite: the run goes back to update "
                f"{event.to} and leaves out the pictures of {left_out}"
            )

    def _say(self, text: str) -> None:
        self._console.print(Text(text))
        self._said = time.monotonic()

    def _show(self) -> None:
        if self._live is not None:
            self._live.update(self._picture())
        elif time.monotonic() - self._said >= QUIET_S:
            self._say(self._words)

    def _picture(self) -> RenderableType:
        share = self._now.update / max(1, self._now.updates) if self._now else 0.0
        row = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=1.0, completed=share, width=24)
        row.add_row(bar, Text(self._words, overflow="ellipsis", no_wrap=True))
        return row


def updated_text(event: Updated) -> str:
    """The state within an epoch, in a line."""
    parts = [
        f"epoch {event.epoch + 1} of {event.epochs}",
        f"loss {digits(event.loss)}",
        f"lr {event.lr:.2g}",
    ]
    if event.images_per_s:
        parts.append(f"{event.images_per_s:,.0f} images/s")
    if event.left_s >= 1:
        parts.append(f"about {duration(event.left_s)} left")
    return ", ".join(parts)


def epoch_text(row: Epoch, epochs: int, *, is_best: bool, task: Kind = "classify") -> str:
    """An epoch's figures in a line."""
    parts = [
        f"epoch {row.epoch + 1:>{len(str(epochs))}} of {epochs}: loss {digits(row.train_loss)}",
        f"{row.images_per_s:,.0f} images/s",
    ]
    figure = MEASURED[task].deciding
    if (value := row.figures.get(f"eval_{figure.name}")) is not None:
        parts.append(figure.text(value))
    if (value := row.figures.get(f"ema_{figure.name}")) is not None:
        parts.append(f"average {figure.number(value)} {figure.unit}".rstrip())
    return ", ".join(parts) + (" (best)" if is_best else "")


def card(outcome: Outcome, *, data: str, pictures: str = "") -> RenderableType:
    """The end of a run: what came out, where it lies, and what to type next.

    Args:
        data: the data set as the command takes it; "" for the built-in one.
        pictures: a place with pictures to classify, for the example.
    """
    last = outcome.history[-1] if outcome.history else None
    named = {
        "network": outcome.model,
        "updates": f"{outcome.update:,} of {outcome.updates:,} in {duration(outcome.seconds)}",
    }
    if last is not None:
        named["loss"] = f"{digits(last.train_loss)} in the last epoch"
    if outcome.best is not None:
        named["best"] = f"{outcome.best.text} after epoch {outcome.best.epoch + 1}"
    if outcome.test is not None:
        named["test"] = f"{test_text(outcome)} of {outcome.test['images']:,} pictures"
    if outcome.bad_images:
        named["bad pictures"] = f"{len(outcome.bad_images):,}, named in events.jsonl"
    named["weights"] = visible(outcome.checkpoint)
    named["page"] = visible(outcome.folder / "report.html")
    title = "Interrupted" if outcome.interrupted else "Trained"
    parts: list[RenderableType] = [Text(title, "bold"), rows(named), Text(""), Text("Next", "bold")]
    parts += [command_text(command) for command in next_commands(outcome, data, pictures)]
    return Group(*parts)


def test_text(outcome: Outcome) -> str:
    """The deciding figure on the test pictures, with its title and unit."""
    assert outcome.test is not None
    figure = MEASURED[outcome.task].deciding
    return figure.text(outcome.test[figure.name])


def next_commands(outcome: Outcome, data: str, pictures: str = "") -> list[str]:
    """Commands that go on from a run."""
    if not outcome.finished:
        return [f"fleetfoot train --resume {outcome.folder}"]
    model = str(outcome.checkpoint)
    task = "" if outcome.task == "classify" else f" --task {outcome.task}"
    if ".py" in outcome.model:
        model = f"'{outcome.model}' --weights {outcome.checkpoint}"
    predict = f"fleetfoot predict {model} {pictures or 'PICTURES'}"
    return [
        *([] if task else [predict]),  # predict names classes only
        f"fleetfoot eval {model}{f' {data}' if data else ''}{task}",
        f"fleetfoot fuse {model}",
        f"fleetfoot compile {model}",
        f"fleetfoot bench {model}",
    ]


def record(outcome: Outcome) -> dict[str, Any]:
    """The outcome as ``--json`` prints it."""
    raw = asdict(outcome)
    return {
        name: str(value) if isinstance(value, Path) else value for name, value in raw.items()
    } | {"finished": outcome.finished}


def settings_text(lines: Iterable[Line], width: int = 100) -> str:
    """The resolved settings, a paragraph for each part of the tree. A setting that differs from the
    recipe has the recipe's value in brackets."""
    parts: dict[str, list[str]] = {}
    for line in lines:
        part, _, name = line.name.rpartition(".")
        before = "" if line.preset is None else f" (recipe: {line.preset})"
        parts.setdefault(part, []).append(f"{name}={line.value}{before}")
    return "\n".join(
        textwrap.fill(
            " ".join([f"{part}:", *values] if part else values),
            width=width,
            initial_indent="  ",
            subsequent_indent="    ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        for part, values in parts.items()
    )
