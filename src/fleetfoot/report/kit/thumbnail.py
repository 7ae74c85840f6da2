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
    file = io.BytesIO()
    if max(image.size) <= side // 2:
        factor = max(1, side // max(image.size))
        size = (image.width * factor, image.height * factor)
        image.resize(size, Image.Resampling.NEAREST).save(file, "PNG", optimize=True)
        kind = "png"
    else:
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
        image.save(file, "JPEG", quality=QUALITY)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
