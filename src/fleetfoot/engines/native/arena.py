"""Memory for the intermediate maps: one arena for the whole network, planned ahead.

A tensor lives from the first node that writes it to the last that reads it. Two that never live at
the same time may share bytes. The largest are placed first, each into the smallest gap that holds
it. Finding the smallest arena is NP-hard; this order is known to come within a few per cent of it
(Pisarchyk and Lee 2020, https://arxiv.org/abs/2001.03288, greedy by size).

Rings are private to a thread and are needed only within their strip: those of one strip lie next to
each other, those of two strips in the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from fleetfoot.engines.native.graph import Graph, Node, Tensor, View
from fleetfoot.engines.native.passes.flow import disjoint, same_place

IN_REGISTERS = ("none", "relu", "relu6", "clamp", "leaky_relu", "prelu")
"""Activations after which a convolution adds its residual before it writes (``epilogue.hpp``). A
depthwise convolution guarantees this on some of its paths only."""

LINE = 64
"""Bytes of a cache line; every offset is a multiple of it."""


@dataclass(frozen=True)
class Memory:
    """Memory that a context holds in addition to the weights, in bytes."""

    arena: int
    rings: int
    """Bytes of the rings of each thread."""


@dataclass(eq=False)
class _Block:
    """Tensors in the same bytes, because one is made from the other in place."""

    tensors: list[Tensor]
    begin: int
    end: int
    """Index of the last node that needs the block."""

    @property
    def size(self) -> int:
        return max(_bytes(tensor) for tensor in self.tensors)


def place(graph: Graph) -> Memory:
    """Assigns an offset to each arena and ring tensor. Changes the tensors."""
    blocks = _blocks(graph)
    arena = 0
    placed: list[tuple[int, _Block]] = []
    for block in sorted(blocks, key=lambda block: (-block.size, block.begin)):
        offset = _gap(block, placed)
        placed.append((offset, block))
        arena = max(arena, offset + block.size)
        for tensor in block.tensors:
            tensor.offset = offset
    return Memory(arena=arena, rings=max(map(_place_rings, graph.nodes), default=0))


def lifetimes(graph: Graph) -> dict[Tensor, tuple[int, int]]:
    """For each arena tensor, the first and the last node that need it, by index."""
    found: dict[Tensor, tuple[int, int]] = {}
    for index, node in enumerate(graph.nodes):
        for view in _views(node):
            if view.tensor.kind == "arena":
                begin, _ = found.get(view.tensor, (index, index))
                found[view.tensor] = (begin, index)
    return found


def _blocks(graph: Graph) -> list[_Block]:
    """The tensors that need memory, grouped if they are made in place."""
    block_of: dict[Tensor, _Block] = {}
    for tensor, (begin, end) in lifetimes(graph).items():
        block_of[tensor] = _Block([tensor], begin, end)
    for index, node in enumerate(graph.nodes):
        made = block_of.get(node.out.tensor)
        if made is None or made.begin != index:
            continue
        for view in _overwritable(node):
            dying = block_of.get(view.tensor)
            if dying is not None and dying is not made and dying.end == index:
                dying.tensors += made.tensors
                dying.end = made.end
                block_of.update(dict.fromkeys(made.tensors, dying))
                break
    return list({id(block): block for block in block_of.values()}.values())


def _overwritable(node: Node) -> list[View]:
    """Inputs whose every element is read just before the same place of the result is written."""
    roles = {"unary": ("x",), "binary": ("a", "b"), "conv": ("residual",)}
    if node.op == "conv" and node.attributes.get("act", ["none"])[0] not in IN_REGISTERS:
        return []  # its sums are written first; a later pass over them adds the residual
    found = []
    for role in roles.get(node.op, ()):
        view = node.inputs.get(role)
        if view is None or view.tensor.size != node.out.tensor.size:
            continue
        moved = View(node.out.tensor, view.shape, view.strides, view.offset)
        others = [v for r, v in node.inputs.items() if r != role and v.tensor is view.tensor]
        # Another input that is the same view is read at the same moment: x + x.
        pointwise = node.op in ("unary", "binary")
        fine = all(
            disjoint(other, view) or (pointwise and same_place(other, view)) for other in others
        )
        if fine and same_place(moved, node.out):
            found.append(view)
    return found


def _gap(block: _Block, placed: list[tuple[int, _Block]]) -> int:
    """Offset of the smallest gap between the blocks that live at the same time."""
    taken = sorted(
        (offset, offset + other.size)
        for offset, other in placed
        if other.begin <= block.end and block.begin <= other.end
    )
    best, best_room, end = None, 0, 0
    for begin, finish in taken:
        room = begin - end
        if room >= block.size and (best is None or room < best_room):
            best, best_room = end, room
        end = max(end, finish)
    return end if best is None else best


def _place_rings(node: Node) -> int:
    """Lays out the rings of one strip next to each other, and returns their total bytes."""
    end = 0
    seen: set[Tensor] = set()
    for inner in node.nodes:
        for view in _views(inner):
            if view.tensor.kind == "ring" and view.tensor not in seen:
                seen.add(view.tensor)
                view.tensor.offset = end
                end += _bytes(view.tensor)
    return end


def _views(node: Node) -> list[View]:
    inner = [view for sub in node.nodes for view in _views(sub)]
    return [*node.inputs.values(), *inner, node.out]


def _bytes(tensor: Tensor) -> int:
    return -(-tensor.size * 4 // LINE) * LINE
