"""Tensors that are needed at the same time lie apart; the others share bytes."""

import itertools

import numpy as np
import pytest
from hand import Hand, channels, repeated
from interpreter import interpret

from fleetfoot.engines.native import arena
from fleetfoot.engines.native.cpu import strips
from fleetfoot.engines.native.cpu.strips import StripOptions
from fleetfoot.engines.native.graph import Graph
from fleetfoot.engines.native.passes.elide_copies import elide_copies
from fleetfoot.engines.native.passes.fuse_nodes import fuse_nodes


def placed(graph: Graph) -> arena.Memory:
    """The memory, once it is shown that the graph computes in it what it does elsewhere."""
    random = np.random.default_rng(1)
    inputs = [random.normal(size=view.shape) for view in graph.inputs]
    expected = interpret(graph, inputs)
    memory = arena.place(graph)
    for result, reference in zip(interpret(graph, inputs, arena=True), expected, strict=True):
        np.testing.assert_array_equal(result, reference)  # nan != nan: nothing unwritten is read
    for tensor in graph.tensors():
        assert tensor.offset % arena.LINE == 0
        if tensor.kind == "arena":
            assert tensor.offset + 4 * tensor.size <= memory.arena
    return memory


def test_a_chain_takes_two_maps():
    hand = Hand(8, 8, 16)
    x = hand.x
    for _ in range(5):
        x = hand.conv(x, 16)

    assert placed(hand.finish(x)).arena == 2 * 4 * 8 * 8 * 16


def test_pointwise_nodes_work_in_place():
    hand = Hand(8, 8, 16)
    x = hand.binary(hand.unary(hand.x), hand.x)
    x = hand.unary(hand.unary(x), "exp")
    # hand.x lives until the sum, which can overwrite it or the unary's result.
    assert placed(hand.finish(x)).arena == 2 * 4 * 8 * 8 * 16


def test_a_map_plus_itself_is_made_in_place():
    hand = Hand(8, 8, 16)
    assert placed(hand.finish(hand.binary(hand.x, hand.x))).arena == 4 * 8 * 8 * 16


def test_a_sum_takes_the_place_of_its_residual():
    hand = Hand(8, 8, 16)
    x = hand.x
    for _ in range(3):
        x = hand.binary(hand.conv(hand.unary(hand.conv(x, 16)), 16), x)
    graph = hand.finish(x)
    fuse_nodes(graph)

    assert placed(graph).arena == 2 * 4 * 8 * 8 * 16


def test_a_residual_that_the_window_reads_is_not_overwritten():
    hand = Hand(8, 8, 16)
    x = hand.binary(hand.conv(hand.x, 16, kernel=3, padding=1), hand.x)
    graph = hand.finish(x)
    fuse_nodes(graph)

    assert placed(graph).arena == 2 * 4 * 8 * 8 * 16


def test_a_view_of_another_layout_is_not_overwritten():
    hand = Hand(8, 8, 8)
    turned = hand.map(8, 8, 8)
    transposed = type(turned)(hand.x.tensor, (8, 8, 8), (8, 64, 1))
    hand.add("unary", {"x": transposed}, turned, act=["relu", 0.0, 0.0])

    assert placed(hand.finish(turned)).arena == 2 * 4 * 8 * 8 * 8


@pytest.mark.parametrize("seed", range(20))
def test_no_two_living_tensors_overlap(seed):
    """Random networks of branches, sums and concatenations."""
    random = np.random.default_rng(seed)
    hand = Hand(5, 6, 8, seed=seed)
    maps = [hand.x]
    for _ in range(12):
        x = maps[random.integers(max(0, len(maps) - 4), len(maps))]
        y = maps[random.integers(len(maps))]
        match random.integers(5):
            case 0:
                maps.append(hand.conv(x, 8, kernel=3, padding=1))
            case 1:
                maps.append(hand.unary(x, "tanh"))
            case 2:
                maps.append(hand.binary(x, y))
            case 3:
                low, high = channels(x, 0, 4), channels(y, 4, 8)
                maps.append(hand.concat(hand.conv(low, 4), high))
            case _:
                maps.append(hand.unary(hand.depthwise(x)))
    graph = hand.finish(maps[-1], maps[-3])
    fuse_nodes(graph)
    elide_copies(graph)
    if seed % 2:
        options = StripOptions(small_bytes=0, pixels=1, budget_bytes=3000, halo=1.0)
        strips.group(graph, options)
    placed(graph)


def test_rings_of_a_strip_lie_apart_and_those_of_two_in_the_same_place():
    hand = Hand(28, 14, 16)
    x = hand.x
    for _ in range(4):
        x = hand.conv(hand.depthwise(hand.unary(hand.conv(x, 32))), 16)
        x = hand.binary(x, repeated(hand.mean(x), x))
    graph = hand.finish(x)
    fuse_nodes(graph)
    strips.group(graph, StripOptions(small_bytes=0, budget_bytes=60_000, halo=1.0))
    memory = placed(graph)
    sizes = []
    for strip in (node for node in graph.nodes if node.op == "strip"):
        rings = {n.out.tensor for n in strip.nodes if n.out.tensor.kind == "ring"}
        spans = sorted((t.offset, t.offset + 4 * t.size) for t in rings)
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))
        sizes.append(spans[-1][1])
    assert len(sizes) > 1
    assert memory.rings == -(-max(sizes) // 64) * 64


def test_a_residual_behind_a_swept_activation_is_not_overwritten():
    hand = Hand(8, 8, 16)
    x = hand.binary(hand.unary(hand.conv(hand.x, 16), "gelu"), hand.x)
    graph = hand.finish(x)
    fuse_nodes(graph)

    assert [node.op for node in graph.nodes] == ["copy", "conv", "copy"]
    assert placed(graph).arena == 2 * 4 * 8 * 8 * 16
