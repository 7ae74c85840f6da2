"""Fused graphs compute what they did, with fewer nodes."""

import math

import numpy as np
import pytest
from hand import Hand, channels, kept, ops, repeated

from fleetfoot.engines.native.graph import Tensor, View
from fleetfoot.engines.native.passes.flow import (
    aligned,
    disjoint,
    levels,
    permuted,
    reshaped,
    transferred,
    values,
)
from fleetfoot.engines.native.passes.fuse_nodes import fuse_nodes


def test_an_activation_joins_the_convolution_before_it():
    hand = Hand(5, 6, 4)
    x = hand.unary(hand.conv(hand.x, 7, kernel=3, padding=1), "silu")
    x = hand.unary(hand.depthwise(x), "gelu")
    graph = hand.finish(x)

    assert kept(graph, fuse_nodes) == ["copy", "conv", "depthwise", "copy"]
    assert [node.attributes.get("act") for node in graph.nodes[1:3]] == [
        ["silu", 0.0, 0.0],
        ["gelu", 0.0, 0.0],
    ]


def test_a_result_that_others_read_is_not_activated_in_place():
    hand = Hand(5, 6, 4)
    x = hand.conv(hand.x, 4)
    graph = hand.finish(hand.unary(x), x)

    assert kept(graph, fuse_nodes).count("unary") == 1


def test_two_activations_in_a_row_are_act_and_post():
    hand = Hand(4, 4, 3)
    graph = hand.finish(hand.unary(hand.unary(hand.conv(hand.x, 5), "tanh"), "exp"))

    kept(graph, fuse_nodes)
    conv = graph.nodes[1]
    assert (conv.attributes["act"][0], conv.attributes["post"][0]) == ("tanh", "exp")


def test_a_sum_and_the_relu_behind_it_join_the_later_convolution():
    hand = Hand(6, 6, 4)
    shortcut = hand.conv(hand.x, 8)
    main = hand.conv(hand.unary(hand.conv(hand.x, 8)), 8, kernel=3, padding=1)
    graph = hand.finish(hand.unary(hand.binary(shortcut, main)))

    assert kept(graph, fuse_nodes) == ["copy", "conv", "conv", "conv", "copy"]
    last = graph.nodes[3]
    assert "residual" in last.inputs
    assert last.attributes["post"][0] == "relu"


def test_a_sum_with_a_repeated_vector_is_no_residual():
    hand = Hand(6, 6, 4)
    vector = hand.mean(hand.x)
    x = hand.binary(hand.conv(hand.x, 4), repeated(vector, hand.x))

    assert "binary" in kept(hand.finish(x), fuse_nodes)


@pytest.mark.parametrize("swapped", [False, True])
def test_squeeze_excitation_gates_the_convolution_behind_it(swapped):
    hand = Hand(6, 5, 8)
    gate = hand.unary(hand.conv(hand.mean(hand.x), 8), "hardsigmoid")
    operands = (hand.x, repeated(gate, hand.x))
    product = hand.binary(*(operands[::-1] if swapped else operands), "mul")
    graph = hand.finish(hand.conv(product, 12))

    assert kept(graph, fuse_nodes) == ["copy", "reduce", "conv", "conv", "copy"]
    assert graph.nodes[3].inputs["gate"].shape == (8,)


def test_a_gated_map_that_others_read_is_made():
    hand = Hand(6, 5, 8)
    product = hand.binary(hand.x, repeated(hand.mean(hand.x), hand.x), "mul")
    graph = hand.finish(hand.conv(product, 12), product)

    assert "binary" in kept(graph, fuse_nodes)


@pytest.mark.parametrize("kind", ["mul", "add", "sub", "div"])
@pytest.mark.parametrize("depthwise", [False, True])
def test_a_constant_behind_a_convolution_is_folded(kind, depthwise):
    hand = Hand(5, 5, 6)
    x = hand.depthwise(hand.x) if depthwise else hand.conv(hand.x, 6, groups=2)
    x = hand.binary(x, repeated(hand.constant(6), x), kind)

    assert "binary" not in kept(hand.finish(x), fuse_nodes)


@pytest.mark.parametrize("kind", ["mul", "add"])
@pytest.mark.parametrize("groups", [1, 3])
def test_a_constant_before_an_unpadded_convolution_is_folded(kind, groups):
    hand = Hand(5, 5, 6)
    x = hand.binary(hand.x, repeated(hand.constant(6), hand.x), kind)

    assert "binary" not in kept(hand.finish(hand.conv(x, 9, kernel=3, groups=groups)), fuse_nodes)


def test_an_addend_before_a_padded_convolution_stays():
    hand = Hand(5, 5, 6)
    x = hand.binary(hand.x, repeated(hand.constant(6), hand.x), "add")

    assert "binary" in kept(hand.finish(hand.depthwise(x)), fuse_nodes)


def test_scales_in_a_row_become_one_and_then_the_weight():
    hand = Hand(5, 5, 6)
    x = hand.unary(hand.unary(hand.x, "scale", 2.0, -1.0), "scale", 0.5, 3.0)
    graph = hand.finish(hand.conv(x, 4))

    assert kept(graph, fuse_nodes) == ["copy", "conv", "copy"]


def padded(hand: Hand, value: float) -> View:
    """One row above, two columns right."""
    height, width, count = hand.x.shape
    whole = hand.map(height + 1, width + 2, count)
    hand.add("fill", {}, whole, value=value)
    inner = View(whole.tensor, hand.x.shape, whole.strides, whole.strides[0])
    hand.add("copy", {"x": hand.x}, inner)
    return whole


def test_zeros_around_a_map_become_padding():
    hand = Hand(6, 7, 4)
    graph = hand.finish(hand.conv(padded(hand, 0.0), 5, kernel=3, stride=2))

    assert kept(graph, fuse_nodes) == ["copy", "conv", "copy"]
    assert list(graph.nodes[1].attributes["padding"]) == [1, 0]


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_more_zeros_after_a_map_than_a_window_holds_stay(rows):
    """The loader takes no window that begins after the end of the map by more than the padding."""
    hand = Hand(6, 7, 4)
    whole = hand.map(6 + rows, 7, 4)
    hand.add("fill", {}, whole, value=0.0)
    hand.add("copy", {"x": hand.x}, View(whole.tensor, hand.x.shape, whole.strides))
    graph = hand.finish(hand.conv(whole, 5))

    assert ("fill" in kept(graph, fuse_nodes)) == (rows > 0)


def pooled(hand: Hand, x: View, mode: str) -> View:
    out = hand.map((x.shape[0] - 3) // 2 + 1, (x.shape[1] - 3) // 2 + 1, x.shape[2])
    return hand.add(
        "pool",
        {"x": x},
        out,
        mode=mode,
        kernel=[3, 3],
        stride=[2, 2],
        padding=[0, 0, 0, 0],
        dilation=[1, 1],
        count_include_pad=0,
    )


@pytest.mark.parametrize(
    ("mode", "value", "folded"),
    [("average", 0.0, True), ("max", -math.inf, True), ("max", 0.0, False)],
)
def test_a_pool_takes_over_the_pad_that_is_neutral_to_it(mode, value, folded):
    hand = Hand(6, 7, 4)
    graph = hand.finish(pooled(hand, padded(hand, value), mode))

    assert ("fill" not in kept(graph, fuse_nodes)) == folded


def test_copies_of_a_slice_are_not_made():
    hand = Hand(4, 4, 8)
    low = hand.add("copy", {"x": channels(hand.x, 0, 4)}, hand.map(4, 4, 4))
    again = hand.add("copy", {"x": channels(hand.x, 0, 4)}, hand.map(4, 4, 4))
    graph = hand.finish(hand.conv(low, 3), hand.conv(again, 5))

    assert kept(graph, fuse_nodes) == ["copy", "conv", "conv", "copy", "copy"]


def test_a_transposing_copy_is_made_once():
    hand = Hand(4, 4, 8)
    height, width, count = hand.x.shape
    turned = View(hand.x.tensor, (count, height, width), (1, width * count, count))
    copies = []
    for _ in range(2):
        out = hand.map(count, height, width)
        copies.append(hand.add("copy", {"x": turned}, out))
    graph = hand.finish(hand.conv(copies[0], 3), hand.conv(copies[1], 5))

    assert kept(graph, fuse_nodes).count("copy") == 4


def test_what_nobody_reads_is_removed():
    hand = Hand(4, 4, 8)
    hand.conv(hand.x, 5)

    assert ops(hand.finish(hand.x)) == ["copy", "conv", "copy"]
    assert "conv" not in kept(hand.graph, fuse_nodes)


def flat(shape: tuple[int, ...]) -> View:
    data = np.arange(math.prod(shape), dtype=np.float32)
    return View.dense(Tensor(kind="constant", size=data.size, data=data), shape)


def test_slices_of_a_pixel_are_disjoint_and_the_rest_is_not():
    whole = flat((4, 5, 8))
    low, high, middle = channels(whole, 0, 3), channels(whole, 3, 8), channels(whole, 2, 4)

    assert disjoint(low, high)
    assert not disjoint(low, middle)
    assert not disjoint(whole, low)
    assert disjoint(low, View(whole.tensor, (4, 5, 5), whole.strides, 3))


def test_reshaping_without_a_copy_keeps_the_order_of_elements():
    whole = flat((4, 6, 8))
    for shape in ((24, 8), (4, 48), (2, 2, 6, 8), (4, 6, 2, 4), (1, 4, 6, 8, 1)):
        view = reshaped(whole, shape)
        assert view is not None
        assert (values(view) == values(whole).reshape(shape)).all()
    assert reshaped(permuted(whole, (2, 0, 1)), (192,)) is None
    part = reshaped(channels(whole, 2, 6), (24, 4))
    assert part is not None
    assert (values(part) == values(whole)[:, :, 2:6].reshape(24, 4)).all()
    assert reshaped(channels(whole, 2, 6), (4, 24)) is None


def test_a_view_moves_with_the_map_that_it_sees():
    old, wide = flat((4, 6, 3)), flat((4, 6, 8))
    new = channels(wide, 4, 7)
    inner = View(old.tensor, (2, 3, 2), (36, 6, 1), 18 + 3 + 1)  # every other row and pixel
    moved = transferred(inner, old, new)
    assert moved is not None
    expected = values(wide)[:, :, 4:7][1::2, 1::2, 1:][:2, :3]
    assert (values(moved) == expected).all()
    assert transferred(View(old.tensor, (72,), (1,)), old, new) is None
    tokens = transferred(View(old.tensor, (24, 3), (3, 1)), old, new)
    assert tokens is not None
    assert (values(tokens) == values(wide).reshape(24, 8)[:, 4:7]).all()


def test_aligning_brings_operands_into_a_maps_order():
    whole = flat((4, 6, 3))
    planes = permuted(whole, (2, 0, 1))
    vector = View(flat((3,)).tensor, (3, 4, 6), (1, 0, 0))
    found = aligned(planes, [vector], whole)
    assert found is not None
    assert found[0].shape == whole.shape
    assert (values(found[0]) == np.arange(3)).all()
    assert levels(planes) == [(72, 1)]


def test_a_scaled_product_takes_the_scale_as_its_factor_and_keeps_its_activation_apart():
    hand = Hand(4, 4, 3)
    rows = View(hand.x.tensor, (16, 3), (3, 1), hand.x.offset)
    columns = View(hand.x.tensor, (3, 16), (1, 3), hand.x.offset)
    scores = hand.add("matmul", {"a": rows, "b": columns}, hand.map(1, 16, 16), alpha=2.0)
    graph = hand.finish(hand.unary(hand.unary(scores, "scale", 0.25), "relu"))

    assert [op for op in kept(graph, fuse_nodes) if op != "copy"] == ["matmul", "unary"]
    product = next(node for node in graph.nodes if node.op == "matmul")
    assert product.attributes == {"alpha": 0.5}
