"""Times of a network's layers on an engine: the engine's nodes are timed, and joined with the
operators that the network's modules called.

Runs without and with the engine's own timing alternate. The latency comes from the runs without
timing, the nodes' times from the runs with timing; the difference is the cost of timing.

Every traced operator belongs to the row of the module that called it, and every node's time to the
row of the module that its main operator came from. So both sums are kept, and a module whose
operators ran within another module's node has a row without time. A row with time has one floor,
for everything that its nodes hold together: data that pass between fused operators need not move.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from fleetfoot.count.trace import Operator, Trace
from fleetfoot.engines import Engine, NodeTime
from fleetfoot.errors import EngineError
from fleetfoot.machine.machine import Machine
from fleetfoot.machine.roofline import Floor, Layer, floor, moved_outside
from fleetfoot.measure.clock import Clock, clock_for, drift, median_interval, quantile

FEWEST_TURNS = 8
STEADY = 0.01
"""Half of the median's interval over the median, below which more turns would not help."""
UNTIMED = Floor(compute_s=0.0, memory_s=0.0, start_s=0.0)


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Runs of an engine, alternately without and with its own timing."""

    samples_s: tuple[float, ...]
    """Times of the runs without timing."""
    runs: tuple[tuple[NodeTime, ...], ...]
    """The nodes of each run with timing; every run has the same nodes."""
    steady: bool
    """Whether the times settled before the budget was spent."""


def profile(
    engine: Engine, batch: Tensor, *, seconds: float = 5.0, clock: Clock | None = None
) -> Profile:
    """Runs ``engine`` until its times are steady or ``seconds`` are over, at least ``FEWEST_TURNS``
    turns. Each turn is an uncounted run, a run without timing, and a run with timing.

    Raises:
        EngineError: the engine does not time its nodes, fails, or runs other nodes each time.
        ValueError: the batch is not what the engine was built for, or ``seconds`` is not above 0.
    """
    if not seconds > 0:
        raise ValueError(f"seconds must be above 0, not {seconds}")
    clock = clock or clock_for(engine.info.device)
    call = engine.timed_call(batch)
    samples: list[float] = []
    runs: list[tuple[NodeTime, ...]] = []
    steady = False
    call()
    engine.profile(batch)  # the first call builds the timed form
    end = time.monotonic() + seconds
    while not steady and (len(runs) < FEWEST_TURNS or time.monotonic() < end):
        call()
        samples.append(clock.time(call))
        runs.append(_as_before(engine, engine.profile(batch), runs))
        sums = [sum(node.seconds for node in run) for run in runs]
        steady = len(runs) >= FEWEST_TURNS and _settled(samples) and _settled(sums)
    return Profile(samples_s=tuple(samples), runs=tuple(runs), steady=steady)


def _settled(samples: Sequence[float]) -> bool:
    low, high = median_interval(samples)
    return high - low <= 2 * STEADY * statistics.median(samples) and abs(drift(samples)) <= STEADY


def _as_before(
    engine: Engine, nodes: Sequence[NodeTime], runs: Sequence[Sequence[NodeTime]]
) -> tuple[NodeTime, ...]:
    """The nodes in the order of the first run; branches may run in any order."""
    by_name = {node.name: node for node in nodes}
    if len(by_name) < len(nodes):
        raise EngineError(f"{engine.info.name} gives two nodes one name, so their times are lost")
    names = [node.name for node in runs[0]] if runs else list(by_name)
    if by_name.keys() != set(names):
        other = sorted(by_name.keys() ^ set(names))
        raise EngineError(
            f"{engine.info.name} ran different nodes in different runs ({other[0]}"
            f"{' and more' if len(other) > 1 else ''}): what this network runs depends on "
            "values, so its nodes have no median"
        )
    return tuple(by_name[name] for name in names)


def join(
    trace: Trace,
    runs: Sequence[Sequence[NodeTime]],
    machine: Machine,
    *,
    precision: str = "float32",
) -> tuple[Layer, ...]:
    """Joins operators and nodes into rows, in the order in which the modules first ran.

    Args:
        trace: the trace of exactly the network that the engine ran.
        runs: the nodes of each run, as in ``Profile.runs``.

    Raises:
        ValueError: there are no runs, or the machine was not measured in this precision.
    """
    if not runs:
        raise ValueError("layers need the nodes of at least one run, and there are none")
    own: dict[str, list[Operator]] = {}
    for operator in trace.operators:
        own.setdefault(operator.module, []).append(operator)
    nodes: dict[str, list[int]] = {}
    for index, node in enumerate(runs[0]):
        nodes.setdefault(owner(node), []).append(index)
    held = _held(trace.operators, runs[0])
    inside: dict[str, set[str]] = {}
    """For each module, the rows that hold its operators."""
    for holder, indices in held.items():
        for index in indices:
            inside.setdefault(trace.operators[index].module, set()).add(holder)
    rows = []
    for path in dict.fromkeys((*own, *nodes)):
        row = Layer(
            module=path,
            module_type=trace.module_types.get(path, ""),
            operators=tuple(own.get(path, ())),
            nodes=(),
            time_s=0.0,
            time_low_s=0.0,
            time_high_s=0.0,
            floor=UNTIMED,
            within=tuple(sorted(inside.get(path, set()) - {path})),
        )
        if path in nodes:
            row = _timed(row, nodes[path], held.get(path, ()), trace, runs, machine, precision)
        rows.append(row)
    assert sum(len(row.operators) for row in rows) == len(trace.operators)
    return tuple(rows)


def in_reference_kernels(nodes: Sequence[NodeTime]) -> dict[str, list[str]]:
    """What each node without a fast kernel does, in the engine's words, by the path of its row."""
    found: dict[str, list[str]] = {}
    for node in nodes:
        if node.reference:
            found.setdefault(owner(node), []).append(node.kind)
    return found


def owner(node: NodeTime) -> str:
    """Path of the row that a node's time belongs to; an unmapped node's is the network's own."""
    return node.modules[0] if node.modules else ""


def _timed(
    row: Layer,
    nodes: Sequence[int],
    held: Sequence[int],
    trace: Trace,
    runs: Sequence[Sequence[NodeTime]],
    machine: Machine,
    precision: str,
) -> Layer:
    """The row with its nodes' times, and the floor of the operators that they hold."""
    first = [runs[0][index] for index in nodes]
    times = [sum(run[index].seconds for index in nodes) for run in runs]
    operators = [trace.operators[index] for index in held]
    moved = moved_outside(frozenset(held), trace.operators)
    macs_share = min(node.macs_share for node in first)
    median = statistics.median(times)
    least = floor(
        operators,
        machine,
        starts=sum(not node.part_of for node in first),
        moved_bytes=moved,
        macs_share=macs_share,
        precision=precision,
        cached=all(node.part_of for node in first),
    )
    # a layer faster than a start did not start all threads: engines run small work on one thread
    start_s = min(least.start_s, max(0.0, median - max(least.compute_s, least.memory_s)))
    modules = dict.fromkeys(operator.module for operator in operators)
    return replace(
        row,
        nodes=tuple(node.name for node in first),
        time_s=median,
        time_low_s=quantile(times, 0.25),
        time_high_s=quantile(times, 0.75),
        floor=replace(least, start_s=start_s),
        fused=tuple(module for module in modules if module != row.module),
        macs_share=macs_share,
        held_flops=sum(operator.mac_flops or 0 for operator in operators),
        held_bytes=moved,
    )


def _held(operators: Sequence[Operator], nodes: Sequence[NodeTime]) -> dict[str, list[int]]:
    """The operators that ran within the nodes of each row, by their indices.

    An engine tells a node's modules, not its operators. If the nodes of several rows name one
    module, for example a block whose activation went into one convolution and whose sum into
    another, its operators are dealt out in order (``_Dealer``); those that multiply and accumulate
    stay in their own row.
    """
    rows: dict[str, list[str]] = {}
    """For each module, the rows whose nodes name it, in running order; repeats are dropped."""
    for node in nodes:
        for module in node.modules:
            of = rows.setdefault(module, [])
            if not of or of[-1] != owner(node):
                of.append(owner(node))
    place: dict[int, str] = {}
    dealt: dict[str, list[int]] = {}
    for index, operator in enumerate(operators):
        candidates = rows.get(operator.module, [])
        if len(set(candidates)) == 1:
            place[index] = candidates[0]
        elif operator.macs and operator.module in candidates:
            place[index] = operator.module
        elif candidates:
            dealt.setdefault(operator.module, []).append(index)
    dealers = {
        module: _Dealer(operators, place, rows[module], len(indices), module)
        for module, indices in dealt.items()
    }
    for index in sorted(index for indices in dealt.values() for index in indices):
        place[index] = dealers[operators[index].module].row(index)
    held: dict[str, list[int]] = {}
    for index, row in sorted(place.items()):
        held.setdefault(row, []).append(index)
    return held


class _Dealer:
    """Deals ``count`` operators of ``module`` out to ``rows``, both in the order in which they run.

    An operator stays with the current row, or goes to the next row that it reads from or that reads
    from it; each row gets at least one, as long as there are enough.
    """

    def __init__(
        self,
        operators: Sequence[Operator],
        place: dict[int, str],
        rows: Sequence[str],
        count: int,
        module: str,
    ) -> None:
        self._operators, self._place, self._rows = operators, place, rows
        self._left, self._module = count, module
        self._enough = count >= len(rows)
        self._at = 0
        self._used = False

    def row(self, index: int) -> str:
        behind = len(self._rows) - 1 - self._at
        if self._enough and self._used and self._left <= behind:
            at = self._at + 1
        else:
            at = self._touched(index)
        self._used = True
        self._at = at
        self._left -= 1
        return self._rows[at]

    def _touched(self, index: int) -> int:
        operator = self._operators[index]
        near = {
            self._place[i]
            for i, other in enumerate(self._operators)
            if i in self._place
            and (
                (i < index and set(other.writes) & set(operator.reads))
                or (i > index and set(other.reads) & set(operator.writes))
            )
        }
        ahead = range(self._at, len(self._rows))
        for wanted in (near, {self._module}):
            for at in ahead:
                if self._rows[at] in wanted:
                    return at
        return self._at
