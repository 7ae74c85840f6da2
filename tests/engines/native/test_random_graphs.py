"""Random graphs answer as eager, whatever lay in memory before; and the tool that tries them finds
faults, cuts them down and prints them."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import random_graphs
import torch
from drawings import Drawing, MisfitError, Step, draw, network, program, written
from random_graphs import PLAIN, Answer, cut_down, printed, shrunk, tried
from torch import nn
from typed_steps import OPERATORS

from fleetfoot import runtime
from fleetfoot.engines.native.compile import compile

pytestmark = pytest.mark.skipif(runtime.missing() is not None, reason=str(runtime.missing()))

FEW = range(30)
MANY = range(30, 330)


@cache
def few(seed: int) -> Answer:
    return tried(draw(seed))


@pytest.mark.parametrize("seed", FEW)
def test_a_random_graph_answers_as_eager(seed):
    answer = few(seed)
    if answer.fault is not None:
        pytest.fail(printed(cut_down(answer)), pytrace=False)


@pytest.mark.slow
@pytest.mark.parametrize("seed", MANY)
def test_some_hundred_random_graphs_answer_as_eager(seed):
    answer = tried(draw(seed))
    if answer.fault is not None:
        pytest.fail(printed(cut_down(answer)), pytrace=False)


@pytest.mark.slow
def test_the_graphs_meet_every_kind_of_step():
    met = Counter(kind for seed in MANY for kind in draw(seed).kinds())

    assert set(OPERATORS) == set(met)


def test_the_engine_has_nearly_all_that_the_graphs_call():
    """An operator that it lacks ends a check without a word: few may."""
    lacking = [few(seed).lacking for seed in FEW if few(seed).lacking]

    assert len(lacking) <= 1, lacking


def test_the_graphs_take_strips_of_every_height():
    """Strips that were never made would not be tried."""
    rows = Counter()
    for seed in range(6):
        drawing = draw(seed)
        lowered = random_graphs.lower(network(drawing), torch.zeros(1, *drawing.shape))
        for options in random_graphs.TRIALS.values():
            graph = random_graphs.copy.deepcopy(lowered)
            random_graphs.finish(graph, options=random_graphs.CompileOptions(strips=options))
            rows.update(n.attributes["rows"] for n in graph.nodes if n.op == "strip")

    assert {1, 2, 3, 5} < set(rows)


def test_a_drawing_is_the_same_each_time():
    assert draw(5) == draw(5)
    assert draw(5) != draw(6)


def conv(source: int, channels: int) -> Step:
    return Step("conv", (source,), {**PLAIN, "channels": channels})


def test_a_graph_is_cut_down_to_what_fails():
    steps = (conv(0, 8), Step("tokens", (1,), {}), Step("to_map", (2,), {}), conv(3, 6), conv(1, 8))
    drawing = Drawing(0, (3, 9, 7), (*steps, Step("add", (1, 5), {})), (6, 3, 4))

    small = shrunk(drawing, lambda smaller: "to_map" in smaller.kinds())

    assert small.kinds() == ["tokens", "to_map"]
    assert small.shape == (1, 1, 1)
    assert small.outputs == (2,)


def test_a_wrong_answer_is_found_and_printed_as_a_program(monkeypatch):
    """A compiler that takes the larger of two maps for their sum."""
    finish = random_graphs.finish

    def wrong(graph, *, options):
        for node in graph.nodes:
            if node.op == "binary" and node.attributes["kind"] == "add":
                node.attributes["kind"] = "max"
        return finish(graph, options=options)

    drawing = Drawing(
        3, (4, 6, 6), (conv(0, 8), conv(1, 8), Step("add", (1, 2), {}), conv(3, 5)), (4,)
    )
    assert tried(drawing).fault is None

    monkeypatch.setattr(random_graphs, "finish", wrong)
    answer = tried(drawing)
    assert answer.fault is not None
    assert answer.fault.kind == "wrong"

    small = cut_down(answer)
    assert small.drawing.kinds() == ["add"]
    assert small.drawing.shape == (1, 1, 1)
    assert "v1 = x + x" in printed(small)


def test_a_printed_program_runs_by_itself(tmp_path):
    (tmp_path / "graph.py").write_text(program(draw(1)))
    here = Path(__file__).parent

    done = subprocess.run(
        [sys.executable, tmp_path / "graph.py"],
        env={"PYTHONPATH": f"{here}:{here.parent}"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.strip() == "None"


def test_memory_that_was_never_written_is_refused(monkeypatch):
    """A node left out leaves its reader with what lay there before."""
    finish = random_graphs.finish

    def unwritten(graph, *, options):
        graph.nodes = [node for node in graph.nodes if node.op != "softmax"]
        return finish(graph, options=options)

    softmax = Step("softmax", (1,), {"dim": 1})
    steps = (conv(0, 8), softmax, Step("cat", (1, 2), {"dim": 1}), conv(3, 4))
    monkeypatch.setattr(random_graphs, "finish", unwritten)

    answer = tried(Drawing(0, (3, 5, 5), steps, (4,)), trials=["no strips"])

    assert answer.fault is not None
    assert answer.fault.kind == "PlanError"
    assert "before it is written" in answer.fault.detail


def test_memory_that_a_run_leaves_to_the_next_shows(monkeypatch):
    """An engine that adds up what is in its memory: zeros at first, then NaN."""
    poison, run = runtime.Context.poison, random_graphs._run
    poisoned = set()

    def remembered(context):
        poisoned.add(context)
        poison(context)

    def leaking(context, picture):
        return [out * (np.nan if context in poisoned else 1) for out in run(context, picture)]

    monkeypatch.setattr(runtime.Context, "poison", remembered)
    monkeypatch.setattr(random_graphs, "_run", leaking)

    answer = tried(Drawing(0, (3, 5, 5), (conv(0, 4),), (1,)), trials=["no strips"])

    assert answer.fault is not None
    assert answer.fault.kind == "stale"


def test_poison_changes_no_answer():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 3)).eval()
    picture = np.random.default_rng(0).normal(size=(3, 3, 9, 9)).astype(np.float32)
    content = compile(model, torch.zeros(1, 3, 9, 9)).bytes(checksum=runtime.checksum)
    with runtime.Plan.from_bytes(content) as plan, plan.context(2) as context:
        first = context.run(picture)
        context.poison()
        np.testing.assert_array_equal(context.run(picture), first)


def test_a_graph_that_does_not_fit_is_told():
    with pytest.raises(MisfitError):
        written(Drawing(0, (3, 5, 5), (Step("to_map", (0,), {}),), (1,)))


def test_what_the_engine_lacks_is_said(monkeypatch):
    def lacks(*arguments):
        raise random_graphs.UnsupportedOperatorError("native", {"aten.new": [""]})

    monkeypatch.setattr(random_graphs, "lower", lacks)
    answer = tried(draw(0))

    assert isinstance(answer, Answer)
    assert "aten.new" in answer.lacking
