"""Values in which a part was replaced: what functionalisation makes of writes in place.

A write into a slice is a concatenation of what comes before it, the new part, and what comes after
it; the parts are remembered, so that a further write into the same value does not copy it again. An
index that is constant is a gather from the old value and the new part together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from fleetfoot.engines.native.lower.builder import Builder, Part
from fleetfoot.engines.native.lower.operators.arguments import Operand
from fleetfoot.engines.native.lower.operators.elementwise import add
from fleetfoot.engines.native.lower.operators.indexing import scattered_put
from fleetfoot.engines.native.lower.operators.shapes import joined
from fleetfoot.engines.native.lower.operators.types import as_type, in_type, named
from fleetfoot.engines.native.lower.operators.windows import gathered
from fleetfoot.engines.native.lower.values import Value

added = in_type(add, "add")


def copy(build: Builder, x: Operand, source: Operand, *ignored: Any) -> Operand:
    """Lowers copy: the elements of ``source``, in the shape of ``x``."""
    return as_type(build, source, named(build.dtype)).expand(tuple(x.shape))


def fill(build: Builder, x: Operand, value: Operand | float = 0.0) -> Operand:
    """Lowers fill and zero."""
    if isinstance(value, Value):
        return as_type(build, value, named(build.dtype)).expand(tuple(x.shape))
    number = value.item() if isinstance(value, torch.Tensor) else value
    return torch.tensor(number, dtype=build.dtype).expand(tuple(x.shape))


def slice_scatter(
    build: Builder,
    x: Operand,
    source: Operand,
    dim: int = 0,
    start: int | None = None,
    stop: int | None = None,
    step: int = 1,
) -> Value:
    """Lowers slice_scatter: ``x`` with a slice replaced by ``source``."""
    dim %= len(x.shape)
    count = x.shape[dim]
    places = range(*slice(start, stop, step).indices(count))
    type = named(build.dtype)
    old, new = as_type(build, x, type), as_type(build, source, type)
    if not places:
        return old
    if len(places) == 1 or step == 1:
        return replaced(build, old, new, dim, places[0])
    if len(places) * step != count:
        return replaced_at(build, old, new, dim, torch.tensor(places))
    # each of every ``step`` places: the dimension is split in two, and one index is replaced
    lead, rest = x.shape[:dim], x.shape[dim + 1 :]
    old = build.reshaped(old, (*lead, len(places), step, *rest))
    new = build.reshaped(new, (*lead, len(places), 1, *rest))
    return build.reshaped(replaced(build, old, new, dim + 1, places[0]), tuple(x.shape))


def replaced(build: Builder, x: Value, piece: Value, dim: int, start: int) -> Value:
    """``x`` with ``piece`` in it, from ``start`` on along a dimension."""
    stop = start + piece.shape[dim]
    parts: list[Part] = []
    for begin, end, part in build.parts_of(x, dim):
        if begin < start:
            cut = min(end, start)
            parts.append((begin, cut, build.sliced(part, dim, 0, cut - begin)))
        if begin <= start < end:
            parts.append((start, stop, piece))
        if end > stop:
            cut = max(begin, stop)
            parts.append((cut, end, build.sliced(part, dim, cut - begin, end - begin)))
    out = joined(build, [part for _, _, part in parts], dim)
    build.remember(out, dim, parts)
    return out


def select_scatter(build: Builder, x: Operand, source: Operand, dim: int, place: int) -> Value:
    """Lowers select_scatter: ``x`` with ``source`` at one index of a dimension."""
    dim %= len(x.shape)
    place %= x.shape[dim]
    value = as_type(build, source, named(build.dtype))
    value = Value(value.tensor, (*value.dims[:dim], (), *value.dims[dim:]), value.offset)
    return slice_scatter(build, x, value, dim, place, place + 1)


def replaced_at(build: Builder, x: Value, source: Value, dim: int, places: torch.Tensor) -> Value:
    """``x`` with ``source`` at constant places of a dimension; the last of equal places counts."""
    chosen = torch.arange(x.shape[dim])
    for i, place in enumerate(places.tolist()):
        chosen[place] = x.shape[dim] + i
    return gathered(build, joined(build, [x, source], dim), dim, chosen)


def index_put(
    build: Builder,
    x: Operand,
    indices: Sequence[Operand | None],
    values: Operand,
    accumulate: bool = False,
) -> Value:
    """Lowers index_put: by gathers for a constant index of neighbouring dimensions, else by
    scatter."""
    given = [dim for dim, one in enumerate(indices) if one is not None]
    first, last = given[0], given[-1] + 1
    taken: list[torch.Tensor] = []
    for array in indices[first:last]:
        if not isinstance(array, torch.Tensor):  # computed, or not a neighbour
            return scattered_put(build, x, indices, values, accumulate)
        mask = array.dtype in (torch.bool, torch.uint8)
        taken += array.nonzero(as_tuple=True) if mask else [array]
    whole, last = tuple(x.shape), first + len(taken)
    sizes = whole[first:last]
    places = torch.zeros((), dtype=torch.long)
    for array, size in zip(torch.broadcast_tensors(*taken), sizes, strict=True):
        places = places * size + torch.where(array < 0, array + size, array)
    places = places.flatten()
    if accumulate and len(places.unique()) < len(places):
        return scattered_put(build, x, indices, values, accumulate)
    type = named(build.dtype)
    shape = torch.broadcast_shapes(*(tuple(one.shape) for one in taken))
    new = as_type(build, values, type).expand((*whole[:first], *shape, *whole[last:]))
    source = build.reshaped(new, (*whole[:first], len(places), *whole[last:]))
    x = as_type(build, x, type)
    old = build.reshaped(x, (*whole[:first], math.prod(sizes), *whole[last:]))
    if accumulate:
        source = added(build, gathered(build, old, first, places), source)
    return build.reshaped(replaced_at(build, old, source, first, places), whole)


OPERATORS: dict[str, Callable[..., Any]] = {
    "copy.default": copy,
    "fill.Scalar": fill,
    "fill.Tensor": fill,
    "zero.default": fill,
    "slice_scatter.default": slice_scatter,
    "select_scatter.default": select_scatter,
    "index_put.default": index_put,
    "_unsafe_index_put.default": index_put,
}
