"""ONNX Runtime on the CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fleetfoot.engines.base import Engine, Options, refuse
from fleetfoot.engines.export import missing, onnx_bytes
from fleetfoot.errors import EngineError, FleetfootError


class OnnxRuntime(Engine):
    """All graph optimisations, operators one after the other, ``threads`` threads inside each.

    Its threads spin while they wait for the next operator and, as shipped, go on spinning after the
    last: in the 50 ms after a run on two threads they burnt 48 ms of a core, which the engine
    measured next would have missed. Here they stop when the run ends
    (``session.force_spinning_stop``); the run itself is as fast.
    """

    name = "onnxruntime"
    package = "onnxruntime"

    def __init__(self, model: nn.Module, example: Tensor, options: Options) -> None:
        refuse(self.name, options, precision="float32", layout="nchw", device="cpu")
        super().__init__(model, example, options)
        import onnxruntime

        onnxruntime.disable_telemetry_events()  # its Windows builds send some
        settings = onnxruntime.SessionOptions()
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        settings.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        settings.intra_op_num_threads = options.threads
        settings.inter_op_num_threads = 1
        settings.add_session_config_entry("session.force_spinning_stop", "1")
        settings.log_severity_level = 3  # errors
        wanted = ["CPUExecutionProvider"]
        self._session: Any = onnxruntime.InferenceSession(
            onnx_bytes(model, example), settings, providers=wanted
        )
        if self._session.get_providers() != wanted:
            raise EngineError(
                f"onnxruntime took providers {self._session.get_providers()}, not {wanted}"
            )

    @classmethod
    def missing(cls) -> FleetfootError | None:
        return missing(cls.name, cls.package)

    def _run(self, batch: Tensor) -> Tensor:
        (logits,) = self._session.run(None, {"images": batch.contiguous().numpy()})
        return torch.from_numpy(logits)

    def close(self) -> None:
        super().close()
        self._session = None
