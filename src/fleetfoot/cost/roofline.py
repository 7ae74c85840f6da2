"""Floors: the least time that a layer can take on a machine, and what sets it.

Williams et al. 2009, "Roofline", https://doi.org/10.1145/1498765.1498785.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fleetfoot.cost.machine import Machine
from fleetfoot.cost.trace import Operator

Bound = Literal["compute", "memory", "start"]


@dataclass(frozen=True, kw_only=True)
class Floor:
    """The least time of some work, by what would take it."""

    compute_s: float
    """Its operations at the machine's peak."""
    memory_s: float
    """Its bytes at the bandwidth of the level that holds them."""
    start_s: float
    """Starting it on all threads."""

    @property
    def seconds(self) -> float:
        return max(self.compute_s, self.memory_s) + self.start_s

    @property
    def bound(self) -> Bound:
        """What takes the most of it."""
        by_time: dict[Bound, float] = {
            "compute": self.compute_s,
            "memory": self.memory_s,
            "start": self.start_s,
        }
        return max(by_time, key=by_time.__getitem__)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One row of an explanation: a module that computes, the operators that it asked for, and what
    an engine took for them."""

    module: str
    """Path of the module, "" is the network itself."""
    module_type: str
    operators: tuple[Operator, ...]
    """As traced, on the very network that the engine ran."""
    nodes: tuple[str, ...]
    """What the engine ran for it, by the engine's own names; none where it ran within another
    layer's node or was optimised away."""
    time_s: float
    """Median over the profiled runs; 0 without nodes."""
    time_low_s: float
    """Lower quartile of the same, as ``time_high_s`` is the upper."""
    time_high_s: float
    floor: Floor

    @property
    def macs(self) -> int:
        return sum(operator.macs or 0 for operator in self.operators)

    @property
    def flops(self) -> int:
        """Two a multiply-accumulate."""
        return 2 * self.macs

    @property
    def moved_bytes(self) -> int:
        return sum(op.bytes_read + op.bytes_written for op in self.operators)

    @property
    def intensity(self) -> float:
        """Operations a byte, of the layer alone."""
        return self.flops / self.moved_bytes if self.moved_bytes else 0.0

    @property
    def flops_per_s(self) -> float:
        """Achieved; 0 where it took no time of its own."""
        return self.flops / self.time_s if self.time_s else 0.0

    @property
    def above_floor_s(self) -> float:
        """Time that a perfect engine would not need."""
        return max(0.0, self.time_s - self.floor.seconds) if self.time_s else 0.0


def floor(operators: Sequence[Operator], machine: Machine, *, starts: int = 1) -> Floor:
    """The floor of operators that run as ``starts`` pieces of work.

    Operations are the exact ones where they are known, else two a multiply-accumulate. Every
    operator reads its inputs and weights and writes its output; views move nothing.
    """
    flops = sum(op.exact_flops or op.mac_flops or 0 for op in operators)
    moved = sum(op.bytes_read + op.bytes_written for op in operators)
    return Floor(
        compute_s=flops / machine.peak_flops_per_s(),
        memory_s=moved / machine.bandwidth_bytes_per_s(moved) if moved else 0.0,
        start_s=machine.region_s.value * starts if machine.threads > 1 else 0.0,
    )
