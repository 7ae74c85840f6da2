"""Runs of the tasks in several processes, joined by gloo."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fleetfoot.data.settings import Scene
from fleetfoot.tasks import catalogue
from fleetfoot.train import checkpoint
from fleetfoot.train.config import Ema, Optim, Recipe, Run, Schedule
from fleetfoot.train.folder import LAST
from fleetfoot.train.loop import train
from several_processes import in_processes
from tiny_tasks import HEADS
from tools.kills.scenes import scenes

RECIPE = Recipe(
    task="segment",
    epochs=1,
    batch=8,
    precision="float64",
    scene=Scene(),  # nothing beside the pictures, so each process has as many pixels
    optim=Optim(name="sgd", lr=0.05, clip=1.0),
    ema=Ema(decay=0.5),
)
RUN = Run(workers=0, threads=1, sync_bn=True)


def run_once(rank, task, recipe, folder, resume="never"):
    catalogue.HEADS.update(HEADS)
    head = {"detect": "tiny_detector", "segment": "tiny_segmenter"}[task]
    made = replace(recipe, task=task)
    return train(head, scenes(task, train=16, val=3), made, RUN, folder, resume=resume)


def weights(folder):
    found = checkpoint.read(folder / LAST)
    return {f"model.{k}": v for k, v in found.weights.items()} | {
        f"ema.{k}": v for k, v in found.average.items()
    }


@pytest.mark.slow
def test_a_segmenter_of_two_processes_equals_that_of_one(tmp_path):
    outcomes = in_processes(
        2, run_once, "segment", RECIPE, tmp_path / "two", store=tmp_path / "store"
    )
    one = run_once(0, "segment", RECIPE, tmp_path / "one")
    found, expected = weights(tmp_path / "two"), weights(tmp_path / "one")
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-9, msg=name)
    for outcome in outcomes:
        assert outcome.history[0].figures == one.history[0].figures


@pytest.mark.slow
def test_a_detector_of_two_processes_goes_on_bit_equal(tmp_path):
    """Its losses are divided by the objects of each process, so it is not that of one process."""
    recipe = replace(
        RECIPE,
        epochs=2,
        precision="float32",
        scene=Scene(multiscale=(0.5, 1.5), multiscale_every=1, mosaic=0.5),
        schedule=Schedule(curve="constant"),  # the length of a run does not decide its rates
    )

    def go(folder, recipe, *more):
        store = tmp_path / f"store-{folder}-{len(more)}"
        return in_processes(2, run_once, "detect", recipe, tmp_path / folder, *more, store=store)

    first, second = go("whole", recipe)
    for mine, other in zip(first.history, second.history, strict=True):
        assert (mine.train_loss, mine.figures) == (other.train_loss, other.figures)
    go("parts", replace(recipe, epochs=1))
    go("parts", recipe, "required")
    found = weights(tmp_path / "parts")
    different = [k for k, v in weights(tmp_path / "whole").items() if not torch.equal(v, found[k])]
    assert not different
