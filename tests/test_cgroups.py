"""Limits of control groups, read from trees made by hand."""

from __future__ import annotations

import os
import sys

import pytest

from fleetfoot.cgroups import Limits, limits
from fleetfoot.machine import environment

V2 = "31 23 0:28 {root} {at} rw,relatime - cgroup2 cgroup2 rw"
V1 = "3{n} 31 0:3{n} {root} {at}/{one} rw,relatime shared:9 - cgroup cgroup rw,{one}"


def tree(folder, group: str, mounts: str, files: dict[str, str]):
    """A root folder with /proc and mounted groups."""
    (folder / "proc/self").mkdir(parents=True)
    (folder / "proc/self/cgroup").write_text(group, encoding="utf-8")
    (folder / "proc/self/mountinfo").write_text(
        "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n" + mounts + "\n", encoding="utf-8"
    )
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n", encoding="utf-8")
    return limits(folder)


def v2(root: str = "/", at: str = "/sys/fs/cgroup") -> str:
    return V2.format(root=root, at=at)


def v1(root: str = "/", at: str = "/sys/fs/cgroup", ones=("cpu,cpuacct", "cpuset", "memory")):
    return "\n".join(V1.format(n=n, root=root, at=at, one=one) for n, one in enumerate(ones))


S = "sys/fs/cgroup"
NAMES = "2:memory:{0}\n1:cpu,cpuacct:{0}\n3:cpuset:{0}\n"
CASES = {
    "v2, in a container's own namespace": (
        "0::/", v2(), {f"{S}/cpu.max": "200000 100000", f"{S}/memory.max": "1000"},
        Limits(2, None, 1000),
    ),
    "v2, rounded up": ("0::/", v2(), {f"{S}/cpu.max": "150000 100000"}, Limits(2)),
    "v2, less than a core": ("0::/", v2(), {f"{S}/cpu.max": "1000 100000"}, Limits(1)),
    "v2, no limit": ("0::/", v2(), {f"{S}/cpu.max": "max 100000", f"{S}/memory.max": "max"},
                     Limits()),
    "v2, of the process's own group": (
        "0::/user.slice/a.scope", v2(), {f"{S}/user.slice/a.scope/cpu.max": "300000 100000"},
        Limits(3),
    ),
    "v2, the least of all groups above": (
        "0::/a/b/c", v2(),
        {
            f"{S}/a/cpu.max": "200000 100000", f"{S}/a/b/cpu.max": "700000 100000",
            f"{S}/a/b/c/cpu.max": "max 100000", f"{S}/a/b/memory.max": "500",
            f"{S}/a/memory.max": "900", f"{S}/other/cpu.max": "100000 100000",
        },
        Limits(2, None, 500),
    ),
    "v2, a mount of a part of the tree": (
        "0::/docker/1/x", v2("/docker/1"),
        {f"{S}/x/cpu.max": "400000 100000", f"{S}/memory.max": "77"}, Limits(4, None, 77),
    ),
    "v2, a group outside of the mount": (
        "0::/elsewhere", v2("/docker/1"), {f"{S}/cpu.max": "400000 100000"}, Limits(4),
    ),
    "v2, a group above the namespace": (
        "0::/../sibling", v2(), {f"{S}/cpu.max": "400000 100000"}, Limits(4),
    ),
    "v2, mounted elsewhere, with a space": (
        "0::/", v2(at="/mnt/my\\040groups"), {"mnt/my groups/cpu.max": "100000 50000"}, Limits(2),
    ),
    "v2, the cores of a cpuset": (
        "0::/a", v2(),
        {f"{S}/a/cpuset.cpus.effective": "0-1,4", f"{S}/cpuset.cpus.effective": "0-7"},
        Limits(None, frozenset({0, 1, 4})),
    ),
    "v1, in a container": (
        NAMES.format("/"), v1(),
        {
            f"{S}/cpu,cpuacct/cpu.cfs_quota_us": "250000",
            f"{S}/cpu,cpuacct/cpu.cfs_period_us": "100000",
            f"{S}/memory/memory.limit_in_bytes": "1048576",
        },
        Limits(3, None, 1048576),
    ),
    "v1, no limit": (
        NAMES.format("/"), v1(),
        {
            f"{S}/cpu,cpuacct/cpu.cfs_quota_us": "-1",
            f"{S}/cpu,cpuacct/cpu.cfs_period_us": "100000",
            f"{S}/memory/memory.limit_in_bytes": "9223372036854771712",
        },
        Limits(),
    ),
    "v1, a container that sees the host's paths": (
        NAMES.format("/docker/1"), v1("/docker/1"),
        {
            f"{S}/cpu,cpuacct/cpu.cfs_quota_us": "100000",
            f"{S}/cpu,cpuacct/cpu.cfs_period_us": "100000",
            f"{S}/memory/memory.limit_in_bytes": "5",
        },
        Limits(1, None, 5),
    ),
    "v1, the least of all groups above, each controller in its own tree": (
        "4:memory:/m/n\n1:cpu,cpuacct:/c\n3:cpuset:/s\n0::/", v1() + "\n" + v2(at=f"/{S}/unified"),
        {
            f"{S}/cpu,cpuacct/c/cpu.cfs_quota_us": "600000",
            f"{S}/cpu,cpuacct/c/cpu.cfs_period_us": "200000",
            f"{S}/memory/m/memory.limit_in_bytes": "50",
            f"{S}/memory/m/n/memory.limit_in_bytes": "60",
            f"{S}/cpuset/s/cpuset.cpus": "2-3",
            f"{S}/unified/cgroup.procs": "",
        },
        Limits(3, frozenset({2, 3}), 50),
    ),
    "v1 for memory and v2 for the processor": (
        "4:memory:/m\n0::/c", v1(ones=("memory",)) + "\n" + v2(at=f"/{S}/unified"),
        {f"{S}/memory/m/memory.limit_in_bytes": "9", f"{S}/unified/c/cpu.max": "200000 100000"},
        Limits(2, None, 9),
    ),
    "nonsense": (
        "0::", "x y - cgroup2\n" + v2(),
        {f"{S}/cpu.max": "0 0", f"{S}/memory.max": "lots", f"{S}/cpuset.cpus.effective": "a-b"},
        Limits(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_limits_wherever_they_stand_in_the_tree(tmp_path, name):
    group, mounts, files, expected = CASES[name]
    assert tree(tmp_path, group, mounts, files) == expected


def test_without_control_groups_nothing_is_limited(tmp_path):
    assert limits(tmp_path) == Limits()


@pytest.mark.skipif(sys.platform != "linux", reason="the system states its memory elsewhere")
def test_the_machines_memory_is_the_containers(monkeypatch):
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit, expected in ((None, whole), (whole + 1, whole), (1 << 20, 1 << 20)):
        monkeypatch.setattr(
            environment.cgroups, "limits", lambda limit=limit: Limits(memory_bytes=limit)
        )
        assert environment.memory_bytes() == expected
