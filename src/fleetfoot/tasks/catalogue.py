"""The networks of the tasks, and the function that creates any network of fleetfoot.

A network of a task is a head on a backbone. On a command line it is named by both, or by its head
alone for the backbone of its paper: ``ssdlite:fasternet_t0``, ``fcos:timm:resnet18``, ``ssdlite``.
"""

from __future__ import annotations

import inspect
import os
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from fleetfoot import models
from fleetfoot.errors import UnknownNameError
from fleetfoot.models import peers
from fleetfoot.tasks.loading import with_weights
from fleetfoot.tasks.network import Task, TaskNetwork
from fleetfoot.weights import hub
from fleetfoot.weights.files import read
from fleetfoot.weights.pretrained import choose


@dataclass(frozen=True, kw_only=True)
class Head:
    """A kind of network that takes any backbone."""

    name: str
    task: Task
    place: str
    """Module and class, ``module:Class``; the class takes ``backbone`` (a name),
    ``num_classes`` and its own options by keyword."""
    backbone: str
    """The backbone that is meant if none is named."""
    num_classes: int
    """Classes of the data set that its paper or its published weights are for."""
    paper: str

    @property
    def kind(self) -> type[TaskNetwork]:
        """The class of the network."""
        module, _, name = self.place.partition(":")
        found: type[TaskNetwork] = getattr(import_module(module), name)
        return found

    @property
    def options(self) -> tuple[str, ...]:
        """Names of what the class takes."""
        return tuple(inspect.signature(self.kind).parameters)

    def build(self, backbone: str, **options: Any) -> TaskNetwork:
        """The network on a backbone.

        Raises:
            UnknownNameError: the class does not take an option.
        """
        for name in options:
            if name not in self.options:
                raise UnknownNameError.of(f"option of {self.name}", name, self.options)
        return self.kind(backbone=backbone, **options)


HEADS: dict[str, Head] = {
    row.name: row
    for row in (
        Head(
            name="ssdlite",
            task="detect",
            place="fleetfoot.tasks.detect.ssdlite:SSDLite",
            backbone="mobilenetv3_large_100",
            num_classes=90,
            paper="https://arxiv.org/abs/1905.02244",
        ),
        Head(
            name="onestage",
            task="detect",
            place="fleetfoot.tasks.detect.onestage:OneStage",
            backbone="fasternet_t0",
            num_classes=80,
            paper="https://arxiv.org/abs/2108.07755",
        ),
        Head(
            name="fcos",
            task="detect",
            place="fleetfoot.tasks.detect.fcos:FCOS",
            backbone="timm:resnet50",
            num_classes=80,
            paper="https://arxiv.org/abs/1904.01355",
        ),
        Head(
            name="fasterrcnn",
            task="detect",
            place="fleetfoot.tasks.detect.rcnn:FasterRCNN",
            backbone="timm:resnet50",
            num_classes=80,
            paper="https://arxiv.org/abs/1506.01497",
        ),
        Head(
            name="maskrcnn",
            task="detect",
            place="fleetfoot.tasks.detect.rcnn:MaskRCNN",
            backbone="timm:resnet50",
            num_classes=80,
            paper="https://arxiv.org/abs/1703.06870",
        ),
        Head(
            name="lraspp",
            task="segment",
            place="fleetfoot.tasks.segment.lraspp:LRASPP",
            backbone="mobilenetv3_large_100",
            num_classes=21,
            paper="https://arxiv.org/abs/1905.02244",
        ),
        Head(
            name="deeplabv3",
            task="segment",
            place="fleetfoot.tasks.segment.deeplabv3:DeepLabV3",
            backbone="mobilenetv2_100",
            num_classes=21,
            paper="https://arxiv.org/abs/1706.05587",
        ),
        Head(
            name="semantic_fpn",
            task="segment",
            place="fleetfoot.tasks.segment.semantic_fpn:SemanticFPN",
            backbone="fastvit_sa12",
            num_classes=150,
            paper="https://arxiv.org/abs/1901.02446",
        ),
        Head(
            name="handmesh",
            task="hand",
            place="fleetfoot.tasks.hand.network:HandMesh",
            backbone="fastvit_ma36",
            num_classes=0,
            paper="https://arxiv.org/abs/2403.01813",
        ),
    )
}


def is_task(name: str) -> bool:
    """Whether ``name`` means a network of a task.

    >>> is_task("fasternet_t0"), is_task("timm:resnet18")
    (False, False)
    """
    return name.partition(":")[0] in HEADS


def create_model(
    name: str,
    *,
    pretrained: bool | str = False,
    weights: str | os.PathLike[str] | None = None,
    key: str | None = None,
    accept_licence: bool = False,
    **options: Any,
) -> nn.Module:
    """Creates a network by name: ``models.create_model`` tells of those that classify. A network of
    a task also takes ``backbone``, unless its name states one, and the options of its head.

    Args:
        weights: a file of weights of the whole network, for example a checkpoint. Options that its
            header states are set unless given here; another ``num_classes`` than the file's makes
            fresh tensors wherever their shape depends on it.

    Raises:
        UnknownNameError: there is no such network, backbone or option.
        ValueError: the name states one backbone and ``backbone`` another.
        WeightsError: the weights cannot be fetched, read, or used in this network.
    """
    if not is_task(name):
        return models.create_model(
            name,
            pretrained=pretrained,
            weights=weights,
            key=key,
            accept_licence=accept_licence,
            **options,
        )
    whole = full_name(name, options.pop("backbone", None))
    head, _, backbone = whole.partition(":")
    if pretrained:
        raise ValueError(
            f"nobody published weights of {whole} that could be fetched; pretrained_backbone=True "
            "fetches those of its backbone"
        )
    if key is not None and weights is None:
        raise ValueError(
            f"key={key!r} (--key) is a part of a file of weights; give weights=FILE too"
        )
    build = partial(_built, HEADS[head], backbone, accept_licence)
    if weights is not None:
        return with_weights(whole, build, read(weights, key), options)
    return build(**options)


def full_name(name: str, backbone: str | None = None) -> str:
    """Head and backbone of a network of a task.

    Raises:
        ValueError: the name states one backbone and ``backbone`` another.
    """
    head, _, stated = name.partition(":")
    if stated and backbone not in (None, stated):
        raise ValueError(f"{name} states its backbone; backbone={backbone!r} is another")
    return f"{head}:{stated or backbone or HEADS[head].backbone}"


def _built(head: Head, backbone: str, accept_licence: bool, **options: Any) -> TaskNetwork:
    chosen = {"num_classes": head.num_classes, **options}
    if accept_licence and (tag := chosen.pop("pretrained_backbone", False)):
        chosen["backbone_weights"] = _fetched(backbone, tag)
    return head.build(backbone, **chosen)


def _fetched(backbone: str, tag: bool | str) -> Path:
    """The file of a backbone's published weights, whose licence was accepted."""
    wanted = tag if isinstance(tag, str) else None
    if not peers.is_peer(backbone):
        return hub.fetch(choose(backbone, wanted), accept_licence=True)
    rows = [row for row in peers.published(backbone) if wanted in (None, row.tag)]
    if not rows:
        raise UnknownNameError(f"{backbone} has no weights {wanted or ''} that could be fetched")
    return hub.fetch(rows[0], accept_licence=True)
