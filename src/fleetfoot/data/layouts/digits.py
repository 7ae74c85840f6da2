"""The default data set: the handwritten digits that scikit-learn contains, so that training can be
tried without a download. 1,797 grey pictures of 8 × 8 pixels, 16 levels, ten classes.

Alpaydin and Kaynak 1998, "Optical Recognition of Handwritten Digits", UCI machine learning
repository, https://doi.org/10.24432/C50P49; scikit-learn has its test part.
"""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from fleetfoot.data.dataset import Dataset, Split
from fleetfoot.data.layouts.assembly import Part, assemble, split_off
from fleetfoot.data.pictures import InMemory, Texts
from fleetfoot.errors import DatasetError

NAME = "digits"
LEVELS = 16
"""Largest value of a pixel in the original."""
TEST_SHARE, VAL_SHARE = 0.2, 0.125
"""Share of all pictures that is kept for the test, and share of the rest for validation."""
SEED = 0
"""Seed of both splits."""


def open_digits(val_share: float | None = None) -> Dataset:
    """The digits, as PNG files in memory. Their parts are fixed: no seed and no share changes them.

    Raises:
        DatasetError: a share is given.
    """
    if val_share:
        raise DatasetError(f"{NAME}: the parts of this set are fixed; leave the share away")
    from sklearn.datasets import load_digits  # takes a second to import

    raw = load_digits()
    files = [_png(np.rint(image * (255 / LEVELS)).astype(np.uint8)) for image in raw.images]
    pictures = InMemory(Texts(f"{NAME}/{i:04}.png" for i in range(len(files))), tuple(files))
    classes = tuple(map(str, range(10)))
    labels = raw.target.astype(np.int64)
    rest, test, _ = split_off(NAME, Split("train", pictures, labels), TEST_SHARE, SEED, name="test")
    train, val, _ = split_off(NAME, rest, VAL_SHARE, SEED)
    return assemble(
        NAME,
        "scikit-learn's digits: train, val and test are fixed",
        {s.name: Part(s.pictures, classes, s.labels) for s in (train, val, test)},
        classes=classes,
        val_share=None,
        seed=SEED,
    )


def _png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """The file of a grey picture. (H, W) -> bytes"""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
