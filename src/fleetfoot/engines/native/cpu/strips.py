"""Groups of nodes that run a few rows at a time, so that maps between them stay in the cache.

A 56 x 56 map of 80 channels is 1 MB: written by one node and read by the next, it leaves the cache
and comes back. In a strip, the nodes take turns on a stretch of rows, and a map between them
becomes a ring of the few rows that are needed at once. The price: each stretch reads the weights
again, and where the parts of two threads meet, both compute the rows that the windows of both need
(the halo). A convolution by Winograd's tiles is included if all its rows are whole tiles.

The groups of consecutive nodes that become strips are those that save the most bytes in total,
found by dynamic programming over the node list; ``StripOptions`` holds the costs to compare with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from fleetfoot.engines.native.graph import Graph, Node, Tensor, View
from fleetfoot.engines.native.passes.flow import is_constant

WINDOWED = ("conv", "depthwise", "pool")
POINTWISE = ("unary", "binary", "norm", "copy", "gather", "softmax")


@dataclass(frozen=True, kw_only=True)
class StripOptions:
    """Conditions under which a strip is worth it."""

    budget_bytes: int = 384 << 10
    """Most bytes of the rings and a stretch of the result together. A second-level cache has
    512 KiB to 2 MiB and must hold the weights too."""
    small_bytes: int = 256 << 10
    """Size of all maps of a group up to which it stays in the cache without a strip."""
    pixels: int = 28
    """Fewest pixels of a stretch: a 1×1 convolution needs two tiles of 14 to keep its units
    busy."""
    halo: float = 0.10
    """Largest share of multiply-adds computed twice, with ``threads`` threads."""
    threads: int = 2
    longest: int = 16
    """Most nodes of a strip."""
    macs_a_byte: float = 2.0
    """Multiply-adds that cost as much as moving one byte out of the cache and back: for a core that
    does 24 a ns and moves 12 bytes a ns."""
    rows: int | None = None
    """Rows of a stretch, rounded up to whole tiles, in every group that can run as a strip, whether
    it pays or not; for tests. Default: as many as the budget allows, in groups for which it
    pays."""


@dataclass(frozen=True)
class _Window:
    """The rows of a map from which rows y0..y1 (inclusive) of the strip's result are computed:
    step * y0 + first .. step * y1 + last, before they are clipped to the map."""

    step: int
    first: int
    last: int

    def before(self, node: Node, role: str) -> _Window:
        """The window of an input of ``node``, if this is the window of its output."""
        if node.op not in WINDOWED or role != "x":
            return self
        a = node.attributes
        stride, padding = a["stride"][0], a["padding"][0]
        reach = (a["kernel"][0] - 1) * a["dilation"][0]
        return _Window(
            self.step * stride, self.first * stride - padding, self.last * stride - padding + reach
        )

    def rows(self, rows: int) -> int:
        """Number of rows of the map for ``rows`` rows of the result."""
        return self.step * (rows - 1) + self.last - self.first + 1

    @property
    def shared(self) -> int:
        """Number of rows that two neighbouring parts of the result both need."""
        return max(0, self.last - self.first + 1 - self.step)


_ALIGNED = _Window(1, 0, 0)


@dataclass(frozen=True)
class _Group:
    """Nodes that may become a strip, and the rows and windows of it."""

    nodes: list[Node]
    windows: dict[Tensor, _Window]
    rows: int
    gain_bytes: float


def group(graph: Graph, options: StripOptions | None = None) -> None:
    """Replaces groups of nodes by strips. Changes the graph.

    This is the last pass that may look into nodes: a strip has no inputs of its own.
    """
    options = options or StripOptions()
    spans = _spans(graph)
    count = len(graph.nodes)
    best = [0.0] * (count + 1)
    choice: list[tuple[int, _Group | None]] = [(0, None)] * (count + 1)
    candidates: dict[int, list[tuple[int, _Group]]] = {}
    for begin in range(count):
        for end in range(begin + 1, min(count, begin + options.longest) + 1):
            if not _row_local(graph.nodes[end - 1]):
                break
            found = _candidate(graph.nodes, begin, end, spans, options) if end > begin + 1 else None
            if found is not None:
                candidates.setdefault(end, []).append((begin, found))
    for end in range(1, count + 1):
        best[end], choice[end] = best[end - 1], (end - 1, None)
        for begin, found in candidates.get(end, ()):
            if best[begin] + found.gain_bytes > best[end]:
                best[end], choice[end] = best[begin] + found.gain_bytes, (begin, found)
    nodes: list[Node] = []
    end = count
    while end:
        begin, found = choice[end]
        nodes.append(graph.nodes[end - 1] if found is None else _strip(found))
        end = begin
    graph.nodes = nodes[::-1]


def needed_rows(strip: Node, begin: int, end: int) -> list[tuple[int, int]]:
    """For each node of a strip, the rows [first, last) that rows [begin, end) of the strip's result
    need. The executor derives the same for a stretch, from the last node backwards."""
    nodes = strip.nodes
    needed: list[tuple[int, int]] = [(0, 0)] * len(nodes)
    needed[-1] = (begin, end)
    for i in reversed(range(len(nodes) - 1)):
        for reader in range(i + 1, len(nodes)):
            for role, view in nodes[reader].inputs.items():
                if view.tensor is not nodes[i].out.tensor:
                    continue
                first, last = read_rows(nodes[reader], role, *needed[reader])
                if first >= last:
                    continue
                if needed[i][0] < needed[i][1]:
                    first, last = min(first, needed[i][0]), max(last, needed[i][1])
                needed[i] = (first, last)
    return needed


def read_rows(node: Node, role: str, begin: int, end: int) -> tuple[int, int]:
    """The rows of an input that are needed for rows [begin, end) of the node's result."""
    if begin >= end or node.op not in WINDOWED or role != "x":
        return begin, end
    window = _Window(1, begin, end - 1).before(node, role)
    return max(window.first, 0), min(window.last + 1, node.inputs[role].shape[0])


def live_rows(strip: Node) -> dict[Tensor, int]:
    """Rows that each ring has to keep: the most that any stretch, wherever a thread starts it,
    reads and writes."""
    live: dict[Tensor, int] = {}
    height = strip.out.shape[0]
    for y in range(height):
        end = min(y + strip.attributes["rows"], height)
        for node, (first, last) in zip(strip.nodes, needed_rows(strip, y, end), strict=True):
            if node.out.tensor.kind == "ring":
                tensor = node.out.tensor
                live[tensor] = max(live.get(tensor, 0), last - first)
    return live


def _row_local(node: Node) -> bool:
    """Whether each row of the node's map is computed from a few rows of other maps."""
    if not _is_map(node.out):
        return False
    if node.out.tensor.type != "f32":
        return False
    if node.op in WINDOWED:
        return all(_is_map(node.inputs[r]) for r in ("x", "residual") if r in node.inputs)
    if node.op not in POINTWISE or (node.op == "norm" and node.attributes["trailing"] != 1):
        return False
    operands = [view for role, view in node.inputs.items() if role != "index"]
    return all(len(view.shape) == 3 and view.shape[:2] == node.out.shape[:2] for view in operands)


def _is_map(view: View) -> bool:
    return len(view.shape) == 3 and (view.shape[2] == 1 or view.strides[2] == 1)


@dataclass(frozen=True)
class _Span:
    """First and last node that use a tensor."""

    first: int
    last: int
    reads: int


def _spans(graph: Graph) -> dict[Tensor, _Span]:
    found: dict[Tensor, _Span] = {}
    for index, node in enumerate(graph.nodes):
        for view in (*node.inputs.values(), node.out):
            span = found.get(view.tensor, _Span(index, index, 0))
            reads = span.reads + (view is not node.out)
            found[view.tensor] = _Span(span.first, index, reads)
    return found


def _candidate(
    nodes: list[Node], begin: int, end: int, spans: dict[Tensor, _Span], options: StripOptions
) -> _Group | None:
    """The group of nodes [begin, end) as a strip; None if it cannot be one or does not pay."""
    inner = nodes[begin:end]
    out = inner[-1].out
    windows = _windows(inner)
    if windows is None:
        return None
    for tensor in windows:
        span = spans[tensor]
        if tensor.kind != "arena" or span.first < begin or span.last >= end:
            return None
    between = sum(_map_bytes(tensor) * (1 + spans[tensor].reads) for tensor in windows)
    # A halo after Winograd's tiles would cut them, in a different place for each thread count.
    if any(_tile(n) > 1 and windows.get(n.out.tensor, _ALIGNED) != _ALIGNED for n in inner):
        return None
    if options.rows is not None:
        tile = max(_tile(node) for node in inner)
        forced = _multiple(min(options.rows, out.shape[0]), tile)
        return _Group(inner, windows, forced, between)
    outside = {v.tensor for n in inner for v in n.inputs.values() if not is_constant(v)}
    maps = sum(_map_bytes(tensor) for tensor in {*outside, *windows, out.tensor})
    if maps <= options.small_bytes:
        return None
    rows = _rows(inner, windows, options)
    if rows is None:
        return None
    macs = [_row_macs(node) for node in inner]
    twice = sum(
        row_macs * windows[node.out.tensor].shared * (options.threads - 1)
        for node, row_macs in zip(inner[:-1], macs, strict=False)
    )
    once = sum(row_macs * node.out.shape[0] for node, row_macs in zip(inner, macs, strict=True))
    if twice > options.halo * once:
        return None
    stretches = math.ceil(out.shape[0] / rows)
    constants = {
        view.tensor
        for node in inner
        for role, view in node.inputs.items()
        if is_constant(view) and not (role == "weight" and "transformed" in node.inputs)
    }
    weights = sum(4 * tensor.size for tensor in constants)
    gain = between - weights * (stretches - 1) - twice / options.macs_a_byte
    return _Group(inner, windows, rows, gain) if gain > 0 else None


def _windows(nodes: list[Node]) -> dict[Tensor, _Window] | None:
    """For each tensor between the nodes, the rows that are needed at once; None if they cannot be a
    strip."""
    out = nodes[-1].out
    writers: dict[Tensor, View] = {}
    for i, node in enumerate(nodes):
        views = [(role, view) for role, view in node.inputs.items() if not is_constant(view)]
        for role, view in views:
            if view.tensor is out.tensor:
                return None
            made = writers.get(view.tensor)
            # Its rows are computed on the way: it must be read in the same rows.
            if made is not None and (role == "gate" or not _same_rows(view, made)):
                return None
        if i < len(nodes) - 1:
            made = writers.setdefault(node.out.tensor, node.out)
            if node.out.tensor is out.tensor or not _same_rows(node.out, made):
                return None
    windows: dict[Tensor, _Window] = {out.tensor: _ALIGNED}
    for i in reversed(range(len(nodes))):
        window = windows.get(nodes[i].out.tensor)
        if window is None:
            return None  # nothing in the strip reads it, so none of its rows would be asked for
        for role, view in nodes[i].inputs.items():
            if view.tensor not in writers:
                continue
            needed = window.before(nodes[i], role)
            known = windows.get(view.tensor, needed)
            if known.step != needed.step:
                return None
            windows[view.tensor] = _Window(
                needed.step, min(known.first, needed.first), max(known.last, needed.last)
            )
    del windows[out.tensor]
    return windows


def _same_rows(a: View, b: View) -> bool:
    """Whether two views of a tensor have the same rows, each in one row of memory."""
    if len(a.shape) != 3 or (a.shape[0], a.strides[0]) != (b.shape[0], b.strides[0]):
        return False
    inside = a.offset + sum((n - 1) * s for n, s in zip(a.shape[1:], a.strides[1:], strict=True))
    return inside < a.strides[0] and a.strides[0] * a.shape[0] == a.tensor.size


def _rows(nodes: list[Node], windows: dict[Tensor, _Window], options: StripOptions) -> int | None:
    """Rows of a stretch: as many as the budget allows, in equal stretches of whole tiles."""
    height, width, channels = nodes[-1].out.shape
    heights = {node.out.tensor: node.out.shape[0] for node in nodes[:-1]}

    def live(rows: int) -> int:
        rings = sum(
            min(window.rows(rows), heights[tensor]) * (tensor.size // heights[tensor])
            for tensor, window in windows.items()
        )
        return 4 * (rings + rows * width * channels)

    tile = max(_tile(node) for node in nodes)
    part = _multiple(math.ceil(height / options.threads), tile)
    least = min(_multiple(math.ceil(options.pixels / width), tile), part)
    rows = part
    while rows >= least and live(rows) > options.budget_bytes:
        rows -= tile
    if rows < least:
        return None
    return _multiple(math.ceil(part / math.ceil(part / rows)), tile)


def _multiple(rows: int, tile: int) -> int:
    return math.ceil(rows / tile) * tile


def _tile(node: Node) -> int:
    """Number of rows that a node computes together; each part starts at a multiple of it."""
    rows: int = node.attributes.get("winograd", 1)
    return rows


def _row_macs(node: Node) -> int:
    """Multiply-adds for one row of the result; for a pointwise node, its elements."""
    _, width, channels = node.out.shape
    if node.op in ("conv", "depthwise"):
        transformed, tile = node.inputs.get("transformed"), _tile(node)
        if transformed is not None:
            return math.ceil(width / tile) * transformed.size // tile
        return width * node.inputs["weight"].size
    if node.op == "pool":
        return width * channels * math.prod(node.attributes["kernel"])
    return width * channels


def _map_bytes(tensor: Tensor) -> int:
    return 4 * tensor.size


def _strip(group: _Group) -> Node:
    """The group as one node, whose tensors become rings."""
    last = group.nodes[-1]
    strip = Node(
        op="strip",
        inputs={},
        out=last.out,
        attributes={"rows": group.rows},
        name=last.name,
        nodes=group.nodes,
    )
    heights = {node.out.tensor: node.out.shape[0] for node in group.nodes[:-1]}
    for tensor, window in group.windows.items():
        height = heights[tensor]
        tensor.size //= height
        tensor.kind, tensor.ring = "ring", min(window.rows(group.rows), height)
        tensor.size *= tensor.ring
    for tensor, rows in live_rows(strip).items():
        assert rows <= tensor.ring, f"{last.name}: {rows} live rows in a ring of {tensor.ring}"
    return strip
