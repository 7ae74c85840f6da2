"""Taking times, and what can be said of them: warm-up, quantiles, the interval of the median,
noise.

Times are in seconds. A benchmark of one network keeps all of them; what is below reads the list.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

SPREAD_LIMIT = 0.15
"""Above this, a tenth of the runs took that much longer than another tenth: the machine did
something else."""
DRIFT_LIMIT = 0.10
"""Above this, the later half of the samples is another experiment than the earlier one."""
FEWEST_SAMPLES = 6
"""Below this no interval between two samples holds the median with 95 % confidence."""

Call = Callable[[], object]


class Clock(Protocol):
    def time(self, call: Call) -> float:
        """Seconds that one call takes."""
        ...


class WallClock:
    """The clock on the wall around the call, in nanoseconds and never set back."""

    def time(self, call: Call) -> float:
        start = time.perf_counter_ns()
        call()
        return (time.perf_counter_ns() - start) / 1e9


class CudaClock:
    """The device's own time between two events around the call, which it waits for.

    Wall time would stop when the work is queued, not when it is done. ``cuda`` is ``torch.cuda``,
    or what stands for it in a test.
    """

    def __init__(self, cuda: Any) -> None:
        self._cuda = cuda
        self._start = cuda.Event(enable_timing=True)
        self._end = cuda.Event(enable_timing=True)

    def time(self, call: Call) -> float:
        self._start.record()
        call()
        self._end.record()
        self._end.synchronize()
        return self._start.elapsed_time(self._end) / 1e3  # it answers in milliseconds


def clock_for(device: str) -> Clock:
    """The clock of a device: events on "cuda", wall time elsewhere."""
    if device == "cuda":
        import torch

        return CudaClock(torch.cuda)
    return WallClock()


@dataclass(frozen=True)
class WarmUp:
    """The runs before those that count."""

    samples_s: tuple[float, ...]
    steady: bool
    """The times had settled; otherwise the limit was reached first."""


def warm_up(
    call: Call,
    clock: Clock,
    *,
    window: int = 3,
    tolerance: float = 0.1,
    most_s: float = 2.0,
    most_runs: int = 200,
) -> WarmUp:
    """Runs ``call`` until two windows of runs, one after the other, agree.

    They agree when their medians differ by no more than ``tolerance`` of the later one: the first
    runs of a network, which fill caches, pools and tables, are then over. After ``most_s``
    seconds, and two windows at least, or after ``most_runs`` runs it gives up, and ``steady`` is
    False.
    """
    samples: list[float] = []
    spent = 0.0
    while len(samples) < most_runs and (spent < most_s or len(samples) < 2 * window):
        samples.append(clock.time(call))
        spent += samples[-1]
        if _settled(samples, window, tolerance):
            return WarmUp(tuple(samples), steady=True)
    return WarmUp(tuple(samples), steady=False)


def _settled(samples: Sequence[float], window: int, tolerance: float) -> bool:
    if len(samples) < 2 * window:
        return False
    before = statistics.median(samples[-2 * window : -window])
    now = statistics.median(samples[-window:])
    return abs(before - now) <= tolerance * now


def quantile(samples: Sequence[float], share: float) -> float:
    """The value that ``share`` of the samples do not exceed, between neighbours on a straight line.

    Definition 7 of Hyndman and Fan 1996, "Sample quantiles in statistical packages", the default of
    NumPy and R. With fewer than 100 samples the 99th percentile is little but the slowest run.

    Raises:
        ValueError: there are no samples, or ``share`` is outside 0 to 1.
    """
    if not samples or not 0 <= share <= 1:
        raise ValueError(
            f"a quantile needs samples and a share of 0 to 1, not {len(samples)} samples and "
            f"{share}"
        )
    ordered = sorted(samples)
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    low, high = ordered[below], ordered[above]
    # the maximum: rounding in the interpolation must not fall below the lower neighbour
    return max(low, low + (place - below) * (high - low))


def median_interval(samples: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """The narrowest pair of samples, equally far from both ends, that holds the true median with
    ``confidence``.

    Each sample is below the true median with probability 1/2, so the number below is binomial,
    whatever the distribution of the times (Conover 1999, "Practical nonparametric statistics",
    section 3.2); exact for every n. With fewer than ``FEWEST_SAMPLES`` even the two extremes fall
    short of 95 %, and they are the answer. It takes samples as independent: if the machine
    drifts, neighbours are alike and the interval is too narrow.

    Raises:
        ValueError: there are no samples.
    """
    if not samples:
        raise ValueError("an interval needs samples, and there are none")
    ordered = sorted(samples)
    n = len(ordered)
    # P(fewer than k of n are below the median), k = 1, 2, ...: the k-th from each end serves while
    # this is at most (1 - confidence) / 2
    k, tail = 0, 0.0
    while k < n // 2:
        tail += math.exp(_log_choose(n, k) - n * math.log(2))
        if tail > (1 - confidence) / 2:
            break
        k += 1
    k = max(k, 1)
    return ordered[k - 1], ordered[n - k]


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def spread(samples: Sequence[float]) -> float:
    """(p90 - p10) / median."""
    return (quantile(samples, 0.9) - quantile(samples, 0.1)) / statistics.median(samples)


def drift(samples: Sequence[float]) -> float:
    """Median of the later half of the samples over that of the earlier half, minus 1."""
    half = len(samples) // 2
    if half == 0:
        return 0.0
    earlier, later = statistics.median(samples[:half]), statistics.median(samples[-half:])
    if not earlier:  # an engine that tells whole microseconds has layers of none
        return 0.0 if not later else math.inf
    return later / earlier - 1


@dataclass(frozen=True)
class Stability:
    """Whether the samples can be taken at their word, and if not, why."""

    stable: bool
    text: str
    """"stable: spread 4 %", or "unstable: spread 31 %, no steady state in the warm-up"."""


def stability(samples: Sequence[float], *, steady: bool) -> Stability:
    """The verdict on the samples of one cell after a warm-up that was ``steady`` or not."""
    wide, moved = spread(samples), drift(samples)
    reasons = []
    if wide > SPREAD_LIMIT:
        reasons.append(f"spread {_percent(wide)}")
    if abs(moved) > DRIFT_LIMIT:
        reasons.append(f"drifted by {_percent(moved)} between its halves")
    if not steady:
        reasons.append("no steady state in the warm-up")
    if len(samples) < FEWEST_SAMPLES:
        reasons.append(f"only {len(samples)} samples")
    if reasons:
        return Stability(False, f"unstable: {', '.join(reasons)}")
    return Stability(True, f"stable: spread {_percent(wide)}")


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
