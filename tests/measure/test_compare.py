"""A comparison finds what changed, calls noise noise, and refuses what cannot be compared."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fleetfoot.errors import RecordError
from fleetfoot.measure.compare import (
    NOISE_FLOOR,
    Tally,
    compare,
    contests,
    ratio_interval,
    verdict,
)
from records import MACHINE, measurement, record, slowed


def noisy(centre: float, n: int = 60, seed: int = 0, sigma: float = 0.02) -> list[float]:
    rng = np.random.default_rng(seed)
    return list(centre * (1 + sigma * rng.standard_normal(n)))


def test_a_record_is_no_faster_than_itself():
    comparison = compare(record(), record())
    assert len(comparison.changes) == 39
    assert {c.verdict for c in comparison.changes} == {"noise"}
    assert {c.ratio for c in comparison.changes} == {1.0}
    assert comparison.differences == ()


def test_a_change_beyond_noise_is_found_with_its_size_and_its_interval():
    before, after = record()[:3], slowed(record()[:3], 1.3)
    for change in compare(before, after).changes:
        assert change.verdict == "slower"
        assert change.ratio == pytest.approx(1.3)
        assert change.ci95[0] <= 1.3 <= change.ci95[1]
    for change in compare(after, before).changes:
        assert change.verdict == "faster"
        assert change.ratio == pytest.approx(1 / 1.3)


def test_the_greatest_gain_comes_first():
    before = record()[:3]
    after = [slowed([m], f)[0] for m, f in zip(before, (1.2, 0.5, 0.9), strict=True)]
    assert [c.ratio for c in compare(before, after).changes] == pytest.approx([0.5, 0.9, 1.2])


def test_two_draws_from_one_distribution_are_noise_nearly_always():
    verdicts = [
        compare(
            [measurement(noisy(0.01, seed=2 * i))], [measurement(noisy(0.01, seed=2 * i + 1))]
        ).changes[0].verdict
        for i in range(40)
    ]  # fmt: skip
    # 2 % noise on each sample puts the ratio of medians of 60 at 1 ± 0.5 %: beyond the floor of
    # 2 % it goes once in ten thousand times
    assert verdicts.count("noise") >= 39


def test_a_certain_change_below_the_floor_is_still_noise():
    before = measurement([0.01 + i * 1e-9 for i in range(60)])
    after = slowed([before], 1 + NOISE_FLOOR / 2)
    change = compare([before], after).changes[0]
    assert change.ci95[0] > 1
    assert change.verdict == "noise"


def test_the_interval_of_a_ratio_covers_the_truth_about_as_often_as_it_says():
    hits = 0
    for i in range(100):
        low, high = ratio_interval(noisy(1.0, seed=2 * i), noisy(1.1, seed=2 * i + 1))
        hits += low <= 1.1 <= high
    # 95 % of 100 has a standard deviation of 2; the bootstrap of a median is known to be
    # a little off, so four deviations down, and up to all
    assert hits >= 86


def test_neighbouring_samples_that_move_together_widen_the_interval():
    rng = np.random.default_rng(0)
    alone = 1 + 0.02 * rng.standard_normal(240)
    together = 1 + 0.02 * np.repeat(rng.standard_normal(20), 12)
    width = [high - low for low, high in (ratio_interval(s, s) for s in (alone, together))]
    assert width[1] > 1.5 * width[0]


def test_three_samples_give_no_verdict():
    change = compare([measurement([1, 1, 1])], [measurement([2, 2, 2])]).changes[0]
    assert change.ratio == 2
    assert change.verdict == "noise"
    assert "only 3 samples of the 8 for a verdict" in change.notes


def test_an_unstable_cell_says_so():
    before, after = measurement(noisy(0.01)), measurement(noisy(0.02, sigma=0.15))
    (note,) = compare([before], [after]).changes[0].notes
    assert note.startswith("after unstable: spread")


@pytest.mark.parametrize(
    ("field", "one", "other"),
    [
        ("threads", 1, 2),
        ("batch", 1, 32),
        ("size", 224, 256),
        ("folded", True, False),
        ("precision", "float32", "bfloat16"),
        ("layout", "nchw", "nhwc"),
        ("engine", "eager", "openvino"),
        ("model", "fasternet_t0", "fasternet_t1"),
        ("device", "cpu", "cuda:0"),
    ],
)
def test_records_without_a_common_cell_are_refused_with_both_values(field, one, other):
    before, after = (measurement(**{field: value}) for value in (one, other))
    with pytest.raises(RecordError, match="cannot be compared") as error:
        compare([before], [after])
    assert f"{field}: {one} before, {other} after" in str(error.value)


def test_another_protocol_is_refused():
    with pytest.raises(RecordError, match="protocol: default before, fasternet after"):
        compare([measurement()], [measurement(protocol="fasternet")])


def test_another_network_under_the_same_name_is_refused():
    with pytest.raises(RecordError, match="params of fasternet_t0: 3910000 before, 5 after"):
        compare([measurement()], [measurement(params=5)])


@pytest.mark.parametrize(
    ("field", "value"),
    [("cpu", "Another CPU"), ("cores", 64), ("governor", "powersave"), ("gpu", "A GPU")],
)
def test_another_machine_is_refused_unless_asked_for_and_then_stated(field, value):
    before, after = measurement(), measurement(machine={**MACHINE, field: value})
    stated = f"machine.{field}: {MACHINE[field] or 'unknown'} before, {value} after"
    with pytest.raises(RecordError, match="--across-machines") as error:
        compare([before], [after])
    assert stated in str(error.value)
    comparison = compare([before], [after], across_machines=True)
    assert [str(d) for d in comparison.differences] == [stated]


def test_versions_and_commits_may_differ_and_are_stated():
    after = measurement(
        commit="c0ffee1",
        engine_version="2.11.0",
        versions={"torch": "2.11.0", "fleetfoot": "0.1.0"},
    )
    assert [str(d) for d in compare([measurement()], [after]).differences] == [
        "commit: b254d22 before, c0ffee1 after",
        "engine version of eager: 2.10.0 before, 2.11.0 after",
        "version of torch: 2.10.0 before, 2.11.0 after",
    ]


def test_a_machine_that_was_itself_slower_is_stated():
    after = measurement(peak_gflops=90.0)
    (difference,) = compare([measurement()], [after]).differences
    assert str(difference) == "peak_gflops at 1 threads: 118.0 GFLOP/s before, 90.0 GFLOP/s after"


def test_cells_of_one_record_only_are_listed_and_the_rest_compared():
    before, after = record()[:5], record()[3:8]
    comparison = compare(before, after)
    assert len(comparison.changes) == 2
    assert comparison.only_before == tuple(m.cell for m in record()[:3])
    assert comparison.only_after == tuple(m.cell for m in record()[5:8])


def test_a_cell_measured_twice_is_refused():
    with pytest.raises(RecordError, match="the record after measures fasternet_t0 on eager"):
        compare([measurement()], [measurement(), measurement()])


def test_only_what_is_slower_beyond_noise_counts_against_a_limit():
    before = record()[:3]
    after = [slowed([m], f)[0] for m, f in zip(before, (1.2, 1.01, 1.06), strict=True)]
    comparison = compare(before, after)
    assert [c.cell.engine for c in comparison.slower_than(10)] == ["eager"]
    assert len(comparison.slower_than(5)) == 2
    assert len(comparison.slower_than(0)) == 2  # 1 % is below the floor


def test_a_comparison_goes_through_json_and_back():
    plain = compare(record()[:5], slowed(record()[3:8], 1.1)).as_json()
    assert json.loads(json.dumps(plain))["changes"][0]["cell"]["model"] == "fasternet_t2"


@pytest.mark.parametrize("n", [8, 30, 200])
@pytest.mark.parametrize("gain", [1.03, 1.1, 1.5])
def test_a_verdict_without_an_interval_is_the_one_that_the_interval_gives(n, gain):
    for seed in range(10):
        before = measurement(noisy(0.010 * gain, n, seed, 0.05))
        after = measurement(noisy(0.010, n, seed + 100, 0.05))
        low, high = ratio_interval(before.samples_s, after.samples_s)
        ratio = after.median_s / before.median_s
        beyond = abs(ratio - 1) > NOISE_FLOOR and not low <= 1 <= high
        expected = ("faster" if ratio < 1 else "slower") if beyond else "noise"
        assert verdict(before, after) == expected
        opposite = {"faster": "slower", "slower": "faster", "noise": "noise"}
        if abs(1 / ratio - 1) > NOISE_FLOOR:
            assert verdict(after, before) == opposite[expected]


def cell(model: str, engine: str, ms: float):
    return measurement(noisy(ms / 1e3, sigma=0.001), model=model, engine=engine)


def test_an_engine_meets_the_best_of_its_rivals_on_each_network():
    rows = [
        cell("a", "native", 10), cell("a", "openvino", 14), cell("a", "ncnn", 12),
        cell("b", "native", 10), cell("b", "openvino", 10.1), cell("b", "eager", 5),
        cell("c", "native", 10), cell("d", "openvino", 10),
    ]  # fmt: skip
    found = contests(rows, "native", ("openvino", "ncnn"))
    assert [(c.own.model, c.rival.engine, c.verdict) for c in found] == [
        ("a", "ncnn", "faster"),
        ("b", "openvino", "noise"),
    ]
    assert found[0].gain == pytest.approx(1.2, rel=0.01)
    assert [c.rival.engine for c in contests(rows, "native")] == ["ncnn", "eager"]
    assert contests(rows, "executorch") == []


def test_a_tally_says_faster_slower_and_within_noise():
    rows = [
        cell("a", "native", 10), cell("a", "eager", 12), cell("b", "native", 10),
        cell("b", "eager", 10.1), cell("c", "native", 10), cell("c", "eager", 12),
        cell("d", "native", 10), cell("d", "eager", 8),
    ]  # fmt: skip
    tally = Tally.of(contests(rows, "native"))
    assert tally == (2, 1, 1)
    assert tally.sentence("native", "eager") == (
        "native is faster than eager beyond noise on 2, within noise of it on 1 and slower beyond "
        "noise on 1 of 4 networks"
    )
