"""Nodes joined with operators: every number by hand, and nothing lost."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from fleetfoot.count import trace
from fleetfoot.errors import EngineError
from fleetfoot.explain.layers import FEWEST_TURNS, join, profile
from layers_by_hand import NODES, Net, Seconds, Told, X, machine, node


def rows(nodes=(NODES,), model=None, **more) -> dict:
    found = join(trace(model or Net(), X), nodes, machine(), **more)
    return {layer.module: layer for layer in found}


def test_each_module_has_its_operators_and_its_nodes_times():
    found = rows()
    assert list(found) == ["block.conv", "block.act", "block", "", "fc"]
    assert {path: layer.nodes for path, layer in found.items()} == {
        "block.conv": ("a",), "block.act": (), "block": (), "": ("b", "d"), "fc": ("c",),
    }  # fmt: skip
    times = {path: layer.time_s for path, layer in found.items() if layer.nodes}
    assert times == pytest.approx({"block.conv": 10e-6, "": 4e-6, "fc": 2e-6})
    assert [op.name for op in found["block"].operators] == ["aten.add"]
    assert found["block.conv"].module_type == "Conv2d"
    assert found["block.conv"].macs == 4 * 4 * 64
    assert found["fc"].macs == 4 * 3


def test_nothing_is_lost():
    whole, found = trace(Net(), X), rows().values()
    assert sum(layer.macs for layer in found) == whole.macs
    assert sum(layer.moved_bytes for layer in found) == whole.memory_access_bytes
    assert sum(layer.time_s for layer in found) == pytest.approx(sum(n.seconds for n in NODES))


def test_fused_layers_have_one_floor_and_say_where_they_ran():
    found = rows()
    conv = found["block.conv"]
    assert conv.fused == ("block.act", "block")
    assert conv.held_flops == 2 * 4 * 4 * 64
    assert conv.held_bytes == 1024 + 64 + 1024
    assert conv.floor.compute_s == pytest.approx(2560 / 100e9)
    assert conv.floor.memory_s == pytest.approx(1112 / 100e9)
    assert conv.floor.start_s == 0
    for path in ("block.act", "block"):
        assert found[path].within == ("block.conv",)
        assert found[path].floor.seconds == 0
        assert found[path].time_s == found[path].flops_per_s == found[path].above_floor_s == 0


def test_times_are_medians_with_quartiles_over_the_runs():
    runs = [[replace(NODES[0], seconds=s * 1e-6), *NODES[1:]] for s in (10, 14, 11, 12, 13)]
    conv = rows(runs)["block.conv"]
    assert (conv.time_low_s, conv.time_s, conv.time_high_s) == pytest.approx((11e-6, 12e-6, 13e-6))


def test_a_module_that_no_node_names_was_optimised_away():
    found = rows([[node("a", "block.conv", us=5), node("c", "fc", us=1)]])
    assert found["block.act"].nodes == found["block.act"].within == ()
    assert found["block.conv"].fused == ()


def test_a_node_of_a_module_without_operators_has_a_row():
    class Flat(nn.Sequential):
        pass

    model = Flat(nn.Conv2d(4, 4, 1), nn.Flatten())
    found = rows([[node("a", "0", us=5), node("copy", "1", us=1)]], model)
    assert found["1"].operators == ()
    assert found["1"].module_type == "Flatten"
    assert found["1"].time_s == pytest.approx(1e-6)
    assert found["1"].floor.seconds == 0


class Split(nn.Module):
    """A block whose activation and sum run within two different convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 4, 1)
        self.second = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).relu()) + x


def test_operators_of_one_module_go_to_the_nodes_that_they_touch():
    nodes = [node("a", "first", "", us=5), node("b", "second", "", us=5)]
    found = rows([nodes], Split())
    # x, 16 weights and 4 of bias in, the activation out
    assert found["first"].held_bytes == 1024 + 80 + 1024
    # that in, x for the sum, weights, and the answer out
    assert found["second"].held_bytes == 1024 + 1024 + 80 + 1024
    assert found[""].within == ("first", "second")
    assert found["first"].floor.compute_s == pytest.approx(
        (2 * 4 * 4 * 64 + 256) / 100e9
    )  # with the activation, without the sum


class Mixed(Split):
    """The same with a node of its own in the end."""

    def forward(self, x: Tensor) -> Tensor:
        return (self.second(self.first(x).relu()) + x).mean((2, 3))


def test_a_nodes_own_operator_stays_in_its_row_though_another_feeds_it():
    nodes = [
        node("a", "first", "", us=5), node("b", "second", "", us=5), node("mean", "", us=1),
    ]  # fmt: skip
    found = rows([nodes], Mixed())
    assert found[""].held_bytes == 1024 + 16
    assert found["second"].held_bytes == 1024 + 1024 + 80 + 1024
    assert found[""].within == ("first", "second")
    assert found[""].floor.seconds > 0


def test_more_nodes_than_operators_leave_some_without():
    nodes = [node("copy", "first", "", us=1), node("b", "second", "", us=1), node("c", "", us=1)]
    found = rows([nodes], Split())
    held = sum(layer.held_flops for layer in found.values())
    assert held == 2 * 2 * 4 * 4 * 64


def test_what_took_less_than_a_start_was_not_started_on_all_threads():
    whole = trace(Net(), X)
    long, short = (
        join(whole, [[node("a", "block.conv", us=us)]], machine(threads=2))[0] for us in (9, 0.5)
    )
    assert long.floor.start_s == pytest.approx(1e-6)
    assert long.floor.bound == "start"
    assert short.floor.seconds == pytest.approx(0.5e-6) == short.time_s


def test_parts_of_a_strip_start_nothing_and_read_the_first_cache():
    nodes = [
        node("strip", "block", us=1),
        node("1", "block.conv", "block.act", us=5, part_of="strip"),
    ]
    found = {layer.module: layer for layer in join(trace(Net(), X), [nodes], machine(threads=2))}
    assert found["block.conv"].floor.start_s == 0
    assert found["block.conv"].floor.memory_s == pytest.approx(2112 / 200e9)
    assert found["block"].time_s == pytest.approx(1e-6)


def test_winograds_layers_say_so():
    found = rows([[node("a", "block.conv", us=5, macs_share=0.25)]])
    assert found["block.conv"].macs_share == 0.25
    assert found["block.conv"].floor.compute_s == pytest.approx(2048 / 4 / 100e9)


def test_no_runs_are_refused():
    with pytest.raises(ValueError, match="at least one run"):
        rows(())


# --- taking the times


def test_steady_times_end_the_profile():
    engine = Told(NODES)
    found = profile(engine, X, clock=Seconds(17e-6))
    assert found.steady
    assert found.samples_s == (17e-6,) * FEWEST_TURNS
    assert found.runs == (NODES,) * FEWEST_TURNS
    assert engine.calls == FEWEST_TURNS + 1  # the first builds what takes times


def test_times_that_do_not_settle_end_with_the_budget():
    found = profile(Told(NODES), X, seconds=0.05, clock=Seconds(1e-6, more=1e-6))
    assert not found.steady
    assert len(found.runs) == len(found.samples_s) >= FEWEST_TURNS


def test_branches_may_run_in_another_order():
    found = profile(Told(NODES, NODES[::-1]), X, clock=Seconds(1e-6))
    assert {run for run in found.runs} <= {NODES, NODES[::-1]}
    assert len({tuple(n.name for n in run) for run in found.runs}) == 1


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        ((NODES, NODES[:3], NODES[:3]), r"eager ran different nodes .* \(d\).* depends on values"),
        (((NODES[0], NODES[0]),), "gives two nodes one name"),
    ],
)
def test_nodes_that_cannot_have_a_median_are_refused(runs, said):
    with pytest.raises(EngineError, match=said):
        profile(Told(*runs), X, clock=Seconds(1e-6))


def test_a_budget_must_be_above_zero():
    with pytest.raises(ValueError, match="seconds must be above 0, not 0"):
        profile(Told(NODES), X, seconds=0)


def test_an_engine_without_times_says_which_have():
    class Silent(Told):
        name = "compiled"

        def _profile(self, inputs):
            return super(Told, self)._profile(inputs)

    with pytest.raises(EngineError, match=r"compiled has no times of its nodes; native, eager, .*"):
        profile(Silent(), torch.zeros_like(X))
