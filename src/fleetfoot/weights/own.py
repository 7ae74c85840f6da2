"""The header of a file in our own layout: the network, its options, its input.

Keys and shapes do not show everything. TensorFlow's padding, the epsilon of a norm or the order of
the colours would be lost in a conversion, so a converted file states them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import fleetfoot
from fleetfoot.errors import CorruptFileError
from fleetfoot.weights.files import WeightsFile
from fleetfoot.weights.pretrained import PretrainedConfig, untrained

PREPROCESSING = (
    "input_size", "crop_pct", "resize_mode", "interpolation", "antialias", "mean", "std",
    "channel_order", "pixel_scale",
)  # fmt: skip
PEER_OPTIONS: Mapping[str, Any] = {
    "in_chans": 3, "img_size": 224, "drop_rate": 0.0, "drop_path_rate": 0.0,
}  # fmt: skip
"""Options that a peer's network takes from a header, with a value of the type of each."""
LABELS = "labels"
"""Entry with the names of the classes, in order: a JSON list of strings."""


def header(
    model: str, options: Mapping[str, Any], preprocessing: PretrainedConfig, source: str
) -> dict[str, str]:
    """Metadata of a safetensors file with weights of the network ``model``."""
    chosen = {name: getattr(preprocessing, name) for name in PREPROCESSING}
    return {
        "fleetfoot": fleetfoot.__version__,
        "model": model,
        "options": json.dumps(dict(options)),
        "preprocessing": json.dumps(chosen),
        "source": source,
        "licence": preprocessing.licence or "unknown",
    }


def is_checkpoint(metadata: Mapping[str, str]) -> bool:
    """Whether a file's header is that of a checkpoint (``train.checkpoint``)."""
    return "fleetfoot" in metadata and "training" in metadata


def options(file: WeightsFile, like: Any) -> dict[str, Any]:
    """The config's fields that the file's header states; ``like`` is the config of the network.

    Raises:
        CorruptFileError: the header does not state such fields, or states values of another type.
    """
    known = {field.name: getattr(like, field.name) for field in fields(like)}
    del known["num_classes"]  # the classifier's shape states it
    return _checked(file, "options", _object(file, "options"), known)


def peer_options(file: WeightsFile) -> dict[str, Any]:
    """The options of a network of timm or torchvision that the file's header states, if they are
    among ``PEER_OPTIONS``: others may name files or addresses, which a file of weights must not.

    Raises:
        CorruptFileError: the header does not state such options, or states values of another type.
    """
    stated = _object(file, "options")
    return _checked(
        file, "options", {k: v for k, v in stated.items() if k in PEER_OPTIONS}, PEER_OPTIONS
    )


def any_options(file: WeightsFile) -> dict[str, Any]:
    """The options of a network of a task that the file's header states, as plain values.

    Raises:
        CorruptFileError: the header's entry is no JSON object.
    """
    return _object(file, "options")


def preprocessing(file: WeightsFile) -> dict[str, Any]:
    """The fields of ``PretrainedConfig`` that the file's header states.

    Raises:
        CorruptFileError: the header does not state such fields, or states values of another type.
    """
    stated = _object(file, "preprocessing")
    size = (224, 224) if isinstance(stated.get("input_size"), tuple) else 224
    known = asdict(untrained(size))
    return _checked(file, "preprocessing", stated, {name: known[name] for name in PREPROCESSING})


def labels(file: WeightsFile) -> tuple[str, ...]:
    """The names of the classes that the file's header states; none if it states none.

    Raises:
        CorruptFileError: the header's entry is no list of names.
    """
    if "fleetfoot" not in file.metadata or LABELS not in file.metadata:
        return ()
    try:
        names = json.loads(file.metadata[LABELS])
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CorruptFileError(f"{file.path}: its header's {LABELS} are no list of names")
    return tuple(names)


def _object(file: WeightsFile, entry: str) -> dict[str, Any]:
    if "fleetfoot" not in file.metadata or entry not in file.metadata:
        return {}
    try:
        stated = json.loads(file.metadata[entry], object_hook=tuples)
    except ValueError as error:
        raise CorruptFileError(f"{file.path}: its header's {entry} is not JSON: {error}") from error
    if not isinstance(stated, dict):
        raise CorruptFileError(f"{file.path}: its header's {entry} are unsound: {stated}")
    return stated


def _checked(
    file: WeightsFile, entry: str, stated: dict[str, Any], known: Mapping[str, Any]
) -> dict[str, Any]:
    wrong = [name for name, value in stated.items() if not _alike(value, known.get(name))]
    if wrong:
        raise CorruptFileError(f"{file.path}: its header's {entry} are unsound: {', '.join(wrong)}")
    return stated


def tuples(stated: dict[str, Any]) -> dict[str, Any]:
    """The object with each of its lists as a tuple, as the fields of a config are."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in stated.items()}


def _alike(value: Any, own: Any) -> bool:
    if isinstance(own, tuple) and isinstance(value, tuple):
        return len(value) == len(own) and all(map(_alike, value, own))
    return type(value) is type(own)
