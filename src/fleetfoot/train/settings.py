"""The settings of a run by their dotted names: changed by ``optim.lr=1e-3``, listed beside those of
a preset, saved as YAML and read back exactly, and compared when a run is continued.

A recipe's setting is named by its place in the tree (``epochs``, ``optim.lr``), one of the run by
``run.`` before its name (``run.workers``). Values are written as follows.

==================  ==========================================================
a number            ``3``, ``1e-3``, ``0.08``
yes or no           ``true`` or ``false``
several numbers     ``0.08,1.0``
phases              ``280:192,300:224``: first epoch that the phase does not cover, size, and
                    optionally a policy; several are separated by commas
nothing             ``none``, for settings that may be left open
==================  ==========================================================
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, TypeVar

import yaml

import fleetfoot
from fleetfoot.data.settings import Phase
from fleetfoot.errors import RecordError, UnknownNameError
from fleetfoot.files import parsed
from fleetfoot.train import limits
from fleetfoot.train.config import Recipe, Run

Part = TypeVar("Part", bound=Any)

UNSETTABLE = ("name", "about", "task")
"""What a recipe states of itself."""


@dataclass(frozen=True)
class Settings:
    """Everything that a training run can be told, beside its data and network."""

    recipe: Recipe = field(default_factory=Recipe)
    run: Run = field(default_factory=Run)

    def changed(self, changes: Iterable[str]) -> Settings:
        """These settings with each of ``changes``, for example ``optim.lr=1e-3``, the last one of a
        name counting.

        Raises:
            UnknownNameError: there is no such setting, or no such value of it.
            ValueError: a value has another type, is out of range, or contradicts another one.
        """
        made = self
        for change in changes:
            name, equals, text = change.partition("=")
            if not equals:
                raise ValueError(f"a setting is changed by NAME=VALUE, not by {change!r}")
            made = made.with_value(name.strip(), text.strip())
        limits.check(made.recipe, made.run)
        return made

    def with_value(self, name: str, text: str) -> Settings:
        """These settings with one of them read from ``text``; limits are not checked. ``epochs``
        takes the place of ``updates``."""
        known = names()
        if name not in known:
            same_end = [one for one in known if one.rpartition(".")[2] == name]
            if same_end:
                meant = " or ".join(map(repr, same_end))
                raise UnknownNameError(f"unknown setting {name!r}; did you mean {meant}?")
            raise UnknownNameError.of("setting", name, known)
        value = _read(name, text, known[name])
        if name.startswith("run."):
            return replace(self, run=_placed(self.run, name.split(".")[1:], value))
        recipe = replace(self.recipe, updates=None) if name == "epochs" else self.recipe
        return replace(self, recipe=_placed(recipe, name.split("."), value))

    def values(self) -> dict[str, Any]:
        """Every setting by its dotted name."""
        return {name: _found(self, name) for name in names()}


def changed(recipe: Recipe, changes: Iterable[str]) -> Recipe:
    """A recipe with changes such as ``optim.lr=1e-3``; see ``Settings.changed``.

    >>> changed(Recipe(), ["epochs=30", "optim.lr=1e-2"]).optim.lr
    0.01
    """
    return Settings(recipe).changed(changes).recipe


@cache
def names() -> Mapping[str, Any]:
    """The type of every setting by its dotted name."""
    found = {name: hint for name, hint in _leaves(Recipe, "") if _root(name) not in UNSETTABLE}
    return types.MappingProxyType(found | dict(_leaves(Run, "run.")))


# ---- Showing


@dataclass(frozen=True)
class Line:
    """A setting for people."""

    name: str
    value: str
    preset: str | None
    """The preset's value, if it is another one."""


def listed(settings: Settings, preset: Settings) -> list[Line]:
    """Every setting that the recipe's task looks at, with the preset's value if it differs."""
    before = preset.values()
    return [
        Line(name, written(value), None if value == before[name] else written(before[name]))
        for name, value in settings.values().items()
        if limits.has_effect(name, settings.recipe.task)
    ]


def written(value: Any) -> str:
    """A value as ``--set`` reads it.

    >>> written((0.08, 1.0)), written(None), written(True)
    ('0.08,1.0', 'none', 'true')
    """
    if value in (None, (), ""):
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Phase):
        parts = [value.until, value.size] + ([] if value.policy is None else [value.policy])
        return ":".join(map(str, parts))
    if isinstance(value, tuple):
        return ",".join(map(written, value))
    return str(value)


# ---- Saving


def to_yaml(settings: Settings, **facts: Any) -> str:
    """The settings as YAML that ``from_yaml`` reads back exactly.

    Args:
        facts: what else the file should state, for example the network's name; plain values.
    """
    raw = {
        "fleetfoot": fleetfoot.__version__,
        **facts,
        "recipe": dataclasses.asdict(settings.recipe),
        "run": dataclasses.asdict(settings.run),
    }
    return yaml.safe_dump(_plain(raw), sort_keys=False, allow_unicode=True)


def from_yaml(text: str) -> Settings:
    """The settings that ``to_yaml`` wrote.

    Raises:
        RecordError: the text is not such YAML, or a setting is missing, unknown or out of range.
    """
    try:
        raw = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise RecordError(f"not YAML: {error}") from None
    if not isinstance(raw, dict) or not {"recipe", "run"} <= set(raw):
        raise RecordError("settings of a run have the parts 'recipe' and 'run'")
    made = Settings(
        parsed(raw["recipe"], Recipe, "recipe"),
        parsed(raw["run"], Run, "run"),
    )
    try:
        limits.check(made.recipe, made.run)
    except ValueError as error:
        raise RecordError(str(error)) from None
    return made


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


# ---- Continuing a run


@dataclass(frozen=True)
class Change:
    """A setting that differs from that of the run to be continued."""

    name: str
    old: Any
    new: Any
    effect: str
    """What the change does to the result."""

    def __str__(self) -> str:
        return f"{self.name}: {written(self.old)} -> {written(self.new)} ({self.effect})"


_ROUNDING = "the last bits of the result change"
_EFFECTS = {
    "run.threads": _ROUNDING,
    "run.channels_last": _ROUNDING,
    "run.compile": _ROUNDING,
    "run.deterministic": _ROUNDING,
    "run.device": _ROUNDING,
    "run.sync_bn": "batch norms see other pictures",
    "optim.accumulate": "batch norms see parts of another size",
}
_SAFE = "the result stays the same"


def safe_changes(old: Settings, new: Settings) -> tuple[list[Change], list[Change]]:
    """The settings that differ, in two lists: those that leave the result of a continued run as it
    is, and those that change it."""
    safe: list[Change] = []
    telling: list[Change] = []
    before = old.values()
    for name, value in new.values().items():
        if value == before[name]:
            continue
        default = "" if name.startswith("run.") else "the result is another one"
        effect = _EFFECTS.get(name, default)
        change = Change(name, before[name], value, effect or _SAFE)
        (telling if effect else safe).append(change)
    return safe, telling


# ---- Reading values


def _leaves(kind: type, prefix: str) -> Iterator[tuple[str, Any]]:
    hints = typing.get_type_hints(kind)
    for one in dataclasses.fields(kind):
        hint = hints[one.name]
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            yield from _leaves(hint, f"{prefix}{one.name}.")
        else:
            yield prefix + one.name, hint


def _root(name: str) -> str:
    return name.partition(".")[0]


def _placed(part: Part, path: list[str], value: Any) -> Part:
    name, *rest = path
    return replace(part, **{name: _placed(getattr(part, name), rest, value) if rest else value})


def _found(settings: Settings, name: str) -> Any:
    held: Any = settings if name.startswith("run.") else settings.recipe
    for part in name.split("."):
        held = getattr(held, part)
    return held


def _read(name: str, text: str, hint: Any) -> Any:
    """``text`` in the type ``hint``."""
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    options = typing.get_args(hint) if is_union else (hint,)
    kinds = [kind for kind in options if kind is not type(None)]
    if text.lower() == "none" and (len(kinds) < len(options) or _is_any_number(hint)):
        return () if _is_any_number(hint) else None
    choices = [c for kind in kinds for c in _literals(kind)]
    if choices:
        if text not in choices:
            raise UnknownNameError.of(f"value of {name}", text, choices)
        return text
    (kind,) = kinds
    if _is_phases(kind):
        return tuple(_phase(name, part) for part in text.split(",") if part)
    if typing.get_origin(kind) is tuple:
        inner, parts = typing.get_args(kind), text.split(",")
        if inner[-1] is Ellipsis:
            inner = inner[:1] * len(parts)
        if len(parts) != len(inner):
            raise ValueError(f"{name} takes {len(inner)} numbers such as 0.1,0.9, not {text!r}")
        return tuple(_single(name, p.strip(), k) for p, k in zip(parts, inner, strict=True))
    return _single(name, text, kind)


def _is_any_number(kind: Any) -> bool:
    """Whether it is a tuple of any length."""
    return typing.get_args(kind)[-1:] == (Ellipsis,)


def _is_phases(kind: Any) -> bool:
    return typing.get_args(kind)[:1] == (Phase,)


def _literals(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else ()


def _single(name: str, text: str, kind: Any) -> Any:
    if kind is str:
        return "" if text.lower() == "none" else text
    if kind is bool:
        spelled = {"true": True, "yes": True, "on": True, "1": True}
        spelled |= {"false": False, "no": False, "off": False, "0": False}
        if text.lower() not in spelled:
            raise ValueError(f"{name} must be true or false, not {text!r}")
        return spelled[text.lower()]
    try:
        number = float(text)
        if kind is int and number == (whole := int(number)):
            return int(text) if text.lstrip("+-").isdigit() else whole
        if kind is float and math.isfinite(number):
            return number
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"{name} must be a {'whole ' * (kind is int)}number, not {text!r}")


def _phase(name: str, text: str) -> Phase:
    until, _, rest = text.strip().partition(":")
    size, colon, policy = rest.partition(":")
    if not rest:
        raise ValueError(f"{name} takes UNTIL:SIZE or UNTIL:SIZE:POLICY, not {text!r}")
    return Phase(
        until=_single(name, until, int),
        size=_single(name, size, int),
        policy=policy if colon else None,
    )
