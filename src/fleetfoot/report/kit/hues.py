"""A colour for each class of a data set, the same on every page."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable

RGB = tuple[int, int, int]

_STEP = 0.618034
"""The golden section: however many classes there are, those beside each other differ."""


def class_rgb(number: int) -> RGB:
    """The colour of a class, neither dark nor light, so that it shows on either.

    >>> class_rgb(0), class_rgb(1)
    ((41, 128, 214), (214, 41, 85))
    """
    hue = (0.583 + number * _STEP) % 1
    lightness = (0.5, 0.4, 0.6)[number // 7 % 3]
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, 0.68)
    return round(255 * red), round(255 * green), round(255 * blue)


def class_hex(number: int) -> str:
    """The same as CSS writes it."""
    return "#{:02x}{:02x}{:02x}".format(*class_rgb(number))


def class_rules(numbers: Iterable[int]) -> str:
    """CSS rules that give elements of the class ``c7`` the colour of class 7 as ``--hue``."""
    return "".join(f".c{number} {{ --hue: {class_hex(number)}; }}\n" for number in numbers)
