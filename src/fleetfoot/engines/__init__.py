"""Engines: ``load`` builds one from a network, which it then runs. ``eager`` is the reference.

``auto``, the fastest by measurement, is in ``fleetfoot.choose.auto``, since it must measure.
"""

from __future__ import annotations

import os

import torch
from torch import nn

from fleetfoot.artifact import Artifact, Facts
from fleetfoot.copying import check_nesting
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
from fleetfoot.engines.inputs import Given, Inputs
from fleetfoot.engines.native import Native
from fleetfoot.engines.ncnn import Ncnn
from fleetfoot.engines.nothing import Nothing
from fleetfoot.engines.onnxruntime import OnnxRuntime
from fleetfoot.engines.openvino import OpenVino
from fleetfoot.errors import ArtifactError, EngineError, FleetfootError, UnknownNameError

__all__ = [
    "ENGINES",
    "TOLERANCES",
    "Agreement",
    "Artifact",
    "Engine",
    "EngineInfo",
    "Facts",
    "Inputs",
    "NodeTime",
    "Options",
    "available",
    "load",
    "open",
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
    """Each engine by name, and why it cannot be used here, or None if it can. Imports nothing."""
    found = {name: kind.missing() for name, kind in ENGINES.items()}
    return {name: None if error is None else str(error) for name, error in found.items()}


def load(
    engine: str,
    model: nn.Module,
    *,
    example: Given,
    threads: int = 1,
    precision: str = "float32",
    layout: str = "nchw",
    device: str = "cpu",
) -> Engine:
    """Builds ``engine`` for ``model``, in eval mode and usually folded, and for inputs shaped as
    ``example``: a batch (B, C, H, W), a sequence of tensors for a network of several parameters, or
    a mapping of tensors by the parameters' names.

    The result is the engine that was asked for, never another one. Its output for random pictures
    is compared with eager's; ``agreement`` states the difference. The given model is not changed.

    >>> import torch
    >>> from fleetfoot.models import create_model
    >>> model = create_model("fasternet_t0").eval()
    >>> pictures = torch.zeros(1, 3, 64, 64)
    >>> with load("eager", model, example=pictures) as engine:
    ...     engine.run(pictures).shape
    torch.Size([1, 1000])

    Raises:
        UnknownNameError: no engine has that name.
        MissingExtraError: the engine's package is not installed; the message names the extra.
        ValueError: the model is in train mode, the example holds no tensors on the CPU or names
            that the network's forward does not have, or an option is not a known one.
        EngineError: the engine cannot be used here, does not offer an option, or cannot build this
            network.
        DisagreementError: the engine's output differs from eager's; the first node that differs is
            named.
    """
    if engine not in ENGINES:
        hint = "'auto' is fleetfoot.choose.auto.load_auto." if engine == "auto" else ""
        raise UnknownNameError.of("engine", engine, ENGINES, hint=hint)
    options = Options(threads=threads, precision=precision, layout=layout, device=device)
    if model.training:
        raise ValueError(
            f"{type(model).__name__} is in train mode, in which batch norms depend on the batch; "
            "call model.eval() first"
        )
    check_nesting(model)
    inputs = Inputs.of(model, example)
    if options.device == "cuda" and not torch.cuda.is_available():
        raise EngineError("device 'cuda' was asked for, and torch sees no CUDA device here")
    kind = ENGINES[engine]
    missing = kind.missing()
    if missing is not None:
        raise missing
    try:
        built = kind(model, inputs, options)
    except FleetfootError:
        raise
    except Exception as error:  # each runtime raises its own kinds
        raise EngineError(
            f"{engine} cannot build {type(model).__name__} for {inputs}: {reason(error)}"
        ) from error
    try:
        compare(built, model)
    except BaseException:
        built.close()
        raise
    return built


def open(
    artifact: Artifact | str | os.PathLike[str], *, threads: int | None = None, mmap: bool = False
) -> Engine:
    """Opens the engine that ``Engine.save`` wrote; no network is needed.

    >>> import torch
    >>> model, pictures = torch.nn.Conv2d(3, 8, 3).eval(), torch.zeros(1, 3, 16, 16)
    >>> with load("native", model, example=pictures) as engine:
    ...     artifact = engine.save("conv.native")
    >>> with open(artifact) as engine:
    ...     engine.run(pictures).shape
    torch.Size([1, 8, 14, 14])

    Args:
        artifact: the folder, or the result of ``Artifact.read``.
        threads: number of threads; default: the number that the engine was saved with.
        mmap: map the file of a native engine instead of reading it, as ``runtime.Plan.load`` does:
            it must stay unchanged while the engine lives.

    Raises:
        ArtifactError: the folder, its manifest or a file of it is missing, damaged or changed, or
            was written for another processor or version.
        MissingExtraError: the engine's package is not installed; the message names the extra.
        EngineError: the engine cannot be used here, its runtime refuses the files, or ``mmap`` is
            asked of another engine than native.
        ValueError: ``threads`` is less than 1.
    """
    if not isinstance(artifact, Artifact):
        artifact = Artifact.read(artifact)
    said = artifact.manifest
    if said.engine not in ENGINES or not ENGINES[said.engine].saves:
        raise ArtifactError(
            f"{artifact.path} was written by an engine {said.engine!r}, unknown here"
        )
    try:
        options = Options(
            threads=said.threads if threads is None else threads, precision=said.precision
        )
    except ValueError as error:
        if threads is not None:
            raise
        raise ArtifactError(f"{artifact.path} has a damaged manifest: {error}") from None
    kind = ENGINES[said.engine]
    missing = kind.missing()
    if missing is not None:
        raise missing
    try:
        return kind.opened(artifact, options, mmap=mmap)
    except FleetfootError:
        raise
    except Exception as error:  # each runtime raises its own kinds
        raise EngineError(f"{said.engine} cannot open {artifact.path}: {reason(error)}") from error
