"""The 1×1 that follows a depthwise convolution, read off a network's forward."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from torch import fx, nn

from fleetfoot.copying import copied, evaluated_
from fleetfoot.errors import NotTraceableError
from fleetfoot.transform.fold import is_batchnorm, is_replaced
from fleetfoot.transform.substitute import FollowingPointwise, kind_of
from fleetfoot.transform.trace import (
    CONTAINERS,
    is_identity,
    is_leaf,
    operation,
    trace_through,
)

_ACTIVATIONS = {
    "relu", "relu6", "hardtanh", "gelu", "silu", "hardswish", "hardsigmoid", "sigmoid", "tanh",
    "leaky_relu", "elu", "mish",
}  # fmt: skip
_ACTIVATION_MODULES = (
    nn.ReLU, nn.Hardtanh, nn.GELU, nn.SiLU, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.Tanh,
    nn.LeakyReLU, nn.ELU, nn.Mish,
)  # fmt: skip


def following_pointwise(
    net: nn.Module, *, across_activations: bool
) -> dict[str, FollowingPointwise]:
    """By path of a depthwise convolution: the dense 1×1 that alone reads it, where at most a batch
    norm stands between, or also an activation.

    Read off the forward of each part that can be followed, as ``fuse`` does; elsewhere there is
    none.
    """
    net = evaluated_(copied(net))
    places = Counter(module for _, module in net.named_modules(remove_duplicate=False))
    once = {module for module, count in places.items() if count == 1}
    found: dict[str, FollowingPointwise] = {}
    waiting: list[tuple[str, nn.Module]] = [("", net)]
    reached = set()
    while waiting:
        path, module = waiting.pop()
        if module in reached:
            continue
        reached.add(module)
        inside = [(f"{path}.{name}".lstrip("."), m) for name, m in module.named_children()]
        if is_leaf(module) or isinstance(module, CONTAINERS):
            waiting += inside
            continue
        try:
            graph, opaque = trace_through(module, ())
        except NotTraceableError:
            waiting += inside
            continue
        paths = {m: f"{path}.{name}".lstrip(".") for name, m in module.named_modules()}
        waiting += [(f"{paths[m]}.{name}", c) for m in opaque for name, c in m.named_children()]
        found |= _ones_in(graph, module, paths, once, across_activations)
    return found


def _ones_in(
    graph: fx.Graph,
    root: nn.Module,
    paths: Mapping[nn.Module, str],
    once: Collection[nn.Module],
    across_activations: bool,
) -> Iterator[tuple[str, FollowingPointwise]]:
    called = {n: root.get_submodule(str(n.target)) for n in graph.nodes if n.op == "call_module"}
    calls = Counter(called.values())
    for start, conv in called.items():
        alone = isinstance(conv, nn.Conv2d) and _replaceable_alone(conv)
        if not alone or calls[conv] > 1 or conv not in once:
            continue
        node, between = start, list[str]()
        while len(node.users) == 1:
            (node,) = node.users
            module = called.get(node)
            if module is None:
                if not (across_activations and operation(node).rstrip("_") in _ACTIVATIONS):
                    break
                between.append(operation(node))
            elif calls[module] > 1:
                break
            elif is_identity(module):
                continue
            elif _passes(module, across_activations):
                between.append(type(module).__name__)
            else:
                if _is_dense_one(module):
                    yield paths[conv], FollowingPointwise(paths[module], tuple(between))
                break


def _replaceable_alone(conv: Any) -> bool:
    """Whether a PConv alone has the shapes of ``conv``, a depthwise convolution."""
    same_shape = conv.in_channels == conv.out_channels and conv.stride == (1, 1)
    return kind_of(conv) == "depthwise" and same_shape


def _is_dense_one(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.groups == 1


def _passes(module: Any, across_activations: bool) -> bool:
    """Whether ``module`` works on each channel alone, as a batch norm or an activation."""
    if module._forward_hooks or module._forward_pre_hooks or is_replaced(module):
        return False
    if is_batchnorm(module):
        activation = getattr(module, "act", None)  # timm's, which hold theirs
        return activation is None or is_identity(activation) or across_activations
    return across_activations and isinstance(module, _ACTIVATION_MODULES)
