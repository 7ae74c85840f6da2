"""Ceilings: arithmetic by hand; the measuring only has to measure."""

from __future__ import annotations

import pytest
import torch

from fleetfoot import runtime
from fleetfoot.machine import peaks


def test_rates_come_from_the_faster_quartile():
    rates = (90e9, 130e9, 110e9, 120e9, 100e9)
    made = peaks.Peaks(1, (0.4, 0.1, 0.2, 0.3, 0.5), (0.04, 0.01, 0.02, 0.03, 0.05), rates)

    assert made.matmul_gflops == pytest.approx(2 * 1024**3 / 0.2 / 1e9)
    assert made.copy_gb_per_s == pytest.approx(2 * (256 << 20) / 0.02 / 1e9)
    assert made.fma_gflops == pytest.approx(120)


def test_what_was_not_measured_is_no_ceiling():
    assert peaks.Peaks(1, (0.1,), (0.1,)).fma_gflops == 0


def test_the_probe_measures_and_restores_the_thread_count(monkeypatch):
    monkeypatch.setattr(peaks, "COPY_BYTES", 1 << 16)
    monkeypatch.setattr(peaks, "MATMUL_SIDE", 32)
    before = torch.get_num_threads()

    made = peaks.peaks(threads=2, samples=3)

    assert len(made.matmul_samples_s) == len(made.copy_samples_s) == 3
    assert made.matmul_gflops > 0
    assert made.copy_gb_per_s > 0
    assert bool(made.fma_gflops) == (runtime.missing() is None)
    assert torch.get_num_threads() == before


def test_unusable_arguments_are_named():
    with pytest.raises(ValueError, match=r"threads must be 1 to .* not 0"):
        peaks.peaks(threads=0)
    with pytest.raises(ValueError, match="samples must be 1 or more, not 0"):
        peaks.peaks(samples=0)
