"""The table of floors says what its explanations do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from explanations import explanation
from fleetfoot.errors import RecordError
from fleetfoot.explain.explanation import to_json
from tools.floors import main, markdown, read


def test_a_row_a_network_and_the_mean_of_all():
    one = explanation()
    slow = replace(
        one,
        model="slow",
        samples_s=tuple(4 * s for s in one.samples_s),
        latency_s=4 * one.latency_s,
    )
    text = markdown([slow, one])
    assert text.count("geometric mean") == 1
    ratio = one.latency_s / one.floor_s
    rows = [[cell.strip() for cell in line.split("|")] for line in text.splitlines()]
    by_name = {row[1]: row for row in rows if len(row) > 4}
    assert by_name[one.model][4] == f"{ratio:.2f}"
    assert by_name["slow"][4] == f"{4 * ratio:.2f}"
    assert by_name["geometric mean"][4] == f"{2 * ratio:.2f}"


def test_threads_have_tables_of_their_own():
    one = explanation()
    two = replace(one, engine=replace(one.engine, threads=one.engine.threads + 1))
    assert markdown([one, two]).count("geometric mean") == 2


def test_a_page_is_made_from_a_folder(tmp_path, capsys):
    (tmp_path / "net-1.json").write_text(to_json(explanation()), encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- results:begin -->\n<!-- results:end -->\nb\n")
    main(str(page), str(tmp_path))
    main(str(page), str(tmp_path))
    assert explanation().model in page.read_text()
    assert "updated" in capsys.readouterr().out.splitlines()[0]


def test_what_is_no_explanation_is_named(tmp_path):
    with pytest.raises(RecordError, match="no explanations in"):
        read(tmp_path)
    (tmp_path / "net.json").write_text("{}")
    with pytest.raises(RecordError, match=r"net\.json: schema is missing"):
        read(tmp_path)
