"""Loading weights into a network of the zoo: options, comparison, report."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from fleetfoot.errors import KeyMismatchError
from fleetfoot.models.base import Backbone
from fleetfoot.models.catalogue import configure, skeleton, variant
from fleetfoot.models.identification import identify
from fleetfoot.weights import own
from fleetfoot.weights.files import WeightsFile
from fleetfoot.weights.loading import translate
from fleetfoot.weights.pretrained import PretrainedConfig, of_file

logger = logging.getLogger("fleetfoot")


def load_weights(
    name: str, file: WeightsFile, *, published: PretrainedConfig | None = None, **options: Any
) -> Backbone:
    """The network ``name`` with the tensors of ``file``; ``create_model`` says how options combine.

    Raises:
        UnknownNameError: there is no such network or option.
        KeyMismatchError: the tensors are not those of this network.
    """
    family, row = variant(name)
    configure(name, **options)  # a wrong option is reported before anything else
    translation = translate(file, family.name)
    layout = translation.layout
    if published:  # its row states what the keys do not
        layout = replace(layout, note="")
        translation = replace(translation, layout=layout)
    needed = {
        **layout.options,
        **(published.options if published else {}),
        **own.options(file, row),
    }
    notes = []
    for option, value in needed.items():
        if option not in options and getattr(row, option) != value:
            options[option] = value
            notes.append(f"{option}={value!r}, which these weights need")
        elif options.get(option, value) != value:
            notes.append(f"{option}={options[option]!r} as requested; these weights need {value!r}")
    classes = translation.num_classes
    if "num_classes" not in options and classes not in (0, row.num_classes):
        options["num_classes"] = classes
        notes.append(f"num_classes={classes}, as in the file")
    asked = {"input_size": options["input_size"]} if "input_size" in options else {}
    config = configure(name, **options)
    fresh = "num_classes" in options and config.num_classes != classes
    if fresh and config.num_classes:
        notes.append(f"a fresh classifier of {config.num_classes} classes; the file has {classes}")
    # compared before anything is built in memory: a file may ask for a network of any size
    if problems := translation.problems(skeleton(family, config), fresh_classifier=fresh):
        raise KeyMismatchError(
            f"{file.path} (layout {layout.name}) is no {name} of this configuration:{problems}"
            f"{_hint(name, file, classes)}"
        )
    model = family.build(config)
    report = translation.into(model, fresh_classifier=fresh, notes=notes)
    model.load_report = report
    model.pretrained_cfg = published or of_file(
        str(file.path),
        name,
        layout.name,
        {**layout.preprocessing, **own.preprocessing(file), **asked},
        config.input_size,
    )
    logger.log(logging.WARNING if report.notes else logging.INFO, "%s: %s", name, report)
    return model


def _hint(name: str, file: WeightsFile, classes: int) -> str:
    fits = [fit.name for fit in identify(file) if fit.name != name]
    if fits:
        return f"\n  These are weights of {' or '.join(fits)}."
    if not classes:
        return "\n  The file has no classifier: num_classes=0 builds none, N a fresh one."
    return ""
