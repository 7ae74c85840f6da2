"""The native engine as an engine: eager's answer, its options, what it writes to a file."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from fleetfoot import runtime
from fleetfoot.cli import app
from fleetfoot.engines import TOLERANCES, available, load, relative_error
from fleetfoot.engines.native import Native, save_plan
from fleetfoot.errors import DisagreementError, EngineError
from fleetfoot.models import create_model
from fleetfoot.transform import fuse
from helpers import trained_

needs_library = pytest.mark.skipif(runtime.missing() is not None, reason=str(runtime.missing()))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return fuse(trained_(create_model("mobilenetv2_035")).eval()).model


def eager(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return network(images)


@needs_library
@pytest.mark.parametrize(("batch", "threads"), [(1, 1), (1, 2), (3, 2)])
def test_it_answers_as_eager(network, batch, threads):
    images = torch.randn(batch, 3, 64, 64)
    with load("native", network, example=torch.zeros_like(images), threads=threads) as engine:
        assert engine.info.threads == threads
        assert relative_error(engine.run(images), eager(network, images)) < TOLERANCES["float32"]
        flipped = images.flip(3).to(memory_format=torch.channels_last)  # another order in memory
        assert relative_error(engine.run(flipped), eager(network, flipped)) < TOLERANCES["float32"]


@needs_library
def test_an_answer_stays_when_the_next_one_comes(network):
    first, second = torch.randn(2, 1, 3, 64, 64)
    with load("native", network, example=first) as engine:
        kept = engine.run(first)
        copy = kept.clone()
        engine.run(second)
        assert torch.equal(kept, copy)


@needs_library
def test_each_node_is_timed_under_the_paths_of_its_modules(network):
    images = torch.randn(1, 3, 64, 64)
    paths = {name for name, _ in network.named_modules()}
    with load("native", network, example=images) as engine:
        nodes = engine.profile(images)
    assert sum(node.seconds for node in nodes) > 0
    assert {module for node in nodes for module in node.modules} <= paths
    names = [node.name for node in nodes]
    assert len(set(names)) == len(names)
    assert {node.part_of for node in nodes} <= {"", *names}
    # an activation and a block's sum run within the convolutions before them
    expand = next(n for n in nodes if n.modules[0] == "stages.2.1.expand.0")
    assert expand.modules == ("stages.2.1.expand.0", "stages.2.1.expand.2")
    project = next(n for n in nodes if n.modules[0] == "stages.2.1.project.0")
    assert project.modules == ("stages.2.1.project.0", "stages.2.1")


@needs_library
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"precision": "bfloat16"}, "native offers precision 'float32' only; 'bfloat16' was asked"),
        ({"layout": "nhwc"}, "native offers layout 'nchw' only; 'nhwc' was asked"),
    ],
)
def test_what_it_does_not_offer_is_refused(network, options, said):
    with pytest.raises(EngineError, match=said):
        load("native", network, example=torch.zeros(1, 3, 64, 64), **options)


@needs_library
def test_a_closed_engine_says_so(network):
    images = torch.randn(1, 3, 64, 64)
    engine = load("native", network, example=images)
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="this native engine is closed"):
        engine.run(images)


def test_its_absence_has_the_reason_everywhere(monkeypatch):
    monkeypatch.setattr(runtime, "missing", lambda: "no compiler; run: apt install g++")
    assert available()["native"] == "no compiler; run: apt install g++"
    assert "apt install g++" in CliRunner().invoke(app, ["engines"]).output
    for call in (
        lambda: load("native", nn.Flatten().eval(), example=torch.zeros(1, 3, 8, 8)),
        lambda: save_plan(nn.Flatten().eval(), torch.zeros(1, 3, 8, 8), "no.plan"),
    ):
        with pytest.raises(EngineError, match="apt install g"):
            call()


@needs_library
def test_a_plan_on_disk_runs_any_batch_as_eager_does(network, tmp_path):
    file = tmp_path / "network.plan"
    found = save_plan(network, torch.zeros(1, 3, 64, 64), file)
    assert found.error < TOLERANCES["float32"]
    images = torch.randn(5, 3, 64, 64)
    with runtime.Plan.load(file) as plan, plan.context(2) as context:
        logits = torch.from_numpy(context.run(images.numpy()))
    assert relative_error(logits, eager(network, images)) < TOLERANCES["float32"]


@needs_library
def test_a_plan_that_answers_otherwise_is_not_written(network, tmp_path, monkeypatch):
    errors = iter([[0.5], [0.5], [0.0]])  # of the plan from eager, and of both from float64
    monkeypatch.setattr("fleetfoot.engines.agreement.relative_errors", lambda a, b: next(errors))
    with pytest.raises(
        DisagreementError, match=r"differs from eager's by 5\.0e-01 of the largest value"
    ):
        save_plan(network, torch.zeros(1, 3, 64, 64), tmp_path / "network.plan")
    assert not list(tmp_path.iterdir())


@needs_library
def test_the_command_writes_the_file_that_the_runtime_runs(tmp_path):
    file = tmp_path / "small.plan"
    words = ["compile", "mobilenetv2_035", "--no-pretrained", "--size", "64", "--output", str(file)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "input (B, 3, 64, 64)" in result.output
    with runtime.Plan.load(file) as plan:
        assert plan.input_shapes == ((3, 64, 64),)
        assert plan.output_shapes == ((1000,),)


@needs_library
@pytest.mark.slow  # folding its branches takes most of a minute
def test_the_command_compiles_a_network_that_answers_with_a_dict(tmp_path):
    name, file = "torchvision:lraspp_mobilenet_v3_large", tmp_path / "lraspp.plan"
    words = ["compile", name, "--no-pretrained", "--size", "64", "--output", str(file)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    with runtime.Plan.load(file) as plan, plan.context() as context:
        assert plan.output_names == ("out",)
        answer = context.run(np.zeros((2, 3, 64, 64), np.float32))
    assert list(answer) == ["out"]
    assert answer["out"].shape == (2, 21, 64, 64)


@needs_library
def test_the_engine_is_one_of_those_that_auto_and_bench_try():
    from fleetfoot.measure.grid import default_engines

    assert Native.name in default_engines()[0]


class Attention(nn.Module):
    """Two heads over a map's pixels; ``scale`` says what is scaled, as users write it in turn."""

    def __init__(self, scale: str) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Conv2d(32, 32, 1) for _ in range(3))
        self.scale = scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, channels, height, width = x.shape
        q, k, v = (
            layer(x).reshape(batch, 2, channels // 2, height * width).transpose(-2, -1)
            for layer in (self.query, self.key, self.value)
        )
        if self.scale == "queries":
            q = q * 0.25
        scores = q @ k.transpose(-2, -1)
        if self.scale == "scores":
            scores = scores * 0.25
        elif self.scale == "scores over":
            scores = scores / 4
        elif self.scale == "scores and shift":
            scores = scores * 0.25 + 1
        elif self.scale == "activated":
            scores = scores.relu()
        return (scores.softmax(-1) @ v).transpose(-2, -1).reshape(batch, channels, height, width)


@needs_library
@pytest.mark.parametrize(
    "scale", ["", "queries", "scores", "scores over", "scores and shift", "activated"]
)
@pytest.mark.parametrize("side", [8, 7])  # 8: as many pixels as twice the channels
def test_attention_of_a_users_own_answers_as_eager(scale, side):
    torch.manual_seed(0)
    network = Attention(scale).eval()
    images = torch.randn(2, 32, side, side)
    with load("native", network, example=images) as engine:
        assert relative_error(engine.run(images), eager(network, images)) < TOLERANCES["float32"]
