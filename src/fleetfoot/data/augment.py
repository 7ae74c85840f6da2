"""Augmentation of pictures in training: crops, flips, colours, policies and random erasing.

Every draw is a pure function of (seed, epoch, number of the picture, number of the repeat), so a
picture looks the same whatever the number of workers or processes, and after a run is continued.

The distributions are those of timm's training transforms: with the same draws the pixels are equal,
bit for bit. What crops and erases here makes its draws in timm's order. The policies are timm's and
torchvision's own objects; they draw from the global generators of Python, numpy and torch, which
are seeded for the picture and put back afterwards.

B batch · C channels · H W space
"""

from __future__ import annotations

import hashlib
import math
import random
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from fleetfoot.data.preprocess import FILTERS, Preprocess
from fleetfoot.data.settings import Augment, Phase
from fleetfoot.errors import UnknownNameError

Bytes = NDArray[np.uint8]
Policy = Callable[[Image.Image], Image.Image]

POLICIES = ("rand", "augmix", "original", "originalr", "v0", "v0r", "3a", "ta_wide")
"""First words of the policies: timm's, and torchvision's TrivialAugment."""
CHOICES = ("tweights", "t3a", "t3aw")
"""Parts of RandAugment's notation that choose its operations."""
_PART = re.compile(r"[a-z]+\d+(\.\d+)?")
_HOW = "timm's notation is, for example, rand-m9-mstd0.5-inc1"
ERASED = (0.02, 1 / 3)
"""Least and largest share of the picture that random erasing covers, as in timm."""
ERASED_RATIO = (0.3, 1 / 0.3)
"""Least and largest height over width of the erased rectangle, as in timm."""


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Makes the network's input from a picture in training. It can be sent to other processes.

    >>> augmentation = Augmentation(augment=Augment(), preprocess=Preprocess(size=32), size=32)
    >>> augmentation(Image.new("RGB", (50, 40)), epoch=0, index=7, repeat=0).shape
    torch.Size([3, 32, 32])

    Raises:
        UnknownNameError: there is no such policy.
        ValueError: a field is out of range.
    """

    augment: Augment
    preprocess: Preprocess
    """The preprocessing of evaluation. Its channels and their order are those of training too, and
    its mean fills what a policy turns into view."""
    size: int
    """Height and width outside the phases, in pixels."""
    phases: tuple[Phase, ...] = ()
    """Sizes and policies that change during the run; the last one covers what is left."""
    seed: int = 0

    def __post_init__(self) -> None:
        check(self.augment)
        for policy in {phase.policy for phase in self.phases if phase.policy}:
            check_policy(policy)
        if min([self.size, *(phase.size for phase in self.phases)]) < 1:
            raise ValueError("sizes of pictures must be 1 pixel or more")
        ends = [phase.until for phase in self.phases]
        if ends != sorted(set(ends)):
            raise ValueError(f"phases must end one after another, not at epochs {ends}")

    def shape(self, epoch: int) -> tuple[int, int, int]:
        """(C, H, W) in that epoch."""
        size, _ = self._phase(epoch)
        return self.preprocess.channels, size, size

    def __call__(self, image: Image.Image, *, epoch: int, index: int, repeat: int = 0) -> Tensor:
        """Augments an RGB picture. -> (C, H, W) uint8, channels in the network's order

        Args:
            image: the picture.
            epoch: number of the epoch.
            index: number of the picture in the set.
            repeat: number of the copy in this epoch.
        """
        made = np.empty(self.shape(epoch), np.uint8)
        with kept_generators():
            self.write(made, image, epoch=epoch, index=index, repeat=repeat)
        return torch.from_numpy(made)

    def write(
        self, out: Bytes, image: Image.Image, *, epoch: int, index: int, repeat: int = 0
    ) -> None:
        """Does what a call does, into ``out``, (C, H, W). It may leave the global generators of
        random numbers changed: ``kept_generators`` around many pictures costs less than around each
        of them."""
        made = self._augmented(image, epoch=epoch, index=index, repeat=repeat)
        self.preprocess.write(out, np.asarray(made))

    def _augmented(self, image: Image.Image, *, epoch: int, index: int, repeat: int) -> Image.Image:
        """The augmented picture, RGB or grey."""
        augment, (size, policy) = self.augment, self._phase(epoch)
        draws = random.Random(number("picture", self.seed, epoch, index, repeat))
        made = self._cropped(image, size, draws)
        if augment.flip and draws.random() < augment.flip:
            made = made.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if policy:
            fill = _fill(self.preprocess, made.mode)
            seed_generators(draws.getrandbits(128))
            try:
                made = policy_of(policy, size, augment.interpolation, fill)(made)
            except Exception as error:  # a ValueError would seem to be about the picture
                raise RuntimeError(f"the augmentation policy {policy} failed: {error}") from error
        if augment.colour_jitter and (not policy or "3a" in policy):  # as in timm
            made = jittered(made, augment.colour_jitter, draws)
        return made

    def _phase(self, epoch: int) -> tuple[int, str]:
        """Size and policy in that epoch."""
        if not self.phases:
            return self.size, self.augment.policy
        phase = next((phase for phase in self.phases if epoch < phase.until), self.phases[-1])
        return phase.size, self.augment.policy if phase.policy is None else phase.policy

    def _cropped(self, image: Image.Image, size: int, draws: random.Random) -> Image.Image:
        if image.mode != "RGB":
            raise ValueError(f"the picture must be RGB, not {image.mode}")
        if self.augment.crop == "none":
            evaluation = replace(self.preprocess, size=size, channel_order="rgb")
            planes = evaluation.pixels(image).numpy()
            return Image.fromarray(planes[0] if len(planes) == 1 else planes.transpose(1, 2, 0))
        if self.preprocess.channels == 1:
            image = image.convert("L")
        if self.augment.crop == "padded":
            return padded_crop(image, size, self.augment, draws)
        box = random_box(image.size, self.augment.scale, self.augment.ratio, draws)
        resample = _filter(self.augment.interpolation, draws)
        return image.crop(box).resize((size, size), resample)


def check(augment: Augment) -> None:
    """Checks every field.

    Raises:
        UnknownNameError: there is no such policy.
        ValueError: a field is out of range.
    """
    for name, value in (
        ("flip", augment.flip),
        ("erase", augment.erase),
    ):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} is a probability from 0 to 1, not {value}")
    for name, (low, high), most in (
        ("scale", augment.scale, 1.0),
        ("ratio", augment.ratio, math.inf),
    ):
        if not 0 < low <= high <= most:
            raise ValueError(f"{name} must be two rising numbers above 0, not {low} and {high}")
    for name, value in (
        ("padding", augment.padding),
        ("colour_jitter", augment.colour_jitter),
    ):
        if value < 0:
            raise ValueError(f"{name} must be 0 or more, not {value}")
    if augment.repeats < 1:
        raise ValueError(f"repeats must be 1 or more, not {augment.repeats}")
    for name, chosen, known in (
        ("crop", augment.crop, ("random_resized", "padded", "none")),
        ("interpolation", augment.interpolation, (*FILTERS, "random")),
        ("erase_mode", augment.erase_mode, ("const", "rand", "pixel")),
    ):
        if chosen not in known:
            raise UnknownNameError.of(name, chosen, known)
    if augment.policy:
        check_policy(augment.policy)


def check_policy(policy: str) -> None:
    """Checks the name of a policy, and what it says beside it.

    Raises:
        UnknownNameError: there is none of that name.
        ValueError: a part of it is not in timm's notation.
    """
    first, *parts = policy.split("-")
    if first not in POLICIES:
        raise UnknownNameError.of("augmentation policy", first, POLICIES)
    if parts and first == "ta_wide":
        raise ValueError(f"ta_wide has no parameters, so {policy!r} means nothing")
    for part in parts:
        # timm passes over a part without a number, so a slip of the pen would go unnoticed
        if not _PART.fullmatch(part) and not (first == "rand" and part in CHOICES):
            raise ValueError(
                f"{part!r} in the augmentation policy {policy!r} means nothing; {_HOW}"
            )
    try:
        policy_of(policy, 224, "bicubic", (128, 128, 128))
    except (AssertionError, ValueError) as error:
        raise ValueError(f"the augmentation policy {policy!r} is wrong: {error}; {_HOW}") from None


def number(use: str, seed: int, epoch: int, index: int, repeat: int) -> int:
    """128 bits that seed the draws for one ``use`` of one picture, for example its erasing."""
    words = struct.pack("<4Q", seed, epoch, index, repeat)
    digest = hashlib.blake2b(words, digest_size=16, person=use.encode())
    return int.from_bytes(digest.digest(), "little")


def seed_generators(key: int) -> None:
    """Seeds the global generators of Python, numpy and torch (on the CPU), from which the policies
    draw, with 128 bits."""
    random.seed(key)
    np.random.seed([key >> shift & 0xFFFFFFFF for shift in (0, 32, 64, 96)])
    torch.default_generator.manual_seed(key & (2**63 - 1))


@contextmanager
def kept_generators() -> Iterator[None]:
    """Puts the global generators of Python, numpy and torch (on the CPU) back as they were."""
    before = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.default_generator.set_state(before[2])


def random_box(
    of: tuple[int, int],
    scale: Sequence[float],
    ratio: Sequence[float],
    draws: random.Random,
) -> tuple[int, int, int, int]:
    """A rectangle of random area and shape within a picture of that width and height: left, top,
    right, bottom.

    After ten rectangles that do not fit, it is the largest one in the middle whose shape is within
    ``ratio``.
    """
    width, height = of
    for _ in range(10):
        area = draws.uniform(*scale) * (width * height)
        shape = math.exp(draws.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
        if 0 < w <= width and 0 < h <= height:
            top = draws.randint(0, height - h)
            left = draws.randint(0, width - w)
            return left, top, left + w, top + h
    w, h = width, height
    if width / height < ratio[0]:
        h = round(width / ratio[0])
    elif width / height > ratio[1]:
        w = round(height * ratio[1])
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def padded_crop(
    image: Image.Image, size: int, augment: Augment, draws: random.Random
) -> Image.Image:
    """A random square of the picture, whose shorter side is resized to ``size`` and which is
    surrounded by ``padding`` black pixels."""
    width, height = image.size
    short = min(width, height)
    new = (width * size // short, height * size // short)
    resample = _filter(augment.interpolation, draws)
    if new != image.size:
        image = image.resize(new, resample)
    image = ImageOps.expand(image, augment.padding)
    top = draws.randint(0, image.height - size)
    left = draws.randint(0, image.width - size)
    return image.crop((left, top, left + size, top + size))


def jittered(image: Image.Image, strength: float, draws: random.Random) -> Image.Image:
    """Brightness, contrast and saturation changed by factors from 1 - ``strength`` to 1 +
    ``strength``, in random order. Hue stays."""
    from torchvision.transforms.v2 import functional

    changes = [
        functional.adjust_brightness,
        functional.adjust_contrast,
        functional.adjust_saturation,
    ]
    draws.shuffle(changes)
    for change in changes:
        image = change(image, draws.uniform(max(0.0, 1 - strength), 1 + strength))
    return image


@lru_cache(maxsize=64)
def policy_of(policy: str, size: int, interpolation: str, fill: tuple[int, ...] | int) -> Policy:
    """The policy for pictures of that size, with the parameters that timm derives from it."""
    from timm.data import auto_augment

    if policy == "ta_wide":
        from torchvision.transforms import v2

        name = "bilinear" if interpolation == "random" else interpolation
        return v2.TrivialAugmentWide(interpolation=v2.InterpolationMode(name))
    hparams: dict[str, Any] = {"translate_const": int(size * 0.45), "img_mean": fill}
    if interpolation != "random":
        hparams["interpolation"] = FILTERS[interpolation]
    if policy.startswith("rand"):
        made = auto_augment.rand_augment_transform(policy, hparams)
        operations = made.ops
    elif policy.startswith("augmix"):
        made = auto_augment.augment_and_mix_transform(policy, hparams | {"translate_pct": 0.3})
        operations = made.ops
    else:
        made = auto_augment.auto_augment_transform(policy, hparams)
        operations = [operation for sequence in made.policy for operation in sequence]
    for operation in operations:
        if operation.name.startswith("Posterize"):
            operation.aug_fn = posterize
    return made


def posterize(image: Image.Image, bits: int, **_: Any) -> Image.Image:
    """Keeps that many bits of each colour. The policies may ask for none, which makes the picture
    black; Pillow 13 refuses it."""
    if bits >= 8:
        return image
    return ImageOps.posterize(image, bits) if bits else Image.new(image.mode, image.size)


def erase_(
    batch: Tensor,
    *,
    augment: Augment,
    seed: int,
    epoch: int,
    indices: Sequence[int],
    repeats: Sequence[int],
) -> Tensor:
    """Random erasing (Zhong et al. 2017), in place: a rectangle of some pictures is filled.

    Args:
        batch: normalised pictures, (B, C, H, W), on any device.
        augment: ``erase``, the probability, and ``erase_mode``.
        seed: seed of the run.
        epoch: number of the epoch.
        indices: number of each picture in the set.
        repeats: number of each picture's copy.
    """
    if not augment.erase:
        return batch
    channels, height, width = batch.shape[1:]
    for place, (index, repeat) in enumerate(zip(indices, repeats, strict=True)):
        key = number("erase", seed, epoch, int(index), int(repeat))
        draws = random.Random(key)
        if draws.random() > augment.erase:
            continue
        box = _erased_box(height, width, draws)
        if box is None:
            continue
        top, left, h, w = box
        fill = _erased_fill(augment.erase_mode, (channels, h, w), key)
        target = batch[place, :, top : top + h, left : left + w]
        target.copy_(fill.to(device=batch.device, dtype=batch.dtype, non_blocking=True))
    return batch


def _erased_box(height: int, width: int, draws: random.Random) -> tuple[int, int, int, int] | None:
    """Top, left, height and width; None if ten draws in a row were too large."""
    low, high = math.log(ERASED_RATIO[0]), math.log(ERASED_RATIO[1])
    for _ in range(10):
        area = draws.uniform(*ERASED) * (height * width)
        shape = math.exp(draws.uniform(low, high))
        h, w = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
        if w < width and h < height:
            return draws.randint(0, height - h), draws.randint(0, width - w), h, w
    return None


def _erased_fill(
    mode: Literal["const", "rand", "pixel"], shape: tuple[int, int, int], key: int
) -> Tensor:
    """What fills a rectangle. The normal values are drawn on the CPU, so that they do not depend on
    the device. -> (C, 1, 1) or (C, H, W)"""
    size = shape if mode == "pixel" else (shape[0], 1, 1)
    if mode == "const":
        return torch.zeros(size)
    return torch.randn(size, generator=torch.Generator().manual_seed(key & (2**63 - 1)))


def _filter(interpolation: str, draws: random.Random) -> Image.Resampling:
    return (
        draws.choice(tuple(FILTERS.values()))
        if interpolation == "random"
        else FILTERS[interpolation]
    )


def _fill(preprocess: Preprocess, mode: str) -> tuple[int, ...] | int:
    """``preprocess.fill`` in the form that the policies take."""
    return preprocess.fill[0] if mode == "L" else preprocess.fill
