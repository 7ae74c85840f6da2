"""MobileNetV1 against the paper's table, counted figures and timm's module."""

from __future__ import annotations

from functools import cache

import pytest
import timm
import torch

from fleetfoot.models import configure, create_model, list_models
from fleetfoot.ops.conv import SamePadConv2d
from helpers import trainable, trained_
from mobilenet_parity import assert_same_gradients, assert_same_maps, assert_same_outputs, renamed
from oracle_macs import macs_of

PARAMS = {
    "mobilenetv1_125": 6_270_840,
    "mobilenetv1_100h": 5_282_600,
    "mobilenetv1_100": 4_231_976,
    "mobilenetv1_075": 2_585_560,
    "mobilenetv1_050": 1_331_592,
    "mobilenetv1_025": 470_072,
}

MILLION_MACS = {  # at 224, 192, 160, 128 pixels
    "mobilenetv1_100": (568.74, 418.12, 290.68, 186.40),
    "mobilenetv1_075": (325.40, 239.27, 166.40, 106.77),
    "mobilenetv1_050": (149.50, 109.97, 76.52, 49.16),
    "mobilenetv1_025": (41.03, 30.21, 21.06, 13.57),
}

TIMM_NAMES = [("stem.0", "conv_stem"), ("stem.1", "bn1")]
for _stage, _blocks in enumerate((1, 2, 2, 6, 2)):
    for _block in range(_blocks):
        for _ours, _theirs in (
            ("depthwise.0", "conv_dw"),
            ("depthwise.1", "bn1"),
            ("pointwise.0", "conv_pw"),
            ("pointwise.1", "bn2"),
        ):
            TIMM_NAMES.append(
                (f"stages.{_stage}.{_block}.{_ours}", f"blocks.{_stage}.{_block}.{_theirs}")
            )
TIMM_NAMES += [
    ("head.body.conv.0", "conv_head"),
    ("head.body.conv.1", "bn2"),
    ("head.classifier", "classifier"),
]


def as_timm(name: str, **options):
    """Ours and timm's network of that name, with the same weights."""
    theirs = trained_(timm.create_model(name, **options)).double().eval()
    ours = create_model(name).double().eval()
    ours.load_state_dict(renamed(theirs.state_dict(), TIMM_NAMES))
    return ours, theirs


@cache
def fresh(name: str, **options):
    """To be looked at and run, not to be changed."""
    return create_model(name, **options).eval()


def test_every_variant_is_in_the_table():
    assert list_models(family="mobilenet_v1") == list(PARAMS)


@pytest.mark.parametrize("name", PARAMS)
def test_params(name):
    assert trainable(fresh(name)) == PARAMS[name]


@pytest.mark.parametrize("name", MILLION_MACS)
@pytest.mark.parametrize(("column", "size"), list(enumerate((224, 192, 160, 128))))
def test_macs(name, column, size):
    macs = macs_of(fresh(name).eval(), torch.zeros(1, 3, size, size)).layers
    assert round(macs / 1e6, 2) == MILLION_MACS[name][column]


@pytest.mark.parametrize("name", ["mobilenetv1_100", "mobilenetv1_125", "mobilenetv1_100h"])
def test_outputs_equal_timms(name):
    assert_same_outputs(*as_timm(name))


def test_outputs_equal_timms_with_tensorflows_padding():
    theirs = timm.create_model("mobilenetv1_100", pad_type="same", bn_eps=1e-3)
    ours = create_model("mobilenetv1_100", padding="same", norm_eps=1e-3)
    trained_(theirs).double().eval()
    ours.load_state_dict(renamed(theirs.state_dict(), TIMM_NAMES))
    assert_same_outputs(ours.double().eval(), theirs)


def test_gradients_equal_timms():
    ours, theirs = as_timm("mobilenetv1_100")
    assert_same_gradients(ours, theirs, TIMM_NAMES)


@pytest.mark.parametrize("name", ["mobilenetv1_100", "mobilenetv1_125"])
def test_maps_equal_timms(name):
    ours, theirs = as_timm(name)
    assert_same_maps(ours, theirs, name)


def test_the_last_depthwise_convolution_has_stride_one_whatever_table_1_prints():
    model = create_model("mobilenetv1_025")
    strides = [block.depthwise[0].stride[0] for stage in model.stages for block in stage]
    assert strides == [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1]


def test_any_width():
    model = create_model("mobilenetv1_100", width=0.33)
    assert model.stem[0].out_channels == 16  # 32 * 0.33 = 10.56: 8 would be 24 % too few
    assert [info.channels for info in model.feature_info] == [24, 40, 88, 168, 336]


@pytest.mark.parametrize(("act", "kind"), [("relu", torch.nn.ReLU), ("relu6", torch.nn.ReLU6)])
def test_the_activation_is_relu6_unless_the_papers_relu_is_asked_for(act, kind):
    assert configure("mobilenetv1_100").act == "relu6"
    model = fresh("mobilenetv1_100", act=act)
    found = {type(m) for m in model.modules() if isinstance(m, torch.nn.ReLU | torch.nn.ReLU6)}
    assert found == {kind}


def test_padding_like_tensorflows_touches_the_strided_convolutions_only():
    model = fresh("mobilenetv1_100", padding="same")
    strided = [m for m in model.modules() if isinstance(m, SamePadConv2d)]
    assert len(strided) == 5  # the stem and one a stage but the first
    assert {m.stride for m in strided} == {(2, 2)}


def test_a_drop_path_rate_is_refused_since_there_is_no_shortcut():
    with pytest.raises(ValueError, match=r"drop_path_rate must be 0, not 0\.1.*no shortcut"):
        create_model("mobilenetv1_100", drop_path_rate=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width must be above 0, not 0"),
        ({"norm_eps": 0.0}, r"norm_eps must be above 0, not 0\.0"),
        ({"padding": "valid"}, "padding must be 'symmetric' or 'same', not 'valid'"),
        ({"act": "swish"}, "unknown activation 'swish'"),
        ({"alpha": 0.5}, "unknown option of mobilenetv1_100 'alpha'.*width"),
        ({"num_classes": -1}, "num_classes must be 0 or more, not -1"),
        ({"head_width": -1}, "head_width must be 0 or more, not -1"),
    ],
)
def test_a_wrong_option_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        create_model("mobilenetv1_100", **options)
