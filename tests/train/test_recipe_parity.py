"""Each recipe equals an independent reference: timm's factories, the authors' code in its own
terms, or the formula of the paper. First its whole course, update by update; then 20 steps of
training in float64 beside the reference's own objects."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import pytest
import torch
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.optim.rmsprop_tf import RMSpropTF
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV2, ModelEmaV3, dispatch_clip_grad
from torch import nn
from torch.nn import functional

from fleetfoot.models import create_model
from fleetfoot.train.averaging import Average
from fleetfoot.train.groups import parameter_groups
from fleetfoot.train.losses import loss
from fleetfoot.train.optimisers import build, set_rates_
from fleetfoot.train.recipes import RECIPES
from fleetfoot.train.schedules import Schedules

UPDATES = 3  # in an epoch


@dataclass(frozen=True)
class Reference:
    """What a recipe must equal. Functions of an update are given (update, updates an epoch)."""

    total: Callable[[int], int]
    lr: Callable[[int, int], list[float]]
    """Rates of the first so many updates."""
    optimiser: Callable[[nn.Module], torch.optim.Optimizer]
    weight_decay: Callable[[int, int], float]
    average: Callable[[nn.Module], object] | None = None
    decay: Callable[[int], float] | None = None
    size: Callable[[int], int | None] = lambda epoch: 224
    policy: Callable[[int], str] = lambda epoch: ""
    clip: float | None = None
    smoothing: float = 0.1
    alpha: float = 0.0
    """Share of a hard teacher."""


def by_timm(count, updates, *, epochs, per="epoch", **arguments):
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=arguments.pop("lr"))
    scheduler, _ = create_scheduler_v2(
        optimiser,
        num_epochs=epochs,
        step_on_epochs=per == "epoch",
        updates_per_epoch=updates,
        **arguments,
    )
    rates = []
    for update in range(count):
        rates.append(optimiser.param_groups[0]["lr"])
        scheduler.step_update(update + 1)
        if (update + 1) % updates == 0:
            scheduler.step((update + 1) // updates)
    return rates


def by_epoch(rate):
    return lambda count, updates: [rate(update // updates) for update in range(count)]


# ---- FasterNet: Lightning Bolts' recursion; timm's factory on bare parameters


@cache
def bolts(lr, epochs=300, warmup=20, start=1e-6, low=1e-5):
    rates, span = [start], epochs - warmup
    for epoch in range(1, epochs):
        if epoch < warmup:
            rates.append(rates[-1] + (lr - start) / (warmup - 1))
        elif epoch == warmup:
            rates.append(lr)
        else:
            now, before = (1 + math.cos(math.pi * (e - warmup) / span) for e in (epoch, epoch - 1))
            rates.append(now / before * (rates[-1] - low) + low)
    return rates


def fasternet(weight_decay, policy, lr=0.004, clip=None):
    return Reference(
        total=lambda updates: 300 * updates,
        lr=by_epoch(lambda epoch: bolts(lr)[epoch]),
        optimiser=lambda model: create_optimizer_v2(
            model.parameters(), opt="adamw", lr=lr, weight_decay=weight_decay
        ),
        weight_decay=lambda update, updates: weight_decay,
        size=lambda epoch: 192 if epoch < 280 else 224,
        policy=lambda epoch: policy,
        clip=clip,
    )


# ---- FastViT: timm's factories, and the average of timm's second version


def fastvit(alpha=0.0):
    return Reference(
        total=lambda updates: 310 * updates,
        lr=lambda count, updates: by_timm(
            count,
            updates,
            epochs=300,
            lr=1e-3,
            sched="cosine",
            warmup_epochs=5,
            warmup_lr=1e-6,
            min_lr=1e-5,
            cooldown_epochs=10,
        ),
        optimiser=lambda model: create_optimizer_v2(model, opt="adamw", lr=1e-3, weight_decay=0.05),
        weight_decay=lambda update, updates: 0.05,
        average=lambda model: ModelEmaV2(model, decay=0.9995),
        decay=lambda update: 0.9995,
        size=lambda epoch: 256,
        policy=lambda epoch: "rand-m9-mstd0.5-inc1",
        alpha=alpha,
    )


# ---- MobileOne: the paper's two cosines


def mobileone(*, progressive):
    def cosine(high, low, epoch):
        return low + (high - low) * (1 + math.cos(math.pi * epoch / 300)) / 2

    return Reference(
        total=lambda updates: 300 * updates,
        lr=by_epoch(lambda epoch: cosine(0.1, 0.0, epoch)),
        optimiser=lambda model: create_optimizer_v2(
            model, opt="momentum", lr=0.1, weight_decay=1e-4
        ),
        weight_decay=lambda update, updates: cosine(1e-4, 1e-5, update // updates),
        average=lambda model: ModelEmaV2(model, decay=0.9995),
        decay=lambda update: 0.9995,
        size=lambda epoch: 224 if not progressive or epoch >= 112 else 160 if epoch < 37 else 192,
        policy=lambda epoch: (
            f"rand-m{2 if epoch < 37 else 5 if epoch < 112 else 7}-mstd0.5-inc1"
            if progressive
            else ""
        ),
    )


# ---- MobileNets: TensorFlow's RMSProp, decay on all kernels but depthwise ones


def rmsprop(lr, weight_decay):
    def make(model):
        depthwise = {
            id(m.weight)
            for m in model.modules()
            if isinstance(m, nn.Conv2d) and m.groups == m.in_channels
        }
        kernels = [p for p in model.parameters() if p.ndim > 1 and id(p) not in depthwise]
        others = [p for p in model.parameters() if p.ndim <= 1 or id(p) in depthwise]
        return RMSpropTF(
            [
                {"params": kernels, "weight_decay": weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=lr,
            alpha=0.9,
            momentum=0.9,
            eps=1.0,
        )

    return make


def mobilenet(lr, gamma, every, epochs, weight_decay=4e-5, **more):
    return Reference(
        total=lambda updates: epochs * updates,
        lr=by_epoch(lambda epoch: lr * gamma ** (epoch // every)),
        optimiser=rmsprop(lr, weight_decay),
        weight_decay=lambda update, updates: weight_decay,
        smoothing=0.0,
        **more,
    )


def reproduced(lr, warmup, start, optimiser, **more):
    """The rate of d-li14's imagenet.py, which counts updates."""

    def rates(count, updates):
        first, last = warmup * updates, 150 * updates
        return [
            start + (lr - start) * update / first
            if update < first
            else lr * (1 + math.cos(math.pi * (update - first) / (last - first))) / 2
            for update in range(count)
        ]

    return Reference(
        total=lambda updates: 150 * updates,
        lr=rates,
        optimiser=optimiser,
        weight_decay=lambda update, updates: 4e-5,
        **more,
    )


class TensorFlowAverage:
    """shadow -= (1 - decay) * (shadow - value), with decay min(decay, (1 + n) / (10 + n))."""

    def __init__(self, model):
        self.module, self.updates = copy.deepcopy(model), 0

    @torch.no_grad()
    def update(self, model):
        decay = min(0.9999, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for shadow, value in zip(
            self.module.state_dict().values(), model.state_dict().values(), strict=True
        ):
            shadow.copy_(shadow - (1 - decay) * (shadow - value) if value.ndim else value)


# ---- ShuffleNets: torch's LambdaLR, stepped before the first update as the authors' loop does


def shufflenet(iterations):
    def rates(count, updates):
        optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: (1.0 - step / iterations) if step <= iterations else 0
        )
        found = []
        for _ in range(count):
            optimiser.step()  # of the update before
            scheduler.step()
            found.append(optimiser.param_groups[0]["lr"])
        return found

    def make(model):
        named = list(model.named_parameters())
        decaying = [p for name, p in named if name.find("weight") >= 0 and p.ndim > 1]
        others = [p for name, p in named if not (name.find("weight") >= 0 and p.ndim > 1)]
        return torch.optim.SGD(
            [{"params": decaying}, {"params": others, "weight_decay": 0.0}],
            lr=0.5,
            momentum=0.9,
            weight_decay=4e-5,
        )

    return Reference(
        total=lambda updates: iterations,
        lr=rates,
        optimiser=make,
        weight_decay=lambda update, updates: 4e-5,
    )


# ---- Our own: timm's factories


def own(optimiser, weight_decay, schedule, total, average=None, **more):
    return Reference(
        total=total,
        lr=lambda count, updates: by_timm(count, updates, per="update", **schedule),
        optimiser=lambda model: create_optimizer_v2(model, weight_decay=weight_decay, **optimiser),
        weight_decay=lambda update, updates: weight_decay,
        **(
            {}
            if average is None
            else {
                "average": lambda model: ModelEmaV3(model, decay=average, use_warmup=True),
                "decay": lambda update: (
                    min(average, 1 - (1 + update) ** (-2 / 3)) if update else 0.0
                ),
            }
        ),
        **more,
    )


M3, M5, M7 = (f"rand-m{m}-mstd0.5-inc1" for m in (3, 5, 7))
REFERENCES = {
    "fasternet_t0": fasternet(0.005, ""),
    "fasternet_t1": fasternet(0.01, M3),
    "fasternet_t2": fasternet(0.02, M5),
    "fasternet_s": fasternet(0.03, M7),
    "fasternet_m": fasternet(0.05, M7, lr=0.002, clip=1.0),
    "fasternet_l": fasternet(0.05, M7, lr=0.002, clip=0.01),
    **{f"fastvit_{v}": fastvit() for v in ("t8", "t12", "s12", "sa12", "sa24", "sa36", "ma36")},
    **{
        f"fastvit_{v}_distilled": fastvit(0.5)
        for v in ("t8", "t12", "s12", "sa12", "sa24", "sa36", "ma36")
    },
    **{f"mobileone_s{n}": mobileone(progressive=n > 1) for n in range(5)},
    "mobilenet_v1": mobilenet(0.045, 0.94, 2, 100, clip=2.0),
    "mobilenet_v2": mobilenet(0.045, 0.98, 1, 300),
    "mobilenet_v3": mobilenet(
        0.1,
        0.99,
        3,
        600,
        1e-5,
        average=TensorFlowAverage,
        decay=lambda update: min(0.9999, (1 + update) / (10 + update)),
    ),
    "mobilenet_v2_sgd": reproduced(
        0.05,
        0,
        0.0,
        lambda model: torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=4e-5),
        smoothing=0.0,
    ),
    "mobilenet_v3_sgd": reproduced(
        0.4,
        5,
        0.1,
        lambda model: create_optimizer_v2(model, opt="momentum", lr=0.4, weight_decay=4e-5),
    ),
    "shufflenet_v1": shufflenet(300_000),
    "shufflenet_v2": shufflenet(300_000),
    "shufflenet_v2_plus": shufflenet(450_000),
    "finetune": own(
        {"opt": "adamw", "lr": 1e-3, "layer_decay": 0.8},
        0.05,
        {"lr": 1e-3, "epochs": 20, "warmup_epochs": 1, "warmup_lr": 1e-6},
        lambda updates: 20 * updates,
        average=0.99,
        clip=1.0,
        size=lambda epoch: None,
        policy=lambda epoch: "ta_wide",
    ),
    "digits": own(
        {"opt": "adamw", "lr": 2e-3},
        0.05,
        {"lr": 2e-3, "epochs": 20, "warmup_epochs": 2, "warmup_lr": 1e-5},
        lambda updates: 20 * updates,
        average=0.99,
        size=lambda epoch: 32,
    ),
    "cifar": own(
        {"opt": "sgd", "lr": 0.1},
        5e-4,
        {"lr": 0.1, "epochs": 200, "warmup_epochs": 5, "warmup_lr": 1e-3},
        lambda updates: 200 * updates,
        size=lambda epoch: 32,
    ),
    "quick": Reference(
        total=lambda updates: 100,
        lr=lambda count, updates: [
            1e-3 * (1 + math.cos(math.pi * update / 100)) / 2 for update in range(count)
        ],
        optimiser=lambda model: create_optimizer_v2(model, opt="adamw", lr=1e-3, weight_decay=0.05),
        weight_decay=lambda update, updates: 0.05,
        size=lambda epoch: 96,
        clip=1.0,
    ),
}


def test_every_recipe_has_a_reference():
    assert set(REFERENCES) == set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_the_whole_course_equals_the_reference(name):
    recipe, reference = RECIPES[name], REFERENCES[name]
    course = Schedules.of(recipe, UPDATES)
    total = reference.total(UPDATES)
    assert course.total_updates == total
    if recipe.updates is not None and total > 1000:  # another test takes every update
        total = 1000

    # 1e-10: Lightning Bolts computes a rate from the one before, and rounds each time
    assert [course.lr(u) for u in range(total)] == pytest.approx(
        reference.lr(total, UPDATES), rel=1e-10, abs=1e-18
    )
    assert [course.weight_decay(u) for u in range(total)] == pytest.approx(
        [reference.weight_decay(u, UPDATES) for u in range(total)], rel=1e-12
    )
    assert (recipe.ema.decay is None) == (reference.decay is None)
    if reference.decay is not None:
        assert [course.ema_decay(u) for u in range(total)] == [
            reference.decay(u) for u in range(total)
        ]
    epochs = range(-(-total // UPDATES))
    assert [course.size(e) for e in epochs] == [reference.size(e) for e in epochs]
    assert [course.policy(e) for e in epochs] == [reference.policy(e) for e in epochs]
    assert recipe.optim.clip == reference.clip


@pytest.mark.parametrize("name", ["shufflenet_v2", "shufflenet_v2_plus"])
def test_every_rate_of_megvii_s_course(name):
    course, total = Schedules.of(RECIPES[name], 1251), RECIPES[name].updates
    assert [course.lr(u) for u in range(total)] == [
        0.5 * (1 - u / total) for u in range(1, total + 1)
    ]


class Tiny(nn.Module):
    """A network with each kind of parameter, divided as timm divides its own."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8))
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
                nn.BatchNorm2d(8),
                nn.Conv2d(8, 8, 1, bias=False),
                nn.BatchNorm2d(8),
                nn.ReLU(),
            )
            for _ in range(2)
        )
        self.weight = nn.Parameter(torch.ones(8, 1, 1))  # a layer scale has three dimensions
        self.head = nn.Linear(8, 5)

    def group_matcher(self, coarse=False):
        return {"stem": r"^stem", "blocks": r"^blocks\.(\d+)"}

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = x + self.weight * block(x)
        return self.head(x.mean((2, 3)))


NETWORKS = {
    "tiny": Tiny,
    # timm gives rates by layer to its own networks only
    "timm": lambda: create_model("timm:mobilenetv3_small_050", num_classes=5, drop_rate=0.0),
}


def distinct(*parts):
    """One recipe for each set of values of these parts."""
    return list({tuple(getattr(r, p) for p in parts): name for name, r in RECIPES.items()}.values())


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("name", distinct("optim"))
def test_groups_equal_the_reference(name, make):
    model = make()
    names = {id(p): n for n, p in model.named_parameters()}
    theirs = {
        (frozenset(names[id(p)] for p in g["params"]), g["weight_decay"], g.get("lr_scale", 1.0))
        for g in REFERENCES[name].optimiser(model).param_groups
    }
    optim = RECIPES[name].optim
    ours = {
        (frozenset(g.names), optim.weight_decay if g.decays else 0.0, g.lr_scale)
        for g in parameter_groups(model, optim)
    }
    assert ours == theirs


SOME = ("fasternet_l", "fastvit_t8_distilled", "mobilenet_v3", "finetune")
"""Recipes that take 20 steps with a network of timm's too."""


@pytest.mark.parametrize(
    ("name", "network"),
    [
        *((name, "tiny") for name in distinct("optim", "schedule", "ema", "loss", "distil")),
        *(pytest.param(name, "timm", marks=pytest.mark.slow) for name in SOME),
    ],
)
def test_twenty_steps_end_where_the_reference_ends(name, network):
    """An update is an epoch here, so that rates by epoch change too."""
    steps, reference = 20, REFERENCES[name]
    recipe = replace(RECIPES[name], precision="float64")
    model = NETWORKS[network]().double().train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    twin = copy.deepcopy(model)
    course = Schedules.of(recipe, 1)
    optimiser, theirs = build(model, recipe), reference.optimiser(twin)
    average = Average(model) if recipe.ema.decay is not None else None
    their_average = reference.average(twin) if reference.average else None
    criterion, their_criterion = loss(recipe), SoftTargetCrossEntropy()
    rates = reference.lr(steps, 1)

    for step in range(steps):
        x = torch.randn(4, 3, 32, 32, dtype=torch.float64)
        labels, lam = torch.randint(0, 5, (2, 4)), 0.25
        hot, other = functional.one_hot(labels, 5).double()
        teacher = torch.randn(4, 5, dtype=torch.float64) if recipe.distil.teacher else None

        set_rates_(optimiser, lr=course.lr(step), weight_decay=course.weight_decay(step))
        optimiser.zero_grad()
        criterion(model(x), lam * hot + (1 - lam) * other, teacher).backward()
        if recipe.optim.clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), recipe.optim.clip)
        optimiser.step()
        if average is not None:
            average.update_(model, course.ema_decay(step))

        for group in theirs.param_groups:
            group["lr"] = rates[step] * group.get("lr_scale", 1.0)
            if group["weight_decay"]:
                group["weight_decay"] = reference.weight_decay(step, 1)
        theirs.zero_grad()
        off = reference.smoothing / 5
        smooth = [t * (1 - reference.smoothing) + off for t in (hot, other)]
        logits = twin(x)
        value = their_criterion(logits, lam * smooth[0] + (1 - lam) * smooth[1])
        if teacher is not None:
            taught = functional.cross_entropy(logits, teacher.argmax(dim=1))
            value = value * (1 - reference.alpha) + taught * reference.alpha
        value.backward()
        if reference.clip is not None:
            dispatch_clip_grad(twin.parameters(), reference.clip)
        theirs.step()
        if isinstance(their_average, ModelEmaV3):
            their_average.update(twin, step=step + 1)
        elif their_average is not None:
            their_average.update(twin)

    for key, value in twin.state_dict().items():
        torch.testing.assert_close(model.state_dict()[key], value, rtol=1e-9, atol=1e-9)
    if average is not None:
        for key, value in their_average.module.state_dict().items():
            got = average.module.state_dict()[key]
            if key.endswith("num_batches_tracked"):  # ModelEmaV2 averages and rounds counts too
                continue
            torch.testing.assert_close(got, value, rtol=1e-9, atol=1e-9)
    assert not any(torch.equal(model.state_dict()[key], before[key]) for key in before)
