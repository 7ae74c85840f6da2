"""Times of nodes by module, on every engine that has them."""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn

from fleetfoot.count import trace
from fleetfoot.engines import available, load
from fleetfoot.errors import EngineError
from fleetfoot.explain.layers import join
from fleetfoot.models import create_model
from fleetfoot.transform import fuse
from helpers import trained_
from layers_by_hand import machine

PROFILED = ("native", "eager", "onnxruntime", "openvino")
IMAGES = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def needs(engine: str) -> None:
    reason = available()[engine]
    if reason is not None:
        pytest.skip(reason)


def folded(name: str) -> nn.Module:
    torch.manual_seed(0)
    return fuse(trained_(create_model(name)).eval(), IMAGES).model


NAMES = ("fasternet_t0", "mobilenetv3_small_050", "shufflenet_v2_x0_5")


@pytest.fixture(scope="module", params=NAMES)
def network(request) -> nn.Module:
    return folded(request.param)


@pytest.mark.parametrize("engine", PROFILED)
def test_every_convolution_is_in_a_node_and_nearly_all_time_has_a_module(network, engine):
    needs(engine)
    paths = {path for path, _ in network.named_modules()}
    with load(engine, network, example=IMAGES) as built:
        nodes = built.profile(IMAGES)
        assert [n.name for n in built.profile(IMAGES)] == [n.name for n in nodes]
    named = {module for node in nodes for module in node.modules}
    convolutions = {p for p, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    assert named <= paths
    assert convolutions <= named
    whole = sum(node.seconds for node in nodes)
    assert whole > 0
    assert sum(node.seconds for node in nodes if not node.modules) <= 0.05 * whole
    assert len({node.name for node in nodes}) == len(nodes)


@pytest.mark.parametrize("engine", PROFILED)
def test_the_rows_of_an_engine_hold_what_the_network_asked_for(network, engine):
    needs(engine)
    with load(engine, network, example=IMAGES) as built:
        nodes = built.profile(IMAGES)
    whole = trace(network, IMAGES)
    layers = join(whole, [nodes], machine())
    assert sum(layer.macs for layer in layers) == whole.macs
    assert sum(layer.time_s for layer in layers) == pytest.approx(sum(n.seconds for n in nodes))
    assert sum(layer.held_flops for layer in layers) == whole.mac_flops  # each in one node
    for layer in layers:
        if layer.macs:
            assert layer.nodes or layer.within, f"{layer.module} is in no node"


def test_a_strips_time_is_counted_once(network):
    needs("native")
    with load("native", network, example=IMAGES) as built:
        built.profile(IMAGES)
        start = time.perf_counter()
        nodes = built.profile(IMAGES)
        wall_s = time.perf_counter() - start
    assert sum(node.seconds for node in nodes) <= wall_s
    strips = {node.name for node in nodes if node.kind == "strip"}
    assert {node.part_of for node in nodes} - {""} == strips


def test_the_native_engine_says_how_much_winograd_computes():
    needs("native")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 64, 1), nn.Conv2d(64, 64, 3, padding=1)).eval()
    with load("native", model, example=IMAGES) as built:
        shares = {node.modules[0]: (node.macs_share, node.kind) for node in built.profile(IMAGES)}
    assert shares["0"][0] == 1
    # of an m × m tile (m + 2)² products instead of 9 m²
    assert shares["1"] in (
        (16 / 36, "conv by Winograd's 2×2 tiles"),
        (36 / 144, "conv by Winograd's 4×4 tiles"),
    )


@pytest.mark.parametrize(
    ("engine", "fused"),
    [
        ("native", {"0": ("1",), "2": ("3",)}),
        ("onnxruntime", {"0": ("1",), "2": ("3",)}),
        ("openvino", {"0": ("1",), "2": ("3",)}),
        ("eager", {"0": (), "2": ()}),
    ],
)
def test_fused_activations_are_named_behind_their_convolution(engine, fused):
    needs(engine)
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 1), nn.ReLU(),
    ).eval()  # fmt: skip
    with load(engine, model, example=IMAGES) as built:
        nodes = built.profile(IMAGES)
    found = {n.modules[0]: n.modules[1:] for n in nodes if "conv" in n.kind.lower()}
    assert found == fused


def test_the_rest_of_a_network_stands_at_its_own_functions():
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (self.conv(x) * 2).mean((2, 3))

    torch.manual_seed(0)
    with load("eager", Own().eval(), example=IMAGES) as built:
        nodes = built.profile(IMAGES)
    assert [(n.kind, n.modules) for n in nodes if "mul" in n.kind or "mean" in n.kind] == [
        ("aten.mul", ("",)),
        ("aten.mean", ("",)),
    ]


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_network_that_is_gone_cannot_be_built_again_to_take_times(engine):
    needs(engine)
    model = nn.Sequential(nn.Conv2d(3, 4, 1)).eval()
    with load(engine, model, example=IMAGES) as built:
        del model
        with pytest.raises(EngineError, match="the network no longer exists"):
            built.profile(IMAGES)


@pytest.mark.parametrize("engine", PROFILED)
def test_a_profile_is_refused_as_a_run_is(engine):
    needs(engine)
    model = nn.Sequential(nn.Conv2d(3, 4, 1)).eval()
    built = load(engine, model, example=IMAGES)
    with pytest.raises(ValueError, match="batch has shape"):
        built.profile(IMAGES[:, :2])
    built.close()
    with pytest.raises(EngineError, match="closed"):
        built.profile(IMAGES)
