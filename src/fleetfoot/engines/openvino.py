"""OpenVINO on the CPU, without its telemetry."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fleetfoot.engines.base import Engine, NodeTime, Options, built_from, refuse
from fleetfoot.engines.export import missing, onnx_bytes
from fleetfoot.engines.onnxgraph import main_first, module_paths
from fleetfoot.errors import EngineError, FleetfootError

PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}
TELEMETRY = "openvino_telemetry"


@contextmanager
def without_telemetry() -> Iterator[None]:
    """OpenVINO imported inside finds no telemetry package, and takes the stub that it carries for
    that case.

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


def settings(options: Options) -> dict[str, str | int]:
    """What the CPU plugin is asked for."""
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": options.threads,
        "INFERENCE_PRECISION_HINT": PRECISIONS[options.precision],
    }


class OpenVino(Engine):
    """One stream for the least latency, ``threads`` threads.

    The precision is set and read back: on a CPU with bfloat16 units OpenVINO would otherwise
    compute in bfloat16 and not say so. Its ReLU and clamps turn NaN into 0: where eager's logits
    would show that an input was not a number, these may not.
    """

    name = "openvino"
    package = "openvino"

    def __init__(self, model: nn.Module, example: Tensor, options: Options) -> None:
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
        compiled = core.compile_model(
            core.read_model(onnx_bytes(model, example)), "CPU", settings(options)
        )
        asked = {
            "EXECUTION_DEVICES": ["CPU"],
            "INFERENCE_NUM_THREADS": options.threads,
            "INFERENCE_PRECISION_HINT": getattr(openvino.Type, PRECISIONS[options.precision]),
        }
        for name, value in asked.items():
            got = compiled.get_property(name)
            if got != value:
                raise EngineError(f"openvino was asked for {name} {value} and took {got}")
        self._network, self._options = weakref.ref(model), options
        self._timed: _Timed | None = None
        self._request: Any = compiled.create_infer_request()

    @classmethod
    def missing(cls) -> FleetfootError | None:
        return missing(cls.name, cls.package)

    def _run(self, batch: Tensor) -> Tensor:
        # the input is read where it lies, as by every other engine; the output is the caller's own
        answers = self._request.infer({0: batch.contiguous().numpy()}, share_inputs=True)
        return torch.from_numpy(answers[0])

    def _profile(self, batch: Tensor) -> list[NodeTime]:
        if self._timed is None:
            model = built_from(self, self._network)
            self._timed = _Timed(onnx_bytes(model, batch), self._options)
        return self._timed.run(batch)

    def close(self) -> None:
        super().close()
        self._request = self._timed = None


class _Timed:
    """The network compiled once more for each profile, to take the time of each node.

    OpenVINO tells the mean of a node's times over all runs since it was compiled, in whole
    microseconds; of two such means, a run after the first and the last, follows that of the runs
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
        """Of the exported graph, by their names and by those of what they give."""

    def run(self, batch: Tensor) -> list[NodeTime]:
        images = batch.contiguous().numpy()
        compiled = self._core.compile_model(self._read, "CPU", self._settings)
        request = compiled.create_infer_request()

        def means_s(runs: int) -> dict[str, float]:
            for _ in range(runs):
                request.infer({0: images}, share_inputs=True)
            return {n.node_name: n.real_time.total_seconds() for n in request.profiling_info}

        first, every = means_s(1), means_s(self.RUNS)
        modules = self._modules(compiled.get_runtime_model().get_ordered_ops())
        nodes = []
        for number, node in enumerate(request.profiling_info):
            name = node.node_name
            if name in modules:  # the others were fused into one of these
                # what OpenVINO adds of its own is named by a count that goes on and on
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
        """Of each node that does something, by its name.

        Of what OpenVINO puts in of its own, or renames, nothing is told. It is what its reader
        reads in the exported graph and no other node holds, a layer norm for one; where there is
        no such thing it moves data for its reader.
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
        """Exported nodes in front of ``parts`` that no other node holds."""
        inside = {value for part in parts for value in part.output}
        makers = [self._nodes.get(value) for part in parts for value in part.input]
        return [
            maker
            for maker in makers
            if maker is not None and maker.name not in taken and inside.isdisjoint(maker.input)
        ]
