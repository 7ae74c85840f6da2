"""Multi-headed attention: self-attention over the pixels of a feature map, and cross-attention from
one set of vectors to another.

Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.2. FastViT uses self-attention in
the last stage of its SA and MA variants (https://arxiv.org/abs/2303.14189, section 3.3),
Mobile-Former cross-attention (https://arxiv.org/abs/2108.05895, section 3).

B batch · C channels · H W space · N, M tokens, H·W of a map · A heads · D = C / A channels a head
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """softmax(Q Kᵀ / √D) V of every head, then a linear layer. (B, C, H, W) -> (B, C, H, W)

    The projections to Q, K and V have no bias, and there is no positional bias.

    Raises:
        ValueError: ``head_channels`` does not divide ``channels``.
    """

    def __init__(self, channels: int, *, head_channels: int = 32) -> None:
        super().__init__()
        if channels % head_channels:
            raise ValueError(
                f"Attention: channels ({channels}) must be divisible by "
                f"head_channels ({head_channels})"
            )
        self.head_channels = head_channels
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.project = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        qkv = self.qkv(x.flatten(2).transpose(1, 2))  # (B, N, 3C)
        qkv = qkv.reshape(b, h * w, 3, c // self.head_channels, self.head_channels)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, A, N, D)
        mixed = F.scaled_dot_product_attention(q, k, v)
        mixed = self.project(mixed.transpose(1, 2).reshape(b, h * w, c))  # (B, N, C)
        return mixed.transpose(1, 2).reshape(b, c, h, w)


class CrossAttention(nn.Module):
    """softmax(Q Kᵀ / √D) V of every head, without weights: the caller projects Q, K and V.

    (B, N, C), (B, M, C), (B, M, C) -> (B, N, C)
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    def extra_repr(self) -> str:
        return f"heads={self.heads}"
