"""How much memory a process may still take, and the refusal of what would take more."""

from __future__ import annotations

import os
from pathlib import Path

from fleetfoot import cgroups

MEMINFO = Path("/proc/meminfo")


def free_bytes() -> int | None:
    """Bytes that this process can still take: what the system has available, within the limit of a
    container; None if the system does not say."""
    found = [value for value in (_available(), cgroups.limits().memory_bytes) if value is not None]
    if found:
        return min(found)
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # not on Windows
        return None


def _available() -> int | None:
    try:
        lines = MEMINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, rest = line.partition(":")
        if name == "MemAvailable" and rest.split()[:1] and rest.split()[0].isdigit():
            return 1024 * int(rest.split()[0])
    return None


def size_text(count: float) -> str:
    """A number of bytes in words.

    >>> size_text(120e9), size_text(3 << 20)
    ('112 GiB', '3 MiB')
    """
    units = ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while count >= 1024 and len(units) > 1:
        count /= 1024
        units.pop(0)
    return f"{count:.3g} {units[0]}" if count < 1000 else f"{count:.0f} {units[0]}"


def check_fits(needed_bytes: int, what: str, advice: str) -> None:
    """Checks that ``what``, which takes at least ``needed_bytes``, fits into memory.

    Raises:
        ValueError: it does not; the message states both amounts and the ``advice``.
    """
    free = free_bytes()
    if free is not None and needed_bytes > free:
        raise ValueError(
            f"{what} needs {size_text(needed_bytes)} of memory or more, and {size_text(free)} is "
            f"free; {advice}"
        )
