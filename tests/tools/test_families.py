"""The page of timm's families says what its record does; the tool records what became of each."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from fleetfoot.errors import EngineError
from tools import families
from tools.families import Families, Tried, main, markdown, read, smallest, survey

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "benchmarks" / "families.json"
PAGE = ROOT / "docs" / "families.md"


def of(**fields) -> Tried:
    return Tried(
        family="resnet", network="resnet10t", size=(3, 176, 176), macs=680_000_000, **fields
    )


def recorded(*rows: Tried) -> Families:
    return Families(versions={"timm": "1.0"}, families=rows)


def test_the_page_is_the_records():
    assert markdown(read(RECORD)) in PAGE.read_text(encoding="utf-8")


def test_the_record_has_one_network_each_of_all_families():
    rows = read(RECORD).families
    assert len({one.family for one in rows}) == len(rows) == 98
    counted = [one for one in rows if one.counts]
    assert len(counted) == 81
    assert all(0 < one.macs < families.LIMIT and len(one.size) == 3 for one in counted)
    assert not any(one.network.startswith("test_") for one in counted)


def test_a_page_tells_who_is_taken_who_is_left_and_why():
    text = markdown(
        recorded(
            of(error=2e-7, redrawn=3e-7),
            replace(of(reason="native lacks aten.new (at a | b)"), family="other", network="o"),
            Tried(family="large", network=""),
            replace(of(), family="later"),
        )
    )
    assert "**1 of 2** families compile" in text
    assert "timm 1.0" in text
    assert "| other | o |" in text
    assert "native lacks aten.new" in text
    assert "2.0e-07" in text
    assert "1 families are not tried yet: later." in text
    assert "No network below 6 GMACs: large." in text


def test_a_page_is_made_between_its_markers(tmp_path, capsys):
    record, page = tmp_path / "record.json", tmp_path / "page.md"
    record.write_text(json.dumps(asdict(recorded(of(error=1e-7)))))
    page.write_text("a\n<!-- results:begin -->\n<!-- results:end -->\nb\n")
    main([str(page), str(record)])
    main([str(page), str(record)])
    assert "resnet10t" in page.read_text()
    assert ["updated" in line for line in capsys.readouterr().out.splitlines()] == [True, False]


@pytest.mark.slow
def test_the_smallest_network_of_a_family():
    one = smallest("mobilenetv3")
    assert (one.network, one.size) == ("mobilenetv3_small_050", (3, 224, 224))
    assert smallest("vgg") == Tried(family="vgg", network="")


class TestSurvey:
    @pytest.fixture(autouse=True)
    def two_families(self, monkeypatch, tmp_path):
        self.file = tmp_path / "record.json"
        monkeypatch.setattr(families.timm, "list_modules", lambda: ["a", "b"])
        monkeypatch.setattr(families, "smallest", lambda family: replace(of(), family=family))

    def results(self) -> dict[str, tuple[float | None, str]]:
        return {one.family: (one.error, one.reason) for one in read(self.file).families}

    def test_each_result_is_kept_and_not_tried_again(self, monkeypatch):
        tried = []

        def in_a_process(one):
            tried.append(one.family)
            if one.family == "b" and len(tried) == 2:
                raise KeyboardInterrupt
            return replace(one, error=1e-7)

        monkeypatch.setattr(families, "_in_a_process", in_a_process)
        with pytest.raises(KeyboardInterrupt):
            survey(self.file)
        assert self.results() == {"a": (1e-7, ""), "b": (None, "")}
        survey(self.file)
        assert tried == ["a", "b", "b"]
        survey(self.file, ["a"])
        assert tried == ["a", "b", "b", "a"]

    def test_a_process_that_dies_or_takes_too_long_is_a_reason(self, monkeypatch):
        def dies_or_sleeps(one):
            if one.family == "a":
                os.kill(os.getpid(), signal.SIGKILL)
            signal.pause()

        monkeypatch.setattr(families, "tried", dies_or_sleeps)
        monkeypatch.setattr(families, "SECONDS", 0.5)
        survey(self.file)
        found = self.results()
        assert "took more than" in found["b"][1]
        # on a machine that is busy even dying may take longer
        assert "died with status -9" in found["a"][1] or "took more than" in found["a"][1]

    def test_what_the_engine_says_is_the_reason(self, monkeypatch):
        def refused(*arguments, **options):
            raise EngineError("native lacks\n  aten.new")

        monkeypatch.setattr(families, "load", refused)
        monkeypatch.setattr(families, "folded", lambda made: (made, ""))
        assert families.tried(of()).reason == "native lacks aten.new"


HANDFUL = ("csatv2", "hiera", "levit", "lowformer", "rdnet")
"""Families that were refused before: an index beyond its axis, a recursion, tables by device, a
transposed convolution, wrong answers."""


@pytest.mark.slow
@pytest.mark.parametrize("family", HANDFUL)
def test_a_handful_of_families_are_taken(family):
    (one,) = (one for one in read(RECORD).families if one.family == family)
    found = families.tried(replace(one, error=None, redrawn=None, reason=""))
    assert found.reason == ""
    assert found.error is not None
    assert found.error < 1e-5
