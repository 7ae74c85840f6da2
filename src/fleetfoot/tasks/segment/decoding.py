"""From logits of a coarse map to a class for each pixel, of the network's input or of the picture.

Logits are interpolated bilinearly, with the corners of maps and pictures on each other
(``align_corners=False``), and each pixel gets the class of the largest; of equal ones, the lowest
number.

N classes · h w the map of the logits · H W the input, or the picture
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

AT_ONCE = 2**24
"""Logits that are interpolated at a time: 64 MiB of float32."""


class Placement(Protocol):
    """Where a picture lies in the input; ``data.placement.Placement`` is one."""

    @property
    def height(self) -> int: ...

    @property
    def width(self) -> int: ...

    @property
    def scale(self) -> tuple[float, float]: ...

    @property
    def offset(self) -> tuple[float, float]: ...


def of_input(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """The class of each pixel of the input. (N, h, w) -> (H, W) uint8"""
    scaled = F.interpolate(logits[None], size=size, mode="bilinear", align_corners=False)
    return scaled[0].argmax(0).to(torch.uint8)


def of_picture(logits: Tensor, size: tuple[int, int], placement: Placement) -> Tensor:
    """The class of each pixel of the picture. Each is read from the logits at once, not from those
    of the input. (N, h, w) -> (H, W) uint8

    Args:
        size: height and width of the input.
    """
    xs = _places(placement.width, placement.scale[0], placement.offset[0], size[1]).to(logits)
    ys = _places(placement.height, placement.scale[1], placement.offset[1], size[0]).to(logits)
    rows = max(1, AT_ONCE // (len(logits) * len(xs)))
    parts = []
    for some in ys.split(rows):
        grid = torch.stack(torch.meshgrid(xs, some, indexing="xy"), dim=-1)
        read = F.grid_sample(
            logits[None], grid[None], mode="bilinear", padding_mode="border", align_corners=False
        )
        parts.append(read[0].argmax(0).to(torch.uint8))
    return torch.cat(parts)


def _places(pixels: int, scale: float, offset: float, side: int) -> Tensor:
    """Where the centres of the picture's pixels lie in the input along one axis, -1 to 1."""
    centres = torch.arange(pixels, dtype=torch.float64) + 0.5
    return (centres * scale + offset) * (2 / side) - 1
