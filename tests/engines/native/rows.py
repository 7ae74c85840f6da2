"""Runs strips as the engine does: by stretches of rows, in rings, by several threads."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
from interpreter import interpret

from fleetfoot.engines.native.cpu.strips import WINDOWED, needed_rows, read_rows
from fleetfoot.engines.native.graph import Graph, Node, Tensor, View


class Rings:
    """The executor of one graph: ordinary nodes whole, strips by rows; all memory float64."""

    def __init__(self, graph: Graph, *, threads: int) -> None:
        self.graph = graph
        self.threads = threads
        self.memory = {t: np.full(t.size, np.nan) for t in graph.tensors()}
        for tensor, memory in self.memory.items():
            if tensor.data is not None:
                memory[:] = tensor.data.reshape(-1)

    def run(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        for view, value in zip(self.graph.inputs, inputs, strict=True):
            self.at(view)[...] = value
        for node in self.graph.nodes:
            if node.op != "strip":
                self.node(node)
                continue
            height = node.out.shape[0]
            parts = [height * i // self.threads for i in range(self.threads + 1)]
            for begin, end in itertools.pairwise(parts):
                self.part(node, begin, end)
        return [self.at(view).copy() for view in self.graph.outputs]

    def part(self, strip: Node, begin: int, end: int) -> None:
        """One thread's rows. Its rings are its own: they start unwritten."""
        for inner in strip.nodes:
            if inner.out.tensor.kind == "ring":
                self.memory[inner.out.tensor][:] = np.nan
        done: list[int | None] = [None] * len(strip.nodes)
        for y in range(begin, end, strip.attributes["rows"]):
            stretch = min(y + strip.attributes["rows"], end)
            for i, (first, last) in enumerate(needed_rows(strip, y, stretch)):
                known = done[i]
                for row in range(first if known is None else max(known, first), last):
                    self.row(strip.nodes[i], row)
                done[i] = last

    def row(self, node: Node, y: int) -> None:
        """One row of a node: rows are gathered from rings, computed, and put into its slot."""
        inputs = {}
        changes = dict(node.attributes)
        for role, view in node.inputs.items():
            rows = (y, y + 1)
            if view.tensor.kind == "constant" and (node.op in WINDOWED or role == "index"):
                inputs[role] = view
                continue
            if role == "gate":
                inputs[role] = self.fresh(self.at(view))
                continue
            if node.op in WINDOWED and role == "x":
                rows = read_rows(node, role, y, y + 1)
                top = y * node.attributes["stride"][0] - node.attributes["padding"][0]
                changes["padding"] = [rows[0] - top, *node.attributes["padding"][1:]]
            inputs[role] = self.fresh(np.stack([self.at(self.slot(view, r)) for r in range(*rows)]))
        shape = (1, *node.out.shape[1:])
        out = View.dense(Tensor(kind="output", size=int(np.prod(shape))), shape)
        alone = replace(node, inputs=inputs, out=out, attributes=changes)
        given = [v for v in inputs.values() if v.tensor.kind == "input"]
        values = [self.memory.pop(v.tensor).reshape(v.shape) for v in given]
        graph = Graph(model="row", inputs=given, outputs=[out], nodes=[alone])
        self.at(self.slot(node.out, y))[...] = interpret(graph, values)[0][0]

    def fresh(self, values: np.ndarray) -> View:
        tensor = Tensor(kind="input", size=values.size)
        self.memory[tensor] = values.reshape(-1).copy()
        return View.dense(tensor, values.shape)

    def node(self, node: Node) -> None:
        inputs = {
            role: view if view.tensor.kind == "constant" else self.fresh(self.at(view))
            for role, view in node.inputs.items()
        }
        out = View.dense(Tensor(kind="output", size=node.out.size), node.out.shape)
        given = [v for v in inputs.values() if v.tensor.kind == "input"]
        values = [self.memory.pop(v.tensor).reshape(v.shape) for v in given]
        alone = replace(node, inputs=inputs, out=out)
        graph = Graph(model="node", inputs=given, outputs=[out], nodes=[alone])
        self.at(node.out)[...] = interpret(graph, values)[0]

    def slot(self, view: View, y: int) -> View:
        """Row y of a map or a ring."""
        assert 0 <= y < view.shape[0]
        row = y % view.tensor.ring if view.tensor.ring else y
        return View(
            view.tensor, view.shape[1:], view.strides[1:], view.offset + row * view.strides[0]
        )

    def at(self, view: View) -> np.ndarray:
        memory = self.memory[view.tensor]
        reach = sum((n - 1) * s for n, s in zip(view.shape, view.strides, strict=True))
        assert view.offset + reach < memory.size, f"{view.shape} leaves its tensor"
        return np.lib.stride_tricks.as_strided(
            memory[view.offset :], view.shape, [8 * s for s in view.strides]
        )
