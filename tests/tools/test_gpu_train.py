"""The script for a machine with a GPU runs here with tiny shapes on the CPU."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_dry_run_measures_both_sides_and_proves_the_resume(tmp_path):
    command = [ROOT / "scripts" / "gpu", "train", "--output", tmp_path, "--dry-run"]
    subprocess.run(command, check=True, capture_output=True, timeout=900)

    lines = (tmp_path / "training.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    kinds = [row["kind"] for row in rows]
    assert kinds[0] == "machine"
    assert kinds[-1] == "end"
    (resumed,) = (row for row in rows if row["kind"] == "resume")
    assert resumed["equal"], resumed["differing"]
    rates = [row for row in rows if row["kind"] == "rate"]
    assert {(row["variant"], row["batches"]) for row in rates} == {
        (variant, batches)
        for variant in ("float32", "bf16 channels_last")
        for batches in ("synthetic", "real")
    }
    assert all(rate > 0 for row in rates for side in row["images_per_s"].values() for rate in side)


def test_without_a_known_part_the_usage_is_printed():
    run = subprocess.run([ROOT / "scripts" / "gpu", "x"], capture_output=True, text=True)
    assert run.returncode == 2
    assert "scripts/gpu train" in run.stderr
