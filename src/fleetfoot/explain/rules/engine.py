"""F1 and E1: layers on which the engine, not the network, is slow."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fleetfoot.count.vocabulary import bare
from fleetfoot.explain.rules.base import Breach, Rule
from fleetfoot.explain.rules.pricing import Evidence

MOST_TIMES = 4.0
"""Times the floor from which a layer is far above it. Whole networks, including their memory-bound
layers, reach 0.2 to 0.9 of a large matrix product's rate on general engines here: a layer below a
quarter of its own floor's rate is below nearly all."""
LEAST_SHARE = 0.02
"""Smallest share of the network's time above the floor: slow layers that take less are left out."""
LEAST_PRICE = 0.005
"""Smallest share of the network's time for the price of a node in a reference kernel."""
OPERATOR = re.compile(r"\baten\.(\w+)")
"""Operators as engines name them in their notes, for example "aten.mean.dim"."""


def far_above_floor(evidence: Evidence) -> Iterator[Breach]:
    if evidence.basis != "measured":
        return
    for layer in evidence.layers:
        if not layer.macs or layer.above_floor_s < LEAST_SHARE * evidence.total_s:
            continue
        times = layer.time_s / layer.floor.seconds
        share = layer.above_floor_s / evidence.total_s
        if times <= MOST_TIMES:
            continue
        yield Breach(
            module=layer.module,
            number=times,
            bound=MOST_TIMES,
            unit="× the floor",
            price_s=layer.time_s - MOST_TIMES * layer.floor.seconds,
            text=f"It takes {times:.2g} times its floor on this machine, which its "
            f"{layer.floor.bound} sets, and {100 * share:.0f} % of the "
            "network's time above it.",
            change="Try another engine on this layer's shape; if all are as slow, change the shape "
            "(channels in multiples of the vector, an odd kernel of 1, 3, 5 or 7, fewer groups).",
        )


def fallback(evidence: Evidence) -> Iterator[Breach]:
    for layer in evidence.layers:
        nodes = evidence.reference.get(layer.module, ())
        if nodes and layer.above_floor_s >= LEAST_PRICE * evidence.total_s:
            yield Breach(
                module=layer.module,
                number=len(nodes),
                bound=0,
                unit="nodes",
                price_s=layer.above_floor_s,
                text=f"{evidence.engine} has no fast kernel for {', '.join(nodes)} and ran its "
                "reference kernel.",
                change="Write it with operators that the engine has, or use another engine.",
            )
    note = evidence.engine_note
    if not note:
        return
    named = {match.removesuffix("_copy") for match in OPERATOR.findall(note)}
    outside = [
        index
        for index, op in enumerate(evidence.operators)
        if bare(op.name).removeprefix("aten.") in named
    ]
    price_s = evidence.time_s(*outside) if evidence.basis == "measured" else 0.0
    where = ", ".join(dict.fromkeys(evidence.operators[i].module for i in outside[:3]))
    yield Breach(
        module=evidence.operators[outside[0]].module if outside else "",
        number=len(outside),
        bound=0,
        unit="operators",
        price_s=price_s,
        text=f"{evidence.engine} did not run all of the network in its fast part: {note}."
        + (f" First at: {where}." if where else ""),
        change="Write these operators with others that the engine has, or use another engine.",
    )


F1 = Rule(
    code="F1",
    name="far-above-floor",
    what=f"""Looks for measured layers with multiply-adds that take more than {MOST_TIMES:g}
times their floor (whole networks on general engines take 1.1 to 5 times that of their
multiply-adds), if that costs at least {100 * LEAST_SHARE:g} % of the network's time. Finds nothing
without measuring.""",
    why="""The floor is what the machine was measured to reach: the layer's multiply-adds at peak,
or its bytes at the bandwidth of the memory that holds them. Far above it, no property of the
network explains the time, but the engine's kernel for this shape does.""",
    price=f"Its time, less {MOST_TIMES:g} times its floor.",
    known_problems="""A layer that another rule names is named here again if the engine also
has no good kernel for it. The time of a row includes the operators that the engine fused into
it.""",
    instead="Another engine; `fleetfoot explain --engine` says which is faster on that layer.",
    reference="Williams et al. 2009, [Roofline](https://doi.org/10.1145/1498765.1498785).",
    check=far_above_floor,
)

E1 = Rule(
    code="E1",
    name="outside-the-fast-part",
    what="""Reports operators that an engine says it did not run in its fast part (ExecuTorch), or
ran in reference kernels (native, OpenVINO).""",
    why="""Such operators run in reference kernels, often on one thread, and split the network
into parts between which maps change their layout.""",
    price="""The measured time of the operators that the note names, 0 if nothing was measured;
for a layer in a reference kernel, its time above its floor.""",
    known_problems="""Engines name operators in their own words; those that cannot be found in
the network have no price, but the finding is still reported.""",
    instead="The same function in operators that the engine has, or another engine.",
    reference="`fleetfoot engines`; [engine.md](engine.md).",
    check=fallback,
)
