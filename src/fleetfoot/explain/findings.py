"""A finding: what a rule found in a network, priced in time, with the change to make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Basis = Literal["measured", "modelled"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    rule: str
    """Its code: "G1", "D1"."""
    name: str
    """Its name in words, as "unequal-channel-widths"."""
    module: str
    """Path of the module that it is about."""
    number: float
    """What was found, in ``unit``."""
    bound: float
    """What it should be at most or at least."""
    unit: str
    """"channels out / in", "groups", "flop/byte"."""
    price_s: float
    """Time a batch that the change is worth, by the rule's own formula: an estimate from this
    machine's measured rates and the layer's measured time."""
    text: str
    """One sentence: what was found, with both numbers."""
    change: str
    """One sentence: what to do."""
    basis: Basis = "measured"
    """Whether the price follows from the layer's measured time, or, nothing having been measured,
    from its floor."""
