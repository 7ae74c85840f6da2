"""A network as it is measured: built, folded, counted, and its published accuracy beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fleetfoot.copying import evaluated_
from fleetfoot.count import count
from fleetfoot.measure.record import Fold
from fleetfoot.models import create_model
from fleetfoot.network import published
from fleetfoot.transform import fuse

NOT_FOLDED = Fold(folded=0, left=0, max_abs=0.0, max_rel=0.0)


@dataclass(frozen=True, kw_only=True)
class Network:
    """What runs, and what is known of it. Costs are those of the network that runs, folded or
    not."""

    model: nn.Module
    folded: bool
    fold: Fold
    params: int
    macs: int
    """Of one image, as is the next."""
    memory_access_bytes: int
    top1: float | None
    """Published ImageNet-1k top-1, percent."""
    top1_source: str
    channels: int = 3
    """Of its input."""
    notices: tuple[str, ...] = ()
    """What a reader of the figures should know."""


def prepare(name: str, size: int, fold: bool) -> Network:
    """The network of that name in eval mode, with weights drawn from a fixed seed: times do not
    depend on their values, as long as no map runs into denormal numbers, and with these none does.

    Raises:
        UnknownNameError: no network has that name.
        FoldError: folding it cannot be proved.
        ValueError: it cannot run at ``size``.
    """
    top1, source = published(name, size)
    network = built(name, lambda: create_model(name), size=size, fold=fold)
    return replace(network, top1=top1, top1_source=source)


def built(
    name: str, build: Callable[[], nn.Module], *, size: int, channels: int = 3, fold: bool
) -> Network:
    """What ``build`` gives, in eval mode, its weights drawn from a fixed seed, for an input (1,
    channels, size, size).

    Raises:
        FoldError, ValueError: as ``prepared``.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = evaluated_(build())
    return prepared(model, torch.zeros(1, channels, size, size), fold, name)


def prepared(model: nn.Module, example: Tensor, fold: bool, name: str) -> Network:
    """``model``, in eval mode, folded and counted; of no published accuracy. ``name`` is what
    notices call it.

    Raises:
        FoldError: folding it cannot be proved.
        ValueError: it cannot run on ``example``.
    """
    record = NOT_FOLDED
    if fold:
        fused = fuse(model, example)
        model = fused.model
        record = Fold(
            folded=len(fused.folded),
            left=len(fused.left),
            max_abs=fused.certificate.max_abs,
            max_rel=fused.certificate.max_rel,
        )
    cost = count(model, example)
    notices = []
    if cost.unknown:
        notices.append(f"{name}: MACs leave out operators with no formula: {cost.unknown}")
    return Network(
        model=model,
        folded=fold,
        fold=record,
        params=cost.params,
        macs=cost.macs,
        memory_access_bytes=cost.memory_access_bytes,
        top1=None,
        top1_source="",
        channels=example.shape[1],
        notices=tuple(notices),
    )
