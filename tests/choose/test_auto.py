"""``auto``: decided by measuring, remembered with what decided it, and never by a file that cannot
be trusted."""

from __future__ import annotations

import json
import logging
import re
import statistics
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from fake_bench import Bench
from fleetfoot import cores
from fleetfoot.choose import auto
from fleetfoot.errors import DisagreementError, EngineError
from fleetfoot.machine import environment

EXAMPLE = torch.randn(1, 3, 16, 16)


def small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()


def speeds(**seconds) -> Bench:
    seconds = seconds or {"openvino": 0.004}  # far apart: the choice is plain on a busy machine
    return Bench({name: {"seconds": value} for name, value in seconds.items()})


def decide(bench, cache, model=None, **options):
    options = {"example": EXAMPLE, "candidates": ["eager", "openvino"], **options}
    return auto.decide(model or small(), cache=cache, tools=bench.tools, **options)


def test_the_fastest_by_measurement_is_chosen_and_said(tmp_path, caplog):
    caplog.set_level(logging.INFO, "fleetfoot")
    decision = decide(speeds(eager=0.004, openvino=0.0005), tmp_path)
    assert decision.engine == "openvino"
    assert not decision.remembered
    assert {m.engine for m in decision.measurements} == {"eager", "openvino"}
    assert caplog.text.count("auto: openvino, measured now: openvino 0.") == 1


def test_a_decision_is_remembered_with_its_measurements(tmp_path, caplog):
    first = decide(speeds(eager=0.0005, openvino=0.004), tmp_path)
    bench = speeds(eager=0.004, openvino=0.0005)  # would now decide otherwise
    caplog.set_level(logging.INFO, "fleetfoot")
    second = decide(bench, tmp_path)
    assert second.engine == "eager"
    assert second.remembered
    assert second.measurements == first.measurements
    assert bench.built == []
    assert f"auto: eager, measured on {first.measurements[0].started}" in caplog.text


def test_weights_are_not_a_part_of_the_question_but_all_else_is(tmp_path, monkeypatch):
    def asks(**options):
        bench = speeds()
        decide(bench, tmp_path, **options)
        return bool(bench.built)

    assert asks()
    assert not asks()  # small() draws other weights each time
    assert asks(
        model=nn.Sequential(nn.Conv2d(3, 4, 5), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    )
    strided = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert asks(model=strided.eval())  # the same sizes of weights, another option
    assert asks(example=torch.randn(2, 3, 16, 16))
    assert asks(example=torch.randn(1, 3, 32, 32))
    assert asks(candidates=["eager"])
    assert not asks()
    versions = environment.versions()
    monkeypatch.setattr(environment, "versions", lambda: {**versions, "openvino": "0"})
    assert asks()


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: text.replace('"engine": "eager"', '"engine": "compiled"', 1),
        lambda text: text.replace('"shape"', '"shapes"'),
        lambda text: text.replace("median_s", "median"),
        lambda text: re.sub(r'"samples_s": \[[^]]*\]', '"samples_s": [0.0]', text),
        lambda text: re.sub(r'"median_s": [^,]*', '"median_s": -1.0', text),
        lambda text: re.sub(r'"median_s": [^,]*', '"median_s": NaN', text),
        lambda text: re.sub(r'"engine": "eager", "m', '"engine": "openvino", "m', text),
    ],
    ids=[
        "truncated", "other-json", "engine-without-measurement", "other-question", "bad-record",
        "zero", "negative", "NaN", "a slower engine",
    ],
)  # fmt: skip
def test_a_damaged_memory_is_measured_again_and_said(tmp_path, caplog, damage):
    decide(speeds(openvino=0.004), tmp_path)
    (file,) = (tmp_path / "auto").iterdir()
    file.write_text(damage(file.read_text()))
    bench = speeds(openvino=0.004)
    decision = decide(bench, tmp_path)
    assert decision.engine == "eager"
    assert not decision.remembered
    assert len(bench.built) == 2
    assert f"{file} is not valid and will be replaced" in caplog.text
    assert decide(speeds(), tmp_path).remembered


def test_a_memory_that_cannot_be_written_is_said_and_no_error(tmp_path, caplog):
    (tmp_path / "auto").write_text("a file where the folder should be")
    assert decide(speeds(openvino=0.004), tmp_path).engine == "eager"
    assert "answers cannot be kept" in caplog.text


def test_an_engine_that_cannot_run_is_left_out_with_its_reason(tmp_path):
    bench = Bench({"openvino": EngineError("openvino: not for this network")})
    decision = decide(bench, tmp_path)
    assert decision.engine == "eager"
    assert "openvino failed: openvino: not for this network" in str(decision)
    assert decide(Bench(), tmp_path).failures == decision.failures


def test_no_engine_at_all_is_an_error_with_every_reason(tmp_path):
    bench = Bench({"eager": EngineError("one"), "openvino": EngineError("two")})
    with pytest.raises(EngineError, match=r"(?s)no engine can run Sequential:.*eager: one.*: two"):
        decide(bench, tmp_path)
    assert not (tmp_path / "auto").exists()


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 1, 16, 16), (1, 3, 16, 24)])
def test_an_example_that_cannot_be_measured_is_an_error(tmp_path, shape):
    with pytest.raises(ValueError, match=r"example must be \(B, 3, S, S\)"):
        decide(Bench(), tmp_path, example=torch.randn(shape))


def test_more_threads_than_cores_are_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(cores, "usable_cores", lambda: 1)
    with pytest.raises(ValueError, match=r"threads must be 1 to 1, .* not 2"):
        decide(Bench(), tmp_path, threads=2)


def test_what_is_loaded_runs_and_says_why_it_was_chosen(tmp_path):
    model = small()
    with auto.load_auto(model, example=EXAMPLE, candidates=["eager"], cache=tmp_path) as engine:
        assert engine.info.name == "eager"
        assert engine.decided_by.engine == "eager"
        torch.testing.assert_close(engine.run(EXAMPLE), model(EXAMPLE))
    file = next((tmp_path / "auto").iterdir())
    assert json.loads(file.read_text())["answer"]["measurements"]


def timed(engine, *samples_s, stable=True):
    """A measurement of which only what a choice depends on is real."""
    return SimpleNamespace(
        engine=engine,
        samples_s=samples_s,
        median_s=statistics.median(samples_s),
        stable=stable,
        started="today",
    )


@pytest.mark.parametrize(
    ("chosen", "other", "doubted"),
    [
        (timed("native", 1, 1, 1, 1), timed("eager", 2, 2, 2, 2), False),
        (timed("native", 1, 2, 3, 4, stable=False), timed("eager", 9, 9, 9, 9), False),
        (timed("native", 1, 2, 3, 4, stable=False), timed("eager", 2, 3, 4, 5), True),
        (timed("native", 2, 2, 2, 2), timed("eager", 1, 2, 4, 8, stable=False), True),
        (timed("native", 1, 2, 2, 3), timed("eager", 1, 2, 2, 3), False),  # stable: a tie
    ],
    ids=["apart", "unstable, but apart", "unstable", "the other is unstable", "a stable tie"],
)
def test_a_choice_that_noise_may_have_made_is_doubted(chosen, other, doubted):
    decision = auto.Decision("native", (chosen, other), (), remembered=False)
    assert bool(decision.doubt) is doubted
    if doubted:
        assert "too busy to tell native from eager" in decision.doubt


def test_a_doubted_choice_is_used_and_said_but_not_kept(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(auto.Decision, "doubt", "too busy")
    bench = speeds(eager=0.0005, openvino=0.004)
    assert decide(bench, tmp_path).engine == "eager"
    assert "auto: the answer is not kept: too busy" in caplog.text
    assert not (tmp_path / "auto").exists()


def fast(tmp_path, **options):
    with auto.load_fast(small(), example=EXAMPLE, cache=tmp_path, **options) as engine:
        return engine.info.name


@pytest.fixture
def installed(monkeypatch):
    """Stands in for the engines that are installed: every one, in any order of speed."""
    monkeypatch.setattr(auto.engines, "available", lambda: dict.fromkeys(auto.LIKELY))
    real, built = auto.engines.load, []

    def load(name, *args, **kwargs):
        built.append(name)
        if name in refused:
            raise refused[name]
        engine = real("eager", *args, **kwargs)
        engine.info = replace(engine.info, name=name)
        return engine

    refused: dict[str, Exception] = {}
    monkeypatch.setattr(auto.engines, "load", load)
    return SimpleNamespace(built=built, refused=refused)


def test_without_a_measurement_the_likeliest_engine_is_taken_and_said(tmp_path, installed, caplog):
    caplog.set_level(logging.INFO, "fleetfoot")
    assert fast(tmp_path) == "native"
    assert "engine: native, likely the fastest" in caplog.text


def test_an_engine_that_fails_or_disagrees_is_passed_over_and_said(tmp_path, installed, caplog):
    caplog.set_level(logging.INFO, "fleetfoot")
    installed.refused["native"] = EngineError("no such operator")
    installed.refused["openvino"] = DisagreementError(
        engine="openvino", network="Net", error=0.1, tolerance=1e-4, precision="float32", place="x"
    )
    assert fast(tmp_path) == "onnxruntime"
    assert "native cannot run this network: no such operator" in caplog.text
    assert "openvino cannot run this network: the output of openvino" in caplog.text


def test_eager_is_the_last_and_its_error_is_the_users(tmp_path, installed):
    installed.refused |= dict.fromkeys(auto.LIKELY, EngineError("nothing runs it"))
    with pytest.raises(EngineError, match="nothing runs it"):
        fast(tmp_path)
    assert installed.built == list(auto.LIKELY)


def test_a_few_pictures_do_not_wait_for_an_engine_to_be_built(tmp_path, installed, caplog):
    caplog.set_level(logging.INFO, "fleetfoot")
    assert fast(tmp_path, pictures=1) == "eager"
    assert "engine: eager, for 1 picture, another engine takes longer to build" in caplog.text
    assert fast(tmp_path, pictures=auto.FEW) == "eager"
    assert fast(tmp_path, pictures=auto.FEW + 1) == "native"


def test_what_was_measured_before_decides(tmp_path, monkeypatch):
    monkeypatch.setattr(auto, "default_engines", lambda: (["eager", "openvino"], {}))
    decide(speeds(eager=0.0005, openvino=0.004), tmp_path, candidates=None)
    assert fast(tmp_path) == "eager"
