"""The smallest networks and sets for the tasks beside classification, for tests of what surrounds
them: each on any backbone, and each able to learn a few shapes in a few seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import batched_nms

from fleetfoot import models
from fleetfoot.tasks import catalogue
from fleetfoot.tasks.detect.detections import Detections
from fleetfoot.tasks.hand.reconstruction import Reconstruction
from fleetfoot.tasks.network import Targets, TaskNetwork
from fleetfoot.tasks.segment.decoding import Placement, of_input, of_picture
from fleetfoot.weights.pretrained import HALF, untrained

BACKBONE = "mobilenetv2_010"
VERTICES = 1196
"""Vertices of the parametric hand."""


class Tiny(TaskNetwork):
    """A backbone's map at stride 8 and one convolution."""

    task = "detect"
    per_class, others = 1, 4
    """Channels of the output for each class, and beside these."""

    def __init__(
        self,
        *,
        backbone: str,
        num_classes: int = 0,
        pretrained_backbone: bool | str = False,
        backbone_weights: str | None = None,
        in_chans: int = 3,
        input_size: int = 64,
        width: int = 8,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.options = {"width": width} if width != 8 else {}
        self.backbone = models.create_model(
            backbone,
            features_only=True,
            out_indices=(2,),
            pretrained=pretrained_backbone,
            weights=backbone_weights,
            in_chans=in_chans,
        )
        (self.stride,) = self.backbone.feature_info.reduction()
        (channels,) = self.backbone.feature_info.channels()
        self.neck = nn.Sequential(
            nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.head = nn.Conv2d(width, num_classes * self.per_class + self.others, 1)
        nn.init.zeros_(self.head.bias)
        self.pretrained_cfg = replace(
            untrained(input_size), resize_mode="squash", crop_pct=1.0, mean=HALF, std=HALF
        )

    def raw(self, x: Tensor) -> Tensor:
        (features,) = self.backbone(x)
        return self.head(self.neck(features))

    def parts(self):
        return {"backbone": ("backbone",), "neck": ("neck",), "head": ("head",)}


class TinyDetector(Tiny):
    """Each cell answers for the object whose centre lies in it: classes, and distances of its edges
    from the cell's centre."""

    def outputs(self, x: Tensor) -> dict[str, Tensor]:
        raw = self.raw(x)
        return {"classes": raw[:, : self.num_classes], "edges": raw[:, self.num_classes :]}

    def losses(self, x: Tensor, targets: Targets) -> dict[str, Tensor]:
        found = self.outputs(x)
        scores, edges = found["classes"], found["edges"].float().permute(0, 2, 3, 1)
        wanted = torch.zeros_like(scores)
        rows, cells, boxes = [], [], []
        for row, one in enumerate(targets):
            centres = (one["boxes"][:, :2] + one["boxes"][:, 2:]) / 2
            cell = (centres / self.stride).long()
            cell = cell.minimum(cell.new_tensor(scores.shape[:1:-1]) - 1)
            wanted[row, one["labels"], cell[:, 1], cell[:, 0]] = 1
            rows.append(torch.full((len(cell),), row))
            cells.append(cell)
            boxes.append(one["boxes"])
        row, cell, box = torch.cat(rows), torch.cat(cells), torch.cat(boxes)
        at = edges[row, cell[:, 1], cell[:, 0]]
        centre = (cell + 0.5) * self.stride
        distances = torch.cat((centre - box[:, :2], box[:, 2:] - centre), dim=1) / self.stride
        count = max(1, len(row))
        missed = functional.binary_cross_entropy_with_logits(
            scores.float(), wanted.float(), reduction="sum"
        )
        return {
            "classes": missed / count,
            # of no object too, so that every parameter has a gradient
            "edges": functional.l1_loss(at, distances, reduction="sum") / count + 0.0 * edges.sum(),
        }

    def decode(self, outputs: Mapping[str, Tensor], size: tuple[int, int]) -> list[Detections]:
        height, width = outputs["classes"].shape[-2:]
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        centre = (torch.stack((x, y), dim=-1).float().view(-1, 2) + 0.5) * self.stride
        found = []
        for scores, edges in zip(outputs["classes"], outputs["edges"], strict=True):
            best, classes = scores.float().sigmoid().flatten(1).max(dim=0)
            near, far = (edges.float().flatten(1).T * self.stride).split(2, dim=1)
            boxes = torch.cat((centre - near, centre + far), dim=1)
            kept = batched_nms(boxes, best, classes, 0.6)[:20]
            found.append(Detections(boxes=boxes[kept], scores=best[kept], classes=classes[kept]))
        return found


class TinySegmenter(Tiny):
    """A class for each cell, interpolated."""

    task = "segment"
    others = 0

    def outputs(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": self.raw(x)}

    def losses(self, x: Tensor, targets: Targets) -> dict[str, Tensor]:
        whole = functional.interpolate(self.raw(x), x.shape[-2:], mode="bilinear")
        truth = torch.stack([one["map"] for one in targets])
        return {"segment": functional.cross_entropy(whole, truth, ignore_index=255)}

    def decode(
        self,
        outputs: Mapping[str, Tensor],
        size: tuple[int, int],
        placements: Sequence[Placement] | None = None,
    ) -> list[Tensor]:
        if placements is None:
            return [of_input(one, size) for one in outputs["logits"]]
        return [
            of_picture(one, size, placed)
            for one, placed in zip(outputs["logits"], placements, strict=True)
        ]


class TinyHand(Tiny):
    """21 joints from pooled features, which are the mesh too."""

    task = "hand"
    others = 21 * 5

    def outputs(self, x: Tensor) -> dict[str, Tensor]:
        raw = self.raw(x).mean((2, 3))
        points, joints = raw[:, :42].view(-1, 21, 2), raw[:, 42:].view(-1, 21, 3)
        vertices = joints[:, torch.arange(VERTICES) % 21]
        return {"points": points, "joints": joints, "vertices": vertices}

    def losses(self, x: Tensor, targets: Targets) -> dict[str, Tensor]:
        found, size = self.outputs(x), x.new_tensor((x.shape[-1], x.shape[-2]))
        wanted = {name: torch.stack([one[name] for one in targets]) for name in targets[0]}
        return {
            "points": functional.l1_loss(found["points"], wanted["points"] / size),
            "joints": 10 * functional.l1_loss(found["joints"], wanted["joints"]),
        }

    def decode(self, outputs: Mapping[str, Tensor], size: tuple[int, int]) -> list[Reconstruction]:
        points = outputs["points"] * outputs["points"].new_tensor(size[::-1])
        return [
            Reconstruction(points=p, joints=j, vertices=v)
            for p, j, v in zip(points, outputs["joints"], outputs["vertices"], strict=True)
        ]


def head_of(name: str, kind: type[TaskNetwork]) -> catalogue.Head:
    return catalogue.Head(
        name=name,
        task=kind.task,
        place=f"{kind.__module__}:{kind.__name__}",
        backbone=BACKBONE,
        num_classes=0 if kind.task == "hand" else 2,
        paper="",
    )


HEADS = {
    "tiny_detector": head_of("tiny_detector", TinyDetector),
    "tiny_segmenter": head_of("tiny_segmenter", TinySegmenter),
    "tiny_hand": head_of("tiny_hand", TinyHand),
}


def known(monkeypatch) -> None:
    """Lets the catalogue know these networks while a test lasts."""
    for name, head in HEADS.items():
        monkeypatch.setitem(catalogue.HEADS, name, head)
