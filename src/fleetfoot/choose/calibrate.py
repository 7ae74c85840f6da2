"""Fitting ``choose.latency`` to a machine and engine: ``calibrate`` measures synthetic networks,
interleaved in groups, and fits; no network of the zoo takes part.

A network's time is the lower quartile of its runs: the time that the engine takes when little
disturbs it.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from fleetfoot import files, interrupts
from fleetfoot.choose.latency import Array, LatencyModel, activations, features, fit
from fleetfoot.choose.prediction_error import Agreement
from fleetfoot.choose.synthetic import synthetic
from fleetfoot.cores import check_threads
from fleetfoot.count.trace import Trace, count
from fleetfoot.engines import ENGINES, available
from fleetfoot.errors import EngineError, RecordError, UnknownNameError
from fleetfoot.files import cache_folder, locked, read_json, write_text
from fleetfoot.machine import environment
from fleetfoot.machine.machine import Machine
from fleetfoot.machine.measured import machine as measured_machine
from fleetfoot.machine.peaks import PeakProbe
from fleetfoot.machine.roofline import floor
from fleetfoot.measure.clock import quantile
from fleetfoot.measure.networks import Network
from fleetfoot.measure.pace import Pace
from fleetfoot.measure.record import Failure
from fleetfoot.measure.run import Case, Event, Notice, Preparing, Tools, run
from fleetfoot.network import Size, Workload, height_width
from fleetfoot.runtime import MOST_THREADS

log = logging.getLogger("fleetfoot")

SCHEMA = 1
CALIBRATED = ("native", "onnxruntime", "openvino", "eager")
"""Engines with a latency model; "auto" takes the first of them that is installed."""
GROUP = 40
"""Number of networks that are interleaved."""
FEWEST = 40
"""Fewest networks for a fit: the model has more features than this."""
ENOUGH = 120
"""Number of networks after which more hardly help: of the 200 of benchmarks/latency-model, those
left out of the fit are predicted with a 90th percentile of errors of 33 % from 40, 20 % from 80,
13 % from 120 and 15 % from 160."""
FOLDS = 5
LARGE_ERRORS = 0.10, 0.25
"""Median and 90th percentile of the errors on held-out networks above which a calibration warns;
4 % and 13 % in benchmarks/latency-model."""
DEFAULT_MINUTES = 3.0
ESTIMATED = 5
"""Number of networks prepared before the time of a group is estimated."""
ERROR_SHARE = 1.25
"""Two calibrations of one engine, a quiet minute apart, differ in their errors by less than this
factor."""
MEASURING = Pace(
    name="calibrate",
    description="synthetic networks, interleaved in groups",
    rounds=6,
    fewest_rounds=6,
    budget_s=3600.0,
    burst_runs=2,
    burst_s=0.012,
    rewarm_s=0.004,
    warmup_s=0.25,
)
CHECKING = replace(
    MEASURING,
    name="latency-check",
    description="networks that were not in the fit, interleaved",
    rounds=12,
    burst_s=0.02,
    warmup_s=0.5,
)

OnEvent = Callable[[Event], None]
log = logging.getLogger("fleetfoot")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A synthetic network and its time."""

    number: int
    """Number of the network in ``choose.synthetic``."""
    name: str
    macs: int
    time_s: float
    runs: int


@dataclass(frozen=True, kw_only=True)
class Scales:
    """Factors of the simple predictors: for each, the median of time over prediction."""

    s_per_mac: float
    s_per_activation: float
    """Seconds for each activation, a value that a convolution, linear layer or product writes."""
    times_roofline: float


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A latency model and the samples that it was fitted to."""

    engine: str
    engine_version: str
    threads: int
    cpu: str
    versions: dict[str, str]
    commit: str
    started: str
    """Time of the first measurement: ISO 8601, UTC."""
    seconds: float
    """Wall time of the measurements and the fit, in seconds."""
    samples: tuple[Sample, ...]
    failures: tuple[Failure, ...]
    """Synthetic networks that the engine could not run."""
    model: LatencyModel
    within: Agreement
    """Agreement on the synthetic networks, each predicted by a model fitted without its fifth."""
    scales: Scales
    schema: int = SCHEMA

    @property
    def doubt(self) -> str:
        """Why predictions may be far off: errors above ``LARGE_ERRORS`` on the networks held out,
        as on a busy machine; "" if there is no reason."""
        median, p90 = self.within.median_error, self.within.p90_error
        if median <= LARGE_ERRORS[0] and p90 <= LARGE_ERRORS[1]:
            return ""
        return (
            f"the latency model of {self.engine} is inexact: on networks held out its median error "
            f"is {100 * median:.0f} % and one in ten is off by more than {100 * p90:.0f} %. The "
            "machine was probably busy; calibrate again when it is quiet: fleetfoot calibrate "
            f"--engine {self.engine} --threads {self.threads}"
        )

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise RecordError(
                f"a calibration of schema {self.schema}; this fleetfoot reads schema {SCHEMA}"
            )
        if not any(self.model.rates.values()) or not all(one.time_s > 0 for one in self.samples):
            raise RecordError("a calibration needs a rate above 0 and samples with times above 0")
        scales, within = self.scales, self.within
        if (
            min(scales.s_per_mac, scales.s_per_activation, scales.times_roofline) <= 0
            or min(self.seconds, within.median_error, within.p90_error) < 0
            or not -1 <= within.spearman <= 1
            or min(self.threads, within.networks, *(one.macs for one in self.samples)) < 1
        ):
            raise RecordError("a calibration has counts and scales above 0 and no negative error")


def calibration_file(engine: str, threads: int) -> Path:
    """Path of this machine's calibration: in fleetfoot's cache folder, one file for each processor,
    engine and number of threads."""
    cpu = hashlib.blake2b(environment.cpu_name().encode(), digest_size=6).hexdigest()
    return cache_folder() / "latency" / f"{engine}-{threads}-{cpu}.json"


def choose_engine(engine: str = "auto") -> str:
    """Returns ``engine``, or for "auto" the first of ``CALIBRATED`` that can be used here.

    Raises:
        UnknownNameError: no engine with a latency model has this name.
        EngineError: the engine cannot be used here.
    """
    absent = available()
    if engine == "auto":
        return next(name for name in CALIBRATED if absent[name] is None)
    if engine not in CALIBRATED:
        raise UnknownNameError.of("engine with a latency model", engine, CALIBRATED)
    if absent[engine] is not None:
        raise EngineError(f"engine {engine!r} cannot be used here: {absent[engine]}")
    return engine


def calibrate(
    engine: str = "native",
    *,
    threads: int = 1,
    minutes: float | None = None,
    enough: int | None = None,
    output: Path | None = None,
    resume: bool = False,
    force: bool = False,
    on_event: OnEvent = lambda event: None,
    tools: Tools | None = None,
    machine: Machine | None = None,
) -> Calibration:
    """Measures synthetic networks for ``minutes``, fits a latency model and keeps it.

    An interrupted calibration is fitted to the networks measured so far and kept, and then the
    interrupt goes on.

    Args:
        minutes: wall time. Default: ``DEFAULT_MINUTES``, or longer if ``FEWEST`` networks need it.
        enough: number of networks after which it ends before the minutes do. Default: none.
        output: file of the calibration. Default: that of ``calibration_file``.
        resume: add to the networks of the existing calibration.
        force: replace a better calibration of this machine too. Default: it stays, which the logger
            "fleetfoot" reports.
        tools: tools to measure with; the networks are always the synthetic ones.
        machine: measured rates for the roofline. Default: those of ``machine.measured``, which
            measures if necessary.

    Raises:
        ValueError: ``minutes`` is too short to measure ``FEWEST`` networks here, or there are more
            threads than usable cores.
        UnknownNameError: no engine with a latency model has this name.
        EngineError: the engine cannot be used here, or fewer than ``FEWEST`` networks could be
            measured.
        RecordError: ``resume`` is set, but the calibration is of another machine, engine or number
            of threads, or another process adds to it.
    """
    check_threads(threads)
    engine = choose_engine(engine)
    _check_minutes(minutes, _least_s())
    file = output or calibration_file(engine, threads)
    with ExitStack() as held:
        if resume and file.exists():
            held.enter_context(locked(held.enter_context(file.open("rb"))))
        held.enter_context(interrupts.handled())
        made, stop = _calibrated(
            engine, threads, minutes, enough, file, resume, on_event, tools or Tools(), machine
        )
        _keep(made, file, force=force, default=output is None)
    if stop is not None:
        raise stop
    return made


def _least_s() -> float:
    """Seconds that ``FEWEST`` networks take at least: their warm-up and their runs."""
    runs_s = MEASURING.fewest_rounds * (MEASURING.burst_s + MEASURING.rewarm_s)
    return FEWEST * (MEASURING.warmup_s + runs_s)


def _check_minutes(minutes: float | None, needed_s: float) -> None:
    """
    Raises:
        ValueError: ``minutes`` is less than needed.
    """
    if minutes is not None and not 60 * minutes >= needed_s:
        least = math.ceil(needed_s / 6) / 10
        raise ValueError(
            f"minutes must be {least:g} or more here, not {minutes:g}: a latency model needs "
            f"{FEWEST} measured networks"
        )


def _calibrated(
    engine: str,
    threads: int,
    minutes: float | None,
    enough: int | None,
    file: Path,
    resume: bool,
    on_event: OnEvent,
    tools: Tools,
    machine: Machine | None,
) -> tuple[Calibration, KeyboardInterrupt | None]:
    """The calibration, and the interrupt that ended it early."""
    began, started = time.monotonic(), now()
    samples: list[Sample] = []
    failures: list[Failure] = []
    traces: dict[int, Trace] = {}
    spent = 0.0
    if resume:
        before = load(engine, threads, file)
        samples, failures = list(before.samples), list(before.failures)
        started, spent = before.started, before.seconds
        for sample in samples:
            drawn = synthetic(sample.number)
            traces[sample.number] = count(drawn.model, _example(drawn.size))
            if (drawn.name, traces[sample.number].macs) != (sample.name, sample.macs):
                raise RecordError(
                    f"{file} cannot be added to: this fleetfoot draws another network "
                    f"{sample.name!r}; calibrate again without --resume"
                )
    roof = machine or measured_machine(threads)
    wanted = _Groups(engine, threads, on_event, tools, began, minutes)
    first, longest = 1 + max((s.number for s in samples), default=-1), 0.0
    stop: KeyboardInterrupt | None = None
    while stop is None:
        at = time.monotonic()
        try:
            found = wanted.measure(range(first, first + GROUP))
        except KeyboardInterrupt as between:
            stop = between
            break
        samples += found.samples
        failures += found.failures
        traces |= found.traces
        first += GROUP
        longest = max(longest, time.monotonic() - at)
        if found.interrupted:
            stop = interrupts.Interrupted(found.interrupted)
        elif time.monotonic() - began + longest > 60 * (minutes or DEFAULT_MINUTES):
            break
        elif enough is not None and len(samples) >= enough:
            break
    if stop is not None and len(samples) < FEWEST:
        raise stop
    if len(samples) < FEWEST:
        raise EngineError(
            f"{len(samples)} synthetic networks were measured on {engine}, but a latency model "
            f"needs {FEWEST}; give it more minutes"
        )
    kept = [traces[sample.number] for sample in samples]
    fitted = _fitted(kept, [sample.time_s for sample in samples], roof)
    made = Calibration(
        engine=engine,
        engine_version=_engine_version(engine),
        threads=threads,
        cpu=environment.cpu_name(),
        versions=environment.versions(),
        commit=environment.commit(),
        started=started,
        seconds=spent + time.monotonic() - began,
        samples=tuple(samples),
        failures=tuple(failures),
        **fitted,
    )
    if made.doubt:
        log.warning("%s", made.doubt)
    return made, stop


def _keep(made: Calibration, file: Path, *, force: bool, default: bool) -> None:
    """Writes a calibration, unless a better one of this machine is in the file."""
    with contextlib.suppress(RecordError):  # there is none, or none that can be used here
        reason = "" if force else _worse(made, load(made.engine, made.threads, file))
        if reason:
            log.warning("%s stays: %s; --force replaces it", file, reason)
            return
    try:
        write_text(file, to_json(made) + "\n")
    except OSError as error:
        if not default:
            raise
        log.warning("the calibration cannot be kept in %s: %s", file, error.strerror)


def is_kept(made: Calibration, file: Path) -> bool:
    """Whether the file holds this calibration."""
    with contextlib.suppress(RecordError):
        return read(file) == made
    return False


def _worse(made: Calibration, before: Calibration) -> str:
    """Reason why ``made`` is worse than the calibration before; "" if it is not."""
    if len(made.samples) < len(before.samples):
        return f"it has {len(before.samples)} networks, the new one {len(made.samples)}"
    old, new = before.within.median_error, made.within.median_error
    if new > ERROR_SHARE * old:
        return f"its median error is {100 * old:.1f} %, that of the new one {100 * new:.1f} %"
    return ""


def _fitted(traces: Sequence[Trace], times_s: Sequence[float], roof: Machine) -> dict[str, Any]:
    """The model, its agreement with held-out networks, and the simple predictors."""
    seen = [features(trace) for trace in traces]

    def factor(simple: Callable[[Trace], float]) -> float:
        pairs = zip(traces, times_s, strict=True)
        return statistics.median(time_s / simple(trace) for trace, time_s in pairs)

    return {
        "model": fit(seen, times_s),
        "within": cross_validated(seen, times_s),
        "scales": Scales(
            s_per_mac=factor(lambda trace: trace.macs),
            s_per_activation=factor(activations),
            times_roofline=factor(lambda trace: roofline_s(trace, roof)),
        ),
    }


def cross_validated(seen: Sequence[Array], times_s: Sequence[float]) -> Agreement:
    """Predicts every network by a model fitted without it and every fifth network after it."""
    predicted = [0.0] * len(seen)
    for fold in range(FOLDS):
        rest = [i for i in range(len(seen)) if i % FOLDS != fold]
        model = fit([seen[i] for i in rest], [times_s[i] for i in rest])
        for i in range(fold, len(seen), FOLDS):
            predicted[i] = model.price(seen[i])
    return Agreement.of(predicted, times_s)


def roofline_s(trace: Trace, machine: Machine) -> float:
    """Sum of the operators' floors, in seconds."""
    return sum(floor([op], machine).seconds for op in trace.operators)


@dataclass(frozen=True)
class _Measured:
    """Results of one group."""

    samples: list[Sample]
    failures: list[Failure]
    traces: dict[int, Trace]
    """Traces by the networks' numbers."""
    interrupted: str
    """The signal that ended the measurements early; "" if none did."""


class _Groups:
    """Measures groups of synthetic networks; the ceilings are probed only once."""

    def __init__(
        self,
        engine: str,
        threads: int,
        on_event: OnEvent,
        tools: Tools,
        began: float,
        minutes: float | None,
    ) -> None:
        self._engine, self._threads, self._on_event = engine, threads, on_event
        self._began, self._minutes = began, minutes
        self._group_began = began
        probe = PeakProbe(threads) if tools.probe is PeakProbe else tools.probe(threads)
        self._tools = replace(tools, probe=lambda _: probe)
        self._said = False

    def measure(self, numbers: Sequence[int]) -> _Measured:
        self._group_began = time.monotonic()
        traces: dict[str, Trace] = {}
        models = {}
        cases = []
        for number in numbers:
            drawn = synthetic(number)
            models[drawn.name] = drawn.model
            cases.append(Case(drawn.name, self._engine, self._threads, 1, drawn.size))

        def network(name: str, size: Size, fold: bool) -> Network:
            workload = Workload.of(name, models[name], size=size, channels=3)
            traces[name] = count(models[name], _example(size))
            return Network.counted(workload, traces[name], folded=True)

        found = run(
            cases,
            MEASURING,
            on_event=self._told,
            tools=replace(self._tools, networks=network),
        )
        self._said = True
        by_name = {case.model: number for case, number in zip(cases, numbers, strict=True)}
        samples = [
            Sample(
                number=by_name[m.model],
                name=m.model,
                macs=m.macs,
                time_s=quantile(m.samples_s, 0.25),
                runs=len(m.samples_s),
            )
            for m in found.measurements
        ]
        return _Measured(
            samples=samples,
            failures=found.failures,
            traces={by_name[name]: trace for name, trace in traces.items()},
            interrupted=found.interrupted,
        )

    def _told(self, event: Event) -> None:
        if isinstance(event, Preparing) and event.number == ESTIMATED + 1 and not self._said:
            before_s = self._group_began - self._began
            each_s = (time.monotonic() - self._group_began) / ESTIMATED
            _check_minutes(self._minutes, before_s + GROUP * each_s)
        if not (self._said and isinstance(event, Notice)):  # the first group reported it
            self._on_event(event)


def _example(size: Size) -> torch.Tensor:
    return torch.zeros(1, 3, *height_width(size))


def _engine_version(engine: str) -> str:
    return version(ENGINES[engine].package)


def now() -> str:
    """The time, ISO 8601, UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def to_json(made: Calibration) -> str:
    return files.to_json(asdict(made))


def read(file: Path) -> Calibration:
    """Reads the calibration in a file, of any machine.

    Raises:
        RecordError: there is no file, or ``calibrate`` did not write it.
    """
    return read_json(file, Calibration)


def load(engine: str, threads: int = 1, file: Path | None = None) -> Calibration:
    """This machine's calibration for ``engine`` and ``threads``.

    Raises:
        ValueError: ``threads`` is no number of threads.
        RecordError: there is none; or it is of another processor, engine, engine version or number
            of threads, and the message names each difference with both values.
    """
    check_threads(threads, most=MOST_THREADS)
    file = file or calibration_file(engine, threads)
    again = f"fleetfoot calibrate --engine {engine} --threads {threads}"
    if not file.exists():
        raise RecordError(f"there is no calibration at {file}; make one: {again}")
    made = read(file)
    here = {
        "engine": engine,
        "engine_version": _engine_version(engine),
        "threads": threads,
        "cpu": environment.cpu_name(),
    }
    differing = [
        f"{name.replace('_', ' ')} {getattr(made, name)!r} there, {value!r} here"
        for name, value in here.items()
        if getattr(made, name) != value
    ]
    if differing:
        raise RecordError(
            f"the calibration {file} does not fit this machine: {'; '.join(differing)}; calibrate: "
            f"{again}"
        )
    return made
