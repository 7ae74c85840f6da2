"""Fuses pointwise nodes and pads into the convolutions next to them: fewer passes over the maps.

A convolution can end with ``post(act(conv(x * gate) + bias) + residual)`` at no cost, since its
sums are still in registers. Each rule below looks at one node and either leaves the graph as it is
or makes it smaller with the same result to float32 rounding; constants are folded in float64.

A convolution that takes over the work of a later node runs at that node's position, where all of
the node's operands exist.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from fleetfoot.engines.native.graph import Graph, Node, View, prune, windows_fit
from fleetfoot.engines.native.passes.flow import (
    CONVOLUTIONS,
    Flow,
    Use,
    aligned,
    constant,
    is_constant,
    legal,
    normalise,
    same_attributes,
    same_place,
    transferred,
    values,
)
from fleetfoot.engines.native.passes.transposed import takes_residual

Rule = Callable[[Graph, Flow, int], bool]
"""A rule: looks at one node, given by index, and returns whether it changed the graph."""


def fuse_nodes(graph: Graph) -> None:
    """Applies every rule wherever it matches. Changes the graph."""
    normalise(graph)
    for rule in (
        fold_pad,
        remove_copy,
        merge_copies,
        merge_scales,
        fold_scale_behind,
        fold_scale_before,
        fold_scale_of_product,
        fuse_activation,
        fuse_slopes,
        fuse_residual,
        fuse_activation,  # the one after the sum
        fuse_gate,
    ):
        sweep(graph, rule)
    prune(graph)


def sweep(graph: Graph, rule: Rule) -> None:
    """Applies one rule to each node until it changes nothing."""
    flow, index = Flow(graph), 0
    while index < len(graph.nodes):
        if rule(graph, flow, index):
            flow, index = Flow(graph), max(0, index - 2)
        else:
            index += 1


def fuse_activation(graph: Graph, flow: Flow, index: int) -> bool:
    """An activation after a convolution, or after an operation on two maps without one, is fused
    into it."""
    node = graph.nodes[index]
    if node.op != "unary":
        return False
    use = flow.only_reader(index, "x")
    if use is None or use.node.op not in (*CONVOLUTIONS, "binary"):
        return False
    producer = use.node
    if producer.op in CONVOLUTIONS:
        role = "post" if "act" in producer.attributes or "residual" in producer.inputs else "act"
    else:
        role = "act"
    if role in producer.attributes or (role == "post" and not takes_residual(producer)):
        return False
    out = _out(node, "x", producer)
    if out is None or not flow.movable(producer, use.index, index):
        return False
    attributes = same_attributes(producer, **{role: node.attributes["act"]})
    _merge(graph, use.index, index, _with(producer, out=out, attributes=attributes))
    return True


def fuse_slopes(graph: Graph, flow: Flow, index: int) -> bool:
    """A PReLU with a slope for each channel after a convolution becomes its activation."""
    node = graph.nodes[index]
    if node.op != "binary" or node.attributes["kind"] != "prelu" or "act" in node.attributes:
        return False
    use = flow.only_reader(index, "a")
    if use is None or use.node.op not in CONVOLUTIONS or not is_constant(node.inputs["b"]):
        return False
    conv = use.node
    if "residual" in conv.inputs or {"act", "post"} & conv.attributes.keys():
        return False
    found = aligned(node.inputs["a"], [node.inputs["b"], node.out], conv.out)
    if found is None or not legal(conv, "out", found[1]):
        return False
    slopes, out = found
    if any(n > 1 and s for n, s in zip(slopes.shape[:2], slopes.strides[:2], strict=True)):
        return False
    if not flow.movable(conv, use.index, index):
        return False
    slope = constant(slopes.tensor.name, values(slopes)[0, 0])
    attributes = same_attributes(conv, act=["prelu", 0.0, 0.0])
    merged = _with(conv, out=out, attributes=attributes, inputs={**conv.inputs, "slope": slope})
    _merge(graph, use.index, index, merged)
    return True


def fuse_residual(graph: Graph, flow: Flow, index: int) -> bool:
    """map + conv(...) becomes the convolution's residual if nothing else reads its result."""
    node = graph.nodes[index]
    if node.op != "binary" or node.attributes["kind"] != "add":
        return False
    found = [(use, role) for role in ("a", "b") if (use := flow.only_reader(index, role))]
    # Of two convolutions take the later one: it need not wait for the other.
    for use, role in sorted(found, key=lambda pair: -pair[0].index):
        producer = use.node
        if (
            producer.op not in CONVOLUTIONS
            or "residual" in producer.inputs
            or not takes_residual(producer)
            or "post" in producer.attributes
            or not flow.movable(producer, use.index, index)
        ):
            continue
        other = node.inputs["b" if role == "a" else "a"]
        views = aligned(node.inputs[role], [other, node.out], producer.out)
        if views is None:
            continue
        residual, out = views
        dimensions = zip(residual.shape, residual.strides, strict=True)
        broadcast = any(n > 1 and s == 0 for n, s in dimensions)
        if broadcast or not legal(producer, "residual", residual):
            continue
        if not legal(producer, "out", out):
            continue
        inputs = {**producer.inputs, "residual": residual}
        attributes = same_attributes(producer, post=node.attributes.get("act"))
        merged = _with(producer, out=out, attributes=attributes, inputs=inputs)
        _merge(graph, use.index, index, merged)
        return True
    return False


def fuse_gate(graph: Graph, flow: Flow, index: int) -> bool:
    """map * vector before a 1×1 convolution, as in squeeze-excitation, becomes its gate."""
    node = graph.nodes[index]
    if (
        node.op != "conv"
        or "gate" in node.inputs
        or node.attributes["groups"] != 1
        or list(node.attributes["kernel"]) != [1, 1]
        or any(node.attributes["padding"])
    ):
        return False
    use = flow.only_reader(index, "x")
    if use is None or use.node.op != "binary" or use.node.attributes["kind"] != "mul":
        return False
    product = use.node
    if "act" in product.attributes or not flow.movable(product, use.index, index):
        return False
    views = aligned(product.out, [product.inputs["a"], product.inputs["b"]], node.inputs["x"])
    if views is None:
        return False
    for x, gate in (views, views[::-1]):
        vector = _vector(gate)
        if vector is not None and legal(node, "x", x) and _vector(x) is None:
            node.inputs = {**node.inputs, "x": x, "gate": vector}
            node.merged += product.modules
            del graph.nodes[use.index]
            return True
    return False


def fold_scale_behind(graph: Graph, flow: Flow, index: int) -> bool:
    """* or + a constant for each channel after a convolution is folded into its weight and bias."""
    node = graph.nodes[index]
    if node.op not in ("unary", "binary"):
        return False
    for role in ("a", "b", "x"):
        use = flow.only_reader(index, role) if role in node.inputs else None
        if use is None or use.node.op not in CONVOLUTIONS:
            continue
        conv = use.node
        if "residual" in conv.inputs or {"act", "post"} & conv.attributes.keys():
            continue
        operand = {"a": "b", "b": "a", "x": ""}[role]
        views = [node.inputs[operand]] if operand else []
        found = aligned(node.inputs[role], [*views, node.out], conv.out)
        if found is None or not legal(conv, "out", found[-1]):
            continue
        line = _line(node, role, found[0] if operand else None, conv.out.shape[-1])
        if line is None or not flow.movable(conv, use.index, index):
            continue
        scale, shift = line
        weight = values(conv.inputs["weight"]).astype(np.float64)
        inputs = dict(conv.inputs)
        name = inputs["weight"].tensor.name
        if (scale != 1).any():
            scaled = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
            inputs["weight"] = constant(name, scaled)
        bias = shift
        if "bias" in inputs:
            bias = values(inputs["bias"]).reshape(-1).astype(np.float64) * scale + shift
        if bias.any() or "bias" in inputs:
            inputs["bias"] = constant(_bias_name(inputs, name), bias)
        attributes = same_attributes(conv, act=node.attributes.get("act") if operand else None)
        merged = _with(conv, out=found[-1], attributes=attributes, inputs=inputs)
        _merge(graph, use.index, index, merged)
        return True
    return False


def fold_scale_of_product(graph: Graph, flow: Flow, index: int) -> bool:
    """A product times a number, as attention scales its scores, takes the number as its factor."""
    node = graph.nodes[index]
    if node.op != "unary" or node.attributes["act"][0] != "scale" or node.attributes["act"][2] != 0:
        return False
    use = flow.only_reader(index, "x")
    if use is None or use.node.op != "matmul":
        return False
    product = use.node
    out = _out(node, "x", product)
    if out is None or not flow.movable(product, use.index, index):
        return False
    alpha = product.attributes["alpha"] * node.attributes["act"][1]
    _merge(graph, use.index, index, _with(product, out=out, attributes={"alpha": alpha}))
    return True


def fold_scale_before(graph: Graph, flow: Flow, index: int) -> bool:
    """* a constant for each channel before a convolution is folded into its weight; + a constant
    too, if the convolution has no pad."""
    conv = graph.nodes[index]
    if conv.op not in CONVOLUTIONS or "gate" in conv.inputs:
        return False
    use = flow.only_reader(index, "x")
    if use is None or use.node.op not in ("binary", "unary"):
        return False
    node = use.node
    if not flow.movable(node, use.index, index):
        return False
    if node.op == "binary" and "act" in node.attributes:
        return False
    for role in ("x",) if node.op == "unary" else ("a", "b"):
        operand = {"a": "b", "b": "a", "x": ""}[role]
        views = [node.inputs[operand]] if operand else []
        found = aligned(node.out, [node.inputs[role], *views], conv.inputs["x"])
        if found is None or not legal(conv, "x", found[0]):
            continue
        line = _line(node, role, found[1] if operand else None, found[0].shape[-1])
        if line is None or _is_repeated(found[0]):
            continue
        scale, shift = line
        if shift.any() and (conv.op == "transposed" or _is_padded(conv)):
            continue
        raw = conv.inputs["weight"]
        weight = values(raw).astype(np.float64)
        outputs, channels = weight.shape[0], len(scale)
        if conv.op == "depthwise":
            every = np.arange(outputs)[:, None] // conv.attributes["multiplier"]
        else:
            per_group = channels // conv.attributes["groups"]
            group = np.arange(outputs) // (outputs // conv.attributes["groups"])
            every = group[:, None] * per_group + np.arange(per_group)
        spread = (..., *[None] * (weight.ndim - 2))
        inputs = {**conv.inputs, "x": found[0]}
        inputs["weight"] = constant(raw.tensor.name, weight * scale[every][spread])
        if shift.any():
            bias = (weight * shift[every][spread]).reshape(outputs, -1).sum(1)
            if "bias" in inputs:
                bias = bias + values(inputs["bias"]).reshape(-1)
            inputs["bias"] = constant(_bias_name(inputs, raw.tensor.name), bias)
        conv.inputs = inputs
        conv.merged += node.modules
        del graph.nodes[use.index]
        return True
    return False


def merge_scales(graph: Graph, flow: Flow, index: int) -> bool:
    """a * (c * x + d) + b becomes a' * x + b'."""
    node = graph.nodes[index]
    if node.op != "unary" or node.attributes["act"][0] != "scale":
        return False
    use = flow.only_reader(index, "x")
    if use is None or use.node.op != "unary" or use.node.attributes["act"][0] != "scale":
        return False
    first, second = use.node.attributes["act"], node.attributes["act"]
    views = aligned(use.node.out, [use.node.inputs["x"]], node.inputs["x"])
    if views is None or not flow.movable(use.node, use.index, index):
        return False
    scale, shift = first[1] * second[1], first[2] * second[1] + second[2]
    node.attributes = same_attributes(node, act=["scale", scale, shift])
    node.inputs = {"x": views[0]}
    node.merged += use.node.modules
    del graph.nodes[use.index]
    return True


def fold_pad(graph: Graph, flow: Flow, index: int) -> bool:
    """A fill and a copy into its middle before a conv or pool become an attribute of that node."""
    node = graph.nodes[index]
    if node.op not in ("conv", "depthwise", "pool") or "x" not in node.inputs:
        return False
    padded = node.inputs["x"]
    writes = flow.writes(padded.tensor)
    copies = [use for use in writes if use.node.op == "copy"]
    fills = [use for use in writes if use.node.op == "fill"]
    if len(copies) != 1 or not fills or len(copies) + len(fills) != len(writes):
        return False
    if padded.tensor.kind != "arena" or copies[0].index < max(use.index for use in fills):
        return False
    fill = {float(use.node.attributes["value"]) for use in fills}
    neutral = -math.inf if node.op == "pool" and node.attributes["mode"] == "max" else 0.0
    if fill != {neutral}:
        return False
    copy = copies[0].node
    corner = _corner(padded, copy.out)
    if corner is None or not flow.movable(copy, copies[0].index, index):
        return False
    x = copy.inputs["x"]
    if not legal(node, "x", x) or any(
        s == 0 and n > 1 for n, s in zip(x.shape, x.strides, strict=True)
    ):
        return False
    top, left = corner
    before = node.attributes["padding"]
    reach = (before[0] + top, before[1] + left)
    if not windows_fit(node.op, x.shape, node.out.shape, node.attributes["stride"], reach):
        return False
    if node.op == "pool":
        if node.attributes["mode"] == "average" and any(before):
            return False  # one attribute cannot tell pads that count from pads that do not
        bottom = padded.shape[0] - x.shape[0] - top
        right = padded.shape[1] - x.shape[1] - left
        added = [a + b for a, b in zip(before, (top, left, bottom, right), strict=True)]
        changes = {"padding": added}
        if node.attributes["mode"] == "average":
            changes["count_include_pad"] = 1  # type: ignore[assignment]
        node.attributes = same_attributes(node, **changes)
    else:
        node.attributes = same_attributes(node, padding=[before[0] + top, before[1] + left])
    node.inputs = {**node.inputs, "x": x}
    node.merged += copy.modules
    if not flow.reads(padded.tensor)[1:]:  # nothing else reads the padded map
        for use in sorted(writes, key=lambda use: -use.index):
            del graph.nodes[use.index]
    return True


def remove_copy(graph: Graph, flow: Flow, index: int) -> bool:
    """Removes a copy whose readers can read its source instead."""
    node = graph.nodes[index]
    if node.op != "copy" or node.out.tensor.kind != "arena":
        return False
    x, out = node.inputs["x"], node.out
    if len(flow.writes(out.tensor)) != 1 or flow.written(x, index, len(graph.nodes)):
        return False
    order = sorted(range(len(x.shape)), key=lambda i: -out.strides[i])
    real = [x.strides[i] for i in order if x.shape[i] > 1]
    if x.tensor.kind in ("input", "constant") or real != sorted(real, reverse=True):
        return False  # its readers would jump in memory at each step
    if real and real[-1] != 1:
        return False
    moved: list[tuple[Use, View]] = []
    for use in flow.reads(out.tensor):
        view = transferred(use.view, out, x)
        if view is None or not legal(use.node, use.role, view):
            return False
        moved.append((use, view))
    for use, view in moved:
        use.node.inputs[use.role] = view
    del graph.nodes[index]
    return True


def merge_copies(graph: Graph, flow: Flow, index: int) -> bool:
    """Removes the second of two copies of one view."""
    node = graph.nodes[index]
    if node.op != "copy" or node.out.tensor.kind != "arena":
        return False
    x, out = node.inputs["x"], node.out
    if len(flow.writes(out.tensor)) != 1:
        return False
    for use in flow.reads(x):
        first = use.node
        if (
            use.index >= index
            or first.op != "copy"
            or first.out.tensor.kind != "arena"
            or len(flow.writes(first.out.tensor)) != 1
            or flow.written(x, use.index, index)
            or not same_place(first.inputs["x"], x)
            or first.out.strides != out.strides
        ):
            continue
        moved = [(r, transferred(r.view, out, first.out)) for r in flow.reads(out.tensor)]
        if any(view is None for _, view in moved):
            continue
        for read, view in moved:
            assert view is not None
            read.node.inputs[read.role] = view
        del graph.nodes[index]
        return True
    return False


def _with(
    node: Node, *, out: View, attributes: dict[str, object], inputs: dict[str, View] | None = None
) -> Node:
    return Node(
        op=node.op,
        inputs=dict(node.inputs) if inputs is None else inputs,
        out=out,
        attributes=attributes,
        name=node.name,
    )


def _merge(graph: Graph, early: int, late: int, merged: Node) -> None:
    """Replaces both nodes by ``merged``, at the later one's position."""
    merged.merged = (*graph.nodes[early].modules, *graph.nodes[late].modules)
    graph.nodes[late] = merged
    del graph.nodes[early]


def _out(node: Node, role: str, producer: Node) -> View | None:
    """The view into which ``producer`` must write to do the work of ``node``."""
    views = aligned(node.inputs[role], [node.out], producer.out)
    return views[0] if views and legal(producer, "out", views[0]) else None


def _vector(view: View) -> View | None:
    """The vector (C) of a map (H, W, C) that repeats one pixel; None for other maps."""
    if len(view.shape) != 3:
        return None
    sizes = zip(view.shape[:2], view.strides[:2], strict=True)
    if any(n > 1 and s for n, s in sizes) or (view.shape[2] > 1 and view.strides[2] != 1):
        return None
    if view.shape[0] * view.shape[1] == 1 and not is_constant(view) and view.strides[0]:
        return None  # in a map of one pixel, it cannot be seen which of the two operands repeats
    return View(view.tensor, view.shape[2:], (1,), view.offset)


def _is_repeated(view: View) -> bool:
    return any(n > 1 and s == 0 for n, s in zip(view.shape, view.strides, strict=True))


def _line(
    node: Node, role: str, operand: View | None, channels: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """(scale, shift), each (C) in float64, if the node is scale * x + shift in each of the
    convolution's C channels, of which ``operand`` is a map; else None."""
    if node.op == "unary":
        act, a, b = node.attributes["act"]
        if act == "neg":
            act, a, b = "scale", -1.0, 0.0
        if act != "scale":
            return None
        return np.full(channels, float(a)), np.full(channels, float(b))
    if node.op != "binary" or operand is None or not is_constant(operand):
        return None
    if any(n > 1 and s for n, s in zip(operand.shape[:2], operand.strides[:2], strict=True)):
        return None
    data = np.array(values(operand)[0, 0], dtype=np.float64)
    one, zero = np.ones_like(data), np.zeros_like(data)
    kind = node.attributes["kind"]
    if kind == "mul":
        return data, zero
    if kind == "add":
        return one, data
    if kind == "sub":
        return (one, -data) if role == "a" else (-one, data)
    if kind == "div" and role == "a" and data.all():
        return 1 / data, zero
    return None


def _bias_name(inputs: dict[str, View], weight: str) -> str:
    return inputs["bias"].tensor.name if "bias" in inputs else f"{weight}.bias"


def _is_padded(conv: Node) -> bool:
    """Whether a window reaches beyond the map, at any of its four sides."""
    x, out, attributes = conv.inputs["x"], conv.out, conv.attributes
    for i in (0, 1):
        before = attributes["padding"][i]
        reach = (attributes["kernel"][i] - 1) * attributes["dilation"][i]
        last = (out.shape[i] - 1) * attributes["stride"][i] - before + reach
        if before or last >= x.shape[i]:
            return True
    return False


def _corner(whole: View, part: View) -> tuple[int, int] | None:
    """(top, left) of a rectangle with all channels inside a map; None if it is not one."""
    if whole.shape[2:] != part.shape[2:] or len(part.shape) != 3 or len(whole.shape) != 3:
        return None
    distance = part.offset - whole.offset
    if part.tensor is not whole.tensor or distance < 0:
        return None
    row, pixel = whole.strides[:2]
    top, rest = divmod(distance, row)
    left, channel = divmod(rest, pixel)
    inside = top + part.shape[0] <= whole.shape[0] and left + part.shape[1] <= whole.shape[1]
    steps = [s for n, s in zip(part.shape, part.strides, strict=True) if n > 1]
    expected = [s for n, s in zip(part.shape, whole.strides, strict=True) if n > 1]
    return (top, left) if channel == 0 and inside and steps == expected else None
