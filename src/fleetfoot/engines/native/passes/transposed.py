"""Transposed convolutions as ordinary ones whose results interleave.

Output row y of a transposed convolution of stride s is a sum over the taps k for which y + padding
- k * dilation is a multiple of s, of input row (y + padding - k * dilation) / s. So the rows y = s
q + r of one phase r share their taps and read input rows q + offset: they are an ordinary
convolution of stride 1, whose kernel is every so-many-th tap in reverse order. Columns are the
same. Each pair of phases becomes one node that writes every s-th row and every s-th column of the
result: the kernels and proofs of ordinary convolutions serve, and no multiplication by an inserted
zero is made.

Phases of neighbouring columns with the same offsets, for example both of a 2x2 kernel of stride 2,
are computed as one convolution with so many times the channels, since their results are neighbours
in memory. Outputs that no tap reaches (a kernel smaller than the stride, output padding) hold the
bias.

A convolution to one channel would use one lane of sixteen in each phase. If so few channels make
phases costly, the node stays: the core's ``transposed`` multiplies each input pixel by all taps at
once and adds the products up (``native/src/kernels/transposed.hpp``).

N channels out · C channels in · q row or column of one phase
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fleetfoot.engines.native.graph import PANEL, Graph, Node, View
from fleetfoot.engines.native.passes.flow import constant, same_attributes, values

Array = np.ndarray[Any, Any]


MACS_A_SUM = 70
"""Multiply-adds that cost as much as adding one vector of products to a sum, in the core's
``transposed``. An estimate: 1.2 ns on a core that does 57 multiply-adds a ns."""
MOST_PRODUCTS = 1 << 24
"""Largest count of products that the core's ``transposed`` keeps, as its ``kMaxProducts``."""


@dataclass(frozen=True)
class Phase:
    """The rows (or columns) ``first``, ``first`` + stride, ... of the result, ``count`` in all."""

    first: int
    count: int
    taps: tuple[int, ...]
    """The taps that reach them, in order of the input row that each reads; empty if none does."""
    offset: int
    """The input row that the first tap reads for q = 0."""
    dilation: int
    """Input rows from one tap's to the next tap's."""

    def alike(self, other: Phase) -> bool:
        """Whether two phases are one convolution with other weights."""
        return (self.count, len(self.taps), self.offset, self.dilation) == (
            (other.count, len(other.taps), other.offset, other.dilation)
        )


def phases(
    size: int, count: int, kernel: int, stride: int, padding: int, dilation: int
) -> list[Phase]:
    """The phases along one dimension of ``size`` inputs and ``count`` outputs. Outputs of a phase
    that lie after all windows with an input are a phase of their own without taps."""
    found: list[Phase] = []
    for first in range(min(stride, count)):
        rows = len(range(first, count, stride))
        reach = {
            (first + padding - tap * dilation) // stride: tap
            for tap in range(kernel)
            if (first + padding - tap * dilation) % stride == 0
        }
        offsets = sorted(reach)
        # a window with only padding in it gives what no tap gives
        offsets = [o for o in offsets if o < size and o + rows > 0]
        if not offsets:
            found.append(Phase(first, rows, (), 0, 1))
            continue
        taps = tuple(reach[offset] for offset in offsets)
        step = dilation // math.gcd(stride, dilation) if len(taps) > 1 else 1
        # the loader allows as many windows after the map as there is padding before it
        inside = min(rows, size - offsets[0] if offsets[0] >= 0 else size - 2 * offsets[0])
        found.append(Phase(first, inside, taps, offsets[0], step))
        if inside < rows:
            found.append(Phase(first + inside * stride, rows - inside, (), 0, 1))
    return found


def phases_of(node: Node) -> tuple[list[Phase], list[Phase]]:
    """The phases of the rows and of the columns of a node's result."""
    x, a = node.inputs["x"], node.attributes
    rows, columns = (
        phases(
            *(x.shape[i], node.out.shape[i], a["kernel"][i]),
            *(a["stride"][i], a["padding"][i], a["dilation"][i]),
        )
        for i in (0, 1)
    )
    return rows, columns


def takes_residual(node: Node) -> bool:
    """Whether a residual and a second activation can follow: of a transposed convolution, only if
    each output is made by a convolution, and none is a bare bias."""
    return node.op != "transposed" or all(phase.taps for side in phases_of(node) for phase in side)


def split_transposed(graph: Graph) -> None:
    """Replaces every transposed convolution by ordinary ones. Changes the graph."""
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.op == "transposed" and not _at_once(node):
            nodes += [_part(node, row, columns) for row, columns in _parts(node)]
        else:
            nodes.append(node)
    graph.nodes = nodes


def _at_once(node: Node) -> bool:
    """Whether the core's ``transposed`` computes the node faster than convolutions by phases do;
    if so, the node is left with the attributes that it has there."""
    attributes, channels, outputs = node.attributes, node.inputs["x"].shape[2], node.out.shape[2]
    kernel, stride = attributes["kernel"], attributes["stride"]
    if attributes["groups"] != 1 or list(attributes["dilation"]) != [1, 1]:
        return False
    taps = kernel[0] * kernel[1] * outputs
    reads = [math.ceil(k / s) for k, s in zip(kernel, stride, strict=True)]
    kept = reads[0] * node.inputs["x"].shape[1] * taps
    wide = (node.out.shape[1] + attributes["padding"][1] + stride[1]) * outputs
    if "residual" in node.inputs or max(kept, wide) > MOST_PRODUCTS:
        return False
    sums = stride[0] * math.ceil(stride[1] * outputs / PANEL) * reads[0] * reads[1]
    at_once = _whole_panels(taps) * channels + sums * MACS_A_SUM
    by_phases = sum(
        _whole_panels(len(columns) * outputs) * len(row.taps) * len(columns[0].taps) * channels
        for row, columns in _parts(node)
    )
    if at_once >= by_phases:
        return False
    node.attributes = same_attributes(node, groups=None, dilation=None)
    return True


def _whole_panels(channels: int) -> int:
    return math.ceil(channels / PANEL) * PANEL


def _parts(node: Node) -> list[tuple[Phase, Sequence[Phase]]]:
    """Each phase of rows with each run of phases of columns that are one convolution."""
    rows, columns = phases_of(node)
    channels = node.out.shape[2]
    # neighbouring columns lie together only if pixels are as wide as their channels
    dense = node.out.strides[1] == channels and (
        "residual" not in node.inputs or node.inputs["residual"].strides[1] == channels
    )
    together = dense and node.attributes["groups"] == 1
    merged = _merged(columns) if together else [[phase] for phase in columns]
    return [(row, run) for row in rows for run in merged]


def _merged(columns: Sequence[Phase]) -> list[list[Phase]]:
    """The columns in runs of neighbours that can be one convolution."""
    runs: list[list[Phase]] = []
    for phase in columns:
        last = runs[-1][-1] if runs else None
        if last and phase.taps and last.alike(phase) and phase.first == last.first + 1:
            runs[-1].append(phase)
        else:
            runs.append([phase])
    return runs


def _part(node: Node, row: Phase, columns: Sequence[Phase]) -> Node:
    """The node for one phase of rows and some neighbouring phases of columns."""
    column = columns[0]
    stride = node.attributes["stride"]
    shape = (row.count, column.count, len(columns) * node.out.shape[2])

    def place(view: View) -> View:
        down, across = view.strides[:2]
        strides = (stride[0] * down, stride[1] * across, 1)
        return View(
            view.tensor, shape, strides, view.offset + row.first * down + column.first * across
        )

    out = place(node.out)
    vectors = {
        role: constant(view.tensor.name, np.tile(values(view).reshape(-1), len(columns)))
        for role, view in node.inputs.items()
        if role in ("bias", "slope")
    }
    if not (row.taps and column.taps):
        return _bare(node, out, vectors)
    x = node.inputs["x"]
    skipped = [max(phase.offset, 0) for phase in (row, column)]
    x = View(
        x.tensor,
        (x.shape[0] - skipped[0], x.shape[1] - skipped[1], x.shape[2]),
        x.strides,
        x.offset + skipped[0] * x.strides[0] + skipped[1] * x.strides[1],
    )
    raw = values(node.inputs["weight"])  # (N, C / groups, kh, kw)
    kernels = [raw[:, :, row.taps][:, :, :, phase.taps] for phase in columns]
    weight = constant(node.inputs["weight"].tensor.name, np.concatenate(kernels))
    inputs = {"x": x, "weight": weight, **vectors}
    if "residual" in node.inputs:
        inputs["residual"] = place(node.inputs["residual"])
    groups = node.attributes["groups"]
    kind: dict[str, Any] = {"groups": groups}
    op = "conv"
    if 1 < groups == x.shape[2]:
        op, kind = "depthwise", {"multiplier": node.out.shape[2] // groups, "groups": None}
    attributes = same_attributes(
        node,
        kernel=[len(row.taps), len(column.taps)],
        stride=[1, 1],
        padding=[max(-row.offset, 0), max(-column.offset, 0)],
        dilation=[row.dilation, column.dilation],
        **kind,
    )
    return Node(
        op=op, inputs=inputs, out=out, attributes=attributes, name=node.name, merged=node.merged
    )


def _bare(node: Node, out: View, vectors: dict[str, View]) -> Node:
    """The node for outputs that no tap reaches: the activation of the bias."""
    nothing = constant(f"{node.name}.bare", np.zeros(out.shape[2]))

    def spread(role: str) -> View:
        return View(vectors.get(role, nothing).tensor, out.shape, (0, 0, 1))

    act, post = node.attributes.get("act"), node.attributes.get("post")
    op, inputs = "copy", {"x": spread("bias")}
    attributes: dict[str, Any] = {}
    if act is not None and act[0] == "prelu":
        op, inputs = "binary", {"a": spread("bias"), "b": spread("slope")}
        attributes = {"kind": "prelu"}
    elif act is not None:
        op, attributes = "unary", {"act": act}
    assert post is None, "takes_residual() keeps a second activation away"
    return Node(
        op=op, inputs=inputs, out=out, attributes=attributes, name=node.name, merged=node.merged
    )
