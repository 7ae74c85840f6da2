"""Measuring claims: one experiment after the other, each interleaved within itself.

The record is the state of a run: it is written again after each experiment, and a run that is
resumed reads from it which experiments have all their cells. An experiment that was interrupted
starts again. The first experiment of every claim comes before the second of any, and spare ones
come last, so that a short run still covers each claim.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import TypeVar

from fleetfoot.claims.base import Claim, Experiment, Subject, Verdict, verdict
from fleetfoot.cores import check_threads
from fleetfoot.engines import ENGINES
from fleetfoot.errors import RecordError
from fleetfoot.files import plain
from fleetfoot.machine import environment
from fleetfoot.measure.grid import DEFAULT_ENGINES, engines_here
from fleetfoot.measure.journal import Case
from fleetfoot.measure.networks import Network, built
from fleetfoot.measure.pace import Pace
from fleetfoot.measure.record import (
    FAILURES_FILE,
    MEASUREMENTS_FILE,
    Failure,
    Measurement,
    read,
    read_failures,
    write,
)
from fleetfoot.measure.run import Event, Notice, Tools, run
from fleetfoot.network import Size

Line = TypeVar("Line", Measurement, Failure)

DEFAULT_S = 720.0
PACE = Pace(
    name="claims",
    description=(
        "what papers assert, tried again: batch 1, each experiment interleaved within itself"
    ),
    rounds=12,
    fewest_rounds=4,
    budget_s=DEFAULT_S,
    warmup_s=0.5,
)


@dataclass(frozen=True)
class Result:
    """Result of measuring claims."""

    measurements: list[Measurement]
    failures: list[Failure]
    interrupted: str
    """Signal that ended the run early; "" if it ran to its end."""
    not_reached: int
    """Number of experiments for which there was no time."""

    def verdicts(self, claims: Sequence[Claim]) -> list[Verdict]:
        return [verdict(claim, self.measurements, self.failures) for claim in claims]


def measure(
    claims: Sequence[Claim],
    *,
    engines: Sequence[str] | None = None,
    threads: int = 1,
    seconds: float = DEFAULT_S,
    output: Path | None = None,
    resume: bool = False,
    pace: Pace = PACE,
    on_event: Callable[[Event], None] = lambda event: None,
    tools: Tools | None = None,
) -> Result:
    """Times the subjects of ``claims`` on every available engine, at batch 1.

    Args:
        engines: names, or "all". Default: the default engines. One that cannot be used here gives
            a failure for each cell, with the reason.
        threads: number of threads of every engine.
        seconds: time in seconds after which no new experiment begins; a running one still gets
            its fewest rounds.
        output: folder of the record, from which ``resume`` continues.

    Raises:
        UnknownNameError: no engine has that name.
        EngineError: none of the engines can be used here.
        ValueError: a number is out of range, or ``resume`` is set without ``output``.
        RecordError: ``output`` holds a record already, or its record is of another machine, other
            versions or another number of threads.
    """
    check_threads(threads)
    if seconds <= 0:
        raise ValueError(f"seconds must be above 0, not {seconds:g}")
    names = [e for e in DEFAULT_ENGINES if e in ENGINES] if engines is None else engines
    present, absent = engines_here(names)
    measurements, failures = _before(output, resume, threads)
    tools = tools or Tools()
    deadline = time.monotonic() + seconds

    def cells(claim: Claim, experiment: Experiment) -> list[Case]:
        return [
            Case(claim.model(subject.name), engine, threads, 1, subject.size)
            for subject in experiment.subjects
            for engine in present
        ]

    def gone(claim: Claim, experiment: Experiment) -> list[Failure]:
        return [
            Failure(**asdict(replace(case, engine=engine)), reason=reason)
            for engine, reason in absent.items()
            for case in cells(claim, experiment)[:: len(present)]
        ]

    known = {(m.model, m.engine) for m in measurements}
    known |= {(f.model, f.engine) for f in failures}
    waiting = [
        (claim, experiment)
        for claim, experiment in _ordered(claims)
        if not all((case.model, case.engine) in known for case in cells(claim, experiment))
    ]
    said_once = _once(on_event)
    for index, (claim, experiment) in enumerate(waiting):
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return Result(measurements, failures, "", len(waiting) - index)
        on_event(Notice(f"{index + 1} of {len(waiting)}: {claim.name}, {experiment.name}"))
        subjects = {claim.model(subject.name): subject for subject in experiment.subjects}
        # a spare experiment gets the time that the others leave
        rest = [_weight(one) for _, one in waiting[index:] if one.spare == experiment.spare]
        share = rest[0] / sum(rest)
        done = run(
            cells(claim, experiment),
            replace(pace, budget_s=left_s * share),
            on_event=said_once,
            tools=replace(tools, networks=_networks(subjects)),
        )
        if done.interrupted:
            return Result(measurements, failures, done.interrupted, len(waiting) - index)
        measurements = _without(measurements, subjects) + done.measurements
        failures = _without(failures, subjects) + done.failures + gone(claim, experiment)
        if output is not None:
            write(output / FAILURES_FILE, failures)
            write(output / MEASUREMENTS_FILE, measurements)
    return Result(measurements, failures, "", 0)


def _before(
    output: Path | None, resume: bool, threads: int
) -> tuple[list[Measurement], list[Failure]]:
    """The record to continue from; empty if there is none."""
    if resume and output is None:
        raise ValueError("resume needs output, the folder in which the earlier run left its record")
    if output is None or not (output / MEASUREMENTS_FILE).exists():
        return [], []
    if not resume:
        raise RecordError(
            f"{output} holds a record already; continue it with --resume, or name another folder"
        )
    # empty if each experiment so far failed on every engine
    measurements = read(output) if (output / MEASUREMENTS_FILE).stat().st_size else []
    now = plain(
        {
            "machine": environment.machine(),
            "versions": environment.versions(),
            "commit": environment.commit(),
            "threads": threads,
        }
    )
    for m in measurements:
        before = plain({name: getattr(m, name) for name in now})
        if differences := [
            f"{name}: {before[name]} before, {now[name]} now"
            for name in now
            if before[name] != now[name]
        ]:
            raise RecordError(
                f"{output} cannot be resumed: its record is of another machine or other versions:"
                "\n  " + "\n  ".join(differences)
            )
    return measurements, read_failures(output)


def _ordered(claims: Sequence[Claim]) -> Iterator[tuple[Claim, Experiment]]:
    """The first experiment of each claim, then the second of each, and so on; spare ones last."""
    for spare in (False, True):
        columns = [
            [(claim, one) for one in claim.experiments if one.spare == spare] for claim in claims
        ]
        for row in zip_longest(*columns):
            yield from (pair for pair in row if pair is not None)


def _once(on_event: Callable[[Event], None]) -> Callable[[Event], None]:
    """Passes on the events of experiments. A notice that differs from an earlier one only in its
    figures, such as that of the machine's load, is passed on only the first time."""
    said: set[str] = set()

    def tell(event: Event) -> None:
        if isinstance(event, Notice):
            words = re.sub(r"[\d.]+", "", event.text)
            if words in said:
                return
            said.add(words)
        on_event(event)

    return tell


def _weight(experiment: Experiment) -> int:
    """Share of the time for an experiment: building a whole network takes about three times as long
    as building a stack."""
    return sum(3 if subject.channels == 3 else 1 for subject in experiment.subjects)


def _networks(subjects: dict[str, Subject]) -> Callable[[str, Size, bool], Network]:
    def network(name: str, size: Size, fold: bool) -> Network:
        subject = subjects[name]
        return built(name, subject.build, size=size, channels=subject.channels, fold=subject.fold)

    return network


def _without(lines: Sequence[Line], subjects: dict[str, Subject]) -> list[Line]:
    return [line for line in lines if line.model not in subjects]
