"""``fleetfoot train`` in two processes, as a user starts them: one is killed, all are stopped by
Ctrl-C, one meets an error."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from fleetfoot.train import checkpoint
from fleetfoot.train.folder import LAST

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are found in /proc"),
]

SETTINGS = [
    "--threads", "1", "--workers", "1", "--batch", "32", "--set", "updates=14",
    "--set", "run.save_updates=4", "--set", "run.sync_bn=true", "--set", "mix.mixup=0.2",
]  # fmt: skip
SECONDS = 200


def started(*words: str | Path, restarts: int | None = None) -> subprocess.Popen[str]:
    """``fleetfoot train`` in two processes: under torchrun, or by ``--processes``."""
    launcher = [] if restarts is None else [
        "-m", "torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", str(restarts),
        "--master-port", "0", "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0",
    ]  # fmt: skip
    own = ["--processes", "2"] if restarts is None else []
    return subprocess.Popen(
        [sys.executable, *launcher, "-m", "fleetfoot", "train", *map(str, words), *own],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    try:
        out, err = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    return process.returncode, out, err


def await_file(file: Path, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + SECONDS
    while not file.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, f"{file} has not come"
        time.sleep(0.02)


def worker(parent: int, rank: int) -> int:
    """PID of a process of the run."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent and f"\0RANK={rank}\0" in "\0" + (
                entry / "environ"
            ).read_text(errors="replace"):
                return int(entry.name)
        except OSError:
            continue
    raise AssertionError(f"process {rank} of {parent} is not there")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[Path, str, str]:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    code, out, err = ended(started(*SETTINGS, "--output", folder))
    assert code == 0, err
    return folder, out, err


def assert_bit_equal(folder: Path, expected: Path) -> None:
    found, whole = checkpoint.read(folder / LAST), checkpoint.read(expected / LAST)
    assert found.training.update == whole.training.update == 14
    for part in ("weights", "average", "optimiser"):
        left, right = getattr(found, part), getattr(whole, part)
        assert left.keys() == right.keys()
        assert [k for k in right if not torch.equal(left[k], right[k])] == []


def test_only_one_process_is_heard(undisturbed):
    _, out, err = undisturbed
    assert out.count("Trained") == 1
    assert err.count("14 updates of 32 pictures") == 1
    assert "Traceback" not in err


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_is_restarted_and_the_run_ends_bit_equal(rank, undisturbed, tmp_path):
    folder = tmp_path / "run"
    process = started(*SETTINGS, "--output", folder, restarts=1)
    await_file(folder / "checkpoints" / checkpoint.file_name(4), process)
    os.kill(worker(process.pid, rank), signal.SIGKILL)
    code, _, err = ended(process)
    assert code == 0, err
    assert "of them done" in err  # it went on, and did not begin again
    assert_bit_equal(folder, undisturbed[0])


def test_ctrl_c_saves_and_the_run_goes_on_bit_equal(undisturbed, tmp_path):
    folder = tmp_path / "run"
    process = started(*SETTINGS, "--output", folder)
    await_file(folder / "checkpoints" / checkpoint.file_name(4), process)
    process.send_signal(signal.SIGINT)
    code, out, err = ended(process)
    assert code == 130, err
    assert "Traceback" not in err
    assert f"fleetfoot train --resume {folder}" in out
    stopped = checkpoint.read(folder / LAST).training.update
    assert 4 <= stopped < 14
    code, _, err = ended(started("--resume", folder))
    assert code == 0, err
    assert_bit_equal(folder, undisturbed[0])


def test_without_a_restart_the_death_of_a_process_is_one_message(tmp_path):
    folder = tmp_path / "run"
    process = started(*SETTINGS, "--output", folder)
    await_file(folder / "checkpoints" / checkpoint.file_name(4), process)
    os.kill(worker(process.pid, 1), signal.SIGKILL)
    code, _, err = ended(process)
    assert code == 2
    told = [line for line in err.splitlines() if line.startswith("fleetfoot: ")]
    assert len(told) == 1
    assert "process 1 of 2 was ended by SIGKILL" in told[0]
    assert f"--resume {folder}" in told[0]
    assert "Traceback" not in err


def test_an_error_that_one_process_meets_ends_all_with_one_message(tmp_path):
    data = tmp_path / "data"
    for label in ("a", "b"):
        for number in range(8):
            file = data / "train" / label / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16), (number * 20, 0, 0)).save(file)
    (data / "train" / "a" / "3.png").write_bytes(b"not a picture")
    process = started(
        data, "--model", "mobilenetv1_025", "--size", "32", "--batch", "4", "--epochs", "2",
        "--weights", "none", "--workers", "1", "--output", tmp_path / "run",
    )  # fmt: skip
    code, _, err = ended(process)
    assert code == 2
    told = [line for line in err.splitlines() if line.startswith("fleetfoot: ")]
    assert len(told) == 1, err
    assert "3.png" in told[0]
