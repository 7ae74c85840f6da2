"""Metrics of reconstructed hands, in millimetres and shares.

PA-MPJPE and PA-MPVPE are the mean distances of joints and of vertices after the best similarity
(Procrustes alignment) of each hand; MPJPE is that of the joints with the wrists laid together. F@5
and F@15 are the harmonic means of two shares of vertices: of those found that lie within 5 or 15
millimetres of a true one, and of the true ones that lie so near to a found one, after alignment
(Zimmermann et al. 2019, "FreiHAND", https://arxiv.org/abs/1909.04349, section 5). FreiHAND's own
code lets the alignment mirror a hand; here it does not.

V vertices
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fleetfoot.errors import RecordError
from fleetfoot.files import fields
from fleetfoot.tasks.hand.procrustes import similarity
from fleetfoot.tasks.hand.reconstruction import Reconstruction

Numbers = NDArray[np.float64]

MM = 1e3
NEAR = (0.005, 0.015)
"""Distances of the F-scores, in metres."""


class Truth(Protocol):
    """The hand in a picture; ``data.scenes.Hand`` is one."""

    @property
    def joints(self) -> Numbers: ...

    @property
    def vertices(self) -> Numbers: ...

    @property
    def points(self) -> Numbers: ...


class Seen(NamedTuple):
    """How far off one hand is."""

    pa_mpjpe: float
    """Mean distance of the joints after alignment, in millimetres."""
    pa_mpvpe: float
    """Mean distance of the vertices after alignment, in millimetres."""
    mpjpe: float
    """Mean distance of the joints relative to the wrist, in millimetres."""
    f_5: float
    """F-score at 5 mm after alignment, 0 to 1."""
    f_15: float
    """F-score at 15 mm after alignment, 0 to 1."""
    points: float
    """Mean distance of the joints in the picture, in pixels."""


class _SeenJson(TypedDict):
    number: int
    pa_mpjpe: float
    pa_mpvpe: float
    mpjpe: float
    f_5: float
    f_15: float
    points: float


class _Json(TypedDict):
    pictures: tuple[dict[str, Any], ...]


@dataclass
class Meter:
    """How far off the hands of some pictures are. Meters of parts add up to that of the whole,
    exactly: a picture is known by its number, and counts once.

    >>> from types import SimpleNamespace
    >>> import torch
    >>> hand = torch.randn(21, 3, dtype=torch.float64)
    >>> flat = hand[:, :2]
    >>> truth = SimpleNamespace(joints=hand.numpy(), vertices=hand.numpy(), points=flat.numpy())
    >>> meter = Meter()
    >>> meter.update(0, Reconstruction(points=flat, joints=3 * hand, vertices=3 * hand), truth)
    >>> round(meter.figures()["pa_mpjpe"], 6), meter.figures()["f_5"]
    (0.0, 1.0)
    """

    pictures: dict[int, Seen] = field(default_factory=dict)

    @property
    def images(self) -> int:
        return len(self.pictures)

    def update(self, number: int, found: Reconstruction, truth: Truth) -> None:
        """Counts one picture.

        Args:
            number: number of the picture in its part of the data.
            found: what was found; its points in the pixels of those of ``truth``.
            truth: the hand that is there.

        Raises:
            ValueError: the shapes differ, something found is not finite, or the picture was counted
                before.
        """
        if number in self.pictures:
            raise ValueError(f"picture {number} was counted before")
        for name in ("points", "joints", "vertices"):
            given, wanted = getattr(found, name), getattr(truth, name)
            if tuple(given.shape) != wanted.shape:
                raise ValueError(
                    f"picture {number}: {name} are {tuple(given.shape)} in the answer and "
                    f"{wanted.shape} in the truth; the network must have the data's topology"
                )
            if not np.isfinite(_numbers(given)).all():
                raise ValueError(f"picture {number}: {name} are not finite in the answer")
        self.pictures[number] = compared(found, truth)

    def __add__(self, other: Meter) -> Meter:
        return Meter(self.pictures | other.pictures)

    def figures(self) -> dict[str, float | int | None]:
        """Means over the pictures: ``pa_mpjpe``, ``pa_mpvpe`` and ``mpjpe`` in millimetres, ``f_5``
        and ``f_15`` as shares, ``points`` in pixels.

        Raises:
            ValueError: no picture was counted.
        """
        if not self.pictures:
            raise ValueError("no picture was counted, so there is no distance")
        seen = [self.pictures[number] for number in sorted(self.pictures)]
        means = {
            name: math.fsum(getattr(one, name) for one in seen) / len(seen) for name in Seen._fields
        }
        return {**means, "images": self.images}

    def per_picture(self) -> dict[int, dict[str, float | None]]:
        """The figures of each picture alone, by its number."""
        return {number: {**one._asdict()} for number, one in sorted(self.pictures.items())}

    def as_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {
            "pictures": [
                {"number": number, **one._asdict()} for number, one in sorted(self.pictures.items())
            ]
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Meter:
        """The meter whose ``as_json`` this is.

        Raises:
            RecordError: it is not; the message says where.
        """
        held = fields({name: _listed(value) for name, value in raw.items()}, _Json, "meter.")
        made = cls()
        for place, picture in enumerate(held["pictures"]):
            one = fields(dict(picture), _SeenJson, f"meter.pictures[{place}].")
            number = one.pop("number")
            if number in made.pictures:
                raise RecordError(f"meter.pictures has number {number} twice")
            made.pictures[number] = Seen(**one)
        return made


def compared(found: Reconstruction, truth: Truth) -> Seen:
    """How far off a hand is. Joints and vertices are aligned each for themselves."""
    joints, vertices = _numbers(found.joints), _numbers(found.vertices)
    aligned = similarity(vertices, truth.vertices)(vertices)
    near = [f_score(aligned, truth.vertices, limit) for limit in NEAR]
    return Seen(
        pa_mpjpe=MM * _distance(similarity(joints, truth.joints)(joints), truth.joints),
        pa_mpvpe=MM * _distance(aligned, truth.vertices),
        mpjpe=MM * _distance(joints - joints[0], truth.joints - truth.joints[0]),
        f_5=near[0],
        f_15=near[1],
        points=_distance(_numbers(found.points), truth.points),
    )


def f_score(found: Numbers, truth: Numbers, limit: float) -> float:
    """Harmonic mean of the share of found points within ``limit`` of a true one, and of the share
    of true points within it of a found one; 0 if there are none. (N, 3), (M, 3)"""
    squares = (found**2).sum(1)[:, None] + (truth**2).sum(1) - 2 * found @ truth.T
    within = squares <= limit**2
    precision, recall = within.any(1).mean(), within.any(0).mean()
    total = precision + recall
    return float(2 * precision * recall / total) if total else 0.0


def _distance(found: Numbers, truth: Numbers) -> float:
    """Mean distance of corresponding points. (N, D), (N, D)"""
    return float(np.linalg.norm(found - truth, axis=1).mean())


def _numbers(tensor: Tensor) -> Numbers:
    return tensor.detach().cpu().double().numpy()


def _listed(value: Any) -> Any:
    """Plain values as JSON brings them back: tuples as lists."""
    return list(value) if isinstance(value, tuple) else value
