"""Matches of detections and objects: they give COCO's average precision, and obey weights."""

from __future__ import annotations

import numpy as np
import pytest

from fleetfoot.tasks.detect import matching
from fleetfoot.tasks.detect.matching import confusion, judged, match
from fleetfoot.tasks.detect.metric import Meter
from tests.random_detections import CLASSES, scenes
from tests.tasks.detect.test_coco_metric import detections, metered, objects

pytest.importorskip("faster_coco_eval")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("masks", [False, True])
def test_average_precision_by_class_and_threshold_is_cocos(seed, masks):
    meter = metered(*scenes(seed, masks=masks, count=10), masks=masks)
    kind = "masks" if masks else "boxes"
    expected = meter.precision(kind)
    found = match(meter, kind)
    for number in range(CLASSES):
        by_threshold = expected.precision[:, :, number, 0, -1].mean(axis=1)
        if by_threshold[0] < 0:
            by_threshold[:] = np.nan
        # the same quotients, whose sum is taken in another order
        np.testing.assert_allclose(
            found.average_precision()[0, :, number], by_threshold, atol=1e-12
        )
    figures = found.figures()
    for name in ("ap", "ap50", "ap75"):
        assert figures[name].tolist() == pytest.approx([expected.figures()[name]], abs=1e-10)


def test_a_box_that_is_inside_out_is_not_counted():
    """COCO's code finds its area, which is negative, outside of every range."""
    meter = picture(
        detections((30, 5, 20, 9, 0.9, 0), (0, 0, 20, 20, 0.8, 0), (150, 150, 160, 160, 0.7, 0)),
        objects((0, 0, 20, 20), (50, 50, 90, 90)),
    )
    assert match(meter).counted[0].tolist() == [False, True, True]
    expected = meter.figures()["ap"]
    assert match(meter).figures()["ap"].tolist() == pytest.approx([expected])


def test_weights_count_pictures_that_often():
    """A picture of weight 2 is there twice, one of weight 0 is not there. With equal scores the
    order of a picture's detections and their copies would be another."""
    given = list(scenes(5, 8, digits=6))
    weights = np.array([2, 0, 1, 1, 3, 0, 2, 1])
    meter = Meter(CLASSES)
    for one, times in zip(given, weights.tolist(), strict=True):
        for again in range(times):
            meter.update(one.number * 10 + again, one.found, one.truth, size=one.size)
    whole = match(metered(*given))
    sets = np.stack([weights, np.ones(8, np.int64), np.zeros(8, np.int64)])
    found, repeated, once = whole.figures(sets), match(meter).figures(), whole.figures()
    for name in ("ap", "ap50", "ap75"):
        assert found[name][0] == pytest.approx(repeated[name][0], abs=1e-10)
        assert found[name][1] == once[name][0] != found[name][0]
        assert np.isnan(found[name][2])


def test_how_many_are_summed_at_a_time_does_not_matter(monkeypatch):
    whole = match(metered(*scenes(6, 8)))
    sets = np.random.default_rng(0).integers(0, 4, (9, 8))
    expected = whole.average_precision(sets)
    monkeypatch.setattr(matching, "_AT_ONCE", 30)
    np.testing.assert_array_equal(whole.average_precision(sets), expected)


def picture(found, truth) -> Meter:
    meter = Meter(3)
    meter.update(0, found, truth, size=(200, 200))
    return meter


def test_what_was_found_missed_confused_and_made_up():
    truth = objects((0, 0, 20, 20), (50, 50, 90, 90), (100, 0, 140, 40), (150, 150, 190, 190),
                    classes=[0, 1, 2, 2], crowd=[False, False, False, True])  # fmt: skip
    found = detections(
        (0, 0, 20, 20, 0.9, 0),  # right
        (51, 51, 91, 91, 0.8, 2),  # the second object, as another class
        (0, 1, 20, 21, 0.7, 0),  # the first object again
        (10, 150, 40, 180, 0.6, 1),  # nothing
        (155, 155, 165, 165, 0.5, 2),  # in the crowd
        (100, 0, 140, 40, 0.1, 2),  # right, but not shown
    )
    meter = picture(found, truth)
    verdict = judged(meter.pictures[0], 0.4)
    assert verdict.right.tolist() == [0]
    assert verdict.found.tolist() == [0]
    assert verdict.confused == ((1, 1),)
    assert sorted(verdict.wrong.tolist()) == [2, 3]
    assert verdict.in_crowd.tolist() == [4]
    assert verdict.missed.tolist() == [2]
    assert verdict.errors == 4
    assert verdict.f1 == pytest.approx(2 / (4 + 3))  # 4 detections and 3 objects are judged
    counts = confusion(meter, {0: verdict})
    expected = np.zeros((4, 4), int)
    expected[0, 0] = expected[1, 2] = expected[2, 3] = expected[3, 0] = expected[3, 1] = 1
    assert counts.tolist() == expected.tolist()
    all_shown = judged(meter.pictures[0], 0.0)
    assert sorted(all_shown.right.tolist()) == [0, 5]
    assert not len(all_shown.missed)


def test_a_picture_on_which_nothing_is_and_nothing_was_found_is_perfect():
    verdict = judged(picture(detections(), objects()).pictures[0], 0.5)
    assert (verdict.f1, verdict.errors) == (1.0, 0)


def test_the_best_score_by_hand():
    """Shown from 0.8 on: 2 right, 0 wrong, 1 missed, F1 = 4/5; from 0.7 on two that are wrong join;
    from 0.1 on 3 right, 2 wrong, F1 = 6/8."""
    truth = objects((0, 0, 20, 20), (50, 50, 90, 90), (100, 0, 140, 40), classes=[0, 1, 2])
    meter = picture(
        detections((0, 0, 20, 20, 0.9, 0), (50, 50, 90, 90, 0.8, 1), (10, 150, 40, 180, 0.7, 1),
                   (80, 150, 99, 180, 0.7, 0), (100, 0, 140, 40, 0.1, 2)),
        truth,
    )  # fmt: skip
    assert match(meter).best_score() == 0.8
    nothing = picture(detections((10, 150, 40, 180, 0.7, 1)), truth)
    assert match(nothing).best_score() == 1.0


def test_detections_of_equal_score_are_shown_together():
    """A right and a wrong one at 0.5: whichever comes first, both are shown."""
    truth = objects((0, 0, 20, 20), (50, 50, 90, 90))
    meter = picture(
        detections((0, 0, 20, 20, 0.9, 0), (50, 50, 90, 90, 0.5, 0), (150, 150, 160, 160, 0.5, 0)),
        truth,
    )
    # from 0.9 on: 2 * 1 / (1 + 2); from 0.5 on: 2 * 2 / (3 + 2)
    assert match(meter).best_score() == 0.5
    assert len(judged(meter.pictures[0], 0.5).wrong) == 1


def test_nothing_was_found_at_all():
    found = match(picture(detections(), objects((0, 0, 20, 20))))
    assert {name: value.tolist() for name, value in found.figures().items()} == {
        "ap": [0], "ap50": [0], "ap75": [0],
    }  # fmt: skip
    assert found.best_score() == 1.0
