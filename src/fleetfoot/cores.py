"""How many cores this process may use, and how many threads a caller may ask for."""

from __future__ import annotations

import os
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""File with a container's limit on Linux: "200000 100000", microseconds of work in each period, or
"max 100000"."""


def usable_cores() -> int:
    """Cores that this process may use: its affinity, and the quota of its container if it has one,
    rounded up."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    try:
        quota = QUOTA.read_text(encoding="utf-8").split()
    except OSError:
        return cores
    if len(quota) == 2 and quota[0].isdigit() and quota[1].isdigit():
        cores = min(cores, max(1, -(-int(quota[0]) // int(quota[1]))))
    return cores


def check_threads(threads: int, *, most: int | None = None) -> None:
    """Checks a number of threads; every command, call and engine uses this check.

    Args:
        most: the largest number allowed; default: the cores that this process may use.

    Raises:
        ValueError: ``threads`` is not a whole number from 1 to ``most``.
    """
    limit = usable_cores() if most is None else most
    if type(threads) is int and 1 <= threads <= limit:  # not isinstance: True is no number here
        return
    which = ", the cores that this process may use" if most is None else ""
    raise ValueError(f"threads must be 1 to {limit}{which}, not {threads!r}")
