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
    # before dispatch, so that layers in it stay whole
    traced: fx.GraphModule = make_fx(call, pre_dispatch=True)(*values)
    if shows_a_write(traced.graph):
        traced = make_fx(torch.func.functionalize(call))(*values)
    whole = [one for one in traced.graph.nodes if one.target is node.target]
    return None if whole else traced


def _decomposition(operator: torch._ops.OpOverload) -> Callable[..., Any] | None:
    table = _table()
    if operator in table:
        return table[operator]
    # a composite operator, whose own implementation is its decomposition
    if operator.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd):
        return operator.decompose
    return None


@cache
def _table() -> dict[Any, Callable[..., Any]]:
    """The functions by operator: ``torch.export``'s core table first, then what PyTorch has beyond
    it."""
    return {**decomposition_table, **dict(torch.export.default_decompositions().items())}
