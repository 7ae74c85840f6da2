"""D1: depthwise convolutions on widened channels.

Chen et al. 2023, "Run, Don't Walk", https://arxiv.org/abs/2303.03667, section 3.1.

C channels of the block · C' widened · r1 r2 positions in and out · K² taps
"""

from __future__ import annotations

from collections.abc import Iterator

from fleetfoot.explain.rules.base import Breach, Rule, megabytes
from fleetfoot.explain.rules.pricing import Evidence

PARTIAL_RATIO = 4
"""Divisor of the channels that a PConv convolves: a quarter, as in FasterNet."""


def widened_depthwise(evidence: Evidence) -> Iterator[Breach]:
    products = {p.index: p for p in evidence.products}
    for layer in evidence.products:
        before = evidence.graph.through(layer.index)
        if not layer.depthwise or before not in products:
            continue
        widening = products[before]
        block, wide = widening.channels_in, layer.channels_in
        if widening.taps > 1 or widening.groups > 1 or wide <= block:
            continue
        size, rows = layer.element_bytes, layer.rows_in + layer.rows_out
        bound = size * (rows * block + layer.taps * block * block)
        if layer.moved_bytes <= bound:
            continue
        part = max(1, block // PARTIAL_RATIO)
        weights = layer.taps * part * part
        computed = layer.taps * part * evidence.in_lanes(part)
        partial_s = evidence.dense_s(2 * layer.rows_out * computed, size * (rows * part + weights))
        copied = 2 * size * layer.rows_out * block  # the concat that follows, if it is copied
        price_s = evidence.time_s(layer.index) - partial_s - evidence.move_s(copied, copied)
        if price_s <= 0:
            continue
        kernel = "×".join(map(str, layer.kernel))
        yield Breach(
            module=layer.operator.module,
            number=layer.moved_bytes,
            bound=bound,
            unit="bytes",
            price_s=price_s,
            text=f"The {layer.words}, widened from {block}, moves {megabytes(layer.moved_bytes)}; "
            f"a plain {kernel} convolution of the {block} would move {megabytes(bound)}.",
            change=f"Mix positions on the {block} channels, before they are widened, with a "
            f"partial convolution of {part} of them.",
        )


D1 = Rule(
    code="D1",
    name="widened-depthwise",
    what="""Looks for depthwise convolutions after a 1×1 convolution that widens C channels to
C', which move more bytes than the plain K×K convolution of the C channels would.""",
    why="""A depthwise convolution has few multiply-adds because it does not mix channels. That
costs accuracy, which networks win back by widening. It then moves 2·H·W·C' values where the plain
convolution moved 2·H·W·C + K²·C², at K² multiply-adds for two values: it runs at the memory's
rate.""",
    price="""Its time, less that of a partial convolution of C/4 of the block's own channels:
its multiply-adds, in whole vectors of channels, at the rate of the network's dense layers, or its
bytes at the memory's bandwidth if that is longer; and less copying the C channels in the concat
after it, which most engines do.""",
    known_problems="""The replacement mixes positions of fewer channels. FasterNet shows networks
in which that loses nothing; another network has to be trained to find out. An engine that keeps the
wide map in cache between the three layers pays less than its bytes.""",
    instead="FasterNet's block: a partial convolution on C channels, 1×1 to 2·C, 1×1 back.",
    reference="Chen et al. 2023, [FasterNet](https://arxiv.org/abs/2303.03667), section 3.1.",
    check=widened_depthwise,
)
