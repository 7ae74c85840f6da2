"""The settings of a training run that decide what happens to its pictures. They are parts of the
tree in ``train.config``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fleetfoot.weights.pretrained import Interpolation


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Size of the pictures, and the strength of augmentation, up to an epoch."""

    until: int
    """First epoch that the phase does not cover."""
    size: int
    """Height and width of the network's input, in pixels."""
    policy: str | None = None
    """Augmentation policy in this phase. Default: ``augment.policy``."""


@dataclass(frozen=True, kw_only=True)
class Augment:
    """What is drawn for each picture. Every draw comes from (seed, epoch, number of the picture,
    number of the repeat) alone."""

    crop: Literal["random_resized", "padded", "none"] = "random_resized"
    """``random_resized``: a part of random area and shape, resized (Inception's); ``padded``: the
    resized picture with ``padding`` black pixels around it, cropped to the size (CIFAR's);
    ``none``: the preprocessing of evaluation."""
    scale: tuple[float, float] = (0.08, 1.0)
    """Least and largest share of the picture's area, for ``random_resized``."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Least and largest width over height, for ``random_resized``."""
    padding: int = 4
    """Pixels, for ``padded``."""
    interpolation: Interpolation | Literal["random"] = "bicubic"
    """``random``: bilinear or bicubic, drawn for each picture, as timm does."""
    flip: float = 0.5
    """Probability of a horizontal flip."""
    colour_jitter: float = 0.0
    """Strength of changes in brightness, contrast and saturation. As in timm, it has no effect
    beside a policy."""
    policy: str = ""
    """RandAugment, AutoAugment or AugMix in timm's notation, for example
    ``rand-m9-mstd0.5-inc1``, or ``ta_wide`` (torchvision's TrivialAugment)."""
    erase: float = 0.0
    """Probability of random erasing."""
    erase_mode: Literal["const", "rand", "pixel"] = "const"
    """Fill of the erased rectangle: 0, one random colour, or a random value for each pixel."""
    repeats: int = 1
    """Copies of a picture in an epoch, each augmented anew (repeated augmentation, Hoffer et al.
    2020). An epoch keeps its number of pictures."""


@dataclass(frozen=True, kw_only=True)
class Mix:
    """Mixup and cutmix: two pictures of a batch become one, and so do their targets."""

    mixup: float = 0.0
    """Alpha of the beta distribution; 0: no mixup."""
    cutmix: float = 0.0
    """Alpha of the beta distribution; 0: no cutmix."""
    prob: float = 1.0
    """Probability that anything is mixed."""
    switch_prob: float = 0.5
    """Probability of cutmix if both are on."""
    mode: Literal["batch", "elem"] = "batch"
    """``batch``: one draw for all; ``elem``: one for each picture."""
    until: int | None = None
    """First epoch without mixing. Default: never."""
