"""Claims: the papers' numbers are those of the networks that are built, verdicts follow their rule,
and a run keeps what it has."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from fake_bench import PACE, Bench
from fleetfoot.claims import CLAIMS, chosen
from fleetfoot.claims.base import (
    NOT_REACHED,
    Claim,
    Experiment,
    Ratio,
    Subject,
    judge,
    together,
    verdict,
)
from fleetfoot.claims.fasternet import SHAPES, depthwise_width
from fleetfoot.claims.measure import measure
from fleetfoot.count import count
from fleetfoot.errors import EngineError, RecordError, UnknownNameError
from fleetfoot.measure import grid as grid_module
from fleetfoot.measure.record import read, read_failures
from fleetfoot.measure.run import Notice
from records import failure, measurement


def macs(subject: Subject) -> int:
    with torch.device("meta"):
        model = subject.build().eval()
        x = torch.zeros(1, subject.channels, subject.size, subject.size)
    return count(model, x).macs


def subjects(name: str) -> list[Subject]:
    return CLAIMS[name].subjects


# the papers' figures are those of what is built


@pytest.mark.parametrize("subject", subjects("pconv-stack"), ids=lambda s: s.name)
def test_stacks_of_ten_have_the_flops_of_the_papers_table(subject):
    # printed with the last digit cut off: 162.57 M is 162, 6.7738 M is 6.77
    step = 1e6 if subject.published_macs > 100e6 else 1e4
    assert macs(subject) // step * step == pytest.approx(subject.published_macs)


@pytest.mark.parametrize("channels", [c for c, _ in SHAPES])
def test_pairs_have_equal_macs(channels):
    (pconv, depthwise, grouped) = (
        s for s in subjects("pconv-pair") if f"{channels}×" in s.name or s.channels ==
        depthwise_width(channels)
    )  # fmt: skip
    assert macs(pconv) == macs(grouped) == 451_584_000  # the authors say 451 MFLOPs
    # a multiple of 4 cannot be nearer
    assert macs(depthwise) == pytest.approx(macs(pconv), rel=0.01)


@pytest.mark.parametrize("name", ["g1", "g2", "g3", "g4"])
def test_the_rows_of_a_guideline_have_equal_macs(name):
    for experiment in CLAIMS[name].experiments:
        counted = [macs(subject) for subject in experiment.subjects]
        # the papers' own channel numbers, as 9 and 108 for 1:12, are up to 6 % off
        assert max(counted) / min(counted) < (1.07 if name != "g4" else 1.0001)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("1:1, ARM channels x1", 10 * 2 * 32 * 32 * 56 * 56),
        ("8 groups, ARM channels x1", 10 * 184 * 184 // 8 * 56 * 56),  # 180 / 8 is not whole
        ("8 groups, ARM channels x2", 10 * 360 * 360 // 8 * 56 * 56),
        ("4-fragment-parallel, ARM channels x1", 10 * 4 * 32 * 32 * 56 * 56),
        ("neither, ARM channels x1", 10 * (2 * 32 * 8 + 9 * 8 * 8) * 56 * 56),
    ],
)
def test_blocks_of_the_guidelines_counted_by_hand(name, expected):
    (subject,) = (s for g in "1234" for s in subjects(f"g{g}") if s.name == name)
    assert macs(subject) == expected


@pytest.mark.parametrize(
    "subject", [s for s in subjects("separable") if s.published_macs], ids=lambda s: s.name
)
def test_mobilenets_have_the_macs_of_the_papers_tables(subject):
    assert macs(subject) == pytest.approx(subject.published_macs, rel=0.005)


def test_the_plain_mobilenet_has_the_papers_parameters():
    (plain,) = (s for s in subjects("separable") if s.name == "plain network")
    params = sum(p.numel() for p in plain.build().parameters())
    assert params == pytest.approx(29.3e6, rel=0.002)


@pytest.mark.slow
@pytest.mark.parametrize(
    "subject",
    [s for s in subjects("table3") if not s.name.startswith("cyclemlp")],
    ids=lambda s: s.name,
)
def test_the_networks_of_table_3_have_its_macs(subject):
    # the paper's counter adds norms and pooling: up to 5.4 % more, for GhostNet
    assert 0.94 < macs(subject) / subject.published_macs < 1.005


@pytest.mark.parametrize(
    ("claim", "text", "column", "expected"),
    [
        ("pconv-stack", "FLOPS of PConv / of DWConv, 96×56²", "CPU", 29.67 / 7.52),
        ("pconv-stack", "FLOPS of PConv / of DWConv, 768×7²", "GPU", 5324 / 302),
        ("pconv-stack", "time of GConv(16) / of PConv, 384×14²", "ARM", 63.57 / 49.98),
        ("g1", "1:12 / 1:1, ARM channels x1", "ARM", 76.2 / 57.6),
        ("g1", "1:12 / 1:1, GPU channels x2", "GPU", 723 / 392),
        ("g2", "8 groups / 1 groups, ARM channels x2", "GPU", 2451 / 634),  # GPU's x1
        ("g4", "ReLU and shortcut / neither, ARM channels x1", "ARM", 66.3 / 56.7),
        ("pairs", "timm:mobilevit_xxs / fasternet_t0", "CPU", 3.35),
        ("pairs", "timm:mobilevit_xxs / fasternet_t0", "CPU v1", 3.1),
        ("pairs", "timm:swin_base_patch4_window7_224 / fasternet_l", "GPU", 1.36),
        ("pairs", "cyclemlp_b1 / torchvision:resnet50", "CPU", 116.1 / 73.0),
        ("separable", "plain / separable, 128×56²", "1 / (1/N + 1/K²)", 8.409),
    ],
)
def test_published_ratios(claim, text, column, expected):
    (ratio,) = (r for e in CLAIMS[claim].experiments for r in e.ratios if r.text == text)
    # the table's FLOPS, times and FLOPs are each rounded
    assert ratio.published[column] == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=lambda c: c.name)
def test_claims_name_their_subjects_once_and_compare_what_is_interleaved(claim):
    names = [subject.name for subject in claim.subjects]
    assert len(set(names)) == len(names)
    texts = [ratio.text for experiment in claim.experiments for ratio in experiment.ratios]
    assert len(set(texts)) == len(texts)
    for experiment in claim.experiments:
        inside = {subject.name for subject in experiment.subjects}
        for ratio in experiment.ratios:
            assert {ratio.over, ratio.under} <= inside
            assert not ratio.judged_by or ratio.judged_by in ratio.published
    assert any(not experiment.spare for experiment in claim.experiments)


def test_names_and_patterns_choose_claims():
    assert [claim.name for claim in chosen(["reparam", "g[12]"])] == ["g1", "g2", "reparam"]
    assert len(chosen()) == len(CLAIMS)
    with pytest.raises(UnknownNameError, match="unknown claim 'pconv-stak'; did you mean 'pconv-"):
        chosen(["pconv-stak"])


# verdicts


@pytest.mark.parametrize(
    ("asserted", "here", "interval", "word"),
    [
        (4.0, 4.0, (3.9, 4.1), "holds"),
        (4.0, 2.0, (1.9, 2.1), "holds"),  # half of it, as a logarithm
        (4.0, 1.99, (1.9, 2.1), "holds partly"),
        (4.0, 9.0, (8.0, 10.0), "holds"),  # more than asserted is not less
        (4.0, 1.0, (0.98, 1.02), "does not hold"),
        (4.0, 0.5, (0.4, 0.6), "does not hold"),
        (4.0, 1.015, (1.01, 1.02), "does not hold"),  # beyond chance, within the noise floor
        (4.0, 1.5, (0.9, 2.5), "not clear"),  # it may be 1 and may be half of it
        (4.0, 1.5, (0.9, 1.8), "does not hold"),  # it may be 1 and is not half of it
        (0.25, 0.25, (0.24, 0.26), "holds"),  # turned over
        (0.25, 0.5, (0.48, 0.52), "holds"),
        (0.25, 0.7, (0.6, 0.8), "holds partly"),
        (0.25, 2.0, (1.9, 2.1), "does not hold"),
        (None, 1.1, (1.05, 1.2), "holds"),
        (None, 1.1, (0.95, 1.3), "not clear"),
        (None, 0.9, (0.8, 0.95), "does not hold"),
        (None, 1.0, (0.99, 1.01), "does not hold"),
    ],
)
def test_the_rule_of_a_verdict(asserted, here, interval, word):
    assert judge(asserted, here, interval) == word


@pytest.mark.parametrize("asserted", [1.3, 4.0])
@pytest.mark.parametrize("here", [0.5, 1.0, 1.1, 1.5, 3.0])
def test_a_ratio_and_its_inverse_get_the_same_verdict(asserted, here):
    interval = (here * 0.95, here * 1.05)
    turned = (1 / interval[1], 1 / interval[0])
    assert judge(asserted, here, interval) == judge(1 / asserted, 1 / here, turned)


def test_a_ratio_is_above_0():
    with pytest.raises(ValueError, match=r"ratios are above 0, not -1"):
        judge(2.0, -1.0, (1.0, 1.0))


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (["holds", "holds"], "holds"),
        (["holds", "not judged", "not measured"], "holds"),
        (["holds", "does not hold"], "holds partly"),
        (["holds partly", "does not hold"], "holds partly"),
        (["does not hold", "does not hold"], "does not hold"),
        (["not measured", "not clear"], "not clear"),
        (["not judged", "not measured"], "not measured"),
        ([], "not measured"),
    ],
)
def test_several_verdicts_become_one(words, word):
    assert together(words) == word


def stack() -> nn.Module:
    return nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1))


def tiny(name: str = "tiny", experiments: int = 1, spare: bool = False, **ratio) -> Claim:
    """``experiments`` times two stacks, named slow and fast by the number of the experiment."""
    return Claim(
        name=name,
        source="a paper",
        asserts="slow is slow",
        method="stacks",
        experiments=tuple(
            Experiment(
                name=f"e{i}",
                subjects=tuple(
                    Subject(name=f"{kind}{i}", build=stack, size=8, channels=4, fold=False)
                    for kind in ("slow", "fast")
                ),
                ratios=(
                    Ratio(
                        text=f"slow{i} / fast{i}", over=f"slow{i}", under=f"fast{i}",
                        **{"published": {"CPU": 4.0}, "judged_by": "CPU", **ratio},
                    ),
                ),
                spare=spare,
            )
            for i in range(experiments)
        ),
    )  # fmt: skip


def times(slow: float, fast: float, **changes):
    noise = (1.0, 1.001, 1.002, 1.003, 1.004, 1.005, 1.006, 1.007)
    return [
        measurement([s * n for n in noise], model=f"tiny/{name}", **changes)
        for name, s in (("slow0", slow), ("fast0", fast))
    ]


def test_a_verdict_compares_medians_by_the_papers_figure():
    found = verdict(tiny(), times(0.03, 0.01))
    (one,) = found.found
    assert one.here == pytest.approx(3.0)
    assert one.interval[0] < 3.0 < one.interval[1]
    assert (one.word, found.word(), found.word("eager")) == ("holds",) * 3
    assert found.tally() == "1 of 1 hold"


def test_a_ratio_of_rates_is_the_ratio_of_times_by_that_of_work():
    found = verdict(tiny(factor=0.5), times(0.03, 0.01)).found[0]
    assert found.here == pytest.approx(1.5)
    assert found.word == "holds partly"  # half of 4 is 2
    assert found.interval[0] < 1.5 < found.interval[1]


def test_where_the_paper_itself_sees_nothing_nothing_is_judged():
    near, far = {"published": {"CPU": 1.04}}, {"published": {"CPU": 1.06}}
    assert verdict(tiny(**near), times(0.03, 0.01)).found[0].word == "not judged"
    assert verdict(tiny(**far), times(0.03, 0.01)).found[0].word == "holds"


def test_each_engine_has_its_own_verdict():
    rows = [*times(0.03, 0.01), *times(0.01, 0.01, engine="native")]
    found = verdict(tiny(), rows)
    assert (found.word("eager"), found.word("native")) == ("holds", "does not hold")
    assert found.word() == "holds partly"
    assert found.tally() == "1 of 2 hold"


def test_without_times_there_is_a_reason_and_no_verdict():
    slow, fast = times(0.03, 0.01)
    other = replace(fast, run_id="another")
    few = measurement([0.01] * 7, model="tiny/fast0")
    broken = failure(model="tiny/fast0", engine="eager", reason="it burns")
    for rows, failures, reason in (
        ([slow], [], NOT_REACHED),
        ([slow], [broken], "it burns"),
        ([slow, other], [], "not interleaved"),
        ([slow, few], [], "only 7 samples"),
    ):
        (found,) = verdict(tiny(), rows, failures).found
        assert found.word == "not measured"
        assert reason in found.reason
        assert found.here is None


# measuring


def run(claims, bench=None, **options):
    return measure(
        claims,
        **{
            "engines": ["eager"],
            "pace": replace(PACE, rounds=4, fewest_rounds=4),
            "tools": (bench or Bench()).tools,
            **options,
        },
    )


def test_every_subject_is_timed_on_every_engine_with_its_own_input():
    found = run([tiny()], engines=["eager", "native"])
    assert {(m.model, m.engine) for m in found.measurements} == {
        (f"tiny/{name}", engine) for name in ("slow0", "fast0") for engine in ("eager", "native")
    }
    assert {(m.macs, m.folded, m.protocol) for m in found.measurements} == {
        (2 * 4 * 4 * 8 * 8, False, "small")
    }
    assert len({m.run_id for m in found.measurements}) == 1
    (one,) = found.verdicts([tiny()])
    assert len(one.found) == 2
    assert all(f.here is not None for f in one.found)


def test_a_finished_record_is_not_measured_again_and_a_longer_list_goes_on(tmp_path):
    first = run([tiny()], output=tmp_path)
    bench = Bench()
    again = run([tiny()], bench, output=tmp_path, resume=True)
    assert again.measurements == first.measurements == read(tmp_path)
    assert not bench.built
    more = run([tiny(), tiny("other")], bench, output=tmp_path, resume=True)
    assert len(bench.built) == 2
    assert more.measurements[:2] == first.measurements
    assert {m.model.split("/")[0] for m in read(tmp_path)} == {"tiny", "other"}


def test_another_engine_measures_the_experiment_anew(tmp_path):
    run([tiny()], output=tmp_path)
    both = run([tiny()], engines=["eager", "native"], output=tmp_path, resume=True)
    assert len(both.measurements) == 4  # what is compared is of one run
    assert len({m.run_id for m in both.measurements}) == 1


def test_a_stopped_experiment_leaves_the_record_as_it_was(tmp_path):
    def stop_at_the_second(event):
        if isinstance(event, Notice) and event.text.startswith("2 of 2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run([tiny(experiments=2)], output=tmp_path, on_event=stop_at_the_second)
    assert {m.model for m in read(tmp_path)} == {"tiny/slow0", "tiny/fast0"}
    done = run([tiny(experiments=2)], output=tmp_path, resume=True)
    assert len(done.measurements) == 4


def test_without_time_nothing_begins_and_that_is_said():
    found = run([tiny(experiments=3)], seconds=1e-9)
    assert found.measurements == []
    assert found.not_reached == 3


def test_each_claim_has_its_first_experiment_before_any_has_its_second_and_spare_ones_wait():
    said = []
    claims = [tiny("a", 2), tiny("b", 1, spare=True), tiny("c", 1)]
    run(claims, on_event=lambda e: said.append(e.text) if isinstance(e, Notice) else None)
    order = [text.split(": ")[1] for text in said if " of 4: " in text]
    assert order == ["a, e0", "c, e0", "a, e1", "b, e0"]


def test_a_network_that_does_not_exist_fails_alone(tmp_path):
    def missing():
        raise UnknownNameError.of("model", "cyclemlp_b1", [])

    claim = tiny(experiments=2)
    gone = replace(claim.experiments[0].subjects[0], build=missing)
    experiment = replace(claim.experiments[0], subjects=(gone, claim.experiments[0].subjects[1]))
    claim = replace(claim, experiments=(experiment, claim.experiments[1]))
    done = run([claim], output=tmp_path)
    first, second = verdict(claim, done.measurements, done.failures).found
    assert (first.word, first.reason) == ("not measured", read_failures(tmp_path)[0].reason)
    assert "unknown model 'cyclemlp_b1'" in first.reason
    assert second.here is not None


def test_a_record_without_a_measurement_can_be_gone_on_with(tmp_path):
    bench = Bench({"eager": EngineError("it burns")})
    assert run([tiny()], bench, output=tmp_path).measurements == []
    done = run([tiny(), tiny("other")], output=tmp_path, resume=True)
    assert {m.model for m in done.measurements} == {"other/slow0", "other/fast0"}
    assert {f.reason for f in done.failures} == {"it burns"}


def test_an_engine_that_is_not_here_is_absent_with_its_reason(monkeypatch):
    monkeypatch.setattr(grid_module, "available", lambda: {"eager": None, "openvino": "install it"})
    done = run([tiny()], engines=["eager", "openvino"])
    assert {(f.model, f.engine, f.reason) for f in done.failures} == {
        ("tiny/slow0", "openvino", "install it"),
        ("tiny/fast0", "openvino", "install it"),
    }
    with pytest.raises(EngineError, match=r"none of the engines.*\n  openvino: install it"):
        run([tiny()], engines=["openvino"])


def test_what_cannot_be_measured_is_said_before_anything_runs(tmp_path):
    with pytest.raises(UnknownNameError, match="unknown engine 'nativ'; did you mean 'native'"):
        run([tiny()], engines=["nativ"])
    with pytest.raises(ValueError, match="the engine 'nothing' is timed in every run"):
        run([tiny()], engines=["nothing"])
    with pytest.raises(ValueError, match="threads must be 1 to"):
        run([tiny()], threads=4096)
    with pytest.raises(ValueError, match="seconds must be above 0, not -1"):
        run([tiny()], seconds=-1)
    with pytest.raises(ValueError, match="resume needs output"):
        run([tiny()], resume=True)


def test_a_record_of_other_circumstances_is_not_gone_on_with(tmp_path, monkeypatch):
    run([tiny()], output=tmp_path)
    with pytest.raises(RecordError, match="holds a record already; continue it with --resume"):
        run([tiny()], output=tmp_path)
    monkeypatch.setattr("fleetfoot.machine.environment.commit", lambda: "another")
    with pytest.raises(RecordError, match=r"commit: .* before, another now"):
        run([tiny()], output=tmp_path, resume=True)


def test_the_half_is_of_the_logarithm():
    # for any asserted ratio its square root is the least that holds
    for asserted in (1.2, 2.0, 22.7):
        edge = math.sqrt(asserted)
        assert judge(asserted, edge * 1.0001, (edge * 0.99, edge * 1.01)) == "holds"
        assert judge(asserted, edge * 0.9999, (edge * 0.99, edge * 1.01)) == "holds partly"
