"""G4 and B1: passes over a map that do little on it.

Ma et al. 2018, "ShuffleNet V2", https://arxiv.org/abs/1807.11164, section 3; Jacob et al. 2018,
https://arxiv.org/abs/1712.05877, section 3.2, for folding batch norms.
"""

from __future__ import annotations

from collections.abc import Iterator

from fleetfoot.count.vocabulary import bare
from fleetfoot.explain.rules.base import Breach, Rule, megabytes
from fleetfoot.explain.rules.pricing import Evidence
from fleetfoot.explain.rules.squeeze import gates


def elementwise(evidence: Evidence) -> Iterator[Breach]:
    graph = evidence.graph
    gated = {gate.scaling for gate in gates(evidence)}  # S1 prices these
    for index, op in enumerate(evidence.operators):
        if not graph.elementwise(index) or index in gated:
            continue
        moved = op.bytes_read + op.bytes_written
        # fused into the layer that writes its largest input, it reads only the others
        bound = op.bytes_read - min(op.bytes_read, op.bytes_written)
        price_s = evidence.time_s(index) * (1 - bound / moved) if moved else 0.0
        if price_s <= 0:
            continue
        name = bare(op.name).removeprefix("aten.")
        yield Breach(
            module=op.module,
            number=moved,
            bound=bound,
            unit="bytes",
            price_s=price_s,
            text=f"The {name} over {op.shape} passes through memory by itself and moves "
            f"{megabytes(moved)}; within the layer before it, it would move {megabytes(bound)}.",
            change="Put it right after a convolution whose output nothing else reads, so that the "
            "engine computes it there, or leave it out.",
        )


def unfolded_norms(evidence: Evidence) -> Iterator[Breach]:
    graph = evidence.graph
    convolutions = {p.index for p in evidence.products}
    for index, op in enumerate(evidence.operators):
        price_s = evidence.time_s(index)
        if not graph.batch_norm(index) or price_s <= 0:
            continue
        moved = op.bytes_read + op.bytes_written
        before = graph.producers(index)
        foldable = any(b in convolutions and graph.consumers[b] == (index,) for b in before)
        change = (
            "Fold it into the convolution before it: fleetfoot fuse."
            if foldable
            else "Move it right after a convolution whose output nothing else reads; there it "
            "folds away."
        )
        yield Breach(
            module=op.module,
            number=moved,
            bound=0,
            unit="bytes",
            price_s=price_s,
            text=f"The batch norm over {op.shape} runs by itself and moves {megabytes(moved)}; "
            "folded into a convolution it moves nothing.",
            change=change,
        )


G4 = Rule(
    code="G4",
    name="element-wise-work",
    what="""Looks for activations, sums and products of maps that took time of their own. Work
that an engine did within the layer before has none, and is not found; without measuring,
element-wise work right after a layer whose output nothing else reads is assumed to be done
there.""",
    why="""It does one operation on each value, and moves two or three values for it: such work
runs at the memory's rate, hundreds of times below the machine's peak, and its multiply-adds count
as zero.""",
    price="""Its time · (1 − bound / bytes moved). The bound is what it would still read within
the layer that writes its largest input: nothing for an activation, the shortcut for a sum.""",
    known_problems="""The paper counts depthwise convolutions among these; here they belong to D1
and F1. If several operators share one measured row, its time is divided by their floors.""",
    instead="""An engine that fuses; activations after convolutions and fewer of them; no
shortcut across a change of shape.""",
    reference="Ma et al. 2018, [ShuffleNet V2](https://arxiv.org/abs/1807.11164), guideline 4.",
    check=elementwise,
)

B1 = Rule(
    code="B1",
    name="unfolded-batch-norm",
    what="Looks for batch norms that took time of their own.",
    why="""In inference a batch norm is x·s + t with constants s and t, which a convolution
before it can carry in its weights and bias. By itself it is a pass through memory.""",
    price="Its time.",
    known_problems="""Without measuring, every batch norm in the network counts, although most
engines fold those after convolutions when they load it.""",
    instead="""`fleetfoot fuse`, which proves that the outputs stay the same; batch norms right
after convolutions.""",
    reference="""Jacob et al. 2018, [Quantization and
Training](https://arxiv.org/abs/1712.05877), section 3.2; [folding.md](folding.md).""",
    check=unfolded_norms,
)
