"""A network as it is measured: built, folded and counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from fleetfoot.count import Trace, count
from fleetfoot.measure.record import Fold
from fleetfoot.network import Size, Workload, resolve
from fleetfoot.transform import fuse

NOT_FOLDED = Fold(folded=0, left=0, max_abs=0.0, max_rel=0.0)


@dataclass(frozen=True, kw_only=True)
class Network:
    """A workload in the form that runs, and what that form costs."""

    workload: Workload
    folded: bool
    fold: Fold
    params: int
    macs: int
    """Multiply-accumulates for one image."""
    memory_access_bytes: int
    """Input maps, output maps and weights of every layer, for one image."""
    notices: tuple[str, ...] = ()
    """What a reader of the figures should know."""

    @classmethod
    def counted(
        cls, workload: Workload, cost: Trace, *, folded: bool, fold: Fold = NOT_FOLDED
    ) -> Network:
        """The workload with the figures of its trace, which is that of one image."""
        notices = []
        if cost.unknown:
            notices.append(
                f"{workload.name}: MACs leave out operators with no formula: {cost.unknown}"
            )
        return cls(
            workload=workload,
            folded=folded,
            fold=fold,
            params=cost.params,
            macs=cost.macs,
            memory_access_bytes=cost.memory_access_bytes,
            notices=tuple(notices),
        )

    @property
    def model(self) -> nn.Module:
        return self.workload.module

    @property
    def channels(self) -> int:
        """Channels of the input."""
        return self.workload.image("measuring").shape[1]

    def record(self) -> dict[str, Any]:
        """The facts that a run's journal keeps."""
        return {
            "folded": self.folded,
            "fold": self.fold,
            "params": self.params,
            "macs": self.macs,
            "memory_access_bytes": self.memory_access_bytes,
            "channels": self.channels,
        }


def prepare(name: str, size: Size, fold: bool, *, channels: int | None = None) -> Network:
    """The network of that name in eval mode, with weights drawn from a fixed seed: times do not
    depend on their values, as long as no map runs into denormal numbers, and with these none does.

    Args:
        name: any form that ``network.resolve`` takes.
        channels: of the image. Default: what the first layer takes.

    Raises:
        UnknownNameError, FactoryError, WeightsError: as ``network.resolve``.
        FoldError: folding it cannot be proved.
        EngineError: it does not take one image.
        ValueError: it cannot run at ``size``.
    """
    return prepared(resolve(name, size=size, channels=channels), fold)


def built(
    name: str, build: Callable[[], nn.Module], *, size: Size, channels: int = 3, fold: bool
) -> Network:
    """What ``build`` gives, in eval mode, its weights drawn from a fixed seed, for an input (1,
    channels, H, W).

    Raises:
        FoldError, ValueError: as ``prepared``.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build()
    return prepared(Workload.of(name, module, size=size, channels=channels), fold)


def prepared(workload: Workload, fold: bool) -> Network:
    """The workload folded, if asked for, and counted.

    Raises:
        FoldError: folding it cannot be proved.
        EngineError: it does not take one image.
        ValueError: it cannot run on its input.
    """
    example, record = workload.image("measuring"), NOT_FOLDED
    if fold:
        fused = fuse(workload.module, example)
        workload = replace(workload, module=fused.model)
        record = Fold(
            folded=len(fused.folded),
            left=len(fused.left),
            max_abs=fused.certificate.max_abs,
            max_rel=fused.certificate.max_rel,
        )
        if (returned := fused.certificate.returned.max_rel) is not None:
            record["returned_rel"] = returned
    return Network.counted(workload, count(workload.module, example), folded=fold, fold=record)
