"""What a run writes for people and other programs, beside its checkpoints.

==================  ============================================================================
``args.yaml``       every setting
``summary.csv``     a row for each epoch, with timm's columns first; accuracies in percent
``curves.png``      the same as a picture
``events.jsonl``    what happened, one line of JSON each
``tensorboard/``    TensorBoard's files, if asked for
==================  ============================================================================

``summary.csv`` is written from the state of the run, whole each time, so it has each epoch once
however often the run was killed. ``events.jsonl`` is brought in line when a run goes on.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TextIO

from fleetfoot.errors import CheckpointError, MissingExtraError
from fleetfoot.files import plain, read_text, replacing, to_json, write_text
from fleetfoot.train.checkpoint import Epoch
from fleetfoot.train.events import EpochDone, Evaluating, Event, Updated
from fleetfoot.train.figures import MEASURED, Kind, columns

ARGS, SUMMARY, CURVES, EVENTS = "args.yaml", "summary.csv", "curves.png", "events.jsonl"


def summary(history: Sequence[Epoch], task: Kind = "classify") -> str:
    """The rows of the epochs as CSV; an empty cell for what was not measured."""
    text = io.StringIO()
    written = csv.writer(text, lineterminator="\n")
    names = columns(task)
    written.writerow(names)
    for row in history:
        written.writerow(_cell(row.cell(name)) for name in names)
    return text.getvalue()


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    return "x".join(map(str, value)) if isinstance(value, tuple) else value


class Journal:
    """The files of one run, in its folder."""

    def __init__(
        self,
        folder: Path,
        args: str,
        *,
        task: Kind = "classify",
        history: Sequence[Epoch] = (),
        update: int = 0,
        tensorboard: bool = False,
    ) -> None:
        """Args:
        args: the settings, as YAML.
        task: decides the columns of ``summary.csv``.
        history: the epochs that are done, if the run goes on.
        update: the updates that are done.
        tensorboard: write TensorBoard's files too.

        Raises:
            MissingExtraError: TensorBoard is not installed.
            CheckpointError: the folder cannot be written.
        """
        self.folder, self.task = folder, task
        self._board = _board(folder, update) if tensorboard else None
        try:
            write_text(folder / ARGS, args)
            write_text(folder / SUMMARY, summary(history, task))
            kept = _lines(folder / EVENTS, history)
            write_text(folder / EVENTS, "".join(f"{line}\n" for line in kept))
            self._events: TextIO = (folder / EVENTS).open("a", encoding="utf-8")
        except OSError as error:
            raise CheckpointError(f"{folder} cannot be written: {error.strerror}") from error

    def close(self) -> None:
        self._events.close()
        if self._board is not None:
            self._board.close()

    def note(self, event: Event) -> None:
        """Writes an event through to the system; the progress within an epoch is left out."""
        if isinstance(event, Updated):
            if self._board is not None:
                self._board.add_scalar("train/loss", event.loss, event.update)
                self._board.add_scalar("train/lr", event.lr, event.update)
            return
        if isinstance(event, Evaluating):
            return
        self._events.write(_line(event) + "\n")
        self._events.flush()
        if isinstance(event, EpochDone) and self._board is not None:
            for name, value in {"train_loss": event.row.train_loss, **event.row.figures}.items():
                if value is not None:
                    self._board.add_scalar(name.replace("_", "/", 1), value, event.row.update)

    def rows(self, history: Sequence[Epoch]) -> None:
        """Writes the rows of all epochs so far."""
        write_text(self.folder / SUMMARY, summary(history, self.task))

    def draw(self, history: Sequence[Epoch]) -> None:
        """Draws the curves of all epochs so far."""
        if history:
            with replacing(self.folder / CURVES) as draft:
                draft.write_bytes(curves(history, self.task))


def _line(event: Event) -> str:
    raw = asdict(event)
    if "path" in raw:
        raw["path"] = str(raw["path"])
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return to_json({"kind": _kind(event), "at": now, **plain(raw)})


def _kind(event: Event) -> str:
    """An event's name, for example ``epoch_done``."""
    name = type(event).__name__
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


def _lines(file: Path, history: Sequence[Epoch]) -> list[str]:
    """The lines of an earlier part of the run, without those of epochs that come again, without
    one that is torn, and with those that are missing."""
    try:
        text = read_text(file)
    except FileNotFoundError:
        return []
    kept, seen = [], set()
    for line in text.splitlines():
        try:
            note = json.loads(line)
        except ValueError:
            continue
        if note.get("kind") == "epoch_done":
            epoch = note["row"]["epoch"]
            if epoch >= len(history) or epoch in seen:
                continue
            seen.add(epoch)
        kept.append(line)
    missing = [row for row in history if row.epoch not in seen]
    return [*kept, *(_line(EpochDone(row, is_best=False)) for row in missing)]


def _board(folder: Path, update: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingExtraError.of("--tensorboard", "tensorboard", "tensorboard") from None
    # what an earlier part of the run wrote of later updates does not count
    return SummaryWriter(str(folder / "tensorboard"), purge_step=update + 1)


def curves(history: Sequence[Epoch], task: Kind = "classify") -> bytes:
    """Loss, the deciding figure and learning rate by epoch, as a PNG file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.4))
    figure.subplots_adjust(left=0.06, right=0.98, bottom=0.15, top=0.9, wspace=0.25)
    loss, accuracy, rate = figure.subplots(1, 3)
    epochs = [row.epoch + 1 for row in history]

    def draw(axes: Any, name: str, label: str) -> None:
        values = [row.cell(name) for row in history]
        points = [(e, v) for e, v in zip(epochs, values, strict=True) if v is not None]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, marker=".", linewidth=1)

    draw(loss, "train_loss", "training")
    draw(loss, "eval_loss", "evaluation")
    draw(loss, "ema_loss", "evaluation, average")
    deciding = MEASURED[task].deciding
    draw(accuracy, f"eval_{deciding.name}", deciding.title)
    draw(accuracy, f"ema_{deciding.name}", f"{deciding.title}, average")
    draw(rate, "lr", "learning rate")
    chart = ", ".join(filter(None, (deciding.chart, deciding.unit)))
    for axes, title in ((loss, "loss"), (accuracy, chart), (rate, "learning rate")):
        axes.set_title(title)
        axes.set_xlabel("epochs")
        axes.grid(alpha=0.3)
        if axes.lines and axes is not rate:
            axes.legend()
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()
