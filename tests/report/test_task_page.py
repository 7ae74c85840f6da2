"""The page and the card of an evaluation of a task: they show what the record holds, and run
nothing."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from fleetfoot.evaluate.task_compare import compare
from fleetfoot.report.kit.hues import class_hex, class_rules
from fleetfoot.report.kit.markup import markup
from fleetfoot.report.task_evaluations import print_task_comparison, print_task_evaluations
from fleetfoot.report.task_page import html
from fleetfoot.report.task_svg import (
    NOTHING,
    Box,
    boxes,
    confusion,
    curves,
    shares_within,
    shown_classes,
    spent,
)
from tests import spots
from tests.evaluate.test_task_run import RIGHT, evaluated
from tests.pages import HOSTILE, Tags, assert_loads_nothing, assert_runs_no

pytest.importorskip("faster_coco_eval")


def test_the_page_shows_figures_curves_and_the_worst_pictures_twice():
    given = spots.scenes(*spots.FIVE, masks=True)
    made = evaluated(given, masks=True)
    text = html(made, given.test)
    assert_loads_nothing(text)
    assert Tags(text).open == []
    record = made[0].record
    for said in (
        f"{record.figures['ap']:.2f} %",
        "95 % interval",
        "mask AP",
        "Precision by recall",
        "red: missed",
        f"green {record.score:.2f}"[:9],
        "(nothing)",
        "bootstrap over pictures",
    ):
        assert said in text, said
    assert text.count('class="view"') == 2 * 2  # two pictures with a mistake
    assert text.count("<img") == 2 * 2 * 2  # each under the veil of its masks
    assert 'alt="2.png"' in text


def test_without_pictures_the_boxes_keep_their_places():
    text = html(evaluated())
    assert "<img" not in text
    assert f'viewBox="0 0 {spots.WIDTH} {spots.HEIGHT}"' in text


def test_a_perfect_network_has_no_mistakes():
    text = html(evaluated(spots.scenes(RIGHT)))
    assert "There is no mistake on any picture." in text
    assert "95 % interval 100" not in text  # one picture has none


def test_engines_stand_side_by_side():
    (one,) = evaluated()
    other = one._replace(record=replace(one.record, engine="native"))
    text = html([one, other], None, failures=[("ncnn", "it cannot")])
    assert "Engines side by side" in text
    assert "within noise" in text
    assert "ncnn: it cannot" in text
    assert "Figures of eager." in text


def test_names_cannot_become_markup():
    (made,) = evaluated()
    record = replace(made.record, model=HOSTILE, data=HOSTILE, classes=(HOSTILE,) * 3,
                     notes=(HOSTILE,), engine=HOSTILE, matched=HOSTILE)  # fmt: skip
    answers = replace(made.answers, names=[HOSTILE] * 5, errors={0: HOSTILE})
    hostile = made._replace(record=record, answers=answers)
    assert_runs_no(html([hostile, hostile], None, failures=[(HOSTILE, HOSTILE)]))


@pytest.mark.parametrize("narrow", [False, True])
def test_a_line_for_each_class_and_their_mean(narrow):
    flat, half = np.ones(101), np.where(np.arange(101) <= 50, 1.0, 0.0)
    text = markup(curves([(0, "cat", flat), (2, "dog", half)], narrow=narrow))
    assert re.findall(r"<title>(.*?)</title>", text) == [
        "cat: 100.0 % AP50",
        "dog: 50.5 % AP50",
        "mean of 2 classes: 75.2 % AP50",
    ]
    many = [(n, str(n), half) for n in range(20)]
    assert markup(curves(many, narrow=narrow)).count("curve grey") == 20


def test_each_part_has_a_bar_as_long_as_its_time():
    text = markup(spent({"backbone": 0.003, "head": 0.001}))
    assert re.findall(r"<title>(.*?)</title>", text) == [
        "backbone: 3.00 ms, 75 %",
        "head: 1.00 ms, 25 %",
    ]
    one, other = map(float, re.findall(r'class="part"[^>]* width="([\d.]+)"', text))
    assert one == pytest.approx(3 * other, abs=0.2)


@pytest.mark.parametrize("narrow", [False, True])
def test_shares_of_pictures_step_up_at_each_error(narrow):
    text = markup(shares_within([1.0, 2.0, 4.0], title="mm", narrow=narrow))
    assert "half of the 3 pictures are within 2.00" in text
    (line,) = re.findall(r'class="curve mean" d="([^"]+)"', text)
    assert line.count("V") == 3
    assert markup(shares_within([0.0], title="mm", narrow=narrow))  # all are perfect


def test_boxes_lie_where_they_are_and_few_are_named():
    one = Box(edges=(10.0, 20.0, 30.0, 60.0), kind="hit", name="cat 0.90", said="cat 0.90: right")
    text = markup(boxes([one], 100, 200))
    assert 'x="10.0" y="20.0" width="20.0" height="40.0"' in text
    assert 'viewBox="0 0 200 100"' in text
    assert ">cat 0.90</text>" in text
    assert "</text>" not in markup(boxes([one] * 40, 100, 200))


@pytest.mark.parametrize("narrow", [False, True])
def test_confusion_of_objects_says_what_each_cell_means(narrow):
    counts = np.array([[5, 1, 2], [0, 3, 0], [4, 0, 0]])
    text = markup(confusion(counts, ("cat", "dog"), objects=True, narrow=narrow))
    assert re.findall(r"<title>(.*?)</title>", text) == [
        "cat found: 5 of 8",
        "cat found as dog: 1 of 8",
        "cat not found: 2 of 8",
        "dog found: 3 of 3",
        "cat found where nothing is: 4",
    ]
    assert NOTHING in text


def test_confusion_of_pixels_is_in_percent():
    counts = np.array([[900, 100], [1, 999]])
    text = markup(confusion(counts, ("road", "sky"), objects=False, narrow=False))
    assert "road taken for sky: 10.00 % of its pixels" in text
    assert re.findall(r'class="count middle s\d">([^<]+)<', text) == ["90", "10", "·", "100"]


def test_of_many_classes_those_that_are_confused_most_are_shown():
    counts = np.diag(np.full(61, 10))
    counts[60, 60] = 0
    for n in range(0, 60, 10):
        counts[n, n + 1] = 3 + n
    chosen = shown_classes(counts, 7, objects=True)
    assert chosen == [30, 31, 40, 41, 50, 51, 60]
    assert shown_classes(counts, 100, objects=True) == list(range(61))


def test_classes_beside_each_other_have_other_colours():
    assert len({class_hex(n) for n in range(80)}) == 80
    assert class_rules([3]) == f".c3 {{ --hue: {class_hex(3)}; }}\n"


def said(print_it, *given) -> str:
    file = io.StringIO()
    print_it(Console(file=file, width=110), *given)
    return file.getvalue()


def test_the_card_names_figures_classes_and_what_could_not_be_used():
    made = evaluated(spots.scenes(*spots.FIVE, b"broken"), on_bad="skip")
    text = said(print_task_evaluations, made, [("ncnn", "it cannot")])
    record = made[0].record
    for words in (
        "spots on spots, test",
        "5 pictures, 3 classes, matched by name",
        f"{record.figures['ap']:.2f} % (",
        "1 picture could not be used",
        "5.png: not a picture",
        "ncnn did not run: it cannot",
        "not a measurement of speed",
    ):
        assert words in text, words
    rows = re.findall(r"^(red|green|blue) ", text, re.MULTILINE)
    assert rows == ["green", "red", "blue"]  # the weakest first


def test_the_card_of_a_comparison_says_what_is_beyond_noise():
    (made,) = evaluated()
    text = said(print_task_comparison, compare(made, made))
    assert "by AP, after is within noise, on 5 pictures" in text
    assert "+0.00" in text


def test_the_page_in_a_browser(opened):
    given = spots.scenes(*spots.FIVE, masks=True)
    page = opened(html(evaluated(given, masks=True), given.test))
    assert page.locator(".over rect").count() >= 4
    frame, box = (page.locator(one).first.bounding_box() for one in (".layers", ".over rect.hit"))
    # the first square of the first picture with a mistake lies in its top left corner
    assert box["width"] == pytest.approx(frame["width"] / 4, abs=3)  # the stroke is 2 wide
    page.fill("#find", "gre")
    assert page.inner_text("#count") == "1 of 3 classes"
    narrow = opened(html(evaluated(given), given.test), viewport={"width": 390, "height": 3000})
    wide = narrow.evaluate("document.documentElement.scrollWidth")
    assert wide <= 390
