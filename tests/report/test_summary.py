"""The sentences say what the figures show, and nothing that they do not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleetfoot.report.summary import (
    circumstances,
    digits,
    family,
    findings,
    grouped,
    mark,
    moment,
    pareto,
    steadiness,
    verdict,
    versus,
)
from records import failure, joined, joined_record


def network(model: str, ms: float, top1: float | None = None, macs: int = 10**8, **changes):
    samples = [ms / 1e3 * (1 + 0.001 * i) for i in range(-5, 6)]
    return joined(samples, model=model, top1=top1, macs=macs, **changes)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.03214, "0.0321"), (9.126, "9.13"), (9.996, "10.0"), (25.12, "25.1"), (99.96, "100"),
        (154.4, "154"), (4089.2, "4089"), (0, "0"), (1e-6, "0.00000100"),
    ],
)  # fmt: skip
def test_three_digits_and_never_an_exponent(value, text):
    assert digits(value) == text


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("fasternet_t0", "FasterNet"),
        ("mobilenetv3_small_100", "MobileNet"),
        ("mobilenet_v2", "MobileNet"),
        ("timm:tf_mobilenetv3_large_075", "MobileNet"),
        ("shufflenet_v2_x1_0_authors", "ShuffleNet"),
        ("torchvision:resnet50", "ResNet"),
        ("timm:convnextv2_atto", "convnext"),
        ("<script>", "<script>"),
        ("", ""),
    ],
)
def test_a_family_is_read_from_the_name(model, name):
    assert family(model) == name


def test_the_front_holds_what_no_other_beats():
    a, b, c = network("a", 1, 60.0), network("b", 2, 59.0), network("c", 3, 70.0)
    d, unknown = network("d", 3, 65.0), network("e", 0.5)
    assert [m.model for m in pareto([d, c, b, a, unknown])] == ["a", "c"]


def test_fewer_macs_and_more_time_is_said_first():
    said = findings([network("lean", 20, macs=10**8), network("fat", 10, macs=3 * 10**8)])
    assert said == [
        "lean has 3.0 times fewer MACs than fat and is 2.00 times slower "
        "(10.0 GFLOPS against 60.0 GFLOPS)."
    ]


def test_fewer_macs_and_less_gain_than_they_promise_is_said():
    said = findings([network("lean", 5, macs=10**8), network("fat", 10, macs=8 * 10**8)])
    assert "lean has 8.0 times fewer MACs than fat and is only 2.0 times faster" in said[0]


def test_latency_that_follows_the_macs_is_said_too():
    said = findings([network("lean", 5, macs=10**8), network("fat", 10, macs=2 * 10**8)])
    assert said == [
        "Latency follows the MACs here: no pair of networks departs from them by a fifth."
    ]


def test_an_unstable_pair_counts_if_its_difference_is_beyond_noise():
    # the two ran in turns, so what made them unstable fell on both
    lean, fat = network("lean", 20, macs=10**8), network("fat", 10, macs=3 * 10**8)
    unstable = replace(lean, stable=False)
    assert findings([unstable, fat]) == findings([lean, fat])
    # half of the samples below the other's: the median's interval reaches from 8 to 20 ms
    wide = joined([0.008, 0.020] * 15 + [0.020], model="lean", macs=10**8, stable=False)
    assert "slower" not in findings([wide, fat])[0]


def test_a_difference_within_noise_is_not_called_slower():
    # 1.5 % more time, and every sample above: less than two runs of one program differ
    lean, fat = network("lean", 10.15, macs=10**8), network("fat", 10, macs=3 * 10**8)
    assert findings([lean, fat]) == [
        "lean has 3.0 times fewer MACs than fat and takes the same time within noise "
        "(19.7 GFLOPS against 60.0 GFLOPS)."
    ]


def test_a_page_without_a_stable_cell_has_no_headline():
    rows = [network("lean", 20, 60.0, macs=10**8), network("fat", 10, 70.0, macs=3 * 10**8)]
    assert findings(rows)
    assert findings([replace(m, stable=False) for m in rows]) == []


def test_the_front_says_which_networks_are_beaten_within_noise_only():
    a, b = network("a", 10, 60.0), network("b", 20, 70.0)
    near, far = network("near", 10.1, 59.0), network("far", 30, 65.0)
    assert findings([a, b, near, far])[0] == (
        "On the front of top-1 against latency: a and b; each of the other 2 networks is slower "
        "and no more accurate than one of these (near within noise)."
    )
    assert findings([b, network("near", 20.1, 69.0)])[0] == (
        "b is both the fastest and the most accurate of the 2 networks with a published top-1 "
        "(70.0 %, 20.0 ms; near within noise)."
    )


def test_a_step_in_accuracy_costs_time_only_beyond_noise():
    a, b = network("a", 10, 60.0), network("b", 20, 70.0)
    assert findings([a, b])[0] == (
        "Each step in accuracy costs time: none of the 2 networks is beaten."
    )
    assert findings([a, network("b", 10.1, 70.0)])[0] == (
        "None of the 2 networks is beaten in both top-1 and latency."
    )


def test_an_engine_is_faster_where_compare_says_so():
    rows = [
        network("a", 10), network("a", 20, engine="openvino"),
        network("b", 40), network("b", 10, engine="openvino"),
        network("c", 40), network("c", 10, engine="openvino"),
        network("d", 10.1), network("d", 10, engine="openvino"),
    ]  # fmt: skip
    # 0.5, 4, 4 and 1.01 times the speed: the fourth root of 8.08
    assert findings(rows)[-1] == (
        "openvino is faster than the best other engine beyond noise on 2, within noise of it on 1 "
        "and slower beyond noise on 1 of 4 networks; by medians it has 1.69 times the speed of "
        "eager, in the geometric mean over the networks that both run."
    )


def test_engines_without_a_common_network_are_not_compared():
    rows = [network("a", 10), network("b", 20, engine="openvino"), network("c", 20)]
    assert not any("engine" in sentence for sentence in findings(rows))


def test_the_winner_of_a_network_is_faster_than_each_other_engine_beyond_noise():
    rows = [
        network("a", 10, engine="native"), network("a", 20, engine="openvino"),
        network("b", 10, engine="native"), network("b", 10.1, engine="openvino"),
        network("c", 10, engine="native"),
    ]  # fmt: skip
    _, lines = versus(rows)
    assert {line.model: line.winner for line in lines} == {"a": "native", "b": None, "c": None}


def test_noise_comes_first_and_says_what_the_figures_are_worth():
    assert next(iter(dict(circumstances(joined_record())))) == "noise"
    assert steadiness(joined_record()) == "36 of 39 cells are stable"
    assert steadiness(joined_record()[:1]) == "the cell is stable"
    shaky = [replace(m, stable=i > 10) for i, m in enumerate(joined_record()[:20])]
    assert steadiness(shaky).endswith("these figures are no ground for a decision")


def test_a_rate_in_registers_below_the_products_is_no_ceiling():
    rows = [joined(peak_gflops=194.0, fma_gflops=175.0)]
    assert dict(circumstances(rows))["ceilings"] == (
        "1 thread: 194 GFLOP/s in a matrix product, 9.40 GB/s in a copy"
    )


def test_one_network_on_one_engine_shows_nothing():
    assert findings([network("a", 10, 70.0)]) == []


def test_cells_that_cannot_stand_together_are_in_groups_of_their_own():
    rows = (
        joined_record(batch=32, threads=2)
        + joined_record()
        + [joined(folded=False, precision="bfloat16")]
    )
    assert [str(group) for group in grouped(rows)] == [
        "1 thread, batch 1, bfloat16, not folded",
        "1 thread, batch 1",
        "2 threads, batch 32",
    ]


def test_noise_is_said_with_its_size():
    noisy = joined([0.01, 0.01, 0.01, 0.012, 0.014, 0.014, 0.014], steady=False)
    assert verdict(noisy) == (
        "unstable: spread 33 %, drifted by 40 % between its halves, no steady state in the warm-up"
    )
    assert mark(noisy) == "unstable: spread 33 %"
    assert verdict(joined(stable=False, spread=0.031)) == "unstable: spread 3 %"
    assert verdict(joined()) == ""


def test_a_few_unstable_cells_are_named_and_many_are_a_warning():
    said = dict(circumstances(joined_record()))["noise"]
    assert said.startswith("36 of 39 cells are stable; not fastvit_t8 on eager (spread 21 %), ")
    shaky = [replace(m, stable=False) for m in joined_record()]
    said = dict(circumstances(shaky))["noise"]
    assert said.startswith("0 of 39 cells are stable, the worst mobilenetv3_large_100 on openvino")
    assert "no ground for a decision" in said
    assert dict(circumstances([joined()]))["noise"] == "the cell is stable"


def test_how_it_was_measured_names_ceilings_harness_fold_versions_and_absences():
    said = dict(circumstances(joined_record(), [failure(), failure(model="fasternet_t0")]))
    assert said["machine"] == (
        "Example CPU @ 2.50GHz, 2 cores, 8.00 GiB, governor unknown, Linux 6.1"
    )
    assert (
        said["ceilings"]
        == "1 thread: 118 GFLOP/s in a matrix product, 137 in registers alone, 9.40 GB/s in a copy"
    )
    assert said["harness"].startswith("2.10 µs a batch")
    assert "differ by at most 3.1e-14 (relative 8.2e-15)" in said["fold"]
    assert said["run"] == (
        "protocol default, 2025-01-02 03:04 UTC, fleetfoot 0.1.0, torch 2.10.0, commit b254d22"
    )
    assert said["did not run"].startswith("fastvit_t8, fasternet_t0 on compiled: torch.compile")
    assert "no published figure is known for timm:mobilevit_xxs" in said["top-1"]


def test_a_moment_is_shown_in_utc_and_an_odd_one_as_it_is():
    assert moment("2025-01-02T05:04:05+02:00") == "2025-01-02 03:04 UTC"
    assert moment("2025-01-02T03:04:05Z") == "2025-01-02 03:04 UTC"
    assert moment("yesterday") == "yesterday"
