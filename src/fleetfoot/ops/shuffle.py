"""Channel shuffle: mixes channels between the groups of a grouped convolution, at no multiply-add.

Zhang et al. 2018, "ShuffleNet", https://arxiv.org/abs/1707.01083, section 3.1 (the shuffle); Ma et
al. 2018, "ShuffleNet V2", https://arxiv.org/abs/1807.11164, section 3.2 (the split).

If the channels are written as a matrix of G rows and C / G columns, a shuffle reads it by columns
instead of rows. A shuffle with C / G groups undoes this, so the un-shuffle is a shuffle too. The
authors' released code un-shuffles where the papers shuffle. Either mixes the groups, but weights
fit only one of them: ShuffleNetV2 of torchvision shuffles into two groups and halves the channels
in the next unit; the authors' code separates even from odd channels.

    channel_split(x)                     = halves of channel_unshuffle(x, 2)
    channel_split(channel_shuffle(x, 2)) = halves of x

B batch · C channels · G groups · H W space
"""

from __future__ import annotations

from torch import Tensor, nn


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """A channel shuffle: channel g·(C / G) + i moves to place i·G + g. (B, C, H, W) -> (B, C, H, W)

    Raises:
        RuntimeError: ``groups`` does not divide C (from torch; ``ChannelShuffle`` says it when it
        is built).
    """
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


def channel_unshuffle(x: Tensor, groups: int) -> Tensor:
    """Undoes ``channel_shuffle(x, groups)``. (B, C, H, W) -> (B, C, H, W)

    Raises:
        RuntimeError: ``groups`` does not divide C.
    """
    return x.unflatten(1, (-1, groups)).transpose(1, 2).flatten(1, 2)


def channel_split(x: Tensor) -> tuple[Tensor, Tensor]:
    """Splits channels into 0, 2, 4, ... and 1, 3, 5, ... . (B, C, H, W) -> two of (B, C / 2, H,
    W)"""
    return x[:, 0::2], x[:, 1::2]


class ChannelShuffle(nn.Module):
    """``channel_shuffle`` as a layer. (B, C, H, W) -> (B, C, H, W)

    Raises:
        ValueError: ``groups`` does not divide ``channels``.
    """

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        if groups < 1 or channels % groups:
            raise ValueError(f"ChannelShuffle: groups ({groups}) must divide channels ({channels})")
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        return channel_shuffle(x, self.groups)

    def extra_repr(self) -> str:
        return f"groups={self.groups}"
