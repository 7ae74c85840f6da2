"""The networks of the tasks, and the function that creates any network of fleetfoot.

A network of a task is a head on a backbone. On a command line it is named by both, or by its head
alone for the backbone of its paper: ``ssdlite:fasternet_t0``, ``fcos:timm:resnet18``, ``ssdlite``.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from torch import nn

from fleetfoot import models
from fleetfoot.errors import UnknownNameError
from fleetfoot.tasks.network import Task, TaskNetwork


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

    def build(self, backbone: str, **options: Any) -> TaskNetwork:
        module, _, name = self.place.partition(":")
        kind: type[TaskNetwork] = getattr(import_module(module), name)
        known = inspect.signature(kind).parameters
        for option in options:
            if option not in known:
                raise UnknownNameError.of(f"option of {self.name}", option, known)
        return kind(backbone=backbone, **options)


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
    )
}


def is_task(name: str) -> bool:
    """Whether ``name`` means a network of a task.

    >>> is_task("fasternet_t0"), is_task("timm:resnet18")
    (False, False)
    """
    return name.partition(":")[0] in HEADS


def create_model(name: str, **options: Any) -> nn.Module:
    """Creates a network by name: ``models.create_model`` tells of those that classify. A network of
    a task also takes ``backbone``, unless its name states one, and the options of its head.

    Raises:
        UnknownNameError: there is no such network, backbone or option.
        ValueError: the name states one backbone and ``backbone`` another.
        WeightsError: the weights cannot be fetched, read, or used in this network.
    """
    name, _, stated = name.partition(":") if is_task(name) else (name, "", "")
    if name not in HEADS:
        return models.create_model(name, **options)
    head = HEADS[name]
    asked = options.pop("backbone", None)
    if stated and asked not in (None, stated):
        raise ValueError(f"{name}:{stated} states its backbone; backbone={asked!r} is another")
    options.setdefault("num_classes", head.num_classes)
    return head.build(stated or asked or head.backbone, **options)
