"""The time of a network is split into its parts, and non-maximum suppression is told apart."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.ops import batched_nms

from fleetfoot import engines
from fleetfoot.evaluate.parts import OTHER, part_of, split
from tests.spots import SIDE, SpotDetector


def test_a_module_belongs_to_the_part_that_names_it_or_its_parent():
    parts = {"backbone": ("backbone",), "neck": (), "head": ("head", "scale")}
    assert part_of("backbone", parts) == "backbone"
    assert part_of("scale.0.conv", parts) == "head"
    assert part_of("backbone2.conv", parts) == OTHER
    assert part_of("", parts) == OTHER


def test_every_part_that_takes_time_has_some():
    network = SpotDetector().eval()
    x = torch.zeros(2, 3, SIDE, SIDE)
    boxes = torch.rand(400, 2)
    boxes = torch.cat((boxes, boxes + 0.1), dim=1)

    def decode(outputs):
        scores = outputs["logits"].flatten().repeat(5)[:400]
        return batched_nms(boxes, scores, torch.zeros(400, dtype=torch.int64), 0.5)

    with engines.load("eager", network, example=x) as engine:
        found = split(engine, x, network.parts(), decode, fixed_s=2.0, decode_s=3.0)
    assert {"backbone", "head", "nms", "decoding"} <= set(found)
    assert "neck" not in found
    assert all(seconds > 0 for seconds in found.values())
    assert found["decoding"] + found["nms"] == pytest.approx(3.0)
    assert sum(found.values()) == pytest.approx(5.0)


def test_an_engine_that_does_not_time_its_nodes_gives_nothing():
    x = torch.zeros(1, 3, 8, 8)
    with engines.load("nothing", nn.Conv2d(3, 3, 1).eval(), example=x) as engine:
        assert split(engine, x, {}, print, fixed_s=1.0, decode_s=1.0) == {}
