"""The common structure of networks that give a class to each pixel: options, losses, decoding.

B batch · N classes · h w the map of the logits · H W the input
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fleetfoot.models.base import Backbone, FeatureExtractor
from fleetfoot.tasks.network import Targets, Task, TaskNetwork
from fleetfoot.tasks.segment.decoding import Placement, of_input, of_picture
from fleetfoot.tasks.segment.metric import IGNORED

AUXILIARY = 0.5
"""Weight of the loss of an auxiliary head, as in torchvision's reference recipes."""


class Segmenter(TaskNetwork):
    """Base of the networks that give a class to each pixel. (B, 3, H, W) -> ``logits`` (B, N, h, w)

    The logits are those of the head's own map; ``losses`` and ``decode`` interpolate them. A target
    has ``map``, (H, W) int64: the class of each pixel, and 255 where there is none to learn.
    """

    task: ClassVar[Task] = "segment"

    def head_logits(self, maps: Sequence[Tensor]) -> Tensor:
        """Logits (B, N, h, w) from the backbone's maps."""
        raise NotImplementedError

    def auxiliary_logits(self, maps: Sequence[Tensor]) -> Tensor | None:
        """Logits of a head that exists for training only; None if there is none."""
        return None

    def outputs(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": self.head_logits(self.backbone(x))}

    def losses(self, x: Tensor, targets: Targets) -> dict[str, Tensor]:
        """``segment``, the cross-entropy of the pixels that have a class, in the mean over the
        batch, and ``auxiliary`` if there is such a head.

        Raises:
            ValueError: a target does not fit the batch.
        """
        truth = self._truth(x, targets)
        maps = self.backbone(x)
        found = {"segment": cross_entropy(self.head_logits(maps), truth)}
        auxiliary = self.auxiliary_logits(maps)
        if auxiliary is not None:
            found["auxiliary"] = AUXILIARY * cross_entropy(auxiliary, truth)
        return found

    def decode(
        self,
        outputs: Mapping[str, Tensor],
        size: tuple[int, int],
        placements: Sequence[Placement] | None = None,
    ) -> list[Tensor]:
        """The class of each pixel, (H, W) uint8, one map a picture.

        Args:
            outputs: what ``outputs`` gave, from whatever engine.
            size: height and width of the input, in pixels.
            placements: where each picture lies in the input; the maps then have the pictures' own
                sizes. Default: maps of the input.

        Raises:
            ValueError: there are not as many placements as pictures.
        """
        logits = outputs["logits"].detach()
        logits = logits if logits.dtype == torch.float64 else logits.float()
        if placements is None:
            return [of_input(one, size) for one in logits]
        if len(placements) != len(logits):
            raise ValueError(f"{len(logits)} pictures and {len(placements)} placements")
        return [
            of_picture(one, size, placement)
            for one, placement in zip(logits, placements, strict=True)
        ]

    def _truth(self, x: Tensor, targets: Targets) -> Tensor:
        """The targets' maps as one tensor. (B, H, W)"""
        name, size = type(self).__name__, tuple(x.shape[-2:])
        if len(targets) != len(x):
            raise ValueError(f"{name}: {len(x)} pictures and {len(targets)} targets")
        for number, target in enumerate(targets):
            if "map" not in target:
                held = ", ".join(sorted(target)) or "nothing"
                raise ValueError(f"{name}: target {number} has no map; it holds {held}")
            if tuple(target["map"].shape) != size:
                raise ValueError(
                    f"{name}: the map of target {number} has shape {tuple(target['map'].shape)}, "
                    f"and the picture {size}"
                )
        return torch.stack([target["map"] for target in targets]).to(x.device, torch.int64)


def cross_entropy(logits: Tensor, truth: Tensor) -> Tensor:
    """Cross-entropy in the mean over the pixels that have a class; 0 if none has. Logits (B, N, h,
    w) are brought to the size of the truth (B, H, W)."""
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()  # autocast would interpolate in 8 or 11 bits
    scaled = F.interpolate(logits, size=truth.shape[-2:], mode="bilinear", align_corners=False)
    total = F.cross_entropy(scaled, truth, ignore_index=IGNORED, reduction="sum")
    return total / (truth != IGNORED).sum().clamp_min(1)


def check_classes(network: str, num_classes: int) -> None:
    """Checks that ``num_classes`` is a number of classes that a label map can hold.

    Raises:
        ValueError: it is not.
    """
    if not 2 <= num_classes <= IGNORED:
        raise ValueError(
            f"{network}: num_classes must be from 2 to {IGNORED}, not {num_classes}; a background "
            "is a class like the others"
        )


class EarlyMap(FeatureExtractor):
    """A backbone whose map at one stride is the output of the first block of its stage, in place of
    the last block's. (B, C, H, W) -> list of (B, C_i, H / s_i, W / s_i)

    torchvision's MobileNetV3 for segmentation reads its fine map there.

    Raises:
        ValueError: ``body`` is not the zoo's, or its stage is no sequence of blocks.
    """

    def __init__(self, body: nn.Module, stride: int) -> None:
        nn.Module.__init__(self)
        if not isinstance(body, FeatureExtractor) or (
            type(body.backbone).features is not Backbone.features
        ):
            raise ValueError(
                "form='torchvision' reads the map of a stage's first block, which is offered for "
                f"backbones of the zoo with plain stages, not for {type(body).__name__}; leave "
                "form out"
            )
        self.out_indices = body.out_indices
        self.feature_info = body.feature_info
        self.config = body.config
        self.pretrained_cfg = body.pretrained_cfg
        self.load_report = body.load_report
        self.backbone = body.backbone
        stage = next(info.module for info in body.feature_info if info.reduction == stride)
        if not isinstance(self.backbone.get_submodule(stage), nn.Sequential):
            raise ValueError(
                f"form='torchvision' reads the map of the first block of {stage}, which is a "
                f"{type(self.backbone.get_submodule(stage)).__name__} here; leave form out"
            )
        self.early = stage

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.backbone.stem(x)
        maps = [x]
        for number, stage in enumerate(self.backbone.stages):
            if f"stages.{number}" == self.early:
                blocks = list(stage.children())
                x = blocks[0](x)
                maps.append(x)
                for block in blocks[1:]:
                    x = block(x)
            else:
                x = stage(x)
                maps.append(x)
        offset = len(maps) - len(self.backbone.feature_info)
        return [maps[offset + index] for index in self.out_indices]
