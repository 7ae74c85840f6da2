"""What a launcher's variables mean, and how the processes of a run agree and end together."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch.distributed as dist

from fleetfoot.data import loader
from fleetfoot.data.layouts import open_dataset
from fleetfoot.errors import DatasetError, ToldElsewhereError, TrainingError
from fleetfoot.train import launch, place
from fleetfoot.train.config import Run
from fleetfoot.train.launch import Team
from fleetfoot.train.place import Place
from several_processes import in_processes

TORCHRUN = {
    "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500", "TORCHELASTIC_RESTART_COUNT": "2",
    "TORCHELASTIC_RUN_ID": "job7",
}  # fmt: skip


def test_torchruns_variables_give_the_place():
    assert place.here(TORCHRUN) == Place(
        rank=5, world=8, local_rank=1, local_world=4, attempt=2, job="job7"
    )


@pytest.mark.parametrize("missing", ["RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"])
def test_without_a_launcher_there_is_no_place(missing):
    assert place.here({k: v for k, v in TORCHRUN.items() if k != missing}) is None


def test_variables_that_make_no_sense_are_named():
    with pytest.raises(TrainingError, match="WORLD_SIZE must be a number, not 'two'"):
        place.here({**TORCHRUN, "WORLD_SIZE": "two"})
    with pytest.raises(TrainingError, match="RANK=5 and WORLD_SIZE=5"):
        place.here({**TORCHRUN, "WORLD_SIZE": "5"})


def test_processes_of_one_machine_divide_its_cores(monkeypatch):
    monkeypatch.setattr(loader, "usable_cores", lambda: 12)
    for started, workers in (("", 12), ("4", 3), ("64", 1), ("none", 12)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", started)
        assert loader.default_workers() == workers


def test_processes_of_one_machine_do_not_share_a_gpu(tmp_path):
    here = Place(rank=0, world=4, local_rank=0, local_world=2)
    with pytest.raises(TrainingError, match="2 processes of this machine cannot share cuda:1"):
        Team(here, None).check_run(tmp_path, open_dataset(), Run(device="cuda:1"))


def test_only_a_restart_of_the_same_job_goes_on_by_itself(tmp_path):
    first = Place(rank=0, world=1, local_rank=0, local_world=1, job="a")
    again = Place(rank=0, world=1, local_rank=0, local_world=1, job="a", attempt=1)
    other = Place(rank=0, world=1, local_rank=0, local_world=1, job="b", attempt=1)
    assert not place.goes_on(again, tmp_path)  # it had not begun
    place.mark(first, tmp_path)
    assert place.goes_on(again, tmp_path)
    assert not place.goes_on(other, tmp_path)
    assert not place.goes_on(first, tmp_path)
    assert not place.goes_on(None, tmp_path)


def team(rank, world, store):
    here = Place(rank=rank, world=world, local_rank=rank, local_world=world)
    return Team(here, dist.FileStore(str(store), world))


def ends(rank, store):
    """Process 1 has an error; the others notice that it is gone."""
    here = team(rank, 3, store)
    error = DatasetError("the list is empty") if rank == 1 else RuntimeError("gloo: reset by peer")
    told = here.ended_by(error)
    return type(told), str(told)


def test_one_process_tells_the_error_that_ended_all(tmp_path):
    told = in_processes(3, ends, tmp_path / "errors", store=tmp_path / "store")
    assert told[1] == (DatasetError, "the list is empty")
    for kind, text in (told[0], told[2]):
        assert kind is ToldElsewhereError
        assert text.startswith("process 1 on ")
        assert text.endswith(": the list is empty")


def lost(rank, store):
    launch.HEARD_S = 0.2
    told = team(rank, 2, store).ended_by(RuntimeError("[gloo/pair.cc:545] reset by peer"))
    return type(told), str(told)


def test_the_death_of_a_silent_process_is_told_once(tmp_path):
    told = sorted(in_processes(2, lost, tmp_path / "e", store=tmp_path / "s"), key=str)
    assert [kind for kind, _ in told] == [ToldElsewhereError, TrainingError]
    assert "another process of the run has ended or cannot be reached" in told[1][1]
    assert "--resume" in told[1][1]


def differ(rank, store):
    facts = {"data set": f"digits {min(rank, 1)}", "version": "1"}
    with pytest.raises(TrainingError) as caught:
        team(rank, 3, store).check_same(facts)
    return str(caught.value)


def test_processes_with_different_data_sets_are_refused(tmp_path):
    (text, *others) = in_processes(3, differ, tmp_path / "e", store=tmp_path / "s")
    assert others == [text, text]
    assert "do not have the same data set: digits 0 in process 0 on " in text
    assert "digits 1 in process 1 on " in text


def shared(rank, store, folders):
    try:
        team(rank, 2, store).check_shared(folders[rank])
    except TrainingError as error:
        return str(error)
    return ""


def test_a_folder_that_only_one_machine_sees_is_refused(tmp_path):
    same, other = tmp_path / "run", tmp_path / "elsewhere"
    assert in_processes(2, shared, tmp_path / "e", (same, same), store=tmp_path / "s") == ["", ""]
    assert list(same.iterdir()) == []
    texts = in_processes(2, shared, tmp_path / "e2", (same, other), store=tmp_path / "s2")
    for text in texts:
        assert text.startswith("process 1 on ")
        assert "does not see the files that process 0 writes in" in text


def test_a_folder_that_cannot_be_written_is_told_by_all(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    texts = in_processes(2, shared, tmp_path / "e", (file / "run",) * 2, store=tmp_path / "s")
    assert texts[0] == texts[1]
    assert "cannot take a run" in texts[0]


@pytest.mark.parametrize(
    ("numbers", "message"),
    [({"processes": 0, "restarts": 0}, "processes must be 1 or more"),
     ({"processes": 1, "restarts": -1}, "restarts must be 0 or more")],
)  # fmt: skip
def test_numbers_that_make_no_sense_are_refused(numbers, message):
    with pytest.raises(ValueError, match=message):
        launch.start([], folder=Path(), **numbers)
