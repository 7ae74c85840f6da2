"""McNemar's test: as counted by hand and as SciPy computes it; other pictures are refused."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from fleetfoot.errors import RecordError
from fleetfoot.evaluate.classifier import evaluate
from fleetfoot.evaluate.compare import Paired, compare
from fleetfoot.evaluate.matching import match
from fleetfoot.evaluate.subject import of_network
from tests.red_green_blue import CLASSES, FIVE, LABELS, evaluation, network, split


def paired(only_before: int, only_after: int, images: int = 1000) -> Paired:
    rest = images - only_before - only_after
    return Paired(both=rest // 2, only_before=only_before, only_after=only_after,
                  neither=rest - rest // 2)  # fmt: skip


@pytest.mark.parametrize(
    ("only_before", "only_after", "p"),
    [
        (0, 0, 1.0),
        (0, 1, 1.0),  # one toss is always as uneven as that
        (0, 5, 2 / 32),
        (0, 6, 2 / 64),
        (1, 7, 2 * (1 + 8) / 256),
        (3, 3, 1.0),
    ],
)
def test_tosses_of_a_coin_counted_by_hand(only_before, only_after, p):
    assert paired(only_before, only_after).p_value == pytest.approx(p)
    assert paired(only_after, only_before).p_value == pytest.approx(p)


def test_the_p_value_is_the_binomial_tests():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    for one, other in [*rng.integers(0, 60, (40, 2)).tolist(), (900, 1100), (4000, 3900)]:
        if one + other:
            expected = stats.binomtest(one, one + other).pvalue
            found = paired(one, other, images=20000).p_value
            assert found == pytest.approx(expected, rel=1e-9)


def test_many_discordant_pictures_follow_the_chi_squared_formula():
    """With Edwards's correction, (|b - c| - 1)² / (b + c) with one degree of freedom: the tail is
    erfc(sqrt(x / 2))."""
    one, other = 4300, 4000
    chi = (abs(one - other) - 1) ** 2 / (one + other)
    assert paired(one, other, 50000).p_value == pytest.approx(
        math.erfc(math.sqrt(chi / 2)), rel=0.01
    )


def test_the_interval_by_hand():
    """Half a picture is added to each count: b = 2.5, c = 12.5 of n = 102."""
    low, high = Paired(both=80, only_before=2, only_after=12, neither=6).ci95
    se = math.sqrt(15 - 10**2 / 102) / 102
    assert low == pytest.approx(100 * (10 / 102 - 1.959964 * se))
    assert high == pytest.approx(100 * (10 / 102 + 1.959964 * se))


def test_the_interval_covers_the_difference_of_nineteen_runs_in_twenty():
    rng = np.random.default_rng(1)
    shares = np.array([0.7, 0.08, 0.13, 0.09])  # both, only before, only after, neither
    drawn = rng.multinomial(200, shares, size=2000)
    covered = 0
    for both, one, other, neither in drawn.tolist():
        low, high = Paired(both=both, only_before=one, only_after=other, neither=neither).ci95
        covered += low <= 5 <= high
    assert 0.935 < covered / 2000 < 0.97  # a standard error of 0.005 around 0.95


def test_the_verdict_obeys_test_and_interval():
    assert paired(2, 12).verdict == "better"
    assert paired(12, 2).verdict == "worse"
    for one, other in ((0, 0), (0, 5), (5, 5), (40, 55)):
        assert paired(one, other).verdict == "noise"
    for one in range(30):
        for other in range(30):
            found = paired(one, other)
            low, high = found.ci95
            assert (found.verdict != "noise") == (found.p_value < 0.05 and not low <= 0 <= high)


def worse_evaluation():
    """Green is taken for blue."""
    workload = network()
    with torch.no_grad():
        workload.module[2].weight[1:] = workload.module[2].weight[[2, 1]]
    with of_network(workload, batch=2) as subject:
        (made,) = evaluate(subject, "colours", FIVE, match("colours", CLASSES, "net", LABELS))
    return made


def test_two_evaluations_are_compared_picture_by_picture():
    before, after = evaluation(), worse_evaluation()
    found = compare(before, after)
    assert found.paired == Paired(both=1, only_before=3, only_after=0, neither=1)
    assert found.discordant == (("1.png", False), ("2.png", False), ("4.png", False))
    assert found.paired.difference == -60
    assert found.paired.verdict == "noise"  # three pictures show nothing
    assert [name for name, _, _ in found.differences] == ["weights"]
    raw = found.as_json()
    assert (raw["verdict"], raw["only_before"], raw["p_value"]) == ("noise", 3, 0.25)


def test_pictures_that_one_could_not_read_are_left_out():
    before, after = evaluation(), evaluation()
    answers = replace(after.answers, errors={0: "cannot be read"})
    found = compare(before, after._replace(answers=answers))
    assert (found.paired.images, found.left_out) == (4, 1)


def test_other_pictures_are_refused():
    with pytest.raises(RecordError, match="different pictures") as error:
        compare(evaluation(), evaluation(split(("red", 0))))
    assert "before: colours, test, 5 pictures, fingerprint " in str(error.value)
    assert "after: colours, test, 1 pictures, fingerprint " in str(error.value)
