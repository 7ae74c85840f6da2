"""PyTorch's operators as nodes: one function for each, by ATen's name and overload.

A function gets the ``Builder`` and the operator's arguments in the order of its schema, with
defaults filled in: a ``Value`` for what depends on the picture, a tensor for a constant of the
network.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fleetfoot.engines.native.lower.operators import (
    aggregates,
    core,
    elementwise,
    indexing,
    ordering,
    pointwise,
    products,
    reductions,
    resizing,
    shapes,
    volumes,
    windows,
    writes,
)
from fleetfoot.engines.native.lower.operators.windows import Padded

__all__ = ["OPERATORS", "Padded"]

OPERATORS: dict[str, Callable[..., Any]] = {
    **elementwise.OPERATORS,
    **pointwise.OPERATORS,
    **reductions.OPERATORS,
    **aggregates.OPERATORS,
    **ordering.OPERATORS,
    **indexing.OPERATORS,
    **windows.OPERATORS,
    **volumes.OPERATORS,
    **resizing.OPERATORS,
    **shapes.OPERATORS,
    **products.OPERATORS,
    **writes.OPERATORS,
    **core.OPERATORS,
}
