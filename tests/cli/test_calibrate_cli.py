"""``fleetfoot calibrate`` and ``pick``: what they hand on, print and refuse."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from fleetfoot.choose import calibrate as bench
from fleetfoot.choose import calibration_check as checks
from fleetfoot.choose import pick as picking
from fleetfoot.choose.calibrate import Calibration, Sample, Scales
from fleetfoot.choose.calibration_check import Check, Checked
from fleetfoot.choose.latency import LatencyModel
from fleetfoot.choose.pick import Candidate, Limits, Pick
from fleetfoot.choose.prediction_error import Agreement
from fleetfoot.cli.calibrate import calibrate
from fleetfoot.cli.pick import pick
from fleetfoot.errors import NoneFitsError, RecordError

app = typer.Typer(pretty_exceptions_enable=False)
for command in (calibrate, pick):
    app.command()(command)


def run(*arguments: object):
    """What the command answered; an error of ours is raised, as ``main`` would print it."""
    result = CliRunner(env={"COLUMNS": "140"}).invoke(app, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


MADE = Calibration(
    engine="eager",
    engine_version="2",
    threads=1,
    cpu="Example CPU",
    versions={},
    commit="",
    started="2026-01-01T00:00:00+00:00",
    seconds=60.0,
    samples=(Sample(number=0, name="chain 0: plain", macs=1, time_s=1e-3, runs=12),),
    failures=(),
    model=LatencyModel(rates={"call": 4e-6}),
    within=Agreement(networks=40, median_error=0.05, p90_error=0.18, spearman=0.998),
    scales=Scales(s_per_mac=2e-11, s_per_activation=1e-9, times_roofline=1.5),
)


@pytest.fixture
def asked(monkeypatch, tmp_path) -> dict:
    """What the functions behind the commands were asked; nothing is measured."""
    found: dict = {}

    def calibrated(engine, **options):
        found.update(options, engine=engine)
        return MADE

    def checked(calibration, names, **options):
        found.update(options, names=list(names))
        rows = [
            Checked(
                model=name, size=224, macs=1, activations=1, measured_s=t, samples_s=(t,),
                predicted_s=1.1 * t, by_macs_s=t, by_activations_s=t, by_roofline_s=t,
            )
            for name, t in (("a", 0.001), ("b", 0.002))
        ]  # fmt: skip
        return Check(
            calibration=calibration, started=MADE.started, seconds=1.0, networks=tuple(rows),
            failures=(),
        )  # fmt: skip

    monkeypatch.setenv("FLEETFOOT_CACHE", str(tmp_path))
    monkeypatch.setattr(bench, "calibrate", calibrated)
    monkeypatch.setattr(bench, "load", lambda engine, threads, file: MADE)
    monkeypatch.setattr(checks, "check", checked)
    return found


def test_calibrate_hands_on_its_options_and_prints_a_card(asked):
    said = run("calibrate", "--engine", "eager", "--minutes", "2", "--threads", "1").stdout

    assert asked["engine"] == "eager"
    assert asked["minutes"] == 2
    assert not asked["resume"]
    assert asked["output"] is None
    assert "eager 2, 1 thread, Example CPU" in said


def test_calibrate_json_is_the_record_and_nothing_else(asked):
    found = json.loads(run("calibrate", "--engine", "eager", "--json").stdout)
    assert found["model"] == {"rates": {"call": 4e-6}}


def test_check_takes_its_default_networks_and_leaves_record_and_picture(asked, tmp_path):
    said = run("calibrate", "--engine", "eager", "--check", "--record", tmp_path / "r").stdout

    assert asked["names"] == list(checks.CHECKED)
    assert "10.0 %" in said
    assert checks.read_check(tmp_path / "r" / "check.json").networks[0].model == "a"
    assert (tmp_path / "r" / "predicted-against-measured.png").exists()


def test_check_takes_patterns(asked, tmp_path):
    run("calibrate", "mobileone_s*", "--engine", "eager", "--check", "--record", tmp_path / "r")
    assert asked["names"] == [f"mobileone_s{n}" for n in range(5)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mobileone_s0"], "belong to --check"),
        (["--record", "there"], "belong to --check"),
        (["--check", "--resume"], "--resume needs --record"),
    ],
)
def test_options_that_do_not_go_together(asked, arguments, words):
    result = run("calibrate", *arguments)
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())


def test_a_check_without_a_calibration_says_how_to_make_one(monkeypatch, tmp_path):
    monkeypatch.setenv("FLEETFOOT_CACHE", str(tmp_path))
    with pytest.raises(RecordError, match="fleetfoot calibrate --engine eager --threads 1"):
        run("calibrate", "--engine", "eager", "--check")


def test_pick_hands_on_its_options(monkeypatch):
    asked: dict = {}
    one = Candidate(
        model="a", size=224, top1=70.0, top1_source="a paper", weight_bytes=10, macs=10,
        predicted_s=0.004, measured_s=0.005,
    )  # fmt: skip

    def picked(max_ms, **options):
        asked.update(options, max_ms=max_ms)
        return Pick(
            engine="native", threads=1, batch=1, limits=Limits(max_s=max_ms / 1e3),
            predictor="roofline", front=(one,), others=(), considered=1, without_top1=(),
            failures={},
        )  # fmt: skip

    monkeypatch.setattr(picking, "pick", picked)
    arguments = ("--max-ms", 10, "--min-top1", 65, "--max-mb", 20, "--timm", "all", "--batch", 2)
    found = json.loads(run("pick", *arguments, "--no-calibrate", "--json").stdout)

    assert found["front"][0]["latency_basis"] == "measured"
    asked.pop("on_event")
    assert asked == {
        "max_ms": 10, "min_top1": 65, "max_mb": 20, "threads": 1, "engine": "auto", "batch": 2,
        "timm": "all", "own": {}, "calibrated": False,
    }  # fmt: skip


def test_pick_wants_a_time():
    result = run("pick")
    assert result.exit_code == 2
    assert "--max-ms" in result.stderr


def test_pick_says_what_is_possible(monkeypatch):
    def picked(max_ms, **options):
        raise NoneFitsError("the fastest is a at 2 ms")

    monkeypatch.setattr(picking, "pick", picked)
    with pytest.raises(NoneFitsError, match="the fastest is a"):
        run("pick", "--max-ms", 1)
