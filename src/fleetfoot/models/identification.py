"""Identifying a file's weights: the networks of the catalogue that its tensors fit."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

from torch import Tensor

from fleetfoot.models.catalogue import list_models, skeleton, variant
from fleetfoot.weights.files import WeightsFile, read
from fleetfoot.weights.loading import recognised, rename


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


def identify(file: WeightsFile) -> list[Fit]:
    """Every network of the catalogue whose tensors a file holds, at any number of classes.

    Names and shapes alone decide, so networks that differ in nothing else are all listed.
    """
    fits = []
    for layout in recognised(file):
        translation = rename(file, layout)
        classes = translation.num_classes
        fits += [
            Fit(name, layout.name, classes)
            for name in list_models(family=layout.family)
            if not translation.problems(_shapes(name, classes))
        ]
    return fits


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
    licence: str
    """Licence from the header of our own files; "unknown" otherwise, as files do not state it."""


def inspect_weights(path: str | os.PathLike[str]) -> Inspection:
    """Reads a file of weights and describes it.

    Raises:
        WeightsError: the file cannot be read.
    """
    file = read(path)
    fits = tuple(identify(file))
    return Inspection(
        path=str(path),
        format=file.format,
        wrappers=file.wrappers,
        beside=file.beside,
        tensors=len(file.state),
        params=file.params,
        layouts=tuple(f"{layout.name} ({layout.family})" for layout in recognised(file)),
        fits=fits,
        licence=file.metadata.get("licence", "unknown"),
    )
