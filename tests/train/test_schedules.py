"""Each schedule equals timm's scheduler, Lightning Bolts' recursion or the formula of its paper,
value by value."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3
from torch import nn

from fleetfoot.train.config import Ema, Mix, Optim, Phase, Recipe, Schedule
from fleetfoot.train.schedules import Schedules

UPDATES = 7  # in an epoch


def recipe(epochs=12, *, lr=0.4, wd=0.05, **schedule):
    return Recipe(epochs=epochs, optim=Optim(lr=lr, weight_decay=wd), schedule=Schedule(**schedule))


def by_timm(epochs, *, lr=0.4, per="update", **arguments):
    """The rate of each update, by timm's scheduler used as its train.py uses it."""
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler, total = create_scheduler_v2(
        optimiser,
        num_epochs=epochs,
        step_on_epochs=per == "epoch",
        updates_per_epoch=UPDATES,
        **arguments,
    )
    rates = []
    for epoch in range(total):
        for update in range(epoch * UPDATES, (epoch + 1) * UPDATES):
            rates.append(optimiser.param_groups[0]["lr"])
            scheduler.step_update(update + 1)
        scheduler.step(epoch + 1)
    return rates


CASES = [
    ("cosine", {"curve": "cosine"}, {"sched": "cosine"}),
    (
        "cosine, warm-up hides the start",
        {"curve": "cosine", "warmup": 3, "warmup_lr": 1e-3, "min_lr": 1e-2},
        {"sched": "cosine", "warmup_epochs": 3, "warmup_lr": 1e-3, "min_lr": 1e-2},
    ),
    (
        "cosine with cooldown",
        {"curve": "cosine", "warmup": 2, "min_lr": 1e-5, "cooldown": 4},
        {"sched": "cosine", "warmup_epochs": 2, "warmup_lr": 1e-6, "min_lr": 1e-5}
        | {"cooldown_epochs": 4},
    ),
    (
        "linear",
        {"curve": "linear", "warmup": 1, "min_lr": 1e-3},
        {"sched": "poly", "decay_rate": 1.0, "warmup_epochs": 1, "warmup_lr": 1e-6}
        | {"min_lr": 1e-3},
    ),
    (
        "step",
        {"curve": "step", "step": 2.4, "gamma": 0.97, "warmup": 2},
        {"sched": "step", "decay_epochs": 2.4, "decay_rate": 0.97, "warmup_epochs": 2}
        | {"warmup_lr": 1e-6},
    ),
    (
        "constant",
        {"curve": "constant", "warmup": 2},
        {"sched": "constant", "warmup_epochs": 2, "warmup_lr": 1e-6},
    ),
]


@pytest.mark.parametrize("per", ["update", "epoch"])
@pytest.mark.parametrize(("ours", "theirs"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_equals_timms_scheduler(ours, theirs, per):
    course = Schedules.of(recipe(per=per, **ours), UPDATES)
    rates = by_timm(12, per=per, **theirs)

    assert course.total_updates == len(rates)
    assert [course.lr(update) for update in range(len(rates))] == rates


@pytest.mark.parametrize("per", ["update", "epoch"])
@pytest.mark.parametrize("sched", ["cosine", "step"])
def test_equals_timms_scheduler_after_a_prefixed_warm_up(sched, per):
    """timm adds a prefixed warm-up to its epochs; here epochs are those of the whole run."""
    ours = recipe(15, curve=sched, warmup=3, warmup_prefix=True, step=2.0, gamma=0.5, per=per)
    rates = by_timm(
        12,
        per=per,
        sched=sched,
        warmup_epochs=3,
        warmup_lr=1e-6,
        warmup_prefix=True,
        decay_epochs=2.0,
        decay_rate=0.5,
    )
    course = Schedules.of(ours, UPDATES)

    assert course.total_updates == len(rates)
    assert [course.lr(update) for update in range(len(rates))] == rates


def test_equals_the_recursion_of_lightning_bolts():
    """LinearWarmupCosineAnnealingLR computes each rate from the one before; hence the tolerance."""
    epochs, warmup, lr, start, low = 300, 20, 0.004, 1e-6, 1e-5
    rates = [start]
    for epoch in range(1, epochs):
        last, span = rates[-1], epochs - warmup
        if epoch < warmup:
            rates.append(last + (lr - start) / (warmup - 1))
        elif epoch == warmup:
            rates.append(lr)
        else:
            ratio = (1 + math.cos(math.pi * (epoch - warmup) / span)) / (
                1 + math.cos(math.pi * (epoch - warmup - 1) / span)
            )
            rates.append(ratio * (last - low) + low)
    ours = recipe(
        epochs,
        lr=lr,
        warmup=warmup,
        warmup_lr=start,
        min_lr=low,
        warmup_prefix=True,
        warmup_full=True,
        per="epoch",
    )
    course = Schedules.of(ours, UPDATES)

    assert [course.lr(epoch * UPDATES) for epoch in range(epochs)] == pytest.approx(rates, 1e-10)
    assert course.lr(5 * UPDATES) == course.lr(6 * UPDATES - 1) != course.lr(6 * UPDATES)


def test_equals_torchs_polynomial_decay():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter], lr=0.01)
    theirs = torch.optim.lr_scheduler.PolynomialLR(optimiser, total_iters=60, power=0.9)
    ours = Schedules.of(recipe(lr=0.01, curve="poly", power=0.9, epochs=3), 20)
    for update in range(60):
        # torch computes a rate from the one before, and rounds each time
        assert ours.lr(update) == pytest.approx(theirs.get_last_lr()[0], rel=1e-10)
        optimiser.step()
        theirs.step()
    assert ours.lr(60) == 0


def test_equals_torchs_milestones():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter], lr=0.02)
    theirs = torch.optim.lr_scheduler.MultiStepLR(optimiser, milestones=[8, 11], gamma=0.1)
    ours = Schedules.of(recipe(lr=0.02, curve="milestones", milestones=(8.0, 11.0)), 5)
    for epoch in range(12):
        for update in (5 * epoch, 5 * epoch + 4):
            assert ours.lr(update) == pytest.approx(theirs.get_last_lr()[0], rel=1e-12)
        optimiser.step()
        theirs.step()


def test_equals_megvii_s_linear_decay():
    """Their code advances the schedule before the first update, so that the last one has rate 0."""
    ours = replace(recipe(lr=0.5, curve="linear", offset=1), updates=300_000)
    course = Schedules.of(ours, 1251)

    assert (course.total_updates, course.total_epochs) == (300_000, 240)
    for update in (0, 1, 1250, 1251, 150_000, 299_998, 299_999):
        assert course.lr(update) == 0.5 * (1.0 - (update + 1) / 300_000)


def test_a_warm_up_of_one_step_has_the_full_rate():
    course = Schedules.of(recipe(warmup=1, warmup_full=True, per="epoch"), UPDATES)
    assert course.lr(0) == 0.4


def test_exponential_decays_between_the_steps():
    course = Schedules.of(recipe(curve="exponential", step=2.0, gamma=0.25), UPDATES)
    assert course.lr(UPDATES) == pytest.approx(0.2)
    assert course.lr(2 * UPDATES) == pytest.approx(0.1)


def test_a_rate_for_another_batch_is_scaled():
    optim = Optim(lr=0.1, lr_batch=256)
    linear = Recipe(batch=1024, optim=optim)
    root = Recipe(batch=1024, optim=replace(optim, lr_rule="sqrt"))
    assert Schedules.of(linear, 1).peak_lr == 0.4
    assert Schedules.of(root, 1).peak_lr == 0.2


def test_weight_decay_is_annealed_by_a_cosine():
    ours = recipe(300, wd=1e-4, end_weight_decay=1e-5, per="epoch")
    course = Schedules.of(ours, UPDATES)
    for epoch in (0, 1, 150, 299):
        by_hand = 1e-5 + (1e-4 - 1e-5) * (1 + math.cos(math.pi * epoch / 300)) / 2
        assert course.weight_decay(epoch * UPDATES) == pytest.approx(by_hand, rel=1e-12)
    assert course.weight_decay(300 * UPDATES) == 1e-5
    assert Schedules.of(recipe(wd=0.3), UPDATES).weight_decay(50) == 0.3


@pytest.mark.parametrize(("warmup", "uses_warmup"), [("copy", False), ("timm", True)])
def test_decay_of_the_average_equals_timms(warmup, uses_warmup):
    theirs = ModelEmaV3(nn.Linear(1, 1), decay=0.99, use_warmup=uses_warmup)
    course = Schedules.of(Recipe(ema=Ema(decay=0.99, warmup=warmup)), UPDATES)
    for update in range(2000):  # timm counts updates from 1
        assert course.ema_decay(update) == theirs.get_decay(update + 1)


def test_decay_of_the_average_by_tensorflow():
    course = Schedules.of(Recipe(ema=Ema(decay=0.9, warmup="tensorflow")), UPDATES)
    assert [course.ema_decay(update) for update in (0, 8, 80, 81)] == [0.1, 0.5, 0.9, 0.9]
    assert Schedules.of(Recipe(ema=Ema(decay=0.9)), UPDATES).ema_decay(0) == 0.9
    with pytest.raises(ValueError, match="keeps no average"):
        Schedules.of(Recipe(), UPDATES).ema_decay(0)


def test_phases_give_size_and_policy():
    phases = (Phase(until=3, size=160, policy="rand-m2"), Phase(until=5, size=192))
    course = Schedules.of(replace(Recipe(epochs=8), phases=phases), UPDATES)
    assert [course.size(epoch) for epoch in range(8)] == [160] * 3 + [192] * 5
    assert [course.policy(epoch) for epoch in (2, 3)] == ["rand-m2", ""]

    without = Schedules.of(Recipe(size=64), UPDATES)
    assert (without.size(3), without.phase(3)) == (64, None)


def test_mixing_ends():
    course = Schedules.of(Recipe(mix=Mix(mixup=0.2, until=4)), UPDATES)
    assert [course.mixes(epoch) for epoch in (0, 3, 4)] == [True, True, False]
    assert not Schedules.of(Recipe(), UPDATES).mixes(0)


def test_an_epoch_has_updates():
    with pytest.raises(ValueError, match="1 or more, not 0"):
        Schedules.of(Recipe(), 0)
