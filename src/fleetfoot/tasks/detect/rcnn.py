"""Faster R-CNN and Mask R-CNN on a feature pyramid: regions that may hold an object are proposed,
then each region is classified, its box corrected and its pixels marked.

Ren et al. 2015, "Faster R-CNN", https://arxiv.org/abs/1506.01497; Lin et al. 2017, the pyramid,
https://arxiv.org/abs/1612.03144; He et al. 2017, "Mask R-CNN", https://arxiv.org/abs/1703.06870.

Proposals, sampling, regions' features and losses are torchvision's. The fixed part is all that runs
once for a picture: backbone, pyramid, and the convolutions of the proposals. What follows depends
on values: ``proposals`` chooses regions, ``boxes`` runs the second stage on them, and ``masks``
runs on the boxes that are left; ``decode`` is the three.

B batch · N classes · n regions or objects of a picture · M side of a mask · K side of a region's
features
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import (
    RoIHeads,
    fastrcnn_loss,
    maskrcnn_inference,
    maskrcnn_loss,
)
from torchvision.models.detection.rpn import (
    RegionProposalNetwork,
    RPNHead,
    concat_box_prediction_layers,
)
from torchvision.ops import MultiScaleRoIAlign, roi_align
from torchvision.ops.poolers import initLevelMapper

from fleetfoot.tasks.backbone import feature_maps, options_of, preprocessing, sides, stated
from fleetfoot.tasks.detect.checks import check_options, check_targets
from fleetfoot.tasks.detect.detections import Detections
from fleetfoot.tasks.detect.masks import paste
from fleetfoot.tasks.detect.pyramid import FeaturePyramid
from fleetfoot.tasks.network import Targets, Task, TaskNetwork

POOLED = (2, 3, 4, 5)
"""Maps of the pyramid from which the second stage takes regions; map i has stride 2^i."""
LEVELS = (*POOLED, 6)
"""Maps on which regions are proposed."""
BOX_SIDE, MASK_SIDE = 7, 14
"""Side of a region's features for its box, and for its mask; the mask's own is twice that."""
MASK_DEPTH = 4
"""Convolutions before a mask, as wide as the pyramid."""


def pool(side: int) -> MultiScaleRoIAlign:
    """Features of regions, ``side`` by ``side``, each from the map that fits its size.

    The maps' strides are stated here: torchvision would derive them from the first pictures that
    it sees, and keep them.
    """
    made = MultiScaleRoIAlign([f"p{i}" for i in POOLED], output_size=side, sampling_ratio=2)
    made.scales = [1 / 2**i for i in POOLED]
    made.map_levels = initLevelMapper(POOLED[0], POOLED[-1])
    return made


COUNTS = {"two": 2, "five": 5}
EXAMPLES = {
    "candidates": [2000, 1000],
    "proposals": [2000, 1000],
    "anchor_sizes": [32, 64, 128, 256, 512],
    "aspect_ratios": [0.5, 1.0, 2.0],
}
"""The options of several numbers, with their defaults."""


def check_numbers(name: str, values: Sequence[float], count: str, meaning: str) -> None:
    """Checks an option of several numbers, which a command takes as JSON.

    Raises:
        ValueError: they are not as many as ``count`` says, or not all numbers above 0.
    """
    several = isinstance(values, Sequence) and not isinstance(values, str)
    given = tuple(values) if several else ()
    fits = given and len(given) == COUNTS.get(count, len(given))
    if not fits or any(not isinstance(one, int | float) or one <= 0 for one in given):
        raise ValueError(
            f"{name} must be {count or 'some'} numbers above 0, {meaning}, for example "
            f"{json.dumps(EXAMPLES[name])}, not {values!r}"
        )


class Sample(NamedTuple):
    """Regions of each picture on which the second stage is trained."""

    regions: list[Tensor]  # (n, 4)
    matched: list[Tensor]  # (n,), number of the object that each stands for
    labels: list[Tensor]  # (n,), its class from 1; 0 for the background
    changes: list[Tensor]  # (n, 4), from the region to the object's box


class FasterRCNN(TaskNetwork):
    """Faster R-CNN. (B, 3, H, W) -> ``p2`` ... ``p5``, the maps of the second stage, and for each
    of ``p2`` to ``p6`` ``objectness_p2`` and ``deltas_p2``, the score and the change of every
    anchor.

    Args:
        backbone: a network with maps at strides 4, 8, 16 and 32.
        pretrained_backbone, backbone_weights: published weights of the backbone, or a file of them.
        input_size: height and width to which pictures are brought.
        backbone_options: fields of the backbone's config, for example ``drop_path_rate``.
        channels: channels of the pyramid.
        box_width: outputs of the two linear layers of the second stage.
        anchor_sizes: side of the square anchors of each map in pixels, from the finest map on.
        aspect_ratios: height over width of the anchors at each place.
        candidates: anchors of a map that non-maximum suppression sees, in training and after it.
        proposals: regions of a picture that go to the second stage, in training and after it.
        proposal_threshold: of two proposals that overlap by more than this, the better one stays.
        score_threshold: detections with a lower score are left out.
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
        box_width: int = 1024,
        anchor_sizes: Sequence[int] = (32, 64, 128, 256, 512),
        aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        candidates: tuple[int, int] = (2000, 1000),
        proposals: tuple[int, int] = (2000, 1000),
        proposal_threshold: float = 0.7,
        score_threshold: float = 0.05,
        nms_threshold: float = 0.5,
        max_detections: int = 100,
    ) -> None:
        super().__init__()
        self.options = options_of(type(self), locals())
        check_options(num_classes, score_threshold, nms_threshold, max_detections)
        sides(input_size)
        if not 0 <= proposal_threshold <= 1:
            raise ValueError(f"proposal_threshold must be from 0 to 1, not {proposal_threshold}")
        for name, number in {"channels": channels, "box_width": box_width}.items():
            if number < 1:
                raise ValueError(f"{name} must be 1 or more, not {number}")
        check_numbers("candidates", candidates, "two", "in training and after it")
        check_numbers("proposals", proposals, "two", "in training and after it")
        check_numbers("anchor_sizes", anchor_sizes, "five", "one for each map")
        check_numbers("aspect_ratios", aspect_ratios, "", "height over width")
        body: Any = feature_maps(
            backbone,
            [2**i for i in POOLED],
            pretrained=pretrained_backbone,
            weights=backbone_weights,
            in_chans=in_chans,
            options=backbone_options,
        )
        self.options |= stated(backbone, body, backbone_options)
        self.num_classes = num_classes
        self.most_regions, self.most_detections = proposals[1], max_detections
        self.pretrained_cfg = preprocessing(body, input_size=input_size, resize_mode="letterbox")
        self.backbone = body
        self.pyramid = FeaturePyramid(body.feature_info.channels(), channels, top="pool")
        anchors = AnchorGenerator(
            tuple((size,) for size in anchor_sizes), (tuple(aspect_ratios),) * len(LEVELS)
        )
        self.rpn = RegionProposalNetwork(
            anchors,
            RPNHead(channels, len(aspect_ratios)),
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=256,
            positive_fraction=0.5,
            pre_nms_top_n=dict(zip(("training", "testing"), candidates, strict=True)),
            post_nms_top_n=dict(zip(("training", "testing"), proposals, strict=True)),
            nms_thresh=proposal_threshold,
        )
        self.roi_heads = RoIHeads(
            pool(BOX_SIDE),
            TwoMLPHead(channels * BOX_SIDE**2, box_width),
            FastRCNNPredictor(box_width, num_classes + 1),
            fg_iou_thresh=0.5,
            bg_iou_thresh=0.5,
            batch_size_per_image=512,
            positive_fraction=0.25,
            bbox_reg_weights=None,
            score_thresh=score_threshold,
            nms_thresh=nms_threshold,
            detections_per_img=max_detections,
            **self._mask_layers(channels),
        )

    def _mask_layers(self, channels: int) -> dict[str, nn.Module]:
        """Layers of the second stage that find masks, by torchvision's names."""
        return {}

    def whole(self) -> nn.Module:
        """The fixed part, and the second stage on as many regions as ``decode`` gives it at
        most."""
        return Whole(self)

    def parts(self) -> dict[str, tuple[str, ...]]:
        return {"backbone": ("backbone",), "neck": ("pyramid",), "head": ("rpn.head",)}

    def outputs(self, x: Tensor) -> dict[str, Tensor]:
        maps = self.pyramid(self.backbone(x))
        scores, deltas = self.rpn.head(maps)
        found = {f"p{level}": one for level, one in zip(LEVELS, maps, strict=True)}
        del found[f"p{LEVELS[-1]}"]
        for level, score, delta in zip(LEVELS, scores, deltas, strict=True):
            found[f"objectness_p{level}"], found[f"deltas_p{level}"] = score, delta
        return found

    def decode(self, outputs: Mapping[str, Tensor], size: tuple[int, int]) -> list[Detections]:
        with torch.no_grad():
            return self.boxes(outputs, self.proposals(outputs, size), size)

    def proposals(self, outputs: Mapping[str, Tensor], size: tuple[int, int]) -> list[Tensor]:
        """Regions of each picture that may hold an object, the likeliest first, (n, 4)."""
        return self._proposals(outputs, size)[0]

    def boxes(
        self, outputs: Mapping[str, Tensor], proposals: list[Tensor], size: tuple[int, int]
    ) -> list[Detections]:
        """What the second stage finds in the regions: boxes, scores and classes."""
        sizes = [size] * len(proposals)
        logits, deltas = self._classified(_pooled_maps(outputs), proposals, sizes)
        found = self.roi_heads.postprocess_detections(logits, deltas, proposals, sizes)
        return [
            Detections(boxes=boxes, scores=scores, classes=labels - 1)  # 0 is the background there
            for boxes, scores, labels in zip(*found, strict=True)
        ]

    def losses(self, x: Tensor, targets: Targets) -> dict[str, Tensor]:
        self._check(x, targets)
        outputs = self.outputs(x)
        size = (x.shape[-2], x.shape[-1])
        wanted = [{**target, "labels": target["labels"] + 1} for target in targets]
        proposals, (scores, deltas, anchors) = self._proposals(outputs, size)
        labels, matched = self.rpn.assign_targets_to_anchors(anchors, wanted)
        changes = self.rpn.box_coder.encode(matched, anchors)
        objectness, region = self.rpn.compute_loss(scores, deltas, labels, changes)
        sample = Sample(*self.roi_heads.select_training_samples(proposals, wanted))
        return {
            "objectness": objectness,
            "proposals": region,
            **self._region_losses(_pooled_maps(outputs), sample, size, wanted),
        }

    def _check(self, x: Tensor, targets: Targets) -> None:
        check_targets(x, targets, self.num_classes)

    def _proposals(
        self, outputs: Mapping[str, Tensor], size: tuple[int, int]
    ) -> tuple[list[Tensor], tuple[Tensor, Tensor, list[Tensor]]]:
        """Regions of each picture; scores and changes of all anchors, and the anchors."""
        scores = [wide(outputs[f"objectness_p{level}"]) for level in LEVELS]
        deltas = [wide(outputs[f"deltas_p{level}"]) for level in LEVELS]
        batch = len(scores[0])
        like = torch.empty(batch, 0, *size, device="meta")  # only its height and width are read
        anchors = self.rpn.anchor_generator(ImageList(like, [size] * batch), scores)
        counts = [one[0].numel() for one in scores]
        flat_scores, flat_deltas = concat_box_prediction_layers(scores, deltas)
        regions = self.rpn.box_coder.decode(flat_deltas.detach(), anchors).view(batch, -1, 4)
        proposals, _ = self.rpn.filter_proposals(regions, flat_scores, [size] * batch, counts)
        return proposals, (flat_scores, flat_deltas, anchors)

    def _classified(
        self, maps: dict[str, Tensor], regions: list[Tensor], sizes: list[tuple[int, int]]
    ) -> tuple[Tensor, Tensor]:
        """Logits of every class and the background, and a change of the box for each, of all
        regions together. (n, N + 1), (n, 4 · (N + 1))"""
        pooled = self.roi_heads.box_roi_pool(maps, regions, sizes)
        found: tuple[Tensor, Tensor] = self.roi_heads.box_predictor(self.roi_heads.box_head(pooled))
        return found

    def _region_losses(
        self,
        maps: dict[str, Tensor],
        sample: Sample,
        size: tuple[int, int],
        wanted: list[dict[str, Tensor]],
    ) -> dict[str, Tensor]:
        """Losses of the second stage."""
        logits, deltas = self._classified(maps, sample.regions, [size] * len(sample.regions))
        classes, boxes = fastrcnn_loss(logits, deltas, sample.labels, sample.changes)
        return {"classes": classes, "boxes": boxes}


class MaskRCNN(FasterRCNN):
    """Mask R-CNN: Faster R-CNN, and a mask in each box that it finds. Its fixed part, its outputs
    and its options are those of ``FasterRCNN``."""

    with_masks = True

    def _mask_layers(self, channels: int) -> dict[str, nn.Module]:
        return {
            "mask_roi_pool": pool(MASK_SIDE),
            "mask_head": MaskRCNNHeads(channels, (channels,) * MASK_DEPTH, dilation=1),
            "mask_predictor": MaskRCNNPredictor(channels, channels, self.num_classes + 1),
        }

    def decode(self, outputs: Mapping[str, Tensor], size: tuple[int, int]) -> list[Detections]:
        with torch.no_grad():
            return self.masks(outputs, super().decode(outputs, size), size)

    def masks(
        self, outputs: Mapping[str, Tensor], found: list[Detections], size: tuple[int, int]
    ) -> list[Detections]:
        """``found`` with the mask of each detection."""
        boxes = [one.boxes for one in found]
        logits = self._masked(_pooled_maps(outputs), boxes, [size] * len(found))
        soft = maskrcnn_inference(logits, [one.classes + 1 for one in found])
        return [
            replace(one, soft_masks=grid[:, 0], masks=paste(grid[:, 0], one.boxes, size))
            for one, grid in zip(found, soft, strict=True)
        ]

    def _masked(
        self, maps: dict[str, Tensor], boxes: list[Tensor], sizes: list[tuple[int, int]]
    ) -> Tensor:
        """Logits of a mask for every class, of all boxes together. (n, N + 1, M, M)"""
        heads = self.roi_heads
        pooled = heads.mask_roi_pool(maps, boxes, sizes)
        found: Tensor = heads.mask_predictor(heads.mask_head(pooled))
        return found

    def _check(self, x: Tensor, targets: Targets) -> None:
        super()._check(x, targets)
        for number, target in enumerate(targets):
            masks, boxes = target.get("masks"), target["boxes"]
            if masks is None or masks.shape != (len(boxes), *x.shape[-2:]):
                found = "none" if masks is None else str(tuple(masks.shape))
                raise ValueError(
                    f"picture {number} of the batch: maskrcnn learns from masks of shape "
                    f"{(len(boxes), *x.shape[-2:])}, and the target has {found}; fasterrcnn "
                    "learns from boxes alone"
                )

    def _region_losses(
        self,
        maps: dict[str, Tensor],
        sample: Sample,
        size: tuple[int, int],
        wanted: list[dict[str, Tensor]],
    ) -> dict[str, Tensor]:
        losses = super()._region_losses(maps, sample, size, wanted)
        objects = [labels > 0 for labels in sample.labels]
        boxes = [one[kept] for one, kept in zip(sample.regions, objects, strict=True)]
        matched = [one[kept] for one, kept in zip(sample.matched, objects, strict=True)]
        masks = maskrcnn_loss(
            self._masked(maps, boxes, [size] * len(boxes)),
            boxes,
            [one["masks"] for one in wanted],
            [one["labels"] for one in wanted],
            matched,
        )
        return losses | {"masks": masks}


def wide(x: Tensor) -> Tensor:
    """``x`` in float32 if it is in half precision, in which large coordinates are inexact."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _pooled_maps(outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"p{level}": outputs[f"p{level}"] for level in POOLED}


class Whole(nn.Module):
    """A two-stage network with its second stage on a fixed number of regions, for counting: nothing
    depends on values, so it needs none. (B, 3, H, W) -> the outputs, and those of the second stage

    Every picture has as many regions as the network proposes at most, and as many masks as
    detections, spread evenly over the maps of the pyramid. What chooses regions and detections
    (anchors, sorting, non-maximum suppression) has no multiply-accumulates and is left out.
    """

    def __init__(self, network: FasterRCNN) -> None:
        super().__init__()
        self._network = (network,)  # its children are this module's own, by the same names
        for name, child in network.named_children():
            self.add_module(name, child)
        self.note = f"{network.most_regions:,} regions a picture"
        if network.roi_heads.has_mask():
            self.note += f", {network.most_detections:,} masks"

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        (network,) = self._network
        found, heads = network.outputs(x), network.roi_heads
        maps = list(_pooled_maps(found).values())
        features = _spread(maps, network.most_regions, BOX_SIDE)
        found["logits"], found["deltas"] = heads.box_predictor(heads.box_head(features))
        if heads.has_mask():
            features = _spread(maps, network.most_detections, MASK_SIDE)
            found["masks"] = heads.mask_predictor(heads.mask_head(features))
        return found


def _spread(maps: Sequence[Tensor], regions: int, side: int) -> Tensor:
    """Features of so many regions of each picture, taken from each of the maps in turn. (B ·
    regions, C, K, K)"""
    batch, found = len(maps[0]), []
    for i, one in enumerate(maps):
        places = one.new_zeros(batch * len(range(i, regions, len(maps))), 5)
        found.append(roi_align(one, places, (side, side), 1 / 2 ** POOLED[i], 2))
    return torch.cat(found)
