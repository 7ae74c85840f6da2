"""What is said of the machine, and that nothing is guessed where the system does not say."""

from __future__ import annotations

import mmap
import platform
import re
import subprocess
import sys

import pytest

import fleetfoot
from fleetfoot.machine import environment


def test_the_machine_is_described():
    machine = environment.machine()
    assert machine["cpu"]
    assert machine["cores"] >= 1
    assert platform.system() in machine["os"]
    assert machine["memory_bytes"] > 64 << 20  # Python and torch would not run in less


def test_a_system_that_tells_nothing_is_unknown_and_no_error(monkeypatch):
    monkeypatch.setattr(environment, "_read", lambda path: "")
    monkeypatch.setattr(environment, "_output", lambda *command: "")
    monkeypatch.setattr(environment.platform, "machine", lambda: "")
    monkeypatch.setattr(environment.sys, "platform", "plan9")
    assert environment.cpu_name() == "unknown"
    assert environment.governor() is None
    assert environment.resident_bytes() is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_processor_is_read_on_intel_and_on_arm(monkeypatch):
    intel = "processor : 0\nmodel name : Intel(R)  Xeon(R) CPU @ 2.50GHz\n"
    board = "Raspberry Pi 4 Model B\0"
    monkeypatch.setattr(environment, "_read", lambda path: intel if "cpuinfo" in path else "")
    assert environment.cpu_name() == "Intel(R) Xeon(R) CPU @ 2.50GHz"
    arm = "processor : 0\nBogoMIPS : 108.00\n"
    monkeypatch.setattr(environment, "_read", lambda path: arm if "cpuinfo" in path else board)
    assert environment.cpu_name() == "Raspberry Pi 4 Model B"


def test_macos_and_windows_are_asked_in_their_own_way(monkeypatch):
    monkeypatch.setattr(
        environment, "_output", lambda *command: "Apple M2" if command[0] == "sysctl" else ""
    )
    monkeypatch.setattr(environment.sys, "platform", "darwin")
    assert environment.cpu_name() == "Apple M2"
    monkeypatch.setattr(environment.sys, "platform", "win32")
    monkeypatch.setattr(environment.platform, "processor", lambda: "Intel64 Family 6")
    assert environment.cpu_name() == "Intel64 Family 6"


def test_versions_name_what_has_a_part_in_a_time():
    versions = environment.versions()
    assert versions["python"] == platform.python_version()
    assert versions["fleetfoot"] == fleetfoot.__version__
    assert "torch" in versions
    assert "pytest" not in versions


def test_the_commit_is_that_of_fleetfoots_own_checkout_or_nothing(monkeypatch, tmp_path):
    checkout = tmp_path / "checkout"
    package = checkout / "src" / "fleetfoot"
    package.mkdir(parents=True)
    file = package / "__init__.py"
    file.write_text("")
    monkeypatch.setattr(fleetfoot, "__file__", str(file))
    assert environment.commit() == ""  # no checkout

    def git(*command):
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(
            ["git", "-C", checkout, *identity, *command], check=True, capture_output=True
        )

    try:
        git("init", "-q")
    except OSError:
        pytest.skip("no git here")
    git("add", ".")
    git("commit", "-qm", "x")
    assert re.fullmatch(r"[0-9a-f]{40}", environment.commit())
    file.write_text("changed")
    assert environment.commit().endswith("-dirty")

    # installed into an environment that lies inside somebody else's checkout
    installed = checkout / ".venv" / "site-packages" / "fleetfoot" / "__init__.py"
    installed.parent.mkdir(parents=True)
    monkeypatch.setattr(fleetfoot, "__file__", str(installed))
    assert environment.commit() == ""


def test_the_surroundings_are_said():
    around = environment.surroundings()
    assert around.load_average is None or around.load_average >= 0
    assert set(filter(None, around.virtual.split(", "))) <= {"container", "virtual machine"}


def test_resident_memory_grows_with_what_is_held():
    before = environment.resident_bytes()
    if before is None:
        pytest.skip("this system does not tell in a file")
    with mmap.mmap(-1, 64 << 20) as held:  # pages of its own: the heap may have room left over
        held.write(b"x" * len(held))
        grown = environment.resident_bytes() - before
    assert grown > (64 << 20) // 2  # half: other pages may have been given back meanwhile
