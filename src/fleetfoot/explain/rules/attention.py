"""A1: attention over so many tokens that its score map outweighs them.

Vaswani et al. 2017, "Attention Is All You Need", https://arxiv.org/abs/1706.03762.

N queries · M keys · d values a head
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from fleetfoot.count.trace import Shape
from fleetfoot.count.vocabulary import ATTENTION, MATRIX_PRODUCTS, SOFTMAXES
from fleetfoot.explain.rules.base import Breach, Rule, megabytes
from fleetfoot.explain.rules.pricing import Evidence


class Attention(NamedTuple):
    softmax: int
    """Index of the softmax in the trace, or of the fused operator."""
    operators: tuple[int, ...]
    scores: Shape
    """Shape of the scores, (..., N, M)."""
    head: int
    """d"""


def attentions(evidence: Evidence) -> Iterator[Attention]:
    graph, operators = evidence.graph, evidence.operators
    for index, op in enumerate(operators):
        if op.name in ATTENTION and len(op.input_shapes) > 1:
            query, key = op.input_shapes[:2]
            yield Attention(index, (index,), (*query[:-1], key[-2]), query[-1])
            continue
        if op.name not in SOFTMAXES or len(op.shape) < 3:
            continue
        before = graph.through(index)
        after = [i for i in graph.consumers[index] if operators[i].name in MATRIX_PRODUCTS]
        if before is not None and graph.elementwise(before):  # a bias by position is added
            before = next(
                (i for i in graph.producers(before) if operators[i].name in MATRIX_PRODUCTS), None
            )
        if before is None or operators[before].name not in MATRIX_PRODUCTS or not after:
            continue
        head = operators[before].input_shapes[0][-1]
        yield Attention(index, (before, index, *after), op.shape, head)


def quadratic_attention(evidence: Evidence) -> Iterator[Breach]:
    for one in attentions(evidence):
        queries, keys = one.scores[-2:]
        bound = 2 * (queries + keys) * one.head / queries
        price_s = evidence.time_s(*one.operators) * (1 - bound / keys)
        if keys <= bound or price_s <= 0:
            continue
        op = evidence.operators[one.softmax]
        maps = 1
        for side in one.scores[:-2]:
            maps *= side
        size = op.bytes_written // op.elements_written
        scores = maps * queries * keys * size
        yield Breach(
            module=op.module,
            number=keys,
            bound=bound,
            unit="tokens",
            price_s=price_s,
            text=f"{queries:,} tokens attend to {keys:,}: the {maps:,} score maps are "
            f"{megabytes(scores)}, more than the queries, keys, values and outputs together "
            f"({megabytes(maps * 2 * (queries + keys) * one.head * size)}).",
            change=f"Attend to {int(bound)} tokens or fewer: at a lower resolution, to pooled keys "
            "and values, or within windows; large-kernel convolutions can stand in before that.",
        )


A1 = Rule(
    code="A1",
    name="quadratic-attention",
    what="""Looks for attention whose N·M scores are more values than its queries, keys, values
and outputs, 2·(N + M)·d: above 4·d tokens if all attend to all, which is 128 for heads of 32.""",
    why="""Scores grow with the square of the tokens, so with the fourth power of the map's
side. They are written, then read and written by the softmax, then read again: each doubling of the
resolution makes them a larger part of the network.""",
    price="The time of both products and the softmax · (1 − bound / tokens attended to).",
    known_problems="""Kernels that never write the scores only pay for computing them; the price
is right if it was measured with such a kernel, and too high if it is modelled.""",
    instead="""Attention in the last stage only; pooled keys; windows; 7×7 depthwise
convolutions in early stages, as in FastViT.""",
    reference="""Vasu et al. 2023, [FastViT](https://arxiv.org/abs/2303.14189), section 3; Dao
et al. 2022, [FlashAttention](https://arxiv.org/abs/2205.14135), for kernels that do not write
the scores.""",
    check=quadratic_attention,
)
