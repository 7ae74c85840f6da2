"""How right a network is: one metric on one set of data, measured here or published elsewhere.

The two are told apart by what they carry: a measured score says how it was made (its
``Provenance``), a published one says where it is printed. A score holds no time; tables join it to
measurements by the network's name and the size of its input.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleetfoot.errors import RecordError

if TYPE_CHECKING:  # records and tables are read without torch
    from fleetfoot.tasks.classify import Accuracy

SCHEMA = 1
CLASSIFY = "classify"
TOP1 = "top-1"
IMAGENET = "ImageNet-1k validation"


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """How a score was measured."""

    form: str
    """What became of the network before it ran: "folded" or "as given"."""
    engine: str
    examples: int
    """Examples that were judged; for a classifier, pictures with a known true class."""
    fingerprint: str
    """Digest of the data, made by ``fingerprint``."""
    ci95: tuple[float, float]
    """95 % interval of the value, as far as the number of examples goes: low, high."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """One network by one metric.

    >>> score = Score(model="fastvit_t8", size=256, task="classify", data="ImageNet-1k",
    ...               metric="top-1", value=76.2, source="a paper")
    >>> score.published
    True

    Raises:
        RecordError: a figure is out of its range, or a measured score names a source.
    """

    model: str
    size: int | tuple[int, int]
    """Height and width of the input, in pixels; ``source`` says so if a published figure is that of
    another size."""
    task: str
    data: str
    metric: str
    value: float
    """In percent."""
    source: str = ""
    """Where a published figure is printed; "" if it is measured, or if a record does not say."""
    evaluation: Provenance | None = None
    """How it was measured; None if it is published."""
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if problem := self._problem():
            raise RecordError(f"score of {self.model}: {problem}")

    def _problem(self) -> str:
        if self.schema != SCHEMA:
            return f"schema {self.schema} is not the one that this fleetfoot knows, {SCHEMA}"
        if not 0 <= self.value <= 100:  # NaN fails both
            return f"{self.metric} is in percent, 0 to 100, not {self.value}"
        made = self.evaluation
        if made is None:
            return ""
        if self.source:
            return f"it is measured, so it has no source, not {self.source!r}"
        if made.examples < 1:
            return f"examples must be 1 or more, not {made.examples}"
        low, high = made.ci95
        if not low <= self.value <= high:
            return f"the value {self.value:g} lies outside its interval {list(made.ci95)}"
        return ""

    def __str__(self) -> str:
        if self.evaluation is None:
            where = f"published: {self.source}" if self.source else "published"
            return f"{self.metric} {self.value:.1f} % ({where})"
        low, high = self.evaluation.ci95
        return f"{self.metric} {self.value:.1f} % (95 % interval {low:.1f} to {high:.1f})"

    @property
    def published(self) -> bool:
        """Printed elsewhere; otherwise it was measured here."""
        return self.evaluation is None


def published(model: str, size: int | tuple[int, int], top1: float, source: str) -> Score:
    """A top-1 on ImageNet-1k in percent, as ``source`` prints it."""
    return Score(
        model=model,
        size=size,
        task=CLASSIFY,
        data=IMAGENET,
        metric=TOP1,
        value=top1,
        source=source,
    )


def measured_top1(
    model: str,
    size: int | tuple[int, int],
    accuracy: Accuracy,
    *,
    data: str,
    fingerprint: str,
    engine: str,
    form: str,
) -> Score:
    """The top-1 that a classifier reached on pictures whose true classes are known.

    Args:
        data: what the pictures are, in words.
        fingerprint: what ``fingerprint`` makes of the pictures' names and classes.

    Raises:
        ValueError: no picture was counted.
    """
    value, count = accuracy.top(1), accuracy.images
    return Score(
        model=model,
        size=size,
        task=CLASSIFY,
        data=data,
        metric=TOP1,
        value=value,
        evaluation=Provenance(
            form=form,
            engine=engine,
            examples=count,
            fingerprint=fingerprint,
            ci95=share_interval(value, count),
        ),
    )


def fingerprint(pairs: Iterable[tuple[str, str]]) -> str:
    """A digest of the names and true answers of examples, in their order. It does not read the
    examples themselves.

    >>> fingerprint([("a.jpg", "cat")]) == fingerprint([("a.jpg", "dog")])
    False
    """
    digest = hashlib.blake2b(digest_size=16)
    for name, truth in pairs:
        for text in (name, truth):
            raw = text.encode("utf-8", "surrogateescape")
            digest.update(len(raw).to_bytes(8, "little") + raw)
    return digest.hexdigest()


def share_interval(percent: float, count: int) -> tuple[float, float]:
    """95 % interval of a share of ``count`` independent examples, in percent: Wilson 1927,
    "Probable inference, the law of succession, and statistical inference". It stays within 0 to 100
    and has a width even if all or none are right.

    >>> tuple(round(end, 1) for end in share_interval(50.0, 100))
    (40.4, 59.6)
    """
    z, share = 1.959964, percent / 100
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = (z / (1 + z * z / count)) * math.sqrt(
        share * (1 - share) / count + z * z / (4 * count * count)
    )
    low, high = 100 * (centre - half), 100 * (centre + half)
    # rounding may put an end just past the value, or past 0 or 100, if none or all are right
    return max(0.0, min(percent, low)), min(100.0, max(percent, high))
