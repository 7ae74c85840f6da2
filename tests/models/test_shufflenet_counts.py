"""Parameters and multiply-adds of every ShuffleNet, to the last digit."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from fleetfoot import create_model, list_models
from helpers import trainable
from oracle_macs import device_for, macs_of

# Counted from a reading of the released code, by hand; 224 pixels, 1000 classes.
EXACT = {
    "shufflenet_v1_g1_x1_0": (1_530_936, 143_078_976),
    "shufflenet_v1_g2_x1_0": (1_732_848, 140_836_512),
    "shufflenet_v1_g3_x1_0": (1_864_728, 137_460_672),
    "shufflenet_v1_g4_x1_0": (1_967_344, 134_339_776),
    "shufflenet_v1_g8_x1_0": (2_433_768, 138_365_952),
    "shufflenet_v1_g3_x0_5": (717_324, 37_589_856),
    "shufflenet_v1_g8_x0_5": (1_010_448, 40_469_760),
    "shufflenet_v1_g3_x1_5": (3_441_168, 292_443_552),
    "shufflenet_v1_g8_x1_5": (4_268_952, 290_188_800),
    "shufflenet_v1_g3_x2_0": (5_449_776, 524_045_184),
    "shufflenet_v1_g8_x2_0": (6_521_232, 521_942_016),
    "shufflenet_v2_x0_5": (1_366_792, 40_476_448),
    "shufflenet_v2_x1_0": (2_278_604, 144_907_992),
    "shufflenet_v2_x1_5": (3_503_624, 295_759_392),
    "shufflenet_v2_x2_0": (7_393_996, 583_253_464),
    "shufflenet_v2_x0_5_authors": (1_365_792, 40_476_448),
    "shufflenet_v2_x1_0_authors": (2_278_760, 145_814_296),
    "shufflenet_v2_x1_5_authors": (3_506_720, 298_970_656),
    "shufflenet_v2_x2_0_authors": (7_402_600, 590_783_000),
    "shufflenet_v2_plus_small": (5_137_116, 155_845_008),
    "shufflenet_v2_plus_medium": (5_679_840, 222_249_984),
    "shufflenet_v2_plus_large": (6_768_220, 360_050_704),
    # counted by running the released modules
    "shufflenet_v2_large": (125_120_936, 12_780_652_544),
    "shufflenet_v2_exlarge": (255_374_504, 46_174_794_752),
}

# Multiply-adds as published, and the distance in percent that the header of the model's file
# states. V1's paper gives one figure a scale for all groups.
PUBLISHED_MACS = {
    "shufflenet_v1_50": (2.3e9, 0.2),
    "shufflenet_v2_50": (2.3e9, 0.7),
    "shufflenet_v2_large": (12.7e9, 0.7),
    "shufflenet_v2_exlarge": (46.2e9, 0.1),
    "shufflenet_v2_x0_5_authors": (41e6, 1.3),
    "shufflenet_v2_x1_0_authors": (146e6, 0.2),
    "shufflenet_v2_x1_5_authors": (299e6, 0.1),
    "shufflenet_v2_x2_0_authors": (591e6, 0.1),
    "shufflenet_v1_g3_x1_5": (292e6, 0.2),
    "shufflenet_v1_g3_x2_0": (524e6, 0.1),
    **{f"shufflenet_v1_g{groups}_x1_0": (140e6, 4.1) for groups in (1, 2, 3, 4, 8)},
    **{f"shufflenet_v1_g{groups}_x0_5": (38e6, 6.5) for groups in (1, 2, 3, 4, 8)},
    **{f"shufflenet_v1_g{groups}_x0_25": (13e6, 7.6) for groups in (1, 2, 3, 4, 8)},
}


@cache
def count(name: str, **options) -> tuple[int, int]:
    with device_for(name):
        model = create_model(name, **options).eval()
        return trainable(model), macs_of(model, torch.zeros(1, 3, 224, 224)).layers


@pytest.mark.parametrize("name", EXACT)
def test_parameters_and_macs_are_the_tables(name):
    assert count(name) == EXACT[name]


@pytest.mark.parametrize("name", PUBLISHED_MACS)
def test_macs_are_near_the_published_ones(name):
    published, percent = PUBLISHED_MACS[name]
    _, macs = count(name)
    assert abs(macs - published) <= percent / 100 * published


def test_every_scale_of_every_group_is_there():
    expected = {
        f"shufflenet_v1_g{groups}_x{scale}"
        for groups in (1, 2, 3, 4, 8)
        for scale in ("0_25", "0_5", "1_0", "1_5", "2_0")
    }
    assert set(list_models("shufflenet_v1_g*")) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("shufflenet_v2_large", 140_685_664),  # 140.7 M in its README
        ("shufflenet_v2_exlarge", 271_283_296),
    ],
)
def test_auxiliary_heads_are_parameters_but_no_macs_of_forward(name, expected):
    params, macs = count(name, auxiliary_heads=True)
    assert params == expected
    assert macs == EXACT[name][1]


def test_exlarges_published_parameters_leave_out_norms_and_biases():
    with torch.device("meta"):
        model = create_model("shufflenet_v2_exlarge")
    weights = sum(p.numel() for p in model.parameters() if p.ndim > 1)
    assert weights == 254_714_048  # 254.7 M in its README
