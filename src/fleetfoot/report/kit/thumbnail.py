"""Small pictures inside a page."""

from __future__ import annotations

import base64
import io

from PIL import Image

from fleetfoot.data.sources import Source
from fleetfoot.errors import ImageError

SIDE = 160
"""Longest side in pixels: sharp at half that size on dense screens."""
QUALITY = 78


def thumbnail(source: Source, side: int = SIDE) -> str | None:
    """A picture as a ``data:`` address of a JPEG file, or of a PNG file if the picture is smaller
    than ``side``, which is enlarged with sharp pixels; None if it cannot be read."""
    try:
        image = source.open(least_side=side).image
    except (ImageError, OSError):
        return None
    if max(image.size) <= side // 2:
        factor = max(1, side // max(image.size))
        size = (image.width * factor, image.height * factor)
        return address(image.resize(size, Image.Resampling.NEAREST), "PNG")
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return address(image)


def address(image: Image.Image, kind: str = "JPEG") -> str:
    """An image as a ``data:`` address."""
    file = io.BytesIO()
    image.save(file, kind, **({"optimize": True} if kind == "PNG" else {"quality": QUALITY}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
