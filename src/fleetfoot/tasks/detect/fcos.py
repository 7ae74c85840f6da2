"""FCOS: every point of five maps says the class of the object that it lies in, how far that
object's edges are, and how central the point is.

Tian et al. 2019, "FCOS: Fully Convolutional One-Stage Object Detection",
https://arxiv.org/abs/1904.01355, and 2020, https://arxiv.org/abs/2006.09214: centre sampling, group
norms, the generalised IoU loss, the branch of centerness beside the distances.

Points and distances are torchvision's, so that its weights fit: point i of a map lies at i times
the map's stride (the paper adds half a stride), the stride is the input's size over the map's,
rounded down, and distances are in units of the map's nominal stride.

B batch · N classes · P points of a map · n objects of a picture
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import (
    batched_nms,
    clip_boxes_to_image,
    generalized_box_iou_loss,
    sigmoid_focal_loss,
)

from fleetfoot.tasks.backbone import feature_maps, options_of, preprocessing, sides, stated
from fleetfoot.tasks.detect.checks import check_options, check_targets
from fleetfoot.tasks.detect.detections import Detections
from fleetfoot.tasks.detect.pyramid import FeaturePyramid
from fleetfoot.tasks.network import Targets, Task, TaskNetwork

LEVELS = (3, 4, 5, 6, 7)
"""Maps of the pyramid that are read; map i has the nominal stride 2^i."""
SPAN = (4, 8)
"""Shortest and longest distance to an object's farthest edge that a map answers for, in strides;
the finest map has no shortest one and the coarsest no longest one."""
PRIOR = 0.01
"""Score of every class at the start."""


def tower(channels: int, depth: int) -> nn.Sequential:
    """``depth`` times a 3×3 convolution, a group norm and a ReLU. (B, C, H, W) -> (B, C, H, W)"""
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.GroupNorm(32, channels),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)


class PointHead(nn.Module):
    """What the points of a map say; the same weights for every map. (B, C, H, W) -> logits (B, N,
    H, W), distances to the left, top, right and bottom edge (B, 4, H, W), centerness (B, 1, H, W)
    """

    def __init__(self, channels: int, num_classes: int, depth: int) -> None:
        super().__init__()
        self.class_tower = tower(channels, depth)
        self.box_tower = tower(channels, depth)
        self.logits = nn.Conv2d(channels, num_classes, 3, padding=1)
        self.distances = nn.Conv2d(channels, 4, 3, padding=1)
        self.centerness = nn.Conv2d(channels, 1, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        assert self.logits.bias is not None
        nn.init.constant_(self.logits.bias, -math.log((1 - PRIOR) / PRIOR))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        boxes = self.box_tower(x)
        return (
            self.logits(self.class_tower(x)),
            F.relu(self.distances(boxes)),
            self.centerness(boxes),
        )


class LevelPoints(NamedTuple):
    """What the points of one map say, and where they are."""

    logits: Tensor  # (B, P, N)
    distances: Tensor  # (B, P, 4), in nominal strides
    centerness: Tensor  # (B, P)
    places: Tensor  # (P, 2), x and y
    stride: int

    def boxes(self, image: int | slice = slice(None)) -> Tensor:
        """Left, top, right and bottom edge of the box of every point, (..., P, 4)."""
        away = self.distances[image] * self.stride
        return torch.cat((self.places - away[..., :2], self.places + away[..., 2:]), -1)


class FCOS(TaskNetwork):
    """FCOS. (B, 3, H, W) -> ``logits_p3`` ... ``centerness_p7``, three outputs for each map.

    Args:
        backbone: a network with maps at strides 8, 16 and 32.
        pretrained_backbone, backbone_weights: published weights of the backbone, or a file of them.
        input_size: height and width to which pictures are brought.
        backbone_options: fields of the backbone's config, for example ``drop_path_rate``.
        channels: channels of the pyramid and the towers, a multiple of 32 from 64 on.
        depth: convolutions of a tower.
        centre_radius: points within this many strides of an object's centre are trained to find
            it.
        score_threshold: detections with a lower score are left out. A score is the square root of
            the class's probability times the centerness.
        candidates: number of most certain answers of a map that non-maximum suppression sees.
        nms_threshold: of two boxes of a class that overlap more, the less certain one is dropped.
        max_detections: most detections in a picture.

    Raises:
        UnknownNameError: there is no such backbone.
        ValueError: an option is outside its range.
        WeightsError: the backbone's weights cannot be fetched, read, or used in it.
    """

    task: ClassVar[Task] = "detect"

    def __init__(
        self,
        *,
        backbone: str,
        num_classes: int,
        pretrained_backbone: bool | str = False,
        backbone_weights: str | os.PathLike[str] | None = None,
        in_chans: int = 3,
        input_size: int | tuple[int, int] = (800, 1280),
        backbone_options: Mapping[str, Any] | None = None,
        channels: int = 256,
        depth: int = 4,
        centre_radius: float = 1.5,
        score_threshold: float = 0.2,
        candidates: int = 1000,
        nms_threshold: float = 0.6,
        max_detections: int = 100,
    ) -> None:
        super().__init__()
        self.options = options_of(type(self), locals())
        check_options(num_classes, score_threshold, nms_threshold, max_detections)
        sides(input_size)
        if channels < 64 or channels % 32:
            raise ValueError(
                f"channels ({channels}) must be 64 or more, a multiple of 32: the norms have 32 "
                "groups of two channels at least"
            )
        if depth < 1 or candidates < 1:
            raise ValueError(f"depth ({depth}) and candidates ({candidates}) must be 1 or more")
        body: Any = feature_maps(
            backbone,
            (8, 16, 32),
            pretrained=pretrained_backbone,
            weights=backbone_weights,
            in_chans=in_chans,
            options=backbone_options,
        )
        self.options |= stated(backbone, body, backbone_options)
        self.num_classes = num_classes
        self.centre_radius = centre_radius
        self.score_threshold = score_threshold
        self.candidates = candidates
        self.nms_threshold = nms_threshold
        self.max_detections = max_detections
        self.pretrained_cfg = preprocessing(body, input_size=input_size, resize_mode="letterbox")
        self.backbone = body
        self.pyramid = FeaturePyramid(body.feature_info.channels(), channels, top="convs")
        self.head = PointHead(channels, num_classes, depth)

    def parts(self) -> dict[str, tuple[str, ...]]:
        return {"backbone": ("backbone",), "neck": ("pyramid",), "head": ("head",)}

    def outputs(self, x: Tensor) -> dict[str, Tensor]:
        answers = [self.head(one) for one in self.pyramid(self.backbone(x))]
        return {
            f"{kind}_p{level}": answer[i]
            for i, kind in enumerate(("logits", "distances", "centerness"))
            for level, answer in zip(LEVELS, answers, strict=True)
        }

    def decode(self, outputs: Mapping[str, Tensor], size: tuple[int, int]) -> list[Detections]:
        with torch.no_grad():
            levels = _points(outputs, size)
            batch = len(levels[0].logits)
            return [self._decoded(levels, image, size) for image in range(batch)]

    def _decoded(self, levels: list[LevelPoints], image: int, size: tuple[int, int]) -> Detections:
        boxes, scores, classes = [], [], []
        for level in levels:
            found = level.logits[image].sigmoid() * level.centerness[image].sigmoid()[:, None]
            flat = found.sqrt().flatten()
            kept = (flat > self.score_threshold).nonzero()[:, 0]
            best, order = flat[kept].topk(min(self.candidates, len(kept)))
            kept = kept[order]
            points = kept.div(self.num_classes, rounding_mode="floor")
            boxes.append(clip_boxes_to_image(level.boxes(image)[points], size))
            scores.append(best)
            classes.append(kept % self.num_classes)
        all_boxes, all_scores, all_classes = map(torch.cat, (boxes, scores, classes))
        kept = batched_nms(all_boxes, all_scores, all_classes, self.nms_threshold)
        kept = kept[: self.max_detections]
        return Detections(boxes=all_boxes[kept], scores=all_scores[kept], classes=all_classes[kept])

    def losses(self, x: Tensor, targets: Targets) -> dict[str, Tensor]:
        check_targets(x, targets, self.num_classes)
        levels = _points(self.outputs(x), (x.shape[-2], x.shape[-1]))
        logits = torch.cat([level.logits for level in levels], 1)
        places = torch.cat([level.places for level in levels])
        counts = torch.tensor([len(level.places) for level in levels], device=x.device)
        strides = torch.tensor([level.stride for level in levels], device=x.device)
        strides = strides.repeat_interleave(counts).to(places)

        wanted = torch.zeros_like(logits)
        truths, found = [], []
        for image, target in enumerate(targets):
            boxes, labels = target["boxes"].to(places), target["labels"]
            matched = assign(places, strides, boxes, self.centre_radius)
            inside = (matched >= 0).nonzero()[:, 0]
            wanted[image, inside, labels[matched[inside]]] = 1
            truths.append(boxes[matched[inside]])
            found.append((torch.full_like(inside, image), inside))
        which = tuple(map(torch.cat, zip(*found, strict=True)))
        truth, count = torch.cat(truths), max(1, len(which[0]))

        boxes = torch.cat([level.boxes() for level in levels], 1)
        centerness = torch.cat([level.centerness for level in levels], 1)
        losses = {
            "classes": sigmoid_focal_loss(logits, wanted, reduction="sum"),
            "boxes": generalized_box_iou_loss(boxes[which], truth, reduction="sum"),
            "centerness": F.binary_cross_entropy_with_logits(
                centerness[which], how_central(places[which[1]], truth), reduction="sum"
            ),
        }
        return {name: loss / count for name, loss in losses.items()}


def _points(outputs: Mapping[str, Tensor], size: tuple[int, int]) -> list[LevelPoints]:
    """The points of every map; at least in float32."""
    found = []
    for level in LEVELS:
        made = []
        for kind in ("logits", "distances", "centerness"):
            one = outputs[f"{kind}_p{level}"]
            one = one.to(torch.promote_types(one.dtype, torch.float32))
            made.append(one.flatten(2).transpose(1, 2))  # (B, P, ·)
        height, width = outputs[f"logits_p{level}"].shape[-2:]
        y, x = (
            torch.arange(n, device=made[0].device, dtype=made[0].dtype) * (pixels // n)
            for n, pixels in zip((height, width), size, strict=True)
        )
        places = torch.stack((x.repeat(height), y.repeat_interleave(width)), 1)
        found.append(LevelPoints(made[0], made[1], made[2][..., 0], places, 2**level))
    return found


def assign(places: Tensor, strides: Tensor, boxes: Tensor, radius: float) -> Tensor:
    """Number of the object that each point is trained to find, -1 for none. (P,)

    An object is found by the points within ``radius`` strides of its centre that lie inside it and
    on whose map its farthest edge is neither too near nor too far; of several, a point takes the
    smallest object.

    Args:
        places: x and y of the points of all maps, the finest map first, (P, 2).
        strides: nominal stride of each point's map, (P,).
        boxes: left, top, right and bottom edges of the objects, (n, 4).
    """
    if not len(boxes):
        return torch.full((len(places),), -1, device=places.device)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    off = (places[:, None] - centres).abs().amax(2)  # (P, n)
    away = torch.cat((places[:, None] - boxes[:, :2], boxes[:, 2:] - places[:, None]), 2)
    nearest, farthest = away.amin(2), away.amax(2)
    shortest = (SPAN[0] * strides).masked_fill(strides == strides[0], 0)
    longest = (SPAN[1] * strides).masked_fill(strides == strides[-1], math.inf)
    fits = (
        (off < radius * strides[:, None])
        & (nearest > 0)
        & (farthest > shortest[:, None])
        & (farthest < longest[:, None])
    )
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    smallest, matched = areas.expand(len(places), -1).masked_fill(~fits, math.inf).min(1)
    return matched.masked_fill(smallest.isinf(), -1)


def how_central(places: Tensor, boxes: Tensor) -> Tensor:
    """Centerness that each point should give for its object: 1 in the middle, 0 at an edge. (n, 2),
    (n, 4) -> (n,)"""
    before, after = places - boxes[:, :2], boxes[:, 2:] - places
    near, far = torch.minimum(before, after), torch.maximum(before, after)
    return (near / far).prod(1).sqrt()
