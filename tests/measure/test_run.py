"""A run: what is interleaved, what a failure costs the others, what an end in the middle leaves,
and what may be resumed."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fake_bench import CASES, PACE, Bench, Probe, case, network
from fleetfoot.errors import EngineError, RecordError
from fleetfoot.machine import environment
from fleetfoot.measure import run as run_module
from fleetfoot.measure.grid import Grid, Setting
from fleetfoot.measure.journal import JOURNAL_FILE, Journal
from fleetfoot.measure.networks import prepare
from fleetfoot.measure.run import Failed, Form, Notice, Prepared, Preparing, RoundDone, Tools, run
from fleetfoot.network import Workload, native_size


def measure(bench=None, wanted=CASES, pace=PACE, **options):
    return run(wanted, pace, tools=(bench or Bench()).tools, **options)


def turns(log):
    """The log as its turns: neighbours of one label are one."""
    found = []
    for label in log:
        if not found or found[-1] != label:
            found.append(label)
    return found


def notes(folder: Path, kind: str) -> list[dict]:
    lines = (folder / JOURNAL_FILE).read_text().splitlines()
    return [note for note in map(json.loads, lines) if note["kind"] == kind]


# --- interleaving


def test_every_case_has_one_turn_a_round_and_the_order_changes():
    bench = Bench()
    rounds = [[]]

    def on_event(event):
        if isinstance(event, Prepared):
            bench.log.clear()
        elif isinstance(event, RoundDone):
            rounds.append([])
            rounds[-2] = list(bench.log)
            bench.log.clear()

    measure(bench, on_event=on_event)
    rounds.pop()
    assert len(rounds) == PACE.rounds
    for log in rounds:
        # 1 untimed run and burst_runs timed ones, one after the other
        assert len(log) == len(CASES) * (1 + PACE.burst_runs)
        assert len(turns(log)) == len(set(log)) == len(CASES)
    orders = {tuple(turns(log)) for log in rounds}
    assert len(orders) == PACE.rounds  # 6! = 720 orders: five equal by chance are unlikely


def test_the_order_of_turns_follows_from_the_seed(tmp_path):
    def order(folder, seed):
        measure(pace=replace(PACE, seed=seed), output=tmp_path / folder)
        return [note["case"] for note in notes(tmp_path / folder, "burst")]

    assert order("a", 1) == order("b", 1)
    assert order("c", 2) != order("a2", 1)


def test_every_timed_run_is_in_the_record_and_the_untimed_ones_are_not():
    found = measure()
    assert len(found.measurements) == len(CASES)
    for m in found.measurements:
        assert len(m.samples_s) == PACE.rounds * PACE.burst_runs
        assert m.warmup_s > 0
        assert m.protocol == "small"
        assert m.peak_gflops == pytest.approx(2 * 1024**3 / 0.01 / 1e9)  # what the probe says
        assert m.harness_s < 1e-3  # an engine that does nothing: microseconds
        assert m.memory_peak_bytes is None
        assert m.folded
    assert len({m.run_id for m in found.measurements}) == 1
    assert found.failures == []
    assert found.interrupted == ""


def test_short_runs_share_a_turn_up_to_its_time_and_long_ones_get_the_least_number():
    bench = Bench({"eager": {"seconds": 0.001}, "openvino": {"seconds": 0.03}})
    wanted = [case("a", "eager"), case("a", "openvino")]
    short, long = measure(bench, wanted, replace(PACE, burst_s=0.02)).measurements
    assert len(long.samples_s) == PACE.rounds * PACE.burst_runs
    assert len(short.samples_s) > len(long.samples_s)
    assert short.median_s >= 0.001
    assert long.median_s >= 0.03


def test_the_time_ends_a_run_after_the_fewest_rounds():
    found = measure(pace=replace(PACE, budget_s=0.0))
    for m in found.measurements:
        assert len(m.samples_s) == PACE.fewest_rounds * PACE.burst_runs


def test_garbage_collection_and_torchs_threads_are_as_before():
    seen = []

    class Watching(Bench):
        def load(self, *args, **options):
            made = super().load(*args, **options)
            inner = made._run

            def watched(batch):
                seen.append((gc.isenabled(), torch.get_num_threads()))
                return inner(batch)

            made._run = watched
            return made

    wanted = [case(), case(threads=2)]
    measure(Watching(), wanted, PACE)
    assert {threads for _, threads in seen} == {1, 2}
    assert (False, 2) in seen  # timed without a collection in between
    assert gc.isenabled()
    assert torch.get_num_threads() == 1


def test_engines_are_closed_at_the_end():
    bench = Bench()
    measure(bench)
    assert len(bench.built) == len(CASES)
    assert all(engine._closed for engine in bench.built)


# --- memory


def test_engines_that_do_not_fit_are_measured_in_groups_of_whole_models(monkeypatch):
    bench = Bench()
    held = iter(range(0, 10**9, 1000))
    monkeypatch.setattr(environment, "resident_bytes", lambda: next(held))
    events = []
    found = measure(bench, pace=replace(PACE, memory_bytes=500), on_event=events.append)
    assert [m.run_id.partition("#")[2] for m in found.measurements] == [
        "1",
        "1",
        "2",
        "2",
        "3",
        "3",
    ]
    assert len({m.run_id.partition("#")[0] for m in found.measurements}) == 1
    # no engine of one group ran between those of another
    models = [key for _, key in bench.log]
    assert len(turns(models)) == 3
    said = " ".join(event.text for event in events if isinstance(event, Notice))
    assert "2 of 6 cells are group 1" in said


def test_a_pace_by_network_measures_each_before_it_builds_the_next(tmp_path):
    bench, events = Bench(), []
    by_network = replace(PACE, by_network=True, memory_bytes=1 << 40)
    found = run(CASES, by_network, output=tmp_path, tools=bench.tools, on_event=events.append)
    assert [m.run_id.partition("#")[2] for m in found.measurements] == [
        "1",
        "1",
        "2",
        "2",
        "3",
        "3",
    ]
    assert len(turns([key for _, key in bench.log])) == 3
    assert not any(isinstance(event, Notice) and "memory" in event.text for event in events)

    again = Bench()
    resumed = run(CASES, by_network, output=tmp_path, resume=True, tools=again.tools)
    assert again.built == [], "what is measured is not built again"
    assert resumed.measurements == found.measurements


def test_what_fits_is_one_group_and_carries_no_number():
    assert all(
        "#" not in m.run_id for m in measure(pace=replace(PACE, memory_bytes=1 << 40)).measurements
    )


# --- failures


def test_an_engine_that_cannot_be_built_leaves_the_others():
    bench = Bench({"openvino": EngineError("openvino: no")})
    events = []
    found = measure(bench, on_event=events.append)
    assert {m.engine for m in found.measurements} == {"eager"}
    assert [(f.model, f.engine, f.reason) for f in found.failures] == [
        (model, "openvino", "openvino: no") for model in "abc"
    ]
    assert [e.failure for e in events if isinstance(e, Failed)] == found.failures


def test_an_engine_that_fails_in_the_middle_is_a_failure_and_no_measurement():
    found = measure(Bench({"openvino": {"dies_at": 20}}))
    assert {m.engine for m in found.measurements} == {"eager"}
    assert all("out of luck" in f.reason for f in found.failures)
    assert len(found.failures) == 3


def test_an_engine_with_another_answer_than_eagers_is_a_failure():
    found = measure(Bench({"openvino": {"wrong": 0.1}}))
    assert {m.engine for m in found.measurements} == {"eager"}
    assert "differs from eager's by" in found.failures[0].reason
    assert "more than the 1e-04 allowed in float32" in found.failures[0].reason


def test_an_engine_that_answers_with_nan_is_a_failure():
    found = measure(Bench({"openvino": {"wrong": float("nan")}}))
    assert {f.engine for f in found.failures} == {"openvino"}


def test_a_network_that_cannot_be_built_fails_on_each_engine_and_leaves_the_others():
    def networks(name, size, fold):
        if name == "b":
            raise KeyError("b")
        return network(name, size, fold)

    found = run(CASES, PACE, tools=replace(Bench().tools, networks=networks))
    assert {m.model for m in found.measurements} == {"a", "c"}
    assert [(f.model, f.engine) for f in found.failures] == [("b", "eager"), ("b", "openvino")]
    assert found.failures[0].reason == "KeyError: 'b'"


def test_a_network_whose_logits_are_not_finite_is_a_failure():
    def networks(name, size, fold):
        made = network(name, size, fold)
        made.model[0].bias.data.fill_(float("inf"))
        return made

    found = run(CASES[:1], PACE, tools=replace(Bench().tools, networks=networks))
    assert "not finite" in found.failures[0].reason


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda x: {"scores": x, "best": [x.argmax(1), x > 0]}, ""),
        (lambda x: (x, 3), "answers with int, where tensors are timed"),
        (lambda x: [], "answers with no tensor"),
        (lambda x: {"a": x, "b": x / 0}, "not finite"),
    ],
)
def test_whatever_holds_tensors_alone_is_timed(answer, said):
    class Answers(torch.nn.Module):
        def forward(self, x):
            return answer(x.mean((2, 3)))

    def networks(name, size, fold):
        workload = Workload.of(name, Answers(), size=size)
        return replace(network(name, size, fold), workload=workload)

    found = run([case(engine="eager")], PACE, tools=Tools(networks=networks, probe=Probe))
    assert [said in one.reason for one in found.failures] == [True] * bool(said)
    assert len(found.measurements) == (not said)


def test_memory_on_cuda_is_the_peak_above_what_was_there(monkeypatch):
    """With stand-ins for torch.cuda: what this engine took, not what its neighbours hold."""
    steps = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: steps.append("reset"))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 1000)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 1750)
    with run_module._cuda_memory("cuda") as peak_bytes:
        assert steps == ["reset"]
        assert peak_bytes() == 750
    with run_module._cuda_memory("cpu") as peak_bytes:
        assert peak_bytes() is None


# --- an end in the middle


def stop_at(number, act):
    def on_event(event):
        if isinstance(event, RoundDone) and event.number == number:
            act()

    return on_event


def ctrl_c():
    raise KeyboardInterrupt


def test_ctrl_c_keeps_what_was_measured(tmp_path):
    found = measure(output=tmp_path, on_event=stop_at(3, ctrl_c))
    assert found.interrupted == "SIGINT"
    assert {len(m.samples_s) for m in found.measurements} == {3 * PACE.burst_runs}
    assert len(notes(tmp_path, "burst")) == 3 * len(CASES)


def test_ctrl_c_while_preparing_leaves_no_measurement_and_no_error():
    def on_event(event):
        if isinstance(event, Preparing) and event.number == 2:
            raise KeyboardInterrupt

    bench = Bench()
    found = measure(bench, on_event=on_event)
    assert (found.measurements, found.interrupted) == ([], "SIGINT")
    assert all(engine._closed for engine in bench.built)


def test_sigterm_is_an_end_like_ctrl_c_and_its_handler_is_put_back():
    before = signal.getsignal(signal.SIGTERM)
    found = measure(on_event=stop_at(2, lambda: signal.raise_signal(signal.SIGTERM)))
    assert found.interrupted == "SIGTERM"
    assert len(found.measurements) == len(CASES)
    assert signal.getsignal(signal.SIGTERM) == before


def test_resume_adds_the_missing_rounds_and_keeps_the_others(tmp_path):
    first = measure(output=tmp_path, on_event=stop_at(2, ctrl_c))
    bench = Bench()
    second = measure(bench, output=tmp_path, resume=True)
    assert second.interrupted == ""
    for before, after in zip(first.measurements, second.measurements, strict=True):
        assert after.samples_s[: len(before.samples_s)] == before.samples_s
        assert len(after.samples_s) == PACE.rounds * PACE.burst_runs
        assert after.run_id == before.run_id
        assert after.started == before.started


def test_finished_cases_are_not_built_again(tmp_path):
    whole = measure(output=tmp_path)
    bench = Bench()
    again = measure(bench, output=tmp_path, resume=True)
    assert bench.built == []
    assert again.measurements == whole.measurements


def test_resume_tries_again_what_failed(tmp_path):
    measure(Bench({"openvino": EngineError("not yet")}), output=tmp_path)
    bench = Bench()
    found = measure(bench, output=tmp_path, resume=True)
    assert found.failures == []
    assert len(found.measurements) == len(CASES)
    assert len(bench.built) == len(CASES) // 2


def test_a_half_written_line_is_dropped_and_the_file_goes_on_clean(tmp_path):
    measure(output=tmp_path, on_event=stop_at(2, ctrl_c))
    with (tmp_path / JOURNAL_FILE).open("a") as file:
        file.write('{"kind": "burst", "case": 0, "rou')
    found = measure(output=tmp_path, resume=True)
    assert {len(m.samples_s) for m in found.measurements} == {PACE.rounds * PACE.burst_runs}
    assert len(notes(tmp_path, "burst")) == PACE.rounds * len(CASES)  # each line is whole


KILLED = """
import sys
from dataclasses import replace
from pathlib import Path
from fake_bench import CASES, PACE, Bench
from fleetfoot.measure.run import run
run(CASES, replace(PACE, rounds=60), tools=Bench({"eager": {"seconds": 0.001}}).tools,
    output=Path(sys.argv[1]))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_a_run_that_was_killed_loses_nothing_that_it_had_measured(tmp_path):
    source = Path(run_module.__file__).parents[2]
    paths = os.pathsep.join([str(source), str(Path(__file__).parents[1])])
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], env={**os.environ, "PYTHONPATH": paths}
    )
    journal = tmp_path / JOURNAL_FILE
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if journal.exists() and journal.read_text().count('"burst"') >= 30:
            break
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "it was killed, and had not ended by itself"

    raw = journal.read_text()
    before = [json.loads(line) for line in raw.splitlines(keepends=True) if line.endswith("\n")]
    bursts = {(n["case"], n["round"]): n["samples_s"] for n in before if n["kind"] == "burst"}
    assert 30 <= len(bursts) < 60 * len(CASES)
    slow = Bench({"eager": {"seconds": 0.001}})
    found = measure(slow, pace=replace(PACE, rounds=60), output=tmp_path, resume=True)
    assert len(found.measurements) == len(CASES)
    for index, m in enumerate(found.measurements):
        mine = [s for (which, _), samples in bursts.items() if which == index for s in samples]
        assert list(m.samples_s[: len(mine)]) == mine
        assert len(m.samples_s) == 60 * PACE.burst_runs


# --- what may not be resumed


def test_a_folder_with_a_run_is_not_written_over(tmp_path):
    measure(output=tmp_path)
    with pytest.raises(RecordError, match="holds a run already; go on with it by --resume"):
        measure(output=tmp_path)


def test_another_pace_machine_version_or_set_of_cases_is_refused(tmp_path, monkeypatch):
    measure(output=tmp_path, on_event=stop_at(2, ctrl_c))
    with pytest.raises(RecordError, match=r"pace\.burst_runs: 2 before, 3 now"):
        measure(pace=replace(PACE, burst_runs=3), output=tmp_path, resume=True)
    with pytest.raises(RecordError, match=r"form\.fold: True before, False now"):
        measure(form=Form(fold=False), output=tmp_path, resume=True)
    with pytest.raises(RecordError, match="cells: 6 before, 5 now"):
        measure(wanted=CASES[:5], output=tmp_path, resume=True)
    with monkeypatch.context() as patch:
        patch.setattr(environment, "versions", lambda: {**versions, "torch": "9.9"})
        versions = dict(
            json.loads((tmp_path / JOURNAL_FILE).read_text().splitlines()[0])["setup"]["versions"]
        )
        with pytest.raises(
            RecordError, match=rf"versions\.torch: '{versions['torch']}' before, '9.9' now"
        ):
            measure(output=tmp_path, resume=True)
    machine = environment.machine()
    monkeypatch.setattr(environment, "machine", lambda: {**machine, "cpu": "another"})
    with pytest.raises(RecordError, match=r"machine\.cpu: .* before, 'another' now"):
        measure(output=tmp_path, resume=True)


def test_a_journal_that_is_damaged_inside_names_the_line(tmp_path):
    measure(output=tmp_path)
    path = tmp_path / JOURNAL_FILE
    lines = path.read_text().splitlines()
    for damage in ("{", '{"kind": "burst"}', '{"kind": "song"}', "[]"):
        path.write_text("\n".join([*lines[:4], damage, *lines[4:]]) + "\n")
        with pytest.raises(RecordError, match="line 5"):
            measure(output=tmp_path, resume=True)


def test_nothing_to_resume_is_said(tmp_path):
    with pytest.raises(RecordError, match="there is no run to resume at"):
        measure(output=tmp_path / "nowhere", resume=True)
    with pytest.raises(ValueError, match="resume needs output"):
        measure(resume=True)


def test_no_cases_and_a_case_twice_are_errors():
    for wanted in ([], [CASES[0], CASES[0]]):
        with pytest.raises(ValueError, match="a run needs cases, each once"):
            measure(wanted=wanted)


# --- a real network


def test_a_network_is_folded_counted_and_drawn_from_a_fixed_seed():
    folded, plain = prepare("fasternet_t0", 64, True), prepare("fasternet_t0", 64, False)
    assert folded.folded
    assert folded.fold["folded"] > 0
    assert folded.fold["max_rel"] < 1e-9
    assert not plain.folded
    assert plain.fold["folded"] == 0
    assert not folded.model.training
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        # float32, the same weights from the same seed: folding rounds each kernel once
        torch.testing.assert_close(folded.model(x), plain.model(x), rtol=1e-3, atol=1e-7)
    assert folded.macs == plain.macs > 0
    assert folded.params < plain.params


def test_sizes_and_accuracies_are_those_published():
    assert native_size("timm:mobilevit_xxs") == 256
    assert native_size("torchvision:resnet50") == 224
    resnet = prepare("torchvision:resnet18", 32, True)
    assert resnet.workload.facts.top1 == pytest.approx(69.758)  # torchvision's model page
    assert (
        resnet.workload.facts.top1_source
        == "torchvision's model page, IMAGENET1K_V1, at 224 pixels"
    )


def test_a_real_network_runs_on_eager():
    small = Grid(models=("fasternet_t0",), engines=("eager",), settings=(Setting(1, 1),), size=64)
    (m,) = run(small.cases(), replace(PACE, rounds=2), tools=Tools()).measurements
    assert m.images_per_s == pytest.approx(1 / m.median_s)
    assert m.harness_s < m.median_s
    assert 0 < m.peak_share < 2  # of a measured ceiling; a shared machine's may be low
    assert m.device == "cpu"


def slow_networks(seconds):
    def made(name, size, fold):
        time.sleep(seconds)
        return network(name, size, fold)

    return made


@pytest.mark.parametrize("by_network", [False, True])
def test_the_budget_covers_preparing_and_what_it_leaves_out_is_said(tmp_path, by_network):
    bench, events = Bench(), []
    tools = replace(bench.tools, networks=slow_networks(0.5))
    pace = replace(PACE, budget_s=0.5, leaves_out=True, fewest_rounds=1, by_network=by_network)
    done = run(CASES, pace, tools=tools, on_event=events.append, output=tmp_path)
    assert {m.model for m in done.measurements} == {"a"}  # one network, always
    assert {f.model for f in done.failures} == {"b", "c"}
    assert all("no time: the others took" in f.reason for f in done.failures)
    (notice,) = [e.text for e in events if getattr(e, "text", "").startswith("no time")]
    assert notice.endswith("Left out: b, c")

    resumed = run(CASES, replace(pace), tools=bench.tools, output=tmp_path, resume=True)
    assert {m.model for m in resumed.measurements} == {"a", "b", "c"}


def test_without_that_every_network_is_prepared():
    tools = replace(Bench().tools, networks=slow_networks(0.05))
    done = run(CASES, replace(PACE, budget_s=0.01, fewest_rounds=1), tools=tools)
    assert {m.model for m in done.measurements} == {"a", "b", "c"}


@pytest.mark.skipif(sys.platform == "win32", reason="no locks")
def test_two_do_not_write_one_journal_at_once(tmp_path):
    header = run_module._header(CASES, PACE, Form())
    path = tmp_path / JOURNAL_FILE
    first = Journal(header, path)
    for _ in range(2):
        with pytest.raises(RecordError, match=rf"in use by process {os.getpid()} \(.*python"):
            Journal.resume(path, header)
    first.close()
    second = Journal.resume(path, header)
    with pytest.raises(RecordError, match="in use by"):
        Journal.resume(path, header)
    second.add("resumed", at="now")
    second.close()
    assert path.read_text(encoding="utf-8").count("\n") == 2


def test_a_network_that_exits_is_a_failure_like_any_other():
    tools = Bench().tools

    def networks(name, size, fold):
        if name == "b":
            raise SystemExit(0)
        return network(name, size, fold)

    done = run(CASES, PACE, tools=replace(tools, networks=networks))
    assert {one.model for one in done.measurements} == {"a", "c"}
    assert {one.reason for one in done.failures} == {"SystemExit: 0"}
    assert not done.interrupted
