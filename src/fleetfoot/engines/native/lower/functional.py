"""Programs in which nothing is written in place where another name would show it.

A network may write into a part of a tensor (``x[:, :c] = conv(x[:, :c])``) or through a view of it.
PyTorch's functionalisation turns each such write into a new value of the whole tensor:
``slice_scatter``, ``select_scatter``, ``index_put`` and similar. It traces the program anew, which
takes longer than the export, so a program without such writes stays as it is.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import fx

from fleetfoot.engines.base import quiet, reason
from fleetfoot.errors import EngineError


def functional(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """The program itself if ``lower`` can follow each of its writes in place, otherwise the
    functional one. Operators of a network's layers stay whole in both.

    Raises:
        EngineError: PyTorch cannot make it functional.
    """
    if not shows_a_write(program.graph):
        return program
    try:
        with quiet():
            return program.run_decompositions({})
    except Exception as error:  # tracing raises whatever it meets
        raise EngineError(
            "native cannot build the network: PyTorch cannot make its writes into views "
            f"functional ({reason(error)}). Write these parts with torch.cat or torch.where"
        ) from error


def shows_a_write(graph: fx.Graph) -> bool:
    """Whether some tensor is written in place of which a view is read later."""
    places = {node: i for i, node in enumerate(graph.nodes)}
    sharing: defaultdict[int, list[fx.Node]] = defaultdict(list)
    for node in graph.nodes:
        memory = storage(node)
        if memory is not None:
            sharing[memory].append(node)
        for changed in written(node):
            for other in sharing[storage(changed) or 0]:
                read_later = any(places[user] > places[node] for user in other.users)
                if other is not node and read_later and not same_place(other, changed):
                    return True
    return False


def written(node: fx.Node) -> list[fx.Node]:
    """The arguments whose elements an operator changes in place.

    ``transpose_`` and similar ones change only how a tensor is read, under one name.
    """
    schema = getattr(node.target, "_schema", None)
    if schema is None or not schema.is_mutable:
        return []
    if torch.Tag.inplace_view in getattr(node.target, "tags", ()):
        return []
    found: list[Any] = []
    for i, parameter in enumerate(schema.arguments):
        if parameter.alias_info is not None and parameter.alias_info.is_write:
            found.append(node.args[i] if i < len(node.args) else node.kwargs.get(parameter.name))
    return [argument for argument in found if isinstance(argument, fx.Node)]


def storage(node: fx.Node) -> int | None:
    """A number that the results of nodes which share memory have in common; None if the result is
    no tensor."""
    value = node.meta.get("val")
    return value.untyped_storage()._cdata if isinstance(value, torch.Tensor) else None


def same_place(a: fx.Node, b: fx.Node) -> bool:
    """Whether two results in one memory are the same elements in the same order."""
    first, second = a.meta["val"], b.meta["val"]
    return bool(
        (first.shape, first.stride(), first.storage_offset())
        == (second.shape, second.stride(), second.storage_offset())
    )
