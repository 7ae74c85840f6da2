"""What every ShuffleNet takes: sizes, channels, classes, feature maps, tracing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fleetfoot import create_model, list_models
from helpers import trained_
from oracle_macs import device_for

NARROW = {
    "stem": (8, 8, 16), "widths": (16, 32, 64, 128), "depths": (2, 2, 2, 2), "groups": 4,
    "head_width": 16,
}  # fmt: skip
KINDS = {
    "shufflenet_v1_g3_x0_25": {},
    "shufflenet_v1_g8_x0_5": {"shuffle": "before_depthwise"},
    "shufflenet_v2_x0_5": {},
    "shufflenet_v2_x0_5_authors": {},
    "shufflenet_v2_plus_small": {},
    "shufflenet_v2_large": NARROW,
    "shufflenet_v2_exlarge": NARROW,
}


def make(name, **options):
    return create_model(name, **(KINDS[name] | options))


@pytest.mark.parametrize(
    ("name", "small"),
    [(name, False) for name in list_models("shufflenet_*")] + [(name, True) for name in KINDS],
)
def test_feature_info_is_what_features_gives(name, small):
    narrow = KINDS[name] if small else {}
    with device_for(name), torch.no_grad():
        model = create_model(name, small_input=small, **narrow).eval()
        maps = model.features(torch.zeros(1, 3, 97, 64))
    for made, info in zip(maps, model.feature_info, strict=True):
        # every layer rounds up, so the strides do too
        expected = (1, info.channels, -(-97 // info.reduction), -(-64 // info.reduction))
        assert made.shape == expected
        assert model.get_submodule(info.module) is not None
    strides = [info.reduction for info in model.feature_info]
    assert strides == ([1, 1, 2, 4, 8] if small else [2, 4, 8, 16, 32])
    assert model.num_features == maps[-1].shape[1]


@pytest.mark.parametrize("name", KINDS)
def test_each_map_is_made_by_the_module_that_feature_info_names(name):
    model = make(name).eval()
    seen = {}
    for info in model.feature_info:
        model.get_submodule(info.module).register_forward_hook(
            lambda module, inputs, output, name=info.module: seen.update({name: output})
        )
    with torch.no_grad():
        maps = model.features(torch.randn(1, 3, 64, 64))
    for made, info in zip(maps, model.feature_info, strict=True):
        assert made is seen[info.module]


@pytest.mark.parametrize("name", KINDS)
def test_features_only_gives_the_chosen_maps(name):
    model = make(name, features_only=True, out_indices=(1, -1)).eval()
    with torch.no_grad():
        maps = model(torch.randn(1, 3, 65, 64))
    assert model.feature_info.reduction() == [4, 32]
    assert [made.shape[1] for made in maps] == model.feature_info.channels()


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("size", [(33, 57), (224, 224), (32, 32)])
def test_any_size_and_any_number_of_channels_and_classes(name, size):
    model = make(name, in_chans=1, num_classes=7).eval()
    with torch.no_grad():
        assert model(torch.randn(2, 1, *size)).shape == (2, 7)


@pytest.mark.parametrize("name", KINDS)
def test_no_classes_leave_the_features_before_the_classifier(name):
    model = trained_(make(name)).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        pooled = model.forward_head(model.forward_features(x), pre_logits=True)
        model.reset_classifier(0)
        assert torch.equal(model(x), pooled)
    assert make(name, num_classes=0).get_classifier().__class__ is nn.Identity


@pytest.mark.parametrize("name", KINDS)
def test_a_new_classifier_keeps_the_bias_of_the_old_one(name):
    model = make(name)
    had_bias = model.get_classifier().bias is not None
    assert had_bias == (
        name in ("shufflenet_v2_x0_5", "shufflenet_v2_large", "shufflenet_v2_exlarge")
    )
    model.reset_classifier(5)
    assert model.get_classifier().out_features == 5
    assert (model.get_classifier().bias is not None) == had_bias


@pytest.mark.parametrize("name", KINDS)
def test_gradients_reach_every_parameter(name):
    model = make(name)
    model(torch.randn(4, 3, 64, 64)).square().mean().backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.mark.parametrize("name", KINDS)
def test_a_symbolic_trace_answers_the_same_at_another_size(name):
    model = trained_(make(name)).eval()
    traced = torch.fx.symbolic_trace(model)
    x = torch.randn(2, 3, 47, 64)
    with torch.no_grad():
        assert torch.equal(traced(x), model(x))


@pytest.mark.parametrize("name", KINDS)
def test_the_keys_do_not_depend_on_the_size_of_the_input(name):
    full, small = make(name), make(name, small_input=True)
    assert list(full.state_dict()) == list(small.state_dict())


def test_an_unknown_option_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="'group'; did you mean 'groups'"):
        create_model("shufflenet_v1_g3_x1_0", group=8)
