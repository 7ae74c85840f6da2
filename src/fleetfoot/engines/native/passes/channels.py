"""Removes the cost of channel shuffles and splits: each map keeps its channels in its own order.

ShuffleNet V2 concatenates two halves, shuffles, and splits again: the shuffle decides which
channels the next unit convolves and which it passes on. The order in memory is free, since the
convolutions on both sides take any: their weights can be permuted. Only two things are fixed: a
convolution reads and writes channels that lie next to each other, and those passed on are copied.

So every node that moves channels of a map (a copy of a slice or of every other channel, a gather,
a shuffle) is read as a list: result channel i is channel order[i] of the source. Lists of moves
that follow each other are composed, after which the concatenations are the only maps left. In each
of these, channels are then ordered by how many more units they are passed on:

    [passed on longest ... passed on once, convolved next | convolved next, passed on once ...]
     first part, passed on or convolved by a side branch   second part, the unit's main branch

and so those convolved next lie together, and those passed on are a few runs at both ends. A reader
that takes no other order (a network's output, a grouped convolution) gets its channels by a copy or
a gather.

H, W space · C channels
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from fleetfoot.engines.native.graph import Graph, Node, Tensor, View, prune
from fleetfoot.engines.native.passes.flow import (
    Flow,
    Use,
    legal,
    transferred,
)
from fleetfoot.engines.native.passes.moves import (
    RUNS,
    Move,
    Order,
    as_move,
    gathering,
    lower_moves,
    runs_of,
    slice_of,
    whole_of,
)
from fleetfoot.engines.native.passes.reader_orders import permute_outputs, readers_take


@dataclass(eq=False)
class _Concat:
    """A map whose channels may be in any order within each of its parts."""

    whole: View
    """View of the whole map, (H, W, C), dense."""
    parts: list[tuple[Node, int, int]]
    """Each part: the node that writes it and its channels [begin, end), in memory order."""
    moves: list[Move] = field(default_factory=list)
    """All moves that read the map."""
    inside: Order = field(default_factory=list)
    """The channel at each place, after it is decided."""

    def position(self) -> Order:
        """Place of each channel."""
        found = [0] * len(self.inside)
        for place, channel in enumerate(self.inside):
            found[channel] = place
        return found


def reorder_channels(graph: Graph) -> None:
    """Removes nodes that only change the order of channels, if the order is free. Changes the
    graph."""
    _split_moved_reads(graph)
    _compose(graph)
    _reorder_concatenations(graph)
    _absorb_moves(graph)
    lower_moves(graph)
    prune(graph)


def _compose(graph: Graph) -> None:
    """Makes each move read the source of the move before it."""
    flow, index = Flow(graph), 0
    while index < len(graph.nodes):
        move = as_move(graph.nodes[index])
        if move is not None and move.source.tensor.kind == "arena":
            writes = flow.writes(move.source.tensor)
            before = as_move(writes[0].node) if len(writes) == 1 else None
            if (
                before is not None
                and before.out.shape == move.source.shape
                and not flow.written(before.source, writes[0].index, index)
                and before.source.tensor.kind == "arena"
            ):
                order = [before.order[i] for i in move.order]
                graph.nodes[index] = gathering(move.node.name, before.source, order, move.out)
                flow = Flow(graph)
                continue
        index += 1
    prune(graph)


def _reorder_concatenations(graph: Graph) -> None:
    """Chooses an order for every concatenation whose channels are moved."""
    _split_direct_reads(graph)
    flow = Flow(graph)
    concats = _concatenations(graph, flow)
    for chain in _chains(concats):
        _order(chain)
    for concat in concats.values():
        for node, begin, end in concat.parts:
            if node.op == "conv":
                permute_outputs(node, [c - begin for c in concat.inside[begin:end]])
    for index, node in enumerate(graph.nodes):
        move = as_move(node)
        if move is not None and (move.source.tensor in concats or move.out.tensor in concats):
            order = _reordered(move, concats)
            graph.nodes[index] = gathering(node.name, move.source, order, move.out)


def _reordered(move: Move, concats: dict[Tensor, _Concat]) -> Order:
    """A move's list after the channels at both of its ends have their places."""
    source, into = concats.get(move.source.tensor), concats.get(move.out.tensor)
    order = move.order
    if source is not None:
        position = source.position()
        order = [position[channel] for channel in order]
    if into is not None:
        begin = move.out.offset
        order = [order[c - begin] for c in into.inside[begin : begin + len(order)]]
    return order


def _cost(concats: dict[Tensor, _Concat]) -> int:
    """Number of runs of channels that are copied between concatenations."""
    moves = [move for concat in concats.values() for move in concat.moves]
    between = [move for move in moves if move.out.tensor in concats]
    return sum(min(len(runs_of(_reordered(move, concats))), 2 * RUNS) for move in between)


def _split_direct_reads(graph: Graph) -> None:
    """Inserts a move between each concatenation that is moved from and its other readers: these
    need the channels in the network's order, or take any order, which is found later."""
    flow = Flow(graph)
    sources: dict[Tensor, View] = {}
    for node in graph.nodes:
        move = as_move(node)
        if move is not None and _parts(flow, move.source) is not None:
            sources.setdefault(move.source.tensor, move.source)
            if _parts(flow, whole_of(move.out)) is not None:  # its order may be free there, too
                sources.setdefault(move.out.tensor, whole_of(move.out))
    for whole in sources.values():
        _move_for_readers(graph, Flow(graph), whole)


def _split_moved_reads(graph: Graph) -> None:
    """Gives readers of a slice of a moved map, for example of the halves after a shuffle, their own
    move, so that no reader needs all of it."""
    for node in list(graph.nodes):
        move = as_move(node)
        if move is None or move.out.tensor.size != move.out.size:
            continue
        flow = Flow(graph)
        if move.out.tensor.kind == "arena" and len(flow.writes(move.out.tensor)) == 1:
            _move_for_readers(graph, flow, move.out, slices_only=True)


def _move_for_readers(graph: Graph, flow: Flow, whole: View, *, slices_only: bool = False) -> None:
    """Gives each slice of a map that is read by nodes other than moves a move of its own.

    The move stands right after the last write to its slice, not to the map: in a dense
    concatenation, later pieces are made from what readers of the earlier ones have computed. If a
    reader's slice is not known to be complete before the reader runs, the graph stays as it is, and
    so does the order of the map's channels.
    """
    slices: dict[tuple[int, int], list[Use]] = {}
    for use in flow.reads(whole.tensor):
        if as_move(use.node) is None:
            slices.setdefault(_channels(use.view, whole), []).append(use)
    made: list[tuple[int, Node]] = []
    edits: list[tuple[Use, View]] = []
    for (begin, count), uses in slices.items():
        if slices_only and count == whole.shape[2]:
            continue
        part = slice_of(whole, begin, count)
        last = max(use.index for use in flow.writes(part))
        shape = (*whole.shape[:2], count)
        made_anew = Tensor(kind="arena", size=math.prod(shape), type=whole.tensor.type)
        dense = View.dense(made_anew, shape)
        for use in uses:
            view = transferred(use.view, part, dense)
            if view is None or use.index <= last or not legal(use.node, use.role, view):
                return
            edits.append((use, view))
        order = list(range(begin, begin + count))
        made.append((last + 1, gathering(graph.nodes[last].name, whole, order, dense)))
    for use, view in edits:
        use.node.inputs[use.role] = view
    for place, node in sorted(made, key=lambda item: -item[0]):
        graph.nodes.insert(place, node)


def _channels(view: View, whole: View) -> tuple[int, int]:
    """The (first, count) channels of a map that a view of its tensor includes; all channels if the
    view does not step over whole pixels."""
    pixel = whole.strides[1]
    steps = [(n, s) for n, s in zip(view.shape, view.strides, strict=True) if n > 1]
    first = view.offset % pixel
    count = 1 + sum((n - 1) * s for n, s in steps if s < pixel)
    if first + count > pixel or any(s > pixel and s % pixel for _, s in steps):
        return 0, pixel
    return first, count


def _concatenations(graph: Graph, flow: Flow) -> dict[Tensor, _Concat]:
    found: dict[Tensor, _Concat] = {}
    for node in graph.nodes:
        move = as_move(node)
        if move is None:
            continue
        for whole in (move.source, whole_of(move.out)):
            parts = _parts(flow, whole)
            if parts is not None and whole.tensor not in found:
                found[whole.tensor] = _Concat(whole, parts)
    for tensor in list(found):
        moves = [as_move(use.node) for use in flow.reads(tensor)]
        shape = found[tensor].whole.shape  # a move of one column takes a row for a pixel
        known = [move for move in moves if move is not None and move.source.shape == shape]
        if not known or len(known) != len(moves):
            del found[tensor]
        else:
            found[tensor].moves = known
    # A part that is moved there from a map of fixed order is allowed: the move takes any order.
    return found


def _parts(flow: Flow, whole: View) -> list[tuple[Node, int, int]] | None:
    """The nodes that write a map, each with its channels; None if one cannot write them in any
    order."""
    if whole.tensor.kind != "arena" or whole.tensor.size != whole.size:
        return None
    parts = []
    for use in flow.writes(whole.tensor):
        move = as_move(use.node)
        view = use.view if move is None else move.out
        free = move is not None or _is_free_conv(use.node)
        if not free or view.shape[:2] != whole.shape[:2] or view.strides[:2] != whole.strides[:2]:
            return None
        parts.append((use.node, view.offset, view.offset + view.shape[2]))
    parts.sort(key=lambda part: part[1])
    ends = [0, *(end for _, _, end in parts)]
    begins = [*(begin for _, begin, _ in parts), whole.shape[2]]
    moved_only = len(parts) == 1 and parts[0][0].op != "conv"  # the result of a move is no source
    return parts if ends == begins and not moved_only else None


def _is_free_conv(node: Node) -> bool:
    """Whether a convolution may write its channels in any order."""
    return node.op == "conv" and node.attributes["groups"] == 1 and "residual" not in node.inputs


def _chains(concats: dict[Tensor, _Concat]) -> list[dict[Tensor, _Concat]]:
    """Concatenations that move channels on to each other, grouped, as in the units of a stage."""
    chains: list[dict[Tensor, _Concat]] = []
    for tensor, concat in concats.items():
        near = _reach(concat)
        joined: dict[Tensor, _Concat] = {}
        for chain in [c for c in chains if near & {t for k in c.values() for t in _reach(k)}]:
            chains.remove(chain)
            joined |= chain
        chains.append({**joined, tensor: concat})
    return chains


def _reach(concat: _Concat) -> set[Tensor]:
    return {concat.whole.tensor, *(move.out.tensor for move in concat.moves)}


def _order(chain: dict[Tensor, _Concat]) -> None:
    """Decides the order in each concatenation of a chain.

    The open choice is how finely the channels passed on are sorted: if finer, later units find
    longer runs; if coarser, this unit does. Which is better depends on the number of units, so all
    are tried.
    """
    known: dict[Tensor, list[int]] = {}
    deepest = max(max(_passed_on(concat, chain, known)) for concat in chain.values())
    tried = []
    for level in range(1, max(deepest, 1) + 1):
        for concat in chain.values():
            concat.inside = []
        for concat in chain.values():
            _choose(concat, chain, level)
        tried.append((_cost(chain), level, [concat.inside for concat in chain.values()]))
    for concat, inside in zip(chain.values(), min(tried)[2], strict=True):
        concat.inside = inside


def _choose(concat: _Concat, concats: dict[Tensor, _Concat], level: int) -> None:
    """Orders the channels of one concatenation. Those that feed it are ordered before.

    Channels moved here and passed on ``level`` times or more are not distinguished.
    """
    passed = _passed_on(concat, concats, {})
    sources: dict[int, int] = {}  # source of each channel that is moved here
    for node, begin, _ in concat.parts:
        move = as_move(node)
        if move is None:
            continue
        source = concats.get(move.source.tensor)
        position = source.position() if source is not None and source.inside else None
        for i, channel in enumerate(move.order):
            sources[begin + i] = channel if position is None else position[channel]
    concat.inside = []
    for number, (node, begin, end) in enumerate(concat.parts):
        if node.op != "conv":
            passed[begin:end] = [min(count, level) for count in passed[begin:end]]
        last = number == len(concat.parts) - 1 and number > 0
        sign = 1 if last else -1
        concat.inside += sorted(
            range(begin, end), key=lambda c: (sign * passed[c], sources.get(c, c))
        )


def _passed_on(
    concat: _Concat, concats: dict[Tensor, _Concat], known: dict[Tensor, list[int]]
) -> list[int]:
    """For each channel, the number of further concatenations into which it is moved."""
    if concat.whole.tensor not in known:
        counts = [0] * concat.whole.shape[2]
        known[concat.whole.tensor] = counts
        for move in concat.moves:
            into = concats.get(move.out.tensor)
            if into is None:
                continue
            there = _passed_on(into, concats, known)
            for i, channel in enumerate(move.order):
                counts[channel] = max(counts[channel], 1 + there[move.out.offset + i])
    return known[concat.whole.tensor]


def _absorb_moves(graph: Graph) -> None:
    """Removes the moves whose readers, or whose writer, take channels in the present order."""
    index = 0
    flow = Flow(graph)
    while index < len(graph.nodes):
        move = as_move(graph.nodes[index])
        if move is not None and _into_readers(flow, index, len(graph.nodes), move):
            del graph.nodes[index]
            flow = Flow(graph)
        elif move is not None and _into_writer(graph, flow, index, move):
            flow = Flow(graph)
        else:
            index += 1


def _into_readers(flow: Flow, index: int, end: int, move: Move) -> bool:
    """Makes the readers of a move read its source, with permuted weights."""
    tensor = move.out.tensor
    low = min(move.order)
    count = len(move.order)
    if tensor.kind != "arena" or len(flow.writes(tensor)) != 1 or tensor.size != move.out.size:
        return False
    if sorted(move.order) != list(range(low, low + count)):
        return False
    if flow.written(move.source, index, end):
        return False
    inverse = [0] * count  # window place -> channel of the move's out
    for channel, place in enumerate(move.order):
        inverse[place - low] = channel
    window = View(move.source.tensor, move.out.shape, move.source.strides, move.source.offset + low)
    edits = readers_take(flow, move.out, inverse, window)
    if edits is None:
        return False
    for edit in edits:
        edit()
    return True


def _into_writer(graph: Graph, flow: Flow, index: int, move: Move) -> bool:
    """Makes the convolution that writes all of a move's source write the move's output."""
    source = move.source
    writes, reads = flow.writes(source.tensor), flow.reads(source.tensor)
    if len(writes) != 1 or len(reads) != 1 or not _is_free_conv(writes[0].node):
        return False
    conv = writes[0].node
    if conv.out.shape != source.shape or sorted(move.order) != list(range(source.shape[2])):
        return False  # what the move takes for channels may be those of several pixels
    if source.tensor.kind != "arena" or not flow.movable(conv, writes[0].index, index):
        return False
    permute_outputs(conv, move.order)
    conv.out = move.out
    graph.nodes[index] = conv
    del graph.nodes[writes[0].index]
    return True
