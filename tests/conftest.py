"""Fixtures: fixed seeds, one torch thread, and where the developers' real images and weights may
lie."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch

from fleetfoot.interrupts import NAMES


@pytest.fixture(autouse=True)
def fixed_seed_and_one_thread():
    torch.manual_seed(0)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def handlers_of_signals_stay():
    """A handler that a test leaves behind may end the process in a later one."""
    numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
    before = [signal.getsignal(number) for number in numbers]
    yield
    assert [signal.getsignal(number) for number in numbers] == before


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real photographs and weights: FLEETFOOT_DATA, or ../shared/data beside the checkout; skips
    without them."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("FLEETFOOT_DATA", default))
    if not (folder / "weights").is_dir():
        pytest.skip(f"no real images and weights in {folder} (set FLEETFOOT_DATA)")
    return folder
