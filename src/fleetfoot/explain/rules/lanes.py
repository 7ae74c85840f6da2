"""V1: channels that leave lanes of a vector empty."""

from __future__ import annotations

from collections.abc import Iterator

from fleetfoot.explain.rules.base import Breach, Rule
from fleetfoot.explain.rules.pricing import Evidence

MOST_EMPTY = 0.1
"""Share of empty lanes from which a layer is reported. 1000 classes leave 1 % of 16 empty, 116
channels 9 %, 40 channels 17 %: below a tenth, tails cost no more than other small things."""


def empty_lanes(evidence: Evidence) -> Iterator[Breach]:
    lanes = evidence.lanes
    if lanes == 1:
        return
    for layer in evidence.products:
        channels = layer.channels_out
        fewer = channels // lanes * lanes
        padded = evidence.in_lanes(channels)
        empty = 1 - channels / padded
        if empty < MOST_EMPTY or layer.rows_out == 1:
            continue
        floor = evidence.floor(layer.index)
        full_s = max(floor.compute_s, floor.memory_s)
        saved_s = floor.compute_s / (1 - empty) - full_s  # from the floor, if lanes were filled
        price_s = min(saved_s, evidence.time_s(layer.index) * empty)
        if price_s <= 0:
            continue
        yield Breach(
            module=layer.operator.module,
            number=empty,
            bound=MOST_EMPTY,
            unit="share of lanes",
            price_s=price_s,
            text=f"The {layer.words} fills {channels} of {padded} lanes in vectors of {lanes} "
            f"floats: {100 * empty:.0f} % of what they compute is thrown away.",
            change=f"Use {padded} channels for the same time"
            + (f", or {fewer} for less." if fewer else "."),
        )


V1 = Rule(
    code="V1",
    name="empty-vector-lanes",
    what=f"""Looks for layers whose output channels, rounded up to the vectors of the machine
(16 floats in AVX-512, 8 in AVX2, 4 in NEON), leave {100 * MOST_EMPTY:g} % of the lanes or more
empty: 40 channels leave 17 % of AVX-512's, 116 leave 9 %.""",
    why="""Engines lay channels along a vector. The empty lanes of the last vector are computed
like the others and thrown away, and memory is padded for them.""",
    price="""Multiply-adds at peak with the empty lanes, minus the layer's floor without them; at
most the share of its time. 0 if memory sets the floor with and without them.""",
    known_problems="""Engines that lay positions along the vector, and those with masked or
shared tails, lose less. A GPU has its own tiles, and this rule finds nothing there.""",
    instead="""Widths in multiples of 16; if the first stage has them, the doubled ones have them
too.""",
    reference="""Georganas et al. 2018, [Anatomy of High-Performance Deep Learning
Convolutions](https://arxiv.org/abs/1808.05567), for channels in blocks of a vector.""",
    check=empty_lanes,
)
