"""Sorting, and running results along a dimension, on nodes sort, take and scan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from fleetfoot.engines.native.lower.builder import Builder, along
from fleetfoot.engines.native.lower.operators.aggregates import aggregated, over
from fleetfoot.engines.native.lower.operators.arguments import Operand, constant
from fleetfoot.engines.native.lower.operators.indexing import taken
from fleetfoot.engines.native.lower.operators.types import (
    as_type,
    common,
    elementwise,
    named,
    selected,
)
from fleetfoot.engines.native.lower.values import Value


def order_of(build: Builder, x: Value, dim: int, descending: bool, count: int) -> Value:
    """The places of the first ``count`` elements of ``x`` in order."""
    shape = list(x.shape)
    shape[dim] = count
    out = build.fresh(shape, type="i32")
    source, target = along(build, dim, x, out)
    build.emit("sort", {"x": source}, target, descending=int(descending))
    return out


def sorted_(
    build: Builder, x: Value, dim: int, descending: bool = False, count: int | None = None
) -> list[Value]:
    """Values in order, and their places."""
    if not x.shape:
        return [x, build.constant(torch.tensor(0), "constant", type="i32")]
    (dim,) = over(x, dim)
    places = order_of(build, x, dim, descending, x.shape[dim] if count is None else count)
    return [taken(build, x, dim, places), places]


def stably_sorted(
    build: Builder, x: Value, stable: bool | None, dim: int = -1, descending: bool = False
) -> list[Value]:
    return sorted_(build, x, dim, descending)


def places_in_order(build: Builder, x: Value, dim: int = -1, descending: bool = False) -> Value:
    """Lowers argsort."""
    return sorted_(build, x, dim, descending)[1]


def places_in_stable_order(
    build: Builder, x: Value, stable: bool, dim: int = -1, descending: bool = False
) -> Value:
    return places_in_order(build, x, dim, descending)


def largest(
    build: Builder, x: Value, count: int, dim: int = -1, largest: bool = True, ordered: bool = True
) -> list[Value]:
    """Lowers topk."""
    return sorted_(build, x, dim, largest, count)


def sorted_by_first(build: Builder, x: Value) -> Value:
    return sorted_(build, x, 0)[0]


def kth_value(build: Builder, x: Value, k: int, dim: int = -1, keep: bool = False) -> list[Value]:
    dim %= len(x.shape)
    found = [build.sliced(part, dim, k - 1, k) for part in sorted_(build, x, dim, False, k)]
    return found if keep else [part.select(dim, 0) for part in found]


def median(build: Builder, x: Value, dim: int, keep: bool = False) -> list[Value]:
    """Lowers median: the lower one of two in the middle; NaN if there is one, which is sorted
    last."""
    dim %= len(x.shape)
    count = x.shape[dim]
    low, place = kth_value(build, x, (count - 1) // 2 + 1, dim, True)
    last = [build.sliced(part, dim, count - 1, count) for part in sorted_(build, x, dim)]
    if x.tensor.type == "f32":
        isnan = elementwise(build, "isnan", last[0], type="f32", out="bool")
        first = _first_nan(build, x, dim)
        low, place = (
            selected(build, isnan, last[0], low, "f32"),
            selected(build, isnan, first, place, "i32"),
        )
    return [low, place] if keep else [part.select(dim, 0) for part in (low, place)]


def _first_nan(build: Builder, x: Value, dim: int) -> Value:
    isnan = elementwise(build, "isnan", x, type="f32", out="bool")
    return aggregated(build, isnan, "argmax", (dim,), keep=True, type="i32")


def scanned(build: Builder, x: Value, kind: str, dim: int, type: str) -> Value:
    """Adds node scan along ``dim``."""
    out = build.fresh(x.shape, x.order(), type=type)
    source, target = along(build, dim, x, out)
    build.emit("scan", {"x": source}, target, kind=kind)
    return out


def running(kind: str) -> Callable[..., Value]:
    """Lowers cumsum, cumprod, logcumsumexp."""

    def lowered(build: Builder, x: Value, dim: int, *dtype: Any) -> Value:
        type = named(build.dtype)
        x = as_type(build, x, type)
        if not x.shape:
            return x
        return scanned(build, x, kind, over(x, dim)[0], type)

    return lowered


def running_extreme(kind: str) -> Callable[..., list[Value]]:
    """Lowers cummax and cummin: values and places."""

    def lowered(build: Builder, x: Value, dim: int) -> list[Value]:
        (dim,) = over(x, dim)
        return [
            scanned(build, x, kind, dim, x.tensor.type),
            scanned(build, x, f"{kind}_index", dim, "i32"),
        ]

    return lowered


def bucketize(
    build: Builder, x: Value, bounds: Operand, out_int32: bool = False, right: bool = False
) -> Value:
    """Lowers bucketize for constant bounds: how many of them lie below each number, or at it if
    ``right``. NaN lies above all."""
    edges = constant(bounds, "bounds")
    type = common(x, edges)
    last = Value(x.tensor, (*x.dims, ()), x.offset)
    beyond = elementwise(build, "lt" if right else "le", last, edges, type=type, out="bool")
    above = elementwise(build, "logical_not", beyond, type="bool", out="bool")
    return aggregated(build, above, "sum", (len(x.shape),), keep=False, type="i32")


OPERATORS: dict[str, Callable[..., Any]] = {
    "sort.default": sorted_,
    "sort.stable": stably_sorted,
    "argsort.default": places_in_order,
    "argsort.stable": places_in_stable_order,
    "topk.default": largest,
    "msort.default": sorted_by_first,
    "kthvalue.default": kth_value,
    "median.dim": median,
    "cumsum.default": running("sum"),
    "cumprod.default": running("prod"),
    "logcumsumexp.default": running("logsumexp"),
    "cummax.default": running_extreme("max"),
    "cummin.default": running_extreme("min"),
    "bucketize.Tensor": bucketize,
}
