"""Networks of timm and torchvision by the zoo's own calls: ``timm:ghostnet_100``,
``torchvision:resnet50``.

They are what the zoo is compared with; they come as their libraries build them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from fleetfoot.errors import UnknownNameError

PREFIXES = ("timm", "torchvision")


def is_peer(name: str) -> bool:
    """Whether ``name`` carries a library's prefix."""
    return ":" in name


def create(
    name: str,
    *,
    pretrained: bool = False,
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
    **options: Any,
) -> nn.Module:
    """The library's own network, in train mode.

    Raises:
        UnknownNameError: the prefix is no library's, or the library has no such network.
        ValueError: an option that the library's network does not take.
    """
    library, _, bare = name.partition(":")
    if library == "timm":
        import timm

        if not timm.is_model(bare):
            raise UnknownNameError.of("timm model", bare, timm.list_models())
        if features_only:
            options |= {"features_only": True}
            if out_indices is not None:
                options["out_indices"] = tuple(out_indices)
        made: nn.Module = timm.create_model(bare, pretrained=pretrained, **options)
        return made
    if library == "torchvision":
        import torchvision

        if bare not in torchvision.models.list_models():
            raise UnknownNameError.of("torchvision model", bare, torchvision.models.list_models())
        if features_only or out_indices is not None:
            raise ValueError(
                f"{name}: features_only is not offered for torchvision's networks; "
                "use torchvision.models.feature_extraction.create_feature_extractor"
            )
        weights = "DEFAULT" if pretrained else None
        made = torchvision.models.get_model(bare, weights=weights, **options)
        return made
    raise UnknownNameError.of("library prefix", library, PREFIXES)
