"""Tables show every figure whole, at any width, and without a terminal."""

from __future__ import annotations

import csv
import io

import pytest
from rich.console import Console

from fleetfoot.measure.compare import compare
from fleetfoot.measure.record import fastest
from fleetfoot.report import (
    markdown,
    print_comparison,
    print_starts,
    print_tables,
    to_csv,
    update_between_markers,
)
from fleetfoot.report.summary import digits
from records import failure, joined, joined_record, seven, slowed, start


def printed(rows, failures=(), *, width: int = 120, **options) -> str:
    text = io.StringIO()
    print_tables(Console(file=text, width=width), rows, failures, **options)
    return text.getvalue()


@pytest.mark.parametrize("width", [80, 120, 200])
def test_a_table_fits_its_width_and_cuts_no_figure_and_no_name(width):
    text = printed(joined_record(), width=width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "…" not in text
    lines = text.split("On the front")[0].splitlines()
    rows = {line.split()[0]: line.split() for line in lines if line.strip()}
    for m in fastest(joined_record()):
        cells = rows[m.model]
        assert cells[-1] == m.engine
        assert digits(m.median_s * 1e3) in cells
        assert digits(m.images_per_s) in cells
        assert digits(m.macs / 1e6) in cells


def test_columns_that_do_not_fit_are_named():
    assert "no room for params, memory, ±, p90" in printed(joined_record(), width=80)
    assert "no room" not in printed(joined_record(), width=120)


def test_without_a_terminal_there_is_no_colour_code():
    assert "\x1b" not in printed(joined_record(), [failure()])


def test_the_fastest_engine_of_each_network_or_every_engine():
    assert (
        sum(
            "eager" in line
            for line in printed(joined_record()).split("On the front")[0].splitlines()
        )
        == 0
    )
    every = printed(joined_record(), all_engines=True).split("On the front")[0]
    assert sum(line.rstrip().endswith("eager") for line in every.splitlines()) == 13


def test_the_fastest_comes_first():
    text = printed(joined_record())
    assert text.index("mobilenetv3_small_100 ") < text.index("fastvit_sa12 ")


def test_an_unstable_cell_is_marked_in_words():
    row = joined([0.010, 0.0131, 0.010, 0.0131, 0.010, 0.0131, 0.010])
    assert "unstable: spread 31 %" in printed([row], width=80)


def test_every_engine_beside_the_own_one_leaves_room_for_the_names():
    engines = ("native", "executorch", "ncnn", "onnxruntime", "openvino")
    rows = [joined(model="timm:mobilenetv3_large_100", engine=engine) for engine in engines]
    for width in (60, 80, 120):
        text = printed(rows, width=width).split("every engine, ms")[1].split("noise", 1)[1]
        assert max(len(line) for line in text.splitlines()) <= width
        assert "…" not in text
        assert "mobilenetv3_" in text
        assert ("no room for onnxruntime, openvino: " in text) is (width == 60)


def test_absent_engines_are_said_with_their_reasons():
    assert "did not run: fastvit_t8 on compiled: torch.compile needs" in printed(
        joined_record(), [failure()]
    )


def test_a_name_with_markup_is_printed_as_it_is():
    text = printed([joined(model="[red]x[/red]", engine="[b]y[/b]", device="[i]z[/i]")])
    for name in ("[red]x[/red]", "[b]y[/b]", "[i]z[/i]"):
        assert name in text


def test_csv_opens_with_timms_columns_in_timms_units():
    (row, *_) = csv.DictReader(io.StringIO(to_csv([joined([0.01], batch=32)])))
    assert list(row)[:7] == [
        "model", "infer_img_size", "infer_samples_per_sec", "infer_step_time", "infer_batch_size",
        "param_count", "infer_gmacs",
    ]  # fmt: skip
    assert list(row.values())[:7] == [
        "fasternet_t0", "224", "3200.0", "10.0", "32", "3.91", "0.34",
    ]  # fmt: skip
    assert row["median_s"] == "0.01"
    assert row["macs"] == "338000000"
    assert row["memory_peak_bytes"] == ""


def test_csv_has_a_row_a_cell_with_exact_figures():
    rows = list(csv.DictReader(io.StringIO(to_csv(joined_record()))))
    by_cell = {(m.model, m.engine): m for m in joined_record()}
    assert len(rows) == 39
    for row in rows:
        assert float(row["median_s"]) == by_cell[row["model"], row["engine"]].median_s


@pytest.mark.parametrize("name", ["=1+1", "@sum", "+x", "-x"])
def test_csv_holds_no_formula(name):
    (row,) = csv.DictReader(io.StringIO(to_csv([joined(model=name)])))
    assert row["model"] == f"'{name}"


def test_markdown_has_a_row_a_network_and_escapes_what_a_cell_may_not_hold():
    text = markdown([*joined_record(), joined(model="a|b<script>")])
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + 14
    assert len({line.replace("\\|", "").count("|") for line in rows}) == 1
    assert "a\\|b\\<script\\>" in text


def test_the_markdown_folds_away_all_settings_but_the_first():
    text = markdown([*joined_record(), *joined_record(threads=2)])
    assert text.startswith("**1 thread, batch 1**")
    assert (
        text.count(
            "<details><summary>2 threads, batch 1</summary>\n\n36 of 39 cells are stable.\n\n|"
        )
        == 1
    )
    assert text.count("</details>") == 1


def test_text_goes_between_the_markers_and_a_second_time_changes_nothing(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("a\n<!-- results:begin -->\nstale\n<!-- results:end -->\nb\n")
    assert update_between_markers(readme, markdown(joined_record()))
    text = readme.read_text()
    assert text.startswith("a\n<!-- results:begin -->\n**1 thread, batch 1**")
    assert text.endswith("\n<!-- results:end -->\nb\n")
    assert "stale" not in text
    assert not update_between_markers(readme, markdown(joined_record()))


@pytest.mark.parametrize("text", ["", "<!-- results:end --> <!-- results:begin -->"])
def test_a_file_without_the_markers_in_order_is_refused(tmp_path, text):
    (tmp_path / "README.md").write_text(text)
    with pytest.raises(ValueError, match="must hold"):
        update_between_markers(tmp_path / "README.md", "x")


def test_a_comparison_is_printed_with_its_verdicts_and_its_method():
    text = io.StringIO()
    after = slowed(joined_record()[:3], 1.3) + joined_record()[3:6]
    print_comparison(Console(file=text, width=100), compare(joined_record()[:5], after))
    said = text.getvalue()
    assert said.count("30.0 % more time") == 3
    assert "0 faster, 3 slower, 2 not beyond noise." in said
    assert "block bootstrap" in said
    assert "only after: fasternet_t2 on openvino (1 thread, batch 1)" in said


def test_seven_engines_stand_side_by_side_with_the_own_one_first():
    text = printed(seven())
    assert max(len(line) for line in text.splitlines()) <= 120
    (line,) = [li for li in text.splitlines() if li.startswith("fasternet_t0") and "16.0" in li]
    # native, then compiled, eager, executorch, ncnn, onnxruntime, openvino by name; then the gain
    assert line.split()[1:] == ["10.0", "15.0", "16.0", "14.0", "13.0", "11.0", "12.0", "1.10"]
    (line,) = [li for li in text.splitlines() if li.startswith("fastvit_sa12") and "16.0" in li]
    assert line.split()[5] == "-"


def test_the_markdown_has_the_engines_where_the_own_one_is_among_them():
    assert "| fasternet_t0 | 71.9 | 338 | **10.0** | 15.0 |" in markdown(seven())
    assert "best peer" not in markdown([m for m in seven() if m.engine != "native"])


def test_starts_are_printed_whole():
    text = io.StringIO()
    starts = [start(), start("executorch", import_s=1.0, torch_imported=True)]
    print_starts(Console(file=text, width=120), starts)
    said = text.getvalue()
    assert "1000, with torch" in said
    assert max(len(line) for line in said.splitlines()) <= 120
