"""What was found in a network's input, in the pixels of the picture that was shown in it.

n detections · H W space · M side of a mask within its box
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor

from fleetfoot.tasks.detect.detections import Detections
from fleetfoot.tasks.detect.masks import paste


class Placement(Protocol):
    """Where a picture lies in the input; ``data.placement.Placement`` is one."""

    @property
    def height(self) -> int: ...

    @property
    def width(self) -> int: ...

    @property
    def scale(self) -> tuple[float, float]: ...

    @property
    def offset(self) -> tuple[float, float]: ...

    def to_picture(self, boxes: NDArray[Any], /) -> NDArray[Any]: ...


def in_picture(found: Detections, placement: Placement) -> Detections:
    """The detections on the picture, whose boxes are cut at its edges. What lies wholly in the
    border around the picture is left out.

    A mask is read at the centres of the picture's pixels; one that the network gives as a grid over
    its box is drawn at the picture's size instead.
    """
    boxes = torch.from_numpy(placement.to_picture(found.boxes.detach().cpu().double().numpy()))
    finite = boxes.isfinite().all(dim=1)
    kept = ~finite | ((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))
    masks = None if found.masks is None else found.masks.cpu()[kept]
    if found.soft_masks is not None:
        masks = _drawn(found.soft_masks.cpu()[kept], found.boxes.cpu()[kept], placement)
    elif masks is not None:
        masks = _sampled(masks, placement)
    return replace(
        found,
        boxes=boxes[kept],
        scores=found.scores.cpu()[kept],
        classes=found.classes.cpu()[kept],
        masks=masks,
        soft_masks=None,
    )


def _drawn(soft: Tensor, boxes: Tensor, placement: Placement) -> Tensor:
    """Masks of the picture from grids over boxes of the input, which are not cut at the picture's
    edges: the grids would shrink with them. (n, M, M), (n, 4) -> (n, H, W)"""
    offset, scale = (boxes.new_tensor(pair * 2) for pair in (placement.offset, placement.scale))
    boxes = ((boxes - offset) / scale).nan_to_num(0, 0, 0)
    return paste(soft, boxes, (placement.height, placement.width))


def _sampled(masks: Tensor, placement: Placement) -> Tensor:
    """Masks of the input, (n, H', W'), at the centres of the picture's pixels. (n, H, W)"""
    rows = _under(placement.height, placement.scale[1], placement.offset[1], masks.shape[1])
    columns = _under(placement.width, placement.scale[0], placement.offset[0], masks.shape[2])
    return masks[:, rows[:, None], columns]


def _under(pixels: int, scale: float, offset: float, side: int) -> Tensor:
    """Numbers of the input's pixels under the centres of the picture's, along one axis."""
    centres = (torch.arange(pixels, dtype=torch.float64) + 0.5) * scale + offset
    return centres.floor().long().clamp_(0, side - 1)
