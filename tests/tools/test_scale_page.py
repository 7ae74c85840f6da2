"""The tables of docs/scale.md say what the record does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fleetfoot.files import read_json
from fleetfoot.train.scaling import predicted, traffic
from tools.scale import RECORD, Record, Row, checked, markdown, traced

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def record():
    return read_json(ROOT / "benchmarks" / "scale" / RECORD, Record)


@pytest.mark.slow
def test_the_page_is_made_from_the_record(record):
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    assert markdown(record) in page


def test_the_link_is_that_of_the_smallest_and_the_largest_sum(record):
    small, large = 4e-4, 4e-4 + 2**24 / 1e9
    sums = {**dict.fromkeys(record.sums_s, (1.0,)), "16": (small,), str(2**24): (large,)}
    link = replace(record, sums_s=sums).link
    assert link.latency_s == pytest.approx(2e-4)
    assert link.bytes_per_s == pytest.approx(1e9)


def test_a_prediction_begins_with_two_processes_apart_and_is_set_beside_one_run(record):
    row = Row(
        model="mobilenetv1_025", size=64, batch=16, alone_s=(0.1,), beside_s=(0.25, 0.3, 0.35),
        together_s=(0.4,), synchronised_s=(0.5,),
    )  # fmt: skip
    sent = traffic(traced(row.model, row.size, 100), sync_bn=True)
    made, found = checked(row, record.link, sync_bn=True)
    assert made == predicted(0.25, sent, 2, record.link, overlap=False)
    assert found == 0.5
    assert checked(row, record.link, sync_bn=False)[1] == 0.4
