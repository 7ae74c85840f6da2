"""Partial convolution: convolve some of the channels, pass the rest through.

Chen et al. 2023, "Run, Don't Walk: Chasing Higher FLOPS for Faster Neural Networks",
https://arxiv.org/abs/2303.03667, sections 3.2 and 3.3.

B batch · C channels · P = C // ratio, the convolved channels · H W space · K kernel
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

import torch
from torch import Tensor, nn

Part = Literal["first", "last"]


class PConv(nn.Module):
    """K×K convolution over the first (or last) ``channels // ratio`` channels.

    (B, C, H, W) -> (B, C, H, W)

    At ratio 4 this is 1/16 of the multiply-adds of a full convolution. The concat below still
    reads and writes all C channels: whether fewer multiply-adds become less time is up to the
    engine. It has no stride and keeps the channel count, so a network changes its resolution
    elsewhere. No norm or activation follows it, since the 1×1 after it reads the untouched
    channels too.

    >>> layer = PConv(8, ratio=4)
    >>> layer.conv.weight.shape  # a 3×3 convolution over 2 of 8 channels
    torch.Size([2, 2, 3, 3])
    >>> layer(torch.zeros(1, 8, 14, 14)).shape
    torch.Size([1, 8, 14, 14])

    Raises:
        ValueError: ``ratio`` does not divide ``channels``, ``kernel`` is even, or ``part`` is no
        known name.
    """

    def __init__(
        self, channels: int, *, ratio: int = 4, kernel: int = 3, part: Part = "first"
    ) -> None:
        super().__init__()
        if channels % ratio:
            raise ValueError(f"PConv: channels ({channels}) must be divisible by ratio ({ratio})")
        if kernel % 2 == 0:
            raise ValueError(f"PConv: kernel ({kernel}) must be odd, or the size would change")
        if part not in ("first", "last"):
            raise ValueError(f"PConv: part must be 'first' or 'last', not {part!r}")
        self.part = part
        self.convolved = channels // ratio
        self.split = [self.convolved, channels - self.convolved]
        if part == "last":
            self.split.reverse()
        self.conv = nn.Conv2d(
            self.convolved, self.convolved, kernel, padding=kernel // 2, bias=False
        )

    def forward(self, x: Tensor) -> Tensor:
        head, tail = torch.split(x, self.split, dim=1)
        if self.part == "first":
            return torch.cat((self.conv(head), tail), dim=1)
        return torch.cat((head, self.conv(tail)), dim=1)


class PConvPointwise(nn.Sequential):
    """PConv followed directly by a 1×1 across all channels: a replacement for a K×K convolution.

    (B, C, H, W) -> (B, C', ceil(H / S), ceil(W / S)). Keys ``pconv`` and ``pointwise``. PConv has
    no stride, so the 1×1 has it: it reads one pixel in S². The other pixels reach the output only
    through the channels that the PConv has mixed into their neighbours. Costs
    H·W·K²·P² + Ho·Wo·C·C' multiply-adds.

    Raises:
        ValueError: ``ratio`` does not divide ``channels``, ``kernel`` is even, or ``part`` is no
        known name.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        *,
        ratio: int = 4,
        kernel: int = 3,
        stride: int | tuple[int, int] = 1,
        bias: bool = False,
    ) -> None:
        pconv = PConv(channels, ratio=ratio, kernel=kernel)
        pointwise = nn.Conv2d(channels, out_channels, 1, stride=stride, bias=bias)
        super().__init__(OrderedDict(pconv=pconv, pointwise=pointwise))
        self.in_channels, self.out_channels = channels, out_channels  # some blocks ask


class TShapedConv(nn.Module):
    """PConv and the 1×1 that follows it, as the one convolution that they are equal to.

    (B, C, H, W) -> (B, C', H, W)

    Its kernel is K×K over the first P channels and 1×1 over the others: seen from the side, a T.
    It costs H·W·(K²·P·C' + (C − P)·C') multiply-adds, which is more than the two steps, H·W·(K²·P²
    + C·C'), as long as P < C'. It is here for comparison, and as the reference that a fused kernel
    is tested against.
    """

    def __init__(
        self, channels: int, out_channels: int, *, ratio: int = 4, kernel: int = 3
    ) -> None:
        super().__init__()
        if channels % ratio:
            raise ValueError(
                f"TShapedConv: channels ({channels}) must be divisible by ratio ({ratio})"
            )
        self.convolved = channels // ratio
        self.rest = channels - self.convolved
        self.wide = nn.Conv2d(self.convolved, out_channels, kernel, padding=kernel // 2, bias=False)
        self.narrow = nn.Conv2d(self.rest, out_channels, 1, bias=False)

    @classmethod
    def of(cls, pconv: PConv, pointwise: nn.Conv2d) -> TShapedConv:
        """The T-shaped convolution equal to ``pointwise(pconv(x))``, for a PConv over the first
        channels.

        Raises:
            ValueError: the PConv works on the last channels, or the second convolution is not a
            plain 1×1.
        """
        if pconv.part != "first":
            raise ValueError("TShapedConv.of: the PConv must work on the first channels")
        if pointwise.kernel_size != (1, 1) or pointwise.stride != (1, 1) or pointwise.groups != 1:
            raise ValueError(
                "TShapedConv.of: the second convolution must be a dense 1×1 of stride 1"
            )
        if pointwise.bias is not None:
            raise ValueError("TShapedConv.of: the 1×1 must have no bias")
        p = pconv.convolved
        made = cls(
            pointwise.in_channels,
            pointwise.out_channels,
            ratio=pointwise.in_channels // p,
            kernel=pconv.conv.kernel_size[0],
        ).to(pointwise.weight)
        with torch.no_grad():
            # sum over the PConv's P outputs: (C', P) x (P, P, K, K) -> (C', P, K, K)
            made.wide.weight.copy_(
                torch.einsum("op,pckl->ockl", pointwise.weight[:, :p, 0, 0], pconv.conv.weight)
            )
            made.narrow.weight.copy_(pointwise.weight[:, p:])
        return made

    def forward(self, x: Tensor) -> Tensor:
        head, tail = torch.split(x, [self.convolved, self.rest], dim=1)
        return self.wide(head) + self.narrow(tail)
