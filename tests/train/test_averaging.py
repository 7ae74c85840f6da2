"""The moving average equals timm's; batch norms estimated anew equal Megvii's and torch's."""

from __future__ import annotations

import copy

import pytest
import torch
from timm.utils import ModelEmaV3
from torch import nn
from torch.optim.swa_utils import update_bn

from fleetfoot.models import create_model
from fleetfoot.train.averaging import Average, reestimate_, set_momentum_
from fleetfoot.train.groups import freeze_
from tests.helpers import trained_


def small():
    return trained_(create_model("mobilenetv2_010", num_classes=5))


def disturb_(model):
    """Changes every parameter and buffer, as an update does."""
    with torch.no_grad():
        for value in model.state_dict().values():
            value.add_(torch.randn_like(value) if value.is_floating_point() else 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_average_equals_timms(dtype):
    model = small().to(dtype)
    ours, theirs = Average(model), ModelEmaV3(model, decay=0.9)
    for _ in range(4):
        disturb_(model)
        ours.update_(model, 0.9)
        theirs.update(model)
    assert not any(p.requires_grad for p in ours.module.parameters())
    assert not ours.module.training
    for name, value in theirs.module.state_dict().items():
        assert torch.equal(ours.module.state_dict()[name], value), name


def test_decay_0_copies_and_the_network_stays():
    model = small()
    average = Average(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    disturb_(model)
    average.update_(model, 0.0)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(average.module.state_dict()[name], value)
        assert not torch.equal(before[name], value)


def test_new_statistics_are_the_mean_over_the_batches():
    model, batches = small(), [torch.randn(6, 3, 32, 32) * (i + 1) for i in range(3)]
    twin = copy.deepcopy(model)
    momenta = {name: m.momentum for name, m in model.named_modules() if hasattr(m, "momentum")}
    assert reestimate_(model.eval(), batches) == 3
    update_bn(batches, twin)  # torch's own: statistics reset, momentum None

    assert not model.training
    for (name, ours), theirs in zip(model.named_buffers(), twin.buffers(), strict=True):
        if not name.endswith("num_batches_tracked"):  # the authors' code goes on counting
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    for name, parameter in twin.named_parameters():
        assert torch.equal(dict(model.named_parameters())[name], parameter)
    assert {n: m.momentum for n, m in model.named_modules() if hasattr(m, "momentum")} == momenta


def test_frozen_batch_norms_keep_their_statistics():
    model = small()
    freeze_(model, 1)
    before = {name: value.clone() for name, value in model.named_buffers()}
    reestimate_(model, [torch.randn(6, 3, 32, 32)])
    same = [name for name, value in model.named_buffers() if torch.equal(value, before[name])]
    assert same
    assert all(name.startswith(("stem.", "stages.0.")) for name in same)
    assert len(same) < len(before)


def test_no_batch_changes_nothing():
    model = small()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert reestimate_(model, []) == 0
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_momentum_of_batch_norms_can_be_set():
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Sequential(nn.BatchNorm1d(2)))
    set_momentum_(model, None)
    assert model[0].momentum == 0.1
    set_momentum_(model, 0.01)
    assert [model[0].momentum, model[1][0].momentum] == [0.01, 0.01]
