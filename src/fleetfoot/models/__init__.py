"""The catalogue: every network of the zoo by name, and the calls that make one.

A name that timm or torchvision uses means the same network here; other forms carry a suffix
(``shufflenet_v2_x1_0`` is torchvision's network, ``shufflenet_v2_x1_0_authors`` the authors').
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from torch import nn

from fleetfoot.errors import UnknownNameError
from fleetfoot.models import (
    fasternet,
    fastvit,
    mobilenet_v1,
    mobilenet_v2,
    mobilenet_v3,
    mobileone,
    peers,
)
from fleetfoot.models.base import Backbone, Config, FeatureExtractor, FeatureInfo
from fleetfoot.weights.pretrained import PRETRAINED

__all__ = [
    "FAMILIES",
    "Backbone",
    "Config",
    "Family",
    "FeatureExtractor",
    "FeatureInfo",
    "configure",
    "create_model",
    "list_models",
]


@dataclass(frozen=True)
class Family:
    """One file of ``models/``: its table of variants and the class that builds them."""

    name: str
    variants: Mapping[str, Config]
    build: Callable[[Any], Backbone]
    paper: str


FAMILIES = (
    Family(
        "fasternet", fasternet.VARIANTS, fasternet.FasterNet, "https://arxiv.org/abs/2303.03667"
    ),
    Family("fastvit", fastvit.VARIANTS, fastvit.FastViT, "https://arxiv.org/abs/2303.14189"),
    Family(
        "mobileone", mobileone.VARIANTS, mobileone.MobileOne, "https://arxiv.org/abs/2206.04040"
    ),
    Family(
        "mobilenet_v1",
        mobilenet_v1.VARIANTS,
        mobilenet_v1.MobileNetV1,
        "https://arxiv.org/abs/1704.04861",
    ),
    Family(
        "mobilenet_v2",
        mobilenet_v2.VARIANTS,
        mobilenet_v2.MobileNetV2,
        "https://arxiv.org/abs/1801.04381",
    ),
    Family(
        "mobilenet_v3",
        mobilenet_v3.VARIANTS,
        mobilenet_v3.MobileNetV3,
        "https://arxiv.org/abs/1905.02244",
    ),
)


def _catalogue(families: Sequence[Family]) -> dict[str, Family]:
    found: dict[str, Family] = {}
    for family in families:
        for name in family.variants:
            if name in found:
                raise ValueError(
                    f"the model name {name!r} is in two families: {found[name].name}, {family.name}"
                )
            found[name] = family
    return found


_FAMILY_OF = _catalogue(FAMILIES)


def list_models(
    pattern: str | Sequence[str] = "*", *, family: str | None = None, pretrained: bool = False
) -> list[str]:
    """Names in the catalogue, sorted by family and row.

    Args:
        pattern: one shell pattern or several (``"fastvit_sa*"``); a name that matches any is
        listed. family: only that family. pretrained: only names with published weights.

    Raises:
        UnknownNameError: no family has that name.
    """
    if family is not None and family not in {known.name for known in FAMILIES}:
        raise UnknownNameError.of("family", family, [known.name for known in FAMILIES])
    patterns = [pattern] if isinstance(pattern, str) else pattern
    return [
        name
        for name, owner in _FAMILY_OF.items()
        if (family is None or owner.name == family)
        and any(fnmatch.fnmatchcase(name, one) for one in patterns)
        and (not pretrained or name in PRETRAINED)
    ]


def _variant(name: str) -> tuple[Family, Config]:
    if name not in _FAMILY_OF:
        raise UnknownNameError.of(
            "model", name, _FAMILY_OF, hint="The command 'fleetfoot models' lists them all."
        )
    family = _FAMILY_OF[name]
    return family, family.variants[name]


def configure(name: str, **options: Any) -> Config:
    """The row ``name`` with ``options`` in place of its fields.

    Raises:
        UnknownNameError: no model has that name, or its family has no such option.
    """
    _, config = _variant(name)
    known = [field.name for field in fields(config)]
    for option in options:
        if option not in known:
            raise UnknownNameError.of(
                f"option of {name}", option, known, hint=f"{name} takes {', '.join(known)}."
            )
    return replace(config, **options)


def create_model(
    name: str,
    *,
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
    **options: Any,
) -> nn.Module:
    """A network by name, in train mode, as timm's function of that name makes one.

    ``options`` are fields of the family's config: ``num_classes`` (0: no classifier), ``in_chans``,
    ``drop_path_rate``, ``input_size`` and the family's own.
    """
    if peers.is_peer(name):
        return peers.create(name, features_only=features_only, out_indices=out_indices, **options)
    config = configure(name, **options)
    model = _variant(name)[0].build(config)
    return FeatureExtractor(model, out_indices) if features_only else model
