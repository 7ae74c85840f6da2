"""Every engine against eager, and every way in which one says no."""

from __future__ import annotations

import importlib.metadata
import logging
import math
import sys
from contextlib import ExitStack, contextmanager

import pytest
import torch
from torch import nn

from fleetfoot import engines
from fleetfoot.engines import (
    TOLERANCES,
    Options,
    available,
    base,
    compiled,
    export,
    load,
    openvino,
    relative_error,
)
from fleetfoot.errors import EngineError, MissingExtraError, UnknownNameError
from fleetfoot.models import create_model
from helpers import trained_

RUNTIMES = ["onnxruntime", "openvino"]


def needs(engine: str) -> None:
    reason = available()[engine]
    if reason is not None:
        pytest.skip(reason)


def small() -> nn.Module:
    """What the big ones are made of, at a size that exports in a second."""
    torch.manual_seed(0)
    return trained_(
        nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, bias=False), nn.BatchNorm2d(8), nn.GELU(),
            nn.Conv2d(8, 8, 3, groups=8), nn.Hardswish(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(8, 5),
        )
    ).eval()  # fmt: skip


SMALL = small()  # one for all tests that do not change it: its ONNX graph is then made once
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


# --- the same answer


@pytest.mark.parametrize(
    ("name", "batch", "size"),
    [
        ("fasternet_t0", 1, 96),
        ("torchvision:resnet18", 3, 64),
        ("timm:mobilevit_xxs", 1, 64),
        pytest.param("cyclemlp_b1", 1, 64, marks=pytest.mark.slow),
        pytest.param("micronet_m0", 2, 64, marks=pytest.mark.slow),
        pytest.param("mobile_former_26m", 2, 64, marks=pytest.mark.slow),
    ],
)
def test_every_engine_answers_as_eager(name, batch, size):
    for engine in RUNTIMES:
        needs(engine)
    model = trained_(create_model(name)).eval()  # not folded: the engines meet batch norms too
    images = torch.randn(batch, 3, size, size)
    with torch.inference_mode():
        expected = model(images)
    assert expected.std() > 1e-3, "logits that are all alike would hide a wrong engine"
    for engine in ("eager", *RUNTIMES):
        with load(engine, model, example=images) as built:
            logits = built.run(images)
            assert logits.dtype == torch.float32
            assert relative_error(logits, expected) < TOLERANCES["float32"], engine
            other = images.flip(3)  # nothing of the example is left in the engine
            with torch.inference_mode():
                assert relative_error(built.run(other), model(other)) < TOLERANCES["float32"]


@pytest.mark.parametrize(
    ("name", "batch", "threads"),
    [("fasternet_t0", 1, 1), ("torchvision:resnet18", 3, 2), ("shufflenet_v2_x0_5", 1, 2)],
)
def test_ncnn_answers_as_eager(name, batch, threads):
    needs("ncnn")
    model = trained_(create_model(name)).eval()
    images = torch.randn(batch, 3, 64, 64)
    with load("ncnn", model, example=images, threads=threads) as built:
        for seen in (images, images.flip(3)):
            with torch.inference_mode():
                expected = model(seen)
            assert expected.std() > 1e-3, "logits that are all alike would hide a wrong engine"
            assert relative_error(built.run(seen), expected) < TOLERANCES["float32"]


@pytest.mark.slow  # each program takes half a minute to lower
@pytest.mark.parametrize("name", ["fasternet_t0", "timm:mobilevit_xxs"])
def test_executorch_answers_as_eager(name):
    needs("executorch")
    model = trained_(create_model(name)).eval()
    images = torch.randn(2, 3, 64, 64)
    for threads in (1, 2):  # the second from the program of the first
        with load("executorch", model, example=images, threads=threads) as built:
            for seen in (images, images.flip(3)):
                with torch.inference_mode():
                    expected = model(seen)
                assert relative_error(built.run(seen), expected) < TOLERANCES["float32"]
            assert built._runtime._threadpool_get_thread_count() == threads


@pytest.mark.slow
def test_executorch_engines_of_several_thread_counts_take_turns():
    # each change of the count makes another pool, and a program that kept the old one would crash
    needs("executorch")
    model, images = SMALL, IMAGES
    with ExitStack() as held:
        built = [
            held.enter_context(load("executorch", model, example=images, threads=threads))
            for threads in (1, 2, 2)
        ]
        expected = built[0].run(images)
        for turn in (0, 1, 2, 0, 2, 1, 0, 0, 1):
            torch.testing.assert_close(built[turn].run(images), expected)


@pytest.mark.slow
def test_executorch_names_what_xnnpack_did_not_take():
    needs("executorch")

    class Odd(nn.Module):
        def forward(self, x):
            first, second = x.flatten(2).cumsum(2).split((1, 2), dim=1)
            return (first + second.sum(1, keepdim=True)).flatten(1)

    built = load("executorch", Odd().eval(), example=IMAGES)
    assert "cumsum" in built.info.note
    assert "split" not in built.info.note, "splits are slices there, which XNNPACK takes"
    assert relative_error(built.run(IMAGES), Odd()(IMAGES)) < TOLERANCES["float32"]


@pytest.mark.slow
def test_executorch_leaves_the_process_its_handlers_and_its_stderr(capfd):
    needs("executorch")
    before = list(logging.root.handlers)
    load("executorch", SMALL, example=IMAGES).run(IMAGES)
    assert logging.root.handlers == before
    assert capfd.readouterr().err == ""


def test_ncnn_without_a_layer_for_an_operator_names_it():
    needs("ncnn")

    class Odd(nn.Module):
        def forward(self, x):
            return torch.erfinv(x.mean((2, 3)))

    with pytest.raises(EngineError, match=r"ncnn has no layer for .*erfinv.*, as pnnx left them"):
        load("ncnn", Odd().eval(), example=IMAGES)


def test_ncnn_computes_in_float32_with_the_stated_threads():
    needs("ncnn")
    shared = load("ncnn", SMALL, example=IMAGES[:1], threads=2)
    assert shared._net.opt.num_threads == 2
    assert not shared._net.opt.use_fp16_storage
    assert not shared._net.opt.use_bf16_storage
    apart = load("ncnn", SMALL, example=IMAGES, threads=2)  # a picture for each thread
    assert apart._net.opt.num_threads == 1
    assert apart.run(IMAGES).shape == (2, 5)
    apart.close()


@pytest.mark.parametrize("engine", ["eager", "openvino"])
def test_bfloat16_is_bfloat16_and_says_so(engine):
    needs(engine)
    model = trained_(create_model("fasternet_t0")).eval() if engine == "eager" else SMALL
    images = torch.randn(1, 3, 64, 64)
    try:
        built = load(engine, model, example=images, precision="bfloat16")
    except EngineError as error:
        assert "only on a CPU that has it" in str(error)  # noqa: PT017  # depends on the processor
        return
    with torch.inference_mode():
        expected = model(images)
    logits = built.run(images)
    assert built.info.precision == "bfloat16"
    assert logits.dtype == torch.float32
    error = relative_error(logits, expected)
    # above float32's bound: it did not compute in float32 after all
    assert TOLERANCES["float32"] < error < TOLERANCES["bfloat16"]


def test_eager_in_nhwc_is_the_same_network_and_leaves_the_given_one():
    model, x = SMALL, IMAGES
    before = {k: v.clone() for k, v in model.state_dict().items()}
    expected = load("eager", model, example=x).run(x)
    for options in ({"layout": "nhwc"}, {"precision": "bfloat16"}):
        built = load("eager", model, example=x, **options)
        assert relative_error(built.run(x), expected) < TOLERANCES[built.info.precision]
        assert built.info.layout == options.get("layout", "nchw")
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])
        assert value.dtype == before[key].dtype
        assert value.stride() == before[key].stride()


@pytest.mark.parametrize("engine", ["eager", "onnxruntime", "ncnn"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_shows_in_its_own_row_alone(engine, bad):
    # OpenVINO is not here: its ReLU and clamps turn NaN into 0, as its class says
    needs(engine)
    images = IMAGES.clone()
    images[1, 0, 5, 5] = bad
    logits = load(engine, SMALL, example=images).run(images)
    assert torch.isfinite(logits).all(dim=1).tolist() == [True, False]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Guards may run slower on Python 3.13.0")  # later ones do not
def test_compiled_answers_as_eager():
    needs("compiled")
    with load("compiled", SMALL, example=IMAGES) as built:
        expected = load("eager", SMALL, example=IMAGES).run(IMAGES)
        assert relative_error(built.run(IMAGES), expected) < TOLERANCES["float32"]
        assert built.info.name == "compiled"


def test_the_measure_of_agreement_counted_by_hand():
    reference = torch.tensor([1.0, -4.0, 2.0])
    assert relative_error(reference.clone(), reference) == 0
    assert relative_error(torch.tensor([1.0, -4.0, 2.5]), reference) == 0.125
    assert relative_error(torch.zeros(2), reference) == math.inf
    assert relative_error(torch.tensor([1.0, math.nan, 2.0]), reference) == math.inf
    assert relative_error(reference, torch.tensor([1.0, math.nan, 2.0])) == math.inf
    same = torch.tensor([math.nan, math.inf, 2.0])
    assert relative_error(same.clone(), same) == 0
    assert relative_error(torch.tensor([math.nan, -math.inf, 2.0]), same) == math.inf
    assert relative_error(torch.ones(2), torch.zeros(2)) == math.inf


# --- what an engine states


@pytest.mark.parametrize("engine", ["eager", "onnxruntime", "openvino", "ncnn", "nothing"])
def test_an_engine_states_what_it_was_built_as(engine):
    needs(engine)
    info = load(engine, SMALL, example=IMAGES, threads=2).info
    assert (info.name, info.threads, info.precision) == (engine, 2, "float32")
    assert (info.layout, info.device) == ("nchw", "cpu")
    package = {"eager": "torch", "nothing": "torch"}.get(engine, engine)
    assert info.version == importlib.metadata.version(package)


def test_openvino_computes_in_the_stated_precision_on_the_cpu_with_the_stated_threads():
    needs("openvino")
    built = load("openvino", SMALL, example=IMAGES, threads=2)
    compiled_model = built._request.get_compiled_model()
    assert compiled_model.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "f32"
    assert compiled_model.get_property("INFERENCE_NUM_THREADS") == 2
    assert compiled_model.get_property("NUM_STREAMS") == 1


def test_openvinos_telemetry_is_its_own_stub():
    needs("openvino")
    load("openvino", SMALL, example=IMAGES)
    used = sys.modules["openvino.tools.ovc.telemetry_utils"].tm
    assert used.__name__ == "openvino.tools.ovc.telemetry_stub"
    assert "openvino_telemetry" not in sys.modules


def test_hiding_the_telemetry_package_is_over_afterwards(monkeypatch):
    monkeypatch.setitem(sys.modules, openvino.TELEMETRY, sys)
    with openvino.without_telemetry(), pytest.raises(ImportError):
        __import__(openvino.TELEMETRY)
    assert sys.modules[openvino.TELEMETRY] is sys


def test_onnxruntimes_threads_stop_spinning_when_a_run_ends():
    needs("onnxruntime")
    built = load("onnxruntime", SMALL, example=IMAGES, threads=2)
    options = built._session.get_session_options()
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"
    assert options.intra_op_num_threads == 2
    assert built._session.get_providers() == ["CPUExecutionProvider"]


def test_a_torch_engine_runs_on_its_threads_and_leaves_the_process_on_its_own():
    seen = []

    class Watch(nn.Module):
        def forward(self, x):
            seen.append(torch.get_num_threads())
            return x.mean((2, 3))

    built = load("eager", Watch().eval(), example=IMAGES, threads=2)
    built.run(IMAGES)
    assert seen == [2]
    assert torch.get_num_threads() == 1


def test_the_onnx_graph_is_made_once_for_two_engines_and_anew_for_other_weights():
    needs("onnxruntime")
    model = small()
    first = export.onnx_graph(model, IMAGES)
    assert export.onnx_graph(model, IMAGES) is first
    with torch.no_grad():
        model[-1].bias.add_(1)
    second = export.onnx_graph(model, IMAGES)
    assert second is not first
    expected = load("eager", model, example=IMAGES).run(IMAGES)
    logits = load("onnxruntime", model, example=IMAGES).run(IMAGES)
    assert relative_error(logits, expected) < TOLERANCES["float32"]
    assert export.onnx_graph(model, IMAGES[:1]) is not second


def test_the_engine_that_does_nothing_answers_with_nothing():
    with load("nothing", SMALL, example=IMAGES) as built:
        assert built.run(IMAGES).shape == (2, 0)


# --- the ways to say no


def test_an_unknown_engine_is_named_and_auto_points_to_its_home():
    with pytest.raises(UnknownNameError, match="unknown engine 'openvin'; did you mean 'openvino'"):
        load("openvin", SMALL, example=IMAGES)
    with pytest.raises(UnknownNameError, match=r"fleetfoot\.choose\.auto\.load_auto"):
        load("auto", SMALL, example=IMAGES)


@pytest.mark.parametrize(
    ("engine", "package"),
    [
        ("onnxruntime", "onnxruntime"),
        ("openvino", "openvino"),
        ("openvino", "onnxscript"),
        ("ncnn", "pnnx"),
        ("executorch", "executorch"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(engine, package, monkeypatch):
    monkeypatch.setattr(base, "installed", lambda name: name != package)
    with pytest.raises(
        MissingExtraError,
        match=rf"'{package}', which is not.*checkout: pip install '\.\[{engine}\]'",
    ):
        load(engine, SMALL, example=IMAGES)
    assert package in available()[engine]
    assert available()["eager"] is None


def test_a_package_counts_as_installed_when_it_is():
    assert base.installed("torch")
    assert not base.installed("torch-of-nobody")


def test_compiled_without_a_compiler_says_what_to_install(monkeypatch):
    monkeypatch.setattr(compiled.shutil, "which", lambda name: None)
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(EngineError, match="no 'no-such-compiler' on the path; install one"):
        load("compiled", SMALL, example=IMAGES)
    assert "C++ compiler" in available()["compiled"]


@pytest.mark.parametrize("engine", ["onnxruntime", "native"])
def test_a_network_that_cannot_be_built_is_named_with_its_line_and_what_to_do(engine, capfd):
    class Odd(nn.Module):
        def forward(self, x):
            return x.mean((2, 3)) if x.sum() > 0 else x.sum((2, 3))

    needs(engine)
    with pytest.raises(EngineError, match=f"{engine} cannot build Odd") as caught:
        load(engine, Odd().eval(), example=IMAGES)

    said = str(caught.value).splitlines()
    assert caught.value.__cause__ is not None
    assert len(said) == 3
    assert "test_engines.py, line" in said[1]
    assert said[2].endswith("eager can run it")
    assert "def forward" not in capfd.readouterr().err


def test_eager_times_a_network_that_answers_with_a_list():
    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x):
            return [self.conv(x), x.mean()]

    with load("eager", Heads().eval(), example=IMAGES) as engine:
        engine.timed_call(IMAGES)()
        assert {"conv"} <= {path for node in engine.profile(IMAGES) for path in node.modules}
        found = engine.run(IMAGES)
        assert relative_error(found, Heads.forward(engine._forward, IMAGES)) == 0


@pytest.mark.parametrize(
    ("engine", "options", "message"),
    [
        ("onnxruntime", {"precision": "bfloat16"}, "precision 'float32' only; 'bfloat16' was"),
        ("onnxruntime", {"layout": "nhwc"}, "layout 'nchw' only; 'nhwc' was"),
        ("openvino", {"layout": "nhwc"}, "layout 'nchw' only; 'nhwc' was"),
        ("ncnn", {"precision": "bfloat16"}, "precision 'float32' only; 'bfloat16' was"),
    ],
)
def test_what_an_engine_does_not_offer_is_refused(engine, options, message):
    needs(engine)
    with pytest.raises(EngineError, match=f"{engine} offers {message} asked for"):
        load(engine, SMALL, example=IMAGES, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threads": 0}, r"threads must be 1 to \d+, .* not 0"),
        ({"threads": 1.5}, r"threads must be 1 to \d+, .* not 1\.5"),
        ({"precision": "fp32"}, "precision must be float32 or bfloat16, not 'fp32'"),
        ({"layout": "NCHW"}, "layout must be nchw or nhwc, not 'NCHW'"),
        ({"device": "tpu"}, "device must be cpu or cuda, not 'tpu'"),
    ],
)
def test_unknown_options_are_errors_that_name_them(options, message):
    with pytest.raises(ValueError, match=message):
        Options(**options)
    with pytest.raises(ValueError, match=message):
        load("eager", SMALL, example=IMAGES, **options)


def test_a_model_in_train_mode_is_refused():
    with pytest.raises(ValueError, match=r"Sequential is in train mode.*call model\.eval\(\)"):
        load("eager", small().train(), example=IMAGES)


@pytest.mark.parametrize(
    "example", [torch.randn(0, 3, 8, 8), torch.zeros(1, 3, 8, 8, device="meta")]
)
def test_an_example_that_holds_nothing_is_refused(example):
    with pytest.raises(ValueError, match="example must hold tensors on the CPU that are not empty"):
        load("eager", SMALL, example=example)


@pytest.mark.parametrize("engine", ["eager", "onnxruntime", "openvino", "ncnn", "nothing"])
def test_a_batch_of_another_shape_or_type_never_reaches_the_engine(engine, monkeypatch):
    needs(engine)
    built = load(engine, SMALL, example=IMAGES)
    monkeypatch.setattr(built, "_run", lambda batch: pytest.fail("it reached the engine"))
    with pytest.raises(ValueError, match=r"\(1, 3, 32, 32\), but this .* was built for \(2, 3, 32"):
        built.run(IMAGES[:1])
    with pytest.raises(ValueError, match="must be float32 on the CPU, not float64 on cpu"):
        built.run(IMAGES.double())


@pytest.mark.parametrize("engine", ["eager", "onnxruntime", "openvino", "ncnn", "nothing"])
def test_a_closed_engine_says_so_and_closes_twice(engine):
    needs(engine)
    with load(engine, SMALL, example=IMAGES) as built:
        built.run(IMAGES)
    built.close()
    with pytest.raises(EngineError, match=f"this {engine} engine is closed; load it again"):
        built.run(IMAGES)


def test_a_batch_that_is_not_contiguous_is_read_as_what_it_shows():
    turned = torch.randn(2, 32, 32, 3).permute(0, 3, 1, 2)
    expected = load("eager", SMALL, example=IMAGES).run(turned)
    for engine in (*RUNTIMES, "ncnn"):
        needs(engine)
        logits = load(engine, SMALL, example=IMAGES).run(turned)
        assert relative_error(logits, expected) < TOLERANCES["float32"]


def test_what_fails_inside_a_run_is_an_engine_error_with_its_cause():
    class Late(nn.Module):
        def forward(self, x):
            raise RuntimeError("too late")

    with pytest.raises(EngineError, match=r"eager failed on a batch .*: too late") as caught:
        load("eager", Late().eval(), example=IMAGES).run(IMAGES)
    assert isinstance(caught.value.__cause__, RuntimeError)


# --- CUDA


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what is missing without a device")
def test_cuda_without_a_device_is_refused():
    with pytest.raises(EngineError, match="torch sees no CUDA device here"):
        load("eager", SMALL, example=IMAGES, device="cuda")
    assert "no CUDA device" in available()["cudagraph"]


def test_a_cuda_graph_on_the_cpu_is_refused(monkeypatch):
    monkeypatch.setattr(engines.CudaGraph, "missing", classmethod(lambda cls: None))
    with pytest.raises(EngineError, match="cudagraph runs on device 'cuda' only, not 'cpu'"):
        load("cudagraph", SMALL, example=IMAGES)


def test_a_cuda_graph_replays_on_its_own_input_and_a_timed_call_copies_nothing(monkeypatch):
    """The order of the steps, on the CPU with stand-ins for torch.cuda."""
    steps = []

    class Network(nn.Module):
        def forward(self, x):
            steps.append("forward")
            return x.mean((2, 3))

    class Graph:
        def replay(self):
            steps.append("replay")
            with torch.inference_mode():  # the recorded kernels know nothing of modes
                engine = placed[0]
                engine._output.copy_(engine._inputs[0].mean((2, 3)))

    class Stream:
        def wait_stream(self, other):
            steps.append("wait")

    @contextmanager
    def named(what):
        steps.append(type(what).__name__)
        yield

    for name, value in {
        "is_available": lambda: True, "Stream": Stream, "current_stream": Stream,
        "CUDAGraph": Graph, "stream": named, "graph": named,
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(nn.Module, "to", lambda self, *where, **how: self)
    placed = []

    def place(engine, batch):
        placed.append(engine)
        return batch

    monkeypatch.setattr(engines.CudaGraph, "_place", place)

    built = load("cudagraph", Network().eval(), example=IMAGES, device="cuda")
    # warmed up on a side stream, which waits and is waited for, then recorded once, and compared
    recorded = ["wait", "Stream", *["forward"] * 3, "wait", "Graph", "forward"]
    assert steps == [*recorded, "forward", "replay"]
    steps.clear()
    other = IMAGES + 1
    torch.testing.assert_close(built.run(other), other.mean((2, 3)))
    assert torch.equal(built._inputs[0], other)
    call = built.timed_call(IMAGES)
    assert torch.equal(built._inputs[0], IMAGES)
    torch.testing.assert_close(call(), IMAGES.mean((2, 3)))
    assert steps == ["replay", "replay"]
    built.close()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("engine", ["eager", "cudagraph"])
def test_cuda_answers_as_the_cpu(engine):
    model = SMALL
    expected = load("eager", model, example=IMAGES).run(IMAGES)
    with load(engine, model, example=IMAGES, device="cuda") as built:
        for images in (IMAGES, IMAGES.flip(0)):
            with torch.inference_mode():
                expected = model(images)
            assert relative_error(built.run(images), expected) < TOLERANCES["float32"]
        built.timed_call(IMAGES)()
