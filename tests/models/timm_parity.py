"""Ours against timm's network of the same name, under the same weights, in float64."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import timm
import torch
from torch import Tensor, nn

from fleetfoot.models import create_model
from helpers import trained_

Rules = Mapping[str, str | Callable[[re.Match[str]], str]]
"""Regular expressions that turn a key of timm's into ours, applied one after another."""

CLOSE = {"rtol": 1e-9, "atol": 1e-9}
"""float64 and the same formulas: only the order in which sums are rounded differs."""


class Pair(NamedTuple):
    name: str
    ours: nn.Module
    theirs: nn.Module


def renamed(theirs: Mapping[str, Tensor], rules: Rules) -> dict[str, Tensor]:
    """Copies of timm's tensors under our keys; each key once, and no rule that nothing needs."""
    made: dict[str, Tensor] = {}
    unused = set(rules)
    for key, value in theirs.items():
        new = key
        for pattern, replacement in rules.items():
            new, count = re.subn(pattern, replacement, new)
            if count:
                unused.discard(pattern)
        assert new not in made, f"two keys become {new}"
        made[new] = value.clone()
    assert not unused, f"rules that matched nothing: {unused}"
    return made


def pair(name: str, rules: Rules) -> Pair:
    """timm's network with weights that are not trivial, and ours with a copy of them."""
    torch.manual_seed(0)
    theirs = trained_(timm.create_model(name, drop_path_rate=0.0).double())
    with torch.device("meta"):  # every value comes from timm's
        ours = create_model(name, drop_path_rate=0.0)
    ours.load_state_dict(renamed(theirs.state_dict(), rules), assign=True)
    return Pair(name, ours, theirs)


def images(count: int, size: int) -> Tensor:
    return torch.randn(count, 3, size, size, dtype=torch.float64)


@torch.no_grad()
def assert_same_outputs(made: Pair, size: int = 64) -> None:
    x = images(2, size)
    expected = made.theirs.eval()(x)
    assert expected.std() > 0.01, "an answer without spread would hide a difference"
    torch.testing.assert_close(made.ours.eval()(x), expected, **CLOSE)


def assert_same_feature_info(made: Pair) -> None:
    ours = [(info.channels, info.reduction) for info in made.ours.feature_info]
    assert ours == [(row["num_chs"], row["reduction"]) for row in made.theirs.feature_info]


@torch.no_grad()
def assert_same_maps(made: Pair, size: int = 64) -> None:
    extractor = timm.create_model(made.name, features_only=True).double().eval()
    weights = made.theirs.state_dict()
    # the extractor flattens the outermost sequences: stages.0 is its stages_0
    extractor.load_state_dict(
        {
            key: weights[key if key in weights else key.replace("_", ".", 1)]
            for key in extractor.state_dict()
        }
    )
    x = images(2, size)
    maps, expected = made.ours.eval().features(x), extractor(x)
    assert len(maps) == len(expected)
    for ours, theirs in zip(maps, expected, strict=True):
        torch.testing.assert_close(ours, theirs, **CLOSE)


def assert_same_training_step(made: Pair, rules: Rules, size: int = 64) -> None:
    """Gradients of one loss for every parameter, and the statistics that the pass leaves behind."""
    x, target = images(2, size), torch.randn(2, 1000, dtype=torch.float64)
    losses = []
    for model in (made.ours, made.theirs):
        loss = (model.train()(x) * target).sum()
        loss.backward()
        losses.append(loss.detach())
    torch.testing.assert_close(losses[0], losses[1], **CLOSE)

    gradients = {key: p.grad for key, p in made.theirs.named_parameters()}
    left_behind = renamed(gradients | dict(made.theirs.named_buffers()), rules)
    for key, parameter in made.ours.named_parameters():
        expected = left_behind.pop(key)
        worst = (parameter.grad - expected).abs().max().item()
        # a tensor's rounding follows its largest value, which in MobileOne-S0 is above a thousand;
        # gradients that a norm makes zero, but for rounding, are compared with 1
        assert worst < 1e-9 * max(1.0, expected.abs().max().item()), f"{key}: {worst:.1e}"
    for key, buffer in made.ours.named_buffers():
        torch.testing.assert_close(buffer, left_behind.pop(key), **CLOSE)
    assert not left_behind
