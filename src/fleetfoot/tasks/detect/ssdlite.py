"""SSDLite: default boxes on six maps, and depthwise separable layers that predict for each box its
classes and its corrections.

Liu et al. 2016, "SSD: Single Shot MultiBox Detector", https://arxiv.org/abs/1512.02325.
Sandler et al. 2018, "MobileNetV2", https://arxiv.org/abs/1801.04381, section 6.2: the separable
layers. Howard et al. 2019, "Searching for MobileNetV3", https://arxiv.org/abs/1905.02244, section
6.3: the maps on a MobileNetV3.

The maps: what the first block of stride 32 of a MobileNetV2 or V3 gets from its expansion (any
other backbone: its map of stride 16), the backbone's last map, and four of half the size each.
Default boxes, matching, the coding of corrections and every number are torchvision's, and so is
the network on MobileNetV3-Large. The 1×1 to 1280 channels that ends MobileNetV2 is not part of it
here.

B batch · N classes · A default boxes of all maps · P of them at one point · H W space
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder, SSDMatcher
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import batched_nms, box_iou, clip_boxes_to_image

from fleetfoot import models
from fleetfoot.models import peers
from fleetfoot.models.base import FeatureExtractor
from fleetfoot.ops.conv import conv_norm_act
from fleetfoot.ops.separable import InvertedResidual
from fleetfoot.tasks.backbone import feature_maps, options_of, preprocessing, sides, stated
from fleetfoot.tasks.detect.checks import check_options, check_targets
from fleetfoot.tasks.detect.detections import Detections
from fleetfoot.tasks.network import Targets, TaskNetwork
from fleetfoot.weights.pretrained import HALF

EXTRAS = (512, 256, 256, 128)
"""Channels of the maps after the backbone's."""

RATIOS = (2, 3)
"""Shapes of the default boxes of a point beside two squares: wide and high, 1:2 and 1:3."""

SMALLEST, LARGEST = 0.2, 0.95
"""Side of the default squares of the first and of the last map, over the input's."""

EPS, MOMENTUM = 1e-3, 0.03
"""Batch norms of torchvision's SSDLite."""

MATCHED = 0.5
"""Overlap from which a default box has to find an object; the best box of an object always has."""

NEGATIVES = 3
"""Background boxes that are trained on for each box that has an object: those with the highest
loss."""

CODED = (10.0, 10.0, 5.0, 5.0)
"""Factors on the corrections of centre and size."""

CANDIDATES = 300
"""Largest number of boxes of one class that go into non-maximum suppression."""

Tap = Literal["auto", "expansion", "stage"]

brick = partial(conv_norm_act, act="relu6", eps=EPS, momentum=MOMENTUM)


class ExpansionTap(nn.Module):
    """A network of inverted residuals as two maps: the expansion of the first block of stride 32,
    which is at stride 16, and the last map. (B, 3, H, W) -> two maps

    Raises:
        ValueError: the last stage does not begin with an inverted residual that expands.
    """

    def __init__(self, features: nn.Module) -> None:
        super().__init__()
        if not can_tap(features):
            raise ValueError(
                "tap='expansion' needs a backbone whose last stage begins with an inverted "
                "residual, a MobileNetV2 or V3; use tap='stage' with any other"
            )
        body: Any = features.backbone
        info: Any = features.feature_info
        first, *others = body.stages[-1]
        self.before = nn.Sequential(body.stem, *body.stages[:-1], first.expand)
        self.after = nn.Sequential(first.depthwise, first.squeeze_excite, first.project, *others)
        self.channels: tuple[int, int] = (first.expand[0].out_channels, info.channels()[-1])

    def forward(self, x: Tensor) -> list[Tensor]:
        wide = self.before(x)
        return [wide, self.after(wide)]


def can_tap(features: nn.Module) -> bool:
    """Whether the last stage of a backbone begins with an inverted residual that expands."""
    if not isinstance(features, FeatureExtractor):
        return False
    first = next(features.backbone.stages[-1].children(), None)
    return isinstance(first, InvertedResidual) and not isinstance(first.expand, nn.Identity)


def extra(in_channels: int, out_channels: int) -> nn.Sequential:
    """A map of half the size. (B, C, H, W) -> (B, C', ceil(H / 2), ceil(W / 2))"""
    half = out_channels // 2
    return nn.Sequential(
        brick(in_channels, half),
        brick(half, half, 3, stride=2, groups=half),
        brick(half, out_channels),
    )


def predictor(in_channels: int, out_channels: int) -> nn.Sequential:
    """A separable layer without norm and activation after the 1×1. (B, C, H, W) -> (B, C', H, W)"""
    return nn.Sequential(
        brick(in_channels, in_channels, 3, groups=in_channels),
        nn.Conv2d(in_channels, out_channels, 1),
    )


class Predictors(nn.Module):
    """Maps -> for each of them logits of background and classes (B, P·(1 + N), H, W), and
    corrections of the default boxes (B, P·4, H, W)."""

    def __init__(self, channels: list[int], boxes: list[int], num_classes: int) -> None:
        super().__init__()
        each = list(zip(channels, boxes, strict=True))
        self.classes = nn.ModuleList(predictor(c, p * (1 + num_classes)) for c, p in each)
        self.corrections = nn.ModuleList(predictor(c, p * 4) for c, p in each)

    def forward(self, maps: list[Tensor]) -> dict[str, Tensor]:
        outputs = {}
        for i, x in enumerate(maps):
            outputs[f"classes_{i}"] = self.classes[i](x)
            outputs[f"corrections_{i}"] = self.corrections[i](x)
        return outputs


class Extras(nn.Module):
    """Two maps of the backbone -> these and four more."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = (channels, *EXTRAS)
        self.blocks = nn.ModuleList(extra(*pair) for pair in zip(widths, EXTRAS, strict=False))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        maps = list(maps)
        for block in self.blocks:
            maps.append(block(maps[-1]))
        return maps


class SSDLite(TaskNetwork):
    """SSDLite on any backbone with maps at strides 16 and 32.

    Targets of a picture: ``boxes`` (n, 4), left, top, right and bottom edge in pixels of the input,
    and ``labels`` (n,) int64 from 0.

    A MobileNet without weights gets the batch norms of torchvision's SSDLite, and a V3 the reduced
    tail, unless ``backbone_options`` state them.

    Args:
        backbone: a network of the zoo, or ``timm:NAME``.
        num_classes: classes of the data, without the background.
        pretrained_backbone: ``True`` for the backbone's default published weights, or a tag.
        backbone_weights: a file of the backbone's weights instead.
        input_size: height and width in pixels, as one number or two.
        backbone_options: fields of the backbone's config, for example ``drop_path_rate``.
        tap: the first map: ``expansion``, ``stage`` for the backbone's map of stride 16, or
            ``auto`` for the expansion if the backbone has one.
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
        input_size: int | tuple[int, int] = 320,
        backbone_options: Mapping[str, Any] | None = None,
        tap: Tap = "auto",
        score_threshold: float = 0.001,
        nms_threshold: float = 0.55,
        max_detections: int = 300,
    ) -> None:
        super().__init__()
        self.options = options_of(type(self), locals())
        check_options(num_classes, score_threshold, nms_threshold, max_detections)
        if tap not in ("auto", "expansion", "stage"):
            raise ValueError(f"tap must be 'auto', 'expansion' or 'stage', not {tap!r}")
        sides(input_size)
        self.num_classes = num_classes
        self.score_threshold = score_threshold
        self.nms_threshold = nms_threshold
        self.max_detections = max_detections
        fresh = not pretrained_backbone and backbone_weights is None
        norms = _torchvisions(backbone, fresh) | dict(backbone_options or {})
        features = feature_maps(
            backbone,
            (16, 32),
            pretrained=pretrained_backbone,
            weights=backbone_weights,
            in_chans=in_chans,
            options=norms,
        )
        self.options |= stated(backbone, features, norms, always=("norm_eps", "reduced_tail"))
        if tap == "expansion" or (tap == "auto" and can_tap(features)):
            tapped = ExpansionTap(features)
            self.backbone: nn.Module = tapped
            channels = tapped.channels
        else:
            info: Any = features.feature_info
            self.backbone = features
            channels = tuple(info.channels())
        self.extras = Extras(channels[-1])
        widths = [*channels, *EXTRAS]
        self.default_boxes = DefaultBoxGenerator(
            [list(RATIOS) for _ in widths], min_ratio=SMALLEST, max_ratio=LARGEST
        )
        self.head = Predictors(widths, self.default_boxes.num_anchors_per_location(), num_classes)
        self.matcher = SSDMatcher(MATCHED)
        self.coder = BoxCoder(CODED)
        for part in (self.extras, self.head):
            part.apply(_initialise_)
        self.pretrained_cfg = preprocessing(
            features,
            input_size=input_size,
            resize_mode="squash",
            **({"mean": HALF, "std": HALF} if fresh else {}),
        )

    def parts(self) -> dict[str, tuple[str, ...]]:
        return {"backbone": ("backbone",), "neck": ("extras",), "head": ("head",)}

    def outputs(self, x: Tensor) -> dict[str, Tensor]:
        """Logits of background and classes, ``classes_0`` (B, P·(1 + N), H', W') to ``classes_5``,
        and corrections of the default boxes, ``corrections_0`` (B, P·4, H', W') to
        ``corrections_5``, the finest map first."""
        return self.head(self.extras(self.backbone(x)))

    def rows(self, outputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Logits (B, A, 1 + N) and corrections (B, A, 4) of all default boxes, in float32 at
        least."""
        return _rows(outputs, "classes", 1 + self.num_classes), _rows(outputs, "corrections", 4)

    def anchors(self, outputs: Mapping[str, Tensor], size: tuple[int, int]) -> Tensor:
        """The default boxes in pixels of an input of that size. (A, 4)"""
        maps = [outputs[f"classes_{i}"] for i in range(len(outputs) // 2)]
        if maps[0].dtype in (torch.float16, torch.bfloat16):
            maps = [x.float() for x in maps]
        picture = ImageList(torch.empty(1, 1, *size, device="meta"), [size])
        (boxes,) = self.default_boxes(picture, maps)
        return boxes

    def losses(self, x: Tensor, targets: Targets) -> dict[str, Tensor]:
        """Cross entropy of the classes, of boxes that have an object and of the hardest of the
        background, and smooth L1 of the corrections; both over the number of boxes that have an
        object in the batch.

        Raises:
            ValueError: a target cannot be used.
        """
        check_targets(x, targets, self.num_classes)
        outputs = self.outputs(x)
        logits, corrections = self.rows(outputs)
        anchors = self.anchors(outputs, (x.shape[-2], x.shape[-1]))
        wanted = torch.zeros(logits.shape[:2], dtype=torch.int64, device=logits.device)
        localisation = corrections.sum() * 0
        for i, target in enumerate(targets):
            if not len(target["boxes"]):
                continue
            truth = target["boxes"].to(anchors)
            whose = self.matcher(box_iou(truth, anchors))
            at = (whose >= 0).nonzero().squeeze(1)
            wanted[i, at] = target["labels"][whose[at]] + 1
            sought = self.coder.encode_single(truth[whose[at]], anchors[at])
            localisation = localisation + F.smooth_l1_loss(
                corrections[i, at], sought, reduction="sum"
            )
        cross = F.cross_entropy(logits.transpose(1, 2), wanted, reduction="none")
        positive = wanted > 0
        classification = cross[positive].sum()
        for one, has in zip(cross, positive, strict=True):
            background = one[~has]
            most = min(NEGATIVES * int(has.sum()), len(background))
            classification = classification + background.topk(most).values.sum()
        count = max(int(positive.sum()), 1)
        return {"classes": classification / count, "boxes": localisation / count}

    @torch.no_grad()
    def decode(self, outputs: Mapping[str, Tensor], size: tuple[int, int]) -> list[Detections]:
        """The objects of each picture: for each class the boxes that score highest, without those
        that non-maximum suppression drops."""
        logits, corrections = self.rows(outputs)
        anchors = self.anchors(outputs, size)
        answers = []
        for scores, moved in zip(logits.softmax(-1), corrections, strict=True):
            boxes = clip_boxes_to_image(self.coder.decode_single(moved, anchors), size)
            best, at = scores[:, 1:].topk(min(CANDIDATES, len(scores)), dim=0)
            best, at = best.T, at.T  # (N, candidates)
            classes, rank = (best > self.score_threshold).nonzero().T
            best, at = best[classes, rank], at[classes, rank]
            kept = batched_nms(boxes[at], best, classes, self.nms_threshold)
            kept = kept[: self.max_detections]
            answers.append(
                Detections(boxes=boxes[at[kept]], scores=best[kept], classes=classes[kept])
            )
        return answers


def _rows(outputs: Mapping[str, Tensor], name: str, values: int) -> Tensor:
    """The maps of one name, (B, P·values, H, W) each -> (B, A, values): row by row, with the boxes
    of a point one after another."""
    rows = []
    for i in range(len(outputs) // 2):
        x = outputs[f"{name}_{i}"].unflatten(1, (-1, values))  # (B, P, values, H, W)
        rows.append(x.permute(0, 3, 4, 1, 2).flatten(1, 3))
    joined = torch.cat(rows, dim=1)
    return joined.float() if joined.dtype in (torch.float16, torch.bfloat16) else joined


def _torchvisions(backbone: str, fresh: bool) -> dict[str, Any]:
    """Options that torchvision's SSDLite gives to its backbone, as far as this one has them. With
    weights, only what does not change their meaning."""
    if peers.is_peer(backbone):
        return {}
    known = {field.name for field in fields(models.configure(backbone))}
    wanted: dict[str, Any] = {"norm_momentum": MOMENTUM}
    if fresh:
        wanted |= {"norm_eps": EPS, "reduced_tail": True}
    return {name: value for name, value in wanted.items() if name in known}


def _initialise_(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, std=0.03)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
