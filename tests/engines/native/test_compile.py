"""Networks, compiled whole: each pass keeps the output, and leaves what it should."""

import numpy as np
import pytest
import torch
from interpreter import interpret
from rows import Rings

from fleetfoot import create_model
from fleetfoot.engines.native import arena
from fleetfoot.engines.native.compile import CompileOptions, compile, finish
from fleetfoot.engines.native.cpu import pack, strips
from fleetfoot.engines.native.cpu.strips import StripOptions
from fleetfoot.engines.native.cpu.winograd import winograd
from fleetfoot.engines.native.graph import Graph
from fleetfoot.engines.native.lower.lower import lower
from fleetfoot.engines.native.passes.elide_copies import elide_copies
from fleetfoot.engines.native.passes.fuse_nodes import fuse_nodes
from fleetfoot.transform import fuse as fold
from helpers import trained_

SMALL = StripOptions(small_bytes=0, pixels=1, budget_bytes=40_000, halo=1.0)
"""Strips at 48 px, where the default finds every map small enough."""


def lowered(name: str, size: int) -> tuple[Graph, list[np.ndarray]]:
    """The graph of a folded network, and a picture."""
    picture = torch.randn(1, 3, size, size)
    model = fold(trained_(create_model(name, num_classes=10)).eval(), picture).model
    return lower(model.eval(), picture), [picture[0].double().numpy()]


def same(graph: Graph, inputs: list[np.ndarray], expected: list[np.ndarray], **place: bool) -> None:
    """1e-6: constants that a pass folded are rounded to float32, 6e-8 each, over some 50 layers."""
    for result, reference in zip(interpret(graph, inputs, **place), expected, strict=True):
        assert np.abs(result - reference).max() <= 1e-6 * np.abs(reference).max()


@pytest.mark.parametrize(
    "name",
    [
        "fasternet_t0",
        "mobilenetv2_035",
        "mobilenetv3_small_050",
        "shufflenet_v1_g3_x0_25",
        "shufflenet_v2_x0_5",
        pytest.param("shufflenet_v2_x0_5_authors", marks=pytest.mark.slow),
        pytest.param("mobileone_s0", marks=pytest.mark.slow),
        pytest.param("mobilenetv1_025", marks=pytest.mark.slow),
        pytest.param("fastvit_t8", marks=pytest.mark.slow),
        pytest.param("fastvit_sa12", marks=pytest.mark.slow),
        pytest.param("shufflenet_v2_plus_small", marks=pytest.mark.slow),
        pytest.param("shufflenet_v2_large", marks=pytest.mark.slow),
    ],
)
def test_each_pass_keeps_a_networks_output(name):
    graph, inputs = lowered(name, 64 if name.startswith("fastvit") else 48)
    expected = interpret(graph, inputs)
    assert np.isfinite(expected[0]).all()

    fuse_nodes(graph)
    same(graph, inputs, expected)
    elide_copies(graph)
    same(graph, inputs, expected)
    winograd(graph)
    strips.group(graph, SMALL)
    same(graph, inputs, expected)
    pack.pack(graph)
    arena.place(graph)
    same(graph, inputs, expected, arena=True)
    rest = [node.op for node in graph.nodes for node in (node, *node.nodes)]
    # Large has four behind other nodes than convolutions.
    assert rest.count("unary") <= (4 if name == "shufflenet_v2_large" else 0)


def test_a_network_runs_by_rows_in_rings():
    graph, inputs = lowered("mobilenetv2_010", 32)
    expected = interpret(graph, inputs)
    finish(graph, options=CompileOptions(strips=SMALL))

    assert any(node.op == "strip" for node in graph.nodes)
    for result, reference in zip(Rings(graph, threads=2).run(inputs), expected, strict=True):
        assert np.abs(result - reference).max() <= 1e-6 * np.abs(reference).max()


def test_shufflenet_v2_shuffles_nothing():
    """Of 13 units that pass on a half, each copies that half and no more; where it takes more than
    a few runs, in one gather."""
    graph, _ = lowered("shufflenet_v2_x0_5", 48)
    finish(graph, options=CompileOptions(strips=None))
    moved: dict[int, int] = {}
    for node in graph.nodes:
        if node.op in ("copy", "gather") and node.inputs["x"].tensor.kind != "input":
            pixel = node.out.strides[1]
            moved[pixel] = moved.get(pixel, 0) + node.out.shape[2]
    assert moved == {48: 3 * 24, 96: 7 * 48, 192: 3 * 96}


def test_the_default_strips_of_a_large_picture_keep_to_their_budget():
    model = fold(create_model("mobilenetv2_035").eval(), torch.zeros(1, 3, 224, 224)).model.eval()
    plan = compile(model, torch.zeros(1, 3, 224, 224))
    summary = plan.summary()

    assert summary.nodes["strip"] >= 2
    assert 0 < summary.ring_bytes <= StripOptions().budget_bytes + 64 * 16
