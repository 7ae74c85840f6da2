"""How long cells are measured, and in which order.

Cells that are compared have their turns in the same rounds: a machine that slows down for a while
slows down all of them alike. Measured one after the other, those that come early would gain. Each
round draws its order anew.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

from fleetfoot.errors import UnknownNameError
from fleetfoot.measure.clock import Call, Clock

Item = TypeVar("Item")

PREPARING_SHARE = 0.6
"""Share of the budget after which no further network is prepared; the rest is for measuring."""
MOST_RUNS_A_TURN = 32
"""Most timed runs in a turn: an engine that needs microseconds would otherwise fill the record."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Amounts. Two records at one pace can be compared."""

    name: str
    """A record keeps it, in its field ``protocol``."""
    description: str = ""
    rounds: int
    """Times that every cell has its turn."""
    fewest_rounds: int
    """Rounds that are run even when the time is over."""
    budget_s: float
    """Wall time of the whole run, preparation included, after which no new round begins."""
    leaves_out: bool = False
    """Networks are left out, each with that reason, if preparing others has taken
    ``PREPARING_SHARE`` of the budget. If False, all are prepared, however long it takes."""
    burst_runs: int = 2
    """Timed runs a turn, at least."""
    burst_s: float = 0.03
    """A turn goes on for this long if its runs are shorter."""
    rewarm_s: float = 0.015
    """Untimed runs at the start of a turn, one at least: they bring the caches back, and outlast
    the threads of a torch engine, which spin for about 9 ms after its last run."""
    warmup_s: float = 1.5
    """The longest warm-up of one cell, its first."""
    by_network: bool = False
    """Each network is measured on all its engines before the next is prepared: what is interleaved
    are its engines, and a run that is resumed builds nothing again that is measured."""
    memory_bytes: int | None = None
    """What the engines that are prepared at once may hold. If they hold more, they are measured
    before the next are prepared. Default: half of the machine's memory."""
    seed: int = 0
    """The order of the turns follows from it."""

    @classmethod
    def named(cls, name: str, *, budget_s: float | None = None) -> Pace:
        """The pace of the protocol of that name.

        >>> Pace.named("quick").rounds
        3

        Args:
            budget_s: in place of the protocol's wall time.

        Raises:
            UnknownNameError: there is none.
            ValueError: ``budget_s`` is not above 0.
        """
        if name not in PACES:
            raise UnknownNameError.of("protocol", name, PACES)
        if budget_s is None:
            return PACES[name]
        if budget_s <= 0:
            raise ValueError(f"seconds must be above 0, not {budget_s:g}")
        return replace(PACES[name], budget_s=budget_s)

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.burst_runs < 1:
            raise ValueError(
                f"rounds and burst_runs must be 1 or more, not {self.rounds} and {self.burst_runs}"
            )


PACES = {
    one.name: one
    for one in (
        Pace(
            name="default",
            description="ends within three minutes for a dozen networks",
            rounds=25,
            fewest_rounds=10,
            budget_s=160.0,
            leaves_out=True,
        ),
        Pace(
            name="fasternet",
            description="half an hour; room for batches that take a second",
            rounds=15,
            fewest_rounds=6,
            budget_s=1800.0,
            leaves_out=True,
            burst_runs=1,
            warmup_s=8.0,
        ),
        Pace(
            name="peers",
            description="an hour and a quarter or so, of which half builds engines",
            rounds=20,
            fewest_rounds=5,
            budget_s=4500.0,
            leaves_out=True,
            burst_runs=1,
            warmup_s=4.0,
            by_network=True,
        ),
        Pace(
            name="beside",
            description="a quarter of an hour; every turn three times, beside busy cores too",
            rounds=20,
            fewest_rounds=8,
            budget_s=900.0,
            burst_s=0.06,
            by_network=True,
        ),
        Pace(
            name="quick",
            description="few samples: shows that everything runs, and is no ground for a decision",
            rounds=3,
            fewest_rounds=3,
            budget_s=60.0,
            leaves_out=True,
            warmup_s=0.3,
        ),
    )
}
"""By name. Each goes with the grid of the same name in ``measure.grid.GRIDS``: the two together are
a protocol."""


def order(items: Sequence[Item], number: int, seed: int = 0) -> list[Item]:
    """The turns of round ``number``: every item once, the order drawn for this round.

    >>> [order("ab", number) for number in range(4)]
    [['a', 'b'], ['b', 'a'], ['b', 'a'], ['b', 'a']]
    """
    turns = list(items)
    random.Random(f"{seed} {number}").shuffle(turns)
    return turns


def turn(call: Call, clock: Clock, amounts: Pace) -> list[float]:
    """One turn: untimed runs, then the runs that count; their seconds."""
    samples: list[float] = []
    with no_garbage_collection():
        began = time.monotonic()
        call()
        while time.monotonic() - began < amounts.rewarm_s:
            call()
        spent = 0.0
        while len(samples) < amounts.burst_runs or (
            spent < amounts.burst_s and len(samples) < MOST_RUNS_A_TURN
        ):
            samples.append(clock.time(call))
            spent += samples[-1]
    return samples


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """A collection in the middle of a run is not the network's time."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()
