"""Peak rates of this machine, measured: multiply-adds, float matrix products and copies.

A network's achieved rate means little without its ceiling, and on a shared machine the ceiling
changes; so it is measured in the same run, with the same number of threads.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from fleetfoot import runtime
from fleetfoot.cores import check_threads

MATMUL_SIDE = 1024
"""Side of the float matrices: three of them are 12 MB, large enough for a full rate and small
enough for a core's share of the last cache."""

COPY_BYTES = 256 << 20
"""Size of a copy: larger than the last-level cache of current servers, so that it goes to
memory."""


SPIN_S = 0.015
"""Pause after torch's work: its threads spin for about 9 ms, on cores that others need."""


@dataclass(frozen=True)
class Peaks:
    """Ceilings at one thread count, each from the faster quartile of its samples.

    It is the upper quartile and not the best, since one lucky sample on a shared machine is no
    ceiling.
    """

    threads: int
    matmul_samples_s: tuple[float, ...]
    copy_samples_s: tuple[float, ...]
    fma_flops_per_s: tuple[float, ...] = ()
    """Samples of ``runtime.multiply_add_rate``; empty if the native library is absent."""

    @property
    def fma_gflops(self) -> float:
        """Rate of multiply-adds in registers alone, in 10⁹ operations per second, two a
        multiply-add: the upper bound of a matrix product. 0 if it was not measured."""
        if not self.fma_flops_per_s:
            return 0.0
        return 1e-9 / _lower_quartile(tuple(1 / rate for rate in self.fma_flops_per_s))

    @property
    def matmul_gflops(self) -> float:
        """Rate of float32 matrix products, in 10⁹ operations per second, two a multiply-add."""
        return 2 * MATMUL_SIDE**3 / _lower_quartile(self.matmul_samples_s) / 1e9

    @property
    def copy_gb_per_s(self) -> float:
        """Rate of copies in 10⁹ bytes per second; bytes read and bytes written both count."""
        return 2 * COPY_BYTES / _lower_quartile(self.copy_samples_s) / 1e9


def _lower_quartile(samples: tuple[float, ...]) -> float:
    ordered = sorted(samples)
    return ordered[(len(ordered) - 1) // 4]


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """A block in which torch's operators use ``threads`` threads; afterwards as before.

    A change makes OpenMP build its pool again, which takes longer than a small network; a benchmark
    therefore keeps this block open around many runs, so that no run changes the number.
    """
    before = torch.get_num_threads()
    if before == threads:
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class PeakProbe:
    """Takes one sample of each ceiling at a time, so that a benchmark can take them between its own
    samples.

    Raises:
        ValueError: ``threads`` is not 1 to the usable cores.
    """

    def __init__(self, threads: int) -> None:
        check_threads(threads)
        self.threads = threads
        self._a = torch.randn(MATMUL_SIDE, MATMUL_SIDE)
        self._b = torch.randn(MATMUL_SIDE, MATMUL_SIDE)
        self._product = torch.empty(MATMUL_SIDE, MATMUL_SIDE)
        self._source = torch.ones(COPY_BYTES // 4)  # written, so that its pages exist
        self._target = torch.zeros(COPY_BYTES // 4)
        self._matmul_s: list[float] = []
        self._copy_s: list[float] = []
        self._fma: list[float] = []
        self._has_library = runtime.missing() is None
        with torch_threads(threads):
            self._matmul()  # the first product makes the library's buffers and threads

    def _matmul(self) -> None:
        torch.mm(self._a, self._b, out=self._product)

    def sample(self) -> None:
        """Samples one matrix product and one copy, after an untimed product that refills the
        caches, and 5 ms of multiply-adds in registers."""
        with torch_threads(self.threads):
            self._matmul()
            for work, samples in ((self._matmul, self._matmul_s), (self._copy, self._copy_s)):
                start = time.perf_counter()
                work()
                samples.append(time.perf_counter() - start)
        if self._has_library:
            time.sleep(SPIN_S)
            self._fma.append(runtime.multiply_add_rate(self.threads))

    def _copy(self) -> None:
        self._target.copy_(self._source)

    def peaks(self) -> Peaks:
        """The ceilings from the samples so far.

        Raises:
            ValueError: there is no sample yet.
        """
        if not self._matmul_s:
            raise ValueError("no samples yet: call sample() first")
        return Peaks(self.threads, tuple(self._matmul_s), tuple(self._copy_s), tuple(self._fma))


def peaks(threads: int = 1, samples: int = 12) -> Peaks:
    """Measures the ceilings now; about half a second at 12 samples.

    Raises:
        ValueError: ``threads`` or ``samples`` is less than 1.
    """
    if samples < 1:
        raise ValueError(f"samples must be 1 or more, not {samples}")
    probe = PeakProbe(threads)
    for _ in range(samples):
        probe.sample()
    return probe.peaks()
