"""What the rules look at, and how they price a finding.

The price is the time that the change saves: at most the time of the layers, minus the time that the
changed layers need by the machine's measured rates.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from fleetfoot.count.trace import Operator, Trace
from fleetfoot.explain.denormals import Denormals
from fleetfoot.explain.findings import Basis
from fleetfoot.explain.rules.dataflow import Dataflow, Product, product
from fleetfoot.machine.machine import Machine
from fleetfoot.machine.roofline import Floor, Layer, floor

REFERENCE_SHARE = 0.25
"""Share of the network's multiply-adds. If its dense layers do at least this share, their rate is
what a dense layer reaches here; otherwise they are too small a sample, and the rate of a large
matrix product is used."""

LANES = {"avx512": 16, "avx2": 8, "neon": 4}
"""Floats in a vector, by the native library's instruction set; "plain" has no vectors."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """A network on a machine, as input for the rules."""

    trace: Trace
    machine: Machine
    layers: tuple[Layer, ...]
    """The layers; every operator of the trace is in one of them."""
    basis: Basis
    """Whether the times of the layers were measured, or are floors."""
    engine: str = ""
    """Name of the engine that took the times."""
    engine_note: str = ""
    """The ``EngineInfo.note`` of that engine."""
    reference: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Nodes that the engine ran in slow reference kernels, by the layer's module."""
    denormals: Mapping[str, Denormals] = field(default_factory=dict)
    """Denormal numbers by module; empty if the engine takes them as 0."""

    @cached_property
    def graph(self) -> Dataflow:
        return Dataflow(self.trace)

    @property
    def operators(self) -> tuple[Operator, ...]:
        return self.trace.operators

    @cached_property
    def total_s(self) -> float:
        """Time of all layers together, in seconds."""
        return sum(layer.time_s for layer in self.layers)

    @cached_property
    def _places(self) -> dict[int, int]:
        """Index of each operator's layer, by identity: equal operators may be in two layers."""
        return {id(op): i for i, layer in enumerate(self.layers) for op in layer.operators}

    def time_s(self, *indices: int) -> float:
        """Time of the operators, in seconds: their layers' times, by their share of the layers'
        floors. 0 if an engine ran them within another layer's node."""
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
        """Floor of operators that run one after the other."""
        operators = [self.operators[index] for index in indices]
        return floor(operators, self.machine, starts=len(operators))

    def move_s(self, moved_bytes: float, of: int) -> float:
        """Seconds to move part of ``of`` bytes, at the rate of the memory level that holds them."""
        return moved_bytes / self.machine.bandwidth_bytes_per_s(of)

    @property
    def lanes(self) -> int:
        """Floats in a vector of the machine; 1 if it has no vectors or they are unknown."""
        return LANES.get(self.machine.instruction_set, 1)

    def in_lanes(self, channels: int) -> int:
        """Channels that vectors compute for ``channels``: rounded up to whole vectors."""
        return -(-channels // self.lanes) * self.lanes

    @cached_property
    def products(self) -> tuple[Product, ...]:
        """Convolutions and linear layers, in order."""
        made = (product(index, op) for index, op in enumerate(self.operators))
        return tuple(one for one in made if one is not None)

    def dense_flops_per_s(self, but: Collection[int] = ()) -> float:
        """Rate that dense layers reach here. Measured: the rate of this network's own dense layers,
        except ``but``, that half of their operations exceed. If these are too few, or nothing was
        measured: the rate of a large matrix product."""
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
        """Seconds that one dense layer of so many operations and bytes would take here, at the rate
        of the others except ``but``."""
        start = self.machine.region_s.value if self.machine.threads > 1 else 0.0
        rate = self.dense_flops_per_s(but)
        return max(flops / rate, self.move_s(moved_bytes, moved_bytes)) + start


def _hosted(index: int, graph: Dataflow, within: set[int] | None = None) -> bool:
    """Whether another operator is taken to do this one. Measured layers show by their times which
    of them an engine fused; only within one layer is it assumed."""
    return any(within is None or host in within for host in graph.hosts(index))


def modelled_layers(trace: Trace, machine: Machine) -> tuple[Layer, ...]:
    """One layer for each module, its time the floor: the limit for engines that run each operator
    by itself, except element-wise ones within the layer that feeds them."""
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
