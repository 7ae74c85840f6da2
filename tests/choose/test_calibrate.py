"""Calibrating on a fake engine, what is kept and refused, and the check's columns."""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
import time
from dataclasses import replace

import pytest
import torch
from torch import nn

from fake_bench import Bench
from fleetfoot.choose import calibrate as module
from fleetfoot.choose import calibration_check as checks
from fleetfoot.choose.calibrate import (
    Calibration,
    calibrate,
    calibration_file,
    choose_engine,
    is_kept,
    load,
    read,
    roofline_s,
    to_json,
)
from fleetfoot.choose.calibration_check import CHECKED, check, read_check
from fleetfoot.choose.latency import OTHERS, activations, kind_of
from fleetfoot.choose.prediction_error import Agreement
from fleetfoot.choose.synthetic import BLOCKS, Synthetic, synthetic
from fleetfoot.count import trace
from fleetfoot.errors import EngineError, RecordError, UnknownNameError
from fleetfoot.files import locked, write_text
from fleetfoot.interrupts import NAMES, name_of
from fleetfoot.machine.machine import Compute, Level, Machine, Rate
from fleetfoot.measure.clock import quantile
from fleetfoot.measure.networks import Network
from fleetfoot.measure.run import Preparing, RoundDone
from fleetfoot.network import Workload, native_size


def exactly(value: float) -> Rate:
    return Rate(value=value, low=value, high=value, samples=1)


MACHINE = Machine(
    cpu="by hand",
    device="cpu",
    threads=1,
    compute={"float32": Compute(precision="float32", matmul_flops_per_s=exactly(100e9))},
    levels=(
        Level(
            name="memory",
            capacity_bytes=None,
            working_set_bytes=1,
            read_bytes_per_s=exactly(10e9),
            copy_bytes_per_s=exactly(10e9),
        ),
    ),
    region_s=exactly(1e-6),
    elementwise_bytes_per_s=exactly(20e9),
    measured_at="2026-01-01T00:00:00+00:00",
)


def tiny(number: int) -> Synthetic:
    width = 4 + number
    layers = (nn.Conv2d(3, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Synthetic(f"tiny {number}", nn.Sequential(*layers).eval(), 8)


@pytest.fixture
def bench(monkeypatch) -> Bench:
    """A fake engine of 0.2 ms, and groups of a few tiny networks."""
    monkeypatch.setattr(module, "synthetic", tiny)
    monkeypatch.setattr(module, "GROUP", 6)
    monkeypatch.setattr(module, "FEWEST", 6)
    monkeypatch.setattr(module, "DEFAULT_MINUTES", 1e-9)
    for room, name in ((module, "MEASURING"), (checks, "CHECKING")):
        small = replace(getattr(room, name), rounds=2, fewest_rounds=2, burst_s=0.0)
        monkeypatch.setattr(room, name, replace(small, warmup_s=0.01, rewarm_s=0.0))
    return Bench({"eager": {"seconds": 2e-4}})


def calibrated(bench: Bench, file, **options) -> Calibration:
    given = {"machine": MACHINE, "tools": bench.tools, "output": file}
    return calibrate("eager", **{**given, **options})


def test_a_calibration_measures_whole_groups_and_comes_back_from_its_file(bench, tmp_path):
    file = tmp_path / "deep" / "made.json"
    made = calibrated(bench, file)

    assert [sample.name for sample in made.samples] == [f"tiny {n}" for n in range(6)]
    assert all(2e-4 < sample.time_s < 2e-2 and sample.runs == 4 for sample in made.samples)
    assert made.within.networks == 6
    assert made.scales.s_per_mac > 0
    assert made.scales.times_roofline > 0
    assert read(file) == made
    assert load("eager", 1, file) == made


def test_resuming_adds_networks_that_were_not_measured(bench, tmp_path):
    file = tmp_path / "made.json"
    first = calibrated(bench, file)
    second = calibrated(bench, file, resume=True)

    assert second.samples[:6] == first.samples
    assert [sample.number for sample in second.samples] == list(range(12))
    assert second.started == first.started
    assert second.seconds > first.seconds


def test_resuming_refuses_networks_that_are_drawn_otherwise(bench, tmp_path, monkeypatch):
    file = tmp_path / "made.json"
    calibrated(bench, file)
    monkeypatch.setattr(module, "synthetic", lambda number: tiny(number + 1))

    with pytest.raises(RecordError, match="draws another network 'tiny 0'"):
        calibrated(bench, file, resume=True)


def test_too_few_minutes_are_refused_after_the_first_networks(bench, tmp_path, monkeypatch):
    """The message states how long this machine needs, found from the networks prepared so far."""
    monkeypatch.setattr(module, "GROUP", 10)
    prepared = []

    def slowly(event):
        if isinstance(event, Preparing):
            prepared.append(event.number)
            time.sleep(0.02)

    monkeypatch.setattr(module, "_least_s", lambda: 0.0)
    with pytest.raises(ValueError, match=r"minutes must be [0-9.]+ or more here, not 0\.001"):
        calibrated(bench, tmp_path / "made.json", minutes=0.001, on_event=slowly)
    assert prepared == list(range(1, module.ESTIMATED + 1))
    assert not (tmp_path / "made.json").exists()


def test_a_worse_calibration_does_not_replace_a_better_one_unless_told_to(
    bench, tmp_path, caplog, monkeypatch
):
    file = tmp_path / "made.json"
    first = calibrated(bench, file)
    better = replace(first, samples=first.samples * 2)
    write_text(file, to_json(better))
    made = calibrated(bench, file)
    assert read(file) == better
    assert not is_kept(made, file)
    assert f"{file} stays: it has 12 networks, the new one 6; --force replaces it" in caplog.text
    exact = replace(first, within=replace(first.within, median_error=1e-9))
    write_text(file, to_json(exact))
    calibrated(bench, file)
    assert read(file) == exact
    assert "its median error is 0.0 %, that of the new one" in caplog.text
    made = calibrated(bench, file, force=True)
    assert is_kept(made, file)
    other = replace(better, cpu="another processor")  # it is of no use here
    write_text(file, to_json(other))
    assert is_kept(calibrated(bench, file), file)


@pytest.mark.parametrize("name", [one for one in NAMES if hasattr(signal, one)])
def test_a_signal_ends_a_calibration_which_is_kept_if_there_is_enough(bench, tmp_path, name):
    """So Ctrl-C ends also a command that calibrates by itself, for example pick."""
    file = tmp_path / "made.json"

    def once(event):
        if isinstance(event, RoundDone) and event.number == 1:
            signal.raise_signal(getattr(signal, name))

    with pytest.raises(KeyboardInterrupt) as raised:
        calibrated(bench, file, on_event=once)
    assert name_of(raised.value) == name
    assert len(read(file).samples) == 6

    def at_first(event):
        if isinstance(event, Preparing):
            signal.raise_signal(getattr(signal, name))

    with pytest.raises(KeyboardInterrupt) as raised:
        calibrated(bench, tmp_path / "none.json", on_event=at_first)
    assert name_of(raised.value) == name
    assert not (tmp_path / "none.json").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="no locks")
def test_two_do_not_add_to_one_calibration_at_once(bench, tmp_path):
    file = tmp_path / "made.json"
    calibrated(bench, file)
    with open(file, "rb") as held, locked(held):
        with pytest.raises(RecordError, match=rf"is in use by process {os.getpid()} \(.*python"):
            calibrated(bench, file, resume=True)
    calibrated(bench, file, resume=True)


def test_a_calibration_that_cannot_be_kept_is_said_once(bench, monkeypatch, tmp_path, caplog):
    (tmp_path / "cache").write_text("a file, where a folder should be")
    monkeypatch.setenv("FLEETFOOT_CACHE", str(tmp_path / "cache"))
    made = calibrated(bench, None)
    assert len(made.samples) == 6
    assert caplog.text.count("cannot be kept") == 1
    with pytest.raises(OSError, match="cache"):  # the file that was asked for
        calibrated(bench, tmp_path / "cache" / "made.json")


def test_too_few_networks_are_refused(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FEWEST", 7)
    with pytest.raises(EngineError, match=r"6 synthetic networks .* needs 7"):
        calibrated(bench, tmp_path / "made.json")
    assert not (tmp_path / "made.json").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cpu": "another"}, r"cpu 'another' there, '.*' here"),
        ({"engine_version": "0.0"}, r"engine version '0.0' there, '.*' here"),
        ({"threads": 8}, "threads 8 there, 1 here"),
        ({"engine": "native"}, "engine 'native' there, 'eager' here"),
    ],
)
def test_a_calibration_of_something_else_is_refused(bench, tmp_path, changes, words):
    file = tmp_path / "made.json"
    write_text(file, to_json(replace(calibrated(bench, file), **changes)))

    with pytest.raises(RecordError, match=words) as caught:
        load("eager", 1, file)
    assert "fleetfoot calibrate --engine eager --threads 1" in str(caught.value)


def test_a_missing_or_damaged_file_says_what_to_do(bench, tmp_path):
    with pytest.raises(RecordError, match="make one: fleetfoot calibrate --engine eager"):
        load("eager", 1, tmp_path / "none.json")
    for text, words in (("{", "not JSON"), ("{}", "engine"), ("[]", "Calibration")):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(RecordError, match=words):
            load("eager", 1, tmp_path / "bad.json")
    made = calibrated(bench, tmp_path / "made.json")
    old = to_json(made).replace('"schema": 1', '"schema": 99')
    (tmp_path / "old.json").write_text(old)
    for text, words in (
        (re.sub(r'("rates": ){[^}]*}', r'\1{"call": 0.0}', to_json(made)), "a rate above 0"),
        (re.sub(r'("rates": ){[^}]*}', r'\1{"call": -1.0}', to_json(made)), "0 or more"),
        (re.sub(r'("time_s": )[^,]*', r"\g<1>0.0", to_json(made)), "samples with times above 0"),
        (re.sub(r'("time_s": )[^,]*', r"\1NaN", to_json(made)), "NaN"),
    ):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(RecordError, match=words):
            load("eager", 1, tmp_path / "bad.json")
    with pytest.raises(RecordError, match="schema 99"):
        load("eager", 1, tmp_path / "old.json")


def test_the_file_is_in_the_cache_folder_and_tells_engines_and_threads_apart(monkeypatch, tmp_path):
    monkeypatch.setenv("FLEETFOOT_CACHE", str(tmp_path))
    files = {
        calibration_file("eager", 1),
        calibration_file("eager", 2),
        calibration_file("native", 1),
    }
    assert len(files) == 3
    assert {file.parent for file in files} == {tmp_path / "latency"}


def test_engines_that_have_no_model_or_are_absent(monkeypatch):
    with pytest.raises(UnknownNameError, match="ncnn"):
        choose_engine("ncnn")
    everything = {"native": "no compiler", "onnxruntime": None, "openvino": None, "eager": None}
    monkeypatch.setattr(module, "available", lambda: everything)
    assert choose_engine() == "onnxruntime"
    with pytest.raises(EngineError, match="no compiler"):
        choose_engine("native")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"minutes": 0}, r"minutes must be 0.3 or more here, not 0: .* 40 measured networks"),
        ({"minutes": 0.001}, r"minutes must be 0.3 or more here, not 0.001"),
        ({"minutes": float("nan")}, "minutes"),
        ({"threads": 0}, "1 to"),
    ],
)
def test_what_cannot_be_calibrated(options, words):
    with pytest.raises(ValueError, match=words):
        calibrate("eager", **options)


def test_a_check_sets_predictions_beside_measurements(bench, tmp_path, monkeypatch):
    made = calibrated(bench, tmp_path / "made.json")
    monkeypatch.setattr(checks, "resolved_size", lambda name: 8)

    def network(name: str, size: int, fold: bool):
        model = tiny(int(name)).model
        made = trace(model, torch.zeros(1, 3, size, size))
        return Network.counted(Workload.of(name, model, size=size), made, folded=True)

    tools = replace(bench.tools, networks=network)

    found = check(made, ["30", "40", "50"], tools=tools, machine=MACHINE)

    assert [one.model for one in found.networks] == ["30", "40", "50"]
    for one in found.networks:
        seen = trace(tiny(int(one.model)).model, torch.zeros(1, 3, 8, 8))
        assert len(one.samples_s) == 4
        assert one.measured_s == quantile(one.samples_s, 0.25)
        assert one.predicted_s == made.model.predict(seen)
        assert one.by_macs_s == pytest.approx(made.scales.s_per_mac * seen.macs)
        assert one.by_activations_s == pytest.approx(
            made.scales.s_per_activation * activations(seen)
        )
        assert one.by_roofline_s == pytest.approx(
            made.scales.times_roofline * roofline_s(seen, MACHINE)
        )
        assert one.error == pytest.approx(one.predicted_s / one.measured_s - 1)
    assert found.agreement().networks == 3
    write_text(tmp_path / "check.json", checks.to_json(found))
    assert read_check(tmp_path / "check.json") == found


def test_a_roofline_is_the_sum_of_the_operators_floors():
    seen = trace(nn.Sequential(nn.Conv2d(64, 64, 3), nn.ReLU()), torch.zeros(1, 64, 34, 34))
    conv_flops = 2 * 9 * 64 * 64 * 32 * 32
    relu_bytes = 2 * 4 * 64 * 32 * 32
    expected = conv_flops / 100e9 + relu_bytes / 10e9
    assert roofline_s(seen, MACHINE) == pytest.approx(expected)


def test_no_network_of_the_check_is_named_twice_or_unknown():
    assert len(CHECKED) == len(set(CHECKED)) >= 40
    for name in CHECKED:
        assert native_size(name) > 0


def test_a_number_draws_the_same_network_every_time():
    first, second = synthetic(5), synthetic(5)
    assert first.name == second.name
    assert first.size == second.size
    for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_draws_reach_every_block_and_every_kind_and_run():
    drawn = [synthetic(number) for number in range(45)]
    kinds: set[str] = set()
    for one in drawn:
        seen = trace(one.model, torch.zeros(1, 3, one.size, one.size))
        assert not seen.unknown
        assert len(seen.operators[-1].shape) == 2  # logits, or means of the channels
        kinds |= {kind_of(op) for op in seen.operators}
    assert all(any(block in one.name for one in drawn) for block in BLOCKS)
    compute = {"window3", "window", "pointwise", "row", "depthwise", "grouped", "product"}
    assert kinds >= compute | {"cheap", "smooth", "pair", "gate", *OTHERS} - {"other"}


def test_it_ends_when_it_has_enough_networks(bench, tmp_path):
    made = calibrated(bench, tmp_path / "made.json", minutes=60.0, enough=7)
    assert len(made.samples) == 12  # whole groups of 6


@pytest.mark.parametrize(
    ("median", "p90", "doubted"), [(0.04, 0.13, False), (0.2, 0.2, True), (0.05, 0.4, True)]
)
def test_a_calibration_with_large_errors_warns(
    bench, tmp_path, monkeypatch, caplog, median, p90, doubted
):
    errors = Agreement(networks=6, median_error=median, p90_error=p90, spearman=0.9)
    monkeypatch.setattr(module, "cross_validated", lambda *_: errors)
    with caplog.at_level(logging.WARNING):
        made = calibrated(bench, tmp_path / "made.json")
    assert bool(made.doubt) is doubted
    said = f"median error is {100 * median:.0f} % and one in ten is off by more than"
    assert (said in caplog.text) is doubted
    assert ("fleetfoot calibrate --engine eager --threads 1" in caplog.text) is doubted
