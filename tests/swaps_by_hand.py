"""Small networks whose convolutions are swapped, and the words to swap them with."""

from __future__ import annotations

import torch
from torch import nn
from torchvision.ops import Conv2dNormActivation

from fleetfoot.transform import SwapOptions, swap


class Bottleneck(nn.Module):
    """As in a YOLO: a 1×1, a 3×3, a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = Conv2dNormActivation(channels, channels // 2, 1, activation_layer=nn.SiLU)
        self.expand = Conv2dNormActivation(channels // 2, channels, 3, activation_layer=nn.SiLU)

    def forward(self, x):
        return x + self.expand(self.reduce(x))


class Yolo(nn.Module):
    """Two maps, joined by upsampling, each with a head that answers with boxes and classes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Conv2dNormActivation(3, 16, 3, stride=2, activation_layer=nn.SiLU)
        self.fine = nn.Sequential(
            Conv2dNormActivation(16, 32, 3, stride=2, activation_layer=nn.SiLU), Bottleneck(32)
        )
        self.coarse = nn.Sequential(
            Conv2dNormActivation(32, 64, 3, stride=2, activation_layer=nn.SiLU), Bottleneck(64)
        )
        self.lateral = nn.Conv2d(64, 32, 1)
        self.up = nn.Upsample(scale_factor=2)
        self.join = nn.Conv2d(64, 32, 3, padding=1)
        self.heads = nn.ModuleList([nn.Conv2d(32, 10, 1), nn.Conv2d(64, 10, 1)])

    def forward(self, x):
        fine = self.fine(self.stem(x))
        coarse = self.coarse(fine)
        fine = self.join(torch.cat((fine, self.up(self.lateral(coarse))), 1))
        maps = zip(self.heads, (fine, coarse), strict=True)
        return torch.cat([head(m).flatten(2) for head, m in maps], 2).transpose(1, 2)


IMAGE = torch.zeros(1, 3, 32, 32)


def separable(*between: nn.Module, bias: bool = False, channels: int = 8) -> nn.Sequential:
    depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=bias)
    return nn.Sequential(depthwise, *between, nn.Conv2d(channels, 12, 1))


def swapped(model: nn.Module, *shape: int, **options):
    return swap(model, torch.zeros(shape or (1, 8, 6, 6)), SwapOptions(**options))


def reasons(done) -> dict[str, str]:
    return {row.path: row.reason for row in done.left}


def swapped_double(conv: nn.Conv2d, **options):
    example = torch.zeros(1, conv.in_channels, 6, 6, dtype=torch.float64)
    return swap(nn.Sequential(conv), example, SwapOptions(**options))


def mixed() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(8, 8, 3, padding=1),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=2),
        nn.Conv2d(8, 8, 1),
    )
