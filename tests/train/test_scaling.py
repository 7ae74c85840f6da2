"""The bytes of an update, counted by hand, and the model of its time at cases that can be told."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from fleetfoot.count.trace import trace
from fleetfoot.train.scaling import (
    BUCKET_BYTES,
    FIRST_BUCKET_BYTES,
    Link,
    Traffic,
    hiding_compute_s,
    predicted,
    traffic,
)

LINK = Link(latency_s=1e-5, bytes_per_s=1e9)


def sent(gradient_bytes=8 * 2**20, layers=0, channels=0):
    return Traffic(
        gradient_bytes=gradient_bytes, buffer_bytes=0, norm_layers=layers, norm_channels=channels
    )


def test_bytes_are_counted_from_the_trace():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1), nn.BatchNorm2d(4)
    )
    traced = trace(model, torch.zeros(1, 3, 8, 8))
    params = 3 * 8 * 9 + 2 * 8 + 8 * 4 + 4 + 2 * 4
    with_norms = traffic(traced, sync_bn=True)
    assert with_norms.gradient_bytes == 4 * params
    assert with_norms.buffer_bytes == sum(b.numel() * b.itemsize for b in model.buffers())
    assert (with_norms.norm_layers, with_norms.norm_channels) == (2, 12)
    assert with_norms.norm_bytes == 2 * (2 * 4 * 12)  # two values a channel, forward and backward
    assert traffic(traced, sync_bn=False).norm_bytes == 0


def test_buckets_hold_all_gradients():
    for size in (1, FIRST_BUCKET_BYTES, FIRST_BUCKET_BYTES + 1, 3 * BUCKET_BYTES):
        sizes = sent(size).bucket_bytes
        assert sum(sizes) == size
        assert sizes[0] <= FIRST_BUCKET_BYTES
        assert all(0 < one <= BUCKET_BYTES for one in sizes)


def test_two_processes_exchange_the_bytes_once():
    assert LINK.all_reduce_s(10**9, 2) == pytest.approx(1 + 2e-5)


def test_a_tree_takes_what_is_small_and_a_ring_what_is_large():
    assert LINK.all_reduce_s(16, 1024) == pytest.approx(2 * 10 * 1e-5, rel=1e-3)
    assert LINK.all_reduce_s(10**9, 8) == pytest.approx(14 * 1e-5 + 14 / 8)


def test_one_process_sends_nothing():
    assert predicted(0.3, sent(), 1, LINK, overlap=True).update_s == 0.3


def test_overlap_hides_all_but_the_last_bucket():
    long = predicted(10.0, sent(), 4, LINK, overlap=True)
    last = LINK.all_reduce_s(sent().bucket_bytes[-1], 4)
    assert long.gradients_s - long.hidden_s == pytest.approx(last)
    none = predicted(10.0, sent(), 4, LINK, overlap=False)
    assert none.update_s == pytest.approx(long.update_s + long.hidden_s)
    short = predicted(1e-4, sent(60 * 2**20), 4, LINK, overlap=True)
    assert short.hidden_s == pytest.approx(1e-4 * 2 / 3)  # no longer than the backward pass


def test_each_synchronised_layer_costs_its_latency():
    few = predicted(1.0, sent(layers=10, channels=640), 8, LINK, overlap=True)
    many = predicted(1.0, sent(layers=100, channels=640), 8, LINK, overlap=True)
    assert many.norms_s - few.norms_s == pytest.approx(90 * (7 + 2 * 3) * 1e-5, rel=1e-6)


@pytest.mark.parametrize("efficiency", [0.5, 0.9, 0.99])
def test_the_shortest_computation_for_an_efficiency_is_found(efficiency):
    compute = hiding_compute_s(sent(), 64, LINK, efficiency)
    made = predicted(compute, sent(), 64, LINK, overlap=True)
    assert math.isclose(made.efficiency, efficiency, rel_tol=1e-6)
