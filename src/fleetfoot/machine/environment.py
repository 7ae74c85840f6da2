"""The environment of a measurement: the machine, its other load, and the versions of what ran.

Each fact is read on Linux, macOS and Windows if the system offers it; otherwise it is None, "" or
0, never an error and never a guess.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypedDict

import fleetfoot
from fleetfoot import cgroups, cores

PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "openvino",
    "ncnn",
    "pnnx",
    "executorch",
)


class Host(TypedDict):
    """The machine that a measurement ran on. ``governor`` and ``gpu`` are None if unknown."""

    cpu: str
    cores: int
    governor: str | None
    os: str
    memory_bytes: int
    gpu: str | None


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Conditions that may affect the times. Kept with the samples of a run."""

    load_average: float | None
    """Load average of the last minute: how many processes wanted a core."""
    virtual: str
    """Kind of virtual machine: "container", "virtual machine", both, or "" if neither is known."""
    pid: int


def machine() -> Host:
    """Facts about this machine: processor, usable cores, governor, system, memory, GPU."""
    return Host(
        cpu=cpu_name(),
        cores=cores.usable_cores(),
        governor=governor(),
        os=f"{platform.system()} {platform.release()}",
        memory_bytes=memory_bytes(),
        gpu=gpu_name(),
    )


def surroundings() -> Surroundings:
    """The conditions now that may affect times."""
    load = None
    with contextlib.suppress(OSError, AttributeError):  # not on Windows
        load = os.getloadavg()[0]
    return Surroundings(load_average=load, virtual=virtual(), pid=os.getpid())


def versions() -> dict[str, str]:
    """Versions of Python, fleetfoot, and those of ``PACKAGES`` that are installed."""
    found = {"python": platform.python_version(), "fleetfoot": fleetfoot.__version__}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def commit() -> str:
    """The commit that fleetfoot runs from, followed by ``-dirty`` if tracked files differ; "" if it
    does not run from its own checkout."""
    package = Path(fleetfoot.__file__).parent
    checkout = package.parents[1]
    if package.parent.name != "src" or not (checkout / ".git").exists():
        return ""
    return _output("git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40",
                   "--exclude=*")  # fmt: skip


def cpu_name() -> str:
    """The processor's own name; the architecture if it has none."""
    if sys.platform == "darwin":
        name = _output("sysctl", "-n", "machdep.cpu.brand_string")
    elif sys.platform == "win32":
        name = platform.processor()
    else:
        name = _proc_cpu_name(_read("/proc/cpuinfo"))
        if not name:  # ARM boards name the board rather than the processor
            name = _read("/proc/device-tree/model").strip("\0\n")
    return " ".join(name.split()) or platform.machine() or "unknown"


def _proc_cpu_name(cpuinfo: str) -> str:
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model", "Hardware", "cpu model") and value.strip():
            return value.strip()
    return ""


def governor() -> str | None:
    """The frequency governor of the first core on Linux, for example "performance" or "powersave";
    None if unknown."""
    return _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip() or None


def memory_bytes() -> int:
    """Memory of the machine, or the limit of its container if that is less; 0 if unknown."""
    total = 0
    if sys.platform == "win32":
        total = _windows_memory_bytes()
    else:
        with contextlib.suppress(ValueError, OSError):  # the name is unknown to this system
            total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = cgroups.limits().memory_bytes
    return total if limit is None else min(total, limit)


@dataclass(frozen=True)
class Cache:
    name: str
    """Name of the level: "L1", "L2" or "L3"."""
    bytes: int
    """Bytes of all caches of this level that the threads use, together."""


def caches(threads: int) -> tuple[Cache, ...]:
    """The data caches of as many cores as ``threads``, first level first; () if the system does not
    state them."""
    found: dict[int, dict[str, int]] = {}  # level -> the cores that share one -> its bytes
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    for core in cores[:threads]:
        for folder in sorted(Path(f"/sys/devices/system/cpu/cpu{core}/cache").glob("index*")):
            size = re.fullmatch(r"(\d+)([KM])", _read(str(folder / "size")).strip())
            level, kind = _read(str(folder / "level")).strip(), _read(str(folder / "type")).strip()
            if size and level.isdigit() and kind in ("Data", "Unified"):
                shared = _read(str(folder / "shared_cpu_list")).strip()
                scale = {"K": 1 << 10, "M": 1 << 20}[size[2]]
                found.setdefault(int(level), {})[shared] = int(size[1]) * scale
    if sys.platform == "darwin":
        for level, key in ((1, "hw.perflevel0.l1dcachesize"), (2, "hw.perflevel0.l2cachesize")):
            size_text = _output("sysctl", "-n", key).strip()
            if size_text.isdigit():  # the second level is shared by a cluster of cores
                found[level] = {"": int(size_text) * (threads if level == 1 else 1)}
    return tuple(Cache(f"L{level}", sum(found[level].values())) for level in sorted(found))


def _windows_memory_bytes() -> int:
    import ctypes

    kilobytes = ctypes.c_ulonglong(0)
    kernel = ctypes.WinDLL("kernel32")  # type: ignore[attr-defined]
    kernel.GetPhysicallyInstalledSystemMemory(ctypes.byref(kilobytes))
    return kilobytes.value * 1024


def resident_bytes() -> int | None:
    """Memory that this process holds now, in bytes; None if no file of the system states it."""
    fields = _read("/proc/self/statm").split()
    if len(fields) < 2:
        return None
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def gpu_name() -> str | None:
    """Name of the first CUDA device; None if there is none."""
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


def virtual() -> str:
    """Whether this is a container, a virtual machine or both; "" if neither is known."""
    found = []
    if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists():
        found.append("container")
    flags = next((x for x in _read("/proc/cpuinfo").splitlines() if x.startswith("flags")), "")
    if "hypervisor" in flags.split():
        found.append("virtual machine")
    return ", ".join(found)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _output(*command: str) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
