"""Limits of a container on Linux: processor time, cores and memory, of control groups of version 1
and 2.

A limit may stand in the process's own group or in any group above it, so all of them are read. A
container sees its groups below a mount that is the whole tree, a part of it, or a namespace, in
which the paths of groups begin at the container's own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

LIMITING = {"cpu", "cpuset", "memory"}
"""Controllers of version 1 that are read."""

NO_LIMIT = 1 << 60
"""Version 1 states the largest page-aligned number for memory without a limit."""


@dataclass(frozen=True)
class Limits:
    """Limits of this process's control groups; None for no limit."""

    cores: int | None = None
    """Processor time in whole cores, rounded up."""
    cpus: frozenset[int] | None = None
    """Numbers of the cores that may be used."""
    memory_bytes: int | None = None


def limits(root: Path = Path("/")) -> Limits:
    """The limits of this process. A file that cannot be read limits nothing.

    Args:
        root: folder that holds ``proc`` and the mounted control groups, for tests.
    """
    cores: list[float] = []
    memory: list[int] = []
    cpus: frozenset[int] | None = None
    for folder in _folders(root):
        cores += _quota(folder)
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = _read(folder / name)
            if text.isdigit() and 0 < int(text) < NO_LIMIT:
                memory.append(int(text))
        for name in ("cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus"):
            if numbers := _numbers(_read(folder / name)):
                cpus = numbers if cpus is None else cpus & numbers
                break
    return Limits(
        cores=max(1, math.ceil(min(cores))) if cores else None,
        cpus=cpus,
        memory_bytes=min(memory, default=None),
    )


def _folders(root: Path) -> Iterator[Path]:
    """Folders of the process's groups in every mounted hierarchy, each followed by those above."""
    groups = _groups(_read(root / "proc/self/cgroup"))
    for line in _read(root / "proc/self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        fields, kind = left.split(" "), right.split(" ")
        if len(fields) < 5 or len(kind) < 3 or kind[0] not in ("cgroup", "cgroup2"):
            continue
        controllers = {""} if kind[0] == "cgroup2" else LIMITING & set(kind[2].split(","))
        if not controllers:
            continue
        group = next((groups[one] for one in controllers if one in groups), "/")
        mounted, place = _unescaped(fields[3]), _unescaped(fields[4])
        folder, top = root / place.lstrip("/"), root / place.lstrip("/")
        folder = folder / _below(group, mounted)
        while True:
            yield folder
            if folder == top:
                break
            folder = folder.parent


def _groups(text: str) -> dict[str, str]:
    """The process's group by controller; "" is the one hierarchy of version 2."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        found |= dict.fromkeys(controllers.split(","), path)
    return found


def _below(group: str, mounted: str) -> str:
    """Path of a group below the mount of the group ``mounted``; "" if it is not below it, or its
    name is not known in this namespace.

    >>> _below("/a/b", "/"), _below("/docker/1/x", "/docker/1"), _below("/../c", "/")
    ('a/b', 'x', '')
    """
    path, top = PurePosixPath(group or "/"), PurePosixPath(mounted)
    if ".." in path.parts or not path.is_relative_to(top):
        return ""
    inner = str(path.relative_to(top))
    return "" if inner == "." else inner


def _quota(folder: Path) -> list[float]:
    """Cores that a group's quota allows: none or one number."""
    quota, period = ([*_read(folder / "cpu.max").split(), "", ""])[:2]
    if not quota:
        quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
    if quota.isdigit() and period.isdigit() and int(quota) > 0 and int(period) > 0:
        return [int(quota) / int(period)]
    return []


def _numbers(text: str) -> frozenset[int]:
    """The numbers of a list such as "0-3,8"; none if it is no such list.

    >>> sorted(_numbers("0-2,8"))
    [0, 1, 2, 8]
    """
    found: set[int] = set()
    for part in text.split(","):
        ends = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", part.strip())
        if ends is None:
            return frozenset()
        found |= set(range(int(ends[1]), int(ends[2] or ends[1]) + 1))
    return frozenset(found)


def _unescaped(path: str) -> str:
    r"""A path of mountinfo, which writes a space as ``\040``."""
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), path)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="surrogateescape").strip()
    except OSError:
        return ""
