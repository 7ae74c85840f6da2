"""A run in two processes of Ray Train, on a cluster of this machine that the test starts and ends:
one is killed, Ray starts both again, and the run ends bit-equal to one that was left alone."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fleetfoot.errors import MissingExtraError, TrainingError
from fleetfoot.interrupts import handled
from fleetfoot.train import checkpoint
from fleetfoot.train.config import Ema, Optim, Recipe, Run
from fleetfoot.train.events import Begun, EpochDone
from fleetfoot.train.folder import LAST
from fleetfoot.train.on_ray import Job, imported, job_of, train_on_ray
from fleetfoot.train.settings import Settings

RECIPE = Recipe(updates=12, batch=32, size=32, optim=Optim(name="sgd", lr=0.05), ema=Ema(decay=0.5))
RUN = Run(workers=0, threads=1, save_updates=3)
OPTIONS = {"width": 8, "depths": (1, 1, 1, 1), "head_width": 32}


def job(folder: Path, **changes) -> Job:
    made = Job(
        model="fasternet_t0", data=None, settings=Settings(RECIPE, RUN), folder=str(folder),
        options=OPTIONS,
    )  # fmt: skip
    return replace(made, **changes)


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match="'ray'"):
        imported()


@pytest.fixture(scope="module")
def cluster():
    pytest.importorskip("ray")
    with handled(), warnings.catch_warnings():  # Ray's handlers, and its warnings
        warnings.simplefilter("ignore")
        ray = imported()
        ray.init(
            address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
            object_store_memory=100 * 2**20,
        )  # fmt: skip
        yield ray
        ray.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_killed_process_is_restarted_by_ray_and_the_run_ends_bit_equal(cluster, tmp_path):
    whole = train_on_ray(job(tmp_path / "whole"), processes=2, restarts=0)
    assert (whole.update, whole.interrupted) == (12, "")

    events = []
    victim = threading.Thread(target=kill_one, args=(tmp_path / "run",), daemon=True)
    victim.start()
    outcome = train_on_ray(
        job(tmp_path / "run", settings=Settings(RECIPE, replace(RUN, workers=0))),
        processes=2, restarts=1, on_event=events.append,
    )  # fmt: skip
    victim.join()
    assert outcome.update == 12
    begun = [event for event in events if isinstance(event, Begun)]
    assert [event.resumed for event in begun] == [False, True]
    assert any(isinstance(event, EpochDone) for event in events)
    found, expected = (checkpoint.read(tmp_path / name / LAST) for name in ("run", "whole"))
    for part in ("weights", "average", "optimiser"):
        left, right = getattr(found, part), getattr(expected, part)
        assert [k for k in right if not torch.equal(left[k], right[k])] == []


def kill_one(folder: Path) -> None:
    """Kills the process of the run that holds the folder, as soon as it has saved an update."""
    end = time.monotonic() + 300
    while not (folder / "checkpoints" / checkpoint.file_name(3)).exists():
        if time.monotonic() > end:
            return
        time.sleep(0.01)
    lock = str((folder / ".lock").resolve())
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            held = [os.readlink(file) for file in (entry / "fd").iterdir()]
        except OSError:
            continue
        if lock in held:
            os.kill(int(entry.name), signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_error_of_a_process_is_told_as_it_is(cluster, tmp_path):
    with pytest.raises(TrainingError, match="33 pictures cannot be divided evenly"):
        train_on_ray(
            job(tmp_path / "run", settings=Settings(replace(RECIPE, batch=33), RUN)),
            processes=2, restarts=0,
        )  # fmt: skip


def test_paths_of_a_job_hold_on_every_machine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def of(model, data=None):
        return job_of(model, data, Settings(RECIPE, RUN), Path("run"), options={})

    assert of("nets/mine.py:build").model == f"{tmp_path}/nets/mine.py:build"
    assert of("nets/mine.py").model == f"{tmp_path}/nets/mine.py"
    assert of("runs/a.safetensors").model == f"{tmp_path}/runs/a.safetensors"
    assert of("timm:resnet18", "pictures") == Job(
        model="timm:resnet18", data=f"{tmp_path}/pictures", settings=Settings(RECIPE, RUN),
        folder=f"{tmp_path}/run", options={},
    )  # fmt: skip
    assert of("fasternet_t0").data is None
