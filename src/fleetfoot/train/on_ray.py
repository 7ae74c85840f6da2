"""A run on a Ray cluster, by Ray Train: it places the processes on the machines, and starts them
again when one of them or its machine dies. They continue from the last checkpoint in the run's
folder, which all machines share.

Every machine needs fleetfoot, and the data at the same path.
"""

from __future__ import annotations

import json
import os
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from fleetfoot.cores import usable_cores
from fleetfoot.errors import (
    FleetfootError,
    MissingExtraError,
    RecordError,
    TrainingError,
    first_line,
)
from fleetfoot.files import parsed, read_text
from fleetfoot.interrupts import handled
from fleetfoot.network import is_file, is_weights
from fleetfoot.train.datasets import opened
from fleetfoot.train.events import BadImage, Begun, EpochDone, Notice, OnEvent, RolledBack
from fleetfoot.train.journal import EVENTS
from fleetfoot.train.launch import Team, marking
from fleetfoot.train.loop import Outcome, Resume, train
from fleetfoot.train.place import Place, goes_on
from fleetfoot.train.settings import Settings

RAY = "ray"
"""Folder within a run's for what Ray Train writes."""
FOLLOWED = {"notice": Notice, "begun": Begun, "epoch_done": EpochDone, "bad_image": BadImage,
            "rolled_back": RolledBack}  # fmt: skip
"""Events that are read from the journal while the run goes on elsewhere."""
LOOK_S = 0.5
"""Seconds between two looks at the journal."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What the processes of a run are told. Paths are absolute."""

    model: str
    data: str | None
    """As ``datasets.opened`` takes it."""
    settings: Settings
    folder: str
    options: Mapping[str, Any]
    resume: Resume = "never"
    accept_licence: bool = False
    tensorboard: bool = False
    name: str = ""
    """A name that no other job has."""


def job_of(model: str, data: str | None, settings: Settings, folder: Path, **more: Any) -> Job:
    """The job of these arguments, which may be relative paths; ``more`` are other fields."""
    if is_file(model):
        file, _, factory = model.partition(".py")
        model = f"{os.path.abspath(f'{file}.py')}{factory}"
    elif is_weights(model):
        model = os.path.abspath(model)
    return Job(
        model=model,
        data=None if data is None else os.path.abspath(data),
        settings=settings,
        folder=os.path.abspath(folder),
        **more,
    )


def train_on_ray(
    job: Job,
    *,
    processes: int,
    restarts: int,
    on_event: OnEvent = lambda event: None,
) -> Outcome:
    """Trains in ``processes`` processes of a Ray cluster: the one that this program is connected to
    (``ray.init``), that of the variable RAY_ADDRESS, or else one on this machine alone, which ends
    with the run. With the device ``cuda`` each process has a GPU.

    Args:
        restarts: how often all processes are started again after one failed. Machines that the
            cluster takes away are not counted.
        on_event: is given what happens, except progress within an epoch.

    Raises:
        MissingExtraError: Ray is not installed.
        TrainingError: the run cannot begin or go on.
    """
    ray = imported()
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    folder = Path(job.folder)
    on_gpu = job.settings.run.device.startswith("cuda")
    job = replace(job, name=uuid.uuid4().hex)
    # Ray leaves its handlers of signals behind; ``handled`` puts back those that were there
    with handled(), connected(ray, processes), _followed(folder / EVENTS, on_event):
        trainer = TorchTrainer(
            _work,
            train_loop_config={"job": job},
            scaling_config=ScalingConfig(num_workers=processes, use_gpu=on_gpu),
            torch_config=TorchConfig(backend="nccl" if on_gpu else "gloo"),
            run_config=RunConfig(
                name=RAY,
                storage_path=str(folder),
                failure_config=FailureConfig(max_failures=restarts),
            ),
        )
        try:
            result = trainer.fit()
        except Exception as error:
            raise TrainingError(_told(error)) from error
        if result.error is not None:
            raise TrainingError(_told(result.error))
        outcome: Outcome | None = getattr(result, "return_value", None)
    if outcome is None:
        raise TrainingError(f"Ray Train ended without a result; what is there lies in {folder}")
    return outcome


def imported() -> Any:
    """The package ``ray``. It sends no statistics home."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.train.torch
    except ImportError:
        raise MissingExtraError.of("--on ray", "ray", "ray") from None
    return ray


@contextmanager
def connected(ray: Any, processes: int) -> Iterator[None]:
    """A connection to a cluster while this lasts; one that is there is used, and stays.

    Args:
        processes: processes for which a cluster of this machine alone has room.
    """
    if ray.is_initialized():
        yield
        return
    if address := os.environ.get("RAY_ADDRESS"):
        ray.init(address=address, log_to_driver=False)
    else:
        ray.init(
            address="local",
            num_cpus=max(processes, usable_cores()),
            include_dashboard=False,
            log_to_driver=False,
        )
    try:
        yield
    finally:
        ray.shutdown()


def _work(config: dict[str, Any]) -> Any:
    """What one process does; Ray has made the process group."""
    import ray.train
    import ray.train.torch

    job: Job = config["job"]
    context = ray.train.get_context()
    here = Place(
        rank=context.get_world_rank(),
        world=context.get_world_size(),
        local_rank=context.get_local_rank(),
        local_world=context.get_local_world_size(),
        attempt=1,  # whether it is the first is seen by the name of the job in the folder
        job=job.name,
    )
    folder = Path(job.folder)
    run = job.settings.run
    if run.device.startswith("cuda"):
        torch.cuda.set_device(ray.train.torch.get_device())
    recipe = job.settings.recipe
    dataset = opened(recipe.task, job.data, val_share=recipe.val_share, seed=recipe.seed)
    if here.world > 1:
        Team(here, None).check_run(folder, dataset, run)
    outcome = train(
        job.model,
        dataset,
        recipe,
        run,
        folder,
        options=job.options,
        resume="if_any" if goes_on(here, folder) else job.resume,
        accept_licence=job.accept_licence,
        tensorboard=job.tensorboard,
        on_event=marking(here, folder, lambda event: None),
    )
    return outcome if here.is_first else None


def _told(error: BaseException) -> str:
    """The message of the process that had an error of its own, among those that lost it."""
    held = getattr(error, "worker_failures", None)
    causes = list(held.values()) if isinstance(held, Mapping) else [error]
    causes = [getattr(one, "cause", None) or one for one in causes]
    own = [one for one in causes if isinstance(one, FleetfootError | ValueError)]
    return str(own[0]) if own else f"Ray Train: {first_line(causes[0])}"


@contextmanager
def _followed(file: Path, on_event: OnEvent) -> Iterator[None]:
    """Gives ``on_event`` what is added to a run's journal while this lasts."""
    ended = threading.Event()
    seen = len(_lines(file))

    def look() -> None:
        nonlocal seen
        lines = _lines(file)
        new, seen = lines[seen:], len(lines)  # the journal is shorter after a restart
        for line in new:
            raw = json.loads(line)
            kind = FOLLOWED.get(raw.pop("kind"))
            raw.pop("at")
            if kind is not None:
                on_event(parsed(raw, kind))

    def follow() -> None:
        while not ended.wait(LOOK_S):
            look()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        look()


def _lines(file: Path) -> list[str]:
    """The whole lines of a journal."""
    try:
        text = read_text(file)
    except (FileNotFoundError, NotADirectoryError, RecordError):
        return []
    return text[: text.rfind("\n") + 1].splitlines()
