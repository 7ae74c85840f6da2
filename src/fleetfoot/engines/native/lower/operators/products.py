"""Products of two values that depend on the picture, and attention."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from fleetfoot.engines.native.graph import View
from fleetfoot.engines.native.lower.builder import Builder
from fleetfoot.engines.native.lower.operators.arguments import Operand
from fleetfoot.engines.native.lower.operators.elementwise import add, multiply
from fleetfoot.engines.native.lower.operators.reductions import softmax
from fleetfoot.engines.native.lower.operators.windows import as_linear
from fleetfoot.engines.native.lower.values import Value
from fleetfoot.errors import LackingError


def product(
    build: Builder, a: Value, b: Value, alpha: float = 1.0, order: Sequence[int] | None = None
) -> Value:
    """Adds alpha a b of (..., M, K) and (..., K, N); leading dimensions broadcast."""
    lead = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a, b = a.expand((*lead, *a.shape[-2:])), b.expand((*lead, *b.shape[-2:]))
    a, b = (x if all(len(dim) <= 1 for dim in x.dims[-2:]) else build.copy(x) for x in (a, b))
    out = build.fresh((*lead, a.shape[-2], b.shape[-1]), order)
    heads = [Value(x.tensor, x.dims[:-2], x.offset) for x in (a, b, out)]
    views = [
        View(
            view.tensor,
            (*view.shape, *x.shape[-2:]),
            (*view.strides, x.stride(-2), x.stride(-1)),
            view.offset,
        )
        for view, x in zip(build.align(heads, range(len(lead)), rank=0), (a, b, out), strict=True)
    ]
    build.emit("matmul", {"a": views[0], "b": views[1]}, views[2], alpha=float(alpha))
    return out


def matmul(build: Builder, a: Operand, b: Operand) -> Value:
    """Lowers matmul, bmm and mm. With a constant matrix it is a linear layer."""
    if isinstance(a, Value) and isinstance(b, torch.Tensor) and b.ndim == 2:
        return as_linear(build, a, b.T, None)
    a, b = build.value(a), build.value(b)
    if min(len(a.shape), len(b.shape)) < 2:
        raise LackingError("of a vector")
    return product(build, a, b, order=build.order)


def add_matmul(
    build: Builder, bias: Operand, a: Operand, b: Operand, beta: float = 1, alpha: float = 1
) -> Value:
    """Lowers addmm and baddbmm: beta bias + alpha a b."""
    out = matmul(build, a, b)
    if alpha != 1:
        out = multiply(build, out, alpha)
    return add(build, out, bias, beta)


def attention(
    build: Builder,
    q: Operand,
    k: Operand,
    v: Operand,
    mask: Operand | None,
    dropout: float,
    causal: bool,
    scale: float | None,
    grouped: bool,
) -> Value:
    """Lowers attention: softmax(scale q k^T + mask) v."""
    q, k, v = (build.value(x) for x in (q, k, v))
    if grouped:
        k, v = (_repeated(x, q.shape[-3] // x.shape[-3]) for x in (k, v))
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    rank = len(q.shape)
    scores = product(build, q, k.transpose(rank - 2, rank - 1), scale)
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    if isinstance(mask, torch.Tensor) and mask.dtype == torch.bool:
        mask = torch.zeros(mask.shape).masked_fill(~mask, -math.inf)
    if mask is not None:
        scores = add(build, scores, mask)
    return product(build, softmax(build, scores, -1), v, order=build.order)


def _repeated(x: Value, count: int) -> Value:
    """The value with each head ``count`` times in a row; they are not stored."""
    heads = (*x.dims[-3], (count, 0)) if count > 1 else x.dims[-3]
    return Value(x.tensor, (*x.dims[:-3], heads, *x.dims[-2:]), x.offset)


def einsum(
    build: Builder, equation: str, operands: Sequence[Operand], path: Sequence[int] | None
) -> Value:
    """Lowers einsum of two operands whose letters each mean a batch, a row, a column or the sum."""
    names, _, result = equation.replace(" ", "").partition("->")
    letters = names.split(",")
    if len(operands) != 2 or not result or "." in equation:
        raise LackingError(f"of {equation!r}")
    first, second = letters
    shared = [c for c in first if c in second]
    batch = [c for c in shared if c in result]
    summed = [c for c in shared if c not in result]
    rows = [c for c in first if c not in second]
    columns = [c for c in second if c not in first]
    if sorted(batch + rows + columns) != sorted(result) or any(
        len(set(word)) != len(word) for word in (first, second)
    ):
        raise LackingError(f"of {equation!r}")
    a, b = (build.value(x) for x in operands)
    sizes = dict(zip(first + second, a.shape + b.shape, strict=True))

    def matrices(x: Value, word: str, left: list[str], right: list[str]) -> Value:
        x = x.permute([word.index(c) for c in [*batch, *left, *right]])
        shape = [math.prod(sizes[c] for c in group) for group in (left, right)]
        return build.reshaped(x, [*(sizes[c] for c in batch), *shape])

    found = [*batch, *rows, *columns]
    order = None
    if build.order is not None and len(rows) == len(columns) == 1:
        order = [found.index(result[i]) for i in build.order]
    left, right = matrices(a, first, rows, summed), matrices(b, second, summed, columns)
    out = build.reshaped(product(build, left, right, order=order), [sizes[c] for c in found])
    return out.permute([found.index(c) for c in result])


OPERATORS: dict[str, Callable[..., Any]] = {
    "matmul.default": matmul,
    "bmm.default": matmul,
    "mm.default": matmul,
    "addmm.default": add_matmul,
    "baddbmm.default": add_matmul,
    "scaled_dot_product_attention.default": attention,
    "einsum.default": einsum,
}
