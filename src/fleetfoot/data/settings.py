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


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What is drawn for each picture of a task beside classification; what is known of its pixels
    moves with them. A picture's draws come from (seed, epoch, number of the picture, number of the
    repeat) alone, the size of the input from (seed, number of the update)."""

    flip: float = 0.5
    """Probability of a horizontal flip. Hands are not flipped: see ``mirror``."""
    scale: tuple[float, float] = (1.0, 1.0)
    """Least and largest factor on the size that the preprocessing gives the picture. A random part
    of a larger one is seen; a smaller one has a border at the right and the bottom."""
    multiscale: tuple[float, float] = (1.0, 1.0)
    """Least and largest factor on the size of the input itself, which is drawn anew every
    ``multiscale_every`` updates, in multiples of 32 pixels."""
    multiscale_every: int = 10
    """Updates with the same size of the input."""
    expand: float = 0.0
    """Probability that the picture is put on a larger canvas (SSD's zoom out)."""
    expand_most: float = 4.0
    """Largest side of that canvas over the picture's."""
    iou_crop: float = 0.0
    """Probability of SSD's crop: a part that overlaps an object at least as much as is drawn."""
    visible: float = 0.1
    """Least share of an object's box that must be in view after a cut; other objects are left
    out."""
    largest_share: float = 1.0
    """Largest share that one class may have of the pixels of a part, for segmentation: ten parts
    are drawn for one that keeps it. 1: the first part is taken."""
    photometric: float = 0.0
    """Probability of each of SSD's changes of brightness, contrast, saturation and hue."""
    mosaic: float = 0.0
    """Probability that three other pictures are put beside the picture."""
    mosaic_scale: tuple[float, float] = (0.5, 1.5)
    """Takes the place of ``scale`` in a mosaic."""
    mixup: float = 0.0
    """Probability that another picture is laid over the picture, half and half."""
    until: int | None = None
    """First epoch without mosaic and mixup. Default: never."""
    rotate: float = 0.0
    """Largest rotation of a hand in either direction, in degrees."""
    shift: float = 0.0
    """Largest shift of a hand in either direction, as a share of the input's sides."""
    mirror: float = 0.0
    """Probability that a hand is mirrored, which makes a right hand of a left one."""
