"""Stochastic depth: drop a residual branch for whole samples while training.

Huang et al. 2016, "Deep Networks with Stochastic Depth", https://arxiv.org/abs/1603.09382.
"""

from __future__ import annotations

from torch import nn
from torchvision.ops import StochasticDepth


def drop_path(rate: float) -> nn.Module:
    """Drops the branch for a sample with probability ``rate`` and scales the kept ones by 1 / (1 -
    rate).

    Any shape in, the same out; the identity in eval mode and at rate 0.

    Raises:
        ValueError: ``rate`` is outside [0, 1).
    """
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"drop path rate must be in [0, 1), not {rate}")
    return StochasticDepth(rate, mode="row") if rate else nn.Identity()


def drop_path_rates(rate: float, blocks: int) -> list[float]:
    """The rate of each block: linear from 0 at the first to ``rate`` at the last."""
    return [rate * i / max(blocks - 1, 1) for i in range(blocks)]
