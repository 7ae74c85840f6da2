"""Stochastic depth: drop a residual branch for whole samples while training.

Huang et al. 2016, "Deep Networks with Stochastic Depth", https://arxiv.org/abs/1603.09382.
"""

from __future__ import annotations

from torch import Tensor, nn


class DropPath(nn.Module):
    """Stochastic depth on a branch. In training it gives zero for a sample with probability
    ``rate``, else the branch over 1 - rate; in eval mode the branch unchanged. (B, ...) -> (B, ...)

    torchvision has this module too, but importing torchvision takes longer than importing torch.

    Raises:
        ValueError: ``rate`` is outside [0, 1).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"drop path rate must be in [0, 1), not {rate}")
        self.rate = rate

    def extra_repr(self) -> str:
        return f"rate={self.rate}"

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        kept = x.new_empty(x.shape[:1] + (1,) * (x.ndim - 1)).bernoulli_(1.0 - self.rate)
        return x * kept / (1.0 - self.rate)


def drop_path(rate: float) -> nn.Module:
    """``DropPath``, or the identity at rate 0.

    Raises:
        ValueError: ``rate`` is outside [0, 1).
    """
    return DropPath(rate) if rate else nn.Identity()


def drop_path_rates(rate: float, blocks: int) -> list[float]:
    """Drop rate of each block: linear from 0 at the first to ``rate`` at the last."""
    return [rate * i / max(blocks - 1, 1) for i in range(blocks)]
