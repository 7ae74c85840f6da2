"""Kinds and colours of layers, and the tree that sums them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from colours import contrast
from explanations import TIMES_US, explanation, machine
from fleetfoot.count.trace import trace
from fleetfoot.engines import NodeTime
from fleetfoot.explain.layers import join
from fleetfoot.report.layers import (
    KINDS,
    OWN,
    STEPS,
    by_bound,
    by_kind,
    intensity,
    kind,
    operations,
    rate,
    step,
    step_text,
    tree,
)


def layer(module: nn.Module, *shape: int):
    """The one layer of a module that computes by itself."""
    traced = trace(nn.Sequential(module.eval()), torch.empty(shape, device="meta"))
    node = NodeTime(name="n", kind="n", modules=("0",), seconds=1e-3)
    return next(one for one in join(traced, [(node,)], machine()) if one.module == "0")


@pytest.mark.parametrize(
    ("module", "shape", "name"),
    [
        (nn.Conv2d(8, 4, 3), (1, 8, 9, 9), "dense conv"),
        (nn.Conv2d(8, 4, 1), (1, 8, 9, 9), "1×1 conv"),
        (nn.Conv2d(8, 8, (1, 3)), (1, 8, 9, 9), "dense conv"),
        (nn.Conv2d(8, 8, 3, groups=8), (1, 8, 9, 9), "depthwise conv"),
        (nn.Conv2d(8, 16, 3, groups=8), (1, 8, 9, 9), "depthwise conv"),
        (nn.Conv2d(8, 8, 3, groups=2), (1, 8, 9, 9), "grouped conv"),
        (nn.Conv2d(1, 8, 3), (1, 1, 9, 9), "dense conv"),  # one input channel is no group
        (nn.ConvTranspose2d(8, 4, 2), (1, 8, 9, 9), "dense conv"),
        (nn.ConvTranspose2d(8, 4, 2, groups=2), (1, 8, 9, 9), "grouped conv"),
        (nn.Linear(8, 4), (1, 8), "linear, matmul"),
        (nn.BatchNorm2d(8), (1, 8, 9, 9), "norm"),
        (nn.LayerNorm(8), (1, 8), "norm"),
        (nn.GELU(), (1, 8), "elementwise"),
        (nn.Hardswish(), (1, 8), "elementwise"),
        (nn.MaxPool2d(2), (1, 8, 8, 8), "pool"),
        (nn.AdaptiveAvgPool2d(1), (1, 8, 8, 8), "pool"),
        (nn.ChannelShuffle(2), (1, 8, 8, 8), "copy"),
        (nn.ZeroPad2d(1), (1, 8, 8, 8), "copy"),
    ],
    ids=lambda value: str(value).replace(" ", "") if isinstance(value, nn.Module) else None,
)
def test_a_layer_is_of_the_kind_of_its_costliest_operator(module, shape, name):
    assert kind(layer(module, *shape)) == name


def test_nodes_that_no_operator_asked_for_are_the_engines_own():
    assert kind(replace(layer(nn.ReLU(), 1, 8), operators=())) == "engine's own"


def test_every_colour_stands_out_from_its_page():
    for colour in KINDS.values():
        assert contrast(colour.light, "#ffffff") >= 3
        assert contrast(colour.dark, "#191c21") >= 3


def test_products_within_an_attention_module_are_attention():
    class Attention(nn.Module):
        def forward(self, x):
            return torch.softmax(x @ x.transpose(1, 2), -1) @ x

    class Product(nn.Module):
        def forward(self, x):
            return x @ x.transpose(1, 2)

    assert kind(layer(Attention(), 1, 4, 8)) == "attention"
    assert kind(layer(Product(), 1, 4, 8)) == "linear, matmul"


def test_operations_are_two_a_multiply_accumulate_or_the_exact_ones():
    conv, relu = layer(nn.Conv2d(8, 4, 1), 1, 8, 9, 9), layer(nn.ReLU(), 1, 8, 9, 9)
    assert operations(conv) == 2 * 8 * 4 * 81
    assert operations(relu) == 8 * 81
    assert rate(relu) == pytest.approx(8 * 81 / 1e-3)
    assert intensity(relu) == pytest.approx(1 / 8)  # 4 bytes read and 4 written a value


def test_steps_of_colour_meet_at_their_bounds():
    assert [step(times) for times in (0.5, 1.49, *STEPS, 100)] == [0, 0, 1, 2, 3, 4, 4]
    assert step_text(0) == "below 1.5 ×"
    assert step_text(4) == "5 × and more"


def test_the_tree_sums_its_layers_and_joins_what_is_alone():
    root = tree(explanation().layers, "example_net")
    names = [(depth, branch.name) for depth, branch in root.walk()]
    block = [(3, "depthwise"), (3, "project"), (3, "act"), (3, OWN)]
    assert names == [
        (0, "example_net"), (1, "stem.0"), (1, "blocks"), (2, "0"), *block, (2, "1"), *block,
        (1, "pool"), (1, "head"),
    ]  # fmt: skip
    blocks = root.children[1]
    assert blocks.time_s == pytest.approx(12e-6)
    assert root.time_s == pytest.approx(sum(TIMES_US.values()) / 1e6)
    for field in ("time_s", "floor_s", "above_floor_s", "moved_bytes"):
        parts = sum(getattr(child, field) for child in root.children)
        assert getattr(root, field) == pytest.approx(parts)
    assert root.times_floor == pytest.approx(root.time_s / root.floor_s)
    pool = root.children[2]
    assert pool.operations == 16 * 16 * 16  # exact ones, which are no multiply-accumulates
    assert root.operations == sum(c.operations for c in root.children) - pool.operations
    without = blocks.children[0].children[2]  # the activation, which ran within the 1×1
    assert without.times_floor is None
    assert without.bound is None


def test_a_module_alone_in_its_parents_is_one_branch_named_by_the_whole_path():
    inner = nn.Sequential(nn.Sequential(nn.Conv2d(8, 8, 1)), nn.ReLU())
    traced = trace(nn.Sequential(nn.Sequential(inner)), torch.empty(1, 8, 4, 4, device="meta"))
    node = NodeTime(name="n", kind="n", modules=("0.0.0.0",), seconds=1e-3)
    root = tree(join(traced, [(node,)], machine()), "net")
    assert [branch.name for _, branch in root.walk()] == ["net", "0.0", "0.0", "1"]
    assert [branch.module for _, branch in root.walk()] == ["", "0.0", "0.0.0.0", "0.0.1"]


def test_time_is_shared_out_by_bound_and_by_kind():
    layers = explanation().layers
    bounds = by_bound(layers)
    assert sum(bounds.values()) == pytest.approx(20e-6)
    kinds = by_kind(layers)
    assert list(kinds) == ["depthwise conv", "dense conv", "1×1 conv", "linear, matmul", "pool"]
    assert [len(found) for found in kinds.values()] == [2, 1, 2, 1, 1]
    assert set(kinds) <= set(KINDS)
