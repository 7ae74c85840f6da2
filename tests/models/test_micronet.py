"""MicroNet: counted figures, the logits of its authors' code, factored convolutions, the head."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from by_formula import authors, authors_names, image
from fleetfoot.models import create_model, identify, list_models
from fleetfoot.models.micronet import factored
from fleetfoot.weights.files import WeightsFile
from helpers import trainable, trained_
from oracle_macs import macs_of

# params, multiply-adds at 224 pixels; as printed: millions of params and of multiply-adds
COUNTED = {
    "micronet_m0": (1_019_590, 3_448_880, 1.0, 4),
    "micronet_m1": (1_777_587, 5_314_080, 1.8, 6),
    "micronet_m2": (2_393_876, 10_338_128, 2.4, 12),
    "micronet_m3": (2_622_960, 18_236_000, 2.6, 21),
}

# of classes 0, 1, 499 and 999, by the authors' code with the weights and image of by_formula
AUTHORS = {
    "micronet_m0": (-0.368518913, 0.624434641, -0.086699108, -0.342340775),
    "micronet_m1": (-0.350344674, -0.374305063, -0.373279591, -0.269009616),
    "micronet_m2": (-0.2722541, -0.158356859, 1.908291023, -0.34181239),
    "micronet_m3": (-0.344469179, -0.21404657, 1.310513201, -0.236043674),
}


def test_every_published_variant_is_listed():
    assert list_models(family="micronet") == list(COUNTED)


@pytest.mark.parametrize("name", COUNTED)
def test_params_and_macs_are_the_counted_ones(name):
    params, macs, printed_params, printed_macs = COUNTED[name]
    with torch.device("meta"):
        model = create_model(name)
        counted = macs_of(model.eval(), torch.empty(1, 3, 224, 224))
    assert trainable(model) == params
    assert (counted.layers, counted.attention) == (macs, 0)
    assert round(params / 1e6, 1) == printed_params
    # the printed ones count more than products, which are 11 to 14 % short of them
    assert 0.86 * printed_macs < macs / 1e6 < 0.89 * printed_macs


@pytest.mark.parametrize("name", COUNTED)
@torch.no_grad()
def test_the_logits_are_those_of_the_authors_code(name):
    logits = authors(name)(image())[0, [0, 1, 499, 999]]
    # float64, stated to nine places
    torch.testing.assert_close(logits.tolist(), list(AUTHORS[name]), rtol=0, atol=2e-9)


@pytest.mark.parametrize("name", COUNTED)
def test_the_authors_files_are_recognised_as_the_one_network(name):
    with torch.device("meta"):
        ours = create_model(name, num_classes=7).state_dict()
    file = WeightsFile("memory", "test", authors_names("micronet", ours), (), (), {})
    fits = identify(file)
    assert {(fit.name, fit.num_classes) for fit in fits} == {(name, 7)}


@torch.no_grad()
def test_a_factored_depthwise_convolution_is_an_outer_product():
    pair = trained_(factored(4, 8, 16, 5, stride=2, groups=4)).double().eval()
    x = torch.randn(2, 4, 9, 8, dtype=torch.float64)
    column, row = pair[0].weight, pair[2].weight  # (8, 1, 5, 1), (16, 1, 1, 5)
    kernel = column.repeat_interleave(2, 0) * row  # output o reads row channel o // 2
    for norm in (pair[1], pair[3]):
        norm.reset_parameters()
        norm.eps = 0.0
    expected = F.conv2d(x.repeat_interleave(4, 1), kernel, stride=2, padding=2, groups=16)
    torch.testing.assert_close(pair(x), expected)


@torch.no_grad()
def test_the_classifier_ends_in_a_hard_swish_and_can_be_replaced():
    model = trained_(create_model("micronet_m0", num_classes=5)).eval()
    x = torch.randn(3, 3, 64, 64)
    classifier, features = model.get_classifier(), model.forward_head(model.features(x)[-1], True)
    expected = F.hardswish(classifier.norm(classifier.linear(features)))
    torch.testing.assert_close(model(x), expected)
    assert model(x).min() >= -0.375
    model.reset_classifier(2)
    assert model.get_classifier().norm.num_features == 2
    assert model(x).shape == (3, 2)


def test_an_unknown_table_is_an_error():
    with pytest.raises(ValueError, match="table must be one of m0, m1, m2, m3, not 'm4'"):
        create_model("micronet_m0", table="m4")


def test_a_drop_path_rate_without_a_shortcut_is_an_error():
    with pytest.raises(ValueError, match=r"drop_path_rate must be 0, not 0\.1: no block"):
        create_model("micronet_m1", drop_path_rate=0.1)
    assert create_model("micronet_m2", drop_path_rate=0.1).config.drop_path_rate == 0.1
