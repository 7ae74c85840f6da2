"""What the three MobileNets have in common: heads, sizes, channels, maps, tracing, gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch import fx, nn

from fleetfoot.models import configure, create_model
from fleetfoot.ops.conv import SamePadConv2d
from mobilenet_parity import CLOSE

ONE_EACH = [
    "mobilenetv1_025",
    "mobilenetv1_100h",
    "mobilenetv2_035",
    "mobilenetv3_large_075_tv",
    "mobilenetv3_small_050",
    "mobilenetv3_small_minimal_100",
]


@pytest.mark.parametrize(("size", "padding"), [(96, "symmetric"), (33, "symmetric"), (33, "same")])
@pytest.mark.parametrize("name", ONE_EACH)
def test_maps_have_the_channels_and_strides_that_feature_info_says(name, size, padding):
    model = create_model(name, padding=padding).eval()
    height, width = size, size + 30
    with torch.no_grad():
        maps = model.features(torch.randn(1, 3, height, width))
    assert [info.reduction for info in model.feature_info] == [2, 4, 8, 16, 32]
    for one, info in zip(maps, model.feature_info, strict=True):
        s = info.reduction
        assert one.shape == (1, info.channels, math.ceil(height / s), math.ceil(width / s))


@pytest.mark.parametrize("name", ONE_EACH)
def test_a_small_input_stem_halves_every_stride(name):
    model = create_model(name, small_input=True).eval()
    assert model.stem[0].stride == (1, 1)
    assert [info.reduction for info in model.feature_info] == [1, 2, 4, 8, 16]
    with torch.no_grad():
        maps = model.features(torch.randn(1, 3, 32, 32))
    assert [tuple(one.shape[2:]) for one in maps] == [(n, n) for n in (32, 16, 8, 4, 2)]
    assert [one.shape[1] for one in maps] == [info.channels for info in model.feature_info]


@pytest.mark.parametrize("name", ONE_EACH)
def test_the_small_input_stem_changes_no_weight(name):
    def shapes(model):
        return {key: value.shape for key, value in model.state_dict().items()}

    assert shapes(create_model(name, small_input=True)) == shapes(create_model(name))


@pytest.mark.parametrize("name", ONE_EACH)
def test_the_module_named_in_feature_info_makes_the_map(name):
    model = create_model(name).eval()
    seen = {}
    for info in model.feature_info:
        model.get_submodule(info.module).register_forward_hook(
            lambda _, __, output, info=info: seen.setdefault(info, output)
        )
    with torch.no_grad():
        maps = model.features(torch.randn(1, 3, 64, 64))
    for one, info in zip(maps, model.feature_info, strict=True):
        assert torch.equal(seen[info], one)


@pytest.mark.parametrize("name", ONE_EACH)
def test_the_chosen_maps_are_those_of_the_whole_network(name):
    model = create_model(name).eval()
    extractor = create_model(name, features_only=True, out_indices=(1, 3, 4)).eval()
    missing = extractor.backbone.load_state_dict(model.state_dict(), strict=False)
    assert not missing.missing_keys
    assert all(key.startswith("head.") for key in missing.unexpected_keys)
    assert extractor.feature_info.reduction() == [4, 16, 32]
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        maps = model.features(x)
        for one, index in zip(extractor(x), (1, 3, 4), strict=True):
            assert torch.equal(one, maps[index])


@pytest.mark.parametrize("name", ONE_EACH)
def test_the_head_can_be_removed_replaced_and_asked_for_its_input(name):
    model = create_model(name, num_classes=0).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        pooled = model(x)
        assert pooled.shape == (2, model.head.features)
        assert model.forward_features(x).shape == (2, model.num_features, 2, 2)
        model.reset_classifier(7)
        logits = model(x)
        assert logits.shape == (2, 7)
        before = model.forward_head(model.forward_features(x), pre_logits=True)
    assert torch.equal(before, pooled)
    torch.testing.assert_close(model.get_classifier()(pooled), logits)
    model.reset_classifier(0)
    assert isinstance(model.get_classifier(), nn.Identity)


@pytest.mark.parametrize(("name", "in_chans"), list(zip(ONE_EACH, (1, 2, 4, 1, 4, 6), strict=True)))
def test_any_number_of_input_channels(name, in_chans):
    model = create_model(name, in_chans=in_chans).eval()
    with torch.no_grad():
        assert model(torch.randn(1, in_chans, 32, 32)).shape == (1, 1000)


@pytest.mark.parametrize("name", ONE_EACH)
def test_gradients_reach_every_parameter(name):
    # float64: behind the last batch norms, float32 rounds some of the smallest gradients to 0
    model = create_model(name, num_classes=5).double()
    x = torch.randn(4, 3, 64, 64, dtype=torch.float64)
    nn.functional.cross_entropy(model(x), torch.arange(4)).backward()
    unreached = [
        key for key, p in model.named_parameters() if p.grad is None or not p.grad.any().item()
    ]
    assert not unreached


@pytest.mark.parametrize("name", ["mobilenetv2_035", "mobilenetv3_small_075"])
def test_drop_path_acts_in_training_alone(name):
    model = create_model(name, drop_path_rate=0.5).double()
    plain = create_model(name).double()
    plain.load_state_dict(model.state_dict())  # a rate adds no weights
    x = torch.randn(4, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        assert not torch.allclose(model(x), plain(x))
        plain.load_state_dict(model.state_dict())
        torch.testing.assert_close(model.eval()(x), plain.eval()(x), **CLOSE)


class LeafTracer(fx.Tracer):
    """Sees a padded convolution as one operator, since its padding is read off the input's size."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, SamePadConv2d) or super().is_leaf_module(m, module_qualified_name)


@pytest.mark.parametrize("padding", ["symmetric", "same"])
@pytest.mark.parametrize("name", ONE_EACH)
def test_the_whole_network_can_be_traced_without_an_input(name, padding):
    model = create_model(name, padding=padding, drop_path_rate=0.0).eval()
    traced = fx.GraphModule(model, LeafTracer().trace(model))
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(traced(x), model(x))


@pytest.mark.parametrize("name", ONE_EACH)
def test_norm_options_reach_every_norm_and_no_convolution_before_one_has_a_bias(name):
    model = create_model(name, norm_eps=0.002, norm_momentum=0.03)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(0.002, 0.03)}
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.bias is None]
    assert len(convs) == len(norms)


@pytest.mark.parametrize("name", ONE_EACH)
def test_the_model_carries_the_row_it_was_made_from(name):
    model = create_model(name, num_classes=12)
    assert model.config == configure(name, num_classes=12)
    assert model.get_classifier().out_features == model.num_classes == 12
