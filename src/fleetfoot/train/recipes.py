"""Recipes: every family as its authors trained it on ImageNet-1k, and a few for smaller sets.

Each states its source, the accuracy to expect, the time, and whether a run of this project has
confirmed it. No ImageNet run has been made here; what tests show is that learning rates, weight
decays, groups, averages and sizes are those of the source, update by update.

Values that a source does not print are named in its row.
"""

from __future__ import annotations

from dataclasses import replace

from fleetfoot.data.settings import Augment, Mix, Phase
from fleetfoot.errors import UnknownNameError
from fleetfoot.models import family_of, list_models
from fleetfoot.tasks.catalogue import HEADS, full_name, is_task
from fleetfoot.train.config import About, Distil, Ema, Init, Loss, Optim, Recipe, Schedule
from fleetfoot.train.figures import Kind
from fleetfoot.train.scene_recipes import SCENE_RECIPES, scene_recipe_of

IMAGENET = 1_281_167
"""Pictures of ImageNet-1k's training part."""


def _time(pictures: float, *, taught: bool = False) -> str:
    hours = pictures / 1000 / 3600
    teacher = ", the teacher's answers included" if taught else ""
    return f"{hours:,.0f} h at 1,000 pictures/s{teacher}; not timed here"


# ---- FasterNet

_FASTERNET = Recipe(
    about=About(source="JierunChen/FasterNet, cfg/*.yaml, and the paper's table 6"),
    epochs=300,
    size=224,
    phases=(Phase(until=280, size=192), Phase(until=300, size=224)),
    augment=Augment(interpolation="bicubic"),
    optim=Optim(name="adamw", decay="all"),
    schedule=Schedule(
        curve="cosine",
        warmup=20,
        warmup_lr=1e-6,
        warmup_prefix=True,
        warmup_full=True,
        min_lr=1e-5,
        per="epoch",
    ),
    loss=Loss(smoothing=0.1),
    precision="fp16",
)


def _fasternet(
    variant: str,
    top1: float,
    *,
    drop_path: float,
    weight_decay: float,
    mixup: float,
    policy: str = "",
    clip: float | None = None,
) -> Recipe:
    lr, batch = (0.004, 4096) if clip is None else (0.002, 2048)  # M and L: half, and clipped
    return replace(
        _FASTERNET,
        name=f"fasternet_{variant}",
        about=replace(
            _FASTERNET.about,
            expected=f"{top1} % top-1 at 224, the best epoch by validation accuracy (README)",
            time=_time(300 * IMAGENET),
        ),
        batch=batch,
        drop_path=drop_path,
        augment=replace(_FASTERNET.augment, policy=policy),
        mix=Mix(mixup=mixup, cutmix=1.0),
        optim=replace(
            _FASTERNET.optim, lr=lr, lr_batch=batch, weight_decay=weight_decay, clip=clip
        ),
    )


_M3, _M5, _M7 = (f"rand-m{m}-mstd0.5-inc1" for m in (3, 5, 7))

_FASTERNETS = (
    _fasternet("t0", 71.9, drop_path=0.0, weight_decay=0.005, mixup=0.05),
    _fasternet("t1", 76.2, drop_path=0.02, weight_decay=0.01, mixup=0.1, policy=_M3),
    _fasternet("t2", 78.9, drop_path=0.05, weight_decay=0.02, mixup=0.1, policy=_M5),
    _fasternet("s", 81.3, drop_path=0.1, weight_decay=0.03, mixup=0.3, policy=_M7),
    _fasternet("m", 83.0, drop_path=0.2, weight_decay=0.05, mixup=0.5, policy=_M7, clip=1.0),
    _fasternet("l", 83.5, drop_path=0.3, weight_decay=0.05, mixup=0.7, policy=_M7, clip=0.01),
)

# ---- FastViT

_FASTVIT = Recipe(
    about=About(source="apple/ml-fastvit, README and the defaults of train.py"),
    epochs=300,
    batch=1024,
    size=256,
    augment=Augment(
        interpolation="bicubic",
        colour_jitter=0.4,
        policy="rand-m9-mstd0.5-inc1",
        erase=0.25,
        erase_mode="pixel",
    ),
    optim=Optim(name="adamw", lr=1e-3, lr_batch=1024, weight_decay=0.05),
    schedule=Schedule(
        curve="cosine", warmup=5, warmup_lr=1e-6, min_lr=1e-5, cooldown=10, per="epoch"
    ),
    loss=Loss(smoothing=0.1),
    ema=Ema(decay=0.9995),
    precision="fp16",
)
_REGNET = Distil(teacher="timm:regnety_160.deit_in1k", kind="hard", alpha=0.5, size=256)


def _fastvit(
    variant: str, top1: float, drop_path: float, mixup: float = 0.2, *, taught: bool = False
) -> Recipe:
    ending = "_distilled" if taught else ""
    return replace(
        _FASTVIT,
        name=f"fastvit_{variant}{ending}",
        about=replace(
            _FASTVIT.about,
            expected=f"{top1} % top-1 at 256, of the average (README)",
            time=_time(310 * IMAGENET, taught=taught),
        ),
        drop_path=drop_path,
        mix=Mix(mixup=mixup, cutmix=1.0),
        distil=_REGNET if taught else Distil(),
    )


_FASTVITS = (
    _fastvit("t8", 76.2, 0.0),
    _fastvit("t12", 79.3, 0.0),
    _fastvit("s12", 79.9, 0.0),
    _fastvit("sa12", 80.9, 0.1),
    _fastvit("sa24", 82.7, 0.1),
    _fastvit("sa36", 83.6, 0.2),
    _fastvit("ma36", 83.9, 0.35, 0.8),
    _fastvit("t8", 77.2, 0.0, taught=True),
    _fastvit("t12", 80.3, 0.0, taught=True),
    _fastvit("s12", 81.1, 0.0, taught=True),
    _fastvit("sa12", 81.9, 0.0, 0.8, taught=True),
    _fastvit("sa24", 83.4, 0.05, 0.8, taught=True),
    _fastvit("sa36", 84.2, 0.1, 0.8, taught=True),
    _fastvit("ma36", 84.6, 0.2, 0.8, taught=True),
)

# ---- MobileOne

_MOBILEONE = Recipe(
    about=About(
        source="the paper's section 4.1. Not printed: which parameters decay (here those of two "
        "dimensions or more, as in mmpretrain)"
    ),
    epochs=300,
    batch=256,
    size=224,
    augment=Augment(interpolation="bilinear"),
    optim=Optim(name="sgd", lr=0.1, lr_batch=256, weight_decay=1e-4, momentum=0.9),
    schedule=Schedule(curve="cosine", per="epoch", end_weight_decay=1e-5),
    loss=Loss(smoothing=0.1),
    ema=Ema(decay=0.9995),
)


def _mobileone(variant: str, top1: float, *, progressive: bool) -> Recipe:
    source = _MOBILEONE.about.source
    if progressive:
        source += (
            ", and mmpretrain's three phases of size and RandAugment, which reach the paper's "
            "accuracy; the paper raises size and AutoAugment's strength"
        )
    return replace(
        _MOBILEONE,
        name=f"mobileone_{variant}",
        about=About(
            source=source, expected=f"{top1} % top-1 at 224 (README)", time=_time(300 * IMAGENET)
        ),
        phases=(
            Phase(until=37, size=160, policy="rand-m2-mstd0.5-inc1"),
            Phase(until=112, size=192, policy="rand-m5-mstd0.5-inc1"),
            Phase(until=300, size=224, policy="rand-m7-mstd0.5-inc1"),
        )
        if progressive
        else (),
    )


_MOBILEONES = (
    _mobileone("s0", 71.4, progressive=False),
    _mobileone("s1", 75.9, progressive=False),
    _mobileone("s2", 77.4, progressive=True),
    _mobileone("s3", 78.1, progressive=True),
    _mobileone("s4", 79.4, progressive=True),
)

# ---- MobileNets, by TensorFlow's RMSProp, and by SGD as others reproduced them

_RMSPROP = Optim(
    name="rmsprop_tf",
    lr=0.045,
    weight_decay=4e-5,
    decay="no_depthwise",
    momentum=0.9,
    alpha=0.9,
    eps=1.0,
)

_MOBILENETS = (
    Recipe(
        name="mobilenet_v1",
        about=About(
            source="the paper's section 3.2: RMSProp as Inception V3's, no label smoothing, little "
            "or no weight decay on depthwise kernels. Rate, its decay, clipping, epochs and batch "
            "are Inception V3's (https://arxiv.org/abs/1512.00567, section 8); the authors trained "
            "asynchronously",
            expected="70.6 % top-1 at 224, width 1 (paper)",
            time=_time(100 * IMAGENET),
        ),
        epochs=100,
        batch=32,
        size=224,
        augment=Augment(interpolation="bilinear"),
        optim=replace(_RMSPROP, lr_batch=32, clip=2.0),
        schedule=Schedule(curve="step", step=2.0, gamma=0.94, per="epoch"),
    ),
    Recipe(
        name="mobilenet_v2",
        about=About(
            source="the paper's section 6.1: RMSProp, rate 0.045 times 0.98 an epoch, weight decay "
            "4e-5, batch 96 in each of 16 asynchronous workers. Not printed: epochs (300 here) and "
            "epsilon (1, as in TensorFlow-Slim)",
            expected="72.0 % top-1 at 224, width 1 (paper)",
            time=_time(300 * IMAGENET),
        ),
        epochs=300,
        batch=96,
        size=224,
        augment=Augment(interpolation="bilinear"),
        optim=replace(_RMSPROP, lr_batch=96),
        schedule=Schedule(curve="step", step=1.0, gamma=0.98, per="epoch"),
    ),
    Recipe(
        name="mobilenet_v3",
        about=About(
            source="the paper's section 6.1: RMSProp, rate 0.1 that falls by 0.01 of itself every "
            "3 epochs, batch 4096, dropout 0.2, weight decay 1e-5, average 0.9999, batch norms' "
            "average 0.99. Not printed: epochs (600 here) and epsilon (1, as in TensorFlow-Slim)",
            expected="75.2 % top-1 at 224 for large, 67.4 % for small, of the average (paper)",
            time=_time(600 * IMAGENET),
        ),
        epochs=600,
        batch=4096,
        size=224,
        bn_momentum=0.01,
        drop=0.2,
        augment=Augment(interpolation="bilinear"),
        optim=replace(_RMSPROP, lr=0.1, lr_batch=4096, weight_decay=1e-5),
        schedule=Schedule(curve="step", step=3.0, gamma=0.99, per="epoch"),
        ema=Ema(decay=0.9999, warmup="tensorflow"),
    ),
    Recipe(
        name="mobilenet_v2_sgd",
        about=About(
            source="d-li14/mobilenetv2.pytorch, README and imagenet.py: a reproduction whose every "
            "value is printed",
            expected="72.2 % top-1 at 224, width 1 (README)",
            time=_time(150 * IMAGENET),
        ),
        epochs=150,
        batch=256,
        size=224,
        augment=Augment(interpolation="bilinear"),
        optim=Optim(name="sgd", lr=0.05, lr_batch=256, weight_decay=4e-5, decay="all"),
        schedule=Schedule(curve="cosine"),
    ),
    Recipe(
        name="mobilenet_v3_sgd",
        about=About(
            source="d-li14/mobilenetv3.pytorch, README: a reproduction of large; for small it "
            "leaves label smoothing away",
            expected="74.3 % top-1 at 224 for large, 67.2 % for small (README)",
            time=_time(150 * IMAGENET),
        ),
        epochs=150,
        batch=1024,
        size=224,
        drop=0.2,
        augment=Augment(interpolation="bilinear"),
        optim=Optim(name="sgd", lr=0.4, lr_batch=1024, weight_decay=4e-5),
        schedule=Schedule(curve="cosine", warmup=5, warmup_lr=0.1, warmup_prefix=True),
        loss=Loss(smoothing=0.1),
    ),
)

# ---- ShuffleNets, as Megvii trains them

_SHUFFLENET = Recipe(
    name="shufflenet_v2",
    about=About(
        source="megvii-model/ShuffleNet-Series, ShuffleNetV2/train.py",
        expected="61.1, 69.4, 72.6 and 75.0 % top-1 at 224, widths 0.5 to 2 (README)",
        time=_time(300_000 * 1024),
    ),
    epochs=240,
    updates=300_000,
    batch=1024,
    size=224,
    bgr=True,
    reestimate=1250,
    augment=Augment(interpolation="bilinear", colour_jitter=0.4),
    optim=Optim(name="sgd", lr=0.5, lr_batch=1024, weight_decay=4e-5, momentum=0.9),
    schedule=Schedule(curve="linear", offset=1),
    loss=Loss(smoothing=0.1),
)

_SHUFFLENETS = (
    replace(
        _SHUFFLENET,
        name="shufflenet_v1",
        about=About(
            source="megvii-model/ShuffleNet-Series, ShuffleNetV1/train.py",
            expected="57.3 to 74.1 % top-1 at 224, for 0.5 g3 to 2.0 g3 (README)",
            time=_time(300_000 * 1024),
        ),
    ),
    _SHUFFLENET,
    replace(
        _SHUFFLENET,
        name="shufflenet_v2_plus",
        about=About(
            source="megvii-model/ShuffleNet-Series, ShuffleNetV2+/train.py",
            expected="74.1, 75.7 and 77.1 % top-1 at 224, small to large (README)",
            time=_time(450_000 * 1024),
        ),
        epochs=360,
        updates=450_000,
    ),
)

# ---- Smaller sets

_SMALLER = (
    Recipe(
        name="finetune",
        about=About(
            source="fleetfoot: AdamW from published weights, lower rates for earlier stages, an "
            "average that follows quickly; usual values, not tuned on a set",
            expected="depends on the data",
            time="20 passes over the pictures",
        ),
        epochs=20,
        batch=32,
        augment=Augment(scale=(0.35, 1.0), policy="ta_wide"),
        optim=Optim(name="adamw", lr=1e-3, weight_decay=0.05, layer_decay=0.8, clip=1.0),
        schedule=Schedule(curve="cosine", warmup=1, warmup_lr=1e-6),
        loss=Loss(smoothing=0.1),
        ema=Ema(decay=0.99, warmup="timm"),
        init=Init(weights="pretrained"),
    ),
    Recipe(
        name="quick",
        about=About(
            source="fleetfoot: to see a whole run",
            expected="little",
            time="100 updates of 32 pictures at 96 pixels",
        ),
        updates=100,
        batch=32,
        size=96,
        augment=Augment(scale=(0.35, 1.0)),
        optim=Optim(name="adamw", lr=1e-3, weight_decay=0.05, clip=1.0),
        schedule=Schedule(curve="cosine", warmup=0.0),
        loss=Loss(smoothing=0.1),
    ),
    Recipe(
        name="digits",
        about=About(
            source="fleetfoot, tuned for a small FasterNet on scikit-learn's digits",
            expected="above 98 % top-1 on the test part",
            time="below a minute on one core",
            measured=True,
        ),
        epochs=20,
        batch=64,
        size=32,
        augment=Augment(crop="padded", padding=1, interpolation="bilinear", flip=0.0),
        optim=Optim(name="adamw", lr=2e-3, weight_decay=0.05),
        schedule=Schedule(curve="cosine", warmup=2, warmup_lr=1e-5),
        loss=Loss(smoothing=0.1),
        ema=Ema(decay=0.99, warmup="timm"),
    ),
    Recipe(
        name="cifar",
        about=About(
            source="He et al. 2016, section 4.2 (https://arxiv.org/abs/1512.03385): padding and "
            "flips, SGD with weight decay 5e-4 and batch 128; with a cosine, Nesterov's momentum "
            "and label smoothing",
            expected="depends on the network",
            time="200 passes over the pictures",
        ),
        epochs=200,
        batch=128,
        size=32,
        augment=Augment(crop="padded", padding=4, interpolation="bilinear"),
        optim=Optim(name="sgd", lr=0.1, lr_batch=128, weight_decay=5e-4, nesterov=True),
        schedule=Schedule(curve="cosine", warmup=5, warmup_lr=1e-3),
        loss=Loss(smoothing=0.1),
    ),
)

_ALL = (*_FASTERNETS, *_FASTVITS, *_MOBILEONES, *_MOBILENETS, *_SHUFFLENETS, *_SMALLER)
RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in _ALL}
"""Every recipe for classification by its name."""
EVERY: dict[str, Recipe] = {**RECIPES, **SCENE_RECIPES}
"""Every recipe of any task by its name."""


CUSTOM = Recipe()
"""What a recipe of your own begins with."""


def recipe(name: str) -> Recipe:
    """The recipe with this name, of any task; ``custom`` has the default of every setting.

    Raises:
        UnknownNameError: there is none.
    """
    if name == CUSTOM.name:
        return CUSTOM
    if name not in EVERY:
        raise UnknownNameError.of("recipe", name, [*EVERY, CUSTOM.name])
    return EVERY[name]


def recipe_of(model: str) -> Recipe:
    """The recipe by which the authors trained a network of the zoo or of a task.

    >>> recipe_of("fastvit_t8").name, recipe_of("shufflenet_v2_x1_0").name
    ('fastvit_t8', 'shufflenet_v2')

    Raises:
        UnknownNameError: no recipe belongs to this network.
    """
    if is_task(model):
        head, _, backbone = full_name(model).partition(":")
        if (found := scene_recipe_of(head, backbone)) is not None:
            return found
        raise UnknownNameError(
            f"no recipe belongs to {model!r}; name one, for example "
            f"{general_recipe(HEADS[head].task)}"
        )
    if model in list_models():
        for name in (model, family_of(model)):
            if name in RECIPES:
                return RECIPES[name]
    general = ", ".join(one.name for one in _SMALLER)
    raise UnknownNameError(
        f"no recipe belongs to {model!r}; name one, for example {general}, or that of another "
        "network"
    )


def general_recipe(task: Kind) -> str:
    """The recipe for a user's own pictures.

    >>> general_recipe("classify"), general_recipe("detect")
    ('finetune', 'finetune-detect')
    """
    return "finetune" if task == "classify" else f"finetune-{task}"
