"""A one-stage detector for real time: a path aggregation neck, and at each point of three maps the
classes and the distances to an object's four edges, without anchor boxes.

Decoupled towers for classes and boxes: Ge et al. 2021, "YOLOX", https://arxiv.org/abs/2107.08430,
section 2.1. Each distance is a distribution over whole numbers of strides, and scores are trained
towards the quality of the box: Li et al. 2020, "Generalized Focal Loss",
https://arxiv.org/abs/2006.04388, section 3. Points are assigned to objects by TOOD
(``alignment``). The neck is in ``pan``.

Points are the centres of the cells of the maps of stride 8, 16 and 32. The fixed part gives the raw
maps; what is derived from them, the distances too, is computed for the few points that answer
something.

B batch · N classes · K bins of a distance · A points of all maps · H W space
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import batched_nms, generalized_box_iou_loss

from fleetfoot.ops.activations import Activation
from fleetfoot.tasks.backbone import feature_maps, options_of, preprocessing, sides, stated
from fleetfoot.tasks.detect.alignment import align
from fleetfoot.tasks.detect.checks import check_options, check_targets
from fleetfoot.tasks.detect.detections import Detections
from fleetfoot.tasks.detect.pan import Mixer, PathAggregation, mix
from fleetfoot.tasks.network import Targets, TaskNetwork

STRIDES = (8, 16, 32)

WEIGHT_BOX, WEIGHT_DISTANCE = 2.0, 0.25
"""Weights of the losses beside that of the classes: λ0 and λ1 of the GFL paper."""

FOCUS = 2.0
"""Exponent of the quality focal loss, the GFL paper's β."""

PRIOR = 0.01
"""Score of a fresh network everywhere (Lin et al. 2017, https://arxiv.org/abs/1708.02002)."""

DECAY = 3.0
"""A fresh network's logits of a distance's bins 0, 1, 2, ... are 0, -1/3, -2/3, ..., so that its
mean is 2.5 strides. With equal ones it is half of the largest, 7.5, and eight pictures of drawn
shapes needed twice as many steps before all were found."""

CANDIDATES = 1000
"""Largest number of boxes of one map that go into non-maximum suppression."""


class Points(NamedTuple):
    """The points of all maps, the finest map first, each row by row."""

    centres: Tensor
    """x and y in pixels, (A, 2)."""
    strides: Tensor
    """(A, 1)"""


class Towers(nn.Module):
    """One map -> logits of the classes (B, N, H, W) and of the bins of the distances to the left,
    top, right and bottom edge (B, 4·K, H, W)."""

    def __init__(
        self, width: int, num_classes: int, bins: int, depth: int, mixer: Mixer, act: Activation
    ) -> None:
        super().__init__()
        self.classify = nn.Sequential(*(mix(width, mixer, act) for _ in range(depth)))
        self.locate = nn.Sequential(*(mix(width, mixer, act) for _ in range(depth)))
        self.classes = nn.Conv2d(width, num_classes, 1)
        self.distances = nn.Conv2d(width, 4 * bins, 1)
        for last in (self.classes, self.distances):
            nn.init.normal_(last.weight, std=0.01)
        nn.init.constant_(self.classes.bias, -math.log(1 / PRIOR - 1))  # type: ignore[arg-type]
        self.distances.bias = nn.Parameter((-torch.arange(bins) / DECAY).repeat(4))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.classes(self.classify(x)), self.distances(self.locate(x))


class DecoupledHead(nn.Module):
    """Towers of their own for each map."""

    def __init__(self, towers: list[Towers]) -> None:
        super().__init__()
        self.towers = nn.ModuleList(towers)

    def forward(self, maps: list[Tensor]) -> dict[str, Tensor]:
        outputs = {}
        for i, (tower, x) in enumerate(zip(self.towers, maps, strict=True)):
            outputs[f"classes_{i}"], outputs[f"distances_{i}"] = tower(x)
        return outputs


class OneStage(TaskNetwork):
    """The one-stage detector on any backbone with maps at strides 8, 16 and 32.

    Targets of a picture: ``boxes`` (n, 4), left, top, right and bottom edge in pixels of the input,
    and ``labels`` (n,) int64 from 0.

    Args:
        backbone: a network of the zoo, or ``timm:NAME``.
        num_classes: classes of the data.
        pretrained_backbone: ``True`` for the backbone's default published weights, or a tag.
        backbone_weights: a file of the backbone's weights instead.
        input_size: multiple of 32, or (height, width), in pixels.
        backbone_options: fields of the backbone's config, for example ``drop_path_rate``.
        neck: what mixes neighbouring pixels in neck and head: ``depthwise``, ``pconv`` or ``full``.
        width: channels of neck and head.
        depth: blocks in each join of two maps.
        head_depth: layers of each tower.
        bins: a distance is at most ``bins - 1`` strides, so that no box is longer than
            ``64 * (bins - 1)`` pixels: 960 by default.
        act: activation of neck and head.
        score_threshold: what scores less is not answered.
        nms_threshold: of two boxes of a class that overlap more, the less certain one is dropped.
        max_detections: most answers for a picture.

    Raises:
        UnknownNameError: there is no such backbone.
        ValueError: an option is outside its range.
        WeightsError: the backbone's weights cannot be fetched, read, or used in it.
    """

    task = "detect"

    def __init__(
        self,
        *,
        backbone: str,
        num_classes: int,
        pretrained_backbone: bool | str = False,
        backbone_weights: str | os.PathLike[str] | None = None,
        in_chans: int = 3,
        input_size: int | tuple[int, int] = 640,
        backbone_options: Mapping[str, Any] | None = None,
        neck: Mixer = "depthwise",
        width: int = 96,
        depth: int = 1,
        head_depth: int = 2,
        bins: int = 16,
        act: Activation = "hard_swish",
        score_threshold: float = 0.01,
        nms_threshold: float = 0.6,
        max_detections: int = 100,
    ) -> None:
        super().__init__()
        self.options = options_of(type(self), locals())
        check_options(num_classes, score_threshold, nms_threshold, max_detections)
        for name, value, least in (("head_depth", head_depth, 0), ("bins", bins, 2)):
            if value < least:
                raise ValueError(f"{name} must be {least} or more, not {value}")
        sides(input_size, STRIDES[-1])
        self.num_classes = num_classes
        self.bins = bins
        self.score_threshold = score_threshold
        self.nms_threshold = nms_threshold
        self.max_detections = max_detections
        self.backbone = feature_maps(
            backbone,
            STRIDES,
            pretrained=pretrained_backbone,
            weights=backbone_weights,
            in_chans=in_chans,
            options=backbone_options,
        )
        self.options |= stated(backbone, self.backbone, backbone_options)
        info: Any = self.backbone.feature_info
        self.neck = PathAggregation(info.channels(), width=width, depth=depth, mixer=neck, act=act)
        self.head = DecoupledHead(
            [Towers(width, num_classes, bins, head_depth, neck, act) for _ in STRIDES]
        )
        self.pretrained_cfg = preprocessing(
            self.backbone, input_size=input_size, resize_mode="letterbox"
        )

    def parts(self) -> dict[str, tuple[str, ...]]:
        return {"backbone": ("backbone",), "neck": ("neck",), "head": ("head",)}

    def outputs(self, x: Tensor) -> dict[str, Tensor]:
        """Logits of the classes, ``classes_0`` (B, N, H / 8, W / 8) to ``classes_2`` (B, N, H / 32,
        W / 32), and of the distances' bins, ``distances_0`` to ``distances_2`` (B, 4·K, ...).

        Raises:
            ValueError: height or width is no multiple of 32.
        """
        height, width = x.shape[-2:]
        if height % STRIDES[-1] or width % STRIDES[-1]:
            raise ValueError(
                f"the input is {height} × {width} pixels; both must be multiples of {STRIDES[-1]}"
            )
        return self.head(self.neck(self.backbone(x)))

    def losses(self, x: Tensor, targets: Targets) -> dict[str, Tensor]:
        """The quality focal loss of the classes, and for points that have an object the loss of the
        boxes' overlap and the distribution focal loss, both weighted by the quality aimed at. Each
        is divided by the sum of the qualities in the batch, or by 1 if that is less.

        Raises:
            ValueError: a target cannot be used.
        """
        check_targets(x, targets, self.num_classes)
        outputs = self.outputs(x)
        logits, bins = _points_last(outputs, "classes"), _points_last(outputs, "distances")
        points = _points(outputs, logits)
        bins = bins.unflatten(2, (4, self.bins))
        boxes = _boxes(bins, points.centres, points.strides)

        wanted = torch.zeros_like(logits)
        found, sought, quality, distances, said = [], [], [], [], []
        for i, target in enumerate(targets):
            truth, labels = target["boxes"].to(boxes), target["labels"]
            scores = logits[i].detach().sigmoid()
            aligned = align(scores, boxes[i], points.centres, truth, labels)
            at = (aligned.objects >= 0).nonzero().squeeze(1)
            whose = aligned.objects[at]
            wanted[i, at, labels[whose]] = aligned.quality[at]
            quality.append(aligned.quality[at])
            found.append(boxes[i, at])
            sought.append(truth[whose])
            distances.append(_distances(truth[whose], points, at))
            said.append(bins[i, at])
        weight = torch.cat(quality)
        total = weight.sum().clamp(min=1)
        overlap = generalized_box_iou_loss(torch.cat(found), torch.cat(sought))
        spread = distribution_focal_loss(torch.cat(said), torch.cat(distances)).mean(1)
        return {
            "classes": quality_focal_loss(logits, wanted).sum() / total,
            "boxes": WEIGHT_BOX * (overlap * weight).sum() / total,
            "distances": WEIGHT_DISTANCE * (spread * weight).sum() / total,
        }

    @torch.no_grad()
    def decode(self, outputs: Mapping[str, Tensor], size: tuple[int, int]) -> list[Detections]:
        """The objects of each picture: the points whose score of a class is high enough, without
        those that non-maximum suppression drops, class by class."""
        height, width = size
        answers = []
        for picture in range(len(outputs["classes_0"])):
            levels = [self._candidates(outputs, level, picture) for level in range(len(STRIDES))]
            boxes, scores, classes = map(torch.cat, zip(*levels, strict=True))
            boxes = boxes.clamp(min=0).minimum(boxes.new_tensor([width, height, width, height]))
            kept = batched_nms(boxes, scores, classes, self.nms_threshold)[: self.max_detections]
            answers.append(
                Detections(boxes=boxes[kept], scores=scores[kept], classes=classes[kept])
            )
        return answers

    def _candidates(
        self, outputs: Mapping[str, Tensor], level: int, picture: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes, scores and classes of the points of one map that answer something, the most
        certain first. Only their scores and distances are computed, not those of the whole map."""
        logits = outputs[f"classes_{level}"][picture].flatten(1)  # (N, points)
        bins = outputs[f"distances_{level}"][picture].flatten(1)
        columns = outputs[f"classes_{level}"].shape[-1]
        least = torch.logit(torch.tensor(self.score_threshold, dtype=torch.float64)).item()
        answered = logits >= least
        if answered.sum() > CANDIDATES:  # for example all of a fresh network
            answered = logits >= logits[answered].topk(CANDIDATES).values[-1]
        classes, at = answered.nonzero().T
        found, order = _single(logits[classes, at]).sort(descending=True, stable=True)
        found, order = found[:CANDIDATES], order[:CANDIDATES]
        classes, at = classes[order], at[order]
        stride = STRIDES[level]
        centres = (torch.stack((at % columns, at // columns), dim=1).to(found) + 0.5) * stride
        spread = _single(bins[:, at].T).unflatten(1, (4, self.bins))
        return _boxes(spread, centres, stride), found.sigmoid(), classes


def quality_focal_loss(logits: Tensor, wanted: Tensor) -> Tensor:
    """Cross entropy towards a score between 0 and 1, weighted by how far the score is from it. The
    GFL paper's equation 3; any shape, one loss an element."""
    cross = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    return (wanted - logits.sigmoid()).abs() ** FOCUS * cross


def distribution_focal_loss(logits: Tensor, distances: Tensor) -> Tensor:
    """Cross entropy towards the two whole numbers around a distance, the nearer one having more
    weight. The GFL paper's equation 6. (..., K) and (...) -> (...); distances are cut to 0 and
    K - 1."""
    last = logits.shape[-1] - 1
    distances = distances.clamp(0, last)
    below = distances.floor().clamp(max=last - 1)
    share = distances - below  # of the number above
    below = below.long().unsqueeze(-1)
    spread = -logits.log_softmax(-1)
    lower, upper = spread.gather(-1, below), spread.gather(-1, below + 1)
    return lower.squeeze(-1) * (1 - share) + upper.squeeze(-1) * share


def _single(x: Tensor) -> Tensor:
    """Values of half precision in single."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _points_last(outputs: Mapping[str, Tensor], name: str) -> Tensor:
    """The maps of one name in one tensor. -> (B, A, channels)"""
    maps = [outputs[f"{name}_{level}"].flatten(2) for level in range(len(STRIDES))]
    return _single(torch.cat(maps, dim=2).transpose(1, 2))


def _points(outputs: Mapping[str, Tensor], like: Tensor) -> Points:
    centres, strides = [], []
    for level, stride in enumerate(STRIDES):
        rows, columns = outputs[f"classes_{level}"].shape[-2:]
        y = (torch.arange(rows).to(like) + 0.5) * stride
        x = (torch.arange(columns).to(like) + 0.5) * stride
        y, x = torch.meshgrid(y, x, indexing="ij")
        centres.append(torch.stack((x.flatten(), y.flatten()), dim=1))
        strides.append(like.new_full((rows * columns, 1), stride))
    return Points(torch.cat(centres), torch.cat(strides))


def _boxes(bins: Tensor, centres: Tensor, strides: Tensor | int) -> Tensor:
    """Boxes of the expected distances around centres. (..., A, 4, K) -> (..., A, 4)"""
    numbers = torch.arange(bins.shape[-1]).to(bins)
    distances = (bins.softmax(-1) * numbers).sum(-1) * strides
    return torch.cat((centres - distances[..., :2], centres + distances[..., 2:]), dim=-1)


def _distances(boxes: Tensor, points: Points, at: Tensor) -> Tensor:
    """From the points ``at`` to the edges of a box each, in strides. (P, 4) -> (P, 4)"""
    centres = points.centres[at]
    edges = torch.cat((centres - boxes[:, :2], boxes[:, 2:] - centres), dim=1)
    return edges / points.strides[at]
