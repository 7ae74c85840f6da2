"""torchvision's detectors and ours with the same weights, on the same pictures, in float64."""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

from fleetfoot.tasks.network import TaskNetwork
from helpers import trained_

SIZE = (64, 96)

RENAMED = (
    (r"backbone\.body\.", "backbone."),
    (r"backbone\.fpn\.inner_blocks\.(\d)\.0\.", r"pyramid.lateral.\1."),
    (r"backbone\.fpn\.layer_blocks\.(\d)\.0\.", r"pyramid.smooth.\1."),
    (r"backbone\.fpn\.extra_blocks\.p6\.", "pyramid.coarser.0."),
    (r"backbone\.fpn\.extra_blocks\.p7\.", "pyramid.coarser.1."),
    (r"head\.classification_head\.conv\.", "head.class_tower."),
    (r"head\.classification_head\.cls_logits\.", "head.logits."),
    (r"head\.regression_head\.conv\.", "head.box_tower."),
    (r"head\.regression_head\.bbox_reg\.", "head.distances."),
    (r"head\.regression_head\.bbox_ctrness\.", "head.centerness."),
)
"""torchvision's names of tensors, and ours."""


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    found = {}
    for key, tensor in state.items():
        for theirs, ours in RENAMED:
            key = re.sub(f"^{theirs}", ours, key)
        found[key] = tensor
    return found


def as_given_(model: nn.Module) -> nn.Module:
    """Takes pictures as they are: torchvision's detectors would scale and normalise them."""
    model.transform.image_mean, model.transform.image_std = [0.0] * 3, [1.0] * 3
    model.transform.fixed_size = SIZE[::-1]
    model.transform._skip_resize = True  # in training, where it would draw a size
    return model


def same_weights_(theirs: nn.Module, ours: TaskNetwork, *, spread: tuple[str, ...]) -> None:
    """Gives both networks the same weights in float64; those of the layers ``spread`` are drawn so
    that answers differ from place to place."""
    trained_(as_given_(theirs))
    for name, module in theirs.named_modules():
        if name.endswith(".bn3"):  # sums of sixteen large branches would saturate every sigmoid
            module.weight.data *= 0.1
    for name in spread:
        layer = theirs.get_submodule(name)
        with torch.no_grad():
            nn.init.normal_(layer.weight, std=0.3 / layer.weight[0].numel() ** 0.5)
            nn.init.normal_(layer.bias, std=0.3)
    theirs.double()
    ours.double().load_state_dict(renamed(theirs.state_dict()))


def pictures(count: int, size: tuple[int, int] = SIZE) -> Tensor:
    return torch.randn(count, 3, *size, dtype=torch.float64)


def objects(size: tuple[int, int] = SIZE, *, masks: bool = False) -> list[dict[str, Tensor]]:
    """Targets of two pictures: three objects in the first, none in the second."""
    height, width = size
    boxes = torch.tensor(
        [[4.5, 6.0, 30.0, 40.5], [20.0, 10.0, 90.0, 60.0], [50.0, 2.0, 61.0, 14.0]],
        dtype=torch.float64,
    ) * torch.tensor([width / 96, height / 64] * 2)
    empty = torch.zeros(0, 4, dtype=torch.float64)
    found = [
        {"boxes": boxes, "labels": torch.tensor([1, 0, 4])},
        {"boxes": empty, "labels": torch.zeros(0, dtype=torch.int64)},
    ]
    if masks:
        for one in found:
            one["masks"] = torch.zeros(len(one["boxes"]), height, width, dtype=torch.uint8)
            for mask, (x0, y0, x1, y1) in zip(one["masks"], one["boxes"].long(), strict=True):
                mask[y0:y1, x0 : (x0 + x1) // 2] = 1
    return found


def with_background(targets: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """The same with class 0 for the background, as torchvision's two-stage detectors number."""
    return [{**one, "labels": one["labels"] + 1} for one in targets]
