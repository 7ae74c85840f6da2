"""Signals: what they raise, and what they leave."""

from __future__ import annotations

import signal
import threading

import pytest

from fleetfoot import interrupts


@pytest.mark.parametrize("name", [one for one in interrupts.NAMES if hasattr(signal, one)])
def test_each_signal_is_an_interrupt_that_knows_its_name(name):
    before = signal.getsignal(getattr(signal, name))
    with pytest.raises(KeyboardInterrupt) as raised, interrupts.handled():
        signal.raise_signal(getattr(signal, name))
    assert interrupts.name_of(raised.value) == name
    assert interrupts.exit_code(name) == 128 + getattr(signal, name)
    assert signal.getsignal(getattr(signal, name)) is before
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
