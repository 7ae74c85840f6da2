"""Stochastic depth: what it keeps, what it drops, and that the mean stays."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fleetfoot.ops.drop_path import DropPath, drop_path, drop_path_rates


def test_whole_samples_are_dropped_and_kept_ones_scaled():
    x = torch.rand(4000, 2, 3) + 1.0
    y = DropPath(0.25).train()(x)

    dropped = (y == 0).flatten(1).all(1)
    torch.testing.assert_close(y[~dropped], x[~dropped] / 0.75)
    # binomial: 4000 samples at 0.25 have a standard deviation of 27
    assert abs(int(dropped.sum()) - 1000) < 5 * 27


def test_eval_mode_and_rate_zero_are_the_identity():
    x = torch.randn(3, 2)

    assert DropPath(0.9).eval()(x) is x
    assert isinstance(drop_path(0.0), nn.Identity)


def test_rates_rise_linearly_from_zero():
    assert drop_path_rates(0.3, 4) == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert drop_path_rates(0.3, 1) == [0.0]


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_a_rate_outside_its_range_is_named(rate):
    with pytest.raises(ValueError, match=r"in \[0, 1\), not"):
        drop_path(rate)
