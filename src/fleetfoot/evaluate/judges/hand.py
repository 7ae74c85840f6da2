"""Judging hands: distances of joints and vertices after the best similarity of each hand.

P pictures
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fleetfoot.data.placement import Placement
from fleetfoot.data.scenes import Hand, Scenes, SceneSet, Target
from fleetfoot.evaluate.bootstrap import Numbers, Weights
from fleetfoot.evaluate.judges.base import Judge, Metric
from fleetfoot.tasks.hand.metric import Meter
from fleetfoot.tasks.hand.reconstruction import Reconstruction
from fleetfoot.tasks.network import TaskNetwork


class HandJudge(Judge):
    """Judges the joints and the mesh of one hand a picture."""

    task = "hand"
    metrics = (
        Metric(name="pa_mpjpe", title="PA-MPJPE", unit="mm", rises=False, says="mean distance of "
               "the joints after alignment"),
        Metric(name="pa_mpvpe", title="PA-MPVPE", unit="mm", rises=False, says="mean distance of "
               "the vertices after alignment"),
        Metric(name="f_5", title="F@5", unit="", says="F-score of the vertices at 5 mm"),
        Metric(name="f_15", title="F@15", unit="", says="F-score of the vertices at 15 mm"),
        Metric(name="mpjpe", title="MPJPE", unit="mm", rises=False, says="mean distance of the "
               "joints, wrists laid together"),
        Metric(name="points", title="joints in the picture", unit="px", rises=False, says="mean "
               "distance in the picture"),
    )  # fmt: skip
    columns = ("pa_mpjpe", "pa_mpvpe", "f_5", "f_15", "mpjpe", "points")

    def __init__(self, meter: Meter) -> None:
        self.meter: Meter = meter

    @classmethod
    def new(
        cls,
        network: TaskNetwork,
        scenes: SceneSet,
        part: Scenes,
        classes: NDArray[np.int64] | None,
    ) -> HandJudge:
        return cls(Meter())

    @classmethod
    def of_json(cls, meter: dict[str, Any]) -> HandJudge:
        return cls(Meter.from_json(meter))

    def answers(
        self,
        network: TaskNetwork,
        outputs: Mapping[str, Tensor],
        size: tuple[int, int],
        placements: Sequence[Placement],
    ) -> Sequence[Reconstruction]:
        """The hands; their points are in the pixels of the pictures."""
        found = network.decode(outputs, size)
        return [
            replace(one, points=_in_picture(one.points, placement))
            for one, placement in zip(found, placements, strict=True)
        ]

    def judge(
        self, number: int, answer: Reconstruction, placement: Placement, target: Target
    ) -> None:
        assert isinstance(target, Hand)
        self.meter.update(number, answer, target)

    @cached_property
    def _table(self) -> dict[str, NDArray[np.float64]]:
        seen = [self.meter.pictures[number] for number in self.numbers]
        return {name: np.array([getattr(one, name) for one in seen]) for name in self.columns}

    def weighted(self, weights: Weights) -> Mapping[str, Numbers]:
        totals = weights.sum(axis=1)
        return {name: weights @ column / totals for name, column in self._table.items()}

    def per_class(self) -> Sequence[Mapping[str, float | int | None]]:
        return ()

    def rows(self) -> dict[int, dict[str, float | int | None]]:
        return dict(self.meter.per_picture())

    def worst(self, most: int) -> list[int]:
        seen = self.meter.pictures
        return sorted(self.numbers, key=lambda n: (-seen[n].pa_mpjpe, n))[:most]


def _in_picture(points: Tensor, placement: Placement) -> Tensor:
    """Points of the input, (21, 2), in the picture's pixels."""
    found = points.detach().cpu().double()
    return (found - found.new_tensor(placement.offset)) / found.new_tensor(placement.scale)
