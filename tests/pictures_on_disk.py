"""Pictures and small data sets for tests, written in each layout."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image


def picture(colour: object = "red", size: tuple[int, int] = (8, 6), kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, kind)
    return file.getvalue()


def write(root: Path, *names: str, data: bytes | None = None) -> Path:
    """Files with these names below ``root``: pictures, each of another colour, or ``data``."""
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if data is not None else picture((number % 256, 9, 9)))
    return root


def tar(path: Path, files: Iterable[tuple[str | tarfile.TarInfo, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as made:
        for name, data in files:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))
    return path


def scenery(seed: int, side: int = 160) -> Image.Image:
    """A picture with the spectrum of photographs: amplitudes fall with the frequency."""
    draw = np.random.default_rng(seed)
    y, x = np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side), indexing="ij")
    spectrum = np.fft.fft2(draw.normal(size=(3, side, side))) / np.maximum(np.hypot(x, y), 1 / side)
    grey, *colours = np.fft.ifft2(spectrum).real
    planes = [grey, grey + 0.3 * colours[0], grey + 0.3 * colours[1]]
    low, high = np.quantile(planes, (0.01, 0.99))
    pixels = np.clip((np.stack(planes, -1) - low) / (high - low) * 255, 0, 255)
    return Image.fromarray(pixels.astype(np.uint8))


def compressed(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")
