"""A paper's claim as data, and how a measurement is judged against it.

A claim consists of a few experiments. The subjects of an experiment are timed interleaved, and each
of its ratios compares two of their times with the paper's own figure.

The rule of a verdict, for one ratio on one engine, written for a ratio that is asserted above 1
(one below 1 is inverted first):

* the effect must exist: the lower end of the 95 % interval is above 1, and the ratio is above 1 by
  more than ``NOISE_FLOOR``, within which two runs of one program differ. Otherwise the claim *does
  not hold*; or it is *not clear*, if the interval contains both 1 and the asserted effect;
* it must be at least half as large as asserted, on a logarithmic scale (for 9x that is 3x): then
  the claim *holds*, and with less it *holds partly*. Half, because another machine and engine shift
  every ratio, and the reader wants to know whether the advice would have helped; logarithmic,
  because a ratio and its inverse must get the same verdict;
* a claim of a direction alone holds if the effect exists;
* if the paper's own ratio is within ``NO_EFFECT`` of 1, there is nothing to judge, and the ratio is
  ratio is only shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from torch import nn

from fleetfoot.measure.compare import FEWEST_SAMPLES, NOISE_FLOOR, ratio_interval
from fleetfoot.measure.record import Failure, Measurement

HALF = 0.5
"""Share of the asserted effect, as a logarithm, that must be found for a claim to hold."""
NO_EFFECT = 1.05
"""A published ratio nearer to 1 than this, on either side, counts as no difference: the papers give
no spread, and their last digit alone is worth up to 5 %."""
NOT_REACHED = "the time was over before its turn; --resume continues"

Word = Literal["holds", "holds partly", "does not hold", "not clear", "not measured", "not judged"]
OPEN = ("not clear", "not measured", "not judged")
"""Words that are not a verdict."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A thing that is timed: a stack of operators, or a network."""

    name: str
    """Unique within its claim."""
    build: Callable[[], nn.Module]
    size: int
    """Height and width of the input, in pixels."""
    channels: int = 3
    """Channels of the input."""
    fold: bool = True
    """Whether batch norms and branches are folded before it is timed."""
    published: Mapping[str, float] = field(default_factory=dict)
    """The paper's figures by column; a column's name ends in its unit."""
    published_macs: float | None = None
    """MACs, as the paper prints them under FLOPs; None if it prints none."""


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Time of one subject divided by that of another, with the paper's figures for it."""

    text: str
    over: str
    """The subject whose time is the numerator."""
    under: str
    factor: float = 1.0
    """Factor on the ratio of times: the ratio of MACs, if rates are compared."""
    published: Mapping[str, float] = field(default_factory=dict)
    """The same ratio by column, in the paper or as predicted."""
    judged_by: str = ""
    """Column whose figure decides the verdict; "" to judge only the direction, above 1."""

    @property
    def asserted(self) -> float | None:
        """The ratio that is judged; None if only the direction is."""
        return self.published[self.judged_by] if self.judged_by else None

    @property
    def asserts_nothing(self) -> bool:
        """Whether the paper itself shows no difference."""
        figures = [self.asserted] if self.asserted is not None else list(self.published.values())
        return bool(figures) and all(1 / NO_EFFECT <= f <= NO_EFFECT for f in figures)


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A group of subjects that are timed interleaved, and the ratios that compare them."""

    name: str
    subjects: tuple[Subject, ...]
    ratios: tuple[Ratio, ...]
    spare: bool = False
    """Whether it is measured after all others, if time is left."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A paper's claim, and how it is tried here."""

    name: str
    source: str
    asserts: str
    method: str
    """How it is measured here, and what was chosen where the paper leaves it open."""
    experiments: tuple[Experiment, ...]
    absent: Mapping[str, str] = field(default_factory=dict)
    """Networks of the paper's table that are not available, each with the reason."""

    @property
    def subjects(self) -> list[Subject]:
        return [subject for experiment in self.experiments for subject in experiment.subjects]

    def model(self, subject: str) -> str:
        """The model name of a subject in the record."""
        return f"{self.name}/{subject}"


@dataclass(frozen=True, kw_only=True)
class Found:
    """The result for one ratio on one engine."""

    experiment: str
    ratio: Ratio
    engine: str
    word: Word
    here: float | None = None
    interval: tuple[float, float] | None = None
    """95 % interval of ``here``."""
    reason: str = ""
    """Why there is no verdict."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A claim with all its results."""

    claim: Claim
    found: tuple[Found, ...]
    times: Mapping[tuple[str, str], Measurement]
    """Measurements by subject and engine."""

    @property
    def engines(self) -> list[str]:
        return list(dict.fromkeys(f.engine for f in self.found))

    def word(self, engine: str | None = None) -> Word:
        """The verdict on all ratios together, on one engine. Default: on all engines."""
        return together(f.word for f in self.found if engine in (None, f.engine))

    def tally(self, engine: str | None = None) -> str:
        """Counts of the verdicts, for example "9 of 12 hold, 2 in part"."""
        words = [f.word for f in self.found if engine in (None, f.engine)]
        judged = [word for word in words if word not in OPEN]
        parts = [f"{judged.count('holds')} of {len(judged)} hold"] if judged else []
        for word, said in (("holds partly", "in part"), ("not clear", "not clear")):
            parts += [f"{words.count(word)} {said}"] if word in words else []
        return ", ".join(parts)


def judge(asserted: float | None, here: float, interval: tuple[float, float]) -> Word:
    """The verdict on one ratio, by the rule at the top of this file. ``asserted`` is None for a
    direction alone, above 1.

    Raises:
        ValueError: a ratio is not above 0.
    """
    low, high = interval
    if min(here, low, 1.0 if asserted is None else asserted) <= 0:
        raise ValueError(f"ratios are above 0, not {here} in {interval}, asserted {asserted}")
    if asserted is not None and asserted < 1:
        asserted, here, low, high = 1 / asserted, 1 / here, 1 / high, 1 / low
    enough = max(1 + NOISE_FLOOR, 1.0 if asserted is None else asserted**HALF)
    if low <= 1 or here <= 1 + NOISE_FLOOR:
        return "not clear" if low <= 1 and high >= enough else "does not hold"
    return "holds" if here >= enough else "holds partly"


def together(words: Iterable[Word]) -> Word:
    """One word for several verdicts: the word on which all verdicts agree, or "holds partly". Words
    that are not a verdict count only if there is no verdict."""
    words = list(words)
    judged = {word for word in words if word not in OPEN}
    if not judged:
        return next((word for word in OPEN if word in words), "not measured")
    if len(judged) == 1:
        return judged.pop()
    return "holds partly"


def verdict(
    claim: Claim, measurements: Sequence[Measurement], failures: Sequence[Failure] = ()
) -> Verdict:
    """Judges ``claim`` by a record, on each engine in the record."""
    names = {claim.model(subject.name): subject.name for subject in claim.subjects}
    times = {(names[m.model], m.engine): m for m in measurements if m.model in names}
    reasons = {(names[f.model], f.engine): f.reason for f in failures if f.model in names}
    engines = dict.fromkeys([m.engine for m in measurements] + [f.engine for f in failures])
    return Verdict(
        claim=claim,
        found=tuple(
            _found(experiment.name, ratio, engine, times, reasons)
            for experiment in claim.experiments
            for ratio in experiment.ratios
            for engine in engines
        ),
        times=times,
    )


def _found(
    experiment: str,
    ratio: Ratio,
    engine: str,
    times: Mapping[tuple[str, str], Measurement],
    reasons: Mapping[tuple[str, str], str],
) -> Found:
    def without(reason: str) -> Found:
        return Found(
            experiment=experiment, ratio=ratio, engine=engine, word="not measured", reason=reason
        )

    for name in (ratio.over, ratio.under):
        if (name, engine) not in times:
            return without(reasons.get((name, engine), NOT_REACHED))
    over, under = times[ratio.over, engine], times[ratio.under, engine]
    if over.run_id != under.run_id:
        return without("the two were not interleaved: they did not fit into memory together")
    fewest = min(len(over.samples_s), len(under.samples_s))
    if fewest < FEWEST_SAMPLES:
        return without(f"only {fewest} samples; a verdict needs {FEWEST_SAMPLES}")
    here = ratio.factor * over.median_s / under.median_s
    low, high = ratio_interval(under.samples_s, over.samples_s)
    interval = (ratio.factor * low, ratio.factor * high)
    word: Word = "not judged" if ratio.asserts_nothing else judge(ratio.asserted, here, interval)
    return Found(
        experiment=experiment, ratio=ratio, engine=engine, word=word, here=here, interval=interval
    )
