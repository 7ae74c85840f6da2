"""Files of weights of the tasks' networks: what their header says of the network, and their tensors
in it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from fleetfoot.errors import KeyMismatchError
from fleetfoot.models.peers import is_peer
from fleetfoot.tasks.network import TaskNetwork
from fleetfoot.weights import own
from fleetfoot.weights.files import WeightsFile
from fleetfoot.weights.loading import fitting, own_translations

log = logging.getLogger("fleetfoot")

SOURCES = ("backbone", "pretrained_backbone", "backbone_weights", "weights")
"""Options that name a network or a file: a file of weights must not choose what else is read."""
TOPOLOGY = "topology"
"""An option that names a file too, unless it is an object."""
BACKBONE = "backbone_options"

Build = Callable[..., TaskNetwork]
"""Builds the network with these options."""


def with_weights(
    name: str, build: Build, file: WeightsFile, options: Mapping[str, Any]
) -> TaskNetwork:
    """The network with a file's tensors, and the options that the file's header states unless
    others were asked for. Another number of classes than the file's gives fresh tensors wherever
    their shape depends on it.

    Args:
        name: head and backbone.
        options: what was asked for.

    Raises:
        KeyMismatchError: the tensors, or the options that the header states, are not those of this
            network.
        CorruptFileError: a value is beyond what float32 holds.
    """
    labels = own.labels(file)
    stated = _options(name, file)
    if labels:
        stated["num_classes"] = len(labels)
    asked = {**stated, **options}
    try:
        model = build(**asked)
    except (TypeError, ValueError) as error:
        if stated.keys() <= options.keys():
            raise
        raise KeyMismatchError(
            f"{file.path} does not state options of {name} as this version knows them: {error}"
        ) from error
    expected = model.state_dict()
    fresh: tuple[str, ...] = ()
    if stated.get("num_classes", model.num_classes) != model.num_classes:
        before = _shapes(build, {**asked, "num_classes": stated["num_classes"]})
        fresh = tuple(key for key, tensor in expected.items() if before.get(key) != tensor.shape)
    found = own_translations(type(model).__name__, expected, file)
    fit = fitting(found, expected, without=fresh or None)
    notes = [f"fresh for {model.num_classes} classes instead of {len(labels)}"] if fresh else []
    report = fit.into(model, without=fresh or None, notes=notes)
    log.log(logging.WARNING if report.notes else logging.INFO, "%s: %s", name, report)
    model.pretrained_cfg = replace(
        model.pretrained_cfg,
        source="file",
        repo=str(file.path),
        labels=labels if len(labels) == model.num_classes else (),
        **({} if "input_size" in options else own.preprocessing(file)),
    )
    vars(model)["load_report"] = report
    return model


def _shapes(build: Build, options: Mapping[str, Any]) -> dict[str, torch.Size]:
    """Shape of each tensor of the network with these options."""
    try:
        with torch.device("meta"):
            made = build(**options)
    except (NotImplementedError, RuntimeError):  # RegNet computes its widths from tensors
        made = build(**options)
    return {key: tensor.shape for key, tensor in made.state_dict().items()}


def _options(name: str, file: WeightsFile) -> dict[str, Any]:
    """The options that a file's header states, without those that would have something else
    read."""
    stated = {k: v for k, v in own.any_options(file).items() if k not in SOURCES}
    if isinstance(stated.get(TOPOLOGY), str):
        del stated[TOPOLOGY]
    if isinstance(stated.get(BACKBONE), dict) and is_peer(name.partition(":")[2]):
        known = own.PEER_OPTIONS
        stated[BACKBONE] = {k: v for k, v in stated[BACKBONE].items() if k in known}
    return stated
