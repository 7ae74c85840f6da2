"""The layers of an explanation for a reader: the kind of each, how far it is above its floor, and
the tree of modules with sums.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from fleetfoot.count import vocabulary
from fleetfoot.count.exact import EXACT
from fleetfoot.count.trace import Operator
from fleetfoot.machine.roofline import Bound, Layer
from fleetfoot.report.kit.style import Colour

KINDS = {
    "dense conv": Colour("#1d64b4", "#6aaefc"),
    "1×1 conv": Colour("#c2410c", "#fb8c4a"),
    "depthwise conv": Colour("#0f766e", "#3fc9b8"),
    "grouped conv": Colour("#b4236b", "#f47bb4"),
    "linear, matmul": Colour("#946200", "#e0b94a"),
    "attention": Colour("#7c3aad", "#c593f7"),
    "norm": Colour("#7a4a1e", "#c9986b"),
    "elementwise": Colour("#59616c", "#a3abb6"),
    "pool": Colour("#2f7fa3", "#8fd0ee"),
    "copy": Colour("#3f4652", "#ccd2da"),
    "engine's own": Colour("#8a8f98", "#7d8591"),
}
"""Kinds of layer and their colours. The kinds that do most of the work have hues that a reader
without red or green can tell apart."""

STEPS = (1.5, 2.0, 3.0, 5.0)
"""Times above the floor at which the colour of a module changes."""


def kind(layer: Layer) -> str:
    """The kind of a layer's costliest operator: the most multiply-accumulates, then the most bytes.
    A layer that no operator of the module asked for is the engine's own."""
    if not layer.operators:
        return "engine's own"
    main = max(layer.operators, key=lambda op: (op.macs or 0, op.bytes_read + op.bytes_written))
    return _kind(main, layer.module_type)


def _kind(op: Operator, module_type: str) -> str:
    name = vocabulary.bare(op.name)
    if name in vocabulary.ATTENTION or (op.macs and "attention" in module_type.lower()):
        return "attention"
    if name in vocabulary.CONVOLUTIONS:
        return _convolution(op)
    if op.macs:
        return "linear, matmul"
    if name in vocabulary.NORMS:
        return "norm"
    if name in vocabulary.POOLS or name in ("aten.mean", "aten.amax"):
        return "pool"
    if op.exact_flops == 0 and name in EXACT:
        return "copy"
    return "elementwise"


def _convolution(op: Operator) -> str:
    (_, channels, *_), weight, *_ = op.input_shapes
    # a weight is (Co, Ci / groups, K, K), transposed (Ci, Co / groups, K, K)
    groups = (channels if weight[0] == op.shape[1] else op.shape[1]) // weight[1]
    if groups > 1:
        return "depthwise conv" if groups == channels else "grouped conv"
    return "1×1 conv" if set(weight[2:]) == {1} else "dense conv"


def operations(layer: Layer) -> int:
    """Operations of everything that a layer's nodes hold, two for each multiply-accumulate; if
    there are none, the layer's exact operations."""
    return layer.held_flops or sum(op.exact_flops or 0 for op in layer.operators)


def intensity(layer: Layer) -> float:
    """``operations`` for each byte that goes into or out of the nodes; 0 if nothing moves."""
    return operations(layer) / layer.held_bytes if layer.held_bytes else 0.0


def rate(layer: Layer) -> float:
    """``operations`` per second; 0 if the layer took no time of its own."""
    return operations(layer) / layer.time_s if layer.time_s else 0.0


def step(times: float) -> int:
    """Index of the colour, of ``len(STEPS) + 1``, for so many times the floor."""
    return sum(times >= bound for bound in STEPS)


def step_text(index: int) -> str:
    """Meaning of a colour: "below 1.5 ×", "1.5 to 2 ×", "5 × and more"."""
    if index == 0:
        return f"below {STEPS[0]:g} ×"
    if index == len(STEPS):
        return f"{STEPS[-1]:g} × and more"
    return f"{STEPS[index - 1]:g} to {STEPS[index]:g} ×"


def by_bound(layers: Sequence[Layer]) -> dict[Bound, float]:
    """Seconds of the layers whose floor is set by each bound, the most first."""
    found: dict[Bound, float] = {}
    for layer in layers:
        if layer.time_s:
            found[layer.floor.bound] = found.get(layer.floor.bound, 0.0) + layer.time_s
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def by_kind(layers: Sequence[Layer]) -> dict[str, list[Layer]]:
    """The layers that took time, by kind, the kind with the most time first."""
    found: dict[str, list[Layer]] = {}
    for layer in layers:
        if layer.time_s:
            found.setdefault(kind(layer), []).append(layer)
    return dict(sorted(found.items(), key=lambda item: -sum(layer.time_s for layer in item[1])))


@dataclass
class Branch:
    """A module, or one of its layers, with the sums of everything within it."""

    name: str
    """Name within the branch above, for example "blocks.0"."""
    module: str
    """Whole path of the module."""
    layer: Layer | None = None
    """The layer, if the branch is a leaf; None otherwise."""
    index: int | None = None
    """Index of that layer in the explanation; None if the branch is not a leaf."""
    children: list[Branch] = field(default_factory=list)

    def layers(self) -> Iterator[Layer]:
        if self.layer:
            yield self.layer
        for child in self.children:
            yield from child.layers()

    @property
    def time_s(self) -> float:
        return sum(layer.time_s for layer in self.layers())

    @property
    def floor_s(self) -> float:
        return sum(layer.floor.seconds for layer in self.layers())

    @property
    def times_floor(self) -> float | None:
        """Time over floor; None if it took no time of its own, or has no floor."""
        return self.time_s / self.floor_s if self.time_s and self.floor_s else None

    @property
    def operations(self) -> int:
        """Operations: of a leaf by the function ``operations``; of several layers, two for each
        multiply-accumulate of everything that their nodes hold."""
        if self.layer:
            return operations(self.layer) if self.layer.time_s else 0
        return sum(layer.held_flops for layer in self.layers())

    @property
    def moved_bytes(self) -> int:
        """Bytes in and out of the nodes; a map written by one and read by the next counts twice."""
        return sum(layer.held_bytes for layer in self.layers())

    @property
    def above_floor_s(self) -> float:
        return sum(layer.above_floor_s for layer in self.layers())

    @property
    def rate(self) -> float:
        """Operations per second; 0 if there is no time."""
        return self.operations / self.time_s if self.time_s else 0.0

    @property
    def intensity(self) -> float:
        """Operations for each byte; 0 if nothing moves."""
        return self.operations / self.moved_bytes if self.moved_bytes else 0.0

    @property
    def bound(self) -> Bound | None:
        """The bound of the layers that take most of the time; None if there is no time."""
        return next(iter(by_bound(list(self.layers()))), None)

    def walk(self, depth: int = 0) -> Iterator[tuple[int, Branch]]:
        """This branch and all below it, each after its parent, with their depths."""
        yield depth, self
        for child in self.children:
            yield from child.walk(depth + 1)


OWN = "(its own operators)"


def tree(layers: Sequence[Layer], name: str) -> Branch:
    """The modules that hold ``layers``, in the order of the layers. A module that holds only one
    module is one branch with it; a layer in a module that holds others too is a leaf beside
    them."""
    root = Branch(name, "")
    branches = {"": root}
    for index, layer in enumerate(layers):
        _branch(layer.module, branches).children.append(Branch(OWN, layer.module, layer, index))
    return _joined(root)


def _branch(path: str, branches: dict[str, Branch]) -> Branch:
    if path not in branches:
        parent, _, name = path.rpartition(".")
        branches[path] = Branch(name, path)
        _branch(parent, branches).children.append(branches[path])
    return branches[path]


def _joined(branch: Branch, *, root: bool = True) -> Branch:
    if branch.layer:
        return branch
    children = [_joined(child, root=False) for child in branch.children]
    if root or len(children) != 1:
        return Branch(branch.name, branch.module, children=children)
    (only,) = children
    return replace(only, name=joined(branch.name, only.name))


def joined(name: str, within: str) -> str:
    """Name of a branch joined with that of the only branch within it."""
    return name if within == OWN else f"{name}.{within}"
