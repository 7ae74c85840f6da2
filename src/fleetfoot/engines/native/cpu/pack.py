"""Constants in the layout of the kernels: panels of 16 output channels, all padded to 64 bytes.

The kernels take a convolution's weight as [groups][panels][K][16], K ordered (ky, kx, c): the 16
sums of a panel fit into one or a few registers, and each step of K reads the 64 bytes after those
of the previous step. A depthwise weight is [kh * kw][N up to 16].

Winograd's weights (``winograd.py``) are n * n weights of a 1x1: [n * n][panels][C][16].

N channels out · C channels in · K = kernel height x width x C / groups
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fleetfoot.engines.native.graph import PANEL, Graph, Node, Tensor, View
from fleetfoot.engines.native.passes.flow import CONVOLUTIONS, values

Array = np.ndarray[Any, Any]


def conv_weight(raw: Array, groups: int) -> Array:
    """Packs a weight. (N, C / groups, kh, kw) -> [groups][panels][K][16], zeros beyond N /
    groups"""
    outputs = raw.shape[0] // groups
    depth = int(np.prod(raw.shape[1:]))
    taps = raw.reshape(groups, outputs, *raw.shape[1:]).transpose(0, 3, 4, 2, 1)
    rows = _up_to_panel(taps.reshape(groups, depth, outputs))
    return np.ascontiguousarray(rows.reshape(groups, depth, -1, PANEL).transpose(0, 2, 1, 3))


def transformed_weight(raw: Array) -> Array:
    """Packs Winograd's weight. (n, n, N, C) -> [n * n][panels][C][16], zeros beyond N"""
    rows = _up_to_panel(raw.reshape(-1, *raw.shape[2:]).transpose(0, 2, 1))
    panels = rows.reshape(*rows.shape[:2], -1, PANEL)
    return np.ascontiguousarray(panels.transpose(0, 2, 1, 3))


def conv_bias(raw: Array, groups: int) -> Array:
    """Packs a bias or slopes. (N) -> [groups][panels * 16], zeros beyond N / groups"""
    return _up_to_panel(raw.reshape(groups, -1))


def depthwise_weight(raw: Array) -> Array:
    """Packs a depthwise weight. (N, 1, kh, kw) -> [kh * kw][N up to 16], zeros beyond N"""
    return _up_to_panel(raw.reshape(raw.shape[0], -1).T)


def transposed_weight(raw: Array) -> Array:
    """Packs the weight of a transposed convolution as that of a 1x1 with an output for each tap.
    (N, C, kh, kw) -> [panels of (ky, kx, n)][C][16]"""
    return conv_weight(raw.transpose(2, 3, 0, 1).reshape(-1, raw.shape[1], 1, 1), 1)


def pack(graph: Graph) -> None:
    """Packs every constant, merges equal ones, and gives each its own name.

    Changes the graph.
    """
    packer = _Packer()
    for node in graph.nodes:
        for inner in (node, *node.nodes):
            packer.node(inner)


class _Packer:
    def __init__(self) -> None:
        self.by_content: dict[tuple[str, bytes], Tensor] = {}
        self.names: set[str] = set()

    def node(self, node: Node) -> None:
        for role, view in node.inputs.items():
            if view.tensor.kind == "constant":
                node.inputs[role] = self.view(node, role, view)

    def view(self, node: Node, role: str, view: View) -> View:
        name = view.tensor.name
        data = _packed(node, role, view)
        if data is not None:
            return View.dense(self.tensor(name, data), (data.size,))
        assert view.tensor.data is not None
        tensor = self.tensor(name, np.ascontiguousarray(view.tensor.data).reshape(-1))
        tensor.type = view.tensor.type
        return View(tensor, view.shape, view.strides, view.offset)

    def tensor(self, name: str, data: Array) -> Tensor:
        flat = _up_to_panel(data.reshape(1, -1)).reshape(-1)
        key = (str(flat.dtype), flat.tobytes())
        if key not in self.by_content:
            unique, n = name, 1
            while unique in self.names:
                unique, n = f"{name}.{n}", n + 1
            self.names.add(unique)
            self.by_content[key] = Tensor(kind="constant", size=flat.size, name=unique, data=flat)
        return self.by_content[key]


def _packed(node: Node, role: str, view: View) -> Array | None:
    """A convolution's constant, packed; None for other nodes, whose constants stay unchanged."""
    if node.op not in CONVOLUTIONS or role not in (
        "weight",
        "bias",
        "slope",
        "transformed",
    ):
        return None
    raw = values(view)
    if node.op == "depthwise":
        if role in ("bias", "slope"):
            return _up_to_panel(raw.reshape(1, -1))
        return depthwise_weight(raw)
    if role == "transformed":
        return transformed_weight(raw)
    if node.op == "transposed":
        return transposed_weight(raw) if role == "weight" else conv_bias(raw, 1)
    groups = node.attributes["groups"]
    return conv_weight(raw, groups) if role == "weight" else conv_bias(raw, groups)


def _up_to_panel(rows: Array) -> Array:
    """Pads the last dimension with zeros, up to a multiple of 16."""
    missing = -rows.shape[-1] % PANEL
    return np.pad(rows, [(0, 0)] * (rows.ndim - 1) + [(0, missing)])
