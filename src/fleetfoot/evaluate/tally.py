"""What a classifier's logits amount to on pictures of known classes: accuracy, loss, the classes
that are confused, and calibration.

Calibration: Guo et al. 2017, "On Calibration of Modern Neural Networks",
https://arxiv.org/abs/1706.04599, section 2.

Classes with equal logits are ordered by number, the lower first: a network that answers the same
for every class names class 0, and is right on pictures of class 0 only.

B batch · N classes
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypedDict

import numpy as np
import numpy.typing as npt
from torch import Tensor

from fleetfoot.errors import RecordError
from fleetfoot.files import fields, refuse_negatives
from fleetfoot.tasks.classify import Accuracy

BINS = 15
"""Number of equal ranges of confidence, as in the paper's tables."""

_PARTS = 2**40
"""Losses and probabilities are added as whole numbers of this fraction, so that a sum does not
depend on the order of the pictures, or on the number of processes that share them."""


class ClassFigures(NamedTuple):
    """One class of a tally."""

    number: int
    images: int
    """Number of pictures of this class."""
    guessed: int
    """Number of pictures, of any class, that were taken for this one."""
    right: int

    @property
    def recall(self) -> float | None:
        """Percentage of this class's pictures that were named correctly; None if it has none."""
        return 100 * self.right / self.images if self.images else None

    @property
    def precision(self) -> float | None:
        """Percentage of the pictures taken for this class that are of it; None if none were."""
        return 100 * self.right / self.guessed if self.guessed else None


class Bin(NamedTuple):
    """The pictures whose best guess has a probability above ``low``, up to ``high``."""

    low: float
    high: float
    images: int
    right: int
    confidence: float
    """Mean probability of the best guess; 0 if there are no pictures."""

    @property
    def accuracy(self) -> float:
        """Share of the pictures that were named correctly; 0 if there are none."""
        return self.right / self.images if self.images else 0.0


class _Json(TypedDict):
    classes: int
    images: int
    ranks: tuple[tuple[int, ...], ...]
    pairs: tuple[tuple[int, ...], ...]
    not_finite: tuple[tuple[int, ...], ...]
    loss_parts: int
    bins: tuple[tuple[int, ...], ...]


@dataclass
class Tally:
    """What was counted of some pictures. Tallies of parts add up to that of the whole, exactly.

    >>> import torch
    >>> tally = Tally(3)
    >>> tally.update(torch.tensor([[2.0, 1.0, 0.0], [0.0, 0.0, 4.0]]), torch.tensor([1, 2]))
    >>> tally.images, tally.top(1), tally.top(2)
    (2, 50.0, 100.0)
    """

    classes: int
    accuracy: Accuracy = field(default_factory=Accuracy)
    pairs: Counter[tuple[int, int]] = field(default_factory=Counter)
    """Number of pictures by (true class, best guess)."""
    not_finite: Counter[int] = field(default_factory=Counter)
    """Number of pictures by true class whose logits are not all finite. They count as wrong, and
    are in neither the loss nor the calibration."""
    loss_parts: int = 0
    bins: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((BINS, 2), np.int64))
    """Pictures, and of them those named correctly, for each range of confidence."""
    confidence_parts: list[int] = field(default_factory=lambda: [0] * BINS)

    @property
    def images(self) -> int:
        return self.accuracy.images

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Counts a batch.

        Args:
            logits: (B, N) of any floating type, on any device.
            labels: (B,), class numbers.

        Raises:
            ValueError: the shapes do not fit, or a label is not the number of a class.
        """
        if logits.ndim != 2 or logits.shape[1] != self.classes or labels.shape != logits.shape[:1]:
            raise ValueError(
                f"logits of shape {tuple(logits.shape)} and labels of shape {tuple(labels.shape)} "
                f"are not (B, {self.classes}) and (B,)"
            )
        rows, truth = logits.detach().cpu().double().numpy(), labels.detach().cpu().numpy()
        if truth.size and not (0 <= truth.min() and truth.max() < self.classes):
            odd = truth[(truth < 0) | (truth >= self.classes)][0]
            raise ValueError(f"label {odd} is not a class number, 0 to {self.classes - 1}")
        finite = np.isfinite(rows).all(axis=1)
        for label in truth[~finite].tolist():
            self.accuracy.count(None)
            self.not_finite[label] += 1
        rows, truth = rows[finite], truth[finite]
        if not truth.size:
            return
        own = rows[np.arange(len(rows)), truth][:, None]
        earlier = np.arange(self.classes) < truth[:, None]
        ranks = ((rows > own) | ((rows == own) & earlier)).sum(axis=1)
        guesses = rows.argmax(axis=1)  # the first of equals, as numpy documents it
        shifted = rows - rows.max(axis=1, keepdims=True)
        logs = np.log(np.exp(shifted).sum(axis=1))
        losses = logs - shifted[np.arange(len(rows)), truth]
        self.loss_parts += sum(map(_parts, losses.tolist()))
        for rank, label, guess in zip(
            ranks.tolist(), truth.tolist(), guesses.tolist(), strict=True
        ):
            self.accuracy.count(rank)
            self.pairs[label, guess] += 1
        confidences = np.exp(-logs)
        ranges = np.clip(np.ceil(confidences * BINS).astype(np.int64) - 1, 0, BINS - 1)
        np.add.at(self.bins, (ranges, 0), 1)
        np.add.at(self.bins, (ranges, 1), (guesses == truth).astype(np.int64))
        for at, confidence in zip(ranges.tolist(), confidences.tolist(), strict=True):
            self.confidence_parts[at] += _parts(confidence)

    def __add__(self, other: Tally) -> Tally:
        if self.classes != other.classes:
            raise ValueError(f"tallies of {self.classes} and {other.classes} classes do not add up")
        return Tally(
            self.classes,
            self.accuracy + other.accuracy,
            self.pairs + other.pairs,
            self.not_finite + other.not_finite,
            self.loss_parts + other.loss_parts,
            self.bins + other.bins,
            [a + b for a, b in zip(self.confidence_parts, other.confidence_parts, strict=True)],
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tally) and self.as_json() == other.as_json()

    def top(self, k: int) -> float:
        """Percentage of pictures whose true class is among the ``k`` with the highest logits.

        Raises:
            ValueError: no picture was counted.
        """
        return self.accuracy.top(k)

    @property
    def _answered(self) -> int:
        return self.images - self.not_finite.total()

    @property
    def loss(self) -> float | None:
        """Mean cross entropy, in nats; None if no picture has finite logits."""
        return self.loss_parts / _PARTS / self._answered if self._answered else None

    @property
    def per_class(self) -> tuple[ClassFigures, ...]:
        """Each class, by number."""
        images, guessed = Counter(self.not_finite), Counter[int]()
        for (truth, guess), count in self.pairs.items():
            images[truth] += count
            guessed[guess] += count
        return tuple(
            ClassFigures(n, images[n], guessed[n], self.pairs[n, n]) for n in range(self.classes)
        )

    @property
    def confusion(self) -> npt.NDArray[np.int64]:
        """Number of pictures by true class (row) and best guess (column), (N, N). Pictures without
        finite logits are in no column."""
        counts = np.zeros((self.classes, self.classes), np.int64)
        for pair, count in self.pairs.items():
            counts[pair] = count
        return counts

    @property
    def reliability(self) -> tuple[Bin, ...]:
        """The pictures by the probability of their best guess, in ranges of equal width."""
        return tuple(
            Bin(at / BINS, (at + 1) / BINS, images, right, parts / _PARTS / max(images, 1))
            for at, ((images, right), parts) in enumerate(
                zip(self.bins.tolist(), self.confidence_parts, strict=True)
            )
        )

    @property
    def calibration_error(self) -> float | None:
        """Expected calibration error, in percent: the mean distance between a range's mean
        probability and its accuracy, weighted by its pictures. None if no picture has finite
        logits."""
        if not self._answered:
            return None
        gaps = (one.images * abs(one.accuracy - one.confidence) for one in self.reliability)
        return 100 * sum(gaps) / self._answered

    def figures(self) -> dict[str, float | int | None]:
        """The figures in short, as plain values; top-1, top-5 and calibration error in percent.

        Raises:
            ValueError: no picture was counted.
        """
        return {
            "images": self.images,
            "top1": self.top(1),
            "top5": self.top(5),
            "loss": self.loss,
            "calibration_error": self.calibration_error,
            "not_finite": self.not_finite.total(),
        }

    def as_json(self) -> dict[str, Any]:
        """All counts as plain values."""
        return {
            "classes": self.classes,
            "images": self.images,
            "ranks": [[rank, n] for rank, n in sorted(self.accuracy.ranks.items()) if n],
            "pairs": [[*pair, n] for pair, n in sorted(self.pairs.items()) if n],
            "not_finite": [[label, n] for label, n in sorted(self.not_finite.items()) if n],
            "loss_parts": self.loss_parts,
            "bins": [
                [*counts, parts]
                for counts, parts in zip(self.bins.tolist(), self.confidence_parts, strict=True)
            ],
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Tally:
        """The tally whose ``as_json`` this is.

        Raises:
            RecordError: it is not, or its counts contradict each other; the message says where.
        """
        held = fields(dict(raw), _Json, "tally.")
        refuse_negatives(dict(raw), "tally")
        widths = {"ranks": 2, "pairs": 3, "not_finite": 2, "bins": 3}
        for name, width in widths.items():
            if any(len(row) != width for row in held[name]):
                raise RecordError(f"tally.{name} must hold lists of {width} numbers")
        tally = cls(held["classes"], loss_parts=held["loss_parts"])
        tally.accuracy = Accuracy(held["images"], Counter(dict(held["ranks"])))
        tally.pairs = Counter({(truth, guess): n for truth, guess, n in held["pairs"]})
        tally.not_finite = Counter(dict(held["not_finite"]))
        if len(held["bins"]) != BINS:
            raise RecordError(f"tally.bins must hold {BINS} ranges, not {len(held['bins'])}")
        tally.bins = np.array([row[:2] for row in held["bins"]], np.int64)
        tally.confidence_parts = [row[2] for row in held["bins"]]
        if problem := tally._contradiction():
            raise RecordError(f"tally: {problem}")
        return tally

    def _contradiction(self) -> str:
        numbers = [
            *self.accuracy.ranks,
            *self.not_finite,
            *(n for pair in self.pairs for n in pair),
        ]
        if max(numbers, default=-1) >= self.classes:
            return f"{max(numbers)} is not a number of one of {self.classes} classes"
        right = sum(n for (truth, guess), n in self.pairs.items() if truth == guess)
        counted = {
            "images": (self.images, self.pairs.total() + self.not_finite.total()),
            "ranks": (self.accuracy.ranks.total(), self.pairs.total()),
            "rank 0": (self.accuracy.ranks[0], right),
            "bins": (int(self.bins[:, 0].sum()), self.pairs.total()),
            "right answers in bins": (int(self.bins[:, 1].sum()), right),
        }
        odd = (f"{name} are {a}, {b} by the pairs" for name, (a, b) in counted.items() if a != b)
        return next(odd, "")


def _parts(value: float) -> int:
    return round(value * _PARTS)
