"""Find, in a network's data flow, which layers can take up what a batch norm does.

An affine map of channels goes back into the convolutions or linear layers that alone make its
input, or on into all those that read its result. On the way it passes what does not mix channels:
dropout, flatten, transpose, permute, concatenation, averages over pixels.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from fleetfoot.errors import FoldError
from fleetfoot.transform.branches import channelwise
from fleetfoot.transform.certificate import Observation
from fleetfoot.transform.fold import (
    LINEAR,
    Affine,
    check_before,
    fold_after_,
    fold_before_,
    is_replaced,
    out_axis,
    out_channels,
    why_not,
)
from fleetfoot.transform.trace import (
    constant,
    describe,
    is_identity,
    moved_axis,
    operation,
    reads_values,
    source_axis,
)


@dataclass(frozen=True)
class _Place:
    """A layer that the affine map reaches, at one of its calls."""

    layer: nn.Module
    call: fx.Node


@dataclass(frozen=True)
class InlineScale:
    """A multiplication by a constant of one value a channel, written out in some forward."""

    owner: nn.Module
    """The module that holds the constant,"""
    name: str
    """under this name."""
    value: fx.Node
    """What is multiplied,"""
    node: fx.Node
    """here."""
    affine: Affine


class Region:
    """A module whose data flow is known: ``graph``, as ``trace_through`` reads it.

    ``seen`` is a run of the network that it is a part of; ``shared``, the tensors that more than
    one module of that network holds.
    """

    def __init__(
        self, root: nn.Module, graph: fx.Graph, seen: Observation, shared: set[Tensor]
    ) -> None:
        self.root = root
        self.graph = graph
        self.seen = seen
        self.gone: set[nn.Module] = set()
        self.calls: dict[nn.Module, list[fx.Node]] = defaultdict(list)
        # A weight that some forward reads by itself has another reader than its layer.
        self.not_ours = set(shared)
        for node in graph.nodes:
            if node.op == "call_module":
                self.calls[self.called(node)].append(node)  # type: ignore[index]
            elif node.op == "get_attr":
                self.not_ours.add(_attribute(root, str(node.target)))

    def called(self, node: fx.Node) -> nn.Module | None:
        return self.root.get_submodule(str(node.target)) if node.op == "call_module" else None

    def absorb_(self, module: nn.Module, affine: Affine) -> list[nn.Module]:
        """Folds ``affine``, which is all that ``module`` does, into the layers before it or else
        after it, in place; the caller takes ``module`` out. Returns those layers.

        Raises:
            FoldError: neither side can take it, and why.
        """
        layers = self._absorbed(module, affine)
        self.gone.add(module)
        return layers

    def _absorbed(self, module: nn.Module, affine: Affine) -> list[nn.Module]:
        self._check_calls(module, "it")
        try:
            layers = self._one_answer(
                [self._before(_first(call), call, affine.axis) for call in self.calls[module]]
            )
            self._fold_after(layers, affine)
        except FoldError as back:
            try:
                layers = self._one_answer(
                    [self._after(call, affine.axis) for call in self.calls[module]]
                )
                for layer in layers:
                    check_before(layer, affine)
            except FoldError as on:
                raise FoldError(f"{back}; {on}") from None
            for layer in layers:
                fold_before_(layer, affine)
        return layers

    def inline_scales(self) -> list[InlineScale]:
        """The layer scales that are no modules of their own."""
        found = []
        for node in self.graph.nodes:
            multiplied = scaled_by(node) if node.op == "get_attr" else None
            if multiplied is None:
                continue
            user, value, factor = multiplied
            factors = channelwise(constant(self.root, factor))
            if factors is None or factors[1] is None:
                continue
            affine = Affine(factors[0], torch.zeros_like(factors[0]), factors[1])
            owner, _, name = str(node.target).rpartition(".")
            found.append(InlineScale(self.root.get_submodule(owner), name, value, user, affine))
        return found

    def absorb_scale_(self, scale: InlineScale) -> list[nn.Module]:
        """Folds ``scale`` into the layers before it, in place; the caller takes it out. Returns
        those layers.

        Raises:
            FoldError: they cannot take it, and why.
        """
        layers = self._one_answer([self._before(scale.value, scale.node, scale.affine.axis)])
        self._fold_after(layers, scale.affine)
        return layers

    def _fold_after(self, layers: list[nn.Module], affine: Affine) -> None:
        widths = [out_channels(layer) for layer in layers]
        if sum(widths) != len(affine.scale):
            raise FoldError(f"it has {len(affine.scale)} channels, its input {sum(widths)}")
        start = 0
        for layer, width in zip(layers, widths, strict=True):
            fold_after_(layer, affine.part(start, start + width))
            start += width

    def _one_answer(self, answers: list[list[_Place]]) -> list[nn.Module]:
        """The layers, if each call of the affine map leads to them and they are called for nothing
        else."""
        layers = [place.layer for place in answers[0]]
        if any([place.layer for place in answer] != layers for answer in answers[1:]):
            raise FoldError("it is called in several places, which other layers feed or read")
        if len(set(layers)) != len(layers):
            raise FoldError("one layer would take it twice")
        calls = {place.call for answer in answers for place in answer}
        for layer in layers:
            if not calls.issuperset(self.calls[layer]):
                raise FoldError(f"{type(layer).__name__} is called in other places too")
        return layers

    def _check_calls(self, module: nn.Module, name: str) -> None:
        expected = self.seen.calls[self.root] * len(self.calls[module])
        if self.seen.calls[module] != expected:
            raise FoldError(f"{name} is also called from outside the module that holds it")

    def _checked(self, node: fx.Node, layer: nn.Module, axis: int) -> _Place:
        reason = why_not(layer)
        if reason is None and any(p in self.not_ours for p in layer.parameters()):
            reason = "another module shares its weight, or reads it"
        if reason is None and (len(node.args) != 1 or node.kwargs):
            reason = "it is called with more than its input"
        if reason is None and out_axis(layer) != axis:
            reason = "its channels lie along another axis"
        if reason is not None:
            raise FoldError(f"the {type(layer).__name__} beside it: {reason}")
        self._check_calls(layer, f"the {type(layer).__name__} beside it")
        return _Place(layer, node)

    def _before(self, node: Any, reader: fx.Node, axis: int) -> list[_Place]:
        """The layers that make ``node``, in the order of their channels, if only ``reader`` reads
        it."""
        if not isinstance(node, fx.Node):
            raise FoldError("its input is no tensor")
        others = [user for user in node.users if user is not reader and reads_values(user, node)]
        if others:
            raise FoldError(
                f"{self._named(node)}, whose result it takes, is also read by "
                f"{self._named(others[0])}"
            )
        module = self.called(node)
        if isinstance(module, LINEAR):
            return [self._checked(node, module, axis)]
        if self._passes(module):
            return self._before(_first(node), node, axis)
        if operation(node) in ("cat", "concat", "concatenate"):
            return self._before_joined(node, axis)
        rank = self._rank(_first(node))
        source = (
            None
            if rank is None
            else source_axis(node, axis, rank, module, point=self._is_point(_first(node)))
        )
        if source is None:
            raise FoldError(f"it follows {self._named(node)}, which is no linear layer")
        return self._before(_first(node), node, source)

    def _before_joined(self, node: fx.Node, axis: int) -> list[_Place]:
        joined = _first(node)
        place = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
        rank = self._rank(joined[0]) if isinstance(joined, list | tuple) and joined else None
        if not isinstance(place, int) or rank is None or place % rank - rank != axis:
            raise FoldError(f"it follows {self._named(node)} along another axis")
        return [found for one in joined for found in self._before(one, node, axis)]

    def _after(self, node: fx.Node, axis: int) -> list[_Place]:
        """The layers that read ``node``, all of them."""
        found: list[_Place] = []
        for user in node.users:
            if not reads_values(user, node):
                continue
            module = self.called(user)
            if not user.args or user.args[0] is not node or list(user.all_input_nodes) != [node]:
                raise FoldError(f"{self._named(user)}, which reads it, is no linear layer")
            if isinstance(module, LINEAR):
                found.append(self._checked(user, module, axis))
                continue
            if self._passes(module):
                found += self._after(user, axis)
                continue
            rank = self._rank(node)
            moved = (
                None
                if rank is None
                else moved_axis(user, axis, rank, module, point=self._is_point(node))
            )
            if moved is None:
                raise FoldError(f"{self._named(user)}, which reads it, is no linear layer")
            found += self._after(user, moved)
        if not found:
            raise FoldError("no layer reads it")
        return found

    def _passes(self, module: nn.Module | None) -> bool:
        return module is not None and (module in self.gone or is_identity(module))

    def _rank(self, node: Any) -> int | None:
        """Dimensions of ``node``'s value; None if it has been seen with several or not at all."""
        if not isinstance(node, fx.Node):
            return None
        module = self.called(node)
        if module is not None and module in self.seen.out_ranks:
            ranks = self.seen.out_ranks[module]
            return next(iter(ranks)) if len(ranks) == 1 else None
        before = self._rank(_first(node))
        if before is None:
            return None
        if operation(node) in ("transpose", "swapaxes", "swapdims", "permute"):
            return before
        first = moved_axis(node, -before, before, module)  # no other operation moves the first axis
        return None if first is None else -first

    def _is_point(self, node: Any) -> bool:
        """Whether ``node`` is a map averaged to one pixel."""
        module = self.called(node) if isinstance(node, fx.Node) else None
        if self._passes(module):
            return self._is_point(_first(node))
        size = getattr(module, "output_size", None)
        plain = isinstance(module, nn.AdaptiveAvgPool2d) and not is_replaced(module)
        return plain and size in (1, (1, 1), [1, 1])

    def _named(self, node: fx.Node) -> str:
        return describe(node, self.called(node))


def scaled_by(attribute: fx.Node) -> tuple[fx.Node, fx.Node, fx.Node] | None:
    """The node that multiplies a value by ``attribute``, or by what is made of this alone (a view,
    an index by None); that value; and the factor. None if the attribute has another use."""
    factor = attribute
    while len(factor.users) == 1:
        (user,) = factor.users
        alone = user.all_input_nodes == [factor]
        if not alone and operation(user) in ("mul", "mul_", "multiply") and len(user.args) == 2:
            others = [a for a in user.args if isinstance(a, fx.Node) and a is not factor]
            in_place = operation(user) == "mul_" and user.args[0] is factor
            return (user, others[0], factor) if others and not in_place else None
        if not alone:
            return None
        factor = user
    return None


def find_scale(graph: fx.Graph, name: str) -> tuple[fx.Node, fx.Node] | None:
    """The node that multiplies by the attribute ``name``, and what it multiplies; None unless that
    is the attribute's only use."""
    constants = [n for n in graph.nodes if n.op == "get_attr" and n.target == name]
    used = [n for n in constants if n.users]
    found = scaled_by(used[0]) if len(used) == 1 else None
    return None if found is None else found[:2]


def take_out(graph: fx.Graph, node: fx.Node, value: fx.Node) -> None:
    """Puts ``value`` in the place of ``node``, a multiplication of it by a constant."""
    waiting = [one for one in node.all_input_nodes if one is not value]
    node.replace_all_uses_with(value)
    graph.erase_node(node)
    while waiting:
        old = waiting.pop()
        if not old.users:
            waiting += old.all_input_nodes
            graph.erase_node(old)


def _first(node: fx.Node) -> Any:
    return node.args[0] if node.args else None


def _attribute(root: nn.Module, path: str) -> Any:
    owner: Any = root
    for name in path.split("."):
        owner = getattr(owner, name)
    return owner


def shared_tensors(modules: Iterable[nn.Module]) -> set[Tensor]:
    """The parameters that several modules hold themselves."""
    holders = Counter(p for module in modules for p in module._parameters.values() if p is not None)
    return {parameter for parameter, count in holders.items() if count > 1}
