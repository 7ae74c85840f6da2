"""The commands around records: what they print, what they write, and how they end."""

from __future__ import annotations

import json
import re

import pytest
import typer
from typer.testing import CliRunner

from fleetfoot.cli.bench import bench, compare, report
from fleetfoot.errors import RecordError
from fleetfoot.measure.record import from_json, read, read_scores, to_json, write
from records import MACHINE, failure, measurement, record, scores, slowed

app = typer.Typer(pretty_exceptions_enable=False)
for command in (bench, compare, report):
    app.command()(command)


def run(*arguments: object):
    """What the command answered; an error of ours is raised, as ``main`` would print it."""
    result = CliRunner(env={"COLUMNS": "120"}).invoke(app, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def records(tmp_path):
    """A folder as a run leaves it, and a second record with three slower cells."""
    write(tmp_path / "a" / "measurements.jsonl", record())
    write(tmp_path / "a" / "failures.jsonl", [failure()])
    write(tmp_path / "a" / "scores.jsonl", scores())
    write(tmp_path / "b" / "measurements.jsonl", [*slowed(record()[:3], 1.3), *record()[3:]])
    return tmp_path


def test_compare_prints_what_changed(records):
    said = run("compare", records / "a", records / "b" / "measurements.jsonl").stdout
    assert "0 faster, 3 slower, 36 not beyond noise." in said
    assert "30.0 % more time" in said


def test_compare_json_is_one_object_and_nothing_else(records):
    found = json.loads(run("compare", records / "a", records / "b", "--json").stdout)
    assert sorted(c["verdict"] for c in found["changes"]) == ["noise"] * 36 + ["slower"] * 3


@pytest.mark.parametrize(("percent", "code"), [(5, 1), (29, 1), (40, 0)])
def test_compare_can_fail_a_ci_job(records, percent, code):
    result = run("compare", records / "a", records / "b", "--fail-if-slower", percent)
    assert result.exit_code == code


def test_compare_refuses_another_machine_unless_asked(records):
    write(records / "c.jsonl", [measurement(machine={**MACHINE, "cpu": "Another"})])
    write(records / "d.jsonl", [measurement()])
    with pytest.raises(RecordError, match=r"machine.cpu: Example CPU .* before, Another after"):
        run("compare", records / "d.jsonl", records / "c.jsonl")
    said = run("compare", records / "d.jsonl", records / "c.jsonl", "--across-machines").stdout
    assert "not the same: machine.cpu" in said


def test_report_makes_everything_again_from_the_record(records):
    result = run("report", records / "a", "--output", records / "out")
    assert sorted(p.name for p in (records / "out").iterdir()) == [
        "index.html",
        "latency-against-macs.png",
        "results.csv",
        "top1-against-latency.png",
    ]
    assert "mobilenetv3_small_100" in result.stdout
    assert "did not run: fastvit_t8 on compiled" in result.stdout


def test_a_record_of_schema_2_gives_the_same_pages(records):
    known = {score.model: score for score in scores()}
    lines = []
    for m in record():
        score = known.get(m.model)
        top1, source = (score.value, score.source) if score else (None, "")
        held = {"top1": top1, "top1_source": source, "schema": 2}
        row = {**json.loads(to_json(m)), **held}
        del row["beside"]
        lines.append(json.dumps(row))
    (records / "old").mkdir()
    (records / "old" / "measurements.jsonl").write_text("\n".join(lines))
    write(records / "old" / "failures.jsonl", [failure()])
    said = [
        run("report", records / folder, "--output", records / f"{folder}-out").stdout
        for folder in ("a", "old")
    ]
    assert said[0] == said[1]
    assert "71.9" in said[0]
    files = sorted(path.name for path in (records / "a-out").iterdir())
    assert files == sorted(path.name for path in (records / "old-out").iterdir())
    for name in files:
        new, old = (records / f"{folder}-out" / name for folder in ("a", "old"))
        assert new.read_bytes() == old.read_bytes(), name


def test_report_fills_a_readme_and_leaves_it_when_it_is_right(records):
    readme = records / "README.md"
    readme.write_text("<!-- results:begin -->\n<!-- results:end -->\n")
    assert "updated" in run("report", records / "a", "--readme", readme).stdout
    assert "| fasternet_t0 |" in readme.read_text()
    assert "already" in run("report", records / "a", "--readme", readme).stdout


def test_no_record_is_one_clear_error(tmp_path):
    with pytest.raises(RecordError, match="there is no record at"):
        run("report", tmp_path)


TINY = ("--engines", "eager", "--size", 32, "--threads", 1, "--protocol", "quick")


def test_bench_leaves_a_record_a_table_pictures_and_a_page(tmp_path):
    result = run("bench", "fasternet_t[01]", *TINY, "--output", tmp_path / "out")
    rows = read(tmp_path / "out")
    assert {m.model for m in rows} == {"fasternet_t0", "fasternet_t1"}
    assert {(m.engine, m.threads, m.size, m.protocol) for m in rows} == {("eager", 1, 32, "quick")}
    assert all(m.folded and m.fold["max_rel"] < 1e-6 for m in rows)
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names >= {"measurements.jsonl", "results.csv", "index.html", "latency-against-macs.png"}
    assert {score.model for score in read_scores(tmp_path / "out")} == {m.model for m in rows}
    assert "top1" not in (tmp_path / "out" / "measurements.jsonl").read_text()
    assert "71.9" in result.stdout
    assert "fasternet_t1" in result.stdout
    assert "index.html" in result.stderr


def test_bench_json_is_the_record_and_nothing_else(tmp_path):
    out = tmp_path / "out"
    result = run("bench", "fasternet_t0", *TINY, "--no-fold", "--json", "--output", out)
    assert [from_json(line) for line in result.stdout.splitlines()] == read(out)
    assert not read(out)[0].folded


def test_without_an_output_the_record_is_kept_in_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("bench", "fasternet_t0", *TINY)
    (folder,) = (tmp_path / "bench-results").iterdir()
    assert folder.name.endswith("Z-quick")
    assert len(read(folder)) == 1
    assert folder.name in result.stderr


def test_a_folder_with_something_in_it_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    result = run("bench", "fasternet_t0", *TINY, "--output", tmp_path)
    assert result.exit_code == 2
    assert "not empty" in result.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_resume_wants_the_folder_of_a_run(tmp_path):
    result = run("bench", "--resume")
    assert result.exit_code == 2
    assert "--output" in result.stderr


def test_a_finished_run_resumed_measures_nothing_again(tmp_path):
    run("bench", "fasternet_t0", *TINY, "--output", tmp_path / "out")
    before = read(tmp_path / "out")
    run("bench", "fasternet_t0", *TINY, "--output", tmp_path / "out", "--resume")
    assert read(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fasternet_t9"], "unknown model 'fasternet_t9'; did you mean 'fasternet_t"),
        (["nosuch_*"], "unknown model 'nosuch_*'"),
        (["timm:nosuch_*"], "unknown timm model 'nosuch_*'"),
        (["apple:fastvit_t8"], "unknown library prefix 'apple'"),
        (["fasternet_t0", "--engines", "tensorflow"], "unknown engine 'tensorflow'"),
        (["fasternet_t0", "--protocol", "slow"], "unknown protocol 'slow'"),
        (["fasternet_t0", "--threads", "0"], "threads must be 1 or more, not 0"),
        (["fasternet_t0", "--threads", "4096"], "the cores that this process may use"),
        (["fasternet_t0", "--size", "0"], "size must be 1 pixel or more"),
        (["fasternet_t0", "--seconds", "-1"], "seconds must be above 0, not -1"),
    ],
)
def test_what_cannot_be_measured_is_said_before_anything_runs(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        run("bench", *arguments, "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_numbers_that_are_none_are_refused():
    result = run("bench", "fasternet_t0", "--threads", "many")
    assert result.exit_code == 2
    assert "--threads takes whole numbers" in result.stderr
