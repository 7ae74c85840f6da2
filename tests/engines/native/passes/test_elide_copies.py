"""Concatenations and shuffles that move nothing, and compute what they did."""

import pytest
import torch
from hand import Hand, channels, kept, ops, repeated
from torch import nn

from fleetfoot.engines.native.cpu.strips import StripOptions, group
from fleetfoot.engines.native.graph import Graph, View
from fleetfoot.engines.native.lower.lower import lower
from fleetfoot.engines.native.passes.channels import reorder_channels
from fleetfoot.engines.native.passes.elide_copies import elide_copies
from fleetfoot.engines.native.passes.fuse_nodes import fuse_nodes


def fused_and_placed(graph: Graph) -> None:
    fuse_nodes(graph)
    elide_copies(graph)


def moved_channels(graph: Graph) -> list[int]:
    """Channels that each copy or gather moves, those to and from the network's planes left out."""
    inside = [node for node in graph.nodes if node.op in ("copy", "gather")]
    return [n.out.shape[2] for n in inside if n.out.strides[2] == 1 == n.inputs["x"].strides[2]]


def test_parts_of_a_concatenation_are_made_in_place():
    hand = Hand(5, 6, 4)
    low, high = hand.unary(hand.conv(hand.x, 3)), hand.conv(hand.x, 5, kernel=3, padding=1)
    whole = hand.concat(low, high)
    graph = hand.finish(hand.conv(whole, 4), hand.conv(low, 2))

    assert kept(graph, fused_and_placed) == ["copy", "conv", "conv", "conv", "conv", "copy", "copy"]
    assert graph.nodes[1].out.strides == (48, 8, 1)


def test_a_part_of_two_concatenations_is_copied_into_one():
    hand = Hand(5, 6, 4)
    part = hand.conv(hand.x, 3)
    first = hand.concat(part, hand.conv(hand.x, 2))
    second = hand.concat(hand.conv(hand.x, 6), part)
    graph = hand.finish(hand.conv(first, 4), hand.conv(second, 4))

    kept(graph, fused_and_placed)
    assert moved_channels(graph) == [3]


def test_dense_concatenations_read_and_write_one_map():
    hand = Hand(5, 6, 4)
    x = hand.x
    for _ in range(3):
        x = hand.concat(x, hand.conv(x, 4))
    graph = hand.finish(hand.conv(x, 4))

    kept(graph, fused_and_placed)
    assert moved_channels(graph) == []


def test_a_vector_is_made_in_the_output():
    hand = Hand(5, 6, 4)
    graph = hand.finish(hand.conv(hand.mean(hand.x), 10))

    assert kept(graph, fused_and_placed) == ["copy", "reduce", "conv"]
    assert graph.nodes[-1].out.tensor.kind == "output"


def test_an_output_that_others_read_is_copied():
    hand = Hand(1, 1, 4)
    x = hand.conv(hand.x, 6)
    graph = hand.finish(hand.conv(x, 10), x)

    kept(graph, fused_and_placed)
    assert all(v.tensor.kind != "output" for n in graph.nodes for v in n.inputs.values())


def test_pconv_convolves_into_the_map_beside_the_untouched_channels():
    hand = Hand(6, 6, 16)
    mixed = hand.conv(channels(hand.x, 0, 4), 4, kernel=3, padding=1)
    whole = hand.concat(mixed, channels(hand.x, 4, 16))
    x = hand.binary(hand.conv(hand.unary(hand.conv(whole, 32)), 16), hand.x)
    graph = hand.finish(x)

    assert kept(graph, fused_and_placed) == ["copy", "conv", "copy", "conv", "conv", "copy"]


def branch(hand: Hand, x: View, count: int, stride: int = 1) -> View:
    x = hand.unary(hand.conv(x, count))
    x = hand.depthwise(x, stride=stride)
    return hand.unary(hand.conv(x, count))


def shuffle_stage(
    hand: Hand, x: View, width: int, depth: int, *, authors: bool, odd: int = 0
) -> View:
    """A stage of ShuffleNet V2: torchvision's form shuffles last, the authors' splits into even and
    odd channels first."""
    half = width // 2 + odd
    side = hand.unary(hand.conv(hand.depthwise(x, stride=2), half))
    x = hand.concat(side, branch(hand, x, half, stride=2))
    for _ in range(depth):
        height, columns, count = x.shape
        if authors:
            shape, strides = (height, columns, count // 2), (x.strides[0], x.strides[1], 2)
            seen, other = (View(x.tensor, shape, strides, begin) for begin in (0, 1))
            mixed = hand.add("copy", {"x": other}, hand.map(*shape))
            x = hand.concat(seen, branch(hand, mixed, half))
        else:
            x = hand.shuffle(x, 2)
            low, high = channels(x, 0, half), channels(x, half, 2 * half)
            mixed = hand.add("copy", {"x": high}, hand.map(height, columns, half))
            x = hand.concat(low, branch(hand, mixed, half))
    return x if authors else hand.shuffle(x, 2)


@pytest.mark.parametrize("authors", [False, True])
@pytest.mark.parametrize("odd", [0, 1])
@pytest.mark.parametrize("depth", [1, 3, 7])
def test_units_of_shufflenet_v2_copy_no_more_than_the_half_they_pass_on(depth, odd, authors):
    hand = Hand(8, 8, 6)
    x = shuffle_stage(hand, hand.x, 16, depth, authors=authors, odd=odd)
    graph = hand.finish(hand.mean(hand.conv(x, 5)))

    kept(graph, fused_and_placed)
    assert sum(moved_channels(graph)) == depth * (8 + odd)


@pytest.mark.parametrize("authors", [False, True])
def test_the_next_stage_takes_the_order_of_the_last(authors):
    hand = Hand(8, 8, 6)
    x = shuffle_stage(hand, hand.x, 8, 2, authors=authors)
    x = shuffle_stage(hand, x, 12, 2, authors=authors)
    graph = hand.finish(hand.mean(hand.conv(x, 5)))

    kept(graph, fused_and_placed)
    assert sum(moved_channels(graph)) == 2 * 4 + 2 * 6


@pytest.mark.parametrize("authors", [False, True])
def test_an_output_gets_its_channels_in_order(authors):
    hand = Hand(8, 8, 6)
    x = shuffle_stage(hand, hand.x, 8, 2, authors=authors)
    kept(hand.finish(x, hand.conv(x, 3)), fused_and_placed)


def test_a_shuffle_between_dense_convolutions_is_a_permuted_weight():
    hand = Hand(6, 6, 8)
    x = hand.shuffle(hand.conv(hand.x, 12), 3)
    x = hand.unary(hand.depthwise(x), "silu")
    graph = hand.finish(hand.mean(x))

    # It can go neither into the mean's reader, an output, nor need it: the first 1×1 takes it.
    assert kept(graph, fused_and_placed) == ["copy", "conv", "depthwise", "reduce"]


def test_a_shuffle_between_grouped_convolutions_stays():
    hand = Hand(6, 6, 8)
    x = hand.shuffle(hand.conv(hand.x, 24, groups=2), 2)
    graph = hand.finish(hand.conv(hand.depthwise(x), 8, groups=2))

    kept(graph, fused_and_placed)
    assert sum(moved_channels(graph)) == 24


def test_a_shuffle_goes_through_pooling_and_scaling_to_a_dense_convolution():
    hand = Hand(6, 6, 8)
    x = hand.shuffle(hand.conv(hand.x, 24, groups=2), 2)
    x = hand.binary(x, View(hand.constant(24).tensor, x.shape, (0, 0, 1)), "max")
    graph = hand.finish(hand.conv(hand.mean(hand.unary(x, "sigmoid")), 8))

    kept(graph, fused_and_placed)
    assert moved_channels(graph) == []


def test_channels_of_a_network_without_moves_are_left_alone():
    hand = Hand(6, 6, 8)
    graph = hand.finish(hand.conv(hand.depthwise(hand.x), 8))
    before = ops(graph)

    assert kept(graph, reorder_channels) == before


READERS = {  # of a piece of a dense concatenation, before the next piece is made
    "none": lambda hand, a: a,
    "relu": lambda hand, a: hand.unary(a),
    "layer norm": lambda hand, a: hand.add(
        "norm", {"x": a}, hand.map(*a.shape), mode="layer", trailing=1, eps=1e-5
    ),
    "softmax": lambda hand, a: hand.add("softmax", {"x": a}, hand.map(*a.shape)),
    "itself": lambda hand, a: hand.binary(a, a),
    "its mean over pixels": lambda hand, a: hand.binary(a, repeated(hand.mean(a), a), "mul"),
    "its other half": lambda hand, a: hand.binary(channels(a, 0, 2), channels(a, 2, 4)),
    "rows of pixels": lambda hand, a: flat_norm(hand, a),
}


def flat_norm(hand: Hand, a: View) -> View:
    """A norm that sees the map as (H W, C)."""
    height, width, count = a.shape
    seen = View(a.tensor, (height * width, count), (a.strides[1], 1), a.offset)
    out = hand.map(height, width, count)
    flat = View(out.tensor, (height * width, count), (count, 1))
    hand.add("norm", {"x": seen}, flat, mode="layer", trailing=1, eps=1e-5)
    return out


@pytest.mark.parametrize("strips", [False, True])
@pytest.mark.parametrize("reader", READERS)
def test_a_piece_of_a_dense_concatenation_may_be_read_before_the_next_is_made(reader, strips):
    hand = Hand(5, 5, 3)
    a = hand.conv(hand.x, 4)
    b = hand.conv(READERS[reader](hand, a), 2)
    z = hand.conv(hand.concat(a, b), 2)
    graph = hand.finish(hand.concat(a, b, z))

    def change(graph: Graph) -> None:
        fused_and_placed(graph)
        if strips:
            group(graph, StripOptions(small_bytes=0, pixels=1, halo=1.0))

    kept(graph, change)


@pytest.mark.parametrize("reader", READERS)
def test_a_piece_that_stands_twice_in_a_concatenation_is_read_between(reader):
    hand = Hand(5, 5, 3)
    a = hand.conv(hand.x, 4)
    read = READERS[reader](hand, a)
    graph = hand.finish(read, hand.concat(a, a), hand.concat(a, hand.conv(read, 3), a))

    kept(graph, fused_and_placed)


def test_pixels_merged_into_channels_are_no_order_of_a_convolutions_channels():
    """Two pixels of 8 channels, taken as one of 16 and turned around, as in CSATv2."""

    class Blocks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            blocks = self.conv(x).permute(0, 2, 3, 1).reshape(-1, 4, 2, 16)
            return blocks[..., list(range(15, -1, -1))].permute(0, 3, 1, 2)

    kept(lower(Blocks().eval(), torch.randn(1, 3, 4, 4)), fused_and_placed)


def test_one_column_of_a_concatenated_map_is_no_move_of_its_channels():
    """A copy of every second column reads rows of W · C numbers, of which it takes C."""

    class Columns(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.mix = nn.Conv2d(1, 2, 1), nn.Conv2d(2, 1, 1)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            x = self.conv(x)
            changed = x.clone()
            changed[:, :, :, 0:2:2].relu_()
            return torch.cat((x, x), 1), self.mix(changed)

    kept(lower(Columns().eval(), torch.randn(1, 1, 2, 2)), fused_and_placed)
