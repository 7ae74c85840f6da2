"""Two evaluations on the same pictures: which is right more often, and whether it is more than
noise.

Both networks saw the same pictures, so that only those count on which one is right and the other is
not (McNemar 1947, "Note on the sampling error of the difference between correlated proportions or
percentages"). If the two were equally good, each of these would be a toss of a coin; the p-value is
the exact one of the binomial distribution, two-sided. The interval of the difference is that of
Agresti and Min 2005, "Simple improved confidence intervals for comparing matched proportions".
A difference is beyond noise if the p-value is below ``LEVEL`` and the interval leaves out 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fleetfoot.errors import RecordError
from fleetfoot.evaluate.record import Evaluation, EvaluationRecord
from fleetfoot.evaluate.task_record import TaskRecord

LEVEL = 0.05
METHOD = (
    "McNemar's test on the same pictures, exact; 95 % interval by Agresti and Min; a difference is "
    f"one when p is below {LEVEL:g} and the interval leaves out 0"
)

Verdict = Literal["better", "worse", "noise"]


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Two networks' answers for the same pictures, counted.

    >>> test = Paired(both=80, only_before=2, only_after=12, neither=6)
    >>> round(test.p_value, 4), test.difference, test.verdict
    (0.0129, 10.0, 'better')
    """

    both: int
    """Pictures on which both are right."""
    only_before: int
    only_after: int
    neither: int

    @classmethod
    def of(cls, before: npt.NDArray[np.bool_], after: npt.NDArray[np.bool_]) -> Paired:
        """Counts whether each picture was named correctly, (n,) and (n,)."""
        return cls(
            both=int((before & after).sum()),
            only_before=int((before & ~after).sum()),
            only_after=int((~before & after).sum()),
            neither=int((~before & ~after).sum()),
        )

    @property
    def images(self) -> int:
        return self.both + self.only_before + self.only_after + self.neither

    @property
    def discordant(self) -> int:
        """Pictures on which one is right and the other is not."""
        return self.only_before + self.only_after

    @property
    def difference(self) -> float:
        """Accuracy after minus accuracy before, in points of a percent."""
        return 100 * (self.only_after - self.only_before) / self.images

    @property
    def p_value(self) -> float:
        """Probability of so uneven a split of the discordant pictures, or a more uneven one, if
        both networks were equally good."""
        count, fewer = self.discordant, min(self.only_before, self.only_after)
        term = total = 1  # binomial coefficients, as whole numbers
        for i in range(fewer):
            term = term * (count - i) // (i + 1)
            total += term
        return min(1.0, 2 * total / 2**count)

    @property
    def ci95(self) -> tuple[float, float]:
        """95 % interval of the difference, in points of a percent: low, high."""
        n = self.images + 2  # half a picture is added to each of the four counts
        gained, lost = self.only_after + 0.5, self.only_before + 0.5
        middle = (gained - lost) / n
        half = 1.959964 / n * math.sqrt(gained + lost - (gained - lost) ** 2 / n)
        return 100 * max(-1.0, middle - half), 100 * min(1.0, middle + half)

    @property
    def verdict(self) -> Verdict:
        """Whether the later one is better, or worse, beyond noise."""
        low, high = self.ci95
        if self.p_value >= LEVEL or low <= 0 <= high:
            return "noise"
        return "better" if self.difference > 0 else "worse"


@dataclass(frozen=True, kw_only=True)
class AccuracyComparison:
    before: EvaluationRecord
    after: EvaluationRecord
    paired: Paired
    left_out: int
    """Pictures that one of the two could not read."""
    discordant: tuple[tuple[str, bool], ...]
    """Each picture on which one is right and the other is not, and whether it is the later one."""

    @property
    def differences(self) -> tuple[tuple[str, str, str], ...]:
        """What else is not the same in both: field, before, after."""
        return changed(facts(self.before), facts(self.after))

    def as_json(self) -> dict[str, Any]:
        """The comparison as plain values, for programs."""
        test = self.paired
        return {
            "method": METHOD,
            "before": {"model": self.before.model, "engine": self.before.engine,
                       "top1": self.before.top1.percent},
            "after": {"model": self.after.model, "engine": self.after.engine,
                      "top1": self.after.top1.percent},
            **asdict(test),
            "difference": test.difference,
            "ci95": list(test.ci95),
            "p_value": test.p_value,
            "verdict": test.verdict,
            "left_out": self.left_out,
            "discordant": [
                {"picture": name, "right": "after" if after else "before"}
                for name, after in self.discordant
            ],
            "differences": [list(row) for row in self.differences],
        }  # fmt: skip


def compare(before: Evaluation, after: Evaluation) -> AccuracyComparison:
    """``after`` against ``before``, picture by picture.

    Raises:
        RecordError: they are of different pictures, or share none that both could read.
    """
    one, other = before.record, after.record
    check_pictures(one, other, *(r.top1.images + r.unreadable for r in (one, other)))
    if len(before.answers) != len(after.answers):
        raise RecordError(
            f"these evaluations cannot be compared: {len(before.answers)} pictures before, "
            f"{len(after.answers)} after"
        )
    judged = before.answers.judged & after.answers.judged
    if not judged.any():
        raise RecordError("these evaluations cannot be compared: no picture was read in both")
    right, then = before.answers.right, after.answers.right
    numbers = np.flatnonzero(judged & (right != then)).tolist()
    return AccuracyComparison(
        before=one,
        after=other,
        paired=Paired.of(right[judged], then[judged]),
        left_out=int((~judged).sum()),
        discordant=tuple((before.answers.pictures[n], bool(then[n])) for n in numbers),
    )


def changed(
    before: Mapping[str, str], after: Mapping[str, str]
) -> tuple[tuple[str, str, str], ...]:
    """What is not the same in both: name, before, after."""
    return tuple(
        (name, before.get(name, "unknown"), after.get(name, "unknown"))
        for name in dict.fromkeys([*before, *after])
        if before.get(name) != after.get(name)
    )


def facts(record: EvaluationRecord | TaskRecord) -> dict[str, str]:
    """What may be the cause of a difference."""
    preprocessing = {f"preprocessing.{k}": v for k, v in record.preprocessing.items()}
    versions = {f"version of {name}": version for name, version in record.versions.items()}
    of_all = " that may be guessed" if isinstance(record, EvaluationRecord) else ""
    named = {
        "model": record.model,
        "weights": record.weights[:12],
        "form": record.form,
        "engine": f"{record.engine} {record.engine_version}",
        "precision": record.precision,
        "device": record.device,
        "classes": f"{len(record.classes)}{of_all}",
        "matched": record.matched,
        **preprocessing,
        "cpu": record.machine.get("cpu", "unknown"),
        "commit": record.commit or "unknown",
        **versions,
    }
    return {name: str(value) for name, value in named.items()}


def check_pictures(
    before: EvaluationRecord | TaskRecord,
    after: EvaluationRecord | TaskRecord,
    *pictures: int,
) -> None:
    """Checks that two evaluations are of the same pictures.

    Args:
        pictures: how many each saw, for the message.

    Raises:
        RecordError: they are not.
    """
    if before.fingerprint == after.fingerprint:
        return
    raise RecordError(
        "these evaluations cannot be compared: they are of different pictures\n"
        + "\n".join(
            f"  {when}: {r.data}, {r.split}, {count} pictures, fingerprint {r.fingerprint[:12]}"
            for when, r, count in zip(("before", "after"), (before, after), pictures, strict=True)
        )
    )
