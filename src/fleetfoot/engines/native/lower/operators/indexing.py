"""Reading from and writing to places that other values name, on nodes gather, take and scatter.

A constant index becomes a gather, whose places the loader checks. A computed one is checked when
the plan runs. A network's index of several tensors becomes one, into their dimensions as one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from fleetfoot.engines.native.lower.builder import Builder, along
from fleetfoot.engines.native.lower.operators.aggregates import one_picture
from fleetfoot.engines.native.lower.operators.arguments import Operand, positive
from fleetfoot.engines.native.lower.operators.elementwise import divide, multiply
from fleetfoot.engines.native.lower.operators.types import (
    Scalar,
    as_type,
    elementwise,
    selected,
    type_of,
)
from fleetfoot.engines.native.lower.operators.windows import gathered
from fleetfoot.engines.native.lower.values import Value
from fleetfoot.errors import LackingError


def taken(build: Builder, x: Value, dim: int, index: Operand, *, negative: bool = False) -> Value:
    """Adds node take: ``index`` has x's shape but for ``dim``; a dimension of size 1 of either is
    repeated."""
    index = as_type(build, index, "i32")
    lead = torch.broadcast_shapes(*((*v.shape[:dim], 1, *v.shape[dim + 1 :]) for v in (x, index)))
    x, index = (v.expand((*lead[:dim], v.shape[dim], *lead[dim + 1 :])) for v in (x, index))
    out = build.fresh(index.shape, type=x.tensor.type)
    source, places, target = along(build, dim, x, index, out)
    build.emit("take", {"x": source, "index": places}, target, negative=int(negative))
    return out


def gather(build: Builder, x: Operand, dim: int, index: Operand, *sparse: bool) -> Value:
    x, index = as_type(build, x, type_of(x)), as_type(build, index, "i32")
    (dim,) = one_picture(x, (dim % len(x.shape),))
    for other, size in enumerate(index.shape):
        if other != dim:
            x = build.sliced(x, other, 0, size)
    return taken(build, x, dim, index)


def take_along(build: Builder, x: Operand, index: Operand, dim: int | None = None) -> Value:
    if dim is None:
        raise LackingError("of a flattened batch")
    x = as_type(build, x, type_of(x))
    return taken(build, x, dim % len(x.shape), index)


def index_select(build: Builder, x: Operand, dim: int, index: Operand) -> Value:
    x = as_type(build, x, type_of(x))
    dim %= len(x.shape)
    if isinstance(index, torch.Tensor):
        return gathered(build, x, dim, index.reshape(-1))
    one_picture(x, (dim,))
    shape = [1] * len(x.shape)
    shape[dim] = math.prod(index.shape)
    return taken(build, x, dim, build.reshaped(index, shape))


def embedding(build: Builder, table: Operand, index: Operand, *options: Any) -> Value:
    """Lowers embedding: a row of the table for each number."""
    table, index = as_type(build, table, "f32"), as_type(build, index, "i32")
    flat = build.reshaped(index, (math.prod(index.shape), 1))
    return build.reshaped(taken(build, table, 0, flat), (*index.shape, table.shape[1]))


def flip(build: Builder, x: Value, dims: Sequence[int]) -> Value:
    for dim in positive(tuple(dims), len(x.shape)) if dims else ():
        one_picture(x, (dim,))
        x = gathered(build, x, dim, torch.arange(x.shape[dim] - 1, -1, -1))
    return x


def flip_columns(build: Builder, x: Value) -> Value:
    """Lowers fliplr."""
    return flip(build, x, (1,))


def rotate(build: Builder, x: Value, times: int = 1, dims: Sequence[int] = (0, 1)) -> Value:
    """Lowers rot90: turns by right angles, from the first dimension to the second."""
    first, second = dims
    times %= 4
    if times == 2:
        return flip(build, x, dims)
    if times == 1:
        return flip(build, x, (second,)).transpose(first, second)
    return flip(build, x.transpose(first, second), (second,)) if times == 3 else x


def index(build: Builder, x: Operand, indices: Sequence[Operand | None]) -> Value:
    """Lowers index: numbers in any of the dimensions, which broadcast; constant masks."""
    x = as_type(build, x, type_of(x))
    places = _Places.of(build, x, indices)
    if isinstance(places.index, torch.Tensor) and len(places.dims) == 1:
        rows = places.index.flatten()
        rows = rows.where(rows >= 0, rows + x.shape[places.dims[0]])
        found = gathered(build, x, places.dims[0], rows)
        dim = places.dims[0]
        return build.reshaped(found, (*x.shape[:dim], *places.shape, *x.shape[dim + 1 :]))
    merged = places.merged(build, x)
    flat = build.reshaped(as_type(build, places.index, "i32"), (math.prod(places.shape),))
    found = taken(build, merged, len(places.rest), _last(flat, len(places.rest)), negative=True)
    found = build.reshaped(found, (*(x.shape[i] for i in places.rest), *places.shape))
    return places.put_in_order(found)


def scattered_put(
    build: Builder,
    x: Operand,
    indices: Sequence[Operand | None],
    values: Operand,
    accumulate: bool = False,
) -> Value:
    """Lowers index_put by a scatter. A mask that depends on the picture takes values that are the
    same for each of its places."""
    x = as_type(build, x, type_of(x))
    values = as_type(build, values, x.tensor.type)
    given = [(dim, one) for dim, one in enumerate(indices) if one is not None]
    dim, found = given[0]
    if len(given) == 1 and isinstance(found, Value) and found.tensor.type == "bool":
        after = len(x.shape) - dim - len(found.shape)
        if len(values.shape) > after and values.shape[0] != 1:
            raise LackingError("by a mask that depends on the picture, with a value for each place")
        if len(values.shape) > after:
            values = values.select(0, 0)
        mask = Value(found.tensor, (*found.dims, *[()] * after), found.offset)
        if accumulate:
            values = elementwise(build, "add", x, values, type=x.tensor.type, out=x.tensor.type)
        return selected(build, mask, values, x, x.tensor.type)
    places = _Places.of(build, x, indices)
    rest = [x.shape[i] for i in places.rest]
    merged = places.merged(build, x)
    flat = build.reshaped(as_type(build, places.index, "i32"), (math.prod(places.shape),))
    source = places.from_order(values.expand(places.result(x)))
    source = build.reshaped(source, (*rest, math.prod(places.shape)))
    kind = "add" if accumulate else "set"
    out = scattered(build, merged, len(rest), _last(flat, len(rest)), source, kind, negative=True)
    sizes = [x.shape[i] for i in places.dims]
    out = build.reshaped(out, (*rest, *sizes))
    order = [*places.rest, *places.dims]
    return out.permute([order.index(i) for i in range(len(order))])


def _last(flat: Value, rank: int) -> Value:
    """A value of one dimension with ``rank`` dimensions of size 1 before it."""
    return Value(flat.tensor, (*[()] * rank, *flat.dims), flat.offset)


class _Places:
    """An index of several tensors as one: ``index`` into the dimensions ``dims`` as one, of the
    shape ``shape``; ``rest`` are the other dimensions."""

    def __init__(self, rank: int, dims: list[int], index: Operand, shape: tuple[int, ...]) -> None:
        self.dims, self.index, self.shape = dims, index, shape
        self.rest = [i for i in range(rank) if i not in dims]
        adjacent = dims == list(range(dims[0], dims[-1] + 1))
        self.first = dims[0] if adjacent else 0
        """Dimension of the result at which those of the index begin."""

    @classmethod
    def of(cls, build: Builder, x: Value, indices: Sequence[Operand | None]) -> _Places:
        given: list[tuple[int, Operand]] = []
        dim = 0
        for one in indices:
            if isinstance(one, torch.Tensor) and one.dtype in (torch.bool, torch.uint8):
                found = one.nonzero(as_tuple=True)
                given += [(dim + i, rows) for i, rows in enumerate(found)]
                dim += one.ndim
                continue
            if one is not None:
                if type_of(one) == "bool":
                    raise LackingError("by a mask that depends on the picture")
                given.append((dim, one))
            dim += 1
        dims = [dim for dim, _ in given]
        shape = torch.broadcast_shapes(*(tuple(one.shape) for _, one in given))
        if len(given) == 1:
            return cls(len(x.shape), dims, given[0][1], tuple(shape))
        if all(isinstance(one, torch.Tensor) for _, one in given):
            known = torch.zeros((), dtype=torch.long)
            for dim, one in given:
                assert isinstance(one, torch.Tensor)
                known = known * x.shape[dim] + one.where(one >= 0, one + x.shape[dim])
            return cls(len(x.shape), dims, known.expand(shape), tuple(shape))
        total = _checked(build, given[0][1], x.shape[given[0][0]])
        for dim, one in given[1:]:
            total = elementwise(build, "mul", total, x.shape[dim], type="i32", out="i32")
            place = _checked(build, one, x.shape[dim])
            total = elementwise(build, "add", total, place, type="i32", out="i32")
        return cls(len(x.shape), dims, total.expand(shape), tuple(shape))

    def merged(self, build: Builder, x: Value) -> Value:
        """``x`` with the indexed dimensions as one, the last."""
        x = x.permute([*self.rest, *self.dims])
        rest = x.shape[: len(self.rest)]
        return build.reshaped(x, (*rest, math.prod(x.shape[len(rest) :])))

    def put_in_order(self, found: Value) -> Value:
        """(rest..., shape...) with the index's dimensions where PyTorch has them."""
        count = len(self.rest)
        order = list(range(count))
        order[self.first : self.first] = range(count, len(found.shape))
        return found.permute(order)

    def result(self, x: Value) -> tuple[int, ...]:
        """The shape of what the index reads from ``x``."""
        shape = [x.shape[i] for i in self.rest]
        shape[self.first : self.first] = self.shape
        return tuple(shape)

    def from_order(self, values: Value) -> Value:
        """The reverse of ``put_in_order``."""
        end = self.first + len(self.shape)
        order = [*range(self.first), *range(end, len(values.shape)), *range(self.first, end)]
        return values.permute(order)


def _checked(build: Builder, index: Operand, size: int) -> Value:
    """An index that is known to lie within its dimension, counted from its start."""
    if isinstance(index, torch.Tensor):
        index = index.where(index >= 0, index + size)
        return as_type(build, index, "i32")
    flat = build.reshaped(index, (math.prod(index.shape),))
    places = build.constant(torch.arange(size), "places", type="i32")
    return build.reshaped(taken(build, places, 0, flat, negative=True), index.shape)


def scattered(
    build: Builder,
    x: Value,
    dim: int,
    index: Value,
    source: Value,
    kind: str,
    *,
    negative: bool = False,
) -> Value:
    """Adds node scatter: ``index`` and ``source`` have x's shape but for ``dim``; a dimension of
    size 1 is repeated."""
    lead = (*x.shape[:dim], -1, *x.shape[dim + 1 :])
    index, source = (
        v.expand(tuple(v.shape[dim] if n < 0 else n for n in lead)) for v in (index, source)
    )
    source = source.expand(index.shape)
    out = build.fresh(x.shape, type=x.tensor.type)
    _emit_scatter(build, dim, x, index, source, out, kind, negative)
    return out


def _emit_scatter(
    build: Builder,
    dim: int,
    x: Value,
    index: Value,
    source: Value,
    out: Value,
    kind: str,
    negative: bool,
) -> None:
    views = along(build, dim, x, index, source, out)
    inputs = dict(zip(("x", "index", "source"), views, strict=False))
    build.emit("scatter", inputs, views[-1], kind=kind, negative=int(negative))


def scatter(
    build: Builder, x: Operand, dim: int, index: Operand, source: Operand | Scalar, kind: str
) -> Value:
    """``x`` with parts of ``source`` at the places that ``index`` names along ``dim``."""
    x, index = as_type(build, x, type_of(x)), as_type(build, index, "i32")
    source = as_type(build, source, x.tensor.type)
    (dim,) = one_picture(x, (dim % len(x.shape),))
    if source.shape:
        for other, size in enumerate(index.shape):
            source = build.sliced(source, other, 0, size)
    source = source.expand(index.shape)
    others = [i for i in range(len(x.shape)) if i != dim]
    if all(x.shape[i] == index.shape[i] for i in others):
        return scattered(build, x, dim, index, source, kind)
    out = build.fresh(x.shape, type=x.tensor.type)
    build.write(x, out, out.order())
    part, target = x, out
    for i in others:
        part, target = (build.sliced(v, i, 0, index.shape[i]) for v in (part, target))
    _emit_scatter(build, dim, part, index, source, target, kind, False)
    return out


def scatter_of(kind: str) -> Callable[..., Value]:
    """Lowers scatter and scatter_add."""

    def lowered(
        build: Builder, x: Operand, dim: int, index: Operand, source: Operand | Scalar
    ) -> Value:
        return scatter(build, x, dim, index, source, kind)

    return lowered


_KINDS = {"add": "add", "sum": "add", "multiply": "mul", "prod": "mul", "amax": "max"}
_KINDS["amin"] = "min"


def scatter_reduce(
    build: Builder,
    x: Operand,
    dim: int,
    index: Operand,
    source: Operand | Scalar,
    reduce: str,
    include_self: bool = True,
) -> Value:
    if not include_self:
        raise LackingError("without the values that are there")
    if reduce == "mean":
        total = scatter(build, x, dim, index, source, "add")
        ones = torch.ones(total.shape)
        count = scatter(build, ones, dim, index, 1.0, "add")
        if total.tensor.type != "f32":
            raise LackingError("of whole numbers, as a mean")
        return divide(build, total, count)
    return scatter(build, x, dim, index, source, _KINDS[reduce])


def index_add(
    build: Builder, x: Operand, dim: int, index: Operand, source: Operand, alpha: float = 1
) -> Value:
    if alpha != 1:
        source = multiply(build, source, alpha)
    return _by_rows(build, x, dim, index, source, "add")


def index_copy(build: Builder, x: Operand, dim: int, index: Operand, source: Operand) -> Value:
    return _by_rows(build, x, dim, index, source, "set")


def index_fill(
    build: Builder, x: Operand, dim: int, index: Operand, value: Operand | Scalar
) -> Value:
    return _by_rows(build, x, dim, index, value, "set")


def _by_rows(
    build: Builder, x: Operand, dim: int, index: Operand, source: Operand | Scalar, kind: str
) -> Value:
    x, index = as_type(build, x, type_of(x)), as_type(build, index, "i32")
    source = as_type(build, source, x.tensor.type)
    (dim,) = one_picture(x, (dim % len(x.shape),))
    shape = [1] * len(x.shape)
    shape[dim] = math.prod(index.shape)
    index = build.reshaped(index, shape)
    whole = [*x.shape[:dim], shape[dim], *x.shape[dim + 1 :]]
    return scattered(build, x, dim, index.expand(whole), source.expand(whole), kind)


OPERATORS: dict[str, Callable[..., Any]] = {
    "gather.default": gather,
    "take_along_dim.default": take_along,
    "index_select.default": index_select,
    "index.Tensor": index,
    "_unsafe_index.Tensor": index,
    "embedding.default": embedding,
    "flip.default": flip,
    "fliplr.default": flip_columns,
    "rot90.default": rotate,
    "scatter.src": scatter_of("set"),
    "scatter.value": scatter_of("set"),
    "scatter.reduce": scatter_reduce,
    "scatter.value_reduce": scatter_reduce,
    "scatter_add.default": scatter_of("add"),
    "scatter_reduce.two": scatter_reduce,
    "index_add.default": index_add,
    "index_copy.default": index_copy,
    "index_fill.int_Scalar": index_fill,
    "index_fill.int_Tensor": index_fill,
}
