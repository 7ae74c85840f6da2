"""FasterNet: counted figures, and timm's module under copied weights."""

from __future__ import annotations

import pytest
import timm_parity
import torch
from torch import nn

from fleetfoot.models import create_model, list_models
from fleetfoot.models.fasternet import Block, FasterNetConfig
from helpers import trainable
from oracle_macs import macs_of

# params, batch norm buffers, multiply-adds at 224 pixels
COUNTED = {
    "fasternet_t0": (3_905_500, 9_697, 335_422_720),
    "fasternet_t1": (7_595_368, 15_505, 850_511_872),
    "fasternet_t2": (14_982_888, 23_249, 1_904_334_848),
    "fasternet_s": (31_181_032, 41_238, 4_549_740_544),
    "fasternet_m": (53_521_464, 65_984, 8_721_938_432),
    "fasternet_l": (93_465_192, 87_968, 15_494_383_616),
}

FROM_TIMM: timm_parity.Rules = {
    r"^patch_embed\.proj\.": "stem.0.",
    r"^patch_embed\.norm\.": "stem.1.",
    r"\.downsample\.reduction\.": ".merge.0.",
    r"\.downsample\.norm\.": ".merge.1.",
    r"\.spatial_mixing\.partial_conv3\.": ".pconv.conv.",
    r"\.mlp\.0\.": ".expand.",
    r"\.mlp\.1\.": ".norm.",
    r"\.mlp\.3\.": ".project.",
    r"^conv_head\.": "head.body.1.",
    r"^classifier\.": "head.classifier.",
}


def test_every_published_variant_is_listed():
    assert list_models(family="fasternet") == list(COUNTED)


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
    return timm_parity.pair(request.param, FROM_TIMM)


def test_outputs_equal_timms(pair):
    timm_parity.assert_same_outputs(pair)


def test_feature_info_equals_timms(pair):
    timm_parity.assert_same_feature_info(pair)


def test_feature_maps_equal_timms():
    timm_parity.assert_same_maps(timm_parity.pair("fasternet_t0", FROM_TIMM))


@pytest.mark.parametrize("name", ["fasternet_t0", "fasternet_t2"])  # GELU and ReLU
def test_a_training_step_equals_timms(name):
    timm_parity.assert_same_training_step(timm_parity.pair(name, FROM_TIMM), FROM_TIMM)


def test_a_block_is_its_formula():
    block = Block(8, FasterNetConfig(width=8, depths=(1,), act="relu"), drop=0.0).double().eval()
    block.norm.running_mean.uniform_(-0.5, 0.5)
    x = torch.randn(2, 8, 5, 5, dtype=torch.float64)
    with torch.no_grad():
        mixed = torch.cat((block.pconv.conv(x[:, :2]), x[:, 2:]), dim=1)
        hidden = nn.functional.relu(block.norm(block.expand(mixed)))
        torch.testing.assert_close(block(x), x + block.project(hidden))


def test_a_width_that_the_pconv_cannot_split_is_an_error():
    with pytest.raises(ValueError, match=r"channels \(42\) must be divisible by ratio \(4\)"):
        create_model("fasternet_t0", width=42)
