"""The smallest networks and sets for the tasks beside classification, for tests of what surrounds
them: each on any backbone, and each able to learn a few shapes in a few seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import batched_nms

from fleetfoot import models
from fleetfoot.tasks import catalogue
from fleetfoot.tasks.detect.detections import Detections
from fleetfoot.tasks.network import Targets, TaskNetwork
from fleetfoot.weights.pretrained import HALF, untrained

BACKBONE = "mobilenetv2_010"
STRIDE = 8


class Tiny(TaskNetwork):
    """A backbone's map at stride 8 and one convolution."""

    task = "detect"
    per_class, others = 1, 4
    """Channels of the output for each class, and beside these."""

    def __init__(
        self,
        *,
        backbone: str,
        num_classes: int,
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


def head_of(name: str, kind: type[TaskNetwork]) -> catalogue.Head:
    return catalogue.Head(
        name=name,
        task=kind.task,
        place=f"{kind.__module__}:{kind.__name__}",
        backbone=BACKBONE,
        num_classes=2,
        paper="",
    )


HEADS = {"tiny_detector": head_of("tiny_detector", TinyDetector)}


def known(monkeypatch) -> None:
    """Lets the catalogue know these networks while a test lasts."""
    for name, head in HEADS.items():
        monkeypatch.setitem(catalogue.HEADS, name, head)
