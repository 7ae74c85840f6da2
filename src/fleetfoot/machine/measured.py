"""Measuring what a machine can do: ``measure`` does it now, ``machine`` reads an earlier result.

Other work on a machine makes it seem slower, never faster. So a result whose samples say that the
machine was busy is measured again, and the faster rates of both are kept.

The quantities are measured in turns, so that other load on the machine affects all of them alike.
Torch's threads spin for some milliseconds after their work, on cores that the next quantity needs,
so there is a pause between torch's turns and those of the native library.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fleetfoot import files, runtime
from fleetfoot.cores import check_threads
from fleetfoot.errors import EngineError, RecordError
from fleetfoot.files import parsed, parsed_text, recalled, remembered
from fleetfoot.machine import environment
from fleetfoot.machine.machine import Compute, Level, Machine, Rate
from fleetfoot.machine.peaks import MATMUL_SIDE, SPIN_S, torch_threads

log = logging.getLogger("fleetfoot")

ROUNDS = 15
ATTEMPTS = 3
"""Most measurements, of ``ROUNDS`` each, for a first answer on a busy machine."""
MOST_ATTEMPTS = 6
"""Most measurements that a kept answer comes from; a machine that is always busy stays busy."""
SAMPLE_S = 0.004
MEMORY_BYTES = 128 << 20
"""Smallest working set in memory; it is also more than twice the last cache."""
TIMES_ABOVE = 8
"""Largest ratio of a working set to the cache above its level: 16 MiB for a cache of 2, the size of
large maps. Half of a server's last cache may be hundreds of MiB, which other machines share and
which is as slow as memory."""
MAP = (1, 96, 56, 56)
"""Shape of an early map of a mobile network: 1.2 MB, more than a first cache holds."""
NATIVE_PRECISIONS = ("float32", "float64")
TORCH_TYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "int8": torch.int8,
}
ON_CPU = ("float32", "float64", "bfloat16", "int8")
"""Precisions measured on the CPU. float16 is left out: most processors have no such products, and
torch falls back to loops that take seconds."""
ON_CUDA = ("float32", "bfloat16", "float16", "int8")

Sample = Callable[[], float]
OnRound = Callable[[int, int], None]


def measure(
    threads: int = 1, *, device: str = "cpu", rounds: int = ROUNDS, on_round: OnRound | None = None
) -> Machine:
    """Measures what this machine can do with ``threads`` threads; 15 rounds take about 10 s.

    Args:
        device: "cpu" or "cuda".
        rounds: samples of each quantity.
        on_round: called after each round with its number and the number of rounds.

    Raises:
        ValueError: ``threads`` is less than 1 or more than this process may use, ``rounds`` is less
            than 1, or the device is unknown.
        EngineError: the device is absent.
    """
    _check(threads, device, rounds)
    probe = _Cuda() if device == "cuda" else _Cpu(threads)
    found: dict[str, list[float]] = {name: [] for name in probe.samples}
    with torch.inference_mode():
        for number in range(rounds):
            for name, sample in probe.samples.items():
                found[name].append(sample())
            if on_round is not None:
                on_round(number + 1, rounds)
    return probe.made(found)


def machine(
    threads: int = 1,
    *,
    device: str = "cpu",
    fresh: bool = False,
    cache: Path | None = None,
    on_round: OnRound | None = None,
) -> Machine:
    """The result of ``measure`` for this machine and these versions, from its file; if there is
    none, it is measured now, and again, up to ``ATTEMPTS`` times, if the machine was busy. A kept
    result from a busy machine is measured again too, once a call, up to ``MOST_ATTEMPTS`` in all.
    The logger "fleetfoot" reports each of these.

    Args:
        fresh: measure again, and replace the file.
        cache: folder of the file; default: fleetfoot's cache folder.

    Raises:
        ValueError: ``threads`` is less than 1 or more than this process may use, or the device is
            unknown.
        EngineError: the device is absent.
    """
    _check(threads, device, 1)
    question = _question(threads, device)

    def read(raw: Any) -> Machine:
        return parsed(raw, Machine)

    kept = None if fresh else recalled("machine", question, read=read, cache=cache)
    if kept is not None and (not kept.unsteady or kept.samples >= MOST_ATTEMPTS * ROUNDS):
        return kept

    def made() -> Machine:
        found, attempts = kept, ATTEMPTS if kept is None else 1
        for _ in range(attempts):
            if found is not None:
                log.info("%s; measuring again", _busy(found))
            now = measure(threads, device=device, on_round=on_round)
            found = now if found is None else found.or_faster(now)
            if not found.unsteady:
                break
        assert found is not None
        if found.unsteady:
            log.warning(
                "%s; floors may be too long. Run 'fleetfoot machine --fresh' when it is quiet",
                _busy(found),
            )
        return found

    return remembered("machine", question, made, read=read, fresh=True, cache=cache)


def _busy(found: Machine) -> str:
    """What the samples of ``found`` say of the machine."""
    shares = [rate.high / rate.value - 1 for rate in found.rates().values()]
    return (
        f"the machine was busy when it was measured on {found.measured_at}: the fastest sample of "
        f"{found.unsteady[0]} and {len(found.unsteady) - 1} other rates exceeds the value by up to "
        f"{100 * max(shares):.0f} %"
    )


def to_json(made: Machine) -> str:
    return files.to_json(asdict(made))


def from_json(text: str) -> Machine:
    """The machine from JSON.

    Raises:
        RecordError: the text is not the output of ``to_json``.
    """
    return parsed_text(text, Machine)


def read_machine(file: Path, threads: int) -> Machine:
    """The machine with ``threads`` threads from a file that has what ``fleetfoot machine --json``
    prints: one machine a line.

    Raises:
        RecordError: the file cannot be read, a line is no machine, or none has so many threads.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{file} cannot be read: {error}") from error
    try:
        found = {one.threads: one for one in (from_json(line) for line in lines if line.strip())}
    except RecordError as error:
        raise RecordError(
            f"{file} is not what 'fleetfoot machine --json' prints: {error}"
        ) from None
    if threads not in found:
        raise RecordError(
            f"{file} has no machine with {threads} thread{'s' if threads > 1 else ''}; it has "
            f"{', '.join(map(str, found)) or 'none'}"
        )
    return found[threads]


def _check(threads: int, device: str, rounds: int) -> None:
    check_threads(threads)
    if rounds < 1:
        raise ValueError(f"rounds must be 1 or more, not {rounds}")
    if device not in ("cpu", "cuda"):
        raise ValueError(f"device must be 'cpu' or 'cuda', not {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise EngineError("there is no CUDA device here; measure with device 'cpu'")


def _question(threads: int, device: str) -> dict[str, Any]:
    """Everything that a remembered result depends on: processor, device, threads and versions."""
    versions = environment.versions()
    return {
        "machine": environment.machine(),
        "threads": threads,
        "device": device,
        "versions": {name: versions.get(name) for name in ("fleetfoot", "torch")},
        "instruction_set": _instruction_set(),
    }


def _instruction_set() -> str:
    return "" if runtime.missing() else runtime.instruction_sets()[0]


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _product(precision: str, device: str) -> Callable[[], object]:
    """A product of two matrices of ``MATMUL_SIDE``.

    Raises:
        RuntimeError: torch has no product in this precision.
    """
    kind = TORCH_TYPES[precision]
    sides = (MATMUL_SIDE, MATMUL_SIDE)
    if kind == torch.int8:
        a, b = (torch.randint(-8, 8, sides, dtype=kind, device=device) for _ in range(2))
        return lambda: torch._int_mm(a, b)
    x, y = (torch.randn(sides, dtype=torch.float32, device=device).to(kind) for _ in range(2))
    out = torch.empty(sides, dtype=kind, device=device)
    return lambda: torch.mm(x, y, out=out)


class _Cpu:
    """The CPU's quantities by name, and the ``Machine`` made from their samples."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.samples: dict[str, Sample] = {}
        self._native = runtime.missing() is None
        self._levels = self._working_sets()
        if self._native:
            self.samples["pause"] = self._pause
            for precision in NATIVE_PRECISIONS:
                self.samples[f"fma {precision}"] = self._fma(precision)
            for name, _, size in self._levels:
                for copies in (False, True):
                    kind = "copy" if copies else "read"
                    self.samples[f"{kind} {name}"] = self._moved(size, copies)
            self.samples["region"] = lambda: runtime.region_time(threads, seconds=SAMPLE_S)
        else:
            for name, _, size in self._levels:
                self.samples[f"read {name}"] = self._torch_read(size)
                self.samples[f"copy {name}"] = self._torch_copy(size)
            self.samples["region"] = self._torch_region()
        for precision in ON_CPU:
            product = _product(precision, "cpu")
            try:
                self._on_threads(product)
            except RuntimeError:  # this build of torch has no such product
                continue
            self.samples[f"matmul {precision}"] = self._rate(product, 2 * MATMUL_SIDE**3)
        x, y = torch.ones(MAP), torch.ones(MAP)
        out = torch.empty(MAP)
        self.samples["elementwise"] = self._rate(
            lambda: torch.add(x, y, out=out), 3 * x.numel() * 4, times=20
        )

    def _working_sets(self) -> list[tuple[str, int | None, int]]:
        """Name, capacity and working set of each level, in bytes for all threads together: half of
        the level, but 2 to ``TIMES_ABOVE`` times the capacity of the level above."""
        found: list[tuple[str, int | None, int]] = []
        above = 0
        for level in environment.caches(self.threads):
            size = level.bytes // 2
            if above:
                size = min(max(size, 2 * above), TIMES_ABOVE * above)
            # torch's own starting time would hide a small cache
            if size <= level.bytes and (self._native or size >= 4 << 20):
                found.append((level.name, level.bytes, size))
            above = level.bytes
        found.append(("memory", None, max(MEMORY_BYTES, 4 * above)))
        return found

    def _on_threads(self, work: Callable[[], object]) -> float:
        with torch_threads(self.threads):
            return _timed(work)

    def _rate(self, work: Callable[[], object], amount: float, times: int = 1) -> Sample:
        """A sampler of amounts a second; the work runs once untimed first, since caches and threads
        have gone cold."""

        def sample() -> float:
            with torch_threads(self.threads):
                work()
                taken = _timed(lambda: [work() for _ in range(times)])
            return amount * times / taken

        return sample

    def _pause(self) -> float:
        time.sleep(SPIN_S)
        return SPIN_S

    def _fma(self, precision: str) -> Sample:
        return lambda: runtime.multiply_add_rate(
            self.threads, precision=precision, seconds=SAMPLE_S
        )

    def _moved(self, size: int, copies: bool) -> Sample:
        each = size // self.threads
        return lambda: runtime.memory_rate(each, self.threads, copies=copies, seconds=SAMPLE_S)

    def _torch_read(self, size: int) -> Sample:
        data = torch.ones(size // 4)
        return self._rate(data.sum, size)

    def _torch_copy(self, size: int) -> Sample:
        half = torch.ones(size // 8)
        target = torch.ones(size // 8)
        return self._rate(lambda: target.copy_(half), size)

    def _torch_region(self) -> Sample:
        """A sampler of the time that an operator on all threads takes beyond its share of the work:
        torch divides operators of more than 32,768 values among threads."""
        data, out = torch.ones(40_000), torch.empty(40_000)

        def sample() -> float:
            work = lambda: torch.neg(data, out=out)  # noqa: E731
            taken = []
            for threads in (1, self.threads):
                with torch_threads(threads):
                    work()
                    taken.append(_timed(lambda: [work() for _ in range(50)]) / 50)
            return max(taken[1] - taken[0] / self.threads, 0.0)

        return sample

    def made(self, found: dict[str, list[float]]) -> Machine:
        compute = {}
        for precision in ON_CPU:
            if f"matmul {precision}" in found:
                fma = found.get(f"fma {precision}")
                compute[precision] = Compute(
                    precision=precision,
                    matmul_flops_per_s=Rate.of(found[f"matmul {precision}"]),
                    fma_flops_per_s=Rate.of(fma) if fma else None,
                )
        return Machine(
            cpu=environment.cpu_name(),
            device="cpu",
            threads=self.threads,
            compute=compute,
            levels=tuple(
                Level(
                    name=name,
                    capacity_bytes=capacity,
                    working_set_bytes=size // self.threads * self.threads,
                    read_bytes_per_s=Rate.of(found[f"read {name}"]),
                    copy_bytes_per_s=Rate.of(found[f"copy {name}"]),
                )
                for name, capacity, size in self._levels
            ),
            region_s=Rate.of(found["region"], larger_is_faster=False),
            elementwise_bytes_per_s=Rate.of(found["elementwise"]),
            measured_at=_now(),
            instruction_set=_instruction_set(),
        )


class _Cuda:
    """The quantities of a GPU by name. Its threads are its own; one CPU thread launches."""

    def __init__(self) -> None:
        self.samples: dict[str, Sample] = {}
        properties = torch.cuda.get_device_properties(0)
        cache = int(getattr(properties, "L2_cache_size", 0))
        self._levels: list[tuple[str, int | None, int]] = []
        if cache:
            self._levels.append(("L2", cache, cache // 2))
        self._levels.append(("memory", None, max(MEMORY_BYTES, 8 * cache)))
        for name, _, size in self._levels:
            half = torch.ones(size // 8, device="cuda")
            target = torch.ones(size // 8, device="cuda")
            data = torch.ones(size // 4, device="cuda")
            self.samples[f"read {name}"] = self._rate(data.sum, size)
            self.samples[f"copy {name}"] = self._rate(_copied(target, half), size)
        for precision in ON_CUDA:
            product = _product(precision, "cuda")
            try:
                _timed(product)
            except RuntimeError:  # this GPU has no such product
                continue
            self.samples[f"matmul {precision}"] = self._rate(product, 2 * MATMUL_SIDE**3)
        small = torch.ones(1, device="cuda")
        one = self._rate(lambda: small.add_(1), 1, times=200)
        self.samples["region"] = lambda: 1 / one()
        x, y = torch.ones(MAP, device="cuda"), torch.ones(MAP, device="cuda")
        out = torch.empty(MAP, device="cuda")
        self.samples["elementwise"] = self._rate(
            lambda: torch.add(x, y, out=out), 3 * x.numel() * 4
        )

    @staticmethod
    def _rate(work: Callable[[], object], amount: float, times: int = 20) -> Sample:
        def sample() -> float:
            work()
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(times):
                work()
            torch.cuda.synchronize()
            return amount * times / (time.perf_counter() - start)

        return sample

    def made(self, found: dict[str, list[float]]) -> Machine:
        return Machine(
            cpu=environment.cpu_name(),
            device=torch.cuda.get_device_name(0),
            threads=1,
            compute={
                precision: Compute(
                    precision=precision,
                    matmul_flops_per_s=Rate.of(found[f"matmul {precision}"]),
                )
                for precision in ON_CUDA
                if f"matmul {precision}" in found
            },
            levels=tuple(
                Level(
                    name=name,
                    capacity_bytes=capacity,
                    working_set_bytes=size,
                    read_bytes_per_s=Rate.of(found[f"read {name}"]),
                    copy_bytes_per_s=Rate.of(found[f"copy {name}"]),
                )
                for name, capacity, size in self._levels
            ),
            region_s=Rate.of(found["region"], larger_is_faster=False),
            elementwise_bytes_per_s=Rate.of(found["elementwise"]),
            measured_at=_now(),
        )


def _copied(target: Tensor, source: Tensor) -> Callable[[], object]:
    return lambda: target.copy_(source)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
