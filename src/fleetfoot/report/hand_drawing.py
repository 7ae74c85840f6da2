"""A reconstructed hand, drawn over the picture: its mesh, shaded, and its skeleton.

V vertices · F faces · H W the picture
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fleetfoot.data.hands.rasteriser import normals, rasterise

Numbers = NDArray[np.float64]
Bytes = NDArray[np.uint8]

FINGERS = ("#f4b942", "#e4572e", "#2aa876", "#2e86de", "#b565d9")
"""Colours of the fingers, from the thumb to the little finger."""
MESH = np.array([0.55, 0.72, 0.95])
OPACITY = 0.8
"""Share of the mesh's colour in what is drawn over the picture."""
FAR = 10.0
"""Distance in metres at which the mesh is drawn: nearly without perspective."""


def placed(positions: Numbers, joints: Numbers, points: Numbers) -> Numbers:
    """Where positions relative to the wrist lie in the picture: the scale and shift by which the
    joints come nearest to their points.

    (N, 3), (21, 3), (21, 2) -> (N, 2)
    """
    flat = joints[:, :2] - joints[:, :2].mean(0)
    wanted = points - points.mean(0)
    spread = float((flat**2).sum())
    scale = float((flat * wanted).sum()) / spread if spread else 0.0
    found: Numbers = scale * (positions[:, :2] - joints[:, :2].mean(0)) + points.mean(0)
    return found


def with_mesh(
    picture: Bytes, vertices: Numbers, faces: NDArray[np.int64], joints: Numbers, points: Numbers
) -> Bytes:
    """The picture with the mesh laid over it. (H, W, 3)"""
    facing = -normals(vertices, faces)[:, 2]  # the camera looks along z
    shade = MESH * (0.3 + 0.7 * np.clip(facing, 0, 1))[:, None]
    height, width = picture.shape[:2]
    # twice as fine, so that edges are smooth
    drawn, _ = rasterise(
        2 * placed(vertices, joints, points),
        FAR + vertices[:, 2],
        faces,
        np.concatenate((shade, np.ones((len(shade), 1))), 1),
        (2 * height, 2 * width),
    )
    fine = drawn.reshape(height, 2, width, 2, 4).mean((1, 3))
    colour, share = 255 * OPACITY * fine[..., :3], OPACITY * fine[..., 3:]
    return np.rint(picture * (1 - share) + colour).clip(0, 255).astype(np.uint8)


def with_skeleton(picture: Bytes, points: Numbers) -> Bytes:
    """The picture with lines along the fingers and a dot at each joint. (H, W, 3)"""
    image = Image.fromarray(picture)
    scale = 3  # drawn large and made smaller, so that lines are smooth
    large = image.resize((image.width * scale, image.height * scale), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(large)
    size = max(1, round(max(image.size) / 110)) * scale
    places = [(float(x) * scale, float(y) * scale) for x, y in points]
    for finger, colour in enumerate(FINGERS):
        line = [places[0], *places[1 + 4 * finger : 5 + 4 * finger]]
        draw.line(line, fill=colour, width=size, joint="curve")
        for x, y in line[1:]:
            draw.ellipse((x - size, y - size, x + size, y + size), fill=colour)
    x, y = places[0]
    draw.ellipse((x - size, y - size, x + size, y + size), fill="white")
    return np.asarray(large.resize(image.size, Image.Resampling.LANCZOS))
