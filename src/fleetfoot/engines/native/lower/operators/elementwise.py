"""Activations and arithmetic: results whose elements depend on one element of each operand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from fleetfoot.engines.native.lower.builder import Builder
from fleetfoot.engines.native.lower.operators.arguments import Operand, constant, number
from fleetfoot.engines.native.lower.operators.types import in_type
from fleetfoot.engines.native.lower.values import Value
from fleetfoot.errors import LackingError


def unary(build: Builder, x: Value, name: str, a: float = 0.0, b: float = 0.0) -> Value:
    """Adds one of the core's activations, with its two numbers."""
    return build.elementwise("unary", {"x": x}, shape=x.shape, act=[name, float(a), float(b)])


def activation(name: str) -> Callable[..., Value]:
    def lowered(build: Builder, x: Value) -> Value:
        return unary(build, x, name)

    return lowered


def clamp(
    build: Builder,
    x: Value,
    low: Operand | float | None = None,
    high: Operand | float | None = None,
) -> Value:
    """Lowers clamp and hardtanh; a side that is None has no bound."""
    bounds: list[float] = []
    for bound, missing in ((low, -math.inf), (high, math.inf)):
        value = missing if bound is None else number(bound)
        if value is None or math.isnan(value):
            raise LackingError("with a bound that is not one number")
        bounds.append(value)
    if bounds == [0, 6]:
        return unary(build, x, "relu6")
    return unary(build, x, "relu") if bounds == [0, math.inf] else unary(build, x, "clamp", *bounds)


def clamp_max(build: Builder, x: Value, high: Operand | float) -> Value:
    return clamp(build, x, None, high)


def gelu(build: Builder, x: Value, approximate: str) -> Value:
    return unary(build, x, "gelu" if approximate == "none" else "gelu_tanh")


def leaky_relu(build: Builder, x: Value, slope: float) -> Value:
    return unary(build, x, "leaky_relu", slope)


def prelu(build: Builder, x: Value, slope: Operand) -> Value:
    """Lowers prelu; one slope for all channels is a leaky ReLU."""
    slope = constant(slope, "a slope")
    if slope.numel() == 1:
        return unary(build, x, "leaky_relu", slope.item())
    return binary(build, "prelu", x, slope.reshape(-1, *[1] * (len(x.shape) - 2)))


def prelu_kernel(build: Builder, x: Value, slope: Operand) -> Value:
    """Lowers _prelu_kernel: x where it is above 0, else x * slope, whose shapes broadcast."""
    slope = constant(slope, "a slope")
    if slope.numel() == 1:
        return unary(build, x, "leaky_relu", slope.item())
    return binary(build, "prelu", x, slope)


def binary(build: Builder, kind: str, a: Operand | float, b: Operand | float) -> Value:
    """Adds an operation on operands that broadcast; a number becomes a constant of one element."""
    a, b = (x if isinstance(x, Value | torch.Tensor) else torch.tensor(float(x)) for x in (a, b))
    shape = torch.broadcast_shapes(tuple(a.shape), tuple(b.shape))
    return build.elementwise(
        "binary", {"a": build.value(a), "b": build.value(b)}, shape=shape, kind=kind
    )


def _scaling(x: Operand | float, by: Operand | float) -> tuple[Value, float] | None:
    """``x`` and the finite number ``by``, if they are these and x keeps its shape; else None."""
    value = number(by)
    if not isinstance(x, Value) or value is None or not math.isfinite(value):
        return None
    return None if isinstance(by, torch.Tensor) and by.ndim > len(x.shape) else (x, value)


def add(build: Builder, a: Operand | float, b: Operand | float, alpha: float = 1) -> Value:
    """Lowers add: a + alpha b."""
    if alpha != 1:
        b = multiply(build, b, alpha) if isinstance(b, Value) else b * alpha
    for x, by in ((a, b), (b, a)):
        if (scaling := _scaling(x, by)) is not None:
            return unary(build, scaling[0], "scale", 1, scaling[1])
    return binary(build, "add", a, b)


def subtract(build: Builder, a: Operand | float, b: Operand | float, alpha: float = 1) -> Value:
    """Lowers sub: a - alpha b."""
    if alpha != 1:
        b = multiply(build, b, alpha) if isinstance(b, Value) else b * alpha
    if (scaling := _scaling(a, b)) is not None:
        return unary(build, scaling[0], "scale", 1, -scaling[1])
    if (scaling := _scaling(b, a)) is not None:
        return unary(build, scaling[0], "scale", -1, scaling[1])
    return binary(build, "sub", a, b)


def subtract_from(build: Builder, a: Value, b: Operand | float, alpha: float = 1) -> Value:
    """Lowers rsub: b - alpha a."""
    return subtract(build, b, a, alpha)


def multiply(build: Builder, a: Operand | float, b: Operand | float) -> Value:
    for x, by in ((a, b), (b, a)):
        if (scaling := _scaling(x, by)) is not None:
            return unary(build, scaling[0], "scale", scaling[1])
    return binary(build, "mul", a, b)


def divide(build: Builder, a: Operand | float, b: Operand | float) -> Value:
    scaling = _scaling(a, b)
    if scaling is not None and scaling[1] != 0:
        return unary(build, scaling[0], "scale", 1 / scaling[1])
    if (scaling := _scaling(b, a)) is not None:
        inverse = unary(build, scaling[0], "reciprocal")
        return inverse if scaling[1] == 1 else unary(build, inverse, "scale", scaling[1])
    return binary(build, "div", a, b)


POWERS = {0.5: "sqrt", -0.5: "rsqrt", -1.0: "reciprocal", 2.0: "square"}


def power(build: Builder, a: Operand | float, b: Operand | float) -> Value:
    exponent = number(b)
    if isinstance(a, Value) and exponent in POWERS:
        return unary(build, a, POWERS[exponent])
    return binary(build, "pow", a, b)


def arithmetic(kind: str) -> Callable[..., Value]:
    def lowered(build: Builder, a: Operand, b: Operand) -> Value:
        return binary(build, kind, a, b)

    return lowered


def add_product(build: Builder, x: Operand, a: Operand, b: Operand, value: float) -> Value:
    """Lowers addcmul: x + value a b."""
    if isinstance(a, Value) or isinstance(b, Value):
        return add(build, x, multiply(build, a, b), value)
    return add(build, x, a * b, value)


_NAMES = {"mul": "multiply", "sub": "subtract", "div": "divide"}
"""PyTorch's longer names of operators, which it exports as they were called."""


def _arithmetic() -> dict[str, Callable[..., Any]]:
    """Each overload of an arithmetic operator."""
    found: dict[str, Callable[..., Any]] = {}
    for name, lowered, forms in (
        ("add", in_type(add, "add", of_bools="logical_or"), ("Tensor", "Scalar")),
        ("sub", in_type(subtract, "sub"), ("Tensor", "Scalar")),
        ("rsub", in_type(subtract_from, "sub"), ("Tensor", "Scalar")),
        ("mul", in_type(multiply, "mul"), ("Tensor", "Scalar")),
        ("div", in_type(divide), ("Tensor", "Scalar")),
        ("true_divide", in_type(divide), ("Tensor", "Scalar")),
        ("pow", in_type(power, "pow"), ("Tensor_Scalar", "Tensor_Tensor", "Scalar")),
        ("maximum", in_type(arithmetic("max"), "max"), ("default",)),
        ("minimum", in_type(arithmetic("min"), "min"), ("default",)),
        ("max", in_type(arithmetic("max"), "max"), ("other",)),
        ("min", in_type(arithmetic("min"), "min"), ("other",)),
    ):
        for form in forms:
            found[f"{name}.{form}"] = found[f"{_NAMES.get(name, name)}.{form}"] = lowered
    return found


OPERATORS: dict[str, Callable[..., Any]] = {
    **{
        f"{name}.default": in_type(activation(name))
        for name in (
            *("relu", "relu6", "hardswish", "hardsigmoid", "silu", "sigmoid", "tanh", "selu"),
            *("mish", "exp", "log", "sqrt", "rsqrt", "reciprocal", "square", "erf"),
        )
    },
    **dict.fromkeys(("abs.default", "absolute.default"), in_type(activation("abs"), "abs")),
    **dict.fromkeys(("neg.default", "negative.default"), in_type(activation("neg"), "neg")),
    "special_erf.default": in_type(activation("erf")),
    "special_expit.default": in_type(activation("sigmoid")),
    "hardtanh.default": clamp,
    "gelu.default": gelu,
    "leaky_relu.default": leaky_relu,
    "prelu.default": prelu,
    "_prelu_kernel.default": prelu_kernel,
    "addcmul.default": in_type(add_product),
    **_arithmetic(),
}
