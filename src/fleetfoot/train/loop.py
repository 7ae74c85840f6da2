"""A training run, from its first update to its last, over any number of interruptions.

A run is a state and a function: everything random is drawn from the seed and the number of the
epoch or update, so the state after an update (``train.checkpoint``) decides the rest of the run.
A run that was killed goes on from its last checkpoint and ends, on the CPU with the same number of
threads, bit for bit as if nothing had happened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from fleetfoot import interrupts
from fleetfoot.data.dataset import Dataset
from fleetfoot.data.scenes import SceneSet
from fleetfoot.errors import CheckpointError, TrainingError
from fleetfoot.machine import environment
from fleetfoot.network import Workload
from fleetfoot.train import checkpoint
from fleetfoot.train.building import Built, build
from fleetfoot.train.checkpoint import Best, Checkpoint, Data, Epoch
from fleetfoot.train.classification import Classification
from fleetfoot.train.config import Recipe, Run
from fleetfoot.train.distil import Teacher
from fleetfoot.train.events import Event, Notice, OnEvent
from fleetfoot.train.figures import Kind
from fleetfoot.train.folder import BEST, LAST, Folder
from fleetfoot.train.journal import Journal
from fleetfoot.train.learner import check_device
from fleetfoot.train.objectives import Objective
from fleetfoot.train.processes import Processes
from fleetfoot.train.recipes import general_recipe
from fleetfoot.train.scene_tasks import (
    Detection,
    HandReconstruction,
    SceneObjective,
    Segmentation,
)
from fleetfoot.train.session import Session
from fleetfoot.train.settings import Settings, safe_changes, to_yaml

Resume = Literal["never", "required", "if_any"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended."""

    folder: Path
    model: str
    task: Kind = "classify"
    update: int
    """Updates done."""
    updates: int
    """Updates of the whole run."""
    interrupted: str
    """The signal that ended it early, one of ``interrupts.NAMES``; "" if it came to its end."""
    history: tuple[Epoch, ...]
    best: Best | None
    test: Mapping[str, Any] | None
    """Figures of the best weights on the test pictures, if the data set has some beside those that
    the best were chosen by."""
    seconds: float
    """Time in training and evaluation, over all parts of the run."""
    ended: str
    """When, as an ISO 8601 text."""
    bad_images: tuple[tuple[str, str], ...]
    checkpoint: Path
    """The best weights, or the last ones without an evaluation."""

    @property
    def finished(self) -> bool:
        return self.update == self.updates and not self.interrupted


def train(
    model: str | Workload | nn.Module,
    dataset: Dataset | SceneSet,
    recipe: Recipe,
    run: Run,
    folder: str | Path,
    *,
    options: Mapping[str, Any] | None = None,
    resume: Resume = "never",
    accept_licence: bool = False,
    tensorboard: bool = False,
    on_event: OnEvent = lambda event: None,
) -> Outcome:
    """Trains a network on a data set, and keeps everything of the run in ``folder``.

    Ctrl-C, SIGTERM and SIGHUP end it after the update that is under way; a second signal ends it at
    once. Under ``torch.distributed`` every process calls this with the same arguments; the folder
    must be the same place for all of them.

    Args:
        model: a name that ``network.resolve`` takes, or a network. Its classifier gets as many
            outputs as the data set has classes.
        options: fields of the network's configuration.
        resume: ``required`` goes on from the last checkpoint in ``folder``; ``if_any`` does so if
            there is one, and otherwise begins. Settings that differ from the checkpoint's hold from
            here on; a notice says which of them change the result.
        accept_licence: accept a licence of pretrained weights that does not allow every use.
        tensorboard: write TensorBoard's files too.
        on_event: is given what happens (``train.events``).

    Raises:
        CheckpointError: the folder holds a run already, or none to resume, or cannot be written;
            or its run is of another network, data set or optimiser.
        TrainingError: the run cannot begin or go on: the loss is not finite, a worker died, a
            picture cannot be used; the message says what is saved and how to go on.
    """
    processes = Processes.here()
    if dataset.train is None:
        raise TrainingError(f"{dataset.name} has no pictures to train on; it has {_parts(dataset)}")
    task = task_of(dataset)
    if recipe.task != task:
        raise TrainingError(
            f"the recipe {recipe.name} is for {recipe.task}, and {dataset.name} is for {task}; "
            f"choose another, for example {general_recipe(task)}"
        )
    if run.compile and task != "classify":
        raise TrainingError(
            f"run.compile is offered for classification, not for {task}: losses of other tasks "
            "branch on values; set run.compile=false"
        )
    check_device(run.device)
    place = Folder(folder)
    tell: OnEvent = on_event if processes.is_first else lambda event: None
    with ExitStack() as stack:
        stack.enter_context(place.held() if processes.is_first else nullcontext())
        stack.enter_context(_torch_settings(run))
        found = _start(place, resume, processes, tell)
        if found is not None:
            options = {**found.options, **(options or {})}
        built = build(
            model,
            dataset.classes,
            recipe,
            options=options,
            accept_licence=accept_licence,
            task=task,
        )
        for note in () if found else built.notes:
            tell(Notice(f"{built.name}: {note}"))
        objective = _objective(built, recipe, accept_licence)
        data = _data(dataset)
        if found is not None:
            _check_same(found, built.name, data, recipe, run, tell)
        journal = None
        if processes.is_first:
            journal = Journal(
                place.path,
                to_yaml(Settings(recipe, run), model=built.name, data=dataset.name),
                task=objective.task,
                history=() if found is None else found.training.history,
                update=0 if found is None else found.training.update,
                tensorboard=tensorboard,
            )
            stack.callback(journal.close)
            tell = _both(journal.note, on_event)
        session = Session(objective, dataset, data, run, place, processes, journal, tell)
        asked = stack.enter_context(interrupts.asked_to_stop())
        session.begin(found)
        try:
            interrupted = session.go(asked)
        except RuntimeError as error:  # a process that was asked to stop may have lost the others
            if asked.name and processes.world > 1:
                raise interrupts.Interrupted(asked.name) from error
            raise
        test = None if interrupted else session.test()
        if journal is not None:
            journal.draw(session.history)
        return Outcome(
            folder=place.path,
            model=built.name,
            task=objective.task,
            update=session.update,
            updates=session.course.total_updates,
            interrupted=interrupted,
            history=tuple(session.history),
            best=session.best,
            test=test,
            seconds=session.seconds,
            ended=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            bad_images=tuple(session.bad_images.items()),
            checkpoint=place.path / (LAST if session.best is None else BEST),
        )


OBJECTIVES: dict[Kind, type[SceneObjective]] = {
    "detect": Detection,
    "segment": Segmentation,
    "hand": HandReconstruction,
}


def task_of(dataset: Dataset | SceneSet) -> Kind:
    """What a data set is for."""
    return dataset.task if isinstance(dataset, SceneSet) else "classify"


def _objective(built: Built, recipe: Recipe, accept_licence: bool) -> Objective:
    if recipe.task != "classify":
        return OBJECTIVES[recipe.task](built, recipe)
    teacher = None
    if recipe.distil.teacher:
        teacher = Teacher.of(recipe.distil, accept_licence=accept_licence)
    return Classification(built, recipe, teacher)


def _parts(dataset: Dataset | SceneSet) -> str:
    return ", ".join(split.name for split in dataset.splits) or "none at all"


def _both(first: OnEvent, second: OnEvent) -> OnEvent:
    def tell(event: Event) -> None:
        first(event)
        second(event)

    return tell


@contextmanager
def _torch_settings(run: Run) -> Iterator[None]:
    """torch's settings of the process while a run lasts."""
    threads = torch.get_num_threads()
    benchmark = torch.backends.cudnn.benchmark
    strict = torch.are_deterministic_algorithms_enabled()
    warn = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        if run.threads is not None:
            torch.set_num_threads(run.threads)
        torch.backends.cudnn.benchmark = not run.deterministic
        if run.deterministic:
            torch.use_deterministic_algorithms(True, warn_only=True)
        yield
    finally:
        torch.set_num_threads(threads)
        torch.backends.cudnn.benchmark = benchmark
        torch.use_deterministic_algorithms(strict, warn_only=warn)


def _start(place: Folder, resume: Resume, processes: Processes, tell: OnEvent) -> Checkpoint | None:
    """The checkpoint to go on from; None to begin. Every process reads it from the folder."""
    path, error = None, ""
    found = None
    if processes.is_first:
        try:
            found, path = _first_start(place, resume, lambda text: tell(Notice(text)))
        except CheckpointError as raised:
            error = str(raised)
    path, error = processes.from_first((path, error))
    if error:
        raise CheckpointError(error)
    if path is None or found is not None:
        return found
    return checkpoint.read(Path(path))


def _first_start(
    place: Folder, resume: Resume, say: Callable[[str], None]
) -> tuple[Checkpoint | None, str | None]:
    if resume == "never":
        if place.files():
            raise CheckpointError(
                f"{place.path} holds a run already; go on with it by --resume {place.path}, or "
                "name another folder (--output)"
            )
        return None, None
    good = place.last_good(say)
    if good is None:
        if resume == "required":
            raise CheckpointError(
                f"{place.path} holds no run to resume: there is no checkpoint in "
                f"{place.checkpoints}"
            )
        return None, None
    path, found = good
    place.tidy(found, keep=found.training.run.keep)
    return found, str(path)


def _data(dataset: Dataset | SceneSet) -> Data:
    assert dataset.train is not None
    evaluated = dataset.val or dataset.test
    return Data(
        name=dataset.name,
        classes=dataset.classes,
        train=dataset.train.fingerprint,
        evaluated=evaluated.fingerprint if evaluated else "",
        task=task_of(dataset),
    )


def _check_same(
    found: Checkpoint, model: str, data: Data, recipe: Recipe, run: Run, tell: OnEvent
) -> None:
    """Checks that a run may go on as asked, and says what differs.

    Raises:
        CheckpointError: it may not.
    """
    before = found.training
    again = "; begin a new run in another folder"
    if before.data.task != data.task:
        raise CheckpointError(
            f"the run is for {before.data.task}, and {data.name} is for {data.task}{again}"
        )
    if found.model != model:
        raise CheckpointError(f"the run trains {found.model}, not {model}{again}")
    if before.data.classes != data.classes:
        raise CheckpointError(
            f"the data set has changed since the run began: {len(before.data.classes)} classes "
            f"before, {len(data.classes)} now, or other names{again}"
        )
    if before.data.train != data.train:
        known = "classes" if data.task == "classify" else "targets"
        raise CheckpointError(
            f"the data set has changed since the run began: names, sizes or {known} of the "
            f"pictures in {data.name} are not those of {before.data.name} then, so the rest of the "
            f"run would see others. Restore them, or begin a new run from the weights: --set "
            f"init.weights=FILE"
        )
    if before.data.evaluated != data.evaluated:
        tell(
            Notice(
                "the pictures of the evaluation have changed: accuracies before and after differ"
            )
        )
    for name, old, new in (
        ("batch", before.recipe.batch, recipe.batch),
        ("optim.name", before.recipe.optim.name, recipe.optim.name),
    ):
        if old != new:
            raise CheckpointError(
                f"{name} is {old!r} in the run and cannot become {new!r} when it goes on{again}, "
                "from its weights if you like (--set init.weights=FILE)"
            )
    safe, changing = safe_changes(Settings(before.recipe, before.run), Settings(recipe, run))
    for change in safe:
        tell(Notice(f"changed: {change}"))
    for change in changing:
        tell(Notice(f"changed, and the result with it: {change}"))
    now = environment.versions()
    other = [
        f"{name} {before.versions[name]} before, {now[name]} now"
        for name in ("torch", "timm", "numpy", "pillow")
        if name in before.versions and before.versions[name] != now.get(name)
    ]
    if other:
        tell(Notice(f"{'; '.join(other)}: the last bits of the result may differ"))
