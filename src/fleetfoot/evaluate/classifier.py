"""Evaluating a classifier: the pictures of known classes through preprocessing and one engine or
several, each picture decoded once.

Memory holds a few batches, and for each picture its five best guesses.

B batch · N classes · n pictures
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fleetfoot.data.dataset import Split
from fleetfoot.data.decoding import Decoded, decoded
from fleetfoot.errors import EngineError, ImageError
from fleetfoot.evaluate import matching
from fleetfoot.evaluate.matching import Matching
from fleetfoot.evaluate.record import (
    GUESSES,
    NOT_FINITE,
    Answers,
    Evaluation,
    EvaluationRecord,
    Share,
)
from fleetfoot.evaluate.subject import Runner, Subject
from fleetfoot.evaluate.tally import Tally
from fleetfoot.files import plain
from fleetfoot.machine import environment
from fleetfoot.tasks.classify import Accuracy, first

OnBad = Literal["skip", "stop"]


def evaluate(
    subject: Subject,
    data: str,
    split: Split,
    matched: Matching,
    *,
    real: matching.Answers | None = None,
    on_bad: OnBad = "stop",
    workers: int | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> list[Evaluation]:
    """Runs every engine of ``subject`` on every picture of ``split``.

    Args:
        data: name of the data set.
        matched: which output of the network is which class of the data.
        real: several right answers for a picture, by its path.
        on_bad: what becomes of a picture that cannot be used: left out, counted and named; or an
            error.
        workers: number of decoding threads. Default: one for each core, two to four.
        on_progress: called with the number of pictures that are done.

    Returns:
        An evaluation for each engine, in their order.

    Raises:
        ImageError: a picture cannot be used, and ``on_bad`` is "stop".
        ValueError: there is no picture that can be used, or ``real`` mentions none.
        EngineError: an engine failed.
    """
    runs = [_Run.of(runner, split, matched) for runner in subject.runners]
    moment, started, done = datetime.now(timezone.utc), time.perf_counter(), 0
    sources = (source for source, _ in split)
    batches = decoded(sources, subject.preprocess, batch=subject.batch, workers=workers)
    with closing(batches):
        for items in batches:
            _judge(runs, items, done, subject, matched, on_bad)
            done += len(items)
            on_progress(done)
    seconds = time.perf_counter() - started
    if not runs[0].tally.images:
        raise ValueError(f"{data}, {split.name}: none of the {len(split)} pictures can be used")
    host, versions = plain(environment.machine()), environment.versions()
    commit = environment.commit()
    found = []
    for run in runs:
        info, tally = run.runner.info, run.tally
        agreement = run.runner.agreement
        record = EvaluationRecord(
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
            data=data,
            split=split.name,
            fingerprint=split.fingerprint,
            matched=matched.how,
            classes=matched.names,
            unreadable=len(split) - tally.images,
            tally=tally.as_json(),
            top1=Share(right=tally.accuracy.right(1), images=tally.images),
            top5=Share(right=tally.accuracy.right(GUESSES), images=tally.images),
            real=None if real is None else _real(run.answers, split, matched, real),
            loss=tally.loss,
            calibration_error=tally.calibration_error,
            seconds=seconds,
            machine=host,
            versions=versions,
            commit=commit,
            started=moment.isoformat(timespec="seconds"),
            notes=subject.notes,
        )
        found.append(Evaluation(record, run.answers))
    return found


@dataclass
class _Run:
    """One engine, and what was counted of it so far."""

    runner: Runner
    tally: Tally
    answers: Answers
    errors: dict[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, runner: Runner, split: Split, matched: Matching) -> _Run:
        errors: dict[int, str] = {}
        truth = matched.numbers[split.labels]
        empty = Answers.empty(_Names(split), truth, len(matched.names))
        return cls(runner, Tally(len(matched.names)), replace(empty, errors=errors), errors)


@dataclass(frozen=True)
class _Names(Sequence[str]):
    """The names of a split's pictures."""

    split: Split

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> str:  # type: ignore[override]  # no slices
        return self.split.pictures.name(index)


def _judge(
    runs: Sequence[_Run],
    items: Sequence[Decoded],
    start: int,
    subject: Subject,
    matched: Matching,
    on_bad: OnBad,
) -> None:
    """Runs the usable items as one batch; a short batch is filled up with black pictures."""
    usable, pixels = [], []
    for number, item in enumerate(items, start):
        if item.pixels is not None:
            usable.append(number)
            pixels.append(item.pixels)
        elif on_bad == "stop":
            raise ImageError(item.path, item.error)
        else:
            for run in runs:
                run.errors[number] = item.error
    if not usable:
        return
    blank = [torch.zeros_like(pixels[0])] * (subject.batch - len(pixels))
    inputs = subject.preprocess.normalise(torch.stack(pixels + blank))
    columns = None if matched.outputs is None else torch.from_numpy(matched.outputs)
    at = np.array(usable)
    for run in runs:
        logits = run.runner.run(inputs)[: len(pixels)]
        if logits.shape[1] != len(subject.labels.names):
            raise EngineError(
                f"{run.runner.info.name}: {logits.shape[1]} outputs, and not "
                f"{len(subject.labels.names)}"
            )
        _count(run, logits if columns is None else logits[:, columns], at)


def _count(run: _Run, logits: Tensor, at: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
    answers = run.answers
    run.tally.update(logits, torch.from_numpy(answers.truth[at].astype(np.int64)))
    finite = logits.isfinite().all(dim=1)
    guesses, probabilities = first(logits[finite], GUESSES)
    answers.guesses[at[finite.numpy()]] = guesses.numpy()
    answers.probabilities[at[finite.numpy()]] = probabilities.numpy()
    for number in at[~finite.numpy()].tolist():
        run.errors[number] = NOT_FINITE


def _real(answers: Answers, split: Split, matched: Matching, real: matching.Answers) -> Share:
    """The pictures whose best guess is among several right answers, of those that have any."""
    accuracy, mentioned = Accuracy(), 0
    judged = answers.judged
    for number, one in enumerate(answers):
        outputs = real(one.picture) if judged[number] else None
        mentioned += outputs is not None
        if outputs and (right := set(matched.judged(sorted(outputs)))):
            accuracy.count(0 if right & set(one.guesses[:1]) else None)
    if not accuracy.images:
        why = "gives none of them an answer" if mentioned else "mentions none of them"
        raise ValueError(
            f"real labels: the file {why}: {len(split)} pictures, the first {answers[0].picture}"
        )
    return Share(right=accuracy.right(1), images=accuracy.images)
