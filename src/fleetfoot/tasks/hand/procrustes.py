"""The similarity that brings one set of points nearest to another, in closed form.

Umeyama 1991, "Least-squares estimation of transformation parameters between two point patterns",
https://doi.org/10.1109/34.88573.

N points
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Similarity:
    """x -> scale · rotation · x + shift."""

    scale: float
    rotation: Numbers
    """(3, 3), no reflection."""
    shift: Numbers
    """(3,)"""

    def __call__(self, points: Numbers) -> Numbers:
        """(N, 3) -> (N, 3)"""
        moved: Numbers = self.scale * points @ self.rotation.T + self.shift
        return moved


def similarity(points: Numbers, target: Numbers) -> Similarity:
    """The similarity that minimises the sum of squared distances of ``points`` to ``target``.

    With x and y the points less their means and U S Vᵀ = yᵀ x, it is R = U D Vᵀ, where D is the
    identity but for the sign of its last entry, which makes det R = 1, and the scale is
    tr(S D) / |x|². A set of one point repeated has scale 1.

    (N, 3), (N, 3)
    """
    middle, wanted = points.mean(0), target.mean(0)
    x, y = points - middle, target - wanted
    u, s, vt = np.linalg.svd(y.T @ x)
    signs = np.array([1.0, 1.0, np.linalg.det(u) * np.linalg.det(vt)])
    rotation = (u * signs) @ vt
    spread = float((x**2).sum())
    scale = float((s * signs).sum()) / spread if spread > 0 else 1.0
    return Similarity(scale, rotation, wanted - scale * rotation @ middle)
