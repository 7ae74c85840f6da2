"""Agreement of predictions with measurements, by hand."""

from __future__ import annotations

import math

import pytest

from fleetfoot.choose.prediction_error import Agreement, ranks, spearman


def test_equal_values_share_the_mean_of_their_ranks():
    assert ranks([30.0, 10.0, 20.0, 20.0]).tolist() == [4.0, 1.0, 2.5, 2.5]


def test_rank_correlation_by_hand():
    assert spearman([1, 2, 3, 4], [10, 20, 30, 400]) == pytest.approx(1.0)
    assert spearman([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1.0)
    # ranks 1 2 3 4 and 1 3 2 4: 1 - 6 (0 + 1 + 1 + 0) / (4 (16 - 1)) = 0.8
    assert spearman([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(0.8)


def test_rank_correlation_with_ties_by_hand():
    # ranks 1 2.5 2.5 4 and 1 2 3 4: covariance 4.5, variances 4.5 and 5
    assert spearman([1, 2, 2, 3], [1, 2, 3, 4]) == pytest.approx(4.5 / math.sqrt(4.5 * 5))


def test_a_side_without_an_order_has_no_correlation():
    assert spearman([1, 1, 1], [1, 2, 3]) == 0.0


def test_errors_by_hand():
    found = Agreement.of([1.1, 1.8, 4.0], [1.0, 2.0, 4.0])  # off by 10 %, 10 %, 0 %

    assert found.networks == 3
    assert found.median_error == pytest.approx(0.1)
    assert found.p90_error == pytest.approx(0.1)
    assert found.spearman == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("predicted", "measured"), [([1.0], [1.0]), ([1.0, 2.0], [1.0]), ([1.0, 2.0], [1.0, 0.0])]
)
def test_what_cannot_be_compared_is_refused(predicted, measured):
    with pytest.raises(ValueError, match=f"{len(predicted)} predictions and {len(measured)} times"):
        Agreement.of(predicted, measured)
