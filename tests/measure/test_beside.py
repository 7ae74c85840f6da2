"""Busy cores: they are busy when asked, still otherwise, and never outlive whoever started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fake_bench import PACE, Bench, case
from fleetfoot.cores import usable_cores
from fleetfoot.errors import EngineError
from fleetfoot.measure.beside import BusyCores, check_beside
from fleetfoot.measure.grid import Grid, Setting
from fleetfoot.measure.run import run
from fleetfoot.report.busy import TITLE, busy_rows, busy_sentences
from fleetfoot.report.joined import join
from fleetfoot.report.record_tables import markdown
from records import measurement

needs_pinning = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="no pinning to cores here"
)


def cpu_s(process: int) -> float:
    """Seconds of CPU that the process has taken, in ticks of 10 ms."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def state(process: int) -> str:
    return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]


@needs_pinning
def test_a_core_is_busy_within_the_block_and_still_outside():
    with BusyCores() as cores:
        with cores.busy(0):
            assert not cores._loops
        with cores.busy(1):
            (loop,) = cores._loops
            before = cpu_s(loop.pid)
            end = time.monotonic() + 30  # on a busy machine its turn may come late
            while cpu_s(loop.pid) - before < 0.05 and time.monotonic() < end:
                time.sleep(0.02)
            assert cpu_s(loop.pid) - before >= 0.05
            assert os.sched_getaffinity(loop.pid) == {min(os.sched_getaffinity(0))}
        assert state(loop.pid) == "T"
        with cores.busy(1):
            assert cores._loops == [loop]
    assert loop.returncode == -signal.SIGKILL


@needs_pinning
def test_a_loop_that_is_ended_from_outside_is_no_figure():
    def turn(cores: BusyCores) -> None:
        with cores.busy(1):
            cores._loops[0].kill()
            cores._loops[0].wait()

    with BusyCores() as cores, pytest.raises(EngineError, match="ended from outside"):
        turn(cores)


@needs_pinning
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("moment", ["busy", "still"])
def test_no_loop_outlives_its_parent(number, moment):
    script = f"""
import time
from fleetfoot.measure.beside import BusyCores
cores = BusyCores()
with cores.busy(1):
    if {moment!r} == "busy":
        print(cores._loops[0].pid, flush=True)
        time.sleep(60)
print(cores._loops[0].pid, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert parent.stdout is not None
    loop = int(parent.stdout.readline())
    parent.send_signal(number)
    parent.wait()
    parent.stdout.close()
    for _ in range(3000):
        try:
            if state(loop) == "Z":  # dead; whoever inherited it has not looked yet
                return
        except (FileNotFoundError, ProcessLookupError):
            return
        time.sleep(0.01)
    os.kill(loop, signal.SIGKILL)
    pytest.fail("the loop is left behind")


@pytest.mark.parametrize("cores", [-1, usable_cores() + 1, True, 1.0])
def test_what_is_no_number_of_cores_is_refused(cores):
    with pytest.raises(ValueError, match="beside must be 0 to"):
        check_beside(cores)


def test_a_grid_has_a_cell_for_each_number_of_busy_cores(monkeypatch):
    monkeypatch.setattr("fleetfoot.measure.beside.usable_cores", lambda: 2)
    monkeypatch.setattr("fleetfoot.measure.grid.usable_cores", lambda: 2)
    monkeypatch.setattr("fleetfoot.cores.usable_cores", lambda: 2)
    grid = Grid.named("quick", models=["fasternet_t0"], engines=["eager"], beside=(0, 2))
    assert [case.beside for case in grid.cases()] == [0, 2]
    cases = Grid.named("beside", models=["fasternet_t0"], engines=["eager"]).cases()
    assert [(case.threads, case.beside) for case in cases] == [
        (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="beside must be 0 to 2"):
        Grid(models=("fasternet_t0",), engines=("eager",), settings=(Setting(1, 1, (), 3),)).cases()


@needs_pinning
def test_one_engine_is_timed_alone_and_beside_a_busy_core_in_the_same_rounds(tmp_path):
    bench = Bench()
    cases = [case(), case(beside=1)]
    done = run(cases, PACE, output=tmp_path, tools=bench.tools)
    assert not done.failures
    assert [(m.beside, len(m.samples_s)) for m in done.measurements] == [(0, 10), (1, 10)]
    assert len(bench.built) == 1
    assert all(m.harness_s > 0 for m in done.measurements)
    again = run(cases, PACE, output=tmp_path, resume=True, tools=bench.tools)  # nothing is left
    assert again.measurements == done.measurements


def busy_record():
    return [
        measurement([seconds], engine=engine, threads=threads, beside=beside)
        for engine, threads, beside, seconds in (
            ("native", 1, 0, 0.010),
            ("native", 1, 1, 0.012),
            ("native", 2, 0, 0.006),
            ("native", 2, 1, 0.0126),
            ("onnxruntime", 2, 0, 0.009),
            ("onnxruntime", 2, 1, 0.0252),
            ("eager", 1, 0, 0.050),
        )
    ]


def test_the_table_sets_times_beside_each_other():
    titles, rows = busy_rows(busy_record())
    assert titles == ["network", "engine", "threads, batch", "alone", "beside 1"]
    assert [row[1:] for row in rows] == [
        ["native", "1, 1", "10.0", "12.0"],
        ["native", "2, 1", "6.00", "12.6"],
        ["onnxruntime", "2, 1", "9.00", "25.2"],
    ]
    assert busy_sentences(busy_record()) == [
        "Beside 1 busy core, native on several threads takes 1.05 times as long as on one; the "
        "fastest other engine on as many threads takes 2.00 times as long as it (medians)."
    ]


def test_the_markdown_begins_with_the_cells_beside_busy_cores():
    text = markdown(join(busy_record(), []))
    titles, rows = busy_rows(busy_record())
    head = f"**{TITLE}**\n\n| {' | '.join(titles)} |\n"
    assert text.startswith(head)
    assert f"| {' | '.join(rows[0])} |" in text
    assert all(sentence in text for sentence in busy_sentences(busy_record()))


def test_a_record_without_busy_cores_has_no_such_table():
    quiet = [m for m in busy_record() if not m.beside]
    assert busy_rows(quiet) == ([], [])
    assert busy_sentences(quiet) == []
