"""Facts about a network that need no run: its family, size and published accuracy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fleetfoot.errors import UnknownNameError
from fleetfoot.models import configure, family_of
from fleetfoot.models.peers import is_peer
from fleetfoot.network.sizes import DEFAULT_SIZE, Size, parse_size, size_text
from fleetfoot.tasks.catalogue import HEADS, is_task
from fleetfoot.weights.pretrained import PretrainedConfig
from fleetfoot.weights.top1 import published_top1, timm_top1


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Facts about a network that do not come from a run of it."""

    family: str = ""
    """The zoo's family, the library of a peer, the head of a network of a task, or "" for a user's
    own network."""
    top1: float | None = None
    """Published ImageNet-1k top-1, percent."""
    top1_source: str = ""
    task: str = ""
    """"classify" for networks of the zoo and for peers with a published top-1, "detect",
    "segment" or "hand" for networks of these tasks; "" if unknown."""
    preprocessing: PretrainedConfig | None = None
    """Preprocessing that the network's weights expect; None if unknown."""


def facts_of(name: str, size: Size) -> Facts:
    """The facts of a network of the zoo, timm, torchvision or a task, by its name, at ``size``.

    Raises:
        UnknownNameError: no network has that name.
    """
    if is_task(name):
        head = HEADS[name.partition(":")[0]]
        return Facts(family=head.name, task=head.task)
    top1, source = published(name, size)
    if is_peer(name):
        family, task = name.partition(":")[0], "classify" if top1 is not None else ""
    else:
        family, task = family_of(name), "classify"
    return Facts(family=family, top1=top1, top1_source=source, task=task)


def native_size(name: str) -> Size:
    """Input size at which the accuracy of a network of the zoo, timm or torchvision was published;
    224 if its library does not say.

    >>> native_size("fastvit_t8"), native_size("timm:vit_tiny_patch16_384")
    (256, 384)

    Raises:
        UnknownNameError: no network has that name.
    """
    library, _, bare = name.rpartition(":")
    if library == "timm":
        import timm

        if not timm.is_model(bare):
            raise UnknownNameError.of("timm model", bare, timm.list_models())
        found = timm.get_pretrained_cfg(bare)
        return parse_size((found.input_size[-2], found.input_size[-1])) if found else DEFAULT_SIZE
    if library == "torchvision":
        default = _torchvision_weights(bare)
        crop = list(getattr(default and default.transforms(), "crop_size", [DEFAULT_SIZE]))
        return parse_size((crop[0], crop[-1]))
    return configure(name).input_size


def published(name: str, size: Size) -> tuple[float | None, str]:
    """Published top-1 in percent, and its source; None and "" if no source is known. The source
    says so if the accuracy was published at another input size than ``size``."""
    library, _, bare = name.rpartition(":")
    if library == "timm" and isinstance(size, int) and (at_size := timm_top1(bare, size)):
        return at_size
    found = published_top1(name)
    if found is None:
        return None, ""
    top1, source = found
    own = native_size(name)
    return top1, source if own == size else f"{source}, at {size_text(own)} pixels"


def _torchvision_weights(bare: str) -> Any:
    """The default weights of a torchvision network, a member of its enum; None without weights.

    Raises:
        UnknownNameError: torchvision has no such network.
    """
    import torchvision

    if bare not in torchvision.models.list_models():
        raise UnknownNameError.of("torchvision model", bare, torchvision.models.list_models())
    return getattr(torchvision.models.get_model_weights(bare), "DEFAULT", None)
