"""Two records of the same cells, or two engines in one record: what is faster, by how much, and
whether it is more than noise.

The figure is the ratio of the medians, after over before. Its 95 % interval is a bootstrap over
blocks of neighbouring samples, because neighbours share the state of the machine and drawing them
one by one would promise too much (Künsch 1989, "The jackknife and the bootstrap for general
stationary observations"). A cell is called faster or slower when the interval leaves out 1 and the
ratio is farther from 1 than ``NOISE_FLOOR``: one run cannot show how two runs of the same program
differ, and where its code and data happen to lie in memory moves a median by a percent or two
(Mytkowicz et al. 2009, "Producing wrong data without doing anything obviously wrong").
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fleetfoot.errors import RecordError
from fleetfoot.measure.clock import quantile, stability
from fleetfoot.measure.record import Cell, Measurement, Timed

NOISE_FLOOR = 0.02
"""The smallest change, as a share of the median, that is ever called one."""
FEWEST_SAMPLES = 8
"""Below this the interval of a median means little, and no verdict is given."""
RESAMPLES = 2000
METHOD = (
    "ratio of medians, after over before; 95 % interval from a block bootstrap "
    f"({RESAMPLES} resamples); a change is one when the interval leaves out 1 and it is more "
    f"than {100 * NOISE_FLOOR:.0f} %"
)

Verdict = Literal["faster", "slower", "noise"]


@dataclass(frozen=True, kw_only=True)
class Change:
    """One cell that both records hold."""

    cell: Cell
    before_s: float
    after_s: float
    ratio: float
    """after_s / before_s: below 1 is faster."""
    ci95: tuple[float, float]
    """95 % interval of the ratio: low, high."""
    verdict: Verdict
    notes: tuple[str, ...]
    """What weakens the verdict: an unstable cell, too few samples."""


@dataclass(frozen=True)
class Difference:
    """Something besides the times that is not the same in both records."""

    field: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.field}: {self.before} before, {self.after} after"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    changes: tuple[Change, ...]
    """Sorted, the greatest gain first."""
    only_before: tuple[Cell, ...]
    only_after: tuple[Cell, ...]
    differences: tuple[Difference, ...]
    """What else changed, and may be the cause: versions, commits, the machine's own ceilings."""
    method: str = METHOD

    def slower_than(self, percent: float) -> list[Change]:
        """The cells that are slower, beyond noise, by more than ``percent``."""
        return [c for c in self.changes if c.verdict == "slower" and c.ratio > 1 + percent / 100]

    def as_json(self) -> dict[str, Any]:
        """The comparison as plain values, for programs."""
        return {
            "method": self.method,
            "changes": [{**vars(change), "cell": change.cell._asdict()} for change in self.changes],
            "only_before": [cell._asdict() for cell in self.only_before],
            "only_after": [cell._asdict() for cell in self.only_after],
            "differences": [vars(difference) for difference in self.differences],
        }


def compare(
    before: Sequence[Measurement], after: Sequence[Measurement], *, across_machines: bool = False
) -> Comparison:
    """Cell by cell, ``after`` against ``before``.

    Cells match in network, engine, threads, batch, size, fold state, precision, layout, device and
    number of busy cores beside them.
    Versions and commits may differ, being what one compares; they are listed. ``across_machines``
    lets the machines differ too.

    Raises:
        RecordError: the records share no cell, or those that they share ran on another machine, by
        another protocol or on another network of the same name. Each difference is listed with both
        values.
    """
    old, new = _by_cell(before, "before"), _by_cell(after, "after")
    common = [cell for cell in old if cell in new]
    if not common:
        raise _refusal("no cell is in both", _coordinates(old, new))
    pairs = [(old[cell], new[cell]) for cell in common]
    forbidden = [] if across_machines else _differing(pairs, _machine)
    forbidden += _differing(pairs, _run) + _differing(pairs, _network)
    if forbidden:
        hint = ""
        if any(d.field.startswith("machine.") for d in forbidden):
            hint = "\n--across-machines compares different machines all the same"
        raise _refusal("they did not measure the same thing", forbidden, hint)
    stated = _differing(pairs, _software) + _ceilings(pairs)
    if across_machines:
        stated = _differing(pairs, _machine) + stated
    return Comparison(
        changes=tuple(sorted((change(a, b) for a, b in pairs), key=lambda c: c.ratio)),
        only_before=tuple(cell for cell in old if cell not in new),
        only_after=tuple(cell for cell in new if cell not in old),
        differences=tuple(stated),
    )


def ratio_interval(
    before: Sequence[float], after: Sequence[float], *, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of median(after) / median(before): low, high. The same samples give the same
    interval."""
    return _ratio_interval(tuple(before), tuple(after), seed)


@functools.lru_cache(maxsize=1024)  # a record's sentences, tables and page ask for the same pairs
def _ratio_interval(
    before: tuple[float, ...], after: tuple[float, ...], seed: int
) -> tuple[float, float]:
    rng = np.random.default_rng(seed)
    ratios = _medians(after, rng) / _medians(before, rng)
    low, high = np.quantile(ratios, (0.025, 0.975))
    return float(low), float(high)


def difference_interval(
    before: Sequence[float], after: Sequence[float], *, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of median(before) - median(after), the time saved: low, high."""
    rng = np.random.default_rng(seed)
    differences = _medians(before, rng) - _medians(after, rng)
    low, high = np.quantile(differences, (0.025, 0.975))
    return float(low), float(high)


def _medians(samples: Sequence[float], rng: np.random.Generator) -> NDArray[np.float64]:
    """Medians of resamples made of blocks of about sqrt(n) neighbours, the end joined to the
    start."""
    values = np.asarray(samples, dtype=np.float64)
    n = len(values)
    block = max(1, round(math.sqrt(n)))
    starts = rng.integers(n, size=(RESAMPLES, -(-n // block)))
    chosen = (starts[:, :, None] + np.arange(block)) % n
    resampled = values[chosen.reshape(RESAMPLES, -1)[:, :n]]
    return np.median(resampled, axis=1)


def change(before: Measurement, after: Measurement) -> Change:
    """What became of ``before``: the two ran in turns, or in two runs of one protocol."""
    ratio = after.median_s / before.median_s
    low, high = ratio_interval(before.samples_s, after.samples_s)
    fewest = min(len(before.samples_s), len(after.samples_s))
    notes = [
        f"{when} {stability(m.samples_s, steady=m.steady).text.split(',')[0]}"
        for when, m in (("before", before), ("after", after))
        if not m.stable
    ]
    if fewest < FEWEST_SAMPLES:
        notes.append(f"only {fewest} samples of the {FEWEST_SAMPLES} for a verdict")
    return Change(
        cell=before.cell,
        before_s=before.median_s,
        after_s=after.median_s,
        ratio=ratio,
        ci95=(low, high),
        verdict=verdict(before, after),
        notes=tuple(notes),
    )


def verdict(before: Measurement, after: Measurement) -> Verdict:
    """Whether ``after`` is faster than ``before`` beyond noise: the rule of every sentence that
    says "faster", "slower" or "fastest"."""
    ratio = after.median_s / before.median_s
    samples = before.samples_s, after.samples_s
    if min(map(len, samples)) < FEWEST_SAMPLES or abs(ratio - 1) <= NOISE_FLOOR:
        return "noise"
    fast, slow = samples if ratio > 1 else reversed(samples)
    # medians of resamples stay within the middle 80 % of the samples: where those do not meet, the
    # interval leaves out 1, and need not be drawn
    if quantile(fast, 0.9) >= quantile(slow, 0.1):
        low, high = ratio_interval(*samples)
        if low <= 1 <= high:
            return "noise"
    return "faster" if ratio < 1 else "slower"


@dataclass(frozen=True)
class Contest(Generic[Timed]):
    """One network on an engine, and on the rival with the least median, in one setting."""

    own: Timed
    rival: Timed

    @property
    def gain(self) -> float:
        """Median of the rival / median of the engine."""
        return self.rival.median_s / self.own.median_s

    @property
    def verdict(self) -> Verdict:
        """Whether the engine is faster than the rival beyond noise."""
        return verdict(self.rival, self.own)


def contests(
    measurements: Iterable[Timed], engine: str, rivals: Collection[str] | None = None
) -> list[Contest[Timed]]:
    """The networks that ``engine`` and a rival ran, in the order of ``measurements``.

    Args:
        measurements: of one setting: they differ in network and engine only.
        rivals: engines; default: every other one.
    """
    cells: dict[tuple[str, int | tuple[int, int]], dict[str, Timed]] = {}
    for m in measurements:
        cells.setdefault((m.model, m.size), {})[m.engine] = m
    found = []
    for by_engine in cells.values():
        others = [
            m
            for name, m in by_engine.items()
            if name != engine and (rivals is None or name in rivals)
        ]
        if engine in by_engine and others:
            found.append(Contest(by_engine[engine], min(others, key=lambda m: m.median_s)))
    return found


class Tally(NamedTuple):
    """On how many networks an engine is faster than its best rival beyond noise, and on how many it
    is not."""

    faster: int
    noise: int
    slower: int

    @classmethod
    def of(cls, found: Iterable[Contest[Any]]) -> Tally:
        counts = Counter(contest.verdict for contest in found)
        return cls(counts["faster"], counts["noise"], counts["slower"])

    def sentence(self, engine: str, rival: str) -> str:
        """What may be said of the engine, without a full stop."""
        return (
            f"{engine} is faster than {rival} beyond noise on {self.faster}, within noise of it on "
            f"{self.noise} and slower beyond noise on {self.slower} of {sum(self)} "
            f"network{'s' if sum(self) > 1 else ''}"
        )


def _by_cell(measurements: Sequence[Measurement], when: str) -> dict[Cell, Measurement]:
    found: dict[Cell, Measurement] = {}
    for m in measurements:
        if m.cell in found:
            raise RecordError(
                f"the record {when} measures {_words(m.cell)} twice (runs "
                f"{found[m.cell].run_id} and {m.run_id}); compare one run with one run"
            )
        found[m.cell] = m
    return found


def _words(cell: Cell) -> str:
    busy = f", beside {cell.beside} busy cores" if cell.beside else ""
    return f"{cell.model} on {cell.engine} (threads {cell.threads}, batch {cell.batch}{busy})"


def _refusal(why: str, differences: Iterable[Difference], hint: str = "") -> RecordError:
    lines = "".join(f"\n  {difference}" for difference in differences)
    return RecordError(f"these records cannot be compared: {why}{lines}{hint}")


def _coordinates(old: Iterable[Cell], new: Iterable[Cell]) -> list[Difference]:
    """In which coordinates two sets of cells differ, with the values of each."""

    def values(cells: Iterable[Cell], index: int) -> str:
        return ", ".join(sorted({str(cell[index]) for cell in cells}))

    rows = [Difference(f, values(old, i), values(new, i)) for i, f in enumerate(Cell._fields)]
    return [row for row in rows if row.before != row.after]


def _machine(m: Measurement) -> dict[str, object]:
    # not its memory or its kernel: a container's limit and an update move those
    return {f"machine.{name}": m.machine[name] for name in ("cpu", "cores", "governor", "gpu")}


def _run(m: Measurement) -> dict[str, object]:
    return {"protocol": m.protocol}


def _network(m: Measurement) -> dict[str, object]:
    return {f"params of {m.model}": m.params}


def _software(m: Measurement) -> dict[str, object]:
    versions = {f"version of {name}": version for name, version in m.versions.items()}
    return {
        "commit": m.commit,
        "os": m.machine["os"],
        "memory_bytes": m.machine["memory_bytes"],
        f"engine version of {m.engine}": m.engine_version,
        f"MACs of {m.model}": m.macs,
        **versions,
    }


def _differing(
    pairs: Iterable[tuple[Measurement, Measurement]],
    facts: Callable[[Measurement], dict[str, object]],
) -> list[Difference]:
    """Each fact that is not the same in some pair, once for each two values."""
    found: dict[Difference, None] = {}
    for before, after in pairs:
        old, new = facts(before), facts(after)
        for name in {**old, **new}:
            one, other = old.get(name), new.get(name)
            if one != other:
                found[Difference(name, _text(one), _text(other))] = None
    return list(found)


def _text(value: object) -> str:
    return "unknown" if value in (None, "") else str(value)


def _ceilings(pairs: Sequence[tuple[Measurement, Measurement]]) -> list[Difference]:
    """Where the machine itself was faster or slower by more than a tenth: then so is every
    network."""
    found: dict[Difference, None] = {}
    for before, after in pairs:
        for field, unit in (
            ("peak_gflops", "GFLOP/s"),
            ("fma_gflops", "GFLOP/s"),
            ("copy_gb_per_s", "GB/s"),
        ):
            one, other = getattr(before, field), getattr(after, field)
            if one and other and abs(other / one - 1) > 0.1:
                name = f"{field} at {before.threads} threads"
                found[Difference(name, f"{one:.1f} {unit}", f"{other:.1f} {unit}")] = None
    return list(found)
