"""Comparisons, logic, casts and rare functions of single elements, on node elementwise."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from fleetfoot.engines.native.lower.builder import Builder
from fleetfoot.engines.native.lower.operators.arguments import Operand
from fleetfoot.engines.native.lower.operators.elementwise import (
    add,
    binary,
    clamp,
    divide,
    multiply,
    subtract,
    unary,
)
from fleetfoot.engines.native.lower.operators.types import (
    Scalar,
    as_type,
    common,
    elementwise,
    named,
    selected,
)
from fleetfoot.engines.native.lower.values import Value
from fleetfoot.errors import LackingError

Any_ = Operand | Scalar


def real(kind: str) -> Callable[..., Value]:
    """Lowers a function of real numbers; whole numbers are brought to float32."""

    def lowered(build: Builder, *operands: Any_) -> Value:
        return elementwise(build, kind, *operands, type="f32", out="f32")

    return lowered


def rounded(kind: str) -> Callable[..., Value]:
    """Lowers floor, ceil, round, trunc: a whole number stays."""

    def lowered(build: Builder, x: Value) -> Value:
        if x.tensor.type != "f32":
            return x
        return elementwise(build, kind, x, type="f32", out="f32")

    return lowered


def round_decimals(build: Builder, x: Value, decimals: int) -> Value:
    if x.tensor.type != "f32":
        raise LackingError(f"of whole numbers to {decimals} decimals")
    scale = 10.0 ** abs(decimals)
    there, back = (multiply, divide) if decimals >= 0 else (divide, multiply)
    return back(build, rounded("round")(build, there(build, x, scale)), scale)


def arithmetic(kind: str) -> Callable[..., Value]:
    """Lowers an operation in the type of its result."""

    def lowered(build: Builder, *operands: Any_) -> Value:
        type = named(build.dtype)
        return elementwise(build, kind, *operands, type=type, out=type)

    return lowered


def divide_mode(build: Builder, a: Any_, b: Any_, mode: str | None) -> Value:
    if mode is None:
        a, b = (as_type(build, x, "f32") if isinstance(x, Value) else x for x in (a, b))
        return divide(build, a, b)
    return arithmetic("floor_divide" if mode == "floor" else "trunc_divide")(build, a, b)


def test(kind: str) -> Callable[..., Value]:
    """Lowers a comparison or a logical operation: a bool from operands of one type."""

    def lowered(build: Builder, *operands: Any_) -> Value:
        return elementwise(build, kind, *operands, type=common(*operands), out="bool")

    return lowered


def bitwise(kind: str) -> Callable[..., Value]:
    """Lowers and, or, xor of bits; of bools the logical ones."""

    def lowered(build: Builder, a: Any_, b: Any_) -> Value:
        type = named(build.dtype)
        if type == "bool":
            return elementwise(build, f"logical_{kind}", a, b, type=type, out=type)
        return elementwise(build, f"bitwise_{kind}", a, b, type=type, out=type)

    return lowered


def bitwise_not(build: Builder, x: Value) -> Value:
    kind = "logical_not" if x.tensor.type == "bool" else "bitwise_not"
    return elementwise(build, kind, x, type=x.tensor.type, out=x.tensor.type)


def is_special(kind: str) -> Callable[..., Value]:
    """Lowers isnan and isinf; a whole number is neither."""

    def lowered(build: Builder, x: Value) -> Value:
        if x.tensor.type != "f32":
            return elementwise(build, "ne", x, x, type="i32", out="bool")
        return elementwise(build, kind, x, type="f32", out="bool")

    return lowered


def is_finite(build: Builder, x: Value) -> Value:
    """Lowers isfinite: x - x is 0."""
    if x.tensor.type != "f32":
        return elementwise(build, "eq", x, x, type="i32", out="bool")
    return elementwise(build, "eq", subtract(build, x, x), 0.0, type="f32", out="bool")


def sign_bit(build: Builder, x: Value) -> Value:
    if x.tensor.type != "f32":
        return elementwise(build, "lt", x, 0, type="i32", out="bool")
    return elementwise(build, "signbit", x, type="f32", out="bool")


def fraction(build: Builder, x: Value) -> Value:
    return subtract(build, x, rounded("trunc")(build, x))


def cast(build: Builder, x: Value, *ignored: Any) -> Value:
    """Lowers to, type_as and their copies: PyTorch has computed the type."""
    return as_type(build, x, named(build.dtype))


def where(build: Builder, mask: Operand, a: Any_, b: Any_) -> Value:
    return selected(build, mask, a, b, named(build.dtype))


def masked_fill(build: Builder, x: Any_, mask: Operand, value: Any_) -> Value:
    return selected(build, mask, value, x, named(build.dtype))


def clamp_tensors(
    build: Builder, x: Any_, low: Any_ | None = None, high: Any_ | None = None
) -> Value:
    """Lowers clamp for bounds of any kind: the larger one of x and ``low``, and the smaller one of
    that and ``high``."""
    type = named(build.dtype)
    if type == "f32":
        numbers = all(x is None or isinstance(x, int | float) for x in (low, high))
        if numbers and not any(isinstance(x, float) and math.isnan(x) for x in (low, high)):
            return clamp(build, as_type(build, x, type), low, high)
    for bound, kind in ((low, "max"), (high, "min")):
        if bound is not None and type == "f32":
            x = binary(build, kind, as_type(build, x, type), as_type(build, bound, type))
        elif bound is not None:
            x = elementwise(build, kind, x, bound, type=type, out=type)
    return as_type(build, x, type)


def clamp_max(build: Builder, x: Any_, high: Any_) -> Value:
    return clamp_tensors(build, x, None, high)


def nan_to_num(
    build: Builder, x: Value, nan: float | None, high: float | None, low: float | None
) -> Value:
    if x.tensor.type != "f32":
        return x
    most = torch.finfo(torch.float32).max
    for special, number in (
        (math.inf, most if high is None else high),
        (-math.inf, -most if low is None else low),
    ):
        at = elementwise(build, "eq", x, special, type="f32", out="bool")
        x = selected(build, at, float(number), x, "f32")
    at = elementwise(build, "isnan", x, type="f32", out="bool")
    return selected(build, at, float(nan or 0.0), x, "f32")


def log_sigmoid(build: Builder, x: Value) -> Value:
    """Lowers log_sigmoid: -softplus(-x)."""
    return unary(build, unary(build, unary(build, x, "neg"), "softplus"), "neg")


def softplus(build: Builder, x: Value, beta: float, threshold: float) -> Value:
    """Lowers softplus: log(1 + exp(beta x)) / beta, and x itself beyond the threshold."""
    scaled = x if beta == 1 else multiply(build, x, beta)
    soft = unary(build, scaled, "softplus")
    if threshold != 20:
        soft = real("log1p")(build, unary(build, scaled, "exp"))
    soft = soft if beta == 1 else divide(build, soft, beta)
    if threshold == 20:
        return soft
    beyond = elementwise(build, "gt", scaled, float(threshold), type="f32", out="bool")
    return selected(build, beyond, x, soft, "f32")


def soft_shrink(build: Builder, x: Value, by: float) -> Value:
    return subtract(build, x, clamp(build, x, -by, by))


def hard_shrink(build: Builder, x: Value, by: float) -> Value:
    small = elementwise(build, "le", unary(build, x, "abs"), float(by), type="f32", out="bool")
    return selected(build, small, 0.0, x, "f32")


def threshold(build: Builder, x: Value, bound: float, value: float) -> Value:
    below = elementwise(build, "le", x, float(bound), type="f32", out="bool")
    return selected(build, below, float(value), x, "f32")


def celu(build: Builder, x: Value, alpha: float) -> Value:
    return multiply(build, unary(build, divide(build, x, alpha), "elu", 1.0), alpha)


def elu(build: Builder, x: Value, alpha: float, scale: float, input_scale: float) -> Value:
    """Lowers elu: scale · x above 0, else scale · alpha · (exp(input_scale · x) - 1)."""
    if input_scale != 1:
        inner = unary(build, multiply(build, x, input_scale), "elu", alpha)
        above = elementwise(build, "gt", x, 0.0, type="f32", out="bool")
        out = selected(build, above, x, inner, "f32")
    else:
        out = unary(build, x, "elu", alpha)
    return out if scale == 1 else multiply(build, out, scale)


def glu(build: Builder, x: Value, dim: int) -> Value:
    dim %= len(x.shape)
    half = x.shape[dim] // 2
    first, second = (build.sliced(x, dim, i * half, (i + 1) * half) for i in (0, 1))
    return multiply(build, first, unary(build, second, "sigmoid"))


def interpolated(build: Builder, a: Any_, b: Any_, weight: Any_) -> Value:
    """Lowers lerp: a + weight (b - a)."""
    return add(build, a, multiply(build, weight, subtract(build, b, a)))


def add_quotient(build: Builder, x: Any_, a: Any_, b: Any_, value: float) -> Value:
    """Lowers addcdiv: x + value a / b."""
    return add(build, x, divide(build, a, b), value)


def logit(build: Builder, x: Value, eps: float | None) -> Value:
    if eps is not None:
        x = clamp(build, x, eps, 1 - eps)
    return unary(build, divide(build, x, subtract(build, 1.0, x)), "log")


def product_of_log(build: Builder, a: Any_, b: Any_) -> Value:
    """Lowers xlogy: a log(b), 0 where a is 0 and b is a number."""
    a, b = as_type(build, a, "f32"), as_type(build, b, "f32")
    product = multiply(build, a, unary(build, b, "log"))
    zero = elementwise(build, "eq", a, 0.0, type="f32", out="bool")
    number = elementwise(build, "eq", b, b, type="f32", out="bool")
    both = elementwise(build, "logical_and", zero, number, type="bool", out="bool")
    return selected(build, both, 0.0, product, "f32")


def one_hot(build: Builder, x: Value, classes: int) -> Value:
    if classes < 0:
        raise LackingError("whose number of classes depends on the picture")
    last = Value(x.tensor, (*x.dims, ()), x.offset)
    found = elementwise(build, "eq", last, torch.arange(classes), type="i32", out="bool")
    return as_type(build, found, "i32")


def triangle(lower: bool) -> Callable[..., Value]:
    """Lowers tril and triu."""

    def lowered(build: Builder, x: Value, diagonal: int) -> Value:
        ones = torch.ones(x.shape[-2:], dtype=torch.bool)
        kept = ones.tril(diagonal) if lower else ones.triu(diagonal)
        zero = 0.0 if x.tensor.type == "f32" else 0
        return selected(build, kept, x, zero, x.tensor.type)

    return lowered


_FUNCTIONS = (
    *("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh"),
    *("exp2", "expm1", "log2", "log10", "log1p", "erfc"),
)
_COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
_COMPARISON_NAMES = {"less": "lt", "less_equal": "le", "greater": "gt", "greater_equal": "ge"}
_BITS = ("and", "or", "xor")

OPERATORS: dict[str, Callable[..., Any]] = {
    **{f"{name}.default": real(name) for name in _FUNCTIONS},
    **{f"arc{name[1:]}.default": real(name) for name in _FUNCTIONS if name.startswith("a")},
    **{f"special_{name}.default": real(name) for name in ("exp2", "expm1", "log1p", "erfc")},
    **{f"{name}.default": rounded(name) for name in ("trunc", "floor", "ceil", "round")},
    "fix.default": rounded("trunc"),
    "round.decimals": round_decimals,
    "frac.default": fraction,
    "sign.default": arithmetic("sign"),
    "sgn.default": arithmetic("sign"),
    "isnan.default": is_special("isnan"),
    "isinf.default": is_special("isinf"),
    "isfinite.default": is_finite,
    "signbit.default": sign_bit,
    **{
        f"{name}.{form}": test(name)
        for name in _COMPARISONS
        for form in ("Tensor", "Scalar", "default")
    },
    **{
        f"{name}.{form}": test(kind)
        for name, kind in (*_COMPARISON_NAMES.items(), ("not_equal", "ne"))
        for form in ("Tensor", "Scalar")
    },
    **{f"logical_{name}.default": test(f"logical_{name}") for name in (*_BITS, "not")},
    **{
        f"{prefix}{name}{suffix}.{form}": bitwise(name)
        for name in _BITS
        for prefix, suffix in (("bitwise_", ""), ("__", "__"))
        for form in ("Tensor", "Scalar", "Scalar_Tensor")
    },
    "bitwise_not.default": bitwise_not,
    **{
        f"{name}.{form}": arithmetic(kind)
        for kind, names in {
            "shift_left": ("bitwise_left_shift", "__lshift__"),
            "shift_right": ("bitwise_right_shift", "__rshift__"),
        }.items()
        for name in names
        for form in ("Tensor", "Tensor_Scalar", "Scalar_Tensor", "Scalar")
    },
    **{
        f"{name}.{form}": arithmetic(name)
        for name in ("remainder", "fmod", "floor_divide")
        for form in ("Tensor", "Scalar", "Scalar_Tensor", "default")
    },
    "div.Tensor_mode": divide_mode,
    "div.Scalar_mode": divide_mode,
    **{f"{name}.default": real(name) for name in ("atan2", "arctan2", "hypot", "fmax", "fmin")},
    "arctan2.default": real("atan2"),
    "logaddexp.default": real("logaddexp"),
    "copysign.Tensor": real("copysign"),
    "copysign.Scalar": real("copysign"),
    **{
        name: cast
        for name in (
            *("to.dtype", "to.dtype_layout", "to.device", "to.other", "_to_copy.default"),
            *("type_as.default",),
        )
    },
    "where.self": where,
    "where.ScalarOther": where,
    "where.ScalarSelf": where,
    "where.Scalar": where,
    "masked_fill.Scalar": masked_fill,
    "masked_fill.Tensor": masked_fill,
    **{
        f"{name}.{form}": clamp_tensors
        for name in ("clamp", "clip", "clamp_min")
        for form in ("default", "Tensor")
    },
    "clamp_max.default": clamp_max,
    "clamp_max.Tensor": clamp_max,
    "nan_to_num.default": nan_to_num,
    "log_sigmoid.default": log_sigmoid,
    "softplus.default": softplus,
    "softshrink.default": soft_shrink,
    "hardshrink.default": hard_shrink,
    "threshold.default": threshold,
    "celu.default": celu,
    "elu.default": elu,
    "glu.default": glu,
    "lerp.Scalar": interpolated,
    "lerp.Tensor": interpolated,
    "addcdiv.default": add_quotient,
    "logit.default": logit,
    **{
        f"{name}.{form}": product_of_log
        for name in ("xlogy", "special_xlogy")
        for form in ("Tensor", "Scalar_Self", "Scalar_Other", "self_scalar", "other_scalar")
    },
    "xlogy.default": product_of_log,
    "one_hot.default": one_hot,
    "tril.default": triangle(lower=True),
    "triu.default": triangle(lower=False),
}
