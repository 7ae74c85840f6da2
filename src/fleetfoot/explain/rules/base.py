"""What a rule is, and what it looks at.

A rule is a row: its code, its name, what it says of itself, and a function that looks at a
``Evidence``. It prices what it finds by the time that the change saves: at most what the layers
took, less what the machine's measured rates say that the changed ones need.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from fleetfoot.count.trace import Operator, Trace
from fleetfoot.explain.findings import Basis
from fleetfoot.explain.rules.dataflow import Dataflow, Product, product
from fleetfoot.machine.machine import Machine
from fleetfoot.machine.roofline import Floor, Layer, floor

REFERENCE_SHARE = 0.25
"""Of the network's multiply-adds: where its dense layers do so many, their rate is what a dense
layer reaches here; where they do fewer, they are too small a sample, and a large matrix product
is taken instead."""

LANES = {"avx512": 16, "avx2": 8, "neon": 4}
"""Floats in a vector, by the native library's instruction set; "plain" has none to fill."""


class Breach(NamedTuple):
    """A place that breaks a rule: a ``Finding`` that the rule has not signed yet."""

    module: str
    number: float
    bound: float
    unit: str
    price_s: float
    text: str
    change: str


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One guideline. The texts are Markdown."""

    code: str
    """"G1"; the letter says what it is about, and G1 to G4 are ShuffleNetV2's own."""
    name: str
    """In words: "unequal-channel-widths"."""
    what: str
    """What it does: what is looked for, and the threshold with its reason."""
    why: str
    """Why this is bad."""
    price: str
    """The formula of the price."""
    known_problems: str
    instead: str
    reference: str
    check: Callable[[Evidence], Iterable[Breach]]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """A network on a machine, as the rules look at it."""

    trace: Trace
    machine: Machine
    layers: tuple[Layer, ...]
    """Every operator of the trace in one of them."""
    basis: Basis
    """Whether the times of the layers were measured, or are floors."""
    engine: str = ""
    """Name of the engine that took the times."""
    engine_note: str = ""
    """Its ``EngineInfo.note``."""
    reference: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By the layer's module, nodes that it ran in kernels that are only right."""

    @cached_property
    def graph(self) -> Dataflow:
        return Dataflow(self.trace)

    @property
    def operators(self) -> tuple[Operator, ...]:
        return self.trace.operators

    @cached_property
    def total_s(self) -> float:
        """Of all layers together."""
        return sum(layer.time_s for layer in self.layers)

    @cached_property
    def _places(self) -> dict[int, int]:
        """Index of the layer of each operator, by identity: equal ones may stand in two layers."""
        return {id(op): i for i, layer in enumerate(self.layers) for op in layer.operators}

    def time_s(self, *indices: int) -> float:
        """What operators took: the time of their layers, by their share of these layers' floors.
        0 where an engine ran them within another layer's node."""
        return sum(self._operator_s[index] for index in set(indices))

    @cached_property
    def _operator_s(self) -> list[float]:
        members: dict[int, list[int]] = {}
        for index, op in enumerate(self.operators):
            members.setdefault(self._places[id(op)], []).append(index)
        found = [0.0] * len(self.operators)
        for place, indices in members.items():
            within = set(indices) if self.basis == "measured" else None
            alone = [index for index in indices if not _hosted(index, self.graph, within)]
            weights = {index: self.floor(index).seconds for index in alone}
            whole = sum(weights.values()) or 1.0
            for index, weight in weights.items():
                found[index] = self.layers[place].time_s * weight / whole
        return found

    def floor(self, *indices: int) -> Floor:
        """Of operators that run one after the other."""
        operators = [self.operators[index] for index in indices]
        return floor(operators, self.machine, starts=len(operators))

    def move_s(self, moved_bytes: float, of: int) -> float:
        """Moving part of ``of`` bytes, by the level of the memory that holds these."""
        return moved_bytes / self.machine.bandwidth_bytes_per_s(of)

    @property
    def lanes(self) -> int:
        """Floats in a vector of the machine; 1 where it has none, or none that is known."""
        return LANES.get(self.machine.instruction_set, 1)

    def in_lanes(self, channels: int) -> int:
        """Channels that vectors compute for these: whole ones."""
        return -(-channels // self.lanes) * self.lanes

    @cached_property
    def products(self) -> tuple[Product, ...]:
        """Convolutions and linear layers, in order."""
        made = (product(index, op) for index, op in enumerate(self.operators))
        return tuple(one for one in made if one is not None)

    def dense_flops_per_s(self, but: Collection[int] = ()) -> float:
        """What dense layers reach here. Measured: the rate of this network's own, ``but`` some, so
        that half of their operations ran faster; where these are too few, and where nothing was
        measured, that of a large matrix product."""
        large = self.machine.compute["float32"].matmul_flops_per_s.value
        if self.basis == "modelled":
            return large
        dense = [p for p in self.products if p.groups == 1 and p.index not in but]
        timed = [(2 * p.macs, time_s) for p in dense if (time_s := self.time_s(p.index))]
        operations = sum(flops for flops, _ in timed)
        if not operations or operations < REFERENCE_SHARE * self.trace.mac_flops:
            return large
        slower = 0
        for flops, time_s in sorted(timed, key=lambda one: one[0] / one[1]):
            rate, slower = flops / time_s, slower + flops
            if 2 * slower >= operations:
                break
        return min(rate, self.machine.peak_flops_per_s())

    def dense_s(self, flops: float, moved_bytes: int, but: Collection[int] = ()) -> float:
        """What one dense layer of so many operations and bytes would take here, by the rate of the
        others."""
        start = self.machine.region_s.value if self.machine.threads > 1 else 0.0
        rate = self.dense_flops_per_s(but)
        return max(flops / rate, self.move_s(moved_bytes, moved_bytes)) + start


def _hosted(index: int, graph: Dataflow, within: set[int] | None = None) -> bool:
    """Whether an operator is taken as done by another. Measured layers say by their times which of
    them an engine fused, and only within one is it assumed."""
    return any(within is None or host in within for host in graph.hosts(index))


def modelled_layers(trace: Trace, machine: Machine) -> tuple[Layer, ...]:
    """A layer a module, whose time is its floor: what no engine can be faster than that runs each
    operator by itself, but element-wise ones within the layer that feeds them."""
    graph = Dataflow(trace)
    members: dict[str, list[int]] = {}
    for index, op in enumerate(trace.operators):
        members.setdefault(op.module, []).append(index)
    return tuple(_modelled(indices, graph, machine) for indices in members.values())


def _modelled(indices: list[int], graph: Dataflow, machine: Machine) -> Layer:
    operators = tuple(graph.trace.operators[index] for index in indices)
    alone = [graph.trace.operators[index] for index in indices if not _hosted(index, graph)]
    made = floor(alone, machine, starts=len(alone))
    return Layer(
        module=operators[0].module,
        module_type=operators[0].module_type,
        operators=operators,
        nodes=(),
        time_s=made.seconds,
        time_low_s=made.seconds,
        time_high_s=made.seconds,
        floor=made,
    )


def counted(number: int, noun: str) -> str:
    """ "1 group", "2 groups"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def megabytes(count: float) -> str:
    return f"{count / 1e6:.3g} MB" if count >= 1e5 else f"{count / 1e3:.3g} kB"
