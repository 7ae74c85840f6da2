"""The pages of training runs say what their records do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fleetfoot.files import read_json
from tools import beside_timm
from tools.beside_timm import Comparison
from tools.trained import Trained, TrainingRecord, markdown

ROOT = Path(__file__).parents[2]


def records():
    for file in sorted((ROOT / "benchmarks" / "trained").glob("*.json")):
        yield f"trained-{file.stem}.png", read_json(file, TrainingRecord)


def test_the_page_of_runs_is_made_from_the_records():
    page = (ROOT / "docs" / "trained.md").read_text(encoding="utf-8")
    made = list(records())
    assert made
    assert markdown(made).strip() in page
    assert all((ROOT / "docs" / picture).is_file() for picture, _ in made)


def test_the_page_beside_timm_is_made_from_the_records():
    page = (ROOT / "docs" / "beside-timm.md").read_text(encoding="utf-8")
    files = sorted((ROOT / "benchmarks" / "beside-timm").glob("*.json"))
    assert files
    assert beside_timm.markdown([read_json(f, Comparison) for f in files]).strip() in page


def test_the_averaged_weights_are_compared_where_they_chose_the_best():
    (_, record), *_ = records()
    row = {"epoch": 0.0, "eval_top1": 50.0, "images_per_s": 10.0}
    plain = Trained(seed=0, epochs=(row,), best_epoch=0, test=None, seconds=60.0)
    both = replace(plain, epochs=({**row, "ema_top1": 70.0},))
    assert replace(record, runs=(plain,)).column == "eval_top1"
    averaged = replace(record, runs=(both,))
    assert averaged.column == "ema_top1"
    assert "| 70.00 |  | 10.0 | 1.00 |" in markdown([("x.png", averaged)])
