"""G1 and G2: memory access of convolutions at fixed multiply-adds.

Ma et al. 2018, "ShuffleNet V2", https://arxiv.org/abs/1807.11164, section 3.

c1 c2 channels in and out · r1 r2 positions in and out (H·W, and the batch) · K² taps · g groups
"""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt

from fleetfoot.errors import counted
from fleetfoot.explain.rules.base import Breach, Rule, megabytes
from fleetfoot.explain.rules.dataflow import Product
from fleetfoot.explain.rules.pricing import Evidence

LEAST_EXTRA = 0.1
"""Share of a layer's bytes above the bound from which it is reported. Widths of 1 : 2 move 6 % more
than they must, of 1 : 2.6 10 %; in the paper's measurements 1 : 2 costs 4 to 12 %, about as much as
two runs of one program differ."""


def least_bytes(layer: Product) -> float:
    """The fewest bytes that an ungrouped layer of the same kernel and multiply-adds moves.

    Weights are B / r2 values for B multiply-adds, whatever the widths. Maps are r1·c1 + r2·c2 at a
    fixed product c1·c2/g of an ungrouped layer: least where both are equal, 2·sqrt(r1·r2·c1·c2/g).
    For a 1×1 convolution, whose r1 is r2 = H·W, that is the paper's 2·sqrt(H·W·B) + B/(H·W).
    """
    maps = 2 * sqrt(
        layer.rows_in * layer.rows_out * layer.channels_in * layer.channels_out / layer.groups
    )
    return layer.element_bytes * (maps + layer.weights)


def unequal_widths(evidence: Evidence) -> Iterator[Breach]:
    for layer in evidence.products:
        if layer.taps > 1 or layer.groups > 1 or evidence.graph.reads_input(layer):
            continue
        bound = least_bytes(layer)
        extra = layer.moved_bytes - bound
        if extra < LEAST_EXTRA * layer.moved_bytes:
            continue
        floor = evidence.floor(layer.index)
        if evidence.basis == "modelled" and floor.memory_s <= floor.compute_s:
            continue
        above_s = evidence.time_s(layer.index) - floor.compute_s
        share = extra / layer.moved_bytes
        price_s = min(evidence.move_s(extra, layer.moved_bytes), share * above_s)
        if price_s <= 0:
            continue
        narrow, wide = sorted((layer.channels_in, layer.channels_out))
        equal = round(sqrt(narrow * wide))
        yield Breach(
            module=layer.operator.module,
            number=layer.moved_bytes,
            bound=bound,
            unit="bytes",
            price_s=price_s,
            text=f"The {layer.words} moves {megabytes(layer.moved_bytes)}; at equal widths the "
            f"same multiply-adds move {megabytes(bound)}.",
            change=f"Bring the widths, {wide / narrow:.3g} : 1, closer to {equal} : {equal}.",
        )


def many_groups(evidence: Evidence) -> Iterator[Breach]:
    for layer in evidence.products:
        if layer.groups == 1 or layer.depthwise:
            continue
        bound = least_bytes(layer)
        if layer.moved_bytes - bound < LEAST_EXTRA * layer.moved_bytes:
            continue
        time_s = evidence.time_s(layer.index)
        price_s = time_s - evidence.dense_s(2 * layer.macs, round(bound))
        if price_s <= 0:
            continue
        equal = round(sqrt(layer.channels_in * layer.channels_out / layer.groups))
        yield Breach(
            module=layer.operator.module,
            number=layer.moved_bytes,
            bound=bound,
            unit="bytes",
            price_s=price_s,
            text=f"The {layer.words} in {counted(layer.groups, 'group')} moves "
            f"{megabytes(layer.moved_bytes)}; ungrouped, the same multiply-adds move "
            f"{megabytes(bound)}.",
            change=f"Use fewer groups and fewer channels: one group of {equal} → {equal} channels "
            "has the same multiply-adds.",
        )


G1 = Rule(
    code="G1",
    name="unequal-channel-widths",
    what=f"""Looks for 1×1 convolutions and linear layers whose input and output widths differ
so much that they move {100 * LEAST_EXTRA:g} % more bytes than the same multiply-adds must:
about 1 : 2.6 on a large map. Below that, the paper's own measurements differ by no more than two
runs of one program. Layers that read the network's input are left out, because nobody chose its 3
channels.""",
    why="""A 1×1 convolution of B multiply-adds on H·W positions moves H·W·(c1 + c2) + c1·c2
values, at least 2·√(H·W·B) + B/(H·W), with equality if c1 = c2. What is above that is traffic that
does no work.""",
    price="""(bytes moved − bound) / bandwidth of the level of memory that holds the layer, at
most their share of the layer's time above its multiply-adds. So it is 0 if the layer takes no
longer than these, or if nothing was measured and they are the floor.""",
    known_problems="""Inverted bottlenecks are unequal on purpose. An engine that computes both
1×1 convolutions and what is between them tile by tile never writes the wide map: measure with that
engine. Accuracy is not considered.""",
    instead="Lower the expansion ratio and widen the block, at the same multiply-adds.",
    reference="Ma et al. 2018, [ShuffleNet V2](https://arxiv.org/abs/1807.11164), guideline 1.",
    check=unequal_widths,
)

G2 = Rule(
    code="G2",
    name="many-groups",
    what=f"""Looks for convolutions in groups, except depthwise ones, that move {
        100
        * LEAST_EXTRA:g} % more bytes than an ungrouped convolution of the same multiply-adds; the
threshold is that of G1.""",
    why="""At B multiply-adds, g groups and c1 input channels a 1×1 convolution moves H·W·c1 +
B·g/c1 + B/(H·W) values: more with every group. Kernels for small groups also fill vectors
badly, and some engines run the groups one after the other.""",
    price="""The layer's time, minus that of an ungrouped convolution with the same multiply-adds:
these at the rate of the network's dense layers (the rate that half of their operations exceed, or a
large matrix product's if they are too few), or its bytes at the memory's bandwidth if that takes
longer.""",
    known_problems="""Groups let a network with few multiply-adds be wide, which the narrower
replacement gives up: compare accuracies after training, not only times.""",
    instead="""An ungrouped convolution of fewer channels; or a partial convolution (PConv),
which convolves a quarter of the channels densely and leaves the rest.""",
    reference="""Ma et al. 2018, [ShuffleNet V2](https://arxiv.org/abs/1807.11164), guideline 2;
Chen et al. 2023, [FasterNet](https://arxiv.org/abs/2303.03667), table 1, for groups against
PConv.""",
    check=many_groups,
)
