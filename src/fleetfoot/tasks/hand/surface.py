"""A closed mesh around capsules that flow into each other.

The surface is where a smooth minimum of the distances to the capsules is zero. It is found by
surface nets: one vertex in each cell of a grid that the surface crosses, one quadrilateral for each
edge of the grid that it crosses (Gibson 1998, "Constrained Elastic Surface Nets",
https://doi.org/10.1007/BFb0056277); then the vertices move onto it.

K capsules · V vertices · F faces
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Faces = NDArray[np.int64]

STEPS = 4
"""Newton steps that bring a vertex onto the surface; after three they are below a micrometre."""
PROBE = 1e-6
"""Half the distance over which a gradient is taken, in metres."""


@dataclass(frozen=True, eq=False)
class Capsules:
    """Segments with a radius at each end, in metres."""

    starts: Numbers
    """(K, 3)"""
    ends: Numbers
    """(K, 3)"""
    radii: Numbers
    """Radius at the start and at the end, (K, 2)."""

    def distances(self, points: Numbers) -> Numbers:
        """Distance of each point to each capsule's surface, negative inside. (N, 3) -> (N, K)

        Where the radii differ, the nearest point of the segment is taken for that of the surface.
        """
        along = self.ends - self.starts
        lengths = np.maximum((along**2).sum(1), 1e-18)
        offsets = points[:, None] - self.starts
        share = np.clip((offsets * along).sum(2) / lengths, 0, 1)
        near: Numbers = np.linalg.norm(offsets - share[..., None] * along, axis=2)
        return near - (self.radii[:, 0] + share * (self.radii[:, 1] - self.radii[:, 0]))

    def distance(self, points: Numbers, smooth: float) -> Numbers:
        """Smooth minimum of ``distances``: it fills the angle between two capsules over a length of
        about ``smooth`` metres. (N, 3) -> (N,)"""
        each = self.distances(points) / -smooth
        most = each.max(1)
        found: Numbers = -smooth * (most + np.log(np.exp(each - most[:, None]).sum(1)))
        return found


def surface(capsules: Capsules, *, cell: tuple[float, float, float], smooth: float) -> Mesh:
    """The closed mesh around the capsules, on a grid of cells of that size in metres."""
    size = np.array(cell)
    margin = capsules.radii.max() + 2 * size + smooth
    corners = np.concatenate((capsules.starts, capsules.ends))
    low, high = corners.min(0) - margin, corners.max(0) + margin
    counts = np.ceil((high - low) / size).astype(int) + 1
    axes = [low[i] + size[i] * np.arange(counts[i]) for i in range(3)]
    nodes = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    values = capsules.distance(nodes.reshape(-1, 3), smooth).reshape(counts)
    vertices, numbers = _vertices(nodes, values)
    faces = _faces(values, numbers, vertices)
    return _projected(vertices, capsules, smooth), faces


Mesh = tuple[Numbers, Faces]
"""Vertices (V, 3), and faces (F, 3) counter-clockwise from outside."""


def _vertices(nodes: Numbers, values: Numbers) -> tuple[Numbers, NDArray[np.int64]]:
    """The mean of the points in which the surface crosses each cell's edges, and the number of each
    cell's vertex, -1 for none."""
    cells = tuple(n - 1 for n in values.shape)

    def at(corner: tuple[int, ...]) -> tuple[slice, ...]:
        return tuple(slice(c, c + n) for c, n in zip(corner, cells, strict=True))

    total, crossed = np.zeros((*cells, 3)), np.zeros(cells, int)
    for axis in range(3):
        for first in product((0, 1), repeat=3):
            if first[axis]:
                continue
            second = tuple(c + (i == axis) for i, c in enumerate(first))
            a, b = values[at(first)], values[at(second)]
            crosses = (a < 0) != (b < 0)
            share = np.where(crosses, a / np.where(crosses, a - b, 1), 0)[..., None]
            points = nodes[at(first)] * (1 - share) + nodes[at(second)] * share
            total += np.where(crosses[..., None], points, 0)
            crossed += crosses
    used = crossed > 0
    numbers = np.full(cells, -1)
    numbers[used] = np.arange(used.sum())
    return total[used] / crossed[used][:, None], numbers


def _faces(values: Numbers, numbers: NDArray[np.int64], vertices: Numbers) -> Faces:
    """Two triangles for each edge of the grid that the surface crosses, split along the shorter
    diagonal."""
    quads = []
    inside = values < 0
    for axis in range(3):
        second, third = (axis + 1) % 3, (axis + 2) % 3
        here = np.moveaxis(inside, (axis, second, third), (0, 1, 2))
        cells = np.moveaxis(numbers, (axis, second, third), (0, 1, 2))
        out = here[:-1, 1:-1, 1:-1] & ~here[1:, 1:-1, 1:-1]
        back = ~here[:-1, 1:-1, 1:-1] & here[1:, 1:-1, 1:-1]
        # the four cells around the edge, counter-clockwise about the axis
        around = np.stack(
            (cells[:, 1:, 1:], cells[:, :-1, 1:], cells[:, :-1, :-1], cells[:, 1:, :-1]), -1
        )
        quads += [around[out], around[back][:, ::-1]]
    a, b, c, d = np.concatenate(quads).T
    across = np.linalg.norm(vertices[a] - vertices[c], axis=1)
    other = np.linalg.norm(vertices[b] - vertices[d], axis=1)
    short = (across <= other)[:, None]
    first = np.where(short, np.stack((a, b, c), 1), np.stack((a, b, d), 1))
    rest = np.where(short, np.stack((a, c, d), 1), np.stack((b, c, d), 1))
    return np.stack((first, rest), 1).reshape(-1, 3)


def _projected(points: Numbers, capsules: Capsules, smooth: float) -> Numbers:
    """The points, moved onto the surface by Newton's method along its gradient."""
    for _ in range(STEPS):
        probes = [points + PROBE * side * axis for axis in np.eye(3) for side in (1, -1)]
        values = capsules.distance(np.concatenate(probes), smooth).reshape(3, 2, -1)
        gradient = ((values[:, 0] - values[:, 1]) / (2 * PROBE)).T
        steepness = np.maximum((gradient**2).sum(1), 0.25)  # no leap where it is flat
        points = points - (capsules.distance(points, smooth) / steepness)[:, None] * gradient
    return points
