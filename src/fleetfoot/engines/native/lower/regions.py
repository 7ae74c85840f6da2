"""Regions of an exported program that change nothing at inference: their operators stand where the
region stood.

``torch.export`` keeps what a forward runs under ``torch.autocast`` or ``torch.no_grad`` as a call
of a program of its own. Without a gradient, and if autocast is off or speaks of another device,
such a region is what is in it.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

from fleetfoot.errors import EngineError

_AUTOCAST, _GRAD = "wrap_with_autocast", "wrap_with_set_grad_enabled"
_REGIONS = {_AUTOCAST: 4, _GRAD: 1}
"""By the name of the operator that runs one: the place of its program among the arguments; what the
program reads follows."""


def inline_regions_(program: torch.export.ExportedProgram) -> None:
    """Puts the operators of each region without effect in its place, regions in it too.

    Raises:
        EngineError: a region computes in another type.
    """
    root = program.graph_module
    while regions := [node for node in root.graph.nodes if _kind(node) in _REGIONS]:
        for node in regions:
            _inline_(root, node)
    for node in reversed(list(root.graph.nodes)):
        if node.op == "get_attr" and not node.users:
            root.graph.erase_node(node)
    root.recompile()


def _kind(node: fx.Node) -> str:
    return getattr(node.target, "__name__", "") if node.op == "call_function" else ""


def _inline_(root: fx.GraphModule, node: fx.Node) -> None:
    place = _REGIONS[_kind(node)]
    settings, called, given = node.args[:place], node.args[place], node.args[place + 1 :]
    if _kind(node) == _AUTOCAST:
        device, dtype, enabled = settings[:3]
        if enabled and device == "cpu":
            kind = str(dtype).removeprefix("torch.")
            raise EngineError(
                f"native computes in float32, and a part of the network runs under autocast in "
                f"{kind}. Take torch.autocast out of its forward, or run it with another engine"
            )
    assert isinstance(called, fx.Node)
    body = root.get_submodule(str(called.target))
    assert isinstance(body, fx.GraphModule)
    inner: dict[fx.Node, Any] = {}
    inputs = iter(given)
    answers: Any = ()
    with root.graph.inserting_before(node):
        for one in body.graph.nodes:
            if one.op == "placeholder":
                inner[one] = next(inputs)
            elif one.op == "output":
                answers = fx.node.map_arg(one.args[0], lambda n: inner[n])
            else:
                inner[one] = root.graph.node_copy(one, lambda n: inner[n])
                if one.op == "get_attr":
                    inner[one].target = _adopted(root, body, str(one.target))
    for reader in list(node.users):
        assert reader.target is operator.getitem, "a region answers with a tuple"
        reader.replace_all_uses_with(answers[reader.args[1]])
        root.graph.erase_node(reader)
    root.graph.erase_node(node)


def _adopted(root: fx.GraphModule, body: fx.GraphModule, name: str) -> str:
    """The name under which ``root`` holds what ``body`` holds as ``name``."""
    owner, _, last = name.rpartition(".")
    value = getattr(body.get_submodule(owner), last)
    free = f"inlined_{last}"
    while hasattr(root, free):
        free += "_"
    setattr(root, free, value)
    return free
