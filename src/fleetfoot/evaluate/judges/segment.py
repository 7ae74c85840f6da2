"""Judging a class for each pixel: intersection over union and shares of right pixels.

P pictures
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fleetfoot.data.placement import Placement
from fleetfoot.data.scenes import LabelMap, Scenes, SceneSet, Target
from fleetfoot.errors import EngineError
from fleetfoot.evaluate.bootstrap import Numbers, Weights
from fleetfoot.evaluate.judges.base import Judge, Metric
from fleetfoot.tasks.network import TaskNetwork
from fleetfoot.tasks.segment.metric import Meter, figures_of
from fleetfoot.tasks.segment.network import Segmenter


class SegmentJudge(Judge):
    """Judges a class for each pixel."""

    task = "segment"
    metrics = (
        Metric(name="miou", title="mIoU", says="mean intersection over union of the classes"),
        Metric(name="accuracy", title="pixel accuracy", says="share of the pixels that are right"),
        Metric(name="mean_accuracy", title="mean accuracy", says="mean recall of the classes"),
    )
    columns = ("miou", "accuracy")

    def __init__(self, meter: Meter, classes: NDArray[np.int64] | None = None) -> None:
        """Judges with ``meter``.

        Args:
            classes: class of the data for each class of the network. Default: the same numbers.
        """
        self.meter: Meter = meter
        self._classes = classes

    @classmethod
    def new(
        cls,
        network: TaskNetwork,
        scenes: SceneSet,
        part: Scenes,
        classes: NDArray[np.int64] | None,
    ) -> SegmentJudge:
        return cls(Meter(len(scenes.classes)), classes)

    @classmethod
    def of_json(cls, meter: dict[str, Any]) -> SegmentJudge:
        return cls(Meter.from_json(meter))

    def answers(
        self,
        network: TaskNetwork,
        outputs: Mapping[str, Tensor],
        size: tuple[int, int],
        placements: Sequence[Placement],
    ) -> Sequence[NDArray[np.int64]]:
        """Maps of the pictures, in the numbers of the data's classes."""
        if not isinstance(network, Segmenter):
            raise EngineError(
                f"{type(network).__name__} is no fleetfoot.tasks.segment.network.Segmenter, whose "
                "decode makes maps of the pictures' own size"
            )
        maps = [one.cpu().numpy() for one in network.decode(outputs, size, placements)]
        return maps if self._classes is None else [self._classes[one] for one in maps]

    def judge(
        self, number: int, answer: NDArray[np.int64], placement: Placement, target: Target
    ) -> None:
        assert isinstance(target, LabelMap)
        self.meter.update(number, answer, target.drawn(placement.height, placement.width))

    @cached_property
    def _cells(self) -> tuple[NDArray[np.int64], ...]:
        """Places in the order of ``numbers``, cells and counts of all pictures."""
        seen = [self.meter.pictures[number] for number in self.numbers]
        places = np.repeat(np.arange(len(seen)), [len(one.cells) for one in seen])
        none = np.zeros(0, np.int64)
        return (
            places,
            np.concatenate([none, *(one.cells for one in seen)]),
            np.concatenate([none, *(one.counts for one in seen)]),
        )

    def weighted(self, weights: Weights) -> Mapping[str, Numbers]:
        places, cells, counts = self._cells
        k = self.meter.classes
        rows = []
        for row in weights:
            # floats hold these whole numbers exactly up to 2**53
            flat = np.bincount(cells, counts * row[places], minlength=k * k)
            rows.append(figures_of(flat.astype(np.int64).reshape(k, k)))
        return {
            name: np.array([np.nan if row[name] is None else row[name] for row in rows])
            for name in rows[0]
        }

    def per_class(self) -> Sequence[Mapping[str, float | int | None]]:
        return [
            {"pixels": one.pixels, "iou": one.iou, "recall": one.recall, "precision": one.precision}
            for one in self.meter.per_class()
        ]

    def rows(self) -> dict[int, dict[str, float | int | None]]:
        return {
            number: {name: row[name] for name in self.columns}
            for number, row in self.meter.per_picture().items()
        }

    def worst(self, most: int) -> list[int]:
        rows = self.rows()
        judged = [number for number in self.numbers if rows[number]["accuracy"] is not None]
        judged = [number for number in judged if rows[number]["accuracy"] != 100]
        return sorted(judged, key=lambda number: (rows[number]["accuracy"], number))[:most]
