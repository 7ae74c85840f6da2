"""The clock: warm-up, quantiles, the interval of the median, and the verdict on noise."""

from __future__ import annotations

import math
import random
import statistics

import numpy as np
import pytest

from fleetfoot.measure.clock import (
    CudaClock,
    WallClock,
    drift,
    median_interval,
    quantile,
    spread,
    stability,
    warm_up,
)


class Scripted:
    """A clock that tells the given times, then the last of them for ever."""

    def __init__(self, *times):
        self.times = list(times)

    def time(self, call):
        call()
        return self.times.pop(0) if len(self.times) > 1 else self.times[0]


def test_the_wall_clock_runs_the_call_once_and_tells_seconds():
    calls = []
    seconds = WallClock().time(lambda: calls.append(sum(range(1000))))
    assert len(calls) == 1
    assert 0 < seconds < 60


def test_the_cuda_clock_waits_for_the_end_and_turns_milliseconds_into_seconds():
    done = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            done.append("record")

        def synchronize(self):
            done.append("wait")

        def elapsed_time(self, end):
            return 12.5

    cuda = type("cuda", (), {"Event": Event})
    assert CudaClock(cuda).time(lambda: done.append("call")) == 0.0125
    assert done == ["record", "call", "record", "wait"]


def test_a_warm_up_ends_when_two_windows_agree():
    clock = Scripted(9.0, 5.0, 3.0, 1.3, 1.02, 1.01, 1.0)
    warm = warm_up(lambda: None, clock, window=3, most_s=1e9)
    assert warm.steady
    # windows (1.3, 1.02, 1.01) and (1.0, 1.0, 1.0): the first pair whose medians are within 10 %
    assert warm.samples_s == (9.0, 5.0, 3.0, 1.3, 1.02, 1.01, 1.0, 1.0, 1.0)


def test_one_slow_run_in_a_window_does_not_keep_a_warm_up_going():
    warm = warm_up(lambda: None, Scripted(1.0, 1.0, 7.0, 1.0, 1.0, 1.0), window=3, most_s=1e9)
    assert warm.steady
    assert len(warm.samples_s) == 6


def test_a_warm_up_that_never_settles_stops_at_its_limit_and_says_so():
    class Falling:
        now = 1.0

        def time(self, call):
            self.now *= 0.9
            return self.now

    by_runs = warm_up(lambda: None, Falling(), most_s=1e9, most_runs=40)
    assert not by_runs.steady
    assert len(by_runs.samples_s) == 40
    by_time = warm_up(lambda: None, Falling(), most_s=4.0)
    assert not by_time.steady
    assert sum(by_time.samples_s[:-1]) < 4.0 <= sum(by_time.samples_s)


def test_a_slow_network_gets_its_two_windows_whatever_the_limit():
    warm = warm_up(lambda: None, Scripted(5.0), window=3, most_s=0.1)
    assert warm.steady
    assert len(warm.samples_s) == 6


def test_quantiles_counted_by_hand():
    assert quantile([4, 1, 3, 2], 0.5) == 2.5
    assert quantile([4, 1, 3, 2], 0) == 1
    assert quantile([4, 1, 3, 2], 1) == 4
    assert quantile([10, 20], 0.9) == pytest.approx(19)
    assert quantile([7], 0.99) == 7


def test_quantiles_are_numpys():
    rng = random.Random(0)
    for n in (1, 2, 3, 10, 101):
        samples = [rng.expovariate(1) for _ in range(n)]
        for share in (0, 0.1, 0.25, 0.5, 0.9, 0.99, 1):
            assert quantile(samples, share) == pytest.approx(np.quantile(samples, share), rel=1e-12)


@pytest.mark.parametrize(("samples", "share"), [([], 0.5), ([1.0], 1.5), ([1.0], -0.1)])
def test_a_quantile_of_nothing_or_outside_0_to_1_is_an_error(samples, share):
    with pytest.raises(ValueError, match="a quantile needs samples and a share of 0 to 1"):
        quantile(samples, share)


# Ranks counted by hand from the binomial: the k-th sample from each end, k the largest with
# P(Binomial(n, 1/2) < k) <= 2.5 %. n = 10: P(0) + P(1) = 11/1024 = 1.1 %, with P(2) 5.5 %: k = 2.
# n = 20: P(<= 5) = 21700/2^20 = 2.07 %, with P(6) 5.8 %: k = 6. n = 6: 1/64 = 1.6 %: k = 1.
@pytest.mark.parametrize(("n", "k"), [(6, 1), (9, 2), (10, 2), (20, 6), (3, 1), (1, 1), (2, 1)])
def test_the_interval_of_the_median_has_the_binomials_ranks(n, k):
    samples = list(range(1, n + 1))
    random.Random(0).shuffle(samples)
    assert median_interval(samples) == (k, n + 1 - k)


def test_the_interval_of_many_samples_is_the_normal_approximations():
    low, high = median_interval(range(1, 10001))
    # n/2 -+ 1.96 sqrt(n)/2 = 4902 and 5098; 2: the approximation's own rounding
    assert low == pytest.approx(4902, abs=2)
    assert high == pytest.approx(5099, abs=2)


def test_the_interval_holds_the_true_median_95_times_in_100():
    rng = np.random.default_rng(0)
    for n in (12, 60):
        trials = 4000
        # times have a long tail; the median of this one is 1
        rows = np.exp(rng.normal(size=(trials, n)))
        held = sum(low <= 1 <= high for low, high in map(median_interval, rows.tolist()))
        # exact for its ranks: 96.1 % at n = 12, 95.6 % at 60 (ranks are whole numbers, so no less
        # than 95 %); 4000 trials have a standard error of 0.33 %
        assert 0.945 <= held / trials <= 0.975


def test_an_interval_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="needs samples"):
        median_interval([])


def test_spread_and_drift_counted_by_hand():
    samples = [1.0] * 5 + [2.0] * 5 + [1.0]
    # sorted: six 1, five 2; p10 is 1, p90 is 2, median 1
    assert spread(samples) == 1.0
    assert drift([1.0, 1.0, 5.0, 1.2, 1.2]) == pytest.approx(0.2)
    assert drift([1.0]) == 0.0
    assert drift([0.0, 0.0, 0.0, 0.0]) == 0.0  # layers below OpenVINO's microsecond
    assert drift([0.0, 0.0, 1.0, 1.0]) == math.inf


def test_the_verdict_says_what_is_wrong():
    rng = random.Random(0)
    quiet = [1 + 0.01 * rng.random() for _ in range(50)]
    assert stability(quiet, steady=True).stable
    assert stability(quiet, steady=True).text == f"stable: spread {100 * spread(quiet):.0f} %"
    assert stability(quiet, steady=False).text == "unstable: no steady state in the warm-up"
    noisy = [1.0, 1.31] * 20
    assert stability(noisy, steady=True).text == (
        f"unstable: spread {100 * 0.31 / statistics.median(noisy):.0f} %"
    )
    slower = [1.0] * 30 + [1.13] * 30
    assert "drifted by 13 % between its halves" in stability(slower, steady=True).text
    assert stability([1.0, 1.0], steady=True).text == "unstable: only 2 samples"
