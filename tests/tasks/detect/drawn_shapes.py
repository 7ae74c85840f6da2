"""Pictures of squares, discs and triangles in plain colours with their boxes and masks, made from
a seed."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

CLASSES = ("square", "disc", "triangle")


def shapes(count: int, size: int = 128, seed: int = 0) -> tuple[Tensor, list[dict[str, Tensor]]]:
    """``count`` pictures with one to three shapes each that do not touch. (B, 3, size, size), about
    -1 to 1, and the targets of a detector."""
    rng = np.random.default_rng(seed)
    pictures, targets = [], []
    y, x = np.mgrid[:size, :size] + 0.5
    for _ in range(count):
        picture = np.full((3, size, size), -0.5) + rng.normal(0, 0.05, (3, size, size))
        boxes: list[list[int]] = []
        labels, masks = [], []
        wanted = int(rng.integers(1, 4))
        while len(boxes) < wanted:
            side = int(rng.integers(size // 6, size // 2))
            left, top = (int(v) for v in rng.integers(0, size - side, 2))
            box = [left, top, left + side, top + side]
            if any(
                box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in boxes
            ):
                continue
            label = int(rng.integers(0, len(CLASSES)))
            middle, half = (left + side / 2, top + side / 2), side / 2
            inside = {
                0: (abs(x - middle[0]) < half) & (abs(y - middle[1]) < half),
                1: (x - middle[0]) ** 2 + (y - middle[1]) ** 2 < half**2,
                2: (abs(x - middle[0]) < (y - top) / 2) & (y < box[3]),
            }[label]
            picture[:, inside] = rng.uniform(0, 1, (3, 1))
            boxes.append(box)
            labels.append(label)
            masks.append(inside)
        pictures.append(picture)
        targets.append(
            {
                "boxes": torch.tensor(boxes).float(),
                "labels": torch.tensor(labels),
                "masks": torch.from_numpy(np.stack(masks)).byte(),
            }
        )
    return torch.from_numpy(np.stack(pictures)).float(), targets
