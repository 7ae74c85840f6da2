"""The settings that a sweep varies, and the values that each may have.

=========================  ==================================================================
``NAME=log:LOW:HIGH``      from LOW to HIGH, even on a scale of powers
``NAME=uniform:LOW:HIGH``  from LOW to HIGH, even
``NAME=choice:A,B,C``      one of A, B and C
=========================  ==================================================================

A setting that is a whole number gets whole numbers. Others have four significant digits, so that
a value can be copied and typed.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from fleetfoot.errors import UnknownNameError
from fleetfoot.train.settings import Settings, names

Kind = Literal["log", "uniform", "choice"]
KINDS = ("log", "uniform", "choice")


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One setting and its values."""

    name: str
    kind: Kind
    low: float = 0.0
    high: float = 0.0
    whole: bool = False
    choices: tuple[str, ...] = ()

    def __str__(self) -> str:
        values = ",".join(self.choices) or f"{written(self.low)}:{written(self.high)}"
        return f"{self.name}={self.kind}:{values}"

    def text(self, value: Any) -> str:
        """A value as ``--set`` takes it.

        >>> Axis(name="optim.lr", kind="log", low=1e-4, high=1.0).text(0.0031622776)
        '0.003162'
        """
        return value if isinstance(value, str) else written(value)


def written(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def axes(texts: Iterable[str], settings: Settings) -> tuple[Axis, ...]:
    """The axes of a sweep around ``settings``, for example from ``optim.lr=log:1e-4:1e-1``.

    Raises:
        UnknownNameError: there is no such setting or kind of values.
        ValueError: a range is empty, a value is not valid for its setting, or a name occurs twice.
    """
    made = tuple(axis(text) for text in texts)
    if not made:
        raise ValueError("a sweep varies one setting or more: --space NAME=KIND:VALUES")
    held = [one.name for one in made]
    if twice := next((name for name in held if held.count(name) > 1), None):
        raise ValueError(f"--space names {twice} twice")
    for one in made:  # each end must be allowed by itself, for a trial's values are combined later
        for value in one.choices or (one.text(one.low), one.text(one.high)):
            settings.changed([f"{one.name}={value}"])
    return made


def axis(text: str) -> Axis:
    """One axis from its text; see the head of this file."""
    name, equals, values = text.partition("=")
    name = name.strip()
    kind, colon, rest = values.strip().partition(":")
    if not equals or not colon:
        raise ValueError(
            "--space takes NAME=log:LOW:HIGH, NAME=uniform:LOW:HIGH or NAME=choice:A,B, not "
            f"{text!r}"
        )
    known = names()
    if name not in known:
        raise UnknownNameError.of("setting", name, known)
    if name.startswith("run."):
        raise ValueError(f"--space {name}: this setting does not decide the result")
    if name == "seed":
        raise ValueError("--space seed: a sweep compares settings at one seed")
    if kind not in KINDS:
        raise UnknownNameError.of("kind of values", kind, KINDS)
    types_of = _kinds(known[name])
    if kind == "choice":
        choices = tuple(dict.fromkeys(one.strip() for one in rest.split(",") if one.strip()))
        if len(choices) < 2:
            raise ValueError(f"--space {name}: a choice has two values or more, not {rest!r}")
        return Axis(name=name, kind="choice", choices=choices)
    if not types_of & {int, float}:
        raise ValueError(f"--space {name}: not a number; give its values as {name}=choice:A,B")
    low, high = _ends(name, kind, rest)
    whole = float not in types_of
    if whole and not (low == int(low) and high == int(high)):
        raise ValueError(f"--space {name}: whole numbers, not {rest!r}")
    return Axis(
        name=name,
        kind="log" if kind == "log" else "uniform",
        low=int(low) if whole else low,
        high=int(high) if whole else high,
        whole=whole,
    )


def _ends(name: str, kind: str, text: str) -> tuple[float, float]:
    low_text, _, high_text = text.partition(":")
    try:
        low, high = float(low_text), float(high_text)
    except ValueError:
        raise ValueError(
            f"--space {name}: {kind}:LOW:HIGH takes two numbers, not {text!r}"
        ) from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"--space {name}: LOW must be below HIGH, not {text!r}")
    if kind == "log" and low <= 0:
        raise ValueError(f"--space {name}: log needs numbers above 0, not {low_text}")
    return low, high


def _kinds(hint: Any) -> set[Any]:
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return set(typing.get_args(hint) if is_union else (hint,))
