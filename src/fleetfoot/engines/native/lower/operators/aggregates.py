"""Reductions over any dimensions: sums, extremes, places of extremes, logic, variances and norms.

Sums, means and extremes of float32 have their own kernel; the rest is node aggregate.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from fleetfoot.engines.native.lower.builder import Builder
from fleetfoot.engines.native.lower.operators.arguments import positive
from fleetfoot.engines.native.lower.operators.elementwise import (
    add,
    binary,
    clamp,
    divide,
    multiply,
    power,
    subtract,
    unary,
)
from fleetfoot.engines.native.lower.operators.reductions import reduced, softmax
from fleetfoot.engines.native.lower.operators.types import as_type, elementwise, named, selected
from fleetfoot.engines.native.lower.values import Value
from fleetfoot.errors import LackingError

FAST = ("sum", "mean", "max", "min")
"""What node reduce does with float32."""


def one_picture(x: Value, dims: tuple[int, ...]) -> tuple[int, ...]:
    """``dims``, none of which may be that of the batch.

    Raises:
        LackingError: one is: a graph describes one picture.
    """
    if 0 in dims and x.shape and x.shape[0] == 1:
        raise LackingError("over the pictures of a batch")
    return dims


def over(x: Value, dims: Any) -> tuple[int, ...]:
    return one_picture(x, positive(dims, len(x.shape)))


def aggregated(
    build: Builder, x: Value, kind: str, dims: tuple[int, ...], *, keep: bool, type: str
) -> Value:
    """A reduction with a result of type ``type``, by the fastest node that does it."""
    if not dims:  # of a tensor of one element
        return as_type(build, x, type)
    if kind in FAST and x.tensor.type == type == "f32":
        return reduced(build, x, kind, dims, keep=keep)
    return reduced(build, x, kind, dims, keep=keep, op="aggregate", type=type)


def summed(build: Builder, x: Value, dims: Any = None, keep: bool = False, *dtype: Any) -> Value:
    """Lowers sum; PyTorch has computed the type."""
    type = named(build.dtype)
    return aggregated(build, as_type(build, x, type), "sum", over(x, dims), keep=keep, type=type)


def averaged(build: Builder, x: Value, dims: Any = None, keep: bool = False, *dtype: Any) -> Value:
    x = as_type(build, x, named(build.dtype))
    return aggregated(build, x, "mean", over(x, dims), keep=keep, type="f32")


def sum_of_all(build: Builder, x: Value, *dtype: Any) -> Value:
    return summed(build, x)


def mean_of_all(build: Builder, x: Value, *dtype: Any) -> Value:
    return averaged(build, x)


def product_of_all(build: Builder, x: Value, *dtype: Any) -> Value:
    return multiplied(build, x, None)


def multiplied(build: Builder, x: Value, dim: Any, keep: bool = False, *dtype: Any) -> Value:
    """Lowers prod."""
    type = named(build.dtype)
    return aggregated(build, as_type(build, x, type), "prod", over(x, dim), keep=keep, type=type)


def extreme(kind: str) -> Callable[..., Value]:
    """Lowers amax and amin, and max and min of all elements."""

    def lowered(build: Builder, x: Value, dims: Any = None, keep: bool = False) -> Value:
        type = x.tensor.type
        return aggregated(build, x, kind, over(x, dims), keep=keep, type=type)

    return lowered


def extremes(build: Builder, x: Value, dim: Any = None, keep: bool = False) -> list[Value]:
    """Lowers aminmax."""
    return [extreme(kind)(build, x, dim, keep) for kind in ("min", "max")]


def place(kind: str) -> Callable[..., Value]:
    """Lowers argmax and argmin; without a dimension, the place among all elements in C order."""

    def lowered(build: Builder, x: Value, dim: int | None = None, keep: bool = False) -> Value:
        dims = over(x, dim)
        if len(dims) > 1:
            raise LackingError("over all dimensions")
        return aggregated(build, x, kind, dims, keep=keep, type="i32")

    return lowered


def extreme_and_place(kind: str) -> Callable[..., list[Value]]:
    """Lowers max.dim and min.dim: values and places."""

    def lowered(build: Builder, x: Value, dim: int, keep: bool = False) -> list[Value]:
        return [
            extreme(kind)(build, x, dim, keep),
            place(f"arg{kind}")(build, x, dim, keep),
        ]

    return lowered


def logic(kind: str) -> Callable[..., Value]:
    """Lowers any and all."""

    def lowered(build: Builder, x: Value, dims: Any = None, keep: bool = False) -> Value:
        return aggregated(build, x, kind, over(x, dims), keep=keep, type="bool")

    return lowered


def count_nonzero(build: Builder, x: Value, dims: Any = None) -> Value:
    truth = as_type(build, as_type(build, x, "bool"), "i32")
    return aggregated(build, truth, "sum", over(x, dims), keep=False, type="i32")


def sum_of_numbers(
    build: Builder, x: Value, dims: Any = None, keep: bool = False, *dtype: Any
) -> Value:
    """Lowers nansum."""
    x = as_type(build, x, "f32")
    isnan = elementwise(build, "isnan", x, type="f32", out="bool")
    return summed(build, selected(build, isnan, 0.0, x, "f32"), dims, keep)


def log_of_sum(build: Builder, x: Value, dims: Any, keep: bool = False) -> Value:
    """Lowers logsumexp."""
    x = as_type(build, x, "f32")
    return aggregated(build, x, "logsumexp", over(x, dims), keep=keep, type="f32")


def variance(
    build: Builder,
    x: Value,
    dims: Any = None,
    correction: float | None = None,
    keep: bool = False,
) -> Value:
    """Lowers variance: mean squared difference from the mean, in two passes as in PyTorch."""
    return _moments(build, x, dims, correction, keep)[0]


def _moments(
    build: Builder, x: Value, dims: Any, correction: float | None, keep: bool
) -> tuple[Value, Value]:
    """Variance and mean."""
    where = over(x, dims)
    count = math.prod(x.shape[i] for i in where)
    mean = reduced(build, x, "mean", where, keep=True)
    centred = build.elementwise("binary", {"a": x, "b": mean}, shape=x.shape, kind="sub")
    out = reduced(build, unary(build, centred, "square"), "mean", where, keep=keep)
    divisor = count - (1 if correction is None else correction)
    if divisor <= 0:  # PyTorch divides by 0
        out = binary(build, "div", out, 0.0)
    elif count != divisor:
        out = unary(build, out, "scale", count / divisor)
    if not keep:
        mean = build.reshaped(mean, out.shape)
    return out, mean


def unbiased(lowered: Callable[..., Any]) -> Callable[..., Any]:
    """The overload that says whether the divisor is one less than the count."""

    def of_flag(
        build: Builder, x: Value, dims: Any, unbiased: bool = True, keep: bool = False
    ) -> Any:
        return lowered(build, x, dims, float(unbiased), keep)

    return of_flag


def unbiased_of_all(lowered: Callable[..., Any]) -> Callable[..., Any]:
    def of_flag(build: Builder, x: Value, unbiased: bool = True) -> Any:
        return lowered(build, x, None, float(unbiased), False)

    return of_flag


def deviation(build: Builder, *arguments: Any) -> Value:
    """Lowers std."""
    return unary(build, variance(build, *arguments), "sqrt")


def variance_and_mean(
    build: Builder, x: Value, dims: Any = None, correction: Any = None, keep: bool = False
) -> list[Value]:
    return list(_moments(build, x, dims, correction, keep))


def deviation_and_mean(build: Builder, *arguments: Any) -> list[Value]:
    spread, mean = variance_and_mean(build, *arguments)
    return [unary(build, spread, "sqrt"), mean]


def vector_norm(
    build: Builder, x: Value, power_: float | None, dims: Any = None, keep: bool = False, *rest: Any
) -> Value:
    """Lowers linalg_vector_norm and norm: the root of order p of the sum of powers p."""
    p = 2.0 if power_ is None else float(power_)
    where = over(x, dims)
    if not where:
        return unary(build, x, "abs")
    if p == 0:
        nonzero = elementwise(build, "ne", x, 0.0, type="f32", out="bool")
        return reduced(build, as_type(build, nonzero, "f32"), "sum", where, keep=keep)
    if p == 2:
        square = unary(build, x, "square")
        return unary(build, reduced(build, square, "sum", where, keep=keep), "sqrt")
    size = unary(build, x, "abs")
    if math.isinf(p):
        return reduced(build, size, "max" if p > 0 else "min", where, keep=keep)
    if p == 1:
        return reduced(build, size, "sum", where, keep=keep)
    total = reduced(build, power(build, size, p), "sum", where, keep=keep)
    return power(build, total, 1 / p)


def norm_of_all(build: Builder, x: Value, power_: float = 2) -> Value:
    return vector_norm(build, x, power_)


def log_softmax(build: Builder, x: Value, dim: int, *dtype: Any) -> Value:
    """Lowers log_softmax: x less the logarithm of the sum of exp(x), by way of the largest x."""
    if not x.shape:
        return subtract(build, x, x)
    dims = over(x, dim)
    shifted = subtract(build, x, reduced(build, x, "max", dims, keep=True))
    total = reduced(build, unary(build, shifted, "exp"), "sum", dims, keep=True)
    return subtract(build, shifted, unary(build, total, "log"))


def checked_softmax(build: Builder, x: Value, dim: int, *dtype: Any) -> Value:
    x = as_type(build, x, "f32")
    over(x, dim)
    return softmax(build, x, dim)


def softmin(build: Builder, x: Value, dim: int, *dtype: Any) -> Value:
    return checked_softmax(build, unary(build, x, "neg"), dim)


def distance(
    build: Builder, a: Value, b: Value, p: float = 2, eps: float = 1e-6, keep: bool = False
) -> Value:
    """Lowers pairwise_distance: the norm of a - b + eps over the last dimension."""
    x = add(build, subtract(build, a, b), eps)
    return vector_norm(build, x, p, [len(x.shape) - 1], keep)


def cosine_similarity(build: Builder, a: Value, b: Value, dim: int = 1, eps: float = 1e-8) -> Value:
    """Lowers cosine_similarity: the sum of products of what is divided by its norm."""
    shape = torch.broadcast_shapes(a.shape, b.shape)
    a, b = a.expand(shape), b.expand(shape)
    unit = [
        divide(build, x, clamp(build, vector_norm(build, x, 2, dim, True), eps)) for x in (a, b)
    ]
    return reduced(build, multiply(build, *unit), "sum", over(a, dim), keep=False)


OPERATORS: dict[str, Callable[..., Any]] = {
    "sum.dim_IntList": summed,
    "sum.default": sum_of_all,
    "mean.dim": averaged,
    "mean.default": mean_of_all,
    "prod.dim_int": multiplied,
    "prod.default": product_of_all,
    "amax.default": extreme("max"),
    "amin.default": extreme("min"),
    "max.default": extreme("max"),
    "min.default": extreme("min"),
    "max.dim": extreme_and_place("max"),
    "min.dim": extreme_and_place("min"),
    "aminmax.default": extremes,
    "argmax.default": place("argmax"),
    "argmin.default": place("argmin"),
    **{f"{kind}.{form}": logic(kind) for kind in ("any", "all") for form in ("dim", "dims")},
    "any.default": logic("any"),
    "all.default": logic("all"),
    "count_nonzero.dim_IntList": count_nonzero,
    "count_nonzero.default": count_nonzero,
    "nansum.default": sum_of_numbers,
    "logsumexp.default": log_of_sum,
    "var.correction": variance,
    "var.dim": unbiased(variance),
    "var.default": unbiased_of_all(variance),
    "std.correction": deviation,
    "std.dim": unbiased(deviation),
    "std.default": unbiased_of_all(deviation),
    "var_mean.correction": variance_and_mean,
    "var_mean.dim": unbiased(variance_and_mean),
    "var_mean.default": unbiased_of_all(variance_and_mean),
    "std_mean.correction": deviation_and_mean,
    "std_mean.dim": unbiased(deviation_and_mean),
    "std_mean.default": unbiased_of_all(deviation_and_mean),
    "linalg_vector_norm.default": vector_norm,
    "norm.ScalarOpt_dim": vector_norm,
    "norm.ScalarOpt_dim_dtype": vector_norm,
    "norm.Scalar": norm_of_all,
    "softmax.int": checked_softmax,
    "_softmax.default": checked_softmax,
    "log_softmax.int": log_softmax,
    "_log_softmax.default": log_softmax,
    "pairwise_distance.default": distance,
    "cosine_similarity.default": cosine_similarity,
}
