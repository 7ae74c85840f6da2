"""C1 and L1: operators that only move values."""

from __future__ import annotations

from collections.abc import Iterator

from fleetfoot.count.vocabulary import CLONES, CONCATENATIONS, REARRANGEMENTS, bare
from fleetfoot.explain.rules.base import Breach, Rule, megabytes
from fleetfoot.explain.rules.pricing import Evidence

MOST_LAYOUT_AXES = 4
"""Axes of a map, or of tokens and heads. A view of more axes splits one: a shuffle, or windows."""


def rearranged(evidence: Evidence) -> Iterator[Breach]:
    for index, op in enumerate(evidence.operators):
        name = bare(op.name)
        splits = name in CLONES and len(op.shape) > MOST_LAYOUT_AXES
        price_s = evidence.time_s(index)
        if not (name in CONCATENATIONS | REARRANGEMENTS or splits) or price_s <= 0:
            continue
        moved = op.bytes_read + op.bytes_written
        what = "copy of a shuffled view" if splits else name.removeprefix("aten.")
        yield Breach(
            module=op.module,
            number=moved,
            bound=0,
            unit="bytes",
            price_s=price_s,
            text=f"The {what} over {op.shape} moves {megabytes(moved)} and computes nothing.",
            change="Let the next layer read the parts where they lie, add instead of joining, or "
            "let the weights of a 1×1 convolution carry the order.",
        )


def layout_changes(evidence: Evidence) -> Iterator[Breach]:
    for index, op in enumerate(evidence.operators):
        price_s = evidence.time_s(index)
        if bare(op.name) not in CLONES or len(op.shape) > MOST_LAYOUT_AXES or price_s <= 0:
            continue
        moved = op.bytes_read + op.bytes_written
        yield Breach(
            module=op.module,
            number=moved,
            bound=0,
            unit="bytes",
            price_s=price_s,
            text=f"A permuted {op.shape} is copied to lie in order, which moves "
            f"{megabytes(moved)}.",
            change="Stay in one order: norms over channels as batch norm, or as layer norm over "
            "axis 1; 1×1 convolutions in place of linear layers between permutes.",
        )


C1 = Rule(
    code="C1",
    name="rearranging-copy",
    what="""Looks for concats, channel shuffles, slices written back, rolls and the like that
took time of their own.""",
    why="""They move every value and compute nothing. Their multiply-adds count as zero, so a
network with few multiply-adds may spend its time in them. PConv as torch writes it copies the three
quarters of the map that it leaves unchanged.""",
    price="Its time.",
    known_problems="""If a concat or split is free, in an engine that writes the parts in place,
it takes no time and is not found; without measuring it is assumed to copy.""",
    instead="""An engine that reads the parts where they are; at the network's end, concat,
shuffle and the next split as one order of channels in a layer's weights.""",
    reference="""Ma et al. 2018, [ShuffleNet V2](https://arxiv.org/abs/1807.11164), section 4;
Chen et al. 2023, [FasterNet](https://arxiv.org/abs/2303.03667), section 3.2, for PConv.""",
    check=rearranged,
)

L1 = Rule(
    code="L1",
    name="layout-change",
    what="""Looks for copies that make a permuted map contiguous: between channels-first and
channels-last, or of tokens into heads and back.""",
    why="""The values stay the same, but each is read and written, often with strides that use a
whole cache line for one value.""",
    price="Its time.",
    known_problems="""Layout changes that an engine inserts are rows of `fleetfoot explain`, but
not operators of the network, so this rule does not see them.""",
    instead="""One order through the whole network: batch norm, or layer norm over axis 1, in a
channels-first network.""",
    reference="""Liu et al. 2022, [ConvNeXt](https://arxiv.org/abs/2201.03545), whose blocks
permute twice around a layer norm and two linear layers.""",
    check=layout_changes,
)
