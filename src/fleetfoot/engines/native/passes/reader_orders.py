"""How the readers of a map can take its channels in another order.

A convolution takes any order: its weights are permuted. A node that works on each channel alone
keeps the order, so its own readers must take it too. Nothing changes until all of them can: each
function here returns edits, or None.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fleetfoot.engines.native.graph import Node, View
from fleetfoot.engines.native.passes.flow import (
    Flow,
    Use,
    constant,
    is_constant,
    legal,
    values,
)
from fleetfoot.engines.native.passes.moves import Order, as_move

Edit = Callable[[], None]


def readers_take(flow: Flow, view: View, order: Order, window: View | None) -> list[Edit] | None:
    """Edits with which all readers of ``view`` take its channels in another order, in which the
    former channel order[i] is at place i; None if one reader cannot.

    ``window`` is the view that they read afterwards, if it is another.
    """
    edits: list[Edit] = []
    for use in flow.reads(view.tensor):
        found = _reader_takes(flow, use, view, order, window)
        if found is None:
            return None
        edits += found
    return edits


def _reader_takes(
    flow: Flow, use: Use, view: View, order: Order, window: View | None
) -> list[Edit] | None:
    node, role = use.node, use.role
    axis = _channel_axis(use.view, view, len(order))
    if axis is None:
        return None
    moved = use.view if window is None else _in_window(use.view, view, window)
    if moved is None or not legal(node, role, moved):
        return None
    if [v.tensor for v in node.inputs.values()].count(view.tensor) != 1:
        return None
    edits = _node_takes(flow, node, role, axis, order)
    return None if edits is None else [lambda: node.inputs.update({role: moved}), *edits]


def _channel_axis(seen: View, view: View, channels: int) -> int | None:
    """The dimension of ``seen`` that is the channels of the map ``view``; None if some channels are
    missing or another dimension does not step over whole pixels."""
    axes = [i for i, (n, s) in enumerate(zip(seen.shape, seen.strides, strict=True)) if s == 1]
    pixel = view.strides[1]
    if len(axes) != 1 or seen.shape[axes[0]] != channels or seen.offset % pixel:
        return None
    if any(s % pixel for i, s in enumerate(seen.strides) if i != axes[0]):
        return None
    return axes[0]


def _in_window(seen: View, view: View, window: View) -> View | None:
    """The view of the pixels in ``window`` that ``seen`` has in ``view``; None if there is none."""
    row, pixel = view.strides[0], view.strides[1]
    strides = []
    for n, s in zip(seen.shape, seen.strides, strict=True):
        if n == 1 or s == 1:
            strides.append(s)
        elif s % row == 0:
            strides.append(s // row * window.strides[0])
        elif row * window.strides[1] == window.strides[0] * pixel or n * s <= row:
            strides.append(s // pixel * window.strides[1])
        else:
            return None
    rows, rest = divmod(seen.offset, row)
    offset = window.offset + rows * window.strides[0] + rest // pixel * window.strides[1]
    return View(window.tensor, seen.shape, tuple(strides), offset)


def _node_takes(flow: Flow, node: Node, role: str, axis: int, order: Order) -> list[Edit] | None:
    """Edits of a node, and of the readers of its result if it keeps the order, apart from the view
    that it reads; ``axis`` is the dimension of the channels in that view."""
    if node.op == "binary":
        return _binary_takes(flow, node, "b" if role == "a" else "a", axis, order)
    if role != "x":
        return None
    if node.op == "conv" and axis == 2:
        if node.attributes["groups"] != 1 or "gate" in node.inputs:
            return None
        return [lambda: permute_inputs(node, order)]
    if node.op == "depthwise" and axis == 2:
        if node.attributes["multiplier"] != 1 or "residual" in node.inputs:
            return None
        after = _passed_on(flow, node, axis, order)
        return None if after is None else [lambda: permute_outputs(node, order), *after]
    if node.op == "reduce" and axis >= len(node.inputs[role].shape) - node.attributes["trailing"]:
        return []
    if node.op in ("unary", "pool", "reduce") or (node.op == "copy" and as_move(node) is not None):
        return _passed_on(flow, node, axis, order)
    return None


def _binary_takes(
    flow: Flow, node: Node, other_role: str, axis: int, order: Order
) -> list[Edit] | None:
    """Edits of an operation on a map and one value a channel, or one value for all channels."""
    other = node.inputs[other_role]
    after = _passed_on(flow, node, axis, order)
    if after is None or any(s for i, s in enumerate(other.strides) if i != axis):
        return None
    if not other.strides[axis]:
        return after
    if not is_constant(other):
        return None

    def permute_operand() -> None:
        vector = values(View(other.tensor, (len(order),), (other.strides[axis],), other.offset))
        permuted = constant(other.tensor.name, vector[np.array(order)]).tensor
        strides = tuple(int(i == axis) for i in range(len(other.shape)))
        node.inputs[other_role] = View(permuted, other.shape, strides, 0)

    return [permute_operand, *after]


def _passed_on(flow: Flow, node: Node, axis: int, order: Order) -> list[Edit] | None:
    """Edits of a node that keeps the order in dimension ``axis`` of its result: its own readers
    must take it."""
    out, channels = node.out, len(order)
    whole = out.tensor.kind == "arena" and out.tensor.size == out.size and not out.offset
    if not whole or len(flow.writes(out.tensor)) != 1 or (out.strides[axis] != 1 and channels > 1):
        return None
    others = [s for i, s in enumerate(out.strides) if i != axis and out.shape[i] > 1]
    if any(s % channels for s in others):
        return None
    row = channels if not others else max(others)
    as_map = View(out.tensor, (1, 1, channels), (row, channels, 1), 0)
    return readers_take(flow, as_map, order, None)


def permute_outputs(conv: Node, order: Order) -> None:
    """Makes a convolution write its former channel order[i] at place i."""
    for role in ("weight", "bias", "slope"):
        if role in conv.inputs:
            view = conv.inputs[role]
            data = values(view)[np.array(order)] if role == "weight" else values(view).reshape(-1)
            data = data if role == "weight" else data[np.array(order)]
            conv.inputs[role] = constant(view.tensor.name, data)


def permute_inputs(conv: Node, order: Order) -> None:
    """Makes a convolution read its former input channel order[i] at place i."""
    view = conv.inputs["weight"]
    conv.inputs["weight"] = constant(view.tensor.name, values(view)[:, np.array(order)])
