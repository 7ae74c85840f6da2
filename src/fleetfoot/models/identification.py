"""Identifying a file's weights: the networks of the catalogue that its tensors fit."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache

from torch import Tensor

from fleetfoot.errors import visible
from fleetfoot.models.catalogue import list_models, skeleton, variant
from fleetfoot.weights import own
from fleetfoot.weights.files import WeightsFile, read
from fleetfoot.weights.layout import Layout
from fleetfoot.weights.loading import (
    CLASSIFIER,
    HEAD,
    Without,
    nearest,
    recognised,
    rename,
    translations,
)
from fleetfoot.weights.nest import MANY

SHOWN_KEYS = 5
"""Number of keys that an inspection shows."""


@cache
def _shapes(name: str, num_classes: int) -> Mapping[str, Tensor]:
    family, row = variant(name)
    return skeleton(family, replace(row, num_classes=num_classes))


@dataclass(frozen=True)
class Fit:
    """A network of the catalogue that a file's tensors fit, name by name and shape by shape."""

    name: str
    layout: str
    num_classes: int


def identify(file: WeightsFile, *, without: Without = None) -> list[Fit]:
    """Every network of the catalogue whose tensors a file holds, at any number of classes.

    Names and shapes decide, and what a layout says of the networks that it is for. Networks that
    nothing in the file tells apart are all listed.

    Args:
        without: start of the keys that need not be there: ``HEAD`` for the trunk of a network.
    """
    part, layouts = recognised(file)
    fits = []
    for layout in layouts:
        translation = rename(part, layout)
        classes = translation.num_classes
        fits += [
            Fit(name, layout.name, classes)
            for name in list_models(family=layout.family)
            if suits(layout, name)
            and not translation.problems(_shapes(name, classes), without=without)
        ]
    return fits


def suits(layout: Layout, name: str) -> bool:
    """Whether a layout may be that of the network ``name``, whatever the shapes."""
    _, row = variant(name)
    return all(getattr(row, field) == value for field, value in layout.requires.items())


def twins(name: str) -> list[str]:
    """Networks of another form, but with the same names and shapes as ``name`` apart from the
    classifier: without it, a file in our own layout may be of any of them."""
    family, row = variant(name)
    if not hasattr(row, "form"):
        return []
    shapes = _trunk(name)
    return [other for other in family.variants if other != name and _trunk(other) == shapes]


@cache
def _trunk(name: str) -> Mapping[str, tuple[int, ...]]:
    return {
        key: tuple(tensor.shape)
        for key, tensor in _shapes(name, 0).items()
        if not key.startswith(CLASSIFIER)
    }


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """Description of a file of weights."""

    path: str
    format: str
    wrappers: tuple[str, ...]
    beside: tuple[str, ...]
    """Entries of the file that are not weights."""
    tensors: int
    params: int
    """Number of values in floating point, batch norm statistics included."""
    layouts: tuple[str, ...]
    """Layouts that know every key, each with its family: ``timm (fastvit)``."""
    fits: tuple[Fit, ...]
    """Networks of the catalogue that the tensors fit."""
    trunks: tuple[str, ...] = ()
    """Networks of the catalogue whose trunk the tensors fit, if they fit no whole network."""
    nearest: str = ""
    """What the keys come nearest to, if no layout knows all of them."""
    keys: tuple[str, ...] = ()
    """The first keys, if no layout knows all of them."""
    notes: tuple[str, ...] = ()
    """Which part of the file this is, if it holds several."""
    licence: str
    """Licence from the header of our own files; "unknown" otherwise, as files do not state it."""


def inspect_weights(path: str | os.PathLike[str], key: str | None = None) -> Inspection:
    """Reads a file of weights and describes it.

    Args:
        key: the part of the file to describe. Default: the part that a network's keys are in.

    Raises:
        WeightsError: the file cannot be read.
    """
    file = read(path, key)
    part, layouts = recognised(file)
    fits = _stated_fits(part) or tuple(identify(file))
    trunks = () if fits else tuple(fit.name for fit in identify(file, without=HEAD))
    return Inspection(
        path=str(path),
        format=file.format,
        wrappers=part.wrappers,
        beside=_grouped(part.beside),
        tensors=len(part.state),
        params=part.params,
        layouts=tuple(f"{layout.name} ({layout.family})" for layout in layouts),
        fits=fits,
        trunks=trunks,
        nearest="" if layouts else nearest(file),
        keys=() if layouts else tuple(map(visible, list(part.state)[:SHOWN_KEYS])),
        notes=next(translations(file, layouts[0].family)).notes if layouts else (),
        licence=file.metadata.get("licence", "unknown"),
    )


def _stated_fits(part: WeightsFile) -> tuple[Fit, ...]:
    """The network of the catalogue that the header of a file in our own layout states, if its
    tensors fit with the options that it states."""
    name = part.metadata.get("model", "") if "fleetfoot" in part.metadata else ""
    if name not in list_models():
        return ()
    family, row = variant(name)
    for translation in translations(part, family.name):
        classes = translation.num_classes
        config = replace(row, num_classes=classes, **own.options(part, row))
        if not translation.problems(skeleton(family, config)):
            return (Fit(name, translation.layout.name, classes),)
    return ()


def _grouped(names: Iterable[str]) -> tuple[str, ...]:
    """Names, those that many share the start of as one: ``optim.* (120 entries)``."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name.partition(".")[0], []).append(name)
    return tuple(
        one
        for start, found in groups.items()
        for one in (found if len(found) < MANY else [f"{start}.* ({len(found)} entries)"])
    )
