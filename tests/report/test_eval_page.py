"""The page of an evaluation: what it shows is what the record holds; it loads and runs nothing."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from fleetfoot.evaluate.record import Answers, Evaluation, Share
from fleetfoot.evaluate.tally import Tally
from fleetfoot.report.eval_page import MISTAKES, html, worst
from fleetfoot.report.eval_svg import MOST_NARROW, MOST_WIDE, matrix, reliability, shown_classes
from fleetfoot.report.kit.markup import markup
from fleetfoot.report.kit.thumbnail import thumbnail
from tests.pages import HOSTILE, Tags, assert_loads_nothing, assert_runs_no
from tests.red_green_blue import FIVE, evaluation, png, split


def with_pairs(pairs: dict[tuple[int, int], int], classes: int) -> Evaluation:
    """An evaluation whose best guesses are these: number of pictures by true class and guess. The
    probability is 0.9 for the first picture, and less for each after it."""
    truth = np.array([t for (t, _), n in pairs.items() for _ in range(n)], np.int64)
    guess = np.array([g for (_, g), n in pairs.items() for _ in range(n)], np.int64)
    answers = Answers.empty([f"{i}.png" for i in range(len(truth))], truth, classes)
    rest = [(guess + step) % classes for step in range(answers.guesses.shape[1])]
    answers.guesses[:] = np.stack(rest, axis=1)
    answers.probabilities[:, 0] = np.linspace(0.9, 0.5, len(truth))
    tally = Tally(classes)
    for (one, other), n in pairs.items():
        tally.pairs[one, other] += n
        tally.accuracy.count(0 if one == other else 1, images=n)
    right = tally.accuracy.right(1)
    tally.bins[-1] = len(truth), right
    tally.confidence_parts[-1] = len(truth) * 2**40
    images = len(truth)
    record = replace(
        evaluation().record,
        classes=tuple(f"class number {n}" for n in range(classes)),
        tally=tally.as_json(),
        top1=Share(right=right, images=images),
        top5=Share(right=tally.accuracy.right(5), images=images),
        loss=tally.loss,
        calibration_error=tally.calibration_error,
        unreadable=0,
    )
    return Evaluation(record, answers)


def test_the_page_shows_the_figures_and_the_mistake():
    made = evaluation()
    text = html([made], FIVE)
    assert_loads_nothing(text)
    assert Tags(text).open == []
    for said in (
        "80.00 %",
        "95 % interval 37.55 to 96.38",
        "The only wrong answer",
        "Wilson",
        "5 pictures",
    ):
        assert said in text, said
    assert text.count("<img") == 1
    assert 'alt="3.png"' in text
    assert "img-src data:" in text
    assert "Engines side by side" not in text


def test_without_pictures_there_is_a_sheet_without_them():
    text = html([evaluation()])
    assert "no picture" in text
    assert "<img" not in text


def test_a_perfect_network_has_no_mistakes():
    given = split(("red", 0), ("lime", 1))
    assert "No picture is named wrongly." in html([evaluation(given)], given)


def test_engines_stand_side_by_side_with_what_they_disagree_on():
    one = evaluation()
    guesses = one.answers.guesses.copy()
    guesses[1, :2] = guesses[1, [1, 0]]  # green is no longer named
    tally = Tally.from_json(one.record.tally)
    tally.pairs[1, 1] -= 1
    tally.pairs[1, int(guesses[1, 0])] += 1
    tally.accuracy.ranks[0] -= 1
    tally.accuracy.ranks[1] += 1
    tally.bins[np.flatnonzero(tally.bins[:, 1])[-1], 1] -= 1
    other = Evaluation(
        replace(
            one.record, engine="native", tally=tally.as_json(), top1=Share(right=3, images=5),
            calibration_error=tally.calibration_error,
        ),
        replace(one.answers, guesses=guesses),
    )  # fmt: skip
    text = html([one, other], FIVE, [("ncnn", "it cannot")])
    assert "The engines disagree on 1 picture" in text
    assert "within noise" in text
    assert "ncnn: it cannot" in text
    assert "Figures of eager." in text


@pytest.mark.parametrize("narrow", [False, True])
def test_a_small_matrix_holds_every_count(narrow):
    made = with_pairs({(0, 0): 7, (0, 1): 3, (1, 1): 10}, 2)
    text = markup(matrix(made.record, narrow=narrow))
    assert re.findall(r'class="count middle s\d">(\d+)<', text) == ["7", "3", "10"]
    assert "class number 0 taken for class number 1: 3 of 10" in text
    assert "class number 1: 10 of 10 right" in text


@pytest.mark.parametrize(("narrow", "most"), [(False, MOST_WIDE), (True, MOST_NARROW)])
def test_a_matrix_of_a_thousand_classes_shows_those_that_are_confused_most(narrow, most):
    right = {(n, n): 5 for n in range(1000)}
    wrong = {(n, n + 1): 900 - n for n in range(0, 900, 50)}
    made = with_pairs(right | wrong, 1000)
    chosen = shown_classes(made.record.counts, most)
    assert len(chosen) == most
    assert chosen[:4] == [0, 1, 50, 51]
    text = markup(matrix(made.record, narrow=narrow))
    assert text.count("<rect") == most**2
    page = html([made])
    assert f"The {MOST_WIDE} of 1,000 classes that are confused most." in page
    assert "The most confused pairs" in page
    assert "1000 of" not in page
    assert page.count("<tr") < 1100


def test_no_text_of_a_matrix_or_chart_leaves_the_picture():
    long = with_pairs({(0, 0): 7, (0, 1): 3, (1, 1): 10}, 2)
    names = replace(long.record, classes=("a" * 80, "great white shark, white shark"))
    for narrow in (False, True):
        text = markup(matrix(names, narrow=narrow))
        width = float(re.search(r'viewBox="0 0 ([\d.]+)', text)[1])
        boxes = re.findall(r'<rect[^>]* x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', text) or [
            (x, w) for x, w in re.findall(r'<rect x="([\d.]+)"[^>]*width="([\d.]+)"', text)
        ]
        assert boxes
        assert all(float(x) + float(w) <= width for x, w in boxes)


def test_the_reliability_diagram_has_a_bar_for_each_range_with_pictures():
    made = evaluation()
    used = [one for one in made.record.counts.reliability if one.images]
    text = markup(reliability(made.record.counts, narrow=False))
    assert text.count('class="bar-right"') == len(used)
    assert text.count('class="mean"') == len(used)


def test_the_surest_mistakes_come_first():
    made = with_pairs({(0, 0): 2, (0, 1): 30, (1, 1): 1}, 2)
    assert worst(made, most=3) == [2, 3, 4]
    assert len(worst(made)) == MISTAKES
    assert f"The {MISTAKES} surest of 30 wrong answers." in html([made])


def test_names_cannot_become_markup():
    made = evaluation()
    record = replace(
        made.record, model=HOSTILE, data=HOSTILE, classes=(HOSTILE, HOSTILE, HOSTILE),
        notes=(HOSTILE,), engine=HOSTILE, matched=HOSTILE,
    )  # fmt: skip
    answers = replace(made.answers, pictures=[HOSTILE] * 5, errors={0: HOSTILE})
    hostile = Evaluation(record, answers)
    assert_runs_no(html([hostile, hostile], None, [(HOSTILE, HOSTILE)]))


def test_a_thumbnail_is_small_and_a_tiny_picture_keeps_its_pixels():
    pictures = split((png("red"), 0)).pictures
    assert thumbnail(pictures[0]).startswith("data:image/png;base64,")  # 40 x 30 pixels
    assert thumbnail(pictures[0], side=20).startswith("data:image/jpeg;base64,")
    assert thumbnail(split((b"broken", 0)).pictures[0]) is None
