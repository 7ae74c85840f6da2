"""Files that the tool writes and reads back: each replaced in one step, and JSON read strictly into
the dataclass that it was made from.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import tempfile
import types
import typing
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, Union

from fleetfoot.errors import RecordError

Made = TypeVar("Made")


def write_text(path: Path, text: str) -> None:
    """Replaces ``path`` by ``text`` in one step; its folder is made where missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(draft, 0o644)  # mkstemp's 0600 would keep a colleague from reading the result
        os.replace(draft, path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def plain(value: Any) -> Any:
    """``value`` as JSON would bring it back: tuples as lists, keys as strings."""
    return json.loads(json.dumps(value, allow_nan=False))


def read_object(text: str) -> dict[str, Any]:
    """A JSON object, read strictly: no field twice, no number that is not finite.

    Raises:
        RecordError: the text is no such object.
    """
    try:
        raw = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"not a line of JSON: {error}") from None
    if not isinstance(raw, dict):
        raise RecordError(f"expected a JSON object, found {_kind(raw)}")
    return raw


def fields(raw: dict[str, Any], kind: type, prefix: str) -> dict[str, Any]:
    """``raw`` with each value brought to the type that ``kind`` states for it."""
    hints = _hints(kind)
    missing, unknown = [n for n in hints if n not in raw], [n for n in raw if n not in hints]
    if missing or unknown:
        raise RecordError(
            "; ".join(
                f"{what} field{'s' if len(names) > 1 else ''} "
                + ", ".join(prefix + name for name in names)
                for what, names in (("missing", missing), ("unknown", unknown))
                if names
            )
        )
    return {name: _value(raw[name], hint, prefix + name) for name, hint in hints.items()}


def parsed(raw: object, kind: type[Made], name: str = "") -> Made:
    """A dataclass from the JSON of its ``asdict``: dataclasses, tuples and mappings within it too.

    Args:
        name: of what is read, for messages.

    Raises:
        RecordError: a field is missing, unknown or of another type; the message names it.
    """
    made: Made = _value(raw, kind, name or kind.__name__)
    return made


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _value(value: object, hint: Any, name: str) -> Any:
    """``value`` as ``hint`` wants it: a number, a string, a list for a tuple, an object for a
    dict."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        kinds = [arg for arg in args if arg is not type(None)]
        errors = []
        for kind in kinds:
            try:
                return _value(value, kind, name)
            except RecordError as error:
                errors.append(error)
        raise errors[0]
    if typing.is_typeddict(hint) and isinstance(value, dict):
        return fields(value, hint, f"{name}.")
    if dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, dict):
        return hint(**fields(value, hint, f"{name}."))
    if origin is typing.Literal and value in args:
        return value
    if origin in (dict, Mapping) and isinstance(value, dict):
        return {key: _value(item, args[1], f"{name}.{key}") for key, item in value.items()}
    if origin is tuple and isinstance(value, list):
        if args[-1] is not Ellipsis and len(value) != len(args):
            raise RecordError(f"{name} must hold {len(args)} numbers, not {len(value)}")
        return tuple(_value(item, args[0], f"{name}[{i}]") for i, item in enumerate(value))
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not -sys.float_info.max <= value <= sys.float_info.max:  # NaN fails both
            raise RecordError(f"{name} must be finite, not {_kind(value)}")
        return float(value)
    if type(value) is hint:  # not isinstance: True is no number here
        return value
    raise RecordError(
        f"{name} must be {_WORDS.get(origin or hint, 'an object')}, not {_kind(value)}"
    )


_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a string",
    tuple: "a list of numbers",
}


def _kind(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number that a record may hold")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"twice the field {next(n for n in names if names.count(n) > 1)!r}")
    return found
