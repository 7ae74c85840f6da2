"""Queries for the passes: which nodes read and write a view, and one view relative to another.

All answers are on the safe side: two views that cannot be shown to be disjoint count as
overlapping; a view that cannot be expressed relative to another is None, and the graph stays as it
is.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fleetfoot.engines.native.graph import Graph, Node, Tensor, View

CONVOLUTIONS = ("conv", "depthwise", "transposed")
"""Operators that end with ``post(act(sum + bias) + residual)``."""
MAP_OPS = (*CONVOLUTIONS, "pool", "resize", "resample", "sample")
"""Operators that read and write maps (H, W, C) with contiguous channels."""


@dataclass(frozen=True, eq=False)
class Use:
    """A node's view of a tensor. The role of its output is "out"."""

    index: int
    """Index of the node in the graph."""
    node: Node
    role: str
    view: View


class Flow:
    """The reads and writes of each tensor, in the order of the nodes. Valid until the graph
    changes."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._reads: dict[Tensor, list[Use]] = {}
        self._writes: dict[Tensor, list[Use]] = {}
        for index, node in enumerate(graph.nodes):
            for role, view in node.inputs.items():
                self._reads.setdefault(view.tensor, []).append(Use(index, node, role, view))
            use = Use(index, node, "out", node.out)
            self._writes.setdefault(node.out.tensor, []).append(use)

    def reads(self, what: View | Tensor) -> list[Use]:
        return _of(self._reads, what)

    def writes(self, what: View | Tensor) -> list[Use]:
        return _of(self._writes, what)

    def written(self, view: View, begin: int, end: int) -> bool:
        """Whether a node in [begin, end) writes to a part of the view."""
        return any(begin <= use.index < end for use in self.writes(view))

    def movable(self, node: Node, index: int, to: int) -> bool:
        """Whether the node's inputs allow it to run at ``to`` instead of at ``index``."""
        return not any(self.written(view, index + 1, to) for view in node.inputs.values())

    def only_reader(self, index: int, role: str) -> Use | None:
        """The node that writes what ``role`` of node ``index`` reads; None if another node reads or
        writes it too, or it is an output."""
        view = self.graph.nodes[index].inputs[role]
        writes = self.writes(view)
        if view.tensor.kind != "arena" or len(writes) != 1 or len(self.reads(view)) != 1:
            return None
        writer = writes[0]
        others = [use for use in self.reads(writer.view) if use.index != index]
        same = writer.view.offset == view.offset and levels(writer.view) == levels(view)
        return writer if writer.index < index and same and not others else None


def _of(uses: dict[Tensor, list[Use]], what: View | Tensor) -> list[Use]:
    if isinstance(what, Tensor):
        return uses.get(what, [])
    return [use for use in uses.get(what.tensor, []) if not disjoint(use.view, what)]


def levels(view: View) -> list[tuple[int, int]]:
    """(size, stride) of a view's elements, outermost first, as few as possible: equal for two views
    of the same elements in whatever order of dimensions."""
    found: list[tuple[int, int]] = []
    dimensions = zip(view.shape, view.strides, strict=True)
    for size, stride in sorted(
        ((n, s) for n, s in dimensions if n > 1 and s), key=lambda level: -level[1]
    ):
        if found and found[-1][1] == size * stride:
            found[-1] = (found[-1][0] * size, stride)
        else:
            found.append((size, stride))
    return found


def disjoint(a: View, b: View) -> bool:
    """Whether two views share no element, as far as their ranges and slices of a pixel show."""
    if a.tensor is not b.tensor:
        return True
    first, second = levels(a), levels(b)
    spans = [sum((n - 1) * s for n, s in level) for level in (first, second)]
    if a.offset + spans[0] < b.offset or b.offset + spans[1] < a.offset:
        return True
    for period in {s for _, s in (*first, *second) if s > 1}:
        ranges = []
        for view, level in ((a, first), (b, second)):
            if any(s >= period and s % period for _, s in level):
                break
            begin = view.offset % period
            end = begin + sum((n - 1) * s for n, s in level if s < period)
            if end >= period:
                break
            ranges.append((begin, end))
        if len(ranges) == 2 and (ranges[0][1] < ranges[1][0] or ranges[1][1] < ranges[0][0]):
            return True
    return False


def reshaped(view: View, shape: tuple[int, ...]) -> View | None:
    """A view of the same elements in the same order in another shape; None if that needs a copy."""
    groups: list[tuple[int, int]] = []
    for size, stride in zip(view.shape, view.strides, strict=True):
        if size == 1:
            continue
        if groups and groups[-1][1] == size * stride:
            groups[-1] = (groups[-1][0] * size, stride)
        else:
            groups.append((size, stride))
    strides: list[int] = []
    for size in reversed(shape):
        if size == 1:
            strides.append(0)
            continue
        if not groups or groups[-1][0] % size:
            return None
        count, stride = groups.pop()
        strides.append(stride)
        if count > size:
            groups.append((count // size, stride * size))
    if groups:
        return None
    for i in range(len(strides)):  # size 1: a dense stride, since kernels need one
        if shape[len(shape) - 1 - i] == 1:
            strides[i] = strides[i - 1] * shape[len(shape) - i] if i else 1
    return View(view.tensor, shape, tuple(reversed(strides)), view.offset)


def permuted(view: View, order: Sequence[int]) -> View:
    return View(
        view.tensor,
        tuple(view.shape[i] for i in order),
        tuple(view.strides[i] for i in order),
        view.offset,
    )


def same_place(a: View, b: View) -> bool:
    """Whether two views have the same elements at the same indices."""

    def strides(view: View) -> list[int]:
        return [s for n, s in zip(view.shape, view.strides, strict=True) if n > 1]

    return (a.tensor, a.shape, a.offset) == (b.tensor, b.shape, b.offset) and (
        strides(a) == strides(b)
    )


def aligned(view: View, others: Iterable[View], target: View) -> list[View] | None:
    """``others``, which share ``view``'s indices, re-expressed so that ``view`` becomes
    ``target``."""
    order = sorted(range(len(view.shape)), key=lambda i: (-view.strides[i], view.shape[i] == 1))
    there = reshaped(permuted(view, order), target.shape)
    if there is None or not same_place(there, target):
        return None
    found = [reshaped(permuted(other, order), target.shape) for other in others]
    return None if None in found else [view for view in found if view is not None]


def transferred(view: View, old: View, new: View) -> View | None:
    """``view`` of elements of ``old``, expressed as a view of the same elements of ``new``.

    ``old`` and ``new`` have one shape. None if the view includes other elements of the tensor, or
    if no strides can express it.
    """
    steps: list[tuple[int, int, int]] = []  # size, stride in old, stride in new
    dimensions = zip(old.shape, old.strides, new.strides, strict=True)
    for size, s, t in sorted((d for d in dimensions if d[0] > 1), key=lambda d: -d[1]):
        if steps and steps[-1][1:] == (size * s, size * t):
            steps[-1] = (steps[-1][0] * size, s, t)
        else:
            steps.append((size, s, t))
    for (_, outer, _), (size, inner, _) in itertools.pairwise(steps):
        if outer < size * inner:
            return None
    if any(s == 0 for _, s, _ in steps):
        return None

    def digits(distance: int) -> list[int] | None:
        found = []
        for _, stride, _ in steps:
            found.append(distance // stride)
            distance %= stride
        return None if distance else found

    if view.offset < old.offset:
        return None
    begin = digits(view.offset - old.offset)
    if begin is None:
        return None
    reach = list(begin)
    strides = []
    for size, stride in zip(view.shape, view.strides, strict=True):
        step = digits(stride) if size > 1 else [0] * len(steps)
        if step is None:
            return None
        reach = [r + (size - 1) * d for r, d in zip(reach, step, strict=True)]
        strides.append(sum(d * t for d, (_, _, t) in zip(step, steps, strict=True)))
    if any(r >= size for r, (size, _, _) in zip(reach, steps, strict=True)):
        return None
    offset = new.offset + sum(d * t for d, (_, _, t) in zip(begin, steps, strict=True))
    moved = View(new.tensor, view.shape, tuple(strides), offset)
    return reshaped(moved, moved.shape)


def legal(node: Node, role: str, view: View) -> bool:
    """Whether a kernel takes the view in this role, with strides given by a pass."""
    if role == "gate" or (node.op in MAP_OPS and role in ("x", "residual", "grid", "out")):
        return view.shape[-1] == 1 or view.strides[-1] == 1
    return True


def replaced(node: Node, change: Callable[[View], View]) -> None:
    """Replaces each view of a node by its changed one, in place."""
    node.inputs = {role: change(view) for role, view in node.inputs.items()}
    node.out = change(node.out)


def values(view: View) -> np.ndarray[Any, Any]:
    """The data of a constant's view, in the view's shape."""
    data = view.tensor.data
    assert data is not None, f"{view.tensor.name} is no constant"
    flat = np.ascontiguousarray(data).reshape(-1)[view.offset :]
    return np.lib.stride_tricks.as_strided(
        flat, view.shape, [s * flat.itemsize for s in view.strides], writeable=False
    )


def constant(name: str, data: np.ndarray[Any, Any]) -> View:
    """A new constant, float32, or int32 for whole numbers."""
    kind = np.int32 if np.issubdtype(data.dtype, np.integer) else np.float32
    data = np.ascontiguousarray(data, dtype=kind)
    type = "i32" if kind is np.int32 else "f32"
    tensor = Tensor(kind="constant", size=data.size, type=type, name=name, data=data)
    return View.dense(tensor, data.shape)


def is_constant(view: View) -> bool:
    return view.tensor.kind == "constant"


def normalise(graph: Graph) -> None:
    """Orders the dimensions of each pointwise node as its result lies in memory, so that a map is
    (H, W, C) for all of them. Changes the graph."""
    for node in graph.nodes:
        if node.op in ("unary", "binary", "copy", "fill"):
            shape, strides = node.out.shape, node.out.strides
            outermost = [
                -(s if n > 1 or s else math.inf) for n, s in zip(shape, strides, strict=True)
            ]
            order = sorted(range(len(shape)), key=outermost.__getitem__)
            replaced_inputs = {r: permuted(v, order) for r, v in node.inputs.items()}
            node.inputs, node.out = replaced_inputs, permuted(node.out, order)


def same_attributes(node: Node, **changes: Any) -> dict[str, Any]:
    """The node's attributes with some replaced; those given as None are removed."""
    merged = {**node.attributes, **changes}
    return {name: value for name, value in merged.items() if value is not None}
