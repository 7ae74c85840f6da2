"""A run goes on exactly, and every way to end is clear."""

from __future__ import annotations

import csv
import errno
import json
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from fleetfoot import files
from fleetfoot.data.dataset import Split
from fleetfoot.errors import CheckpointError, TrainingError
from fleetfoot.train import checkpoint
from fleetfoot.train.config import Optim
from fleetfoot.train.events import EpochDone, Notice, RolledBack, Saved
from fleetfoot.train.folder import Folder
from fleetfoot.train.journal import Journal
from fleetfoot.train.learner import Learner
from small_runs import RECIPE, RUN, changed, small, trained
from tools.kills import dataset, differences


@pytest.fixture(autouse=True)
def without_curves(monkeypatch):
    """Drawing them takes as long as all the rest of such a run."""
    monkeypatch.setattr(Journal, "draw", lambda self, history: None)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    torch.set_num_threads(1)
    trained(folder)
    return folder


def stop_after(update: int, name: str = "SIGTERM"):
    """Sends this thread a signal, once, when that many updates are saved."""
    sent = []

    def tell(event: object) -> None:
        if isinstance(event, Saved) and event.update == update and not sent:
            sent.append(event)
            signal.raise_signal(getattr(signal, name))

    return tell


def notices(folder, **given) -> list[str]:
    said = []
    trained(
        folder, on_event=lambda e: said.append(e.text) if isinstance(e, Notice) else None, **given
    )
    return said


def last(folder) -> checkpoint.Training:
    return checkpoint.read(folder / "last.safetensors").training


def rows(folder) -> list[dict[str, str]]:
    with (folder / "summary.csv").open() as file:
        return list(csv.DictReader(file))


# ---- The same end


def test_one_seed_gives_one_result_and_another_seed_another(undisturbed, tmp_path):
    trained(tmp_path / "again")
    assert differences(undisturbed, tmp_path / "again") == []
    trained(tmp_path / "other", recipe=changed(seed=1))
    assert "weights.conv.weight" in differences(undisturbed, tmp_path / "other")


@pytest.mark.parametrize(
    ("name", "update", "end"),
    # within an epoch, before an evaluation, and in the last update of the second epoch; SIGINT is
    # tested in processes of their own, since it may end a worker of xdist
    [("SIGHUP", 1, 2), ("SIGTERM", 3, 3), ("SIGHUP", 5, 6)],
)
def test_a_signal_ends_the_run_after_its_update_and_it_goes_on(
    undisturbed, tmp_path, name, update, end
):
    outcome = trained(tmp_path, on_event=stop_after(update, name))
    assert outcome.interrupted == name
    assert not outcome.finished
    assert last(tmp_path).update == outcome.update == end
    ended = trained(tmp_path, resume="required")
    assert ended.finished
    assert differences(undisturbed, tmp_path) == []


def test_a_signal_within_an_evaluation_leaves_it_to_the_next_run(
    undisturbed, tmp_path, monkeypatch
):
    from fleetfoot.evaluate.tally import Tally

    update = Tally.update

    def interrupted(self, logits, labels):
        monkeypatch.undo()
        signal.raise_signal(signal.SIGTERM)
        update(self, logits, labels)

    monkeypatch.setattr(Tally, "update", interrupted)
    assert trained(tmp_path).interrupted == "SIGTERM"
    assert (last(tmp_path).update, last(tmp_path).epochs) == (3, 0)
    trained(tmp_path, resume="required")
    assert differences(undisturbed, tmp_path) == []


def test_every_epoch_has_one_row_and_one_event(tmp_path):
    trained(tmp_path, on_event=stop_after(4))
    with (tmp_path / "events.jsonl").open("a") as file:  # as if it was killed before it saved
        row = {"kind": "epoch_done", "row": {"epoch": 1}}
        file.write(json.dumps(row) + "\n" + '{"kind": "epo')
    with (tmp_path / "summary.csv").open("a") as file:
        file.write("1,9,9\n")
    trained(tmp_path, resume="required")
    assert [row["epoch"] for row in rows(tmp_path)] == ["0", "1", "2"]
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [e["row"]["epoch"] for e in events if e["kind"] == "epoch_done"] == [0, 1, 2]
    assert [e["resumed"] for e in events if e["kind"] == "begun"] == [False, True]
    first = rows(tmp_path)[0]
    assert 0 <= float(first["eval_top1"]) <= float(first["eval_top5"]) == 100
    assert "name: small" in (tmp_path / "args.yaml").read_text()


def test_the_last_ones_and_the_best_stay(tmp_path):
    outcome = trained(tmp_path, run=replace(RUN, keep=2))
    updates = [update for update, _ in Folder(tmp_path).files()]
    assert updates == sorted({outcome.best.update, 8, 9})
    best = checkpoint.read(tmp_path / "best.safetensors").training
    assert best.update == outcome.best.update
    top1 = [row.figures["ema_top1"] for row in outcome.history]
    assert (outcome.best.figure, outcome.best.value) == ("top1", max(top1))


# ---- Damage, and places that cannot be written


@pytest.mark.parametrize("kind", ["torn", "bit"])
def test_a_damaged_checkpoint_is_passed_over_and_said(undisturbed, tmp_path, kind):
    trained(tmp_path, on_event=stop_after(4))
    (_, newest) = Folder(tmp_path).files()[-1]
    raw = newest.read_bytes()
    newest.unlink()  # last.safetensors is another name of the file
    newest.write_bytes(raw[:-100] if kind == "torn" else raw[:-100] + b"\1" + raw[-99:])
    said = notices(tmp_path, resume="required")
    assert any(newest.name in text and "passed over" in text for text in said)
    assert differences(undisturbed, tmp_path) == []


def test_without_one_whole_checkpoint_the_run_cannot_go_on(tmp_path):
    trained(tmp_path, on_event=stop_after(1))
    for _, path in Folder(tmp_path).files():
        path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"none of the 3 checkpoints .* is whole"):
        trained(tmp_path, resume="required")


def test_a_full_disk_ends_the_run_and_keeps_what_was(undisturbed, tmp_path, monkeypatch):
    flush, count = os.fsync, [0]

    def full(file):
        count[0] += 1
        if count[0] > 12:
            raise OSError(errno.ENOSPC, "No space left on device")
        flush(file)

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises((CheckpointError, OSError), match="No space left on device"):
        trained(tmp_path)
    monkeypatch.undo()
    kept = Folder(tmp_path).files()
    assert kept
    assert not list(tmp_path.rglob("*.part"))
    trained(tmp_path, resume="required")
    assert differences(undisturbed, tmp_path) == []


def test_a_folder_that_cannot_be_written_is_said_at_once(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"file/run cannot take a run: Not a directory"):
        trained(tmp_path / "file" / "run")

    def read_only(*given, **named):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("pathlib.Path.mkdir", read_only)
    with pytest.raises(CheckpointError, match=r"Read-only file system; name another folder"):
        trained(tmp_path / "run")


def test_two_runs_cannot_share_a_folder(tmp_path):
    with Folder(tmp_path).held(), pytest.raises(CheckpointError, match="two runs cannot share"):
        trained(tmp_path)


def test_a_folder_with_a_run_is_not_begun_again_and_an_empty_one_not_resumed(tmp_path):
    with pytest.raises(CheckpointError, match="no run to resume"):
        trained(tmp_path, resume="required")
    trained(tmp_path, resume="if_any")
    with pytest.raises(CheckpointError, match="holds a run already; go on with it by --resume"):
        trained(tmp_path)


# ---- Losses that are not finite


@pytest.fixture
def broken_updates(monkeypatch):
    """Updates whose loss becomes NaN."""
    broken: set[int] = set()
    loss = Learner._loss

    def maybe(self, batch):
        value = loss(self, batch)
        return value * float("nan") if batch.update in broken else value

    monkeypatch.setattr(Learner, "_loss", maybe)
    return broken


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, broken_updates):
    broken_updates.add(5)
    with pytest.raises(TrainingError, match=r"update 5 is not finite.*--on-nan rollback"):
        trained(tmp_path)
    kept = last(tmp_path)
    assert kept.update == 5
    assert Learner.is_finite(type("L", (), {"module": small()})())


def test_or_the_run_goes_back_and_leaves_these_pictures_out(tmp_path, broken_updates):
    broken_updates.add(5)
    seen = []
    run = replace(RUN, on_nan="rollback", save_updates=3)
    outcome = trained(tmp_path / "a", run=run, on_event=seen.append)
    assert outcome.finished
    (back,) = [event for event in seen if isinstance(event, RolledBack)]
    assert (back.at, back.to, back.skipped) == (5, 3, (4, 5))
    assert last(tmp_path / "a").skipped == (4, 5)
    assert [e.row.epoch for e in seen if isinstance(e, EpochDone)] == [0, 1, 2]

    # what is left out does not depend on when the run was interrupted
    trained(tmp_path / "b", run=run, on_event=stop_after(6))
    trained(tmp_path / "b", run=run, resume="required")
    assert differences(tmp_path / "a", tmp_path / "b") == []


def test_a_run_does_not_go_back_for_ever(tmp_path, broken_updates):
    broken_updates |= set(range(4, 100))
    seen = []
    run = replace(RUN, on_nan="rollback", save_updates=3)
    with pytest.raises(TrainingError, match="neither were 3 shortly before it"):
        trained(tmp_path, run=run, on_event=seen.append)
    assert sum(isinstance(event, RolledBack) for event in seen) == 3
    # nor when it is resumed: the count is in the checkpoint
    seen.clear()
    with pytest.raises(TrainingError, match="neither were 3 shortly before it"):
        trained(tmp_path, run=run, on_event=seen.append, resume="required")
    assert not any(isinstance(event, RolledBack) for event in seen)


# ---- Pictures that do not come


class Deadly:
    """Pictures of which one ends the process that opens it, unless that is this one."""

    def __init__(self, inner, index: int) -> None:
        self.inner, self.index, self.home = inner, index, os.getpid()

    def __len__(self):
        return len(self.inner)

    def __getitem__(self, index):
        if index == self.index and os.getpid() != self.home:
            os._exit(9)
        return self.inner[index]

    def name(self, index):
        return self.inner.name(index)

    def sizes(self):
        return self.inner.sizes()


def test_a_worker_that_dies_ends_the_run_with_its_state_saved(undisturbed, tmp_path):
    given = dataset()
    deadly = replace(
        given, train=Split("train", Deadly(given.train.pictures, 7), given.train.labels)
    )
    with pytest.raises(
        TrainingError, match=r"(?s)ended: exit code 9.*updates is saved; go on by --resume"
    ):
        trained(tmp_path, dataset=deadly, run=replace(RUN, workers=1, save_updates=None))
    trained(tmp_path, resume="required")
    assert differences(undisturbed, tmp_path) == []


def with_bad_picture(index: int):
    given = dataset()
    files_ = list(given.train.pictures.files)
    files_[index] = b"\x89PNG\r\n\x1a\nnot a picture"
    pictures = replace(given.train.pictures, files=tuple(files_))
    return replace(given, train=Split("train", pictures, given.train.labels))


def test_a_bad_picture_stops_the_run_or_is_passed_over_and_named(tmp_path):
    bad = with_bad_picture(3)
    with pytest.raises(TrainingError, match=r"(?s)train/3\.png.*is saved; go on by --resume"):
        trained(tmp_path / "a", dataset=bad)
    run = replace(RUN, on_bad_image="skip")
    outcome = trained(tmp_path / "a", dataset=bad, run=run, resume="required")
    assert [path for path, _ in outcome.bad_images] == ["train/3.png"]
    assert last(tmp_path / "a").bad_images == outcome.bad_images
    assert "bad_image" in (tmp_path / "a" / "events.jsonl").read_text()


# ---- What may differ when a run goes on


def test_a_data_set_that_changed_is_refused(tmp_path):
    trained(tmp_path, on_event=stop_after(4))
    given = dataset()
    labels = np.roll(given.train.labels, 1)
    other = replace(given, train=Split("train", given.train.pictures, labels))
    with pytest.raises(CheckpointError, match="the data set has changed since the run began"):
        trained(tmp_path, dataset=other, resume="required")
    named = replace(given, classes=("a", "b", "c", "d"))
    with pytest.raises(CheckpointError, match="or other names"):
        trained(tmp_path, dataset=named, resume="required")


def test_changed_settings_are_said_with_their_effect(tmp_path):
    trained(tmp_path, on_event=stop_after(4))
    said = notices(
        tmp_path,
        resume="required",
        recipe=changed(optim=replace(RECIPE.optim, lr=1e-4)),
        run=replace(RUN, workers=1),
    )
    assert any(t.startswith("changed: run.workers: 0 -> 1") for t in said)
    assert any(t.startswith("changed, and the result with it: optim.lr: 0.01") for t in said)


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (changed(batch=8), "batch is 16 in the run and cannot become 8"),
        (changed(optim=Optim(name="sgd")), "optim.name is 'adamw' in the run"),
    ],
)
def test_some_settings_cannot_change(tmp_path, recipe, said):
    trained(tmp_path, on_event=stop_after(1))
    with pytest.raises(CheckpointError, match=said):
        trained(tmp_path, recipe=recipe, resume="required")


def test_a_run_that_was_to_end_within_an_epoch_can_be_made_longer(tmp_path):
    trained(tmp_path, recipe=changed(updates=4))
    outcome = trained(tmp_path, recipe=changed(updates=9), resume="required")
    assert [row.epoch for row in outcome.history] == [0, 1, 2]
    assert [row.update for row in outcome.history] == [3, 6, 9]


def test_the_network_must_be_the_same(tmp_path):
    trained(tmp_path, on_event=stop_after(1))
    with pytest.raises(CheckpointError, match=r"the run trains Small, not fasternet_t0"):
        trained(tmp_path, model="fasternet_t0", recipe=changed(size=32), resume="required")


@pytest.mark.slow  # TensorBoard takes seconds to import
def test_tensorboard_has_every_epoch(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trained(tmp_path, tensorboard=True, on_event=stop_after(4))
    trained(tmp_path, tensorboard=True, resume="required")
    read = EventAccumulator(str(tmp_path / "tensorboard"))
    read.Reload()
    assert [point.step for point in read.Scalars("eval/top1")] == [3, 6, 9]
