"""Where a picture lies in a network's input: from the picture's pixels to the input's, and back.

Coordinates are in pixels from the top left corner, measured to the edges of pixels: the whole
picture is the box (0, 0, width, height).

n boxes
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Scales and offsets of a picture that was resized, and padded or cropped.

    >>> placed = Placement(height=100, width=200, scale=(0.5, 0.5), offset=(0.0, 14.0))
    >>> placed.to_input(np.array([[0.0, 0.0, 200.0, 100.0]])).tolist()
    [[0.0, 14.0, 100.0, 64.0]]
    """

    height: int
    width: int
    """Size of the picture before, in pixels."""
    scale: tuple[float, float]
    """Pixels of the input for one pixel of the picture, horizontally and vertically."""
    offset: tuple[float, float]
    """Where the picture's top left corner lies in the input, x and y in pixels."""

    def to_input(self, boxes: Numbers) -> Numbers:
        """Boxes (n, 4) of the picture, as left, top, right, bottom, in the input."""
        return boxes * (self.scale * 2) + (self.offset * 2)

    def to_picture(self, boxes: Numbers) -> Numbers:
        """Boxes (n, 4) of the input in the picture, cut at its edges."""
        found = (boxes - (self.offset * 2)) / (self.scale * 2)
        return np.clip(found, 0, (self.width, self.height) * 2)
