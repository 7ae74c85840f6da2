"""One run: everything is prepared, then every cell has its turn in every round, at the pace asked
for (``measure.pace``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from fleetfoot import engines, interrupts
from fleetfoot.cores import usable_cores
from fleetfoot.engines import Engine, Options
from fleetfoot.engines.agreement import compare
from fleetfoot.engines.nothing import Nothing
from fleetfoot.errors import STRANGERS, EngineError, FleetfootError
from fleetfoot.files import plain
from fleetfoot.machine import environment
from fleetfoot.machine.peaks import PeakProbe, Peaks, torch_threads
from fleetfoot.measure.beside import BusyCores
from fleetfoot.measure.clock import Clock, clock_for, warm_up
from fleetfoot.measure.journal import JOURNAL_FILE, Case, Journal, Note, finished
from fleetfoot.measure.networks import Network, prepare
from fleetfoot.measure.pace import PREPARING_SHARE, Pace, no_garbage_collection, order, turn
from fleetfoot.measure.record import Failure, Measurement
from fleetfoot.network import Size, height_width
from fleetfoot.network.user import place_of

__all__ = ["Case", "Form", "Run", "Tools", "run"]

MEMORY_SHARE = 0.5
"""Share of the machine's memory: when the engines prepared so far hold more, they are measured
before the next are prepared."""


@dataclass(frozen=True)
class Notice:
    """Something that a reader of the figures should know."""

    text: str


@dataclass(frozen=True)
class Preparing:
    case: Case
    number: int
    """1 for the first."""
    of: int


@dataclass(frozen=True)
class Prepared:
    case: Case
    seconds: float
    """Seconds to build the engine and warm it up."""
    steady: bool


@dataclass(frozen=True)
class Failed:
    failure: Failure


@dataclass(frozen=True)
class RoundDone:
    number: int
    """1 for the first."""
    of: int
    group: int
    """0 where all engines are in memory at once."""
    elapsed_s: float
    medians_s: dict[Case, float]
    """Median of every cell that has samples so far, in seconds."""


Event = Notice | Preparing | Prepared | Failed | RoundDone


class Probe(Protocol):
    """Takes one sample of the machine's ceilings at a time: ``machine.peaks.PeakProbe``."""

    def sample(self) -> None: ...

    def peaks(self) -> Peaks: ...


@dataclass(frozen=True, kw_only=True)
class Form:
    """The form in which every network runs; a measurement's ``cell`` holds it."""

    fold: bool = True
    """Batch norms and linear branches are folded first."""
    precision: str = "float32"
    layout: str = "nchw"
    device: str = "cpu"

    def options(self, threads: int) -> Options:
        """What an engine is built with."""
        return Options(
            threads=threads, precision=self.precision, layout=self.layout, device=self.device
        )


@dataclass(frozen=True)
class Tools:
    """What a run is made with; a test, or a user with networks of their own, puts in others."""

    networks: Callable[[str, Size, bool], Network] = prepare
    """Name, size, whether to fold."""
    load: Callable[..., Engine] = engines.load
    probe: Callable[[int], Probe] = PeakProbe


@dataclass(frozen=True)
class Run:
    """What a run gives back."""

    measurements: list[Measurement]
    failures: list[Failure]
    interrupted: str
    """The signal that ended it early, one of ``interrupts.NAMES``; "" when it came to its end."""


def run(
    wanted: Sequence[Case],
    pace: Pace,
    *,
    form: Form | None = None,
    output: Path | None = None,
    resume: bool = False,
    on_event: Callable[[Event], None] = lambda event: None,
    tools: Tools | None = None,
) -> Run:
    """Measures every case, interleaved.

    A case that cannot run is a failure with its reason, and the others go on. Ctrl-C, SIGTERM and
    SIGHUP end the run and keep what was measured. Engines that do not fit into memory at once are
    measured in groups of whole models; then ``run_id`` of a measurement ends in the number of its
    group, as "...#2", since only what shares a ``run_id`` was interleaved.

    Args:
        form: of every network. Default: folded, float32 on the CPU.
        output: folder for the journal, from which ``resume`` goes on: rounds that a case has are
            kept, those that it lacks are run, and cases that failed are tried again.

    Raises:
        ValueError: no cases, a case named twice, or ``resume`` without ``output``.
        RecordError: ``output`` holds a run already, or one to resume that is not this one.
    """
    if not wanted or len(set(wanted)) < len(wanted):
        raise ValueError(f"a run needs cases, each once; {len(wanted)} were given")
    if resume and output is None:
        raise ValueError("resume needs output, the folder in which the earlier run left its notes")
    form = form or Form()
    header = _header(wanted, pace, form)
    path = None if output is None else Path(output) / JOURNAL_FILE
    if resume:
        assert path is not None
        journal = Journal.resume(path, header)
        journal.add("resumed", at=header["started"], surroundings=header["surroundings"])
    else:
        journal = Journal(header, path)
    interrupted = ""
    work = _Work(journal, pace, form, on_event, tools or Tools())
    try:
        with interrupts.handled(), work.busy:
            work.all()
    except KeyboardInterrupt as stop:
        interrupted = interrupts.name_of(stop)
    finally:
        journal.close()
    return Run(journal.measurements(), journal.failures(), interrupted)


def _header(wanted: Sequence[Case], pace: Pace, form: Form) -> Note:
    """The journal's first note: what is to run, and where."""
    now = datetime.now(timezone.utc)
    return {
        "kind": "run",
        "run_id": now.strftime("%Y%m%dT%H%M%S.%fZ"),
        "started": now.isoformat(timespec="seconds"),
        "setup": plain(
            {
                "pace": asdict(pace),
                "form": asdict(form),
                "machine": environment.machine(),
                "versions": environment.versions(),
                "commit": environment.commit(),
            }
        ),
        "surroundings": asdict(environment.surroundings()),
        "cases": [asdict(case) for case in wanted],
    }


@dataclass(frozen=True)
class _Live:
    """A case whose engine is built and warm."""

    case: Case
    call: Callable[[], object]


@dataclass
class _Work:
    """The state of a run between its start and its end."""

    journal: Journal
    pace: Pace
    form: Form
    on_event: Callable[[Event], None]
    tools: Tools

    busy: BusyCores = field(default_factory=BusyCores)

    def __post_init__(self) -> None:
        self.started = time.monotonic()
        self.clock: Clock = clock_for(self.form.device)
        self.probes: dict[int, Probe] = {}
        self.memory_bytes = self.pace.memory_bytes
        if self.memory_bytes is None and (whole := environment.machine()["memory_bytes"]):
            self.memory_bytes = int(whole * MEMORY_SHARE)

    def all(self) -> None:
        """Groups, one after the other: prepare, measure, release."""
        self._note_load()
        rounds = range(self.pace.rounds)
        waiting = [c for c, p in self.journal.progress.items() if not finished(p, rounds)]
        total = len(waiting)
        while waiting:
            with ExitStack() as held:
                live, rest = self._prepare(waiting, held, total)
                if rest and live and self._is_over():
                    self._leave_out(rest)
                    rest = []
                if rest or self.journal.groups:
                    self._note_group(live, total)
                left_s = self.started + self.pace.budget_s - time.monotonic()
                self._measure(live, left_s * len(live) / max(1, len(live) + len(rest)))
            waiting = rest

    def _note_load(self) -> None:
        load, cores = environment.surroundings().load_average, usable_cores()
        if load is not None and load > cores / 2:
            self.on_event(
                Notice(
                    f"the load average is {load:.1f} on {cores} usable cores: other work takes "
                    "part in these times"
                )
            )

    def _note_group(self, live: Sequence[_Live], total: int) -> None:
        group = self.journal.groups + 1
        if self.pace.by_network and live:
            # the same number in every part of a run that is resumed: its rounds go on as one
            models = list(dict.fromkeys(case.model for case in self.journal.cases))
            group = 1 + models.index(live[0].case.model)
        members = [self.journal.index(one.case) for one in live]
        self.journal.add("group", number=group, cases=members)
        if self.pace.by_network:
            return  # as its pace says
        self.on_event(
            Notice(
                f"the engines do not fit into memory at once: {len(live)} of {total} cells are "
                f"group {group}, and only what is in one group was interleaved"
            )
        )

    def _prepare(
        self, waiting: Sequence[Case], held: ExitStack, total: int
    ) -> tuple[list[_Live], list[Case]]:
        """Engines for as many whole models as memory allows, and the cases that are left."""
        live: list[_Live] = []
        rest = list(waiting)
        before = environment.resident_bytes() or 0
        while rest:
            mine = [c for c in rest if (c.model, c.size) == (rest[0].model, rest[0].size)]
            live += self._prepare_model(mine, held, total - len(rest), total)
            rest = [case for case in rest if case not in mine]
            held_bytes = (environment.resident_bytes() or 0) - before
            if (
                self.pace.by_network
                or (live and self._is_over())  # one network is always prepared
                or (self.memory_bytes is not None and held_bytes > self.memory_bytes)
            ):
                break
        return live, rest

    def _is_over(self) -> bool:
        """Whether so much of the budget is spent that no further network is prepared."""
        share = 1.0 if self.pace.by_network or self.journal.groups else PREPARING_SHARE
        spent_s = time.monotonic() - self.started  # in later groups, measuring has a part of it
        return self.pace.leaves_out and spent_s > share * self.pace.budget_s

    def _leave_out(self, cases: Sequence[Case]) -> None:
        """Notes that there was no time for ``cases``; a run that is resumed tries them again."""
        models = list(dict.fromkeys(case.model for case in cases))
        reason = (
            f"no time: the others took {time.monotonic() - self.started:.0f} of the "
            f"{self.pace.budget_s:g} s to prepare and measure; --resume goes on, and a new run may "
            "have more --seconds"
        )
        self.on_event(Notice(f"{reason}. Left out: {', '.join(models)}"))
        for case in cases:
            self.journal.add("failure", case=self.journal.index(case), reason=reason)

    def _prepare_model(
        self, mine: Sequence[Case], held: ExitStack, done: int, total: int
    ) -> list[_Live]:
        live: list[_Live] = []
        network = None
        answers: set[int] = set()
        """Batches that eager answers with finite logits."""
        built: dict[Case, _Live] = {}
        """Engines by case without its busy cores: the same engine runs beside any number."""
        for number, case in enumerate(mine, start=done + 1):
            self.on_event(Preparing(case, number, total))
            try:
                if network is None:
                    network = self._network(case)
            except STRANGERS as error:  # whatever it is, the other networks go on
                for one in mine:
                    self._fail(one, error)
                return live
            try:
                if case.batch not in answers:
                    _check_answer(network, case)
                    answers.add(case.batch)
                quiet = replace(case, beside=0)
                if quiet not in built:
                    built[quiet] = self._build(case, network, held)
                else:
                    ready = self.journal.progress[built[quiet].case].ready
                    assert ready is not None
                    self.journal.add(**{**ready, "case": self.journal.index(case)})
                live.append(_Live(case, built[quiet].call))
            except STRANGERS as error:  # the other engines go on
                self._fail(case, error)
        return live

    def _network(self, case: Case) -> Network:
        network = self.tools.networks(case.model, case.size, self.form.fold)
        for text in network.notices:
            self.on_event(Notice(text))
        self.journal.add("network", model=case.model, size=case.size, **network.record())
        return network

    def _build(self, case: Case, network: Network, held: ExitStack) -> _Live:
        """The engine, its answer compared with eager's, and warm.

        Raises:
            EngineError: it cannot be built, fails, or answers otherwise than eager.
        """
        began = time.monotonic()
        batch = images(case.batch, case.size, network.channels)
        with torch_threads(case.threads), _cuda_memory(self.form.device) as peak_bytes:
            options = asdict(self.form.options(case.threads))
            engine = self.tools.load(case.engine, network.model, example=batch, **options)
            held.enter_context(engine)
            compare(engine, network.model)  # engines.load did; Tools may have another
            call = engine.timed_call(batch)
            with no_garbage_collection():
                warm = warm_up(call, self.clock, most_s=self.pace.warmup_s)
        self.journal.add(
            "ready",
            case=self.journal.index(case),
            engine=asdict(engine.info),
            warmup_samples_s=warm.samples_s,
            steady=warm.steady,
            memory_peak_bytes=peak_bytes(),
        )
        if engine.info.note:
            self.on_event(Notice(f"{case.model} on {case.engine}: {engine.info.note}"))
        self.on_event(Prepared(case, time.monotonic() - began, warm.steady))
        return _Live(case, call)

    def _fail(self, case: Case, error: BaseException) -> None:
        reason = str(error) if isinstance(error, FleetfootError) else _named(error)
        reason += place_of(error)
        self.journal.add("failure", case=self.journal.index(case), reason=reason)
        self.on_event(Failed(Failure(**asdict(case), reason=reason)))

    def _measure(self, live: Sequence[_Live], seconds: float) -> None:
        """Rounds until each case has all of them, or ``seconds`` are over and it has the fewest."""
        began = time.monotonic()
        progress = self.journal.progress
        nothing = {one.case.setting: _nothing(one.case) for one in live}
        for idle in nothing.values():
            self._harness_turn(idle)
        last_s = 0.0
        for number in range(self.pace.rounds):
            turns = [
                one
                for one in live
                if number not in progress[one.case].rounds and not progress[one.case].failure
            ]
            if not turns:
                continue
            fewest = min(len(progress[one.case].rounds) for one in turns)
            spent = time.monotonic() - began
            if fewest >= self.pace.fewest_rounds and spent + last_s > seconds:
                break
            self._sample_ceilings({one.case.threads for one in turns})
            for one in order([*turns, *nothing.values()], number, self.pace.seed):
                if one.case.engine == Nothing.name:
                    self._harness_turn(one)
                else:
                    self._case_turn(one, number)
            last_s = time.monotonic() - began - spent
            self.on_event(
                RoundDone(
                    number + 1,
                    self.pace.rounds,
                    self.journal.groups,
                    time.monotonic() - self.started,
                    self.journal.medians(),
                )
            )

    def _case_turn(self, one: _Live, number: int) -> None:
        try:
            samples = self._turn(one)
        except STRANGERS as error:  # the others go on
            self._fail(one.case, error)
            return
        self.journal.add(
            "burst", case=self.journal.index(one.case), round=number, samples_s=samples
        )

    def _harness_turn(self, idle: _Live) -> None:
        threads, batch, size, beside = idle.case.setting
        samples = self._turn(idle)
        self.journal.add(
            "harness",
            threads=threads,
            batch=batch,
            size=size,
            beside=beside,
            samples_s=samples,
        )

    def _turn(self, one: _Live) -> list[float]:
        with torch_threads(one.case.threads), self.busy.busy(one.case.beside):
            return turn(one.call, self.clock, self.pace)

    def _sample_ceilings(self, threads: Iterable[int]) -> None:
        """The ceilings of the CPU; on another device there are none, and the record says 0."""
        if self.form.device != "cpu":
            return
        for number in sorted(threads):
            if number not in self.probes:
                self.probes[number] = self.tools.probe(number)
            self.probes[number].sample()
            peaks = self.probes[number].peaks()
            self.journal.add(
                "ceilings",
                threads=number,
                matmul_s=peaks.matmul_samples_s[-1],
                copy_s=peaks.copy_samples_s[-1],
                fma_flops_per_s=peaks.fma_flops_per_s[-1] if peaks.fma_flops_per_s else 0.0,
            )


def images(batch: int, size: Size, channels: int = 3) -> Tensor:
    """(batch, channels, H, W), normal, the same on every call: what every engine is timed on."""
    shape = (batch, channels, *height_width(size))
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _check_answer(network: Network, case: Case) -> None:
    """Shows that eager answers the pictures that are timed.

    Raises:
        EngineError: its answer holds something other than tensors, or none, or a value that is not
            finite.
    """
    with torch_threads(case.threads), torch.inference_mode():
        answer = network.model(images(case.batch, case.size, network.channels))
    outputs = pytree.tree_leaves(answer)
    strange = [type(one).__name__ for one in outputs if not isinstance(one, Tensor)]
    if strange or not outputs:
        held = ", ".join(dict.fromkeys(strange)) or "no tensor"
        raise EngineError(f"{case.model} answers with {held}, where tensors are timed")
    if not all(torch.isfinite(one).all() for one in outputs):
        raise EngineError(f"{case.model} answers normal input with values that are not finite")


def _nothing(case: Case) -> _Live:
    """The engine that does nothing, for the threads, batch and size of ``case``."""
    batch = images(case.batch, case.size)
    engine = Nothing(torch.nn.Identity(), batch, Options(threads=case.threads))
    return _Live(replace(case, model="", engine=Nothing.name), engine.timed_call(batch))


@contextmanager
def _cuda_memory(device: str) -> Iterator[Callable[[], int | None]]:
    """A function that tells the largest memory taken since; it answers None off CUDA."""
    if device != "cuda":
        yield lambda: None
        return
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    yield lambda: torch.cuda.max_memory_allocated() - before


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
