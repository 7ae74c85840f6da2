"""While a run goes on: a table in a terminal, a few plain lines elsewhere."""

from __future__ import annotations

import io

from rich.console import Console

from fleetfoot.choose.pick import Tracing
from fleetfoot.measure.run import Case, Failed, Notice, Preparing, RoundDone
from fleetfoot.report import live
from fleetfoot.report.live import Counter, Progress
from records import failure

CASES = [
    Case(model=model, engine=engine, threads=1, batch=1, size=224)
    for model in ("fasternet_t0", "[b]odd[/b]")
    for engine in ("eager", "openvino")
]
ROUND = {case: 0.01 * (i + 1) for i, case in enumerate(CASES)}


def shown(events, **options) -> str:
    text = io.StringIO()
    with Progress(Console(file=text, width=100, height=30, **options)) as progress:
        for event in events:
            progress(event)
            if progress._live is not None:
                progress._live.refresh()  # at once, not at its next tick
    return text.getvalue()


def test_without_a_terminal_a_stage_begins_and_ends_with_a_plain_line():
    preparing = [Preparing(case, i + 1, 4) for i, case in enumerate(CASES)]
    rounds = [RoundDone(i + 1, 25, 0, 0.1 * i, ROUND) for i in range(25)]
    assert shown([*preparing, *rounds]).splitlines() == [
        "preparing 1 of 4: fasternet_t0 on eager",
        "preparing 4 of 4: [b]odd[/b] on openvino",
        "round 1 of 25: 0 s so far",
        "round 25 of 25: 2 s so far",
    ]


def test_tracing_is_a_stage_of_its_own():
    assert shown([Tracing(name, i + 1, 2) for i, name in enumerate(("a", "b"))]).splitlines() == [
        "tracing 1 of 2: a",
        "tracing 2 of 2: b",
    ]


def test_a_notice_and_a_failure_are_said_at_once():
    said = shown([Notice("[i]busy[/i]"), Failed(failure())]).replace("\n", " ")
    assert "note: [i]busy[/i]" in said
    assert "fastvit_t8 on compiled does not run: torch.compile needs" in said


def test_in_a_terminal_the_fastest_engine_of_each_network_stands_in_a_table():
    said = shown([RoundDone(3, 25, 2, 4.0, ROUND)], force_terminal=True)
    assert "group 2, round 3 of 25: 4 s so far" in said
    assert "[b]odd[/b]" in said
    (row,) = {line.strip() for line in said.splitlines() if "fasternet_t0" in line}
    assert row.split()[1:] == ["10.0", "eager"]
    assert "openvino" not in said


def test_a_table_longer_than_the_screen_says_how_many_are_left():
    many = {
        Case(model=f"m{i}", engine="eager", threads=1, batch=1, size=32): 0.001 * (i + 1)
        for i in range(60)
    }
    assert "and 35 more" in shown([RoundDone(1, 2, 0, 1.0, many)], force_terminal=True)


def test_the_time_of_the_rest_is_said_once_it_can_be_known(monkeypatch):
    clock = iter(range(0, 10_000, 30))
    monkeypatch.setattr(live.time, "monotonic", lambda: float(next(clock)))
    lines = shown([Tracing(f"n{i}", i + 1, 10) for i in range(10)]).splitlines()
    assert lines[0] == "tracing 1 of 10: n0"
    assert all("left" not in line for line in lines[: live.STEPS_TO_KNOW - 1])
    assert any("min left" in line for line in lines[live.STEPS_TO_KNOW - 1 :])


class Clock:
    """Stands for the module ``time``: it goes on by ``step`` with each look."""

    def __init__(self, step):
        self.now, self.step = 0.0, step

    def monotonic(self):
        self.now += self.step
        return self.now


def counted(states, step, monkeypatch, **options) -> str:
    monkeypatch.setattr(live, "time", Clock(step))
    text = io.StringIO()
    with Counter(Console(file=text, width=100, **options), "working") as counter:
        for state in states:
            counter(*state)
            if counter._live is not None:
                counter._live.refresh()
    return text.getvalue()


def test_without_a_terminal_a_count_is_a_line_at_the_start_and_then_now_and_then(monkeypatch):
    states = [(i, 40) for i in range(1, 41)] + [(i, 9, "comparing") for i in range(1, 10)]
    assert counted(states, 1.0, monkeypatch).splitlines() == [
        "working",
        "working: 16 of 40, about 24 s left",
        "working: 31 of 40, about 9 s left",
        "comparing",
    ]


def test_in_a_terminal_a_count_is_a_bar_with_the_time_left(monkeypatch):
    said = counted([(1, 4000), (2, 4000), (2001, 4000)], 60.0, monkeypatch, force_terminal=True)
    assert "working: 2 of 4,000" in said
    assert "working: 2,001 of 4,000, about 2 min left" in said
