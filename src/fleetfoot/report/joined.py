"""Rows of tables: a measurement with the published accuracy of its network, which is found by the
network's name and the size of its input.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

from fleetfoot.evaluate.score import TOP1, Score
from fleetfoot.measure.record import Measurement, read, read_scores


@dataclass(frozen=True, kw_only=True)
class Joined(Measurement):
    """A measurement with the published score of its network."""

    score: Score | None
    """The published score; None if none is known."""

    @property
    def top1(self) -> float | None:
        """Published top-1 in percent; not measured here."""
        return None if self.score is None else self.score.value

    @property
    def top1_source(self) -> str:
        return "" if self.score is None else self.score.source


def join(measurements: Iterable[Measurement], scores: Iterable[Score]) -> list[Joined]:
    """Each measurement with the published top-1 of its network, if there is one among ``scores``.

    Measured scores stay out: the columns and pictures that these rows fill say "published".
    """
    known = {
        (score.model, score.size): score
        for score in scores
        if score.published and score.metric == TOP1
    }
    names = [field.name for field in fields(Measurement)]
    return [
        Joined(**{name: getattr(m, name) for name in names}, score=known.get((m.model, m.size)))
        for m in measurements
    ]


def read_joined(record: str | Path) -> list[Joined]:
    """The measurements of a record, or of the folder of a run, with the scores beside them.

    Raises:
        RecordError: there is no record, or it cannot be read; the message names the line.
    """
    return join(read(record), read_scores(record))
