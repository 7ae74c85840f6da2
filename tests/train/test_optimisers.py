"""Each optimiser is the one that timm's factory makes for the same settings."""

from __future__ import annotations

import copy

import pytest
import torch
from timm.optim import create_optimizer_v2
from torch import nn

from fleetfoot.models import create_model
from fleetfoot.train.config import Optim, Recipe
from fleetfoot.train.optimisers import build, set_rates_

CASES = {
    "adamw": (
        Optim(name="adamw", lr=1e-2, weight_decay=0.05, betas=(0.9, 0.99), eps=1e-6),
        {"opt": "adamw", "betas": (0.9, 0.99), "eps": 1e-6},
    ),
    "sgd": (Optim(name="sgd", lr=1e-2, weight_decay=1e-2, nesterov=True), {"opt": "sgd"}),
    "momentum": (Optim(name="sgd", lr=1e-2, weight_decay=1e-2), {"opt": "momentum"}),
    "rmsprop": (
        Optim(name="rmsprop", lr=1e-3, weight_decay=1e-2, eps=1e-3),
        {"opt": "rmsprop", "eps": 1e-3},
    ),
    "rmsprop_tf": (
        Optim(name="rmsprop_tf", lr=1e-3, weight_decay=1e-2, eps=1e-3),
        {"opt": "rmsproptf", "eps": 1e-3},
    ),
    "lamb": (Optim(name="lamb", lr=1e-2, weight_decay=0.02), {"opt": "lamb"}),
}


@pytest.mark.parametrize(
    ("kind", "layer_decay"), [*((kind, 1.0) for kind in CASES), ("adamw", 0.7), ("lamb", 0.7)]
)
def test_equals_timms_factory(kind, layer_decay):
    """Three steps in float64. timm takes decay by layer only from its own networks."""
    optim, theirs = CASES[kind]
    model = create_model("timm:mobilenetv3_small_050", num_classes=5, drop_rate=0.0).double()
    twin = copy.deepcopy(model)
    recipe = Recipe(optim=Optim(**{**vars(optim), "layer_decay": layer_decay}))
    ours = build(model, recipe)
    reference = create_optimizer_v2(
        twin,
        lr=optim.lr,
        weight_decay=optim.weight_decay,
        layer_decay=None if layer_decay == 1.0 else layer_decay,
        **theirs,
    )
    assert type(ours) is type(reference)
    for step in range(3):
        rate = optim.lr * (1 - 0.1 * step)
        set_rates_(ours, lr=rate, weight_decay=optim.weight_decay)
        for group in reference.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)
        x = torch.randn(4, 3, 32, 32, dtype=torch.float64)
        for network, optimiser in ((model, ours), (twin, reference)):
            optimiser.zero_grad()
            network(x).square().mean().backward()
            optimiser.step()
    for (name, parameter), other in zip(model.named_parameters(), twin.parameters(), strict=True):
        # only the order of the groups differs, and LAMB sums the norm of all gradients over it
        torch.testing.assert_close(parameter, other, rtol=1e-9, atol=1e-12, msg=name)


def test_groups_carry_names_and_rates():
    model = create_model("fasternet_t0", num_classes=3)
    recipe = Recipe(batch=512, optim=Optim(lr=1e-3, lr_batch=256, weight_decay=0.1))
    optimiser = build(model, recipe)
    names = [name for group in optimiser.param_groups for name in group["names"]]
    named = dict(model.named_parameters())
    assert sorted(names) == sorted(named)
    for group in optimiser.param_groups:
        assert [named[name] for name in group["names"]] == group["params"]
        assert group["lr"] == 2e-3
    assert [g["weight_decay"] for g in optimiser.param_groups] == [0.0, 0.1]

    set_rates_(optimiser, lr=0.5, weight_decay=0.2)
    assert [(g["lr"], g["weight_decay"]) for g in optimiser.param_groups] == [(0.5, 0), (0.5, 0.2)]


def test_sgd_has_no_eps():
    with pytest.raises(ValueError, match=r"optim.eps is 0\.1, and optim.name 'sgd' has no eps"):
        build(nn.Linear(2, 2), Recipe(optim=Optim(name="sgd", eps=0.1)))
