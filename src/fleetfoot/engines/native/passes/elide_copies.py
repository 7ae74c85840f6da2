"""Removes copies: results are written directly into their place in a concatenation or an output.

``elide_copies``: a map that is made only to be copied into a slice of a wider map (or into an
output) is made there directly, and its other readers read the slice.

``channels.py`` handles channel shuffles and splits.
"""

from __future__ import annotations

from fleetfoot.engines.native.graph import Graph, View, prune
from fleetfoot.engines.native.passes.channels import reorder_channels
from fleetfoot.engines.native.passes.flow import Flow, Use, legal, transferred
from fleetfoot.engines.native.passes.fuse_nodes import remove_copy, sweep


def elide_copies(graph: Graph) -> None:
    """Removes every copy whose source can be made in its place. Changes the graph."""
    sweep(graph, elide_copy)
    reorder_channels(graph)
    sweep(graph, remove_copy)
    sweep(graph, elide_copy)
    prune(graph)


def elide_copy(graph: Graph, flow: Flow, index: int) -> bool:
    """Removes a copy if its source can be made in the copy's place."""
    node = graph.nodes[index]
    if node.op != "copy" or node.inputs["x"].tensor.kind != "arena":
        return False
    x, out = node.inputs["x"], node.out
    source = x.tensor
    writes, reads = flow.writes(source), [u for u in flow.reads(source) if u.index != index]
    if not writes or max(use.index for use in writes) > index:
        return False
    begin = writes[0].index
    touched = [*flow.writes(out), *flow.reads(out)]
    if any(begin <= use.index < index for use in touched) or flow.written(
        out, index + 1, len(graph.nodes)
    ):
        return False
    moved: list[tuple[Use, View]] = []
    for use in (*writes, *reads):
        view = transferred(use.view, x, out)
        if view is None or not legal(use.node, use.role, view):
            return False
        if any(s == 1 != t for s, t in zip(use.view.strides, view.strides, strict=True)):
            return False  # channels would no longer lie next to each other
        if out.tensor.kind == "output" and use.role != "out":
            return False  # an output's memory belongs to the caller and is only written
        moved.append((use, view))
    for use, view in moved:
        if use.role == "out":
            use.node.out = view
        else:
            use.node.inputs[use.role] = view
    del graph.nodes[index]
    return True
