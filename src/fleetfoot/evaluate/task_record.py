"""The record of an evaluation of a detector, a segmenter or a hand's network: ``evaluation.json``,
how right it was and how that was found out; ``answers.json``, what was counted of each picture,
from which every figure follows; and ``pictures.csv``, a line a picture. All lie in one folder.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from fleetfoot.errors import RecordError
from fleetfoot.evaluate.judges import JUDGES
from fleetfoot.evaluate.judges.base import Judge
from fleetfoot.evaluate.record import PICTURES, RECORD
from fleetfoot.files import (
    MOST_TEXT_BYTES,
    fields,
    read_json,
    read_object,
    read_text,
    to_json,
    write_text,
)
from fleetfoot.tasks.network import Task

SCHEMA = 1
ANSWERS = "answers.json"
MOST_ANSWERS_BYTES = 8 * MOST_TEXT_BYTES

Figures = Mapping[str, float | int | None]


@dataclass(frozen=True, kw_only=True)
class TaskRecord:
    """How right a network of a task was on one part of a data set, and the circumstances.

    Raises:
        RecordError: the schema is not the one that is known.
    """

    task: Task
    model: str
    weights: str
    """Digest of the parameters."""
    params: int
    """Number of parameters of the network as it was given."""
    form: str
    """"folded" or "training"."""
    preprocessing: dict[str, Any]
    """Fields of ``Preprocess``."""
    engine: str
    """The engine that ran the fixed part of the network. Decoding is torch's."""
    engine_version: str
    threads: int
    batch: int
    precision: str
    device: str
    error: float | None
    """Largest difference of the fixed part's outputs from eager's over eager's largest value; None
    if not compared."""
    data: str
    split: str
    fingerprint: str
    """Digest of the pictures' names, sizes and targets (``Scenes.fingerprint``)."""
    matched: str
    """What the classes of the data and those of the network were matched by; "" without classes."""
    classes: tuple[str, ...]
    """Names of the data's classes, by number."""
    images: int
    """Pictures that were judged."""
    unreadable: int
    """Pictures that could not be used. They are in no figure."""
    figures: dict[str, float | None]
    """Every figure by its name; None if there is nothing that it is about."""
    intervals: dict[str, tuple[float, float]]
    """95 % intervals by the bootstrap over pictures, of the figures that have one."""
    per_class: tuple[dict[str, float | None], ...]
    """What is said of each class, by number."""
    score: float | None = None
    """The score from which on a detection is shown and counted in ``pictures.csv``: that with the
    highest F1 on these pictures. None for other tasks."""
    times: dict[str, float]
    """Median time of a picture in the fixed part and in decoding, in seconds; not a measurement of
    the engine's speed."""
    parts: dict[str, float]
    """``times`` shared out to ``backbone``, ``neck``, ``head``, ``nms`` and the rest of
    ``decoding``, by one run in which each operator is timed by itself; empty if the engine does not
    time them (``evaluate.parts``)."""
    seconds: float
    """Time of the evaluation with reading."""
    machine: dict[str, Any]
    versions: dict[str, str]
    commit: str
    started: str
    notes: tuple[str, ...] = field(default=())
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise RecordError(
                f"schema {self.schema} is not the one that this fleetfoot knows, {SCHEMA}"
            )

    @property
    def size(self) -> int | tuple[int, int]:
        """Height and width of the network's input, in pixels."""
        size = self.preprocessing["size"]
        return tuple(size) if isinstance(size, list | tuple) else size


@dataclass(frozen=True, eq=False, kw_only=True)
class TaskAnswers:
    """What was counted of each picture."""

    judge: Judge
    names: Sequence[str]
    """Name of each picture within the data set, by its number."""
    errors: Mapping[int, str]
    """Why a picture was not judged, by its number."""


class TaskEvaluation(NamedTuple):
    record: TaskRecord
    answers: TaskAnswers


class _Answers(TypedDict):
    names: tuple[str, ...]
    errors: dict[str, str]
    meter: Any


def save(evaluation: TaskEvaluation, folder: Path) -> None:
    """Writes the three files into ``folder``, each in one step."""
    record, answers = evaluation
    held = {
        "names": list(answers.names),
        "errors": {str(number): text for number, text in answers.errors.items()},
        "meter": answers.judge.meter.as_json(),
    }
    write_text(folder / PICTURES, _csv(answers))
    write_text(folder / ANSWERS, to_json(held) + "\n")
    write_text(folder / RECORD, to_json(asdict(record), indent=1) + "\n")


def task_of(where: Path) -> str:
    """The task that an evaluation is of: ``classify`` if its record states none.

    Args:
        where: the folder or the JSON file of an evaluation.

    Raises:
        RecordError: the record cannot be read.
    """
    file = where if where.name == RECORD else where / RECORD
    try:
        return str(read_object(read_text(file)).get("task", "classify"))
    except OSError as error:
        raise RecordError(f"{file} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, RecordError) as error:
        raise RecordError(f"{file}: {error}") from error


def read(where: Path) -> TaskEvaluation:
    """The evaluation in a folder, or of its JSON file.

    Raises:
        RecordError: a file is missing or damaged, or the two contradict each other.
        MissingExtraError: its figures need a package that is not installed.
    """
    folder = where.parent if where.name == RECORD else where
    record = read_json(folder / RECORD, TaskRecord)
    answers = _answers(folder / ANSWERS, record.task)
    counted = answers.judge.figures()
    odd = [name for name in {**counted, **record.figures} if not _alike(name, record, counted)]
    if odd:
        raise RecordError(
            f"{folder}: {odd[0]} is {record.figures.get(odd[0])} in {RECORD}, and "
            f"{counted.get(odd[0])} by {ANSWERS}"
        )
    return TaskEvaluation(record, answers)


def _alike(name: str, record: TaskRecord, counted: Figures) -> bool:
    """Whether both state a figure, up to the last bits: another processor may add in another
    order."""
    if name not in record.figures or name not in counted:
        return False
    one, other = record.figures[name], counted[name]
    if one is None or other is None:
        return one is other
    return abs(one - other) <= 1e-9 * max(1.0, abs(one))


def _answers(file: Path, task: Task) -> TaskAnswers:
    try:
        raw = read_object(read_text(file, most=MOST_ANSWERS_BYTES))
        held = fields(raw, _Answers, "")
        if not isinstance(held["meter"], dict):
            raise RecordError("meter must be an object")
        judge = JUDGES[task].of_json(held["meter"])
        errors = {int(number): text for number, text in held["errors"].items()}
        numbers = [*judge.numbers, *errors]
        if numbers and not 0 <= min(numbers) <= max(numbers) < len(held["names"]):
            raise RecordError(f"it names {len(held['names'])} pictures, and judges others")
    except OSError as error:
        raise RecordError(f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, RecordError) as error:
        raise RecordError(f"{file} is damaged: {error}") from error
    return TaskAnswers(judge=judge, names=held["names"], errors=errors)


def _csv(answers: TaskAnswers) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = answers.judge.columns
    writer.writerow(["picture", *columns, "error"])
    rows = answers.judge.rows()
    for number, name in enumerate(answers.names):
        row = rows.get(number, {})
        cells = [_cell(row.get(column)) for column in columns]
        writer.writerow([name, *cells, answers.errors.get(number, "")])
    return text.getvalue()


def _cell(value: float | int | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.6g}"
