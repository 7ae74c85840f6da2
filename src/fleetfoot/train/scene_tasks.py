"""The objectives of detection, segmentation and hands: networks of ``tasks`` on scenes.

b pictures of a batch · n objects of a picture · V vertices · C channels · H W space
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fleetfoot.data.hand_making import AugmentedHands, MadeHand
from fleetfoot.data.loader import Batch
from fleetfoot.data.making import Maker
from fleetfoot.data.preprocess import Preprocess
from fleetfoot.data.scene_making import AugmentedScenes, MadeMap, MadeObjects, PlainScenes
from fleetfoot.data.scenes import Hand, Objects, Scenes
from fleetfoot.tasks.detect import metric as detect_metric
from fleetfoot.tasks.detect.placing import in_picture
from fleetfoot.tasks.hand import metric as hand_metric
from fleetfoot.tasks.network import TaskNetwork
from fleetfoot.tasks.segment import metric as segment_metric
from fleetfoot.train.objectives import Objective

if TYPE_CHECKING:
    from fleetfoot.train.learner import Learner


class SceneObjective(Objective):
    """A network of a task, which computes its losses itself."""

    uses_all = False  # a head may read none of a backbone's last maps, and a picture may be empty

    def to_(self, device: torch.device, dtype: torch.dtype) -> None:
        pass  # nothing is computed beside the network

    @property
    def network(self) -> TaskNetwork:
        module = self.built.module
        assert isinstance(module, TaskNetwork)
        return module

    @property
    def preprocess(self) -> Preprocess:
        """Preprocessing of the pictures in training, before augmentation."""
        size = self.recipe.size
        return self.built.preprocess if size is None else replace(self.built.preprocess, size=size)

    def size(self, epoch: int) -> int | tuple[int, int]:
        height, width = self.preprocess.height, self.preprocess.width
        return height if height == width else (height, width)

    def evaluation(self, part: Scenes) -> Maker:
        return PlainScenes(scenes=part, preprocess=self.built.preprocess)

    @abstractmethod
    def wanted(self, made: Any) -> dict[str, Tensor]:
        """What the network should give for a picture, from what its maker returned."""

    def loss(self, learner: Learner, batch: Batch) -> Tensor:
        x = learner.normalised(batch.pixels)
        targets = [
            {
                name: tensor.to(
                    learner.device, learner.dtype if tensor.is_floating_point() else None
                )
                for name, tensor in self.wanted(made).items()
            }
            for made in batch.targets
        ]
        with learner.autocast():
            losses: Mapping[str, Tensor] = learner.forward(x, targets)
        return reduce(add, (value.to(learner.dtype) for value in losses.values()))

    def judge(
        self,
        meter: Any,
        part: Scenes,
        module: nn.Module,
        x: Tensor,
        batch: Batch,
        learner: Learner,
    ) -> None:
        assert isinstance(module, TaskNetwork)
        with learner.autocast():
            outputs = module(x)
        whole = {name: tensor.to(learner.dtype) for name, tensor in outputs.items()}
        answers = self.answers(module, whole, (x.shape[-2], x.shape[-1]), batch.targets)
        for number, answer, made in zip(
            batch.indices.tolist(), answers, batch.targets, strict=True
        ):
            self.count(meter, part, number, answer, made)

    def answers(
        self,
        network: TaskNetwork,
        outputs: Mapping[str, Tensor],
        size: tuple[int, int],
        made: Sequence[Any],
    ) -> Sequence[Any]:
        """The task's answer for each picture."""
        found: Sequence[Any] = network.decode(outputs, size)
        return found

    @abstractmethod
    def count(self, meter: Any, part: Scenes, number: int, answer: Any, made: Any) -> None:
        """Judges the answer for one picture."""

    def together(self, meters: Sequence[Any]) -> Any:
        return reduce(add, meters)

    def figures(self, meter: Any) -> Mapping[str, Any]:
        figures: Mapping[str, Any] = meter.figures()
        return figures


class Detection(SceneObjective):
    """Boxes, and masks if the network finds them, judged by COCO's average precision."""

    task = "detect"

    def training(self, part: Scenes) -> Maker:
        return AugmentedScenes(
            scenes=part,
            settings=self.recipe.scene,
            preprocess=self.preprocess,
            seed=self.recipe.seed,
            task="detect",
            masks=self.network.with_masks,
        )

    def wanted(self, made: MadeObjects) -> dict[str, Tensor]:
        found = {"boxes": torch.from_numpy(made.boxes), "labels": torch.from_numpy(made.classes)}
        masks = made.masks
        return found if masks is None else {**found, "masks": torch.from_numpy(masks)}

    def meter(self, part: Scenes) -> detect_metric.Meter:
        return detect_metric.Meter(self.network.num_classes, self.network.with_masks)

    def count(
        self, meter: detect_metric.Meter, part: Scenes, number: int, answer: Any, made: MadeObjects
    ) -> None:
        placed = made.placement
        assert placed is not None, "the maker of an evaluation states it"
        target = part.targets[number]
        assert isinstance(target, Objects), "the set is for this task"
        size = (placed.height, placed.width)
        meter.update(number, in_picture(answer, placed), target, size=size)


class Segmentation(SceneObjective):
    """A class for each pixel, judged by the mean intersection over union at the pictures' own
    sizes."""

    task = "segment"

    def training(self, part: Scenes) -> Maker:
        return AugmentedScenes(
            scenes=part,
            settings=self.recipe.scene,
            preprocess=self.preprocess,
            seed=self.recipe.seed,
            task="segment",
        )

    def evaluation(self, part: Scenes) -> Maker:
        return PlainScenes(scenes=part, preprocess=self.built.preprocess, whole=True)

    def wanted(self, made: MadeMap) -> dict[str, Tensor]:
        return {"map": torch.from_numpy(made.map).long()}

    def meter(self, part: Scenes) -> segment_metric.Meter:
        return segment_metric.Meter(self.network.num_classes)

    def answers(
        self,
        network: TaskNetwork,
        outputs: Mapping[str, Tensor],
        size: tuple[int, int],
        made: Sequence[MadeMap],
    ) -> Sequence[Any]:
        placed = [one.placement for one in made]
        found: Sequence[Any] = network.decode(outputs, size, placed)  # type: ignore[call-arg]
        return found

    def count(
        self,
        meter: segment_metric.Meter,
        part: Scenes,
        number: int,
        answer: Tensor,
        made: MadeMap,
    ) -> None:
        assert made.whole is not None, "it was asked for"
        meter.update(number, answer, made.whole)


class HandReconstruction(SceneObjective):
    """The mesh of a hand, judged by the distances of joints and vertices."""

    task = "hand"

    def training(self, part: Scenes) -> Maker:
        return AugmentedHands(
            scenes=part,
            settings=self.recipe.scene,
            preprocess=self.preprocess,
            seed=self.recipe.seed,
        )

    def wanted(self, made: MadeHand) -> dict[str, Tensor]:
        return {
            name: torch.from_numpy(getattr(made, name)) for name in ("points", "joints", "vertices")
        }

    def meter(self, part: Scenes) -> hand_metric.Meter:
        return hand_metric.Meter()

    def count(
        self, meter: hand_metric.Meter, part: Scenes, number: int, answer: Any, made: MadeHand
    ) -> None:
        placed = made.placement
        assert placed is not None, "the maker of an evaluation states it"
        scale, offset = (answer.points.new_tensor(pair) for pair in (placed.scale, placed.offset))
        there = replace(answer, points=(answer.points - offset) / scale)
        target = part.targets[number]
        assert isinstance(target, Hand), "the set is for this task"
        meter.update(number, there, target)
