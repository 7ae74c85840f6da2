"""Dynamic ReLU: two slopes for each channel, computed from a vector that accompanies the map.

Chen et al. 2020, "Dynamic ReLU", https://arxiv.org/abs/2003.10027, section 3. Here the slopes come
from a token instead of the pooled map, as in Mobile-Former (https://arxiv.org/abs/2108.05895,
section 3.2).

B batch · C channels · D token channels · H W space
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TokenReLU(nn.Module):
    """max(a x, b x) in each channel; the slopes a in [0, 2] and b in [-1, 1] come from a token.

    (B, C, H, W) and (B, D) -> (B, C, H, W)

    (a, b + 1) = 2 hard_sigmoid(expand(relu(reduce(token)))). In a fresh layer a = 1 and b = 0, the
    plain ReLU. Between the two linear layers are D / 4 channels.
    """

    def __init__(self, channels: int, token_width: int) -> None:
        super().__init__()
        self.reduce = nn.Linear(token_width, token_width // 4)
        self.act = nn.ReLU()
        self.expand = nn.Linear(token_width // 4, 2 * channels)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: Tensor, token: Tensor) -> Tensor:
        slopes = 2 * self.gate(self.expand(self.act(self.reduce(token))))
        a, b = slopes[:, :, None, None].chunk(2, dim=1)
        return torch.maximum(x * a, x * (b - 1))
