"""The network as an ONNX graph, which both ONNX Runtime and OpenVINO read.

Torch's newer exporter (``dynamo=True``) with its optimiser on, 3 to 8 s for a folded network. The
older one is ten times as quick and its graphs are as fast, but it is being retired, and of a branch
that depends on the data it keeps the side that the example took. Without the optimiser ONNX Runtime
keeps twice the nodes and is up to three times as slow. OpenVINO reads the same graph in 0.1 s; its
own conversion from torch took 3 to 14 s, for graphs that ran no faster.
"""

from __future__ import annotations

import hashlib
import warnings
import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from fleetfoot.engines.base import missing_package, quiet
from fleetfoot.errors import EngineError, MissingExtraError

Made = TypeVar("Made")


class Last(Generic[Made]):
    """What was made last, kept until another network, or another shape, is asked for: several
    engines are built from each network, one after the other, and several times for one shape."""

    def __init__(self) -> None:
        self._kept: tuple[weakref.ref[nn.Module], bytes, Made] | None = None

    def of(
        self, model: nn.Module, example: Tensor, make: Callable[[nn.Module, Tensor], Made]
    ) -> Made:
        fingerprint = _fingerprint(model, example)
        kept = self._kept
        if kept is None or kept[0]() is not model or kept[1] != fingerprint:
            self._kept = None  # the earlier one need not be in memory beside this one
            kept = self._kept = (weakref.ref(model), fingerprint, make(model, example))
        return kept[2]


_last = Last[bytes]()


def missing(engine: str, runtime: str) -> MissingExtraError | None:
    """The error that names what ``engine`` needs and is not installed: its runtime, or the
    exporter."""
    return missing_package(engine, runtime, "onnx", "onnxscript")


def onnx_bytes(model: nn.Module, example: Tensor) -> bytes:
    """The graph and its weights, for batches of exactly the shape of ``example``.

    Raises:
        EngineError: the network has more than one output.
    """
    return _last.of(model, example, _export)


def _export(model: nn.Module, example: Tensor) -> bytes:
    with warnings.catch_warnings(), quiet():
        # the exporter warns of its own dependencies' ageing parts, which nobody here can change
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model, (example,), dynamo=True, input_names=["images"], verbose=False
        )
    assert program is not None, "dynamo=True returns a program"
    outputs = len(program.model.graph.outputs)
    if outputs != 1:
        raise EngineError(f"{type(model).__name__} has {outputs} outputs; an engine runs one")
    return program.model_proto.SerializeToString()


def _fingerprint(model: nn.Module, example: Tensor) -> bytes:
    """Changes with the modules' options, the weights and the shape: all are written into the
    graph."""
    digest = hashlib.blake2b(f"{model!r}\n{tuple(example.shape)}".encode(), digest_size=16)
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.digest()
