"""Feature maps: what is captured is what the layer answered, and similarity is what it says."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from fleetfoot.errors import UnknownNameError
from fleetfoot.models import create_model
from fleetfoot.models.maps import default_layer, layers, maps_of, similarity


class Net(nn.Module):
    """Conv, batch norm, a ReLU that overwrites its input and is called twice, pooling."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.AvgPool2d(2)

    def forward(self, x):
        x = self.relu(self.norm(self.conv(x)))
        return self.relu(self.pool(x) - 0.1).flatten(1)


def test_layers_are_listed_in_the_order_of_their_answers_where_called_last():
    found = layers(Net(), torch.zeros(1, 3, 8, 8))
    assert [(one.path, one.kind, one.shape) for one in found] == [
        ("conv", "Conv2d", (1, 4, 8, 8)),
        ("norm", "BatchNorm2d", (1, 4, 8, 8)),
        ("pool", "AvgPool2d", (1, 4, 4, 4)),
        ("relu", "ReLU", (1, 4, 4, 4)),
    ]


def test_captured_maps_are_those_of_the_layer_even_if_overwritten_later():
    model = Net().train()
    x = torch.randn(1, 3, 8, 8)
    captured = maps_of(model, "norm", x)
    assert model.training
    model.eval()
    with torch.no_grad():
        torch.testing.assert_close(captured, model.norm(model.conv(x))[0])
    assert captured.min() < 0  # not the ReLU's
    assert not any(module._forward_hooks for module in model.modules())


def test_batch_norms_do_not_learn_from_the_picture():
    model = Net().train()
    before = model.norm.running_mean.clone()
    maps_of(model, "norm", torch.randn(1, 3, 8, 8))
    assert torch.equal(model.norm.running_mean, before)


def test_an_unknown_layer_is_said_with_suggestions():
    with pytest.raises(UnknownNameError, match="unknown layer 'norms'; did you mean 'norm'"):
        maps_of(Net(), "norms", torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match="x must be one picture"):
        maps_of(Net(), "norm", torch.zeros(2, 3, 8, 8))


@pytest.mark.parametrize(
    ("name", "layer"),
    [("fasternet_t0", "stages.1"), ("timm:resnet18", "layer2")],
)
def test_the_default_layer_ends_the_second_stage(name, layer):
    assert default_layer(create_model(name), torch.zeros(1, 3, 64, 64)) == layer


def test_similarity_is_absolute_correlation():
    first = torch.randn(6, 5)
    maps = torch.stack([first, 3 * first + 2, -first, torch.randn(6, 5), torch.ones(6, 5)])
    found = similarity(maps)
    expected = torch.corrcoef(maps[:4].double().flatten(1)).abs()
    torch.testing.assert_close(found.matrix[:4, :4], expected)
    assert found.constant == (4,)
    assert found.matrix[4].tolist() == [0] * 5
    far = expected[0, 3].item()
    assert found.neighbours == pytest.approx((1 + 1 + far) / 3)
    assert found.pairs == pytest.approx((1 + 1 + 1 + 3 * far) / 6)
    assert found.alike == pytest.approx(3 / 4)  # not the random one


def test_a_constant_map_is_constant_at_any_height():
    # its mean is rounded, so that it less its mean is not quite 0
    assert similarity(torch.full((1, 28, 28), 12345.678)).constant == (0,)
    assert similarity(1e-6 * torch.randn(1, 28, 28)).constant == ()


def test_one_live_map_has_no_similarity():
    found = similarity(torch.stack([torch.randn(4, 4), torch.zeros(4, 4)]))
    assert all(map(math.isnan, (found.neighbours, found.pairs, found.alike)))
