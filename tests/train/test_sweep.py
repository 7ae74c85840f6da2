"""The search of a sweep: the same sweep gives the same trials however often it is interrupted, bad
trials end early, and the folder holds what is needed to go on."""

from __future__ import annotations

import csv
import math
from dataclasses import replace

import pytest

from fake_training import Killed, Trainer
from fleetfoot.data.layouts import open_dataset
from fleetfoot.errors import CheckpointError, TrainingError
from fleetfoot.train import sweep as room
from fleetfoot.train.config import Recipe
from fleetfoot.train.settings import Settings
from fleetfoot.train.space import axes
from fleetfoot.train.sweep import JOURNAL, SUMMARY, TrialBegun, TrialDone, sweep, trial_folder

SETTINGS = Settings(Recipe(epochs=3))
SPACE = ("optim.lr=log:1e-4:1", "mix.mixup=uniform:0:1", "optim.name=choice:sgd,adamw")


@pytest.fixture(scope="module")
def digits():
    return open_dataset()


def searching(monkeypatch, digits, folder, trainer, *, trials=16, seed=5, space=SPACE, **named):
    monkeypatch.setattr(room, "train", trainer)
    monkeypatch.setattr(room, "history", trainer.history)
    return sweep(
        "fasternet_t0", digits, SETTINGS, axes(space, SETTINGS), folder, trials=trials, seed=seed,
        **named,
    )  # fmt: skip


def told(outcome):
    return [(t.number, t.state, dict(t.values), t.top1, t.epochs) for t in outcome.trials]


@pytest.fixture
def undisturbed(monkeypatch, digits, tmp_path):
    return searching(monkeypatch, digits, tmp_path / "whole", Trainer())


def test_the_same_sweep_gives_the_same_trials(monkeypatch, digits, tmp_path, undisturbed):
    again = searching(monkeypatch, digits, tmp_path / "again", Trainer())
    assert told(again) == told(undisturbed)
    other = searching(monkeypatch, digits, tmp_path / "other", Trainer(), seed=6)
    assert told(other) != told(undisturbed)


@pytest.mark.parametrize("at", [(0, 0), (3, 2), (12, 0)])
def test_a_killed_sweep_ends_as_if_nothing_had_happened(
    at, monkeypatch, digits, tmp_path, undisturbed
):
    trainer = Trainer(kill_at=at)
    begun = []
    folder = tmp_path / "killed"
    with pytest.raises(Killed):
        searching(monkeypatch, digits, folder, trainer)
    with (folder / JOURNAL).open("ab") as journal:  # the process died while it wrote
        journal.write(b'{"op_code":4,"worker_id":"')
    (folder / f"{JOURNAL}.lock").write_text("")
    outcome = searching(monkeypatch, digits, folder, trainer, on_event=begun.append)
    assert told(outcome) == told(undisturbed)
    first = next(event for event in begun if isinstance(event, TrialBegun))
    assert (first.number, first.resumed) == (at[0], at[1] > 0)


def test_trials_can_be_added(monkeypatch, digits, tmp_path, undisturbed):
    trainer = Trainer()
    searching(monkeypatch, digits, tmp_path / "added", trainer, trials=5)
    assert trainer.calls == 5
    assert told(searching(monkeypatch, digits, tmp_path / "added", trainer)) == told(undisturbed)
    assert trainer.calls == 16


def test_the_search_prefers_the_surroundings_of_good_values(undisturbed):
    """Half of a scale of four powers is within one power of the best rate, so about half of the
    random draws are; of those that follow, more must be."""
    off = [abs(math.log10(float(t.values["optim.lr"])) + 2) for t in undisturbed.trials]
    assert sum(off[10:]) / len(off[10:]) < sum(off[:10]) / 10


def test_bad_trials_end_early_by_the_median(undisturbed):
    states = [t.state for t in undisturbed.trials]
    assert states[: room.FULL_TRIALS] == ["complete"] * room.FULL_TRIALS
    assert "pruned" in states
    assert all(t.epochs == (3 if t.state == "complete" else 1) for t in undisturbed.trials)
    top1 = {t.number: t.top1 for t in undisturbed.trials}
    assert undisturbed.best.number == max(top1, key=top1.get)


def test_nothing_ends_early_if_not_asked_for(monkeypatch, digits, tmp_path):
    outcome = searching(monkeypatch, digits, tmp_path / "all", Trainer(), prune_after=None)
    assert {t.state for t in outcome.trials} == {"complete"}


def test_a_failed_trial_is_kept_with_its_reason(monkeypatch, digits, tmp_path):
    outcome = searching(monkeypatch, digits, tmp_path / "s", Trainer(fails=1), trials=3)
    assert [t.state for t in outcome.trials] == ["complete", "failed", "complete"]
    assert outcome.trials[1].reason == "the loss of update 3 is not finite"
    rows = list(csv.DictReader((tmp_path / "s" / SUMMARY).read_text().splitlines()))
    assert [row["state"] for row in rows] == ["complete", "failed", "complete"]
    assert rows[1]["top1"] == ""
    assert rows[0]["optim.lr"] == outcome.trials[0].values["optim.lr"]


def test_settings_that_contradict_each_other_fail_their_trial_only(monkeypatch, digits, tmp_path):
    outcome = searching(
        monkeypatch, digits, tmp_path / "s", Trainer(), trials=6,
        space=("loss.kind=choice:cross_entropy,bce", "loss.smoothing=uniform:0:0.5",
               "schedule.warmup=uniform:0:2"),
    )  # fmt: skip
    assert len(outcome.trials) == 6


def test_only_the_best_weights_stay(monkeypatch, digits, tmp_path):
    events = []
    outcome = searching(
        monkeypatch, digits, tmp_path / "s", Trainer(), trials=4, on_event=events.append
    )
    kept = [n for n in range(4) if (trial_folder(tmp_path / "s", n) / "best.safetensors").exists()]
    assert kept == [outcome.best.number]
    done = [event for event in events if isinstance(event, TrialDone)]
    assert [event.tried.number for event in done if event.is_best][-1] == outcome.best.number


def test_an_interrupted_trial_is_not_counted(monkeypatch, digits, tmp_path):
    trainer = Trainer()
    trainer.interrupted = "SIGINT"
    outcome = searching(monkeypatch, digits, tmp_path / "s", trainer)
    assert (outcome.interrupted, outcome.trials) == ("SIGINT", ())


def test_a_folder_with_another_sweep_is_refused(monkeypatch, digits, tmp_path):
    folder = tmp_path / "s"
    searching(monkeypatch, digits, folder, Trainer(), trials=1)
    with pytest.raises(CheckpointError, match="seed 5 there, 6 here"):
        searching(monkeypatch, digits, folder, Trainer(), trials=1, seed=6)
    monkeypatch.setattr(
        "test_sweep.SETTINGS", replace(SETTINGS, recipe=replace(SETTINGS.recipe, epochs=4))
    )
    with pytest.raises(CheckpointError, match="epochs: 3 -> 4"):
        searching(monkeypatch, digits, folder, Trainer(), trials=1)


def test_test_pictures_do_not_choose_settings(monkeypatch, digits, tmp_path):
    without = replace(digits, val=None)
    with pytest.raises(TrainingError, match="no validation pictures"):
        searching(monkeypatch, without, tmp_path / "s", Trainer())


@pytest.mark.parametrize("named", [{"trials": 0}, {"prune_after": 0}])
def test_numbers_that_make_no_sense_are_refused(named, monkeypatch, digits, tmp_path):
    with pytest.raises(ValueError, match="must be 1 or more"):
        searching(monkeypatch, digits, tmp_path / "s", Trainer(), **named)
