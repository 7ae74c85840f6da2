"""Adds nodes to a graph, and brings values into the shapes and orders that each node needs.

No memory is written twice: a node's result is a new tensor, and what a network changes in place
becomes a new value (``lower.py``). So a copy made for one reader serves all.

Views of nodes have neither the batch nor other dimensions of size 1; their dimensions are in memory
order, with leading ones of size 1 up to three: a map is always (H, W, C), a row of tokens (1, M,
C), a vector (1, 1, C).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from fleetfoot.engines.native.graph import TYPED, Node, Tensor, View
from fleetfoot.engines.native.lower.values import Value, channels_last, merged, refine
from fleetfoot.errors import LackingError

MAX_RANK = 6
"""Largest number of dimensions, as the core's ``kMaxRank``."""
INT32_MAX = 2**31 - 1

TYPES = {
    torch.float32: "f32",
    torch.int64: "i32",
    torch.int32: "i32",
    torch.bool: "bool",
}
"""Type of a tensor of the graph, by PyTorch's type; other types have none."""
TYPE_NAMES = {"f32": "float32", "i32": "whole numbers", "bool": "bools"}

Part = tuple[int, int, Value]
"""A part of a value: from where to where along one dimension, and its own value."""


class Builder:
    """The nodes so far, and facts about the current operator.

    ``path`` is the path of its module, ``shape`` and ``dtype`` are PyTorch's for its result.
    ``order`` is the memory order that the result's reader prefers, or None. ``padding`` is the
    value with which all readers of the result can pad by themselves, or None.
    """

    def __init__(self, names: dict[int, str]) -> None:
        self.nodes: list[Node] = []
        self.path = ""
        self.shape: tuple[int, ...] = ()
        self.dtype = torch.float32
        self.order: tuple[int, ...] | None = None
        self.padding: float | None = None
        self._names = names
        """Names of the network's parameters and buffers, by identity."""
        self._constants: dict[bytes, Tensor] = {}
        self._taken: set[str] = set()
        self._copies: dict[tuple[object, ...], Value] = {}
        self._parts: dict[tuple[object, ...], list[Part]] = {}

    # -- values

    def fresh(
        self, shape: Sequence[int], order: Sequence[int] | None = None, *, type: str = "f32"
    ) -> Value:
        """New memory for a result; in C order if none is given."""
        tensor = Tensor(kind="arena", size=math.prod(shape), type=type)
        return Value.dense(tensor, shape, range(len(shape)) if order is None else order)

    def constant(self, data: torch.Tensor, role: str, *, type: str = "f32") -> Value:
        """A constant of the plan, of a type that ``Tensor`` names; an index is "i32". Equal ones
        are kept once; repeated dimensions are not stored.

        Raises:
            LackingError: a whole number exceeds int32.
        """
        type = "i32" if role == "index" else type
        name = self._names.get(id(data)) or f"{self.path}.{role}".lstrip(".")
        whole, data = data.shape, data.detach()
        for dim, stride in enumerate(data.stride()):
            if stride == 0 and whole[dim] > 1:
                data = data.narrow(dim, 0, 1)
        if type == "i32" and data.numel() and int(data.abs().max()) > INT32_MAX:
            raise LackingError("with a whole number beyond int32")
        if type == "bool":
            data = data != 0
        kind = torch.float32 if type == "f32" else torch.int32
        array: np.ndarray[Any, Any] = data.to("cpu", kind, copy=True).contiguous().numpy()
        person = (type + role)[:9].encode()
        digest = hashlib.blake2b(array.data, digest_size=16, person=person).digest()
        tensor = self._constants.get(digest)
        if tensor is None:
            name = self._unique(name)
            tensor = Tensor(kind="constant", size=array.size, type=type, name=name, data=array)
            self._constants[digest] = tensor
        return Value.dense(tensor, array.shape, range(array.ndim)).expand(whole)

    def _unique(self, name: str) -> str:
        number, wanted = 1, name
        while name in self._taken:
            number += 1
            name = f"{wanted}.{number}"
        self._taken.add(name)
        return name

    def value(self, x: Value | torch.Tensor, role: str = "constant", *, type: str = "f32") -> Value:
        """A value unchanged, or a constant of the network as a value."""
        return x if isinstance(x, Value) else self.constant(x, role, type=type)

    def remember(self, x: Value, dim: int, parts: list[Part]) -> None:
        """Keeps what a value was put together from along a dimension."""
        self._parts[x.key, dim] = parts

    def parts_of(self, x: Value, dim: int) -> list[Part]:
        """What a value was put together from along a dimension; the value itself if that is not
        known."""
        return self._parts.get((x.key, dim), [(0, x.shape[dim], x)])

    # -- nodes

    def emit(self, op: str, inputs: dict[str, View], out: View, **attributes: Any) -> None:
        """Adds a node.

        Raises:
            LackingError: it takes or gives whole numbers or bools, and has no kernel for them.
        """
        if op not in TYPED:
            for view in (out, *(view for role, view in inputs.items() if role != "index")):
                if view.tensor.type != "f32":
                    raise LackingError(f"of {TYPE_NAMES[view.tensor.type]}")
        kept = {key: value for key, value in attributes.items() if value is not None}
        self.nodes.append(Node(op=op, inputs=inputs, out=out, attributes=kept, name=self.path))

    def copy(self, x: Value, order: Sequence[int] | None = None) -> Value:
        """A copy of the value in its own dense memory, which later readers share."""
        order = tuple(x.order() if order is None else order)
        key = (x.key, order)
        if key not in self._copies:
            out = self.fresh(x.shape, order, type=x.tensor.type)
            self.write(x, out, order)
            self._copies[key] = out
        return self._copies[key]

    def write(self, x: Value, out: Value, order: Sequence[int]) -> None:
        """Copies ``x`` into a part of a new value; in several nodes if it has many dimensions."""
        columns = _all_columns([x, out], order)
        if columns is None:
            raise LackingError(f"more than {MAX_RANK} dimensions")
        for source, target in _pairs(x, out, columns):
            self.emit("copy", {"x": source}, target)

    def plain(self, x: Value) -> Value:
        """The value with one stride for each dimension, copied if necessary."""
        return x if x.plain else self.copy(x)

    def reshaped(self, x: Value, shape: Sequence[int]) -> Value:
        """The value in another shape. Free if no factor is cut; otherwise a copy in PyTorch's
        order."""
        done = x.reshape(shape)
        if done is None:
            done = self.copy(x, range(len(x.dims))).reshape(shape)
            assert done is not None, "a dense value takes every shape of its size"
        return done

    def sliced(self, x: Value, dim: int, start: int, stop: int, step: int = 1) -> Value:
        done = x.slice(dim, start, stop, step)
        if done is None:
            done = self.copy(x).slice(dim, start, stop, step)
            assert done is not None, "a plain value can be cut anywhere"
        return done

    # -- views for nodes

    def align(
        self, values: Sequence[Value], order: Sequence[int], *, trailing: int = 0, rank: int = 3
    ) -> list[View]:
        """Views of one shape, of values of one shape, with their dimensions in ``order``."""
        return self.aligned(values, order, trailing=trailing, rank=rank)[0]

    def aligned(
        self, values: Sequence[Value], order: Sequence[int], *, trailing: int = 0, rank: int = 3
    ) -> tuple[list[View], int]:
        """The views of ``align``, and the number of their dimensions that the last ``trailing`` of
        ``order`` became; 1 or more, unless ``trailing`` is 0."""
        columns = _columns(values, order, trailing)
        if columns is None:
            values = [self.plain(x) for x in values]
            columns = _columns(values, order, trailing)
        if columns is None:
            raise LackingError(f"more than {MAX_RANK} dimensions")
        lead, rear = columns
        both = [*lead, *rear]
        both[:0] = [(1, (0,) * len(values))] * (rank - len(both))
        shape = tuple(count for count, _ in both)
        views = [
            View(x.tensor, shape, tuple(strides[i] for _, strides in both), x.offset)
            for i, x in enumerate(values)
        ]
        return views, len(rear)

    def elementwise(
        self,
        op: str,
        inputs: dict[str, Value],
        *,
        shape: Sequence[int] | None = None,
        type: str = "f32",
        **attributes: Any,
    ) -> Value:
        """Adds a node whose inputs and result have one shape, in the memory order of the first
        input that is as large as the result. ``type`` is the result's."""
        shape = tuple(self.shape if shape is None else shape)
        operands = [x.expand(shape) for x in inputs.values()]
        variable = [x for x in operands if x.tensor.kind != "constant"] or operands
        leader = next((x for x in variable if not x.repeats), None)
        order = tuple(range(len(shape))) if leader is None else leader.order()
        out = self.fresh(shape, order, type=type)
        *views, target = self.align([*operands, out], order)
        self.emit(op, dict(zip(inputs, views, strict=True)), target, **attributes)
        return out

    def maps(self, x: Value) -> list[View]:
        """(B, C, H, W) as B maps (H, W, C); a copy if the channels do not lie together."""
        order = channels_last(4)
        lies = x.plain and not x.repeats and (x.shape[1] == 1 or x.stride(1) == 1)
        x = x if lies else self.copy(x, order)
        _, channels, height, width = x.shape
        # for one row or one pixel the stride is arbitrary: take that of a dense map
        pixel = x.stride(3) if width > 1 else channels
        row = x.stride(2) if height > 1 else width * pixel
        return [
            View(x.tensor, (height, width, channels), (row, pixel, 1), x.offset + i * x.stride(0))
            for i in range(x.shape[0])
        ]

    def rows(self, x: Value) -> View:
        """(..., C) as one map (H, W, C): the dimensions before the last are grouped into two."""
        view = _rows(x)
        if view is None:
            view = _rows(self.copy(x, range(len(x.dims))))
            assert view is not None, "a dense value is a map"
        return view


def along(build: Builder, dim: int, *values: Value) -> list[View]:
    """Views of values of one shape but for ``dim``, which is the last of each view; the others are
    in the memory order of the last value."""
    plain = [build.plain(x) for x in values]
    others = [i for i in range(len(plain[-1].shape)) if i != dim]
    order = [others.index(i) for i in plain[-1].order() if i != dim]
    lead = [Value(x.tensor, tuple(x.dims[i] for i in others), x.offset) for x in plain]
    return [
        View(
            view.tensor,
            (*view.shape, x.shape[dim]),
            (*view.strides, x.stride(dim) if x.shape[dim] > 1 else 1),
            view.offset,
        )
        for x, view in zip(plain, build.align(lead, order, rank=2), strict=True)
    ]


def _rows(x: Value) -> View | None:
    channels = x.shape[-1]
    if x.repeats or len(x.dims[-1]) > 1 or (channels > 1 and x.stride(-1) != 1):
        return None
    lead = [factor for dim in x.dims[:-1] for factor in dim]
    if len(lead) > 2:
        lead = list(merged(lead))
    if len(lead) > 2:
        return None
    lead[:0] = [(1, 0)] * (2 - len(lead))
    (height, row), (width, pixel) = lead
    # for one row or one pixel the stride is arbitrary: take that of a dense map
    pixel = pixel if width > 1 else channels
    row = row if height > 1 else width * pixel
    return View(x.tensor, (height, width, channels), (row, pixel, 1), x.offset)


Column = tuple[int, tuple[int, ...]]
"""One dimension of several views: its size, and its stride in each."""


def _pairs(x: Value, out: Value, columns: list[Column]) -> Iterator[tuple[View, View]]:
    """Views of all elements of both values, of at most ``MAX_RANK`` dimensions: places of the
    shortest dimensions beyond it have views of their own."""
    if len(columns) > MAX_RANK:
        columns = _joined(columns)
    if len(columns) > MAX_RANK:
        shortest = min(columns)
        place = columns.index(shortest)
        rest, (count, strides) = columns[:place] + columns[place + 1 :], shortest
        for i in range(count):
            moved, target = (
                Value(value.tensor, value.dims, value.offset + i * stride)
                for value, stride in zip((x, out), strides, strict=True)
            )
            yield from _pairs(moved, target, rest)
        return
    columns = [(1, (0, 0))] * (3 - len(columns)) + columns
    shape = tuple(count for count, _ in columns)
    first, second = (
        View(value.tensor, shape, tuple(strides[i] for _, strides in columns), value.offset)
        for i, value in enumerate((x, out))
    )
    yield first, second


def _columns(
    values: Sequence[Value], order: Sequence[int], trailing: int
) -> tuple[list[Column], list[Column]] | None:
    """The views' leading and trailing dimensions; None if the values' factors do not nest or are
    too many."""
    first = len(order) - trailing
    lead, rear = _all_columns(values, order[:first]), _all_columns(values, order[first:])
    if lead is None or rear is None:
        return None
    parts = lead, rear
    if trailing and not parts[1]:
        parts[1].append((1, (1,) * len(values)))
    if len(parts[0]) + len(parts[1]) > MAX_RANK:
        parts = _joined(parts[0]), _joined(parts[1])
    return None if len(parts[0]) + len(parts[1]) > MAX_RANK else parts


def _all_columns(values: Sequence[Value], order: Sequence[int]) -> list[Column] | None:
    """The views' dimensions, however many; None if the values' factors do not nest."""
    columns: list[Column] = []
    for dim in order:
        pieces = refine([x.dims[dim] for x in values])
        if pieces is None:
            return None
        for factors in zip(*pieces, strict=True):
            columns.append((factors[0][0], tuple(stride for _, stride in factors)))
    return columns


def _joined(columns: list[Column]) -> list[Column]:
    """The columns with neighbours merged if they are contiguous in every view."""
    done: list[Column] = []
    for count, strides in columns:
        if done and done[-1][1] == tuple(count * stride for stride in strides):
            count *= done.pop()[0]
        done.append((count, strides))
    return done
