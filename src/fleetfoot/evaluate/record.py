"""The record of an evaluation: ``evaluation.json``, how right a network was and how that was found
out, and ``pictures.csv``, its answer for each picture. Both lie in one folder.

n pictures · k guesses a picture
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fleetfoot.errors import RecordError
from fleetfoot.evaluate.score import CLASSIFY, TOP1, Provenance, Score, share_interval
from fleetfoot.evaluate.tally import Tally
from fleetfoot.files import read_bytes, read_json, to_json, write_text

SCHEMA = 1
RECORD, PICTURES = "evaluation.json", "pictures.csv"
GUESSES = 5
"""Guesses kept for each picture."""
NOT_FINITE = "the network's answer is not finite"
MOST_CSV_BYTES = 4 * 2**30


@dataclass(frozen=True, kw_only=True)
class Share:
    """A share of pictures."""

    right: int
    images: int

    def __post_init__(self) -> None:
        if not 0 <= self.right <= self.images or not self.images:
            raise ValueError(f"{self.right} of {self.images} is no share")

    @property
    def percent(self) -> float:
        return 100 * self.right / self.images

    @property
    def ci95(self) -> tuple[float, float]:
        """95 % interval in percent, as far as the number of pictures goes: low, high."""
        return share_interval(self.percent, self.images)

    def __str__(self) -> str:
        low, high = self.ci95
        return f"{self.percent:.2f} % ({low:.2f} to {high:.2f})"


@dataclass(frozen=True, kw_only=True)
class EvaluationRecord:
    """How right a network was on one part of a data set, and the circumstances.

    Raises:
        RecordError: figures contradict each other.
    """

    model: str
    weights: str
    """Digest of the parameters, or of the compiled files."""
    params: int | None
    """Number of parameters of the network as it was given; None if a compiled file hides it."""
    form: str
    """"folded", "training", or "as compiled"."""
    preprocessing: dict[str, Any]
    """Fields of ``Preprocess``."""
    engine: str
    engine_version: str
    threads: int
    batch: int
    precision: str
    device: str
    error: float | None
    """Largest difference of the engine's output from eager's over eager's largest value; None if
    not compared."""
    data: str
    split: str
    fingerprint: str
    """Digest of the pictures' names, sizes and classes (``Split.fingerprint``)."""
    matched: str
    """What the classes of the data and those of the network were matched by."""
    classes: tuple[str, ...]
    """Names of the classes that the network may guess, by number."""
    unreadable: int
    """Pictures that could not be read. They are in no figure."""
    tally: dict[str, Any]
    """Counts over all pictures that could be read (``Tally.as_json``)."""
    top1: Share
    top5: Share
    real: Share | None = None
    """Pictures whose best guess is one of several right answers, of those that have any."""
    loss: float | None
    """Mean cross entropy, in nats."""
    calibration_error: float | None
    """Expected calibration error, in percent."""
    seconds: float
    """Time of the evaluation with decoding; not a measurement of the engine's speed."""
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
        counts, accuracy = self.counts, self.counts.accuracy
        for name, stated, counted in (
            ("top1", self.top1, Share(right=accuracy.right(1), images=counts.images)),
            ("top5", self.top5, Share(right=accuracy.right(GUESSES), images=counts.images)),
            ("loss", self.loss, counts.loss),
            ("calibration_error", self.calibration_error, counts.calibration_error),
            ("classes", len(self.classes), counts.classes),
        ):
            if stated != counted:
                raise RecordError(f"{name} is {stated}, and {counted} by the tally")

    @cached_property
    def counts(self) -> Tally:
        return Tally.from_json(self.tally)

    @property
    def size(self) -> int | tuple[int, int]:
        """Height and width of the network's input, in pixels."""
        size = self.preprocessing["size"]
        return tuple(size) if isinstance(size, list | tuple) else size

    def score(self) -> Score:
        """The top-1, to be joined to measurements."""
        return Score(
            model=self.model,
            size=self.size,
            task=CLASSIFY,
            data=f"{self.data}, {self.split}",
            metric=TOP1,
            value=self.top1.percent,
            evaluation=Provenance(
                form=self.form,
                engine=self.engine,
                examples=self.top1.images,
                fingerprint=self.fingerprint,
                ci95=self.top1.ci95,
            ),
        )


class Answer(NamedTuple):
    """What the network said of one picture."""

    picture: str
    truth: int
    """Class number."""
    guesses: tuple[int, ...]
    """Class numbers, best first; none if there is no answer."""
    probabilities: tuple[float, ...]
    error: str

    @property
    def right(self) -> bool:
        return self.guesses[:1] == (self.truth,)


@dataclass(frozen=True, eq=False)
class Answers:
    """The answers for all pictures, in the order of the data, in arrays."""

    pictures: Sequence[str]
    """Name of each picture within the data set."""
    truth: npt.NDArray[np.int32]
    """Class numbers, (n,)."""
    guesses: npt.NDArray[np.int32]
    """Class numbers, best first, (n, k); -1 for a picture without an answer."""
    probabilities: npt.NDArray[np.float32]
    """Probability of each guess, (n, k)."""
    errors: Mapping[int, str]
    """Why a picture has no answer, by its number."""

    @classmethod
    def empty(cls, pictures: Sequence[str], truth: npt.NDArray[np.int64], classes: int) -> Answers:
        shape = (len(truth), min(GUESSES, classes))
        return cls(
            pictures,
            truth.astype(np.int32),
            np.full(shape, -1, np.int32),
            np.zeros(shape, np.float32),
            {},
        )

    def __len__(self) -> int:
        return len(self.truth)

    def __getitem__(self, number: int) -> Answer:
        answered = self.guesses[number, 0] >= 0
        return Answer(
            self.pictures[number],
            int(self.truth[number]),
            tuple(self.guesses[number].tolist()) if answered else (),
            tuple(self.probabilities[number].tolist()) if answered else (),
            self.errors.get(number, ""),
        )

    def __iter__(self) -> Iterator[Answer]:
        return (self[number] for number in range(len(self)))

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Whether the best guess is the true class, (n,)."""
        return np.asarray(self.guesses[:, 0] == self.truth)

    @property
    def judged(self) -> npt.NDArray[np.bool_]:
        """Whether the picture could be read, (n,)."""
        found = np.ones(len(self), np.bool_)
        found[[n for n, error in self.errors.items() if error != NOT_FINITE]] = False
        return found


class Evaluation(NamedTuple):
    record: EvaluationRecord
    answers: Answers


def save(evaluation: Evaluation, folder: Path) -> None:
    """Writes both files into ``folder``, each in one step."""
    record, answers = evaluation
    write_text(folder / PICTURES, _csv(answers, record.classes))
    write_text(folder / RECORD, to_json(asdict(record), indent=1) + "\n")


def is_evaluation(where: Path) -> bool:
    """Whether ``where`` is the folder or the JSON file of an evaluation."""
    return where.name == RECORD if where.is_file() else (where / RECORD).is_file()


def by_engine(where: Path) -> list[Path]:
    """The folders of the evaluations that lie in ``where``, one for each engine; none if it is an
    evaluation itself."""
    if is_evaluation(where):
        return []
    return sorted(file.parent for file in where.glob(f"*/{RECORD}"))


def read(where: Path) -> Evaluation:
    """The evaluation in a folder, or of its JSON file.

    Raises:
        RecordError: a file is missing or damaged, or the two contradict each other.
    """
    folder = where.parent if where.name == RECORD else where
    record = read_json(folder / RECORD, EvaluationRecord)
    answers = _answers(folder / PICTURES, len(record.classes))
    judged, right = int(answers.judged.sum()), int(answers.right.sum())
    if (judged, right) != (record.top1.images, record.top1.right):
        raise RecordError(
            f"{folder}: {PICTURES} has {right} right answers for {judged} pictures, and {RECORD} "
            f"has {record.top1.right} for {record.top1.images}"
        )
    return Evaluation(record, answers)


def _heads(guesses: int) -> list[str]:
    numbers = range(1, guesses + 1)
    return [
        "picture", "class", "truth", "right",
        *(f"guess_{n}" for n in numbers), *(f"probability_{n}" for n in numbers), "guess", "error",
    ]  # fmt: skip


def _csv(answers: Answers, classes: Sequence[str]) -> str:
    """A line a picture: class numbers, and the names of the true class and of the best guess."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    most = answers.guesses.shape[1]
    writer.writerow(_heads(most))
    for one in answers:
        said = [*one.guesses, *(f"{p:.6g}" for p in one.probabilities)] or [""] * (2 * most)
        guess = classes[one.guesses[0]] if one.guesses else ""
        right = int(one.right) if one.guesses or one.error == NOT_FINITE else ""
        writer.writerow(
            [one.picture, one.truth, classes[one.truth], right, *said, guess, one.error]
        )
    return text.getvalue()


def _answers(file: Path, classes: int) -> Answers:
    most = min(GUESSES, classes)
    try:
        text = read_bytes(file, most=MOST_CSV_BYTES).decode("utf-8")
        rows = csv.reader(io.StringIO(text, newline=""))
        if next(rows, None) != _heads(most):
            raise ValueError("its first line is not that of an evaluation")
        held = list(rows)
        made = Answers.empty(
            [row[0] for row in held], np.array([int(row[1]) for row in held], np.int64), classes
        )
        errors = {}
        for number, row in enumerate(held):
            if row[4]:
                made.guesses[number] = [int(cell) for cell in row[4 : 4 + most]]
                made.probabilities[number] = [float(c) for c in row[4 + most : 4 + 2 * most]]
            if row[-1]:
                errors[number] = row[-1]
    except OSError as error:
        raise RecordError(f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, IndexError, csv.Error) as error:
        raise RecordError(f"{file} is damaged: {error}") from error
    outside = (made.guesses >= classes) | (made.truth[:, None] >= classes)
    if outside.any() or (made.truth < 0).any():
        raise RecordError(f"{file} is damaged: it has numbers of no class")
    return Answers(made.pictures, made.truth, made.guesses, made.probabilities, errors)
