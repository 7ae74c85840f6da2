"""Operators that read windows of a map: convolutions, poolings and resizing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from fleetfoot.engines.native.graph import View, windows_fit
from fleetfoot.engines.native.lower.builder import Builder
from fleetfoot.engines.native.lower.operators.arguments import Operand, constant, pair
from fleetfoot.engines.native.lower.operators.reductions import reduced
from fleetfoot.engines.native.lower.values import Value, channels_last
from fleetfoot.errors import LackingError

CHANNELS_LAST = channels_last(4)


@dataclass(frozen=True)
class Padded:
    """A map whose padding is done by the convolution or max pooling that reads it."""

    inner: Value
    before: tuple[int, int]
    after: tuple[int, int]


def unpadded(
    build: Builder,
    x: Value | Padded,
    op: str,
    stride: Sequence[int],
    padding: Sequence[int],
    value: float,
) -> tuple[Value, tuple[int, int], tuple[int, int]]:
    """The map that a node reads, and its padding before and after it: the node's own and that of a
    ``Padded`` map. If this is more than a kernel takes, the padded map is written out."""
    own = (padding[0], padding[1])
    if not isinstance(x, Padded):
        return x, own, own
    before = (padding[0] + x.before[0], padding[1] + x.before[1])
    if windows_fit(op, x.inner.shape[2:], build.shape[2:], stride, before):
        return x.inner, before, (padding[0] + x.after[0], padding[1] + x.after[1])
    sides = {2: (x.before[0], x.after[0]), 3: (x.before[1], x.after[1])}
    return filled(build, x.inner, sides, value), own, own


def convolution(
    build: Builder,
    x: Value | Padded,
    weight: Operand,
    bias: Operand | None,
    stride: int | Sequence[int],
    padding: int | Sequence[int] | str,
    dilation: int | Sequence[int],
    groups: int,
) -> Value:
    """Lowers conv2d, with weights as in PyTorch: (N, C / groups, kh, kw)."""
    weight = constant(weight, "a weight")
    kernel, stride, dilation = (weight.shape[2], weight.shape[3]), pair(stride), pair(dilation)
    if padding == "same":  # if the sum is odd, the larger part comes after
        before = tuple(d * (k - 1) // 2 for d, k in zip(dilation, kernel, strict=True))
    else:
        before = (0, 0) if isinstance(padding, str) else pair(padding)
    # What is missing after the map follows from the result's shape.
    x, before, _ = unpadded(build, x, "conv", stride, before, 0.0)
    channels = x.shape[1]
    attributes: dict[str, Any] = {
        "kernel": list(kernel),
        "stride": list(stride),
        "padding": list(before),
        "dilation": list(dilation),
    }
    if 1 < channels == groups:
        op, attributes["multiplier"] = "depthwise", weight.shape[0] // channels
    else:
        op, attributes["groups"] = "conv", groups
    roles = weights(build, weight, bias)
    out = build.fresh(build.shape, CHANNELS_LAST)
    for source, target in zip(build.maps(x), build.maps(out), strict=True):
        build.emit(op, {"x": source, **roles}, target, **attributes)
    return out


def transposed_convolution(
    build: Builder,
    x: Value,
    weight: Operand,
    bias: Operand | None,
    stride: int | Sequence[int],
    padding: int | Sequence[int],
    output_padding: int | Sequence[int],
    groups: int,
    dilation: int | Sequence[int],
) -> Value:
    """Lowers conv_transpose2d, with weights as in PyTorch: (C, N / groups, kh, kw). The result's
    shape shows the output padding. ``passes/transposed.py`` makes ordinary convolutions of it."""
    weight = constant(weight, "a weight")
    channels, outputs, *kernel = weight.shape
    split = weight.reshape(groups, channels // groups, outputs, *kernel).transpose(1, 2)
    split = split.reshape(groups * outputs, channels // groups, *kernel)
    out = build.fresh(build.shape, CHANNELS_LAST)
    roles = weights(build, split, bias)
    for source, target in zip(build.maps(x), build.maps(out), strict=True):
        build.emit(
            "transposed",
            {"x": source, **roles},
            target,
            kernel=list(kernel),
            stride=list(pair(stride)),
            padding=list(pair(padding)),
            dilation=list(pair(dilation)),
            groups=groups,
        )
    return out


def transposed_convolution_1d(
    build: Builder,
    x: Value,
    weight: Operand,
    bias: Operand | None,
    stride: Sequence[int],
    padding: Sequence[int],
    output_padding: Sequence[int],
    groups: int,
    dilation: Sequence[int],
) -> Value:
    """Lowers conv_transpose1d, as a conv_transpose2d over one row."""
    shape = build.shape
    build.shape = (*shape[:2], 1, shape[2])
    row = build.reshaped(x, (*x.shape[:2], 1, x.shape[2]))
    weight = constant(weight, "a weight").unsqueeze(2)
    s, p, added, d = (1, stride[0]), (0, padding[0]), (0, output_padding[0]), (1, dilation[0])
    out = transposed_convolution(build, row, weight, bias, s, p, added, groups, d)
    return build.reshaped(out, shape)


def weights(build: Builder, weight: torch.Tensor, bias: Operand | None) -> dict[str, View]:
    """The views of a layer's constants; those of a linear layer as for a 1x1 convolution."""
    shape = (*weight.shape, *[1] * (4 - weight.ndim))
    views = {"weight": View.dense(build.constant(weight, "weight").tensor, shape)}
    if bias is not None:
        bias = constant(bias, "a bias")
        views["bias"] = View.dense(build.constant(bias, "bias").tensor, tuple(bias.shape))
    return views


def convolution_1d(
    build: Builder,
    x: Value,
    weight: Operand,
    bias: Operand | None,
    stride: Sequence[int],
    padding: Sequence[int] | str,
    dilation: Sequence[int],
    groups: int,
) -> Value:
    """Lowers conv1d, as a conv2d over one row."""
    shape = build.shape
    build.shape = (*shape[:2], 1, shape[2])
    row = build.reshaped(x, (*x.shape[:2], 1, x.shape[2]))
    if not isinstance(padding, str):
        padding = (0, padding[0])
    weight = constant(weight, "a weight").unsqueeze(2)
    out = convolution(build, row, weight, bias, (1, stride[0]), padding, (1, dilation[0]), groups)
    return build.reshaped(out, shape)


def linear(build: Builder, x: Value, weight: Operand, bias: Operand | None) -> Value:
    """Lowers linear, as a 1x1 convolution over the rows of ``x``."""
    return as_linear(build, x, constant(weight, "a weight"), bias)


def as_linear(build: Builder, x: Value, weight: torch.Tensor, bias: Operand | None) -> Value:
    """A linear layer on ``x``: (..., K) by (N, K) -> (..., N)."""
    out = build.fresh((*x.shape[:-1], weight.shape[0]))
    source = build.rows(x)
    target = View.dense(out.tensor, (*source.shape[:2], weight.shape[0]))
    build.emit(
        "conv",
        {"x": source, **weights(build, weight, bias)},
        target,
        kernel=[1, 1],
        stride=[1, 1],
        padding=[0, 0],
        dilation=[1, 1],
        groups=1,
    )
    return out


def pooled(
    build: Builder,
    x: Value,
    mode: str,
    kernel: Sequence[int],
    stride: Sequence[int],
    *,
    before: Sequence[int] = (0, 0),
    after: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    count_include_pad: bool = False,
) -> Value:
    out = build.fresh(build.shape, CHANNELS_LAST)
    for source, target in zip(build.maps(x), build.maps(out), strict=True):
        build.emit(
            "pool",
            {"x": source},
            target,
            mode=mode,
            kernel=list(kernel),
            stride=list(stride),
            padding=[*before, *after],
            dilation=list(dilation),
            count_include_pad=int(count_include_pad),
        )
    return out


def max_pool(
    build: Builder,
    x: Value | Padded,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
) -> Value:
    """Lowers max pooling. The result's shape shows the effect of ``ceil_mode``: windows may reach
    beyond the padding."""
    stride = pair(stride or kernel)
    x, before, after = unpadded(build, x, "pool", stride, pair(padding), -math.inf)
    return pooled(
        build,
        x,
        "max",
        pair(kernel),
        stride,
        before=before,
        after=after,
        dilation=pair(dilation),
    )


def average_pool(
    build: Builder,
    x: Value,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
) -> Value:
    kernel, stride, padding = pair(kernel), pair(stride or kernel), pair(padding)
    if divisor is None:
        return pooled(
            build,
            x,
            "average",
            kernel,
            stride,
            before=padding,
            after=padding,
            count_include_pad=count_include_pad,
        )
    # a sum over the window, divided by one number wherever the window is
    channels = x.shape[1]
    weight = torch.full((channels, 1, *kernel), 1 / divisor)
    return convolution(build, x, weight, None, stride, padding, 1, channels)


def adaptive_average_pool(build: Builder, x: Value, size: Sequence[int]) -> Value:
    """Lowers adaptive_avg_pool2d; the result's shape shows the size."""
    return adaptive_pool(build, x, "average", "mean")


def adaptive_max_pool(build: Builder, x: Value, size: Sequence[int]) -> list[Value | None]:
    """Lowers adaptive_max_pool2d, of which only the values may be read."""
    return [adaptive_pool(build, x, "max", "max"), None]


def adaptive_pool(build: Builder, x: Value, mode: str, kind: str) -> Value:
    """Cell i of n covers rows floor(i H / n) to ceil((i + 1) H / n), and columns by the same
    formula."""
    if x.shape[2:] == (1, 1) or x.shape == build.shape:
        return x.expand(build.shape)
    if build.shape[2:] == (1, 1):
        return reduced(build, x, kind, (2, 3), keep=True)
    rows, columns = (
        [(i * have // cells, -(-(i + 1) * have // cells)) for i in range(cells)]
        for have, cells in zip(x.shape[2:], build.shape[2:], strict=True)
    )
    windows = [_window(rows), _window(columns)]
    if all(windows):
        kernel, stride = zip(*windows, strict=True)
        return pooled(build, x, mode, kernel, stride)
    out = build.fresh(build.shape, CHANNELS_LAST)
    for i, (top, bottom) in enumerate(rows):
        for j, (left, right) in enumerate(columns):
            cell = build.sliced(build.sliced(x, 2, top, bottom), 3, left, right)
            place = build.sliced(build.sliced(out, 2, i, i + 1), 3, j, j + 1)
            reduced(build, cell, kind, (2, 3), keep=True, into=place)
    return out


def _window(cells: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
    """Size and stride if all cells are equally large and equally spaced; else None."""
    sizes = {end - start for start, end in cells}
    steps = {after[0] - before[0] for before, after in pairwise(cells)} or {1}
    if len(sizes) > 1 or len(steps) > 1 or 0 in steps:
        return None
    return sizes.pop(), steps.pop()


def pad(
    build: Builder, x: Value, amounts: Sequence[int], mode: str, value: float | None
) -> Value | Padded:
    """Lowers pad: zeros, or ``value``, around ``x``.

    Other modes repeat rows of the map: one gather for each dimension.
    """
    if not any(amounts):
        return x
    rank = len(x.shape)
    sides = {rank - 1 - i // 2: tuple(amounts[i : i + 2]) for i in range(0, len(amounts), 2)}
    if mode != "constant":
        for dim, (low, high) in sides.items():
            x = gathered(build, x, dim, _source_rows(mode, x.shape[dim], low, high))
        return x
    if build.padding == (value or 0.0) and min(amounts) >= 0 and set(sides) <= {2, 3}:
        return Padded(
            x,
            (sides.get(2, (0, 0))[0], sides.get(3, (0, 0))[0]),
            (sides.get(2, (0, 0))[1], sides.get(3, (0, 0))[1]),
        )
    return filled(build, x, sides, float(value or 0.0))


def filled(build: Builder, x: Value, sides: Mapping[int, Sequence[int]], value: float) -> Value:
    """``x`` with ``value`` around it, (low, high) by dimension: a fill of the whole result, then a
    copy into its middle. Negative amounts cut instead."""
    shape, order = list(x.shape), x.order()
    for dim, amounts in sides.items():
        shape[dim] += sum(amounts)
    out = build.fresh(tuple(shape), order, type=x.tensor.type)
    if max(max(amounts) for amounts in sides.values()) > 0:
        if x.tensor.type == "f32":
            build.emit("fill", {}, build.align([out], order)[0], value=value)
        else:
            around = build.constant(torch.tensor(int(value)), "constant", type=x.tensor.type)
            build.write(around.expand(shape), out, order)
    if any(x.shape[dim] + min(low, 0) + min(high, 0) < 1 for dim, (low, high) in sides.items()):
        return out  # no part of the map is left
    place = out
    for dim, (low, high) in sides.items():
        have = x.shape[dim]
        x = build.sliced(x, dim, max(-low, 0), have - max(-high, 0))
        place = build.sliced(place, dim, max(low, 0), max(low, 0) + x.shape[dim])
    build.write(x, place, order)
    return out


def _source_rows(mode: str, size: int, low: int, high: int) -> torch.Tensor:
    """Index of the row, out of ``size``, that each padded row repeats."""
    rows = torch.arange(-low, size + high)
    if mode == "replicate":
        return rows.clamp(0, size - 1)
    if mode == "circular":
        return rows % size
    if mode != "reflect":
        raise LackingError(f"with mode {mode!r}")
    rows = rows.abs()
    return torch.where(rows < size, rows, 2 * (size - 1) - rows)


def gathered(build: Builder, x: Value, dim: int, index: torch.Tensor) -> Value:
    """A gather over dimension ``dim``: ``out[..., i, ...] = x[..., index[i], ...]``."""
    if len(x.dims[dim]) > 1:
        x = build.copy(x)
    rank, count = len(x.shape), len(index)
    others = [i for i in range(rank) if i != dim]
    order = tuple(i for i in x.order() if i != dim)
    shape = (*x.shape[:dim], count, *x.shape[dim + 1 :])
    out = build.fresh(shape, x.order(), type=x.tensor.type)
    lead = [Value(v.tensor, tuple(v.dims[i] for i in others), v.offset) for v in (x, out)]
    source, target = build.align(lead, [others.index(i) for i in order], rank=2)
    build.emit(
        "gather",
        {
            "x": _with_last(source, x.shape[dim], x.stride(dim)),
            "index": View.dense(build.constant(index, "index").tensor, (count,)),
        },
        _with_last(target, count, out.stride(dim)),
    )
    return out


def _with_last(view: View, size: int, stride: int) -> View:
    return View(view.tensor, (*view.shape, size), (*view.strides, stride or 1), view.offset)


OPERATORS: dict[str, Callable[..., Any]] = {
    "conv1d.default": convolution_1d,
    "conv2d.default": convolution,
    "conv2d.padding": convolution,
    "conv_transpose1d.default": transposed_convolution_1d,
    "conv_transpose2d.input": transposed_convolution,
    "linear.default": linear,
    "max_pool2d.default": max_pool,
    "avg_pool2d.default": average_pool,
    "adaptive_avg_pool2d.default": adaptive_average_pool,
    "pad.default": pad,
}
