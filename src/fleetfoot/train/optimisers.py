"""Optimisers with parameter groups by name: torch's AdamW, SGD and RMSProp, and timm's RMSProp as
TensorFlow computes it (epsilon within the root, average of squares from 1, learning rate within the
momentum) and LAMB.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from fleetfoot.train.config import Optim, Recipe
from fleetfoot.train.groups import parameter_groups
from fleetfoot.train.schedules import Schedules


def build(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The optimiser of a recipe over the trainable parameters of ``model``.

    Each of its groups has ``names`` beside ``params``, and ``lr_scale`` and ``decays``, by which
    ``set_rates_`` sets the learning rate and weight decay of each update.

    Raises:
        ValueError: nothing is trainable.
    """
    optim = recipe.optim
    named = dict(model.named_parameters())
    peak = Schedules.of(recipe, 1).peak_lr
    groups = [
        {
            "params": [named[name] for name in group.names],
            "names": group.names,
            "lr_scale": group.lr_scale,
            "decays": group.decays,
            "lr": peak * group.lr_scale,
            "weight_decay": optim.weight_decay if group.decays else 0.0,
        }
        for group in parameter_groups(model, optim)
    ]
    make, arguments = _KINDS[optim.name](optim)
    if optim.eps is not None:
        if optim.name == "sgd":
            raise ValueError(f"optim.eps is {optim.eps}, and optim.name 'sgd' has no eps")
        arguments = {**arguments, "eps": optim.eps}
    return make(groups, lr=peak, **arguments)


def set_rates_(optimiser: torch.optim.Optimizer, *, lr: float, weight_decay: float) -> None:
    """Sets the learning rate of each group to ``lr`` times its ``lr_scale``, and the weight decay
    of those that decay."""
    for group in optimiser.param_groups:
        group["lr"] = lr * group["lr_scale"]
        group["weight_decay"] = weight_decay if group["decays"] else 0.0


Made = tuple[Callable[..., torch.optim.Optimizer], Mapping[str, Any]]


def _adamw(optim: Optim) -> Made:
    return torch.optim.AdamW, {"betas": optim.betas}


def _sgd(optim: Optim) -> Made:
    return torch.optim.SGD, {"momentum": optim.momentum, "nesterov": optim.nesterov}


def _rmsprop(optim: Optim) -> Made:
    return torch.optim.RMSprop, {"alpha": optim.alpha, "momentum": optim.momentum}


def _rmsprop_tf(optim: Optim) -> Made:
    from timm.optim.rmsprop_tf import RMSpropTF

    return RMSpropTF, {"alpha": optim.alpha, "momentum": optim.momentum}


def _lamb(optim: Optim) -> Made:
    from timm.optim.lamb import Lamb

    return Lamb, {"betas": optim.betas}


_KINDS: dict[str, Callable[[Optim], Made]] = {
    "adamw": _adamw,
    "sgd": _sgd,
    "rmsprop": _rmsprop,
    "rmsprop_tf": _rmsprop_tf,
    "lamb": _lamb,
}
