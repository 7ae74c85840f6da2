"""Evaluations of detectors, segmenters and hands as a card; and the comparison of two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.text import Text

from fleetfoot.errors import counted, visible
from fleetfoot.evaluate.bootstrap import METHOD
from fleetfoot.evaluate.compare import Verdict
from fleetfoot.evaluate.judges.base import Metric
from fleetfoot.evaluate.task_compare import TaskComparison, compare
from fleetfoot.evaluate.task_record import TaskAnswers, TaskEvaluation, TaskRecord
from fleetfoot.report.evaluations import SHOWN, percent, preprocessing, setting, title
from fleetfoot.report.kit.terminal import rows
from fleetfoot.report.record_tables import plain_table

COLUMNS = {
    "objects": "objects", "pixels": "pixels", "ap": "AP, %", "ap50": "AP50, %",
    "ar": "recall, %", "mask_ap": "mask AP, %", "mask_ap50": "mask AP50, %", "iou": "IoU, %",
    "recall": "recall, %", "precision": "precision, %",
}  # fmt: skip
"""Heads of what is said of each class."""
DECIDING = {"detect": "ap", "segment": "iou"}
"""What the weakest classes are found by."""
FIRST = 12
"""Classes that the card names."""


def figure(record: TaskRecord, metric: Metric) -> str:
    """A figure with its interval, in words."""
    text = metric.text(record.figures.get(metric.name))
    ends = record.intervals.get(metric.name)
    return text if ends is None else f"{text} ({' to '.join(map(metric.number, ends))})"


def scope(record: TaskRecord) -> str:
    """The pictures and classes in words."""
    text = counted(record.images, "picture")
    if record.classes:
        known = sum(bool(row.get("objects", row.get("pixels"))) for row in record.per_class)
        text += f", {counted(known, 'class', 'classes')}"
        text += f" of {len(record.classes):,}" * (known != len(record.classes))
        text += f", matched {record.matched}"
    return text


def weakest(record: TaskRecord) -> list[int]:
    """Numbers of the classes that occur, the weakest first."""
    name = DECIDING.get(record.task, "")
    known = {n: row[name] for n, row in enumerate(record.per_class) if row.get(name) is not None}
    return sorted(known, key=lambda n: (known[n], n))


def times(record: TaskRecord) -> str:
    """Time of a picture in the engine and in decoding, in words."""
    fixed, decode = (1000 * record.times[name] for name in ("fixed", "decode"))
    return (
        f"{fixed:.1f} ms in {record.engine}, {decode:.1f} ms decoding, a picture in the median; "
        "not a measurement of speed"
    )


def parts(record: TaskRecord) -> str:
    """Time of a picture by part of the network, in words."""
    said = ", ".join(f"{name} {1000 * s:.1f}" for name, s in record.parts.items())
    return f"{said} ms; shared out by one run in which each operator is timed by itself"


def verdict_words(found: TaskComparison) -> str:
    """What may be said of the later network by the deciding figure."""
    if found.verdict == "noise":
        return "within noise"
    metric = found.metrics[0]
    unit = "points" if metric.unit == "%" else metric.unit
    return f"{found.verdict} by {abs(found.found[metric.name].value):.2f} {unit}, beyond noise"


def print_task_evaluations(
    console: Console,
    evaluations: Sequence[TaskEvaluation],
    failures: Sequence[tuple[str, str]] = (),
) -> None:
    """Prints the figures of one network on one engine or several."""
    record, answers = evaluations[0]
    console.print(Text(title(record), "bold"), soft_wrap=True)
    console.print(Text(scope(record)), soft_wrap=True)
    if len(evaluations) > 1:
        _print_engines(console, evaluations)
    for name, reason in failures:
        console.print(Text(f"{name} did not run: {reason}", "yellow"), soft_wrap=True)
    named = {metric.title: figure(record, metric) for metric in answers.judge.shown()}
    named["time"] = times(record)
    if record.parts:
        named["by part"] = parts(record)
    named["setting"] = setting(record) if len(evaluations) == 1 else record.form
    named["input"] = preprocessing(record)
    named["intervals"] = f"95 %, {METHOD.partition(';')[0]}" if record.intervals else "none"
    console.print(rows({name: visible(text) for name, text in named.items()}))
    _print_classes(console, record)
    _print_errors(console, answers)
    for note in record.notes:
        console.print(Text(f"note: {note}", "yellow"), soft_wrap=True)


def _print_engines(console: Console, evaluations: Sequence[TaskEvaluation]) -> None:
    first = evaluations[0]
    metrics = first.answers.judge.shown()[:3]
    table = plain_table()
    table.add_column("engine", no_wrap=True)
    for metric in metrics:
        table.add_column(f"{metric.title}\n{metric.unit}", justify="right", no_wrap=True)
    for head in ("fixed\nms", "decode\nms"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column(f"against {first.record.engine}")
    for one in evaluations:
        record = one.record
        table.add_row(
            f"{record.engine} {record.engine_version}",
            *(_number(record, metric) for metric in metrics),
            *(f"{1000 * record.times[name]:.1f}" for name in ("fixed", "decode")),
            "" if one is first else verdict_words(compare(first, one)),
        )
    console.print(table)


def _print_classes(console: Console, record: TaskRecord) -> None:
    chosen = weakest(record)
    if len(chosen) < 2:
        return
    names = [name for name in COLUMNS if any(name in row for row in record.per_class)]
    table = plain_table()
    table.add_column("class")
    for name in names:
        table.add_column(COLUMNS[name], justify="right", no_wrap=True)
    for number in chosen[:FIRST]:
        row = record.per_class[number]
        table.add_row(Text(record.classes[number]), *(cell(row, name) for name in names))
    console.print(table)
    if len(chosen) > FIRST:
        console.print(Text(f"  the weakest {FIRST} of {len(chosen)} classes", "dim"))


def _number(record: TaskRecord, metric: Metric) -> str:
    value = record.figures.get(metric.name)
    return "-" if value is None else metric.number(value)


def cell(row: Mapping[str, float | int | None], name: str) -> str:
    """What is said of a class: a count or a share in percent."""
    value = row.get(name)
    if value is None:
        return "-"
    return f"{value:,.0f}" if name in ("objects", "pixels") else percent(value)


def _print_errors(console: Console, answers: TaskAnswers) -> None:
    if not answers.errors:
        return
    said = f"{counted(len(answers.errors), 'picture')} could not be used, and are in no figure:"
    console.print(Text(said, "yellow"), soft_wrap=True)
    for number, reason in list(answers.errors.items())[:SHOWN]:
        console.print(Text(visible(f"  {answers.names[number]}: {reason}")), soft_wrap=True)
    if len(answers.errors) > SHOWN:
        console.print(Text(f"  and {len(answers.errors) - SHOWN:,} more"), soft_wrap=True)


def signed(metric: Metric, value: float) -> str:
    """A difference with its sign."""
    return f"{'-' if value < 0 else '+'}{metric.number(abs(value))}"


def print_task_comparison(console: Console, found: TaskComparison) -> None:
    """Prints which of two evaluations is better, figure by figure, and whether that is more than
    noise."""
    styles: dict[Verdict, str] = {"better": "green", "worse": "red", "noise": "dim"}
    for when, record in (("before", found.before), ("after", found.after)):
        text = f"{when}: {record.model}, {record.engine}, {record.form}"
        console.print(Text(visible(text)), soft_wrap=True)
    before, after = found.values
    table = plain_table()
    table.add_column("", no_wrap=True)
    for head in ("before", "after", "difference", "95 % interval"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for metric in found.metrics:
        difference, verdict = found.found[metric.name], found.verdict_of(metric)
        ends = difference.ci95
        table.add_row(
            f"{metric.title}, {metric.unit}" if metric.unit else metric.title,
            metric.number(before[metric.name]),
            metric.number(after[metric.name]),
            signed(metric, difference.value),
            "-" if ends is None else " to ".join(signed(metric, end) for end in ends),
            Text("within noise" if verdict == "noise" else verdict, styles[verdict]),
        )
    console.print(table)
    words = "within noise" if found.verdict == "noise" else f"{found.verdict}, beyond noise"
    console.print(
        Text.assemble(
            f"by {found.metrics[0].title}, after is ",
            (words, styles[found.verdict]),
            f", on {counted(found.images, 'picture')}",
        ),
        soft_wrap=True,
    )
    if found.left_out:
        text = f"{counted(found.left_out, 'picture')} could not be used, and are left out"
        console.print(Text(text), soft_wrap=True)
    console.print(Text(METHOD, "dim"), soft_wrap=True)
    for name, one, other in found.differences:
        console.print(
            Text(visible(f"not the same: {name}: {one} before, {other} after")), soft_wrap=True
        )
