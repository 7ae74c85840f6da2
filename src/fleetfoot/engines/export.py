"""The network as an ONNX graph, which both ONNX Runtime and OpenVINO read.

Torch's newer exporter (``dynamo=True``) with its optimiser takes 3 to 8 s for a folded network. The
older one is ten times as quick and its graphs are as fast, but it is deprecated, and of a branch
that depends on the data it keeps only the side that the example took. Without the optimiser ONNX
Runtime keeps twice the nodes and is up to three times as slow. OpenVINO reads the same graph in
0.1 s; its own conversion from torch took 3 to 14 s, for graphs that ran no faster.
"""

from __future__ import annotations

import hashlib
import warnings
import weakref
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.export.graph_signature import OutputKind, TensorArgument
from torch.utils import _pytree as pytree

from fleetfoot.engines.base import missing_package, quiet
from fleetfoot.engines.inputs import Given, Inputs
from fleetfoot.errors import EngineError, MissingExtraError

Made = TypeVar("Made")


class Last(Generic[Made]):
    """Keeps the latest result until another network or shape is asked for: several engines are
    built from each network in turn, and several times for one shape."""

    def __init__(self) -> None:
        self._kept: tuple[weakref.ref[nn.Module], bytes, Made] | None = None

    def of(
        self, model: nn.Module, inputs: Inputs, make: Callable[[nn.Module, Inputs], Made]
    ) -> Made:
        fingerprint = _fingerprint(model, inputs)
        kept = self._kept
        if kept is None or kept[0]() is not model or kept[1] != fingerprint:
            self._kept = None  # the earlier one need not be in memory beside this one
            kept = self._kept = (weakref.ref(model), fingerprint, make(model, inputs))
        return kept[2]


class OnnxGraph(NamedTuple):
    """A network as an ONNX graph."""

    content: bytes
    outputs: pytree.TreeSpec
    """Structure of the graph's outputs in the network's output."""


_last = Last[OnnxGraph]()


def missing(engine: str, runtime: str) -> MissingExtraError | None:
    """The error that names what ``engine`` needs and is not installed: its runtime, or the
    exporter."""
    return missing_package(engine, runtime, "onnx", "onnxscript")


def onnx_graph(model: nn.Module, example: Given | Inputs) -> OnnxGraph:
    """The graph and its weights, for inputs of exactly the shapes of ``example``.

    Raises:
        EngineError: an output of the network is not a tensor.
    """
    return _last.of(model, Inputs.of(model, example), _export)


def _refuse_constants(model: nn.Module, inputs: Inputs) -> None:
    with torch.no_grad():
        for leaf in pytree.tree_leaves(inputs.call(model)):
            if not isinstance(leaf, Tensor):
                raise no_tensor(model, leaf)


def no_tensor(model: nn.Module, output: object) -> EngineError:
    """The error for ``output``, which the network returns and which is not a tensor."""
    return EngineError(
        f"an engine runs networks whose outputs are tensors; {type(model).__name__} also returns "
        f"{output!r}"
    )


def output_nest(program: torch.export.ExportedProgram, model: nn.Module) -> pytree.TreeSpec:
    """Structure of an exported network's outputs.

    Raises:
        EngineError: one of the outputs is not a tensor.
    """
    for output in program.graph_signature.output_specs:
        if output.kind is OutputKind.USER_OUTPUT and not isinstance(output.arg, TensorArgument):
            raise no_tensor(model, getattr(output.arg, "value", output.arg))
    return program.call_spec.out_spec


def _export(model: nn.Module, inputs: Inputs) -> OnnxGraph:
    with warnings.catch_warnings(), quiet():
        # the exporter warns of its own dependencies' ageing parts, which nobody here can change
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                model,
                inputs.args,
                kwargs=inputs.kwargs or None,
                dynamo=True,
                input_names=["images"] if len(inputs.tensors) == 1 else list(inputs.names),
                verbose=False,
            )
        except Exception:
            _refuse_constants(model, inputs)  # the exporter does not say that it was that
            raise
    assert program is not None, "dynamo=True returns a program"
    exported = program.exported_program
    assert exported is not None, "the program was made from one"
    nest = output_nest(exported, model)
    outputs = len(program.model.graph.outputs)
    if outputs != nest.num_leaves:
        raise EngineError(
            f"torch's ONNX exporter keeps {outputs} of the {nest.num_leaves} outputs of "
            f"{type(model).__name__}"
        )
    return OnnxGraph(program.model_proto.SerializeToString(), nest)


def _fingerprint(model: nn.Module, inputs: Inputs) -> bytes:
    """A digest that changes with the modules' options, the weights and the inputs' shapes: all are
    part of the graph."""
    given = f"{model!r}\n{inputs.describe()} {inputs.by_name}"
    digest = hashlib.blake2b(given.encode(), digest_size=16)
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.digest()
