"""A file of weights in any known layout, written as safetensors in our own."""

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
    """Writes the weights of ``source`` as safetensors in our own layout, with what they need said
    in the header.

    Args:
        model: the network that they are of; may be left out where they fit only one.
        options: as ``create_model``'s; what the keys do not show (``small_input=True``).

    Raises:
        UnknownNameError: no such network or option.
        WeightsError: ``source`` cannot be read, fits no network or several, or ``target`` exists.
    """
    file = read(source)
    if model is None:
        names = sorted({fit.name for fit in identify(file)})
        if len(names) != 1:
            raise KeyMismatchError(
                f"{file.path} fits {' and '.join(names) or 'no network of the catalogue'}; "
                "say which with model=NAME (--model NAME)"
            )
        (model,) = names
    made = load_weights(model, file, **options)
    changed = changed_options(model, made.config)
    header = own.header(model, changed, made.pretrained_cfg, file.path.name)
    write(target, made.state_dict(), header, overwrite=overwrite)
    assert made.load_report is not None
    return made.load_report
