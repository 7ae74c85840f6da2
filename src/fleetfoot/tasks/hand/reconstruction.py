"""What a hand network answers for a picture."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False, kw_only=True)
class Reconstruction:
    """A hand, found in a picture."""

    points: Tensor
    """The 21 joints in the input, x and y in pixels, (21, 2)."""
    joints: Tensor
    """The joints in metres, relative to the wrist, (21, 3)."""
    vertices: Tensor
    """The mesh in metres, relative to the wrist, (V, 3)."""
