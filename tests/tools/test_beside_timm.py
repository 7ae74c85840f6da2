"""The statistics of the page beside timm."""

from __future__ import annotations

import math

import pytest

from tools.beside_timm import DEFAULTS, difference, with_defaults


def test_the_interval_of_two_means_is_students():
    # by hand: variances 0.07 / 3 each, so a spread of 0.1247; t of 4 degrees of freedom is 2.7764
    gap, half = difference([92.1, 92.3, 92.0], [91.9, 92.2, 92.1])
    assert gap == pytest.approx(0.2 / 3)
    assert half == pytest.approx(2.7764 * math.sqrt(2 * (0.07 / 3) / 3), rel=1e-4)


def test_one_run_of_each_has_no_interval():
    assert difference([92.0], [91.0]) == (1.0, math.inf)


def test_both_get_timms_defaults_that_are_not_ours_unless_they_are_stated():
    made = with_defaults(["--smoothing", "0", "--opt", "sgd"])
    assert made[-4:] == ("--smoothing", "0", "--opt", "sgd")
    assert dict(zip(made[:-4:2], made[1:-4:2], strict=True)) == {
        flag: value for flag, value in DEFAULTS.items() if flag != "--smoothing"
    }
