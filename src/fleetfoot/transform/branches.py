"""Find where a module adds up linear branches of one value, and put one convolution there.

Each value in a module's graph is described, where it can be, as

    sum of kernels * x + skip · x + shift

of an earlier value x: convolutions, batch norms, layer scales, skips, drop path (in eval mode) and
their sums and differences all stay in this form, whoever wrote the block. That is MobileOne's and
RepVGG's sum, RepMixer's x + scale · (mixer(x) − norm(x)), RepCPE's conv(x) + x, the large and the
small kernel of RepLKNet, and one nobody has named yet.
"""

from __future__ import annotations

import copy
import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.graph_module import reduce_graph_module

from fleetfoot.errors import FoldError
from fleetfoot.transform.fold import (
    CONVS,
    affine_of,
    is_batchnorm,
    pads_with_zeros,
    why_not,
)
from fleetfoot.transform.merge import Kernel, merge, module_of
from fleetfoot.transform.trace import (
    constant,
    describe,
    is_identity,
    may_write,
    operation,
    reads_values,
)

_ZERO = torch.zeros((), dtype=torch.float64)
_ONE = torch.ones((), dtype=torch.float64)


@dataclass(frozen=True)
class Branches:
    """sum of ``kernels`` * source + ``skip`` · source + ``shift``, in eval mode."""

    source: Any
    """The graph's node; nothing of it but its identity is used."""
    kernels: tuple[Kernel, ...] = ()
    skip: Tensor = _ZERO  # () or (C,)
    shift: Tensor | None = None  # () or (C,)
    axis: int | None = None
    """The channels' axis, counted from the last; None while every value is one for all
    channels."""
    count: int = 1
    """Branches that were added up."""

    @property
    def is_identity(self) -> bool:
        return (
            self.is_affine and self.shift is None and not self.skip.dim() and bool(self.skip == 1)
        )

    @property
    def is_affine(self) -> bool:
        return not self.kernels

    def then(self, scale: Tensor, shift: Tensor | None, axis: int | None) -> Branches | None:
        """This, multiplied and shifted channel by channel; None if these are other channels."""
        joint, agree = _joint(self.axis, axis)
        if not agree:
            return None
        moved = None if self.shift is None else self.shift * scale
        return replace(
            self,
            kernels=tuple(kernel.scaled(scale) for kernel in self.kernels),
            skip=self.skip * scale,
            shift=_sum(moved, shift),
            axis=joint,
        )

    def plus(self, other: Branches) -> Branches | None:
        """The sum of the two; None if they are not of one source or not along one axis."""
        joint, agree = _joint(self.axis, other.axis)
        if self.source is not other.source or not agree:
            return None
        return Branches(
            self.source,
            self.kernels + other.kernels,
            self.skip + other.skip,
            _sum(self.shift, other.shift),
            joint,
            self.count + other.count,
        )


def _joint(a: int | None, b: int | None) -> tuple[int | None, bool]:
    return (a if b is None else b), a is None or b is None or a == b


def _sum(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return a + b


def channelwise(value: Any) -> tuple[Tensor, int | None] | None:
    """A constant as one value a channel and the axis of the channels; None if it is neither that
    nor a single number."""
    if isinstance(value, bool) or not isinstance(value, int | float | Tensor):
        return None
    if not isinstance(value, Tensor):
        return torch.tensor(float(value), dtype=torch.float64), None
    value = value.detach()
    if value.numel() == 1:
        return value.reshape(()).double(), None
    wide = [i for i, size in enumerate(value.shape) if size > 1]
    if len(wide) != 1 or not value.is_floating_point():
        return None
    return value.flatten().double(), wide[0] - value.dim()


class Algebra:
    """The values of one module's graph as ``Branches``.

    ``of_child`` gives those of a child module, with any source, or None.
    """

    def __init__(
        self,
        module: nn.Module,
        graph: fx.Graph,
        of_child: Callable[[nn.Module], Branches | None],
    ) -> None:
        self.module = module
        self.graph = graph
        self.of_child = of_child
        self.values: dict[fx.Node, list[Branches]] = {}
        """The forms of each node, from the farthest source to the nearest."""
        for node in graph.nodes:
            self.values[node] = list(self._value(node))

    def called(self, node: fx.Node) -> nn.Module | None:
        return self.module.get_submodule(str(node.target)) if node.op == "call_module" else None

    def result(self) -> Branches | None:
        """What the module answers with as a map of its only input; None if it is no such map."""
        inputs = [node for node in self.graph.nodes if node.op == "placeholder"]
        output = next(node for node in self.graph.nodes if node.op == "output").args[0]
        if len(inputs) != 1 or not isinstance(output, fx.Node):
            return None
        for value in self._forms(output):
            if value.source is inputs[0]:
                return value
        return None

    def _forms(self, node: fx.Node) -> Iterator[Branches]:
        yield from self.values[node]
        yield Branches(node, skip=_ONE)

    def between(self, source: fx.Node, node: fx.Node) -> set[fx.Node]:
        """The nodes that make ``node`` out of the value of ``source``, ``node`` too."""
        found: set[fx.Node] = set()
        waiting = [node]
        while waiting:
            one = waiting.pop()
            if one.op == "get_attr" or source in (one, self.alias(one)) or one in found:
                continue
            found.add(one)
            waiting += one.all_input_nodes
        return found

    def is_alias(self, node: fx.Node) -> bool:
        """Whether ``node`` only hands on the value of another."""
        return self.alias(node) is not node

    def alias(self, node: fx.Node) -> fx.Node:
        """The first node that has ``node``'s value."""
        forms = self.values.get(node, ())  # none for a convolution that was put in
        return next((value.source for value in forms if value.is_identity), node)

    def _constant(self, argument: Any) -> tuple[Tensor, int | None] | None:
        return channelwise(constant(self.module, argument))

    def _value(self, node: fx.Node) -> Iterator[Branches]:
        if node.op == "call_module":
            yield from self._of_call(node)
        if node.op not in ("call_function", "call_method") or node.kwargs:
            return
        name = operation(node)
        if name.endswith("_"):
            # An in-place sum is a sum when nothing else sees the value that it writes over.
            if not node.args or not self._is_private(node.args[0]):
                return
            name = name.removesuffix("_")
        if name in ("neg", "negative") and len(node.args) == 1:
            yield from self._then(node.args[0], -_ONE)
        if len(node.args) != 2:
            return
        a, b = node.args
        if name == "add":
            yield from self._sum(a, b, _ONE)
        elif name in ("sub", "subtract"):
            yield from self._sum(a, b, -_ONE)
        elif name in ("mul", "multiply"):
            for value, factor in ((a, self._constant(b)), (b, self._constant(a))):
                if factor is not None:
                    yield from self._then(value, factor[0], None, factor[1])
        elif name in ("truediv", "div") and isinstance(b, int | float) and b:
            yield from self._then(a, torch.tensor(1.0 / b, dtype=torch.float64))

    def _is_private(self, node: Any) -> bool:
        while isinstance(node, fx.Node):
            if len(node.users) != 1 or node.op in ("placeholder", "get_attr"):
                return False
            alias = self.alias(node)
            if alias is node:
                return True
            node = alias
        return isinstance(node, int | float)  # sum() starts at 0

    def _of_call(self, node: fx.Node) -> Iterator[Branches]:
        inner = self.of_child(self.module.get_submodule(str(node.target)))
        if inner is None or len(node.args) != 1 or node.kwargs:
            return
        argument = node.args[0]
        if not isinstance(argument, fx.Node):
            return
        if inner.is_affine:
            yield from self._then(argument, inner.skip, inner.shift, inner.axis)
        else:
            yield replace(inner, source=self.alias(argument))

    def _then(
        self, a: Any, scale: Tensor, shift: Tensor | None = None, axis: int | None = None
    ) -> Iterator[Branches]:
        if isinstance(a, fx.Node) and a.op != "get_attr":
            for form in self._forms(a):
                value = form.then(scale, shift, axis)
                if value is not None:
                    yield value

    def _sum(self, a: Any, b: Any, sign: Tensor) -> Iterator[Branches]:
        """``a + sign * b``"""
        left, right = self._constant(a), self._constant(b)
        if right is not None:
            yield from self._then(a, _ONE, *_shift(right[0] * sign, right[1]))
        elif left is not None:
            yield from self._then(b, sign, *_shift(*left))
        elif isinstance(a, fx.Node) and isinstance(b, fx.Node):
            for form in self._forms(a):
                for other in self._then(b, sign):
                    value = form.plus(other)
                    if value is not None:
                        yield value


def _shift(value: Tensor, axis: int | None) -> tuple[Tensor | None, int | None]:
    """Nothing for a zero: ``sum()`` starts at one."""
    return (value, axis) if bool(value.any()) else (None, None)


def of_leaf(module: nn.Module, ranks: frozenset[int]) -> Branches | None:
    """``Branches`` of one of torch's own layers; None if it is no such map.

    ``ranks``: the numbers of dimensions that its input has been seen with.
    """
    if is_identity(module):
        return Branches(None, skip=_ONE)
    if is_batchnorm(module):
        if why_not(module) or len(ranks) != 1:
            return None
        affine = affine_of(module, *ranks)
        return Branches(None, skip=affine.scale, shift=affine.shift, axis=affine.axis)
    if not isinstance(module, (*CONVS, nn.Linear)) or why_not(module):
        return None
    if pads_with_zeros(module) and type(module).forward not in {kind.forward for kind in CONVS}:
        return None  # how it pads depends on the size
    try:
        kernel = Kernel.of(module)
    except FoldError:
        return None
    bias = None if module.bias is None else module.bias.detach()
    return Branches(None, (kernel,), shift=bias, axis=-1 - len(kernel.size))


@dataclass(frozen=True)
class Merged:
    """One sum that became one convolution."""

    branches: int
    module: nn.Module


def merge_sums(module: nn.Module, algebra: Algebra) -> tuple[nn.Module, list[Merged], list[str]]:
    """``module`` with each sum of linear branches replaced by one convolution.

    Returns what stands for the module now (itself if there was no sum; a convolution, a
    ``Sequential`` or a graph otherwise), what was merged, and why other sums were not.
    """
    graph, done = algebra.graph, []
    refused: dict[fx.Node, str] = {}
    new: dict[str, nn.Module] = {}
    claimed: set[fx.Node] = set()
    for node in reversed(list(graph.nodes)):
        for value in algebra.values.get(node, ()):
            if node in claimed or algebra.is_alias(node) or value.is_affine or value.count < 2:
                continue
            region = algebra.between(value.source, node)
            try:
                _check_private(node, region, value.source, algebra)
                conv = _convolution(value)
            except FoldError as reason:
                refused.setdefault(node, str(reason))
                continue
            claimed |= region
            done.append(Merged(value.count, conv))
            name = _free_name(module, new)
            new[name] = conv
            module.add_module(name, conv)  # until the module is rebuilt
            with graph.inserting_before(node):
                call = graph.call_module(name, (value.source,))
            node.replace_all_uses_with(call)
            for old in reversed(list(graph.nodes)):
                unused = not old.users and (old.op == "get_attr" or algebra.is_alias(old))
                if old in region or unused:
                    graph.erase_node(old)
    reasons = [reason for node, reason in refused.items() if node not in claimed]
    return (rebuilt(module, graph, new) if done else module), done, reasons


def _check_private(node: fx.Node, region: set[fx.Node], source: fx.Node, algebra: Algebra) -> None:
    """Raises FoldError if a value inside the region is wanted outside it, or the source is written
    over."""
    for inside in region - {node}:
        for user in inside.users:
            if user not in region:
                raise FoldError(
                    f"{describe(inside, algebra.called(inside))} is also used by "
                    f"{describe(user, algebra.called(user))}"
                )
    same = [one for one in algebra.graph.nodes if source in (one, algebra.alias(one))]
    for user in (user for one in same for user in one.users if reads_values(user, one)):
        if user not in region and may_write(user, algebra.called(user)):
            raise FoldError(
                f"{describe(user, algebra.called(user))} writes over the branches' input"
            )


def _convolution(value: Branches) -> nn.Module:
    kernels = list(value.kernels)
    outputs, inputs = len(kernels[0].weight), kernels[0].in_channels
    if bool(value.skip.any()):
        if value.skip.numel() not in (1, inputs) or outputs != inputs:
            raise FoldError(f"the skip has {inputs} channels, the sum {outputs}")
        scale = value.skip.to(kernels[0].weight).expand(inputs)
        kernels.append(Kernel.skip(scale, len(kernels[0].size)))
    shift = value.shift
    if shift is not None:
        if shift.numel() not in (1, outputs):
            raise FoldError(f"the shift has {shift.numel()} channels, the sum {outputs}")
        shift = shift.to(kernels[0].weight).expand(outputs).clone()
    return module_of(merge(kernels), shift)


def _free_name(module: nn.Module, new: dict[str, nn.Module]) -> str:
    names = itertools.chain(("conv", "merged"), (f"merged{i}" for i in itertools.count(2)))
    return next(name for name in names if name not in new and not hasattr(module, name))


def rebuilt(
    module: nn.Module, graph: fx.Graph, new: Mapping[str, nn.Module] = MappingProxyType({})
) -> nn.Module:
    """The module that runs the rewritten ``graph`` of ``module``, as plain as it can be; it calls
    ``new`` by these names."""
    steps = _chain(graph)
    if steps is not None:
        layers = OrderedDict((step.replace(".", "_"), module.get_submodule(step)) for step in steps)
        kept = [(k, v) for k, v in layers.items() if k in new or not is_identity(v)]
        if len(kept) == 1 and kept[0][0] in new:
            return kept[0][1]
        return nn.Sequential(OrderedDict(kept)).train(module.training)
    made = Rewritten(module, graph, class_name=type(module).__name__)
    made.training = module.training
    return made


class Rewritten(fx.GraphModule):
    """A module whose forward is a rewritten graph. Unlike torch's own, it keeps the attributes that
    its owner reads when it is copied."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Rewritten:
        made: Rewritten = super().__deepcopy__(memo)  # type: ignore[assignment]
        for name, value in vars(self).items():
            if name not in vars(made):
                vars(made)[name] = copy.deepcopy(value, memo)
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        _, state = super().__reduce__()
        return _unpickled, (*state, type(self).__name__)


def _unpickled(body: dict[str, Any], imports: str, name: str) -> Rewritten:
    """What pickle made of a ``Rewritten``. ``body`` and ``imports`` are the state of torch's
    own, ``name`` is the class that it shows."""
    plain = reduce_graph_module(body, imports)
    assert isinstance(plain, fx.GraphModule)
    made = Rewritten(plain, plain.graph, class_name=name)
    for name, value in vars(plain).items():
        vars(made).setdefault(name, value)
    return made


def _chain(graph: fx.Graph) -> list[str] | None:
    """The modules that the graph calls one after the other, each once; None if it does more."""
    previous: fx.Node | None = None
    steps: list[str] = []
    for node in graph.nodes:
        if previous is None and node.op == "placeholder":
            previous = node
        elif node.op == "call_module" and node.args == (previous,) and not node.kwargs:
            steps.append(str(node.target))
            previous = node
        elif node.op == "output" and node.args == (previous,):
            return steps if len(set(steps)) == len(steps) else None
        else:
            return None
    return None
