"""Pictures inside a page with what is known of them drawn over: masks and classes of pixels within
the picture itself, boxes as SVG above it, so that they stay sharp and name their class under the
pointer.

H W space
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fleetfoot.data.scenes import IGNORED
from fleetfoot.errors import visible
from fleetfoot.report.kit.hues import class_rgb
from fleetfoot.report.kit.markup import node
from fleetfoot.report.kit.thumbnail import address

OPACITY = 0.5
"""Share of a class's colour in the pixels that it covers."""
DIM = 0.35
"""Share of brightness that pixels of no class keep."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Drawn:
    """A box to be drawn."""

    box: Sequence[float]
    """Left, top, right and bottom edge in pixels of the picture."""
    number: int
    """Class number, which gives the colour."""
    words: str
    """What it says under the pointer."""
    kind: str = ""
    """``dashed`` for one that stands for many, or that something is compared with."""


def framed(
    image: Image.Image, words: str, boxes: Iterable[Drawn] = (), *, side: int, shape: str = "frame"
) -> Element:
    """A picture in a frame, resized so that its longest side has ``side`` pixels, with boxes over
    it.

    Args:
        words: what the picture shows, for those who do not see it.
        shape: CSS class of the frame.
    """
    width, height = image.size
    shown = image.copy()
    shown.thumbnail((side, side), Image.Resampling.LANCZOS)
    lines = [_rectangle(one) for one in boxes]
    over = node("svg", *lines, viewBox=f"0 0 {width} {height}", class_="boxes", aria_hidden="true")
    picture = node("img", src=address(shown), alt=words)
    return node("div", picture, *([over] if lines else []), class_=shape)


def _rectangle(one: Drawn) -> Element:
    left, top, right, bottom = (round(edge, 2) for edge in one.box)
    sizes = {"x": left, "y": top, "width": right - left, "height": bottom - top}
    place = {name: f"{value:g}" for name, value in sizes.items()}
    return node(
        "g",
        node("title", visible(one.words)),
        node("rect", **place, class_="halo"),
        node("rect", **place, class_=f"{one.kind} line".strip()),
        class_=f"c{one.number}",
    )


def with_masks(image: Image.Image, masks: Iterable[tuple[NDArray[np.bool_], int]]) -> Image.Image:
    """The picture with masks, (H, W), in the colours of their classes."""
    pixels = np.asarray(image).astype(np.float32)
    for mask, number in masks:
        pixels[mask] += OPACITY * (np.array(class_rgb(number)) - pixels[mask])
    return Image.fromarray(pixels.astype(np.uint8))


def with_classes(image: Image.Image, classes: Pixels, only: int | None = None) -> Image.Image:
    """The picture with each pixel, (H, W), in the colour of its class; pixels of no class are dark.

    Args:
        only: class that is coloured. Default: all.
    """
    table = np.zeros((256, 3), dtype=np.float32)
    share = np.full((256, 1), OPACITY, dtype=np.float32)
    for number in np.unique(classes).tolist():
        if number == IGNORED or only not in (None, number):
            share[number] = 1 - DIM
        else:
            table[number] = class_rgb(number)
    pixels = np.asarray(image).astype(np.float32)
    pixels += share[classes] * (table[classes] - pixels)
    return Image.fromarray(pixels.astype(np.uint8))


def chips(counted: Sequence[tuple[int, str, str]], most: int = 6) -> Element:
    """A line of classes with their colours: number, name, and a figure of each."""
    shown = [
        node(
            "span",
            node("i", class_="dot"),
            f"{visible(name)} ",
            node("b", figure),
            class_=f"chip c{number}",
        )
        for number, name, figure in counted[:most]
    ]
    left = len(counted) - most
    return node("p", *shown, *([f"and {left} more"] if left > 0 else []), class_="chips-line")
