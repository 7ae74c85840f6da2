"""The objective of classification.

B pictures of an update · b of a batch · C channels · H W space · N classes
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fleetfoot.data import mixing
from fleetfoot.data.augment import Augmentation, erase_
from fleetfoot.data.class_making import AugmentedClasses, PlainClasses
from fleetfoot.data.dataset import Split
from fleetfoot.data.loader import Batch
from fleetfoot.evaluate.tally import Tally
from fleetfoot.train.building import Built
from fleetfoot.train.config import Recipe
from fleetfoot.train.distil import Teacher
from fleetfoot.train.losses import loss
from fleetfoot.train.objectives import Objective
from fleetfoot.train.schedules import Schedules

if TYPE_CHECKING:
    from fleetfoot.train.learner import Learner


class Classification(Objective):
    """Pictures of one class each, mixed and erased; soft targets, a teacher if the recipe names
    one; judged by accuracy."""

    task = "classify"
    uses_all = True

    def __init__(self, built: Built, recipe: Recipe, teacher: Teacher | None = None) -> None:
        super().__init__(built, recipe)
        self.teacher = teacher
        self._loss = loss(recipe)
        self._course = Schedules.of(recipe, 1)  # of it only what depends on the epoch

    @property
    def classes(self) -> int:
        return len(self.built.preprocessing.labels)

    def to_(self, device: torch.device, dtype: torch.dtype) -> None:
        if self.teacher is not None:
            self.teacher.module.to(device=device, dtype=dtype)
            self.teacher.check(self.classes, self.built.preprocess.channels)

    # ---- Inputs

    def size(self, epoch: int) -> int:
        return self._course.size(epoch) or self.recipe.size or self.built.preprocess.height

    def training(self, part: Split) -> AugmentedClasses:
        augmentation = Augmentation(
            augment=self.recipe.augment,
            preprocess=self.built.preprocess,
            phases=self.recipe.phases,
            size=self.recipe.size or self.built.preprocess.height,
            seed=self.recipe.seed,
        )
        return AugmentedClasses(part, augmentation)

    def evaluation(self, part: Split) -> PlainClasses:
        return PlainClasses(part, self.built.preprocess)

    # ---- Loss

    def loss(self, learner: Learner, batch: Batch) -> Tensor:
        recipe = self.recipe
        x = erase_(
            learner.normalised(batch.pixels),
            augment=recipe.augment,
            seed=recipe.seed,
            epoch=batch.epoch,
            indices=batch.indices.tolist(),
            repeats=batch.repeats.tolist(),
        )
        hot = mixing.targets(batch.labels.to(learner.device), self.classes).to(learner.dtype)
        x, targets = mixing.apply(self._draws(batch, x), x, hot, first=learner.share(batch).start)
        with learner.autocast():
            taught = None if self.teacher is None else self.teacher(x, self.built.preprocess)
            logits = learner.forward(x)
        return self._loss(
            logits.to(learner.dtype), targets, None if taught is None else taught.to(learner.dtype)
        )

    def _draws(self, batch: Batch, x: Tensor) -> mixing.Draws:
        return mixing.draw(
            self.recipe.mix,
            seed=self.recipe.seed,
            update=batch.update,
            epoch=batch.epoch,
            batch=self.recipe.batch,
            size=(x.shape[-2], x.shape[-1]),
        )

    # ---- Evaluation

    def meter(self, part: Split) -> Tally:
        return Tally(self.classes)

    def judge(
        self,
        meter: Tally,
        part: Split,
        module: nn.Module,
        x: Tensor,
        batch: Batch,
        learner: Learner,
    ) -> None:
        with learner.autocast():
            logits = module(x)
        meter.update(logits, batch.labels)

    def together(self, meters: Sequence[Tally]) -> Tally:
        return sum(meters, Tally(self.classes))

    def figures(self, meter: Tally) -> Mapping[str, Any]:
        return meter.figures()
