"""Nodes that only move channels of a map, represented as lists: result channel i is channel
order[i] of the source. ``channels.py`` decides which of them are needed.

H, W space · C channels
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fleetfoot.engines.native.graph import Graph, Node, View
from fleetfoot.engines.native.passes.flow import constant, is_constant, values

RUNS = 6
"""Largest number of runs of channels that are copied one by one; beyond it, one gather is cheaper:
a copy passes over all pixels for a few channels, a gather takes some 20 cycles for 16 channels."""

Order = list[int]


@dataclass(frozen=True)
class Move:
    """A node that copies channels of one map to another: out[..., i] = source[..., order[i]]."""

    node: Node
    source: View
    """View of all channels of the source's tensor, (H, W, C)."""
    order: Order
    out: View
    """View of the result, (H, W, len(order)), with contiguous channels."""


def lower_moves(graph: Graph) -> None:
    """Turns each remaining move into copies of a few runs of channels, or one gather. Changes the
    graph."""
    nodes: list[Node] = []
    for node in graph.nodes:
        move = as_move(node)
        if move is None:
            nodes.append(node)
            continue
        runs = runs_of(move.order)
        if len(runs) > RUNS:
            nodes.append(gathering(node.name, move.source, move.order, move.out))
            continue
        for begin, first, count in runs:
            x = slice_of(move.source, first, count)
            out = slice_of(move.out, begin, count)
            nodes.append(Node(op="copy", inputs={"x": x}, out=out, name=node.name))
    graph.nodes = nodes


def runs_of(order: Order) -> list[tuple[int, int, int]]:
    """(place, channel, count) of each run of consecutive channels."""
    runs: list[tuple[int, int, int]] = []
    for place, channel in enumerate(order):
        if runs and channel == runs[-1][1] + runs[-1][2]:
            runs[-1] = (runs[-1][0], runs[-1][1], runs[-1][2] + 1)
        else:
            runs.append((place, channel, 1))
    return runs


def gathering(name: str, source: View, order: Order, out: View) -> Node:
    """The gather node that performs a move."""
    index = constant(f"{name}.channels", np.array(order, dtype=np.int32))
    return Node(op="gather", inputs={"x": source, "index": index}, out=out, name=name)


def slice_of(view: View, begin: int, count: int) -> View:
    return View(view.tensor, (*view.shape[:2], count), view.strides, view.offset + begin)


def whole_of(view: View) -> View:
    """A view of all channels of the tensor that a map may be a slice of."""
    pixel = view.strides[1]
    shape = (view.shape[0], view.shape[1], pixel)
    return View(view.tensor, shape, view.strides, 0)


def as_move(node: Node) -> Move | None:
    """The node as a move of channels; None if it is not one between maps."""
    if node.op == "gather":
        x, index = node.inputs["x"], node.inputs["index"]
        if len(x.shape) != 3 or not is_constant(index) or not is_slice(node.out):
            return None
        if not is_slice(x):
            return None
        order = [x.offset % x.strides[1] + int(i) for i in values(index)]
        return Move(node, whole_of(x), order, node.out) if is_dense(whole_of(x)) else None
    if node.op != "copy" or len(node.out.shape) < 3:
        return None
    x, out = node.inputs["x"], node.out
    inner, outer = out.strides[2:], out.strides[:2]
    # The result's channels, possibly as several dimensions, in order and contiguous.
    count = 1
    for size, stride in zip(reversed(out.shape[2:]), reversed(inner), strict=True):
        if size > 1 and stride != count:
            return None
        count *= size
    result = View(out.tensor, (*out.shape[:2], count), (*outer, 1), out.offset)
    offsets = np.zeros((), dtype=np.int64)
    for size, stride in zip(x.shape[2:], x.strides[2:], strict=True):
        offsets = offsets[..., None] + np.arange(size) * stride
    pixel = x.strides[1]
    first = x.offset % pixel if pixel else 0
    order = [first + int(i) for i in offsets.reshape(-1)]
    source = View(x.tensor, (*x.shape[:2], pixel), (*x.strides[:2], 1), 0)
    if not is_slice(result) or not pixel or max(order) >= pixel or not is_dense(source):
        return None
    if x.offset >= pixel:
        return None
    return Move(node, source, order, result)


def is_slice(view: View) -> bool:
    """Whether a view may be a slice of the channels of all pixels of a dense map."""
    row, pixel, channel = view.strides
    return (
        (channel == 1 or view.shape[2] == 1)
        and row == view.shape[1] * pixel
        and view.offset + view.shape[2] <= pixel
    )


def is_dense(view: View) -> bool:
    return (
        view.strides == View.dense(view.tensor, view.shape).strides
        and view.tensor.size == view.size
    )
