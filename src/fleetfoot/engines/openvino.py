"""OpenVINO on the CPU, without its telemetry."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fleetfoot.engines.base import Engine, Options, refuse
from fleetfoot.engines.export import missing, onnx_bytes
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
        self._request: Any = compiled.create_infer_request()

    @classmethod
    def missing(cls) -> FleetfootError | None:
        return missing(cls.name, cls.package)

    def _run(self, batch: Tensor) -> Tensor:
        # the input is read where it lies, as by every other engine; the output is the caller's own
        answers = self._request.infer({0: batch.contiguous().numpy()}, share_inputs=True)
        return torch.from_numpy(answers[0])

    def close(self) -> None:
        super().close()
        self._request = None
