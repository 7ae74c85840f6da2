"""Parameter groups equal timm's; freezing holds parameters and batch-norm statistics."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
import torchvision
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from torch import nn

from fleetfoot.models import create_model
from fleetfoot.train.config import Optim
from fleetfoot.train.groups import (
    Group,
    freeze_,
    is_frozen,
    parameter_depths,
    parameter_groups,
    parts,
)
from tests.helpers import trained_


class Own(nn.Module):
    """A user's network: no stem, stages or head by name."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, 4, 1, 1))
        self.first = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.a = nn.Sequential(nn.Conv2d(4, 8, 1), nn.BatchNorm2d(8))
        self.b = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8, affine=False))
        self.relu = nn.ReLU()
        self.last = nn.Linear(8, 5)

    def forward(self, x):
        x = self.b(self.a(self.norm(self.first(x)) * self.scale))
        return self.last(self.relu(x).mean((2, 3)))


def as_sets(groups, names):
    """timm's groups as ours: names, whether they decay, and the scale."""
    return {
        (
            frozenset(names[id(p)] for p in group["params"]),
            group["weight_decay"] > 0,
            group.get("lr_scale", 1.0),
        )
        for group in groups
    }


def ours(model, **optim):
    groups = parameter_groups(model, Optim(**optim))
    return {(frozenset(g.names), g.decays, g.lr_scale) for g in groups}


def names_of(model):
    return {id(p): name for name, p in model.named_parameters()}


@pytest.mark.parametrize("name", ["fastvit_t8", "mobilenetv3_small_050", "timm:edgenext_xx_small"])
def test_parameters_of_one_dimension_do_not_decay(name):
    model = create_model(name, num_classes=7)
    theirs = param_groups_weight_decay(model, 0.05, no_weight_decay_list=())
    assert ours(model) == as_sets(theirs, names_of(model))


def test_every_parameter_can_decay():
    model = create_model("fasternet_t0", num_classes=7)
    (group,) = parameter_groups(model, Optim(decay="all"))
    assert group == Group(tuple(dict(model.named_parameters())), True, 1.0)


def test_kernels_of_depthwise_convolutions_can_be_exempt():
    model = create_model("mobilenetv1_025", num_classes=7)
    free, decaying = parameter_groups(model, Optim(decay="no_depthwise"))
    depthwise = {
        f"{place}.weight"
        for place, m in model.named_modules()
        if isinstance(m, nn.Conv2d) and m.groups > 1
    }
    assert len(depthwise) == 13
    assert depthwise <= set(free.names)
    assert not depthwise & set(decaying.names)


def test_what_timm_exempts_is_exempt():
    model = timm.create_model("vit_tiny_patch16_224", depth=1)
    assert model.no_weight_decay()
    theirs = param_groups_weight_decay(model, 0.05, no_weight_decay_list=model.no_weight_decay())
    assert ours(model) == as_sets(theirs, names_of(model))


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "fastvit_t8"])
def test_layer_decay_of_a_network_of_timm_is_timms(name):
    model = timm.create_model(name)
    theirs = param_groups_layer_decay(model, 0.05, layer_decay=0.7)
    assert ours(model, layer_decay=0.7) == as_sets(theirs, names_of(model))


def test_layer_decay_of_the_zoo_goes_by_stage_as_timms_coarse_groups_do():
    model = create_model("fasternet_t0", num_classes=7)
    theirs = timm.create_model("fasternet_t0", num_classes=7)
    coarse = timm.models.group_parameters(theirs, theirs.group_matcher(coarse=True), reverse=True)
    depths = parameter_depths(model)

    assert [sum(d == i for d in depths.values()) for i in range(6)] == [
        sum(d == i for d in coarse.values()) for i in range(6)
    ]
    scales = {d: 0.5 ** (5 - d) for d in range(6)}
    for group in parameter_groups(model, Optim(layer_decay=0.5)):
        assert {scales[depths[name]] for name in group.names} == {group.lr_scale}


def test_parts_of_any_module():
    assert [list(part) for part in parts(Own())] == [["first", "norm"], ["a"], ["b"], ["last"]]
    resnet = torchvision.models.resnet18(weights=None)
    assert [list(part) for part in parts(resnet)] == [
        ["conv1", "bn1"], ["layer1"], ["layer2"], ["layer3"], ["layer4"], ["fc"],
    ]  # fmt: skip
    mobilenet = torchvision.models.mobilenet_v2(weights=None)
    found = [list(part) for part in parts(mobilenet)]
    assert found == [[], *([f"features.{i}"] for i in range(19)), ["classifier"]]
    depths = parameter_depths(Own())
    assert depths["scale"] == 0
    assert depths["last.bias"] == 3


def test_a_network_of_one_part_has_no_layer_decay():
    with pytest.raises(ValueError, match=r"layer_decay 0\.5: Linear has one part only"):
        parameter_groups(nn.Linear(2, 2), Optim(layer_decay=0.5))


def test_something_must_be_trainable():
    with pytest.raises(ValueError, match="no parameter to train"):
        parameter_groups(nn.Linear(2, 2).requires_grad_(False), Optim())


NETWORKS = {
    "zoo": lambda: create_model("mobilenetv2_010", num_classes=5),
    "timm": lambda: timm.create_model("resnet18", num_classes=5),
    "torchvision": lambda: torchvision.models.resnet18(weights=None, num_classes=5),
    "own": Own,
}


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_frozen_stages_stay_in_training(make):
    model = trained_(make())  # a fresh ResNet of timm ends its branches with zeros
    frozen = freeze_(model, 2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model.eval().train()
    model(torch.randn(4, 3, 64, 64)).square().sum().backward()
    optimiser.step()

    places = [place for place, m in model.named_modules() if is_frozen(m)]
    assert places
    after = model.state_dict()
    held = {*frozen, *(name for name in before if name.rpartition(".")[0] in places)}
    assert set(dict(model.named_parameters())) > set(frozen)
    assert all(torch.equal(after[name], before[name]) for name in held)
    # a bias before a batch norm may have no gradient
    kernels = {name for name, p in model.named_parameters() if p.ndim > 1} - held
    assert kernels
    assert not any(torch.equal(after[name], before[name]) for name in kernels)
    depths = parameter_depths(model)
    assert {depths[name] for name in frozen} == {0, 1, 2}


def test_a_copy_of_a_frozen_network_is_frozen():
    model = create_model("mobilenetv2_010", num_classes=5)
    names = list(model.state_dict())
    freeze_(model, 1)
    twin = copy.deepcopy(model).train()
    norms = [m for m in twin.modules() if is_frozen(m)]
    assert norms
    assert not any(norm.training for norm in norms)
    assert all(isinstance(norm, nn.BatchNorm2d) for norm in norms)
    assert list(twin.state_dict()) == names


@pytest.mark.parametrize("stages", [0, 1])
def test_all_batch_norms_can_keep_their_statistics(stages):
    model = trained_(create_model("mobilenetv2_010", num_classes=5))
    frozen = freeze_(model, stages, all_norms=True)
    before = {name: value.clone() for name, value in model.named_buffers()}
    model.train()(torch.randn(4, 3, 32, 32))
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())
    free = {name for name, p in model.named_parameters() if p.requires_grad}
    assert free == {name for name, _ in model.named_parameters()} - set(frozen)


@pytest.mark.parametrize("stages", [5, -1])
def test_the_head_cannot_be_frozen(stages):
    model = create_model("fasternet_t0", num_classes=5)
    with pytest.raises(ValueError, match=f"init.freeze is {stages}, and FasterNet has 4 stages"):
        freeze_(model, stages)
    assert freeze_(model, 0) == ()
