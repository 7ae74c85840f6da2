"""Targets of fleetfoot's own engine beside its peers, and whether a record shows that they are met.

The targets are rows; the verdicts are computed only from the record. A peer without a figure never
counts as beaten: if a peer has no figure at all, nothing is shown, and if it cannot run some
network, the verdict's remarks say so.

    python -m tools.targets benchmarks/peers
    python -m tools.targets benchmarks/peers --page docs/targets.md
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import geometric_mean
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.text import Text

from fleetfoot.errors import RecordError
from fleetfoot.measure.compare import ratio_interval
from fleetfoot.measure.grid import COMPARED_MODELS, GRIDS
from fleetfoot.measure.record import (
    Failure,
    Measurement,
    Start,
    read,
    read_failures,
    read_starts,
)
from fleetfoot.report import update_between_markers
from fleetfoot.report.kit.terminal import console
from fleetfoot.report.record_tables import escaped, plain_table
from fleetfoot.report.summary import OWN, PEERS

STARTING_PEERS = ("onnxruntime", "openvino", "ncnn", "executorch")
"""Engines that run from their own file; code of torch.compile needs torch and its cache."""

Word = Literal["met", "not met", "not shown"]


@dataclass(frozen=True, kw_only=True)
class Speed:
    """A target for the speed of the native engine beside the fastest peer, in one setting."""

    threads: int
    batch: int
    geometric_mean: float
    """Least geometric mean, over the networks, of the fastest peer's time over the native engine's.
    For no network may the ratio be below 1."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """A target for each of the named networks: its share of the measured rate of matrix products,
    at batch 1 on one thread."""

    networks: str
    patterns: tuple[str, ...]
    least: float
    but: tuple[str, ...] = ()


# Targets of the native engine on a two-core server with AVX-512: float32, folded, each network at
# its own size. They were set before the engine was written, from what general runtimes left idle.
SPEED = (
    Speed(threads=1, batch=1, geometric_mean=1.5),
    Speed(threads=2, batch=1, geometric_mean=1.5),
    Speed(threads=2, batch=32, geometric_mean=1.2),
)
SHARES = (
    Share(networks="FasterNet-T0", patterns=("fasternet_t0",), least=0.80),
    Share(
        networks="other FasterNets", patterns=("fasternet_*",), but=("fasternet_t0",), least=0.90
    ),
    Share(networks="MobileOne", patterns=("mobileone_*",), least=0.85),
    Share(networks="MobileNetV1", patterns=("mobilenetv1_*",), least=0.85),
    Share(networks="MobileNetV2, FastViT", patterns=("mobilenetv2_*", "fastvit_*"), least=0.75),
    Share(
        networks="ShuffleNetV2, MobileNetV3-L",
        patterns=("shufflenet_v2_*", "mobilenetv3_large_*"),
        least=0.55,
    ),
)
FIRST_ANSWER_MODEL, FIRST_ANSWER_S = "fasternet_t0", 0.060


@dataclass(frozen=True, kw_only=True)
class TargetVerdict:
    """One target, and what the record shows about it."""

    case: str
    target: str
    found: str
    """The figure found; "" if there is none."""
    word: Word
    remarks: tuple[str, ...] = ()
    """What the figure leaves out, and by what it misses the target."""


@dataclass(frozen=True)
class _Pair:
    own: Measurement
    best: Measurement

    @property
    def ratio(self) -> float:
        """The fastest peer's time over the native engine's; above 1 the native engine is faster."""
        return self.best.median_s / self.own.median_s

    @property
    def own_gflop(self) -> float:
        """Operations of a batch, in 10⁹; a multiply-add is two."""
        return 2e-9 * self.own.macs * self.own.batch


def verdicts(
    measurements: Sequence[Measurement],
    failures: Sequence[Failure] = (),
    starts: Sequence[Start] = (),
) -> list[TargetVerdict]:
    """The verdict on each target, in order.

    Raises:
        RecordError: the record holds no measurement of the engine that the targets are for.
    """
    own = [m for m in measurements if m.engine == OWN]
    if not own:
        engines = ", ".join(dict.fromkeys(m.engine for m in measurements))
        raise RecordError(
            f"the targets are those of the engine {OWN!r}, and the record holds only {engines}; "
            "measure with: fleetfoot bench --protocol peers"
        )
    rows = [row for target in SPEED for row in _speed(target, measurements, failures)]
    rows += [_share(target, own) for target in SHARES]
    rows.append(_first_answer([s for s in starts if s.model == FIRST_ANSWER_MODEL], failures))
    rows.append(_memory(starts, failures))
    return rows


def _speed(
    target: Speed, measurements: Sequence[Measurement], failures: Sequence[Failure]
) -> list[TargetVerdict]:
    case = f"batch {target.batch}, {target.threads} thread{'s' * (target.threads > 1)}"
    cells = [
        m
        for m in measurements
        if (m.threads, m.batch, m.precision, m.device) == (*_setting(target), "float32", "cpu")
        and not m.beside
        and m.folded
    ]
    pairs = _pairs(cells)
    failed = [f for f in failures if (f.threads, f.batch, f.beside) == (*_setting(target), 0)]
    holes = _holes(cells, failed, _wanted(target))
    stopped = any(f.engine == OWN for f in failed)
    remarks = holes.remarks
    targets = ("slower than the best peer on none", f"geometric mean ≥ {target.geometric_mean:g}")
    if not pairs:
        return [
            TargetVerdict(case=case, target=text, found="", word="not shown", remarks=remarks)
            for text in targets
        ]
    slower = sorted((p for p in pairs if p.ratio < 1), key=lambda p: p.ratio)
    mean = geometric_mean(p.ratio for p in pairs)
    worst = min(pairs, key=lambda p: p.ratio)
    return [
        TargetVerdict(
            case=case,
            target=targets[0],
            found=f"{len(slower)} of {len(pairs)}; least {worst.ratio:.2f} × on {worst.own.model}",
            # a network that the native engine cannot run counts against it
            word=_word(not slower and not stopped, holes.open),
            remarks=(*remarks, *(_slower_words(p) for p in slower)),
        ),
        TargetVerdict(
            case=case,
            target=targets[1],
            found=f"{mean:.2f} × over {len(pairs)} network{'s' * (len(pairs) > 1)}",
            word=_word(mean >= target.geometric_mean, holes.open),
            remarks=_bound_words(pairs, _registers_gflops(measurements, target), mean, target),
        ),
    ]


def _registers_gflops(measurements: Sequence[Measurement], target: Speed) -> float:
    """Rate of multiply-adds in registers: the best rate measured on a core times the threads. Cores
    that work together are no faster than one alone."""
    rates = [m.registers_gflops / m.threads for m in measurements if m.device == "cpu"]
    return target.threads * max(rates, default=0.0)


def _bound_words(
    pairs: Sequence[_Pair], gflops: float, mean: float, target: Speed
) -> tuple[str, ...]:
    """The speed of an engine that does a network's multiply-adds and nothing else, in words."""
    if not gflops:
        return ()
    bounds = [p.best.median_s * gflops / p.own_gflop for p in pairs]
    bound = geometric_mean(bounds)
    wanted = target.geometric_mean
    short = sum(one < wanted for one in bounds)
    beyond = " (fewer multiply-adds apart, the target is out of reach)" if bound < wanted else ""
    return (
        f"with every multiply-add at the {gflops:.0f} GFLOP/s that {target.threads} "
        f"core{'s' * (target.threads > 1)} can do in registers, and nothing else to do, it would "
        f"be {bound:.2f} ×{beyond}; {mean / bound:.0%} of that is reached; on {short} of "
        f"{len(pairs)} networks even that is less than {wanted:g} ×",
    )


def _setting(target: Speed) -> tuple[int, int]:
    return target.threads, target.batch


def _pairs(cells: Sequence[Measurement]) -> list[_Pair]:
    """For each network, the cell of the native engine and that of the fastest peer measured in
    turns with it."""
    pairs = []
    for own in cells:
        if own.engine != OWN:
            continue
        peers = [
            m
            for m in cells
            if m.engine in PEERS
            and (m.model, m.size, m.run_id) == (own.model, own.size, own.run_id)
        ]
        if peers:
            pairs.append(_Pair(own, min(peers, key=lambda m: m.median_s)))
    return pairs


def _slower_words(pair: _Pair) -> str:
    low, high = ratio_interval(pair.best.samples_s, pair.own.samples_s)
    return (
        f"{pair.own.model}: {1e3 * pair.own.median_s:.2f} ms, {pair.best.engine} "
        f"{1e3 * pair.best.median_s:.2f} ms (time × {low:.2f} to {high:.2f})"
    )


@dataclass(frozen=True)
class _Holes:
    """What is missing in the cells for a verdict."""

    open: bool
    """Whether so much is missing that a target reached so far cannot count as met."""
    remarks: tuple[str, ...]


def _wanted(target: Speed) -> list[str]:
    (row,) = (r for r in GRIDS["peers"].settings if (r.threads, r.batch) == _setting(target))
    return [model for model in COMPARED_MODELS if model not in row.without]


def _holes(
    cells: Sequence[Measurement], failures: Sequence[Failure], wanted: Sequence[str]
) -> _Holes:
    remarks, lacking = [], False
    models = list(dict.fromkeys([*wanted, *(m.model for m in cells)]))
    have = {(m.engine, m.model) for m in cells}
    reasons = {(f.engine, f.model): f.reason for f in failures}
    asked = {model for _, model in (*have, *reasons)}
    if unasked := [model for model in models if model not in asked]:
        lacking = True
        remarks.append(f"no engine was measured on {_listed(unasked)}")
        models = [model for model in models if model in asked]
    for engine in (OWN, *PEERS):
        gone = [model for model in models if (engine, model) not in have]
        if not gone:
            continue
        if len(gone) == len(models):
            lacking = True
            reason = next((reasons[engine, m] for m in gone if (engine, m) in reasons), "")
            remarks.append(f"{engine} has no figure: {reason or 'it was not asked for'}")
            continue
        failed = [model for model in gone if (engine, model) in reasons]
        remarks += [f"{engine} cannot run {m}: {reasons[engine, m]}" for m in failed]
        unknown = [model for model in gone if (engine, model) not in reasons]
        if unknown:
            remarks.append(f"{engine} was not measured on {_listed(unknown)}")
        lacking = lacking or bool(unknown) or (engine == OWN)
    return _Holes(lacking, tuple(remarks))


def _listed(models: Sequence[str]) -> str:
    return ", ".join(models) if len(models) <= 6 else f"{len(models)} networks of the comparison"


def _word(reached: bool, lacking: bool) -> Word:
    """The word of a verdict. A figure that misses its target is "not met", even if others are
    missing."""
    if not reached:
        return "not met"
    return "not shown" if lacking else "met"


def _share(target: Share, own: Iterable[Measurement]) -> TargetVerdict:
    cells = [
        m
        for m in own
        if (m.threads, m.batch, m.device, m.beside) == (1, 1, "cpu", 0)
        and m.peak_gflops
        and _meant(target, m.model)
    ]
    case = "share of the matrix-product rate, batch 1, 1 thread"
    text = f"{target.networks} ≥ {target.least:.2f}"
    wanted = [model for model in COMPARED_MODELS if _meant(target, model)]
    gone = [model for model in wanted if model not in {m.model for m in cells}]
    remarks = [f"not measured: {_listed(gone)}"] if gone else []
    if bounded := [
        (m.achieved_gflops / m.registers_gflops, m) for m in cells if m.registers_gflops
    ]:
        share, worst = min(bounded, key=lambda pair: pair[0])
        remarks.append(
            "of the multiply-adds that the core does in registers alone, "
            f"{worst.registers_gflops:.0f} GFLOP/s: least {share:.2f} on {worst.model}"
        )
    if not cells:
        return TargetVerdict(
            case=case, target=text, found="", word="not shown", remarks=tuple(remarks)
        )
    cells.sort(key=lambda m: m.peak_share)
    short = [m for m in cells if m.peak_share < target.least]
    return TargetVerdict(
        case=case,
        target=text,
        found=f"least {cells[0].peak_share:.2f} on {cells[0].model}",
        word=_word(not short, bool(gone)),
        remarks=(*remarks, *(f"{m.model}: {m.peak_share:.2f}" for m in short)),
    )


def _meant(target: Share, model: str) -> bool:
    return model not in target.but and any(fnmatch.fnmatch(model, p) for p in target.patterns)


def _first_answer(starts: Sequence[Start], failures: Sequence[Failure]) -> TargetVerdict:
    case = f"file to first answer, new process, {FIRST_ANSWER_MODEL}"
    target = f"≤ {1e3 * FIRST_ANSWER_S:.0f} ms without torch, before each peer"
    by_engine = {s.engine: s for s in starts}
    gone = _without(by_engine, failures, FIRST_ANSWER_MODEL)
    own = by_engine.pop(OWN, None)
    if own is None:
        return TargetVerdict(case=case, target=target, found="", word="not shown", remarks=gone)
    remarks = [
        f"{s.engine}: {1e3 * s.first_answer_s:.0f} ms, of which {1e3 * _import_s(s):.0f} ms import"
        f"{', torch among it' if s.torch_imported else ''}"
        for s in sorted(by_engine.values(), key=lambda s: s.first_answer_s)
    ]
    # the native engine must also be first without the imports, which a C++ program does not have
    reached = (
        own.first_answer_s <= FIRST_ANSWER_S
        and not own.torch_imported
        and all(
            own.first_answer_s <= s.first_answer_s
            and own.first_answer_s - _import_s(own) <= s.first_answer_s - _import_s(s)
            for s in by_engine.values()
        )
    )
    return TargetVerdict(
        case=case,
        target=target,
        found=f"{1e3 * own.first_answer_s:.0f} ms, of which {1e3 * _import_s(own):.0f} ms import"
        f"{', torch among it' if own.torch_imported else ''}",
        word=_word(reached, bool(gone)),
        remarks=(*gone, *remarks),
    )


def _import_s(start: Start) -> float:
    return sorted(start.import_s)[len(start.import_s) // 2]


def _memory(starts: Sequence[Start], failures: Sequence[Failure]) -> TargetVerdict:
    case, target = "peak memory while running, above the weights", "≤ each peer"
    models = dict.fromkeys(s.model for s in starts if s.engine == OWN)
    remarks: list[str] = []
    short, lacking, compared, highest = 0, not models, 0, 0.0
    for model in models:
        held = {
            s.engine: s.above_weights_bytes / 1e6
            for s in starts
            if s.model == model and s.above_weights_bytes is not None
        }
        gone = _without(held, failures, model)
        remarks += gone
        lacking = lacking or bool(gone)
        own = held.pop(OWN, None)
        if own is None:
            continue
        compared, highest = compared + 1, max(highest, own)
        short += any(other < own for other in held.values())
        others = sorted((value, name) for name, value in held.items())
        remarks.append(
            f"{model}: {own:.1f} MB, {', '.join(f'{name} {value:.1f}' for value, name in others)}"
        )
    if not compared:
        return TargetVerdict(
            case=case, target=target, found="", word="not shown", remarks=tuple(remarks)
        )
    return TargetVerdict(
        case=case,
        target=target,
        found=f"more than a peer on {short} of {compared} networks; at most {highest:.1f} MB",
        word=_word(short == 0, lacking),
        remarks=tuple(remarks),
    )


def _without(have: Iterable[str], failures: Sequence[Failure], model: str) -> tuple[str, ...]:
    """The engines that have no start of ``model``, each with its reason if one is known."""
    known = set(have)
    reasons = {f.engine: f.reason for f in failures if f.model == model}
    return tuple(
        f"{engine} has no figure on {model}: {reasons.get(engine, 'it was not measured')}"
        for engine in (OWN, *STARTING_PEERS)
        if engine not in known
    )


def print_targets(console: Console, verdicts: Sequence[TargetVerdict]) -> None:
    """Prints each target with its figure and verdict; below them, remarks on the figures."""
    table = plain_table()
    for title in ("case", "to reach", "found", ""):
        table.add_column(title, overflow="fold", no_wrap=not title)
    styles = {"met": "green", "not met": "red", "not shown": "yellow"}
    case = ""
    for v in verdicts:
        table.add_row(
            Text("" if v.case == case else v.case), Text(v.target), Text(v.found or "-"),
            Text(v.word, styles[v.word]),
        )  # fmt: skip
        case = v.case
    console.print(table)
    for v in verdicts:
        for remark in v.remarks:
            console.print(Text.assemble((f"{v.case}: ", "dim"), remark))


def targets_markdown(verdicts: Sequence[TargetVerdict]) -> str:
    """The targets as a Markdown table; below it, remarks on the figures."""
    lines = ["| case | to reach | found | |", "|---|---|---|---|"]
    case = ""
    for v in verdicts:
        cells = ("" if v.case == case else v.case, v.target, v.found or "-", v.word)
        lines.append(f"| {' | '.join(map(escaped, cells))} |")
        case = v.case
    remarks = [f"- {v.case}: {escaped(remark)}" for v in verdicts for remark in v.remarks]
    return "\n".join([*lines, "", *remarks, ""])


def judge(
    record: Annotated[Path, typer.Argument(help="A record, or the folder of a run.")],
    page: Annotated[
        Path | None,
        typer.Option(help="Only put the table between the results markers of this file."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON record instead of a table.")
    ] = False,
) -> None:
    """Judge the native engine's targets from a record."""
    if page is not None and as_json:
        raise typer.BadParameter("--page and --json exclude each other")
    found = verdicts(read(record), read_failures(record), read_starts(record))
    if page is not None:
        changed = update_between_markers(page, targets_markdown(found))
        typer.echo(f"{page}: {'updated' if changed else 'already what the record gives'}")
    elif as_json:
        typer.echo(json.dumps([asdict(verdict) for verdict in found]))
    else:
        print_targets(console(), found)


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
app.command()(judge)

if __name__ == "__main__":
    app()
