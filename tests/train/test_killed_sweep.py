"""``fleetfoot sweep``, killed within a trial: the same command again goes on with this trial and
ends with the same trials."""

from __future__ import annotations

import csv
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fleetfoot.train.checkpoint import file_name
from fleetfoot.train.sweep import SUMMARY, trial_folder

SECONDS = 200


def started(folder: Path) -> subprocess.Popen[str]:
    words = [
        "--space", "optim.lr=log:1e-3:1e-1", "--space", "mix.mixup=uniform:0:0.5", "--trials", "2",
        "--epochs", "3", "--batch", "128", "--workers", "1", "--threads", "1", "--output", folder,
    ]  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-m", "fleetfoot", "sweep", *map(str, words)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def rows(folder: Path) -> list[dict[str, str]]:
    found = list(csv.DictReader((folder / SUMMARY).read_text().splitlines()))
    return [{k: v for k, v in row.items() if k != "seconds"} for row in found]


@pytest.mark.slow
def test_a_killed_sweep_ends_with_the_same_trials(tmp_path):
    whole = started(tmp_path / "whole")
    killed = started(tmp_path / "killed")
    checkpoints = trial_folder(tmp_path / "killed", 1) / "checkpoints"
    end = time.monotonic() + SECONDS
    while not any(file.name > file_name(0) for file in checkpoints.glob("update-*.safetensors")):
        assert killed.poll() is None, killed.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
    killed.kill()
    killed.communicate()
    again = started(tmp_path / "killed")
    _, err = again.communicate(timeout=SECONDS)
    assert again.returncode == 0, err
    assert "trial 1 of 2" not in err
    assert "trial 2 of 2, continued" in err
    _, err = whole.communicate(timeout=SECONDS)
    assert whole.returncode == 0, err
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")
