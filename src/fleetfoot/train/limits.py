"""Which values the settings of a run may have, and which of them contradict each other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from fleetfoot.data.scene_settings import CONCERNS
from fleetfoot.data.scene_settings import check as check_scene
from fleetfoot.train.config import Recipe, Run
from fleetfoot.train.figures import Kind
from fleetfoot.train.schedules import Schedules


@dataclass(frozen=True)
class Limit:
    """An interval of numbers."""

    low: float
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def holds(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        return above and (value < self.high if self.open_high else value <= self.high)

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"above {self.low:g}" if self.open_low else f"{self.low:g} or more"
        left, right = "(" if self.open_low else "[", ")" if self.open_high else "]"
        return f"in {left}{self.low:g}, {self.high:g}{right}"


_COUNT, _SOME, _POSITIVE = Limit(1), Limit(0), Limit(0, open_low=True)
_SHARE, _RATE = Limit(0, 1), Limit(0, 1, open_high=True)
_FACTOR = Limit(0, 1, open_low=True)

FALLING = ("cosine", "linear", "poly")
"""Curves that fall to ``schedule.min_lr``."""

CLASSIFICATION_ONLY = ("augment", "mix", "loss", "distil", "phases", "crop_pct", "bgr", "drop")
"""Settings, or parts of the tree, that have an effect in classification only."""
ALWAYS = ("augment.repeats",)
"""Those among them that all tasks look at."""

LIMITS: dict[str, Limit] = {
    "epochs": _COUNT,
    "updates": _COUNT,
    "batch": _COUNT,
    "size": _COUNT,
    "eval_size": _COUNT,
    "crop_pct": Limit(0, 2, open_low=True),
    "val_share": _RATE,
    "reestimate": _SOME,
    "bn_momentum": _FACTOR,
    "drop": _RATE,
    "drop_path": _RATE,
    "seed": Limit(0, 2**63, open_high=True),
    "augment.scale": _FACTOR,
    "augment.ratio": _POSITIVE,
    "augment.padding": _SOME,
    "augment.flip": _SHARE,
    "augment.colour_jitter": _SOME,
    "augment.erase": _SHARE,
    "augment.repeats": _COUNT,
    "mix.mixup": _SOME,
    "mix.cutmix": _SOME,
    "mix.prob": _SHARE,
    "mix.switch_prob": _SHARE,
    "mix.until": _SOME,
    "optim.lr": _POSITIVE,
    "optim.lr_batch": _COUNT,
    "optim.weight_decay": _SOME,
    "optim.betas": _RATE,
    "optim.momentum": _RATE,
    "optim.alpha": _RATE,
    "optim.eps": _POSITIVE,
    "optim.layer_decay": _FACTOR,
    "optim.clip": _POSITIVE,
    "optim.accumulate": _COUNT,
    "schedule.warmup": _SOME,
    "schedule.warmup_lr": _SOME,
    "schedule.min_lr": _SOME,
    "schedule.cooldown": _SOME,
    "schedule.step": _POSITIVE,
    "schedule.gamma": _FACTOR,
    "schedule.milestones": _SOME,
    "schedule.power": _POSITIVE,
    "schedule.offset": _SOME,
    "schedule.end_weight_decay": _SOME,
    "loss.smoothing": _RATE,
    "loss.threshold": _RATE,
    "ema.decay": _RATE,
    "distil.alpha": _SHARE,
    "distil.temperature": _POSITIVE,
    "distil.size": _COUNT,
    "init.freeze": _SOME,
    "run.workers": _SOME,
    "run.threads": _COUNT,
    "run.save_seconds": _POSITIVE,
    "run.save_updates": _COUNT,
    "run.keep": _COUNT,
    "run.eval_every": _COUNT,
}
"""Allowed values of each number; None is allowed wherever it is the default."""


def check(recipe: Recipe, run: Run | None = None) -> None:
    """Checks every number of a recipe and a run, and that no two settings contradict each other.

    Raises:
        ValueError: the first setting that is out of range or contradicts another, with the values.
    """
    for name, limit in LIMITS.items():
        if name.startswith("run."):
            held: Any = run
            if run is None:
                continue
            path = name.split(".")[1:]
        else:
            held, path = recipe, name.split(".")
        for part in path:
            held = getattr(held, part)
        for value in held if isinstance(held, tuple) else (held,):
            if value is not None and not limit.holds(value):
                raise ValueError(f"{name} must be {limit}, not {value}")
    for problem in (*_without_effect(recipe), *_contradictions(recipe)):
        raise ValueError(problem)
    if recipe.task != "classify":
        try:
            check_scene(recipe.scene, recipe.task)
        except ValueError as error:
            raise ValueError(f"scene.{error}") from None


def has_effect(name: str, task: Kind) -> bool:
    """Whether a run for that task looks at a setting.

    >>> has_effect("mix.mixup", "classify"), has_effect("mix.mixup", "detect")
    (True, False)
    """
    part, _, rest = name.partition(".")
    if part == "scene":
        return task != "classify" and rest in CONCERNS[task]
    return task == "classify" or part not in CLASSIFICATION_ONLY or name in ALWAYS


def _without_effect(recipe: Recipe) -> Iterator[str]:
    """The settings that were changed and that a run for the recipe's task does not look at."""
    usual = Recipe()
    for name in ("scene", *CLASSIFICATION_ONLY):
        given, default = getattr(recipe, name), getattr(usual, name)
        inner = (
            [f"{name}.{one.name}" for one in fields(default)] if is_dataclass(default) else [name]
        )
        for dotted in inner:
            if has_effect(dotted, recipe.task):
                continue
            last = dotted.rpartition(".")[2]
            value, own = (getattr(one, last) if "." in dotted else one for one in (given, default))
            if value != own:
                yield _said(recipe, dotted, value, own)


def _said(recipe: Recipe, name: str, value: Any, default: Any) -> str:
    what = "classification" if recipe.task == "classify" else f"the task {recipe.task}"
    instead = "; augmentation of this task is set by scene" if name.startswith("augment") else ""
    return f"{name} is {value}, and has no effect in {what}; leave it at {default}{instead}"


def _contradictions(recipe: Recipe) -> Iterator[str]:
    schedule, optim, augment = recipe.schedule, recipe.optim, recipe.augment
    if recipe.updates is None and schedule.warmup > recipe.epochs:
        yield (
            f"schedule.warmup is {schedule.warmup:g} epochs, longer than the run: epochs is "
            f"{recipe.epochs}"
        )
    if recipe.updates is None and schedule.warmup_prefix and schedule.warmup == recipe.epochs:
        yield (
            f"schedule.warmup is {schedule.warmup:g} and epochs is {recipe.epochs}: with "
            "schedule.warmup_prefix nothing is left for the curve"
        )
    peak = Schedules.of(recipe, 1).peak_lr
    if schedule.curve in FALLING and schedule.min_lr > peak:
        yield f"schedule.min_lr is {schedule.min_lr:g}, above the learning rate {peak:g}"
    if schedule.cooldown and schedule.curve not in FALLING:
        yield (
            f"schedule.cooldown is {schedule.cooldown}, and schedule.curve {schedule.curve!r} has "
            "no cooldown; cosine, linear and poly have one"
        )
    if bool(schedule.milestones) != (schedule.curve == "milestones"):
        stated = ",".join(f"{epoch:g}" for epoch in schedule.milestones) or "none"
        yield (
            f"schedule.milestones is {stated}, and schedule.curve is {schedule.curve!r}; set both, "
            "for example schedule.curve=milestones and schedule.milestones=8,11"
        )
    if schedule.milestones != tuple(sorted(set(schedule.milestones))):
        yield f"schedule.milestones must rise, not {schedule.milestones}"
    if schedule.cooldown and recipe.updates is not None:
        yield f"schedule.cooldown is {schedule.cooldown}, and updates ({recipe.updates}) ends it"
    if recipe.batch % optim.accumulate:
        yield f"batch is {recipe.batch}, which optim.accumulate {optim.accumulate} does not divide"
    if optim.nesterov and not optim.momentum:
        yield f"optim.nesterov needs a momentum, and optim.momentum is {optim.momentum:g}"
    if optim.eps is not None and optim.name == "sgd":
        yield f"optim.eps is {optim.eps:g}, and optim.name 'sgd' has none"
    for name, (low, high) in (("scale", augment.scale), ("ratio", augment.ratio)):
        if low > high:
            yield f"augment.{name} must be the least and the largest value, not {low:g},{high:g}"
    if recipe.loss.threshold is not None and recipe.loss.kind != "bce":
        yield f"loss.threshold is {recipe.loss.threshold:g}, and loss.kind is {recipe.loss.kind!r}"
    if recipe.loss.sum and recipe.loss.kind != "bce":
        yield f"loss.sum is true, and loss.kind is {recipe.loss.kind!r}"
    ends = [phase.until for phase in recipe.phases]
    if ends != sorted(set(ends)) or min(ends, default=1) < 1:
        yield f"phases must end at rising epochs, not {', '.join(map(str, ends))}"
    starts = [0, *ends[:-1]]
    if recipe.updates is None and any(start >= recipe.epochs for start in starts[1:]):
        share = recipe.epochs / ends[-1]
        fitting = ",".join(f"{round(p.until * share)}:{p.size}" for p in recipe.phases)
        yield (
            f"phases: the last one begins at epoch {starts[-1]}, and epochs is {recipe.epochs}; "
            f"set phases too, for example phases={fitting}, or phases=none"
        )
    for phase in recipe.phases:
        if phase.size < 1:
            yield f"phases: size must be 1 or more, not {phase.size}"
