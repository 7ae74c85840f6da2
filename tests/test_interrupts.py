"""Signals: what they raise, and what they leave."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest

from fleetfoot import interrupts

RAISED = """
import signal
from fleetfoot import interrupts

name = {name!r}
number = getattr(signal, name)
before = signal.getsignal(number)
try:
    with interrupts.handled():
        signal.raise_signal(number)
except KeyboardInterrupt as raised:
    assert interrupts.name_of(raised) == name
    assert interrupts.exit_code(name) == 128 + number
    assert signal.getsignal(number) is before
    print("raised")
"""


@pytest.mark.parametrize("name", [one for one in interrupts.NAMES if hasattr(signal, one)])
def test_each_signal_is_an_interrupt_that_knows_its_name(name):
    done = subprocess.run(  # a signal in this process may end what runs the tests
        [sys.executable, "-c", RAISED.format(name=name)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "raised\n"
    assert interrupts.name_of(KeyboardInterrupt()) == "SIGINT"


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with interrupts.handled():
            signal.raise_signal(signal.SIGTERM)
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_elsewhere_than_in_the_main_thread_nothing_is_set():
    before, seen = signal.getsignal(signal.SIGINT), []

    def work():
        with interrupts.handled():
            seen.append(signal.getsignal(signal.SIGINT))

    one = threading.Thread(target=work)
    one.start()
    one.join()
    assert seen == [before]


def test_in_the_middle_of_an_import_the_process_ends_at_once(tmp_path, monkeypatch):
    ended = []
    monkeypatch.setattr(interrupts.os, "_exit", lambda code: ended.append(code))
    with pytest.raises(KeyboardInterrupt):
        interrupts.leave_imports(signal.SIGINT, None)
    assert not ended
    (tmp_path / "sends_a_signal.py").write_text(
        "import signal\nsignal.raise_signal(signal.SIGTERM)\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with interrupts.handled(interrupts.leave_imports):
        import sends_a_signal  # noqa: F401
    assert ended == [143]
