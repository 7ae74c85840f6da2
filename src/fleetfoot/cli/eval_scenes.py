"""``fleetfoot eval`` for a task other than classification."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fleetfoot.cli.status import working
from fleetfoot.interrupts import exit_code, name_of
from fleetfoot.streams import echo, echo_json

if TYPE_CHECKING:
    from fleetfoot.data.dataset import Dataset
    from fleetfoot.data.scenes import Scenes, SceneSet
    from fleetfoot.evaluate.classifier import OnBad
    from fleetfoot.evaluate.subject import Form, TrainedOn
    from fleetfoot.network import Workload
    from fleetfoot.tasks.network import Task


def stated_task(model: str, file: Path | None) -> str:
    """The task that a network's name, or the header of a file of weights, states; otherwise
    ``classify``."""
    import safetensors

    from fleetfoot.tasks.catalogue import HEADS, is_task

    name = model
    if file is not None:
        try:
            with safetensors.safe_open(file, framework="np") as opened:
                name = (opened.metadata() or {}).get("model", model)
        except (OSError, safetensors.SafetensorError):
            pass
    return HEADS[name.partition(":")[0]].task if is_task(name) else "classify"


def chosen(dataset: Dataset | SceneSet, split: str | None) -> Any:
    """The part of a set that ``split`` names. Default: the first of test, val and train."""
    parts: dict[str, Any] = {one.name: one for one in dataset.splits}
    if split is not None and split not in parts:
        raise typer.BadParameter(
            f"--split {split}: {dataset.name} has {' and '.join(parts)} ({dataset.layout})"
        )
    if split is None and list(parts) == ["train"]:  # it is not in parts
        return replace(parts["train"], name="all")
    return parts[split or next(n for n in ("test", "val", "train") if n in parts)]


def evaluate_scenes(
    model: str,
    data: str | None,
    *,
    task: Task,
    split: str | None,
    folder: Path,
    as_json: bool,
    on_bad: OnBad,
    known: TrainedOn | None,
    is_random: bool,
    classes: Path | None,
    labels: Path | None,
    pixels: Mapping[str, Any],
    network: Callable[[], Workload],
    form: Form,
    names: tuple[str, ...],
    threads: int,
    precision: str,
    device: str,
    batch: int,
) -> None:
    """Runs the command.

    Args:
        known: what a checkpoint's network was trained on; None if there is none.
        is_random: whether no file gives the weights of the network's head.
        pixels: fields of the preprocessing that differ from the network's own.
        network: makes the network.
        names: the engines.
    """
    with working("opening the data"):
        scenes, part = _data(data, task, split, known)
    with working(f"loading {model}") as say:
        from fleetfoot.evaluate.task_record import save
        from fleetfoot.evaluate.task_run import answers, evaluate
        from fleetfoot.evaluate.task_subject import classes_of, of_task
        from fleetfoot.files import filling, write_text
        from fleetfoot.report import task_page
        from fleetfoot.report.kit.terminal import console
        from fleetfoot.report.live import Counter
        from fleetfoot.report.task_evaluations import print_task_evaluations

        workload = network()
        subject = of_task(
            workload,
            form=form,
            names=names,
            threads=threads,
            precision=precision,
            device=device,
            batch=batch,
            overrides=pixels,
            on_build=lambda name: say(f"building {name} for {model}"),
        )
        matched = classes_of(
            subject.network, scenes.name, scenes.classes, model, file=classes, labels=labels
        )
    if is_random:
        echo("the weights of its head are random, so the figures mean nothing", err=True)
    if known is not None and known.train == part.fingerprint:
        echo("the network was trained on these pictures", err=True)
    done = 0
    with subject:
        try:
            with Counter(console(stderr=True), f"{len(part):,} pictures") as count:

                def progress(so_far: int) -> None:
                    nonlocal done
                    done = so_far
                    count(done, len(part))

                found = evaluate(
                    subject, scenes, part, matched, on_bad=on_bad, on_progress=progress
                )
        except KeyboardInterrupt as stop:
            signal = name_of(stop)
            echo(
                f"ended by {signal} after {done:,} of {len(part):,} pictures; nothing was written",
                err=True,
            )
            raise typer.Exit(exit_code(signal)) from None
        with working("writing the page"), filling(folder) as draft:
            for one in found:
                save(one, draft if len(found) == 1 else draft / one.record.engine)
            judge = found[0].answers.judge
            page = task_page.html(
                found,
                part,
                lambda numbers: answers(subject, part, judge, numbers),
                subject.failures,
            )
            write_text(draft / "index.html", page)
    if as_json:
        for one in found:
            echo_json(asdict(one.record))
    else:
        print_task_evaluations(console(), found, subject.failures)
    echo(f"record, answers, pictures and page: {folder / 'index.html'}", err=True)


def _data(
    where: str | None, task: Task, split: str | None, known: TrainedOn | None
) -> tuple[SceneSet, Scenes]:
    """The data and its part. Pictures are split off for validation only if ``val`` is asked for, or
    if a checkpoint's training split them off."""
    from fleetfoot.data.hands.scenes import NAME as HANDS
    from fleetfoot.data.layouts.scenes import open_scenes

    if where is None and known is not None:
        where = known.data
    elif where is None and task == "hand":
        where = HANDS
    if where is None:
        raise typer.BadParameter(
            f"name the data that the network is to be judged on, after it, for --task {task}"
        )
    if known is not None:
        scenes = open_scenes(where, task, val_share=known.val_share, seed=known.seed)
    else:
        scenes = open_scenes(where, task, val_share=None if split == "val" else 0)
    return scenes, chosen(scenes, split)
