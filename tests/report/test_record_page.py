"""The page is whole by itself, runs nothing that a record says, and works in a browser."""

from __future__ import annotations

import re

import pytest

from fleetfoot.report.record_page import html
from pages import HOSTILE, Tags, assert_loads_nothing, assert_runs_no
from records import MACHINE, failure, joined, joined_record, start


def test_every_tag_is_closed_and_every_row_is_there():
    tags = Tags(html(joined_record(), [failure()]))
    assert tags.open == []
    assert sum("data-latency" in attributes for _, attributes in tags.found) == 39
    # two pictures, each in a wide and in a narrow form, with a mark for each cell that has a top-1
    marks = [a for _, a in tags.found if (a.get("class") or "").startswith("point")]
    assert len(marks) == 2 * 39 + 2 * 36


def test_the_page_names_no_address_and_loads_nothing():
    assert_loads_nothing(html(joined_record(), [failure()]))


def test_hostile_text_stays_text_wherever_it_stands():
    row = joined(
        model=HOSTILE, engine=HOSTILE, top1_source=HOSTILE, protocol=HOSTILE, started=HOSTILE,
        commit=HOSTILE, versions={HOSTILE: HOSTILE}, machine={**MACHINE, "cpu": HOSTILE},
    )  # fmt: skip
    assert_runs_no(html([row, joined(batch=2)], [failure(reason=HOSTILE, engine=HOSTILE)]))


def test_the_same_record_gives_the_same_page():
    assert html(joined_record(), [failure()]) == html(joined_record(), [failure()])


def test_what_did_not_run_and_how_it_was_measured_are_on_the_page():
    text = html(joined_record(), [failure()])
    assert "torch.compile needs a C++ compiler" in text
    assert "unstable: spread 28 %" in text
    assert "118 GFLOP/s in a matrix product" in text


def column(page, index: int) -> list[str]:
    return page.locator(f"tbody tr:visible > :nth-child({index})").all_inner_texts()


@pytest.mark.slow
def test_a_click_or_the_keyboard_sorts_and_says_so(opened):
    page = opened(html(joined_record()))
    assert len(column(page, 1)) == 13
    latency = page.locator("thead th").nth(5)
    assert latency.get_attribute("aria-sort") == "ascending"
    latency.get_by_role("button").click()
    assert latency.get_attribute("aria-sort") == "descending"
    figures = [float(text) for text in column(page, 6)]
    assert figures == sorted(figures, reverse=True)

    page.locator("thead th").nth(1).get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert page.locator("thead th").nth(1).get_attribute("aria-sort") == "ascending"
    assert latency.get_attribute("aria-sort") == "none"
    shown = column(page, 2)
    assert shown[-1] == "-"  # unknown stays last, whichever way
    assert [float(t) for t in shown[:-1]] == sorted(float(t) for t in shown[:-1])
    page.keyboard.press("Enter")
    assert column(page, 2)[-1] == "-"


@pytest.mark.slow
def test_filters_act_on_the_table_and_on_the_pictures(opened):
    page = opened(html(joined_record()))
    best = page.locator(".chart.wide").first.locator(".best")
    assert best.count() == 13
    page.get_by_label("every engine").check()
    assert len(column(page, 1)) == 39
    page.get_by_label("Find").fill("fasternet eager")
    assert len(column(page, 1)) == 2
    page.get_by_label("Find").fill("")
    page.get_by_label("every engine").uncheck()

    page.locator("button[data-engine=openvino]").click()
    assert page.locator("button[data-engine=openvino]").get_attribute("aria-pressed") == "false"
    assert len(column(page, 1)) == 13  # the next engine is now the fastest
    assert "openvino" not in column(page, 12)
    page.locator("button[data-family=MobileNet]").click()
    assert len(column(page, 1)) == 9
    visible = [name for name in page.locator(".chart.wide").first.locator(".name").all()
               if name.is_visible()]  # fmt: skip
    assert len(visible) == 9


@pytest.mark.slow
def test_the_front_follows_the_filter(opened):
    page = opened(html(joined_record()))
    front = page.locator(".chart.wide .front")

    def line() -> list[float]:
        return [float(number) for number in re.findall(r"[\d.]+", front.get_attribute("d"))]

    drawn = line()
    page.locator("button[data-engine=openvino]").click()
    assert line() != drawn
    page.locator("button[data-engine=openvino]").click()
    assert line() == pytest.approx(drawn)


@pytest.mark.slow
def test_a_mark_tells_its_row_and_a_setting_is_chosen(opened):
    page = opened(html([*joined_record(), *joined_record(batch=32, threads=2)]))
    page.locator(".chart.wide .best:visible").first.hover()
    tip = page.locator("#tip").inner_text()
    assert "95 % interval" in tip
    assert "latency" in tip
    page.get_by_label("Setting").select_option("2 threads, batch 32")
    assert page.locator("h2:visible").first.inner_text() == "2 threads, batch 32"
    assert page.locator("#count").inner_text() == "13 of 39 cells"


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 768, 1280])
def test_no_width_scrolls_the_page_sideways(opened, width):
    page = opened(html(joined_record(), [failure()]), viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.slow
def test_hostile_names_run_nothing_in_a_browser(opened):
    other = joined([0.02], model="x", macs=10**9)
    rows = [joined(model=HOSTILE, engine=HOSTILE), other]
    page = opened(html(rows, [failure()]))
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    page.locator(".chart.wide .best").first.hover()
    page.locator("#tip").wait_for(state="visible")
    assert HOSTILE in page.locator("tbody th").all_text_contents()


@pytest.mark.slow
def test_without_script_every_cell_is_shown(browser, tmp_path):
    (tmp_path / "page.html").write_text(html(joined_record()), encoding="utf-8")
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    assert page.locator("tbody tr:visible").count() == 39
    context.close()


def test_the_own_engine_and_the_starts_have_tables_of_their_own():
    rows = [joined(engine="native"), joined([0.02] * 8, engine="ncnn")]
    text = html(rows, [], [start(), start("ncnn", import_s=0.1)])
    assert "Every engine, ms a batch" in text
    assert "From a file, in a new process" in text
    assert "Every engine" not in html(rows[1:])
    assert "From a file" not in html(rows)
