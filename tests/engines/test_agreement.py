"""An engine that answers otherwise than eager reaches nobody: every way to get one compares it,
names the first node that differs, and writes nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import fake_bench
from fleetfoot import engines, runtime
from fleetfoot.choose import auto, pick
from fleetfoot.cli import app
from fleetfoot.data.preprocess import Preprocess
from fleetfoot.engines import TOLERANCES, Inputs, agreement, load
from fleetfoot.engines.export import OnnxGraph
from fleetfoot.engines.native import compile, save_plan
from fleetfoot.engines.native.graph import Graph
from fleetfoot.engines.native.lower.operators import OPERATORS
from fleetfoot.errors import DisagreementError, EngineError
from fleetfoot.explain.explanation import explain
from fleetfoot.explain.lint import lint
from fleetfoot.explain.rules.examples import ROUND
from fleetfoot.measure import pair
from fleetfoot.measure.networks import prepared
from fleetfoot.measure.run import Tools, run
from fleetfoot.network import Workload
from fleetfoot.predict import Predictor

needs_library = pytest.mark.skipif(runtime.missing() is not None, reason=str(runtime.missing()))
EXAMPLE = torch.zeros(1, 3, 16, 16)
MACHINE = replace(ROUND, threads=1)


class Block(nn.Module):
    def __init__(self, act: nn.Module, scale: float) -> None:
        super().__init__()
        self.expand, self.act, self.project = nn.Conv2d(8, 16, 1), act, nn.Conv2d(16, 8, 1)
        self.scale = nn.Parameter(torch.full((8, 1, 1), scale))

    def forward(self, x):
        return x + self.scale * self.project(self.act(self.expand(x)))


class Small(nn.Module):
    """Three blocks; the second alone has Hardswish."""

    def __init__(self, scale: float = 0.5) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.blocks = nn.Sequential(
            Block(nn.ReLU(), scale), Block(nn.Hardswish(), scale), Block(nn.ReLU(), scale)
        )
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


def network(scale: float = 0.5) -> nn.Module:
    torch.manual_seed(0)
    return Small(scale).eval()


@pytest.fixture
def wrong_hardswish(monkeypatch):
    """The native engine takes Hardswish for ReLU."""
    monkeypatch.setitem(OPERATORS, "hardswish.default", OPERATORS["relu.default"])


WRONG = "aten.hardswish.default at blocks.1.act"


# --- what is compared


@needs_library
def test_an_engine_says_how_far_it_is_from_eager():
    with load("native", network(), example=EXAMPLE) as engine:
        found = engine.agreement
        pictures = torch.randn(engine.shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            expected = network()(pictures)
        assert found.error == engines.relative_error(engine.run(pictures), expected)
    assert found.error < TOLERANCES["float32"]
    assert (found.hidden, found.redrawn) == (0, None)


def test_eager_and_the_engine_that_does_nothing_have_nothing_to_agree_with():
    for name in ("eager", "nothing"):
        assert load(name, network(), example=EXAMPLE).agreement is None
    other = load("eager", network(), example=EXAMPLE, precision="bfloat16").agreement
    assert TOLERANCES["float32"] < other.error < TOLERANCES["bfloat16"]


@needs_library
def test_the_network_runs_once_more_and_the_engine_once():
    runs = []
    watched = network()
    watched.register_forward_pre_hook(lambda module, given: runs.append(given[0].shape))
    compile.compile(watched, EXAMPLE)
    building = len(runs)
    runs.clear()
    load("native", watched, example=EXAMPLE)
    assert len(runs) == building + 1


@pytest.mark.parametrize("share", [0.0, 1e-2])
def test_rounding_that_eager_has_itself_is_no_disagreement(share):
    """(x + 2^13) - 2^13 rounds to multiples of 2^-10; an engine that gives x itself is right."""

    class Rounds(nn.Module):
        def forward(self, x):
            return (x + 2.0**13) - 2.0**13

    class Exact(fake_bench.Fake):
        def _run(self, inputs):
            return inputs[0] * (1 + share)

    def compared():
        options = engines.Options()
        engine = Exact(Rounds(), Inputs.of(Rounds(), EXAMPLE), options, log=[], label="")
        agreement.compare(engine, Rounds())
        return engine.agreement

    if share:
        with pytest.raises(DisagreementError, match="differs from eager's by"):
            compared()
    else:
        assert TOLERANCES["float32"] < compared().error < 1e-3


@needs_library
def test_an_answer_that_is_not_finite_cannot_be_compared():
    broken = network()
    broken.head.bias.data.fill_(float("nan"))
    with pytest.raises(EngineError, match="native cannot be compared with eager: the output of Sm"):
        load("native", broken, example=EXAMPLE)


# --- nobody gets a wrong engine


def in_bench(tools=None):
    made = prepared(Workload.of("small", network(), size=EXAMPLE.shape[-1]), fold=True)
    tools = replace(tools or Tools(probe=fake_bench.Probe), networks=lambda name, size, fold: made)
    found = run([fake_bench.case("a", "native", size=16)], fake_bench.PACE, tools=tools)
    assert not found.measurements
    raise EngineError(found.failures[0].reason)


def in_swap():
    times = pair.measure(
        network(), network(), engine="native", size=16, pace=fake_bench.PACE,
        tools=Tools(probe=fake_bench.Probe),
    )  # fmt: skip
    assert not times.measurements
    assert len(times.failures) == 2
    raise EngineError(times.failures[1].reason)


CALLERS = {
    "load": lambda folder: load("native", network(), example=EXAMPLE),
    "explain": lambda folder: explain(network(), EXAMPLE, machine=MACHINE),
    "lint": lambda folder: lint(network(), EXAMPLE, machine=MACHINE),
    "compile": lambda folder: save_plan(network(), EXAMPLE, folder / "small.plan"),
    "bench": lambda folder: in_bench(),
    "swap": lambda folder: in_swap(),
    "auto": lambda folder: auto.decide(
        network(), example=EXAMPLE, candidates=["native"], cache=folder / "cache"
    ),
}


@needs_library
@pytest.mark.parametrize("caller", CALLERS)
def test_every_caller_refuses_it_and_nothing_is_written(caller, wrong_hardswish, tmp_path):
    with pytest.raises(EngineError) as caught:
        CALLERS[caller](tmp_path)
    assert WRONG in str(caught.value)
    assert "more than the 1e-04 allowed in float32" in str(caught.value)
    assert not list(tmp_path.iterdir())


@needs_library
def test_predict_refuses_it(wrong_hardswish):
    class Classifier(Small):
        num_classes = 5

    torch.manual_seed(0)
    model = Classifier().eval()
    with pytest.raises(DisagreementError, match=WRONG):
        Predictor.of(model, engine="native", preprocess=Preprocess(size=16))


@needs_library
def test_what_auto_remembers_is_compared_again(monkeypatch, tmp_path):
    bench_tools = fake_bench.Bench().tools
    auto.decide(
        network(), example=EXAMPLE, candidates=["native"], cache=tmp_path, tools=bench_tools
    )
    monkeypatch.setitem(OPERATORS, "hardswish.default", OPERATORS["relu.default"])
    with pytest.raises(DisagreementError, match=WRONG):
        auto.load_auto(network(), example=EXAMPLE, candidates=["native"], cache=tmp_path)


@needs_library
def test_pick_lists_it_as_a_failure(monkeypatch, wrong_hardswish, tmp_path):
    monkeypatch.setenv("FLEETFOOT_CACHE", str(tmp_path))
    monkeypatch.setattr(pick, "native_size", lambda name: 32)
    monkeypatch.setattr(pick, "published", lambda name, size: (70.0, "a paper"))
    monkeypatch.setattr(pick, "default_names", lambda: ["mobilenetv3_small_100"])
    monkeypatch.setattr(pick, "_roofline", lambda threads: lambda seen: 0.003)
    with pytest.raises(pick.NoneFitsError, match=r"aten\.hardswish"):
        pick.pick(1000, engine="native", calibrated=False)


@needs_library
def test_the_command_writes_no_plan(wrong_hardswish, tmp_path):
    words = ["compile", "mobilenetv3_small_100", "--no-pretrained", "--size", "32"]
    result = CliRunner().invoke(app, [*words, "--output", str(tmp_path / "small.plan")])
    assert result.exit_code
    assert isinstance(result.exception, DisagreementError)
    assert "aten.hardswish" in result.exception.place
    assert not list(tmp_path.iterdir())


def test_an_engine_that_did_not_come_from_load_is_compared_by_bench():
    tools = fake_bench.Bench({"native": {"wrong": 0.1}}).tools
    with pytest.raises(EngineError, match="more than the 1e-04 allowed in float32"):
        in_bench(tools)


# --- the node that is named


@needs_library
def test_a_pass_that_drops_a_sum_is_named_by_that_sum(monkeypatch):
    fuse = compile.fuse_nodes

    def forgets(graph: Graph) -> None:
        fuse(graph)
        for node in graph.nodes:
            if node.name == "blocks.1.project":
                node.inputs.pop("residual", None)

    monkeypatch.setattr(compile, "fuse_nodes", forgets)
    with pytest.raises(DisagreementError) as caught:
        load("native", network(), example=EXAMPLE)
    assert caught.value.place == "aten.add.Tensor at blocks.1"
    assert caught.value.tolerance == TOLERANCES["float32"] < caught.value.error


@needs_library
def test_the_output_that_differs_is_searched(wrong_hardswish):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.right, self.wrong = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)
            self.act = nn.Hardswish()

        def forward(self, x):
            return self.right(x), self.act(self.wrong(x))

    torch.manual_seed(0)
    with pytest.raises(DisagreementError) as caught:
        load("native", Two().eval(), example=EXAMPLE)
    assert caught.value.place == "aten.hardswish.default at act"


@pytest.mark.slow  # each part of the network is exported for a second or more
def test_another_engines_node_is_named_too(monkeypatch):
    if engines.available()["onnxruntime"] is not None:
        pytest.skip(engines.available()["onnxruntime"])
    import onnx

    from fleetfoot.engines import onnxruntime

    exported = onnxruntime.onnx_graph

    def with_another_activation(model: nn.Module, inputs: Inputs) -> OnnxGraph:
        found = exported(model, inputs)
        graph = onnx.load_from_string(found.content)
        for node in graph.graph.node:
            if node.op_type == "HardSwish":
                node.op_type = "Relu"
        return OnnxGraph(graph.SerializeToString(), found.outputs)

    monkeypatch.setattr(onnxruntime, "onnx_graph", with_another_activation)
    with pytest.raises(DisagreementError) as caught:
        load("onnxruntime", network(), example=EXAMPLE)
    assert caught.value.engine == "onnxruntime"
    assert caught.value.place == WRONG


# --- weights that hide a mistake


@needs_library
def test_a_mistake_behind_tiny_layer_scales_is_found(monkeypatch):
    # 1e-6, as fresh networks have them: the second activation may be anything
    hidden = network(1e-6)
    assert load("native", hidden, example=EXAMPLE).agreement.hidden == 3
    monkeypatch.setitem(OPERATORS, "hardswish.default", OPERATORS["relu.default"])
    monkeypatch.setattr(agreement, "redrawn", lambda model: {})
    own = load("native", hidden, example=EXAMPLE).agreement
    assert own.error < TOLERANCES["float32"], "with its own weights alone it would pass"
    monkeypatch.undo()
    monkeypatch.setitem(OPERATORS, "hardswish.default", OPERATORS["relu.default"])
    with pytest.raises(DisagreementError, match="3 parameters, nearly zero, drawn anew") as caught:
        load("native", hidden, example=EXAMPLE)
    assert caught.value.place == WRONG


@needs_library
def test_the_weights_that_were_asked_for_stay(tmp_path):
    hidden = network(1e-6)
    before = {name: value.clone() for name, value in hidden.state_dict().items()}
    found = save_plan(hidden, EXAMPLE, tmp_path / "hidden.plan")
    assert found.hidden == 3
    assert found.redrawn < TOLERANCES["float32"]
    assert "3 parameters that are nearly zero drawn anew" in str(found)
    for name, value in hidden.state_dict().items():
        assert torch.equal(value, before[name])
    pictures = torch.randn(1, 3, 16, 16)
    with runtime.Plan.load(tmp_path / "hidden.plan") as plan, plan.context() as context:
        answer = torch.from_numpy(context.run(pictures.numpy()))
    with torch.no_grad():
        assert engines.relative_error(answer, hidden(pictures)) < TOLERANCES["float32"]


def test_what_is_drawn_anew_is_nearly_zero_everywhere_and_comes_at_trained_size():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 64, 3), nn.Linear(8, 8)
    )
    with torch.no_grad():
        model[0].bias.zero_()
        model[1].weight[:] = torch.tensor([0.0, 0.0, 0.0, 0.5])  # one channel shows
        model[2].weight.mul_(1e-6)
        model[3].weight = model[2].weight  # one tensor of two names
    found = agreement.redrawn(model)
    assert sorted(found) == ["0.bias", "1.bias", "1.running_mean", "2.weight", "3.weight"]
    assert found["2.weight"] is found["3.weight"]
    bias = found["1.running_mean"].abs()
    assert (bias.min() >= 0.1, bias.max() <= 1) == (True, True)
    x = torch.randn(8, 4, 32, 32)
    out = nn.functional.conv2d(x, found["2.weight"])
    assert 0.8 < out.std() < 1.2
    assert torch.equal(found["2.weight"], agreement.redrawn(model)["2.weight"])
    assert not model[0].bias.any()
