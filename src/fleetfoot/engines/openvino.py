"""OpenVINO on the CPU, without its telemetry."""

from __future__ import annotations

import io
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fleetfoot import readers
from fleetfoot.artifact import Artifact
from fleetfoot.engines.base import Engine, NodeTime, Options, Written, built_from, refuse
from fleetfoot.engines.export import missing, onnx_graph
from fleetfoot.engines.inputs import Given, Inputs
from fleetfoot.engines.onnxgraph import main_first, module_paths
from fleetfoot.errors import EngineError, FleetfootError
from fleetfoot.readers import TELEMETRY as TELEMETRY
from fleetfoot.readers import Request, without_telemetry

PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}
FILE = "network.blob"


def settings(options: Options) -> dict[str, str | int]:
    """Settings of the CPU plugin for these options."""
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": options.threads,
        "INFERENCE_PRECISION_HINT": PRECISIONS[options.precision],
    }


class OpenVino(Engine):
    """OpenVINO with one stream, for the least latency, on ``threads`` threads.

    The precision is set and read back: on a CPU with bfloat16 units OpenVINO would otherwise
    compute in bfloat16 without saying so. Its ReLU and clamps turn NaN into 0, so its logits may
    not show that an input was not a number, while eager's do.
    """

    name = "openvino"
    package = "openvino"

    saves = True
    flushes_denormals = True
    portable = False  # a blob is compiled for one processor by one version

    def __init__(self, model: nn.Module, example: Given | Inputs, options: Options) -> None:
        refuse(self.name, options, layout="nchw", device="cpu")
        super().__init__(model, example, options)
        with without_telemetry():
            import openvino

        core = openvino.Core()
        capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if options.precision == "bfloat16" and "BF16" not in capabilities:
            raise EngineError(
                "openvino offers bfloat16 only on a CPU that has it; this one offers "
                f"{', '.join(capabilities)}"
            )
        graph = onnx_graph(model, self.inputs)
        self._answers_as(graph.outputs)
        compiled = core.compile_model(core.read_model(graph.content), "CPU", settings(options))
        self._network, self._options = weakref.ref(model), options
        self._timed: _Timed | None = None
        self._use(Request(compiled.create_infer_request()))

    def _write(self, folder: Path) -> Written:
        """Writes the compiled network."""
        blob = io.BytesIO()
        self._request.get_compiled_model().export_model(blob)
        (folder / FILE).write_bytes(blob.getvalue())
        return Written((FILE,), settings(self._options))

    def _read(self, artifact: Artifact) -> None:
        files = [str(file) for file in artifact.files]
        self._timed = None
        self._use(readers.openvino()(files, artifact.manifest.settings, self.info.threads))

    def _use(self, request: Request) -> None:
        with without_telemetry():
            import openvino

        compiled = request.request.get_compiled_model()
        asked = {
            "EXECUTION_DEVICES": ["CPU"],
            "INFERENCE_NUM_THREADS": self.info.threads,
            "INFERENCE_PRECISION_HINT": getattr(openvino.Type, PRECISIONS[self.info.precision]),
        }
        for name, value in asked.items():
            got = compiled.get_property(name)
            if got != value:
                raise EngineError(f"openvino was set to {name} {value} but uses {got}")
        self._runner: Request | None = request
        self._request: Any = request.request

    @classmethod
    def missing(cls) -> FleetfootError | None:
        return missing(cls.name, cls.package)

    def _run(self, inputs: tuple[Tensor, ...]) -> Any:
        assert self._runner is not None, "a closed engine is refused before"
        answers = self._runner.run([tensor.contiguous().numpy() for tensor in inputs])
        return self._nested([torch.from_numpy(np.asarray(answer)) for answer in answers])

    def _profile(self, inputs: tuple[Tensor, ...]) -> list[NodeTime]:
        if self._timed is None:
            graph = onnx_graph(built_from(self, self._network), self.inputs)
            self._timed = _Timed(graph.content, self._options)
        return self._timed.run(inputs)

    def close(self) -> None:
        super().close()
        self._request = self._runner = self._timed = None


class _Timed:
    """The network compiled once more for each profile, to measure the time of each node.

    OpenVINO states the mean of a node's times over all runs since compilation, in whole
    microseconds; two such means, after the first run and after the last, give the mean of the runs
    between.
    """

    RUNS = 8

    def __init__(self, exported: bytes, options: Options) -> None:
        import onnx

        with without_telemetry():
            import openvino

        self._core = openvino.Core()
        self._read = self._core.read_model(exported)
        self._settings = {**settings(options), "PERF_COUNT": True}
        graph = onnx.load_from_string(exported).graph
        self._paths = module_paths(graph)
        self._nodes = {name: node for node in graph.node for name in (*node.output, node.name)}
        """Nodes of the exported graph, by their names and the names of their outputs."""

    def run(self, inputs: tuple[Tensor, ...]) -> list[NodeTime]:
        arrays = [tensor.contiguous().numpy() for tensor in inputs]
        compiled = self._core.compile_model(self._read, "CPU", self._settings)
        request = compiled.create_infer_request()
        runner = Request(request)

        def means_s(runs: int) -> dict[str, float]:
            for _ in range(runs):
                runner.run(arrays)
            return {n.node_name: n.real_time.total_seconds() for n in request.profiling_info}

        first, every = means_s(1), means_s(self.RUNS)
        modules = self._modules(compiled.get_runtime_model().get_ordered_ops())
        nodes = []
        for number, node in enumerate(request.profiling_info):
            name = node.node_name
            if name in modules:  # the others were fused into one of these
                # nodes that OpenVINO adds are named by a running number
                known = name if name in self._paths else node.node_type
                total = (self.RUNS + 1) * every[name] - first[name]
                nodes.append(
                    NodeTime(
                        name=f"{number}: {known}",
                        kind=f"{node.node_type} {node.exec_type}",
                        modules=modules[name],
                        seconds=max(0.0, total / self.RUNS),
                        reference=node.exec_type.startswith("ref"),
                    )
                )
        return nodes

    def _modules(self, nodes: list[Any]) -> dict[str, tuple[str, ...]]:
        """Paths of the modules of each node that does something, by the node's name.

        OpenVINO states nothing about nodes that it adds or renames. Such a node holds the inputs of
        its reader in the exported graph that no other node holds, for example a layer norm; if
        there are none, it moves data for its reader.
        """
        held: dict[str, list[Any]] = {}
        for node in nodes:
            told = node.get_rt_info()
            if str(told["layerType"].astype(str)) not in ("Const", "Input", "Output"):
                names = str(told["originalLayersNames"].astype(str)).split(",")
                held[node.get_friendly_name()] = [
                    self._nodes[name] for name in names if name in self._nodes
                ]
        taken = {part.name for parts in held.values() for part in parts}
        for node in reversed(nodes):
            name = node.get_friendly_name()
            for out in node.outputs():
                for reader in out.get_target_inputs():
                    parts = held.get(reader.get_node().get_friendly_name())
                    if parts and not held.get(name, True):
                        held[name] = self._between(parts, taken) or parts
        return {
            name: main_first(
                (part.op_type, self._paths[part.name]) for part in parts if part.name in self._paths
            )
            for name, parts in held.items()
        }

    def _between(self, parts: list[Any], taken: set[str]) -> list[Any]:
        """Exported nodes before ``parts`` that no other node holds."""
        inside = {value for part in parts for value in part.output}
        makers = [self._nodes.get(value) for part in parts for value in part.input]
        return [
            maker
            for maker in makers
            if maker is not None and maker.name not in taken and inside.isdisjoint(maker.input)
        ]
