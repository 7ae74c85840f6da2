"""Ctrl-C and the signals that ask a process to end: each ends the work in the same way, keeps what
was done, and gives the exit code that shells expect, 128 plus the signal's number.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
"""Signals that end a command; Windows has no SIGHUP."""

Handler = Callable[[int, FrameType | None], None]


class Interrupted(KeyboardInterrupt):
    """One of ``NAMES``, raised where the main thread was. SIGINT may also be Python's own
    ``KeyboardInterrupt``."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def name_of(stop: KeyboardInterrupt) -> str:
    """Name of the signal that ``stop`` stands for."""
    return stop.name if isinstance(stop, Interrupted) else "SIGINT"


def exit_code(name: str) -> int:
    """Exit code after the signal of that name.

    >>> exit_code("SIGINT"), exit_code("SIGTERM")
    (130, 143)
    """
    return 128 + getattr(signal, name)


def raise_interrupt(number: int, frame: FrameType | None) -> None:
    """A handler that raises ``Interrupted``."""
    raise Interrupted(signal.Signals(number).name)


def leave(number: int, frame: FrameType | None) -> None:
    """A handler that ends the process at once."""
    os._exit(128 + number)


def leave_imports(number: int, frame: FrameType | None) -> None:
    """A handler that raises ``Interrupted``, but ends the process at once if a module is being
    imported: nothing is done yet, and packages swallow or misreport an error in the middle of their
    import."""
    at = frame
    while at is not None and at.f_code.co_filename != "<frozen importlib._bootstrap>":
        at = at.f_back
    (raise_interrupt if at is None else leave)(number, frame)


def handle(handler: Handler) -> dict[int, Any]:
    """Handles the signals of ``NAMES`` by ``handler``, and returns the handlers before. A signal
    that is ignored stays ignored, as ``nohup`` wants. Only the main thread may set handlers, so
    elsewhere this does nothing."""
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for name in NAMES:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, handler)
    return before


class Asked:
    """Whether a signal asked to stop."""

    name = ""
    """Name of the signal; "" if none came."""


@contextmanager
def asked_to_stop() -> Iterator[Asked]:
    """The first signal of ``NAMES`` sets the name, so that what is under way can be finished; a
    second one interrupts it."""
    asked = Asked()

    def ask(number: int, frame: FrameType | None) -> None:
        asked.name = signal.Signals(number).name
        handle(raise_interrupt)

    with handled(ask):
        yield asked


@contextmanager
def handled(handler: Handler = raise_interrupt) -> Iterator[None]:
    """``handle`` while this lasts."""
    before = handle(handler)
    try:
        yield
    finally:
        for number, kept in before.items():
            signal.signal(number, kept)
