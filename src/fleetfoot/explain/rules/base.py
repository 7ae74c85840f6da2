"""What a rule is: its code, its name, its texts, and a function that looks at an ``Evidence``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from fleetfoot.explain.rules.pricing import Evidence


class Breach(NamedTuple):
    """A place that breaks a rule: a ``Finding`` before the rule's code and name are added."""

    module: str
    number: float
    bound: float
    unit: str
    price_s: float
    text: str
    change: str


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule. Its texts are Markdown."""

    code: str
    """Code, for example "G1"; the letter names the subject. G1 to G4 are ShuffleNetV2's own."""
    name: str
    """Name in words, for example "unequal-channel-widths"."""
    what: str
    """What the rule looks for, and the threshold with its reason."""
    why: str
    """Why this is bad."""
    price: str
    """The formula of the price."""
    known_problems: str
    instead: str
    reference: str
    check: Callable[[Evidence], Iterable[Breach]]


def megabytes(count: float) -> str:
    return f"{count / 1e6:.3g} MB" if count >= 1e5 else f"{count / 1e3:.3g} kB"
