"""Which detection is which object: the matches from which average precision follows, by picture.

The rule is COCO's, for objects of any area: a detection takes the object of its class that it
overlaps most, of those that no surer detection took. One that lies in a crowd is neither right nor
wrong. From the matches follow average precision for any weights of the pictures, which intervals
need; the score above which boxes are best shown; and what is taken for what.

n detections · G objects · T thresholds · P pictures · K classes · R sets of pictures
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fleetfoot.tasks.detect.metric import LIMITS, THRESHOLDS, Kind, Meter, Numbers, Seen, overlaps

_OVERLAPS = np.minimum(np.linspace(0.5, 0.95, len(THRESHOLDS)), 1 - 1e-10)
_RECALLS = np.linspace(0.0, 1.0, 101)
_AT_ONCE = 2**22
"""Detections, in all sets of pictures, that are summed at a time."""

Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False, kw_only=True)
class Matches:
    """The detections of all pictures, by class, the surest first; of each picture and class the
    first 100."""

    numbers: Rows
    """Numbers of the pictures, ascending, (P,)."""
    objects: Rows
    """Objects of each class on each picture, without crowds, (P, K)."""
    places: Rows
    """Place of each detection's picture in ``numbers``, (n,)."""
    rows: Rows
    """Number of each detection among those of its picture, (n,)."""
    classes: Rows
    scores: Numbers
    taken: Rows
    """By threshold, number of the object on the picture that the detection takes; -1 if it takes
    none, -2 if it lies in a crowd or its box is inside out, (T, n)."""

    @property
    def right(self) -> NDArray[np.bool_]:
        """(T, n)"""
        return self.taken >= 0

    @cached_property
    def counted(self) -> NDArray[np.bool_]:
        """Whether a detection is right or wrong, (T, n)."""
        return self.taken >= -1

    @cached_property
    def _by_class(self) -> list[tuple[int, int, list[Rows], bool]]:
        """First and last detection of each class, which of them are right by threshold, and
        whether all are counted."""
        made = []
        ends = np.searchsorted(self.classes, np.arange(self.objects.shape[1] + 1))
        right, counted = self.right, self.counted
        for first, last in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
            hits = [np.flatnonzero(row) for row in right[:, first:last]]
            made.append((first, last, hits, bool(counted[:, first:last].all())))
        return made

    def average_precision(self, weights: Rows | None = None) -> Numbers:
        """Average precision as a share, by threshold and class, (R, T, K); NaN for a class without
        objects.

        Args:
            weights: how often each picture counts, in each of R sets, (R, P). Default: once, in one
                set.
        """
        if weights is None:
            weights = np.ones((1, len(self.numbers)), np.int64)
        totals = weights @ self.objects
        made = np.full((len(weights), len(THRESHOLDS), totals.shape[1]), np.nan)
        for number, (first, last, hits, plain) in enumerate(self._by_class):
            if not totals[:, number].any():
                continue
            step = max(1, _AT_ONCE // max(1, last - first))
            for start in range(0, len(weights), step):
                some = slice(start, start + step)
                own = weights[some, self.places[first:last]]
                sums = np.cumsum(own, axis=1)
                for at, rows in enumerate(hits):
                    if not plain:
                        sums = np.cumsum(own * self.counted[at, first:last], axis=1)
                    right = np.cumsum(own[:, rows], axis=1)
                    made[some, at, number] = _area(right, sums[:, rows], totals[some, number])
        return made

    def figures(self, weights: Rows | None = None) -> dict[str, Numbers]:
        """AP, AP50 and AP75 of each set in percent, (R,); NaN if it has no object."""
        found = 100 * self.average_precision(weights)
        known = ~np.isnan(found)
        with np.errstate(invalid="ignore"):
            means = np.where(known, found, 0).sum(axis=2) / known.sum(axis=2)
        return {
            "ap": means.mean(axis=1),
            "ap50": means[:, 0],
            "ap75": means[:, THRESHOLDS.index(0.75)],
        }

    def best_score(self) -> float:
        """The score from which on detections have the highest F1, over all classes and at an
        overlap of a half; 1 if nothing that was found is right."""
        right, counted = self.right[0], self.counted[0]
        order = np.argsort(-self.scores, kind="stable")
        scores = self.scores[order]
        hits, found = np.cumsum(right[order]), np.cumsum(counted[order])
        if not len(hits) or not hits[-1]:
            return 1.0
        f1 = 2 * hits / (found + self.objects.sum())
        # detections of equal score are shown together
        f1[:-1][scores[:-1] == scores[1:]] = -1
        return float(scores[np.argmax(f1)])


def _area(right: Rows, found: Rows, objects: Rows) -> Numbers:
    """Area under curves of precision by recall, as COCO reads it off: the mean of the highest
    precision at or above each of 101 levels of recall; NaN without objects. (R,)

    Args:
        right: number of right detections up to each right one, (R, n).
        found: number of all detections up to each of these, (R, n).
        objects: number of objects, (R,).
    """
    precision = right / (found + np.spacing(1))
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = right / np.maximum(objects, 1)[:, None]
    reached = np.searchsorted(_RECALLS, recall, side="right")  # levels at or below it
    steps = np.diff(reached, axis=1, prepend=0)
    areas: Numbers = (best * steps).sum(axis=1) / len(_RECALLS)
    areas[objects == 0] = np.nan
    return areas


def match(meter: Meter, kind: Kind = "boxes") -> Matches:
    """The matches of everything that ``meter`` counted."""
    numbers = sorted(meter.pictures)
    objects = np.zeros((len(numbers), meter.classes), np.int64)
    parts: list[tuple[Rows, ...]] = []
    for place, number in enumerate(numbers):
        seen = meter.pictures[number]
        objects[place] = np.bincount(seen.classes[~seen.crowd], minlength=meter.classes)
        for label in np.unique(seen.found_classes).tolist():
            rows = surest(seen, label)
            own = np.flatnonzero(seen.classes == label)
            taken = _taken(overlaps(seen, kind, rows, own), seen.crowd[own])
            if kind == "boxes":
                taken[(taken == -1) & _inside_out(seen.found_boxes[rows])] = -2
            objects_of = np.concatenate((own, [-2, -1]))  # places -2 and -1 mean these themselves
            parts.append((
                np.full(len(rows), place), rows, np.full(len(rows), label), objects_of[taken].T
            ))  # fmt: skip
    if parts:
        places, rows, classes, taken = (
            np.concatenate(column) for column in zip(*parts, strict=True)
        )
    else:
        places, rows, classes = (np.zeros(0, np.int64) for _ in range(3))
        taken = np.zeros((0, len(THRESHOLDS)), np.int64)
    scores = np.array(
        [
            meter.pictures[numbers[place]].scores[row]
            for place, row in zip(places.tolist(), rows.tolist(), strict=True)
        ]
    )
    order = np.lexsort((np.arange(len(scores)), -scores, classes))
    return Matches(
        numbers=np.array(numbers, np.int64),
        objects=objects,
        places=places[order],
        rows=rows[order],
        classes=classes[order],
        scores=scores[order],
        taken=taken[order].T,
    )


def _inside_out(boxes: Numbers) -> NDArray[np.bool_]:
    """Whether a box has a negative area, which COCO's code takes for one of no size that counts."""
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    negative: NDArray[np.bool_] = width * height < 0
    return negative


def surest(seen: Seen, label: int) -> Rows:
    """Numbers of the detections of a class on a picture, the surest first, at most 100."""
    rows = np.flatnonzero(seen.found_classes == label)
    return rows[np.argsort(-seen.scores[rows], kind="stable")][: LIMITS[-1]]


def _taken(shares: Numbers, crowd: NDArray[np.bool_]) -> Rows:
    """Place of the object that each detection takes, by threshold; -1 for none, -2 for a crowd.
    (n, G) -> (T, n)"""
    count, objects = shares.shape
    made = np.full((len(_OVERLAPS), count), -1, np.int64)
    if not objects:
        return made
    free = np.repeat(~crowd[None], len(_OVERLAPS), axis=0)
    every = np.arange(len(_OVERLAPS))
    for n, row in enumerate(shares):
        fits = row >= _OVERLAPS[:, None]
        offered = np.where(fits & free, row, -1.0)
        best = objects - 1 - np.argmax(offered[:, ::-1], axis=1)  # the last of equals
        takes = offered[every, best] >= 0
        made[takes, n] = best[takes]
        free[every[takes], best[takes]] = False
        made[~takes & (fits & crowd).any(axis=1), n] = -2
    return made


@dataclass(frozen=True, eq=False, kw_only=True)
class Verdict:
    """One picture at one score: what was found, missed, and taken for something else, at an overlap
    of a half."""

    right: Rows
    """Numbers of the detections that are right."""
    wrong: Rows
    """Numbers of the detections that overlap no object that is left."""
    in_crowd: Rows
    confused: tuple[tuple[int, int], ...]
    """Detections that overlap an object of another class, each with that object."""
    missed: Rows
    """Numbers of the objects that nothing found."""
    found: Rows
    """Numbers of the objects that the right detections took, in their order."""

    @property
    def f1(self) -> float:
        """Twice the right ones over all detections and objects, as a share; 1 for an empty picture
        on which nothing was found."""
        errors = len(self.wrong) + len(self.missed) + 2 * len(self.confused)
        total = 2 * len(self.right) + errors
        return 2 * len(self.right) / total if total else 1.0

    @property
    def errors(self) -> int:
        return len(self.wrong) + len(self.missed) + len(self.confused)


def judged(seen: Seen, score: float, kind: Kind = "boxes") -> Verdict:
    """What to say of a picture if detections of at least this score are shown.

    Objects and detections that agree in class are paired first, as average precision pairs them; of
    the rest, those of different classes that overlap most are taken for each other.
    """
    right: list[int] = []
    found: list[int] = []
    crowd: list[int] = []
    rest: list[int] = []
    for label in np.unique(seen.found_classes).tolist():
        rows = surest(seen, label)
        rows = rows[seen.scores[rows] >= score]
        own = np.flatnonzero(seen.classes == label)
        taken = _taken(overlaps(seen, kind, rows, own), seen.crowd[own])[0]
        for row, place in zip(rows.tolist(), taken.tolist(), strict=True):
            if place >= 0:
                right.append(row)
                found.append(int(own[place]))
            else:
                (crowd if place == -2 else rest).append(row)
    left = [n for n in np.flatnonzero(~seen.crowd).tolist() if n not in set(found)]
    shares = overlaps(seen, kind, np.array(rest, np.int64), np.array(left, np.int64))
    confused: list[tuple[int, int]] = []
    for flat in np.argsort(-shares, axis=None, kind="stable").tolist():
        row, place = divmod(flat, max(1, len(left)))
        if shares[row, place] < _OVERLAPS[0]:
            break
        pair = rest[row], left[place]
        if not any(pair[0] == one or pair[1] == other for one, other in confused):
            confused.append(pair)
    mixed = {one for one, _ in confused}, {other for _, other in confused}
    return Verdict(
        right=np.array(right, np.int64),
        found=np.array(found, np.int64),
        in_crowd=np.array(crowd, np.int64),
        wrong=np.array([n for n in rest if n not in mixed[0]], np.int64),
        missed=np.array([n for n in left if n not in mixed[1]], np.int64),
        confused=tuple(confused),
    )


def confusion(meter: Meter, verdicts: Mapping[int, Verdict]) -> Rows:
    """Number of objects by true class (row) and class under which they were found (column); the
    last row holds detections of nothing, the last column objects that nothing found, (K + 1, K +
    1).

    Args:
        verdicts: what ``judged`` says of each picture, by its number.
    """
    counts = np.zeros((meter.classes + 1,) * 2, np.int64)
    for number, verdict in verdicts.items():
        seen = meter.pictures[number]
        labels, found = seen.classes, seen.found_classes
        for truth, guess in (
            (labels[verdict.found], found[verdict.right]),
            (labels[verdict.missed], np.full(len(verdict.missed), meter.classes)),
            (np.full(len(verdict.wrong), meter.classes), found[verdict.wrong]),
        ):
            np.add.at(counts, (truth, guess), 1)
        for row, place in verdict.confused:
            counts[labels[place], found[row]] += 1
    return counts
