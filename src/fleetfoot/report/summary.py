"""What a record shows, in words: its groups, the front of accuracy against latency, the findings,
and how it was measured. The terminal and the page print these same sentences.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from itertools import pairwise, permutations
from statistics import geometric_mean, median
from typing import NamedTuple

from fleetfoot.choose.front import pareto as front_of
from fleetfoot.measure import compare
from fleetfoot.measure.clock import stability
from fleetfoot.measure.record import Failure, Measurement, Start, Timed, fastest
from fleetfoot.report.joined import Joined

OWN = "native"
PEERS = ("onnxruntime", "openvino", "ncnn", "executorch", "compiled")
"""Fleetfoot's own engine, and the engines that it is compared with."""


class Group(NamedTuple):
    """Cells that belong in one table: they differ only in network and engine."""

    threads: int
    batch: int
    device: str
    precision: str
    folded: bool
    beside: int

    @classmethod
    def of(cls, m: Measurement) -> Group:
        return cls(m.threads, m.batch, m.device, m.precision, m.folded, m.beside)

    def __str__(self) -> str:
        parts = [f"{self.threads} thread{'s' if self.threads > 1 else ''}", f"batch {self.batch}"]
        if self.device != "cpu":
            parts.append(self.device)
        if self.precision != "float32":
            parts.append(self.precision)
        if not self.folded:
            parts.append("not folded")
        if self.beside:
            parts.append(f"beside {self.beside} busy core{'s' if self.beside > 1 else ''}")
        return ", ".join(parts)


def grouped(measurements: Iterable[Timed]) -> dict[Group, list[Timed]]:
    """Cells by group, fewest threads and smallest batch first; in each, the least latency first."""
    found: dict[Group, list[Timed]] = {}
    for m in measurements:
        found.setdefault(Group.of(m), []).append(m)
    return {
        group: sorted(found[group], key=lambda m: m.median_s)
        for group in sorted(found, key=lambda g: (g.device, g.precision, not g.folded, g))
    }


_FAMILY = re.compile(r"(?:tf_)?([a-z]+?)(?:_?v\d)?(?:[_\d]|$)")
_TITLES = {
    "fasternet": "FasterNet",
    "fastvit": "FastViT",
    "mobileone": "MobileOne",
    "mobilenet": "MobileNet",
    "shufflenet": "ShuffleNet",
    "ghostnet": "GhostNet",
    "mobilevit": "MobileViT",
    "resnet": "ResNet",
    "poolformer": "PoolFormer",
}


def family(model: str) -> str:
    """The family whose colour a network has, with all its versions: ``mobilenetv3_small_100`` ->
    ``MobileNet``."""
    name = model.split(":")[-1]
    match = _FAMILY.match(name)
    stem = match.group(1) if match else name
    return _TITLES.get(stem, stem)


def verdict(m: Measurement) -> str:
    """Why a cell is unstable, for example "unstable: spread 31 %, drifted by 20 % between its
    halves"; "" if it is stable."""
    if m.stable:
        return ""
    found = stability(m.samples_s, steady=m.steady)
    # a record may come from a version with narrower limits, by which it was unstable
    return f"unstable: spread {100 * m.spread:.0f} %" if found.stable else found.text


def mark(m: Measurement) -> str:
    """The first reason of ``verdict``, short enough for a table."""
    return verdict(m).split(",")[0]


def pareto(measurements: Iterable[Joined]) -> list[Joined]:
    """The cells that no other beats in both top-1 and latency, the fastest first. A cell without a
    top-1 is not among them."""
    known = [m for m in measurements if m.top1 is not None]
    return front_of(known, time_s=lambda m: m.median_s, top1=_top1)


class Versus(NamedTuple):
    """A network on every engine of a group."""

    model: str
    cells: dict[str, Joined]
    """Cells by engine."""
    gain: float | None
    """Least median of a peer / median of fleetfoot's own engine; None if one of them is missing."""

    @property
    def winner(self) -> str | None:
        """The engine that is faster than every other one beyond noise, if there is one."""
        first, *others = sorted(self.cells.values(), key=lambda m: m.median_s)
        beaten = others and all(compare.verdict(other, first) == "faster" for other in others)
        return first.engine if beaten else None


def versus(measurements: Sequence[Joined]) -> tuple[list[str], list[Versus]]:
    """The engines of one group, fleetfoot's own first, and its networks, the least median first;
    nothing if the own engine is not in it."""
    engines = sorted({m.engine for m in measurements}, key=lambda name: (name != OWN, name))
    if OWN not in engines or len(engines) < 2:
        return [], []
    cells: dict[str, dict[str, Joined]] = {}
    for m in sorted(measurements, key=lambda m: m.median_s):
        cells.setdefault(m.model, {})[m.engine] = m
    rows = []
    for model, found in cells.items():
        peers = [m.median_s for name, m in found.items() if name in PEERS]
        gain = min(peers) / found[OWN].median_s if peers and OWN in found else None
        rows.append(Versus(model, found, gain))
    return engines, rows


def versus_text(row: Versus, engine: str) -> str:
    """Milliseconds for a batch; "-" if the engine has no figure."""
    return digits(row.cells[engine].median_s * 1e3) if engine in row.cells else "-"


VERSUS_TITLE = "every engine, ms a batch; bold: faster than each other engine beyond noise"
GAIN_TITLE = "best peer / native"


def gain_text(row: Versus) -> str:
    return "-" if row.gain is None else f"{row.gain:.2f}"


def start_rows(starts: Sequence[Start]) -> tuple[list[str], list[list[str]]]:
    """Titles, and a row for each network and engine; in each network, the soonest answer first."""
    titles = [
        "network", "engine", "first answer ms", "of which import ms", "file MB", "to open MB",
        "running above weights MB", "processes",
    ]  # fmt: skip
    rows = []
    for s in sorted(starts, key=lambda s: (s.model, s.first_answer_s)):
        above = s.above_weights_bytes
        rows.append(
            [
                s.model,
                s.engine,
                digits(1e3 * s.first_answer_s),
                digits(1e3 * median(s.import_s)) + (", with torch" if s.torch_imported else ""),
                digits(s.file_bytes / 1e6),
                digits(median(s.opening_bytes) / 1e6) if s.opening_bytes else "-",
                "-" if above is None else digits(above / 1e6),
                str(len(s.answer_s)),
            ]
        )
    return titles, rows


def findings(measurements: Sequence[Joined]) -> list[str]:
    """Findings from the cells of one group, one sentence each; none if there is nothing to compare
    or no cell is stable. "Faster" and "slower" follow the rule of ``fleetfoot compare``."""
    if not any(m.stable for m in measurements):
        return []
    best = fastest(measurements)
    said = [_front(best), _work_and_time(best), _engines(measurements)]
    return [sentence for sentence in said if sentence]


def _front(best: Sequence[Joined]) -> str:
    known = [m for m in best if m.top1 is not None]
    if len(known) < 2:
        return ""
    front = pareto(known)
    rest = [m for m in known if m not in front]
    if not rest:
        steps = pairwise(front)
        if all(compare.verdict(more, less) == "faster" for less, more in steps):
            return f"Each step in accuracy costs time: none of the {len(known)} networks is beaten."
        return f"None of the {len(known)} networks is beaten in both top-1 and latency."
    # the soonest member of the front that is as accurate: if it is not faster, none is
    near = [
        m.model
        for m in rest
        if compare.verdict(m, next(f for f in front if _top1(f) >= _top1(m))) != "faster"
    ]
    but = f"{_listed(near)} within noise" if near else ""
    if len(front) == 1:
        return (
            f"{front[0].model} is both the fastest and the most accurate of the {len(known)} "
            f"networks with a published top-1 ({_point(front[0])}"
            f"{f'; {but}' if but else ''})."
        )
    others = f"the other {len(rest)} networks is" if len(rest) > 1 else "the others is"
    return (
        f"On the front of top-1 against latency: {_listed([m.model for m in front])}; each of "
        f"{others} slower and no more accurate than one of these{f' ({but})' if but else ''}."
    )


def _listed(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _work_and_time(best: Sequence[Measurement]) -> str:
    """The pair of networks for which multiply-accumulates mislead most. Unstable cells count too:
    they ran in turns, and only a difference beyond noise is reported."""
    pairs = sorted(
        ((a, b) for a, b in permutations(best, 2) if a.macs < b.macs),
        key=lambda p: -p[1].macs / p[0].macs * _times(p[0], p[1]),
    )
    if not pairs:
        return ""
    # less work, more time, and more than noise: the plainest case of all
    turned = ((a, b) for a, b in pairs if b.median_s < a.median_s)
    inverted = next((p for p in turned if compare.verdict(*p) == "faster"), None)
    less, more = inverted or pairs[0]
    work, time = more.macs / less.macs, _times(more, less)
    rates = f"{_rate(less)} against {_rate(more)}"
    if inverted:
        return (
            f"{less.model} has {work:.1f} times fewer MACs than {more.model} and is "
            f"{1 / time:.2f} times slower ({rates})."
        )
    if time > work / 1.2:
        return "Latency follows the MACs here: no pair of networks departs from them by a fifth."
    if compare.verdict(more, less) != "faster":
        return (
            f"{less.model} has {work:.1f} times fewer MACs than {more.model} and takes the same "
            f"time within noise ({rates})."
        )
    return (
        f"{less.model} has {work:.1f} times fewer MACs than {more.model} and is only "
        f"{time:.1f} times faster ({rates})."
    )


def _engines(measurements: Sequence[Measurement]) -> str:
    """On how many networks the engine with the most least medians is faster than the best other
    engine, and its speed beside each of the others."""
    wins = Counter(m.engine for m in fastest(measurements))
    first = wins.most_common(1)[0][0]
    found = compare.contests(measurements, first)
    if not found:
        return ""
    sentence = compare.Tally.of(found).sentence(first, "the best other engine")
    gains = []
    for other in dict.fromkeys(m.engine for m in measurements):
        if common := compare.contests(measurements, first, (other,)):
            mean = geometric_mean(contest.gain for contest in common)
            gains.append(f"{mean:.2f} times the speed of {other}")
    return (
        f"{sentence}; by medians it has {_listed(gains)}, in the geometric mean over the networks "
        "that both run."
    )


def _point(m: Joined) -> str:
    return f"{m.top1:.1f} %, {digits(m.median_s * 1e3)} ms"


def _rate(m: Measurement) -> str:
    return f"{digits(m.achieved_gflops)} GFLOPS"


def _times(a: Measurement, b: Measurement) -> float:
    return a.median_s / b.median_s


def _top1(m: Joined) -> float:
    assert m.top1 is not None  # the callers leave out cells without one
    return m.top1


def circumstances(
    measurements: Sequence[Joined], failures: Sequence[Failure] = ()
) -> list[tuple[str, str]]:
    """How it was measured, each fact a name and a sentence; the noise comes first, because it shows
    what the rest is worth."""
    rows = [
        ("noise", _noise(measurements)),
        ("machine", "; ".join(_each(_machine(m) for m in measurements))),
        ("ceilings", "; ".join(_ceilings(measurements))),
        ("harness", _harness(measurements)),
        ("fold", _fold(measurements)),
        ("run", "; ".join(_each(_run(m) for m in measurements))),
        ("did not run", "; ".join(absences(failures))),
        ("top-1", _sources(measurements)),
    ]
    return [(name, text) for name, text in rows if text]


def _machine(m: Measurement) -> str:
    where = m.machine
    parts = [
        where["cpu"],
        f"{where['cores']} core{'s' if where['cores'] > 1 else ''}",
        f"{digits(where['memory_bytes'] / 2**30)} GiB"
        if where["memory_bytes"]
        else "memory unknown",
        f"governor {where['governor'] or 'unknown'}",
        where["os"],
    ]
    if where["gpu"]:
        parts.append(where["gpu"])
    return ", ".join(parts)


def _ceilings(measurements: Sequence[Measurement]) -> list[str]:
    return _each(
        f"{m.threads} thread{'s' if m.threads > 1 else ''}: "
        f"{digits(m.peak_gflops)} GFLOP/s in a matrix product, "
        + (f"{digits(m.registers_gflops)} in registers alone, " if m.registers_gflops else "")
        + f"{digits(m.copy_gb_per_s)} GB/s in a copy"
        for m in sorted(measurements, key=lambda m: m.threads)
        if m.peak_gflops  # 0: not measured, as on a device of another kind
    )


def _harness(measurements: Sequence[Measurement]) -> str:
    worst = max(measurements, key=lambda m: m.harness_s / m.median_s)
    share = 100 * worst.harness_s / worst.median_s
    return (
        f"{digits(worst.harness_s * 1e6)} µs a batch with an engine that does nothing, at most "
        f"{digits(share, 2)} % of a latency ({worst.model} on {worst.engine})"
    )


NO_GROUND = (
    "the machine did other work or changed its clock, and these figures are no ground for a "
    "decision"
)


def steadiness(measurements: Sequence[Measurement]) -> str:
    """How many of the cells are stable, and what that means; a reader should know it first."""
    total, stable = len(measurements), sum(m.stable for m in measurements)
    if stable == total:
        return f"all {total} cells are stable" if total > 1 else "the cell is stable"
    text = f"{stable} of {total} cells {'are' if stable != 1 else 'is'} stable"
    return f"{text}: {NO_GROUND}" if _noisy(measurements) else text


def _noisy(measurements: Sequence[Measurement]) -> bool:
    """Whether more than a quarter of the cells are unstable."""
    return 4 * sum(not m.stable for m in measurements) > len(measurements)


def _noise(measurements: Sequence[Measurement]) -> str:
    shaky = [m for m in measurements if not m.stable]
    if not shaky:
        return steadiness(measurements)
    groups = len({Group.of(m) for m in measurements}) > 1

    def words(m: Measurement) -> str:
        setting = f", {Group.of(m)}" if groups else ""
        return f"{m.model} on {m.engine}{setting} ({verdict(m).removeprefix('unstable: ')})"

    text = f"{len(measurements) - len(shaky)} of {len(measurements)} cells are stable"
    if not _noisy(measurements):
        return f"{text}; not {', '.join(map(words, shaky))}"
    worst = max(shaky, key=lambda m: m.spread)
    return f"{text}, the worst {words(worst)}: {NO_GROUND}"


def _fold(measurements: Sequence[Measurement]) -> str:
    folded = {m.model: m.fold for m in measurements if m.folded}
    bare = sorted({m.model for m in measurements if not m.folded})
    said = []
    if folded:
        rounded = [fold["returned_rel"] for fold in folded.values() if "returned_rel" in fold]
        own = f", and in their own type by {max(rounded):.1e} of the largest" if rounded else ""
        said.append(
            f"{len(folded)} network{'s' if len(folded) > 1 else ''} folded; against the network "
            "as given, in float64, the outputs differ by at most "
            f"{max(f['max_abs'] for f in folded.values()):.1e} "
            f"(relative {max(f['max_rel'] for f in folded.values()):.1e}){own}; params, MACs and "
            "memory are of the folded form"
        )
    if bare:
        said.append(f"not folded: {', '.join(bare)}")
    return "; ".join(said)


def _run(m: Measurement) -> str:
    parts = [f"protocol {m.protocol}", moment(m.started)]
    parts += [f"{name} {version}" for name, version in sorted(m.versions.items())]
    if m.commit:
        commit, dash, state = m.commit.partition("-")
        parts.append(f"commit {commit[:12]}{dash}{state}")
    return ", ".join(parts)


def moment(started: str) -> str:
    """A time for people: ``2025-01-02T03:04:05+00:00`` -> ``2025-01-02 03:04 UTC``; any other text
    stays unchanged."""
    try:
        when = datetime.fromisoformat(started.replace("Z", "+00:00"))
    except ValueError:
        return started
    return f"{when.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC"


def absences(failures: Iterable[Failure]) -> list[str]:
    """Cells that did not run, grouped by engine and reason."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for f in failures:
        found.setdefault((f.engine, f.reason), {})[f.model] = None
    lines = []
    for (engine, reason), models in found.items():
        which = ", ".join(models) if len(models) < 5 else f"{len(models)} networks"
        lines.append(f"{which} on {engine}: {reason}")
    return lines


def _sources(measurements: Sequence[Joined]) -> str:
    found: dict[str, dict[str, None]] = {}
    for m in measurements:
        key = m.top1_source or "a source not stated"
        if m.top1 is not None:
            found.setdefault(key, {})[m.model] = None
    said = [f"{', '.join(models)} from {source}" for source, models in sorted(found.items())]
    unknown = sorted({m.model for m in measurements if m.top1 is None})
    if unknown:
        said.append(f"no published figure is known for {', '.join(unknown)}")
    return f"as published, not measured here: {'; '.join(said)}" if found else "; ".join(said)


def _each(lines: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(lines))


def digits(value: float, count: int = 3) -> str:
    """``value`` to ``count`` significant digits, but never fewer than its whole part: 9.13, 25.1,
    154, 4089."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    places = count - 1 - math.floor(math.log10(abs(value)))
    text = f"{value:.{max(0, places)}f}"
    # rounding may carry into a new place: 9.996 to three digits is 10.0, not 10.00
    return f"{value:.{max(0, places - 1)}f}" if float(text) >= 10 ** (count - places) else text
