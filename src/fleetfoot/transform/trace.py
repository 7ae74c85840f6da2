"""Read the data flow of a module, in eval mode, without running it.

torch.fx calls ``forward`` with stand-ins for tensors. Code whose path depends on the values or
sizes of its input fails on them, so a graph that comes back holds for every input. Code that asks
whether it was given a tensor can still mislead it (a stand-in is none), which is one reason why
what is built on these graphs is run and compared.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from typing import Any

from torch import fx, nn
from torch.nn.modules.dropout import _DropoutNd

from fleetfoot.errors import NotTraceableError
from fleetfoot.transform.fold import LINEAR, is_batchnorm, is_replaced, loaded

CONTAINERS = (nn.ModuleList, nn.ModuleDict)
"""They have no forward: their owner calls what is in them."""

_ABOUT_SHAPE = {
    "size", "dim", "numel", "shape", "ndim", "dtype", "device", "is_cuda", "ndimension",
    "is_contiguous",
}  # fmt: skip
_SHAPED_LIKE = {"reshape_as", "view_as", "expand_as", "type_as"}


def is_leaf(module: nn.Module) -> bool:
    """Whether ``module`` is one step of a graph: torch's own layers, and what a fold works on."""
    if isinstance(module, nn.Sequential) and not module._forward_hooks:
        return False
    return (
        type(module).__module__.startswith(("torch.nn.", "torch.ao.", "torch.jit."))
        or isinstance(module, LINEAR)
        or is_batchnorm(module)
        or isinstance(module, _drop_paths())
        or bool(module._forward_hooks or module._forward_pre_hooks)  # a hook may run any code
    )


def _drop_paths() -> tuple[type, ...]:
    """torchvision's, which torch.fx does not look into; others show what they do."""
    return loaded("torchvision.ops", "StochasticDepth")


def is_identity(module: nn.Module) -> bool:
    """Whether ``module`` hands its input on in eval mode."""
    hooked = module._forward_hooks or module._forward_pre_hooks
    kinds = (nn.Identity, _DropoutNd, *_drop_paths())
    changed = hooked or module.training or is_replaced(module)
    return isinstance(module, kinds) and not changed


def _reason(why: Exception) -> str:
    first = (str(why).splitlines() or [""])[0]
    return f"{type(why).__name__}: {first}"


class _FlatTracer(fx.Tracer):
    """One graph of torch's own layers and ``steps``."""

    def __init__(self, steps: Collection[nn.Module]) -> None:
        super().__init__(autowrap_modules=())
        self.steps = steps
        self.opaque: dict[nn.Module, str] = {}

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        path = self.path_of_module(m)
        if m in self.opaque or m in self.steps or is_leaf(m):
            return self.create_proxy("call_module", path, args, kwargs)
        before = len(self.graph.nodes)
        try:
            return forward(*args, **kwargs)
        except Exception as why:  # anything that a stranger's forward can raise
            self.opaque[m] = _reason(why)
            for node in list(self.graph.nodes)[: before - 1 : -1]:
                self.graph.erase_node(node)
            return self.create_proxy("call_module", path, args, kwargs)


class _NestedTracer(fx.Tracer):
    """A graph of each module's own forward, in which each child that it calls is one node.

    All in one pass: torch.fx patches much of torch before each, which takes longer than most
    forwards.
    """

    def __init__(self) -> None:
        super().__init__(autowrap_modules=())
        self.owner = ""  # path of the module whose graph is being drawn
        self.graphs: dict[nn.Module, fx.Graph] = {}
        self.opaque: dict[nn.Module, str] = {}
        self.inputs: dict[nn.Module, int] = {}

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        path = self.path_of_module(m)
        prefix = f"{self.owner}." if self.owner else ""
        if not path.startswith(prefix):
            raise NotTraceableError(f"it calls {path}, which is not a part of it")
        if not is_leaf(m) and m not in self.opaque:
            plain = not kwargs and all(isinstance(a, fx.Proxy) for a in args)
            inputs = len(args) if plain else -1
            if m not in self.inputs:
                self._draw(m, path, forward, args, kwargs)
            elif inputs != self.inputs[m]:
                self.graphs.pop(m, None)  # two ways to call it: no one graph
            self.inputs[m] = inputs
            if not plain:
                self.graphs.pop(m, None)
        return self.create_proxy("call_module", path[len(prefix) :], args, kwargs)

    def _draw(
        self,
        m: nn.Module,
        path: str,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        outer = self.root, self.graph, self.owner, self.tensor_attrs
        graph = fx.Graph(tracer_cls=type(self))
        names = iter(inspect.signature(m.forward).parameters)

        def placeholder(value: Any) -> Any:
            if isinstance(value, fx.Proxy):
                return self.create_proxy("placeholder", next(names, "x"), (), {})
            if isinstance(value, list | tuple) and type(value) in (list, tuple):
                return type(value)(placeholder(one) for one in value)
            return value

        self.root, self.graph, self.owner, self.tensor_attrs = m, graph, path, {}
        try:
            inner = [placeholder(a) for a in args]
            named = {name: placeholder(a) for name, a in kwargs.items()}
            result = self.create_arg(forward(*inner, **named))
            self.create_node("output", "output", (result,), {})
            if any(a.graph is not graph for node in graph.nodes for a in node.all_input_nodes):
                raise NotTraceableError("it reads values that are not handed to it")
        except Exception as why:  # anything that a stranger's forward can raise
            self.opaque[m] = _reason(why)
        else:
            self.graphs[m] = graph
        finally:
            self.root, self.graph, self.owner, self.tensor_attrs = outer

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return super().getattr(attr, attr_val, {})  # a stand-in belongs to one graph


def _trace(tracer: fx.Tracer, module: nn.Module) -> fx.Graph:
    if isinstance(module, CONTAINERS):
        raise NotTraceableError("it has no forward")
    # An argument with a default keeps it: the graph is that of a plain call.
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(module.forward).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    try:
        return tracer.trace(module, concrete_args=defaults or None)
    except Exception as why:  # anything that a stranger's forward can raise
        raise NotTraceableError(_reason(why)) from why


def trace_through(
    module: nn.Module, steps: Collection[nn.Module]
) -> tuple[fx.Graph, dict[nn.Module, str]]:
    """What ``module`` does down to torch's own layers and ``steps``; and the modules in it that
    could not be followed, which are one node each, with the reason.

    Raises:
        NotTraceableError: ``module`` itself cannot be followed.
    """
    tracer = _FlatTracer(steps)
    return _trace(tracer, module), tracer.opaque


def trace_each(module: nn.Module) -> dict[nn.Module, fx.Graph]:
    """For each module that ``module`` calls, itself too, what its own forward does; each child
    that it calls is one node.

    Absent are torch's own layers, modules that cannot be followed, and those that are called with
    more than tensors or in more than one way.
    """
    graphs: dict[nn.Module, fx.Graph] = {}
    waiting, done = [module], set()
    while waiting:
        root = waiting.pop()
        if root in done or root in graphs:
            continue
        done.add(root)
        if is_leaf(root) or isinstance(root, CONTAINERS):
            waiting += root.children()
            continue
        tracer = _NestedTracer()
        try:
            own = _trace(tracer, root)
        except NotTraceableError:
            waiting += root.children()
        else:
            graphs[root] = own
        graphs |= {m: graph for m, graph in tracer.graphs.items() if m not in graphs}
        for opaque in tracer.opaque:
            waiting += opaque.children()
    return graphs


def operation(node: fx.Node) -> str:
    """The name of what a node does, one for ``a + b``, ``torch.add(a, b)`` and ``a.add(b)``; an
    in-place form ends in ``_``."""
    if node.op == "call_method":
        return str(node.target)
    if node.op == "call_function":
        name = getattr(node.target, "__name__", str(node.target))
        in_place = {"iadd": "add_", "isub": "sub_", "imul": "mul_", "itruediv": "div_"}
        return in_place.get(name, name)
    return node.op


_OF_CONSTANTS = {
    "view", "reshape", "unsqueeze", "squeeze", "getitem", "flatten", "unflatten", "transpose",
    "permute", "contiguous", "clone", "detach", "float", "double", "neg", "add", "sub", "mul",
    "multiply", "truediv", "div", "pow", "sqrt", "rsqrt", "reciprocal", "exp", "abs", "square",
    "sigmoid", "tanh", "softplus",
}  # fmt: skip
"""What a constant may go through and stay one."""


def constant(root: nn.Module, argument: Any) -> Any:
    """The value of ``argument`` if it follows from attributes of ``root`` alone; None if it
    depends on an input. A number is its own value."""
    if not isinstance(argument, fx.Node):
        return argument
    if argument.op == "get_attr":
        owner: Any = root
        for name in str(argument.target).split("."):
            owner = getattr(owner, name)
        return owner
    known = argument.op in ("call_function", "call_method")
    if not known or operation(argument) not in _OF_CONSTANTS or not argument.all_input_nodes:
        return None
    values = {node: constant(root, node) for node in argument.all_input_nodes}
    if any(value is None for value in values.values()):
        return None
    args: Any = fx.node.map_arg(argument.args, values.__getitem__)
    named: Any = fx.node.map_arg(argument.kwargs, values.__getitem__)
    if argument.op == "call_method":
        return getattr(args[0], str(argument.target))(*args[1:], **named)
    assert callable(argument.target)
    return argument.target(*args, **named)


def reads_values(user: fx.Node, node: fx.Node) -> bool:
    """Whether ``user`` reads the values of ``node``, not only its shape or kind."""
    if user.op == "call_function" and user.target is getattr:
        return user.args[1] not in _ABOUT_SHAPE
    name = operation(user)
    if user.op == "call_method" and name in _ABOUT_SHAPE:
        return False
    if user.op == "call_method" and name in _SHAPED_LIKE:
        return user.args[0] is node
    return True


def may_write(user: fx.Node, module: nn.Module | None) -> bool:
    """Whether ``user``, a call of ``module`` if it is a call of one, may write into its input."""
    if module is not None:
        return bool(getattr(module, "inplace", False))
    name = operation(user)
    return (name.endswith("_") and not name.endswith("__")) or bool(user.kwargs.get("inplace"))


def describe(node: fx.Node, module: nn.Module | None) -> str:
    """``node``, a call of ``module`` if it is a call of one, in a message: by its kind, so that
    the same reason reads the same everywhere."""
    if module is not None:
        return type(module).__name__
    return {"placeholder": "the input", "output": "the output"}.get(node.op, operation(node))


_AVERAGES = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)


def moved_axis(
    node: fx.Node, axis: int, rank: int, module: nn.Module | None, *, point: bool = False
) -> int | None:
    """Where a reordering of dimensions, or an average over others, puts ``axis`` of its input,
    which has ``rank`` of them.

    Axes count from the last, which is -1. None if ``node`` does more, or merges the axis with
    another. ``module`` is what the node calls, if it calls one; ``point``, whether the dimensions
    after ``axis`` have one element each.
    """
    place = axis % rank
    if module is not None:
        if is_replaced(module):
            return None
        if isinstance(module, nn.Flatten):
            return _flattened(place, rank, module.start_dim, module.end_dim, point)
        space = _AVERAGES.index(type(module)) + 1 if type(module) in _AVERAGES else rank
        return axis if place < rank - space else None
    name, rest = operation(node), node.args[1:]
    if name in ("contiguous", "clone", "detach"):
        return axis
    if name == "flatten":
        start, stop = _arguments(node, start_dim=0, end_dim=-1)
        return _flattened(place, rank, start, stop, point)
    if name == "mean":
        dims, keep = _arguments(node, dim=None, keepdim=False)
        return _averaged(place, rank, [dims] if isinstance(dims, int) else dims, keep)
    if name in ("transpose", "swapaxes", "swapdims") and _ints(rest, 2):
        a, b = (int(one) % rank for one in rest)  # type: ignore[arg-type]
        return {a: b, b: a}.get(place, place) - rank
    if name == "permute":
        order = rest[0] if len(rest) == 1 else rest
        if isinstance(order, list | tuple) and _ints(order, rank):
            return [int(one) % rank for one in order].index(place) - rank
    return None


def _arguments(node: fx.Node, **defaults: Any) -> list[Any]:
    """The arguments after the first, by position or by name."""
    given = dict(zip(defaults, node.args[1:], strict=False)) | node.kwargs
    return [given.get(name, default) for name, default in defaults.items()]


def _ints(values: Any, count: int) -> bool:
    return len(values) == count and all(isinstance(one, int) for one in values)


def _flattened(place: int, rank: int, start: Any, stop: Any, point: bool) -> int | None:
    if not _ints((start, stop), 2):
        return None
    start, stop = start % rank, stop % rank
    merged = max(stop - start, 0)
    if merged and start <= place <= stop and not (point and start == place):
        return None
    after = place - merged if place > stop else place
    return after - (rank - merged)


def _averaged(place: int, rank: int, dims: Any, keep: Any) -> int | None:
    if not isinstance(dims, list | tuple) or not _ints(dims, len(dims)):
        return None
    gone = {dim % rank for dim in dims}
    if place in gone or not isinstance(keep, bool):
        return None
    if keep:
        return place - rank
    return place - sum(dim < place for dim in gone) - (rank - len(gone))


def source_axis(
    node: fx.Node, axis: int, rank: int, module: nn.Module | None, *, point: bool = False
) -> int | None:
    """The axis of ``node``'s input, of ``rank`` dimensions, that ``moved_axis`` puts at
    ``axis``."""
    for place in range(-rank, 0):
        if moved_axis(node, place, rank, module, point=point) == axis:
            return place
    return None
