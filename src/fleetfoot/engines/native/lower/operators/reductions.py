"""Sums over dimensions, and the normalisations that use them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from fleetfoot.engines.native.graph import View
from fleetfoot.engines.native.lower.builder import Builder
from fleetfoot.engines.native.lower.operators.arguments import Operand, constant
from fleetfoot.engines.native.lower.operators.elementwise import add, multiply
from fleetfoot.engines.native.lower.values import Value
from fleetfoot.errors import LackingError


def reduced(
    build: Builder,
    x: Value,
    kind: str,
    dims: Sequence[int],
    *,
    keep: bool,
    into: Value | None = None,
    op: str = "reduce",
    type: str = "f32",
) -> Value:
    """Adds node reduce of the given kind over ``dims``, which stay with size 1 if they are kept.

    Args:
        into: part of a new value to write to, with the dimensions kept.
        op: "aggregate" for a node of this operator.
        type: type of the result.
    """
    order = x.order()
    order = (*(i for i in order if i not in dims), *(i for i in order if i in dims))
    kept = tuple(1 if i in dims else n for i, n in enumerate(x.shape))
    out = build.fresh(kept, order, type=type) if into is None else into
    views, trailing = build.aligned(
        [x, out.expand(x.shape)], order, trailing=len(dims), rank=len(dims) + 1
    )
    source, target = views
    target = View(
        target.tensor, target.shape[:-trailing], target.strides[:-trailing], target.offset
    )
    build.emit(op, {"x": source}, target, kind=kind, trailing=trailing)
    if keep:
        return out
    return build.reshaped(out, [n for i, n in enumerate(x.shape) if i not in dims])


def normalised(
    build: Builder,
    mode: str,
    x: Value,
    trailing: int,
    weight: Value | None,
    bias: Value | None,
    eps: float,
    out: Value | None = None,
    order: Sequence[int] | None = None,
) -> Value:
    """Adds node norm over the last ``trailing`` of ``order``; weight and bias broadcast to
    ``x``."""
    if order is None:
        lead = [i for i in x.order() if i < len(x.shape) - trailing]
        order = (*lead, *range(len(x.shape) - trailing, len(x.shape)))
    out = build.fresh(x.shape, order) if out is None else out
    affine = {
        role: value.expand(x.shape)
        for role, value in (("weight", weight), ("bias", bias))
        if value is not None
    }
    views, count = build.aligned([x, *affine.values(), out], order, trailing=trailing)
    build.emit(
        "norm",
        dict(zip(("x", *affine), views, strict=False)),
        views[-1],
        mode=mode,
        trailing=count,
        eps=eps,
    )
    return out


def layer_norm(
    build: Builder,
    x: Value,
    shape: Sequence[int],
    weight: Operand | None,
    bias: Operand | None,
    eps: float,
    cudnn: bool,
) -> Value:
    return normalised(
        build, "layer", x, len(shape), _affine(build, weight), _affine(build, bias, "bias"), eps
    )


def rms_norm(
    build: Builder, x: Value, shape: Sequence[int], weight: Operand | None, eps: float | None
) -> Value:
    eps = torch.finfo(torch.float32).eps if eps is None else eps
    return normalised(build, "rms", x, len(shape), _affine(build, weight), None, eps)


def _affine(build: Builder, x: Operand | None, role: str = "weight") -> Value | None:
    return None if x is None else build.value(x, role)


def group_norm(
    build: Builder,
    x: Value,
    groups: int,
    weight: Operand | None,
    bias: Operand | None,
    eps: float,
    cudnn: bool,
) -> Value:
    """Lowers group norm: a layer norm of each group's channels and pixels together."""
    batch, channels, *space = x.shape
    shape = (batch, groups, channels // groups, *space)
    out = build.fresh(x.shape, x.order())
    split = build.reshaped(out, shape)
    # within a group, the dimension that is contiguous in memory comes last
    inner = [i + 1 for i in x.order() if i != 0]
    per_channel = (1, groups, channels // groups, *[1] * len(space))
    scale, shift = _affine(build, weight), _affine(build, bias, "bias")
    normalised(
        build,
        "layer",
        build.reshaped(x, shape),
        len(inner),
        None if scale is None else scale.reshape(per_channel),
        None if shift is None else shift.reshape(per_channel),
        eps,
        out=split,
        order=(0, 1, *inner),
    )
    return out


def instance_norm(
    build: Builder,
    x: Value,
    weight: Operand | None,
    bias: Operand | None,
    mean: Operand | None,
    variance: Operand | None,
    use_input: bool,
    momentum: float,
    eps: float,
    cudnn: bool,
) -> Value:
    """Lowers instance norm: a group norm with a group for each channel, or with running statistics
    a batch norm."""
    if not use_input:
        return batch_norm(build, x, weight, bias, mean, variance, False, momentum, eps, cudnn)
    return group_norm(build, x, x.shape[1], weight, bias, eps, cudnn)


def batch_norm(
    build: Builder,
    x: Value,
    weight: Operand | None,
    bias: Operand | None,
    mean: Operand | None,
    variance: Operand | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn: bool,
) -> Value:
    """Lowers batch norm with running statistics: ``x * scale + shift``, computed once in
    float64."""
    if training or mean is None or variance is None:
        raise LackingError("with the statistics of the batch")
    scale = (constant(variance, "a variance").double() + eps).rsqrt()
    if weight is not None:
        scale = scale * constant(weight, "a weight").double()
    shift = -constant(mean, "a mean").double() * scale
    if bias is not None:
        shift = shift + constant(bias, "a bias").double()
    shape = (-1, *[1] * (len(x.shape) - 2))
    return add(build, multiply(build, x, scale.reshape(shape)), shift.reshape(shape))


def batch_norm_functional(
    build: Builder,
    x: Value,
    weight: Operand | None,
    bias: Operand | None,
    mean: Operand,
    variance: Operand,
    momentum: float,
    eps: float,
) -> tuple[Value, None, None]:
    """Lowers the operator that functionalisation makes of a batch norm; training alone reads the
    second and third results."""
    done = batch_norm(build, x, weight, bias, mean, variance, False, momentum, eps, False)
    return done, None, None


def softmax(build: Builder, x: Value, dim: int, dtype: Any = None) -> Value:
    rank = len(x.shape)
    dim %= rank
    if len(x.dims[dim]) > 1:
        x = build.copy(x)
    order = (*(i for i in x.order() if i != dim), dim)
    out = build.fresh(x.shape, order)
    (source, target), _ = build.aligned([x, out], order, trailing=1)
    build.emit("softmax", {"x": source}, target)
    return out


OPERATORS: dict[str, Callable[..., Any]] = {
    "layer_norm.default": layer_norm,
    "rms_norm.default": rms_norm,
    "group_norm.default": group_norm,
    "instance_norm.default": instance_norm,
    "batch_norm.default": batch_norm,
    "_native_batch_norm_legit_no_training.default": batch_norm_functional,
}
