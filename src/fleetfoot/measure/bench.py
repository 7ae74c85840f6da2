"""A benchmark, from names to the record that it leaves: ``fleetfoot bench`` for a program.

This measures the small FasterNets on two engines, and leaves a record in the folder ``results``:

    from fleetfoot.measure.bench import bench
    from fleetfoot.measure.grid import Grid
    from fleetfoot.measure.pace import Pace

    grid = Grid.named("quick", models=["fasternet_t*"], engines=["native", "onnxruntime"])
    made = bench(grid, Pace.named("quick"), output="results")
    fastest = min(made.measurements, key=lambda m: m.median_s)
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fleetfoot.evaluate.published_scores import published_scores
from fleetfoot.evaluate.score import Score
from fleetfoot.measure import start
from fleetfoot.measure.grid import Grid
from fleetfoot.measure.pace import Pace
from fleetfoot.measure.record import (
    FAILURES_FILE,
    MEASUREMENTS_FILE,
    SCORES_FILE,
    STARTS_FILE,
    Failure,
    Measurement,
    Start,
    write,
)
from fleetfoot.measure.run import Event, Form, Notice, Tools, run


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What a benchmark found: the record, as its files hold it."""

    measurements: list[Measurement]
    failures: list[Failure]
    """Cells that could not run, also those of engines that are not here."""
    scores: list[Score]
    """What is published of the accuracy of the networks that were measured."""
    starts: list[Start]
    interrupted: str
    """The signal that ended it early, one of ``interrupts.NAMES``; "" when it came to its end."""


def bench(
    grid: Grid,
    pace: Pace,
    *,
    form: Form | None = None,
    output: str | os.PathLike[str] | None = None,
    resume: bool = False,
    on_event: Callable[[Event], None] = lambda event: None,
    tools: Tools | None = None,
) -> Benchmark:
    """Measures the cells of ``grid`` that can run here, and the starts that it asks for.

    Args:
        form: of every network. Default: folded, float32 on the CPU.
        output: folder of the record, which ``fleetfoot report`` and ``compare`` read, and of the
            journal, from which ``resume`` goes on. Default: nothing is kept.

    Raises:
        UnknownNameError: a network, pattern or engine that there is not.
        EngineError: none of the engines can be used here; each reason is given.
        ValueError: a number out of its range.
        RecordError: ``output`` holds a run already, or one to resume that is not this one.
    """
    cases, absent = grid.cells()
    folder = None if output is None else Path(output)
    done = run(cases, pace, form=form, output=folder, resume=resume, on_event=on_event, tools=tools)
    failures = [*done.failures, *absent]
    starts: list[Start] = []
    scores = published_scores((m.model, m.size) for m in done.measurements)
    if folder is not None:
        write(folder / FAILURES_FILE, failures)
        if done.measurements:
            write(folder / MEASUREMENTS_FILE, done.measurements)
            write(folder / SCORES_FILE, scores)
    measured = {case.model for case in cases}
    starting = [model for model in grid.starts if model in measured]
    if starting and done.measurements and not done.interrupted:
        starts, not_started = start.measure(
            starting,
            [case.engine for case in cases],
            on_note=lambda text: on_event(Notice(text)),
        )
        failures += not_started
        if folder is not None:
            write(folder / FAILURES_FILE, failures)
            write(folder / STARTS_FILE, starts)
    return Benchmark(
        measurements=done.measurements,
        failures=failures,
        scores=scores,
        starts=starts,
        interrupted=done.interrupted,
    )
