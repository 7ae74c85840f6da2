"""Draws the picture of ``docs/hands.md``: hands of the built-in set, their skeletons and meshes.

python -m tools.hands docs/hands.jpg
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fleetfoot.data.hands.scenes import Drawing
from fleetfoot.report.hand_drawing import with_mesh, with_skeleton
from fleetfoot.tasks.hand.parametric import parametric_hand

COLUMNS, SIZE, GAP = 6, 192, 4
QUALITY = 92


def sheet(seed: int = 0) -> NDArray[np.uint8]:
    """Hands of ``val``: above as they are drawn, then with their skeletons, then with their
    meshes."""
    drawing = Drawing("val", COLUMNS, seed, SIZE)
    faces = parametric_hand().faces
    columns = []
    for index in range(COLUMNS):
        hand, pixels = drawing.hand(index), drawing.pixels(index)
        wrist = hand.joints[0]
        mesh = with_mesh(pixels, hand.vertices - wrist, faces, hand.joints - wrist, hand.points)
        columns.append([pixels, with_skeleton(pixels, hand.points), mesh])
    side = SIZE + GAP
    whole = np.full((3 * side - GAP, COLUMNS * side - GAP, 3), 255, np.uint8)
    for x, column in enumerate(columns):
        for y, tile in enumerate(column):
            whole[y * side : y * side + SIZE, x * side : x * side + SIZE] = tile
    return whole


def main(path: str) -> None:
    Image.fromarray(sheet()).save(Path(path), quality=QUALITY)


if __name__ == "__main__":
    main(*sys.argv[1:])
