"""Types of values: what an operator takes is brought to one type, as PyTorch promotes it.

A value's type is that of its tensor, "f32", "i32" or "bool". A bool is a whole number of 0 or 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from fleetfoot.engines.native.lower.builder import TYPES, Builder
from fleetfoot.engines.native.lower.operators.arguments import Operand
from fleetfoot.engines.native.lower.values import Value
from fleetfoot.errors import LackingError

Scalar = bool | int | float


def type_of(x: Operand | Scalar) -> str:
    """The type of an operand; a number's is that of PyTorch's tensor of it.

    Raises:
        LackingError: the engine has no such type.
    """
    if isinstance(x, Value):
        return x.tensor.type
    if isinstance(x, torch.Tensor):
        if x.dtype == torch.float64:  # parameters are rounded
            return "f32"
        return named(x.dtype)
    return "bool" if isinstance(x, bool) else "i32" if isinstance(x, int) else "f32"


def named(dtype: torch.dtype) -> str:
    """The engine's type for PyTorch's.

    Raises:
        LackingError: there is none.
    """
    if dtype not in TYPES:
        raise LackingError(f"in {str(dtype).removeprefix('torch.')}")
    return TYPES[dtype]


def common(*operands: Operand | Scalar) -> str:
    """The type in which operands are compared or joined: "f32" if one is, else "i32" if one is, of
    bools alone "bool"."""
    types = {type_of(x) for x in operands}
    return next(name for name in ("f32", "i32", "bool") if name in types)


def as_type(build: Builder, x: Operand | Scalar, type: str) -> Value:
    """``x`` as a value of a type. Fractions are cut off; a bool says whether a number is not 0."""
    if not isinstance(x, Value):
        x = x if isinstance(x, torch.Tensor) else torch.tensor(x)
        if type != "f32" and x.is_floating_point():
            x = x != 0 if type == "bool" else x.trunc().long()
        return build.constant(x, "constant", type=type)
    have = x.tensor.type
    if have == type:
        return x
    if type == "bool":
        return elementwise(build, "ne", x, 0, type=have, out="bool")
    if type == "f32":
        return elementwise(build, "to_f32", x, type=have, out="f32")
    if have == "f32":
        return elementwise(build, "to_i32", x, type=have, out="i32")
    out = build.fresh(x.shape, x.order(), type=type)
    build.write(x, out, x.order())
    return out


def elementwise(
    build: Builder,
    kind: str,
    *operands: Operand | Scalar,
    type: str,
    out: str,
) -> Value:
    """Adds node elementwise, on operands of ``type`` that broadcast, with a result of type
    ``out``."""
    values = [
        x
        if type == "i32" and isinstance(x, Value) and x.tensor.type == "bool"  # it is a number
        else as_type(build, x, type)
        for x in operands
    ]
    shape = torch.broadcast_shapes(*(tuple(x.shape) for x in values))
    inputs = dict(zip("abc", values, strict=False))
    return build.elementwise("elementwise", inputs, shape=shape, type=out, kind=kind)


def selected(
    build: Builder, condition: Operand, a: Operand | Scalar, b: Operand | Scalar, type: str
) -> Value:
    """``a`` where a condition holds, else ``b``, both brought to a type."""
    values = [as_type(build, condition, "bool"), *(as_type(build, x, type) for x in (a, b))]
    shape = torch.broadcast_shapes(*(tuple(x.shape) for x in values))
    inputs = dict(zip("abc", values, strict=True))
    return build.elementwise("elementwise", inputs, shape=shape, type=type, kind="where")


def in_type(lowered: Callable[..., Any], kind: str = "", *, of_bools: str = "") -> Any:
    """Lowers an arithmetic operator: by ``lowered`` if its result is float32, with values of other
    types brought to it, else by node elementwise of kind ``kind`` in the type of the result."""

    def by_type(build: Builder, *arguments: Any) -> Any:
        type = named(build.dtype)
        if type == "f32":
            given = [as_type(build, x, type) if isinstance(x, Value) else x for x in arguments]
            return lowered(build, *given)
        if not kind:
            raise LackingError(f"in {str(build.dtype).removeprefix('torch.')}")
        operands = list(arguments[:2])
        if len(arguments) > 2 and arguments[2] != 1:  # alpha
            scaled = 0 if lowered.__name__ == "subtract_from" else 1
            operands[scaled] = elementwise(
                build, "mul", operands[scaled], arguments[2], type=type, out=type
            )
        if lowered.__name__ == "subtract_from":
            operands.reverse()
        name = of_bools if of_bools and type == "bool" else kind
        return elementwise(build, name, *operands, type=type, out=type)

    return by_type
