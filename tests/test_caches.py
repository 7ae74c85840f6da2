"""Cached answers are believed only as they were kept: whatever else lies in a cache's file is said
and replaced, for every cache; and two writers leave one whole file."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from dataclasses import asdict

import pytest
import torch
from torch import nn

from fake_bench import Bench
from fleetfoot import files
from fleetfoot.choose import auto, calibrate, pick
from fleetfoot.choose.calibrate import Calibration, Sample, Scales
from fleetfoot.choose.latency import TERMS, LatencyModel
from fleetfoot.choose.prediction_error import Agreement
from fleetfoot.count import trace
from fleetfoot.data.layouts import shards
from fleetfoot.errors import RecordError
from fleetfoot.machine import environment, measured
from pictures_on_disk import tar


def numbers(text, by):
    """The answer's numbers replaced; the question stays, so that the file is looked at."""
    raw = json.loads(text)
    held = raw.get("answer", raw)

    def changed(value):
        if isinstance(value, dict):
            return {key: changed(item) for key, item in value.items()}
        if isinstance(value, list):
            return [changed(item) for item in value]
        if isinstance(value, int | float) and not isinstance(value, bool):
            return by(value)
        return value

    new = changed(held)
    return json.dumps(raw | {"answer": new} if "answer" in raw else new)


def answer(text, change):
    raw = json.loads(text)
    return json.dumps(raw | {"answer": change(raw["answer"])} if "answer" in raw else change(raw))


CONTENT = {
    "empty": lambda text: "",
    "spaces": lambda text: " \n",
    "null": lambda text: "null",
    "a list": lambda text: "[]",
    "an object": lambda text: "{}",
    "a number": lambda text: "7",
    "truncated": lambda text: text[: len(text) // 2],
    "twice": lambda text: text + text,
    "no text": lambda text: b"\xff\xfe" + text.encode("utf-16-le"),
    "zero bytes": lambda text: bytes(len(text)),
    "deep": lambda text: "[" * 100_000,
    "a field twice": lambda text: text.replace("{", '{"x": 1, "x": 2, ', 1),
    "an unknown field": lambda text: answer(text, lambda held: held | {"unknown": 1}),
    "a field less": lambda text: answer(text, lambda held: dict(list(held.items())[1:])),
    "an empty answer": lambda text: answer(text, lambda held: {}),
    "zeros": lambda text: numbers(text, lambda value: 0),
    "negatives": lambda text: numbers(text, lambda value: -1 - abs(value)),
    "NaN": lambda text: numbers(text, lambda value: float("nan")),
    "infinite": lambda text: numbers(text, lambda value: float("inf")),
    "beyond floats": lambda text: numbers(text, lambda value: 10**400),
    "texts": lambda text: numbers(text, str),
    "lists": lambda text: numbers(text, lambda value: [value]),
    "truths": lambda text: numbers(text, lambda value: True),
    "another version's": lambda text: text.replace('"torch": "', '"torch": "0.'),
}
PLACES = {
    "a folder": lambda file: (file.unlink(), file.mkdir()),
    "a pipe": lambda file: (file.unlink(), os.mkfifo(file)),
    "a device": lambda file: (file.unlink(), file.symlink_to("/dev/zero")),
    "a loop": lambda file: (file.unlink(), file.symlink_to(file.name)),
}


class Cache:
    """One of the caches: how it answers, and how often it measured."""

    measured = 0

    def __init__(self, monkeypatch, folder):
        self.folder = folder
        self.start(monkeypatch)

    def count(self, value):
        self.measured += 1
        return value


class Machines(Cache):
    def start(self, monkeypatch):
        if not hasattr(Machines, "real"):
            Machines.real = measured.measure(rounds=1)
        monkeypatch.setattr(measured, "measure", lambda *a, **k: self.count(Machines.real))
        monkeypatch.setattr(type(Machines.real), "unsteady", ())

    def ask(self):
        return measured.machine(cache=self.folder)


class Choices(Cache):
    def start(self, monkeypatch):
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()).eval()
        monkeypatch.setattr(auto.Decision, "doubt", "")
        if not hasattr(Choices, "real"):
            tools = Bench({"openvino": {"seconds": 0.004}}).tools
            Choices.real = self.decided(tools=tools)
            self.measured = 0
            file_of(self, "auto").unlink()
        monkeypatch.setattr(auto, "_measured", lambda *a: self.count(Choices.real))

    def decided(self, **options):
        return auto.decide(
            self.model,
            example=torch.zeros(1, 3, 16, 16),
            candidates=["eager", "openvino"],
            cache=self.folder,
            **options,
        )

    def ask(self):
        return self.decided().measurements


class Traces(Cache):
    def start(self, monkeypatch):
        made = trace(nn.Conv2d(3, 4, 3).eval(), torch.zeros(1, 3, 8, 8))
        monkeypatch.setattr(pick, "_folded_trace", lambda *a: self.count(made))

    def ask(self):
        return asdict(pick.folded_trace("mobilenetv2_010", 64, 1, cache=self.folder))


class Calibrations(Cache):
    def start(self, monkeypatch):
        monkeypatch.setenv("FLEETFOOT_CACHE", str(self.folder))
        self.made = Calibration(
            engine="eager",
            engine_version=calibrate._engine_version("eager"),
            threads=1,
            cpu=environment.cpu_name(),
            versions={"torch": torch.__version__},
            commit="",
            started="2026-01-01T00:00:00+00:00",
            seconds=1.0,
            samples=(Sample(number=1, name="one", macs=5, time_s=0.1, runs=3),),
            failures=(),
            model=LatencyModel(rates=dict.fromkeys(TERMS[:2], 1e-3)),
            within=Agreement(networks=2, median_error=0.1, p90_error=0.2, spearman=0.9),
            scales=Scales(s_per_mac=1e-9, s_per_activation=1e-9, times_roofline=2.0),
        )

        def again(*args, **options):
            file = calibrate.calibration_file("eager", 1)
            if file.is_dir() and not file.is_symlink():
                file.rmdir()
            files.write_text(file, calibrate.to_json(self.made))
            return self.count(self.made)

        monkeypatch.setattr(pick, "calibrate", again)

    def ask(self):
        return pick._model("eager", 1, lambda event: None).__self__


class Shards(Cache):
    def start(self, monkeypatch):
        monkeypatch.setenv("FLEETFOOT_CACHE", str(self.folder))
        self.tar = tar(self.folder / "x" / "x.tar", [("1.png", b"picture"), ("1.cls", b"7")])
        real = shards._read
        monkeypatch.setattr(shards, "_read", lambda path: self.count(real(path)))

    def ask(self):
        return shards.samples(str(self.tar))


CACHES = {
    "machine": Machines,
    "auto": Choices,
    "traces": Traces,
    "latency": Calibrations,
    "shards": Shards,
}


@pytest.fixture
def cache(request, monkeypatch, tmp_path):
    return CACHES[request.param](monkeypatch, tmp_path)


def file_of(cache, name):
    (file,) = (cache.folder / name).iterdir()
    return file


PAIRS = [
    pytest.param(name, name, kind, id=f"{name}-{kind}")
    for name in CACHES
    for kind in (*CONTENT, *PLACES)
    # a calibration states the version of its engine alone, and a tar's contents none of torch
    if kind != "another version's" or name not in ("latency", "shards")
]


@pytest.mark.parametrize(("cache", "name", "kind"), PAIRS, indirect=["cache"])
def test_what_cannot_have_been_kept_is_said_and_measured_again(cache, name, kind, caplog):
    first = cache.ask()
    file = file_of(cache, name)
    good = file.read_bytes()
    assert (cache.ask(), cache.measured) == (first, 1)
    if kind in PLACES:
        PLACES[kind](file)
    else:
        bad = CONTENT[kind](good.decode())
        file.write_bytes(bad.encode() if isinstance(bad, str) else bad)
        assert file.read_bytes() != good

    with caplog.at_level(logging.WARNING, "fleetfoot"):
        assert cache.ask() == first

    assert cache.measured == 2, "it was believed"
    assert str(file) in caplog.text
    if kind != "a folder" or name == "latency":
        assert not file.is_symlink()
        assert (cache.ask(), cache.measured) == (first, 2), "it was not replaced"


def test_a_calibration_of_negatives_or_zeros_cannot_be_made(monkeypatch, tmp_path):
    raw = asdict(Calibrations(monkeypatch, tmp_path).made)
    for change in (
        {"scales": raw["scales"] | {"s_per_mac": 0.0}},
        {"within": raw["within"] | {"spearman": 1.5}},
        {"within": raw["within"] | {"p90_error": -0.1}},
        {"seconds": -1.0},
        {"threads": 0},
    ):
        with pytest.raises(RecordError, match="a calibration has counts and scales above 0"):
            files.parsed(files.plain(raw | change), Calibration)


WRITER = """
import pathlib, sys
from fleetfoot import files
folder, letter = pathlib.Path(sys.argv[1]), sys.argv[2]
for _ in range(int(sys.argv[3])):
    files.remembered("letters", {"ask": 1}, lambda: letter * 100_000, read=str, write=str,
                     fresh=True, cache=folder)
"""


def test_two_processes_that_write_leave_one_whole_file(tmp_path):
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    subprocess.run([*command, "a", "1"], check=True)
    (file,) = (tmp_path / "letters").glob("*.json")
    writers = [subprocess.Popen([*command, one, "40"]) for one in "ab"]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        seen.add(json.loads(file.read_text())["answer"])  # at any moment
    assert [writer.wait() for writer in writers] == [0, 0]
    seen.add(json.loads(file.read_text())["answer"])
    assert seen <= {"a" * 100_000, "b" * 100_000}
    assert list((tmp_path / "letters").iterdir()) == [file]  # and no draft
