"""The card of an explanation."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
import torch
from rich.console import Console
from torch import nn

from fleetfoot import engines
from fleetfoot.count import trace
from fleetfoot.explain.explanation import Explanation, explain
from fleetfoot.explain.findings import Finding
from fleetfoot.machine.roofline import Floor, Layer
from fleetfoot.report.explain import FINDINGS, head, layer_rows, print_card, remarks, what
from layers_by_hand import NODES, Net, Told, X, machine


@pytest.fixture
def found(monkeypatch) -> Explanation:
    monkeypatch.setattr(engines, "load", lambda *args, **options: Told(NODES))
    made = explain(
        Net().eval(), X, machine=machine(), engine="eager", name="net", folded=True, seconds=0.01
    )
    times = (20e-6, 19e-6, 21e-6, 20e-6)
    return replace(made, samples_s=times, latency_s=20e-6, ci95_s=(19e-6, 21e-6), p90_s=21e-6)


def card(found: Explanation, width: int, **options) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_card(console, found, **options)
    return console.file.getvalue()


def test_the_slowest_layer_is_first_and_all_its_figures_are_there(found):
    lines = card(found, 120).splitlines()
    first = next(line for line in lines if line.startswith("block.conv"))
    # 10 of 16 µs; floor 25.6 ns; 2048 operations in 10 µs, over 2112 bytes
    assert first.split() == [
        "block.conv", "conv", "1×1", "4→4", "+", "relu", "+", "add",
        "0.0100", "62.5", "0.0000256", "391", "0.205", "0.97", "compute",
    ]  # fmt: skip


def test_a_narrow_terminal_leaves_columns_out_and_says_so(found):
    text = card(found, 60)
    assert all(len(line) <= 60 for line in text.splitlines() if "→" in line)
    assert "no room for" in text
    assert "no room for" not in card(found, 120)


def test_the_head_says_what_ran_how_long_and_against_what(found):
    text = dict(head(found))
    assert text["network"].startswith("net on eager ")
    assert text["network"].endswith(", 1 thread, input 1 × 4 × 8 × 8, folded")
    assert text["latency"].startswith("0.0200 ms (0.0190 to 0.0210 at 95 %, p90 0.0210, 4 runs")
    # 2 · 1036 operations in 20 µs
    assert text["rate"].startswith("0.104 GFLOP/s, 0 % of the 100 measured; below 5.0 FLOP/byte")
    assert text["bound"] == "of the layers' time 62 % by compute, 38 % by memory"
    unfolded = dict(head(replace(found, folded=False, fold_note="not folded: odd")))
    assert unfolded["network"].endswith(", not folded: odd")


def test_what_the_table_leaves_out_is_said(found):
    text = " ".join(remarks(found, layer_rows(found.layers)[1:]))
    assert "2 more: 0.00600 ms, 37.5 %" in text
    assert "the layers' times add up to 0.0160 ms" in text
    assert "0.00400 ms less than the latency, in no node" in text
    assert "unmapped: 6.2 % of that, in nodes for which eager does not tell the module (d)" in text
    assert "2 modules ran within another's node" in text
    assert "Winograd" not in text
    assert "busy" not in text


def test_a_run_with_timing_that_is_slower_says_so(found):
    text = " ".join(remarks(replace(found, profiled_s=25e-6), ()))
    assert "a run with timing takes 0.0250 ms, 0.00500 ms more than without it" in text


def test_layers_below_their_floors_put_the_machines_figures_in_doubt(found):
    slow = Floor(compute_s=1.0, memory_s=0.0, start_s=0.0)
    layers = (replace(found.layers[0], floor=slow), *found.layers[1:])
    text = " ".join(remarks(replace(found, layers=layers), ()))
    assert re.search(r"6[23] % of that is in layers faster than their floors", text)  # 62.5
    assert "fleetfoot machine --fresh" in text


def test_layers_for_which_the_clock_shows_no_time_have_no_rate(found):
    """Very small layers on an engine that times in whole microseconds: some of them, or all."""
    one = (replace(found.layers[0], time_s=0.0), *found.layers[1:])
    none = tuple(replace(layer, time_s=0.0) for layer in found.layers)
    for layers in (one, none):
        text = card(replace(found, layers=layers), 160)
        assert found.layers[0].module in text
    assert "inf" not in text


def test_winograds_layers_are_counted(found):
    layers = (replace(found.layers[0], macs_share=0.25), *found.layers[1:])
    text = " ".join(remarks(replace(found, layers=layers), ()))
    assert "1 layer runs by Winograd's transforms" in text


def test_findings_stand_below(found):
    finding = Finding(
        rule="T1", name="test", module="fc", number=3.0, bound=4.0, unit="channels",
        price_s=2e-6, text="It has 3 channels, and 4 are wanted.", change="Give it 4.",
    )  # fmt: skip
    text = card(replace(found, findings=(finding,)), 120)
    assert "T1 0.00200 ms fc  test" in text
    assert "It has 3 channels, and 4 are wanted." in text
    assert "Give it 4." in text
    assert "more findings" not in text
    text = card(replace(found, findings=(finding,) * (FINDINGS + 2)), 120)
    assert text.count("T1 0.00200 ms") == FINDINGS
    assert "2 more findings, 0.00400 ms together" in text


def test_depth_adds_up_what_lies_below(found):
    rows = {row.module: row for row in layer_rows(found.layers, 0)}
    assert list(rows) == [""]
    assert rows[""].time_s == pytest.approx(found.nodes_s)
    assert rows[""].floor_s == pytest.approx(found.floor_s)
    assert rows[""].bound == "compute"
    assert [row.module for row in layer_rows(found.layers, 1)] == ["block", "", "fc"]
    with pytest.raises(ValueError, match="depth must be 0 or more, not -1"):
        layer_rows(found.layers, -1)


@pytest.mark.parametrize(
    ("module", "shape", "text"),
    [
        (nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8), (1, 8, 8, 8), "conv 3×3 8→8 /2 g8"),
        (nn.Conv2d(8, 16, 1), (1, 8, 8, 8), "conv 1×1 8→16"),
        (nn.Conv2d(8, 8, (1, 5), padding=(0, 2), groups=2), (1, 8, 8, 8), "conv 1×5 8→8 g2"),
        (nn.ConvTranspose2d(8, 4, 2, stride=2), (1, 8, 8, 8), "transposed conv 2×2 8→4"),
        (nn.Linear(8, 5), (1, 8), "linear 8→5"),
        (nn.Hardswish(), (1, 8), "hardswish"),
    ],
)
def test_what_a_layer_does_is_told_from_its_shapes(module, shape, text):
    nothing = Floor(compute_s=0, memory_s=0, start_s=0)
    layer = Layer(
        module="", module_type="", operators=trace(module, torch.zeros(shape)).operators,
        nodes=("a",), time_s=1, time_low_s=1, time_high_s=1, floor=nothing,
    )  # fmt: skip
    assert what(layer, [layer]) == text
    assert what(replace(layer, operators=()), []) == "moves data"
