"""Fixtures: fixed seeds, one torch thread, and where the developers' real images and weights may
lie."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
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
    """A handler that a test leaves behind may end the process in a later one. That of Ctrl-C is
    compared in the system too; Ray changes that of SIGTERM there while it runs."""
    numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
    before = [*map(signal.getsignal, numbers), _handler_address(signal.SIGINT)]
    yield
    assert [*map(signal.getsignal, numbers), _handler_address(signal.SIGINT)] == before


def _handler_address(number: int) -> int:
    """Address of the function that the system calls at a signal; 0 if it is the default, or
    unknown here. A library may set one that Python does not know of."""
    if not sys.platform.startswith("linux"):
        return 0
    action = (ctypes.c_void_p * 64)()  # more than any struct sigaction, which begins with it
    ctypes.CDLL(None).sigaction(number, None, action)
    return action[0] or 0


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real photographs and weights: FLEETFOOT_DATA, or ../shared/data beside the checkout; skips
    without them."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("FLEETFOOT_DATA", default))
    if not (folder / "weights").is_dir():
        pytest.skip(f"no real images and weights in {folder} (set FLEETFOOT_DATA)")
    return folder
