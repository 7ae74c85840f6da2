"""Metrics of label maps: intersection over union by class and in the mean, and shares of right
pixels.

All of them follow from one matrix, which counts the pixels of each true class by the class that
they were given. Long et al. 2015, "Fully Convolutional Networks for Semantic Segmentation",
https://arxiv.org/abs/1411.4038, section 5, defines the figures.

H W space · K classes
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fleetfoot.errors import RecordError
from fleetfoot.files import fields

IGNORED = 255
"""Class of a pixel of the truth that is not judged; ``data.scenes`` means the same by it."""

Counts = NDArray[np.int64]
Map = Tensor | NDArray[Any]
"""A class for each pixel, (H, W), as whole numbers."""


class ClassFigures(NamedTuple):
    """One class. Figures are in percent."""

    number: int
    pixels: int
    """Pixels of this class in the truth."""
    iou: float | None
    """Pixels that are of this class in truth and answer, over those that are in either; None if
    there are none in either."""
    recall: float | None
    """Share of the class's pixels that were given it; None if it has no pixel."""
    precision: float | None
    """Share of right pixels among those that were given this class; None if there are none."""


@dataclass(frozen=True, eq=False)
class Seen:
    """One picture: the cells of its matrix that are not 0."""

    cells: Counts
    """True class times the number of classes, plus the class that was given; sorted, (n,)."""
    counts: Counts
    """Pixels in each of these cells, (n,)."""


class _SeenJson(TypedDict):
    number: int
    cells: tuple[int, ...]
    counts: tuple[int, ...]


class _Json(TypedDict):
    classes: int
    pictures: tuple[dict[str, Any], ...]


@dataclass
class Meter:
    """The classes that pixels were given, beside their true ones. Meters of parts add up to that of
    the whole, exactly: a picture is known by its number, and counts once.

    >>> import torch
    >>> truth = torch.tensor([[0, 0, 1, 255]])
    >>> found = torch.tensor([[0, 1, 1, 1]])
    >>> meter = Meter(2)
    >>> meter.update(0, found, truth)
    >>> meter.matrix.tolist()
    [[1, 1], [0, 1]]
    >>> meter.figures()["miou"]
    50.0
    """

    classes: int
    pictures: dict[int, Seen] = field(default_factory=dict)

    @property
    def images(self) -> int:
        return len(self.pictures)

    def update(self, number: int, found: Map, truth: Map) -> None:
        """Counts one picture.

        Args:
            number: number of the picture in its part of the data.
            found: class of each pixel.
            truth: true class of each pixel, of the same size; pixels of class 255 are not counted.

        Raises:
            ValueError: the maps differ in size, a pixel that is judged has a number of no class, or
                the picture was counted before.
        """
        if number in self.pictures:
            raise ValueError(f"picture {number} was counted before")
        wanted, given = _array("truth", truth), _array("found", found)
        if wanted.shape != given.shape:
            raise ValueError(
                f"picture {number}: a map of {_sides(given)} was found, and its truth has "
                f"{_sides(wanted)}; resize the answer to the truth"
            )
        judged = wanted != IGNORED
        wanted, given = wanted[judged], given[judged]
        for said, numbers in (("truth", wanted), ("found", given)):
            odd = numbers[(numbers < 0) | (numbers >= self.classes)]
            if len(odd):
                raise ValueError(
                    f"picture {number}: a pixel of {said} has class {odd[0]}; classes are 0 to "
                    f"{self.classes - 1}, and {IGNORED} in the truth is not judged"
                )
        cells, counts = np.unique(wanted * self.classes + given, return_counts=True)
        self.pictures[number] = Seen(cells, counts.astype(np.int64))

    def __add__(self, other: Meter) -> Meter:
        if self.classes != other.classes:
            raise ValueError(f"meters of {self.classes} and {other.classes} classes do not add up")
        return Meter(self.classes, self.pictures | other.pictures)

    @property
    def matrix(self) -> Counts:
        """Pixels by true class (rows) and given class (columns), (K, K)."""
        return self.matrix_of(self.pictures)

    def matrix_of(self, numbers: Iterable[int]) -> Counts:
        """The matrix of some of the pictures, (K, K). A number may occur more than once, and counts
        each time."""
        total = np.zeros(self.classes**2, np.int64)
        for number in numbers:
            seen = self.pictures[number]
            total[seen.cells] += seen.counts
        return total.reshape(self.classes, self.classes)

    def figures(self) -> dict[str, float | int | None]:
        """Figures in percent: ``miou``, the mean intersection over union of the classes that occur
        in truth or answer; ``accuracy``, the share of right pixels; ``mean_accuracy``, the mean
        recall of the classes that occur in the truth. None if no pixel was judged.

        Raises:
            ValueError: no picture was counted.
        """
        if not self.pictures:
            raise ValueError("no picture was counted, so there is no intersection over union")
        matrix = self.matrix
        return {
            **figures_of(matrix),
            "images": self.images,
            "pixels": int(matrix.sum()),
        }

    def per_picture(self) -> dict[int, dict[str, float | None]]:
        """The figures of each picture alone, by its number."""
        return {number: figures_of(self.matrix_of([number])) for number in sorted(self.pictures)}

    def per_class(self) -> tuple[ClassFigures, ...]:
        """Each class by number."""
        matrix = self.matrix
        iou, recall, precision = _ratios(matrix)
        return tuple(
            ClassFigures(
                number,
                int(matrix[number].sum()),
                _percent(iou[number]),
                _percent(recall[number]),
                _percent(precision[number]),
            )
            for number in range(self.classes)
        )

    def as_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {
            "classes": self.classes,
            "pictures": [
                {"number": number, "cells": one.cells.tolist(), "counts": one.counts.tolist()}
                for number, one in sorted(self.pictures.items())
            ],
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Meter:
        """The meter whose ``as_json`` this is.

        Raises:
            RecordError: it is not; the message says where.
        """
        held = fields(_listed(dict(raw)), _Json, "meter.")
        made = cls(held["classes"])
        for place, picture in enumerate(held["pictures"]):
            where = f"meter.pictures[{place}]"
            one = fields(_listed(picture), _SeenJson, f"{where}.")
            cells, counts = (np.array(one[name], np.int64) for name in ("cells", "counts"))
            if len(cells) != len(counts) or (counts < 1).any():
                raise RecordError(
                    f"{where} has {len(cells)} cells, and not a count above 0 of each"
                )
            if len(cells) and (
                cells[0] < 0 or cells[-1] >= made.classes**2 or (np.diff(cells) < 1).any()
            ):
                raise RecordError(f"{where}.cells are not cells of a matrix in ascending order")
            made.pictures[one["number"]] = Seen(cells, counts)
        if len(made.pictures) != len(held["pictures"]):
            raise RecordError("meter.pictures has one number twice")
        return made


def figures_of(matrix: Counts) -> dict[str, float | None]:
    """Mean intersection over union, accuracy and mean accuracy in percent that follow from a matrix
    of true and given classes, (K, K)."""
    iou, recall, _ = _ratios(matrix)
    total = matrix.sum()
    right = np.trace(matrix) / total if total else np.nan
    return {
        "miou": _percent(_mean(iou)),
        "accuracy": _percent(right),
        "mean_accuracy": _percent(_mean(recall)),
    }


def _ratios(matrix: Counts) -> tuple[NDArray[np.float64], ...]:
    """Intersection over union, recall and precision of each class, as shares; NaN for 0 / 0."""
    right = np.diagonal(matrix).astype(np.float64)
    truth, given = matrix.sum(axis=1), matrix.sum(axis=0)
    with np.errstate(invalid="ignore"):
        return right / (truth + given - right), right / truth, right / given


def _mean(shares: NDArray[np.float64]) -> float:
    known = shares[~np.isnan(shares)]
    return float(known.mean()) if known.size else np.nan


def _percent(share: float) -> float | None:
    return None if np.isnan(share) else 100 * float(share)


def _array(name: str, numbers: Map) -> NDArray[np.int64]:
    array = numbers.detach().cpu().numpy() if isinstance(numbers, Tensor) else numbers
    if array.ndim != 2 or array.dtype.kind not in "iu":
        raise ValueError(
            f"{name} must be a map of whole numbers (H, W), not {array.dtype} {array.shape}"
        )
    return array.astype(np.int64)


def _sides(array: NDArray[Any]) -> str:
    return " x ".join(map(str, array.shape))


def _listed(raw: dict[str, Any]) -> dict[str, Any]:
    """Plain values as JSON brings them back: tuples as lists."""
    return {name: list(v) if isinstance(v, tuple) else v for name, v in raw.items()}
