"""A teacher: any network that fleetfoot can make or load, on the pictures that the student sees.

The pictures of a batch are augmented, normalised, erased and mixed once, for the student. The
teacher receives the same ones in its own terms: mean and std, scale, order of channels and size are
changed from the student's to its own. Erasing and mixing are linear in a picture's values, so they
mean the same after the change.

B batch · C channels · H W the student's size · N classes
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from fleetfoot.data.preprocess import Preprocess
from fleetfoot.models import list_models
from fleetfoot.models.peers import is_peer
from fleetfoot.network import resolve
from fleetfoot.train.config import Distil


@dataclass(frozen=True)
class Teacher:
    """A network that is only asked. (B, C, H, W) of the student's input -> (B, N) logits"""

    name: str
    module: nn.Module
    preprocess: Preprocess

    @classmethod
    def of(cls, distil: Distil, *, accept_licence: bool = False) -> Teacher:
        """The teacher that a recipe names, with its published weights, those of its own file, or
        those of ``distil.weights``.

        Raises:
            UnknownNameError: no network has that name, or nobody published its weights.
            WeightsError: the weights cannot be found or used.
            ValueError: the recipe names no teacher.
        """
        if not distil.teacher:
            raise ValueError("distil.teacher names no network")
        published = is_peer(distil.teacher) or distil.teacher in list_models()
        made = resolve(
            distil.teacher,
            pretrained=published and not distil.weights,
            weights=distil.weights or None,
            accept_licence=accept_licence,
        )
        preprocess = made.preprocess(size=distil.size)
        return cls(distil.teacher, made.module.requires_grad_(False), preprocess)

    def check(self, classes: int, channels: int) -> None:
        """Checks that the teacher suits a student.

        Raises:
            ValueError: it knows another number of classes, or takes another number of channels.
        """
        if channels != self.preprocess.channels:
            raise ValueError(
                f"the teacher {self.name} takes {self.preprocess.channels} channels, and the "
                f"network {channels}"
            )
        size = (self.preprocess.height, self.preprocess.width)
        device = next((p.device for p in self.module.parameters()), None)
        with torch.no_grad():
            found = self.module.eval()(torch.zeros(1, channels, *size, device=device)).shape[-1]
        if found != classes:
            raise ValueError(
                f"the teacher {self.name} knows {found} classes, and the data set has {classes}; "
                "train the teacher on it first, and give its checkpoint as distil.teacher"
            )

    @torch.no_grad()
    def __call__(self, x: Tensor, student: Preprocess) -> Tensor:
        return self.module(adapted(x, student, self.preprocess))


def adapted(x: Tensor, student: Preprocess, teacher: Preprocess) -> Tensor:
    """Normalised pictures of the student as the teacher's preprocessing would have made them. They
    are returned as they are if nothing differs. (B, C, H, W) -> (B, C, H', W')

    A student's size that is not the teacher's is resized with the teacher's filter.
    """
    mean, std = student.mean, student.std
    if student.channel_order != teacher.channel_order:
        x, mean, std = x.flip(1), mean[::-1], std[::-1]
    if (mean, std, student.pixel_scale) != (teacher.mean, teacher.std, teacher.pixel_scale):
        ratio = teacher.pixel_scale / student.pixel_scale
        scale = [s * ratio / t for s, t in zip(std, teacher.std, strict=True)]
        shift = [
            (m * ratio - n) / t for m, n, t in zip(mean, teacher.mean, teacher.std, strict=True)
        ]
        x = x * x.new_tensor(scale).view(-1, 1, 1) + x.new_tensor(shift).view(-1, 1, 1)
    size = (teacher.height, teacher.width)
    if tuple(x.shape[-2:]) != size:
        x = functional.interpolate(
            x, size, mode=teacher.interpolation, align_corners=False, antialias=teacher.antialias
        )
    return x
