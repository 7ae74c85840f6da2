"""Reading and writing at constant indices.

Indexed dimensions are brought together and merged into one, so that a gather over one dimension
reads them; to write is to gather from the old value and the new part together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from fleetfoot.engines.native.lower.builder import Builder
from fleetfoot.engines.native.lower.operators.arguments import Operand, constant
from fleetfoot.engines.native.lower.operators.elementwise import add, where
from fleetfoot.engines.native.lower.operators.shapes import joined
from fleetfoot.engines.native.lower.operators.windows import gathered
from fleetfoot.engines.native.lower.values import Value
from fleetfoot.errors import LackingError


@dataclass(frozen=True)
class Places:
    """What indices mean for a value: where in its merged dimensions they point."""

    order: tuple[int, ...]
    """The value's dimensions as they are read: indexed ones lie together."""
    first: int
    """The position of the first indexed dimension in ``order``."""
    count: int
    """The number of indexed dimensions."""
    shape: tuple[int, ...]
    """The shape of the indices, which takes the indexed dimensions' place in a result."""
    index: torch.Tensor
    """The indices of the merged dimension, flat."""

    @classmethod
    def of(cls, shape: Sequence[int], indices: Sequence[Operand | None]) -> Places:
        """Raises LackingError: an index depends on the picture."""
        arrays: dict[int, torch.Tensor] = {}
        dim = 0
        for one in indices:
            if one is None:
                dim += 1
                continue
            array = constant(one, "an index")
            for place in array.nonzero(as_tuple=True) if is_mask(array) else [array]:
                arrays[dim] = torch.where(place < 0, place + shape[dim], place)
                dim += 1
        indexed, rest = list(arrays), [i for i in range(len(shape)) if i not in arrays]
        together = indexed[-1] - indexed[0] < len(indexed)
        first = indexed[0] if together else 0  # as in NumPy, they come first if they are apart
        order = (*rest[:first], *indexed, *rest[first:])
        spread = torch.broadcast_tensors(*arrays.values())
        flat = torch.zeros((), dtype=torch.long)
        for dim, array in zip(indexed, spread, strict=True):
            flat = flat * shape[dim] + array
        return cls(order, first, len(indexed), tuple(spread[0].shape), flat.flatten())

    def merged(self, build: Builder, x: Value) -> Value:
        """The value with its indexed dimensions as one."""
        shape = [x.shape[dim] for dim in self.order]
        end = self.first + self.count
        shape[self.first : end] = [math.prod(shape[self.first : end])]
        return build.reshaped(x.permute(self.order), shape)

    def split(self, build: Builder, x: Value, shape: Sequence[int]) -> Value:
        """What ``merged`` gave, in the value's own ``shape`` again."""
        whole = build.reshaped(x, [shape[dim] for dim in self.order])
        return whole.permute([self.order.index(dim) for dim in range(len(shape))])


def is_mask(x: Operand) -> bool:
    return getattr(x, "dtype", None) in (torch.bool, torch.uint8)


def index_select(build: Builder, x: Value, dim: int, index: Operand) -> Value:
    return gathered(build, x, dim % len(x.shape), constant(index, "an index"))


def index(build: Builder, x: Operand, indices: Sequence[Operand | None]) -> Value:
    """Lowers index by constant indices and masks."""
    places = Places.of(x.shape, indices)
    found = gathered(build, places.merged(build, build.value(x)), places.first, places.index)
    return build.reshaped(found, build.shape)


def index_put(
    build: Builder,
    x: Operand,
    indices: Sequence[Operand | None],
    values: Operand,
    accumulate: bool = False,
) -> Value:
    """Lowers index_put by constant indices, or of one value by a mask that depends on the
    picture."""
    masks = [(dim, one) for dim, one in enumerate(indices) if isinstance(one, Value)]
    if len(masks) == 1 and len(indices) == masks[0][0] + 1 and math.prod(values.shape) == 1:
        dim, mask = masks[0]
        if is_mask(mask) and not accumulate:
            rest = len(x.shape) - dim - len(mask.shape)
            mask = build.reshaped(mask, (*[1] * dim, *mask.shape, *[1] * rest))
            return where(build, mask, values.reshape([]), x)
    places = Places.of(x.shape, indices)
    if accumulate and len(places.index.unique()) < len(places.index):
        raise LackingError("that adds to one place several times")
    old = places.merged(build, build.value(x))
    kept = [x.shape[dim] for dim in places.order]
    before, after = kept[: places.first], kept[places.first + places.count :]
    new = build.value(values).expand((*before, *places.shape, *after))
    new = build.reshaped(new, (*before, len(places.index), *after))
    if accumulate:
        new = add(build, gathered(build, old, places.first, places.index), new)
    out = replaced_at(build, old, new, places.first, places.index)
    return places.split(build, out, x.shape)


def replaced_at(build: Builder, x: Value, source: Value, dim: int, places: torch.Tensor) -> Value:
    """``x`` with ``source`` at constant places of a dimension; the last of equal places counts."""
    chosen = torch.arange(x.shape[dim])
    for i, place in enumerate(places.tolist()):
        chosen[place] = x.shape[dim] + i
    return gathered(build, joined(build, [x, source], dim), dim, chosen)


OPERATORS: dict[str, Callable[..., Any]] = {
    "index_select.default": index_select,
    "index.Tensor": index,
    "_unsafe_index.Tensor": index,
    "index_put.default": index_put,
    "_unsafe_index_put.default": index_put,
}
