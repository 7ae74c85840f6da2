"""The backbone of a task's network: any network of the zoo or of timm, as feature maps at the
strides that a head reads."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import nn

from fleetfoot import models
from fleetfoot.models import peers
from fleetfoot.weights.pretrained import PretrainedConfig

OF_WEIGHTS = ("pretrained_backbone", "backbone_weights")
"""Arguments of a task's network that say where values come from, and not what the network is."""


def feature_maps(
    name: str,
    strides: Sequence[int],
    *,
    pretrained: bool | str = False,
    weights: str | os.PathLike[str] | None = None,
    in_chans: int = 3,
    options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """The network ``name`` without its head; its output is the list of its maps at ``strides``. If
    several maps have one stride, the last of them is taken.

    Args:
        pretrained: ``True`` for the backbone's default published weights, or another tag.
        weights: a file of weights instead.
        options: fields of the backbone's config, for example ``drop_path_rate``.

    Raises:
        UnknownNameError: there is no such network, option or tag.
        ValueError: the network has no map at one of the strides, or its maps have the channels
            last.
        WeightsError: the weights cannot be fetched, read, or used in this network.
    """
    chosen = {"in_chans": in_chans, **(options or {})}
    everything = _without_memory(name, chosen)
    found = list(everything.feature_info.reduction())
    if any(stride not in found for stride in strides):
        raise ValueError(
            f"backbone {name!r} has feature maps at strides {found}, and the head reads "
            f"{list(strides)}; choose a backbone that has them, for example 'fasternet_t0'"
        )
    if str(getattr(everything, "output_fmt", "")).upper().endswith("NHWC"):
        raise ValueError(
            f"backbone {name!r} gives feature maps whose channels come last, and the heads read "
            "(B, C, H, W); choose another, for example 'fasternet_t0'"
        )
    return models.create_model(
        name,
        pretrained=pretrained,
        weights=weights,
        features_only=True,
        out_indices=[len(found) - 1 - found[::-1].index(stride) for stride in strides],
        **chosen,
    )


def _without_memory(name: str, options: Mapping[str, Any]) -> Any:
    """The network with all of its maps, and without the memory of its weights if it can be built
    so. RegNet, for example, computes its widths from tensors."""
    try:
        with torch.device("meta"):
            return models.create_model(name, features_only=True, **options)
    except (NotImplementedError, RuntimeError):
        return models.create_model(name, features_only=True, **options)


def preprocessing(backbone: nn.Module, **fields: Any) -> PretrainedConfig:
    """The preprocessing of a network on ``backbone``: that of the backbone's weights with
    ``fields`` in place. The terms of those weights stay; their origin and score are the
    backbone's own."""
    stated: PretrainedConfig = backbone.pretrained_cfg  # type: ignore[assignment]
    of_the_backbone: dict[str, Any] = {
        "tag": "",
        "source": "none",
        "repo": "",
        "filename": "",
        "revision": "",
        "sha256": "",
        "top1": None,
        "top1_source": "",
        "layout": "",
        "options": {},
        "labels": (),
    }
    return replace(stated, **{**of_the_backbone, "crop_pct": 1.0, **fields})


def options_of(network: type[nn.Module], given: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint must state to build the same network again: those of the arguments
    ``given`` whose value is not the default, without the places of weights."""
    parameters = inspect.signature(network).parameters
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in given.items()
        if name in parameters and name not in OF_WEIGHTS and value != parameters[name].default
    }


def stated(
    name: str,
    backbone: nn.Module,
    given: Mapping[str, Any] | None,
    always: Sequence[str] = (),
) -> dict[str, dict[str, Any]]:
    """The option ``backbone_options`` that builds the same ``backbone`` again without its weights:
    those ``given``, fields of its config that the weights have set, and the fields named in
    ``always`` if it has them; empty if there are none."""
    options = dict(given or {})
    if not peers.is_peer(name):
        row, built = models.configure(name), backbone.config
        for field in fields(row):
            value: Any = getattr(built, field.name)
            if field.name in ("num_classes", "in_chans"):
                continue
            if field.name in always or value != getattr(row, field.name):
                options[field.name] = value
    return {"backbone_options": options} if options else {}


def sides(input_size: int | Sequence[int], multiple: int = 1) -> tuple[int, int]:
    """Height and width of an input, stated as one number or as two.

    >>> sides(640, 32), sides((384, 640), 32)
    ((640, 640), (384, 640))

    Raises:
        ValueError: they are not one or two positive multiples of ``multiple``.
    """
    stated = (input_size, input_size) if isinstance(input_size, int) else tuple(input_size)
    if len(stated) != 2 or any(side < 1 or side % multiple for side in stated):
        of = f"multiples of {multiple}" if multiple > 1 else "positive"
        raise ValueError(
            f"input_size must be a number or (height, width), {of}, not {input_size}"
            + (f"; near it: {_near(stated, multiple)}" if multiple > 1 else "")
        )
    return stated[0], stated[1]


def _near(stated: Sequence[int], multiple: int) -> str:
    return " × ".join(str(max(1, round(side / multiple)) * multiple) for side in stated)
