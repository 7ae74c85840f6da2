"""A data set of plain red, green and blue pictures, and a network that tells them apart."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import nn

from fleetfoot.data.dataset import Split
from fleetfoot.data.sources import Source
from fleetfoot.evaluate.classifier import evaluate
from fleetfoot.evaluate.matching import match
from fleetfoot.evaluate.record import Evaluation
from fleetfoot.evaluate.subject import of_network
from fleetfoot.network import Workload
from fleetfoot.tasks.classify import Labels

CLASSES = ("red", "green", "blue")
LABELS = Labels(CLASSES)


class Pictures:
    """Files in memory: a colour's name, or bytes."""

    def __init__(self, *given: str | bytes) -> None:
        self._given = given

    def __len__(self) -> int:
        return len(self._given)

    def __getitem__(self, index: int) -> Source:
        return Source(self.name(index), png(self._given[index]))

    def name(self, index: int) -> str:
        return f"{index}.png"

    def sizes(self) -> np.ndarray:
        return np.array([len(png(one)) for one in self._given])


def png(given: str | bytes) -> bytes:
    if isinstance(given, bytes):
        return given
    file = io.BytesIO()
    Image.new("RGB", (40, 30), given).save(file, "PNG")
    return file.getvalue()


def split(*pictures: tuple[str | bytes, int]) -> Split:
    """Pictures by colour, each with its true class."""
    return Split(
        "test", Pictures(*(one for one, _ in pictures)), np.array([n for _, n in pictures])
    )


FIVE = split(("red", 0), ("lime", 1), ("blue", 2), ("red", 2), ("blue", 2))
"""The fourth picture is red and said to be blue."""


def network(classes: int = 3) -> Workload:
    """Logits are the mean red, green and blue, and zeros for further classes."""
    linear = nn.Linear(3, classes, bias=False)
    with torch.no_grad():
        linear.weight.copy_(torch.eye(classes, 3))
    made = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)
    return Workload.of("colours", made, size=32)


def evaluation(given: Split = FIVE, *, labels: Labels = LABELS, **options: object) -> Evaluation:
    """The network's evaluation on these pictures, by eager."""
    with of_network(network(len(labels.names)), batch=2) as subject:
        matched = match("colours", CLASSES, "net", labels)
        (made,) = evaluate(subject, "colours", given, matched, **options)
    return made
