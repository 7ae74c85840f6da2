"""The files of a run beside its checkpoints."""

from __future__ import annotations

import csv
import io

from PIL import Image

from fleetfoot.train.checkpoint import Epoch
from fleetfoot.train.events import EpochDone, Saved
from fleetfoot.train.figures import columns
from fleetfoot.train.journal import Journal, curves, summary


def epoch(number: int, **figures) -> Epoch:
    measured = {"eval_loss": 1.5, "eval_top1": 50.0 + number, "eval_top5": 90.0}
    return Epoch(
        epoch=number,
        update=10 * (number + 1),
        train_loss=2.0 / (number + 1),
        figures=measured | figures,
        lr=1e-3,
        size=32,
        images_per_s=100.0,
        seconds=10.0,
    )


def test_the_summary_has_timms_columns_first_and_nothing_for_what_is_unknown():
    text = summary([epoch(0), epoch(1, eval_loss=None, eval_top1=None, eval_top5=None)])
    rows = list(csv.DictReader(io.StringIO(text)))
    assert columns("classify")[:6] == (
        "epoch",
        "train_loss",
        "eval_loss",
        "eval_top1",
        "eval_top5",
        "lr",
    )
    assert (rows[0]["epoch"], float(rows[0]["eval_top1"])) == ("0", 50.0)
    assert (rows[1]["eval_top1"], rows[1]["ema_top1"]) == ("", "")
    assert float(rows[1]["train_loss"]) == 1.0


def test_curves_are_a_picture_even_of_one_epoch_without_evaluation():
    for history in (
        [epoch(0, eval_loss=None, eval_top1=None, eval_top5=None)],
        [epoch(n, ema_top1=60.0, ema_loss=1.0) for n in range(5)],
    ):
        picture = Image.open(io.BytesIO(curves(history)))
        assert picture.format == "PNG"
        assert len(picture.convert("L").getcolors(256)) > 10  # not blank


def test_events_of_a_run_that_went_on_are_brought_in_line(tmp_path):
    first = Journal(tmp_path, "a: 1\n")
    first.note(EpochDone(epoch(0), is_best=True))
    first.note(Saved(path=tmp_path / "x", update=10))
    first.note(EpochDone(epoch(1), is_best=True))  # the state after it was not saved
    first.close()
    text = (tmp_path / "events.jsonl").read_text()
    (tmp_path / "events.jsonl").write_text(text + '{"kind": "sav')
    Journal(tmp_path, "a: 1\n", history=[epoch(0)]).close()
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    assert lines == text.splitlines()[:2]
    (tmp_path / "events.jsonl").write_text(lines[1] + "\n")  # one is lost
    Journal(tmp_path, "a: 1\n", history=[epoch(0)]).close()
    assert '"kind": "epoch_done"' in (tmp_path / "events.jsonl").read_text()
