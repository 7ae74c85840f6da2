"""Evaluating networks that give a class to each pixel: figures, records, comparison, page."""

from __future__ import annotations

import numpy as np
import pytest

from fleetfoot.evaluate.task_compare import compare
from fleetfoot.evaluate.task_record import TaskEvaluation, read, save
from fleetfoot.evaluate.task_run import answers, evaluate
from fleetfoot.evaluate.task_subject import classes_of, of_task
from fleetfoot.report.task_page import html
from tests import spots
from tests.pages import Tags, assert_loads_nothing
from tests.spots import FIVE

SPOT = spots.HEIGHT * spots.WIDTH // 16
"""Pixels of a square."""
ROW = spots.WIDTH
"""Pixels of the row without a class, of which a quarter is blue in two pictures."""


def evaluated(*, blind: bool = False) -> TaskEvaluation:
    given = spots.maps(*FIVE)
    with of_task(spots.segmenter(blind=blind), batch=2) as subject:
        classes = classes_of(subject.network, given.name, given.classes, subject.name)
        (made,) = evaluate(subject, given, given.test, classes)
    return made


def test_five_pictures_by_hand():
    """Squares lie on whole pixels of the input, so only what is said wrongly differs: one red
    square too many, one green square too few."""
    record, made = evaluated()
    matrix = made.judge.meter.matrix
    total = 5 * (spots.HEIGHT * spots.WIDTH - ROW)
    blue = 2 * (SPOT - ROW // 4)
    assert matrix.sum() == total
    expected = np.diag([total - 5 * SPOT - blue, 2 * SPOT, SPOT, blue])
    expected[1, 0] = SPOT  # a red square that is not there
    expected[0, 2] = SPOT  # a green one that nobody knows
    assert matrix.tolist() == expected.tolist()
    iou = [expected[0, 0] / (expected[0, 0] + 2 * SPOT), 2 / 3, 1 / 2, 1]
    assert record.figures["miou"] == pytest.approx(100 * np.mean(iou))
    assert record.figures["accuracy"] == pytest.approx(100 * (1 - 2 * SPOT / total))
    assert [row["iou"] for row in record.per_class] == pytest.approx([100 * one for one in iou])
    low, high = record.intervals["miou"]
    assert low < record.figures["miou"] < high
    assert made.judge.worst(9) == [2, 3]
    assert record.score is None


def test_a_record_returns_from_its_folder(tmp_path):
    made = evaluated()
    save(made, tmp_path)
    found = read(tmp_path)
    assert found.record == made.record
    assert np.array_equal(found.answers.judge.meter.matrix, made.answers.judge.meter.matrix)


def test_a_network_that_is_blind_for_green_is_compared():
    found = compare(evaluated(), evaluated(blind=True))
    assert [metric.name for metric in found.metrics] == ["miou", "accuracy", "mean_accuracy"]
    assert found.found["miou"].value < 0
    assert compare(evaluated(), evaluated()).verdict == "noise"


def test_the_classes_may_stand_in_another_order():
    given = spots.maps(*FIVE)
    with of_task(spots.segmenter(), batch=2) as subject:
        names = ("green", "black", "red", "blue")
        classes = classes_of(subject.network, given.name, names, subject.name)
        (made,) = evaluate(subject, given, given.test, classes)
    # black pixels of the network are class 1 of the data, which here means red
    assert made.answers.judge.meter.matrix[0].argmax() == 1
    with of_task(spots.segmenter()) as subject:
        with pytest.raises(ValueError, match="may give a pixel the class 'green', which data"):
            classes_of(subject.network, "data", ("black", "red", "blue"), "net")


def test_the_page_shows_the_maps_of_the_worst_pictures():
    given = spots.maps(*FIVE)
    with of_task(spots.segmenter(), batch=2) as subject:
        classes = classes_of(subject.network, given.name, given.classes, subject.name)
        (made,) = evaluate(subject, given, given.test, classes)
        judge = made.answers.judge
        text = html([made], given.test, lambda n: answers(subject, given.test, judge, n))
    assert_loads_nothing(text)
    assert Tags(text).open == []
    assert text.count("<img") == 2 * 4  # picture, truth, answer, difference
    assert "red taken for black" in text
    assert "where they differ" in text
    assert "The pictures are not at hand." in html([made])
