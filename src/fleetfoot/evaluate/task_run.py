"""Evaluating a detector, a segmenter or a hand's network: pictures through preprocessing, the fixed
part of the network in one engine or several, and decoding; each picture is read once.

B batch · C channels · H W space
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from fleetfoot.data.decoding import Decoded, decoded
from fleetfoot.data.placement import Placement
from fleetfoot.data.scenes import Scenes, SceneSet, Target
from fleetfoot.engines import Engine
from fleetfoot.errors import ImageError
from fleetfoot.evaluate.bootstrap import intervals
from fleetfoot.evaluate.classifier import OnBad
from fleetfoot.evaluate.judges import JUDGES
from fleetfoot.evaluate.judges.base import Judge
from fleetfoot.evaluate.parts import split
from fleetfoot.evaluate.task_record import TaskAnswers, TaskEvaluation, TaskRecord
from fleetfoot.evaluate.task_subject import Classes, TaskSubject
from fleetfoot.files import plain
from fleetfoot.machine import environment
from fleetfoot.machine.peaks import torch_threads


@dataclass(frozen=True)
class _Shown:
    """A picture that can be used."""

    number: int
    pixels: Tensor
    """(C, H, W) uint8"""
    placement: Placement
    target: Target


@dataclass
class _Run:
    """One engine, and what was counted of it so far."""

    runner: Engine
    judge: Judge
    last: tuple[Tensor, list[Placement]] | None = None
    """The last batch: inputs, and where the pictures lie in them."""
    fixed_s: list[float] = field(default_factory=list)
    """Time of a picture in the engine, by batch."""
    decode_s: list[float] = field(default_factory=list)

    @property
    def times(self) -> dict[str, float]:
        """Median time of a picture in the engine and in decoding, in seconds."""
        return {"fixed": median(self.fixed_s), "decode": median(self.decode_s)}


def evaluate(
    subject: TaskSubject,
    scenes: SceneSet,
    part: Scenes,
    classes: Classes,
    *,
    on_bad: OnBad = "stop",
    workers: int | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> list[TaskEvaluation]:
    """Runs every engine of ``subject`` on every picture of ``part``.

    Args:
        classes: which class of the network is which of the data.
        on_bad: what becomes of a picture that cannot be used: left out, counted and named; or an
            error.
        workers: number of reading threads. Default: one for each core, two to four.
        on_progress: called with the number of pictures that are done.

    Returns:
        An evaluation for each engine, in their order.

    Raises:
        ImageError: a picture or its target cannot be used, and ``on_bad`` is "stop".
        ValueError: there is no picture that can be used, or the data is for another task.
        EngineError: an engine failed.
        MissingExtraError: the figures need a package that is not installed.
    """
    task = subject.network.task
    if scenes.task != task:
        raise ValueError(f"{subject.name} is for {task}, and {scenes.name} for {scenes.task}")
    runs = [
        _Run(runner, JUDGES[task].new(subject.network, scenes, part, classes.numbers))
        for runner in subject.runners
    ]
    errors: dict[int, str] = {}
    moment, started = datetime.now(timezone.utc), time.perf_counter()

    def refuse(number: int, error: ImageError) -> None:
        if on_bad == "stop":
            raise error
        errors[number] = error.reason

    for shown, done in _read(part, subject, workers, refuse):
        if shown:
            _judge(runs, shown, subject, refuse)
        on_progress(done)
    seconds = time.perf_counter() - started
    if len(errors) == len(part):
        raise ValueError(
            f"{scenes.name}, {part.name}: none of the {len(part)} pictures can be used"
        )
    names = tuple(part.pictures.name(number) for number in range(len(part)))
    host, versions = plain(environment.machine()), environment.versions()
    commit = environment.commit()
    found = []
    for run in runs:
        info, agreement, judge = run.runner.info, run.runner.agreement, run.judge
        record = TaskRecord(
            task=task,
            model=subject.name,
            weights=subject.weights,
            params=subject.params,
            form=subject.form,
            preprocessing=plain(asdict(subject.preprocess)),
            engine=info.name,
            engine_version=info.version,
            threads=info.threads,
            batch=subject.batch,
            precision=info.precision,
            device=info.device,
            error=None if agreement is None else agreement.error,
            data=scenes.name,
            split=part.name,
            fingerprint=part.fingerprint,
            matched=classes.how,
            classes=scenes.classes,
            images=len(judge.numbers),
            unreadable=len(errors),
            figures=judge.figures(),
            intervals=intervals(judge.weighted, len(judge.numbers), judge.ceilings),
            per_class=tuple(dict(row) for row in judge.per_class()),
            score=judge.score,
            times=run.times,
            parts=_parts(run, subject),
            seconds=seconds,
            machine=host,
            versions=versions,
            commit=commit,
            started=moment.isoformat(timespec="seconds"),
            notes=subject.notes,
        )
        found.append(TaskEvaluation(record, TaskAnswers(judge=judge, names=names, errors=errors)))
    return found


def answers(
    subject: TaskSubject, part: Scenes, judge: Judge, numbers: Sequence[int]
) -> dict[int, Any]:
    """The answer of the first engine for some pictures, by their numbers, for a page that shows
    them. Pictures that cannot be used are left out."""
    run = _Run(subject.runners[0], judge)
    found: dict[int, Any] = {}
    items = _read(part, subject, 1, lambda number, error: None, numbers)
    for shown, _ in items:
        if shown:
            made = _answered(run, shown, subject)
            found |= {one.number: answer for one, answer in zip(shown, made, strict=True)}
    return found


def _read(
    part: Scenes,
    subject: TaskSubject,
    workers: int | None,
    refuse: Callable[[int, ImageError], None],
    numbers: Sequence[int] | None = None,
) -> Iterator[tuple[list[_Shown], int]]:
    """The pictures that can be used in batches, and the number of pictures that are done."""
    chosen = range(len(part)) if numbers is None else numbers
    sources = (part.pictures[number] for number in chosen)
    batches = decoded(sources, subject.preprocess, batch=subject.batch, workers=workers)
    done = 0
    with closing(batches):
        for items in batches:
            shown = []
            for number, item in zip(chosen[done : done + len(items)], items, strict=True):
                if item.pixels is None:
                    refuse(number, ImageError(item.path, item.error))
                else:
                    shown.append(_placed(part, subject, number, item, item.pixels))
            done += len(items)
            yield shown, done


def _placed(
    part: Scenes, subject: TaskSubject, number: int, item: Decoded, pixels: Tensor
) -> _Shown:
    placement = subject.preprocess.placement(*item.size)
    return _Shown(number, pixels, placement, part.targets[number])


def _judge(
    runs: Sequence[_Run],
    shown: Sequence[_Shown],
    subject: TaskSubject,
    refuse: Callable[[int, ImageError], None],
) -> None:
    for place, run in enumerate(runs):
        for one, answer in zip(shown, _answered(run, shown, subject), strict=True):
            try:
                run.judge.judge(one.number, answer, one.placement, one.target)
            except ImageError as error:
                problem = error
            except ValueError as error:
                problem = ImageError(f"picture {one.number}", str(error))
            else:
                continue
            if place == 0:  # the target is at fault, so the other engines fail in the same way
                refuse(one.number, problem)


def _answered(run: _Run, shown: Sequence[_Shown], subject: TaskSubject) -> Sequence[Any]:
    """The network's answer for each picture of a batch; a short batch is filled up with blanks."""
    pixels = [one.pixels for one in shown]
    blank = [torch.zeros_like(pixels[0])] * (subject.batch - len(pixels))
    inputs = subject.preprocess.normalise(torch.stack(pixels + blank))
    size = (subject.preprocess.height, subject.preprocess.width)
    began = time.perf_counter()
    outputs = run.runner.run(inputs)
    outputs = pytree.tree_map_only(Tensor, lambda one: one[: len(shown)], outputs)
    ran = time.perf_counter()
    placements = [one.placement for one in shown]
    with torch.inference_mode(), torch_threads(run.runner.info.threads):
        made = run.judge.answers(subject.network, outputs, size, placements)
    ended = time.perf_counter()
    run.fixed_s.append((ran - began) / subject.batch)
    run.decode_s.append((ended - ran) / len(shown))
    run.last = inputs, placements
    return made


def _parts(run: _Run, subject: TaskSubject) -> dict[str, float]:
    """Seconds of a picture by part, on the last batch."""
    assert run.last is not None, "some picture was judged"
    inputs, placements = run.last
    placements = placements + placements[-1:] * (len(inputs) - len(placements))
    size = (subject.preprocess.height, subject.preprocess.width)
    return split(
        run.runner,
        inputs,
        subject.network.parts(),
        lambda outputs: run.judge.answers(subject.network, outputs, size, placements),
        fixed_s=run.times["fixed"],
        decode_s=run.times["decode"],
    )
