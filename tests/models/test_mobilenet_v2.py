"""MobileNetV2 against counted figures, timm's module and torchvision's."""

from __future__ import annotations

from functools import cache

import pytest
import timm
import torch
import torchvision

from fleetfoot.models import create_model, list_models
from fleetfoot.models.mobilenet_v2 import STAGES
from fleetfoot.ops.separable import InvertedResidual
from helpers import trainable, trained_
from mobilenet_parity import assert_same_gradients, assert_same_maps, assert_same_outputs, renamed
from oracle_macs import macs_of

PARAMS = {
    "mobilenetv2_140": 6_108_776,
    "mobilenetv2_130": 5_386_792,
    "mobilenetv2_100": 3_504_872,
    "mobilenetv2_075": 2_636_424,
    "mobilenetv2_050": 1_968_680,
    "mobilenetv2_035": 1_677_128,
    "mobilenetv2_025": 1_519_112,
    "mobilenetv2_010": 1_356_696,
}

MILLION_MACS = {  # at 224, 192, 160, 128, 96 pixels
    "mobilenetv2_140": (582.20, 428.21, 297.92, 191.31, 108.40),
    "mobilenetv2_100": (300.77, 221.32, 154.08, 99.07, 56.29),
    "mobilenetv2_075": (209.07, 153.94, 107.30, 69.13, 39.45),
    "mobilenetv2_050": (97.13, 71.70, 50.18, 32.58, 18.89),
    "mobilenetv2_035": (59.29, 43.90, 30.87, 20.22, 11.93),
    "mobilenetv2_025": (37.20, 27.67, 19.61, 13.01, 7.88),
    "mobilenetv2_010": (12.92,),
}

WIDTHS = {name: int(name[-3:]) / 100 for name in PARAMS}


def _names() -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Our modules beside timm's and torchvision's: timm counts rows of the table, torchvision
    blocks."""
    ours_timm = [("stem.0", "conv_stem"), ("stem.1", "bn1")]
    ours_torchvision = [("stem.0", "features.0.0"), ("stem.1", "features.0.1")]
    row_number = 0
    number = 1
    for stage, rows in enumerate(STAGES):
        block = 0
        for row in rows:
            for i in range(row.blocks):
                here = f"stages.{stage}.{block}"
                if row.expansion == 1:
                    parts = ["depthwise", "project"]
                    convs, norms = ["conv_dw", "conv_pw"], ["bn1", "bn2"]
                else:
                    parts = ["expand", "depthwise", "project"]
                    convs, norms = ["conv_pw", "conv_dw", "conv_pwl"], ["bn1", "bn2", "bn3"]
                for j, part in enumerate(parts):
                    there = f"blocks.{row_number}.{i}"
                    ours_timm += [
                        (f"{here}.{part}.0", f"{there}.{convs[j]}"),
                        (f"{here}.{part}.1", f"{there}.{norms[j]}"),
                    ]
                    there = f"features.{number}.conv"
                    conv, norm = (f"{j}", f"{j + 1}") if part == "project" else (f"{j}.0", f"{j}.1")
                    ours_torchvision += [
                        (f"{here}.{part}.0", f"{there}.{conv}"),
                        (f"{here}.{part}.1", f"{there}.{norm}"),
                    ]
                block += 1
                number += 1
            row_number += 1
    ours_timm += [
        ("head.body.conv.0", "conv_head"),
        ("head.body.conv.1", "bn2"),
        ("head.classifier", "classifier"),
    ]
    ours_torchvision += [
        ("head.body.conv.0", "features.18.0"),
        ("head.body.conv.1", "features.18.1"),
        ("head.classifier", "classifier.1"),
    ]
    return ours_timm, ours_torchvision


TIMM_NAMES, TORCHVISION_NAMES = _names()


def as_timm(name: str):
    theirs = trained_(timm.create_model(name)).double().eval()
    ours = create_model(name).double().eval()
    ours.load_state_dict(renamed(theirs.state_dict(), TIMM_NAMES))
    return ours, theirs


def as_torchvision(name: str):
    """torchvision's network of our name's width, without its dropout, and ours with its weights."""
    theirs = torchvision.models.mobilenet_v2(
        width_mult=WIDTHS[name],
        round_nearest=4 if name == "mobilenetv2_010" else 8,
        dropout=0.0,
    )
    trained_(theirs).double().eval()
    ours = create_model(name).double().eval()
    ours.load_state_dict(renamed(theirs.state_dict(), TORCHVISION_NAMES))
    return ours, theirs


@cache
def fresh(name: str, **options):
    """To be looked at and run, not to be changed."""
    return create_model(name, **options).eval()


def test_every_variant_is_in_the_table():
    assert list_models(family="mobilenet_v2") == list(PARAMS)


@pytest.mark.parametrize("name", PARAMS)
def test_params(name):
    assert trainable(fresh(name)) == PARAMS[name]


@pytest.mark.parametrize("name", MILLION_MACS)
def test_macs(name):
    model = fresh(name)
    counted = [
        round(macs_of(model.eval(), torch.zeros(1, 3, size, size)).layers / 1e6, 2)
        for size in (224, 192, 160, 128, 96)[: len(MILLION_MACS[name])]
    ]
    assert counted == list(MILLION_MACS[name])


@pytest.mark.parametrize(
    "name",
    [
        "mobilenetv2_140",
        "mobilenetv2_100",
        "mobilenetv2_075",
        "mobilenetv2_050",
        "mobilenetv2_035",
    ],
)
def test_outputs_and_maps_equal_timms(name):
    ours, theirs = as_timm(name)
    assert_same_outputs(ours, theirs)
    assert_same_maps(ours, theirs, name)


@pytest.mark.parametrize("name", PARAMS)
def test_outputs_equal_torchvisions(name):
    assert_same_outputs(*as_torchvision(name))


def test_gradients_equal_timms():
    assert_same_gradients(*as_timm("mobilenetv2_100"), TIMM_NAMES)


def test_gradients_equal_torchvisions():
    assert_same_gradients(*as_torchvision("mobilenetv2_050"), TORCHVISION_NAMES)


def test_the_head_grows_above_width_one_and_stays_below():
    heads = {name: fresh(name).head.features for name in PARAMS}
    assert heads.pop("mobilenetv2_140") == 1792
    assert heads.pop("mobilenetv2_130") == 1664
    assert set(heads.values()) == {1280}
    assert fresh("mobilenetv2_050", head_width=640).head.features == 640


def test_the_first_block_does_not_widen_and_every_other_widens_sixfold():
    blocks = [m for m in fresh("mobilenetv2_100").modules() if isinstance(m, InvertedResidual)]
    assert len(blocks) == 17
    assert isinstance(blocks[0].expand, torch.nn.Identity)
    assert {b.expand[0].out_channels // b.expand[0].in_channels for b in blocks[1:]} == {6}


def test_ten_of_the_seventeen_blocks_have_a_shortcut():
    blocks = [m for m in fresh("mobilenetv2_100").modules() if isinstance(m, InvertedResidual)]
    assert sum(block.shortcut for block in blocks) == 1 + 2 + 3 + 2 + 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": -1.0}, r"width must be above 0, not -1\.0"),
        ({"divisor": 0}, "divisor must be 1 or more, not 0"),
        ({"head_width": 0}, "head_width must be 1 or more, not 0"),
        ({"act": "relu"}, "unknown option of mobilenetv2_100 'act'"),
        ({"drop_path_rate": 1.0}, r"drop_path_rate must be in \[0, 1\), not 1\.0"),
    ],
)
def test_a_wrong_option_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        create_model("mobilenetv2_100", **options)
