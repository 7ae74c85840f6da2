"""What a measurement is, and how it is kept: one line of JSON for each network, engine, number of
threads and batch. It says nothing of accuracy: a ``Score`` does, in a file beside.

A line holds every sample beside the figures drawn from it, what ran, where, and the ceiling that it
was up against, so that a table, a picture or a comparison can be made again from the file alone.
Reading is strict: a field that is missing, unknown, of the wrong type or not finite is an error
that names the line. A cell that could not run is a ``Failure``, kept in a file beside.

Schema 3 had no ``beside``. Schema 2 also had a published top-1 and its source in each line, and no
file of scores. Their lines are read as well: ``read`` gives their measurements, ``read_scores`` the
published figures.

Seconds in ``_s``, bytes in ``_bytes``; a MAC is one multiply-accumulate, two floating point
operations.
"""

from __future__ import annotations

import math
import statistics
import typing
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict, TypeVar

from fleetfoot import files
from fleetfoot.errors import RecordError
from fleetfoot.evaluate.score import Score, published
from fleetfoot.files import fields, read_object, read_text, write_text
from fleetfoot.machine.environment import Host
from fleetfoot.machine.machine import is_ceiling

SCHEMA = 4
WITHOUT_BESIDE = 3
"""The schema before, whose lines had no ``beside``: nothing ran beside busy cores."""
WITH_ACCURACY = 2
"""The schema before that one, whose measurements held a published accuracy besides."""
MEASUREMENTS_FILE = "measurements.jsonl"
SCORES_FILE = "scores.jsonl"
FAILURES_FILE = "failures.jsonl"
STARTS_FILE = "starts.jsonl"


class _Proof(TypedDict):
    folded: int
    left: int
    max_abs: float
    max_rel: float


class Fold(_Proof, total=False):
    """What the fold did, and its certificate: the largest difference between the network as given
    and as folded, in float64 on random input. All zero if the network was not folded."""

    returned_rel: float
    """The largest difference once the folded network is in its own type, which ran in the
    measurement; absent if the given one does not run in that type, and from older records."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One network on one engine, timed.

    Raises:
        RecordError: a figure does not follow from the samples, or is out of its range.
    """

    model: str
    engine: str
    threads: int
    batch: int
    size: int | tuple[int, int]
    """Height and width of the input, in pixels; one number when they are equal."""
    beside: int = 0
    """Cores that a loop in another process kept busy meanwhile."""
    median_s: float
    """Median of ``samples_s``. One sample is the time of one batch."""
    p90_s: float
    """Nine of ten samples are at most this."""
    p99_s: float
    """99 of 100 samples are at most this."""
    ci95_s: tuple[float, float]
    """95 % confidence interval of the median: low, high."""
    samples_s: tuple[float, ...]
    """Seconds of each batch, in the order in which they were taken."""
    warmup_s: float
    """Time spent before the first sample that counts."""
    steady: bool
    """The warm-up ended because the times had settled, not because its time was up."""
    spread: float
    """(p90 - p10) / median."""
    stable: bool
    """The spread is within what the protocol allows."""
    folded: bool
    fold: Fold
    params: int
    macs: int
    """Multiply-accumulates for one image."""
    memory_access_bytes: int
    """Input maps, output maps and weights of every layer, for one image."""
    images_per_s: float
    achieved_gflops: float
    """2 x macs x batch / median, in 1e9 operations a second."""
    peak_gflops: float
    """The measured matrix-product rate of this machine at this number of threads."""
    peak_share: float
    """achieved_gflops / peak_gflops."""
    fma_gflops: float
    """The measured rate of multiply-adds in registers alone, at this number of threads; 0 where it
    was not measured."""
    copy_gb_per_s: float
    """The measured copy bandwidth at this number of threads."""
    precision: str
    layout: str
    device: str
    engine_version: str
    harness_s: float
    """Median time of the engine that does nothing: what the harness adds to every sample."""
    memory_peak_bytes: int | None
    """The most memory held on a CUDA device; None elsewhere."""
    protocol: str
    run_id: str
    started: str
    """ISO 8601, UTC."""
    machine: Host
    versions: dict[str, str]
    commit: str
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        problems = list(_problems(self))
        if problems:
            raise RecordError(f"{self.model} on {self.engine}: {'; '.join(problems)}")

    @property
    def registers_gflops(self) -> float:
        """``fma_gflops`` if it is a ceiling, else 0. Tables and pictures show this one."""
        return self.fma_gflops if is_ceiling(self.fma_gflops, self.peak_gflops) else 0.0

    @property
    def cell(self) -> Cell:
        """What this is a measurement of: two with the same cell measure the same thing."""
        return Cell(
            self.model,
            self.engine,
            self.threads,
            self.batch,
            self.size,
            self.folded,
            self.precision,
            self.layout,
            self.device,
            self.beside,
        )


class Cell(typing.NamedTuple):
    """The coordinates of a measurement."""

    model: str
    engine: str
    threads: int
    batch: int
    size: int | tuple[int, int]
    folded: bool
    precision: str
    layout: str
    device: str
    beside: int


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A cell that could not run, and why."""

    model: str
    engine: str
    threads: int
    batch: int
    size: int | tuple[int, int]
    beside: int = 0
    reason: str


@dataclass(frozen=True, kw_only=True)
class Start:
    """One network on one engine, opened from the engine's own file in processes that were new: the
    time to the first answer, and the memory. Each tuple has one value for each process.

    Raises:
        RecordError: there is no process, not the same number everywhere, or a time not above 0.
    """

    model: str
    engine: str
    threads: int
    size: int | tuple[int, int]
    """Height and width of the one picture, in pixels."""
    weight_bytes: int
    """Bytes of the network's parameters in float32."""
    file_bytes: int
    import_s: tuple[float, ...]
    """Seconds to import the engine's own package, after Python and numpy are up."""
    answer_s: tuple[float, ...]
    """Seconds from the end of the import until the file is open and the first picture answered."""
    opening_bytes: tuple[int, ...]
    """The most memory held until the first answer, above what was held after the imports. Empty if
    the system does not tell."""
    running_bytes: tuple[int, ...]
    """The most memory held while it ran on after the first answer, weights included. Empty if the
    system does not tell."""
    torch_imported: bool
    engine_version: str
    started: str
    """ISO 8601, UTC."""
    machine: Host
    versions: dict[str, str]
    commit: str
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        count = len(self.import_s)
        if not count or len(self.answer_s) != count or min(*self.import_s, *self.answer_s) <= 0:
            raise RecordError(
                f"start of {self.model} on {self.engine}: import_s and answer_s must hold one time "
                f"above 0 a process, not {self.import_s} and {self.answer_s}"
            )
        for name in ("opening_bytes", "running_bytes"):
            if len(getattr(self, name)) not in (0, count):
                raise RecordError(
                    f"start of {self.model} on {self.engine}: {name} must be empty or hold "
                    f"{count} values, not {len(getattr(self, name))}"
                )

    @property
    def first_answer_s(self) -> float:
        """Median of import, opening and first answer together."""
        pairs = zip(self.import_s, self.answer_s, strict=True)
        return statistics.median(a + b for a, b in pairs)

    @property
    def above_weights_bytes(self) -> float | None:
        """Median of the most held while running, less the weights; None where it is not known."""
        if not self.running_bytes:
            return None
        return statistics.median(self.running_bytes) - self.weight_bytes


def _problems(m: Measurement) -> Iterable[str]:
    if m.schema != SCHEMA:
        yield f"schema {m.schema} is not the one that this fleetfoot knows, {SCHEMA}"
    numbers = [value for value in vars(m).values() if isinstance(value, float)]
    numbers += [*m.samples_s, *m.ci95_s, m.fold["max_abs"], m.fold["max_rel"]]
    numbers.append(m.fold.get("returned_rel", 0.0))
    if not all(math.isfinite(number) for number in numbers):
        yield "it holds a figure that is not finite"
        return
    if min(m.size if isinstance(m.size, tuple) else (m.size,)) < 1:
        yield f"size must be 1 or more, not {m.size}"
    for name in ("threads", "batch", "params", "macs", "memory_access_bytes"):
        if getattr(m, name) < 1:
            yield f"{name} must be 1 or more, not {getattr(m, name)}"
    for name in (
        "beside",
        "warmup_s",
        "spread",
        "harness_s",
        "peak_gflops",
        "fma_gflops",
        "copy_gb_per_s",
    ):
        if getattr(m, name) < 0:
            yield f"{name} must not be negative, but is {getattr(m, name)}"
    if not m.samples_s or min(m.samples_s) <= 0:
        yield "samples_s must hold at least one sample, and only times above 0"
        return
    median = statistics.median(m.samples_s)
    expected = {
        "median_s": median,
        "images_per_s": m.batch / median,
        "achieved_gflops": 2 * m.macs * m.batch / median / 1e9,
    }
    if m.peak_gflops:
        expected["peak_share"] = m.achieved_gflops / m.peak_gflops
    for name, value in expected.items():
        # 1e-6: a writer may round a derived figure; a figure typed by hand is farther off
        if not math.isclose(getattr(m, name), value, rel_tol=1e-6):
            yield f"{name} is {getattr(m, name):g}, but its parts give {value:g}"
    if not m.ci95_s[0] <= m.median_s <= m.ci95_s[1]:
        yield f"the median {m.median_s:g} s lies outside its interval {list(m.ci95_s)}"
    if not m.median_s <= m.p90_s <= m.p99_s:
        yield f"median, p90 and p99 must rise: {m.median_s:g}, {m.p90_s:g}, {m.p99_s:g} s"


Line = TypeVar("Line", Measurement, Failure, Start, Score)
Timed = TypeVar("Timed", bound=Measurement)


def to_json(line: Measurement | Failure | Start | Score) -> str:
    """One line, without its line break; fields in the order of the class."""
    return files.to_json(asdict(line))


def from_json(text: str) -> Measurement:
    """The measurement that ``to_json`` wrote, of this schema or an earlier one.

    Raises:
        RecordError: the text is no JSON object of this schema; the message names the field.
    """
    return _parse(text, Measurement)


def read(path: str | Path) -> list[Measurement]:
    """The measurements of a file, or of the file that a run left in its output folder.

    Raises:
        RecordError: there is no such file, it is empty, or a line is not a measurement; the message
        names the line.
    """
    path = Path(path)
    if path.is_dir():
        path = path / MEASUREMENTS_FILE
    measurements = _read(path, Measurement)
    if not measurements:
        raise RecordError(f"{path} holds no measurement")
    return measurements


def read_failures(path: str | Path) -> list[Failure]:
    """The failures beside a record: ``path`` is the record, its folder, or the file itself. No file
    means no failure."""
    path = _beside(path, FAILURES_FILE)
    return _read(path, Failure) if path.exists() else []


def read_starts(path: str | Path) -> list[Start]:
    """The starts beside a record, named as in ``read_failures``. No file means that none were
    measured."""
    path = _beside(path, STARTS_FILE)
    return _read(path, Start) if path.exists() else []


def read_scores(path: str | Path) -> list[Score]:
    """The scores beside a record, named as in ``read_failures``; if there is no such file, the
    published figures that lines of schema 2 hold, each once.

    Raises:
        RecordError: a line is no score, or its accuracy is out of range; the message names the
        line.
    """
    file = _beside(path, SCORES_FILE)
    if file.exists():
        return _read(file, Score)
    path = Path(path)
    record = path / MEASUREMENTS_FILE if path.is_dir() else path
    found: dict[Score, None] = {}
    for place, text in _lines(record):
        try:
            raw = read_object(text)
            if raw.get("schema") == WITH_ACCURACY and (score := _score_within(raw)):
                found[score] = None
        except RecordError as error:
            raise RecordError(f"{place}: {error}") from None
    return list(found)


def _beside(path: str | Path, name: str) -> Path:
    path = Path(path)
    if path.name == name:
        return path
    return (path if path.is_dir() else path.parent) / name


def write(
    path: str | Path,
    lines: Sequence[Measurement] | Sequence[Failure] | Sequence[Start] | Sequence[Score],
) -> None:
    """Writes the whole file at once: whoever reads ``path``, before or after a crash, finds the old
    file or the new one, never a part."""
    write_text(Path(path), "".join(to_json(line) + "\n" for line in lines))


def fastest(measurements: Iterable[Timed]) -> list[Timed]:
    """The engine with the least median for each network, threads, batch, size and busy cores; the
    least latency first."""
    best: dict[tuple[object, ...], Timed] = {}
    for m in sorted(measurements, key=lambda m: m.median_s):
        best.setdefault(
            (m.model, m.threads, m.batch, m.size, m.folded, m.precision, m.device, m.beside), m
        )
    return list(best.values())


def _read(path: Path, kind: type[Line]) -> list[Line]:
    found = []
    for place, line in _lines(path):
        try:
            found.append(_parse(line, kind))
        except RecordError as error:
            raise RecordError(f"{place}: {error}") from None
    return found


def _lines(path: Path) -> list[tuple[str, str]]:
    """The lines that are not empty, each with the words that name it."""
    try:
        text = read_text(path)
    except FileNotFoundError:
        raise RecordError(f"there is no record at {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{path} cannot be read: {error}") from error
    lines = enumerate(text.split("\n"), start=1)
    return [(f"{path}, line {number}", line) for number, line in lines if line.strip()]


def _parse(text: str, kind: type[Line]) -> Line:
    raw = read_object(text)
    if kind in (Measurement, Start):
        raw = _upgraded(raw, kind)
    elif kind is Failure and "beside" not in raw:  # a failure states no schema
        raw = _beside_none(raw)
    return kind(**fields(raw, kind, ""))


def _upgraded(raw: dict[str, Any], kind: type) -> dict[str, Any]:
    """A line of this schema or an earlier one, as this schema has it."""
    schema = raw.get("schema")
    if schema == SCHEMA:
        return raw
    if schema not in (WITH_ACCURACY, WITHOUT_BESIDE):
        raise RecordError(
            f"schema is {raw.get('schema', 'missing')}; this fleetfoot reads schema {SCHEMA}, "
            f"{WITHOUT_BESIDE} and {WITH_ACCURACY}. Read the record with the version that wrote it"
        )
    raw = {**raw, "schema": SCHEMA}
    if kind is Measurement:
        if schema == WITH_ACCURACY:
            _score_within(raw)  # a line is refused for a wrong accuracy, too
            raw = {name: value for name, value in raw.items() if name not in _ACCURACY}
        raw = _beside_none(raw)
    return raw


def _beside_none(raw: dict[str, Any]) -> dict[str, Any]:
    """A line from before anything was measured beside busy cores."""
    if "beside" in raw:
        raise RecordError("unknown field beside")
    return {**raw, "beside": 0}


_ACCURACY = ("top1", "top1_source")
"""What a line of schema 2 held besides the fields of a measurement."""


class _Accuracy(TypedDict):
    model: str
    size: int | tuple[int, int]
    top1: float | None
    top1_source: str


def _score_within(raw: dict[str, Any]) -> Score | None:
    """The published figure in a line of schema 2; None if it holds none."""
    asked = ("model", "size", *_ACCURACY)
    held = fields({name: raw[name] for name in asked if name in raw}, _Accuracy, "")
    if held["top1"] is None:
        return None
    return published(held["model"], held["size"], held["top1"], held["top1_source"])
