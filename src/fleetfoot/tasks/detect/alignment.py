"""Which points of a detector should find which object: task-aligned assignment.

Feng et al. 2021, "TOOD: Task-aligned One-stage Object Detection",
https://arxiv.org/abs/2108.07755, section 3.2. A point is the better for an object, the surer it is
of the object's class and the better its box fits already: t = s^α · u^β, with s the score of that
class and u the overlap of the boxes (their intersection over union). The m best points whose
centre is in the object's box are made to find it. A point that several objects claim goes to the
one that its box overlaps most.

The score that such a point should give is t, scaled so that the largest of each object equals the
largest overlap among its points. It also weights the point's losses of the box.

The paper has no points for an object so small that no centre is in its box; here the nearest
centre is its point.

A points · N classes · n objects
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import box_iou

ALPHA = 1.0
BETA = 6.0
MOST = 13
"""The paper's m."""


@dataclass(frozen=True, eq=False)
class Alignment:
    """What each point of one picture should answer."""

    objects: Tensor
    """Number of the point's object, (A,) int64; -1 for background."""
    quality: Tensor
    """Score that it should give to the class of its object, (A,), 0 to 1; 0 for background."""


@torch.no_grad()
def align(
    scores: Tensor, boxes: Tensor, points: Tensor, truth: Tensor, labels: Tensor, most: int = MOST
) -> Alignment:
    """Assigns the points of one picture to its objects.

    Args:
        scores: probability of each class at each point, (A, N).
        boxes: the box that each point answers, (A, 4), in pixels.
        points: centre of each point's cell, x and y in pixels, (A, 2).
        truth: boxes of the objects, (n, 4).
        labels: classes of the objects, (n,).
        most: largest number of points for an object.
    """
    background = Alignment(labels.new_full((len(points),), -1), boxes.new_zeros(len(points)))
    if not len(truth):
        return background
    truth = truth.to(boxes)
    candidate = _candidates(points, truth)
    overlap = box_iou(truth, boxes)  # (n, A)
    aligned = scores[:, labels].T ** ALPHA * overlap**BETA

    best = torch.where(candidate, aligned, -1.0).topk(min(most, len(points)), dim=1).indices
    claims = torch.zeros_like(candidate).scatter(1, best, True) & candidate
    owner = torch.where(claims, overlap, -1.0).argmax(0)
    claimed = claims.any(0)
    owned = claims & (owner == torch.arange(len(truth), device=owner.device)[:, None])

    aligned, overlap = torch.where(owned, aligned, 0.0), torch.where(owned, overlap, 0.0)
    largest = aligned.amax(1, keepdim=True)
    share = torch.where(largest > 0, aligned / largest, 0.0)  # 1 at the best point of an object
    quality = (share * overlap.amax(1, keepdim=True)).amax(0)
    return Alignment(torch.where(claimed, owner, background.objects), quality)


def _candidates(points: Tensor, truth: Tensor) -> Tensor:
    """Whether a point's centre is in an object's box; the nearest centre is, if no other. (n, A)"""
    x, y = points.T
    left, top, right, bottom = truth.T[:, :, None]
    inside = (x > left) & (x < right) & (y > top) & (y < bottom)
    lacking = ~inside.any(1)
    if lacking.any():
        centres = (truth[lacking, :2] + truth[lacking, 2:]) / 2
        inside[lacking, torch.cdist(centres, points).argmin(1)] = True
    return inside
