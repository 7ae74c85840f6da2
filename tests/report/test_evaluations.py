"""The card of an evaluation says what is in the record, and names what went wrong."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace

import pytest
import torch
from rich.console import Console

from fleetfoot.evaluate.classifier import evaluate
from fleetfoot.evaluate.compare import compare
from fleetfoot.evaluate.matching import match, read_real_labels
from fleetfoot.evaluate.subject import of_network
from fleetfoot.report.evaluations import (
    confusions,
    disagreeing,
    preprocessing,
    print_accuracy_comparison,
    print_evaluations,
    weakest,
    write_timm_csv,
)
from tests.red_green_blue import CLASSES, LABELS, evaluation, network, split


def printed(show, *arguments) -> str:
    file = io.StringIO()
    show(Console(file=file, width=160, markup=False, highlight=False), *arguments)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


MANY = split(*[("red", 0)] * 5, *[("lime", 2)] * 6, ("blue", 2), ("lime", 1), ("lime", 0))


def test_the_weakest_class_and_the_pairs_are_named():
    made = evaluation(MANY)
    assert confusions(made.record.counts) == [(2, 1, 6), (0, 1, 1)]
    assert [one.number for one in weakest(made.record.counts)] == [2, 0, 1]
    said = printed(print_evaluations, [made])
    assert "weakest      blue 14.29 % of 7; red 83.33 % of 6" in said
    assert "confused     blue taken for green 6×\n" in said  # one picture is no pattern


def test_what_could_not_be_judged_is_named():
    given = split(("red", 0), *[(b"broken", 1)] * 7)
    said = printed(print_evaluations, [evaluation(given, on_bad="skip")])
    assert "7 pictures could not be read, and are in no figure:" in said
    assert "  1.png: not a picture" in said
    assert "  and 2 more" in said
    workload = network()
    with torch.no_grad():
        workload.module[2].weight[1, 1] = math.inf
    with of_network(workload, batch=2, form="training") as subject:
        found = evaluate(subject, "c", MANY, match("c", CLASSES, "n", LABELS))
    said = printed(print_evaluations, found)
    assert "14 pictures have an answer that is not finite, and count as wrong:" in said
    assert "loss         -" in said


def test_real_labels_stand_beside_the_usual_ones(tmp_path):
    (tmp_path / "real.json").write_text(json.dumps({f"{n}.png": [1, 0] for n in range(14)}))
    made = evaluation(MANY, real=read_real_labels(tmp_path / "real.json", LABELS))
    assert "real labels  92.86 % (68.53 to 98.73) of 14 pictures" in printed(
        print_evaluations, [made]
    )


def test_engines_that_disagree_are_shown_with_the_pictures():
    one = evaluation(MANY)
    workload = network()
    with torch.no_grad():
        workload.module[2].weight[:2] = workload.module[2].weight[[1, 0]]
    with of_network(workload, batch=2) as subject:
        (other,) = evaluate(subject, "colours", MANY, match("c", CLASSES, "n", LABELS))
    other = other._replace(record=replace(other.record, engine="native"))
    assert len(disagreeing([one, other])) == 13  # all but the blue one
    assert disagreeing([one, one]) == []
    said = printed(print_evaluations, [one, other], [("ncnn", "no")])
    assert "The engines disagree on 13 pictures:" in said
    assert "  0.png (red): eager red, native green" in said
    assert "ncnn did not run: no" in said
    found = compare(one, other)
    said = printed(print_accuracy_comparison, found)
    assert f"they differ on {found.paired.discordant} of 14 pictures" in said
    assert "not the same: engine: eager" in said


def test_preprocessing_in_words_says_what_is_unusual():
    record = evaluation().record
    assert preprocessing(record).startswith("32 px; crop 0.875; bilinear; mean 0.485, 0.456, 0.406")
    unusual = {
        "size": [32, 64], "resize_mode": "squash", "antialias": False, "channel_order": "bgr",
        "pixel_scale": 1.0,
    }  # fmt: skip
    words = preprocessing(replace(record, preprocessing={**record.preprocessing, **unusual}))
    for said in ("32×64 px", "squash", "not antialiased", "bgr", "scale 1"):
        assert said in words


def test_another_table_is_not_touched(tmp_path):
    file = tmp_path / "table.csv"
    file.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="its columns are not model,top1"):
        write_timm_csv(file, [evaluation()])
    assert file.read_text() == "a,b\n1,2\n"
