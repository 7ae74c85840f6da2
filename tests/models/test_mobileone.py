"""MobileOne's training form: counted figures, and timm's module under copied weights."""

from __future__ import annotations

import re

import pytest
import timm_parity
import torch

from fleetfoot.models import create_model, list_models
from helpers import trainable
from oracle_macs import macs_of

# params, batch norm buffers, multiply-adds at 224 pixels
COUNTED = {
    "mobileone_s0": (5_293_272, 88_418, 1_051_935_232),
    "mobileone_s1": (4_825_192, 68_451, 830_062_080),
    "mobileone_s2": (7_884_648, 87_139, 1_304_027_392),
    "mobileone_s3": (10_170_600, 104_803, 1_902_112_768),
    "mobileone_s4": (14_951_248, 127_843, 2_986_802_432),
}


def _half_of_a_block(match: re.Match[str]) -> str:
    """timm numbers the depthwise and the pointwise halves on; ours are two of one block."""
    stage, number = int(match[1]), int(match[2])
    return f"stages.{stage}.{number // 2}.{('depthwise', 'pointwise')[number % 2]}."


FROM_TIMM: timm_parity.Rules = {
    r"^stages\.(\d+)\.(\d+)\.": _half_of_a_block,
    r"\.conv_kxk\.(\d+)\.conv\.": r".sum.branches.conv\1.0.",
    r"\.conv_kxk\.(\d+)\.bn\.": r".sum.branches.conv\1.1.",
    r"\.conv_scale\.conv\.": ".sum.branches.scale.0.",
    r"\.conv_scale\.bn\.": ".sum.branches.scale.1.",
    r"\.identity\.": ".sum.branches.skip.",
    r"^head\.fc\.": "head.classifier.",
}
FROM_TIMM_S4: timm_parity.Rules = {
    **FROM_TIMM,
    r"\.attn\.fc1\.": ".squeeze_excite.reduce.",
    r"\.attn\.fc2\.": ".squeeze_excite.expand.",
}


def pair_of(name: str) -> timm_parity.Pair:
    return timm_parity.pair(name, FROM_TIMM_S4 if name == "mobileone_s4" else FROM_TIMM)


def test_every_published_variant_is_listed():
    assert list_models(family="mobileone") == list(COUNTED)


@pytest.mark.parametrize("name", COUNTED)
def test_params_buffers_and_macs_are_the_counted_ones(name):
    params, buffers, macs = COUNTED[name]
    with torch.device("meta"):
        model = create_model(name)
        counted = macs_of(model.eval(), torch.empty(1, 3, 224, 224))
    assert trainable(model) == params
    assert sum(buffer.numel() for buffer in model.buffers()) == buffers
    assert (counted.layers, counted.attention) == (macs, 0)


@pytest.fixture(scope="module", params=COUNTED)
def pair(request):
    return pair_of(request.param)


def test_outputs_equal_timms(pair):
    timm_parity.assert_same_outputs(pair)


def test_feature_info_equals_timms(pair):
    timm_parity.assert_same_feature_info(pair)


def test_feature_maps_equal_timms():
    timm_parity.assert_same_maps(pair_of("mobileone_s1"))


@pytest.mark.parametrize("name", ["mobileone_s0", "mobileone_s4"])
def test_a_training_step_equals_timms(name):
    rules = FROM_TIMM_S4 if name == "mobileone_s4" else FROM_TIMM
    timm_parity.assert_same_training_step(pair_of(name), rules)


def test_squeeze_excitation_stands_in_the_last_five_blocks_of_stage_three_and_in_stage_four():
    with torch.device("meta"):
        model = create_model("mobileone_s4")
    excited = {
        key.partition(".squeeze_excite.reduce")[0]
        for key in model.state_dict()
        if "squeeze_excite.reduce" in key
    }
    blocks = [f"stages.2.{i}" for i in range(5, 10)] + ["stages.3.0"]
    assert excited == {f"{b}.{half}" for b in blocks for half in ("depthwise", "pointwise")}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widths": (1.0, 1.0)}, "widths must name 4 stages, not 2"),
        ({"squeeze_excite": (0, 0, 1)}, "squeeze_excite must name 4 stages, not 3"),
        ({"branches": 0}, "branches must be 1 or more, not 0"),
    ],
)
def test_a_row_that_cannot_be_built_is_an_error(options, message):
    with pytest.raises(ValueError, match=message):
        create_model("mobileone_s1", **options)
