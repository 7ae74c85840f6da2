"""The tensors of a file under joined names, and the prefixes below which a network may be.

A checkpoint nests mappings (``{"model": {"state_dict": ...}}``) and prefixes keys
(``module.net.conv.weight``); joined by dots, both are prefixes of one long key. Which of them
holds the network is found by comparing what follows each prefix with the keys that are looked for.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from fleetfoot.errors import KeyMismatchError, visible
from fleetfoot.weights.described import DATA, Name, Thing, Unusable, View, array_of

DEEPEST = 10
"""Limit for mappings within mappings."""
MOST_SEPARATORS = 20
LONGEST_KEY = 2000
LONGEST_LIST = 64
MANY = 5
"""Number of keys with the same start that are named together."""
SMALLEST_SHARE = 200
"""A prefix counts if at least one in so many of the file's tensors has it."""

WRAPPERS = (
    "state_dict_ema", "model_ema", "ema_state_dict", "ema", "state_dict", "model_state_dict",
    "model_state", "model", "net", "network", "weights", "params", "module", "model_weights",
)  # fmt: skip
"""Entries that usually hold the network, the usual one first."""
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "backbone.")
"""Prefixes that wrappers of networks put before every key."""
COUNTER = "n_averaged"
"""Key of the count that torch's ``AveragedModel`` keeps beside the keys that it prefixes."""

_AVERAGED = re.compile(
    r"(^|[_.\d])(ema|avg|averaged|swa|shadow|polyak)($|[_.\d])|(^|_)mean_teacher"
)
_OPTIMISER = re.compile(r"optim|schedul|scaler|grad|momentum|exp_avg|^opt(_|$)|criterion|loss")

Make = Callable[[Mapping[str, Any]], dict[str, Tensor]]
"""Reads the tensors that a mapping describes."""


@dataclass(frozen=True)
class Nest:
    """All tensors of a file, or descriptions of them, by joined name."""

    leaves: Mapping[str, Any] = field(repr=False)
    mappings: Mapping[str, tuple[str, ...]] = field(repr=False)
    """Joined name of each mapping, with a final dot -> its entries from the outside in. The file's
    own mapping is ""."""
    entries: Mapping[str, tuple[str, ...]] = field(repr=False)
    """Names of the entries of each mapping, by its joined name."""
    objects: Mapping[str, str]
    """Objects of unknown classes that were not made: joined name -> class."""
    make: Make = field(repr=False)

    @classmethod
    def of(cls, tree: Any, make: Make) -> Nest:
        """The nest of a file's tree of entries. A mapping that occurs twice is taken once."""
        leaves: dict[str, Any] = {}
        mappings: dict[str, tuple[str, ...]] = {}
        entries: dict[str, tuple[str, ...]] = {}
        objects: dict[str, str] = {}
        seen: set[int] = set()
        rest: list[tuple[tuple[str, ...], str, Any]] = [((), "", tree)]
        while rest:
            path, name, value = rest.pop()
            inner = _inner(value)
            if inner is None or id(value) in seen or len(path) > DEEPEST or len(name) > LONGEST_KEY:
                continue
            seen.add(id(value))
            mappings[name] = path
            entries[name] = tuple(key for key, _ in inner)
            below = []
            tensors = any(isinstance(item, View | Tensor) for _, item in inner)
            for key, item in inner:
                joined = f"{name}{key}"
                if array_of(item) is not None and tensors:
                    continue  # data, for example a history, beside the network's own tensors
                if _is_leaf(item):
                    leaves[joined] = item
                else:
                    if isinstance(item, Thing) and item.name not in DATA:
                        objects[joined] = item.name
                    below.append(((*path, key), f"{joined}.", item))
            rest += reversed(below)
        return cls(leaves, mappings, entries, objects, make)

    def below(self, prefix: str) -> dict[str, Any]:
        """The tensors whose joined names start with ``prefix``, without it."""
        return {
            key[len(prefix) :]: value
            for key, value in self.leaves.items()
            if key.startswith(prefix) and key[len(prefix) :] != COUNTER
        }

    def outside(self, prefix: str) -> tuple[str, ...]:
        """Keys of the tensors in the same mapping that ``prefix`` leaves out; many with the same
        start are one entry, ``teacher.* (164 tensors)``."""
        owner = self._owner(prefix)
        groups: dict[str, list[str]] = {}
        for key in self.leaves:
            if key.startswith(owner) and not key.startswith(prefix) and self._owner(key) == owner:
                inner = key[len(owner) :]
                groups.setdefault(inner.partition(".")[0], []).append(inner)
        found: list[str] = []
        for start, keys in groups.items():
            found += keys if len(keys) < MANY else [f"{start}.* ({len(keys)} tensors)"]
        return tuple(found)

    def wrappers(self, prefix: str) -> tuple[str, ...]:
        """The prefix in parts, outermost first: ``['state_dict']`` for an entry, ``module.`` for
        the start of a key."""
        owner = self._owner(prefix)
        entries = [f"[{part!r}]" for part in self.mappings[owner]]
        return (*entries, *re.findall(r"[^./]*[./]", prefix[len(owner) :]))

    def beside(self, prefix: str) -> tuple[str, ...]:
        """Names of the entries and keys that ``prefix`` leaves out, outermost first."""
        owner = self._owner(prefix)
        path, found, name = self.mappings[owner], list[str](), ""
        for part in path:
            found += [self._called(name, key) for key in self.entries[name] if key != part]
            name += f"{part}."
        held = {f"{prefix[len(owner) :]}{key}" for key in self.below(prefix)}
        found += [self._called(name, key) for key in self.entries[owner] if key not in held]
        return tuple(found)

    def _called(self, owner: str, key: str) -> str:
        kind = self.objects.get(f"{owner}{key}")
        return f"{key} (an object of {kind}, left out)" if kind else key

    def _owner(self, prefix: str) -> str:
        """The innermost mapping in which ``prefix`` lies."""
        while prefix and prefix not in self.mappings:
            prefix = prefix[: max(prefix.rfind(".", 0, -1), prefix.rfind("/", 0, -1)) + 1]
        return prefix

    def prefixes(self) -> list[str]:
        """Every prefix that many tensors have, those of averaged weights first and those of
        optimisers last; "" among them."""
        counts = Counter[str]()
        for key in self.leaves:
            ends = [match.end() for match in re.finditer(r"[./]", key)][:MOST_SEPARATORS]
            counts.update(key[:end] for end in ends)
        enough = max(1, len(self.leaves) // SMALLEST_SHARE)
        found = ["", *(prefix for prefix, count in counts.items() if count >= enough)]
        return sorted(found, key=rank)

    def usual(self) -> str:
        """The prefix below which a network usually is, judged by names alone."""
        direct = Counter(self._owner(key) for key in self.leaves)
        order = {name: i for i, name in enumerate(WRAPPERS)}

        def place(name: str) -> tuple[Any, ...]:
            path = self.mappings[name]
            usual = all(part in order for part in path)
            return (*rank(name)[:1], not usual, rank(name)[1], -direct[name])

        found = min(direct, key=place, default="")
        inner = list(self.below(found))
        prefix = ""
        while step := next(
            (p for p in PREFIXES if inner and all(key.startswith(prefix + p) for key in inner)), ""
        ):
            prefix += step
        return found + prefix

    def only(self, key: str, path: object) -> Nest:
        """The part of the nest that ``key`` names: an entry, or the start of keys.

        Raises:
            KeyMismatchError: there is no such part; the message lists some that there are.
        """
        key = key.strip("./")
        found = [
            prefix
            for prefix in self.prefixes()
            if prefix[:-1] == key or prefix[:-1].endswith((f".{key}", f"/{key}"))
        ]
        if not found or not key:
            known = ", ".join(visible(prefix[:-1]) for prefix in self._large()) or "none"
            raise KeyMismatchError(f"{path} has no part {visible(key)!r}; it has {known}")
        chosen = min(found, key=len)
        return Nest(
            {name: value for name, value in self.leaves.items() if name.startswith(chosen)},
            self.mappings,
            self.entries,
            self.objects,
            self.make,
        )

    def _large(self) -> list[str]:
        """The prefixes that the most tensors have, one for each set of tensors."""
        counts = {
            prefix: sum(key.startswith(prefix) for key in self.leaves)
            for prefix in self.prefixes()[:200]
            if prefix
        }
        return sorted(counts, key=lambda prefix: -counts[prefix])[:8]


def rank(prefix: str) -> tuple[int, int, int]:
    """Order in which parts of a file are tried: averaged weights, others, an optimiser's."""
    parts = re.split(r"[./]", prefix.lower())
    if any(_OPTIMISER.search(part) for part in parts):
        return 2, 0, len(parts)
    averaged = sum(bool(_AVERAGED.search(part)) for part in parts)
    return (0 if averaged else 1), -averaged, len(parts)


def averaged(prefix: str) -> bool:
    """Whether the names of a prefix say that the weights below it are averages over training."""
    return rank(prefix)[0] == 0


def _inner(value: Any) -> list[tuple[str, Any]] | None:
    """The entries of a mapping or list by name; None if ``value`` has none."""
    if isinstance(value, Thing):
        value = value.entries
    if isinstance(value, Mapping):
        pairs = list(value.items())
    elif isinstance(value, list | tuple) and not isinstance(value, Name):
        pairs = list(enumerate(value[:LONGEST_LIST]))
    else:
        return None
    return [
        (str(key), item)
        for key, item in pairs
        if isinstance(key, str) or (type(key) is int and not _is_leaf(item))
    ]


def _is_leaf(value: Any) -> bool:
    """Whether ``value`` is a tensor, or the description of one."""
    return isinstance(value, Tensor | View | Unusable) or array_of(value) is not None
