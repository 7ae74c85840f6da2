"""Sizes and shapes of inputs: how they are written, and the size that a network states."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fleetfoot.memory import check_fits

Size = int | tuple[int, int]
"""Height and width in pixels; one number if they are equal."""

DEFAULT_SIZE = 224
"""Height and width for a network that states none; most networks are trained at this size."""


def parse_size(text: str | Size) -> Size:
    """Reads ``256`` or ``256x192`` (height x width).

    >>> parse_size("256"), parse_size("256x192"), parse_size("64x64")
    (256, (256, 192), 64)

    Raises:
        ValueError: the text has another form, or a number is below 1.
    """
    parts = text.lower().split("x") if isinstance(text, str) else height_width(text)
    try:
        numbers = tuple(int(part) for part in parts)
    except ValueError:
        numbers = ()
    if len(numbers) not in (1, 2):
        raise ValueError(f"size must be 256 or 256x192 (height x width) in pixels, not {text!r}")
    if min(numbers) < 1:
        raise ValueError(f"size must be 1 pixel or more, not {text}")
    height, width = numbers[0], numbers[-1]
    return height if height == width else (height, width)


def height_width(size: Size) -> tuple[int, int]:
    """Height and width of a size.

    >>> height_width(224), height_width((112, 96))
    ((224, 224), (112, 96))
    """
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def size_text(size: Size) -> str:
    """The size as text that ``parse_size`` reads.

    >>> size_text(224), size_text((112, 96))
    ('224', '112x96')
    """
    return str(size) if isinstance(size, int) else f"{size[0]}x{size[1]}"


def parse_inputs(text: str) -> dict[str, Tensor]:
    """Tensors of zeros from ``name=shape:type,...``; the type is float32 by default.

    >>> {name: tuple(t.shape) for name, t in parse_inputs("x=1x3x8x8,mask=1x8:bool").items()}
    {'x': (1, 3, 8, 8), 'mask': (1, 8)}

    Raises:
        ValueError: a part has another form, or a name appears twice.
    """
    found: dict[str, Tensor] = {}
    for part in text.split(","):
        name, equals, rest = part.strip().partition("=")
        shape, _, kind = rest.partition(":")
        dtype = getattr(torch, kind or "float32", None)
        try:
            numbers = [int(number) for number in shape.lower().split("x")]
        except ValueError:
            numbers = []
        if not (equals and name and numbers) or min(numbers) < 0 or name in found:
            raise ValueError(
                "inputs are written name=shape:type, each name once, for example "
                f"x=1x3x224x224,mask=1x224x224:bool; {part.strip()!r} is not"
            )
        if not isinstance(dtype, torch.dtype):
            raise ValueError(f"{kind!r} is not a tensor type; float32, int64 or bool are")
        check_fits(
            math.prod(numbers) * dtype.itemsize,
            f"the input {name} ({'x'.join(map(str, numbers))})",
            "give a smaller shape",
        )
        found[name] = torch.zeros(numbers, dtype=dtype)
    return found


def stated_size(module: nn.Module) -> Size | None:
    """The size that a network states in its ``pretrained_cfg`` (timm's mapping, or an object with
    ``input_size``) or in its ``config``, as networks of the zoo do; None if it states none."""
    for place in ("pretrained_cfg", "default_cfg", "config"):
        cfg: Any = getattr(module, place, None)
        stated = (
            cfg.get("input_size") if isinstance(cfg, Mapping) else getattr(cfg, "input_size", None)
        )
        if isinstance(stated, list | tuple) and stated:
            stated = tuple(stated[-2:]) if len(stated) > 1 else stated[0]
        if isinstance(stated, int) and not isinstance(stated, bool) and stated > 0:
            return stated
        if isinstance(stated, tuple) and all(isinstance(n, int) and n > 0 for n in stated):
            return parse_size((stated[0], stated[1]))
    return None
