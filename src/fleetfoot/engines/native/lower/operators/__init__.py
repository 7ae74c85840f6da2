"""PyTorch's operators as nodes: one function for each, by ATen's name and overload.

A function gets the ``Builder`` and the operator's arguments in the order of its schema, with
defaults filled in: a ``Value`` for what depends on the picture, a tensor for a constant of the
network.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fleetfoot.engines.native.lower.operators import (
    core,
    elementwise,
    indexing,
    products,
    reductions,
    shapes,
    windows,
    writes,
)
from fleetfoot.engines.native.lower.operators.windows import Padded

__all__ = ["OPERATORS", "Padded"]

OPERATORS: dict[str, Callable[..., Any]] = {
    **elementwise.OPERATORS,
    **reductions.OPERATORS,
    **windows.OPERATORS,
    **shapes.OPERATORS,
    **products.OPERATORS,
    **indexing.OPERATORS,
    **writes.OPERATORS,
    **core.OPERATORS,
}
