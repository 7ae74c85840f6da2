"""Preprocessing from a picture to a network's input: resize, centre crop, scale, normalise.

Whatever feeds a network uses the same ``Preprocess``, so that a training run, a benchmark and a
server cannot differ in it. It equals exactly the pipelines that the published accuracies were
measured with: timm's evaluation transform and torchvision's classification preset (both resize
bytes with Pillow's antialiased filters), and, with ``antialias=False``, OpenCV's bilinear resize.
Networks that find objects are fed the whole picture: squashed, or with a border.

B batch · C channels · H W space
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from fleetfoot.data.placement import Placement
from fleetfoot.weights.pretrained import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Interpolation,
    PretrainedConfig,
    ResizeMode,
)

FILTERS: dict[str, Image.Resampling] = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}

RESIZED_PIXELS = 100_000_000
"""Largest number of pixels after the resize: 1 × 100,000 would become 256 × 25,600,000."""


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """Turns a picture of any size into a tensor, (C, H, W) float32.

    >>> preprocess = Preprocess(size=(64, 96))
    >>> preprocess(Image.new("RGB", (100, 80))).shape
    torch.Size([3, 64, 96])

    Raises:
        ValueError: a field is out of range.
    """

    size: int | tuple[int, int] = 224
    """Height and width of the network's input, in pixels; one number if they are equal."""
    crop_pct: float = 0.875
    """Share of the resized side that the centre crop keeps; above 1 (some of timm's: 1.15) it adds
    a black border."""
    resize_mode: ResizeMode = "shortest"
    """How the sides are resized: ``shortest`` brings the shorter one to ``resized`` and keeps the
    picture's shape; ``squash`` brings both to it; ``letterbox`` keeps the shape of a picture that
    is shown whole, and fills what is left at the right or the bottom with the mean."""
    interpolation: Interpolation = "bilinear"
    antialias: bool = True
    """Whether the filter widens when it shrinks a picture, as Pillow's does and OpenCV's does
    not."""
    channel_order: Literal["rgb", "bgr"] = "rgb"
    pixel_scale: float = 1 / 255
    """Factor on each byte before mean and std."""
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    channels: Literal[1, 3] = 3
    """Channels of the network's input: 3 colours, or 1 grey (Pillow's, by luminance)."""

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1:
            raise ValueError(f"size must be 1 pixel or more, not {self.size}")
        if not 0 < self.crop_pct <= 2:
            raise ValueError(f"crop_pct is a share, above 0 and at most 2, not {self.crop_pct}")
        for name, value, known in (
            ("resize_mode", self.resize_mode, get_args(ResizeMode)),
            ("interpolation", self.interpolation, tuple(FILTERS)),
            ("channel_order", self.channel_order, ("rgb", "bgr")),
        ):
            if value not in known:
                raise ValueError(f"{name} must be {' or '.join(known)}, not {value!r}")
        if self.resize_mode == "letterbox" and self.crop_pct != 1:
            raise ValueError(
                f"letterbox shows the whole picture, so crop_pct must be 1, not {self.crop_pct}"
            )
        if not self.pixel_scale > 0:
            raise ValueError(f"pixel_scale must be above 0, not {self.pixel_scale}")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != self.channels or not all(map(math.isfinite, values)):
                count = "three numbers" if self.channels == 3 else "one number"
                raise ValueError(f"{name} must be {count}, one a channel, not {values}")
        if 0 in self.std:
            raise ValueError(f"std must not hold a zero: {self.std}")

    @classmethod
    def of(cls, model: nn.Module, **overrides: Any) -> Preprocess:
        """The preprocessing that the weights of ``model`` were scored with, from its
        ``pretrained_cfg``.

        Args:
            model: a network of ``create_model``, or one of timm's.
            overrides: fields to replace; those that are None keep the network's own value.

        Raises:
            ValueError: the network does not state how its input is made, or needs something that
                this preprocessing does not offer (other than 3 channels).
        """
        config = getattr(model, "pretrained_cfg", None)
        if isinstance(config, PretrainedConfig):
            chosen = cls(
                size=config.input_size,
                crop_pct=config.crop_pct,
                resize_mode=config.resize_mode,
                interpolation=config.interpolation,
                antialias=config.antialias,
                channel_order=config.channel_order,
                pixel_scale=config.pixel_scale,
                mean=config.mean,
                std=config.std,
            )
        elif config:
            chosen = cls._of_timm(model)
        else:
            raise ValueError(
                f"{type(model).__name__} carries no pretrained_cfg, so its preprocessing is not "
                "known; make it with create_model, or write a Preprocess(...)"
            )
        return replace(chosen, **{k: v for k, v in overrides.items() if v is not None})

    @classmethod
    def _of_timm(cls, model: nn.Module) -> Preprocess:
        from timm.data.config import resolve_model_data_config

        config: Mapping[str, Any] = resolve_model_data_config(model)
        channels, height, width = config["input_size"]
        if channels != 3:
            raise ValueError(
                f"{type(model).__name__} takes {channels} × {height} × {width}; "
                "only input of three channels can be made from a picture here"
            )
        modes: dict[str, ResizeMode] = {"center": "shortest", "squash": "squash"}
        if config["crop_mode"] not in modes:
            raise ValueError(
                f"{type(model).__name__} crops by {config['crop_mode']!r}; "
                f"known are {' and '.join(modes)}"
            )
        return cls(
            size=height if height == width else (height, width),
            crop_pct=config["crop_pct"],
            resize_mode=modes[config["crop_mode"]],
            interpolation=config["interpolation"],
            mean=tuple(config["mean"]),
            std=tuple(config["std"]),
        )

    @property
    def height(self) -> int:
        return self.size[0] if isinstance(self.size, tuple) else self.size

    @property
    def width(self) -> int:
        return self.size[1] if isinstance(self.size, tuple) else self.size

    @property
    def resized(self) -> int | tuple[int, int]:
        """Side, or height and width, in pixels to which the picture is resized before the crop.
        224 at 0.9 is 248, not 249: timm rounds down."""
        if isinstance(self.size, tuple):
            return tuple(math.floor(side / self.crop_pct) for side in self.size)  # type: ignore[return-value]
        return math.floor(self.size / self.crop_pct)

    @property
    def fill(self) -> tuple[int, ...]:
        """The mean as bytes, in the order of a picture's own channels: the colour of what is added
        to a picture, so that it becomes nearly 0 in the network's input."""
        mean = self.mean[::-1] if self.channel_order == "bgr" else self.mean
        scale = 1 / self.pixel_scale  # exactly 255 for 1 / 255
        return tuple(min(255, round(scale * value)) for value in mean)

    def resized_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of a picture of that size after the resize.

        Raises:
            ValueError: the picture is so narrow that its resized form would not fit in memory.
        """
        to = self.resized
        if self.resize_mode == "squash":
            new = to if isinstance(to, tuple) else (to, to)
        elif self.resize_mode == "letterbox":
            ratio = min(self.height / height, self.width / width)
            new = (max(1, round(height * ratio)), max(1, round(width * ratio)))
        elif isinstance(to, tuple):  # as in timm: the smallest size that covers both sides
            ratio = min(height / to[0], width / to[1])
            new = (round(height / ratio), round(width / ratio))
        elif width <= height:
            new = (int(to * height / width), to)
        else:
            new = (to, int(to * width / height))
        if new[0] * new[1] > RESIZED_PIXELS:
            raise ValueError(
                f"{width} × {height} is too narrow: its shorter side at {to} pixels "
                f"would make it {new[1]} × {new[0]}"
            )
        return new

    def placement(self, height: int, width: int) -> Placement:
        """Where a picture of that size lies in the network's input.

        >>> Preprocess(size=64, crop_pct=1, resize_mode="letterbox").placement(100, 200).scale
        (0.32, 0.32)

        Raises:
            ValueError: the picture is so narrow that its resized form would not fit in memory.
        """
        new_height, new_width = self.resized_size(height, width)
        if self.resize_mode == "letterbox":
            left = top = 0
        else:
            left = _cut(new_width, self.width)
            top = _cut(new_height, self.height)
        return Placement(
            height=height,
            width=width,
            scale=(new_width / width, new_height / height),
            offset=(float(-left), float(-top)),
        )

    def grey(self) -> Preprocess:
        """This preprocessing for a network of one channel; mean and std are the averages of those
        of the colours."""
        return replace(
            self,
            channels=1,
            mean=(math.fsum(self.mean) / len(self.mean),),
            std=(math.fsum(self.std) / len(self.std),),
        )

    def bgr_bytes(self) -> Preprocess:
        """This preprocessing with blue first, and bytes 0 to 255 without mean and std, as Megvii
        trains ShuffleNets."""
        zeros, ones = (0.0,) * self.channels, (1.0,) * self.channels
        return replace(self, channel_order="bgr", pixel_scale=1.0, mean=zeros, std=ones)

    def __call__(self, image: Image.Image) -> Tensor:
        """Preprocesses an RGB picture. -> (C, H, W) float32

        Raises:
            ValueError: the picture is not RGB, or so narrow that its resized form would not fit in
            memory.
        """
        return self.normalise(self.pixels(image))

    def pixels(self, image: Image.Image) -> Tensor:
        """An RGB picture resized, and cropped or bordered, channels in the network's order. -> (C,
        H, W) uint8"""
        if image.mode != "RGB":
            raise ValueError(f"the picture must be RGB, not {image.mode}")
        image = image if self.channels == 3 else image.convert("L")
        resized = self.resize(image, *self.resized_size(image.height, image.width))
        made = self._bordered(resized) if self.resize_mode == "letterbox" else self._crop(resized)
        return made.flip(0) if self.channel_order == "bgr" else made

    def write(self, out: NDArray[np.uint8], pixels: NDArray[np.uint8]) -> None:
        """Writes an RGB picture, (H, W, 3), or a grey one, (H, W), into an input of the same size,
        (C, H, W), channels in the network's order. An input of one channel takes the first of
        three equal ones."""
        if self.channels == 1:
            out[0] = pixels if pixels.ndim == 2 else pixels[:, :, 0]
        else:
            ordered = pixels[:, :, ::-1] if self.channel_order == "bgr" else pixels
            np.copyto(out, ordered.transpose(2, 0, 1))

    def normalise(self, pixels: Tensor) -> Tensor:
        """Scales and normalises bytes. (C, H, W) or (B, C, H, W) uint8 -> the same shape, float32

        Divides by 1 / pixel_scale, since x / 255 and x · (1 / 255) differ in the last bit and the
        libraries divide.
        """
        mean = torch.tensor(self.mean, device=pixels.device).view(-1, 1, 1)
        std = torch.tensor(self.std, device=pixels.device).view(-1, 1, 1)
        return pixels.float().div_(1 / self.pixel_scale).sub_(mean).div_(std)

    def resize(self, image: Image.Image, height: int, width: int) -> Tensor:
        """An RGB or grey picture at that size, by ``interpolation``. -> (C, H', W') uint8"""
        if self.antialias:
            return _tensor(image.resize((width, height), FILTERS[self.interpolation]))
        stretched = functional.interpolate(
            _tensor(image)[None].float(),
            size=(height, width),
            mode=self.interpolation,
            align_corners=False,
        )
        return stretched[0].round_().clamp_(0, 255).byte()

    def _crop(self, pixels: Tensor) -> Tensor:
        """The centre of a picture, black if the picture is smaller. (C, H', W') -> (C, H, W)"""
        for dim, size in ((1, self.height), (2, self.width)):
            before = _cut(pixels.shape[dim], size)
            if before >= 0:
                pixels = pixels.narrow(dim, before, min(size, pixels.shape[dim]))
            if pixels.shape[dim] < size:
                after = size - pixels.shape[dim] + before
                sides = (-before, after) if dim == 2 else (0, 0, -before, after)
                pixels = functional.pad(pixels, sides)
        return pixels.contiguous()

    def _bordered(self, pixels: Tensor) -> Tensor:
        """The picture at the top left of the input, and the mean around it. (C, H', W') -> (C, H,
        W)"""
        height, width = pixels.shape[1:]
        fill = torch.tensor(self.fill, dtype=torch.uint8).view(-1, 1, 1)
        made = fill.repeat(1, self.height, self.width)
        made[:, :height, :width] = pixels
        return made


def _cut(side: int, size: int) -> int:
    """Pixels that a centre crop cuts off before it, or minus those that it adds. An odd pixel goes
    to the side that torchvision chooses: half of it rounds to the even offset.

    >>> _cut(27, 24), _cut(25, 24), _cut(21, 24)
    (2, 0, -1)
    """
    spare = side - size
    return round(spare / 2) if spare >= 0 else -(-spare // 2)


def _tensor(image: Image.Image) -> Tensor:
    """A picture as a tensor of bytes. RGB -> (3, H, W), grey -> (1, H, W)"""
    pixels = torch.from_numpy(np.array(image))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)
