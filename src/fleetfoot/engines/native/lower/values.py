"""Values: how a torch tensor of the network is laid out in memory, and views without a copy.

A logical dimension is a product of strided factors, outermost first. A dimension of 12 that was
made by merging 4 with stride 1 and 3 with stride 40 is ``((4, 1), (3, 40))``, which no single
stride describes. So every reshape that splits and merges whole factors is free, and a chain such
as MobileViT's from a map to patches and back costs at most one copy, if a reader needs plain
strides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from fleetfoot.engines.native.graph import Tensor

Factor = tuple[int, int]
"""Size and stride of one factor, in elements."""
Dimension = tuple[Factor, ...]
"""Factors of one dimension, outermost first; empty if its size is 1."""


@dataclass(frozen=True, eq=False)
class Value:
    """A view of a tensor with all of PyTorch's dimensions, including the batch of one."""

    tensor: Tensor
    dims: tuple[Dimension, ...]
    offset: int = 0

    @staticmethod
    def strided(
        tensor: Tensor, shape: Sequence[int], strides: Sequence[int], offset: int = 0
    ) -> Value:
        dims = tuple(merged([factor]) for factor in zip(shape, strides, strict=True))
        return Value(tensor, dims, offset)

    @staticmethod
    def dense(tensor: Tensor, shape: Sequence[int], order: Sequence[int]) -> Value:
        """A value over the whole tensor; ``order`` lists its dimensions in memory, outermost
        first."""
        strides, stride = [0] * len(shape), 1
        for dim in reversed(order):
            strides[dim] = stride
            stride *= shape[dim]
        return Value.strided(tensor, shape, strides)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(size(dim) for dim in self.dims)

    @property
    def plain(self) -> bool:
        """Whether each dimension has one stride."""
        return all(len(dim) <= 1 for dim in self.dims)

    @property
    def repeats(self) -> bool:
        """Whether some element appears at more than one index."""
        return any(stride == 0 for dim in self.dims for _, stride in dim)

    @property
    def key(self) -> tuple[object, ...]:
        """A key that is equal for two values of the same elements in the same order."""
        return id(self.tensor), self.dims, self.offset

    def stride(self, dim: int) -> int:
        """Stride of a dimension with one factor; 0 if its size is 1."""
        return self.dims[dim][0][1] if self.dims[dim] else 0

    def order(self) -> tuple[int, ...]:
        """The dimensions in memory order, outermost first. If some have several factors, the order
        is unchanged, except that the one with the smallest stride goes last."""
        inner = [min((s for _, s in dim if s), default=0) for dim in self.dims]
        where = range(len(self.dims))
        if self.plain:
            # a dimension that repeats or has size 1 keeps its position
            moving = [i for i in where if inner[i]]
            ordered = iter(sorted(moving, key=lambda i: -inner[i]))
            return tuple(next(ordered) if inner[i] else i for i in where)
        last = min((i for i in where if inner[i]), key=lambda i: inner[i])
        return (*(i for i in where if i != last), last)

    def is_dense(self, order: Sequence[int]) -> bool:
        """Whether the value is its whole tensor with dimensions in ``order``."""
        whole = Value.dense(self.tensor, self.shape, order)
        return (self.dims, self.offset, math.prod(self.shape)) == (
            whole.dims,
            0,
            self.tensor.size,
        )

    def permute(self, order: Sequence[int]) -> Value:
        return Value(self.tensor, tuple(self.dims[i] for i in order), self.offset)

    def transpose(self, first: int, second: int) -> Value:
        order = list(range(len(self.dims)))
        order[first], order[second] = order[second], order[first]
        return self.permute(order)

    def expand(self, shape: Sequence[int]) -> Value:
        """The value with dimensions of size 1 repeated, and leading ones added; other sizes must be
        equal."""
        dims = (*[()] * (len(shape) - len(self.dims)), *self.dims)
        repeated = tuple(
            ((n, 0),) if n > 1 and size(dim) == 1 else dim
            for n, dim in zip(shape, dims, strict=True)
        )
        return Value(self.tensor, repeated, self.offset)

    def select(self, dim: int, index: int) -> Value:
        """The value at one index of a dimension, which is removed."""
        offset = self.offset
        for count, stride in reversed(self.dims[dim]):
            offset += index % count * stride
            index //= count
        return Value(self.tensor, self.dims[:dim] + self.dims[dim + 1 :], offset)

    def slice(self, dim: int, start: int, stop: int, step: int = 1) -> Value | None:
        """A slice of a dimension; None if a dimension of several factors would be cut inside
        one."""
        factors = self.dims[dim]
        count = len(range(start, stop, step))
        if count == size(factors):
            return self
        inner = math.prod(n for n, _ in factors[1:])
        if inner > 1 and (step != 1 or start % inner or count % inner):
            return None
        stride = factors[0][1]
        cut = merged([(count // inner, stride * step), *factors[1:]])
        offset = self.offset + start // inner * stride
        return Value(self.tensor, (*self.dims[:dim], cut, *self.dims[dim + 1 :]), offset)

    def reshape(self, shape: Sequence[int]) -> Value | None:
        """The value in another shape; None if a factor would have to be cut unevenly."""
        left = list(merged([factor for dim in self.dims for factor in dim]))
        dims: list[Dimension] = []
        for wanted in shape:
            taken: list[Factor] = []
            while wanted > 1:
                count, stride = left.pop(0)
                if wanted % count == 0:
                    taken.append((count, stride))
                    wanted //= count
                elif count % wanted == 0:
                    inner = count // wanted
                    taken.append((wanted, stride * inner))
                    left.insert(0, (inner, stride))
                    wanted = 1
                else:
                    return None
            dims.append(merged(taken))
        return Value(self.tensor, tuple(dims), self.offset)


def size(dim: Dimension) -> int:
    return math.prod(n for n, _ in dim)


def merged(factors: Sequence[Factor]) -> Dimension:
    """The factors without those of size 1, with neighbours merged if one stride describes them."""
    done: list[Factor] = []
    for count, stride in factors:
        if count == 1:
            continue
        if done and done[-1][1] == count * stride:
            count *= done.pop()[0]
        done.append((count, stride))
    return tuple(done)


def refine(dims: Sequence[Dimension]) -> list[Dimension] | None:
    """Dimensions of one size, each cut into factors of the same sizes; None if their cuts do not
    nest."""
    cuts = {1}
    for dim in dims:
        inner = 1
        for count, _ in reversed(dim):
            inner *= count
            cuts.add(inner)
    bounds = sorted(cuts)
    if any(high % low for low, high in pairwise(bounds)):
        return None
    refined: list[Dimension] = []
    for dim in dims:
        pieces: list[Factor] = []
        inner = 1
        for count, stride in reversed(dim):
            for low, high in pairwise(bounds):
                if inner <= low < inner * count:
                    pieces.append((high // low, stride * (low // inner)))
            inner *= count
        refined.append(tuple(reversed(pieces)))
    return refined


def channels_last(rank: int) -> tuple[int, ...]:
    """The order of (B, C, ...) in which the channels are contiguous."""
    return (0, *range(2, rank), 1)
