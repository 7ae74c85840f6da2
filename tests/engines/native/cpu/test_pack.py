"""Packed constants: by hand, and the graph computes with them what it did."""

import numpy as np
import pytest
from hand import Hand, kept

from fleetfoot.engines.native.cpu.pack import conv_bias, conv_weight, depthwise_weight, pack


def test_a_convolutions_weight_lies_in_panels_of_16_by_tap_and_channel():
    raw = np.arange(18 * 2 * 1 * 3, dtype=np.float32).reshape(18, 2, 1, 3)
    packed = conv_weight(raw, groups=1)

    assert packed.shape == (1, 2, 6, 16)
    for n, c, x in ((0, 0, 0), (15, 1, 2), (16, 0, 1), (17, 1, 0)):
        assert packed[0, n // 16, x * 2 + c, n % 16] == raw[n, c, 0, x]
    assert not packed[0, 1, :, 2:].any()


def test_each_group_has_panels_of_its_own():
    raw = np.arange(10 * 3, dtype=np.float32).reshape(10, 3, 1, 1)
    packed = conv_weight(raw, groups=2)

    assert packed.shape == (2, 1, 3, 16)
    np.testing.assert_array_equal(packed[1, 0, :, :5], raw[5:, :, 0, 0].T)
    bias = conv_bias(np.arange(10, dtype=np.float32), groups=2)
    np.testing.assert_array_equal(bias[1, :6], [5, 6, 7, 8, 9, 0])


def test_a_depthwise_weight_lies_tap_by_tap():
    raw = np.arange(5 * 6, dtype=np.float32).reshape(5, 1, 2, 3)
    packed = depthwise_weight(raw)

    assert packed.shape == (6, 16)
    np.testing.assert_array_equal(packed[:, :5], raw.reshape(5, 6).T)
    assert not packed[:, 5:].any()


@pytest.mark.parametrize("groups", [1, 3])
def test_a_packed_graph_computes_what_it_did(groups):
    hand = Hand(6, 5, 9)
    x = hand.conv(hand.x, 18 * groups, kernel=3, padding=1, groups=groups)
    x = hand.conv(hand.depthwise(x), 7)
    graph = hand.finish(x)

    kept(graph, pack, tolerance=1e-12)  # sums in another order
    constants = [t for t in graph.tensors() if t.kind == "constant"]
    assert len(constants) == 6
    assert all(t.size % 16 == 0 and t.data.shape == (t.size,) for t in constants)


def test_equal_constants_are_kept_once_and_names_are_unique():
    hand = Hand(6, 5, 8)
    first, second, third = (hand.conv(hand.x, 8) for _ in range(3))
    graph = hand.finish(first, second, third)
    one, two, three = (node for node in graph.nodes if node.op == "conv")
    two.inputs["weight"] = one.inputs["weight"]
    three.inputs["weight"].tensor.name = one.inputs["weight"].tensor.name
    kept(graph, pack, tolerance=1e-12)  # sums in another order

    assert two.inputs["weight"].tensor is one.inputs["weight"].tensor
    names = [t.name for t in graph.tensors() if t.kind == "constant"]
    assert len(names) == len(set(names)) == 5
