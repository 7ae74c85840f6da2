"""A start is a process of its own: what it says, and what becomes of one that fails."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from fleetfoot.engines import available
from fleetfoot.engines.base import Written
from fleetfoot.engines.onnxruntime import OnnxRuntime
from fleetfoot.engines.openvino import OpenVino
from fleetfoot.errors import RecordError
from fleetfoot.measure import start as starting
from fleetfoot.measure.record import STARTS_FILE, read_starts, write
from fleetfoot.measure.start import measure
from records import start


def test_an_engine_answers_from_its_own_file_without_torch(tmp_path):
    reason = available()["ncnn"]
    if reason is not None:
        pytest.skip(reason)
    starts, failures = measure(["mobilenetv3_small_050"], ["ncnn", "eager"], repeats=2)

    assert failures == []
    (one,) = starts  # eager has no file
    assert (one.engine, one.size, len(one.import_s), len(one.answer_s)) == ("ncnn", 224, 2, 2)
    assert not one.torch_imported
    assert one.file_bytes > one.weight_bytes > 0
    if sys.platform == "linux":
        assert one.above_weights_bytes is not None
        assert min(one.running_bytes) > one.weight_bytes / 2  # it holds its weights
    write(tmp_path / STARTS_FILE, starts)
    assert read_starts(tmp_path) == starts


def test_an_engine_that_cannot_write_or_answer_is_a_failure_with_its_reason(monkeypatch):
    def empty(engine, folder):
        (folder / "network.onnx").write_text("not a graph")
        return Written(("network.onnx",), {})

    def broken(engine, folder):
        raise RuntimeError("no room")

    monkeypatch.setattr(OnnxRuntime, "_write", empty)
    monkeypatch.setattr(OpenVino, "_write", broken)
    monkeypatch.setattr(
        starting.engines, "available", lambda: {"onnxruntime": None, "openvino": None}
    )
    starts, failures = measure(["mobilenetv3_small_050"], ["onnxruntime", "openvino"], repeats=1)

    assert starts == []
    assert [f.engine for f in failures] == ["openvino", "onnxruntime"]
    assert "no room" in failures[0].reason
    assert "its process ended with 1" in failures[1].reason


def test_an_absent_engine_is_a_failure_with_its_reason(monkeypatch):
    monkeypatch.setattr(starting.engines, "available", lambda: {"ncnn": "not installed"})
    starts, failures = measure(["mobilenetv3_small_050"], ["ncnn"], repeats=1)
    assert starts == []
    assert "not installed" in failures[0].reason


def test_numbers_below_one_are_refused():
    with pytest.raises(ValueError, match="not 0 and 1"):
        measure(["fasternet_t0"], ["ncnn"], repeats=0)


def test_a_start_with_a_time_too_few_is_refused():
    with pytest.raises(RecordError, match="one time above 0 a process"):
        replace(start(), answer_s=(0.1,))
    with pytest.raises(RecordError, match="running_bytes must be empty or hold 3 values, not 1"):
        replace(start(), running_bytes=(1,))
