"""Squeeze-excite against cases counted by hand, timm's module and torchvision's."""

from __future__ import annotations

import pytest
import torch
from timm.models._efficientnet_blocks import SqueezeExcite as TimmSqueezeExcite
from torch import nn
from torchvision.ops import SqueezeExcitation

from fleetfoot.ops.squeeze_excite import SqueezeExcite
from helpers import trained_


@torch.no_grad()
def test_a_gate_counted_by_hand():
    module = SqueezeExcite(2, 1, gate="hard_sigmoid")
    module.reduce.weight.copy_(torch.tensor([1.0, -1.0]).view(1, 2, 1, 1))
    module.reduce.bias.fill_(0.5)
    module.expand.weight.copy_(torch.tensor([1.0, -2.0]).view(2, 1, 1, 1))
    module.expand.bias.copy_(torch.tensor([0.0, 3.0]))
    x = torch.tensor([[[[1.0, 3.0]], [[0.0, 1.0]]]])  # means 2 and 0.5
    # reduce: 2 - 0.5 + 0.5 = 2; expand: 2 and -4 + 3 = -1; hard sigmoid: 5/6 and 2/6
    expected = torch.tensor([[[[5 / 6, 15 / 6]], [[0.0, 2 / 6]]]])
    torch.testing.assert_close(module(x), expected)


@torch.no_grad()
def test_equals_timms_and_torchvisions():
    ours = trained_(SqueezeExcite(12, 5, gate="hard_sigmoid")).double()
    timms = TimmSqueezeExcite(
        12, rd_channels=5, gate_layer="hard_sigmoid", force_act_layer=nn.ReLU
    ).double()
    torchvisions = SqueezeExcitation(12, 5, scale_activation=nn.Hardsigmoid).double()
    for theirs, names in ((timms, ("conv_reduce", "conv_expand")), (torchvisions, ("fc1", "fc2"))):
        theirs.get_submodule(names[0]).load_state_dict(ours.reduce.state_dict())
        theirs.get_submodule(names[1]).load_state_dict(ours.expand.state_dict())
        x = torch.randn(3, 12, 7, 5, dtype=torch.float64)
        torch.testing.assert_close(ours(x), theirs(x))


@torch.no_grad()
def test_the_gate_is_a_sigmoid_unless_another_is_named():
    module = trained_(SqueezeExcite(4, 2))
    x = torch.randn(2, 4, 3, 3)
    inner = torch.relu(module.reduce(x.mean((2, 3), keepdim=True)))
    torch.testing.assert_close(module(x), x * torch.sigmoid(module.expand(inner)))


def test_an_unknown_gate_is_named():
    with pytest.raises(ValueError, match="unknown activation 'swish'; one of relu, relu6"):
        SqueezeExcite(4, 2, gate="swish")
