"""Key layouts: whose names a file's tensors carry, and which of our tensors each one is.

A layout is a table from the modules of a released network to our modules, in which ``*`` stands for
one number; the tables are in ``weights.layouts``. A file's keys show which layout it is in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor

NORM_LEAVES = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")

TORCH_LEAVES: Mapping[str, str] = {leaf: leaf for leaf in NORM_LEAVES}

OURS = "fleetfoot"
"""Name of our own layout."""

IRRELEVANT = ("total_ops", "total_params")
"""Last words of keys that are not weights: what the operation counter thop leaves in a network."""

BESIDE = re.compile(
    r"((train|val|valid|test)_)?(acc|accuracy|metrics?|loss|loss_fn|criterion|confmat|auroc|f1|miou)"
    r"(_?\d+|_metrics?|_score)?(\.|$)|(epoch|step|global_step|iter|iteration|lr|best_\w+)$"
)
"""Start of the keys of metrics and losses, and whole keys of counts, which trainers keep in the
network's own mapping."""

_NUMBER = re.compile(r"\d+")

Fill = Callable[[dict[str, Tensor], Mapping[str, Tensor]], None]


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One way of naming a family's weights."""

    family: str
    name: str
    """Whose layout it is: "timm", "torchvision", "authors", "authors, folded"."""
    modules: Mapping[str, str] = field(repr=False)
    """Module (or single parameter) of the file -> ours. ``*`` is one number; the file's numbers
    fill ours from left to right."""
    leaves: Mapping[str, str] = field(default_factory=lambda: TORCH_LEAVES, repr=False)
    """Last word of a file's key -> ours."""
    repeated: tuple[str, ...] = field(default=(), repr=False)
    """Modules that the file holds a second time under another name."""
    useless: tuple[str, ...] = field(default=(), repr=False)
    """Last words of the file's keys that are not needed: constants that our modules know."""
    plain: Callable[[str], str] = field(default=str, repr=False)
    """Turns a file's key into words with dots between."""
    turn: Callable[[Tensor], Tensor] = field(default=_as_it_is, repr=False)
    """Turns a file's array into PyTorch's order of dimensions."""
    fill: Fill | None = field(default=None, repr=False)
    """Completes the renamed tensors, in place, if the file holds another form of the network than
    ours."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the family's config that these weights need."""
    requires: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the family's config that tell the networks of this layout from others of the same
    shapes. A network with other values computes another function, whatever fits."""
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    """Fields of ``PretrainedConfig`` that these weights need."""
    note: str = ""
    """What a user of these weights must know although the keys do not show it."""
    refused: str = ""
    """Reason why weights in this layout cannot be used; "" if they can."""

    @cached_property
    def _repeats(self) -> list[re.Pattern[str]]:
        return [_pattern(module) for module in self.repeated]

    @cached_property
    def _patterns(self) -> dict[str, list[tuple[re.Pattern[str], str]]]:
        """Patterns by their text with ``*`` for every number, so that a key is compared with few of
        them."""
        found: dict[str, list[tuple[re.Pattern[str], str]]] = {}
        for theirs, ours in self.modules.items():
            if "*" in theirs:
                pair = (_pattern(theirs), ours.replace("*", "{}"))
                found.setdefault(_NUMBER.sub("*", theirs), []).append(pair)
        return found

    def _module(self, theirs: str) -> str | None:
        if "*" not in theirs and theirs in self.modules:
            return self.modules[theirs]
        for pattern, ours in self._patterns.get(_NUMBER.sub("*", theirs), ()):
            if match := pattern.fullmatch(theirs):
                return ours.format(*match.groups())
        return None

    def key(self, theirs: str) -> str | None:
        """Our key for the file's key; ``None`` if this layout has no such key."""
        whole = self.plain(theirs)
        module, _, leaf = whole.rpartition(".")
        if leaf in self.leaves and (ours := self._module(module)) is not None:
            return f"{ours}.{self.leaves[leaf]}"
        return self._module(whole)

    def unused(self, theirs: str) -> bool:
        """Whether a key of the file is known to be unnecessary: not a weight, or a duplicate."""
        if theirs.rpartition(".")[2] in (*IRRELEVANT, *self.useless):
            return True
        if BESIDE.match(theirs) and self.key(theirs) is None:
            return True
        if not self._repeats:
            return False
        module = self.plain(theirs).rpartition(".")[0]
        return any(pattern.fullmatch(module) for pattern in self._repeats)

    def share(self, keys: Iterable[str]) -> float:
        """Share of ``keys`` that this layout knows, 0 to 1."""
        counted = [key for key in keys if not self.unused(key)]
        return sum(self.key(key) is not None for key in counted) / max(len(counted), 1)


def _pattern(module: str) -> re.Pattern[str]:
    return re.compile(re.escape(module).replace(r"\*", r"(\d+)"))


def ours(family: str, modules: Iterable[str], name: str = OURS) -> Layout:
    """The layout in which every module (or whole key) keeps its own name."""
    return Layout(family=family, name=name, modules={module: module for module in modules})
