"""Conversion of a file of weights in any known layout to safetensors in our own."""

from __future__ import annotations

import os
from typing import Any

from fleetfoot.errors import KeyMismatchError
from fleetfoot.models.catalogue import changed_options
from fleetfoot.models.identification import identify
from fleetfoot.models.loader import load_weights
from fleetfoot.weights import own
from fleetfoot.weights.files import read, write
from fleetfoot.weights.loading import LoadReport, nearest


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    model: str | None = None,
    key: str | None = None,
    overwrite: bool = False,
    **options: Any,
) -> LoadReport:
    """Writes the weights of ``source`` as safetensors in our own layout, with the options and
    preprocessing that they need in the header.

    Args:
        model: the network of the weights; may be left out if they fit only one.
        key: the part of the file to take, if it holds several sets of weights.
        options: options of ``create_model`` that the keys do not show (``small_input=True``).

    Raises:
        UnknownNameError: there is no such network or option.
        WeightsError: ``source`` cannot be read, fits no network or several, or ``target`` exists.
    """
    file = read(source, key)
    fits = identify(file)
    if model is None:
        names = sorted({fit.name for fit in fits})
        if len(names) != 1:
            found = " and ".join(names)
            found = f"{found}; nothing in it tells them apart" if names else "no network of the zoo"
            raise KeyMismatchError(
                f"{file.path} fits {found}; choose one with model=NAME (--model NAME)"
                + ("" if names else f": {nearest(file)}")
            )
        (model,) = names
    if any(fit.name == model and not fit.num_classes for fit in fits):
        options.setdefault("num_classes", 0)
    made = load_weights(model, file, **options)
    changed = changed_options(model, made.config)
    header = own.header(model, changed, made.pretrained_cfg, file.path.name)
    write(target, made.state_dict(), header, overwrite=overwrite)
    assert made.load_report is not None
    return made.load_report
