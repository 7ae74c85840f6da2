"""The measured rates of a machine from which the floors of a network are computed: how fast it
computes, how fast it moves bytes from each level of its memory, and how long it takes to start a
piece of work (``machine.measured`` measures and remembers them).

Williams et al. 2009, "Roofline", https://doi.org/10.1145/1498765.1498785: work of F operations that
moves D bytes takes at least max(F / peak, D / bandwidth).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

UNSTEADY = 0.25
"""Share by which a rate's fastest sample may exceed its value. On quiet machines it is a few
percent. If it is far more, other work slowed down most samples, and the value is not what the
machine can do."""


@dataclass(frozen=True, kw_only=True)
class Rate:
    """One measured quantity with its spread. ``value`` is what the faster quartile of the samples
    reached: a ceiling is what the machine can do, and a single lucky sample does not show that.

    >>> rate = Rate.of([90.0, 100.0, 110.0, 120.0])
    >>> rate.low, rate.high
    (90.0, 120.0)
    """

    value: float
    low: float
    """Smallest sample; ``high`` is the largest."""
    high: float
    samples: int

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.value <= self.high or self.samples < 1:
            raise ValueError(
                f"a rate has samples, and its value, {self.value:g}, lies between the smallest, "
                f"{self.low:g}, and the largest, {self.high:g}, none of them negative"
            )

    @classmethod
    def of(cls, samples: list[float], *, larger_is_faster: bool = True) -> Rate:
        """The rate with the value and spread of ``samples``.

        Raises:
            ValueError: there are no samples.
        """
        if not samples:
            raise ValueError("a rate needs samples; there are none")
        ordered = sorted(samples, reverse=larger_is_faster)
        return cls(
            value=ordered[(len(ordered) - 1) // 4],
            low=min(samples),
            high=max(samples),
            samples=len(samples),
        )

    @property
    def spread(self) -> float:
        """Largest minus smallest, over the value."""
        return (self.high - self.low) / self.value if self.value else 0.0

    @property
    def is_steady(self) -> bool:
        """Whether the value is near the fastest sample, for rates of which larger is faster."""
        return self.high <= (1 + UNSTEADY) * self.value

    def or_faster(self, other: Rate, *, larger_is_faster: bool = True) -> Rate:
        """The faster of two measurements of one quantity, with the number of samples of both."""
        keep_own = self.value >= other.value if larger_is_faster else self.value <= other.value
        return replace(self if keep_own else other, samples=self.samples + other.samples)


def is_ceiling(registers: float, product: float) -> bool:
    """Whether the rate of multiply-adds in registers bounds what a core can do. A matrix product
    that ran faster disproves it: the cores did other work during the measurement, or products have
    units of their own, such as AMX."""
    return registers > 0 and registers >= product


@dataclass(frozen=True, kw_only=True)
class Compute:
    """Rates in one precision, in operations a second, two a multiply-add."""

    precision: str
    """Name of the precision: "float32", "bfloat16", "float64", "float16" or "int8"."""
    matmul_flops_per_s: Rate
    """Rate of a 1024³ product by the library that torch calls."""
    fma_flops_per_s: Rate | None = None
    """Rate of multiply-adds in registers alone; None if the native library cannot measure it."""

    @property
    def registers_flops_per_s(self) -> Rate | None:
        """The rate ``fma_flops_per_s`` if it is a ceiling, else None."""
        fma = self.fma_flops_per_s
        return fma if fma and is_ceiling(fma.value, self.matmul_flops_per_s.value) else None

    @property
    def peak_flops_per_s(self) -> float:
        """The larger of both rates: no work in this precision is faster."""
        return (self.registers_flops_per_s or self.matmul_flops_per_s).value


@dataclass(frozen=True, kw_only=True)
class Level:
    """One level of the memory, measured with a working set that fits into it but not into the level
    above. Rates are bytes a second of all threads together."""

    name: str
    """Name of the level: "L1", "L2", "L3" or "memory"."""
    capacity_bytes: int | None
    """Capacity of all the threads' caches of this level together; None for memory."""
    working_set_bytes: int
    """Size of the data that was read, for all threads together."""
    read_bytes_per_s: Rate
    copy_bytes_per_s: Rate
    """Rate of a copy; bytes read and bytes written both count."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a machine can do with ``threads`` threads of one device."""

    cpu: str
    device: str
    """Name of the device: "cpu", or the name of a GPU."""
    threads: int
    compute: Mapping[str, Compute]
    """Rates by precision; "float32" is always among them."""
    levels: tuple[Level, ...]
    """Levels from the first cache to memory."""
    region_s: Rate
    """Seconds to give one piece of work to all threads and wait for all of them; on a GPU, to
    launch one kernel."""
    elementwise_bytes_per_s: Rate
    """Rate of an eager ``x + y`` over maps of 56 × 56 × 96; bytes read and written both count."""
    measured_at: str
    """Time of the measurement, ISO 8601, UTC."""
    instruction_set: str = ""
    """Instruction set of the native library; "" if the library is absent."""

    def __post_init__(self) -> None:
        if "float32" not in self.compute or not self.levels or self.threads < 1:
            raise ValueError("a machine has a rate in float32, a level of memory and a thread")
        for name, rate in self.rates().items():
            if not rate.value > 0:  # a start of work may take no time that can be measured
                raise ValueError(f"the rate {name!r} of a machine must be above 0")

    def rates(self) -> dict[str, Rate]:
        """Every rate that a machine always has, by name; larger is faster."""
        rates = {f"{name} matmul": one.matmul_flops_per_s for name, one in self.compute.items()}
        for level in self.levels:
            rates[f"{level.name} read"] = level.read_bytes_per_s
            rates[f"{level.name} copy"] = level.copy_bytes_per_s
        return {**rates, "element-wise": self.elementwise_bytes_per_s}

    @property
    def unsteady(self) -> tuple[str, ...]:
        """Names of the rates that other work on the machine disturbed."""
        return tuple(name for name, rate in self.rates().items() if not rate.is_steady)

    @property
    def samples(self) -> int:
        """Number of samples of each rate."""
        return self.elementwise_bytes_per_s.samples

    def or_faster(self, other: Machine) -> Machine:
        """This machine with each rate that ``other``, a measurement of the same machine, has
        faster; the rest is that of ``other``."""

        def compute(name: str, now: Compute) -> Compute:
            before = self.compute.get(name)
            if before is None:
                return now
            fma = [one for one in (before.fma_flops_per_s, now.fma_flops_per_s) if one]
            return Compute(
                precision=name,
                matmul_flops_per_s=before.matmul_flops_per_s.or_faster(now.matmul_flops_per_s),
                fma_flops_per_s=fma[0].or_faster(fma[1]) if len(fma) == 2 else None,
            )

        def level(before: Level, now: Level) -> Level:
            return replace(
                now,
                read_bytes_per_s=before.read_bytes_per_s.or_faster(now.read_bytes_per_s),
                copy_bytes_per_s=before.copy_bytes_per_s.or_faster(now.copy_bytes_per_s),
            )

        if [one.name for one in self.levels] != [one.name for one in other.levels]:
            return other
        return replace(
            other,
            compute={name: compute(name, now) for name, now in other.compute.items()},
            levels=tuple(map(level, self.levels, other.levels)),
            region_s=self.region_s.or_faster(other.region_s, larger_is_faster=False),
            elementwise_bytes_per_s=self.elementwise_bytes_per_s.or_faster(
                other.elementwise_bytes_per_s
            ),
        )

    def peak_flops_per_s(self, precision: str = "float32") -> float:
        """The peak rate in ``precision``, in operations a second.

        Raises:
            ValueError: that precision was not measured here.
        """
        if precision not in self.compute:
            raise ValueError(
                f"precision {precision!r} was not measured on this machine; measured: "
                f"{', '.join(self.compute)}"
            )
        return self.compute[precision].peak_flops_per_s

    def level_of(self, moved_bytes: int) -> Level:
        """The first level that can hold ``moved_bytes``; memory if no cache can."""
        for level in self.levels[:-1]:
            if level.capacity_bytes is not None and moved_bytes <= level.capacity_bytes:
                return level
        return self.levels[-1]

    def bandwidth_bytes_per_s(self, moved_bytes: int) -> float:
        """Bandwidth of a copy at the level that can hold ``moved_bytes``."""
        return self.level_of(moved_bytes).copy_bytes_per_s.value

    def ridge_flops_per_byte(self, level: str = "memory", precision: str = "float32") -> float:
        """Arithmetic intensity below which work on ``level`` is bound by its bandwidth.

        Raises:
            ValueError: there is no such level, or that precision was not measured.
        """
        found = next((one for one in self.levels if one.name == level), None)
        if found is None:
            names = ", ".join(one.name for one in self.levels)
            raise ValueError(f"level must be one of {names}, not {level!r}")
        return self.peak_flops_per_s(precision) / found.read_bytes_per_s.value
