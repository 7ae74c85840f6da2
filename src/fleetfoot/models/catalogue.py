"""The catalogue: every network of the zoo by name, and its facts, known without running it.

A name that timm or torchvision uses means the same network here; other forms carry a suffix
(``shufflenet_v2_x1_0`` is torchvision's network, ``shufflenet_v2_x1_0_authors`` the authors').
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from fleetfoot.errors import UnknownNameError
from fleetfoot.models import (
    cyclemlp,
    fasternet,
    fastvit,
    micronet,
    mobile_former,
    mobilenet_v1,
    mobilenet_v2,
    mobilenet_v3,
    mobileone,
    peers,
    shufflenet_v1,
    shufflenet_v2,
    shufflenet_v2_large,
    shufflenet_v2_plus,
)
from fleetfoot.models.base import Backbone, Config, FeatureInfo
from fleetfoot.weights.pretrained import PRETRAINED, PretrainedConfig
from fleetfoot.weights.top1 import published_top1


@dataclass(frozen=True)
class Family:
    """One file of ``models/``: its table of variants and the class that builds them."""

    name: str
    variants: Mapping[str, Config]
    build: Callable[[Any], Backbone]
    paper: str


FAMILIES = tuple(
    Family(name, file.VARIANTS, build, f"https://arxiv.org/abs/{paper}")
    for name, file, build, paper in (
        ("fasternet", fasternet, fasternet.FasterNet, "2303.03667"),
        ("fastvit", fastvit, fastvit.FastViT, "2303.14189"),
        ("mobileone", mobileone, mobileone.MobileOne, "2206.04040"),
        ("mobilenet_v1", mobilenet_v1, mobilenet_v1.MobileNetV1, "1704.04861"),
        ("mobilenet_v2", mobilenet_v2, mobilenet_v2.MobileNetV2, "1801.04381"),
        ("mobilenet_v3", mobilenet_v3, mobilenet_v3.MobileNetV3, "1905.02244"),
        ("shufflenet_v1", shufflenet_v1, shufflenet_v1.ShuffleNetV1, "1707.01083"),
        ("shufflenet_v2", shufflenet_v2, shufflenet_v2.ShuffleNetV2, "1807.11164"),
        (
            "shufflenet_v2_plus",
            shufflenet_v2_plus,
            shufflenet_v2_plus.ShuffleNetV2Plus,
            "1904.00420",
        ),
        (
            "shufflenet_v2_large",
            shufflenet_v2_large,
            shufflenet_v2_large.ShuffleNetV2Large,
            "1807.11164",
        ),
        ("cyclemlp", cyclemlp, cyclemlp.CycleMLP, "2107.10224"),
        ("micronet", micronet, micronet.MicroNet, "2108.05894"),
        ("mobile_former", mobile_former, mobile_former.MobileFormer, "2108.05895"),
    )
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

    >>> list_models("fasternet_t*")
    ['fasternet_t0', 'fasternet_t1', 'fasternet_t2']

    Args:
        pattern: one shell pattern or several (``"fastvit_sa*"``); a name that matches any is
            listed.
        family: list only this family.
        pretrained: list only names with published weights.

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


def variant(name: str) -> tuple[Family, Config]:
    """The family of the network ``name``, and its row in the family's table.

    Raises:
        UnknownNameError: no model has that name.
    """
    if name not in _FAMILY_OF:
        hint = "The command 'fleetfoot models' lists them all."
        if theirs := peers.of_name(name):
            hint = f"Other libraries have it: {' and '.join(theirs)}. {hint}"
        raise UnknownNameError.of("model", name, _FAMILY_OF, hint=hint)
    family = _FAMILY_OF[name]
    return family, family.variants[name]


def family_of(name: str) -> str:
    """The family of a network of the catalogue.

    Raises:
        UnknownNameError: no model has that name.
    """
    return variant(name)[0].name


def configure(name: str, **options: Any) -> Config:
    """The config of the network ``name``, with ``options`` in place of its fields.

    >>> configure("fasternet_t0", num_classes=10).num_classes
    10

    Raises:
        UnknownNameError: no model has that name, or its family has no such option.
    """
    _, config = variant(name)
    known = [field.name for field in fields(config)]
    for option in options:
        if option not in known:
            raise UnknownNameError.of(
                f"option of {name}", option, known, hint=f"{name} takes {', '.join(known)}."
            )
    return replace(config, **options)


def changed_options(name: str, config: Config) -> dict[str, Any]:
    """The fields of ``config`` that differ from the row ``name``, except ``num_classes``, which the
    classifier's shape states."""
    row = configure(name)
    return {
        field.name: getattr(config, field.name)
        for field in fields(row)
        if getattr(config, field.name) != getattr(row, field.name) and field.name != "num_classes"
    }


def skeleton(family: Family, config: Config) -> Mapping[str, Tensor]:
    """Names and shapes of a network's tensors, without allocating them."""
    with torch.device("meta"):
        return family.build(config).state_dict()


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """Facts about a network, known without running it."""

    name: str
    family: str
    """Name of the zoo's family, or of a peer's library."""
    paper: str
    """Address of the family's paper; "" for a peer."""
    params: int
    """Number of learned values in the training form."""
    config: Config | None
    """The network's config; ``None`` for a peer."""
    feature_info: tuple[FeatureInfo, ...]
    """The network's feature maps; empty for a peer."""
    pretrained: tuple[PretrainedConfig, ...]
    """Published weights, the default first."""
    top1: float | None
    """Published ImageNet-1k top-1 in percent; ``None`` if there is none."""
    top1_source: str


def model_info(name: str) -> ModelInfo:
    """Facts about a network: size, feature maps, weights and their terms, published accuracy.

    >>> info = model_info("fasternet_t0")
    >>> info.params, info.top1
    (3905500, 71.918)
    >>> [row.reduction for row in info.feature_info]
    [4, 8, 16, 32]

    Raises:
        UnknownNameError: no model has that name.
    """
    if peers.is_peer(name):
        built: nn.Module = peers.skeleton(name)
        known: dict[str, Any] = {
            "family": name.partition(":")[0],
            "paper": "",
            "config": None,
            "feature_info": (),
            "pretrained": peers.published(name),
        }
    else:
        family, config = variant(name)
        with torch.device("meta"):
            built = family.build(config)
        known = {
            "family": family.name,
            "paper": family.paper,
            "config": config,
            "feature_info": built.feature_info,
            "pretrained": PRETRAINED.get(name, ()),
        }
    top1, source = published_top1(name) or (None, "")
    params = sum(p.numel() for p in built.parameters())
    return ModelInfo(name=name, params=params, top1=top1, top1_source=source, **known)
