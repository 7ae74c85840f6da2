"""Windows in one and three dimensions: convolutions and poolings, by those in two.

A row (B, C, L) is a map of height 1. A volume (B, C, D, H, W) is D maps; a pooling is one of each
map and then one along the depth, and a convolution is one of maps whose channels are those of all
slices that its window reads, one after the other. These are for networks that have a few such
layers; they cost more memory than kernels of their own would.

B batch · C channels · D depth · H W space
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch

from fleetfoot.engines.native.lower.builder import Builder
from fleetfoot.engines.native.lower.operators.arguments import Operand, constant, many
from fleetfoot.engines.native.lower.operators.windows import (
    adaptive_average_pool,
    adaptive_max_pool,
    adaptive_pool,
    average_pool,
    convolution,
    max_pool,
    transposed_convolution,
)
from fleetfoot.engines.native.lower.values import Value
from fleetfoot.engines.native.passes.transposed import phases


def row(function: Callable[..., Any], fill: Sequence[Any]) -> Callable[..., Any]:
    """Lowers a pooling in one dimension as ``function`` over one row.

    Args:
        fill: for each argument after x, what stands for the height before its number, or None if it
            is no size.
    """

    def lowered(build: Builder, x: Value, *arguments: Any) -> Any:
        shape = build.shape
        build.shape = (*shape[:2], 1, shape[2])
        two = []
        for argument, height in zip(arguments, (*fill, *[None] * len(arguments)), strict=False):
            sized = height is not None and not (isinstance(argument, Sequence) and not argument)
            two.append([height, *many(argument, 1)] if sized else argument)
        out = function(build, build.reshaped(x, (*x.shape[:2], 1, x.shape[2])), *two)
        if isinstance(out, list):
            return [build.reshaped(out[0], shape), *out[1:]]
        return build.reshaped(out, shape)

    return lowered


def slices_of(build: Builder, x: Value) -> Value:
    """(B, C, D, H, W) -> (B D, C, H, W)"""
    batch, channels, depth, height, width = x.shape
    return build.reshaped(x.permute((0, 2, 1, 3, 4)), (batch * depth, channels, height, width))


def volume_of(build: Builder, x: Value, batch: int) -> Value:
    """(B D, C, H, W) -> (B, C, D, H, W)"""
    count, channels, height, width = x.shape
    split = build.reshaped(x, (batch, count // batch, channels, height, width))
    return split.permute((0, 2, 1, 3, 4))


def _by_depth(
    build: Builder, x: Value, flat: Callable[[Value], Value], deep: Callable[[Value], Value]
) -> Value:
    """A pooling ``flat`` of each slice, then ``deep`` along the depth of maps (B, C, D, H W)."""
    batch, channels, depth, height, width = build.shape
    have = x.shape[2]
    build.shape = (batch * have, channels, height, width)
    x = volume_of(build, flat(slices_of(build, x)), batch)
    build.shape = (batch, channels, depth, height * width)
    out = deep(build.reshaped(x, (batch, channels, have, height * width)))
    return build.reshaped(out, (batch, channels, depth, height, width))


def max_pool_3d(
    build: Builder,
    x: Value,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
) -> Value:
    k, p, d = (many(n, 3) for n in (kernel, padding, dilation))
    s = many(stride or kernel, 3)

    def flat(x: Value) -> Value:
        return max_pool(build, x, k[1:], s[1:], p[1:], d[1:], ceil_mode)

    def deep(x: Value) -> Value:
        return max_pool(build, x, (k[0], 1), (s[0], 1), (p[0], 0), (d[0], 1), ceil_mode)

    return _by_depth(build, x, flat, deep)


def average_pool_3d(
    build: Builder,
    x: Value,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
) -> Value:
    k, p = many(kernel, 3), many(padding, 3)
    s = many(stride or kernel, 3)
    # of a divisor of the whole window, the depth's part is 1
    parts = (None, None) if divisor is None else (divisor, 1)

    def flat(x: Value) -> Value:
        return average_pool(build, x, k[1:], s[1:], p[1:], ceil_mode, count_include_pad, parts[0])

    def deep(x: Value) -> Value:
        window = ((k[0], 1), (s[0], 1), (p[0], 0))
        return average_pool(build, x, *window, ceil_mode, count_include_pad, parts[1])

    return _by_depth(build, x, flat, deep)


def adaptive_average_pool_3d(build: Builder, x: Value, size: Sequence[int]) -> Value:
    return _by_depth(
        build,
        x,
        lambda x: adaptive_average_pool(build, x, ()),
        lambda x: adaptive_average_pool(build, x, ()),
    )


def adaptive_max_pool_3d(build: Builder, x: Value, size: Sequence[int]) -> list[Value | None]:
    out = _by_depth(
        build,
        x,
        lambda x: adaptive_pool(build, x, "max", "max"),
        lambda x: adaptive_pool(build, x, "max", "max"),
    )
    return [out, None]


def convolution_3d(
    build: Builder,
    x: Value,
    weight: Operand,
    bias: Operand | None,
    stride: Sequence[int],
    padding: Sequence[int] | str,
    dilation: Sequence[int],
    groups: int,
) -> Value:
    """Lowers conv3d, with weights (N, C / groups, kd, kh, kw)."""
    weight = constant(weight, "a weight")
    kernel, s, d = weight.shape[2:], many(stride, 3), many(dilation, 3)
    if padding == "same":
        p = tuple(n * (k - 1) // 2 for n, k in zip(d, kernel, strict=True))
    else:
        p = (0, 0, 0) if isinstance(padding, str) else many(padding, 3)
    batch, outputs, depth, height, width = build.shape
    reads = [(tap * d[0] - p[0], s[0]) for tap in range(kernel[0])]
    maps = _gathered_slices(build, x, reads, depth, groups)
    flat = weight.transpose(1, 2).reshape(weight.shape[0], -1, *kernel[1:])
    build.shape = (batch * depth, outputs, height, width)
    where = "same" if padding == "same" else p[1:]
    out = convolution(build, maps, flat, bias, s[1:], where, d[1:], groups)
    return volume_of(build, out, batch)


def _gathered_slices(
    build: Builder, x: Value, reads: Sequence[tuple[int, int]], count: int, groups: int
) -> Value:
    """(B, C, D, H, W) -> (B count, groups len(reads) C / groups, H, W): for output slice i and each
    (first, step) of ``reads``, the channels of slice first + step i, or zeros if there is none."""
    batch, channels, depth, height, width = x.shape
    if reads == [(0, 1)] and count == depth:
        return slices_of(build, x)
    shape = (batch, count, groups, len(reads), channels // groups, height, width)
    order = (0, 1, 5, 6, 2, 3, 4)
    out = build.fresh(shape, order)
    x = build.reshaped(x, (batch, groups, channels // groups, depth, height, width))
    for tap, (first, step) in enumerate(reads):
        inside = [i for i in range(count) if 0 <= first + step * i < depth]
        place = build.sliced(out, 3, tap, tap + 1)
        begin, end = (inside[0], inside[-1] + 1) if inside else (count, count)
        for low, high in ((0, begin), (end, count)):
            if low < high:
                part = build.sliced(place, 1, low, high)
                build.emit("fill", {}, build.align([part], order)[0], value=0.0)
        if not inside:
            continue
        start = first + step * begin
        source = build.sliced(x, 3, start, first + step * (end - 1) + 1, step)
        source = source.permute((0, 3, 1, 2, 4, 5))  # (B, count, groups, C / groups, H, W)
        source = build.reshaped(
            source, (batch, end - begin, groups, 1, channels // groups, height, width)
        )
        build.write(source, build.sliced(place, 1, begin, end), order)
    return build.reshaped(out, (batch * count, len(reads) * channels, height, width))


def transposed_convolution_3d(
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
    """Lowers conv_transpose3d, with weights (C, N / groups, kd, kh, kw), phase by phase of the
    depth; see ``passes/transposed.py``."""
    weight = constant(weight, "a weight")
    s, p, d = (many(n, 3) for n in (stride, padding, dilation))
    channels, per_group, *kernel = weight.shape
    batch, outputs, depth, height, width = build.shape
    out = build.fresh(build.shape, (0, 2, 3, 4, 1))
    for phase in phases(x.shape[2], depth, kernel[0], s[0], p[0], d[0]):
        last = phase.first + (phase.count - 1) * s[0] + 1
        place = build.sliced(out, 2, phase.first, last, s[0])
        if not phase.taps:
            vector = torch.zeros(outputs) if bias is None else constant(bias, "a bias")
            plain = build.constant(vector.reshape(1, -1, 1, 1, 1), "bias").expand(place.shape)
            build.write(plain, place, (0, 2, 3, 4, 1))
            continue
        reads = [(phase.offset + i * phase.dilation, 1) for i in range(len(phase.taps))]
        maps = _gathered_slices(build, x, reads, phase.count, groups)
        # each group's channels, slice by slice
        taps = weight[:, :, list(phase.taps)].reshape(
            groups, channels // groups, per_group, len(reads), *kernel[1:]
        )
        flat = taps.permute(0, 3, 1, 2, 4, 5).reshape(-1, per_group, *kernel[1:])
        build.shape = (batch * phase.count, outputs, height, width)
        part = transposed_convolution(build, maps, flat, bias, s[1:], p[1:], (0, 0), groups, d[1:])
        build.write(volume_of(build, part, batch), place, (0, 2, 3, 4, 1))
    return out


def unfold(
    build: Builder,
    x: Value,
    kernel: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    stride: Sequence[int],
) -> Value:
    """Lowers im2col: (B, C, H, W) -> (B, C kh kw, windows)."""
    k, d, p, s = (many(n, 2) for n in (kernel, dilation, padding, stride))
    batch, channels = x.shape[:2]
    counts = _window_counts(x.shape[2:], k, d, p, s)
    x = _padded(build, x, p)
    order = (0, 4, 5, 2, 3, 1)
    out = build.fresh((batch, channels, *k, *counts), order)
    for i in range(k[0]):
        for j in range(k[1]):
            part = x
            for dim, tap in ((2, i), (3, j)):
                at, step, count = tap * d[dim - 2], s[dim - 2], counts[dim - 2]
                part = build.sliced(part, dim, at, at + (count - 1) * step + 1, step)
            place = build.sliced(build.sliced(out, 2, i, i + 1), 3, j, j + 1)
            build.write(build.reshaped(part, place.shape), place, order)
    return build.reshaped(out, build.shape)


def fold(
    build: Builder,
    x: Value,
    size: Sequence[int],
    kernel: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    stride: Sequence[int],
) -> Value:
    """Lowers col2im: the sum of windows (B, C kh kw, windows) in their places: (B, C, H, W)."""
    k, d, p, s = (many(n, 2) for n in (kernel, dilation, padding, stride))
    batch, channels = build.shape[:2]
    counts = _window_counts(size, k, d, p, s)
    windows = build.reshaped(x, (batch, channels, *k, *counts))
    shape = (batch, channels, size[0] + 2 * p[0], size[1] + 2 * p[1])
    total: Value | None = None
    order = (0, 2, 3, 1)
    for i in range(k[0]):
        for j in range(k[1]):
            part = windows.select(3, j).select(2, i)
            spread = build.fresh(shape, order)
            build.emit("fill", {}, build.align([spread], order)[0], value=0.0)
            place = spread
            for dim, tap in ((2, i), (3, j)):
                at, step, count = tap * d[dim - 2], s[dim - 2], counts[dim - 2]
                place = build.sliced(place, dim, at, at + (count - 1) * step + 1, step)
            build.write(part, place, order)
            total = spread if total is None else _sum(build, total, spread)
    assert total is not None, "a kernel has a tap"
    for dim in (2, 3):
        total = build.sliced(total, dim, p[dim - 2], p[dim - 2] + size[dim - 2])
    return total


def _sum(build: Builder, a: Value, b: Value) -> Value:
    return build.elementwise("binary", {"a": a, "b": b}, shape=a.shape, kind="add")


def _window_counts(
    size: Sequence[int],
    kernel: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    stride: Sequence[int],
) -> tuple[int, int]:
    rows, columns = (
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, d, p, s in zip(size, kernel, dilation, padding, stride, strict=True)
    )
    return rows, columns


def _padded(build: Builder, x: Value, padding: Sequence[int]) -> Value:
    """A map with zeros around it."""
    if not any(padding):
        return x
    batch, channels, height, width = x.shape
    order = (0, 2, 3, 1)
    shape = (batch, channels, height + 2 * padding[0], width + 2 * padding[1])
    out = build.fresh(shape, order)
    build.emit("fill", {}, build.align([out], order)[0], value=0.0)
    place = build.sliced(out, 2, padding[0], padding[0] + height)
    build.write(x, build.sliced(place, 3, padding[1], padding[1] + width), order)
    return out


def max_pool_with_indices(
    function: Callable[..., Value],
) -> Callable[..., list[Value | None]]:
    """Lowers a max pooling that also gives indices, of which only the values may be read."""

    def lowered(build: Builder, *arguments: Any) -> list[Value | None]:
        return [function(build, *arguments), None]

    return lowered


MAX_ROW = row(max_pool, (1, 1, 0, 1))

OPERATORS: dict[str, Callable[..., Any]] = {
    "max_pool1d.default": MAX_ROW,
    "max_pool3d.default": max_pool_3d,
    "max_pool1d_with_indices.default": max_pool_with_indices(MAX_ROW),
    "max_pool2d_with_indices.default": max_pool_with_indices(max_pool),
    "max_pool3d_with_indices.default": max_pool_with_indices(max_pool_3d),
    "avg_pool1d.default": row(functools.partial(average_pool, divisor=None), (1, 1, 0)),
    "avg_pool3d.default": average_pool_3d,
    "adaptive_avg_pool1d.default": row(adaptive_average_pool, (1,)),
    "adaptive_avg_pool3d.default": adaptive_average_pool_3d,
    "adaptive_max_pool1d.default": row(adaptive_max_pool, (1,)),
    "adaptive_max_pool2d.default": adaptive_max_pool,
    "adaptive_max_pool3d.default": adaptive_max_pool_3d,
    "conv3d.default": convolution_3d,
    "conv3d.padding": convolution_3d,
    "conv_transpose3d.input": transposed_convolution_3d,
    "im2col.default": unfold,
    "col2im.default": fold,
}
