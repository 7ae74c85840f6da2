"""A finding: what a rule found in a network, its price in time, and the change to make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Basis = Literal["measured", "modelled"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    rule: str
    """The rule's code, for example "G1" or "D1"."""
    name: str
    """The rule's name in words, for example "unequal-channel-widths"."""
    module: str
    """Path of the module that the finding is about."""
    number: float
    """The value that was found, in ``unit``."""
    bound: float
    """The largest or smallest value that the rule accepts."""
    unit: str
    """Unit of ``number`` and ``bound``, for example "groups" or "flop/byte"."""
    price_s: float
    """Seconds that the change saves in each batch, by the rule's own formula: an estimate from this
    machine's measured rates and the layer's measured time."""
    text: str
    """One sentence that says what was found, with both numbers."""
    change: str
    """One sentence that says what to change."""
    basis: Basis = "measured"
    """Whether the price follows from the layer's measured time, or, if nothing was measured, from
    its floor."""
