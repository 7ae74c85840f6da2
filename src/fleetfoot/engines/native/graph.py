"""The graph between a network and its plan: tensors, strided views of them, and nodes.

A graph describes one picture: the batch is left to whoever runs it. Every node writes its ``out``
view from its input views, in the order in which they are listed. What each kind of node means, and
which inputs and attributes it has, is in ``docs/engine.md``, section "The plan"; the C++ core
checks the same when it loads one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

PANEL = 16
"""Output channels that lie together in packed weights; the core's ``kPanel``."""


@dataclass(eq=False, kw_only=True)
class Tensor:
    """A stretch of float32 memory. Compared by identity.

    ``kind`` is "arena" (its place is found by ``arena.py``), "input", "output", "constant", or
    "ring" (private to a thread, inside a strip; ``ring`` rows of a map are kept).
    """

    kind: str
    size: int
    """Elements."""
    name: str = ""
    """Of a constant: its name in the file."""
    data: np.ndarray[Any, Any] | None = None
    """Of a constant: float32, or int32 for an index; flat or not, C order."""
    ring: int = 0
    """Rows kept; row y lies at slot y % ring."""
    offset: int = 0
    """Bytes from the arena's start (or from the start of a thread's rings); a multiple of 64."""


@dataclass(frozen=True, eq=False)
class View:
    """``shape`` and ``strides`` (elements) over a tensor, from element ``offset`` on.

    A map is a view of shape (H, W, C) with strides (row, pixel, 1): channels-last.
    """

    tensor: Tensor
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    @staticmethod
    def dense(tensor: Tensor, shape: tuple[int, ...]) -> View:
        """The whole tensor in C order."""
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
    """By role: "x", "weight", "bias", "residual", "gate", "transformed"; "a", "b"."""
    out: View
    attributes: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    """Path of the module it came from."""
    nodes: list[Node] = field(default_factory=list)
    """Of a strip: what it runs for each stretch of rows of ``out``."""
    merged: tuple[str, ...] = ()
    """Paths of the modules whose operators it took in. Not in the plan: for those who time it."""

    @property
    def modules(self) -> tuple[str, ...]:
        """Paths of all modules whose work it holds, its own first."""
        return tuple(dict.fromkeys((self.name, *self.merged)))


@dataclass(eq=False, kw_only=True)
class Graph:
    model: str
    inputs: list[View]
    """Each dense, as PyTorch has it without the batch: (C, H, W)."""
    outputs: list[View]
    """Likewise dense and without the batch."""
    nodes: list[Node] = field(default_factory=list)
    signature: str = ""
    """JSON: the names of the inputs and the nest of the outputs; "" where there is one of each."""

    def tensors(self) -> Iterator[Tensor]:
        """Each tensor once, in the order of first use."""
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
    """Removes the nodes whose result nobody reads, and so what leads to no output. Changes the
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
    """Whether a kernel takes ``count`` windows over ``size`` rows and columns, ``before`` of them
    missing before the map. The loader asks the same: the last window of a pooling begins in the
    map, and that of a convolution at most ``before`` after its end.
    """
    for n, windows, step, missing in zip(size[:2], count[:2], stride, before, strict=True):
        last = (windows - 1) * step - missing
        if last > n - 1 + (0 if op == "pool" else missing):
            return False
    return True
