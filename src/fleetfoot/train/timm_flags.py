"""The flags of timm's ``train.py`` (1.0.31), read as settings of a run.

Only flags that are given count; whatever timm would take as the default of another flag stays as
the recipe has it. A flag that means nothing here is an error that says so.

What differs from timm:

- ``--batch-size`` is that of one process in timm, and of a part if gradients are accumulated; here
  ``batch`` is the whole update's.
- ``--sched`` without ``--sched-on-updates`` changes the rate after each epoch.
- ``--warmup-prefix`` adds the warm-up to ``--epochs``; here ``epochs`` includes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from fleetfoot.errors import UnknownNameError
from fleetfoot.train import limits
from fleetfoot.train.settings import Settings

Known = TypeVar("Known")
Given = Mapping[str, tuple[str, ...]]
"""Values of each flag that is given; none for a switch."""
Several = Callable[[tuple[str, ...], Given], list[str]]
"""Makes changes such as ``optim.lr=1e-3`` from a flag's values and those of the other flags."""


@dataclass(frozen=True)
class Flag:
    """One flag of timm's."""

    to: str | Several
    """Name of the setting, or what makes the changes; "" if another flag reads it."""
    values: int = 1
    """Number of values; 0 for a switch."""
    optional: bool = False
    """Whether the values may be left out."""


@dataclass(frozen=True)
class Read:
    """What timm's flags say."""

    settings: Settings
    others: dict[str, str]
    """Flags that no setting has, but an option of the command: ``model``, ``data-dir``, ``output``
    and ``resume``."""


def _switch(change: str) -> Flag:
    return Flag(lambda values, given: [change], 0)


def _optimiser(values: tuple[str, ...], given: Given) -> list[str]:
    kinds = {
        "adamw": ["adamw"],
        "sgd": ["sgd", "optim.nesterov=true"],
        "nesterov": ["sgd", "optim.nesterov=true"],
        "momentum": ["sgd", "optim.nesterov=false"],
        "rmsprop": ["rmsprop"],
        "rmsproptf": ["rmsprop_tf"],
        "lamb": ["lamb"],
    }
    name, *more = _known("--opt", values[0].lower(), kinds)
    return [f"optim.name={name}", *more]


def _curve(values: tuple[str, ...], given: Given) -> list[str]:
    if values[0] == "poly" and float(given.get("--decay-rate", ("0.1",))[0]) == 1:
        curve = "linear"
    else:
        kinds = {"cosine": "cosine", "step": "step", "constant": "constant", "none": "constant"}
        curve = _known(
            "--sched", values[0], kinds, "poly is known with --decay-rate 1, which is linear"
        )
    per = "update" if "--sched-on-updates" in given else "epoch"
    none = ["schedule.warmup=0"] if values[0] == "none" else []
    return [f"schedule.curve={curve}", f"schedule.per={per}", *none]


def _decay_rate(values: tuple[str, ...], given: Given) -> list[str]:
    return [] if given.get("--sched") == ("poly",) else [f"schedule.gamma={values[0]}"]


def _base_rate(values: tuple[str, ...], given: Given) -> list[str]:
    if "--lr" in given:  # timm takes the base rate only without a rate
        return []
    optimiser = given.get("--opt", ("sgd",))[0].lower()
    usual = "sqrt" if "ada" in optimiser or "lamb" in optimiser else "linear"
    rule = given.get("--lr-base-scale", (usual,))[0]
    size = given.get("--lr-base-size", ("256",))[0]
    return [f"optim.lr={values[0]}", f"optim.lr_batch={size}", f"optim.lr_rule={rule or usual}"]


def _mode(values: tuple[str, ...], given: Given) -> list[str]:
    _known("--clip-mode", values[0], {"norm": "norm"})
    return []


def _one(flag: str, only: float) -> Several:
    """A flag that is known with one value only, which is what happens anyway."""

    def read(values: tuple[str, ...], given: Given) -> list[str]:
        if float(values[0]) != only:
            raise ValueError(
                f"timm's {flag} {values[0]} has no equivalent here: {flag} is always {only:g}"
            )
        return []

    return read


def _repeats(values: tuple[str, ...], given: Given) -> list[str]:
    return [f"augment.repeats={max(1, int(float(values[0])))}"]


def _ema(values: tuple[str, ...], given: Given) -> list[str]:
    decay = given.get("--model-ema-decay", ("0.9998",))[0]
    warmup = "timm" if "--model-ema-warmup" in given else "copy"
    return [f"ema.decay={decay}", f"ema.warmup={warmup}"]


def _precision(values: tuple[str, ...], given: Given) -> list[str]:
    kinds = {"float16": "fp16", "bfloat16": "bf16"}
    dtype = given.get("--amp-dtype", ("float16",))[0]
    return [f"precision={_known('--amp-dtype', dtype, kinds)}"] if "--amp" in given else []


def _input_size(values: tuple[str, ...], given: Given) -> list[str]:
    _, height, width = values
    if height != width:
        raise ValueError(f"--input-size: training takes square pictures, not {height} × {width}")
    return [f"size={height}"]


def _no_augmentation(values: tuple[str, ...], given: Given) -> list[str]:
    off = {"crop": "none", "flip": "0", "colour_jitter": "0", "policy": "", "erase": "0"}
    return [f"augment.{name}={value}" for name, value in off.items()]


def _batch(values: tuple[str, ...], given: Given) -> list[str]:
    return []  # from_timm_flags reads it: it needs the number of processes


def _teacher_loss(values: tuple[str, ...], given: Given) -> list[str]:
    return [f"distil.kind={_known('--kd-loss-type', values[0], {'kl': 'soft'})}"]


def _teacher_kind(values: tuple[str, ...], given: Given) -> list[str]:
    _known("--kd-distill-type", values[0], {"logit": "logit"})
    return ["distil.kind=soft"]


def _compiled(values: tuple[str, ...], given: Given) -> list[str]:
    return [
        f"run.compile={_known('--torchcompile', (*values, 'inductor')[0], {'inductor': 'true'})}"
    ]


def _off_epoch(values: tuple[str, ...], given: Given) -> list[str]:
    return [f"mix.until={values[0] if int(values[0]) else 'none'}"]


FLAGS: dict[str, Flag] = {
    "--batch-size": Flag(_batch),
    "--grad-accum-steps": Flag("optim.accumulate"),
    "--epochs": Flag("epochs"),
    "--seed": Flag("seed"),
    "--img-size": Flag("size"),
    "--input-size": Flag(_input_size, 3),
    "--pretrained": _switch("init.weights=pretrained"),
    "--initial-checkpoint": Flag("init.weights"),
    "--opt": Flag(_optimiser),
    "--opt-eps": Flag("optim.eps"),
    "--opt-betas": Flag(lambda values, given: [f"optim.betas={','.join(values)}"], 2),
    "--momentum": Flag("optim.momentum"),
    "--weight-decay": Flag("optim.weight_decay"),
    "--clip-grad": Flag("optim.clip"),
    "--clip-mode": Flag(_mode),
    "--layer-decay": Flag("optim.layer_decay"),
    "--sched": Flag(_curve),
    "--sched-on-updates": _switch("schedule.per=update"),
    "--lr": Flag(lambda values, given: [f"optim.lr={values[0]}", "optim.lr_batch=none"]),
    "--lr-base": Flag(_base_rate),
    "--lr-base-size": Flag(""),
    "--lr-base-scale": Flag(""),
    "--warmup-lr": Flag("schedule.warmup_lr"),
    "--min-lr": Flag("schedule.min_lr"),
    "--decay-epochs": Flag("schedule.step"),
    "--warmup-epochs": Flag("schedule.warmup"),
    "--warmup-prefix": _switch("schedule.warmup_prefix=true"),
    "--cooldown-epochs": Flag("schedule.cooldown"),
    "--decay-rate": Flag(_decay_rate),
    "--no-aug": Flag(_no_augmentation, 0),
    "--scale": Flag(lambda values, given: [f"augment.scale={','.join(values)}"], 2),
    "--ratio": Flag(lambda values, given: [f"augment.ratio={','.join(values)}"], 2),
    "--hflip": Flag("augment.flip"),
    "--vflip": Flag(_one("--vflip", 0)),
    "--color-jitter": Flag("augment.colour_jitter"),
    "--aa": Flag("augment.policy"),
    "--aug-repeats": Flag(_repeats),
    "--bce-loss": _switch("loss.kind=bce"),
    "--bce-sum": _switch("loss.sum=true"),
    "--bce-target-thresh": Flag("loss.threshold"),
    "--reprob": Flag("augment.erase"),
    "--remode": Flag("augment.erase_mode"),
    "--recount": Flag(_one("--recount", 1)),
    "--mixup": Flag("mix.mixup"),
    "--cutmix": Flag("mix.cutmix"),
    "--mixup-prob": Flag("mix.prob"),
    "--mixup-switch-prob": Flag("mix.switch_prob"),
    "--mixup-mode": Flag("mix.mode"),
    "--mixup-off-epoch": Flag(_off_epoch),
    "--smoothing": Flag("loss.smoothing"),
    "--train-interpolation": Flag("augment.interpolation"),
    "--crop-pct": Flag("crop_pct"),
    "--drop": Flag("drop"),
    "--drop-path": Flag("drop_path"),
    "--bn-momentum": Flag("bn_momentum"),
    "--sync-bn": _switch("run.sync_bn=true"),
    "--model-ema": Flag(_ema, 0),
    "--model-ema-decay": Flag(_ema),
    "--model-ema-warmup": Flag(_ema, 0),
    "--amp": Flag(_precision, 0),
    "--amp-dtype": Flag(_precision),
    "--channels-last": _switch("run.channels_last=true"),
    "--grad-checkpointing": _switch("run.checkpointing=true"),
    "--torchcompile": Flag(_compiled, optional=True),
    "--device": Flag("run.device"),
    "--workers": Flag("run.workers"),
    "--recovery-interval": Flag("run.save_updates"),
    "--checkpoint-hist": Flag("run.keep"),
    "--val-interval": Flag("run.eval_every"),
    "--kd-model-name": Flag("distil.teacher"),
    "--kd-distill-type": Flag(_teacher_kind),
    "--kd-loss-type": Flag(_teacher_loss),
    "--kd-temperature": Flag("distil.temperature"),
}
"""timm's flags and the settings that they mean."""

SHORT = {
    "-b": "--batch-size",
    "-j": "--workers",
    "--dr": "--decay-rate",
    "-vb": "--validation-batch-size",
    "-c": "--config",
}

OTHERS = ("--model", "--data-dir", "--output", "--resume")
"""Flags that an option of the command stands for."""

_REASONS = {
    "the network and the data set decide it": """
        --mean --std --interpolation --in-chans --num-classes --gp --model-kwargs
        --bn-eps --fast-norm --head-init-scale --head-init-bias""",
    "the layout of the data is recognised": """
        --dataset --train-split --val-split --train-num-samples --val-num-samples --class-map
        --dataset-download --dataset-trust-remote-code --input-img-mode --input-key --target-key""",
    "curves are constant, cosine, linear, step and exponential": """
        --lr-noise --lr-noise-pct --lr-noise-std --lr-cycle-mul --lr-cycle-decay --lr-cycle-limit
        --lr-k-decay --decay-milestones --patience-epochs""",
    "sizes are changed by the recipe's phases": """
        --train-img-sizes --train-batch-sizes --train-size-probs --train-size-schedule
        --train-size-schedule-spread --train-size-random-mix --variable-batch-loss-scale""",
    "the loop decides it": """
        --log-interval --pin-mem --no-prefetcher --worker-seeding --start-epoch --no-resume-opt
        --use-multi-epochs-loader --validation-batch-size --dist-bn --no-ddp-bb --synchronize-step
        --local_rank --device-modules --eval-metric --save-images --epoch-repeats
        --train-batches-per-epoch --train-steps-per-epoch""",
    "networks of patches of several sizes are not trained here": """
        --naflex-loader --naflex-train-seq-lens --naflex-max-seq-len --naflex-patch-sizes
        --naflex-patch-size-probs --naflex-loss-scale --naflex-patchify-channels-first""",
    "summary.csv and TensorBoard show the run": """
        --log-wandb --wandb-project --wandb-tags --wandb-resume-id""",
    "the weights of the two losses are distil.alpha and 1 - distil.alpha": """
        --distill-loss-weight --task-loss-weight""",
    "a teacher's logits are learned, not its features": """
        --kd-student-feature-dim --kd-teacher-feature-dim --kd-token-distill-type""",
    "timm calls it deprecated; use --drop-path": "--drop-connect",
    "use --output": "--experiment",
    "use --initial-checkpoint": "--pretrained-path",
    "use --torchcompile": "--torchscript --torchcompile-mode --fuser",
    "use --amp": "--model-dtype",
    "fleetfoot saves its settings as args.yaml; give single flags": "--config",
    "": """
        --drop-block --jsd-loss --aug-splits --resplit --split-bn --cutmix-minmax --grayscale-prob
        --color-jitter-prob --gaussian-blur-prob --bce-pos-weight --layer-decay-min-scale
        --layer-decay-no-opt-scale --opt-kwargs --model-ema-force-cpu --tta --train-crop-mode""",
}
WITHOUT = {flag: reason for reason, flags in _REASONS.items() for flag in flags.split()}
"""Flags of timm's that mean nothing here, and why if there is a reason."""


def from_timm_flags(arguments: Sequence[str], settings: Settings, *, processes: int = 1) -> Read:
    """The settings with those that flags of timm's change.

    >>> read = from_timm_flags(["--opt", "adamw", "--lr=1e-3", "-b", "64"], Settings(), processes=8)
    >>> read.settings.recipe.batch, read.settings.recipe.optim.lr
    (512, 0.001)

    Args:
        processes: number of processes, each of which sees ``--batch-size`` pictures.

    Raises:
        UnknownNameError: a flag or value is none of timm's.
        ValueError: a flag has no equivalent here, or a value is not allowed.
    """
    given = _split(arguments)
    others = {flag[2:]: given[flag][0] for flag in OTHERS if flag in given}
    changes: list[str] = []
    for flag, values in given.items():
        to = FLAGS[flag].to if flag in FLAGS else ""
        if callable(to):
            changes += to(values, given)
        elif to:
            changes.append(f"{to}={values[0]}")
    made = settings
    for change in changes:
        name, _, text = change.partition("=")
        made = made.with_value(name, text)
    recipe = made.recipe
    if "--batch-size" in given:
        each = int(given["--batch-size"][0])
        made = made.with_value("batch", str(each * processes * recipe.optim.accumulate))
    if "--warmup-prefix" in given and "--epochs" in given:
        total = recipe.epochs + recipe.schedule.warmup
        made = made.with_value("epochs", f"{total:g}")
    limits.check(made.recipe, made.run)
    return Read(made, others)


def _split(arguments: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Each flag by its long name, with its values."""
    words: list[str] = []
    for word in arguments:
        head, equals, tail = word.partition("=")
        words += [head, tail] if equals and word.startswith("-") else [word]
    found: dict[str, tuple[str, ...]] = {}
    while words:
        flag = words.pop(0)
        flag = SHORT.get(flag, flag)
        if flag in WITHOUT:
            reason = f": {WITHOUT[flag]}" if WITHOUT[flag] else ""
            raise ValueError(f"timm's {flag} has no equivalent here{reason}")
        if flag not in FLAGS and flag not in OTHERS:
            raise UnknownNameError.of("option or flag of timm's", flag, [*FLAGS, *OTHERS])
        kind, count = FLAGS.get(flag, Flag("")), taken(flag, words)
        if count < kind.values and not kind.optional:
            needed = "a value" if kind.values == 1 else f"{kind.values} values"
            raise ValueError(f"{flag} needs {needed}")
        found[flag] = tuple(words[:count])
        del words[:count]
    return found


def taken(flag: str, words: Sequence[str]) -> int:
    """How many of the words after a flag, given by its long name, are its values."""
    if flag in WITHOUT:  # all of them, so that the reason is told and not that they are too many
        most = len(words)
    else:
        most = FLAGS[flag].values if flag in FLAGS else int(flag in OTHERS)
    count = 0
    while count < min(most, len(words)) and not _is_flag(words[count]):
        count += 1
    return count


def _is_flag(word: str) -> bool:
    """Whether a word is a flag and not a number below zero."""
    return word.startswith("-") and not word[1:2].isdigit() and word[1:2] != "."


def _known(flag: str, value: str, kinds: Mapping[str, Known], hint: str = "") -> Known:
    if value not in kinds:
        raise UnknownNameError.of(f"value of {flag}", value, kinds, hint)
    return kinds[value]
