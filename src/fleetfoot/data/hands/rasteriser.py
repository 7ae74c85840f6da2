"""Drawing a mesh of triangles into a picture: the nearest one at each pixel, and a smooth shade.

Every pixel of the box around every triangle that faces the camera is tried at once, and those
within are written from the farthest to the nearest.

V vertices · F faces · H W the picture · N pixels that are tried
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Faces = NDArray[np.int64]


def normals(vertices: Numbers, faces: Faces) -> Numbers:
    """Unit normal of each vertex, outwards: the mean of its faces', by their areas. (V, 3), (F, 3)
    -> (V, 3)"""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    of_faces = np.cross(b - a, c - a)
    total = np.zeros_like(vertices)
    for corner in range(3):
        for axis in range(3):
            total[:, axis] += np.bincount(
                faces[:, corner], of_faces[:, axis], minlength=len(vertices)
            )
    found: Numbers = total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)
    return found


def rasterise(
    points: Numbers, depths: Numbers, faces: Faces, values: Numbers, size: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """What is seen of a mesh: ``values`` between its vertices, and where it covers the picture.

    Args:
        points: the vertices in the picture, x and y in pixels to the edges of pixels, (V, 2).
        depths: distance of each vertex along the camera's axis, above 0, (V,).
        faces: (F, 3), counter-clockwise from outside; faces from behind are not drawn.
        values: what is drawn, for example the colour of each vertex, (V, C).
        size: height and width of the picture.

    Returns:
        (H, W, C), 0 where there is no hand, and (H, W).
    """
    height, width = size
    near = 1 / depths  # linear over the picture, unlike the depth
    corners = points[faces]  # (F, 3, 2)
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
    # y points down, so what is counter-clockwise from outside has a negative area when it is seen
    low = np.maximum(np.ceil(corners.min(1) - 0.5).astype(int), 0)
    high = np.minimum(np.floor(corners.max(1) - 0.5).astype(int), (width - 1, height - 1))
    extent = np.maximum(high - low + 1, 0)
    seen = np.flatnonzero((area < 0) & (extent.prod(1) > 0))
    counts = extent[seen].prod(1)
    face = np.repeat(seen, counts)  # (N,)
    place = np.arange(len(face)) - np.repeat(np.cumsum(counts) - counts, counts)
    x = low[face, 0] + place % extent[face, 0]
    y = low[face, 1] + place // extent[face, 0]
    dx, dy = x + 0.5 - corners[face, 0, 0], y + 0.5 - corners[face, 0, 1]
    b = (dx * second[face, 1] - dy * second[face, 0]) / area[face]
    c = (dy * first[face, 0] - dx * first[face, 1]) / area[face]
    within = (b >= 0) & (c >= 0) & (b + c <= 1)
    face, x, y, b, c = face[within], x[within], y[within], b[within], c[within]
    shares = np.stack((1 - b - c, b, c), 1)
    nearness = (near[faces[face]] * shares).sum(1)
    order = np.argsort(nearness, kind="stable")
    at = (y * width + x)[order]
    last = np.full(height * width, -1)
    last[at] = order  # of several at one pixel the last stays, which is the nearest
    covered = last >= 0
    chosen = last[covered]
    picture = np.zeros((height * width, values.shape[1]), np.float32)
    picture[covered] = np.einsum("nk,nkc->nc", shares[chosen], values[faces[face[chosen]]])
    return picture.reshape(height, width, -1), covered.reshape(height, width)
