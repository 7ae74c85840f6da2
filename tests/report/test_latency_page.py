"""Cards, tables and the picture of a latency model, and that the page is what the record gives."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from fleetfoot.choose.calibrate import Calibration, Sample, Scales
from fleetfoot.choose.calibration_check import Check, Checked, to_json
from fleetfoot.choose.latency import LatencyModel
from fleetfoot.choose.prediction_error import Agreement
from fleetfoot.measure.record import Failure
from fleetfoot.report.latency import (
    CHECK_FILE,
    by_error,
    picture,
    print_calibration,
    print_check,
    save_picture,
)
from tools.latency import main, markdown

ROOT = Path(__file__).parents[2]

CALIBRATION = Calibration(
    engine="native",
    engine_version="0.1.0",
    threads=2,
    cpu="Example CPU",
    versions={"torch": "2.10"},
    commit="",
    started="2026-01-01T00:00:00+00:00",
    seconds=180.0,
    samples=(Sample(number=0, name="chain 0: plain", macs=10**6, time_s=1e-3, runs=12),) * 400,
    failures=(),
    model=LatencyModel(
        rates={
            "call": 4e-6,
            "pointwise.macs": 1.8e-11,
            "pool.operations": 1e-10,
            "move.start": 1e-6,
        }
    ),
    within=Agreement(networks=400, median_error=0.05, p90_error=0.18, spearman=0.998),
    scales=Scales(s_per_mac=2e-11, s_per_activation=1e-9, times_roofline=1.5),
)


def checked(model: str, measured_ms: float, predicted_ms: float) -> Checked:
    return Checked(
        model=model,
        size=224,
        macs=int(measured_ms * 5e7),
        activations=10**6,
        measured_s=measured_ms / 1e3,
        samples_s=(measured_ms / 1e3,) * 24,
        predicted_s=predicted_ms / 1e3,
        by_macs_s=measured_ms * 1.4e-3,
        by_activations_s=measured_ms * 0.5e-3,
        by_roofline_s=measured_ms * 1.1e-3,
    )


CHECK = Check(
    calibration=CALIBRATION,
    started="2026-01-01T00:10:00+00:00",
    seconds=200.0,
    networks=(checked("a", 2, 2.06), checked("b", 4, 3.6), checked("c", 8, 8.0)),
    failures=(Failure(model="d", engine="native", threads=2, batch=1, size=224, reason="no such"),),
)


def printed(show, *things: object) -> str:
    console = Console(width=120, record=True, highlight=False, markup=False, file=None)
    with console.capture() as caught:
        show(console, *things)
    return caught.get()


def test_the_card_of_a_calibration_reads_rates_in_units():
    text = printed(print_calibration, CALIBRATION, Path("here.json"))

    assert "native 0.1.0, 2 threads, Example CPU" in text
    assert "400 synthetic networks in 180 s" in text
    assert "median error 5.0 %, 90th percentile 18.0 %, rank correlation 0.998" in text
    for name, rate in {
        "call": "4.00 µs",
        "pointwise.macs": "18.0 ps/MAC",
        "pool.operations": "100 ps/FLOP",
        "move.start": "1.00 µs",
    }.items():
        assert any(line.split() == [*name.split(), *rate.split()] for line in text.splitlines())


def test_the_card_of_a_check_has_all_predictors_and_the_worst_network_last():
    text = printed(print_check, CHECK)

    lines = [line.split() for line in text.splitlines()]
    assert ["latency", "model", "3.0", "%", "8.6", "%", "1.000"] in lines
    assert ["MACs", "40.0", "%", "40.0", "%", "1.000"] in lines
    assert ["b", "4.00", "3.60", "-10.0", "%"] in lines
    assert [one.model for one in by_error(CHECK.networks)] == ["c", "a", "b"]
    assert "no such" in text


def test_the_page_says_what_is_met_and_what_is_not():
    text = markdown(CHECK)
    assert "| latency model | 3.0 % | 8.6 % | 1.000 |" in text
    assert "- median error ≤ 10 %: 3.0 %, met" in text
    assert "| b | 224 | 200 | 4.00 | 3.60 | -10.0 % |" in text
    assert "no such" in text

    far = replace(CHECK, networks=tuple(replace(o, predicted_s=1e-3) for o in CHECK.networks))
    assert "- median error ≤ 10 %: 75.0 %, not met" in markdown(far)
    assert "- rank correlation ≥ 0.97: 0.000, not met" in markdown(far)


def test_the_picture_holds_every_network_once_a_predictor(tmp_path):
    (axes,) = picture(CHECK).axes
    drawn = {line.get_label(): line for line in axes.lines if line.get_marker() in ("o", "x")}

    assert list(drawn["latency model"].get_xdata()) == pytest.approx([2, 4, 8])
    assert list(drawn["latency model"].get_ydata()) == pytest.approx([2.06, 3.6, 8.0])
    assert list(drawn["MACs"].get_ydata()) == pytest.approx([2.8, 5.6, 11.2])
    first, second = tmp_path / "1", tmp_path / "2"
    for folder in (first, second):
        folder.mkdir()
        save_picture(CHECK, folder)
    name = "predicted-against-measured.png"
    assert (first / name).read_bytes() == (second / name).read_bytes()


def test_a_record_becomes_its_page(tmp_path):
    (tmp_path / CHECK_FILE).write_text(to_json(CHECK))
    page = tmp_path / "page.md"
    page.write_text("<!-- results:begin -->\n<!-- results:end -->\n")

    main(str(page), str(tmp_path))

    assert markdown(CHECK) in page.read_text()
    assert (tmp_path / "predicted-against-measured.png").exists()


def test_the_page_in_docs_is_what_its_record_gives(tmp_path):
    copy = Path(shutil.copy(ROOT / "docs" / "latency-model.md", tmp_path))
    before = copy.read_text()
    shutil.copy(ROOT / "benchmarks" / "latency-model" / CHECK_FILE, tmp_path)

    main(str(copy), str(tmp_path))

    assert copy.read_text() == before
