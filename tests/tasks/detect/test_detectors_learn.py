"""Detectors on a pyramid learn a few pictures by heart: targets, losses and decoding fit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from drawn_shapes import CLASSES, shapes

from fleetfoot.data.scenes import Objects
from fleetfoot.tasks.catalogue import create_model
from fleetfoot.tasks.detect.metric import Meter

SIZE = 96
OPTIONS = {
    "fcos": {"depth": 1},
    "maskrcnn": {"box_width": 64, "anchor_sizes": (8, 16, 32, 64, 128), "proposals": (40, 40)},
}


@dataclass(frozen=True)
class Pixels:
    """A mask that is drawn already."""

    pixels: np.ndarray

    def drawn(self, height: int, width: int) -> np.ndarray:
        assert self.pixels.shape == (height, width)
        return self.pixels


def truth(target: dict[str, torch.Tensor]) -> Objects:
    boxes, masks = target["boxes"].double().numpy(), target["masks"].bool().numpy()
    return Objects(
        boxes=boxes,
        classes=target["labels"].numpy(),
        crowd=np.zeros(len(boxes), dtype=bool),
        areas=masks.sum((1, 2)).astype(float),
        masks=tuple(map(Pixels, masks)),
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIONS)
def test_it_learns_four_pictures_of_shapes(name):
    pytest.importorskip("faster_coco_eval")
    x, targets = shapes(4, size=SIZE)
    model = create_model(
        f"{name}:shufflenet_v2_x0_5",
        num_classes=len(CLASSES),
        channels=64,
        input_size=SIZE,
        **OPTIONS[name],
    )
    steps = 100
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    for _ in range(steps):
        optimiser.zero_grad()
        sum(model(x, targets).values()).backward()
        optimiser.step()
        schedule.step()
    model.eval()
    with torch.no_grad():
        answers = model.decode(model(x), (SIZE, SIZE))

    meter = Meter(len(CLASSES), with_masks=name == "maskrcnn")
    for number, (answer, target) in enumerate(zip(answers, targets, strict=True)):
        meter.update(number, answer, truth(target), size=(SIZE, SIZE))
    for kind in meter.kinds:
        assert meter.precision(kind).ap(threshold=0.5) > 95, kind
