"""Targets are judged from the record alone, and a peer without a figure is never beaten."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleetfoot.bench.protocols import COMPARED_ENGINES, COMPARED_MODELS, PROTOCOLS
from fleetfoot.bench.targets import OWN, PEERS, SHARES, SPEED, STARTING_PEERS, verdicts
from fleetfoot.engines import ENGINES
from fleetfoot.errors import RecordError
from records import failure, measurement, start

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
    large = set(PROTOCOLS["peers"].rows[2].without)
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
    peers = PROTOCOLS["peers"]
    assert {(r.threads, r.batch) for r in peers.rows} == {(t.threads, t.batch) for t in SPEED}
    assert set(peers.models) == set(COMPARED_MODELS)
    assert all(row.without == () for row in peers.rows if row.batch == 1)
    assert {OWN, *PEERS} <= set(COMPARED_ENGINES)
    assert set(PEERS) <= set(ENGINES)
