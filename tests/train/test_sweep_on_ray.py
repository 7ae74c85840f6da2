"""A sweep on Ray Tune: the state that it keeps, without Ray; and one on a cluster of this machine
that the test starts and ends."""

from __future__ import annotations

import warnings

import pytest

from fake_training import Trainer
from fleetfoot.data.layouts import open_dataset
from fleetfoot.interrupts import handled
from fleetfoot.train import sweep as room
from fleetfoot.train.config import Optim, Recipe, Run
from fleetfoot.train.on_ray import Job, imported
from fleetfoot.train.settings import Settings
from fleetfoot.train.space import axes
from fleetfoot.train.sweep import TrialBegun, TrialDone, searched, sweep
from fleetfoot.train.sweep_on_ray import Keeper, Report, sweep_on_ray

SETTINGS = Settings(Recipe(epochs=3))
SPACE = ("optim.lr=log:1e-4:1", "mix.mixup=uniform:0:1")


@pytest.fixture(scope="module")
def digits():
    return open_dataset()


def keeper(folder, digits, events=None, trials=9, settings=SETTINGS):
    varied = axes(SPACE, settings)
    search = searched("fasternet_t0", digits, settings, varied, 5, 1, {})
    folder.mkdir(exist_ok=True)
    return Keeper(folder, search, varied, trials, (events if events is not None else []).append)


def run(made: Keeper, number: int, trainer: Trainer, folder) -> None:
    """A trial as Ray would run it, which reports and may be stopped."""
    recipe = SETTINGS.changed(f"{k}={v}" for k, v in made.values[number].items()).recipe

    class Stopped(Exception):
        pass

    def watch(event):
        row = event.row
        if made.report(Report(number, row.epoch + 1, row.figure("top1"), row.seconds)):
            raise Stopped

    try:
        trainer("", digits, recipe, None, folder / f"{number:04d}", on_event=watch)
    except Stopped:
        pass
    made.end(number)


def told(trials):
    return [(t.number, t.state, dict(t.values), t.top1, t.epochs) for t in trials]


def test_one_trial_after_the_other_is_the_sweep_without_ray(monkeypatch, digits, tmp_path):
    made = keeper(tmp_path / "ray", digits)
    trainer = Trainer()
    for _ in range(9):
        run(made, made.begin(), trainer, tmp_path / "trials")
    monkeypatch.setattr(room, "train", Trainer())
    here = sweep(
        "fasternet_t0", digits, SETTINGS, axes(SPACE, SETTINGS), tmp_path / "here", trials=9, seed=5
    )
    assert told(room.tried_of(made.study())) == told(here.trials)
    assert "pruned" in {t.state for t in here.trials}


def test_trials_at_once_are_kept_by_their_number_and_those_without_an_end_come_first(
    digits, tmp_path
):
    made = keeper(tmp_path / "s", digits)
    first, second, third = made.begin(), made.begin(), made.begin()
    assert (first, second, third) == (0, 1, 2)
    values = dict(made.values[0])
    run(made, 2, Trainer(), tmp_path / "trials")
    made.end(1, "its process ended")

    events = []
    again = keeper(tmp_path / "s", digits, events)
    assert [again.begin(), again.begin()] == [0, 3]
    assert again.values[0] == values
    assert [(e.number, e.resumed) for e in events if isinstance(e, TrialBegun)] == [
        (0, True),
        (3, False),
    ]
    run(again, 0, Trainer(), tmp_path / "trials")
    assert [(t.number, t.state) for t in room.tried_of(again.study())] == [
        (0, "complete"), (1, "failed"), (2, "complete"),
    ]  # fmt: skip
    assert [e.tried.number for e in events if isinstance(e, TrialDone)] == [0]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_sweep_on_a_cluster(digits, tmp_path):
    pytest.importorskip("ray")
    settings = Settings(
        Recipe(updates=4, batch=32, size=32, optim=Optim(name="sgd", lr=0.05)),
        Run(workers=0, threads=1),
    )
    options = {"width": 8, "depths": (1, 1, 1, 1), "head_width": 32}
    varied = axes(("optim.lr=log:1e-3:1",), settings)
    job = Job(
        model="fasternet_t0", data=None, settings=settings, folder=str(tmp_path), options=options
    )
    search = searched("fasternet_t0", digits, settings, varied, 0, 1, options)
    with handled(), warnings.catch_warnings():  # Ray's handlers, and its warnings
        warnings.simplefilter("ignore")
        ray = imported()
        ray.init(
            address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
            object_store_memory=100 * 2**20,
        )  # fmt: skip
        try:
            outcome = sweep_on_ray(job, search, varied, trials=3, parallel=2)
        finally:
            ray.shutdown()
    assert [t.number for t in outcome.trials] == [0, 1, 2]
    assert all(t.top1 is not None for t in outcome.trials), outcome.trials
    assert outcome.weights.exists()
