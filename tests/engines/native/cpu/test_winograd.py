"""Winograd's tiles: the identity in float64, and which convolutions take them."""

import mmap
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hand import Hand, kept

from fleetfoot import runtime
from fleetfoot.engines.native import save_plan
from fleetfoot.engines.native.cpu import pack, strips
from fleetfoot.engines.native.cpu.pack import transformed_weight
from fleetfoot.engines.native.cpu.strips import StripOptions
from fleetfoot.engines.native.cpu.winograd import FILTERS, transformed, winograd
from fleetfoot.engines.native.graph import Node

R = np.sqrt(2)
INPUTS = {
    2: np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, -1, 0, 1]]),
    4: np.array(
        [
            [1, 0, -2.5, 0, 1, 0],
            [0, -R, -2, R / 2, 1, 0],
            [0, R, -2, -R / 2, 1, 0],
            [0, -R / 2, -0.5, R, 1, 0],
            [0, R / 2, -0.5, -R, 1, 0],
            [0, 1, 0, -2.5, 0, 1],
        ]
    ),
}
"""B^T, as ``winograd.hpp`` applies it."""
OUTPUTS = {
    2: np.array([[1, 1, 1, 0], [0, 1, -1, 1]]),
    4: np.array(
        [
            [1, 1, 1, 1, 1, 0],
            [0, R / 2, -R / 2, R, -R, 0],
            [0, 0.5, 0.5, 2, 2, 0],
            [0, R / 4, -R / 4, 2 * R, -2 * R, 1],
        ]
    ),
}
"""A^T."""


@pytest.mark.parametrize("tile", FILTERS)
def test_a_tile_is_the_convolution_of_its_patch(tile):
    random = np.random.default_rng(0)
    patch = random.normal(size=(5, tile + 2, tile + 2))
    weight = random.normal(size=(7, 5, 3, 3)).astype(np.float32)
    b, a = INPUTS[tile], OUTPUTS[tile]

    products = np.einsum("ijnc,cij->nij", transformed(weight, tile), b @ patch @ b.T)
    expected = F.conv2d(torch.from_numpy(patch)[None], torch.from_numpy(weight).double())[0]

    np.testing.assert_allclose(a @ products @ a.T, expected.numpy(), rtol=0, atol=1e-13)


def test_transformed_weights_lie_in_panels_of_16_position_by_position():
    raw = np.arange(4 * 4 * 18 * 3, dtype=np.float32).reshape(4, 4, 18, 3)
    packed = transformed_weight(raw)

    assert packed.shape == (16, 2, 3, 16)
    for i, j, n, c in ((0, 0, 0, 0), (3, 1, 15, 2), (2, 3, 16, 1), (1, 0, 17, 0)):
        assert packed[i * 4 + j, n // 16, c, n % 16] == raw[i, j, n, c]
    assert not packed[:, 1, :, 2:].any()


def convolution(size: int, channels: int, **options: int) -> Node:
    hand = Hand(size, size, channels)
    hand.conv(hand.x, channels, kernel=3, padding=1, **options)
    winograd(hand.graph)
    return hand.graph.nodes[-1]


@pytest.mark.parametrize(
    ("size", "channels", "tile"),
    [(56, 64, 4), (28, 128, 4), (14, 256, 2), (7, 512, 2), (7, 256, 2), (14, 3, None)],
)
def test_the_tile_is_the_cheapest_with_the_weights_it_reads(size, channels, tile):
    node = convolution(size, channels)
    assert node.attributes.get("winograd") == tile
    if tile is not None:
        assert node.inputs["transformed"].shape == (tile + 2, tile + 2, channels, channels)


@pytest.mark.parametrize("options", [{"stride": 2}, {"groups": 2}])
def test_other_convolutions_stay(options):
    node = convolution(28, 64, **options)
    assert "winograd" not in node.attributes
    assert "transformed" not in node.inputs


OPTIONS = StripOptions(small_bytes=0, pixels=1, budget_bytes=400_000, halo=1.0)


def test_strips_hold_whole_tiles():
    hand = Hand(50, 40, 32)
    x = hand.unary(hand.conv(hand.unary(hand.x), 32, kernel=3, padding=1))
    graph = hand.finish(hand.conv(x, 48))

    def change(graph):
        winograd(graph)
        strips.group(graph, OPTIONS)
        pack.pack(graph)

    kept(graph, change)
    tiled = [
        node for node in graph.nodes if any("winograd" in inner.attributes for inner in node.nodes)
    ]
    assert [strip.attributes["rows"] % 4 for strip in tiled] == [0]


def test_no_halo_cuts_tiles():
    hand = Hand(50, 40, 32)
    x = hand.conv(hand.unary(hand.x), 32, kernel=3, padding=1)
    graph = hand.finish(hand.depthwise(x))

    winograd(graph)
    strips.group(graph, OPTIONS)

    found = [[n.op for n in node.nodes] for node in graph.nodes if node.op == "strip"]
    assert not any({"conv", "depthwise"} <= set(ops) for ops in found), found


def resident_bytes(path: Path) -> int:
    """Of a file that this process has mapped."""
    inside, found = False, 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(" ")[0]:
            inside = line.endswith(str(path))
        elif inside and line.startswith("Rss:"):
            found += 1024 * int(line.split()[1])
    return found


@pytest.mark.skipif(runtime.missing() is not None, reason=str(runtime.missing()))
@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="Linux tells it there")
def test_direct_weights_of_a_mapped_plan_leave_memory_and_come_back_where_a_tile_needs_them(
    tmp_path,
):
    path = tmp_path / "conv.plan"
    conv = torch.nn.Conv2d(64, 64, 3, padding=1).eval()
    save_plan(conv, torch.zeros(1, 64, 28, 28), path)
    direct = 4 * conv.weight.numel()
    x = np.random.default_rng(0).normal(size=(1, 64, 28, 28)).astype(np.float32)
    x[0, 3, 5, 7] = np.inf

    with (
        runtime.Plan.load(path, mmap=True) as mapped,
        runtime.Plan.from_bytes(path.read_bytes()) as copied,
    ):
        # the checksum has read all of the file; a page at either end is shared with other weights
        assert resident_bytes(path) <= path.stat().st_size - direct + 3 * mmap.PAGESIZE
        with mapped.context() as one, copied.context() as other:
            np.testing.assert_array_equal(one.run(x), other.run(x))
        assert resident_bytes(path) > path.stat().st_size - direct + 3 * mmap.PAGESIZE
