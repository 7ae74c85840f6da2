"""Picking a network: the front, what is measured for it, and what an impossible budget says."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from fleetfoot.choose import pick
from fleetfoot.choose.pick import MARGINS, Candidate, Limits, contenders, pareto
from fleetfoot.count import trace
from fleetfoot.errors import FoldError, NoneFitsError
from fleetfoot.measure.networks import prepare
from fleetfoot.models import list_models
from fleetfoot.transform.fusion import unproved


def candidate(model: str, predicted_ms: float, top1: float, mb: float = 10.0) -> Candidate:
    return Candidate(
        model=model,
        size=224,
        top1=top1,
        top1_source="a paper",
        weight_bytes=int(mb * 1e6),
        macs=10**8,
        predicted_s=predicted_ms / 1e3,
    )


ZOO = [
    candidate("small", 2, 60, mb=4),
    candidate("middle", 5, 70, mb=12),
    candidate("slow and poor", 20, 65),
    candidate("large", 9, 76, mb=30),
    candidate("larger", 16, 80, mb=60),
]


class Stopwatch:
    """Measures what it is told, in milliseconds, and remembers what it was asked."""

    def __init__(self, **times_ms: float) -> None:
        self.times_ms, self.asked = times_ms, []

    def __call__(self, chosen):
        names = [one.model for one in chosen]
        self.asked.append(names)
        times = {name: self.times_ms[name] / 1e3 for name in names if name in self.times_ms}
        return times, {name: "no kernel" for name in names if name not in times}


def choose(found, limits, measure, margin=MARGINS["latency model"]):
    return pick.choose(found, limits, measure, margin)


def names(rows) -> list[str]:
    return [one.model for one in rows]


def test_front_by_hand():
    assert names(pareto(ZOO)) == ["small", "middle", "large", "larger"]


def test_of_equals_both_are_on_the_front():
    twins = [candidate("a", 2, 60), candidate("b", 2, 60)]
    assert names(pareto(twins)) == ["a", "b"]


def test_whatever_may_be_on_the_front_is_measured_and_nothing_else():
    watch = Stopwatch(small=2.1, middle=5.2, large=9.5)

    front, others, failures = choose(ZOO, Limits(max_s=0.010), watch)

    assert names(front) == ["small", "middle", "large"]
    assert [one.latency_s for one in front] == pytest.approx([0.0021, 0.0052, 0.0095])
    assert {one.basis for one in front} == {"measured"}
    assert others == ()
    assert failures == {}
    assert sorted(watch.asked[0]) == ["large", "middle", "small"]
    # 16 ms predicted is beyond 10 ms by more than the margin; 20 ms and 65 % is dominated


def test_a_contender_that_turns_out_too_slow_is_no_member():
    watch = Stopwatch(small=2, middle=5, large=10.5)

    front, others, _ = choose(ZOO, Limits(max_s=0.010), watch)

    assert names(front) == ["small", "middle"]
    assert names(others) == ["large"]


def test_a_machine_that_is_faster_than_predicted_brings_in_slower_networks():
    watch = Stopwatch(small=1, middle=2.5, large=4.5, larger=8)

    front, _, _ = choose(ZOO, Limits(max_s=0.010), watch)

    assert names(front) == ["small", "middle", "large", "larger"]
    assert watch.asked[1] == ["larger"]


def test_a_contender_that_is_far_too_slow_does_not_end_the_search():
    # by the prediction the first hides the second; measured, the first alone is too slow
    found = [candidate("promising", 2, 74), candidate("behind", 4, 73)]
    watch = Stopwatch(promising=8.8, behind=3.9)

    front, others, _ = choose(found, Limits(max_s=0.005), watch)

    assert watch.asked == [["promising"], ["behind"]]
    assert names(front) == ["behind"]
    assert names(others) == ["promising"]


def test_a_network_that_cannot_run_is_said_and_left_out():
    front, _, failures = choose(ZOO, Limits(max_s=0.010), Stopwatch(small=2, large=9))

    assert names(front) == ["small", "large"]
    assert failures == {"middle": "no kernel"}


def test_limits_of_accuracy_and_memory_hold():
    limits = Limits(max_s=0.010, min_top1=65, max_bytes=20e6)
    front, _, _ = choose(ZOO, limits, Stopwatch(middle=5))
    assert names(front) == ["middle"]


def test_an_impossible_time_says_the_fastest():
    with pytest.raises(NoneFitsError, match=r"within 1 ms here; the fastest is small at 2.2 ms"):
        choose(ZOO, Limits(max_s=0.001), Stopwatch(small=2.2))


def test_an_impossible_time_for_an_accuracy_says_the_fastest_of_these():
    with pytest.raises(
        NoneFitsError, match=r"top-1 of 75 % or more runs within 5 ms .* large at 9.1 ms"
    ):
        choose(ZOO, Limits(max_s=0.005, min_top1=75), Stopwatch(large=9.1))


SCORES = {"good": (70.0, "a paper"), "unknown": (None, ""), "broken": (60.0, "a paper")}


@pytest.fixture
def scores(monkeypatch):
    monkeypatch.setattr(pick, "native_size", lambda name: 8)
    monkeypatch.setattr(pick, "published", lambda name, size: SCORES[name])


def test_an_impossible_accuracy_says_the_highest_before_anything_is_measured(scores, monkeypatch):
    monkeypatch.setattr(pick, "default_names", lambda: list(SCORES))
    monkeypatch.setattr(pick, "load", None)  # a latency model would fail
    with pytest.raises(NoneFitsError, match="90 % or more; the highest of 2 is good's, 70 %"):
        pick.pick(10, min_top1=90, engine="eager")


def test_only_what_is_accurate_enough_is_a_candidate(scores):
    enough, without = pick.accurate(list(SCORES), 65)

    assert enough == [("good", 8, 70.0, "a paper")]
    assert without == ("unknown",)


def test_an_impossible_memory_says_the_smallest():
    with pytest.raises(NoneFitsError, match=r"of 70 % or more has .* is middle, 12.0 MB"):
        choose(ZOO, Limits(max_s=1, min_top1=70, max_bytes=5e6), Stopwatch())


def test_when_nothing_runs_every_reason_is_given():
    with pytest.raises(NoneFitsError, match="small: no kernel"):
        choose(ZOO[:1], Limits(max_s=0.010), Stopwatch())


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"max_s": 0.0}, "max_ms must be above 0, not 0"),
        ({"max_s": 1.0, "min_top1": 101}, "0 to 100, not 101"),
        ({"max_s": 1.0, "max_bytes": -1e6}, "max_mb must be above 0, not -1"),
    ],
)
def test_limits_out_of_range(limits, words):
    with pytest.raises(ValueError, match=words):
        Limits(**limits)


def test_the_nearest_to_the_front_come_first():
    near = candidate("near", 5.5, 70)
    ranked = names(contenders([*ZOO, near], max_s=0.010, margin=0.25))
    assert ranked[-1] == "near"
    assert "slow and poor" not in ranked


def test_measured_times_have_no_margin():
    slow = replace(candidate("slow", 5, 70), measured_s=0.011)
    assert names(contenders([slow, ZOO[0]], 0.010, 0.25)) == ["small"]


def test_candidates_leave_out_what_has_no_top1_and_say_what_fails(scores, monkeypatch):
    made = trace(nn.Conv2d(3, 4, 1), torch.zeros(2, 3, 8, 8))

    def traced(name, size, batch):
        if name == "broken":
            raise RuntimeError("cannot be folded")
        return made

    monkeypatch.setattr(pick, "folded_trace", traced)
    said = []

    scored, without = pick.accurate(list(SCORES), 0)
    found, failures = pick.candidates(scored, lambda seen: 0.003, batch=2, on_event=said.append)

    assert [(one.model, one.macs, one.weight_bytes) for one in found] == [("good", 12 * 64, 64)]
    assert found[0].basis == "predicted"
    assert without == ("unknown",)
    assert failures == {"broken": "cannot be folded"}
    assert [(event.model, event.number, event.of) for event in said] == [
        ("good", 1, 2),
        ("broken", 2, 2),
    ]


def test_where_no_network_can_be_traced_each_is_listed(scores, monkeypatch):
    def fails(*_):
        raise RuntimeError("cannot be folded")

    monkeypatch.setattr(pick, "default_names", lambda: ["good"])
    monkeypatch.setattr(pick, "_roofline", lambda threads: lambda seen: 0.003)
    monkeypatch.setattr(pick, "folded_trace", fails)
    with pytest.raises(NoneFitsError, match="folded and traced\n  good: cannot be folded"):
        pick.pick(10, engine="eager", calibrated=False)


def test_a_trace_is_folded_once_and_read_from_then_on(tmp_path, monkeypatch):
    made = pick.folded_trace("mobilenetv1_025", 64, 1, cache=tmp_path)
    monkeypatch.setattr(pick, "unproved", None)  # a second folding would fail

    assert pick.folded_trace("mobilenetv1_025", 64, 1, cache=tmp_path) == made
    assert not any("batch_norm" in op.name for op in made.operators)


def test_a_trace_that_cannot_be_is_made_again_and_said(tmp_path, caplog):
    made = pick.folded_trace("mobilenetv1_025", 64, 1, cache=tmp_path)
    (file,) = (tmp_path / "traces").iterdir()
    text = file.read_text()
    assert '"macs": ' in text
    for damaged in (text.replace('"macs": ', '"macs": -', 1), text.replace(": 1", ": NaN", 1)):
        file.write_text(damaged)
        assert pick.folded_trace("mobilenetv1_025", 64, 1, cache=tmp_path) == made
        assert "not valid" in caplog.text
        caplog.clear()


def test_newer_mobile_families_are_considered_beside_the_zoo():
    names = pick.default_names()
    assert set(list_models()) <= set(names)
    assert len(names) == len(set(names))
    scored, _ = pick.accurate([name for name in names if name.startswith("timm:")], 0)
    assert {one.model.split(":")[1].split("_")[0] for one in scored} == {
        "mobilenetv4", "shvit", "repvit", "starnet", "hgnetv2", "efficientvit", "cpubone",
    }  # fmt: skip
    assert ("timm:starnet_s1", 224, 73.532, "timm's results table") in scored


@pytest.mark.parametrize("name", ["mobileone_s0", "fastvit_t8", "timm:starnet_s1"])
def test_a_trace_without_the_proof_is_that_of_the_folded_network(name, tmp_path):
    size = 96
    proved = prepare(name, size, fold=True)
    expected = trace(proved.model, torch.zeros(1, 3, size, size))
    assert pick.folded_trace(name, size, 1, cache=tmp_path) == expected


class Rigid(nn.Module):
    """A network that runs at one size only."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.head = nn.Linear(4 * 72 * 72, 2)

    def forward(self, x):
        return self.head(self.bn(self.conv(x)).flatten(1))


def test_a_network_of_one_size_is_folded_at_its_own():
    folded = unproved(Rigid().eval(), torch.zeros(1, 3, 72, 72))
    assert isinstance(folded.bn, nn.Identity)
    with pytest.raises(FoldError, match="runs on no input"):
        unproved(Rigid().eval(), torch.zeros(1, 3, 80, 80))
