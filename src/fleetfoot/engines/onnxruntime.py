"""ONNX Runtime on the CPU."""

from __future__ import annotations

import json
import tempfile
import weakref
from dataclasses import dataclass
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
from fleetfoot.engines.onnxgraph import RuntimeGraph
from fleetfoot.errors import EngineError, FleetfootError
from fleetfoot.readers import PROVIDERS, Session

FILE = "network.onnx"
STOP_SPINNING = {"session.force_spinning_stop": "1"}
WARM_RUNS = 2
"""Number of runs of a profiling session before the run that counts."""


class OnnxRuntime(Engine):
    """ONNX Runtime with all graph optimisations; operators run in sequence, each on ``threads``.

    Its threads spin while they wait for the next operator and, by default, go on spinning after the
    last: in the 50 ms after a run on two threads they used 48 ms of a core, at the cost of the
    engine measured next. Here they stop when the run ends (``session.force_spinning_stop``); the
    run itself is as fast.
    """

    name = "onnxruntime"
    package = "onnxruntime"

    saves = True
    portable = False  # layouts and operators in the file are those of one processor and version

    def __init__(self, model: nn.Module, example: Given | Inputs, options: Options) -> None:
        refuse(self.name, options, precision="float32", layout="nchw", device="cpu")
        super().__init__(model, example, options)
        import onnxruntime

        onnxruntime.disable_telemetry_events()  # its Windows builds send some
        self._network = weakref.ref(model)
        self._optimised: _Optimised | None = None
        graph = onnx_graph(model, self.inputs)
        self._answers_as(graph.outputs)
        self._use(
            Session(
                onnxruntime.InferenceSession(graph.content, self._settings(), providers=PROVIDERS)
            )
        )

    def _write(self, folder: Path) -> Written:
        """Writes the optimised graph."""
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        settings.optimized_model_filepath = str(folder / FILE)
        settings.log_severity_level = 3  # it warns that the graph fits this processor only
        graph = onnx_graph(built_from(self, self._network), self.inputs)
        onnxruntime.InferenceSession(graph.content, settings, providers=PROVIDERS)
        return Written((FILE,), {})

    def _read(self, artifact: Artifact) -> None:
        files = [str(file) for file in artifact.files]
        settings = {**artifact.manifest.settings, **STOP_SPINNING}
        self._optimised = None
        self._use(readers.onnxruntime()(files, settings, self.info.threads))

    def _use(self, session: Session) -> None:
        self._runner: Session | None = session
        self._session: Any = session.session
        if self._session.get_providers() != PROVIDERS:
            raise EngineError(
                f"onnxruntime uses providers {self._session.get_providers()}, not {PROVIDERS}"
            )

    def _settings(self) -> Any:
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        settings.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        settings.intra_op_num_threads = self.info.threads
        settings.inter_op_num_threads = 1
        for name, value in STOP_SPINNING.items():
            settings.add_session_config_entry(name, value)
        settings.log_severity_level = 3  # errors
        return settings

    @classmethod
    def missing(cls) -> FleetfootError | None:
        return missing(cls.name, cls.package)

    def _run(self, inputs: tuple[Tensor, ...]) -> Any:
        assert self._runner is not None, "a closed engine is refused before"
        answers = self._runner.run([tensor.contiguous().numpy() for tensor in inputs])
        return self._nested([torch.from_numpy(np.asarray(answer)) for answer in answers])

    def _profile(self, inputs: tuple[Tensor, ...]) -> list[NodeTime]:
        """Profiles in a new session each time: a session gives its times only when it ends."""
        import onnxruntime

        if self._optimised is None:
            network = built_from(self, self._network)
            self._optimised = _Optimised.of(
                onnx_graph(network, self.inputs).content, self._settings()
            )
        settings = self._settings()
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        settings.enable_profiling = True
        with tempfile.TemporaryDirectory() as folder:
            settings.profile_file_prefix = str(Path(folder) / "times")
            runner = Session(
                onnxruntime.InferenceSession(self._optimised.model, settings, providers=PROVIDERS)
            )
            for _ in range(WARM_RUNS + 1):
                runner.run([tensor.contiguous().numpy() for tensor in inputs])
            events = json.loads(Path(runner.session.end_profiling()).read_text(encoding="utf-8"))
        last_run = max(event["ts"] for event in events if event["name"] == "model_run")
        nodes = []
        for event in events:
            name, is_node, _ = event["name"].partition("_kernel_time")
            if is_node and event["ts"] >= last_run:
                nodes.append(
                    NodeTime(
                        name=name,
                        kind=event["args"]["op_name"],
                        modules=self._optimised.graph.modules(name),
                        seconds=event["dur"] / 1e6,
                    )
                )
        return nodes

    def close(self) -> None:
        super().close()
        self._session = self._runner = self._optimised = None


@dataclass(frozen=True)
class _Optimised:
    """The graph as ONNX Runtime optimises it: its names differ each time that it is made anew."""

    model: bytes
    graph: RuntimeGraph

    @classmethod
    def of(cls, exported: bytes, settings: Any) -> _Optimised:
        import onnx
        import onnxruntime

        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "optimised.onnx"
            settings.optimized_model_filepath = str(file)
            onnxruntime.InferenceSession(exported, settings, providers=PROVIDERS)
            model = file.read_bytes()
        graphs = [onnx.load_from_string(text).graph for text in (exported, model)]
        return cls(model, RuntimeGraph(*graphs))
