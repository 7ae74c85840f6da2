"""Checks whether a finding's price is what its change saves: for each rule, a network that breaks
it and the same network with the change are measured in turns on one engine.

The prediction is the rule's price on the measured layers of the first network, less its price on
the second; it does not use the second's time.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from torch import Tensor, nn

from fleetfoot import engines
from fleetfoot.errors import EngineError, RecordError
from fleetfoot.explain.explanation import explain
from fleetfoot.explain.rules.examples import EXAMPLES, REPEATS
from fleetfoot.files import read_json, write_text
from fleetfoot.machine import environment
from fleetfoot.machine.machine import Machine
from fleetfoot.machine.peaks import torch_threads
from fleetfoot.measure.clock import WallClock, warm_up
from fleetfoot.measure.compare import difference_interval
from fleetfoot.measure.pace import Pace, order, turn

SCHEMA = 1
ROUNDS = 40
PACE = Pace(
    name="prices",
    description="a network and the same with its change made, in turns",
    rounds=ROUNDS,
    fewest_rounds=ROUNDS,
    budget_s=math.inf,
    burst_runs=1,
    rewarm_s=0.0,
)
PROFILE_S = 2.0


@dataclass(frozen=True, kw_only=True)
class PriceCheck:
    """The check of one rule. Times are of whole networks of ``REPEATS`` blocks."""

    rule: str
    findings: int
    """Findings on the network that breaks the rule; 0 if breaking it costs nothing here."""
    predicted_s: float
    broken_samples_s: tuple[float, ...]
    mended_samples_s: tuple[float, ...]

    @property
    def broken_s(self) -> float:
        """Median."""
        return statistics.median(self.broken_samples_s)

    @property
    def mended_s(self) -> float:
        """Median."""
        return statistics.median(self.mended_samples_s)

    @property
    def saved_s(self) -> float:
        """Time that the change saves, in seconds; below 0 if it costs time."""
        return self.broken_s - self.mended_s

    @property
    def saved_ci95_s(self) -> tuple[float, float]:
        """95 % interval of the difference between the medians, by a block bootstrap."""
        return difference_interval(self.broken_samples_s, self.mended_samples_s)


@dataclass(frozen=True, kw_only=True)
class PriceRecord:
    """The checks of all rules on one engine."""

    engine: str
    engine_version: str
    threads: int
    repeats: int
    machine: Machine
    started: str
    """Time at which the check started: ISO 8601, UTC."""
    versions: dict[str, str]
    commit: str
    checks: tuple[PriceCheck, ...]
    absent: dict[str, str]
    """Rules whose networks the engine could not run, each with the reason."""
    schema: int = SCHEMA


def check_prices(
    machine: Machine,
    *,
    engine: str = "native",
    rounds: int = ROUNDS,
    rules: Sequence[str] | None = None,
    on_rule: Callable[[str], None] = lambda code: None,
) -> PriceRecord:
    """Measures every example that has a mended network, on ``machine.threads`` threads. This takes
    two to four minutes.

    Args:
        rounds: number of turns of each network.
        rules: codes of the rules. Default: all that can be checked.
        on_rule: called with the code of each rule before it is measured.

    Raises:
        FleetfootError: the engine is not available, or it can run none of the networks.
        ValueError: ``rounds`` is less than 1, or a rule has no mended example.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be 1 or more, not {rounds}")
    can = [code for code, example in EXAMPLES.items() if example.mended is not None]
    wanted = can if rules is None else list(rules)
    unknown = [code for code in wanted if code not in can]
    if unknown:
        raise ValueError(
            f"the price of {', '.join(unknown)} cannot be checked, only of {', '.join(can)}"
        )
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    checks, absent = [], {}
    for code in wanted:
        on_rule(code)
        try:
            checks.append(_check(code, machine, engine, rounds))
        except EngineError as error:  # this rule's networks do not run; the other rules go on
            absent[code] = str(error)
    if not checks:
        raise EngineError(f"{engine} could run no example: {'; '.join(absent.values())}")
    return PriceRecord(
        engine=engine,
        engine_version=environment.versions().get(engines.ENGINES[engine].package, ""),
        threads=machine.threads,
        repeats=REPEATS,
        machine=machine,
        started=started,
        versions=environment.versions(),
        commit=environment.commit(),
        checks=tuple(checks),
        absent=absent,
    )


def _check(code: str, machine: Machine, engine: str, rounds: int) -> PriceCheck:
    pair = EXAMPLES[code].networks()
    prices, counts = [], []
    for network, example in pair:
        said = explain(
            network,
            example,
            machine=machine,
            engine=engine,
            threads=machine.threads,
            seconds=PROFILE_S,
        )
        mine = [one.price_s for one in said.findings if one.rule == code]
        prices.append(sum(mine))
        counts.append(len(mine))
    broken, mended = _in_turns(pair, engine, machine.threads, rounds)
    return PriceCheck(
        rule=code,
        findings=counts[0],
        predicted_s=prices[0] - prices[1],
        broken_samples_s=broken,
        mended_samples_s=mended,
    )


def _in_turns(
    pair: Sequence[tuple[nn.Module, Tensor]], engine: str, threads: int, rounds: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    clock = WallClock()
    samples: tuple[list[float], list[float]] = ([], [])
    (first, second) = pair
    with (
        torch_threads(threads),
        engines.load(engine, first[0], example=first[1], threads=threads) as one,
        engines.load(engine, second[0], example=second[1], threads=threads) as other,
    ):
        calls = (one.timed_call(first[1]), other.timed_call(second[1]))
        for call in calls:
            warm_up(call, clock)
        for number in range(rounds):
            for place in order((0, 1), number):
                samples[place].extend(turn(calls[place], clock, PACE))
    return tuple(samples[0]), tuple(samples[1])


def file_name(record: PriceRecord) -> str:
    """Name of the record's file in a folder of such records."""
    return f"{record.engine}-{record.threads}.json"


def write(folder: Path, record: PriceRecord) -> Path:
    """Writes the record and returns its file; replaces one of the same engine and threads."""
    file = folder / file_name(record)
    write_text(file, json.dumps(asdict(record), allow_nan=False) + "\n")
    return file


def read(folder: Path) -> list[PriceRecord]:
    """The records in a folder, by engine and thread count; none if the folder does not exist.

    Raises:
        RecordError: a file is not such a record.
    """
    found = []
    for file in sorted(folder.glob("*.json")):
        record = read_json(file, PriceRecord)
        if record.schema != SCHEMA:
            raise RecordError(f"{file} is of schema {record.schema}; this reads {SCHEMA}")
        found.append(record)
    return found
