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
from fleetfoot.weights.loading import LoadReport


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    model: str | None = None,
    overwrite: bool = False,
    **options: Any,
) -> LoadReport:
    """Writes the weights of ``source`` as safetensors in our own layout, with the options and
    preprocessing that they need in the header.

    Args:
        model: the network of the weights; may be left out if they fit only one.
        options: options of ``create_model`` that the keys do not show (``small_input=True``).

    Raises:
        UnknownNameError: there is no such network or option.
        WeightsError: ``source`` cannot be read, fits no network or several, or ``target`` exists.
    """
    file = read(source)
    if model is None:
        names = sorted({fit.name for fit in identify(file)})
        if len(names) != 1:
            raise KeyMismatchError(
                f"{file.path} fits {' and '.join(names) or 'no network of the catalogue'}; "
                "choose one with model=NAME (--model NAME)"
            )
        (model,) = names
    made = load_weights(model, file, **options)
    changed = changed_options(model, made.config)
    header = own.header(model, changed, made.pretrained_cfg, file.path.name)
    write(target, made.state_dict(), header, overwrite=overwrite)
    assert made.load_report is not None
    return made.load_report
