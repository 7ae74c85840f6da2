"""Learning rate, weight decay, decay of the average, and size of the pictures, each a pure function
of the update's or epoch's number: a run that is resumed needs no state of a scheduler.

Cosine: Loshchilov & Hutter 2017, https://arxiv.org/abs/1608.03983. The forms of warm-up are those
of timm's schedulers and of Lightning Bolts' LinearWarmupCosineAnnealingLR.

t place in the curve · T its length · W its warm-up, all three in updates, or in epochs if the rate
changes by epoch
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from fleetfoot.train.config import Phase, Recipe


@dataclass(frozen=True)
class Schedules:
    """The course of a run.

    >>> course = Schedules(Recipe(epochs=2), updates_per_epoch=5)
    >>> course.total_updates, course.lr(0), round(course.lr(5), 6)
    (10, 0.001, 0.0005)

    Raises:
        ValueError: ``updates_per_epoch`` is below 1.
    """

    recipe: Recipe
    updates_per_epoch: int

    def __post_init__(self) -> None:
        if self.updates_per_epoch < 1:
            raise ValueError(f"updates_per_epoch must be 1 or more, not {self.updates_per_epoch}")

    @classmethod
    def of(cls, recipe: Recipe, updates_per_epoch: int) -> Schedules:
        return cls(recipe, updates_per_epoch)

    @property
    def total_updates(self) -> int:
        """Updates of the run, cooldown included; the re-estimation of batch norms is not among
        them."""
        if self.recipe.updates is not None:
            return self.recipe.updates
        return (self.recipe.epochs + self.recipe.schedule.cooldown) * self.updates_per_epoch

    @property
    def total_epochs(self) -> int:
        """Epochs of the run; the last one may be a part of an epoch."""
        return -(-self.total_updates // self.updates_per_epoch)

    def epoch(self, update: int) -> int:
        return update // self.updates_per_epoch

    # ---- Learning rate and weight decay

    @property
    def peak_lr(self) -> float:
        """Learning rate before any schedule: ``optim.lr``, scaled to the batch."""
        optim = self.recipe.optim
        if optim.lr_batch is None:
            return optim.lr
        ratio = self.recipe.batch / optim.lr_batch
        return optim.lr * (ratio if optim.lr_rule == "linear" else ratio**0.5)

    def lr(self, update: int) -> float:
        """Learning rate of an update. A group's rate is this times the group's ``lr_scale``."""
        schedule, peak, low = self.recipe.schedule, self.peak_lr, self.recipe.schedule.min_lr
        t: float
        t, length, warmup = self._place(update)
        if t < warmup:
            rises = warmup - 1 if schedule.warmup_full else warmup
            if rises <= 0:
                return peak
            return schedule.warmup_lr + t * ((peak - schedule.warmup_lr) / rises)
        if schedule.warmup_prefix:
            t, length = t - warmup, length - warmup
        if schedule.curve == "constant":
            return peak
        if schedule.curve == "milestones":
            passed = sum(t >= epoch * self._unit for epoch in schedule.milestones)
            return peak * schedule.gamma**passed
        if schedule.curve in ("step", "exponential"):
            step = schedule.step * self._unit
            return peak * schedule.gamma ** (t // step if schedule.curve == "step" else t / step)
        if t >= length:
            return low
        if schedule.curve == "linear":
            return low + (peak - low) * (1 - t / length)
        if schedule.curve == "poly":
            return low + (peak - low) * (1 - t / length) ** schedule.power
        return low + 0.5 * (peak - low) * (1 + math.cos(math.pi * t / length))

    def weight_decay(self, update: int) -> float:
        """Weight decay of an update, for the parameters that decay."""
        start, end = self.recipe.optim.weight_decay, self.recipe.schedule.end_weight_decay
        if end is None:
            return start
        t, length, _ = self._place(update)
        if t >= length:
            return end
        return end + 0.5 * (start - end) * (1 + math.cos(math.pi * t / length))

    @property
    def _unit(self) -> int:
        """Steps of the curve in an epoch."""
        return self.updates_per_epoch if self.recipe.schedule.per == "update" else 1

    def _place(self, update: int) -> tuple[int, float, float]:
        """t, T and W of an update."""
        schedule = self.recipe.schedule
        if self.recipe.updates is None:
            length: float = self.recipe.epochs * self._unit
        elif schedule.per == "update":
            length = self.recipe.updates
        else:
            length = self.recipe.updates / self.updates_per_epoch
        t = update if schedule.per == "update" else self.epoch(update)
        return t + schedule.offset, length, schedule.warmup * self._unit

    # ---- Average of the weights

    def ema_decay(self, update: int) -> float:
        """Share of the old average that stays at this update.

        Raises:
            ValueError: the recipe keeps no average.
        """
        decay = self.recipe.ema.decay
        if decay is None:
            raise ValueError(f"the recipe {self.recipe.name} keeps no average: ema.decay is None")
        warmup = self.recipe.ema.warmup
        if warmup == "tensorflow":
            return min(decay, (1 + update) / (10 + update))
        if warmup in ("copy", "timm") and update == 0:
            return 0.0
        if warmup == "timm":
            return min(decay, 1 - (1 + update) ** (-2 / 3))
        return decay

    # ---- Pictures

    def phase(self, epoch: int) -> Phase | None:
        """The phase of an epoch; None if the recipe has no phases."""
        for phase in self.recipe.phases:
            if epoch < phase.until:
                return phase
        return self.recipe.phases[-1] if self.recipe.phases else None

    def size(self, epoch: int) -> int | None:
        """Height and width of the pictures in an epoch; None for the network's own."""
        phase = self.phase(epoch)
        return self.recipe.size if phase is None else phase.size

    def policy(self, epoch: int) -> str:
        """Augmentation policy in an epoch."""
        phase = self.phase(epoch)
        if phase is None or phase.policy is None:
            return self.recipe.augment.policy
        return phase.policy

    def mixes(self, epoch: int) -> bool:
        """Whether pictures are mixed in an epoch."""
        mix = self.recipe.mix
        return bool(mix.mixup or mix.cutmix) and (mix.until is None or epoch < mix.until)
