"""A run in several processes is the run in one: the same pictures in the same order, and equal
parameters but for the order of sums (float64, 1e-9). Real processes, joined by gloo."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fleetfoot.data.dataset import Split
from fleetfoot.data.layouts import open_dataset
from fleetfoot.data.pictures import Chosen
from fleetfoot.data.settings import Augment, Mix
from fleetfoot.train import checkpoint
from fleetfoot.train.config import Ema, Optim, Recipe, Run
from fleetfoot.train.folder import LAST
from fleetfoot.train.learner import Learner
from fleetfoot.train.loop import train
from several_processes import in_processes

RECIPE = Recipe(
    epochs=2,
    updates=7,
    batch=12,
    size=8,
    precision="float64",
    optim=Optim(name="sgd", lr=0.05, clip=1.0),
    mix=Mix(mixup=0.4, cutmix=0.4),
    augment=Augment(erase=0.3, flip=0.5),
    ema=Ema(decay=0.5),
    seed=3,
)
RUN = Run(workers=0, threads=1)
SLOW = pytest.mark.slow


@pytest.fixture(scope="module")
def digits():
    """60 pictures to train on and one to evaluate, so that one of two processes has none there."""
    whole = open_dataset()

    def first(split: Split, count: int) -> Split:
        pictures = Chosen(split.pictures, np.arange(count))
        return replace(split, pictures=pictures, labels=split.labels[:count])

    return replace(whole, train=first(whole.train, 60), val=first(whole.val, 1), test=None)


def network(norm: bool) -> nn.Module:
    torch.manual_seed(1)
    made = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8) if norm else nn.Identity(),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8) if norm else nn.Identity(),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 10),
    )
    return made


def run_once(rank, digits, recipe, run, folder, norm, resume="never", stop_after=None):
    """Trains in this process, and notes the pictures of each update."""
    seen: list[tuple[int, list[int]]] = []
    real = Learner.update_

    def noting(self, number, parts, *, skip=False):
        held = list(parts)
        seen.append((number, [i for batch in held for i in batch.indices.tolist()]))
        if number == stop_after and rank == 0:  # a signal that one process gets stops all
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self, number, held, skip=skip)

    Learner.update_ = noting
    try:
        outcome = train(network(norm), digits, recipe, run, folder, resume=resume)
    finally:
        Learner.update_ = real
    return seen, outcome.update, outcome.interrupted, outcome.history[-1:]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found = checkpoint.read(folder / LAST)
    return {f"model.{k}": v for k, v in found.weights.items()} | {
        f"ema.{k}": v for k, v in found.average.items()
    }


def order(*parts) -> list[tuple[int, list[int]]]:
    """The pictures of each update over all processes."""
    return [
        (rows[0][0], list(chain.from_iterable(pictures for _, pictures in rows)))
        for rows in zip(*parts, strict=True)
    ]


@pytest.mark.parametrize(
    ("world", "norm", "accumulate"),
    [(2, False, 1), pytest.param(3, False, 2, marks=SLOW), (2, True, 1)],
)
def test_parameters_equal_those_of_one_process(world, norm, accumulate, digits, tmp_path):
    recipe = replace(RECIPE, optim=replace(RECIPE.optim, accumulate=accumulate))
    run = replace(RUN, sync_bn=norm)
    arguments = (digits, recipe, run, tmp_path / "several", norm)
    parts = in_processes(world, run_once, *arguments, store=tmp_path / "store")
    seen, updates, _, (row,) = run_once(0, digits, RECIPE, RUN, tmp_path / "one", norm)

    assert updates == 7
    assert order(*(part[0] for part in parts)) == seen
    found, expected = weights(tmp_path / "several"), weights(tmp_path / "one")
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-9, msg=name)
    for part in parts:
        figures, expected = part[3][0].figures, row.figures
        assert figures["eval_top1"] == expected["eval_top1"]
        assert figures["eval_loss"] == pytest.approx(expected["eval_loss"], rel=1e-9)
        assert part[3][0].train_loss == pytest.approx(row.train_loss, rel=1e-9)


@pytest.mark.parametrize(
    ("first", "then"), [(2, 1), pytest.param(1, 3, marks=SLOW), pytest.param(3, 2, marks=SLOW)]
)
def test_another_number_of_processes_goes_on_with_the_same_order(first, then, digits, tmp_path):
    def go(world, *more):
        return in_processes(
            world, run_once, digits, RECIPE, RUN, tmp_path / "run", False, *more,
            store=tmp_path / f"store{world}",
        )  # fmt: skip

    before, after = go(first, "never", 3), go(then, "required")
    whole, *_ = run_once(0, digits, RECIPE, RUN, tmp_path / "whole", False)

    assert {(part[1], part[2]) for part in before} == {(4, "SIGTERM")}
    assert {(part[1], part[2]) for part in after} == {(7, "")}
    halves = order(*(p[0] for p in before)) + order(*(p[0] for p in after))
    assert halves == whole
    assert all(len(np.unique(pictures)) == RECIPE.batch for _, pictures in whole)
    for name, value in weights(tmp_path / "whole").items():
        found = weights(tmp_path / "run")[name]
        torch.testing.assert_close(found, value, rtol=1e-9, atol=1e-9, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 3])
def test_a_run_that_goes_on_is_bit_equal(world, digits, tmp_path):
    """Also the first update after a restart: with three processes, sums have another order if
    gradients are exchanged in other buckets."""

    def go(folder, *more):
        store = tmp_path / f"store-{folder}-{len(more)}"
        arguments = (digits, replace(RECIPE, precision="float32"), RUN, tmp_path / folder, False)
        return in_processes(world, run_once, *arguments, *more, store=store)

    go("run", "never", 2)
    go("run", "required")
    go("whole")
    found = weights(tmp_path / "run")
    different = [k for k, v in weights(tmp_path / "whole").items() if not torch.equal(v, found[k])]
    assert not different


def too_many(rank, digits, folder):
    with pytest.raises(ValueError, match="12 pictures cannot be divided evenly among 5 processes"):
        train(network(False), digits, RECIPE, RUN, folder)


def test_a_batch_that_the_processes_do_not_divide_is_refused(digits, tmp_path):
    in_processes(5, too_many, digits, tmp_path / "run", store=tmp_path / "store")
