"""A record returns from its folder as it was, and one that contradicts itself is refused."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from fleetfoot.errors import RecordError
from fleetfoot.evaluate.record import PICTURES, RECORD, Share, is_evaluation, read, save
from tests.red_green_blue import evaluation, split

MIXED = split(("red", 0), (b"broken", 1), ("blue", 2), ("red", 1))


def test_a_record_returns_from_its_folder(tmp_path):
    made = evaluation(MIXED, on_bad="skip")
    save(made, tmp_path)
    assert is_evaluation(tmp_path)
    assert is_evaluation(tmp_path / RECORD)
    assert not is_evaluation(tmp_path / PICTURES)
    for where in (tmp_path, tmp_path / RECORD):
        found = read(where)
        assert found.record == made.record
        assert list(found.answers) == [
            one._replace(probabilities=pytest.approx(one.probabilities, rel=1e-5))
            for one in made.answers
        ]
        assert np.array_equal(found.answers.judged, made.answers.judged)


def test_the_table_of_pictures_can_be_read_by_people(tmp_path):
    save(evaluation(MIXED, on_bad="skip"), tmp_path)
    rows = list(csv.DictReader((tmp_path / PICTURES).read_text().splitlines()))
    assert [(row["picture"], row["truth"], row["guess"], row["right"]) for row in rows] == [
        ("0.png", "red", "red", "1"),
        ("1.png", "green", "", ""),
        ("2.png", "blue", "blue", "1"),
        ("3.png", "green", "red", "0"),
    ]
    assert rows[1]["error"].startswith("not a picture")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"top1": {"right": 3, "images": 3}}, "top1 is .* by the tally"),
        ({"loss": 0.5}, "loss is 0.5"),
        ({"schema": 2}, "schema 2"),
        ({"classes": ["a"]}, "classes is 1, and 3"),
        ({"top5": {"right": 4, "images": 3}}, "4 of 3 is no share"),
        ({"tally": {}}, "missing fields"),
        ({"more": 1}, "unknown field"),
    ],
)
def test_a_record_that_contradicts_itself_is_refused(change, message, tmp_path):
    save(evaluation(MIXED, on_bad="skip"), tmp_path)
    raw = json.loads((tmp_path / RECORD).read_text()) | change
    (tmp_path / RECORD).write_text(json.dumps(raw))
    with pytest.raises(RecordError, match=message):
        read(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("0.png,0,red,1,0", "0.png,0,red,1,1", "1 right answers for 3 pictures"),
        ("0.png,0,red,1,0", "0.png,7,red,1,0", "numbers of no class"),
        ("0.png,0,red,1,0", "0.png,x,red,1,0", "is damaged"),
        ("picture,", "file,", "its first line"),
        ("2.png,2,blue,1,2", "2.png,2,blue", "is damaged"),
    ],
)
def test_a_damaged_table_is_refused(old, new, message, tmp_path):
    save(evaluation(MIXED, on_bad="skip"), tmp_path)
    text = (tmp_path / PICTURES).read_text()
    assert old in text
    (tmp_path / PICTURES).write_text(text.replace(old, new))
    with pytest.raises(RecordError, match=message):
        read(tmp_path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RecordError, match=r"evaluation\.json cannot be read"):
        read(tmp_path)
    save(evaluation(), tmp_path)
    (tmp_path / PICTURES).unlink()
    with pytest.raises(RecordError, match=r"pictures\.csv cannot be read"):
        read(tmp_path)


def test_figures_that_the_counts_contradict_cannot_be_made():
    record = evaluation().record
    with pytest.raises(RecordError, match="top1"):
        replace(record, top1=Share(right=5, images=5))
