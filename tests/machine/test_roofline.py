"""Floors and the bytes of operators that run as one, counted by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fleetfoot.count import trace
from fleetfoot.machine.roofline import floor, moved_outside
from layers_by_hand import Block, X, machine

MAP = 1024  # bytes of X and of every map behind it


def whole(model: nn.Module, x: Tensor = X) -> tuple:
    return trace(model, x).operators


def test_what_passes_between_operators_of_a_group_does_not_move():
    conv, relu, add = operators = whole(Block())
    assert [op.bytes_read + op.bytes_written for op in (conv, relu, add)] == [
        2 * MAP + 64, 2 * MAP, 3 * MAP,
    ]  # fmt: skip
    assert moved_outside({0}, operators) == 2 * MAP + 64  # as it runs alone
    assert moved_outside({0, 1}, operators) == 2 * MAP + 64  # the map between stays
    assert moved_outside({1, 2}, operators) == 3 * MAP
    assert moved_outside({0, 1, 2}, operators) == 2 * MAP + 64  # x is read once
    assert moved_outside(set(), operators) == 0


def test_a_map_that_another_group_reads_later_is_written():
    class Two(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x.relu()
            return y.sigmoid() + y

    operators = whole(Two())
    assert moved_outside({0, 1}, operators) == 3 * MAP  # x in; y and its sigmoid out
    assert moved_outside({0, 1, 2}, operators) == 2 * MAP


def test_an_operator_in_place_writes_what_it_read():
    class InPlace(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x + 1).relu_()

    operators = whole(InPlace())
    assert operators[0].writes == operators[1].reads == operators[1].writes
    assert moved_outside({0, 1}, operators) == 2 * MAP
    assert moved_outside({1}, operators) == 2 * MAP


def test_memory_that_is_used_again_has_another_number():
    class Chain(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            for _ in range(6):
                x = x + 1
            return x

    numbers = [op.writes[0] for op in whole(Chain())]
    assert len(set(numbers)) == 6


def test_views_of_a_map_lie_in_its_memory():
    class Halves(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            a, b = (x + 1).chunk(2, 1)
            return a * b

    add, mul = operators = whole(Halves())
    assert mul.reads == add.writes * 2
    # a lower bound: of two reads of one memory, the largest alone
    assert moved_outside({1}, operators) == MAP // 2 + MAP // 2


def test_the_floor_of_a_group_by_hand():
    operators = whole(Block())
    found = floor(operators, machine(), moved_bytes=2112)
    # 2 · 4 · 4 · 64 of the convolution, 256 each of the activation and the sum
    assert found.compute_s == pytest.approx((2048 + 256 + 256) / 100e9)
    # 2112 bytes, of which the first cache can hold 1000: the others come from the second
    assert found.memory_s == pytest.approx(max(2112 / 200e9, (2112 - 1000) / 100e9))
    assert found.start_s == 0  # one thread starts no other
    assert found.bound == "compute"
    assert found.seconds == found.compute_s


def test_bytes_beyond_all_caches_come_from_memory():
    found = floor([], machine(), moved_bytes=1_010_000)
    assert found.memory_s == pytest.approx(1_000_000 / 20e9)
    assert floor([], machine(), moved_bytes=900).memory_s == pytest.approx(900 / 200e9)
    cached = floor([], machine(), moved_bytes=1_010_000, cached=True)
    assert cached.memory_s == pytest.approx(1_010_000 / 200e9)


def test_a_start_counts_where_there_are_several_threads():
    found = floor(whole(Block()), machine(threads=2), starts=3)
    assert found.start_s == pytest.approx(3e-6)
    assert found.bound == "start"


def test_winograds_share_lowers_the_products_alone():
    operators = whole(Block())
    found = floor(operators, machine(), macs_share=0.25)
    assert found.compute_s == pytest.approx((2048 / 4 + 512) / 100e9)


def test_a_precision_that_was_not_measured_is_named():
    with pytest.raises(ValueError, match=r"'bfloat16' was not measured .*; measured: float32"):
        floor(whole(Block()), machine(), precision="bfloat16")


def test_operators_of_values_count_as_those_without():
    x = torch.randn(1, 4, 8, 8)
    given = trace(Block(), x, on="given").operators
    assert moved_outside({0, 1, 2}, given) == moved_outside({0, 1, 2}, whole(Block()))
