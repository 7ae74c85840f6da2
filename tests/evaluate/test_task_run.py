"""Evaluating networks of tasks: right figures on every path, and clear ends."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from fleetfoot import engines
from fleetfoot.data.scenes import SceneSet
from fleetfoot.errors import EngineError, ImageError, RecordError
from fleetfoot.evaluate import task_record
from fleetfoot.evaluate.record import PICTURES, RECORD, is_evaluation
from fleetfoot.evaluate.task_record import ANSWERS, TaskEvaluation, read, save, task_of
from fleetfoot.evaluate.task_run import answers, evaluate
from fleetfoot.evaluate.task_subject import classes_of, of_task
from fleetfoot.network import Workload
from tests import spots
from tests.red_green_blue import network as classifier
from tests.spots import BLUE, FIVE, GREEN, RED

pytest.importorskip("faster_coco_eval")


def evaluated(given=None, **options) -> list[TaskEvaluation]:
    """The evaluations of the spot detector, or of another network, by engine. Those without any
    option are made once: nobody changes them."""
    return _evaluated(given, **options) if given is not None or options else list(_usual())


@cache
def _usual() -> tuple[TaskEvaluation, ...]:
    return tuple(_evaluated(None))


def _evaluated(
    given: SceneSet | None,
    *,
    masks: bool = False,
    batch: int = 2,
    names: tuple[str, ...] = ("eager",),
    form: str = "folded",
    workload: Workload | None = None,
    **options: object,
) -> list[TaskEvaluation]:
    held = given or spots.scenes(*FIVE, masks=masks)
    workload = workload or spots.detector(masks=masks)
    with of_task(workload, batch=batch, names=names, form=form) as subject:
        classes = classes_of(subject.network, held.name, held.classes, subject.name)
        return evaluate(subject, held, held.test, classes, **options)


def test_five_pictures_by_hand():
    """Red: three objects, of which two are found; green: one of one, after a wrong one of higher
    score, which touches the edge and is less blurred; blue: two of two."""
    ((record, answers),) = evaluated()
    figures = record.figures
    # two thirds of recall are 67 of the levels 0, 0.01, ... 1
    assert figures["ap"] == pytest.approx(100 * (67 / 101 + 1 / 2 + 1) / 3)
    assert figures["ap50"] == pytest.approx(figures["ap"])
    assert [row["objects"] for row in record.per_class] == [3, 1, 2]
    assert record.images == 5
    rows = answers.judge.rows()
    assert rows[0] == {"objects": 2, "shown": 2, "right": 2, "missed": 0, "wrong": 0,
                       "other_class": 0, "f1": 100}  # fmt: skip
    assert (rows[2]["missed"], rows[3]["wrong"]) == (1, 1)
    assert rows[4]["f1"] == 100  # nothing is there, and nothing was found
    assert answers.judge.worst(9) == [2, 3]
    assert record.score == pytest.approx(torch.tensor(4.0).sigmoid().item(), abs=0.02)
    assert (record.task, record.engine, record.form, record.matched) == (
        "detect", "eager", "folded", "by name",
    )  # fmt: skip
    assert set(record.times) == {"fixed", "decode"}


def test_masks_are_judged_if_both_sides_have_them():
    ((record, _),) = evaluated(masks=True)
    assert record.figures["mask_ap"] == pytest.approx(record.figures["ap"])
    assert "mask_ap" in record.intervals
    ((record, _),) = evaluated(spots.scenes(*FIVE), workload=spots.detector(masks=True))
    assert "mask_ap" not in record.figures


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_the_batch_does_not_matter(batch):
    (expected,) = evaluated()
    (found,) = evaluated(batch=batch)
    assert found.record.figures == expected.record.figures
    assert found.answers.judge.meter.as_json() == expected.answers.judge.meter.as_json()


def test_the_interval_holds_the_figure_and_draws_repeat():
    ((record, _),) = evaluated()
    low, high = record.intervals["ap"]
    assert low < record.figures["ap"] < high
    assert evaluated(batch=5)[0].record.intervals == record.intervals


def test_a_picture_that_cannot_be_used_is_left_out_or_stops():
    given = spots.scenes(FIVE[0], b"broken", FIVE[1])
    ((record, answers),) = evaluated(given, on_bad="skip")
    assert (record.images, record.unreadable) == (2, 1)
    assert list(answers.errors) == [1]
    assert answers.judge.numbers == [0, 2]
    with pytest.raises(ImageError, match=r"1\.png"):
        evaluated(given)
    with pytest.raises(ValueError, match="none of the 1 pictures can be used"):
        evaluated(spots.scenes(b"broken"), on_bad="skip")


def test_boxes_drawn_on_another_picture_are_refused():
    given = spots.scenes(*FIVE[:2])

    class Odd(spots.Boxes):
        def __getitem__(self, index):
            found = super().__getitem__(index)
            return found if index else replace(found, size=(7, 9))

    part = replace(given.test, targets=Odd([one[1] for one in FIVE[:2]], masks=False))
    odd = replace(given, test=part)
    with pytest.raises(ImageError, match="boxes were drawn on 9 × 7"):
        evaluated(odd)
    ((record, answers),) = evaluated(odd, on_bad="skip")
    assert (record.images, list(answers.errors)) == (1, [0])


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["native", "onnxruntime", "openvino"])
def test_engines_see_the_same_pictures_and_agree(engine):
    if (reason := engines.available()[engine]) is not None:
        pytest.skip(reason)
    eager, other = evaluated(names=("eager", engine))
    assert other.record.engine == engine
    assert other.record.figures == pytest.approx(eager.record.figures)
    assert other.record.error < 1e-4


def test_classes_are_matched_by_name():
    """The data has the classes in another order, and blue squares that nobody asks for."""
    swapped = {0: 1, 1: 0}
    given = [
        (shown, [(row, column, swapped[n]) for row, column, n in said if n in swapped])
        for shown, said in FIVE
    ]
    ((record, answers),) = evaluated(spots.scenes(*given, classes=("green", "red")))
    ((whole, _),) = evaluated()
    assert record.classes == ("green", "red")
    assert [row["ap"] for row in record.per_class] == pytest.approx(
        [whole.per_class[n]["ap"] for n in (1, 0)]
    )
    assert len(answers.judge.meter.pictures[1].scores) == 0  # its blue square is of no class


def test_classes_that_do_not_match_are_refused():
    network = spots.SpotDetector()
    with pytest.raises(ValueError, match="no class, or more than one, is named 'cyan'"):
        classes_of(network, "data", ("red", "cyan"), "net")
    network.pretrained_cfg = spots.config(labels=())
    made = classes_of(network, "data", ("a", "b", "c"), "net")
    assert made.numbers is None
    assert "nothing names the outputs" in made.how
    with pytest.raises(ValueError, match="their numbers differ"):
        classes_of(network, "data", ("a", "b"), "net")


def test_a_file_may_not_map_two_classes_to_one(tmp_path):
    (tmp_path / "map.csv").write_text("a,red\nb,red\n")
    with pytest.raises(ValueError, match="'a' and 'b' of data are both 'red' of net"):
        classes_of(spots.SpotDetector(), "data", ("a", "b"), "net", file=tmp_path / "map.csv")


def test_what_is_no_network_of_a_task_is_refused():
    with pytest.raises(EngineError, match="no network for detect, segment or hand"):
        of_task(classifier())
    given = replace(spots.scenes(*FIVE), task="segment")
    with pytest.raises(ValueError, match="spots is for detect, and spots for segment"):
        evaluated(given)


def test_answers_for_some_pictures_are_those_of_the_evaluation():
    given = spots.scenes(*FIVE)
    with of_task(spots.detector(), batch=2) as subject:
        classes = classes_of(subject.network, given.name, given.classes, subject.name)
        ((_, made),) = evaluate(subject, given, given.test, classes)
        found = answers(subject, given.test, made.judge, [3, 0, 2])
    assert list(found) == [3, 0, 2]
    for number, one in found.items():
        assert np.array_equal(one.scores.numpy(), made.judge.meter.pictures[number].scores)


def test_a_record_returns_from_its_folder(tmp_path):
    (made,) = evaluated(spots.scenes(FIVE[0], b"broken", *FIVE[1:]), on_bad="skip")
    save(made, tmp_path)
    assert is_evaluation(tmp_path)
    assert task_of(tmp_path) == task_of(tmp_path / RECORD) == "detect"
    found = read(tmp_path)
    assert found.record == made.record
    assert found.answers.judge.meter.as_json() == made.answers.judge.meter.as_json()
    assert found.answers.errors == made.answers.errors
    assert found.answers.names == made.answers.names
    first, second, *_ = (tmp_path / PICTURES).read_text().splitlines()[1:]
    assert first == "0.png,2,2,2,0,0,0,100,"
    assert second.startswith('1.png,,,,,,,,"not a picture')


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (RECORD, '"ap50": ', '"ap50": 1', r"ap50 is .* in evaluation\.json, and"),
        (RECORD, '"schema": 1', '"schema": 2', "schema 2"),
        (RECORD, '"task": "detect"', '"task": "guess"', "task must be"),
        (ANSWERS, '"number": 0', '"number": 70', "judges others"),
        (ANSWERS, '"number": 0', '"number": 1', "one number twice"),
        (ANSWERS, '"meter": {', '"meter": [', "is damaged"),
    ],
)
def test_a_record_that_contradicts_itself_is_refused(file, old, new, message, tmp_path):
    (made,) = evaluated()
    save(made, tmp_path)
    text = (tmp_path / file).read_text()
    assert old in text
    (tmp_path / file).write_text(text.replace(old, new, 1))
    with pytest.raises(RecordError, match=message):
        read(tmp_path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RecordError, match=r"evaluation\.json cannot be read"):
        read(tmp_path)
    with pytest.raises(RecordError, match=r"evaluation\.json cannot be read"):
        task_of(tmp_path)
    (made,) = evaluated()
    save(made, tmp_path)
    (tmp_path / ANSWERS).unlink()
    with pytest.raises(RecordError, match=r"answers\.json cannot be read"):
        read(tmp_path)
    (tmp_path / RECORD).write_text(json.dumps({"model": "m"}))
    assert task_record.task_of(tmp_path) == "classify"


def test_both_forms_are_judged():
    for form in ("folded", "training"):
        ((record, _),) = evaluated(form=form)
        assert record.form == form
        assert record.params == 12


RIGHT = ((RED, GREEN, BLUE), (RED, GREEN, BLUE))


def test_a_perfect_network_has_nothing_worst():
    ((record, made),) = evaluated(spots.scenes(RIGHT, RIGHT))
    assert record.figures["ap"] == pytest.approx(100)
    assert record.intervals["ap"] == pytest.approx((100, 100))
    assert made.judge.worst(5) == []
