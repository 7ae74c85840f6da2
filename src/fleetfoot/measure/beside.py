"""Other processes that keep cores busy while something is measured: what a network takes on a
machine that also does something else.

Each is a loop of Python without end, pinned to one core. It runs only during the turns that ask for
it. It ends with the run, also if the run is interrupted or killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from fleetfoot.cores import usable_cores
from fleetfoot.errors import EngineError

SETTLE_S = 0.02
"""Time that a loop runs before the turn begins, in which the system gives it its core."""

# The loop has a process of its own. On Linux the kernel ends it with the thread that started it;
# it also ends by itself when its parent has gone, and Ctrl-C is its parent's business.
_LOOP = """
import ctypes, os, signal, sys
core, parent = int(sys.argv[1]), int(sys.argv[2])
signal.signal(signal.SIGINT, signal.SIG_IGN)
try:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
except (AttributeError, OSError):
    pass
os.sched_setaffinity(0, {core})
print("ready", flush=True)
while os.getppid() == parent:
    for _ in range(100000):
        pass
"""


def check_beside(cores: int) -> None:
    """Checks a number of busy cores.

    Raises:
        ValueError: ``cores`` is not 0 to the cores that this process may use, or the system cannot
            pin a process to a core.
    """
    most = usable_cores()
    if type(cores) is not int or not 0 <= cores <= most:
        raise ValueError(
            f"beside must be 0 to {most}, the cores that this process may use, not {cores!r}"
        )
    if cores and not hasattr(os, "sched_setaffinity"):
        raise ValueError(
            "this system cannot pin a process to a core, so nothing is measured beside a busy "
            "core; leave out beside"
        )


class BusyCores:
    """Busy loops, one a core, the first cores first. They are started when first asked for, and
    ended by ``close`` or a ``with`` block."""

    def __init__(self) -> None:
        self._loops: list[subprocess.Popen[bytes]] = []

    @contextmanager
    def busy(self, cores: int) -> Iterator[None]:
        """Keeps that many cores busy within the block.

        Raises:
            ValueError: there are not so many cores, or none can be kept busy here.
            EngineError: a loop ended meanwhile, so the core was not busy.
        """
        if not cores:
            yield
            return
        check_beside(cores)
        while len(self._loops) < cores:
            self._start(sorted(os.sched_getaffinity(0))[len(self._loops)])
        wanted = self._loops[:cores]
        for loop in wanted:
            loop.send_signal(signal.SIGCONT)
        time.sleep(SETTLE_S)
        try:
            yield
            ended = [loop.pid for loop in wanted if loop.poll() is not None]
            if ended:
                raise EngineError(
                    f"the busy loop beside the measured engine was ended from outside (process "
                    f"{ended[0]}), so the core was not busy"
                )
        finally:
            for loop in wanted:
                _stop(loop)

    def _start(self, core: int) -> None:
        loop = subprocess.Popen(
            [sys.executable, "-S", "-c", _LOOP, str(core), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        self._loops.append(loop)
        assert loop.stdout is not None
        if loop.stdout.readline() != b"ready\n":
            raise EngineError(f"no busy loop could be started on core {core}")
        _stop(loop)

    def close(self) -> None:
        for loop in self._loops:
            loop.kill()
            loop.wait()
            if loop.stdout is not None:
                loop.stdout.close()
        self._loops.clear()

    def __enter__(self) -> BusyCores:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _stop(loop: subprocess.Popen[bytes]) -> None:
    """Halts the loop; returns when it stands still."""
    if loop.poll() is None:
        loop.send_signal(signal.SIGSTOP)
        # it has stopped, or was killed meanwhile; its exit code is left for poll()
        os.waitid(os.P_PID, loop.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
