"""The notes of a run while it goes on: one line for each event, each written before the next.

A process that is killed loses the burst that it was in, and a line that it had half written; all
else is in the file, and a later run goes on from there. The measurements are drawn from these notes
alone, so a run in one piece and one in three give the same kind of record.
"""

from __future__ import annotations

import json
import math
import os
import statistics
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from fleetfoot.errors import RecordError
from fleetfoot.files import MOST_TEXT_BYTES, locked, open_regular, read_bytes, to_json
from fleetfoot.machine.peaks import Peaks
from fleetfoot.measure import clock
from fleetfoot.measure.record import Failure, Measurement
from fleetfoot.network import Size, parse_size

JOURNAL_FILE = "samples.jsonl"

Note = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One cell of a run before it has run."""

    model: str
    engine: str
    threads: int
    batch: int
    size: Size
    beside: int = 0
    """Cores that a loop in another process keeps busy meanwhile (``measure.beside``)."""

    @classmethod
    def parsed(cls, raw: dict[str, Any]) -> Case:
        """The case in a journal, where a pair of sizes is a list."""
        return cls(**{**raw, "size": parse_size(raw["size"])})

    @property
    def setting(self) -> tuple[int, int, Size, int]:
        """What the harness is timed for: threads, batch, size, busy cores."""
        return self.threads, self.batch, self.size, self.beside


@dataclass
class Progress:
    """What is known of one case so far."""

    ready: Note | None = None
    """The engine as it was built, and its warm-up."""
    rounds: dict[int, list[float]] = field(default_factory=dict)
    """Samples by round, in the order in which they were taken."""
    failure: str = ""
    group: int = 0
    """0 where all engines were in memory at once."""


class Journal:
    """Notes in memory, and in a file if there is one.

    A new file wants a path that is free; ``Journal.resume`` reads one and goes on with it.
    """

    def __init__(self, header: Note, path: Path | None) -> None:
        self.header = header
        self.cases = [Case.parsed(case) for case in header["cases"]]
        self.progress = {case: Progress() for case in self.cases}
        self.networks: dict[tuple[str, Size], Note] = {}
        self.harness: dict[tuple[int, int, Size, int], list[float]] = {}
        self.ceilings: dict[int, list[tuple[float, float, float]]] = {}
        """Samples by threads: seconds of a matrix product and of a copy, operations a second in
        registers."""
        self.groups = 0
        self._held = ExitStack()
        """The file's lock, and the file."""
        self._file: TextIO | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._file = self._held.enter_context(path.open("x", encoding="utf-8"))
            except FileExistsError:
                raise RecordError(
                    f"{path.parent} holds a run already; go on with it by --resume, or name "
                    "another folder"
                ) from None
            self._held.enter_context(locked(self._file))
            self._write(header)

    @classmethod
    def resume(cls, path: Path, header: Note) -> Journal:
        """The journal at ``path``, to go on with under ``header``.

        Raises:
            RecordError: there is none, another process writes it, a line of it cannot be read, or
            it is of another run: each difference is listed with both values.
        """
        with ExitStack() as held:
            try:
                open_regular(path).close()  # opening a pipe to write would wait
                file = held.enter_context(path.open("r+", encoding="utf-8"))
            except OSError as error:
                raise RecordError(
                    f"there is no run to resume at {path}: {error.strerror}"
                ) from error
            held.enter_context(locked(file))
            notes, whole_bytes = _read(path)
            if not notes or notes[0].get("kind") != "run":
                raise RecordError(f"{path} does not begin with the header of a run")
            before = notes[0]
            differences = list(_differences(before["setup"], header["setup"], ""))
            if before["cases"] != header["cases"]:
                cells = f"{len(before['cases'])} before, {len(header['cases'])} now"
                differences.append(f"cells: {cells}, not the same")
            if differences:
                raise RecordError(
                    f"{path.parent} cannot be resumed, its run is not this one:\n  "
                    + "\n  ".join(differences)
                )
            journal = cls(before, None)
            for number, note in enumerate(notes[1:], start=2):
                try:
                    journal._take(note)
                except (KeyError, TypeError, IndexError, AttributeError) as error:
                    raise RecordError(
                        f"{path}, line {number}: no note of a run: {error!r}"
                    ) from error
            os.truncate(path, whole_bytes)  # a half-written last line
            file.seek(0, os.SEEK_END)
            journal._file, journal._held = file, held.pop_all()
        return journal

    def add(self, kind: str, **values: Any) -> None:
        """Takes a note, and writes it through to the system: it outlives this process."""
        note = {"kind": kind, **values}
        self._take(note)
        self._write(note)

    def close(self) -> None:
        self._held.close()
        self._file = None

    def index(self, case: Case) -> int:
        return self.cases.index(case)

    def _write(self, note: Note) -> None:
        if self._file is not None:
            self._file.write(to_json(note) + "\n")
            self._file.flush()

    def _take(self, note: Note) -> None:
        kind = note["kind"]
        if kind == "network":
            self.networks[note["model"], parse_size(note["size"])] = note
        elif kind == "harness":
            setting = (
                note["threads"], note["batch"], parse_size(note["size"]), note.get("beside", 0)
            )  # fmt: skip
            self.harness.setdefault(setting, []).extend(note["samples_s"])
        elif kind == "ceilings":
            sample = (note["matmul_s"], note["copy_s"], note["fma_flops_per_s"])
            self.ceilings.setdefault(note["threads"], []).append(sample)
        elif kind == "group":
            self.groups = note["number"]
            for index in note["cases"]:
                self.progress[self.cases[index]].group = note["number"]
        elif kind in ("ready", "burst", "failure"):
            progress = self.progress[self.cases[note["case"]]]
            if kind == "ready":
                progress.ready, progress.failure = note, ""
            elif kind == "burst":
                progress.rounds[note["round"]] = note["samples_s"]
            else:
                progress.failure = note["reason"]
        elif kind != "resumed":
            raise KeyError(kind)

    def failures(self) -> list[Failure]:
        """The cases that could not run."""
        return [
            Failure(**asdict(case), reason=progress.failure)
            for case, progress in self.progress.items()
            if progress.failure
        ]

    def medians(self) -> dict[Case, float]:
        """Median of every case that has samples, in seconds."""
        return {
            case: statistics.median(s for burst in progress.rounds.values() for s in burst)
            for case, progress in self.progress.items()
            if progress.rounds
        }

    def measurements(self) -> list[Measurement]:
        """A measurement for each case that has samples and did not fail, in their order."""
        return [
            self._measurement(case, progress)
            for case, progress in self.progress.items()
            if progress.rounds and not progress.failure
        ]

    def _measurement(self, case: Case, progress: Progress) -> Measurement:
        setup, ready = self.header["setup"], progress.ready
        assert ready is not None, "a burst follows the note that its engine was ready"
        network = self.networks[case.model, case.size]
        samples = [s for burst in progress.rounds.values() for s in burst]
        median = statistics.median(samples)
        rate = 2 * network["macs"] * case.batch / median / 1e9
        peaks = self._peaks(case.threads)
        peak = peaks.matmul_gflops if peaks else 0.0
        return Measurement(
            **asdict(case),
            median_s=median,
            p90_s=max(median, clock.quantile(samples, 0.9)),  # their rounding differs
            p99_s=max(median, clock.quantile(samples, 0.99)),
            ci95_s=clock.median_interval(samples),
            samples_s=tuple(samples),
            warmup_s=math.fsum(ready["warmup_samples_s"]),
            steady=ready["steady"],
            spread=clock.spread(samples),
            stable=clock.stability(samples, steady=ready["steady"]).stable,
            images_per_s=case.batch / median,
            achieved_gflops=rate,
            peak_gflops=peak,
            peak_share=rate / peak if peak else 0.0,
            fma_gflops=peaks.fma_gflops if peaks else 0.0,
            copy_gb_per_s=peaks.copy_gb_per_s if peaks else 0.0,
            **{
                name: network[name]
                for name in (
                    "folded", "fold", "params", "macs", "memory_access_bytes",
                )
            },
            precision=ready["engine"]["precision"],
            layout=ready["engine"]["layout"],
            device=ready["engine"]["device"],
            engine_version=ready["engine"]["version"],
            harness_s=statistics.median(self.harness[case.setting]),
            memory_peak_bytes=ready["memory_peak_bytes"],
            protocol=setup["pace"]["name"],
            run_id=self.header["run_id"] + (f"#{progress.group}" if progress.group else ""),
            started=self.header["started"],
            machine=setup["machine"],
            versions=setup["versions"],
            commit=setup["commit"],
        )  # fmt: skip

    def _peaks(self, threads: int) -> Peaks | None:
        """The machine's ceilings; None if they were not measured."""
        if threads not in self.ceilings:
            return None
        matmul_s, copy_s, fma = zip(*self.ceilings[threads], strict=True)
        return Peaks(threads, matmul_s, copy_s, tuple(rate for rate in fma if rate))


def _read(path: Path) -> tuple[list[Note], int]:
    """The whole lines, and how many bytes they take."""
    try:
        raw = read_bytes(path, most=MOST_TEXT_BYTES)
    except OSError as error:
        raise RecordError(f"there is no run to resume at {path}: {error.strerror}") from error
    whole = raw[: raw.rfind(b"\n") + 1]
    notes = []
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            note = json.loads(line)
        except ValueError as error:
            raise RecordError(f"{path}, line {number}: not a line of JSON: {error}") from error
        if not isinstance(note, dict) or "kind" not in note:
            raise RecordError(f"{path}, line {number}: no note of a run")
        notes.append(note)
    return notes, len(whole)


def _differences(before: Any, now: Any, name: str) -> Iterator[str]:
    """Every leaf that is not the same, as "machine.cpu: 'A' before, 'B' now"."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in {**before, **now}:
            yield from _differences(before.get(key), now.get(key), f"{name}.{key}".lstrip("."))
    elif before != now:
        yield f"{name}: {before!r} before, {now!r} now"


def finished(progress: Progress, rounds: Sequence[int]) -> bool:
    """Whether the case has its samples of all ``rounds``."""
    return not progress.failure and all(number in progress.rounds for number in rounds)
