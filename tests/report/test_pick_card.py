"""The card of a pick says for each figure where it comes from."""

from __future__ import annotations

import json

from rich.console import Console

from fleetfoot.choose.pick import Candidate, Limits, Pick
from fleetfoot.report.pick import print_card, record


def candidate(model: str, measured_ms: float | None, top1: float) -> Candidate:
    return Candidate(
        model=model,
        size=224,
        top1=top1,
        top1_source="a paper",
        weight_bytes=12_500_000,
        macs=300_000_000,
        predicted_s=0.004,
        measured_s=None if measured_ms is None else measured_ms / 1e3,
    )


MADE = Pick(
    engine="native",
    threads=2,
    batch=1,
    limits=Limits(max_s=0.010, min_top1=60, max_bytes=20e6),
    predictor="latency model",
    front=(candidate("small", 3.5, 66.5), candidate("large", 8.25, 75.0)),
    others=(candidate("slow", 12.0, 74.0),),
    considered=70,
    without_top1=("new",),
    failures={"odd": "lacks an operator"},
)


def test_the_card():
    console = Console(width=140, highlight=False, markup=False)
    with console.capture() as caught:
        print_card(console, MADE)
    text = caught.get()

    assert "within 10 ms, top-1 of 60 % or more, weights of 20 MB or less: native, 2 thr" in text
    assert "predicted by latency model" in text
    assert "large, top-1 75 % (published: a paper), 8.25 ms (measured)" in text
    assert "measured too, and not on the front" in text
    assert "70 networks with a published top-1 were predicted by the latency model" in text
    assert "1 network has no published top-1 and is left out" in text
    assert "odd is left out: lacks an operator" in text


def test_the_record_says_where_each_latency_comes_from():
    found = json.loads(json.dumps(record(MADE)))

    assert [row["model"] for row in found["front"]] == ["small", "large"]
    assert found["front"][0]["latency_basis"] == "measured"
    assert found["front"][0]["latency_s"] == 0.0035
    assert found["front"][0]["predicted_s"] == 0.004
    assert found["front"][0]["top1_basis"] == "published"
    assert found["limits"] == {"max_s": 0.010, "min_top1": 60, "max_bytes": 20e6}
    assert found["failures"] == {"odd": "lacks an operator"}
