"""Rules for fast networks: what slows a network down, and how much time that costs on a machine.

ShuffleNetV2's four guidelines (G1 to G4, https://arxiv.org/abs/1807.11164) and others. Each is a
row in ``RULES`` that says what it looks for, why, its price and its known problems;
``docs/rules.md`` is made from them. The prices of two rules on one layer overlap: do not add them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from fleetfoot.count.trace import Trace
from fleetfoot.errors import UnknownNameError
from fleetfoot.explain.denormals import Denormals
from fleetfoot.explain.findings import Finding
from fleetfoot.explain.rules.attention import A1
from fleetfoot.explain.rules.base import Rule
from fleetfoot.explain.rules.copies import C1, L1
from fleetfoot.explain.rules.depthwise import D1
from fleetfoot.explain.rules.elementwise import B1, G4
from fleetfoot.explain.rules.engine import E1, F1
from fleetfoot.explain.rules.fragments import G3
from fleetfoot.explain.rules.lanes import V1
from fleetfoot.explain.rules.numbers import N1
from fleetfoot.explain.rules.pricing import Evidence, modelled_layers
from fleetfoot.explain.rules.squeeze import S1
from fleetfoot.explain.rules.widths import G1, G2
from fleetfoot.machine.machine import Machine
from fleetfoot.machine.roofline import Layer

__all__ = ["LEAST_SHARE", "RULES", "Rule", "findings", "rule", "worth_saying"]

RULES: dict[str, Rule] = {
    one.code: one for one in (G1, G2, G3, G4, A1, B1, C1, D1, E1, F1, L1, N1, S1, V1)
}

LEAST_SHARE = 0.005
"""Smallest share of the network's time worth reporting; less is lost in the noise of measuring."""


def rule(code: str) -> Rule:
    """The rule with this code, such as "G1", or name, such as "unequal-channel-widths".

    Raises:
        UnknownNameError: there is no such rule.
    """
    for one in RULES.values():
        if code in (one.code, one.name):
            return one
    raise UnknownNameError.of("rule", code, RULES, hint="List them with: fleetfoot lint --rules")


def findings(
    trace: Trace,
    machine: Machine,
    *,
    layers: Sequence[Layer] | None = None,
    engine: str = "",
    engine_note: str = "",
    reference: Mapping[str, Sequence[str]] | None = None,
    denormals: Mapping[str, Denormals] | None = None,
    disable: Collection[str] = (),
) -> list[Finding]:
    """The findings of every rule, the highest price first.

    Args:
        layers: measured layers of exactly this trace. Default: each layer is taken to run at its
            floor, and the prices are modelled.
        engine: name of the engine that was measured.
        engine_note: the ``EngineInfo.note`` of that engine.
        reference: nodes that it ran in reference kernels, by the layer's module.
        denormals: denormal numbers by module, if the engine does not take them as 0.
        disable: codes or names of rules to leave out.

    Raises:
        ValueError: an operator of the trace is in no layer.
        UnknownNameError: a rule to leave out does not exist.
    """
    left_out = {rule(name).code for name in disable}
    if layers is not None:
        held = {id(op) for layer in layers for op in layer.operators}
        missing = sum(id(op) not in held for op in trace.operators)
        if missing:
            raise ValueError(
                f"{missing} of the {len(trace.operators)} operators of the trace are in no layer; "
                "layers must be made from the same Trace object"
            )
    evidence = Evidence(
        trace=trace,
        machine=machine,
        layers=modelled_layers(trace, machine) if layers is None else tuple(layers),
        basis="modelled" if layers is None else "measured",
        engine=engine,
        engine_note=engine_note,
        reference=reference or {},
        denormals=denormals or {},
    )
    found = [
        Finding(rule=one.code, name=one.name, basis=evidence.basis, **row._asdict())
        for one in RULES.values()
        if one.code not in left_out
        for row in one.check(evidence)
    ]
    return sorted(found, key=lambda one: -one.price_s)


def worth_saying(
    found: Sequence[Finding], total_s: float, *, least_price_s: float = 0.0
) -> tuple[list[Finding], list[Finding]]:
    """Splits findings: those worth at least ``LEAST_SHARE`` of ``total_s`` and ``least_price_s``,
    and the rest. Operators that an engine ran outside its fast part are always in the first."""
    least_s = max(LEAST_SHARE * total_s, least_price_s)
    kept = [one for one in found if one.price_s >= least_s or one.rule == E1.code]
    return kept, [one for one in found if one not in kept]
