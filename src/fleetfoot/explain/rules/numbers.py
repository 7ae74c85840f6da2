"""N1: numbers that the processor is slow with."""

from __future__ import annotations

from collections.abc import Iterator

from fleetfoot.errors import counted
from fleetfoot.explain.denormals import total
from fleetfoot.explain.rules.base import Breach, Rule
from fleetfoot.explain.rules.engine import MOST_TIMES
from fleetfoot.explain.rules.pricing import Evidence

LEAST_SHARE = 0.001
"""Smallest share of denormal numbers among a module's weights or maps. Vectors of 16 hold one in 16
times as many operations."""


def denormal_numbers(evidence: Evidence) -> Iterator[Breach]:
    if evidence.basis != "measured":
        return
    slow = {
        layer.module: layer.time_s - MOST_TIMES * layer.floor.seconds
        for layer in evidence.layers
        if layer.time_s > MOST_TIMES * layer.floor.seconds
        and layer.module in evidence.denormals
        and evidence.denormals[layer.module].share >= LEAST_SHARE
    }
    if not slow:
        return
    most = max(slow, key=lambda module: slow[module])
    here = evidence.denormals[most]
    every = total(evidence.denormals)
    yield Breach(
        module=most,
        number=every.weights,
        bound=0,
        unit="denormal weights",
        price_s=sum(slow.values()),
        text=f"{counted(every.weights, 'weight')} of the network and {every.maps:,} numbers of its "
        f"maps are denormal (below 1.2e-38) and slow down {counted(len(slow), 'layer')}; here "
        f"{here.weights:,} of {here.of_weights:,} weights and {here.maps:,} of {here.of_maps:,} "
        "numbers read and given.",
        change="Set weights below 1.2e-38 to 0, or let the engine flush such numbers: "
        "torch.set_flush_denormal(True) for eager, 'session.set_denormal_as_zero' for ONNX "
        "Runtime; native always does.",
    )


N1 = Rule(
    code="N1",
    name="denormal-numbers",
    what=f"""Looks for weights and maps with numbers below 2⁻¹²⁶ = 1.2e-38 that are not 0, at least
{100 * LEAST_SHARE:g} % of a module's, in measured layers that take more than {MOST_TIMES:g} times
their floor. Finds nothing without measuring, and nothing on engines that take such numbers as 0
(native, OpenVINO, ncnn).""",
    why="""Many processors hand such numbers to microcode: an operation takes a hundred cycles or
more instead of half a one. Weights that decay in training and never recover get there, for example
in filters behind an activation that is always 0.""",
    price=f"The time of those layers, less {MOST_TIMES:g} times their floors.",
    known_problems="""Another cause may slow down the same layers. Some processors, for example
Zen 4, lose no time with denormal numbers.""",
    instead="""Weights that are 0 instead, or an engine that flushes denormal numbers: outputs move
by less than 1e-37.""",
    reference="IEEE 754-2019, section 3.3; `torch.set_flush_denormal`; "
    "[engine.md](engine.md#denormal-numbers).",
    check=denormal_numbers,
)
