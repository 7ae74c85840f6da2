"""The plan file: readable as safetensors, its graph complete, its checksum over all of it."""

import json
import math

import numpy as np
import pytest
from hand import Hand
from safetensors import safe_open

from fleetfoot.engines.native import arena, compile, plan
from fleetfoot.engines.native.cpu.strips import StripOptions
from fleetfoot.engines.native.graph import Graph

MASK = (1 << 64) - 1
PRIMES = (
    0x9E3779B185EBCA87,
    0xC2B2AE3D27D4EB4F,
    0x165667B19E3779F9,
    0x85EBCA77C2B2AE63,
    0x27D4EB2F165667C5,
)


def xxh64(data: bytes, seed: int) -> int:
    """XXH64, from its specification
    (https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md)."""

    def left(x: int, n: int) -> int:
        return (x << n | x >> (64 - n)) & MASK

    def round_(total: int, lane: int) -> int:
        return left((total + lane * PRIMES[1]) & MASK, 31) * PRIMES[0] & MASK

    def lane(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], "little")

    at = 0
    if len(data) >= 32:
        totals = [seed + PRIMES[0] + PRIMES[1], seed + PRIMES[1], seed, seed - PRIMES[0]]
        totals = [total & MASK for total in totals]
        while at + 32 <= len(data):
            totals = [round_(total, lane(at + 8 * i, 8)) for i, total in enumerate(totals)]
            at += 32
        rotated = zip(totals, (1, 7, 12, 18), strict=True)
        total = sum(left(x, n) for x, n in rotated) & MASK
        for x in totals:
            total = ((total ^ round_(0, x)) * PRIMES[0] + PRIMES[3]) & MASK
    else:
        total = (seed + PRIMES[4]) & MASK
    total = (total + len(data)) & MASK
    while at + 8 <= len(data):
        total = (left(total ^ round_(0, lane(at, 8)), 27) * PRIMES[0] + PRIMES[3]) & MASK
        at += 8
    if at + 4 <= len(data):
        total = left(total ^ lane(at, 4) * PRIMES[0] & MASK, 23) * PRIMES[1] + PRIMES[2] & MASK
        at += 4
    for byte in data[at:]:
        total = left(total ^ byte * PRIMES[4] & MASK, 11) * PRIMES[0] & MASK
    total = (total ^ total >> 33) * PRIMES[1] & MASK
    total = (total ^ total >> 29) * PRIMES[2] & MASK
    return total ^ total >> 32


def network() -> Graph:
    hand = Hand(28, 28, 8)
    x = hand.unary(hand.conv(hand.x, 16, kernel=3, padding=1), "clamp", -math.inf, 6.0)
    x = hand.unary(hand.conv(hand.depthwise(x), 8), "gelu")
    return hand.finish(hand.conv(hand.mean(x), 10))


def compiled() -> compile.CompiledGraph:
    options = StripOptions(small_bytes=0, budget_bytes=40_000, halo=1.0)
    return compile.finish(network(), options=compile.CompileOptions(strips=options))


def test_xxh64_here_gives_the_published_values():
    """Of the empty string, from xxHash's own self test; "abc", from many libraries' tests."""
    assert xxh64(b"", 0) == 0xEF46DB3751D8E999
    assert xxh64(b"abc", 0) == 0x44BC2CF5AD770999


def test_any_reader_of_safetensors_sees_the_constants(tmp_path):
    result = compiled()
    path = tmp_path / "network.plan"
    result.save(path, checksum=xxh64)
    constants = {t.name: t for t in result.graph.tensors() if t.kind == "constant"}
    with safe_open(path, "numpy") as file:
        assert set(file.keys()) == set(constants)
        for name, tensor in constants.items():
            np.testing.assert_array_equal(file.get_tensor(name), tensor.data)
        metadata = file.metadata()
    assert (metadata["format"], metadata["version"]) == ("fleetfoot-plan", "3")
    assert path.read_bytes() == result.bytes(checksum=xxh64)
    assert [p.name for p in tmp_path.iterdir()] == ["network.plan"]


def test_every_tensor_starts_at_a_cache_line_and_the_checksum_covers_data_and_graph():
    content = compiled().bytes(checksum=xxh64)
    size = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + size]), content[8 + size :]
    metadata = header.pop("__metadata__")

    assert (8 + size) % 64 == 0
    assert all(entry["data_offsets"][0] % 64 == 0 for entry in header.values())
    assert max(entry["data_offsets"][1] for entry in header.values()) == len(data)
    expected = xxh64(metadata["graph"].encode(), xxh64(data, 0))
    assert metadata["checksum"] == f"{expected:016x}"


def test_the_graph_says_all_that_the_graph_holds():
    result = compiled()
    graph = json.loads(plan.graph_text(result.graph, result.memory))
    tensors = list(result.graph.tensors())

    assert (graph["arena"], graph["rings"]) == (result.memory.arena, result.memory.rings)
    assert [t["kind"] for t in graph["tensors"]] == [t.kind for t in tensors]
    assert graph["inputs"] == [[0, 0, [8, 28, 28], [784, 28, 1]]]
    pairs = zip(graph["nodes"], result.graph.nodes, strict=True)
    strip, node = next((g, n) for g, n in pairs if n.nodes)
    assert strip["attr"] == {"rows": node.attributes["rows"]}
    assert [inner["op"] for inner in strip["nodes"]] == [inner.op for inner in node.nodes]
    rings = [t for t in graph["tensors"] if t["kind"] == "ring"]
    assert rings
    assert all(t["ring"] > 0 and t["offset"] + 4 * t["size"] <= graph["rings"] for t in rings)
    acts = [inner["attr"].get("act") for n in graph["nodes"] for inner in n.get("nodes", [n])]
    assert ["clamp", "-inf", 6.0] in acts


def test_a_plan_is_the_same_each_time():
    assert compiled().bytes(checksum=xxh64) == compiled().bytes(checksum=xxh64)


def test_a_number_that_is_not_finite_is_refused():
    hand = Hand(4, 4, 8)
    graph = hand.finish(hand.unary(hand.x, "scale", math.nan, 1.0))
    with pytest.raises(ValueError, match=r"unary of layers\.1: act is nan"):
        plan.graph_text(graph, arena.Memory(0, 0))


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    def fails(data: bytes, seed: int) -> int:
        raise OSError("disk full")

    path = tmp_path / "network.plan"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="disk full"):
        compiled().save(path, checksum=fails)
    with pytest.raises(OSError, match=r"network\.plan"):
        compiled().save(path / "below_a_file.plan", checksum=xxh64)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["network.plan"]


def test_a_summary_counts_nodes_and_bytes():
    result = compiled()
    summary = result.summary()

    assert summary.nodes["strip"] >= 1
    assert summary.nodes["conv"] == 3
    assert summary.arena_bytes == result.memory.arena
    # 16 x 8 x 9, the same for tiles of 6 x 6, and 1x1s of 16 x 16 (8 padded to 16) and 8 x 16;
    # depthwise 9 x 16; four biases
    convolutions = 16 * 8 * (9 + 36) + 16 * 16 + 8 * 16
    assert summary.weight_bytes == 4 * (convolutions + 9 * 16 + 4 * 16)


def test_without_strips_every_node_stands_alone():
    result = compile.finish(network(), options=compile.CompileOptions(strips=None))

    assert result.memory.rings == 0
    assert "strip" not in result.summary().nodes
