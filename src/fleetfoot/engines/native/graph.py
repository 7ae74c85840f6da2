"""The graph between a network and its plan: tensors, strided views of them, and nodes.

A graph describes one picture: whoever runs it handles the batch. Every node writes its ``out`` view
from its input views, in the order in which they are listed. ``docs/engine.md``, section "The plan",
states what each kind of node computes, and which inputs and attributes it has; the C++ core checks
the same when it loads a plan.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

PANEL = 16
"""Output channels that lie together in packed weights, as the core's ``kPanel``."""

TYPED = {"copy", "gather", "elementwise", "aggregate", "scan", "sort", "take", "scatter"}
"""Operators that take and give other types than float32, besides an index."""


@dataclass(eq=False, kw_only=True)
class Tensor:
    """A range of memory, four bytes for each element. Compared by identity.

    ``kind`` is "arena" (its place is found by ``arena.py``), "input", "output", "constant", or
    "ring" (private to a thread, inside a strip; ``ring`` rows of a map are kept).
    """

    kind: str
    size: int
    """Elements."""
    type: str = "f32"
    """Type of the elements: "f32", "i32", or "bool", which is an int32 of 0 or 1 ("i32" in the
    plan)."""
    name: str = ""
    """Name of a constant in the file; "" for other tensors."""
    data: np.ndarray[Any, Any] | None = None
    """Data of a constant: float32, or int32 for an index; any shape, C order."""
    ring: int = 0
    """Number of rows that a ring keeps; row y lies at slot y % ring."""
    offset: int = 0
    """Bytes from the arena's start (or from the start of a thread's rings); a multiple of 64."""


@dataclass(frozen=True, eq=False)
class View:
    """A view of a tensor: ``shape`` and ``strides`` (in elements), from element ``offset`` on.

    A map is a view of shape (H, W, C) with strides (row, pixel, 1): channels-last.
    """

    tensor: Tensor
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    @staticmethod
    def dense(tensor: Tensor, shape: tuple[int, ...]) -> View:
        """A view of the whole tensor in C order."""
        strides = tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))
        return View(tensor, shape, strides)

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(eq=False, kw_only=True)
class Node:
    """One call of a kernel, or a strip of them."""

    op: str
    inputs: dict[str, View]
    """Views by role: "x", "weight", "bias", "residual", "gate", "transformed"; "a", "b", "c";
    "index", "source"."""
    out: View
    attributes: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    """Path of the module that the node came from."""
    nodes: list[Node] = field(default_factory=list)
    """The nodes that a strip runs for each stretch of rows of ``out``."""
    merged: tuple[str, ...] = ()
    """Paths of the modules whose operators were fused into it. Not in the plan; used in
    profiles."""

    @property
    def modules(self) -> tuple[str, ...]:
        """Paths of all modules whose work the node does, its own first."""
        return tuple(dict.fromkeys((self.name, *self.merged)))


@dataclass(eq=False, kw_only=True)
class Graph:
    model: str
    inputs: list[View]
    """The inputs, each dense and without the batch, in PyTorch's order: (C, H, W)."""
    outputs: list[View]
    """The outputs, each dense and without the batch."""
    nodes: list[Node] = field(default_factory=list)
    signature: str = ""
    """JSON with the names of the inputs and the nest of the outputs; "" if there is one of each."""

    def tensors(self) -> Iterator[Tensor]:
        """Each tensor once, in order of first use."""
        seen: set[int] = set()
        for view in self.views():
            if id(view.tensor) not in seen:
                seen.add(id(view.tensor))
                yield view.tensor

    def views(self) -> Iterator[View]:
        yield from self.inputs
        for node in self.nodes:
            yield from _views(node)
        yield from self.outputs


def _views(node: Node) -> Iterator[View]:
    yield from node.inputs.values()
    for inner in node.nodes:
        yield from _views(inner)
    yield node.out


def prune(graph: Graph) -> None:
    """Removes the nodes whose result is not read, and those that only lead to them. Changes the
    graph."""
    needed = {view.tensor for view in graph.outputs}
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if node.out.tensor in needed:
            kept.append(node)
            needed.update(view.tensor for view in node.inputs.values())
    graph.nodes = kept[::-1]


def windows_fit(
    op: str,
    size: Sequence[int],
    count: Sequence[int],
    stride: Sequence[int],
    before: Sequence[int],
) -> bool:
    """Whether a kernel takes ``count`` windows over ``size`` rows or columns that begin ``before``
    ahead of the map. The loader checks the same: the last window of a pooling begins in the map,
    and that of a convolution at most ``before`` after its end.
    """
    for n, windows, step, missing in zip(size[:2], count[:2], stride, before, strict=True):
        last = (windows - 1) * step - missing
        if last > n - 1 + (0 if op == "pool" else missing):
            return False
    return True
