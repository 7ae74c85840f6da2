"""How many cores this process may use, and how many threads a caller may ask for."""

from __future__ import annotations

import os

from fleetfoot.cgroups import limits


def usable_cores() -> int:
    """Cores that this process may use: its affinity, and the limits of its container if it has
    some."""
    limited = limits()
    if hasattr(os, "sched_getaffinity"):
        affinity = os.sched_getaffinity(0)
        cores = len(affinity & (limited.cpus or affinity)) or len(affinity)
    else:
        cores = os.cpu_count() or 1
    return cores if limited.cores is None else min(cores, limited.cores)


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
