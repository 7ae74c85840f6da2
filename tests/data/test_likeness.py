"""Which pictures look alike: copies that were changed as augmentation and export change them are
found, and different pictures are not taken for one."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from fleetfoot.data import likeness
from fleetfoot.data.images import open_image
from fleetfoot.data.likeness import Signature, alike, signature
from pictures_on_disk import compressed, scenery


def cropped(image: Image.Image, share: float) -> Image.Image:
    width, height = image.size
    x, y = round(width * share / 2), round(height * share / 2)
    return image.crop((x, y, width - x, height - y))


def scaled(image: Image.Image, factor: float) -> Image.Image:
    size = (round(image.width * factor), round(image.height * factor))
    return image.resize(size, Image.Resampling.BICUBIC)


CHANGES = {
    "half": lambda image: scaled(image, 0.5),
    "a quarter": lambda image: scaled(image, 0.25),
    "larger": lambda image: scaled(image, 1.5),
    "squashed": lambda image: image.resize((128, 96)),
    "quality 50": lambda image: compressed(image, 50),
    "quality 20": lambda image: compressed(image, 20),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "less contrast": lambda image: ImageEnhance.Contrast(image).enhance(0.7),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "crop of 3 %": lambda image: cropped(image, 0.03),
    "crop of 5 %": lambda image: cropped(image, 0.05),
}
SHARES = {"crop of 3 %": 0.9, "crop of 5 %": 0.8}
"""Least share of changed pictures that is found, if it is below 0.99."""


def share_found(images, change):
    changed = [(signature(image), signature(change(image))) for image in images]
    return np.mean([len(alike([a, b])) for a, b in changed if a is not None and b is not None])


@pytest.fixture(scope="module")
def sceneries():
    return [scenery(seed) for seed in range(60)]


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_are_found(sceneries, change):
    assert share_found(sceneries, CHANGES[change]) >= SHARES.get(change, 0.99)


def test_different_pictures_are_not_alike():
    assert len(alike([signature(scenery(seed, 64)) for seed in range(200)])) == 0


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_changed_photographs_are_found(real_data, change):
    paths = sorted(real_data.glob("imagenet100/*.jpg"))
    paths += sorted(real_data.glob("grocery/val/*/*.jpg"))[::4]
    images = [open_image(path).image for path in paths]
    assert len(images) > 150
    assert share_found(images, CHANGES[change]) >= SHARES.get(change, 0.99)


@pytest.mark.slow
def test_different_photographs_are_not_alike(real_data):
    """A hundred classes, one photograph each."""
    found = [signature(open_image(p).image) for p in sorted(real_data.glob("imagenet100/*.jpg"))]
    assert len(alike(found)) == 0


@pytest.mark.parametrize("image", [
    Image.new("RGB", (100, 100), "white"),
    scenery(0).resize((23, 40)),
    Image.new("L", (1, 5000)),
    Image.linear_gradient("L").point(lambda value: 128 + value // 128),
])  # fmt: skip
def test_small_and_flat_pictures_have_no_signature(image):
    assert signature(image) is None


def test_none_and_one_have_no_pairs():
    assert alike([]).shape == alike([signature(scenery(0))]).shape == (0, 2)


def differing(base: int, bits: int, quarter: int | None = None) -> int:
    """``base`` with so many bits changed, spread over all quarters but ``quarter``."""
    places = [q * 16 + i for i in range(16) for q in range(4) if q != quarter]
    return base ^ sum(1 << place for place in places[:bits])


def test_the_number_of_bits_decides(monkeypatch):
    tones = signature(scenery(0)).tones
    base = 0x0123_4567_89AB_CDEF
    bits = [base, differing(base, 10), differing(base, 11)]
    signatures = [Signature(one, tones) for one in bits]
    assert alike(signatures).tolist() == [[0, 1], [1, 2]]


def test_the_correlation_of_tones_decides():
    one = signature(scenery(0))
    tones = one.tones.astype(np.float64)
    noise = np.random.default_rng(0).normal(size=64)
    noise -= noise.mean()
    noise -= (noise @ tones) * tones
    noise /= np.linalg.norm(noise)
    for correlation, pairs in ((0.96, 1), (0.94, 0)):
        other = correlation * tones + np.sqrt(1 - correlation**2) * noise
        assert len(alike([one, Signature(one.bits, other.astype(np.float16))])) == pairs


def test_large_sets_are_compared_by_quarters(monkeypatch):
    """Up to 3 bits are certain; more are found if a quarter is equal."""
    tones = signature(scenery(0)).tones
    base = 0x0123_4567_89AB_CDEF
    bits = [base, differing(base, 3), differing(base, 9, quarter=2), differing(base, 8)]
    signatures = [Signature(one, tones) for one in bits]
    every = alike(signatures)
    monkeypatch.setattr(likeness, "MOST_COMPARED", 3)
    assert every.tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
    assert [0, 1] in alike(signatures).tolist()
    assert [0, 2] in alike(signatures).tolist()
    assert [0, 3] not in alike(signatures).tolist()


def test_blocks_leave_no_pair_out(monkeypatch, sceneries):
    signatures = [signature(image) for image in sceneries[:20]]
    signatures += [signature(compressed(image, 60)) for image in sceneries[:20]]
    whole = alike(signatures)
    monkeypatch.setattr(likeness, "_BLOCK", 7)
    told = []
    assert alike(signatures, on_progress=lambda *state: told.append(state)).tolist() == (
        whole.tolist()
    )
    assert {(i, i + 20) for i in range(20)} <= set(map(tuple, whole.tolist()))
    assert told[-1] == (40, 40)
