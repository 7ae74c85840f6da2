"""Where a measurement was taken: the machine, what else was going on, and the versions of what ran.

Each fact is read on Linux, macOS and Windows as far as it is there to be read; what is not is None,
"" or 0, never an error and never a guess.
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
from fleetfoot import cores

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
    """Where it ran. ``governor`` and ``gpu`` are None where there is none to read."""

    cpu: str
    cores: int
    governor: str | None
    os: str
    memory_bytes: int
    gpu: str | None


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What else may have a part in the times. Kept with the samples of a run."""

    load_average: float | None
    """Of the minute before: how many processes wanted a core."""
    virtual: str
    """"container", "virtual machine", both, or "" where neither is known."""
    pid: int


def machine() -> Host:
    """Processor, usable cores, clock governor, system, memory, GPU."""
    return Host(
        cpu=cpu_name(),
        cores=cores.usable_cores(),
        governor=governor(),
        os=f"{platform.system()} {platform.release()}",
        memory_bytes=memory_bytes(),
        gpu=gpu_name(),
    )


def surroundings() -> Surroundings:
    """The machine's state now."""
    load = None
    with contextlib.suppress(OSError, AttributeError):  # not on Windows
        load = os.getloadavg()[0]
    return Surroundings(load_average=load, virtual=virtual(), pid=os.getpid())


def versions() -> dict[str, str]:
    """Python, fleetfoot, and those of ``PACKAGES`` that are installed."""
    found = {"python": platform.python_version(), "fleetfoot": fleetfoot.__version__}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def commit() -> str:
    """The commit that fleetfoot runs from, with ``-dirty`` behind it where tracked files differ; ""
    where it does not run from its own checkout."""
    package = Path(fleetfoot.__file__).parent
    checkout = package.parents[1]
    if package.parent.name != "src" or not (checkout / ".git").exists():
        return ""
    return _output("git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40",
                   "--exclude=*")  # fmt: skip


def cpu_name() -> str:
    """As the processor calls itself; the architecture where it does not."""
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
    """How Linux sets the first core's clock: "performance", "powersave"; None where it does not
    say."""
    return _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip() or None


def memory_bytes() -> int:
    """Memory of the machine, or what its container may use where that is less; 0 where unknown."""
    total = 0
    if sys.platform == "win32":
        total = _windows_memory_bytes()
    else:
        with contextlib.suppress(ValueError, OSError):  # the name is unknown to this system
            total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = _read("/sys/fs/cgroup/memory.max").strip()
    return min(total, int(limit)) if limit.isdigit() else total


@dataclass(frozen=True)
class Cache:
    name: str
    """"L1", "L2", "L3"."""
    bytes: int
    """Of all such caches that the threads run on together."""


def caches(threads: int) -> tuple[Cache, ...]:
    """The data caches that ``threads`` threads on as many cores have, first level first; () where
    the system does not say."""
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
    """Memory that this process holds now; None where the system does not tell in a file."""
    fields = _read("/proc/self/statm").split()
    if len(fields) < 2:
        return None
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def gpu_name() -> str | None:
    """The first CUDA device; None without one."""
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


def virtual() -> str:
    """Whether this is a container, a virtual machine or both; "" where neither is known."""
    found = []
    if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists():
        found.append("container")
    flags = next((x for x in _read("/proc/cpuinfo").splitlines() if x.startswith("flags")), "")
    if "hypervisor" in flags.split():
        found.append("virtual machine")
    return ", ".join(found)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
