"""Read the data flow of a module, in eval mode, without running it.

torch.fx calls ``forward`` with stand-ins for tensors. Code whose path depends on the values or
sizes of its input fails on them, so a graph that comes back holds for every input.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Collection
from typing import Any

from torch import fx, nn
from torch.nn.modules.dropout import _DropoutNd

from fleetfoot.transform.fold import LINEAR, is_batchnorm

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
        or bool(module._forward_hooks or module._forward_pre_hooks)  # a hook may run any code
    )


def is_identity(module: nn.Module) -> bool:
    """Whether ``module`` hands its input on in eval mode."""
    hooked = module._forward_hooks or module._forward_pre_hooks
    return isinstance(module, nn.Identity | _DropoutNd) and not hooked and not module.training


class _Tracer(fx.Tracer):
    def __init__(self, is_step: Callable[[nn.Module], bool]) -> None:
        super().__init__()
        self.is_step = is_step
        self.opaque: dict[nn.Module, str] = {}

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        path = self.path_of_module(m)
        if m in self.opaque or self.is_step(m):
            return self.create_proxy("call_module", path, args, kwargs)
        before = len(self.graph.nodes)
        try:
            return forward(*args, **kwargs)
        except Exception as why:  # anything that a stranger's forward can raise
            self.opaque[m] = _reason(why)
            for node in list(self.graph.nodes)[: before - 1 : -1]:
                self.graph.erase_node(node)
            return self.create_proxy("call_module", path, args, kwargs)


def _reason(why: Exception) -> str:
    first = (str(why).splitlines() or [""])[0]
    return f"{type(why).__name__}: {first}"


class NotTraceableError(Exception):
    """A forward whose path depends on its input, or that torch.fx cannot follow."""


def _trace(tracer: _Tracer, module: nn.Module) -> fx.Graph:
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


def trace_own(module: nn.Module) -> fx.Graph:
    """What ``module``'s own forward does; each child that it calls is one node.

    Raises:
        NotTraceableError: see there.
    """
    return _trace(_Tracer(is_step=lambda child: True), module)


def trace_through(
    module: nn.Module, steps: Collection[nn.Module]
) -> tuple[fx.Graph, dict[nn.Module, str]]:
    """What ``module`` does down to torch's own layers and ``steps``; and the modules in it that
    could not be followed, which are one node each, with the reason.

    Raises:
        NotTraceableError: ``module`` itself cannot be followed.
    """
    tracer = _Tracer(is_step=lambda child: child in steps or is_leaf(child))
    return _trace(tracer, module), tracer.opaque


def operation(node: fx.Node) -> str:
    """The name of what a node does, one for ``a + b``, ``torch.add(a, b)`` and ``a.add(b)``; an
    in-place form ends in ``_``."""
    if node.op == "call_method":
        return str(node.target)
    if node.op == "call_function":
        name = getattr(node.target, "__name__", str(node.target))
        in_place = {operator.iadd: "add_", operator.isub: "sub_", operator.imul: "mul_"}
        return in_place.get(node.target, name)  # type: ignore[arg-type]
    return node.op


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


def describe(node: fx.Node, modules: Callable[[str], nn.Module]) -> str:
    """``node`` in a message."""
    if node.op == "call_module":
        return f"{node.target} ({type(modules(str(node.target))).__name__})"
    if node.op == "placeholder":
        return "an input"
    return operation(node)


def moved_axis(node: fx.Node, axis: int, rank: int, module: nn.Module | None) -> int | None:
    """Where a reordering of dimensions puts ``axis`` of its input, which has ``rank`` of them.

    Axes count from the last, which is -1. None if ``node`` reorders nothing or merges the axis
    with another. ``module`` is what the node calls, if it calls one.
    """
    place = axis % rank
    if module is not None:
        if not isinstance(module, nn.Flatten):
            return None
        return _flattened(place, rank, module.start_dim, module.end_dim)
    name, rest = operation(node), node.args[1:]
    if name in ("contiguous", "clone", "detach"):
        return axis
    named = dict(zip(("start_dim", "end_dim"), rest, strict=False)) | node.kwargs
    if name == "flatten":
        return _flattened(place, rank, named.get("start_dim", 0), named.get("end_dim", -1))
    if name in ("transpose", "swapaxes", "swapdims") and _ints(rest, 2):
        a, b = (int(one) % rank for one in rest)  # type: ignore[arg-type]
        return {a: b, b: a}.get(place, place) - rank
    if name == "permute":
        order = rest[0] if len(rest) == 1 else rest
        if isinstance(order, list | tuple) and _ints(order, rank):
            return [int(one) % rank for one in order].index(place) - rank  # type: ignore[arg-type]
    return None


def _ints(values: Any, count: int) -> bool:
    return len(values) == count and all(isinstance(one, int) for one in values)


def _flattened(place: int, rank: int, start: Any, stop: Any) -> int | None:
    if not _ints((start, stop), 2):
        return None
    start, stop = start % rank, stop % rank
    if start < stop and start <= place <= stop:
        return None
    after = place - (stop - start) if place > stop else place
    return after - (rank - (stop - start))


def source_axis(node: fx.Node, axis: int, rank: int, module: nn.Module | None) -> int | None:
    """The axis of ``node``'s input, of ``rank`` dimensions, that ``moved_axis`` puts at
    ``axis``."""
    for place in range(-rank, 0):
        if moved_axis(node, place, rank, module) == axis:
            return place
    return None

