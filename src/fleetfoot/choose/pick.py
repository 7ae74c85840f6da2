"""Picking networks for this machine: the front of latency and published top-1 within limits.

Every network is predicted from its trace; those that may be on the front are then measured,
interleaved, until the whole front is measured. So a latency is measured or predicted, a top-1 is
published, and each figure says which.
"""

from __future__ import annotations

import logging
import os
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from fleetfoot.choose.calibrate import (
    CHECKING,
    ENOUGH,
    OnEvent,
    calibrate,
    calibration_file,
    choose_engine,
    load,
    roofline_s,
)
from fleetfoot.choose.front import pareto as front_of
from fleetfoot.count.trace import Trace, trace
from fleetfoot.errors import STRANGERS, NoneFitsError, RecordError
from fleetfoot.files import parsed, refuse_negatives, remembered
from fleetfoot.interrupts import Interrupted
from fleetfoot.machine import environment
from fleetfoot.machine.measured import machine
from fleetfoot.measure.clock import quantile
from fleetfoot.measure.grid import networks
from fleetfoot.measure.run import Case, Event, run
from fleetfoot.models import list_models
from fleetfoot.network import Size, native_size, published, resolve, resolved_size
from fleetfoot.network.user import place_of
from fleetfoot.transform.fusion import unproved

log = logging.getLogger("fleetfoot")

Predictor = Literal["latency model", "roofline"]
MARGINS: dict[Predictor, float] = {"latency model": 0.25, "roofline": 0.5}
"""Largest relative error expected of a prediction, in both directions. Nine networks in ten are
within it; the roofline's times are first scaled by measured ones (benchmarks/latency-model)."""
MOST_MEASURED = 12
"""Largest number of networks measured in one go."""
TIMM_FAMILIES = (
    "mobilenetv4_*",
    "shvit_*",
    "repvit_*",
    "starnet_*",
    "hgnetv2_*",
    "efficientvit_*",
    "cpubone_*",
)
"""Families of timm that are considered beside the zoo: they decide the front of accuracy against
latency on CPUs, and the zoo has none of them."""
MEASURING = replace(CHECKING, name="pick", description="contenders, interleaved", budget_s=120.0)


@dataclass(frozen=True)
class Tracing:
    """Event: a network is being folded and traced, or its trace read from the cache."""

    model: str
    number: int
    """Position of the network, from 1."""
    of: int


Predict = Callable[[Trace], float]
Measure = Callable[[Sequence["Candidate"]], tuple[Mapping[str, float], Mapping[str, str]]]
"""Measures candidates: seconds by name, and by name the reason why others could not run."""


class Scored(NamedTuple):
    """A network and its published top-1, in percent."""

    model: str
    size: Size
    top1: float
    top1_source: str


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A network with its published top-1, its counts, and its latency as far as known."""

    model: str
    size: Size
    top1: float
    """Published ImageNet-1k top-1, in percent; not measured here."""
    top1_source: str
    weight_bytes: int
    """Memory of the folded weights in float32, counted."""
    macs: int
    """Multiply-accumulates of one image, counted."""
    predicted_s: float
    """Seconds of a batch, predicted from the trace."""
    measured_s: float | None = None
    """Seconds of a batch, the lower quartile of its runs; None if not measured."""

    @property
    def latency_s(self) -> float:
        return self.predicted_s if self.measured_s is None else self.measured_s

    @property
    def basis(self) -> Literal["measured", "predicted"]:
        """Whether ``latency_s`` is measured or predicted."""
        return "predicted" if self.measured_s is None else "measured"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits on a network.

    Raises:
        ValueError: a limit is out of range.
    """

    max_s: float
    """Longest time of a batch, in seconds."""
    min_top1: float = 0.0
    """Percent."""
    max_bytes: float | None = None
    """Largest memory of the weights, in bytes; None for no limit."""

    def __post_init__(self) -> None:
        if not self.max_s > 0:
            raise ValueError(f"max_ms must be above 0, not {1e3 * self.max_s:g}")
        if not 0 <= self.min_top1 <= 100:
            raise ValueError(f"min_top1 is in percent, 0 to 100, not {self.min_top1:g}")
        if self.max_bytes is not None and not self.max_bytes > 0:
            raise ValueError(f"max_mb must be above 0, not {self.max_bytes / 1e6:g}")


@dataclass(frozen=True, kw_only=True)
class Pick:
    """The networks that were picked, and how they were found."""

    engine: str
    threads: int
    batch: int
    limits: Limits
    predictor: Predictor
    front: tuple[Candidate, ...]
    """The front, from fast to slow: no other network within the limits is faster and as accurate,
    or as fast and more accurate."""
    others: tuple[Candidate, ...]
    """The other networks that were measured."""
    considered: int
    """Number of networks with a published top-1 that were predicted."""
    without_top1: tuple[str, ...]
    """Networks left out because they have no published top-1."""
    failures: Mapping[str, str]
    """Reasons by network: why it could not be traced, or could not run on this engine."""


def pick(
    max_ms: float,
    *,
    min_top1: float = 0.0,
    max_mb: float | None = None,
    threads: int = 1,
    engine: str = "auto",
    batch: int = 1,
    timm: str | None = None,
    own: Mapping[str, float] | None = None,
    calibrated: bool = True,
    on_event: Callable[[Event | Tracing], None] = lambda event: None,
) -> Pick:
    """Picks the best networks for this machine within ``max_ms``, from the zoo and from
    ``TIMM_FAMILIES``.

    Args:
        max_ms: longest time of a batch, in milliseconds.
        min_top1: lowest published top-1, in percent.
        max_mb: largest memory of the weights, in 10⁶ bytes. Default: no limit.
        threads: number of threads of the engine.
        engine: an engine with a latency model, or "auto", the first installed of native, ONNX
            Runtime, OpenVINO and eager.
        batch: number of images in a batch.
        timm: more networks of timm to consider: a shell pattern, or "all".
        own: more networks to consider, in any form that ``network.resolve`` takes, each with the
            top-1 in percent that its owner states.
        calibrated: predict by the latency model, which is calibrated first if necessary;
            otherwise by the roofline.
        on_event: called with the events of calibration, tracing and measurement.

    Raises:
        ValueError: a limit, ``batch`` or ``threads`` is out of range.
        NoneFitsError: no network is within the limits; the message gives the nearest one.
        UnknownNameError: no engine or network has the name, or matches the pattern.
    """
    limits = Limits(
        max_s=max_ms / 1e3,
        min_top1=min_top1,
        max_bytes=None if max_mb is None else 1e6 * max_mb,
    )
    if batch < 1:
        raise ValueError(f"batch must be 1 or more, not {batch}")
    engine = choose_engine(engine)
    names = default_names() + (networks([f"timm:{'*' if timm == 'all' else timm}"]) if timm else [])
    scored, without = accurate(names, limits.min_top1)
    scored += [
        Scored(name, resolved_size(name), top1, "as its owner says")
        for name, top1 in (own or {}).items()
        if top1 >= limits.min_top1
    ]
    predict = _model(engine, threads, on_event) if calibrated else _roofline(threads)
    found, failures = candidates(scored, predict, batch, on_event)

    if not found:
        raise NoneFitsError(f"no network could be folded and traced{_listed(failures)}")

    def measure(chosen: Sequence[Candidate]) -> tuple[Mapping[str, float], Mapping[str, str]]:
        cases = [Case(one.model, engine, threads, batch, one.size) for one in chosen]
        done = run(cases, MEASURING, on_event=on_event)
        if done.interrupted:
            raise Interrupted(done.interrupted)
        return (
            {m.model: quantile(m.samples_s, 0.25) for m in done.measurements},
            {failure.model: failure.reason for failure in done.failures},
        )

    predictor: Predictor = "latency model" if calibrated else "roofline"
    front, others, not_run = choose(found, limits, measure, MARGINS[predictor])
    return Pick(
        engine=engine,
        threads=threads,
        batch=batch,
        limits=limits,
        predictor=predictor,
        front=front,
        others=others,
        considered=len(found),
        without_top1=without,
        failures={**failures, **not_run},
    )


def default_names() -> list[str]:
    """The networks of the zoo, and those of ``TIMM_FAMILIES`` in the installed timm."""
    import timm

    found = [name for family in TIMM_FAMILIES for name in timm.list_models(family)]
    return list_models() + [f"timm:{name}" for name in found]


def _model(engine: str, threads: int, on_event: OnEvent) -> Predict:
    try:
        made = load(engine, threads)
    except RecordError as error:
        said = (
            logging.WARNING if os.path.lexists(calibration_file(engine, threads)) else logging.INFO
        )
        log.log(said, "%s; calibrating now, once, for one to three minutes", error)
        made = calibrate(engine, threads=threads, enough=ENOUGH, on_event=on_event)
    if made.doubt:
        log.warning("%s", made.doubt)
    return made.model.predict


def _roofline(threads: int) -> Predict:
    roof = machine(threads)
    return lambda found: roofline_s(found, roof)


def accurate(names: Sequence[str], min_top1: float) -> tuple[list[Scored], tuple[str, ...]]:
    """Networks with a published top-1 of at least ``min_top1`` percent, and those without one.

    Raises:
        NoneFitsError: no network is this accurate.
    """
    sizes = {name: native_size(name) for name in dict.fromkeys(names)}
    rows = [(name, size, *published(name, size)) for name, size in sizes.items()]
    scored = [Scored(name, size, top1, source) for name, size, top1, source in rows if top1]
    if not scored:
        raise NoneFitsError("no network with a published top-1 was found")
    enough = [one for one in scored if one.top1 >= min_top1]
    if not enough:
        best = max(scored, key=lambda one: one.top1)
        raise NoneFitsError(
            f"no network has a published top-1 of {min_top1:g} % or more; the highest of "
            f"{len(scored)} is {best.model}'s, {best.top1:g} %"
        )
    return enough, tuple(name for name, _, top1, _ in rows if not top1)


def candidates(
    scored: Sequence[Scored],
    predict: Predict,
    batch: int = 1,
    on_event: Callable[[Tracing], None] = lambda event: None,
) -> tuple[list[Candidate], dict[str, str]]:
    """Each network with its prediction; and the networks that failed, with the reasons."""
    found: list[Candidate] = []
    failures: dict[str, str] = {}
    for number, one in enumerate(scored, start=1):
        on_event(Tracing(one.model, number, len(scored)))
        try:
            seen = folded_trace(one.model, one.size, batch)
        except STRANGERS as error:  # whatever one network raises, the others go on
            failures[one.model] = f"{error or type(error).__name__}{place_of(error)}"
            continue
        found.append(
            Candidate(
                **one._asdict(),
                weight_bytes=seen.weight_bytes,
                macs=seen.macs // batch,
                predicted_s=predict(seen),
            )
        )
    return found, failures


def folded_trace(name: str, size: Size, batch: int, cache: Path | None = None) -> Trace:
    """The trace of a folded network. It is kept in ``cache``, because folding takes half a second;
    it depends only on the network and on versions."""
    question = {
        "network": name,
        "size": size,
        "batch": batch,
        "versions": environment.versions(),
        "commit": environment.commit(),
    }
    return remembered(
        "traces",
        question,
        lambda: _folded_trace(name, size, batch),
        read=_kept_trace,
        cache=cache,
    )


def _folded_trace(name: str, size: Size, batch: int) -> Trace:
    workload = resolve(name, size=size)
    example = workload.image("pick")
    folded = unproved(workload.module, example)  # what is measured later is proved then
    return trace(folded, torch.zeros(batch, *example.shape[1:]))


def _kept_trace(raw: Any) -> Trace:
    refuse_negatives(raw)
    found = parsed(raw, Trace)
    if not found.operators or not found.input_bytes:
        raise RecordError("a trace has operators and an input")
    return found


def choose(
    found: Sequence[Candidate], limits: Limits, measure: Measure, margin: float
) -> tuple[tuple[Candidate, ...], tuple[Candidate, ...], dict[str, str]]:
    """The front within the limits, the other networks that were measured, and those that could not
    run, with the reasons.

    Networks are measured until no unmeasured one may be on the front, if its prediction is off by
    at most ``margin``.

    Raises:
        NoneFitsError: no network is within the limits; the message gives the nearest one.
    """
    eligible = {one.model: one for one in _within(found, limits)}
    failures: dict[str, str] = {}
    while True:
        chosen = [
            one
            for one in contenders(_expected(eligible.values()), limits.max_s, margin)
            if one.measured_s is None
        ][:MOST_MEASURED]
        if not chosen:
            break  # every pass measures or removes at least one network, so this is reached
        times_s, reasons = measure(chosen)
        failures |= reasons
        for one in chosen:
            if one.model in times_s:
                eligible[one.model] = replace(eligible[one.model], measured_s=times_s[one.model])
            else:
                failures.setdefault(one.model, "it was not measured")
                del eligible[one.model]
    if not eligible:
        raise NoneFitsError(f"no network within the other limits could be run{_listed(failures)}")
    known = [one for one in eligible.values() if one.measured_s is not None]
    front = pareto([one for one in known if one.latency_s <= limits.max_s])
    if not front:
        raise NoneFitsError(_too_slow(known, limits))
    rest = sorted((one for one in known if one not in front), key=lambda one: one.latency_s)
    return tuple(front), tuple(rest), failures


def _listed(failures: Mapping[str, str]) -> str:
    return "".join(f"\n  {name}: {why}" for name, why in failures.items())


def _within(found: Sequence[Candidate], limits: Limits) -> list[Candidate]:
    """The networks within the limits of accuracy and memory, which are known without a run.

    Raises:
        NoneFitsError: no network is.
    """
    enough = [one for one in found if one.top1 >= limits.min_top1]
    if limits.max_bytes is None:
        return enough
    small = [one for one in enough if one.weight_bytes <= limits.max_bytes]
    if enough and not small:
        least = min(enough, key=lambda one: one.weight_bytes)
        raise NoneFitsError(
            f"no network{_with_top1(limits)} has weights of {limits.max_bytes / 1e6:g} MB or "
            f"less; the smallest is {least.model}, {least.weight_bytes / 1e6:.1f} MB"
        )
    return small


def _with_top1(limits: Limits) -> str:
    return f" with a top-1 of {limits.min_top1:g} % or more" if limits.min_top1 else ""


def _too_slow(known: Sequence[Candidate], limits: Limits) -> str:
    fastest = min(known, key=lambda one: one.latency_s)
    size = "" if limits.max_bytes is None else f" and weights of {limits.max_bytes / 1e6:g} MB"
    return (
        f"no network{_with_top1(limits)}{size} runs within {1e3 * limits.max_s:g} ms here; the "
        f"fastest is {fastest.model} at {1e3 * fastest.latency_s:.3g} ms ({fastest.basis}), top-1 "
        f"{fastest.top1:g} % (published)"
    )


def _expected(known: Iterable[Candidate]) -> list[Candidate]:
    """The candidates, with predictions scaled by the ratio that the measured ones show."""
    listed = list(known)
    ratios = [one.measured_s / one.predicted_s for one in listed if one.measured_s is not None]
    ratio = statistics.median(ratios) if ratios else 1.0
    return [replace(one, predicted_s=one.predicted_s * ratio) for one in listed]


def contenders(found: Sequence[Candidate], max_s: float, margin: float) -> list[Candidate]:
    """The networks that may be on the front within ``max_s`` if predictions are off by ``margin``,
    the likeliest first. If there are none: the fastest, so that the error quotes a measurement."""

    def bounds(one: Candidate) -> tuple[float, float]:
        off = 0.0 if one.measured_s is not None else margin
        return one.latency_s * (1 - off), one.latency_s * (1 + off)

    fitting = [one for one in found if bounds(one)[0] <= max_s]
    if not fitting:
        return sorted(found, key=lambda one: one.latency_s)[:MOST_MEASURED]
    ranked = []
    for one in fitting:
        better = [other for other in fitting if _dominates(other, one)]
        if any(bounds(other)[1] < bounds(one)[0] for other in better):
            continue
        behind = one.latency_s / min((other.latency_s for other in better), default=one.latency_s)
        ranked.append((behind, one.latency_s, one))
    return [one for *_, one in sorted(ranked, key=lambda row: row[:2])]


def _dominates(a: Candidate, b: Candidate) -> bool:
    """Whether ``a`` is as fast and as accurate as ``b``, and better in at least one of the two."""
    as_good = a.latency_s <= b.latency_s and a.top1 >= b.top1
    return as_good and (a.latency_s < b.latency_s or a.top1 > b.top1)


def pareto(found: Sequence[Candidate]) -> list[Candidate]:
    """The front of latency and published top-1, from fast to slow."""
    return front_of(found, time_s=lambda one: one.latency_s, top1=lambda one: one.top1)
