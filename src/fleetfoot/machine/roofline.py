"""Floors: the least time that a layer can take on a machine, and what bounds it.

Williams et al. 2009, "Roofline", https://doi.org/10.1145/1498765.1498785.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from fleetfoot.count.trace import Operator
from fleetfoot.machine.machine import Machine

Bound = Literal["compute", "memory", "start"]


@dataclass(frozen=True, kw_only=True)
class Floor:
    """The least time of some work, by the resource that bounds it.

    >>> Floor(compute_s=2e-6, memory_s=5e-6, start_s=1e-6).bound
    'memory'
    """

    compute_s: float
    """Time of the operations at the machine's peak."""
    memory_s: float
    """Time of moving the bytes at the bandwidth of the level that holds them."""
    start_s: float
    """Time to start the work on all threads."""

    @property
    def seconds(self) -> float:
        return max(self.compute_s, self.memory_s) + self.start_s

    @property
    def bound(self) -> Bound:
        """The resource that takes the largest part of the floor."""
        by_time: dict[Bound, float] = {
            "compute": self.compute_s,
            "memory": self.memory_s,
            "start": self.start_s,
        }
        return max(by_time, key=by_time.__getitem__)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One row of an explanation: a module that computes, the operators that it called, and the time
    that an engine took for them."""

    module: str
    """Path of the module; "" is the network itself."""
    module_type: str
    operators: tuple[Operator, ...]
    """The module's operators, traced on the very network that the engine ran."""
    nodes: tuple[str, ...]
    """Names of the engine's nodes for this layer; empty if it ran inside another layer's node or
    was optimised away."""
    time_s: float
    """Median time over the profiled runs; 0 without nodes."""
    time_low_s: float
    """Lower quartile of the time; ``time_high_s`` is the upper one."""
    time_high_s: float
    floor: Floor
    """Floor of everything in the layer's nodes, taken as one piece; all zero without nodes."""
    fused: tuple[str, ...] = ()
    """Other modules whose operators ran inside the layer's nodes."""
    within: tuple[str, ...] = ()
    """Other modules inside whose nodes the layer's operators ran."""
    macs_share: float = 1.0
    """Multiply-accumulates that the nodes compute at least for each that is counted: below 1 with
    Winograd's transforms, which lower the floor by as much."""
    held_flops: int = 0
    """Operations of everything in the layer's nodes, two a multiply-accumulate. ``floor`` is
    computed from these and ``held_bytes``."""
    held_bytes: int = 0
    """Bytes of weights, inputs and outputs of everything in the layer's nodes; what passes between
    its own operators is not counted."""

    @property
    def macs(self) -> int:
        return sum(operator.macs or 0 for operator in self.operators)

    @property
    def flops(self) -> int:
        """Operations of the layer alone, two a multiply-accumulate."""
        return 2 * self.macs

    @property
    def moved_bytes(self) -> int:
        return sum(op.bytes_read + op.bytes_written for op in self.operators)

    @property
    def intensity(self) -> float:
        """Arithmetic intensity of the layer alone, in operations a byte."""
        return self.flops / self.moved_bytes if self.moved_bytes else 0.0

    @property
    def flops_per_s(self) -> float:
        """Achieved operations a second; 0 if the layer took no time of its own."""
        return self.flops / self.time_s if self.time_s else 0.0

    @property
    def above_floor_s(self) -> float:
        """Time beyond the floor, which a perfect engine would not need."""
        return max(0.0, self.time_s - self.floor.seconds) if self.time_s else 0.0


def floor(
    operators: Sequence[Operator],
    machine: Machine,
    *,
    starts: int = 1,
    moved_bytes: int | None = None,
    macs_share: float = 1.0,
    precision: str = "float32",
    cached: bool = False,
) -> Floor:
    """The floor of operators that run as ``starts`` pieces of work.

    Operations are two a multiply-accumulate, and the exact ones of operators that have none. By
    default every operator reads its inputs and weights and writes its output; views move nothing.

    Args:
        moved_bytes: bytes that operators which run as one read and write together
            (``moved_outside``); default: the sum over the operators.
        macs_share: multiply-accumulates computed for each that was traced (Winograd's: below 1).
        cached: the bytes come from the first cache, for example between the parts of a node that
            runs piece by piece.

    Raises:
        ValueError: that precision was not measured on the machine.
    """
    flops = 0.0
    for op in operators:
        flops += op.mac_flops * macs_share if op.mac_flops else op.exact_flops or 0
    if moved_bytes is None:
        moved_bytes = sum(op.bytes_read + op.bytes_written for op in operators)
    return Floor(
        compute_s=flops / machine.peak_flops_per_s(precision),
        memory_s=_least_transfer_s(moved_bytes, machine, cached),
        start_s=machine.region_s.value * starts if machine.threads > 1 else 0.0,
    )


def _least_transfer_s(moved_bytes: int, machine: Machine, cached: bool) -> float:
    """Time to move bytes: no cache holds more of them than its capacity; the rest comes from the
    level below it, whatever ran before."""
    least, held = 0.0, 0
    for level in machine.levels:
        fastest = max(level.read_bytes_per_s.value, level.copy_bytes_per_s.value)
        least = max(least, (moved_bytes - held) / fastest)
        held = level.capacity_bytes or held
        if cached or held >= moved_bytes:
            break
    return least


def moved_outside(group: Collection[int], operators: Sequence[Operator]) -> int:
    """Bytes that some operators of a pass, given by index, read and write when they run as one:
    inputs that they do not write themselves, each once, and outputs that another operator reads or
    no operator does. If one memory is read several times, the largest read counts: a lower bound.

    Operators whose memory has no number count in full.
    """
    last_read: dict[int, int] = {}
    last_read_outside: dict[int, int] = {}
    for index, operator in enumerate(operators):
        for number in operator.reads:
            last_read[number] = index
            if index not in group:
                last_read_outside[number] = index
    moved = 0
    read: dict[int, int] = {}
    written: dict[int, int] = {}
    for index in sorted(group):
        operator = operators[index]
        if not operator.reads and not operator.writes:
            moved += operator.bytes_read + operator.bytes_written
            continue
        size = operator.bytes_read // operator.elements_read if operator.elements_read else 0
        for number, shape in zip(operator.reads, operator.input_shapes, strict=True):
            if number not in written:
                read[number] = max(read.get(number, 0), size * math.prod(shape))
        for number in operator.writes:
            share = operator.bytes_written // len(operator.writes)
            unread = last_read.get(number, -1) <= index  # the network's output
            if unread or last_read_outside.get(number, -1) > index:
                written[number] = max(written.get(number, 0), share)
            else:
                written.setdefault(number, 0)
    return moved + sum(read.values()) + sum(written.values())
