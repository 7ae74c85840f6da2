"""A record keeps every digit, and nothing that is not a measurement passes for one."""

from __future__ import annotations

import json
import os
import typing
from dataclasses import fields, replace

import pytest

from fleetfoot.errors import RecordError
from fleetfoot.measure.record import (
    FAILURES_FILE,
    SCORES_FILE,
    STARTS_FILE,
    Failure,
    Measurement,
    fastest,
    from_json,
    read,
    read_failures,
    read_scores,
    read_starts,
    to_json,
    write,
)
from records import failure, measurement, record, scores, start


def line(**changes) -> str:
    return json.dumps({**json.loads(to_json(measurement())), **changes})


def test_a_line_has_the_fields_of_the_class_in_their_order():
    assert list(json.loads(to_json(measurement()))) == [f.name for f in fields(Measurement)]


def test_what_is_written_is_read_back_to_the_last_digit(tmp_path):
    rows = record()
    write(tmp_path / "a.jsonl", rows)
    assert read(tmp_path / "a.jsonl") == rows


def test_a_folder_stands_for_the_record_in_it(tmp_path):
    write(tmp_path / "measurements.jsonl", record())
    assert read(tmp_path) == record()


def test_failures_are_kept_beside_and_none_is_an_empty_list(tmp_path):
    write(tmp_path / "measurements.jsonl", record())
    assert read_failures(tmp_path) == []
    write(tmp_path / FAILURES_FILE, [failure()])
    assert read_failures(tmp_path) == [failure()]
    assert read_failures(tmp_path / "measurements.jsonl") == [failure()]


def test_names_outside_ascii_survive(tmp_path):
    write(tmp_path / "a.jsonl", [measurement(model="réseau_\u2028網")])
    assert read(tmp_path / "a.jsonl")[0].model == "réseau_\u2028網"


def test_a_write_that_fails_leaves_the_old_file_and_no_draft(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    write(path, [measurement()])
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        write(path, record())
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.jsonl"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threads": "1"}, 'threads must be a whole number, not "1"'),
        ({"threads": 1.0}, "threads must be a whole number, not 1.0"),
        ({"threads": True}, "threads must be a whole number, not true"),
        ({"threads": 0}, "threads must be 1 or more, not 0"),
        ({"steady": 1}, "steady must be true or false, not 1"),
        ({"spread": None}, "spread must be a number, not null"),
        ({"warmup_s": -1}, "warmup_s must not be negative"),
        ({"top1": 71.92}, "unknown field top1"),
        ({"model": None}, "model must be a string, not null"),
        ({"samples_s": []}, "at least one sample"),
        ({"samples_s": [0.01, "x", 0.012]}, r"samples_s\[1\] must be a number"),
        ({"samples_s": [0.01, 0.02]}, "median_s is 0.011, but its parts give 0.015"),
        ({"samples_s": 0.01}, "samples_s must be a list of numbers"),
        ({"median_s": 0.02}, "median_s is 0.02, but its parts give 0.011"),
        ({"images_per_s": 1000}, "images_per_s is 1000, but its parts give 90.9"),
        ({"achieved_gflops": 5}, "achieved_gflops is 5, but its parts give 61.4"),
        ({"peak_share": 0.9}, "peak_share is 0.9, but"),
        ({"ci95_s": [0.001]}, "ci95_s must hold 2 numbers, not 1"),
        ({"ci95_s": [0.012, 0.013]}, "lies outside its interval"),
        ({"p90_s": 0.001}, "must rise"),
        ({"fold": {"folded": 1}}, "missing fields fold.left, fold.max_abs, fold.max_rel"),
        ({"machine": "a laptop"}, "machine must be an object"),
        ({"versions": {"torch": 2}}, "versions.torch must be a string, not 2"),
        ({"latency": 3}, "unknown field latency"),
        ({"schema": 1}, "schema is 1; this fleetfoot reads schema 4, 3 and 2"),
    ],
)
def test_a_line_that_is_no_measurement_is_refused_by_the_name_of_its_field(changes, message):
    with pytest.raises(RecordError, match=message):
        from_json(line(**changes))


@pytest.mark.parametrize("name", [f.name for f in fields(Measurement)])
def test_every_field_is_asked_for(name):
    row = json.loads(line())
    del row[name]
    with pytest.raises(RecordError, match=name):
        from_json(json.dumps(row))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "1" + "0" * 400])
def test_a_number_that_is_not_finite_is_refused(number):
    text = line(spread=12345).replace("12345", number)
    with pytest.raises(RecordError, match=r"NaN|Infinity|spread must be finite"):
        from_json(text)


@pytest.mark.parametrize("name", ["spread", "warmup_s", "copy_gb_per_s", "median_s"])
def test_a_measurement_cannot_be_made_with_a_figure_that_is_not_finite(name):
    with pytest.raises(RecordError, match="not finite"):
        replace(measurement(), **{name: float("nan")})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"model": 1, "model": 2}', "field occurs twice: 'model'"),
        ("[1, 2]", "expected a JSON object"),
        ('{"model"', "not JSON"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_broken_line_is_named(tmp_path, text, message):
    path = tmp_path / "a.jsonl"
    path.write_text(f"{line()}\n\n{text}\n")
    with pytest.raises(RecordError, match=f"a.jsonl, line 3: .*{message}"):
        read(path)


def test_no_file_an_empty_file_and_a_binary_file_are_three_errors(tmp_path):
    with pytest.raises(RecordError, match="there is no record at"):
        read(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(RecordError, match="holds no measurement"):
        read(tmp_path / "empty.jsonl")
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecordError, match="cannot be read"):
        read(tmp_path / "binary.jsonl")


def test_the_fastest_engine_is_chosen_for_each_network_and_the_fastest_network_comes_first():
    rows = [
        measurement([0.5], engine="eager", batch=32),
        measurement([0.03], engine="eager"),
        measurement([0.01], engine="openvino"),
        measurement([0.02], engine="eager", model="fasternet_t1"),
    ]
    assert [(m.model, m.engine, m.batch) for m in fastest(rows)] == [
        ("fasternet_t0", "openvino", 1),
        ("fasternet_t1", "eager", 1),
        ("fasternet_t0", "eager", 32),
    ]


def test_the_contract_between_writer_and_reader_has_not_moved():
    # other programs read these lines: a change of name, order or type is a new schema
    hints = typing.get_type_hints(Measurement)
    assert hints["samples_s"] == tuple[float, ...]
    assert [f.name for f in fields(Failure)] == [
        "model", "engine", "threads", "batch", "size", "beside", "reason",
    ]  # fmt: skip
    assert " ".join(f.name for f in fields(Measurement)) == (
        "model engine threads batch size beside median_s p90_s p99_s ci95_s samples_s warmup_s "
        "steady spread stable folded fold params macs memory_access_bytes images_per_s "
        "achieved_gflops peak_gflops peak_share fma_gflops copy_gb_per_s precision layout device "
        "engine_version harness_s memory_peak_bytes protocol run_id started machine versions "
        "commit schema"
    )


# --- scores beside a record, and records of schema 2, which held them


def old_line(m=None, top1=71.92, source="a paper", **changes) -> str:
    """A line as schema 2 had it."""
    row = json.loads(to_json(m or measurement()))
    del row["beside"]
    return json.dumps({**row, "top1": top1, "top1_source": source, "schema": 2, **changes})


def test_a_line_of_schema_3_ran_beside_nothing():
    row = {**json.loads(line()), "schema": 3}
    with pytest.raises(RecordError, match="unknown field beside"):
        from_json(json.dumps(row))
    del row["beside"]
    assert from_json(json.dumps(row)) == measurement()


def test_a_failure_from_before_anything_ran_beside_busy_cores(tmp_path):
    path = tmp_path / "failures.jsonl"
    path.write_text(
        '{"model": "m", "engine": "e", "threads": 1, "batch": 1, "size": 8, "reason": "none"}'
    )
    assert [failure.beside for failure in read_failures(path)] == [0]


def old_record(path, rows, known) -> None:
    by_model = {score.model: score for score in known}
    lines = [
        old_line(m, found.value if found else None, found.source if found else "")
        for m in rows
        for found in [by_model.get(m.model)]
    ]
    path.write_text("\n".join(lines) + "\n")


def test_scores_are_kept_beside_and_none_is_an_empty_list(tmp_path):
    write(tmp_path / "measurements.jsonl", record())
    assert read_scores(tmp_path) == []
    write(tmp_path / SCORES_FILE, scores())
    assert read_scores(tmp_path) == scores()
    assert read_scores(tmp_path / "measurements.jsonl") == scores()


def test_a_record_of_schema_2_gives_the_same_measurements_and_scores(tmp_path):
    old_record(tmp_path / "measurements.jsonl", record(), scores())
    assert read(tmp_path) == record()
    assert read_scores(tmp_path) == scores()


def test_what_is_read_from_schema_2_is_written_as_schema_4(tmp_path):
    old_record(tmp_path / "measurements.jsonl", record(), scores())
    write(tmp_path / "measurements.jsonl", read(tmp_path))
    lines = map(json.loads, (tmp_path / "measurements.jsonl").read_text().splitlines())
    assert {(one["schema"], "top1" in one) for one in lines} == {(4, False)}


def test_one_network_at_two_sizes_keeps_both_figures(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(
        old_line(top1=71.9) + "\n" + old_line(measurement(size=160), 71.9, "a paper, at 224 pixels")
    )
    assert [(s.size, s.source) for s in read_scores(path)] == [
        (224, "a paper"), (160, "a paper, at 224 pixels")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"top1": 140.0}, "top-1 is in percent, 0 to 100, not 140"),
        ({"top1": -0.1}, "top-1 is in percent"),
        ({"top1": "71.9"}, 'top1 must be a number, not "71.9"'),
        ({"top1": True}, "top1 must be a number, not true"),
        ({"top1_source": None}, "top1_source must be a string, not null"),
        ({"top1_source": 7}, "top1_source must be a string, not 7"),
        ({"top5": 90.0}, "unknown field top5"),
        ({"schema": 3}, "unknown fields top1, top1_source"),
        ({"schema": 4}, "missing field beside; unknown fields top1, top1_source"),
        ({"schema": 5}, "schema is 5"),
        ({"beside": 1}, "unknown field beside"),
        ({"schema": "2"}, "schema is 2"),
    ],
)
def test_a_hostile_line_of_schema_2_is_refused_by_its_number(tmp_path, changes, message):
    path = tmp_path / "a.jsonl"
    path.write_text(f"{line()}\n{old_line(**changes)}\n")
    with pytest.raises(RecordError, match=rf"a\.jsonl, line 2: .*{message}"):
        read(path)


@pytest.mark.parametrize("name", ["top1", "top1_source"])
def test_schema_2_asks_for_its_accuracy(tmp_path, name):
    row = json.loads(old_line())
    del row[name]
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(row))
    for reader in (read, read_scores):
        with pytest.raises(RecordError, match=f"line 1: missing field {name}"):
            reader(path)


def test_starts_of_schema_2_are_read(tmp_path):
    row = {**json.loads(to_json(start())), "schema": 2}
    (tmp_path / STARTS_FILE).write_text(json.dumps(row) + "\n")
    assert read_starts(tmp_path) == [start()]


def test_a_hostile_score_is_refused_by_its_number(tmp_path):
    good = json.loads(to_json(scores()[0]))
    for changes, message in (
        ({"value": 101}, "top-1 is in percent"),
        ({"value": "71"}, "value must be a number"),
        ({"evaluation": {"form": "folded"}}, "missing fields evaluation.engine"),
        ({"evaluation": 3}, "evaluation must be an object"),
        ({"top1": 3}, "unknown field top1"),
        ({"schema": 9}, "schema 9"),
    ):
        lines = [json.dumps(good), json.dumps({**good, **changes})]
        (tmp_path / SCORES_FILE).write_text("\n".join(lines))
        with pytest.raises(RecordError, match=rf"scores\.jsonl, line 2: .*{message}"):
            read_scores(tmp_path)
