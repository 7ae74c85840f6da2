"""Every setting of a training run, as one tree of frozen dataclasses.

A recipe is a value of ``Recipe``. Any field is addressed by its dotted name, for example
``optim.lr``; a run prints and saves the whole tree. An *update* is one step of the optimiser: it
sees ``batch`` pictures, over all processes and accumulated parts together. Updates and epochs are
counted from 0.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from fleetfoot.data.settings import Augment as Augment
from fleetfoot.data.settings import Mix as Mix
from fleetfoot.data.settings import Phase as Phase
from fleetfoot.data.settings import Scene as Scene
from fleetfoot.train.figures import Kind

OptimName = Literal["adamw", "sgd", "rmsprop", "rmsprop_tf", "lamb"]
Curve = Literal["constant", "cosine", "linear", "poly", "step", "milestones", "exponential"]
Precision = Literal["float32", "bf16", "fp16", "float64"]


@dataclass(frozen=True, kw_only=True)
class Optim:
    name: OptimName = "adamw"
    """``rmsprop_tf`` and ``lamb`` are timm's; the others are torch's."""
    lr: float = 1e-3
    """Learning rate at ``lr_batch`` pictures an update."""
    lr_batch: int | None = None
    """Batch for which ``lr`` is meant: the rate is scaled by batch / lr_batch. Default: the rate is
    taken as it is."""
    lr_rule: Literal["linear", "sqrt"] = "linear"
    """Whether the rate is scaled by batch / lr_batch or by its square root."""
    weight_decay: float = 0.05
    """Decoupled from the gradient for adamw; a part of it for all others."""
    decay: Literal["matrices", "no_depthwise", "all"] = "matrices"
    """Parameters that decay: those of two dimensions or more except biases; these without the
    kernels of depthwise convolutions; or every one."""
    betas: tuple[float, float] = (0.9, 0.999)
    """For adamw and lamb."""
    momentum: float = 0.9
    """For sgd, rmsprop and rmsprop_tf."""
    nesterov: bool = False
    """Whether sgd looks ahead by its momentum."""
    alpha: float = 0.9
    """Decay of the squared gradients' average, for rmsprop and rmsprop_tf."""
    eps: float | None = None
    """Default: the optimiser's own."""
    layer_decay: float = 1.0
    """Factor on the learning rate from each stage to the one before it."""
    clip: float | None = None
    """Largest norm of the gradient. Default: no limit."""
    accumulate: int = 1
    """Parts in which the pictures of an update go through the network."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Learning rate, and optionally weight decay, as a function of the update's number."""

    curve: Curve = "cosine"
    """The learning rate after the warm-up."""
    warmup: float = 0.0
    """Epochs of linear warm-up. They are part of the run's epochs."""
    warmup_lr: float = 1e-6
    """Learning rate of the first update of the warm-up."""
    warmup_full: bool = False
    """Whether the last update (or epoch) of the warm-up has the full rate, as in Lightning Bolts;
    otherwise the one after it is the first with the full rate, as in timm."""
    min_lr: float = 0.0
    """Learning rate at the end, for cosine, linear and poly."""
    warmup_prefix: bool = False
    """Whether the curve begins after the warm-up; otherwise it runs from epoch 0, and the warm-up
    hides its beginning."""
    cooldown: int = 0
    """Epochs at ``min_lr`` after ``epochs``, in addition to them."""
    step: float = 1.0
    """Epochs between two steps, for step and exponential."""
    gamma: float = 0.1
    """Factor of each step, for step, milestones and exponential."""
    milestones: tuple[float, ...] = ()
    """Epochs at which the rate is multiplied by ``gamma``, for milestones."""
    power: float = 0.9
    """Power of the share that is left of the run, for poly."""
    per: Literal["update", "epoch"] = "update"
    """How often the rate changes."""
    offset: int = 0
    """Added to the number of the update (or epoch) before the curve is read: 1 for code that
    advances the schedule before the first update, as Megvii's does."""
    end_weight_decay: float | None = None
    """Weight decay at the end; it goes there by a cosine. Default: it stays."""


@dataclass(frozen=True, kw_only=True)
class Loss:
    kind: Literal["cross_entropy", "bce"] = "cross_entropy"
    """``bce``: binary cross-entropy of each class by itself."""
    smoothing: float = 0.0
    """Label smoothing."""
    threshold: float | None = None
    """Targets above it become 1 and all others 0, for ``bce``. Default: targets stay soft."""
    sum: bool = False
    """Whether ``bce`` is added up over the classes; otherwise it is their mean."""


@dataclass(frozen=True, kw_only=True)
class Ema:
    """Exponential moving average of the weights and buffers, which is evaluated beside them."""

    decay: float | None = None
    """Share of the old average at each update. Default: no average."""
    warmup: Literal["none", "copy", "tensorflow", "timm"] = "none"
    """How the decay begins. ``none``: in full, from the initial weights; ``copy``: with 0, so that
    the average begins with the weights after the first update; ``tensorflow``: with
    (1 + update) / (10 + update); ``timm``: with 0, then 1 - (1 + update) ** (-2 / 3)."""


@dataclass(frozen=True, kw_only=True)
class Distil:
    """Learning from a teacher: Hinton et al. 2015 (soft), Touvron et al. 2021, DeiT (hard)."""

    teacher: str = ""
    """Any network that fleetfoot can make or load. Default: no teacher."""
    weights: str = ""
    """A file of weights of the teacher. Default: its published ones, or those of its own file."""
    kind: Literal["hard", "soft"] = "hard"
    """Whether the student learns the teacher's likeliest class, or all its probabilities."""
    alpha: float = 0.5
    """Weight of the teacher's part of the loss."""
    temperature: float = 1.0
    """For ``soft``."""
    size: int | None = None
    """Height and width of the pictures that the teacher sees, in pixels. Default: the size that its
    weights were scored at."""


@dataclass(frozen=True, kw_only=True)
class Init:
    """Where training begins, and what of the network it changes."""

    weights: str = ""
    """``pretrained``, or a file of weights. Default: none."""
    freeze: int = 0
    """Number of stages, after the stem, whose parameters and batch-norm statistics stay; the stem
    is frozen with the first."""
    norms: Literal["learn", "keep"] = "learn"
    """``keep``: every batch norm keeps the statistics of ``weights``, for batches or sets so small
    that new ones would be worse, or for weights whose batch norms were folded."""


@dataclass(frozen=True, kw_only=True)
class About:
    """What a recipe states of itself."""

    source: str
    """Where its values are printed."""
    expected: str = ""
    """Accuracy that its authors report, with its condition."""
    time: str = ""
    """Time to expect."""
    measured: bool = False
    """Whether a run of this project has confirmed the accuracy."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The settings that decide the result of a training run, beside data, network and seed."""

    name: str = "custom"
    about: About = field(default_factory=lambda: About(source="your own"))
    task: Kind = "classify"
    """What it trains for."""
    epochs: int = 10
    """Passes over the training part, before ``schedule.cooldown``."""
    updates: int | None = None
    """Updates of the whole run. Default: those of ``epochs`` and ``schedule.cooldown``."""
    batch: int = 128
    """Pictures of one update."""
    size: int | None = None
    """Height and width of the input in training, in pixels. Default: the network's own."""
    phases: tuple[Phase, ...] = ()
    """Sizes and policies that change during the run; the last phase covers what is left.
    Default: one size."""
    eval_size: int | None = None
    """Default: the preprocessing of the network."""
    crop_pct: float | None = None
    """Share of the resized side that evaluation's centre crop keeps. Default: the preprocessing of
    the network, or the whole picture for a fresh network at 64 pixels or less."""
    bgr: bool = False
    """Blue first, bytes 0 to 255 without mean and std, as Megvii trained ShuffleNets."""
    reestimate: int = 0
    """Updates over which batch-norm statistics are estimated anew at the end; 0: none."""
    bn_momentum: float | None = None
    """Share of a batch in the running statistics of batch norms. Default: the network's own."""
    drop: float | None = None
    """Dropout before the classifier. Default: the network's own."""
    drop_path: float | None = None
    """Largest rate of stochastic depth. Default: the network's own."""
    augment: Augment = field(default_factory=Augment)
    mix: Mix = field(default_factory=Mix)
    scene: Scene = field(default_factory=Scene)
    """Augmentation for detection, segmentation and hands, which take nothing else of ``augment``
    than ``repeats``, and neither ``mix`` nor ``loss``."""
    optim: Optim = field(default_factory=Optim)
    schedule: Schedule = field(default_factory=Schedule)
    loss: Loss = field(default_factory=Loss)
    ema: Ema = field(default_factory=Ema)
    distil: Distil = field(default_factory=Distil)
    init: Init = field(default_factory=Init)
    val_share: float | None = None
    """Share of the training pictures of each class that is evaluated instead, for a data set
    without pictures of its own for that. Default: 0.1."""
    precision: Precision = "float32"
    """Type of the forward and backward pass; weights are kept in float32 (float64 in float64)."""
    seed: int = 0
    """Everything random in the run comes from it."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """The settings that do not decide the result: they may change when a run is continued."""

    workers: int | None = None
    """Processes that decode pictures. Default: by the number of cores."""
    threads: int | None = None
    """Threads of the training process. Default: torch's. On the CPU another number may change the
    last bits of a result."""
    channels_last: bool = False
    """Whether pictures and weights lie in memory with the channels last."""
    compile: bool = False
    """Whether the network runs through ``torch.compile``."""
    checkpointing: bool = False
    """Whether activations are computed again in the backward pass, to save memory."""
    sync_bn: bool = False
    """Whether batch norms see the pictures of all processes."""
    on_bad_image: Literal["skip", "stop"] = "stop"
    """What to do with a picture that cannot be used: take the next one instead, or end."""
    on_nan: Literal["stop", "rollback"] = "stop"
    """What to do if the loss is not finite: end, or go back to the last checkpoint."""
    save_seconds: float = 300.0
    """Longest time between two checkpoints, in seconds. One is written after every epoch too."""
    save_updates: int | None = None
    """Updates between two checkpoints. Default: by time alone."""
    keep: int = 3
    """Checkpoints that stay, beside the best."""
    eval_every: int = 1
    """Epochs between two evaluations."""
    deterministic: bool = False
    """Whether a GPU's kernels whose results differ from run to run are left out, where there are
    others. On the CPU results never differ."""
    device: str = "cpu"
    """Where the network runs: ``cpu``, ``cuda``, ``cuda:1``."""
