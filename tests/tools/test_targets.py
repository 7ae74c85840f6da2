"""Targets are judged from the record alone, and a peer without a figure is never beaten."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from fleetfoot.engines import ENGINES
from fleetfoot.errors import RecordError
from fleetfoot.measure.grid import COMPARED_ENGINES, COMPARED_MODELS, GRIDS
from fleetfoot.measure.record import read, read_failures, read_starts, write
from fleetfoot.report import update_between_markers
from fleetfoot.report.summary import OWN, PEERS
from records import failure, measurement, seven, start
from records import record as of_a_run
from tools.targets import (
    SHARES,
    SPEED,
    STARTING_PEERS,
    TargetVerdict,
    app,
    print_targets,
    targets_markdown,
    verdicts,
)

ROOT = Path(__file__).resolve().parents[2]

OWN_S, PEER_S = 0.010, 0.016  # 1.6 times as fast: above both means


def record(models=COMPARED_MODELS, engines=(OWN, *PEERS), own_s=OWN_S, share=0.95, fma_gflops=0.0):
    cells = []
    for target in SPEED:
        for model in models:
            for engine in engines:
                seconds = own_s if engine == OWN else PEER_S
                m = measurement(
                    [seconds] * 8, model=model, engine=engine, threads=target.threads,
                    batch=target.batch, macs=400_000_000,
                )  # fmt: skip
                peak = m.achieved_gflops / share
                m = replace(m, peak_gflops=peak, peak_share=share, fma_gflops=fma_gflops)
                cells.append(m)
    return cells


STARTS = [start(), *(start(e, import_s=0.1, answer_s=0.1, above=9_000_000) for e in STARTING_PEERS)]


def words(found):
    return {v.word for v in found}


def test_a_record_in_which_all_is_reached_says_so_of_every_target():
    found = verdicts(record(), [], STARTS)
    assert len(found) == 2 * len(SPEED) + len(SHARES) + 2
    assert words(found) == {"met"}
    assert found[1].found == f"1.60 × over {len(COMPARED_MODELS)} networks"


def test_one_slower_network_fails_its_case_and_is_named():
    cells = record()
    slow = next(i for i, m in enumerate(cells) if m.engine == OWN)
    cells[slow] = measurement([0.02] * 8, model=cells[slow].model, engine=OWN)
    found = verdicts(cells, [], STARTS)
    assert found[0].word == "not met"
    assert found[0].remarks[0].startswith(f"{cells[slow].model}: 20.00 ms, ")
    assert found[2].word == "met"  # the other settings stand for themselves


def test_the_mean_is_judged_apart_from_the_slowest():
    found = verdicts(record(own_s=PEER_S / 1.3), [], STARTS)
    assert [v.word for v in found[:6]] == ["met", "not met", "met", "not met", "met", "met"]


@pytest.mark.parametrize("gone", PEERS)
def test_a_peer_without_any_figure_leaves_the_speed_open(gone):
    engines = [e for e in (OWN, *PEERS) if e != gone]
    absent = failure(engine=gone, reason="it is not installed")
    found = verdicts(record(engines=engines), [absent], STARTS)
    assert {v.word for v in found[:6]} == {"not shown"}
    assert any(gone in remark for remark in found[0].remarks)


def test_a_peer_that_cannot_run_one_network_is_said_and_the_others_judge_it():
    cells = [m for m in record() if (m.engine, m.model) != ("ncnn", "fastvit_sa12")]
    failed = [
        failure(engine="ncnn", model="fastvit_sa12", threads=t.threads, batch=t.batch, reason="no")
        for t in SPEED
    ]
    found = verdicts(cells, failed, STARTS)
    assert found[0].word == "met"
    assert found[0].remarks == ("ncnn cannot run fastvit_sa12: no",)


def test_a_network_that_the_own_engine_cannot_run_is_not_met():
    cells = [m for m in record() if (m.engine, m.model) != (OWN, "fastvit_sa12")]
    failed = [failure(engine=OWN, model="fastvit_sa12", threads=1, batch=1, reason="no softmax")]
    found = verdicts(cells, failed, STARTS)
    assert found[0].word == "not met"
    assert "native cannot run fastvit_sa12: no softmax" in found[0].remarks


def test_a_record_of_fewer_networks_shows_nothing_but_what_falls_short():
    assert verdicts(record(models=["fasternet_t0"]), [], STARTS)[0].word == "not shown"
    slow = verdicts(record(models=["fasternet_t0"], own_s=0.02), [], STARTS)
    assert slow[0].word == "not met"


def test_peers_of_another_run_were_not_interleaved_and_do_not_count():
    cells = [replace(m, run_id="other") if m.engine != OWN else m for m in record()]
    assert verdicts(cells, [], STARTS)[0].found == ""


def test_a_mean_is_held_against_what_the_processor_can_do():
    # 0.8 GFLOP: 10 ms at 80 GFLOP/s, where the best peer takes 16 ms and the own engine 12.5
    (_, reachable, _, two, *_) = verdicts(record(own_s=0.0125, fma_gflops=80.0), [], STARTS)
    assert reachable.word == "not met"
    assert "it would be 1.60 ×; 80% of that is reached; on 0 of" in reachable.remarks[0]
    assert "at the 160 GFLOP/s that 2 cores can do" in two.remarks[0]
    (_, out_of_reach, *_) = verdicts(record(own_s=0.0125, fma_gflops=70.0), [], STARTS)
    assert (
        "1.40 × (fewer multiply-adds apart, the target is out of reach)"
        in (out_of_reach.remarks[0])
    )
    networks = out_of_reach.found.split("over ")[1].split()[0]
    assert f"; on {networks} of {networks} networks even that is" in out_of_reach.remarks[0]


def test_the_networks_that_a_setting_leaves_out_are_not_missed():
    large = set(GRIDS["peers"].settings[2].without)
    cells = [m for m in record() if m.batch == 1 or m.model not in large]
    assert words(verdicts(cells, [], STARTS)) == {"met"}


def test_a_share_below_its_target_is_named():
    found = verdicts(record(share=0.82), [], STARTS)
    by_target = {v.target: v for v in found}
    assert by_target["FasterNet-T0 ≥ 0.80"].word == "met"
    assert by_target["other FasterNets ≥ 0.90"].word == "not met"
    assert "fasternet_l: 0.82" in by_target["other FasterNets ≥ 0.90"].remarks


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"answer_s": 0.05}, "not met"),  # 70 ms
        ({"torch_imported": True}, "not met"),
        ({}, "met"),
    ],
)
def test_the_first_answer_is_judged_with_its_import_and_without_torch(changed, word):
    found = verdicts(record(), [], [start(**changed), *STARTS[1:]])
    assert found[-2].word == word


def test_a_peer_whose_import_alone_makes_it_late_is_not_beaten():
    quick = start("executorch", import_s=2.0, answer_s=0.01)
    assert verdicts(record(), [], [*STARTS[:-1], quick])[-2].word == "not met"


def test_memory_above_a_peers_is_not_met_and_unknown_memory_not_shown():
    lean = start("ncnn", import_s=0.1, answer_s=0.1, above=1_000_000)
    rest = [s for s in STARTS if s.engine != "ncnn"]
    assert verdicts(record(), [], [*rest, lean])[-1].word == "not met"
    assert verdicts(record(), [], rest)[-1].word == "not shown"
    assert verdicts(record(), [], [])[-1].word == "not shown"


def test_a_record_without_the_own_engine_is_refused_with_the_command():
    with pytest.raises(RecordError, match="fleetfoot bench --protocol peers"):
        verdicts(record(engines=PEERS))


def test_the_protocol_measures_what_the_targets_ask_for():
    peers = GRIDS["peers"]
    assert {(s.threads, s.batch) for s in peers.settings} == {(t.threads, t.batch) for t in SPEED}
    assert set(peers.models) == set(COMPARED_MODELS)
    assert all(setting.without == () for setting in peers.settings if setting.batch == 1)
    assert {OWN, *PEERS} <= set(COMPARED_ENGINES)
    assert set(PEERS) <= set(ENGINES)


def run(*arguments: object):
    """What the command answered; an error of ours is raised."""
    result = CliRunner(env={"COLUMNS": "120"}).invoke(app, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_targets_are_judged_from_the_folder_of_a_run(tmp_path):
    cells = [measurement(engine="native"), measurement([0.02] * 8, engine="ncnn")]
    write(tmp_path / "measurements.jsonl", cells)
    write(tmp_path / "starts.jsonl", [start(), start("ncnn", import_s=0.1)])
    assert "1.82 × over 1 network" in run(tmp_path).stdout
    found = json.loads(run(tmp_path, "--json").stdout)
    assert {verdict["word"] for verdict in found} <= {"met", "not met", "not shown"}
    assert found[-1]["found"] == "more than a peer on 0 of 1 networks; at most 5.0 MB"


def test_targets_of_a_record_without_the_own_engine_are_an_error(tmp_path):
    write(tmp_path / "measurements.jsonl", of_a_run())
    with pytest.raises(RecordError, match="the record holds only eager, onnxruntime, openvino"):
        run(tmp_path)


def test_targets_are_printed_whole():
    text = io.StringIO()
    print_targets(Console(file=text, width=120), verdicts(seven(), [], [start()]))
    said = text.getvalue()
    assert "not shown" in said
    assert "ncnn has no figure on fasternet_t0: it was not measured" in said
    assert max(len(line) for line in said.splitlines()) <= 120


def test_targets_as_markdown_name_each_case_once_and_escape_what_they_hold():
    found = [
        TargetVerdict(case="speed", target="≥ 1", found="2 | 3", word="met"),
        TargetVerdict(case="speed", target="≥ 2", found="", word="not shown", remarks=("a*b",)),
    ]
    assert targets_markdown(found).splitlines() == [
        "| case | to reach | found | |",
        "|---|---|---|---|",
        "| speed | ≥ 1 | 2 \\| 3 | met |",
        "|  | ≥ 2 | - | not shown |",
        "",
        "- speed: a\\*b",
    ]


def test_the_targets_on_their_page_are_judged_from_the_record(tmp_path):
    copy = Path(shutil.copy(ROOT / "docs" / "targets.md", tmp_path))
    record = ROOT / "benchmarks" / "peers"
    found = verdicts(read(record), read_failures(record), read_starts(record))

    assert not update_between_markers(copy, targets_markdown(found))
