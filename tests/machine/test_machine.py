"""A machine's arithmetic, on round numbers."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from fleetfoot.machine.machine import Compute, Level, Machine, Rate, is_ceiling
from fleetfoot.machine.roofline import Floor
from fleetfoot.report.machine import print_card


def exactly(value: float) -> Rate:
    return Rate(value=value, low=value, high=value, samples=1)


def level(name: str, capacity: int | None, rate: float) -> Level:
    return Level(
        name=name,
        capacity_bytes=capacity,
        working_set_bytes=1,
        read_bytes_per_s=exactly(2 * rate),
        copy_bytes_per_s=exactly(rate),
    )


MACHINE = Machine(
    cpu="by hand",
    device="cpu",
    threads=2,
    compute={
        "float32": Compute(
            precision="float32",
            matmul_flops_per_s=exactly(80e9),
            fma_flops_per_s=exactly(100e9),
        ),
        "bfloat16": Compute(precision="bfloat16", matmul_flops_per_s=exactly(200e9)),
    },
    levels=(level("L1", 1000, 100e9), level("L2", 10_000, 50e9), level("memory", None, 10e9)),
    region_s=exactly(1e-6),
    elementwise_bytes_per_s=exactly(20e9),
    measured_at="2026-01-01T00:00:00+00:00",
)


def test_a_rate_is_what_the_faster_quartile_reached():
    samples = [50.0, 90.0, 70.0, 80.0, 60.0]
    assert Rate.of(samples) == Rate(value=80, low=50, high=90, samples=5)
    assert Rate.of(samples, larger_is_faster=False).value == 60
    assert Rate.of(samples).spread == 0.5
    with pytest.raises(ValueError, match="no"):
        Rate.of([])


def test_the_peak_is_the_faster_of_product_and_registers():
    assert MACHINE.peak_flops_per_s() == 100e9
    assert MACHINE.peak_flops_per_s("bfloat16") == 200e9
    with pytest.raises(
        ValueError, match=r"'int8' was not measured .*; measured: float32, bfloat16"
    ):
        MACHINE.peak_flops_per_s("int8")


@pytest.mark.parametrize(
    ("moved", "name"), [(1, "L1"), (1000, "L1"), (1001, "L2"), (10_001, "memory")]
)
def test_bytes_come_from_the_first_level_that_holds_them(moved, name):
    assert MACHINE.level_of(moved).name == name


def test_the_ridge_is_peak_over_read_bandwidth():
    assert MACHINE.ridge_flops_per_byte() == 100e9 / 20e9
    assert MACHINE.ridge_flops_per_byte("L1", "bfloat16") == 200e9 / 200e9
    with pytest.raises(ValueError, match="level must be one of L1, L2, memory, not 'L4'"):
        MACHINE.ridge_flops_per_byte("L4")


def test_an_unknown_capacity_holds_nothing():
    unknown = replace(MACHINE, levels=(level("L1", None, 1e9), MACHINE.levels[-1]))
    assert unknown.level_of(1).name == "memory"


def test_a_floor_is_what_takes_longest_and_the_start():
    floor = Floor(compute_s=3.0, memory_s=5.0, start_s=0.5)
    assert floor.seconds == 5.5
    assert floor.bound == "memory"
    assert replace(floor, start_s=9.0).bound == "start"


@pytest.mark.parametrize(
    ("registers", "product", "ceiling"),
    [(237.0, 190.0, True), (190.0, 190.0, True), (175.0, 194.0, False), (0.0, 0.0, False)],
)
def test_a_rate_in_registers_is_a_ceiling_unless_a_product_runs_faster(registers, product, ceiling):
    assert is_ceiling(registers, product) is ceiling


def test_a_rate_in_registers_below_the_products_is_shown_nowhere():
    console = Console(file=io.StringIO(), width=120)
    for registers, shown in ((111e9, True), (70.3e9, False)):
        compute = Compute(
            precision="float32",
            matmul_flops_per_s=exactly(80e9),
            fma_flops_per_s=exactly(registers),
        )
        assert (compute.registers_flops_per_s is not None) is shown
        with console.capture() as caught:
            print_card(console, replace(MACHINE, compute={"float32": compute}))
        assert ("111" in caught.get()) is shown
        assert "70.3" not in caught.get()
        assert (
            "is no ceiling in float32: a matrix product ran faster" in caught.get()
        ) is not shown


def busy(value: float) -> Rate:
    """A rate whose fastest sample is twice its value."""
    return Rate(value=value, low=value / 2, high=2 * value, samples=3)


def test_a_rate_far_below_its_fastest_sample_is_not_steady():
    assert Rate.of([90.0, 100.0, 110.0, 120.0]).is_steady
    assert not Rate.of([40.0, 41.0, 42.0, 43.0, 44.0, 45.0, 46.0, 120.0]).is_steady
    assert MACHINE.unsteady == ()
    disturbed = replace(MACHINE, elementwise_bytes_per_s=busy(3.0))
    assert disturbed.unsteady == ("element-wise",)


def test_of_two_measurements_the_faster_rates_stay():
    slow, quick = busy(5.0), exactly(9.0)
    other = replace(MACHINE, elementwise_bytes_per_s=quick, measured_at="later")
    for one, two in ((replace(MACHINE, elementwise_bytes_per_s=slow), other), (other, other)):
        both = one.or_faster(two)
        assert both.elementwise_bytes_per_s.value == 9.0
        assert both.measured_at == "later"
    joined = replace(MACHINE, elementwise_bytes_per_s=slow).or_faster(other)
    assert joined.elementwise_bytes_per_s.samples == slow.samples + quick.samples
    assert joined.unsteady == ()
    region = replace(MACHINE, region_s=exactly(1e-6)).or_faster(
        replace(MACHINE, region_s=exactly(9e-6))
    )
    assert region.region_s.value == 1e-6
