"""Graphs built by hand, and proof that a pass keeps what they compute."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from interpreter import interpret

from fleetfoot.engines.native.graph import Graph, Node, Tensor, View
from fleetfoot.engines.native.passes.flow import constant


class Hand:
    """A graph under construction. Each method adds a node and answers with what it wrote."""

    def __init__(self, height: int, width: int, channels: int, *, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        shape = (channels, height, width)
        given = View.dense(Tensor(kind="input", size=channels * height * width), shape)
        self.graph = Graph(model="hand", inputs=[given], outputs=[])
        x = View(given.tensor, (height, width, channels), (width, 1, height * width))
        self.x = self.add("copy", {"x": x}, self.map(height, width, channels))

    def map(self, height: int, width: int, channels: int) -> View:
        tensor = Tensor(kind="arena", size=height * width * channels)
        return View.dense(tensor, (height, width, channels))

    def add(self, op: str, inputs: dict[str, View], out: View, **attributes: object) -> View:
        name = f"layers.{len(self.graph.nodes)}"
        node = Node(op=op, inputs=inputs, out=out, attributes=attributes, name=name)
        self.graph.nodes.append(node)
        return out

    def constant(self, *shape: int) -> View:
        name = f"constants.{len(self.graph.nodes)}.{self.random.integers(1 << 40)}"
        return constant(name, self.random.normal(size=shape) / np.sqrt(np.prod(shape[1:])))

    def conv(
        self,
        x: View,
        channels: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        depthwise: bool = False,
        out: View | None = None,
    ) -> View:
        height, width = ((n + 2 * padding - kernel) // stride + 1 for n in x.shape[:2])
        if out is None:
            out = self.map(height, width, channels)
        inner = 1 if depthwise else x.shape[2] // groups
        inputs = {
            "x": x,
            "weight": self.constant(channels, inner, kernel, kernel),
            "bias": self.constant(channels),
        }
        kind = {"multiplier": channels // x.shape[2]} if depthwise else {"groups": groups}
        return self.add(
            "depthwise" if depthwise else "conv",
            inputs,
            out,
            kernel=[kernel, kernel],
            stride=[stride, stride],
            padding=[padding, padding],
            dilation=[1, 1],
            **kind,
        )

    def depthwise(self, x: View, *, kernel: int = 3, stride: int = 1) -> View:
        return self.conv(
            x, x.shape[2], kernel=kernel, stride=stride, padding=kernel // 2, depthwise=True
        )

    def unary(self, x: View, act: str = "relu", a: float = 0.0, b: float = 0.0) -> View:
        return self.add("unary", {"x": x}, self.map(*x.shape), act=[act, a, b])

    def binary(self, a: View, b: View, kind: str = "add") -> View:
        return self.add("binary", {"a": a, "b": b}, self.map(*a.shape), kind=kind)

    def concat(self, *parts: View) -> View:
        whole = self.map(*parts[0].shape[:2], sum(part.shape[2] for part in parts))
        begin = 0
        for part in parts:
            self.add("copy", {"x": part}, channels(whole, begin, begin + part.shape[2]))
            begin += part.shape[2]
        return whole

    def shuffle(self, x: View, groups: int) -> View:
        """As ``view(groups, C / groups).transpose`` and a copy do it."""
        height, width, count = x.shape
        row, pixel, _ = x.strides
        each = count // groups
        out = self.map(height, width, count)
        seen = View(x.tensor, (height, width, each, groups), (row, pixel, 1, each), x.offset)
        target = (height, width, each, groups)
        self.add("copy", {"x": seen}, View(out.tensor, target, (*out.strides[:2], groups, 1)))
        return out

    def mean(self, x: View) -> View:
        """(H, W, C) -> (1, 1, C)"""
        height, width, count = x.shape
        row, pixel, _ = x.strides
        seen = View(x.tensor, (count, height, width), (1, row, pixel), x.offset)
        out = self.map(1, 1, count)
        vector = View(out.tensor, (count,), (1,))
        self.add("reduce", {"x": seen}, vector, kind="mean", trailing=2)
        return out

    def finish(self, *maps: View) -> Graph:
        """Each map as an output (C, H, W)."""
        for x in maps:
            height, width, count = x.shape
            out = View.dense(Tensor(kind="output", size=x.size), (count, height, width))
            self.graph.outputs.append(out)
            seen = View(out.tensor, x.shape, (width, 1, height * width))
            self.add("copy", {"x": x}, seen)
        return self.graph


def channels(x: View, begin: int, end: int) -> View:
    return View(x.tensor, (*x.shape[:2], end - begin), x.strides, x.offset + begin)


def repeated(vector: View, like: View) -> View:
    """(C) for each pixel of a map."""
    return View(vector.tensor, like.shape, (0, 0, 1), vector.offset)


def ops(graph: Graph) -> list[str]:
    return [node.op for node in graph.nodes]


def kept(graph: Graph, change: Callable[[Graph], object], *, tolerance: float = 1e-6) -> list[str]:
    """The operators after ``change``, which must keep what the graph computes.

    In float64. 1e-6 of the largest value: folded constants are rounded to float32 again, 6e-8 each.
    """
    random = np.random.default_rng(1)
    inputs = [random.normal(size=view.shape) for view in graph.inputs]
    expected = interpret(graph, inputs)
    change(graph)
    for result, reference in zip(interpret(graph, inputs), expected, strict=True):
        assert np.isfinite(reference).all()
        assert np.abs(result - reference).max() <= tolerance * np.abs(reference).max()
    return ops(graph)
