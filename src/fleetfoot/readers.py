"""Opens an engine's own files, and runs them on numpy arrays: no torch unless the engine needs it.

Each function of ``READERS`` imports the engine's package and returns the function that opens its
files. The engines build on them, and ``measure/first_answer.py`` times them in a new process.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Run = Callable[[Sequence[Any]], list[Any]]
"""Runs a network: one array for each input -> one array for each output."""
Open = Callable[[Sequence[str], Mapping[str, Any], int], Any]
"""Opens files: paths, settings, number of threads -> an object whose ``run`` is a ``Run``."""

PROVIDERS = ["CPUExecutionProvider"]
TELEMETRY = "openvino_telemetry"


class Session:
    """An inference session of ONNX Runtime."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self._names = [one.name for one in session.get_inputs()]

    def run(self, arrays: Sequence[Any]) -> list[Any]:
        found: list[Any] = self.session.run(None, dict(zip(self._names, arrays, strict=True)))
        return found


def onnxruntime() -> Open:
    import onnxruntime

    def opened(files: Sequence[str], settings: Mapping[str, Any], threads: int) -> Session:
        options = onnxruntime.SessionOptions()
        # the graph was optimised when the file was written
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        for name, value in settings.items():
            options.add_session_config_entry(name, value)
        return Session(onnxruntime.InferenceSession(files[0], options, providers=PROVIDERS))

    return opened


class Request:
    """An inference request of OpenVINO."""

    def __init__(self, request: Any) -> None:
        self.request = request
        self._outputs = range(len(request.get_compiled_model().outputs))

    def run(self, arrays: Sequence[Any]) -> list[Any]:
        # the inputs are read in place; the outputs are copied for the caller
        answers = self.request.infer(dict(enumerate(arrays)), share_inputs=True)
        return [answers[place] for place in self._outputs]


@contextmanager
def without_telemetry() -> Iterator[None]:
    """A block in which ``import openvino`` finds no telemetry package and falls back to its stub.

    ``import openvino`` reports itself to Intel unless a file in the home directory says no.
    """
    before = sys.modules.get(TELEMETRY)
    sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # makes its import fail
    try:
        yield
    finally:
        del sys.modules[TELEMETRY]
        if before is not None:
            sys.modules[TELEMETRY] = before


def openvino() -> Open:
    with without_telemetry():
        import openvino

    def opened(files: Sequence[str], settings: Mapping[str, Any], threads: int) -> Request:
        asked = {**settings, "INFERENCE_NUM_THREADS": threads}
        compiled = openvino.Core().import_model(Path(files[0]).read_bytes(), "CPU", asked)
        return Request(compiled.create_infer_request())

    return opened


class Net:
    """A network of ncnn, which takes one picture at a time."""

    def __init__(self, net: Any, mat: Callable[..., Any]) -> None:
        self.net, self._mat = net, mat
        # in0, in1, ... and out0, out1, ..., in whatever order
        self.inputs = sorted(net.input_names(), key=_place)
        self.outputs = sorted(net.output_names(), key=_place)

    def one(self, arrays: Sequence[Any]) -> list[Any]:
        """Runs one picture: arrays without the batch dimension."""
        extractor = self.net.create_extractor()
        for name, values in zip(self.inputs, arrays, strict=True):  # a Mat is a view of its array
            if status := extractor.input(name, self._mat(values)):
                raise RuntimeError(f"ncnn ended with status {status} for input {name}")
        found = []
        for name in self.outputs:
            status, answer = extractor.extract(name)
            if status:
                raise RuntimeError(f"ncnn ended with status {status} for output {name}")
            found.append(answer.numpy().copy())
        return found

    def run(self, arrays: Sequence[Any]) -> list[Any]:
        return [answer[None] for answer in self.one([values[0] for values in arrays])]


def _place(name: str) -> tuple[int, str]:
    digits = name.lstrip("inout")
    return (int(digits) if digits.isdigit() else -1, name)


def ncnn() -> Open:
    import ncnn

    def opened(files: Sequence[str], settings: Mapping[str, Any], threads: int) -> Net:
        net = ncnn.Net()
        net.opt.num_threads = threads
        for name, value in settings.items():
            setattr(net.opt, name, value)
        if net.load_param(files[0]) or net.load_model(files[1]):
            raise RuntimeError(f"ncnn refused {', '.join(map(str, files))}")
        return Net(net, ncnn.Mat)

    return opened


class Program:
    """A program of ExecuTorch."""

    def __init__(self, module: Any, as_tensor: Callable[[Any], Any]) -> None:
        self.module, self._as_tensor = module, as_tensor

    def run(self, arrays: Sequence[Any]) -> list[Any]:
        return [out.numpy() for out in self.module.forward(tuple(map(self._as_tensor, arrays)))]


def executorch() -> Open:
    import torch  # which the runtime's Python package needs
    from executorch.extension.pybindings import portable_lib

    def opened(files: Sequence[str], settings: Mapping[str, Any], threads: int) -> Program:
        if portable_lib._threadpool_get_thread_count() != threads:
            portable_lib._unsafe_reset_threadpool(threads)
        return Program(portable_lib._load_for_executorch(files[0]), torch.from_numpy)

    return opened


class Context:
    """A plan in fleetfoot's own runtime."""

    def __init__(self, context: Any) -> None:
        self.context = context

    def run(self, arrays: Sequence[Any]) -> list[Any]:
        found: list[Any] = self.context.run_flat(arrays)
        return found


def native() -> Open:
    from fleetfoot.runtime import Plan

    def opened(files: Sequence[str], settings: Mapping[str, Any], threads: int) -> Context:
        return Context(Plan.load(files[0]).context(threads))

    return opened


READERS: dict[str, Callable[[], Open]] = {
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "ncnn": ncnn,
    "executorch": executorch,
    "native": native,
}
"""The engines that run from their own files, by name."""
