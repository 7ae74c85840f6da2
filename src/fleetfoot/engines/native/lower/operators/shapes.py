"""Views, and operators that move elements without changing them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from fleetfoot.engines.native.lower.builder import Builder
from fleetfoot.engines.native.lower.operators.arguments import Operand, positive
from fleetfoot.engines.native.lower.operators.types import as_type, named
from fleetfoot.engines.native.lower.values import Value, merged
from fleetfoot.errors import LackingError


def same(build: Builder, x: Value, *ignored: Any) -> Value:
    """Lowers operators without effect here: dropout, copies in another layout."""
    return x


def reshape(build: Builder, x: Value, *ignored: Any) -> Value:
    """Lowers view, flatten, unflatten, squeeze, unsqueeze: PyTorch has computed the shape."""
    return build.reshaped(x, build.shape)


def filled(value: float) -> Callable[..., torch.Tensor]:
    """Lowers zeros_like, new_ones and similar: constants of which PyTorch has computed all but the
    value."""

    def lowered(build: Builder, x: Value, *ignored: Any) -> torch.Tensor:
        return torch.full(build.shape, value, dtype=build.dtype)

    return lowered


def full(build: Builder, x: Value, *arguments: Any) -> torch.Tensor:
    """Lowers full_like (x, value, ...) and new_full (x, shape, value, ...)."""
    value = next(argument for argument in arguments if not isinstance(argument, list))
    return torch.full(build.shape, value, dtype=build.dtype)


def expand(build: Builder, x: Value, *ignored: Any) -> Value:
    return x.expand(build.shape)


def repeat(build: Builder, x: Value, repeats: Sequence[int]) -> Value:
    """Lowers repeat: whole copies after each other along each dimension; they are not stored."""
    x = x.expand((*[1] * (len(repeats) - len(x.shape)), *x.shape))
    dims = tuple(
        ((count, 0), *dim) if count > 1 else dim for count, dim in zip(repeats, x.dims, strict=True)
    )
    return Value(x.tensor, dims, x.offset)


def permute(build: Builder, x: Value, dims: Sequence[int]) -> Value:
    return x.permute([dim % len(x.shape) for dim in dims])


def transpose(build: Builder, x: Value, first: int = 0, second: int = 1) -> Value:
    """Lowers transpose and swapaxes; for a matrix, t."""
    return x.transpose(first, second)


def select(build: Builder, x: Value, dim: int, index: int) -> Value:
    dim %= len(x.shape)
    return x.select(dim, index % x.shape[dim])


def slice_(
    build: Builder, x: Value, dim: int, start: int | None, stop: int | None, step: int
) -> Value:
    dim %= len(x.shape)
    return build.sliced(x, dim, *slice(start, stop, step).indices(x.shape[dim]))


def narrow(build: Builder, x: Value, dim: int, start: int, length: int) -> Value:
    start %= x.shape[dim]
    return build.sliced(x, dim % len(x.shape), start, start + length)


def split_sizes(build: Builder, x: Value, sizes: Sequence[int], dim: int) -> list[Value]:
    dim %= len(x.shape)
    ends = list(itertools.accumulate(sizes))
    return [build.sliced(x, dim, end - size, end) for end, size in zip(ends, sizes, strict=True)]


def split(build: Builder, x: Value, size: int, dim: int) -> list[Value]:
    """Lowers split: pieces of ``size``; the last may be smaller."""
    whole = x.shape[dim]
    return split_sizes(build, x, [min(size, whole - i) for i in range(0, whole, size)], dim)


def chunk(build: Builder, x: Value, chunks: int, dim: int) -> list[Value]:
    return split(build, x, -(-x.shape[dim] // chunks), dim)


def unbind(build: Builder, x: Value, dim: int) -> list[Value]:
    dim %= len(x.shape)
    return [x.select(dim, i) for i in range(x.shape[dim])]


def concatenate(build: Builder, parts: Sequence[Operand], dim: int) -> Value:
    """Lowers cat."""
    type = named(build.dtype)
    values = [as_type(build, part, type) for part in parts]
    return joined(build, values, dim % len(build.shape))


def joined(build: Builder, values: Sequence[Value], dim: int) -> Value:
    """One new value, into which each part is copied at its place along ``dim``."""
    values = [value for value in values if math.prod(value.shape)]
    shape = list(values[0].shape)
    shape[dim] = sum(value.shape[dim] for value in values)
    leader = next((v for v in values if v.tensor.kind != "constant" and not v.repeats), None)
    order = tuple(range(len(shape))) if leader is None else leader.order()
    out, begin = build.fresh(shape, order, type=values[0].tensor.type), 0
    for value in values:
        end = begin + value.shape[dim]
        build.write(value, build.sliced(out, dim, begin, end), order)
        begin = end
    return out


def stack(build: Builder, parts: Sequence[Operand], dim: int) -> Value:
    dim %= len(build.shape)
    values = [as_type(build, part, named(build.dtype)) for part in parts]
    with_dim = [Value(v.tensor, (*v.dims[:dim], (), *v.dims[dim:]), v.offset) for v in values]
    return concatenate(build, with_dim, dim)


def roll(build: Builder, x: Value, shifts: int | Sequence[int], dims: int | Sequence[int]) -> Value:
    """Lowers roll: each dimension is divided into two runs, which change places."""
    shifts = (shifts,) if isinstance(shifts, int) else shifts
    if not isinstance(dims, int) and not dims:
        raise LackingError("over all dimensions as one")
    runs = []
    for shift, dim in zip(shifts, positive(dims, len(x.shape)), strict=True):
        have = x.shape[dim]
        shift %= have
        pieces = ((0, have - shift, shift), (have - shift, have, 0))
        runs.append([(dim, *piece) for piece in pieces if piece[0] < piece[1]])
    order = x.order()
    out = build.fresh(x.shape, order, type=x.tensor.type)
    for piece in itertools.product(*runs):
        source, place = x, out
        for dim, start, stop, to in piece:
            source = build.sliced(source, dim, start, stop)
            place = build.sliced(place, dim, to, to + stop - start)
        build.write(source, place, order)
    return out


def pixel_shuffle(build: Builder, x: Value, factor: int) -> Value:
    batch, channels, height, width = x.shape
    split = (batch, channels // factor**2, factor, factor, height, width)
    return build.reshaped(build.reshaped(x, split).permute((0, 1, 4, 2, 5, 3)), build.shape)


def pixel_unshuffle(build: Builder, x: Value, factor: int) -> Value:
    batch, channels, height, width = x.shape
    split = (batch, channels, height // factor, factor, width // factor, factor)
    return build.reshaped(build.reshaped(x, split).permute((0, 1, 3, 5, 2, 4)), build.shape)


def channel_shuffle(build: Builder, x: Value, groups: int) -> Value:
    split = (x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])
    return build.reshaped(build.reshaped(x, split).transpose(1, 2), x.shape)


def unfold(build: Builder, x: Value, dim: int, size: int, step: int) -> Value:
    """Lowers unfold: windows along a dimension, which overlap in memory."""
    dim %= len(x.shape)
    if len(x.dims[dim]) > 1:
        x = build.copy(x)
    stride = x.stride(dim)
    windows = merged([(build.shape[dim], stride * step)])
    dims = (*x.dims[:dim], windows, *x.dims[dim + 1 :], merged([(size, stride)]))
    return Value(x.tensor, dims, x.offset)


def diagonal(build: Builder, x: Value, offset: int = 0, first: int = 0, second: int = 1) -> Value:
    rank = len(x.shape)
    first, second = first % rank, second % rank
    if max(len(x.dims[first]), len(x.dims[second])) > 1:
        x = build.copy(x)
    steps = x.stride(first), x.stride(second)
    begin = x.offset + max(offset, 0) * steps[1] + max(-offset, 0) * steps[0]
    kept = [x.dims[i] for i in range(rank) if i not in (first, second)]
    return Value(x.tensor, (*kept, merged([(build.shape[-1], sum(steps))])), begin)


OPERATORS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(
        (
            *("dropout.default", "feature_dropout.default", "contiguous.default", "clone.default"),
            *("alias.default", "detach.default", "lift_fresh_copy.default", "detach_copy.default"),
            *("lift_fresh.default", "real.default"),
        ),
        same,
    ),
    **dict.fromkeys(
        (
            *("view.default", "_unsafe_view.default", "reshape.default", "view_as.default"),
            *("reshape_as.default", "flatten.using_ints", "unflatten.int", "unsqueeze.default"),
            *("squeeze.default", "squeeze.dim", "squeeze.dims"),
        ),
        reshape,
    ),
    "zeros_like.default": filled(0),
    "new_zeros.default": filled(0),
    "ones_like.default": filled(1),
    "new_ones.default": filled(1),
    "full_like.default": full,
    "new_full.default": full,
    "expand.default": expand,
    "expand_as.default": expand,
    "broadcast_to.default": expand,
    "repeat.default": repeat,
    "permute.default": permute,
    "transpose.int": transpose,
    "transpose.default": transpose,  # transpose_ alone has this overload
    "swapaxes.default": transpose,
    "t.default": transpose,
    "select.int": select,
    "slice.Tensor": slice_,
    "narrow.default": narrow,
    "split.Tensor": split,
    "split_with_sizes.default": split_sizes,
    "chunk.default": chunk,
    "unbind.int": unbind,
    "cat.default": concatenate,
    "stack.default": stack,
    "roll.default": roll,
    "pixel_shuffle.default": pixel_shuffle,
    "pixel_unshuffle.default": pixel_unshuffle,
    "channel_shuffle.default": channel_shuffle,
    "native_channel_shuffle.default": channel_shuffle,
    "unfold.default": unfold,
    "diagonal.default": diagonal,
}
