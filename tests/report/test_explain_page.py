"""The page of an explanation is whole by itself, says what the record says, and works in a
browser."""

from __future__ import annotations

import math
import re
from html import escape

import pytest

from explanations import explanation, finding, machine, renamed
from fleetfoot.explain.explanation import from_json, to_json
from fleetfoot.explain.rules import RULES
from fleetfoot.report.explain import head, layer_rows, remarks
from fleetfoot.report.explain_page import html
from fleetfoot.report.layers import intensity, rate
from fleetfoot.report.summary import digits
from pages import HOSTILE, Tags, assert_loads_nothing, assert_runs_no


def classes(tags: Tags, name: str) -> list[dict[str, str | None]]:
    return [a for _, a in tags.found if name in (a.get("class") or "").split()]


def test_every_tag_is_closed_and_every_layer_has_a_row():
    found = explanation()
    tags = Tags(html(found))
    assert tags.open == []
    assert [a["id"] for a in classes(tags, "leaf")] == [f"l{i}" for i in range(len(found.layers))]
    parents = {a["id"]: a["data-parent"] for t, a in tags.found if t == "tr" and "id" in a}
    assert [row for row, parent in parents.items() if not parent] == ["m0"]
    assert set(parents.values()) <= {*parents, ""}


def test_every_link_leads_to_something_on_the_page():
    tags = Tags(html(explanation()))
    ids = {a["id"] for _, a in tags.found if "id" in a}
    links = [a["href"] for tag, a in tags.found if tag == "a"]
    assert links
    assert {link.removeprefix("#") for link in links} <= ids


def test_the_page_names_no_address_and_loads_nothing():
    every_rule = tuple(finding(rule=rule.code, name=rule.name) for rule in RULES.values())
    text = html(explanation(findings=every_rule))
    assert_loads_nothing(text)
    assert all(f'id="rule-{code}"' in text for code in RULES)


def test_hostile_text_stays_text_wherever_it_stands():
    found = explanation(
        model=HOSTILE, machine=machine(cpu=HOSTILE), trace_note=HOSTILE, commit=HOSTILE,
        versions={HOSTILE: HOSTILE}, started=HOSTILE, unmapped=(HOSTILE,),
        findings=(finding(rule=HOSTILE, name=HOSTILE, text=HOSTILE, change=HOSTILE),),
    )  # fmt: skip
    assert_runs_no(html(renamed(found, "stem.0", f"a.{HOSTILE}")))


def test_the_same_explanation_gives_the_same_page_through_json_too():
    found = explanation()
    assert html(found) == html(from_json(to_json(found)))


def cells(text: str, row: str) -> list[str]:
    (found,) = re.findall(rf'<tr id="{row}".*?</tr>', text)
    return [re.sub("<[^>]*>", "", cell) for cell in re.findall(r"<td.*?</td>", found)]


def test_a_row_says_what_the_record_says():
    found = explanation()
    layer = found.layers[0]  # the stem: 5 of 20 µs
    assert cells(html(found), "l0") == [
        "0.00500",
        "25",
        digits(layer.floor.seconds * 1e3),
        digits(layer.time_s / layer.floor.seconds, 2),
        digits(layer.above_floor_s * 1e3),
        digits(layer.flops_per_s / 1e9),
        digits(layer.intensity, 2),
        "compute",
        "conv 3×3 3→16 /2",
        "conv",  # the node "conv stem.0" without its module
    ]


def test_a_layer_that_ran_within_anothers_node_says_so_and_has_no_figures():
    act = cells(html(explanation()), "l3")
    assert act == [*["-"] * 7, "", "relu", "within blocks.0.project"]


def test_the_head_holds_the_totals():
    text = re.sub("<[^>]*>", " ", html(explanation()))
    gflops = digits(2 * explanation().macs / 2.1e-5 / 1e9)
    for said in (
        "Why example_net takes 0.0210 ms",
        f"{gflops} GFLOP/s",
        "of the measured peak, 100",
    ):
        assert said in text
    assert "had not settled" not in text
    assert "had not settled" in html(explanation(steady=False))


def test_dots_lie_where_their_layers_are_under_the_roofs():
    found = explanation()
    tags = Tags(html(found))
    circles = [a for tag, a in tags.found if tag == "circle"]
    marks = classes(tags, "mark")
    wide = marks[: len(marks) // 2]
    # all seven that took time, the pooling by its exact operations
    assert sorted(a["data-row"] for a in wide) == ["l0", "l1", "l10", "l2", "l5", "l6", "l9"]
    layers = {a["data-row"]: found.layers[int(a["data-row"][1:])] for a in wide}
    spots = {a["data-row"]: c for a, c in zip(wide, circles[: len(wide)], strict=True)}
    # logarithmic axes: distances are as the logarithms of ratios
    for value, axis in ((intensity, "cx"), (rate, "cy")):
        scales = [
            (float(spots[row][axis]) - float(spots["l0"][axis]))
            / math.log(value(layers[row]) / value(layers["l0"]))
            for row in layers
            if abs(math.log(value(layers[row]) / value(layers["l0"]))) > 0.5
        ]
        assert len(scales) >= 2
        assert scales == pytest.approx([scales[0]] * len(scales), rel=0.02)
    share = {row: layer.time_s / found.nodes_s for row, layer in layers.items()}
    radius = {row: float(circle["r"]) for row, circle in spots.items()}
    assert radius["l0"] ** 2 / radius["l2"] ** 2 == pytest.approx(
        share["l0"] / share["l2"], rel=0.02
    )


def test_the_icicle_shares_out_the_width_by_time():
    tags = Tags(html(explanation()))
    found = {a["data-name"]: a for a in classes(tags, "cell")}
    assert float(found["example_net"]["data-w"]) == 1
    assert float(found["stem.0"]["data-w"]) == pytest.approx(5 / 20)
    assert float(found["blocks"]["data-x"]) == pytest.approx(5 / 20)
    assert "act" not in found  # it took no time
    assert found["pool"]["class"] == "cell h4"  # 0.5 µs on a floor of 0.08
    assert found["stem.0"]["class"] == "cell h2"  # 5 µs on 2.2


def test_findings_are_dearest_first_and_link_to_their_rows():
    near, dear = finding("head", 1e-6), finding("blocks.1", 9e-6, rule="G4")
    text = html(explanation(findings=(near, dear)))
    links = [a["data-row"] for a in classes(Tags(text), "to-row")]
    # of a module with layers of its own and of others within, the row that sums them
    assert re.search(rf'<tr id="{links[0]}" class="sum"[^>]*data-tip="blocks.1"', text)
    assert links[1] == "l10"
    assert 'href="#rule-G4"' in text
    assert "No rule found" in html(explanation(findings=()))


def test_the_cheapest_of_many_findings_are_folded_away():
    many = tuple(finding("head", (10 - i) * 1e-6) for i in range(10))
    assert "2 more, of 0.00200 ms or less" in html(explanation(findings=many))
    assert " more, of " not in html(explanation(findings=many[:8]))


def test_a_finding_on_a_module_without_a_row_leads_to_the_nearest():
    below = finding("stem")  # the stem is one row with the only module within it
    above = finding("head.nothing.here")
    links = classes(Tags(html(explanation(findings=(below, above)))), "to-row")
    assert [a["data-row"] for a in links] == ["l0", "l10"]


def test_a_network_without_arithmetic_has_no_roofline():
    found = explanation()
    layers = tuple(
        layer for layer in found.layers if layer.module in ("blocks.0.act", "blocks.1.act")
    )
    text = html(explanation(layers=layers, macs=0))
    assert "chart" not in [a.get("class") for _, a in Tags(text).found]
    assert Tags(text).open == []


def rows(page, part: int = 1) -> list[str]:
    return page.locator(f"#layers tbody tr:visible > :nth-child({part})").all_inner_texts()


def test_the_page_and_the_card_say_the_same():
    found = explanation()
    text = html(found)
    for name, sentence in head(found):
        figures = re.findall(r"\d[\d.]* (?:ms|GFLOP/s)", sentence)
        assert all(figure in text for figure in figures), name
    assert all(escape(remark, quote=False) in text for remark in remarks(found, ()))
    for row in layer_rows(found.layers):
        (at,) = [i for i, layer in enumerate(found.layers) if layer.module == row.module]
        shown = cells(text, f"l{at}")
        assert shown[0] == digits(row.time_s * 1e3)
        assert shown[7] == row.bound
        assert escape(row.what, quote=False) == shown[8]
        if row.flops:
            assert shown[5] == digits(row.flops / row.time_s / 1e9)
            assert shown[6] == digits(row.flops / row.moved_bytes, 2)


@pytest.mark.slow
def test_modules_fold_and_unfold_and_keep_their_order(opened):
    page = opened(html(explanation()))
    whole = rows(page)
    assert len(whole) == 15
    page.get_by_role("button", name="fold all", exact=True).click()
    assert len(rows(page)) == 5
    fold = page.locator("#layers .fold", has_text="blocks")
    fold.focus()
    page.keyboard.press("Enter")
    assert fold.get_attribute("aria-expanded") == "true"
    assert len(rows(page)) == 7
    page.get_by_role("button", name="unfold all").click()
    assert rows(page) == whole


@pytest.mark.slow
def test_sorting_keeps_the_tree_or_ranks_all_layers(opened):
    page = opened(html(explanation()))
    time = page.locator("#layers thead th").nth(1)
    time.get_by_role("button").click()
    assert time.get_attribute("aria-sort") == "descending"
    names = [text.split()[0] for text in rows(page)]
    assert names[:4] == ["example_net", "blocks", "0", "depthwise"]
    assert names[-3:] == ["stem.0", "head", "pool"]
    page.get_by_label("layers only").check()
    shown = [float(text) for text in rows(page, 2) if text != "-"]
    assert shown == sorted(shown, reverse=True)
    assert rows(page, 2)[-1] == "-"  # what has no time stays last, whichever way
    time.get_by_role("button").click()
    assert rows(page, 2)[-1] == "-"
    assert rows(page)[0].startswith("pool")


@pytest.mark.slow
def test_the_filter_keeps_what_holds_the_layers_found(opened):
    page = opened(html(explanation()))
    page.get_by_role("button", name="fold all", exact=True).click()
    page.get_by_label("Find").fill("depthwise blocks.1")
    assert [text.split()[0] for text in rows(page)] == ["example_net", "blocks", "1", "depthwise"]
    assert page.locator("#count").inner_text() == "1 of 11 layers"


@pytest.mark.slow
def test_a_dot_and_a_finding_lead_to_their_rows(opened):
    page = opened(html(explanation(findings=(finding("blocks.1.depthwise"),))))
    page.get_by_role("button", name="fold all", exact=True).click()
    page.locator(".chart.wide .mark").last.hover()
    assert "half of the runs" in page.locator("#tip").inner_text()
    page.locator(".chart.wide .mark").last.click()
    assert page.locator("tr.chosen").get_attribute("id") == "l9"
    page.get_by_label("Find").fill("stem")
    page.locator("a.to-row").click()
    assert page.locator("tr.chosen:visible").get_attribute("data-tip") == "blocks.1.depthwise"
    page.get_by_role("link", name="D1").click()
    assert page.locator("#rule-D1 p").first.is_visible()


@pytest.mark.slow
def test_the_icicle_zooms_by_click_and_by_keyboard(opened):
    page = opened(html(explanation()))
    blocks = page.locator(".cell[data-name=blocks]")
    before = blocks.bounding_box()["width"]
    blocks.click()
    assert blocks.bounding_box()["width"] > 1.6 * before
    assert not page.locator(".cell[data-name='stem.0']").is_visible()
    assert page.locator("#trail").inner_text() == "example_net › blocks · show its row"
    blocks.click()  # again leads back
    assert page.locator(".cell[data-name='stem.0']").is_visible()
    page.locator(".cell").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert page.locator("#trail").inner_text() == "example_net › stem.0 · show its row"
    page.get_by_role("button", name="show its row").click()
    assert page.locator("tr.chosen").get_attribute("id") == "l0"


@pytest.mark.slow
def test_a_kinds_button_hides_its_dots(opened):
    page = opened(html(explanation()))
    assert page.locator(".chart.wide .mark:visible").count() == 7
    page.locator(".kinds button", has_text="depthwise").click()
    assert page.locator(".chart.wide .mark:visible").count() == 5


@pytest.mark.slow
@pytest.mark.parametrize("width", [400, 768, 1600])
def test_no_width_scrolls_the_page_sideways(opened, width):
    page = opened(html(explanation()), viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.slow
def test_hostile_names_run_nothing_in_a_browser(opened):
    found = explanation(model=HOSTILE, findings=(finding(rule=HOSTILE, text=HOSTILE),))
    page = opened(html(renamed(found, "stem.0", f"a.{HOSTILE}")))
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    page.locator(".cell").nth(1).hover()
    page.locator("#tip").wait_for(state="visible")
    page.locator(".cell").nth(1).click()
    assert HOSTILE in page.locator("#trail").inner_text()


@pytest.mark.slow
def test_without_script_every_layer_is_shown(browser, tmp_path):
    (tmp_path / "page.html").write_text(html(explanation()), encoding="utf-8")
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    assert page.locator("#layers tbody tr:visible").count() == 15
    context.close()
