"""PyTorch's own decompositions of operators that have no lowering here.

An operator is traced on the shapes of its arguments; what it consists of takes its place. The table
is ``torch.export``'s, from all of ATen to its core operators. Operators in it that have a lowering
of their own are never asked for: a convolution, a layer norm or an attention stays whole.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import fx
from torch._decomp import decomposition_table
from torch.fx.experimental.proxy_tensor import make_fx

from fleetfoot.engines.native.lower.functional import shows_a_write
from fleetfoot.engines.native.lower.operators import OPERATORS


def decomposed(node: fx.Node) -> fx.GraphModule | None:
    """What the operator of ``node`` consists of, as a graph whose inputs are the node's
    ``all_input_nodes``; None if PyTorch does not decompose it."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return None
    function = _decomposition(node.target)
    inputs = node.all_input_nodes
    if function is None or not all("val" in one.meta for one in inputs):
        return None

    def call(*values: Any) -> Any:
        known = dict(zip(inputs, values, strict=True))
        arguments: Any = fx.node.map_arg(node.args, known.__getitem__)
        named: Any = fx.node.map_arg(node.kwargs, known.__getitem__)
        return function(*arguments, **named)

    values = [one.meta["val"] for one in inputs]
    # a composite operator is traced to the core ones; in another's decomposition, layers stay whole
    composite = node.target.has_kernel_for_dispatch_key(_COMPOSITE)
    try:
        traced: fx.GraphModule = make_fx(call, pre_dispatch=not composite)(*values)
        if shows_a_write(traced.graph):
            traced = make_fx(torch.func.functionalize(call))(*values)
    except Exception:  # whatever tracing meets: the operator itself is what lacks
        return None
    targets = [one.target for one in traced.graph.nodes]
    return None if node.target in targets or any(map(_primitive, targets)) else traced


_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd


def _decomposition(operator: torch._ops.OpOverload) -> Callable[..., Any] | None:
    table = _table()
    if operator in table:
        return table[operator]
    return operator.decompose if operator.has_kernel_for_dispatch_key(_COMPOSITE) else None


def _primitive(target: Any) -> bool:
    """Whether an operator is one of PyTorch's own primitives, which are no ATen, and has no
    lowering: a name that says nothing to who reads that it lacks."""
    name = str(target)
    return name.startswith("prims.") and name not in OPERATORS


@cache
def _table() -> dict[Any, Callable[..., Any]]:
    """The functions by operator: ``torch.export``'s core table first, then what PyTorch has beyond
    it."""
    return {**decomposition_table, **dict(torch.export.default_decompositions().items())}
