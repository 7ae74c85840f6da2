"""Training runs as records, and the page that is made from them.

    python -m tools.trained run RECORD.json --name "Digits" --seeds 0,1,2 -- [DATA] FLAGS OF TRAIN
    python -m tools.trained page docs/trained.md benchmarks/trained

A record has one run of ``fleetfoot train`` for each seed: the figures of each epoch, the accuracy
of the best weights on the test part, and what ran where. A data set and a file of weights stand in
it by their names alone.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

from matplotlib.figure import Figure

from fleetfoot.files import read_json, write_text
from fleetfoot.machine import environment
from fleetfoot.report import update_between_markers
from fleetfoot.report.record_tables import markdown_table
from fleetfoot.report.summary import digits


@dataclass(frozen=True, kw_only=True)
class Trained:
    """One run."""

    seed: int
    epochs: tuple[dict[str, float], ...]
    """Figures of each epoch, as ``summary.csv`` names them."""
    best_epoch: int
    test: dict[str, float] | None
    """Figures of the best weights on the test part, if there is one beside that which chose
    them."""
    seconds: float
    """Time in training and evaluation."""


@dataclass(frozen=True, kw_only=True)
class TrainingRecord:
    """The same run with several seeds."""

    name: str
    model: str
    command: tuple[str, ...]
    """Words after ``fleetfoot train``; of paths, the last part."""
    figure: str
    """What is compared and drawn, for example ``top1``."""
    machine: str
    versions: dict[str, str]
    commit: str
    runs: tuple[Trained, ...] = ()

    @property
    def column(self) -> str:
        """The column of ``summary.csv`` that chose the best weights: that of the averaged weights
        if there are any."""
        averaged = f"ema_{self.figure}"
        return averaged if averaged in self.runs[0].epochs[0] else f"eval_{self.figure}"


def run(file: Path, *, name: str, figure: str, seeds: Sequence[int], words: Sequence[str]) -> None:
    """Trains with each seed that the record lacks, and writes the record after each."""
    stated = tuple(Path(word).name if "/" in word else word for word in words)
    record = TrainingRecord(
        name=name,
        model="",
        command=stated,
        figure=figure,
        machine=environment.machine()["cpu"],
        versions={k: v for k, v in environment.versions().items() if k in ("torch", "timm")},
        commit=environment.commit(),
    )
    if file.exists():
        before = read_json(file, TrainingRecord)
        if (before.command, before.figure) != (record.command, record.figure):
            raise SystemExit(f"{file} is a record of other settings; name another file")
        record = before
    for seed in seeds:
        if seed in {one.seed for one in record.runs}:
            continue
        model, made = _trained(seed, words)
        record = replace(record, model=model, runs=(*record.runs, made))
        write_text(file, json.dumps(asdict(record), indent=1) + "\n")
        last = made.epochs[-1][record.column]
        print(f"seed {seed}: {last:.2f} after the last epoch, test {made.test}", flush=True)


def _trained(seed: int, words: Sequence[str]) -> tuple[str, Trained]:
    with tempfile.TemporaryDirectory() as folder:
        into = Path(folder) / "run"
        command = [sys.executable, "-m", "fleetfoot", "train", *words]
        command += ["--seed", str(seed), "--output", str(into), "--json"]
        said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        outcome: dict[str, Any] = json.loads(said)
        with (into / "summary.csv").open(encoding="utf-8") as file:
            rows = [
                {key: float(value) for key, value in row.items() if value}
                for row in csv.DictReader(file)
            ]
    test = outcome["test"] or {}
    return outcome["model"], Trained(
        seed=seed,
        epochs=tuple(rows),
        best_epoch=outcome["best"]["epoch"],
        test={k: v for k, v in test.items() if isinstance(v, int | float)} or None,
        seconds=outcome["seconds"],
    )


def markdown(records: Sequence[tuple[str, TrainingRecord]]) -> str:
    """A table of all records, then each with its picture.

    Args:
        records: name of the picture of each, and the record.
    """
    rows = []
    for _, record in records:
        runs = record.runs
        chosen = [one.epochs[one.best_epoch][record.column] for one in runs]
        tests = [one.test[record.figure] for one in runs if one.test]
        rates = [row["images_per_s"] for one in runs for row in one.epochs]
        rows.append(
            (
                record.name,
                record.model,
                str(len(runs[0].epochs)),
                spread(chosen),
                spread(tests),
                digits(median(rates)),
                digits(median(one.seconds for one in runs) / 60),
            )
        )
    head = ("", "network", "epochs", "validation %", "test %", "images/s", "minutes")
    parts = [*markdown_table(head, rows), ""]
    for picture, record in records:
        versions = ", ".join(f"{name} {number}" for name, number in record.versions.items())
        seeds = ", ".join(str(one.seed) for one in record.runs)
        parts += [
            f"## {record.name}",
            "",
            f"`{' '.join(('fleetfoot train', *record.command))}`, "
            f"seed{'s' * (len(record.runs) > 1)} {seeds}, on {record.machine}; "
            f"{versions}; commit {record.commit[:12] or 'unknown'}.",
            "",
            f"![{record.name}: {record.column} and training loss by epoch]({picture})",
            "",
        ]
    return "\n".join(parts)


def spread(values: Sequence[float]) -> str:
    """The mean of several runs, with their standard deviation.

    >>> spread([98.0, 99.0]), spread([98.0]), spread([])
    ('98.50 ± 0.71', '98.00', '')
    """
    if not values:
        return ""
    return f"{mean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")


def draw(record: TrainingRecord, file: Path) -> None:
    """The compared figure and the training loss over the epochs, a line for each seed."""
    figure = Figure(figsize=(8, 2.8), layout="constrained")
    for axes, key, title in zip(
        figure.subplots(1, 2), (record.column, "train_loss"), ("%", "training loss"), strict=True
    ):
        for one in record.runs:
            at = [row["epoch"] + 1 for row in one.epochs]
            axes.plot(at, [row[key] for row in one.epochs], label=f"seed {one.seed}", marker=".")
        axes.set_xlabel("epoch")
        axes.set_ylabel(f"{key}, {title}" if title == "%" else title)
        axes.grid(alpha=0.3)
    figure.axes[0].legend(fontsize=8)
    figure.savefig(file, dpi=110, metadata={"Software": None})


def page(document: Path, folder: Path) -> None:
    """Puts the table between the markers of ``document`` and draws the pictures beside it."""
    made = []
    for file in sorted(folder.glob("*.json")):
        record = read_json(file, TrainingRecord)
        picture = document.parent / f"{document.stem}-{file.stem}.png"
        draw(record, picture)
        made.append((picture.name, record))
    changed = update_between_markers(document, markdown(made))
    print(f"{document}: {'updated' if changed else 'already what the records give'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", usage="%(prog)s RECORD --name NAME [options] -- WORDS")
    running.add_argument("record", type=Path)
    running.add_argument("--name", required=True)
    running.add_argument("--figure", default="top1", help="what is compared")
    running.add_argument("--seeds", default="0,1,2")
    paging = commands.add_parser("page")
    paging.add_argument("page", type=Path)
    paging.add_argument("records", type=Path, help="folder of records")
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    given = parser.parse_args(words[:end])
    if given.command == "page":
        page(given.page, given.records)
        return
    seeds = [int(seed) for seed in given.seeds.split(",")]
    run(
        given.record,
        name=given.name,
        figure=given.figure,
        seeds=seeds,
        words=words[end + 1 :],
    )


if __name__ == "__main__":
    main()
