"""Measured and published scores are told apart, and intervals hold what they should."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from fleetfoot.errors import RecordError
from fleetfoot.evaluate.published_scores import published_score, published_scores
from fleetfoot.evaluate.score import (
    Provenance,
    Score,
    fingerprint,
    measured_top1,
    published,
    share_interval,
)
from fleetfoot.tasks.classify import Accuracy, Guess
from fleetfoot.weights.top1 import published_top1 as printed


def accuracy(right: int, wrong: int) -> Accuracy:
    made = Accuracy()
    for index in [0] * right + [1] * wrong:
        made.update([Guess(index, "x", 1.0)], 0)
    return made


def measured(right: int = 3, wrong: int = 1) -> Score:
    return measured_top1(
        "a", 224, accuracy(right, wrong),
        data="four pictures", fingerprint="0", engine="eager", form="folded",
    )  # fmt: skip


def test_a_published_score_has_a_source_and_a_measured_one_says_how():
    one, other = published("a", 224, 71.9, "a paper"), measured()
    assert (one.published, one.source, one.evaluation) == (True, "a paper", None)
    assert (other.published, other.source, other.value) == (False, "", 75.0)
    assert other.evaluation.examples == 4
    assert other.evaluation.ci95[0] < 75 < other.evaluation.ci95[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"value": 100.1}, "in percent, 0 to 100"),
        ({"value": math.nan}, "in percent, 0 to 100"),
        ({"source": "a paper"}, "it is measured, so it has no source"),
        ({"value": 1.0}, "lies outside its interval"),
        ({"schema": 2}, "schema 2"),
    ],
)
def test_a_score_that_cannot_be_is_refused(changes, message):
    with pytest.raises(RecordError, match=message):
        replace(measured(), **changes)


def test_an_evaluation_of_nothing_is_refused():
    made = Provenance(form="folded", engine="eager", examples=0, fingerprint="", ci95=(0.0, 100.0))
    with pytest.raises(RecordError, match="examples must be 1 or more"):
        replace(measured(), evaluation=made)
    with pytest.raises(ValueError, match="no picture was counted"):
        measured(0, 0)


def test_the_interval_is_wilsons():
    # Brown, Cai and DasGupta 2001, equation (4), by hand for 1 of 10 at z = 1.959964
    low, high = share_interval(10.0, 10)
    assert low == pytest.approx(1.7876, abs=1e-3)
    assert high == pytest.approx(40.4150, abs=1e-3)
    for percent, end in ((0.0, 0), (100.0, 1)):
        interval = share_interval(percent, 50)
        assert interval[end] == percent
        assert 0 <= interval[0] < interval[1] <= 100
        assert 0 < interval[1] - interval[0] < 10


def test_more_examples_narrow_the_interval():
    widths = [high - low for low, high in (share_interval(70.0, n) for n in (10, 100, 1000))]
    assert widths[0] > 2.5 * widths[1] > 6 * widths[2]


def test_the_fingerprint_changes_with_names_truth_and_order():
    pairs = [("a", "bc"), ("d", "e")]
    others = ([("ab", "c"), ("d", "e")], [("a", "bc"), ("d", "f")], pairs[::-1], pairs[:1])
    assert len({fingerprint(one) for one in (pairs, *others)}) == 5
    assert fingerprint(pairs) == fingerprint(iter(pairs))
    fingerprint([("\udcff.jpg", "")])  # a path need not be text


def test_published_figures_come_with_their_source_and_unknown_networks_with_none():
    score = published_score("fastvit_t8", 256)
    assert (score.value, score.source) == printed("fastvit_t8")
    assert published_score("fastvit_t8", 224).source.endswith(", at 256 pixels")
    for name in ("mine.py:net", "weights.safetensors", "no_such_network"):
        assert published_score(name, 224) is None
    twice = [("fastvit_t8", 256), ("mine.py:net", 224), ("fastvit_t8", 256)]
    assert published_scores(twice) == [score]
