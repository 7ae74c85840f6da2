"""G3: a block of many small layers, side by side or one after the other.

Ma et al. 2018, "ShuffleNet V2", https://arxiv.org/abs/1807.11164, section 3.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from fleetfoot.count.vocabulary import CONCATENATIONS, bare
from fleetfoot.errors import counted
from fleetfoot.explain.rules.base import Breach, Rule
from fleetfoot.explain.rules.dataflow import Product, bits
from fleetfoot.explain.rules.pricing import Evidence

JOINS = CONCATENATIONS | {"aten.add", "aten.mul"}
"""Operators that join branches."""

FEWEST_BRANCHES = 3
"""Fewest branches to report. Two are what a shortcut or a doubling of the channels needs."""
FEWEST_IN_SERIES = 4
"""Fewest layers in a row to report. The paper's own blocks have three."""


def _branches(evidence: Evidence, join: int) -> tuple[int, ...]:
    """The operators that a join joins; a sum of sums is one join."""
    graph = evidence.graph
    found: list[int] = []
    for producer in graph.producers(join):
        inner = _join(evidence, producer) and graph.consumers[producer] == (join,)
        found += _branches(evidence, producer) if inner else [producer]
    return tuple(dict.fromkeys(found))


def _join(evidence: Evidence, index: int) -> bool:
    name = bare(evidence.operators[index].name)
    return name in JOINS and len(set(evidence.graph.producers(index))) > 1


def _outermost(evidence: Evidence, join: int) -> bool:
    after = evidence.graph.consumers[join]
    return not (len(after) == 1 and _join(evidence, after[0]))


class Fragments(NamedTuple):
    join: int
    branches: int
    """Number of branches with convolutions."""
    pieces: tuple[Product, ...]


def _fragments(evidence: Evidence) -> list[Fragments]:
    """The maps that enough branches make together; no convolution is in two of them."""
    graph = evidence.graph
    products = {p.index: p for p in evidence.products}
    claimed: set[int] = set()
    found = []
    for join in range(len(evidence.operators)):
        if not _join(evidence, join) or not _outermost(evidence, join):
            continue
        ends = _branches(evidence, join)
        common = ~0
        for end in ends:
            common &= graph.with_ancestors(end)
        inside = [
            [products[i] for i in bits(graph.with_ancestors(end) & ~common) if i in products]
            for end in ends
        ]
        branches = [layers for layers in inside if layers]
        pieces = {p.index: p for layers in branches for p in layers}
        if len(branches) >= FEWEST_BRANCHES and not claimed & pieces.keys():
            claimed |= pieces.keys()
            found.append(Fragments(join, len(branches), tuple(pieces.values())))
    return found


def parallel_fragments(evidence: Evidence) -> Iterator[Breach]:
    every = _fragments(evidence)
    but = {p.index for one in every for p in one.pieces}  # they must not set their own rate
    for one in every:
        price_s = _price(evidence, one.pieces, but)
        if price_s <= 0:
            continue
        count = len(one.pieces)
        yield Breach(
            module=evidence.operators[one.join].module,
            number=count,
            bound=1,
            unit="convolutions",
            price_s=price_s,
            text=f"{counted(count, 'convolution')} in {one.branches} branches make one map; "
            "one convolution of the same multiply-adds would read its input once and start once.",
            change="Fold the branches if they are linear (fleetfoot fuse), or make fewer and "
            "larger ones.",
        )


def _price(evidence: Evidence, pieces: Sequence[Product], but: Collection[int]) -> float:
    """Time of the pieces, minus that of one layer with their operations that reads the widest input
    once and writes the last output."""
    indices = [p.index for p in pieces]
    read = max(p.element_bytes * p.rows_in * p.channels_in for p in pieces)
    after = evidence.graph.ancestors
    ends = [p for p in pieces if not any(after[o] >> p.index & 1 for o in indices)]
    written = sum(p.operator.bytes_written for p in ends)
    weights = sum(p.element_bytes * p.weights for p in pieces)
    one_s = evidence.dense_s(2 * sum(p.macs for p in pieces), read + written + weights, but)
    return evidence.time_s(*indices) - one_s


def series_fragments(evidence: Evidence) -> Iterator[Breach]:
    """Finds rows of layers each of which takes longer to start than to compute."""
    graph = evidence.graph
    tiny = {p.index for p in evidence.products if evidence.floor(p.index).bound == "start"}
    chains: list[list[int]] = []
    for index in sorted(tiny):
        before = graph.through(index)
        home = next((chain for chain in chains if chain[-1] == before), None)
        if home is None:
            chains.append([index])
        else:
            home.append(index)
    for chain in chains:
        price_s = (len(chain) - 1) * evidence.machine.region_s.value
        price_s = min(price_s, evidence.time_s(*chain))
        if len(chain) < FEWEST_IN_SERIES or price_s <= 0:
            continue
        yield Breach(
            module=evidence.operators[chain[0]].module,
            number=len(chain),
            bound=FEWEST_IN_SERIES - 1,
            unit="convolutions",
            price_s=price_s,
            text=f"{counted(len(chain), 'layer')} in a row each take longer to start on "
            f"{evidence.machine.threads} threads than to compute.",
            change="Make fewer and wider ones of them, or run them on one thread.",
        )


def fragmentation(evidence: Evidence) -> Iterator[Breach]:
    yield from parallel_fragments(evidence)
    yield from series_fragments(evidence)


G3 = Rule(
    code="G3",
    name="fragmentation",
    what=f"""Looks for maps that {FEWEST_BRANCHES} or more branches with convolutions make
together (two are what a shortcut or a stride that doubles the channels needs), and for
{FEWEST_IN_SERIES} or more layers in a row each of which takes longer to start on all threads
than to compute (the paper's blocks have three).""",
    why="""Each piece is started on all threads and waited for, each branch reads the input
again, and a small piece fills neither vectors nor caches. GPUs, which start kernels slowly and
are wide, lose most: in the paper four parallel pieces run at 0.28 of one's rate, and at 0.87 on
a phone's core.""",
    price="""Branches: the time of their convolutions, minus that of one convolution with their
multiply-adds (at the rate of the network's other dense layers, or the memory's bandwidth) that
reads the input once. Layers in a row: the starts that are saved if one layer does it all.""",
    known_problems="""Linear branches, such as MobileOne's, exist only while training: fold them
first. Engines that run branches at the same time pay less than the sum assumed here.""",
    instead="One convolution in place of several; branches only while training.",
    reference="Ma et al. 2018, [ShuffleNet V2](https://arxiv.org/abs/1807.11164), guideline 3.",
    check=fragmentation,
)
