"""Dynamic Shift-Max: the larger of two mixtures of a map with a copy of it whose channels are
shifted in a circle; the weights of the mixtures are computed from the whole map.

Li et al. 2021, "MicroNet: Improving Image Recognition with Extremely Low FLOPs",
https://arxiv.org/abs/2108.05894, section 4.

    y_c = max over k of  a_k,c x_c + b_k,c x_s(c)

The C channels are G groups of C / G. The paper's shift goes to the same place of the next group.
The released code, whose weights need it, goes to the next place of the next group, both
wrapping around.

B batch · C channels · R reduced channels · G groups · K mixtures · H W space
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class DynamicShiftMax(nn.Module):
    """Activation with one or two mixtures; with one, it takes no maximum.

    (B, C, H, W) -> (B, C, H, W)

    The weights of the mixtures start at ``own`` and ``shifted`` (one value each for every mixture)
    and move by up to 2 from them: 4 hard_sigmoid(expand(relu(reduce(mean(x))))) - 2.

    Raises:
        ValueError: ``groups`` does not divide ``channels``, or ``own`` and ``shifted`` do not have
        one or two values each.
    """

    def __init__(
        self,
        channels: int,
        reduced: int,
        *,
        groups: int,
        own: Sequence[float],
        shifted: Sequence[float],
    ) -> None:
        super().__init__()
        if groups < 1 or channels % groups:
            raise ValueError(
                f"DynamicShiftMax: groups ({groups}) must divide channels ({channels})"
            )
        if len(own) != len(shifted) or len(own) not in (1, 2):
            raise ValueError(
                "DynamicShiftMax: own and shifted must have one share each for 1 or 2 mixtures; "
                f"they have {len(own)} and {len(shifted)}"
            )
        self.groups = groups
        self.start = [share for pair in zip(own, shifted, strict=True) for share in pair]
        self.squeeze = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(channels, reduced, 1)
        self.act = nn.ReLU()
        self.expand = nn.Conv2d(reduced, 2 * len(own) * channels, 1)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        moves = 4 * self.gate(self.expand(self.act(self.reduce(self.squeeze(x))))) - 2
        moves = moves.chunk(len(self.start), dim=1)
        shares = [moves[i] + start for i, start in enumerate(self.start)]
        shifted = circular_shift(x, self.groups)
        mixed = x * shares[0] + shifted * shares[1]
        if len(shares) == 2:
            return mixed
        return torch.maximum(mixed, x * shares[2] + shifted * shares[3])

    def extra_repr(self) -> str:
        return f"groups={self.groups}"


def circular_shift(x: Tensor, groups: int) -> Tensor:
    """A circular shift of channels: place i of group g takes the channel at place i + 1 of group
    g + 1; both wrap around. (B, C, H, W) -> (B, C, H, W)"""
    return x.unflatten(1, (groups, -1)).roll((-1, -1), (1, 2)).flatten(1, 2)
