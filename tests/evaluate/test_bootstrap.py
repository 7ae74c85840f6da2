"""The bootstrap: its draws, its intervals beside a formula, and differences on equal draws."""

from __future__ import annotations

import numpy as np
import pytest

from fleetfoot.evaluate import bootstrap
from fleetfoot.evaluate.bootstrap import DRAWS, differences, drawn, intervals


def mean_of(values: np.ndarray):
    def figures(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {"mean": weights @ values / weights.sum(axis=1)}

    return figures


def test_each_draw_has_as_many_pictures_and_repeats():
    draws = np.concatenate(list(drawn(7)))
    assert draws.shape == (DRAWS, 7)
    assert (draws.sum(axis=1) == 7).all()
    assert np.array_equal(draws, np.concatenate(list(drawn(7))))
    mean = np.mean(draws, axis=0)
    np.testing.assert_allclose(mean, 1, atol=5 * np.sqrt(6 / 7 / DRAWS))  # five standard errors


def test_how_many_sets_are_held_at_a_time_does_not_matter(monkeypatch):
    whole = np.concatenate(list(drawn(9)))
    monkeypatch.setattr(bootstrap, "AT_ONCE", 100)
    parts = list(drawn(9))
    assert max(map(len, parts)) == 11
    assert np.array_equal(np.concatenate(parts), whole)


def test_the_interval_of_a_mean_is_the_usual_one():
    values = np.random.default_rng(1).normal(10, 2, 400)
    low, high = intervals(mean_of(values), 400)["mean"]
    half = 1.96 * values.std() / 20
    # an end lies within about 3 of its standard errors, which is a tenth of the half width
    assert low == pytest.approx(values.mean() - half, abs=0.3 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.3 * half)


def test_a_figure_that_some_draw_lacks_has_no_interval():
    def figures(weights: np.ndarray) -> dict[str, np.ndarray]:
        rare = np.where(weights[:, 0] > 0, 1.0, np.nan)
        return {"sure": np.ones(len(weights)), "rare": rare}

    assert set(intervals(figures, 3)) == {"sure"}
    assert intervals(figures, 1) == {}
    assert intervals(figures, 0) == {}


def test_the_draws_are_moved_to_the_figure_itself():
    """The share of different pictures in a set is 1, and about 1 - 1/e in every draw."""

    def figures(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {"different": (weights > 0).mean(axis=1)}

    low, high = intervals(figures, 50)["different"]
    assert low < 1 < high < 1.2
    assert intervals(figures, 50, {"different": 1.0})["different"] == (low, 1.0)


def test_what_is_hard_for_both_is_no_noise_between_them():
    """Two networks that differ by the same on every picture differ for certain, however much the
    pictures do."""
    values = np.random.default_rng(2).normal(50, 20, 100)
    found = differences(mean_of(values), mean_of(values + 1), 100)["mean"]
    assert found.value == pytest.approx(1)
    assert found.ci95 == pytest.approx((1, 1))
    assert found.is_beyond_noise
    low, high = intervals(mean_of(values), 100)["mean"]
    assert high - low > 4


def test_equal_networks_do_not_differ_and_one_picture_shows_nothing():
    values = np.random.default_rng(3).normal(50, 20, 60)
    other = np.random.default_rng(4).permutation(values)
    assert not differences(mean_of(values), mean_of(values), 60)["mean"].is_beyond_noise
    assert not differences(mean_of(values), mean_of(other), 60)["mean"].is_beyond_noise
    single = differences(mean_of(values[:1]), mean_of(values[:1] + 9), 1)["mean"]
    assert (single.value, single.ci95, single.is_beyond_noise) == (9, None, False)
