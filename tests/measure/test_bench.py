"""The library's call of a benchmark: the record that it gives is the record that it leaves."""

from __future__ import annotations

import pytest

from fake_bench import PACE, Bench
from fleetfoot.errors import EngineError, RecordError
from fleetfoot.evaluate.published_scores import published_score
from fleetfoot.measure import grid as grid_module
from fleetfoot.measure.bench import bench
from fleetfoot.measure.grid import Grid, Setting
from fleetfoot.measure.record import (
    read,
    read_failures,
    read_scores,
    read_starts,
)
from fleetfoot.measure.run import Form, Notice, RoundDone

GRID = Grid(
    models=("fasternet_t[01]",),
    engines=("eager", "openvino"),
    settings=(Setting(batch=1, threads=1),),
    size=16,
)


@pytest.fixture(autouse=True)
def engines(monkeypatch):
    reasons = {"eager": None, "openvino": None, "native": None, "ncnn": "not installed"}
    monkeypatch.setattr(grid_module, "available", lambda: reasons)


def made(tmp_path, fake=None, grid=GRID, **options):
    return bench(grid, PACE, output=tmp_path, tools=(fake or Bench()).tools, **options)


def test_what_it_gives_is_what_it_leaves(tmp_path):
    found = made(tmp_path)
    assert {(m.model, m.engine, m.size) for m in found.measurements} == {
        (model, engine, 16)
        for model in ("fasternet_t0", "fasternet_t1")
        for engine in ("eager", "openvino")
    }
    assert read(tmp_path) == found.measurements
    assert read_failures(tmp_path) == found.failures == []
    assert read_scores(tmp_path) == found.scores
    assert read_starts(tmp_path) == found.starts == []
    assert found.interrupted == ""


def test_scores_are_those_published_each_once(tmp_path):
    found = made(tmp_path).scores
    assert found == [published_score(model, 16) for model in ("fasternet_t0", "fasternet_t1")]
    assert found[0].source.endswith(", at 224 pixels")


def test_without_an_output_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = bench(GRID, PACE, tools=Bench().tools)
    assert len(found.measurements) == 4
    assert list(tmp_path.iterdir()) == []


def test_engines_that_are_not_here_are_failures_beside_those_of_the_run(tmp_path):
    fake = Bench({"openvino": EngineError("openvino: no")})
    grid = Grid(models=("fasternet_t0",), engines=("eager", "openvino", "ncnn"), size=16)
    found = made(tmp_path, fake, grid)
    assert [(f.engine, f.reason) for f in found.failures] == [
        ("openvino", "openvino: no"), ("ncnn", "not installed")
    ]  # fmt: skip
    assert read_failures(tmp_path) == found.failures


def test_an_end_in_the_middle_leaves_a_record_and_resume_completes_it(tmp_path):
    def stop(event):
        if isinstance(event, RoundDone) and event.number == 2:
            raise KeyboardInterrupt

    first = made(tmp_path, on_event=stop)
    assert first.interrupted == "SIGINT"
    assert read(tmp_path) == first.measurements
    second = made(tmp_path, resume=True)
    assert second.interrupted == ""
    for before, after in zip(first.measurements, second.measurements, strict=True):
        assert after.samples_s[: len(before.samples_s)] == before.samples_s
        assert len(after.samples_s) > len(before.samples_s)
    with pytest.raises(RecordError, match="holds a run already"):
        made(tmp_path)


def test_a_run_of_failures_leaves_them_and_no_measurement(tmp_path):
    fake = Bench({name: EngineError("no") for name in ("eager", "openvino")})
    assert made(tmp_path, fake).measurements == []
    assert len(read_failures(tmp_path)) == 4
    with pytest.raises(RecordError, match="there is no record"):
        read(tmp_path)


def test_the_form_reaches_the_networks(tmp_path):
    assert {m.folded for m in made(tmp_path, form=Form(fold=False)).measurements} == {False}


def test_starts_are_measured_of_the_networks_that_the_grid_names(tmp_path, monkeypatch):
    asked, said = [], []

    def measure(models, engines, *, on_note):
        asked.append((list(models), sorted(set(engines))))
        on_note("a start")
        return [], []

    monkeypatch.setattr("fleetfoot.measure.start.measure", measure)
    grid = Grid(
        models=("fasternet_t0",), engines=("eager", "native"), size=16,
        starts=("fasternet_t0", "fastvit_t8"),
    )  # fmt: skip
    made(tmp_path, grid=grid, on_event=said.append)
    assert asked == [(["fasternet_t0"], ["eager", "native"])]
    assert Notice("a start") in said
