"""Training beside timm's ``train.py``: the same network, pictures, recipe, steps and seeds.

    python -m tools.beside_timm run RECORD.json --script train.py --data DATA -- FLAGS OF BOTH
    python -m tools.beside_timm page docs/beside-timm.md benchmarks/beside-timm

``train.py`` is timm's own, unchanged (github.com/huggingface/pytorch-image-models); the wheel does
not hold it. Both get the same flags, timm's, and those defaults of timm's that fleetfoot does not
have. The pictures are written to a folder first, which both
read; each run is a process, and the two take turns at being first. Memory is the most that a
process and its children held together (proportional set size, sampled), so pages that they share
count once. Linux only.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean, median, stdev

from scipy import stats

from fleetfoot.data.dataset import Dataset, Split
from fleetfoot.data.layouts import open_dataset
from fleetfoot.files import read_json, write_text
from fleetfoot.machine import environment
from fleetfoot.report import update_between_markers
from fleetfoot.report.record_tables import markdown_table
from fleetfoot.report.summary import digits

OURS, TIMM = "fleetfoot", "timm"
SAMPLE_S = 0.25
DEFAULTS = {
    "--color-jitter": "0.4",
    "--smoothing": "0.1",
    "--train-interpolation": "random",
    "--warmup-lr": "1e-5",
}
"""timm's defaults, as text, that fleetfoot's recipe ``custom`` does not have (timm 1.0.31)."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """One run."""

    tool: str
    seed: int
    top1: tuple[float, ...]
    """Percent, after each epoch."""
    train_loss: tuple[float, ...]
    images_per_s: tuple[float, ...]
    """Of each epoch's training, without evaluation."""
    seconds: float
    """Of the whole process."""
    peak_bytes: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The record: what ran with which flags, where."""

    name: str
    model: str
    options: dict[str, bool | int | float | str]
    flags: tuple[str, ...]
    epochs: int
    pictures: dict[str, int]
    """Number of pictures in each part."""
    machine: str
    versions: dict[str, str]
    commit: str
    script: str
    """SHA-256 of timm's script."""
    runs: tuple[Trained, ...] = ()

    def by(self, tool: str) -> list[Trained]:
        return [run for run in self.runs if run.tool == tool]


# ---- Running


def with_defaults(flags: Sequence[str]) -> tuple[str, ...]:
    """The flags, and each of ``DEFAULTS`` that they do not state.

    >>> with_defaults(["--smoothing", "0", "--lr", "1"])[:6]
    ('--color-jitter', '0.4', '--train-interpolation', 'random', '--warmup-lr', '1e-5')
    """
    stated = {word.partition("=")[0] for word in flags}
    added = [pair for pair in DEFAULTS.items() if pair[0] not in stated]
    return (*(word for pair in added for word in pair), *flags)


def compare(file: Path, *, script: Path, plan: Comparison, seeds: Sequence[int], data: str) -> None:
    """Runs what the record lacks, and writes it after each run."""
    record = read_json(file, Comparison) if file.exists() else plan
    if replace(record, runs=(), commit="", machine="") != replace(plan, commit="", machine=""):
        raise SystemExit(f"{file} is a record of other settings; name another file")
    done = {(run.tool, run.seed) for run in record.runs}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_pictures(open_dataset(data), folder / "data")
        for number, seed in enumerate(seeds):
            for tool in (OURS, TIMM) if number % 2 == 0 else (TIMM, OURS):
                if (tool, seed) in done:
                    continue
                into = folder / f"{tool}-{seed}"
                run = (_ours if tool == OURS else _timm)(plan, script, folder / "data", into, seed)
                record = replace(record, runs=(*record.runs, run))
                write_text(file, json.dumps(asdict(record), indent=1) + "\n")
                rate = median(run.images_per_s)
                print(f"{tool} seed {seed}: {run.top1[-1]:.2f} %, {rate:.0f} images/s", flush=True)


def _write_pictures(dataset: Dataset, folder: Path) -> None:
    parts: dict[str, Split | None] = {"train": dataset.train, "val": dataset.val or dataset.test}
    for part, split in parts.items():
        if split is None:
            raise SystemExit(f"{dataset.name} has no pictures for {part}")
        for number, (source, label) in enumerate(split):
            place = folder / part / dataset.classes[label]
            place.mkdir(parents=True, exist_ok=True)
            suffix = Path(source.path).suffix or ".png"
            (place / f"{number:06d}{suffix}").write_bytes(source.read())


def _ours(plan: Comparison, script: Path, data: Path, into: Path, seed: int) -> Trained:
    command = [sys.executable, "-m", "fleetfoot", "train", str(data), "--model", plan.model]
    for name, value in plan.options.items():
        command += ["--option", f"{name}={json.dumps(value)}"]
    command += ["--recipe", "custom", "--output", str(into), "--seed", str(seed), *plan.flags]
    seconds, peak, _ = _run(command, into.with_suffix(".log"))
    with (into / "summary.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return Trained(
        tool=OURS,
        seed=seed,
        top1=tuple(float(row["eval_top1"]) for row in rows),
        train_loss=tuple(float(row["train_loss"]) for row in rows),
        images_per_s=tuple(float(row["images_per_s"]) for row in rows),
        seconds=seconds,
        peak_bytes=peak,
    )


def _timm(plan: Comparison, script: Path, data: Path, into: Path, seed: int) -> Trained:
    command = [sys.executable, "-m", "tools.timm_zoo", str(script), "--data-dir", str(data)]
    command += ["--model", f"zoo_{plan.model}", "--output", str(into.parent)]
    command += ["--experiment", into.name, "--seed", str(seed), *plan.flags]
    command += ["--num-classes", str(plan.pictures["classes"])]
    if plan.options:
        command += ["--model-kwargs", *(f"{k}={v}" for k, v in plan.options.items())]
    seconds, peak, said = _run(command, into.with_suffix(".log"))
    with (into / "summary.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    # the last line of an epoch has its mean rate in brackets
    rates = re.findall(r"Train: (\d+) \[.*?\(\s*[\d.]+s,\s*([\d.]+)/s\)", said)
    last = {int(epoch): float(rate) for epoch, rate in rates}
    return Trained(
        tool=TIMM,
        seed=seed,
        top1=tuple(float(row["eval_top1"]) for row in rows),
        train_loss=tuple(float(row["train_loss"]) for row in rows),
        images_per_s=tuple(last[epoch] for epoch in sorted(last)),
        seconds=seconds,
        peak_bytes=peak,
    )


def _run(command: Sequence[str], log: Path) -> tuple[float, int, str]:
    """Seconds, most bytes, and what the process said."""
    began = time.monotonic()
    with log.open("w", encoding="utf-8") as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
        with _watched(process.pid) as most:
            status = process.wait()
    text = log.read_text(encoding="utf-8", errors="replace")
    if status:
        raise SystemExit(f"{' '.join(command)} ended with {status}:\n{text[-2000:]}")
    return time.monotonic() - began, most[0], text


@contextmanager
def _watched(pid: int) -> Iterator[list[int]]:
    """The most bytes that a process and its children hold at once, in a list of one."""
    most, over = [0], threading.Event()

    def watch() -> None:
        while not over.wait(SAMPLE_S):
            most[0] = max(most[0], sum(map(_proportional_bytes, _family(pid))))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


def _family(pid: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                stat = Path(f"/proc/{name}/stat").read_text()
            except OSError:
                continue
            parents.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(name))
    found = [pid]
    for one in found:
        found += parents.get(one, [])
    return found


def _proportional_bytes(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    held = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    return int(held[1]) * 1024 if held else 0


# ---- The page


def difference(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """Difference of two means of equally many runs, and half the width of its 95 % interval by
    Student's t."""
    count = len(ours)
    gap = mean(ours) - mean(theirs)
    if count < 2 or len(theirs) != count:
        return gap, math.inf
    spread = math.sqrt((stdev(ours) ** 2 + stdev(theirs) ** 2) / count)
    return gap, float(stats.t.ppf(0.975, 2 * (count - 1))) * spread


def markdown(records: Sequence[Comparison]) -> str:
    """Figures of each comparison, and how they were made."""
    parts = []
    for record in records:
        rows = []
        for tool in (OURS, TIMM):
            runs = record.by(tool)
            finals = [run.top1[-1] for run in runs]
            rates = [rate for run in runs for rate in run.images_per_s[1:] or run.images_per_s]
            spread = f" ± {stdev(finals):.2f}" if len(finals) > 1 else ""
            rows.append(
                (
                    tool,
                    f"{mean(finals):.2f}{spread}",
                    digits(median(rates)),
                    digits(max(run.peak_bytes for run in runs) / 2**20),
                    digits(median(run.seconds for run in runs)),
                )
            )
        head = ("tool", "top-1 % (mean ± sd)", "images/s", "peak memory MiB", "seconds a run")
        parts.append(
            "\n".join(
                [
                    f"## {record.name}",
                    "",
                    f"{record.model}, {record.pictures['train']:,} pictures, {record.epochs} "
                    f"epochs, {len(record.by(OURS))} seeds each, on {record.machine}.",
                    "",
                    *markdown_table(head, rows),
                    "",
                    verdict(record),
                    "",
                    f"Flags of both: `{' '.join(record.flags)}`.",
                    "",
                    "Versions: "
                    + ", ".join(f"{name} {number}" for name, number in record.versions.items())
                    + f"; commit {record.commit[:12] or 'unknown'}; timm's script has SHA-256 "
                    f"{record.script[:12]}.",
                    "",
                ]
            )
        )
    return "\n".join(parts)


def verdict(record: Comparison) -> str:
    """The three comparisons in a sentence each."""
    ours, theirs = record.by(OURS), record.by(TIMM)
    gap, half = difference([run.top1[-1] for run in ours], [run.top1[-1] for run in theirs])
    noise = "within noise" if abs(gap) <= half else "beyond noise"
    pairs = [
        median(a.images_per_s[1:] or a.images_per_s) / median(b.images_per_s[1:] or b.images_per_s)
        for a in ours
        for b in theirs
        if a.seed == b.seed
    ]
    memory = max(run.peak_bytes for run in ours) / max(run.peak_bytes for run in theirs)
    width = "" if math.isinf(half) else f" ± {half:.2f}"
    return (
        f"fleetfoot's accuracy less timm's: {gap:+.2f}{width} points ({noise}). Images a second, "
        f"fleetfoot over timm by seed: {', '.join(f'{ratio:.2f}' for ratio in pairs)}. Peak "
        f"memory, fleetfoot over timm: {memory:.2f}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser(
        "run",
        usage="%(prog)s RECORD --script train.py --data DATA [options] -- FLAGS OF BOTH",
        help="run what the record lacks",
    )
    run.add_argument("record", type=Path)
    run.add_argument("--script", type=Path, required=True, help="timm's train.py")
    run.add_argument("--data", required=True, help="any data set that fleetfoot train takes")
    run.add_argument("--name", default="CIFAR-10, 20,000 JPEG pictures, from scratch")
    run.add_argument("--model", default="shufflenet_v2_x0_5")
    run.add_argument("--option", action="append", metavar="NAME=VALUE")
    run.add_argument("--epochs", type=int, default=5)
    run.add_argument("--seeds", default="0,1,2")
    page = commands.add_parser("page", help="make the page")
    page.add_argument("page", type=Path)
    page.add_argument("records", type=Path, help="folder of records")
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    given, flags = parser.parse_args(words[:end]), words[end + 1 :]
    if given.command == "page":
        files = sorted(given.records.glob("*.json"))
        update_between_markers(given.page, markdown([read_json(f, Comparison) for f in files]))
        return
    dataset = open_dataset(given.data)
    assert dataset.train is not None
    options = dict(pair.partition("=")[::2] for pair in given.option or ())
    held = dataset.val or dataset.test
    plan = Comparison(
        name=given.name,
        model=given.model,
        options={key: json.loads(value) for key, value in options.items()},
        flags=(*with_defaults(flags), "--epochs", str(given.epochs)),
        epochs=given.epochs,
        pictures={
            "train": len(dataset.train),
            "val": len(held) if held else 0,
            "classes": len(dataset.classes),
        },
        machine=environment.machine()["cpu"],
        versions={k: v for k, v in environment.versions().items() if k in ("torch", "timm")},
        commit=environment.commit(),
        script=hashlib.sha256(given.script.read_bytes()).hexdigest(),
    )
    seeds = [int(seed) for seed in given.seeds.split(",")]
    compare(given.record, script=given.script, plan=plan, seeds=seeds, data=given.data)


if __name__ == "__main__":
    main()
