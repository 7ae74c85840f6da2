"""Prices beside what was saved: the record, and what it says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleetfoot.errors import RecordError
from fleetfoot.explain.price_check import (
    PriceCheck,
    PriceRecord,
    check_prices,
    file_name,
    read,
    write,
)
from fleetfoot.explain.rules.examples import ROUND


def check(**changes):
    fields = {
        "rule": "G2",
        "findings": 4,
        "predicted_s": 2e-3,
        "broken_samples_s": (5e-3,) * 9,
        "mended_samples_s": (3e-3,) * 9,
    }
    return PriceCheck(**fields | changes)


def record(**changes):
    fields = {
        "engine": "native",
        "engine_version": "1",
        "threads": 2,
        "repeats": 4,
        "machine": ROUND,
        "started": "2000-01-01T00:00:00+00:00",
        "versions": {},
        "commit": "",
        "checks": (check(),),
        "absent": {"A1": "it cannot"},
    }
    return PriceRecord(**fields | changes)


def test_what_is_saved_is_the_difference_of_the_medians():
    one = check(broken_samples_s=(5e-3, 5e-3, 9e-3), mended_samples_s=(1e-3, 3e-3, 3e-3))

    assert (one.broken_s, one.mended_s) == (5e-3, 3e-3)
    assert one.saved_s == pytest.approx(2e-3)
    low, high = one.saved_ci95_s
    assert low <= one.saved_s <= high
    assert check().saved_ci95_s == pytest.approx((2e-3, 2e-3))  # samples without spread


def test_a_record_comes_back_and_replaces_its_earlier_one(tmp_path):
    write(tmp_path, record(commit="old"))
    write(tmp_path, record())
    write(tmp_path, record(threads=1))

    assert read(tmp_path) == [record(threads=1), record()]
    assert file_name(record()) == "native-2.json"
    assert read(tmp_path / "none") == []


def test_damaged_records_are_named(tmp_path):
    write(tmp_path, record(schema=99))
    with pytest.raises(RecordError, match=r"native-2\.json is of schema 99"):
        read(tmp_path)
    (tmp_path / "native-2.json").write_text("{")
    with pytest.raises(RecordError, match=r"native-2\.json: not JSON"):
        read(tmp_path)


@pytest.mark.engine("native")
def test_a_rule_is_measured_both_ways():
    made = check_prices(replace(ROUND, threads=1), rounds=1, rules=["G2"])

    (one,) = made.checks
    assert one.rule == "G2"
    assert min(one.broken_samples_s + one.mended_samples_s) > 0
    assert made.absent == {}


def test_rules_without_a_mended_network_are_refused():
    with pytest.raises(ValueError, match="the price of F1 cannot be checked, only of G1"):
        check_prices(ROUND, rules=["F1"])
    with pytest.raises(ValueError, match="rounds must be 1 or more"):
        check_prices(ROUND, rounds=0)
