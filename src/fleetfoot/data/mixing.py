"""Mixup and cutmix: two pictures of an update become one, and so do their targets.

Zhang et al. 2017, "mixup", https://arxiv.org/abs/1710.09412; Yun et al. 2019, "CutMix",
https://arxiv.org/abs/1905.04899. Values and distributions are those of timm's ``Mixup``; only the
partner differs: the picture at position p of the update is mixed with that at position p ^ 1 (its
neighbour), not with the one as far from the other end, so that pictures are mixed alike however the
update is divided among processes and parts.

The draws of an update are a pure function of the seed and its number. They come from numpy's
``RandomState``, whose streams numpy keeps the same in every version.

B pictures of an update · b of its part · N classes · C H W channels and space
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fleetfoot.data.settings import Mix

_USE = 0x6D6978
"""Keeps these draws apart from others of the same seed."""


@dataclass(frozen=True, eq=False)
class Draws:
    """What is mixed in one update, one entry for each position, (B,)."""

    kept: NDArray[np.float64]
    """Share of the picture at its own position that stays; the partner gives the rest."""
    boxes: NDArray[np.int64]
    """Top, bottom, left and right of the rectangle that the partner's pixels fill, (B, 4). It is
    empty for mixup."""
    cut: NDArray[np.bool_]
    """Whether it is cutmix."""

    @property
    def mixes(self) -> bool:
        """Whether any picture changes."""
        return bool((self.kept != 1).any())


def check(mix: Mix, *, smoothing: float = 0.0) -> None:
    """Checks every field.

    Raises:
        ValueError: one is out of range.
    """
    for name, value in (
        ("prob", mix.prob),
        ("switch_prob", mix.switch_prob),
        ("smoothing", smoothing),
    ):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} is a share from 0 to 1, not {value}")
    for name, value in (("mixup", mix.mixup), ("cutmix", mix.cutmix)):
        if value < 0:
            raise ValueError(f"{name} is the alpha of a beta distribution, 0 or more, not {value}")
    if mix.mode not in ("batch", "elem"):
        raise ValueError(f"mode must be batch or elem, not {mix.mode!r}")


def draw(
    mix: Mix, *, seed: int, update: int, epoch: int, batch: int, size: tuple[int, int]
) -> Draws:
    """The draws of one update.

    Args:
        mix: what is mixed, and how often.
        seed: seed of the run.
        update: number of the update.
        epoch: its epoch; from ``mix.until`` on nothing is mixed.
        batch: B, pictures of the update over all processes and parts.
        size: height and width of the pictures, in pixels.

    Raises:
        ValueError: something would be mixed, and the batch is odd, so that one picture has no
            partner.
    """
    nothing = Draws(np.ones(batch), np.zeros((batch, 4), np.int64), np.zeros(batch, np.bool_))
    over = mix.until is not None and epoch >= mix.until
    if over or not (mix.mixup or mix.cutmix) or not mix.prob:
        return nothing
    if batch % 2:
        raise ValueError(f"mixing pairs the pictures of a batch, so it must be even, not {batch}")
    rng = np.random.RandomState(
        [word >> shift & 0xFFFFFFFF for word in (seed, update, _USE) for shift in (0, 32)]
    )
    many = batch if mix.mode == "elem" else 1
    # always all draws, so that no setting changes what another one draws
    chosen, switched = rng.random_sample(many), rng.random_sample(many)
    mixup = rng.beta(mix.mixup, mix.mixup, many) if mix.mixup else np.ones(many)
    cutmix = rng.beta(mix.cutmix, mix.cutmix, many) if mix.cutmix else np.ones(many)
    places = rng.random_sample((many, 2))

    mixed = chosen < mix.prob
    cut = mixed & (switched < mix.switch_prob if mix.mixup and mix.cutmix else bool(mix.cutmix))
    boxes = np.where(cut[:, None], boxes_of(cutmix, places, size), 0)
    areas = (boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2])
    kept = np.where(cut, 1 - areas / (size[0] * size[1]), np.where(mixed, mixup, 1.0))
    if many == 1:
        kept, cut, boxes = (np.repeat(one, batch, axis=0) for one in (kept, cut, boxes))
    return Draws(kept, boxes, cut)


def boxes_of(
    kept: NDArray[np.float64], places: NDArray[np.float64], size: tuple[int, int]
) -> NDArray[np.int64]:
    """Rectangles of the picture's shape that cover a share 1 - ``kept`` of it, less what lies
    outside. (n,), centres in (n, 2) from 0 to 1 -> (n, 4)"""
    sides = np.array(size)
    cut = (sides * np.sqrt(1 - kept)[:, None]).astype(np.int64)
    centres = (sides * places).astype(np.int64)
    low = np.clip(centres - cut // 2, 0, sides)
    high = np.clip(centres + (cut + 1) // 2, 0, sides)
    return np.stack((low[:, 0], high[:, 0], low[:, 1], high[:, 1]), axis=1)


def targets(labels: Tensor, classes: int, *, smoothing: float = 0.0) -> Tensor:
    """One-hot targets; label smoothing spreads a share of each evenly over all classes. (b,) ->
    (b, N) float32"""
    rest = smoothing / classes
    hot = torch.full((len(labels), classes), rest, device=labels.device)
    return hot.scatter_(1, labels.view(-1, 1), 1.0 - smoothing + rest)


def apply(
    draws: Draws, pixels: Tensor, targets: Tensor, *, first: int = 0
) -> tuple[Tensor, Tensor]:
    """Mixes one part of an update.

    Args:
        draws: those of the whole update.
        pixels: pictures in floating point, (b, C, H, W). They may be changed.
        targets: (b, N) floating point.
        first: position in the update of the part's first picture.

    Raises:
        ValueError: the part begins or ends between two partners.
    """
    here = slice(first, first + len(pixels))
    kept, boxes, cut = draws.kept[here], draws.boxes[here], draws.cut[here]
    if len(kept) != len(pixels):
        raise ValueError(f"an update of {len(draws.kept)} pictures has no positions {here}")
    if (kept == 1).all():
        return pixels, targets
    if first % 2 or len(pixels) % 2:
        raise ValueError(
            f"mixing pairs neighbours, so each process's part of a batch must be even, not "
            f"{len(pixels)} pictures from position {first} on; choose another batch or number of "
            "accumulated parts"
        )
    order = torch.arange(len(pixels), device=pixels.device) ^ 1
    partners = pixels[order]
    mixed = _weighted(targets, targets[order], kept)
    if not cut.all():
        pixels = _weighted(pixels, partners, np.where(cut, 1.0, kept))
    if cut.any():
        pixels = torch.where(_inside(boxes, pixels), partners, pixels)
    return pixels, mixed


def _weighted(x: Tensor, other: Tensor, share: NDArray[np.float64]) -> Tensor:
    """``x`` times its share, and ``other`` times the rest; the shares lie along the first axis."""
    own, rest = (
        torch.from_numpy(part).to(x).view(-1, *[1] * (x.ndim - 1)) for part in (share, 1.0 - share)
    )
    return x * own + other * rest


def _inside(boxes: NDArray[np.int64], pixels: Tensor) -> Tensor:
    """Whether each pixel lies in the rectangle of its picture. -> (b, 1, H, W)"""
    edges = torch.from_numpy(boxes).to(pixels.device).view(-1, 4, 1, 1, 1)
    top, bottom, left, right = edges.unbind(1)  # each (b, 1, 1, 1)
    y = torch.arange(pixels.shape[2], device=pixels.device).view(-1, 1)
    x = torch.arange(pixels.shape[3], device=pixels.device)
    return (y >= top) & (y < bottom) & (x >= left) & (x < right)
