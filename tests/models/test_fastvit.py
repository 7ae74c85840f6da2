"""FastViT's training form: counted figures, and timm's module under copied weights."""

from __future__ import annotations

import pytest
import timm_parity
import torch

from fleetfoot.models import create_model, list_models
from fleetfoot.ops.attention import Attention
from fleetfoot.ops.branches import ConditionalPositionalEncoding
from fleetfoot.ops.drop_path import DropPath
from helpers import trainable
from oracle_macs import macs_of

# params, batch norm buffers, multiply-adds at 256 pixels, and those of Q Kᵀ and A V among them
COUNTED = {
    "fastvit_t8": (4_026_232, 27_334, 690_149_376, 0),
    "fastvit_t12": (7_553_704, 41_552, 1_397_727_232, 0),
    "fastvit_s12": (9_473_576, 41_552, 1_800_380_416, 0),
    "fastvit_sa12": (11_580_968, 35_402, 1_943_937_024, 8_388_608),
    "fastvit_sa24": (21_554_216, 58_752, 3_769_966_592, 16_777_216),
    "fastvit_sa36": (31_527_464, 82_102, 5_595_996_160, 25_165_824),
    "fastvit_ma36": (44_068_004, 97_462, 7_825_709_056, 29_884_416),
}
ATTENDING = [name for name in COUNTED if name.startswith(("fastvit_sa", "fastvit_ma"))]

FROM_TIMM: timm_parity.Rules = {
    r"^final_conv\.": "head.body.0.",
    r"\.se\.fc1\.": ".squeeze_excite.reduce.",
    r"\.se\.fc2\.": ".squeeze_excite.expand.",
    r"^head\.fc\.": "head.classifier.",
    r"\.downsample\.proj\.": ".embed.",
    r"\.(large|small)_conv\.conv\.": r".\1.0.",
    r"\.(large|small)_conv\.bn\.": r".\1.1.",
    r"\.token_mixer\.norm\.identity\.": ".mixer.norm.",
    r"\.token_mixer\.mixer\.": ".mixer.mix.",
    r"\.token_mixer\.layer_scale\.gamma$": ".mixer.layer_scale",
    r"\.mlp\.conv\.conv\.": ".ffn.conv.0.",
    r"\.mlp\.conv\.bn\.": ".ffn.conv.1.",
    r"\.mlp\.fc1\.": ".ffn.expand.",
    r"\.mlp\.fc2\.": ".ffn.project.",
    r"\.layer_scale(_[12])?\.gamma$": r".layer_scale\1",
    # a MobileOne block holds its sum of branches, RepMixer is given one bare
    r"(?<!\.mix)\.(?=conv_kxk\.|conv_scale\.|identity\.)": ".sum.",
    r"\.conv_kxk\.(\d+)\.conv\.": r".branches.conv\1.0.",
    r"\.conv_kxk\.(\d+)\.bn\.": r".branches.conv\1.1.",
    r"\.conv_scale\.conv\.": ".branches.scale.0.",
    r"\.conv_scale\.bn\.": ".branches.scale.1.",
    r"\.identity\.": ".branches.skip.",
}
FROM_TIMM_ATTENDING: timm_parity.Rules = {
    **FROM_TIMM,
    r"\.pos_emb\.pos_enc\.": ".position.conv.",
    r"\.token_mixer\.qkv\.": ".attention.qkv.",
    r"\.token_mixer\.proj\.": ".attention.project.",
}


def rules_of(name: str) -> timm_parity.Rules:
    return FROM_TIMM_ATTENDING if name in ATTENDING else FROM_TIMM


def test_every_published_variant_is_listed():
    assert list_models(family="fastvit") == list(COUNTED)


@pytest.mark.parametrize("name", COUNTED)
def test_params_buffers_and_macs_are_the_counted_ones(name):
    params, buffers, macs, attention_macs = COUNTED[name]
    with torch.device("meta"):
        model = create_model(name)
        counted = macs_of(model.eval(), torch.empty(1, 3, 256, 256))
    assert trainable(model) == params
    assert sum(buffer.numel() for buffer in model.buffers()) == buffers
    assert (counted.layers + counted.attention, counted.attention) == (macs, attention_macs)


@pytest.fixture(scope="module", params=COUNTED)
def pair(request):
    return timm_parity.pair(request.param, rules_of(request.param))


def test_outputs_equal_timms(pair):
    timm_parity.assert_same_outputs(pair)


def test_feature_info_equals_timms(pair):
    timm_parity.assert_same_feature_info(pair)


def test_feature_maps_equal_timms():
    timm_parity.assert_same_maps(timm_parity.pair("fastvit_sa12", FROM_TIMM_ATTENDING))


@pytest.mark.parametrize("name", ["fastvit_t8", "fastvit_sa12"])
def test_a_training_step_equals_timms(name):
    rules = rules_of(name)
    timm_parity.assert_same_training_step(timm_parity.pair(name, rules), rules)


@pytest.mark.parametrize("name", COUNTED)
def test_attention_and_its_positions_stand_in_the_last_stage_alone(name):
    with torch.device("meta"):
        model = create_model(name)
    where = [
        key
        for key, module in model.named_modules()
        if isinstance(module, Attention | ConditionalPositionalEncoding)
    ]
    assert bool(where) == (name in ATTENDING)
    assert all(key.startswith("stages.3.") for key in where)


@torch.no_grad()
def test_the_last_map_is_that_of_the_attention_stage_and_not_of_its_positional_encoding():
    extractor = create_model("fastvit_sa12", features_only=True, out_indices=(3,)).eval()
    seen = {}
    stage = extractor.backbone.stages[3]
    for name in ("position", "blocks"):
        stage.get_submodule(name).register_forward_hook(
            lambda _, __, output, name=name: seen.setdefault(name, output)
        )
    (last,) = extractor(torch.randn(1, 3, 64, 64))
    assert torch.equal(last, seen["blocks"])
    assert seen["position"].shape == last.shape  # so that the wrong one would go unnoticed
    assert not torch.equal(last, seen["position"])


@pytest.mark.parametrize(
    ("name", "start"), [("fastvit_t8", 1e-5), ("fastvit_sa36", 1e-6), ("fastvit_ma36", 1e-6)]
)
def test_layer_scales_start_where_the_authors_start_them(name, start):
    model = create_model(name, width=32, depths=(1, 1, 1, 1))
    scales = [p for key, p in model.named_parameters() if "layer_scale" in key]
    assert len(scales) == 8  # two a block
    assert all((scale == torch.tensor(start)).all() for scale in scales)


def test_drop_path_rises_linearly_to_the_rate_over_all_blocks():
    with torch.device("meta"):
        model = create_model("fastvit_sa12", drop_path_rate=0.22)
    rates = [m.rate for m in model.modules() if isinstance(m, DropPath)]
    assert rates == pytest.approx([0.02 * i for i in range(1, 12)])  # block 0 is never dropped


def test_nothing_but_the_one_by_one_follows_the_large_kernel():
    with torch.device("meta"):
        embed = create_model("fastvit_t8").stages[1].embed
    assert [type(module).__name__ for module in embed] == ["LargeKernelConv", "MobileOneBlock"]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("fastvit_t8", {"depths": (2, 2)}, "depths must name 4 stages, not 2"),
        ("fastvit_sa12", {"width": 50}, r"channels \(400\) must be divisible by head_channels"),
    ],
)
def test_a_row_that_cannot_be_built_is_an_error(name, options, message):
    with pytest.raises(ValueError, match=message):
        create_model(name, **options)
