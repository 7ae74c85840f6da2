"""What the families have in common: heads, sizes, maps, tracing, gradients.

The MobileNets and ShuffleNets are in files of their own.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import fx, nn

from fleetfoot.models import configure, create_model

# narrow forms of every structure: all that is tested here is independent of width
SMALL = {
    "fasternet_t0": {"width": 16, "depths": (1, 1, 2, 1)},
    "fasternet_t2": {"width": 16, "depths": (1, 1, 2, 1)},
    "fastvit_t8": {"width": 16, "depths": (1, 1, 2, 1)},
    "fastvit_sa12": {"width": 16, "depths": (1, 1, 1, 2)},
    "mobileone_s0": {"widths": (0.25, 0.25, 0.25, 0.25)},
    "mobileone_s4": {"widths": (0.25, 0.25, 0.25, 0.5)},
    "cyclemlp_b1": {"widths": (8, 16, 16, 32), "depths": (1, 1, 2, 1)},
    "micronet_m2": {},
    "micronet_m3": {},
    "mobile_former_96m": {},
    "mobile_former_26m": {},
}
MAPS = {
    "fasternet": [4, 8, 16, 32],
    "fastvit": [4, 8, 16, 32],
    "mobileone": [2, 4, 8, 16, 32],
    "cyclemlp": [4, 8, 16, 32],
    "micronet": [2, 4, 8, 16, 32],
    "mobile": [2, 4, 8, 16, 32],  # Mobile-Former
}

by_name = pytest.mark.parametrize("name", SMALL)


def pixels(name: str, size: int, reduction: int) -> int:
    """Of a map at that stride: patches without padding leave an edge out, padded convolutions
    round up."""
    if name.startswith("fasternet"):
        return size // reduction
    if name.startswith("cyclemlp"):  # its 7×7 of stride 4 is padded by 2
        return math.ceil((size + 1) // 4 / (reduction // 4))
    return math.ceil(size / reduction)


def small(name: str, **options) -> nn.Module:
    return create_model(name, **SMALL[name], **options)


@by_name
@pytest.mark.parametrize("size", [(32, 32), (33, 70), (95, 64)])
@torch.no_grad()
def test_maps_have_the_channels_and_strides_that_feature_info_says(name, size):
    model = small(name).eval()
    assert [info.reduction for info in model.feature_info] == MAPS[name.partition("_")[0]]
    maps = model.features(torch.randn(2, 3, *size))
    assert len(maps) == len(model.feature_info)
    for one, info in zip(maps, model.feature_info, strict=True):
        assert one.shape == (2, info.channels, *(pixels(name, n, info.reduction) for n in size))
    assert model(torch.randn(2, 3, *size)).shape == (2, 1000)


@by_name
@torch.no_grad()
def test_the_module_named_in_feature_info_makes_the_map(name):
    model = small(name).eval()
    seen = {}
    for info in model.feature_info:
        model.get_submodule(info.module).register_forward_hook(
            lambda _, __, output, key=info.module: seen.setdefault(key, output)
        )
    maps = model.features(torch.randn(1, 3, 64, 64))
    for one, info in zip(maps, model.feature_info, strict=True):
        assert torch.equal(seen[info.module], one)


@by_name
@torch.no_grad()
def test_the_chosen_maps_are_those_of_the_whole_network(name):
    model = small(name).eval()
    extractor = small(name, features_only=True, out_indices=(1, -1)).eval()
    keys = extractor.backbone.load_state_dict(model.state_dict(), strict=False)
    assert not keys.missing_keys
    assert all(key.startswith("head.") for key in keys.unexpected_keys)
    assert extractor.feature_info.reduction() == [model.feature_info[1].reduction, 32]
    assert extractor.feature_info.channels()[-1] == model.num_features
    x = torch.randn(1, 3, 64, 64)
    maps = model.features(x)
    for one, expected in zip(extractor(x), (maps[1], maps[-1]), strict=True):
        assert torch.equal(one, expected)


@by_name
@torch.no_grad()
def test_the_head_can_be_removed_replaced_and_asked_for_its_input(name):
    model = small(name, num_classes=0).eval()
    x = torch.randn(2, 3, 64, 64)
    pooled = model(x)
    assert pooled.shape == (2, model.head.features)
    model.reset_classifier(7)
    assert model.num_classes == 7
    assert torch.equal(model.forward_head(model.forward_features(x), pre_logits=True), pooled)
    torch.testing.assert_close(model(x), model.get_classifier()(pooled))
    model.reset_classifier(0)
    assert torch.equal(model(x), pooled)


@by_name
@pytest.mark.parametrize("in_chans", [1, 6])
@torch.no_grad()
def test_any_number_of_input_channels(name, in_chans):
    model = small(name, in_chans=in_chans, num_classes=3).eval()
    assert model(torch.randn(1, in_chans, 64, 64)).shape == (1, 3)


@by_name
@torch.no_grad()
def test_drop_path_acts_in_training_alone_and_adds_no_weights(name):
    dropped, plain = (small(name, drop_path_rate=rate).double() for rate in (0.9, 0.0))
    for parameter in dropped.parameters():
        if parameter.shape[1:] == (1, 1):  # layer scales of 1e-5 would hide what is dropped
            parameter.fill_(0.5)
    plain.load_state_dict(dropped.state_dict())
    x = torch.randn(4, 3, 64, 64, dtype=torch.float64)
    assert torch.equal(dropped.eval()(x), plain.eval()(x))
    assert not torch.allclose(dropped.train()(x), plain.train()(x))


@by_name
@torch.no_grad()
def test_dropout_stands_before_the_classifier(name):
    model = small(name, drop_rate=0.5).eval()
    features = model.forward_features(torch.randn(2, 3, 64, 64))
    logits = model.forward_head(features)
    model.head.dropout.train()  # alone, so that the norms of the head stay as they are
    # atol: MicroNet's map is small in eval mode with fresh norms
    assert not torch.allclose(model.forward_head(features), logits, atol=0)
    assert torch.equal(model.forward_head(features, pre_logits=True), model.head.body(features))


@by_name
def test_gradients_reach_every_parameter(name):
    # float64: behind layer scales of 1e-5, float32 rounds some of the smallest gradients to 0
    model = small(name, num_classes=5, drop_path_rate=0.0).double()
    x = torch.randn(4, 3, 64, 64, dtype=torch.float64)
    nn.functional.cross_entropy(model(x), torch.arange(4)).backward()
    # the same for each token, a key's bias changes no pixel's shares: its gradient is rounding
    vain = ("to_map.key.bias",)
    without = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not [key for key in without if not key.endswith(vain)]


@by_name
@torch.no_grad()
def test_the_whole_network_can_be_traced_without_an_input(name):
    model = small(name).eval()
    traced = fx.symbolic_trace(model)
    for size in (64, 96):  # nothing of one size is frozen into the trace
        x = torch.randn(1, 3, size, size)
        assert torch.equal(traced(x), model(x))


@by_name
def test_the_model_carries_the_row_it_was_made_from(name):
    model = small(name, num_classes=12)
    assert model.config == configure(name, num_classes=12, **SMALL[name])
    assert model.training
    assert model.get_classifier().out_features == model.num_classes == 12


@by_name
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": -1}, "num_classes must be 0 or more, not -1"),
        ({"in_chans": 0}, "in_chans must be 1 or more, not 0"),
        ({"drop_path_rate": 1.0}, r"drop_path_rate must be in \[0, 1\), not 1.0"),
        ({"drop_rate": -0.1}, r"drop_rate must be in \[0, 1\), not -0.1"),
        ({"drop_paths": 0.1}, "did you mean 'drop_path_rate'"),
        ({"features_only": True, "out_indices": (9,)}, "out_indices: 9 is outside"),
    ],
)
def test_an_option_that_cannot_be_is_an_error(name, options, message):
    with pytest.raises(ValueError, match=message):
        small(name, **options)
