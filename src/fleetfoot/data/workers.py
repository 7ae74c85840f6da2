"""Processes that fill shared memory, and what happens when one of them ends.

Each worker has a pipe of its own for what it is asked and answers, so no lock is shared, and one
that is killed at any moment blocks nobody: the end of a process is seen at once. Large results lie
in slots of shared memory, which are used over and over; pipes carry only what describes them.
"""

from __future__ import annotations

import contextlib
import mmap
import multiprocessing
import os
import signal
import traceback
import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fleetfoot.errors import LoadingError

Bytes = NDArray[np.uint8]
Task = Callable[[Bytes, Any], Any]
"""Fills the slot that it is given, as the request says, and describes what it did."""

_OPEN: weakref.WeakSet[Connection] = weakref.WeakSet()
"""This process's ends of all pipes. A forked worker closes those that it inherits: while it held
them, the end of another process would not be seen."""


@dataclass(frozen=True)
class _Failure:
    """An error of the task itself, in words."""

    text: str


class Workers:
    """A number of processes that do one task.

    >>> with Workers(_double, count=1, slots=1, slot_bytes=4) as workers:
    ...     workers.ask(0, 3)
    ...     workers.answers(), workers.slots[0].tolist()
    ([6], [3, 3, 3, 3])

    Args:
        task: what they do; with other start methods than fork it is sent to them.
        count: number of processes, 1 or more.
        slots: number of pieces of shared memory.
        slot_bytes: size of each.
        start_method: fork, spawn or forkserver. Default: Python's.
    """

    def __init__(
        self,
        task: Task,
        *,
        count: int,
        slots: int,
        slot_bytes: int,
        start_method: str | None = None,
    ) -> None:
        context: Any = multiprocessing.get_context(start_method)
        self._method = context.get_start_method()
        if self._method == "fork":  # no file in /dev/shm, of which a container may have little
            shared: list[Any] = [mmap.mmap(-1, max(1, slot_bytes)) for _ in range(slots)]
        else:
            shared = [context.RawArray("B", slot_bytes) for _ in range(slots)]
        self.slots: list[Bytes] = [np.frombuffer(one, np.uint8) for one in shared]
        self._waiting: list[int] = [0] * count
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        try:
            for _ in range(count):
                here, there = context.Pipe()
                _OPEN.add(here)
                self._pipes.append(here)
                process = context.Process(
                    target=_work, args=(task, shared, there), daemon=True, name="fleetfoot-loader"
                )
                with there, warnings.catch_warnings():  # `there` stays open in the worker alone
                    # Python 3.12 warns of any thread when it forks. Workers use none, and no lock
                    # but Python's own
                    warnings.simplefilter("ignore", DeprecationWarning)
                    process.start()
                self._processes.append(process)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, slot: int, request: Any) -> None:
        """Gives a request to the worker that has the fewest.

        Raises:
            LoadingError: that worker has ended.
        """
        least = self._waiting.index(min(self._waiting))
        try:
            self._pipes[least].send((slot, request))
        except OSError:
            raise self._ended(least) from None
        self._waiting[least] += 1

    def answers(self) -> list[Any]:
        """Waits for answers; those that are there, at least one.

        Raises:
            LoadingError: a worker has ended, or its task failed.
        """
        ends = {process.sentinel: at for at, process in enumerate(self._processes)}
        pipes = {pipe: at for at, pipe in enumerate(self._pipes)}
        ready = connection.wait([*pipes, *ends])
        found = []
        for one in ready:
            if not isinstance(one, Connection):
                continue
            at = pipes[one]
            try:
                answer = one.recv()
            except (EOFError, OSError):
                raise self._ended(at) from None
            if isinstance(answer, _Failure):
                raise LoadingError(f"a process that reads pictures failed:\n{answer.text}")
            self._waiting[at] -= 1
            found.append(answer)
        for one in ready:
            if not found and isinstance(one, int):
                raise self._ended(ends[one])
        return found

    def close(self) -> None:
        """Ends all workers at once. They hold nothing that could be left in a wrong state."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join()

    def _ended(self, at: int) -> LoadingError:
        process = self._processes[at]
        process.join(timeout=5)
        return LoadingError(
            f"a process that reads pictures (PID {process.pid}) ended: "
            f"{_reason(process.exitcode, self._method)}"
        )


def _reason(code: int | None, method: str) -> str:
    """Why a worker ended with that exit code, and what to do."""
    if code == -signal.SIGKILL:
        return (
            "it was killed (SIGKILL), by the system if memory ran out. Take fewer workers or a "
            "smaller batch, and continue the run"
        )
    if code == -signal.SIGBUS:
        return (
            "no shared memory is left (SIGBUS). Take fewer workers or a smaller batch, or give the "
            "container more: docker run --shm-size 8g"
        )
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return (
            f"{name} ended it. Continue the run; with 0 workers the picture at fault can be found"
        )
    if code and method != "fork":
        return (
            f"exit code {code}; its own message stands above. A script that starts workers needs "
            'its calls under if __name__ == "__main__":'
        )
    return f"exit code {code}; its own message, if there is one, stands above"


def _work(task: Task, shared: list[Any], pipe: Connection) -> None:
    """A worker's life: answers requests until the other end of the pipe is closed."""
    # Ctrl-C reaches every process of a terminal. The main one decides when reading ends.
    for name, action in (("SIGINT", signal.SIG_IGN), ("SIGHUP", signal.SIG_IGN)):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), action)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(os, "setpgid"):  # neither do torchrun's signals, which go to the whole group
        os.setpgid(0, 0)
    for inherited in list(_OPEN):
        inherited.close()
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    watched: list[Any] = [pipe] if parent is None else [pipe, parent.sentinel]
    slots = [np.frombuffer(one, np.uint8) for one in shared]
    with contextlib.suppress(EOFError, OSError):
        while pipe in connection.wait(watched):
            slot, request = pipe.recv()
            try:
                answer = task(slots[slot], request)
            except Exception:
                answer = _Failure(traceback.format_exc())
            pipe.send(answer)
    os._exit(0)


def _double(slot: Bytes, request: int) -> int:
    slot[:] = request
    return 2 * request
