"""MobileNetV3 against counted figures, timm's module and torchvision's."""

from __future__ import annotations

from functools import cache

import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision.models.mobilenetv3 import MobileNetV3 as TorchvisionMobileNetV3
from torchvision.models.mobilenetv3 import _mobilenet_v3_conf

from fleetfoot.models import create_model, list_models
from fleetfoot.models.mobilenet_v3 import LARGE, SMALL, TABLES
from fleetfoot.ops.conv import SamePadConv2d
from fleetfoot.ops.separable import InvertedResidual
from fleetfoot.ops.squeeze_excite import SqueezeExcite
from helpers import trainable, trained_
from mobilenet_parity import (
    assert_same_gradients,
    assert_same_maps,
    assert_same_outputs,
    renamed,
    torchvision_names,
)
from oracle_macs import macs_of

FIGURES = {  # params, MACs at 224 pixels
    "mobilenetv3_large_100": (5_483_032, 216_589_760),
    "mobilenetv3_large_075": (3_993_528, 154_560_624),
    "mobilenetv3_large_075_tv": (3_377_576, 140_033_816),
    "mobilenetv3_small_100": (2_542_856, 56_510_400),
    "mobilenetv3_small_075": (2_041_872, 43_399_344),
    "mobilenetv3_small_075_tv": (1_653_920, 39_115_576),
}

TIMM = {  # ours -> timm's
    "mobilenetv3_large_100": "mobilenetv3_large_100",
    "mobilenetv3_large_075": "mobilenetv3_large_075",
    "mobilenetv3_large_minimal_100": "tf_mobilenetv3_large_minimal_100",
    "mobilenetv3_small_100": "mobilenetv3_small_100",
    "mobilenetv3_small_075": "mobilenetv3_small_075",
    "mobilenetv3_small_050": "mobilenetv3_small_050",
    "mobilenetv3_small_minimal_100": "tf_mobilenetv3_small_minimal_100",
}

TORCHVISION = {  # ours -> torchvision's size and width
    "mobilenetv3_large_100": ("large", 1.0),
    "mobilenetv3_large_075_tv": ("large", 0.75),
    "mobilenetv3_small_100": ("small", 1.0),
    "mobilenetv3_small_075_tv": ("small", 0.75),
}


def timm_names(size: str, minimal: bool) -> list[tuple[str, str]]:
    """Our modules beside timm's, which start a new ``blocks.i`` at every row that changes the
    width."""
    names = [("stem.0", "conv_stem"), ("stem.1", "bn1")]
    group, inside = -1, 0
    before = 0
    for stage, rows in enumerate(TABLES[size]):
        for block, row in enumerate(rows):
            if row.channels != before or row.stride == 2:
                group, inside = group + 1, 0
            before = row.channels
            ours, theirs = f"stages.{stage}.{block}", f"blocks.{group}.{inside}"
            first = group == 0
            parts = [("depthwise", "conv_dw"), ("project", "conv_pw" if first else "conv_pwl")]
            if not first:
                parts.insert(0, ("expand", "conv_pw"))
            for i, (part, conv) in enumerate(parts, start=1):
                names.append((f"{ours}.{part}.0", f"{theirs}.{conv}"))
                names.append((f"{ours}.{part}.1", f"{theirs}.bn{i}"))
            if row.squeeze and not minimal:
                names.append((f"{ours}.squeeze_excite.reduce", f"{theirs}.se.conv_reduce"))
                names.append((f"{ours}.squeeze_excite.expand", f"{theirs}.se.conv_expand"))
            inside += 1
    end = f"stages.4.{len(TABLES[size][-1])}"
    names += [
        (f"{end}.0", f"blocks.{group + 1}.0.conv"),
        (f"{end}.1", f"blocks.{group + 1}.0.bn1"),
        ("head.body.conv", "conv_head"),
        ("head.classifier", "classifier"),
    ]
    return names


def as_timm(name: str, **options):
    """Ours and timm's network with the same weights, and the pairs of their modules."""
    theirs = trained_(timm.create_model(TIMM[name])).double().eval()
    ours = create_model(name, **options).double().eval()
    names = timm_names(ours.config.size, ours.config.minimal)
    ours.load_state_dict(renamed(theirs.state_dict(), names))
    return ours, theirs, names


def as_torchvision(name: str, reduced_tail: bool = False):
    """torchvision's network with its own norms, without its dropout, and ours with its weights."""
    size, width = TORCHVISION[name]
    rows, last = _mobilenet_v3_conf(
        f"mobilenet_v3_{size}", width_mult=width, reduced_tail=reduced_tail
    )
    theirs = trained_(TorchvisionMobileNetV3(rows, last, dropout=0.0)).double().eval()
    chosen = {"norm_eps": 1e-3, "norm_momentum": 0.01, "reduced_tail": reduced_tail}
    ours = create_model(name, **chosen).double().eval()
    names = torchvision_names(size)
    state = renamed(theirs.state_dict(), names)
    key = "head.body.conv.weight"  # a 1×1 here, a linear layer there
    state[key] = state[key][..., None, None]
    ours.load_state_dict(state)
    return ours, theirs, names


@cache
def fresh(name: str, **options):
    """To be looked at and run, not to be changed."""
    return create_model(name, **options).eval()


def test_every_variant_is_in_the_table():
    assert set(list_models(family="mobilenet_v3")) == {*TIMM, *TORCHVISION}
    assert {*FIGURES, *TIMM} == {*TIMM, *TORCHVISION}


@pytest.mark.parametrize("name", FIGURES)
def test_params_and_macs(name):
    model = fresh(name)
    counted = (trainable(model), macs_of(model.eval(), torch.zeros(1, 3, 224, 224)).layers)
    assert counted == FIGURES[name]


@pytest.mark.parametrize("name", TIMM)
def test_params_and_macs_equal_timms(name):
    theirs = timm.create_model(TIMM[name])
    ours = fresh(name)
    assert trainable(ours) == trainable(theirs)
    counted = [
        macs_of(model.eval(), torch.zeros(1, 3, 224, 224)).layers for model in (ours, theirs)
    ]
    assert counted[0] == counted[1]


def test_minimalistic_large_has_the_figures_that_tensorflow_publishes():
    model = fresh("mobilenetv3_large_minimal_100")
    assert round(trainable(model) / 1e6, 1) == 3.9
    assert round(macs_of(model.eval(), torch.zeros(1, 3, 224, 224)).layers / 1e6) == 209


@pytest.mark.parametrize("name", TIMM)
def test_outputs_and_maps_equal_timms(name):
    ours, theirs, _ = as_timm(name)
    assert_same_outputs(ours, theirs)
    assert_same_maps(ours, theirs, TIMM[name])


def test_outputs_equal_timms_with_tensorflows_padding_at_a_size_that_halves_unevenly():
    theirs = timm.create_model("tf_mobilenetv3_small_100")
    trained_(theirs).double().eval()
    ours = create_model("mobilenetv3_small_100", padding="same", norm_eps=1e-3).double().eval()
    ours.load_state_dict(renamed(theirs.state_dict(), timm_names("small", minimal=False)))
    assert_same_outputs(ours, theirs)
    assert_same_outputs(ours, theirs, size=75)


@pytest.mark.parametrize("reduced_tail", [False, True])
@pytest.mark.parametrize("name", TORCHVISION)
def test_outputs_equal_torchvisions(name, reduced_tail):
    ours, theirs, _ = as_torchvision(name, reduced_tail)
    assert_same_outputs(ours, theirs)


@pytest.mark.parametrize("name", ["mobilenetv3_large_100", "mobilenetv3_small_minimal_100"])
def test_gradients_equal_timms(name):
    assert_same_gradients(*as_timm(name))


@pytest.mark.parametrize("name", ["mobilenetv3_large_075_tv", "mobilenetv3_small_100"])
def test_gradients_equal_torchvisions(name):
    assert_same_gradients(*as_torchvision(name))


def test_the_two_meanings_of_width_075_are_two_networks():
    for size in ("large", "small"):
        ours, tv = fresh(f"mobilenetv3_{size}_075"), fresh(f"mobilenetv3_{size}_075_tv")
        assert [i.channels for i in ours.feature_info] == [i.channels for i in tv.feature_info]
        assert trainable(ours) > trainable(tv)


def test_at_width_one_both_meanings_are_the_same_network():
    by_ratio = fresh("mobilenetv3_large_100", scaling="ratio").state_dict()
    by_columns = fresh("mobilenetv3_large_100", scaling="columns").state_dict()
    assert {k: v.shape for k, v in by_ratio.items()} == {k: v.shape for k, v in by_columns.items()}


def test_the_stem_keeps_its_channels_below_075_by_ratio_and_not_by_columns():
    assert fresh("mobilenetv3_small_100", width=0.5).stem[0].out_channels == 16
    narrow = fresh("mobilenetv3_small_100", width=0.5, scaling="columns")
    assert narrow.stem[0].out_channels == 8


def test_squeeze_excite_stands_after_the_activation():
    model = create_model("mobilenetv3_small_100").eval()
    block = model.stages[3][0]
    seen: list[Tensor] = []
    block.squeeze_excite.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    with torch.no_grad():
        model(torch.randn(1, 3, 64, 64))
        low = nn.Hardswish()(torch.tensor(-1.5)).item()  # where hard-swish is lowest
    assert seen[0].min().item() >= low


def test_small_has_1024_channels_in_its_head_and_no_squeeze_excite_on_the_last_1x1():
    model = fresh("mobilenetv3_small_100")
    assert model.head.features == 1024
    assert [type(m).__name__ for m in model.stages[-1][-1]] == [
        "Conv2d",
        "BatchNorm2d",
        "Hardswish",
    ]
    # the paper's 1280 are 256 more: each has 576 weights and a bias, and 1000 weights behind it
    wider = fresh("mobilenetv3_small_100", head_width=1280)
    assert trainable(wider) - trainable(model) == 256 * (576 + 1 + 1000)


def test_the_tables_have_the_papers_squeeze_excites_and_hard_swishes():
    assert [sum(row.squeeze for rows in t for row in rows) for t in (LARGE, SMALL)] == [8, 9]
    late = [sum(row.act == "HS" for rows in t for row in rows) for t in (LARGE, SMALL)]
    assert late == [9, 8]


def test_minimalistic_has_neither_squeeze_excite_nor_hard_swish_nor_5x5():
    model = fresh("mobilenetv3_large_minimal_100")
    assert not [m for m in model.modules() if isinstance(m, SqueezeExcite | nn.Hardswish)]
    assert {m.kernel_size for m in model.modules() if isinstance(m, nn.Conv2d)} == {(1, 1), (3, 3)}
    assert any(isinstance(m, SamePadConv2d) for m in model.modules())


def test_drop_path_rises_to_its_rate_over_the_blocks_with_a_shortcut():
    model = fresh("mobilenetv3_large_100", drop_path_rate=0.14)
    blocks = [m for m in model.modules() if isinstance(m, InvertedResidual)]
    rates = [getattr(block.drop_path, "rate", None) for block in blocks]
    expected = [0.01 * i if block.shortcut and i else None for i, block in enumerate(blocks)]
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": "medium"}, "size must be 'large' or 'small', not 'medium'"),
        ({"scaling": "torchvision"}, "scaling must be 'ratio' or 'columns', not 'torchvision'"),
        ({"head_width": 0}, "head_width must be 1 or more, not 0"),
        ({"drop_path_rate": 1.0}, r"drop_path_rate must be in \[0, 1\), not 1\.0"),
    ],
)
def test_a_wrong_option_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        create_model("mobilenetv3_large_100", **options)
