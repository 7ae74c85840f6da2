"""S1: squeeze-excite, whose little work holds up the layers around it.

Hu et al. 2018, "Squeeze-and-Excitation Networks", https://arxiv.org/abs/1709.01507.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import NamedTuple

from fleetfoot.count.vocabulary import bare
from fleetfoot.errors import counted
from fleetfoot.explain.rules.base import Breach, Rule, megabytes
from fleetfoot.explain.rules.dataflow import bits
from fleetfoot.explain.rules.pricing import Evidence


class Gate(NamedTuple):
    """A squeeze-excite, as indices of operators in the trace."""

    scaling: int
    """The product of the map and one value for each channel."""
    between: tuple[int, ...]
    """The operators from the pooling to the last one before ``scaling``."""


SMALL_MAP = 14 * 14
"""Pixels of the largest map that counts as small: those of the last stage or the one before."""


def gates(evidence: Evidence) -> list[Gate]:
    """The products of a map and one value for each channel that depends on the map's own mean."""
    graph, operators = evidence.graph, evidence.operators
    found = []
    for index, op in enumerate(operators):
        producers = tuple(dict.fromkeys(graph.producers(index)))
        if bare(op.name) != "aten.mul" or len(producers) != 2 or len(op.shape) != 4:
            continue
        small, large = sorted(producers, key=lambda i: operators[i].elements_written)
        values = operators[small].elements_written
        follows = graph.ancestors[small] >> large & 1
        if values == prod(op.shape[:2]) < op.elements_written and follows:
            between = graph.with_ancestors(small) & ~graph.with_ancestors(large)
            found.append(Gate(index, tuple(bits(between))))
    return found


def squeeze_excite(evidence: Evidence) -> Iterator[Breach]:
    ridge = evidence.machine.ridge_flops_per_byte()
    for gate in gates(evidence):
        indices = (*gate.between, gate.scaling)
        price_s = evidence.time_s(*indices)
        if price_s <= 0:
            continue
        operators = [evidence.operators[i] for i in indices]
        moved = sum(op.bytes_read + op.bytes_written for op in operators)
        flops = sum(op.exact_flops or op.mac_flops or 0 for op in operators)
        op = evidence.operators[gate.scaling]
        yield Breach(
            module=op.module,
            number=flops / moved,
            bound=ridge,
            unit="flop/byte",
            price_s=price_s,
            text=f"{counted(len(indices), 'operator')}, each of which waits for the one before, "
            f"move {megabytes(moved)} at {flops / moved:.2g} flop/byte to scale a map of "
            f"{op.shape}; this machine's ridge is {ridge:.3g}.",
            change="Keep squeeze-excite in the last stages, where maps are small, or leave it out."
            if prod(op.shape[2:]) > SMALL_MAP
            else "Leave it out if accuracy allows; the map is small already.",
        )


S1 = Rule(
    code="S1",
    name="squeeze-excite-stall",
    what="""Looks for maps that are multiplied by one value for each channel that depends on the
map's own mean. All of them are below the machine's ridge; what they cost decides.""",
    why="""The pooling must end before the first of two tiny layers can start, and these before
the map is scaled. So the map is written, read, and read and written again, where the layer before
could have passed it on while it was in cache. Starting the tiny layers takes longer than computing
them.""",
    price="The time of everything from the pooling to the scaling: what leaving it out saves.",
    known_problems="""Squeeze-excite buys accuracy, which the price leaves out. Without it, the
layer before may also get slower or faster, depending on what it can fuse.""",
    instead="None in the early stages; or a wider block without one.",
    reference="""Hu et al. 2018, [Squeeze-and-Excitation](https://arxiv.org/abs/1709.01507);
Vasu et al. 2023, [MobileOne](https://arxiv.org/abs/2206.04040), section 3.1, for its cost on a
phone.""",
    check=squeeze_excite,
)
