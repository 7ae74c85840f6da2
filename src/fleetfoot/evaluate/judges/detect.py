"""Judging boxes and masks: COCO's figures, and what was found, missed and mixed up on each picture.

P pictures
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fleetfoot.data.placement import Placement
from fleetfoot.data.scenes import Objects, Scenes, SceneSet, Target
from fleetfoot.evaluate.bootstrap import Numbers, Weights
from fleetfoot.evaluate.judges.base import Judge, Metric
from fleetfoot.tasks.detect import matching
from fleetfoot.tasks.detect.detections import Detections
from fleetfoot.tasks.detect.metric import Kind, Meter, Precision
from fleetfoot.tasks.detect.placing import in_picture
from fleetfoot.tasks.network import TaskNetwork


def _boxes(prefix: str = "", what: str = "boxes") -> tuple[Metric, ...]:
    title = "mask " if prefix else ""
    return (
        Metric(name=f"{prefix}ap", title=f"{title}AP", says=f"average precision of {what}, at "
               "overlaps of 0.50 to 0.95"),
        Metric(name=f"{prefix}ap50", title=f"{title}AP50", says="at an overlap of 0.50"),
        Metric(name=f"{prefix}ap75", title=f"{title}AP75", says="at an overlap of 0.75"),
        Metric(name=f"{prefix}ap_small", title=f"{title}AP small", says="objects below 32² pixels"),
        Metric(name=f"{prefix}ap_medium", title=f"{title}AP medium", says="objects up to 96² "
               "pixels"),
        Metric(name=f"{prefix}ap_large", title=f"{title}AP large", says="larger objects"),
        Metric(name=f"{prefix}ar100", title=f"{title}AR100", says="average recall with at most 100 "
               "detections"),
    )  # fmt: skip


class DetectJudge(Judge):
    """Judges boxes, and masks if the network finds them and the data has them."""

    task = "detect"
    metrics = (*_boxes(), *_boxes("mask_", "masks"))
    columns = ("objects", "shown", "right", "missed", "wrong", "other_class", "f1")

    def __init__(self, meter: Meter, classes: NDArray[np.int64] | None = None) -> None:
        """Judges with ``meter``.

        Args:
            classes: class of the data for each class of the network; -1 for none, whose detections
                are left out. Default: the same numbers.
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
    ) -> DetectJudge:
        return cls(Meter(len(scenes.classes)), classes)

    @classmethod
    def of_json(cls, meter: dict[str, Any]) -> DetectJudge:
        return cls(Meter.from_json(meter))

    def judge(self, number: int, answer: Detections, placement: Placement, target: Target) -> None:
        assert isinstance(target, Objects)
        size = (placement.height, placement.width)
        target.check_size(*size)
        found = in_picture(answer, placement)
        if not self.meter.pictures:  # the first picture shows what the network finds
            self.meter.with_masks = found.masks is not None and target.masks is not None
        if self._classes is not None:
            classes = self._classes[found.classes.numpy()]
            kept = classes >= 0
            found = replace(
                found,
                boxes=found.boxes[kept],
                scores=found.scores[kept],
                classes=found.classes.new_tensor(classes[kept]),
                masks=None if found.masks is None else found.masks[kept],
            )
        self.meter.update(number, found, target, size=size)

    @cached_property
    def matches(self) -> dict[Kind, matching.Matches]:
        """Which detection is which object, by boxes and by masks. For a judge that is to count no
        more pictures."""
        return {kind: matching.match(self.meter, kind) for kind in self.meter.kinds}

    @cached_property
    def score(self) -> float:
        """The score from which on a detection is shown and counted: the one with the highest F1 on
        these pictures."""
        return self.matches["boxes"].best_score()

    @cached_property
    def verdicts(self) -> dict[int, matching.Verdict]:
        """What to say of each picture, by its number, at that score."""
        return {n: matching.judged(self.meter.pictures[n], self.score) for n in self.numbers}

    @cached_property
    def _precisions(self) -> dict[Kind, Precision]:
        return {kind: self.meter.precision(kind) for kind in self.meter.kinds}

    def precision(self, kind: Kind = "boxes") -> Precision:
        return self._precisions[kind]

    def weighted(self, weights: Weights) -> Mapping[str, Numbers]:
        made: dict[str, Numbers] = {}
        for kind, matches in self.matches.items():
            prefix = "mask_" if kind == "masks" else ""
            made |= {f"{prefix}{k}": value for k, value in matches.figures(weights).items()}
        return made

    def per_class(self) -> Sequence[Mapping[str, float | int | None]]:
        made: list[dict[str, float | int | None]] = []
        for one in self.meter.per_class(self.precision()):
            made.append({"objects": one.objects, "ap": one.ap, "ap50": one.ap50, "ar": one.recall})
        if self.meter.with_masks:
            for row, one in zip(made, self.meter.per_class(self.precision("masks")), strict=True):
                row |= {"mask_ap": one.ap, "mask_ap50": one.ap50}
        return made

    def rows(self) -> dict[int, dict[str, float | int | None]]:
        made: dict[int, dict[str, float | int | None]] = {}
        for number, verdict in self.verdicts.items():
            right, wrong, other = len(verdict.right), len(verdict.wrong), len(verdict.confused)
            made[number] = {
                "objects": right + len(verdict.missed) + other,
                "shown": right + wrong + other + len(verdict.in_crowd),
                "right": right,
                "missed": len(verdict.missed),
                "wrong": wrong,
                "other_class": other,
                "f1": 100 * verdict.f1,
            }
        return made

    def worst(self, most: int) -> list[int]:
        def rank(number: int) -> tuple[float, int, int]:
            verdict = self.verdicts[number]
            return verdict.f1, -verdict.errors, number

        return sorted((n for n in self.numbers if self.verdicts[n].errors), key=rank)[:most]
