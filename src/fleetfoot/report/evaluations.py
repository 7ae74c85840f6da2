"""Evaluations as a card and as timm's table of results; and the comparison of two."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.text import Text

from fleetfoot.errors import counted, visible
from fleetfoot.evaluate.compare import METHOD, AccuracyComparison, Paired, compare
from fleetfoot.evaluate.record import NOT_FINITE, Evaluation, EvaluationRecord
from fleetfoot.evaluate.tally import ClassFigures, Tally
from fleetfoot.evaluate.task_record import TaskRecord
from fleetfoot.files import read_text, write_text
from fleetfoot.report.kit.terminal import rows
from fleetfoot.report.record_tables import plain_table

TIMM_COLUMNS = (
    "model", "top1", "top1_err", "top5", "top5_err", "param_count", "img_size", "crop_pct",
    "interpolation",
)  # fmt: skip
SHOWN = 5
"""Classes, pairs and pictures that the card names."""
FEWEST = 5
"""Pictures below which the card does not call a class weak."""


def percent(value: float | None) -> str:
    """A share in percent, to two decimals; a dash if there is none."""
    return "-" if value is None else f"{value:.2f}"


def title(record: EvaluationRecord | TaskRecord) -> str:
    """What was evaluated on what."""
    return f"{record.model} on {Path(record.data).name or record.data}, {record.split}"


def scope(record: EvaluationRecord) -> str:
    """The pictures and classes in words."""
    judged = sum(bool(one.images) for one in record.counts.per_class)
    classes = counted(judged, "class", "classes")
    if judged != len(record.classes):
        classes += f" of {len(record.classes):,} that may be guessed"
    return f"{counted(record.top1.images, 'picture')}, {classes}, matched {record.matched}"


def setting(record: EvaluationRecord | TaskRecord) -> str:
    """Form and engine in words."""
    threads = counted(record.threads, "thread")
    parts = [record.form, f"on {record.engine} {record.engine_version}", threads]
    parts += [record.precision] * (record.precision != "float32")
    parts += [record.device] * (record.device != "cpu")
    return ", ".join(parts)


def preprocessing(record: EvaluationRecord | TaskRecord) -> str:
    """How a picture becomes the input, in words."""
    p = record.preprocessing
    size = p["size"] if isinstance(p["size"], int) else "×".join(map(str, p["size"]))
    parts = [f"{size} px", f"crop {p['crop_pct']:g}", p["interpolation"]]
    if p["resize_mode"] != "shortest":
        parts.append(p["resize_mode"])
    if not p["antialias"]:
        parts.append("not antialiased")
    if p["channel_order"] != "rgb":
        parts.append(p["channel_order"])
    for name in ("mean", "std"):
        parts.append(f"{name} {', '.join(f'{value:g}' for value in p[name])}")
    if abs(p["pixel_scale"] - 1 / 255) > 1e-9:
        parts.append(f"scale {p['pixel_scale']:g}")
    return "; ".join(parts)


def confusions(counts: Tally) -> list[tuple[int, int, int]]:
    """True class, guess and number of the pairs that are confused, the most frequent first."""
    wrong = [
        (truth, guess, n) for (truth, guess), n in counts.pairs.items() if truth != guess and n
    ]
    return sorted(wrong, key=lambda row: (-row[2], row[0], row[1]))


def weakest(counts: Tally) -> list[ClassFigures]:
    """The classes that have pictures, the lowest recall first; of equal ones, the most pictures."""
    known = [one for one in counts.per_class if one.images]
    return sorted(known, key=lambda one: (one.recall, -one.images, one.number))


def disagreeing(evaluations: Sequence[Evaluation]) -> list[int]:
    """Numbers of the pictures whose best guess is not the same on every engine."""
    guesses = np.stack([answers.guesses[:, 0] for _, answers in evaluations])
    return [int(n) for n in np.flatnonzero((guesses != guesses[0]).any(axis=0))]


def verdict_words(test: Paired) -> str:
    """What may be said of the later network.

    >>> verdict_words(Paired(both=9, only_before=0, only_after=1, neither=0))
    'within noise'
    """
    if test.verdict == "noise":
        return "within noise"
    return f"{test.verdict} by {abs(test.difference):.2f} points, beyond noise"


def print_evaluations(
    console: Console, evaluations: Sequence[Evaluation], failures: Sequence[tuple[str, str]] = ()
) -> None:
    """Prints the figures of one network on one engine or several."""
    record = evaluations[0].record
    console.print(Text(title(record), "bold"), soft_wrap=True)
    console.print(Text(scope(record)), soft_wrap=True)
    if len(evaluations) > 1:
        _print_engines(console, evaluations)
    for name, reason in failures:
        console.print(Text(f"{name} did not run: {reason}", "yellow"), soft_wrap=True)
    counts = record.counts
    named: dict[str, str] = {}
    if len(evaluations) == 1:
        named |= {"top-1": f"{record.top1}", "top-5": f"{record.top5}"}
        if record.real is not None:
            named["real labels"] = f"{record.real} of {counted(record.real.images, 'picture')}"
        named["loss"] = "-" if record.loss is None else f"{record.loss:.4f}"
        named["calibration"] = f"error {percent(record.calibration_error)} %"
    else:
        named["top-5"] = f"{record.top5} on {record.engine}"
    found = [
        f"{record.classes[one.number]} {percent(one.recall)} % of {one.images}"
        for one in weakest(counts)
        if one.right < one.images >= FEWEST
    ]
    if found:
        named["weakest"] = "; ".join(found[:SHOWN])
    pairs = [
        f"{record.classes[truth]} taken for {record.classes[guess]} {n}×"
        for truth, guess, n in confusions(counts)[:SHOWN]
        if n > 1
    ]
    if pairs:
        named["confused"] = "; ".join(pairs)
    named["setting"] = setting(record) if len(evaluations) == 1 else record.form
    named["input"] = preprocessing(record)
    console.print(rows({name: visible(text) for name, text in named.items()}))
    _print_errors(console, evaluations[0])
    for note in record.notes:
        console.print(Text(f"note: {note}", "yellow"), soft_wrap=True)


def _print_engines(console: Console, evaluations: Sequence[Evaluation]) -> None:
    first = evaluations[0]
    table = plain_table()
    table.add_column("engine", no_wrap=True)
    for head in ("top-1\n%", "95 %\ninterval", "top-5\n%", "loss", "other\nguess"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column(f"against {first.record.engine}")
    for one in evaluations:
        record = one.record
        low, high = record.top1.ci95
        differs = len(disagreeing([first, one]))
        table.add_row(
            f"{record.engine} {record.engine_version}",
            percent(record.top1.percent),
            f"{low:.2f} to {high:.2f}",
            percent(record.top5.percent),
            "-" if record.loss is None else f"{record.loss:.4f}",
            "" if one is first else str(differs),
            "" if one is first else verdict_words(compare(first, one).paired),
        )
    console.print(table)
    numbers = disagreeing(evaluations)
    if not numbers:
        console.print(Text("The engines name the same class for every picture."), soft_wrap=True)
        return
    console.print(
        Text(f"The engines disagree on {counted(len(numbers), 'picture')}:"), soft_wrap=True
    )
    for number in numbers[:SHOWN]:
        truth = first.record.classes[int(first.answers.truth[number])]
        said = ", ".join(
            f"{record.engine} {_guess(record, answers[number].guesses)}"
            for record, answers in evaluations
        )
        name = first.answers.pictures[number]
        console.print(
            Text(f"  {visible(name)} ({visible(truth)}): {visible(said)}"), soft_wrap=True
        )


def _guess(record: EvaluationRecord, guesses: Sequence[int]) -> str:
    return record.classes[guesses[0]] if guesses else "nothing"


def _print_errors(console: Console, evaluation: Evaluation) -> None:
    answers = evaluation.answers
    for said, numbers in (
        (
            "could not be read, and are in no figure",
            [n for n, error in answers.errors.items() if error != NOT_FINITE],
        ),
        (
            "have an answer that is not finite, and count as wrong",
            [n for n, error in answers.errors.items() if error == NOT_FINITE],
        ),
    ):
        if not numbers:
            continue
        console.print(Text(f"{counted(len(numbers), 'picture')} {said}:", "yellow"), soft_wrap=True)
        for number in numbers[:SHOWN]:
            line = f"  {answers.pictures[number]}: {answers.errors[number]}"
            console.print(Text(visible(line)), soft_wrap=True)
        if len(numbers) > SHOWN:
            console.print(Text(f"  and {len(numbers) - SHOWN:,} more"), soft_wrap=True)


def print_accuracy_comparison(console: Console, found: AccuracyComparison) -> None:
    """Prints which of two evaluations is right more often, and whether that is more than noise."""
    test = found.paired
    table = plain_table()
    table.add_column("", no_wrap=True)
    table.add_column("network")
    table.add_column("engine", no_wrap=True)
    for head in ("top-1\n%", "95 %\ninterval", "right\nalone"):
        table.add_column(head, justify="right", no_wrap=True)
    for when, record, alone in (
        ("before", found.before, test.only_before),
        ("after", found.after, test.only_after),
    ):
        low, high = record.top1.ci95
        table.add_row(
            when,
            Text(record.model),
            f"{record.engine}, {record.form}",
            percent(record.top1.percent),
            f"{low:.2f} to {high:.2f}",
            str(alone),
        )
    console.print(table)
    low, high = test.ci95
    styles = {"better": "green", "worse": "red", "noise": "dim"}
    words = "within noise" if test.verdict == "noise" else f"{test.verdict}, beyond noise"
    console.print(
        Text.assemble(
            f"after is {test.difference:+.2f} points against before "
            f"(95 % interval {low:+.2f} to {high:+.2f}, p = {test.p_value:.3g}): ",
            (words, styles[test.verdict]),
            f"; they differ on {test.discordant:,} of {counted(test.images, 'picture')}",
        ),
        soft_wrap=True,
    )
    if found.left_out:
        console.print(
            Text(f"{counted(found.left_out, 'picture')} could not be read, and are left out"),
            soft_wrap=True,
        )
    console.print(Text(METHOD, "dim"), soft_wrap=True)
    for name, one, other in found.differences:
        console.print(
            Text(visible(f"not the same: {name}: {one} before, {other} after")), soft_wrap=True
        )


def timm_row(record: EvaluationRecord, model: str) -> dict[str, str]:
    """The figures in timm's columns: percent; parameters in millions."""
    size = record.size
    return {
        "model": model,
        "top1": f"{record.top1.percent:.3f}",
        "top1_err": f"{100 - record.top1.percent:.3f}",
        "top5": f"{record.top5.percent:.3f}",
        "top5_err": f"{100 - record.top5.percent:.3f}",
        "param_count": "" if record.params is None else f"{record.params / 1e6:.2f}",
        "img_size": str(size if isinstance(size, int) else max(size)),
        "crop_pct": f"{record.preprocessing['crop_pct']:g}",
        "interpolation": record.preprocessing["interpolation"],
    }


def write_timm_csv(file: Path, evaluations: Sequence[Evaluation]) -> None:
    """Puts a line for each evaluation into a table with timm's columns. A line of the same model is
    replaced; the others stay. With several engines the model's name is followed by the engine's.

    Raises:
        ValueError: the file exists, and is no such table.
    """
    held: dict[str, dict[str, str]] = {}
    if file.exists():
        reader = csv.DictReader(io.StringIO(read_text(file)))
        if tuple(reader.fieldnames or ()) != TIMM_COLUMNS:
            raise ValueError(
                f"{file} exists, and its columns are not {','.join(TIMM_COLUMNS)}; name another "
                "file"
            )
        held = {row["model"]: row for row in reader}
    for record, _ in evaluations:
        name = record.model if len(evaluations) == 1 else f"{record.model} ({record.engine})"
        held[name] = timm_row(record, name)
    text = io.StringIO()
    writer = csv.DictWriter(text, TIMM_COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(held.values())
    write_text(file, text.getvalue())
