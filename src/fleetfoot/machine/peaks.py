"""What this machine can do at most: its measured rates of multiply-adds, of float matrix products
and of copies.

A network's achieved rate means little without the ceiling that it was up against, and on a shared
machine the ceiling moves; so it is measured in the same run, with the same number of threads.
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
"""Three float matrices of this side are 12 MB: large enough for a full rate, small enough for a
core's share of the last cache."""

COPY_BYTES = 256 << 20
"""Larger than the last-level cache of current servers, so that the copy goes to memory."""


SPIN_S = 0.015
"""Torch's threads go on spinning for about 9 ms after an operator, on cores that others need."""


@dataclass(frozen=True)
class Peaks:
    """Ceilings at one thread count, each from the faster quartile of its samples.

    The upper quartile, not the best: one lucky sample on a shared machine is no ceiling.
    """

    threads: int
    matmul_samples_s: tuple[float, ...]
    copy_samples_s: tuple[float, ...]
    fma_flops_per_s: tuple[float, ...] = ()
    """Samples of ``runtime.multiply_add_rate``; none where the native library is absent."""

    @property
    def fma_gflops(self) -> float:
        """10⁹ operations per second, two a multiply-add, in registers alone: what bounds a matrix
        product from above. 0 where it was not measured."""
        if not self.fma_flops_per_s:
            return 0.0
        return 1e-9 / _lower_quartile(tuple(1 / rate for rate in self.fma_flops_per_s))

    @property
    def matmul_gflops(self) -> float:
        """10⁹ floating point operations per second, two a multiply-accumulate, in float32."""
        return 2 * MATMUL_SIDE**3 / _lower_quartile(self.matmul_samples_s) / 1e9

    @property
    def copy_gb_per_s(self) -> float:
        """10⁹ bytes per second, those read and those written both counted."""
        return 2 * COPY_BYTES / _lower_quartile(self.copy_samples_s) / 1e9


def _lower_quartile(samples: tuple[float, ...]) -> float:
    ordered = sorted(samples)
    return ordered[(len(ordered) - 1) // 4]


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Torch's operators on ``threads`` threads inside, as before outside.

    A change makes OpenMP build its pool again, which takes longer than a small network; a benchmark
    therefore holds this open around many runs, and each run finds nothing to change.
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
    """Takes one sample of each ceiling at a time, so that a benchmark can take them between its
    own.

    Raises:
        ValueError: ``threads`` is not 1 to the usable cores.
    """

    def __init__(self, threads: int) -> None:
        check_threads(threads)
        self.threads = threads
        self._a = torch.randn(MATMUL_SIDE, MATMUL_SIDE)
        self._b = torch.randn(MATMUL_SIDE, MATMUL_SIDE)
        self._product = torch.empty(MATMUL_SIDE, MATMUL_SIDE)
        self._source = torch.ones(COPY_BYTES // 4)  # written, so that its pages are there
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
        """One matrix product and one copy, after an untimed product that brings the caches back,
        and 5 ms of multiply-adds in registers."""
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
        """The ceilings of the samples so far.

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
