"""Masks of instances, from a few pixels within a box to the pixels of the whole input.

n objects · M side of a mask within its box · H W space
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.models.detection.roi_heads import paste_masks_in_image


def paste(soft: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Pixels of each object in a picture of ``size``, (n, H, W) bool.

    Args:
        soft: probability that a pixel is the object's, on a grid over its box, (n, M, M).
        boxes: left, top, right and bottom edges in the picture, (n, 4).
        size: height and width of the picture.
    """
    # one after another: as probabilities, the masks of a large picture would take 400 MB
    pasted = [
        paste_masks_in_image(soft[i : i + 1, None], boxes[i : i + 1], size)[:, 0] > 0.5
        for i in range(len(boxes))
    ]
    return torch.cat(pasted) if pasted else soft.new_zeros(0, *size).bool()
