"""Arguments of ATen's operators, brought into one form."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fleetfoot.engines.native.lower.values import Value
from fleetfoot.errors import LackingError

Operand = Value | torch.Tensor
"""A value that depends on the picture, or a constant of the network."""


def many(x: int | Sequence[int], count: int) -> tuple[int, ...]:
    """``count`` numbers; in ATen one may stand for all."""
    if isinstance(x, int):
        return (x,) * count
    return tuple(x) * count if len(x) == 1 else tuple(x)


def pair(x: int | Sequence[int]) -> tuple[int, int]:
    """A height and a width, of ``many``."""
    height, width = many(x, 2)
    return height, width


def constant(x: Operand | None, what: str) -> torch.Tensor:
    """``x``, which must be a constant of the network.

    Raises:
        LackingError: ``x`` depends on the picture.
    """
    if not isinstance(x, torch.Tensor):
        raise LackingError(f"with {what} that depends on the picture")
    return x


def number(x: Operand | float) -> float | None:
    """The single number that ``x`` is, or None if it is more or depends on the picture."""
    if isinstance(x, torch.Tensor) and x.numel() == 1:
        return float(x.item())
    return float(x) if isinstance(x, int | float) else None


def positive(dims: int | Sequence[int] | None, rank: int) -> tuple[int, ...]:
    """Dimensions counted from the front; all of them if ``dims`` is None or empty."""
    if isinstance(dims, int):
        dims = (dims,)
    return tuple(dim % rank for dim in dims) if dims else tuple(range(rank))
