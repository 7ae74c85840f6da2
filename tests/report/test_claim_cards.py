"""Claims on the card, on the page and in pictures."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from fleetfoot.claims import CLAIMS
from fleetfoot.claims.base import Found, Ratio, verdict
from fleetfoot.report import claims as cards
from records import failure, measurement

ENGINES = ("eager", "native")


@pytest.fixture
def rows():
    """Every subject of three claims on two engines; the later a subject is named, the faster."""
    found = []
    for name in ("pconv-stack", "g4", "table3"):
        for i, subject in enumerate(CLAIMS[name].subjects):
            samples = [(0.02 + 1e-5 * j) / (1 + i) for j in range(8)]
            found += [
                measurement(samples, model=f"{name}/{subject.name}", engine=engine)
                for engine in ENGINES
            ]
    return found


def verdicts(rows, failures=(), names=("pconv-stack", "g4", "table3", "pairs")):
    return [verdict(CLAIMS[name], rows, failures) for name in names]


def printed(found, width=160, **options):
    console = Console(file=io.StringIO(), width=width)
    cards.print_claims(console, found, **options)
    return console.file.getvalue()


def test_the_card_shows_the_paper_the_figure_here_and_the_verdict(rows):
    said = printed(verdicts(rows, names=["g4"]), times=True)
    assert "ReLU and shortcut / neither, ARM channels x1" in said
    assert "1.17*" in said  # 66.3 / 56.7, by which the verdict goes
    assert "56.7" in said  # the paper's own rate
    assert "4.00" in said  # the first subject has four times the time of the fourth
    assert "verdict: holds (" in said


def test_what_was_not_measured_is_said_once_a_reason(rows):
    gone = [failure(model="pairs/cyclemlp_b1", engine=e, reason="no such thing") for e in ENGINES]
    said = printed(verdicts(rows, gone, ["pairs"]))
    assert said.count("no such thing") == 1
    assert "cyclemlp_b1 / torchvision:resnet50 on eager" in said
    assert "verdict: not measured" in said


def test_a_table_names_networks_that_cannot_be_had(rows):
    assert "absent: PVT-Tiny" in printed(verdicts(rows, names=["table3"]))


def test_the_list_describes_every_claim():
    console = Console(file=io.StringIO(), width=120)
    cards.print_list(console, list(CLAIMS.values()))
    said = console.file.getvalue()
    assert all(f"{name}  " in said for name in CLAIMS)
    assert "5 experiments, 2 of them if time is left" in said


def test_the_record_for_programs_is_plain(rows):
    found = json.loads(json.dumps(cards.record(verdicts(rows)), allow_nan=False))
    stack = found[0]
    assert stack["claim"] == "pconv-stack"
    assert len(stack["ratios"]) == 12 * len(ENGINES)
    assert stack["ratios"][0]["ratio"]["published"]["CPU"] == pytest.approx(3.945, rel=1e-3)
    assert stack["times"][0]["published"] == {"GPU /s": 3010, "CPU ms": 35.67, "ARM ms": 779.57}
    assert found[-1]["verdict"] == "not measured"


def test_pictures_are_small_and_the_same_again(rows, tmp_path):
    found = verdicts(rows)
    written = cards.save(found, tmp_path / "a")
    assert [path.name for path in written] == [
        "pconv-stack.png", "g4.png", "table3.png", "table3.rate.png",
    ]  # fmt: skip
    assert all(path.stat().st_size < 250_000 for path in written)
    again = cards.save(found, tmp_path / "b")
    assert [p.read_bytes() for p in written] == [p.read_bytes() for p in again]


def test_a_verdict_in_a_picture_is_told_by_its_filling_and_has_a_legend(rows):
    assert len(set(cards.FILLS.values())) == len(cards.FILLS) == len(cards.COLOURS)
    for name in ("pconv-stack", "g4", "table3"):
        judged = verdict(CLAIMS[name], rows)
        figure = cards.ratios_figure(judged)
        (legend,) = figure.legends
        named = {text.get_text() for text in legend.get_texts()}
        words = {f.word for f in judged.found if f.here is not None and f.interval}
        assert words
        assert named == {*judged.engines, "as the paper has it", *words}
        fills = {
            line.get_fillstyle() for line in figure.axes[0].lines if line.get_marker() != "None"
        }
        assert fills == {cards.FILLS[word] for word in words}


def test_the_page_holds_each_claim_its_tables_and_links_to_its_pictures(rows, tmp_path):
    found = verdicts(rows)
    pictures = cards.save(found, tmp_path / "benchmarks" / "claims")
    text = cards.markdown(found, rows, [], pictures, tmp_path / "docs" / "claims.md")
    assert "| [g4](#g4) |" in text
    assert "![table3](../benchmarks/claims/table3.rate.png)" in text
    assert "![g4](../benchmarks/claims/g4.png)" in text
    assert "Example CPU" in text  # which machine
    table = [line for line in text.splitlines() if line.startswith("| ReLU and shortcut / neither")]
    assert len(table) == 3
    assert len({line.count("|") for line in table}) == 1


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("holds", "2.28 (1.41 to 2.32) ✓"),
        ("does not hold", "2.28 (1.41 to 2.32) ✗"),
        ("not judged", "2.28 (1.41 to 2.32)"),
    ],
)
def test_a_ratio_in_a_cell(word, text):
    ratio = Ratio(text="a / b", over="a", under="b")
    found = Found(
        experiment="e", ratio=ratio, engine="eager", word=word, here=2.277, interval=(1.409, 2.32)
    )
    assert cards.ratio_text(found) == text
    missing = Found(experiment="e", ratio=ratio, engine="eager", word="not measured", reason="no")
    assert cards.ratio_text(missing) == "-"


def test_pictures_lie_where_they_are_asked_for(rows, tmp_path):
    (path,) = cards.save(verdicts(rows, names=["g4"]), tmp_path / "new" / "folder")
    assert path == Path(tmp_path / "new" / "folder" / "g4.png")
