"""Strips by rows compute what their nodes do, in rings that are large enough."""

import numpy as np
import pytest
from hand import Hand, channels
from interpreter import interpret
from rows import Rings

from fleetfoot.engines.native.cpu import strips
from fleetfoot.engines.native.cpu.strips import StripOptions, live_rows
from fleetfoot.engines.native.graph import Graph, View
from fleetfoot.engines.native.passes.elide_copies import elide_copies
from fleetfoot.engines.native.passes.fuse_nodes import fuse_nodes

EAGER = StripOptions(small_bytes=0, pixels=1, budget_bytes=14_000, halo=1.0)
"""Small maps by few rows, whatever it costs."""


def by_rows(graph: Graph, *, options: StripOptions = EAGER, threads: int = 1) -> list[list[str]]:
    """The operators of each strip, once it is shown that rows and rings give what the graph did.

    In float64, where the same sums are taken in the same order.
    """
    fuse_nodes(graph)
    elide_copies(graph)
    random = np.random.default_rng(1)
    inputs = [random.normal(size=view.shape) for view in graph.inputs]
    expected = interpret(graph, inputs)
    strips.group(graph, options)
    for result, reference in zip(interpret(graph, inputs), expected, strict=True):
        np.testing.assert_array_equal(result, reference)
    for result, reference in zip(Rings(graph, threads=threads).run(inputs), expected, strict=True):
        np.testing.assert_allclose(result, reference, rtol=1e-9, atol=1e-12)
    found = [node for node in graph.nodes if node.op == "strip"]
    for strip in found:
        rings = live_rows(strip)
        assert all(rows <= tensor.ring for tensor, rows in rings.items())
    return [[node.op for node in strip.nodes] for strip in found]


def fasternet_block(hand: Hand, x: View) -> View:
    count = x.shape[2]
    mixed = hand.conv(channels(x, 0, count // 4), count // 4, kernel=3, padding=1)
    whole = hand.concat(mixed, channels(x, count // 4, count))
    return hand.binary(hand.conv(hand.unary(hand.conv(whole, 2 * count)), count), x)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_fasternet_block_runs_by_rows(threads):
    hand = Hand(30, 5, 8)
    graph = hand.finish(fasternet_block(hand, hand.conv(hand.x, 8, kernel=3, padding=1)))

    found = by_rows(graph, threads=threads)
    assert ["conv", "copy", "conv", "conv"] in [strip[-4:] for strip in found]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("height", [29, 36])
@pytest.mark.parametrize("threads", [1, 2])
def test_an_inverted_residual_runs_by_rows(stride, height, threads):
    hand = Hand(height, 5, 6)
    x = hand.unary(hand.conv(hand.x, 24), "relu6")
    x = hand.unary(hand.depthwise(x, kernel=5, stride=stride), "relu6")
    x = hand.conv(x, 6)
    graph = hand.finish(hand.binary(x, hand.x) if stride == 1 else x)

    found = by_rows(graph, threads=threads)
    assert any(strip[-3:] == ["conv", "depthwise", "conv"] for strip in found)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_wide_block_with_two_windows_and_a_residual_runs_by_rows(threads):
    """FastViT's: depthwise mixing, then 7×7 depthwise, 1×1, GELU, 1×1 and the sum."""
    hand = Hand(47, 5, 8)
    x = hand.depthwise(hand.x, kernel=3)
    inner = hand.unary(hand.conv(hand.depthwise(x, kernel=7), 24), "gelu")
    graph = hand.finish(hand.binary(hand.conv(inner, 8), x))

    found = by_rows(graph, threads=threads)
    assert any(strip[-4:] == ["depthwise", "depthwise", "conv", "conv"] for strip in found)


def test_a_stem_reads_the_picture_by_rows():
    hand = Hand(32, 30, 3)
    x = hand.unary(hand.conv(hand.x, 8, kernel=3, stride=2, padding=1))
    graph = hand.finish(hand.unary(hand.depthwise(x)))

    found = by_rows(graph, options=StripOptions(small_bytes=0, pixels=1, budget_bytes=9000, halo=1))
    assert found[0][:3] == ["copy", "conv", "depthwise"]
    assert graph.nodes[0].nodes[0].inputs["x"].tensor.kind == "input"


def test_normed_and_gated_maps_run_by_rows():
    hand = Hand(14, 6, 8)
    gate = hand.unary(hand.conv(hand.mean(hand.x), 8), "sigmoid")
    weight = View(hand.constant(8).tensor, hand.x.shape, (0, 0, 1))
    normed = hand.add(
        "norm",
        {"x": hand.depthwise(hand.x), "weight": weight},
        hand.map(14, 6, 8),
        mode="layer",
        trailing=1,
        eps=1e-6,
    )
    repeated = View(gate.tensor, normed.shape, (0, 0, 1))
    x = hand.conv(hand.unary(hand.conv(normed, 16), "gelu"), 8)
    product = hand.binary(x, repeated, "mul")
    graph = hand.finish(hand.conv(product, 4))

    found = by_rows(graph)
    assert any("norm" in strip for strip in found)
    assert any("gate" in inner.inputs for node in graph.nodes for inner in node.nodes)


def test_a_global_mean_ends_a_strip():
    hand = Hand(14, 6, 8)
    x = hand.conv(hand.unary(hand.conv(hand.x, 16)), 8)
    graph = hand.finish(hand.mean(x), x)

    for strip in by_rows(graph):
        assert "reduce" not in strip
    assert all(v.tensor.kind != "ring" for n in graph.nodes for v in n.inputs.values())


def test_small_maps_stay_whole():
    hand = Hand(14, 14, 16)
    graph = hand.finish(hand.conv(hand.unary(hand.conv(hand.x, 32)), 16))

    assert by_rows(graph, options=StripOptions()) == []


def test_large_weights_stay_whole():
    """They would be read again for each stretch: 2 x 64 x 256 x 9 weights for maps of 80 KB."""
    hand = Hand(14, 14, 64)
    x = hand.conv(hand.unary(hand.conv(hand.x, 256, kernel=3, padding=1)), 64, kernel=3, padding=1)
    options = StripOptions(small_bytes=0, budget_bytes=160_000, halo=1.0)

    assert [strip for strip in by_rows(hand.finish(x), options=options) if len(strip) > 2] == []


def test_a_wide_halo_stays_whole():
    hand = Hand(8, 40, 16)
    x = hand.unary(hand.conv(hand.x, 64))
    graph = hand.finish(hand.conv(hand.depthwise(x, kernel=7), 16))
    narrow = StripOptions(small_bytes=0, pixels=1, budget_bytes=400_000, halo=0.01)

    assert all("depthwise" not in strip[1:] for strip in by_rows(graph, options=narrow))


def test_stretches_keep_to_the_budget():
    for budget in (20_000, 40_000, 80_000):
        hand = Hand(56, 28, 16)
        graph = hand.finish(fasternet_block(hand, hand.conv(hand.x, 16)))
        options = StripOptions(small_bytes=0, budget_bytes=budget)
        fuse_nodes(graph)
        elide_copies(graph)
        strips.group(graph, options)
        found = [node for node in graph.nodes if node.op == "strip"]
        assert found
        for strip in found:
            rings = {n.out.tensor for n in strip.nodes if n.out.tensor.kind == "ring"}
            row = strip.out.shape[1] * strip.out.shape[2]
            elements = sum(t.size for t in rings) + strip.attributes["rows"] * row
            assert 4 * elements <= budget
            assert strip.attributes["rows"] * strip.out.shape[1] >= options.pixels
