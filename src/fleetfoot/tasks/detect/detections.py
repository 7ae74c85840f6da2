"""What a detector answers for a picture.

n detections · H W the network's input · M side of a mask within its box
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False, kw_only=True)
class Detections:
    """Objects that were found on a picture, the most certain first."""

    boxes: Tensor
    """Left, top, right and bottom edge in pixels, (n, 4) float."""
    scores: Tensor
    """(n,) float, from 0 to 1."""
    classes: Tensor
    """Class numbers from 0, (n,) int64."""
    masks: Tensor | None = None
    """Pixels of each object, (n, H, W) bool."""
    soft_masks: Tensor | None = None
    """Probability that a pixel is the object's, on a grid over its box, (n, M, M); None if the
    network does not find masks in this way. ``masks.paste`` makes masks at any other size of
    them."""

    def __len__(self) -> int:
        return len(self.scores)
