"""Each rule on a network that breaks it and on one that nearly does, counted by hand.

On the machine of round numbers a multiply-add takes 20 ps, a byte 100 ps, a start 5 µs, and a large
product is as fast as the peak.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fleetfoot.count import trace
from fleetfoot.errors import UnknownNameError
from fleetfoot.explain.denormals import denormals
from fleetfoot.explain.rules import LEAST_SHARE, RULES, findings, rule, worth_saying
from fleetfoot.explain.rules.examples import EXAMPLES, ROUND, repeated
from fleetfoot.explain.rules.pricing import modelled_layers
from fleetfoot.models import create_model
from fleetfoot.ops.squeeze_excite import SqueezeExcite

MAC_S, BYTE_S, START_S = 20e-12, 100e-12, 5e-6
STEM = (1, 4, 10, 10)


class Forward(nn.Module):
    """A module whose forward is a function, and its children."""

    def __init__(self, forward, **children):
        super().__init__()
        self.function = forward
        for name, child in children.items():
            self.add_module(name, child)

    def forward(self, x):
        return self.function(self, x)


def found(code, network, shape, *, machine=ROUND, times=None, **options):
    """Its findings by one rule. ``times``: measured seconds by module, 0 for the others."""
    traced = trace(network.eval(), torch.zeros(shape))
    layers = None
    if times is not None:
        rows = modelled_layers(traced, machine)
        assert set(times) <= {row.module for row in rows}
        layers = [replace(row, time_s=times.get(row.module, 0.0)) for row in rows]
    rows = findings(traced, machine, layers=layers, **options)
    return [row for row in rows if row.rule == code]


def conv(c1, c2, kernel=1, **options):
    return nn.Conv2d(c1, c2, kernel, padding=kernel // 2, bias=False, **options)


def test_g1_prices_the_bytes_beyond_equal_widths():
    # behind the stem, 100 positions of 2 → 8 channels: 4·(100·10 + 16) = 4064 bytes; equal widths
    # would be 4 → 4 of the same 16 multiply-adds a position: 4·(100·8 + 16) = 3264
    (one,) = found("G1", nn.Sequential(conv(4, 2, 3), conv(2, 8)), STEM)

    assert (one.module, one.number, one.bound, one.unit) == ("1", 4064, 3264, "bytes")
    assert one.price_s == pytest.approx(800 * BYTE_S)
    assert (one.name, one.basis) == ("unequal-channel-widths", "modelled")
    assert "2 → 8" in one.text
    assert "4 : 4" in one.change


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(conv(4, 4, 3), conv(4, 8)),  # 1 : 2 moves 6 % more
        nn.Sequential(conv(4, 64)),  # it reads the network's input
        nn.Sequential(conv(4, 2, 3), conv(2, 8, 3)),  # no 1×1 convolution
    ],
    ids=["1 : 2", "input", "3×3"],
)
def test_g1_near_misses(network):
    assert not found("G1", network, STEM)


def test_g1_costs_nothing_where_multiply_adds_are_the_floor():
    # 16 → 96 channels: 1536 multiply-adds a position, 31 ns, against 448 bytes, 45 ns; ten times
    # wider the work grows a hundredfold and the bytes tenfold
    assert found("G1", nn.Sequential(conv(4, 16, 3), conv(16, 96)), STEM)
    assert not found("G1", nn.Sequential(conv(4, 160, 3), conv(160, 960)), STEM)


def test_g1_is_at_most_the_extra_bytes_share_of_the_time_above_the_multiply_adds():
    # 2 → 8 channels on 100 positions: 4·(200 + 800 + 16) = 4064 bytes; at equal widths, 4 → 4 has
    # the same 16 multiply-adds a position and moves 4·(800 + 16) = 3264
    network = nn.Sequential(conv(4, 2, 3), conv(2, 8))
    compute_s = 1600 * MAC_S
    (one,) = found("G1", network, STEM, times={"0": 1e-6, "1": compute_s + 10e-9})

    assert one.price_s == pytest.approx(10e-9 * (4064 - 3264) / 4064)
    assert one.basis == "measured"


def test_g2_prices_an_ungrouped_convolution_of_the_same_multiply_adds():
    # 8 → 8 in 4 groups on 100 positions: 4·(1600 + 16) = 6464 bytes; ungrouped 4 → 4 has the same
    # 16 multiply-adds a position and moves 4·(800 + 16) = 3264
    (one,) = found("G2", conv(8, 8, groups=4), (1, 8, 10, 10))

    assert (one.number, one.bound) == (6464, 3264)
    assert one.price_s == pytest.approx(3200 * BYTE_S)
    assert "4 groups" in one.text
    assert "4 → 4" in one.change


def test_g2_measured_takes_the_rate_of_the_networks_dense_layers():
    # half of the peak: 12,800 multiply-adds in 512 ns, so the 1600 of the grouped layer would take
    # 64 ns, less than its 3264 bytes, 326.4 ns, and a start
    network = nn.Sequential(conv(8, 8, groups=4), conv(8, 16))
    times = {"0": 20e-6, "1": 12_800 * 2 * MAC_S}
    (one,) = found("G2", network, (1, 8, 10, 10), times=times)

    assert one.price_s == pytest.approx(20e-6 - 3264 * BYTE_S - START_S)


@pytest.mark.parametrize("groups", [1, 8], ids=["ungrouped", "depthwise"])
def test_g2_near_misses(groups):
    assert not found("G2", conv(8, 8, groups=groups), (1, 8, 10, 10))


def branches(count, join):
    layers = nn.ModuleList(conv(8, 8) for _ in range(count))
    return Forward(lambda self, x: join([layer(x) for layer in self.layers]), layers=layers)


@pytest.mark.parametrize("join", [sum, torch.cat], ids=["sum", "concat"])
def test_g3_prices_starts_and_reads_of_branches(join):
    # three convolutions of 4·(1600 + 64) bytes and a start each, against one that reads 3200 bytes
    # once, writes three times as many, has all the weights, and starts once
    (one,) = found("G3", branches(3, join), (1, 8, 10, 10))

    together = 3 * (6656 * BYTE_S + START_S)
    alone = (3200 + 3 * 3200 + 3 * 256) * BYTE_S + START_S
    assert (one.number, one.bound, one.unit) == (3, 1, "convolutions")
    assert one.price_s == pytest.approx(together - alone)
    assert "3 branches" in one.text


def test_g3_near_misses():
    assert not found("G3", branches(2, sum), (1, 8, 10, 10))
    residual = Forward(lambda self, x: x + self.body(x), body=nn.Sequential(*[conv(8, 8)] * 3))
    assert not found("G3", residual, (1, 8, 10, 10))


def test_g3_sees_rows_of_layers_that_take_longer_to_start():
    row = nn.Sequential(*(conv(8, 8) for _ in range(4)))
    (one,) = found("G3", row, (1, 8, 10, 10))

    assert one.number == 4
    assert one.price_s == pytest.approx(3 * START_S)
    assert not found("G3", row[:3], (1, 8, 10, 10))
    assert not found("G3", row, (1, 8, 100, 100))  # 100 times the work
    assert not found("G3", row, (1, 8, 10, 10), machine=replace(ROUND, threads=1))  # no starts


def test_g4_prices_what_cannot_join_the_layer_before():
    # the input is read by the activation and by the sum: 3200 bytes read, 3200 written
    first = Forward(lambda self, x: x + self.conv(F.relu(x)), conv=conv(8, 8))
    rows = found("G4", first, (1, 8, 10, 10))

    assert [(one.number, one.bound) for one in rows] == [(6400, 0)]
    assert rows[0].price_s == pytest.approx(6400 * BYTE_S + START_S)


def test_g4_leaves_out_what_an_engine_fused():
    behind = nn.Sequential(conv(8, 8), nn.ReLU())
    assert not found("G4", behind, (1, 8, 10, 10))
    assert not found("G4", behind, (1, 8, 10, 10), times={"0": 1e-3})
    (one,) = found("G4", behind, (1, 8, 10, 10), times={"0": 1e-3, "1": 1e-4})
    assert one.price_s == pytest.approx(1e-4)


def test_g4_of_a_sum_is_what_fusing_saves():
    # two of the three maps that an own pass moves: the shortcut is read either way
    network = Forward(lambda self, x: x + self.conv(x), conv=conv(8, 8))
    (one,) = found("G4", network, (1, 8, 10, 10), times={"": 3e-4, "conv": 1e-3})

    assert (one.number, one.bound) == (9600, 3200)
    assert one.price_s == pytest.approx(2e-4)


def test_b1_says_whether_a_norm_folds():
    behind = nn.Sequential(conv(8, 8), nn.BatchNorm2d(8))
    first = nn.Sequential(nn.BatchNorm2d(8), conv(8, 8))
    (folds,) = found("B1", behind, (1, 8, 10, 10))
    (moves,) = found("B1", first, (1, 8, 10, 10))

    # 800 values read and written, four of 8 channels beside them
    assert folds.number == moves.number == 4 * (1600 + 4 * 8)
    assert folds.price_s == pytest.approx(6528 * BYTE_S + START_S)
    assert "fleetfoot fuse" in folds.change
    assert "fleetfoot fuse" not in moves.change
    assert not found("B1", behind, (1, 8, 10, 10), times={"0": 1e-3})  # the engine folded it


def widened(channels, wide):
    return nn.Sequential(
        conv(channels, wide), nn.ReLU(), conv(wide, wide, 3, groups=wide), conv(wide, channels)
    )


def test_d1_prices_a_partial_convolution_in_place_of_a_widened_depthwise_one():
    # depthwise on 48 channels: 4·(100·96 + 9·48) bytes; plain on 8: 4·(100·16 + 9·64); a partial
    # one convolves 2, which take a vector of 16: 9·2·16·100 multiply-adds, which outlast its
    # 4·(100·4 + 36) bytes; and it copies 8 channels
    (one,) = found("D1", widened(8, 48), (1, 8, 10, 10))

    assert (one.number, one.bound) == (40_128, 8704)
    partial = 28_800 * MAC_S + 2 * 3200 * BYTE_S
    assert one.price_s == pytest.approx(40_128 * BYTE_S - partial)
    assert "of 2 of them" in one.change


def test_d1_near_misses():
    assert not found("D1", widened(8, 8), (1, 8, 10, 10))  # MobileNetV1's: nothing is widened
    # on 4 positions the plain convolution's 9·64 weights outweigh the maps
    assert not found("D1", widened(8, 16), (1, 8, 2, 2))


def test_c1_and_l1_tell_a_shuffle_from_a_layout():
    shuffle = Forward(lambda self, x: x.unflatten(1, (2, 4)).transpose(1, 2).flatten(1, 2))
    layout = Forward(lambda self, x: x.permute(0, 2, 3, 1).contiguous())
    for network, mine, other in ((shuffle, "C1", "L1"), (layout, "L1", "C1")):
        (one,) = found(mine, network, (1, 8, 10, 10))
        assert (one.number, one.bound) == (6400, 0)
        assert one.price_s == pytest.approx(6400 * BYTE_S + START_S)
        assert not found(other, network, (1, 8, 10, 10))


def test_c1_of_a_concat_that_an_engine_does_in_place():
    network = Forward(lambda self, x: torch.cat((self.conv(x), x), 1), conv=conv(8, 8))

    assert [one.number for one in found("C1", network, (1, 8, 10, 10))] == [12_800]
    assert not found("C1", network, (1, 8, 10, 10), times={"conv": 1e-3})
    views = Forward(lambda self, x: x.permute(0, 2, 3, 1))
    assert not found("L1", views, (1, 8, 10, 10))  # nothing is copied


def test_v1_prices_lanes_thrown_away():
    # 24 of 32 lanes: 100 positions · 9·32·24 multiply-adds take as long as 9·32·32; bytes are less
    layer = conv(32, 24, 3)
    (one,) = found("V1", layer, (1, 32, 10, 10))

    assert (one.number, one.bound, one.unit) == (0.25, 0.1, "share of lanes")
    assert one.price_s == pytest.approx(100 * 9 * 32 * 8 * MAC_S)
    assert "32 channels for the same time, or 16" in one.change


def test_v1_near_misses():
    assert not found("V1", conv(32, 116, 3), (1, 32, 10, 10))  # 9 % of 128
    assert not found("V1", conv(32, 24, 3), (1, 32, 10, 10), machine=on("neon"))  # 24 = 6·4
    assert not found("V1", conv(32, 24, 3), (1, 32, 10, 10), machine=on("plain"))
    assert not found("V1", conv(2, 24), (1, 2, 10, 10))  # the memory is the floor


def on(instruction_set):
    return replace(ROUND, instruction_set=instruction_set)


def attention(tokens, fused=False):
    def forward(self, x):
        if fused:
            return F.scaled_dot_product_attention(x, x, x)
        return (x @ x.mT).softmax(-1) @ x

    return Forward(forward), (1, 2, tokens, 8)


def test_a1_prices_scores_beyond_four_times_the_head():
    # 64 tokens, heads of 8: bound 32. Two products of 2·64·64·8 multiply-adds each read or write
    # 2·4096 scores and two or one of 1024 values; the softmax reads and writes the scores
    (one,) = found("A1", *attention(64))

    scores, values = 4 * 8192, 4 * 1024
    first = max(65_536 * MAC_S, (scores + 2 * values) * BYTE_S)
    second = max(65_536 * MAC_S, (scores + 2 * values) * BYTE_S)
    softmax = 2 * scores * BYTE_S
    assert (one.number, one.bound, one.unit) == (64, 32, "tokens")
    assert one.price_s == pytest.approx((first + second + softmax + 3 * START_S) / 2)
    assert "2 score maps are 32.8 kB" in one.text
    assert found("A1", *attention(64, fused=True))


def test_a1_near_misses():
    assert not found("A1", *attention(32))
    assert not found("A1", Forward(lambda self, x: x.softmax(-1)), (1, 2, 64, 64))


def test_f1_wants_a_time_far_above_the_floor_that_matters():
    network = nn.Sequential(conv(8, 8), conv(8, 8))
    floor_s = 6656 * BYTE_S + START_S
    (one,) = found("F1", network, (1, 8, 10, 10), times={"0": floor_s, "1": 10 * floor_s})

    assert (one.module, one.number, one.bound) == ("1", pytest.approx(10), 4)
    assert one.price_s == pytest.approx(6 * floor_s)
    assert not found("F1", network, (1, 8, 10, 10), times={"0": floor_s, "1": 3.9 * floor_s})
    slow = nn.Sequential(nn.AvgPool2d(3, 1, 1), conv(8, 8))  # the convolution is 1 % of its time
    assert not found("F1", slow, (1, 8, 10, 10), times={"0": 1000 * floor_s, "1": 10 * floor_s})
    assert not found("F1", network, (1, 8, 10, 10))  # nothing was measured


def test_s1_prices_all_from_the_pooling_to_the_scaling():
    # pooling reads 3200 bytes, the scaling reads and writes as many; the rest is small
    network = nn.Sequential(conv(8, 8), SqueezeExcite(8, 2))
    (one,) = found("S1", network, (1, 8, 10, 10))
    rows = trace(network, torch.zeros(1, 8, 10, 10)).operators[1:]

    alone = [op for op in rows if "relu" not in op.name and "sigmoid" not in op.name]  # fused
    moved = sum(op.bytes_read + op.bytes_written for op in alone)
    assert len(alone) == 4
    assert one.price_s == pytest.approx(moved * BYTE_S + 4 * START_S)
    assert one.bound == pytest.approx(10)  # 100 GFLOP/s over 10 GB/s
    assert one.number < one.bound
    assert not found("G4", network, (1, 8, 10, 10))  # its scaling is priced once


def test_s1_near_misses():
    gated = Forward(lambda self, x: x * self.gate, gate=nn.Identity())
    gated.gate = nn.Parameter(torch.ones(1, 8, 1, 1))  # a learned scale waits for nothing
    assert not found("S1", gated, (1, 8, 10, 10))
    squared = Forward(lambda self, x: self.conv(x) * x, conv=conv(8, 8))
    assert not found("S1", squared, (1, 8, 10, 10))


def test_e1_passes_on_what_the_engine_says():
    network = nn.Sequential(conv(8, 8), nn.AvgPool2d(2))
    note = "outside XNNPACK: 1 aten.avg_pool2d.default"
    options = {"times": {"0": 1e-3, "1": 1e-4}, "engine": "executorch"}
    (one,) = found("E1", network, (1, 8, 10, 10), engine_note=note, **options)

    assert (one.module, one.number) == ("1", 1)
    assert one.price_s == pytest.approx(1e-4)
    assert note in one.text
    (unknown,) = found("E1", network, (1, 8, 10, 10), engine_note="2 odd ones", **options)
    assert (unknown.module, unknown.number, unknown.price_s) == ("", 0, 0)
    assert not found("E1", network, (1, 8, 10, 10), **options)


def test_e1_names_layers_in_reference_kernels_by_what_they_take_above_their_floor():
    network = nn.Sequential(conv(8, 8), nn.AvgPool2d(2))
    options = {"times": {"0": 1e-3, "1": 5e-4}, "engine": "openvino"}
    reference = {"1": ["AvgPool ref_any_f32"]}
    (one,) = found("E1", network, (1, 8, 10, 10), reference=reference, **options)

    assert (one.module, one.number) == ("1", 1)
    assert 0 < one.price_s < 5e-4
    assert "openvino has no fast kernel for AvgPool ref_any_f32" in one.text
    options["times"]["1"] = 0.004 * 1e-3
    assert not found("E1", network, (1, 8, 10, 10), reference=reference, **options)


def test_n1_names_denormal_weights_and_maps_of_slow_layers():
    network = nn.Sequential(conv(4, 8), conv(8, 8), conv(8, 8))
    with torch.no_grad():
        network[0].weight[:2] = 1e-39  # two of the maps that the second layer reads
        network[1].weight.view(-1)[:16] = 1e-39
    held = denormals(network, torch.ones(STEM))
    assert {name: (row.weights, row.of_weights) for name, row in held.items()} == {
        "0": (8, 32),
        "1": (16, 64),
        "2": (0, 64),  # it reads two maps of the second layer
    }
    assert held["2"].maps >= 200
    assert (held["0"].maps, held["0"].of_maps) == (200, 400 + 800)
    options = {"engine": "eager", "denormals": held}
    times = {"0": 1e-6, "1": 1e-3, "2": 1e-6}
    (one,) = found("N1", network, STEM, times=times, **options)
    # 100 positions of 8 → 8 channels: 6,400 multiply-adds and 6,656 bytes, which bind, and a start
    floor_s = max(6400 * MAC_S, (100 * 16 + 64) * 4 * BYTE_S) + START_S
    assert (one.module, one.number, one.bound) == ("1", 24, 0)
    assert one.price_s == pytest.approx(1e-3 - 4 * floor_s)
    assert "24 weights of the network" in one.text
    assert "here 16 of 64 weights" in one.text
    assert "set_flush_denormal" in one.change
    # near misses: fast layers, an engine that flushes, a network without such numbers, no times
    assert not found("N1", network, STEM, times=dict.fromkeys("012", 1e-6), **options)
    assert not found("N1", network, STEM, times=times, engine="native")
    assert not found("N1", network, STEM, **options)
    assert not denormals(conv(4, 8), torch.ones(STEM))


@pytest.mark.parametrize("code", EXAMPLES)
def test_each_example_breaks_its_rule_and_the_mended_one_less(code):
    example = EXAMPLES[code]
    options = {}
    if example.times_floor:
        rows = modelled_layers(trace(repeated(example.broken), torch.zeros(example.shape)), ROUND)
        times = {row.module: row.time_s * example.times_floor for row in rows}
        options = {"times": times, "engine": "engine", "engine_note": example.engine_note}
    if example.denormals:
        options["denormals"] = denormals(repeated(example.broken), torch.zeros(example.shape))
    broken = found(code, repeated(example.broken), example.shape, **options)
    assert broken
    if example.mended is None:
        return
    shape = example.mended_shape or example.shape
    mended = found(code, repeated(example.mended), shape)
    assert sum(one.price_s for one in mended) <= sum(one.price_s for one in broken) / 2


def test_prices_come_highest_first_and_small_ones_apart():
    traced = trace(create_model("mobilenetv2_100").eval(), torch.zeros(1, 3, 64, 64))
    every = findings(traced, ROUND)
    prices = [one.price_s for one in every]
    total_s = sum(layer.time_s for layer in modelled_layers(traced, ROUND))
    said, minor = worth_saying(every, total_s)

    assert prices == sorted(prices, reverse=True)
    assert min(prices) > 0
    assert said
    assert minor
    assert said + minor == every
    assert min(one.price_s for one in said) >= LEAST_SHARE * total_s
    assert not [one for one in every if one.price_s > total_s]
    assert not worth_saying(every, total_s, least_price_s=1.0)[0]


def test_a_disabled_rule_is_not_asked_and_an_unknown_one_is_an_error():
    traced = trace(conv(8, 8, groups=4), torch.zeros(1, 8, 10, 10))

    assert not findings(traced, ROUND, disable=["many-groups"])
    with pytest.raises(UnknownNameError, match="G5"):
        findings(traced, ROUND, disable=["G5"])
    assert rule("G2") is rule("many-groups") is RULES["G2"]


def test_layers_of_another_trace_are_refused():
    first, second = (trace(conv(8, 8), torch.zeros(1, 8, 10, 10)) for _ in range(2))

    with pytest.raises(ValueError, match="1 of the 1 operators"):
        findings(first, ROUND, layers=modelled_layers(second, ROUND))
