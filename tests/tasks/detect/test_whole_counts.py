"""Counts of whole two-stage detectors, by hand."""

from __future__ import annotations

import torch

from fleetfoot.count import trace
from fleetfoot.tasks.catalogue import create_model

CHANNELS, WIDTH, CLASSES = 16, 24, 5
REGIONS, MASKS = 30, 7


def network():
    with torch.device("meta"):
        return create_model(
            "maskrcnn:fasternet_t0",
            num_classes=CLASSES,
            channels=CHANNELS,
            box_width=WIDTH,
            proposals=(1000, REGIONS),
            max_detections=MASKS,
        ).eval()


def test_the_second_stage_is_counted_on_a_fixed_number_of_regions():
    model, x = network(), torch.empty(2, 3, 64, 96, device="meta")
    fixed, whole = trace(model, x), trace(model.whole(), x)

    outputs = CLASSES + 1
    box = CHANNELS * 7 * 7 * WIDTH + WIDTH * WIDTH + WIDTH * outputs * 5
    mask = 14 * 14 * (4 * 9 + 4) * CHANNELS * CHANNELS + 28 * 28 * CHANNELS * outputs
    assert whole.macs - fixed.macs == 2 * (REGIONS * box + MASKS * mask)
    assert whole.coverage == fixed.coverage == 1
    assert whole.unread_params == 0
    assert whole.params == fixed.params
    second = sum(p.numel() for p in model.roi_heads.parameters())
    assert fixed.unread_params == second


def test_modules_of_the_whole_have_the_network_s_names():
    model = network()
    rows = trace(model.whole(), torch.empty(1, 3, 64, 64, device="meta")).by_module(2)
    named = {name for name, _ in model.named_modules()}
    assert {row.module for row in rows} <= named
    assert model.whole().note == "30 regions a picture, 7 masks"


def test_a_one_stage_network_is_its_own_whole():
    with torch.device("meta"):
        model = create_model("fcos:fasternet_t0", channels=64)
    assert model.whole() is model
