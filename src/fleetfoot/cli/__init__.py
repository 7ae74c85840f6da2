"""The command ``fleetfoot``: each command parses, calls one function, prints a card or JSON.

Nothing is imported here before ``main`` handles signals, so that Ctrl-C ends even a command that
has only begun to load.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing's own takes milliseconds to import
if TYPE_CHECKING:
    from typing import NoReturn

    from fleetfoot.cli.commands import app

__all__ = ["app", "main"]


def main() -> NoReturn:
    """Entry point: a user's mistake is one line on stderr and exit code 2, not a traceback."""
    import os
    import signal

    # until the modules are loaded, a signal ends the process at once: nothing is done yet
    numbers = [getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGHUP")]
    early = {
        number: signal.signal(number, lambda number, frame: os._exit(128 + number))
        for number in numbers
        if number is not None and signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        from fleetfoot.cli.process import run

        run()
    finally:
        for number, before in early.items():
            signal.signal(number, before)


def __getattr__(name: str) -> object:
    if name != "app":
        raise AttributeError(f"module 'fleetfoot.cli' has no attribute {name!r}")
    from fleetfoot.cli.commands import app

    return app
