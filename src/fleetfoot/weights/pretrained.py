"""The published weights: where they are, under what terms, what they score and what input they
want."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Interpolation = Literal["bilinear", "bicubic"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class PretrainedConfig:
    """One set of published weights and the preprocessing that they were scored with."""

    tag: str
    """What the weights are called, in timm's habit: ``apple_in1k``."""
    source: Literal["timm", "torchvision", "file", "none"]
    repo: str = ""
    """Hub repository, ``timm/fastvit_t8.apple_in1k``; a URL for torchvision's."""
    filename: str = "model.safetensors"
    revision: str = ""
    sha256: str = ""
    licence: str = ""
    research_only: bool = False
    """The licence does not allow every use: loading asks for an explicit yes."""
    top1: float | None = None
    """ImageNet-1k validation top-1, percent, at ``input_size`` and ``crop_pct``."""
    top1_source: str = ""
    input_size: int = 224
    crop_pct: float = 0.875
    interpolation: Interpolation = "bilinear"
    antialias: bool = True
    """Pillow's filters, which timm and torchvision use; False where OpenCV resized."""
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    channel_order: Literal["rgb", "bgr"] = "rgb"
    pixel_scale: float = 1 / 255
    """What a byte is multiplied by before mean and std: 1/255, or 1 for networks that take 0 to
    255."""
    layout: str = ""
    """Name of the key layout of the file (``weights.layouts``)."""


PRETRAINED: dict[str, tuple[PretrainedConfig, ...]] = {}
"""By model name; the first row is the default."""
