"""Every key layout: a library's or an author's file gives the same outputs in the zoo's network.

The oracles are timm's and torchvision's networks with random weights and norms that are not
trivial; where the authors' keys are no library's, the names are written out here by hand from their
released files and code.
"""

from __future__ import annotations

import dataclasses
import re
import zipfile

import h5py
import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import torchvision
from timm.models.fastvit import checkpoint_filter_fn
from timm.utils.model import reparameterize_model
from torch import nn

from fleetfoot import create_model, list_models
from fleetfoot.errors import KeyMismatchError
from fleetfoot.models import FAMILIES, identify
from fleetfoot.weights.files import WeightsFile, read
from fleetfoot.weights.layouts import LAYOUTS, OTHERS
from fleetfoot.weights.loading import translate
from helpers import trained_
from keras_by_hand import keras_3_arrays, keras_arrays, keras_v2_arrays, keras_v3_arrays

EXACT = {"rtol": 1e-9, "atol": 1e-9}  # float64: the same sums in another order


def logits(model: nn.Module, size: int = 64) -> torch.Tensor:
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(2, 3, size, size, generator=rng, dtype=torch.float64)
    with torch.inference_mode():
        return model.double().eval()(x)


def saved(path, state):
    safetensors.torch.save_file({k: v.contiguous().clone() for k, v in state.items()}, path)
    return path


def others(layout, state, without="no module"):
    """Our state under the names of ``layout``: the table read from right to left."""
    back = dataclasses.replace(
        layout,
        modules={
            ours: theirs
            for theirs, ours in layout.modules.items()
            if not theirs.startswith(without)
        },
        leaves={ours: theirs for theirs, ours in layout.leaves.items()},
    )
    return {back.key(key): tensor for key, tensor in state.items()}


def layout_of(family, name):
    return next(x for x in LAYOUTS if (x.family, x.name) == (family, name))


def in_memory(state):
    return WeightsFile("memory", "test", state, (), (), {})


TIMM_NAMES = [name for name in list_models() if timm.is_model(name) or timm.is_model(f"tf_{name}")]


@pytest.mark.parametrize("name", TIMM_NAMES)
def test_every_variant_that_timm_has_fits_by_its_keys_and_shapes(name):
    with torch.device("meta"):
        state = timm.create_model(name if timm.is_model(name) else f"tf_{name}").state_dict()
        expected = create_model(name).state_dict()
    family = next(family.name for family in FAMILIES if name in family.variants)
    assert translate(in_memory(state), family).problems(expected) == ""


@pytest.mark.parametrize(
    "name",
    [
        "fasternet_t0", "fastvit_t8", "fastvit_sa12", "mobileone_s0", "mobileone_s4",
        "mobilenetv1_100", "mobilenetv1_100h", "mobilenetv2_050", "mobilenetv2_140",
        "mobilenetv3_large_100", "mobilenetv3_large_075", "mobilenetv3_small_100",
        "mobilenetv3_small_050",
    ],
)  # fmt: skip
def test_timms_files_load_exactly(name, tmp_path):
    theirs = trained_(timm.create_model(name))
    ours = create_model(name, weights=saved(tmp_path / "timm", theirs.state_dict()))
    assert ours.load_report.layout.startswith("timm")
    assert not ours.load_report.fresh
    torch.testing.assert_close(logits(ours), logits(theirs), **EXACT)


@pytest.mark.parametrize("name", ["mobilenetv3_large_minimal_100", "mobilenetv3_small_minimal_100"])
def test_tensorflows_files_from_timm_load_exactly(name, tmp_path):
    theirs = trained_(timm.create_model(f"tf_{name}"))
    ours = create_model(name, weights=saved(tmp_path / "timm", theirs.state_dict()))
    assert "padding='same'" in str(ours.load_report)
    torch.testing.assert_close(logits(ours), logits(theirs), **EXACT)


def torchvision_v3(size, width):
    conf, last = torchvision.models.mobilenetv3._mobilenet_v3_conf(
        f"mobilenet_v3_{size}", width_mult=width
    )
    return torchvision.models.MobileNetV3(conf, last)


TORCHVISION = {
    "mobilenetv2_100": lambda: torchvision.models.mobilenet_v2(),
    "mobilenetv2_035": lambda: torchvision.models.mobilenet_v2(width_mult=0.35),
    "mobilenetv3_large_100": lambda: torchvision_v3("large", 1.0),
    "mobilenetv3_small_100": lambda: torchvision_v3("small", 1.0),
    "mobilenetv3_large_075_tv": lambda: torchvision_v3("large", 0.75),
    "mobilenetv3_small_075_tv": lambda: torchvision_v3("small", 0.75),
    "shufflenet_v2_x0_5": lambda: torchvision.models.shufflenet_v2_x0_5(),
    "shufflenet_v2_x1_0": lambda: torchvision.models.shufflenet_v2_x1_0(),
    "shufflenet_v2_x2_0": lambda: torchvision.models.shufflenet_v2_x2_0(),
}


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvisions_files_load_exactly(name, tmp_path):
    theirs = trained_(TORCHVISION[name]())
    ours = create_model(name, weights=saved(tmp_path / "torchvision", theirs.state_dict()))
    assert ours.load_report.layout.startswith("torchvision")
    torch.testing.assert_close(logits(ours), logits(theirs), **EXACT)


def renamed(state, *rules):
    """Keys after each regular expression in turn."""
    names = {}
    for key, tensor in state.items():
        for pattern, replacement in rules:
            key = re.sub(pattern, replacement, key)
        names[key] = tensor
    return names


def test_fasternets_authors_number_blocks_and_merging_in_one_list(tmp_path):
    theirs = trained_(timm.create_model("fasternet_t0"))
    state = renamed(  # timm's stage 1 is the authors' 1 (merging) and 2 (blocks), and so on
        theirs.state_dict(),
        (r"^stages\.(\d)\.blocks", lambda m: f"stages.{2 * int(m[1])}.blocks"),
        (r"^stages\.(\d)\.downsample", lambda m: f"stages.{2 * int(m[1]) - 1}"),
        (r"^conv_head", "avgpool_pre_head.1"),
        (r"^classifier", "head"),
    )
    for key in (  # from the released file of T0
        "patch_embed.proj.weight", "stages.0.blocks.0.mlp.0.weight", "stages.1.reduction.weight",
        "stages.0.blocks.0.spatial_mixing.partial_conv3.weight", "stages.1.norm.running_mean",
        "stages.6.blocks.1.mlp.3.weight", "avgpool_pre_head.1.weight", "head.bias",
    ):  # fmt: skip
        assert key in state
    ours = create_model("fasternet_t0", weights=saved(tmp_path / "authors", state))
    assert ours.load_report.layout == "authors"
    torch.testing.assert_close(logits(ours), logits(theirs), **EXACT)


@pytest.mark.parametrize("name", ["fastvit_t8", "fastvit_sa12"])
def test_fastvits_authors_keys_are_those_that_timm_reads(name, tmp_path):
    ours = trained_(create_model(name))
    other = "network.6.*" if "sa" in name else "network.7.*"  # the last stage is the other
    state = others(layout_of("fastvit", "authors"), ours.state_dict(), without=other)
    last = "network.7.0.layer_scale_1" if "sa" in name else "network.6.0.layer_scale"
    for key in (  # from the released file of T8, and for SA the encoding's number
        "patch_embed.0.rbr_conv.0.conv.weight", "patch_embed.2.rbr_skip.weight",
        "network.0.0.token_mixer.norm.rbr_skip.bias", "network.1.proj.0.lkb_origin.conv.weight",
        "network.0.0.token_mixer.mixer.rbr_scale.conv.weight", "network.0.0.convffn.fc1.bias",
        "conv_exp.se.reduce.weight", "head.weight", last,
    ):  # fmt: skip
        assert key in state
    theirs = timm.create_model(name)
    theirs.load_state_dict(checkpoint_filter_fn(dict(state), theirs))  # timm's own reading of them
    loaded = create_model(name, weights=saved(tmp_path / "authors", state))
    assert loaded.load_report.layout == "authors"
    torch.testing.assert_close(logits(loaded), logits(theirs), **EXACT)
    torch.testing.assert_close(logits(ours), logits(theirs), **EXACT)


def fastvit_folded_by_the_authors(state, attention):
    """timm's folded keys as Apple's folded files name them."""
    last = 7 if attention else 6
    network = {"0": 0, "1": 2, "2": 4, "3": last}
    return renamed(
        state,
        (r"^stages\.(\d)\.blocks", lambda m: f"network.{network[m[1]]}"),
        (
            r"^stages\.(\d)\.downsample\.proj\.0\.reparam_conv",
            lambda m: f"network.{2 * int(m[1]) - 1}.proj.0.lkb_reparam",
        ),
        (r"^stages\.(\d)\.downsample", lambda m: f"network.{2 * int(m[1]) - 1}"),
        (r"^stages\.3\.pos_emb", "network.6"),
        (r"^stem", "patch_embed"),
        (r"\.mlp\.", ".convffn."),
        (r"\.gamma$", ""),
        (r"^final_conv", "conv_exp"),
        (r"se\.fc1", "se.reduce"),
        (r"se\.fc2", "se.expand"),
        (r"^head\.fc", "head"),
    )


@pytest.mark.parametrize(
    ("name", "whose"),
    [("fastvit_t8", "timm"), ("fastvit_t8", "authors"), ("fastvit_sa12", "authors")],
)
def test_folded_fastvit_is_the_same_function_in_the_training_form(name, whose, tmp_path):
    theirs = trained_(timm.create_model(name)).eval()
    theirs = reparameterize_model(theirs)
    state = theirs.state_dict()
    if whose == "authors":
        state = fastvit_folded_by_the_authors(state, "sa" in name)
        assert "network.1.proj.0.lkb_reparam.weight" in state
        assert "network.0.0.token_mixer.reparam_conv.weight" in state
    ours = create_model(name, weights=saved(tmp_path / "folded", state))
    assert ours.load_report.layout == f"{whose}, folded"
    assert "folded weights" in str(ours.load_report)
    torch.testing.assert_close(logits(ours), logits(theirs), **EXACT)


@pytest.mark.parametrize(("name", "whose"), [("mobileone_s0", "timm"), ("mobileone_s4", "authors")])
def test_folded_mobileone_is_the_same_function_in_the_training_form(name, whose, tmp_path):
    theirs = reparameterize_model(trained_(timm.create_model(name)).eval())
    state = theirs.state_dict()
    if whose == "authors":
        state = renamed(
            state,
            (r"^stem", "stage0"),
            (r"^stages\.(\d)", lambda m: f"stage{int(m[1]) + 1}"),
            (r"attn\.fc1", "se.reduce"),
            (r"attn\.fc2", "se.expand"),
            (r"^head\.fc", "linear"),
        )
        assert "stage1.0.reparam_conv.weight" in state
    ours = create_model(name, weights=saved(tmp_path / "folded", state))
    assert ours.load_report.layout == f"{whose}, folded"
    torch.testing.assert_close(logits(ours), logits(theirs), **EXACT)


HAND_WRITTEN = {  # keys that the authors' code and files have, one of each kind
    ("mobileone_s4", "authors"): [
        "stage0.rbr_conv.0.conv.weight", "stage0.rbr_scale.bn.bias", "stage1.2.rbr_skip.weight",
        "stage1.1.rbr_conv.0.bn.running_var", "stage4.1.se.reduce.weight", "linear.weight",
    ],
    ("mobileone_s0", "authors"): ["stage1.0.rbr_conv.3.conv.weight", "stage3.19.rbr_skip.bias"],
    ("mobilenetv2_100", "d-li14"): [
        "features.0.0.weight", "features.1.conv.0.weight", "features.1.conv.4.bias",
        "features.17.conv.7.running_mean", "conv.0.weight", "conv.1.bias", "classifier.weight",
    ],
    ("mobilenetv2_100", "tonylins"): ["features.2.conv.6.weight", "features.18.0.weight"],
    ("shufflenet_v1_g3_x0_5", "authors"): [
        "first_conv.0.weight", "features.0.branch_main_1.0.weight",
        "features.0.branch_main_1.4.bias", "features.15.branch_main_2.1.running_var",
        "classifier.0.weight",
    ],
    ("shufflenet_v2_x0_5_authors", "authors"): [
        "first_conv.1.bias", "features.0.branch_proj.3.weight", "features.15.branch_main.6.bias",
        "features.4.branch_proj.0.weight", "conv_last.0.weight", "classifier.0.weight",
    ],
    ("shufflenet_v2_plus_small", "authors"): [
        "features.2.branch_main.13.weight", "features.18.branch_main.15.SE_opr.4.weight",
        "features.8.branch_main.8.SE_opr.2.running_mean", "LastSE.SE_opr.1.weight", "fc.0.weight",
        "features.0.branch_proj.2.weight", "classifier.0.weight",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("name", "whose"), HAND_WRITTEN)
def test_the_authors_files_load_exactly(name, whose, tmp_path):
    model = trained_(create_model(name))
    family = next(family.name for family in FAMILIES if name in family.variants)
    state = others(layout_of(family, whose), model.state_dict())
    assert set(HAND_WRITTEN[name, whose]) <= set(state)
    loaded = create_model(name, weights=saved(tmp_path / "authors", state))
    assert loaded.load_report.layout == whose
    torch.testing.assert_close(loaded.state_dict(), model.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["shufflenet_v2_large", "shufflenet_v2_exlarge"])
def test_megviis_large_files_say_their_squeeze_twice_and_carry_heads_for_training(name):
    # 125 and 255 M values: names and shapes only
    family = next(family for family in FAMILIES if name in family.variants)
    kind = name.rpartition("_")[2]
    layout = layout_of("shufflenet_v2_large", f"authors, {kind}")
    with torch.device("meta"):
        row = dataclasses.replace(family.variants[name], auxiliary_heads=True)
        state = others(layout, family.build(row).state_dict())
    first = "features.0.2a" if kind == "large" else "features.0.0"
    inner = "" if kind == "large" else ".fc"
    for key in (
        f"{first}.proj.conv.weight", f"{first}.se_fc1{inner}.bias", f"fc{inner}.weight",
        "predict_28.conv.1.bn.bias", "predict_14.fc.weight",
    ):  # fmt: skip
        assert key in state
    repeated = {
        key.replace("se_fc1", "se_block.0").replace("se_fc2", "se_block.2"): tensor
        for key, tensor in state.items()
        if "se_fc" in key
    }
    assert [fit.name for fit in identify(in_memory(state | repeated))] == [name]


@pytest.mark.parametrize("container", ["npz", "h5", "whole h5"])
@pytest.mark.parametrize("name", ["mobilenetv1_025", "mobilenetv1_075"])
def test_keras_files_load_exactly_with_the_options_that_they_need(name, container, tmp_path):
    model = trained_(create_model(name, padding="same", norm_eps=1e-3))
    arrays = keras_arrays(model)
    path = tmp_path / "keras"
    if container == "npz":
        with open(path, "wb") as file:
            np.savez(file, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for key, array in arrays.items():
                file["model_weights/" * (container == "whole h5") + key] = array
    loaded = create_model(name, weights=path)
    assert loaded.load_report.layout == "keras"
    assert loaded.load_report.used == len(arrays)
    assert (loaded.config.padding, loaded.config.norm_eps) == ("same", 1e-3)
    assert loaded.pretrained_cfg.mean == (0.5, 0.5, 0.5)
    torch.testing.assert_close(logits(loaded), logits(model), **EXACT)


KERAS_FORM = {"padding": "same", "norm_eps": 1e-3}
KERAS = {
    "v1": ("mobilenetv1_025", keras_arrays),
    "v2": ("mobilenetv2_035", keras_v2_arrays),
    "v3 large": ("mobilenetv3_large_100", lambda model: keras_v3_arrays(model, old=False)),
    "v3 small, old names": (
        "mobilenetv3_small_075",
        lambda model: keras_v3_arrays(model, old=True),
    ),
    "v3 minimalistic": (
        "mobilenetv3_small_minimal_100",
        lambda model: keras_v3_arrays(model, old=False),
    ),
}


@pytest.mark.parametrize("numbered", [False, True], ids=["by name", "by number"])
@pytest.mark.parametrize("whose", KERAS)
def test_keras_mobilenets_load_exactly(whose, numbered, tmp_path):
    name, arrays_of = KERAS[whose]
    model = trained_(create_model(name, **KERAS_FORM))
    arrays = arrays_of(model)
    if not numbered and whose != "v1":
        known = {
            "v2": "block_16_project_BN/block_16_project_BN/moving_variance:0",
            "v3 large": "expanded_conv_3_squeeze_excite_conv_1"
            "/expanded_conv_3_squeeze_excite_conv_1/bias:0",
            "v3 small, old names": "expanded_conv/squeeze_excite/Conv"
            "/expanded_conv/squeeze_excite/Conv/kernel:0",
            "v3 minimalistic": "expanded_conv_depthwise/expanded_conv_depthwise/depthwise_kernel:0",
        }
        assert known[whose] in arrays  # from Keras's own code
    path = tmp_path / "keras.h5"
    with h5py.File(path, "w") as file:
        for key, array in (keras_3_arrays(arrays) if numbered else arrays).items():
            file[key] = array
    if numbered:  # as Keras 3 packs a whole model
        with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
            archive.writestr("config.json", "{}")
            archive.write(path, "model.weights.h5")
        path = tmp_path / "model.keras"
    loaded = create_model(name, weights=path)
    assert loaded.load_report.layout.startswith("keras 3" if numbered else "keras")
    assert loaded.load_report.used == len(arrays)
    assert (loaded.config.padding, loaded.config.norm_eps) == ("same", 1e-3)
    assert loaded.pretrained_cfg.mean == (0.5, 0.5, 0.5)
    torch.testing.assert_close(logits(loaded), logits(model), **EXACT)
    assert {fit.name for fit in identify(read(path))} == {name}


def test_d_li14s_mobilenet_v3_is_refused_with_the_reason(tmp_path):
    state = {  # its first expanded block with squeeze-excite, by the names of its code
        f"features.4.conv.{n}.{leaf}": torch.ones(1)
        for n, leaf in ((0, "weight"), (1, "bias"), (3, "weight"), (5, "fc.0.weight"),
                        (5, "fc.2.bias"), (7, "weight"), (8, "running_var"))
    }  # fmt: skip
    state |= {"conv.0.weight": torch.ones(1), "classifier.3.weight": torch.ones(1)}
    path = saved(tmp_path / "d-li14", state)
    with pytest.raises(KeyMismatchError, match="before the activation"):
        create_model("mobilenetv3_large_100", weights=path)


@pytest.mark.parametrize("name", list_models())
def test_our_own_layout_has_every_key_of_every_network(name):
    with torch.device("meta"):
        keys = create_model(name).state_dict()
    family = next(family.name for family in FAMILIES if name in family.variants)
    assert layout_of(family, "fleetfoot").share(keys) == 1


def test_no_two_modules_of_a_layout_name_one_of_ours_but_where_numbering_varies():
    allowed = {"mobilenet_v3"}  # torchvision's numbers shift with squeeze-excite
    for layout in OTHERS:
        if layout.family in allowed:
            continue
        targets = [ours for ours in layout.modules.values() if ours]
        twice = {ours for ours in targets if targets.count(ours) > 1}
        # FastViT's last stage is number 6 or 7 of Apple's list, as there is an encoding or none
        assert all(ours.startswith("stages.3.blocks") for ours in twice), (layout, twice)
