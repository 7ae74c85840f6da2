"""Two evaluations of a task on the same pictures: which is better, and whether it is more than
noise. ``bootstrap`` tells how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fleetfoot.errors import RecordError
from fleetfoot.evaluate.bootstrap import (
    METHOD,
    Difference,
    Figures,
    Numbers,
    Weights,
    differences,
    once,
)
from fleetfoot.evaluate.compare import Verdict, changed, check_pictures, facts
from fleetfoot.evaluate.judges.base import Judge, Metric
from fleetfoot.evaluate.task_record import TaskEvaluation, TaskRecord


@dataclass(frozen=True, kw_only=True)
class TaskComparison:
    before: TaskRecord
    after: TaskRecord
    metrics: tuple[Metric, ...]
    """The figures that both have, the deciding one first."""
    found: Mapping[str, Difference]
    """Difference of each of them, by name, on the pictures that both could use."""
    values: tuple[Mapping[str, float], Mapping[str, float]]
    """The figures before and after on these pictures."""
    images: int
    left_out: int
    """Pictures that one of the two could not use."""

    def verdict_of(self, metric: Metric) -> Verdict:
        """Whether the later one is better or worse by a figure, beyond noise."""
        difference = self.found[metric.name]
        if not difference.is_beyond_noise:
            return "noise"
        return "better" if (difference.value > 0) == metric.rises else "worse"

    @property
    def verdict(self) -> Verdict:
        return self.verdict_of(self.metrics[0])

    @property
    def differences(self) -> tuple[tuple[str, str, str], ...]:
        """What else is not the same in both: field, before, after."""
        return changed(facts(self.before), facts(self.after))

    def as_json(self) -> dict[str, Any]:
        """The comparison as plain values, for programs."""
        before, after = self.values
        return {
            "method": METHOD,
            "task": self.before.task,
            "before": {"model": self.before.model, "engine": self.before.engine},
            "after": {"model": self.after.model, "engine": self.after.engine},
            "figures": [
                {
                    "name": one.name,
                    "before": before[one.name],
                    "after": after[one.name],
                    "difference": self.found[one.name].value,
                    "ci95": None if (ends := self.found[one.name].ci95) is None else list(ends),
                    "verdict": self.verdict_of(one),
                }
                for one in self.metrics
            ],
            "verdict": self.verdict,
            "images": self.images,
            "left_out": self.left_out,
            "differences": [list(row) for row in self.differences],
        }


def compare(before: TaskEvaluation, after: TaskEvaluation) -> TaskComparison:
    """``after`` against ``before``, on the pictures that both could use.

    Raises:
        RecordError: they are of different tasks or pictures, or share no figure or picture.
    """
    one, other = before.record, after.record
    if one.task != other.task:
        raise RecordError(
            f"these evaluations cannot be compared: before is of {one.task}, after of {other.task}"
        )
    check_pictures(one, other, *(r.images + r.unreadable for r in (one, other)))
    judges = before.answers.judge, after.answers.judge
    numbers = sorted(set(judges[0].numbers) & set(judges[1].numbers))
    if not numbers:
        raise RecordError("these evaluations cannot be compared: no picture was used in both")
    first, second = (_common(judge, numbers) for judge in judges)
    found = differences(first, second, len(numbers))
    metrics = tuple(metric for metric in judges[0].metrics if metric.name in found)
    if not metrics:
        raise RecordError(
            "these evaluations cannot be compared: nothing on their pictures has a figure in both"
        )
    every = once(len(numbers))
    return TaskComparison(
        before=one,
        after=other,
        metrics=metrics,
        found=found,
        values=(_single(first(every)), _single(second(every))),
        images=len(numbers),
        left_out=one.images + one.unreadable - len(numbers),
    )


def _common(judge: Judge, numbers: list[int]) -> Figures:
    """The figures of some of the judge's pictures, by their weights."""
    places = np.searchsorted(judge.numbers, numbers)

    def figures(weights: Weights) -> Mapping[str, Numbers]:
        whole = np.zeros((len(weights), len(judge.numbers)), np.int64)
        whole[:, places] = weights
        return judge.weighted(whole)

    return figures


def _single(figures: Mapping[str, Numbers]) -> dict[str, float]:
    return {name: float(value[0]) for name, value in figures.items()}
