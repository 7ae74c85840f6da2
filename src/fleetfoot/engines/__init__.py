"""Ways to run a network: one call to build, one to run. ``eager`` is what the others must equal.

``auto``, the fastest by measurement, is in ``fleetfoot.choose.auto``, since it must measure.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fleetfoot.engines.agreement import Agreement, compare
from fleetfoot.engines.base import (
    TOLERANCES,
    Engine,
    EngineInfo,
    NodeTime,
    Options,
    reason,
    relative_error,
)
from fleetfoot.engines.compiled import Compiled
from fleetfoot.engines.eager import CudaGraph, Eager
from fleetfoot.engines.executorch import ExecuTorch
from fleetfoot.engines.native import Native
from fleetfoot.engines.ncnn import Ncnn
from fleetfoot.engines.nothing import Nothing
from fleetfoot.engines.onnxruntime import OnnxRuntime
from fleetfoot.engines.openvino import OpenVino
from fleetfoot.errors import EngineError, FleetfootError, UnknownNameError

__all__ = [
    "ENGINES",
    "TOLERANCES",
    "Agreement",
    "Engine",
    "EngineInfo",
    "NodeTime",
    "Options",
    "available",
    "load",
    "relative_error",
]

ENGINES: dict[str, type[Engine]] = {
    kind.name: kind
    for kind in (
        Eager,
        Compiled,
        OnnxRuntime,
        OpenVino,
        Ncnn,
        ExecuTorch,
        Native,
        CudaGraph,
        Nothing,
    )
}


def available() -> dict[str, str | None]:
    """Each engine by name, with the reason why it cannot be used here, or None. Imports nothing."""
    found = {name: kind.missing() for name, kind in ENGINES.items()}
    return {name: None if error is None else str(error) for name, error in found.items()}


def load(
    engine: str,
    model: nn.Module,
    *,
    example: Tensor,
    threads: int = 1,
    precision: str = "float32",
    layout: str = "nchw",
    device: str = "cpu",
) -> Engine:
    """Builds ``engine`` for ``model``, in eval mode and usually folded, and for batches shaped as
    ``example`` (B, C, H, W).

    The engine that was asked for, or an error; never another one. Its answer to random pictures was
    compared with eager's: ``agreement`` says how far apart they are. The given model is left as it
    is.

    Raises:
        UnknownNameError: no engine has that name.
        MissingExtraError: its package is not installed; the message names the extra.
        ValueError: the model is in train mode, the example is no float32 batch on the CPU, or an
        option is none of those known.
        EngineError: it cannot be used here, does not offer an option, or cannot build this network.
        DisagreementError: it answers otherwise than eager; the first node that differs is named.
    """
    if engine not in ENGINES:
        hint = "'auto' is fleetfoot.choose.auto.load_auto." if engine == "auto" else ""
        raise UnknownNameError.of("engine", engine, ENGINES, hint=hint)
    options = Options(threads=threads, precision=precision, layout=layout, device=device)
    if model.training:
        raise ValueError(
            f"{type(model).__name__} is in train mode, in which its batch norms follow the batch; "
            "call model.eval() first"
        )
    if example.ndim != 4 or example.dtype != torch.float32 or example.device.type != "cpu":
        raise ValueError(
            "example must be a float32 batch (B, C, H, W) on the CPU, not "
            f"{tuple(example.shape)}, {str(example.dtype).removeprefix('torch.')}, on "
            f"{example.device}"
        )
    if options.device == "cuda" and not torch.cuda.is_available():
        raise EngineError("device 'cuda' was asked for, and torch sees no CUDA device here")
    kind = ENGINES[engine]
    missing = kind.missing()
    if missing is not None:
        raise missing
    try:
        built = kind(model, example, options)
    except FleetfootError:
        raise
    except Exception as error:  # each runtime raises its own kinds
        raise EngineError(
            f"{engine} cannot build {type(model).__name__} for a batch {tuple(example.shape)}: "
            f"{reason(error)}"
        ) from error
    try:
        compare(built, model)
    except BaseException:
        built.close()
        raise
    return built
