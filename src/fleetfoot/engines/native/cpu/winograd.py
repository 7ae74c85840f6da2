"""Selection of 3x3 convolutions for Winograd's method, with tile sizes and transformed weights.

Winograd 1980; Lavin and Gray 2015, "Fast Algorithms for Convolutional Neural Networks",
https://arxiv.org/abs/1509.09308. ``native/src/kernels/winograd.hpp`` says how it is computed.

m x m outputs of a tile · n = m + 2 · N channels out · C channels in
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fleetfoot.engines.native.graph import PANEL, Graph, Node
from fleetfoot.engines.native.passes.flow import constant, values

Array = np.ndarray[Any, Any]

ROOT = math.sqrt(2)
FILTERS = {
    2: np.array([[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]]),
    4: np.array(
        [
            [1, 0, 0],
            [-2 / 3, -ROOT / 3, -1 / 3],
            [-2 / 3, ROOT / 3, -1 / 3],
            [1 / 6, ROOT / 6, 1 / 3],
            [1 / 6, -ROOT / 6, 1 / 3],
            [0, 0, 1],
        ]
    ),
}
"""Matrix G (n, 3) for each m: a filter's values at 0, ±1 and infinity, or at 0, ±sqrt(1/2),
±sqrt(2) and infinity."""

MACS_A_MOVED = 8.0
"""Multiply-adds that cost as much as one number of a transformed patch or of a product: computing,
storing and reading it."""
MACS_A_BYTE = 3.0
"""Multiply-adds that cost as much as one byte of weights, which do not stay in the cache. 2 fits a
Zen 4 with an L3 of its own, 4 to 7 a Xeon that shares its L3 with other machines. 3 loses 1 % of
ResNet-50 on the first, by its layers' times; it wins 5 % of FasterNet-S and 18 % of RepVGG-A0 on
the second."""
WORTH = 0.9
"""Largest share of the direct method's cost; above it, the direct method is kept."""


def winograd(graph: Graph) -> None:
    """Gives the convolutions for which Winograd is faster their attribute and their weights.

    Runs after the passes that change weights or channels. Changes the graph.
    """
    for node in graph.nodes:
        if (tile := tile_of(node)) == 0:
            continue
        weight = node.inputs["weight"]
        node.attributes["winograd"] = tile
        node.inputs["transformed"] = constant(
            f"{weight.tensor.name}.winograd", transformed(values(weight), tile)
        )


def transformed(weight: Array, tile: int) -> Array:
    """Winograd's weights: G g G^T of each filter g, computed in float64. (N, C, 3, 3) -> (n, n, N,
    C)"""
    g = FILTERS[tile]
    return np.einsum("ia,ncab,jb->ijnc", g, weight.astype(np.float64), g, optimize=True)


def tile_of(node: Node) -> int:
    """Tile size m, or 0 if the direct method is faster or the only one."""
    if node.op != "conv" or "gate" in node.inputs:
        return 0
    attributes = node.attributes
    if attributes["groups"] != 1 or tuple(attributes["kernel"]) != (3, 3):
        return 0
    if tuple(attributes["stride"]) != (1, 1) or tuple(attributes["dilation"]) != (1, 1):
        return 0
    best = min(FILTERS, key=lambda tile: cost(node, tile))
    return best if cost(node, best) < WORTH * cost(node, 0) else 0


def cost(node: Node, tile: int) -> float:
    """Cost in multiply-adds, with the tiles' outputs beyond the picture; ``tile`` 0 is the direct
    method.

    Measured on one core of a Zen 4 with AVX-512, which does 57 multiply-adds a ns, and of a Xeon.
    """
    height, width, outputs = node.out.shape
    channels = node.inputs["x"].shape[2]
    padded = _whole_panels(outputs)
    if tile == 0:
        return 9 * channels * padded * (height * width + 4 * MACS_A_BYTE)
    tiles = math.ceil(height / tile) * math.ceil(width / tile)
    moved = tiles * (_whole_panels(channels) + padded)
    products = channels * padded * (tiles + 4 * MACS_A_BYTE)
    return (tile + 2) ** 2 * (products + MACS_A_MOVED * moved)


def _whole_panels(channels: int) -> int:
    return -(-channels // PANEL) * PANEL
