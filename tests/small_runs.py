"""Training runs that take a fraction of a second, for tests of what surrounds them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from fleetfoot.train.config import Augment, Ema, Mix, Optim, Recipe, Run, Schedule
from fleetfoot.train.loop import Outcome, train
from tools.kills import CLASSES, dataset

RECIPE = Recipe(
    name="small",
    epochs=3,
    batch=16,
    size=16,
    augment=Augment(erase=0.2),
    mix=Mix(mixup=0.3),
    optim=Optim(lr=1e-2, clip=5.0),
    schedule=Schedule(warmup=1.0),
    ema=Ema(decay=0.8),
)
"""Three epochs of three updates."""
RUN = Run(workers=0, save_seconds=1e9, save_updates=1)


class Small(nn.Module):
    """A convolution, a batch norm, dropout and a linear layer. (B, 3, H, W) -> (B, 4)"""

    def __init__(self, *, norm: bool = True, drop: float = 0.2) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 4, stride=4, bias=False)
        self.norm = nn.BatchNorm2d(8) if norm else nn.Identity()
        self.drop = nn.Dropout(drop)
        self.classifier = nn.Linear(8, len(CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.drop(self.norm(self.conv(x)).relu().mean((2, 3))))


def small(*, norm: bool = True, drop: float = 0.2, seed: int = 0) -> Small:
    torch.manual_seed(seed)
    return Small(norm=norm, drop=drop)


def trained(folder: Path, *, recipe: Recipe = RECIPE, run: Run = RUN, **given) -> Outcome:
    """A run of ``small()`` on the pictures of ``tools.kills``."""
    given = {"model": small(), "dataset": dataset()} | given
    return train(given.pop("model"), given.pop("dataset"), recipe, run, folder, **given)


def changed(recipe: Recipe = RECIPE, **fields) -> Recipe:
    return replace(recipe, **fields)
