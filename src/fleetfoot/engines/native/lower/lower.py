"""Lowering a network to a graph of the native engine: its ATen operators, one after the other.

``torch.export`` decomposes nothing here, so that a convolution, a layer norm or an attention
arrives whole. What depends only on parameters and buffers (position biases, masks, encodings) is
computed here, by PyTorch itself. The rest goes operator by operator through ``operators``; what has
no lowering there is decomposed by PyTorch (``decompose.py``), and its parts are lowered instead.
Nothing is fused or packed yet, and weights are as in PyTorch.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx, nn
from torch.export.graph_signature import OutputKind
from torch.utils import _pytree as pytree

from fleetfoot.artifact import Nest
from fleetfoot.copying import in_float64
from fleetfoot.engines.base import quiet, reason, relative_error
from fleetfoot.engines.inputs import Given, Inputs
from fleetfoot.engines.native.graph import Graph, Tensor, View, prune
from fleetfoot.engines.native.lower.builder import TYPES, Builder
from fleetfoot.engines.native.lower.decompose import decomposed
from fleetfoot.engines.native.lower.functional import functional, storage, written
from fleetfoot.engines.native.lower.operators import OPERATORS, Padded
from fleetfoot.engines.native.lower.operators.reductions import normalised
from fleetfoot.engines.native.lower.regions import inline_regions_
from fleetfoot.engines.native.lower.values import Value
from fleetfoot.errors import EngineError, FleetfootError, LackingError, UnsupportedOperatorError

INDEPENDENCE = 1e-4
"""Largest ``relative_error`` between a picture alone and beside another. Float32 sums in another
order, which PyTorch chooses by batch, give 1e-6 to 1e-5; a picture that affects another gives 1e-2
or more."""


def lower(model: nn.Module, example: Given | Inputs) -> Graph:
    """The graph of ``model``, in eval mode and usually folded, for one picture.

    Args:
        example: a batch (B, C, H, W) of the shape to build for, or several inputs of one batch; B
            does not matter.

    Raises:
        UnsupportedOperatorError: operators that the engine lacks; all are named, with their paths.
        EngineError: pictures of a batch affect each other, an output has no batch, or PyTorch
            cannot export the network.
    """
    inputs = Inputs.of(model, example)
    check_independence(model, inputs)
    return lowered(exported(model, inputs.one), type(model).__name__)


def lowered(
    program: torch.export.ExportedProgram,
    model: str,
    weights: Mapping[str, torch.Tensor] | None = None,
) -> Graph:
    """The graph of an exported network with the name ``model``. ``weights``, by name, replace its
    own.

    Raises:
        UnsupportedOperatorError: operators that the engine lacks; all are named, with their paths.
    """
    graph = _Lowering(program, model, weights or {}).run()
    prune(graph)
    graph.signature = _signature(program)
    return graph


def _signature(program: torch.export.ExportedProgram) -> str:
    """The names of the inputs and the nest of the outputs, as a plan keeps them; "" if there is one
    input and the output is a single tensor.

    Raises:
        EngineError: the structure of the outputs cannot be stored in a plan.
    """
    names, spec = program.graph_signature.user_inputs, program.call_spec.out_spec
    try:
        nest = Nest.of(pytree.tree_unflatten(range(spec.num_leaves), spec))
    except ValueError as error:
        raise EngineError(f"native cannot keep the outputs' names: {error}") from error
    types = [_output_type(node) for node in _output_nodes(program)]
    whole = any(type != "float32" for type in types)
    if nest.plain and len(names) == 1 and not whole:
        return ""
    record: dict[str, Any] = {"inputs": list(names), "outputs": nest.record}
    if whole:
        record["types"] = types
    return json.dumps(record, separators=(",", ":"), ensure_ascii=False)


def _output_nodes(program: torch.export.ExportedProgram) -> list[Any]:
    (output,) = program.graph.find_nodes(op="output")
    return pytree.tree_leaves(output.args[0])


def _output_type(node: Any) -> str:
    value = node.meta["val"] if isinstance(node, fx.Node) else node
    return str(value.dtype).removeprefix("torch.")


@torch.no_grad()
def check_independence(model: nn.Module, example: Given | Inputs) -> None:
    """Checks that the network treats each picture of a batch alone, as a graph of one must.

    Raises:
        EngineError: two random pictures together give other outputs than each alone, an output is
            not a tensor with the batch as its first dimension, or the inputs share no batch of
            float32.
    """
    inputs = Inputs.of(model, example)
    for one in inputs.describe():
        if one.dtype != "float32":
            raise EngineError(f"native takes float32 inputs, and {one.name!r} is {one.dtype}")
    if inputs.batch is None:
        told = ", ".join(f"{one.name} {one.shape}" for one in inputs.describe())
        raise EngineError(
            "native runs one picture at a time, and the inputs of "
            f"{type(model).__name__} share no first dimension that could be the batch: {told}. "
            "Run this network with another engine"
        )
    pictures = inputs.random(batch=2)
    error = _dependence(model, pictures)
    if error > INDEPENDENCE:  # rounding may grow as far in a deep network: float64 tells them apart
        doubled = pictures.with_tensors([tensor.double() for tensor in pictures.tensors])
        error = _dependence(in_float64(model), doubled)
    if error > INDEPENDENCE:
        raise EngineError(
            f"native runs one picture at a time, and {type(model).__name__} gives a picture "
            f"another output when it is in a batch with a second one (by {error:.1e} of the "
            f"largest value; {INDEPENDENCE:.0e} is allowed). Run this network with another engine"
        )


def _dependence(model: nn.Module, pictures: Inputs) -> float:
    """Largest relative error of the outputs for two pictures together from those for each alone."""
    name = type(model).__name__
    together = pytree.tree_leaves(pictures.copied.call(model))
    for output in together:
        if not isinstance(output, torch.Tensor):
            raise EngineError(
                f"native runs networks whose outputs are tensors; {name} also returns {output!r}"
            )
    largest = 0.0
    for i in range(2):
        picture = [tensor[i : i + 1].clone() for tensor in pictures.tensors]
        alone = pytree.tree_leaves(pictures.call(model, picture))
        for whole, single in zip(together, alone, strict=True):
            if whole.shape != (2, *single.shape[1:]):
                raise EngineError(
                    f"native runs one picture at a time, and an output of {name} has "
                    f"shape {tuple(whole.shape)} for a batch of 2: its first dimension is not "
                    "the batch. Run this network with eager"
                )
            largest = max(largest, relative_error(whole[i : i + 1], single))
    return largest


def exported(model: nn.Module, picture: Inputs) -> torch.export.ExportedProgram:
    """The program of ``torch.export`` for one picture.

    Raises:
        EngineError: PyTorch cannot export the network.
    """
    # nn.MultiheadAttention's fast path is one operator that only PyTorch has
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with quiet():
            program = torch.export.export(model, picture.args, picture.kwargs, strict=False)
    except Exception as error:  # the exporter raises whatever tracing met
        raise EngineError(
            f"native cannot build {type(model).__name__}: torch.export failed with {reason(error)}"
        ) from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    inline_regions_(program)
    return functional(program)


class _Missing:
    """The result of an operator that the engine lacks, in place of a value."""


_MISSING = _Missing()

_INDICES = re.compile(r"max_pool\dd(_with_indices)?$")
"""Names of operators whose second result is the place of each maximum."""
_IGNORED = ("_assert_tensor_metadata", "_assert_async", "sym_constrain_range", "_assert_scalar")


class _Lowering:
    """One walk over an exported program."""

    def __init__(
        self,
        program: torch.export.ExportedProgram,
        model: str,
        weights: Mapping[str, torch.Tensor],
    ) -> None:
        self._program = program
        self._states = _states(program, weights)
        names = {id(data): name for name, data in self._states.values()}
        self._build = Builder(names)
        self._graph = Graph(model=model, inputs=[], outputs=[], nodes=self._build.nodes)
        self._values: dict[fx.Node, Any] = {}
        self._places = {node: i for i, node in enumerate(program.graph.nodes)}
        self._lacking: dict[str, list[str]] = {}
        self._inside: list[Any] = []
        """The operators whose decompositions are being lowered, outermost first."""

    @torch.no_grad()
    def run(self) -> Graph:
        for node in self._program.graph.nodes:
            if node.op == "placeholder":
                self._values[node] = self._placeholder(node)
            elif node.op == "output":
                if self._lacking:
                    raise UnsupportedOperatorError("native", self._lacking)
                self._outputs(node)
            else:
                self._operator(node)
        return self._graph

    def _placeholder(self, node: fx.Node) -> Value | torch.Tensor:
        if node.name in self._states:
            return self._states[node.name][1]
        shape = tuple(node.meta["val"].shape)
        tensor = Tensor(kind="input", size=node.meta["val"].numel())
        self._graph.inputs.append(View.dense(tensor, shape[1:]))
        return Value.dense(tensor, shape, range(len(shape)))

    def _operator(self, node: fx.Node) -> None:
        self._build.path = _path(node)
        if any(self._values[one] is _MISSING for one in node.all_input_nodes):
            self._values[node] = _MISSING
            return
        try:
            self._values[node] = self._result(node)
        except LackingError as error:
            self._lacks(node, str(error))
        except FleetfootError:
            raise
        except Exception as error:  # an operator called as none here was foreseen
            raise EngineError(
                f"native cannot lower {node.target} (at {self._build.path or 'the network itself'}"
                f"): {reason(error)}. Run this network with another engine, or write this part "
                "of it with other operators"
            ) from error

    def _result(self, node: fx.Node) -> Any:
        """Raises LackingError: neither a lowering nor PyTorch's decomposition gives the operator's
        result; the message says what lacks."""
        if node.op == "get_attr":
            return getattr(node.graph.owning_module, str(node.target))
        arguments = self._arguments(node)
        if node.target is operator.getitem:
            taken = arguments[0][arguments[1]]
            if taken is None and node.users:
                raise LackingError("of a result that has no lowering")
            return taken
        if isinstance(node.target, type):  # the named tuple of an operator with several results
            return node.target(*arguments)
        if not any(map(_varies, pytree.tree_leaves(arguments))):
            return self._computed(node)
        try:
            result = self._lowered(node, arguments)
        except LackingError as error:
            result = self._decomposed(node, error)
        self._written_in_place(node, result)
        return result

    def _decomposed(self, node: fx.Node, lacking: LackingError) -> Any:
        """The result of an operator from those that PyTorch decomposes it into.

        Raises:
            LackingError: there is no decomposition, or one of its operators lacks, too.
        """
        body = decomposed(node)
        if body is None or node.target in self._inside:
            raise lacking
        self._inside.append(node.target)
        self._places.update({one: i for i, one in enumerate(body.graph.nodes)})
        result: Any = None
        given = iter(node.all_input_nodes)
        try:
            for one in body.graph.nodes:
                if one.op == "placeholder":
                    self._values[one] = self._values[next(given)]
                elif one.op == "output":
                    result = fx.node.map_arg(one.args[0], lambda n: self._values[n])
                else:
                    self._values[one] = self._part(one, lacking)
        finally:
            self._inside.pop()
        return result

    def _part(self, node: fx.Node, lacking: LackingError) -> Any:
        """The result of an operator in the decomposition of another one that lacks."""
        try:
            return self._result(node)
        except LackingError as error:
            if str(lacking):  # what is special about this call of it is the reason
                raise lacking from None
            raise LackingError(f"which needs {node.target} {error}".strip()) from None

    def _lacks(self, node: fx.Node, detail: str) -> None:
        self._values[node] = _MISSING
        paths = self._lacking.setdefault(f"{node.target} {detail}".strip(), [])
        path = self._build.path or "the network itself"
        if path not in paths:
            paths.append(path)

    def _arguments(self, node: fx.Node) -> list[Any]:
        """The operator's arguments in schema order, with defaults; nodes replaced by their
        values."""
        schema = getattr(node.target, "_schema", None)
        given = list(node.args)
        if schema is not None:
            for parameter in schema.arguments[len(given) :]:
                given.append(node.kwargs.get(parameter.name, parameter.default_value))
        return [fx.node.map_arg(argument, lambda n: self._values[n]) for argument in given]

    def _computed(self, node: fx.Node) -> Any:
        """The result of an operator that depends on constants alone, computed by PyTorch."""
        numbers = getattr(node.target, "__module__", "") in ("_operator", "math", "builtins")
        if not callable(node.target) or not (
            numbers or isinstance(node.target, torch._ops.OpOverload)
        ):
            raise LackingError("")
        arguments: Any = fx.node.map_arg(node.args, lambda n: self._values[n])
        named: Any = fx.node.map_arg(node.kwargs, lambda n: self._values[n])
        return node.target(*arguments, **named)

    def _lowered(self, node: fx.Node, arguments: list[Any]) -> Any:
        build = self._build
        name = str(node.target).removeprefix("aten.")
        packet, _, overload = name.rpartition(".")
        if packet in _IGNORED:
            return None
        in_place = packet.endswith("_") and not packet.endswith("__")
        function = OPERATORS.get(f"{packet.removesuffix('_') if in_place else packet}.{overload}")
        results = pytree.tree_leaves(node.meta.get("val"))
        if results and all(isinstance(one, int | float) for one in results):
            return node.meta["val"]  # a size
        if function is None or not results:
            raise LackingError("")
        sizes = (n for one in results if isinstance(one, torch.Tensor) for n in one.shape)
        if not all(isinstance(n, int) for n in sizes):
            raise LackingError("with a shape that depends on what is in a tensor")
        build.shape, build.dtype = tuple(results[0].shape), results[0].dtype
        build.order = _wanted_order(node)
        build.padding = _padding_of_readers(node)
        if _INDICES.search(packet) and _reads_second(node):
            raise LackingError("of which the indices are read")
        result = self._as_normalised(node)
        if result is None:
            result = function(build, *arguments)
        for found, wanted in zip(_flat(result), results, strict=False):
            if isinstance(found, Value) and found.tensor.type != TYPES.get(wanted.dtype):
                raise LackingError(f"in {str(wanted.dtype).removeprefix('torch.')}")
        return result

    def _as_normalised(self, node: fx.Node) -> Value | None:
        """``F.normalize`` as one node; it arrives as x / expand(max(norm(x), eps))."""
        chain = [node]
        for target, place in _NORMALIZE:
            if str(chain[-1].target) not in target:
                return None
            before = chain[-1].args[place]
            if not isinstance(before, fx.Node):
                return None
            chain.append(before)
        x, norm = node.args[0], chain[3]
        if str(norm.target) != "aten.linalg_vector_norm.default" or norm.args[0] is not x:
            return None
        assert isinstance(x, fx.Node)
        _, eps = self._arguments(chain[2])
        _, power, dims, keep, _ = self._arguments(norm)
        value, rank = self._values[x], len(self._build.shape)
        if power != 2 or not keep or [dim % rank for dim in dims or ()] != [rank - 1]:
            return None
        return normalised(self._build, "l2", value, 1, None, None, float(eps))

    def _written_in_place(self, node: fx.Node, result: Any) -> None:
        """Gives later readers the new value of what an operator changed in place, under each name
        that the network has for it; the program is ``functional``, so all see the whole of it."""
        for changed in written(node):
            memory = storage(changed)
            for other in self._values:
                if other.graph is node.graph and storage(other) == memory:
                    if any(self._places[user] > self._places[node] for user in other.users):
                        self._values[other] = result

    def _outputs(self, node: fx.Node) -> None:
        kinds = [spec.kind for spec in self._program.graph_signature.output_specs]
        leaves: Any = node.args[0]
        for leaf, kind in zip(leaves, kinds, strict=True):
            if kind != OutputKind.USER_OUTPUT:
                continue  # the new content of a buffer or an input: a plan keeps nothing
            value = self._values[leaf] if isinstance(leaf, fx.Node) else leaf
            if isinstance(value, torch.Tensor):
                value = self._build.constant(value, "output", type=TYPES.get(value.dtype, "f32"))
            assert isinstance(value, Value), "check_independence found tensors alone"
            self._graph.outputs.append(self._output(value))

    def _output(self, value: Value) -> View:
        """An output: dense in PyTorch's order, in the caller's memory."""
        order = range(len(value.shape))
        if value.tensor.kind != "arena" or not value.is_dense(order):
            out = self._build.fresh(value.shape, order, type=value.tensor.type)
            self._build.path = ""
            self._build.write(value, out, value.order())
            value = out
        value.tensor.kind = "output"
        return View.dense(value.tensor, value.shape[1:])


def _states(
    program: torch.export.ExportedProgram, weights: Mapping[str, torch.Tensor]
) -> dict[str, tuple[str, torch.Tensor]]:
    """Placeholder -> name and data of its parameter, buffer or constant."""
    signature = program.graph_signature
    named = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    states: dict[str, tuple[str, torch.Tensor]] = {}
    for placeholder, name in named.items():
        data = weights.get(name, program.state_dict.get(name, program.constants.get(name)))
        assert isinstance(data, torch.Tensor), f"{name} has no data"
        # its own memory: a network may write to a buffer in place
        states[placeholder] = (name, data.detach().clone())
    return states


def _path(node: fx.Node) -> str:
    """Path of the module whose forward called the operator."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return str(stack[-1][0]) if stack else ""


def _flat(result: Any) -> list[Any]:
    return list(result) if isinstance(result, list | tuple) else [result]


def _varies(x: Any) -> bool:
    """Whether an argument depends on the picture."""
    return isinstance(x, Value | Padded)


_NORMALIZE = (
    (("aten.div.Tensor",), 1),
    (("aten.expand_as.default", "aten.expand.default"), 0),
    (("aten.clamp_min.default",), 0),
)

_PERMUTING = ("aten.permute.default", "aten.transpose.int", "aten.swapaxes.default")
_PASSING = ("aten.dropout.default", "aten.contiguous.default", "aten.clone.default")


def _wanted_order(node: fx.Node) -> tuple[int, ...] | None:
    """The order of the result's dimensions after the permutations that are its only readers: in
    this memory order, a later reshape is free."""
    if not isinstance(node.meta["val"], torch.Tensor):
        return None
    order = list(range(node.meta["val"].ndim))
    permuted = False
    while len(node.users) == 1:
        (user,) = node.users
        target = str(user.target)
        if target in _PERMUTING:
            places: Any = user.args[1:]
            dims = list(range(len(order)))
            if target == _PERMUTING[0]:
                dims = list(places[0])
            else:
                first, second = places
                dims[first], dims[second] = dims[second], dims[first]
            order = [order[dim] for dim in dims]
            permuted = True
        elif target not in _PASSING:
            break
        node = user
    return tuple(order) if permuted else None


def _padding_of_readers(node: fx.Node) -> float | None:
    """The padding value that all readers of a result share: 0 for convolutions, -inf for max
    poolings; None if there is none."""
    readers = {str(user.target) for user in node.users}
    if readers and readers <= {"aten.conv2d.default", "aten.conv2d.padding"}:
        return 0.0
    return float("-inf") if readers == {"aten.max_pool2d.default"} else None


def _reads_second(node: fx.Node) -> bool:
    """Whether anything reads the second of an operator's results."""
    return any(
        user.target is operator.getitem and user.args[1] == 1 and user.users for user in node.users
    )
