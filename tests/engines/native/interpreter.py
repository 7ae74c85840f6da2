"""Runs a graph node by node in float64, the plain way: what each node of a plan means.

It is the oracle of the compiler's tests. Memory starts as NaN, so that reading what nobody has
written shows in the result; a view that leaves its tensor, a map whose channels do not lie together
and a node without the shapes that its operator asks for are assertions.

A strip runs its nodes one after the other, and a ring keeps all rows of its map.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from fleetfoot.engines.native.graph import PANEL, Graph, Node, Tensor, View


def interpret(graph: Graph, inputs: list[np.ndarray], *, arena: bool = False) -> list[np.ndarray]:
    """One picture's inputs, in the order and shapes of ``graph.inputs`` -> its outputs, float64.

    Args:
        arena: keep the arena's tensors at their offsets in one memory, as the engine does, instead
            of each in its own: shows two tensors that overlap while both are needed.
    """
    memory = _memory(graph, arena)
    for view, value in zip(graph.inputs, inputs, strict=True):
        assert view.shape == tuple(value.shape), (view.shape, value.shape)
        _at(memory, view).copy_(torch.as_tensor(value))
    for node in graph.nodes:
        _run(memory, node)
    return [_at(memory, view).numpy().copy() for view in graph.outputs]


Memory = dict[int, torch.Tensor]


def _memory(graph: Graph, arena: bool) -> Memory:
    """Each tensor's own 1-D stretch, by identity."""
    rows: dict[int, int] = {}  # a ring's memory here: as much as its views reach
    for view in graph.views():
        reach = (
            view.offset
            + 1
            + sum((n - 1) * s for n, s in zip(view.shape, view.strides, strict=False))
        )
        rows[id(view.tensor)] = max(rows.get(id(view.tensor), 0), reach)
    tensors = list(graph.tensors())
    end = max((t.offset // 4 + t.size for t in tensors if t.kind == "arena"), default=0)
    whole = torch.full((end if arena else 0,), math.nan, dtype=torch.float64)

    def stretch(tensor: Tensor) -> torch.Tensor:
        if tensor.kind == "constant":
            assert tensor.data is not None, f"constant {tensor.name} has no data"
            assert tensor.data.dtype in (np.float32, np.int32), tensor.name
            data = torch.from_numpy(np.ascontiguousarray(tensor.data)).flatten()
            assert len(data) == tensor.size, (tensor.name, len(data), tensor.size)
            return data.double() if data.is_floating_point() else data
        if arena and tensor.kind == "arena":
            assert tensor.offset % 64 == 0, tensor
            return whole[tensor.offset // 4 :][: tensor.size]
        size = rows[id(tensor)] if tensor.kind == "ring" else tensor.size
        return torch.full((size,), math.nan, dtype=torch.float64)

    return {id(tensor): stretch(tensor) for tensor in tensors}


def _at(memory: Memory, view: View) -> torch.Tensor:
    stretch = memory[id(view.tensor)]
    reach = view.offset + sum((n - 1) * s for n, s in zip(view.shape, view.strides, strict=True))
    assert view.offset >= 0, view
    assert reach < len(stretch), f"{view} leaves its tensor"
    assert min(view.strides, default=0) >= 0, view
    begin = stretch.storage_offset() + view.offset
    return torch.as_strided(stretch, view.shape, view.strides, begin)


def _map(memory: Memory, view: View) -> torch.Tensor:
    """(H, W, C) -> (1, C, H, W)."""
    assert len(view.shape) == 3, f"{view.shape} is no map"
    assert view.shape[2] == 1 or view.strides[2] == 1, f"strides {view.strides} of a map"
    return _at(memory, view).permute(2, 0, 1)[None]


def _run(memory: Memory, node: Node) -> None:
    if node.op == "strip":
        for inner in node.nodes:
            _run(memory, inner)
        return
    assert all(s > 0 or n == 1 for n, s in zip(node.out.shape, node.out.strides, strict=False)), (
        node
    )
    assert node.out.tensor.kind not in ("constant", "input"), node
    try:
        result = OPERATORS[node.op](memory, node)
        _at(memory, node.out).copy_(result.reshape(node.out.shape).clone())
    except (AssertionError, RuntimeError) as error:
        raise AssertionError(f"{node.op} of {node.name}: {error}") from error


def activate(x: torch.Tensor, act: list | None, slope: torch.Tensor | None = None) -> torch.Tensor:
    """``act`` as an attribute has it: a name and its two numbers, or None. ``slope`` broadcasts to
    ``x``."""
    if act is None:
        return x
    name, a, b = act[0], float(act[1]), float(act[2])
    plain: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "none": lambda x: x,
        "relu": F.relu,
        "relu6": F.relu6,
        "hardswish": F.hardswish,
        "hardsigmoid": F.hardsigmoid,
        "silu": F.silu,
        "gelu": F.gelu,
        "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "leaky_relu": lambda x: F.leaky_relu(x, a),
        "elu": lambda x: F.elu(x, a),
        "selu": F.selu,
        "mish": F.mish,
        "softplus": F.softplus,
        "clamp": lambda x: x.clamp(a, b),
        "abs": torch.abs,
        "exp": torch.exp,
        "log": torch.log,
        "sqrt": torch.sqrt,
        "rsqrt": torch.rsqrt,
        "neg": torch.neg,
        "reciprocal": torch.reciprocal,
        "square": torch.square,
        "erf": torch.erf,
        "scale": lambda x: a * x + b,
        "prelu": lambda x: _prelu(x, slope),
    }
    assert (slope is not None) == (name == "prelu"), "slopes of another activation"
    return plain[name](x)


def _prelu(x: torch.Tensor, slope: torch.Tensor | None) -> torch.Tensor:
    assert slope is not None, "prelu without slopes"
    return torch.where(x > 0, x, x * slope)


def _conv_weight(memory: Memory, node: Node, channels: int, groups: int) -> torch.Tensor:
    """Raw (N, C / groups, kh, kw) as it lies, or packed [groups][panels][K][16]."""
    view = node.inputs["weight"]
    weight, outputs = _at(memory, view), node.out.shape[2]
    kernel = tuple(node.attributes["kernel"])
    raw = (outputs, channels // groups, *kernel)
    if view.shape == raw:
        return weight
    panels = -(-outputs // groups // PANEL)
    depth = math.prod(raw[1:])
    assert view.size == groups * panels * depth * PANEL, (view.shape, raw)
    taps = weight.reshape(groups, panels, depth, PANEL).transpose(2, 3)  # g, panel, n, K
    rows = taps.reshape(groups, panels * PANEL, depth)
    assert not rows[:, outputs // groups :].any(), "padding of a packed weight is not zero"
    rows = rows[:, : outputs // groups].reshape(outputs, *kernel, channels // groups)
    return rows.permute(0, 3, 1, 2)


def _conv_vector(
    memory: Memory, node: Node, groups: int, role: str = "bias"
) -> torch.Tensor | None:
    """The bias or the slopes, as they lie or packed; None if there are none."""
    if role not in node.inputs:
        return None
    outputs = node.out.shape[2]
    bias = _at(memory, node.inputs[role]).reshape(-1)
    if len(bias) == outputs:
        return bias
    panels = -(-outputs // groups // PANEL)
    assert len(bias) == groups * panels * PANEL, (len(bias), outputs, groups)
    rows = bias.reshape(groups, -1)
    assert not rows[:, outputs // groups :].any(), "padding of a packed bias is not zero"
    return rows[:, : outputs // groups].reshape(-1)


def _depthwise_weight(memory: Memory, node: Node) -> torch.Tensor:
    """Raw (N, 1, kh, kw) as it lies, or packed [kh * kw][N up to 16]."""
    view = node.inputs["weight"]
    weight, outputs = _at(memory, view), node.out.shape[2]
    kernel = tuple(node.attributes["kernel"])
    if view.shape == (outputs, 1, *kernel):
        return weight
    padded = -(-outputs // PANEL) * PANEL
    assert view.size == math.prod(kernel) * padded, (view.shape, outputs, kernel)
    rows = weight.reshape(-1, padded)
    assert not rows[:, outputs:].any(), "padding of a packed weight is not zero"
    return rows[:, :outputs].T.reshape(outputs, 1, *kernel)


def _convolution(memory: Memory, node: Node) -> torch.Tensor:
    x, attributes = _map(memory, node.inputs["x"]), node.attributes
    if node.op == "transposed":
        weight, bias, slope = (
            _transposed_weight(memory, node, x.shape[1]),
            *(_conv_vector(memory, node, 1, role) for role in ("bias", "slope")),
        )
        x = _transposed(x, weight, node)
        x = x if bias is None else x + bias[:, None, None]
        return _finished(memory, node, x, slope)
    if "gate" in node.inputs:
        gate = node.inputs["gate"]
        assert gate.shape == (x.shape[1],), gate.shape
        assert gate.shape[0] == 1 or gate.strides == (1,), gate.strides
        x = x * _at(memory, gate)[:, None, None]
    if node.op == "depthwise":
        groups = x.shape[1]
        assert node.out.shape[2] == groups * attributes["multiplier"], node.out.shape
        weight, bias = _depthwise_weight(memory, node), _conv_vector(memory, node, 1)
        slope = _conv_vector(memory, node, 1, "slope")
    else:
        groups = attributes["groups"]
        weight = _conv_weight(memory, node, x.shape[1], groups)
        bias = _conv_vector(memory, node, groups)
        slope = _conv_vector(memory, node, groups, "slope")
    kernel, stride, dilation = (attributes[k] for k in ("kernel", "stride", "dilation"))
    padding: list[int] = []  # as F.pad wants it: last dimension first
    for i in (1, 0):
        before = attributes["padding"][i]
        span = (node.out.shape[i] - 1) * stride[i] + (kernel[i] - 1) * dilation[i] + 1
        padding += [before, span - x.shape[2 + i] - before]
    x = F.conv2d(F.pad(x, padding), weight, bias, stride=stride, dilation=dilation, groups=groups)
    return _finished(memory, node, x, slope)


def _transposed_weight(memory: Memory, node: Node, channels: int) -> torch.Tensor:
    """Raw (N, C / groups, kh, kw) as it lies, or packed [panels of (ky, kx, n)][C][16]."""
    view, outputs = node.inputs["weight"], node.out.shape[2]
    weight, kernel = _at(memory, view), tuple(node.attributes["kernel"])
    if len(view.shape) == 4:
        assert view.shape == (outputs, channels // node.attributes.get("groups", 1), *kernel)
        return weight
    taps = math.prod(kernel) * outputs
    rows = weight.reshape(-1, channels, PANEL).transpose(1, 2).reshape(-1, channels)
    assert len(rows) == -(-taps // PANEL) * PANEL, (view.shape, taps)
    assert not rows[taps:].any(), "padding of a packed weight is not zero"
    return rows[:taps].reshape(*kernel, outputs, channels).permute(2, 3, 0, 1)


def _transposed(x: torch.Tensor, weight: torch.Tensor, node: Node) -> torch.Tensor:
    """The sums of a transposed convolution, whose weight is (N, C / groups, kh, kw); outputs beyond
    those of PyTorch's are zeros."""
    attributes, groups = node.attributes, node.attributes.get("groups", 1)
    outputs, channels = weight.shape[:2]
    raw = weight.reshape(groups, outputs // groups, channels, *weight.shape[2:]).transpose(1, 2)
    raw = raw.reshape(groups * channels, outputs // groups, *weight.shape[2:])
    stride, dilation = attributes["stride"], attributes.get("dilation", 1)
    x = F.conv_transpose2d(x, raw, stride=stride, dilation=dilation, groups=groups)
    (top, left), (height, width) = attributes["padding"], node.out.shape[:2]
    return F.pad(x, (-left, width + left - x.shape[3], -top, height + top - x.shape[2]))


def _finished(
    memory: Memory, node: Node, x: torch.Tensor, slope: torch.Tensor | None
) -> torch.Tensor:
    """What a convolution does to its sums."""
    attributes = node.attributes
    out = activate(x[0].permute(1, 2, 0), attributes.get("act"), slope)
    if "residual" in node.inputs:
        assert node.inputs["residual"].shape == node.out.shape
        out = out + _map(memory, node.inputs["residual"])[0].permute(1, 2, 0)
    return activate(out, attributes.get("post"))


def _pool(memory: Memory, node: Node) -> torch.Tensor:
    x, attributes = _map(memory, node.inputs["x"]), node.attributes
    kernel, stride, dilation = (attributes[k] for k in ("kernel", "stride", "dilation"))
    top, left, bottom, right = attributes["padding"]
    reach = [
        (node.out.shape[i] - 1) * stride[i] + (kernel[i] - 1) * dilation[i] + 1 for i in (0, 1)
    ]

    def windows(x: torch.Tensor, fill: float, counted: bool) -> torch.Tensor:
        """(1, C, H, W) -> (H', W', C, kh, kw)"""
        x = F.pad(x, (left, right, top, bottom), value=1.0 if counted else fill)
        after = [reach[i] - x.shape[2 + i] for i in (0, 1)]
        x = F.pad(x, (0, max(after[1], 0), 0, max(after[0], 0)), value=fill)
        for i in (0, 1):
            x = x.unfold(2 + i, (kernel[i] - 1) * dilation[i] + 1, stride[i])
        x = x[..., :: dilation[0], :: dilation[1]]
        return x[0, :, : node.out.shape[0], : node.out.shape[1]].permute(1, 2, 0, 3, 4)

    if attributes["mode"] == "max":
        return windows(x, -math.inf, False).amax((3, 4))
    assert attributes["mode"] == "average", attributes
    total = windows(x, 0.0, False).sum((3, 4))
    return total / windows(torch.ones_like(x), 0.0, bool(attributes["count_include_pad"])).sum(
        (3, 4)
    )


def _matmul(memory: Memory, node: Node) -> torch.Tensor:
    a, b = (_at(memory, node.inputs[role]) for role in ("a", "b"))
    assert a.shape[:-2] == b.shape[:-2], (a.shape, b.shape)
    return node.attributes["alpha"] * (a @ b)


def _same_shape(memory: Memory, node: Node, role: str) -> torch.Tensor:
    view = node.inputs[role]
    assert view.shape == node.out.shape, f"{role} {view.shape}, out {node.out.shape}"
    return _at(memory, view)


def _unary(memory: Memory, node: Node) -> torch.Tensor:
    return activate(_same_shape(memory, node, "x"), node.attributes["act"])


def _binary(memory: Memory, node: Node) -> torch.Tensor:
    kind = {
        "add": torch.add,
        "sub": torch.sub,
        "mul": torch.mul,
        "div": torch.div,
        "max": torch.maximum,
        "min": torch.minimum,
        "pow": torch.pow,
        "prelu": _prelu,
    }[node.attributes["kind"]]
    a, b = (_same_shape(memory, node, role) for role in ("a", "b"))
    return activate(kind(a, b), node.attributes.get("act"))


def _softmax(memory: Memory, node: Node) -> torch.Tensor:
    return _same_shape(memory, node, "x").softmax(-1)


def _norm(memory: Memory, node: Node) -> torch.Tensor:
    x = _same_shape(memory, node, "x")
    mode, trailing, eps = (node.attributes[k] for k in ("mode", "trailing", "eps"))
    assert 1 <= trailing <= x.ndim, trailing
    over = tuple(range(-trailing, 0))
    if mode == "l2":
        assert set(node.inputs) == {"x"}, "an l2 norm has neither weight nor bias"
        return x / x.square().sum(over, keepdim=True).sqrt().clamp_min(eps)
    if mode == "layer":
        x = x - x.mean(over, keepdim=True)
    else:
        assert mode == "rms", mode
    x = x / (x.square().mean(over, keepdim=True) + eps).sqrt()
    if "weight" in node.inputs:
        x = x * _same_shape(memory, node, "weight")
    if "bias" in node.inputs:
        x = x + _same_shape(memory, node, "bias")
    return x


def _reduce(memory: Memory, node: Node) -> torch.Tensor:
    x, trailing = _at(memory, node.inputs["x"]), node.attributes["trailing"]
    assert 1 <= trailing <= x.ndim, trailing
    assert node.out.shape == tuple(x.shape[: x.ndim - trailing]), (node.out.shape, x.shape)
    over = tuple(range(-trailing, 0))
    kind = {"sum": torch.sum, "mean": torch.mean, "max": torch.amax, "min": torch.amin}
    return kind[node.attributes["kind"]](x, over)


def _copy(memory: Memory, node: Node) -> torch.Tensor:
    return _same_shape(memory, node, "x")


def _fill(memory: Memory, node: Node) -> torch.Tensor:
    return torch.full(node.out.shape, float(node.attributes["value"]), dtype=torch.float64)


def _gather(memory: Memory, node: Node) -> torch.Tensor:
    x, index = _at(memory, node.inputs["x"]), _at(memory, node.inputs["index"])
    assert index.dtype == torch.int32, index.dtype
    assert tuple(index.shape) == node.out.shape[-1:], (index.shape, node.out.shape)
    assert tuple(x.shape[:-1]) == node.out.shape[:-1], (x.shape, node.out.shape)
    return x[..., index.long()]


def _resize(memory: Memory, node: Node) -> torch.Tensor:
    x = _map(memory, node.inputs["x"])[0].permute(1, 2, 0)
    attributes = node.attributes
    rows, columns = (
        _resampling(
            x.shape[i],
            node.out.shape[i],
            attributes["mode"],
            bool(attributes["align_corners"]),
            attributes["scale"][i],
        )
        for i in (0, 1)
    )
    return torch.einsum("yh,xw,hwc->yxc", rows, columns, x)


def _resampling(size: int, out: int, mode: str, align: bool, scale: float) -> torch.Tensor:
    """(out, size): the weight of each input row in each output row."""
    matrix = torch.zeros(out, size, dtype=torch.float64)
    for y in range(out):
        if mode in ("nearest", "nearest_exact"):
            middle = 0.5 if mode == "nearest_exact" else 0.0
            matrix[y, min(math.floor((y + middle) * scale), size - 1)] = 1.0
            continue
        at = y * scale if align else (y + 0.5) * scale - 0.5
        if mode == "bilinear":
            at = max(at, 0.0)
        first = math.floor(at)
        t = at - first
        if mode == "bilinear":
            weights = {first: 1 - t, first + 1: t}
        else:
            assert mode == "bicubic", mode
            weights = {first + k: _cubic(abs(t - k)) for k in (-1, 0, 1, 2)}
        for row, weight in weights.items():
            matrix[y, min(max(row, 0), size - 1)] += weight
    return matrix


def _cubic(distance: float, a: float = -0.75) -> float:
    """Keys' kernel, with the constant that PyTorch uses."""
    if distance <= 1:
        return (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    return a * distance**3 - 5 * a * distance**2 + 8 * a * distance - 4 * a


def _resample(memory: Memory, node: Node) -> torch.Tensor:
    x = _map(memory, node.inputs["x"])[0].permute(1, 2, 0)
    axis, taps = node.attributes["axis"], node.attributes["taps"]
    weight, index = (_at(memory, node.inputs[role]) for role in ("weight", "index"))
    weight = weight.reshape(-1)[: node.out.shape[axis] * taps].reshape(-1, taps)
    table = torch.zeros(node.out.shape[axis], x.shape[axis], dtype=torch.float64)
    for row, first in enumerate(index.tolist()):
        assert 0 <= first <= x.shape[axis] - taps, (first, taps, x.shape)
        table[row, first : first + taps] = weight[row]
    return torch.einsum("yh,hwc->ywc" if axis == 0 else "xw,hwc->hxc", table, x)


def _sample(memory: Memory, node: Node) -> torch.Tensor:
    a = node.attributes
    grid = _map(memory, node.inputs["grid"]).permute(0, 2, 3, 1)
    out = F.grid_sample(
        _map(memory, node.inputs["x"]),
        grid,
        a["mode"],
        a["padding"],
        align_corners=bool(a["align_corners"]),
    )
    return out[0].permute(1, 2, 0)


def _typed(memory: Memory, view: View) -> torch.Tensor:
    """Whole numbers as int64; memory holds all numbers as float64."""
    x = _at(memory, view)
    return x.double() if view.tensor.type == "f32" else x.long()


LOGICAL = {"logical_and": torch.logical_and, "logical_or": torch.logical_or}
LOGICAL |= {"logical_xor": torch.logical_xor, "logical_not": torch.logical_not}
DIVISIONS = {"floor_divide": "floor", "trunc_divide": "trunc"}
FUNCTIONS = {"max": torch.maximum, "min": torch.minimum, "to_f32": lambda x: x.double()}
FUNCTIONS |= {"shift_left": torch.bitwise_left_shift, "shift_right": torch.bitwise_right_shift}
FUNCTIONS |= {"to_i32": lambda x: x.trunc(), "where": lambda c, a, b: torch.where(c != 0, a, b)}


def _elementwise(memory: Memory, node: Node) -> torch.Tensor:
    kind = node.attributes["kind"]
    for role in node.inputs:
        _same_shape(memory, node, role)
    operands = [_typed(memory, view) for view in node.inputs.values()]
    if kind in DIVISIONS:
        return torch.div(*operands, rounding_mode=DIVISIONS[kind])
    return (FUNCTIONS.get(kind) or LOGICAL.get(kind) or getattr(torch, kind))(*operands)


def _aggregate(memory: Memory, node: Node) -> torch.Tensor:
    x, trailing = _typed(memory, node.inputs["x"]), node.attributes["trailing"]
    assert node.out.shape == tuple(x.shape[: x.ndim - trailing]), (node.out.shape, x.shape)
    kind = {"max": "amax", "min": "amin"}.get(node.attributes["kind"], node.attributes["kind"])
    return getattr(torch, kind)(x.flatten(x.ndim - trailing), -1)


SCANS = {"sum": torch.cumsum, "prod": torch.cumprod, "logsumexp": torch.logcumsumexp}


def _scan(memory: Memory, node: Node) -> torch.Tensor:
    x, kind = _typed(memory, node.inputs["x"]), node.attributes["kind"]
    if kind in SCANS:
        return SCANS[kind](x, -1)
    extreme, _, place = kind.partition("_")
    return (torch.cummax if extreme == "max" else torch.cummin)(x, -1)[bool(place)]


def _sort(memory: Memory, node: Node) -> torch.Tensor:
    x = _typed(memory, node.inputs["x"])
    places = x.sort(-1, descending=bool(node.attributes["descending"]), stable=True)[1]
    return places[..., : node.out.shape[-1]]


def _place(memory: Memory, node: Node, size: int) -> torch.Tensor:
    index = _at(memory, node.inputs["index"]).long()
    if node.attributes["negative"]:
        index = torch.where(index < 0, index + size, index)
    assert (index >= 0).all(), index
    return index


def _take(memory: Memory, node: Node) -> torch.Tensor:
    x = _at(memory, node.inputs["x"])
    return x.gather(-1, _place(memory, node, x.shape[-1]))


def _scatter(memory: Memory, node: Node) -> torch.Tensor:
    x, source = (_typed(memory, node.inputs[role]) for role in ("x", "source"))
    index, kind = _place(memory, node, x.shape[-1]), node.attributes["kind"]
    if kind == "set":
        return x.scatter(-1, index, source)
    kinds = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}
    return x.scatter_reduce(-1, index, source, kinds[kind])


OPERATORS: dict[str, Callable[[Memory, Node], torch.Tensor]] = {
    "elementwise": _elementwise,
    "aggregate": _aggregate,
    "scan": _scan,
    "sort": _sort,
    "take": _take,
    "scatter": _scatter,
    "conv": _convolution,
    "depthwise": _convolution,
    "transposed": _convolution,
    "pool": _pool,
    "matmul": _matmul,
    "unary": _unary,
    "binary": _binary,
    "softmax": _softmax,
    "norm": _norm,
    "reduce": _reduce,
    "copy": _copy,
    "fill": _fill,
    "gather": _gather,
    "resize": _resize,
    "resample": _resample,
    "sample": _sample,
}
