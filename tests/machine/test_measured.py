"""Measuring the machine: that everything is measured, kept, and refused where it cannot be."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import replace

import pytest
import torch

from fleetfoot import cores, runtime
from fleetfoot.errors import EngineError, RecordError
from fleetfoot.machine import environment
from fleetfoot.machine import measured as machine


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(machine, "MATMUL_SIDE", 64)
    monkeypatch.setattr(machine, "MEMORY_BYTES", 1 << 20)
    monkeypatch.setattr(machine, "SAMPLE_S", 1e-4)
    monkeypatch.setattr(machine, "SPIN_S", 0.0)
    caches = (environment.Cache("L1", 32 << 10), environment.Cache("L2", 256 << 10))
    monkeypatch.setattr(environment, "caches", lambda threads: caches)


def test_every_quantity_is_measured_and_comes_back_from_its_file():
    rounds = []
    threads = torch.get_num_threads()

    made = machine.measure(rounds=3, on_round=lambda done, of: rounds.append((done, of)))

    assert rounds == [(1, 3), (2, 3), (3, 3)]
    assert torch.get_num_threads() == threads
    assert "float32" in made.compute
    for found in made.compute.values():
        assert found.matmul_flops_per_s.samples == 3
        assert 0 < found.matmul_flops_per_s.low <= found.peak_flops_per_s
    assert made.levels[-1].name == "memory"
    for level in made.levels:
        assert level.read_bytes_per_s.value > 0
        assert level.copy_bytes_per_s.value > 0
    assert made.elementwise_bytes_per_s.value > 0
    assert made.region_s.value >= 0
    assert machine.from_json(machine.to_json(made)) == made


@pytest.mark.skipif(runtime.missing() is not None, reason="the native library is absent")
def test_with_the_library_each_cache_has_a_level_and_registers_a_rate():
    made = machine.measure(rounds=1)

    assert [level.name for level in made.levels] == ["L1", "L2", "memory"]
    assert [level.working_set_bytes for level in made.levels] == [16 << 10, 128 << 10, 1 << 20]
    assert made.compute["float32"].fma_flops_per_s is not None
    assert made.instruction_set in runtime.instruction_sets()


def test_without_the_library_the_rest_is_measured(monkeypatch):
    monkeypatch.setattr(runtime, "missing", lambda: "absent")

    made = machine.measure(threads=min(2, cores.usable_cores()), rounds=1)

    assert [level.name for level in made.levels] == ["memory"]
    assert made.compute["float32"].fma_flops_per_s is None
    assert made.instruction_set == ""


def test_it_is_measured_once_and_again_when_asked(tmp_path, monkeypatch):
    runs = []
    real = machine.measure(rounds=1)
    monkeypatch.setattr(machine, "measure", lambda *a, **k: runs.append(1) or real)

    assert machine.machine(cache=tmp_path) == machine.machine(cache=tmp_path) == real
    assert len(runs) == 1
    machine.machine(cache=tmp_path, fresh=True)
    assert len(runs) == 2


def test_another_version_is_another_question(tmp_path, monkeypatch):
    runs = []
    real = machine.measure(rounds=1)
    monkeypatch.setattr(machine, "measure", lambda *a, **k: runs.append(1) or real)

    machine.machine(cache=tmp_path)
    monkeypatch.setattr(environment, "versions", lambda: {"torch": "99"})
    machine.machine(cache=tmp_path)

    assert len(runs) == 2


def _with(**changes):
    """The file of an answer with some fields of it changed."""
    return lambda entry: {**entry, "answer": {**entry["answer"], **changes}}


def _zero_rates(entry):
    """Each value is 0, as if a clock had stood still."""
    text = json.dumps(entry)
    for field in ("value", "low", "high"):
        text = re.sub(rf'"{field}": [0-9.e+-]+', f'"{field}": 0.0', text)
    return json.loads(text)


def _negative_rates(entry):
    return json.loads(re.sub(r'("(?:value|low|high)": )', r"\1-", json.dumps(entry)))


@pytest.mark.parametrize(
    "change",
    [
        _zero_rates,
        _negative_rates,
        _with(levels=[]),
        _with(compute={}),
        _with(region_s=[1, 2, 3]),
        _with(elementwise_bytes_per_s={"value": float("nan"), "low": 1, "high": 2, "samples": 3}),
        _with(threads=0),
        lambda entry: {**entry, "question": {**entry["question"], "versions": {"torch": "0"}}},
    ],
    ids=["zeros", "negatives", "no level", "no rate", "list", "NaN", "no thread", "version"],
)
def test_a_machine_that_cannot_be_is_measured_again_and_said(tmp_path, monkeypatch, caplog, change):
    real = machine.measure(rounds=1)
    monkeypatch.setattr(machine, "measure", lambda *a, **k: real)
    machine.machine(cache=tmp_path)
    (file,) = (tmp_path / "machine").iterdir()
    file.write_text(json.dumps(change(json.loads(file.read_text()))))

    with caplog.at_level(logging.WARNING):
        assert machine.machine(cache=tmp_path) == real

    assert str(file) in caplog.text


@pytest.mark.parametrize("damage", ["{", "[]", json.dumps({"cpu": "x"})])
def test_a_damaged_file_is_said_and_measured_again(tmp_path, monkeypatch, caplog, damage):
    real = machine.measure(rounds=1)
    monkeypatch.setattr(machine, "measure", lambda *a, **k: real)
    machine.machine(cache=tmp_path)
    (file,) = (tmp_path / "machine").iterdir()
    file.write_text(damage)

    with caplog.at_level(logging.WARNING):
        assert machine.machine(cache=tmp_path) == real

    assert str(file) in caplog.text
    assert machine.from_json(json.dumps(json.loads(file.read_text())["answer"])) == real


def test_a_record_with_a_wrong_field_is_refused():
    made = machine.measure(rounds=1)
    with pytest.raises(RecordError, match="threads must be a whole number"):
        machine.from_json(machine.to_json(made).replace('"threads": 1', '"threads": "two"', 1))


def test_unusable_arguments_are_named(monkeypatch):
    monkeypatch.setattr(cores, "usable_cores", lambda: 4)
    with pytest.raises(ValueError, match=r"threads must be 1 to 4, .* not 5"):
        machine.measure(5)
    with pytest.raises(ValueError, match="rounds must be 1 or more, not 0"):
        machine.measure(rounds=0)
    with pytest.raises(ValueError, match="device must be 'cpu' or 'cuda', not 'tpu'"):
        machine.machine(device="tpu")
    if not torch.cuda.is_available():
        with pytest.raises(EngineError, match="no CUDA device"):
            machine.machine(device="cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_measured():
    made = machine.measure(device="cuda", rounds=2)
    assert made.device == torch.cuda.get_device_name(0)
    assert made.peak_flops_per_s("bfloat16") > made.peak_flops_per_s("float32")


@pytest.mark.skipif(runtime.missing() is not None, reason=str(runtime.missing()))
def test_a_cache_is_measured_on_half_of_it_but_at_most_eight_times_the_level_above(monkeypatch):
    sizes = {"L1": 48 << 10, "L2": 512 << 10, "L3": 480 << 20}
    caches = tuple(environment.Cache(name, size) for name, size in sizes.items())
    monkeypatch.setattr(environment, "caches", lambda threads: caches)

    found = {name: size for name, _, size in machine._Cpu(1)._levels}

    assert found == {"L1": 24 << 10, "L2": 256 << 10, "L3": 4 << 20, "memory": 4 * (480 << 20)}


def test_caches_are_read_as_the_system_says(monkeypatch, tmp_path):
    monkeypatch.undo()
    found = environment.caches(1)
    sizes = [cache.bytes for cache in found]
    assert sizes == sorted(sizes)
    both = environment.caches(2) if cores.usable_cores() > 1 else found
    assert all(b.bytes in (a.bytes, 2 * a.bytes) for a, b in zip(found, both, strict=True))


def _measured_in_turn(monkeypatch, *made):
    """``measure`` answers with each of ``made``, one a call, and then with the last."""
    answers = list(made)
    runs = []

    def measure(*args, **options):
        runs.append(1)
        return answers.pop(0) if len(answers) > 1 else answers[0]

    monkeypatch.setattr(machine, "measure", measure)
    return runs


@pytest.fixture
def quiet_and_busy():
    real = machine.measure(rounds=1)
    rate = real.elementwise_bytes_per_s
    half = replace(rate, value=rate.value / 2, low=rate.value / 2)
    return real, replace(real, elementwise_bytes_per_s=half)


def test_a_machine_that_was_busy_is_measured_again_at_once_and_said(
    tmp_path, monkeypatch, caplog, quiet_and_busy
):
    quiet, busy = quiet_and_busy
    runs = _measured_in_turn(monkeypatch, busy, quiet)

    with caplog.at_level(logging.INFO):
        found = machine.machine(cache=tmp_path)

    assert found.elementwise_bytes_per_s.value == quiet.elementwise_bytes_per_s.value
    assert found.unsteady == ()
    assert len(runs) == 2
    assert "the machine was busy" in caplog.text
    assert "exceeds the value by up to 100 %; measuring again" in caplog.text
    machine.machine(cache=tmp_path)
    assert len(runs) == 2


def test_a_machine_that_stays_busy_is_kept_with_a_warning_and_tried_again_later(
    tmp_path, monkeypatch, caplog, quiet_and_busy
):
    quiet, busy = quiet_and_busy
    runs = _measured_in_turn(monkeypatch, busy)
    with caplog.at_level(logging.WARNING):
        machine.machine(cache=tmp_path)
    assert len(runs) == machine.ATTEMPTS
    assert "floors may be too long" in caplog.text

    runs = _measured_in_turn(monkeypatch, quiet)
    assert machine.machine(cache=tmp_path).unsteady == ()
    assert machine.machine(cache=tmp_path).unsteady == ()
    assert len(runs) == 1


def test_a_machine_that_is_always_busy_is_not_measured_for_ever(
    tmp_path, monkeypatch, quiet_and_busy
):
    _, busy = quiet_and_busy
    monkeypatch.setattr(machine, "ROUNDS", 1)
    runs = _measured_in_turn(monkeypatch, busy)
    for _ in range(2 * machine.MOST_ATTEMPTS):
        machine.machine(cache=tmp_path)
    assert len(runs) == machine.MOST_ATTEMPTS
