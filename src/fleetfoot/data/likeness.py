"""Pictures that look alike: a signature of each picture, and the pairs of like signatures.

The signature has two parts, both of the grey picture, so that colours do not matter. *Bits*: which
of 64 low spatial frequencies (of the discrete cosine transform of 32 × 32 pixels) are above their
median; the perceptual hash that is known as pHash. *Tones*: the picture at 8 × 8 pixels, with mean
0 and length 1. Two pictures look alike if few bits differ and the tones correlate.

Both thresholds were chosen on 5,421 photographs and on 25,000 pictures of 32 × 32 pixels: among the
pairs that passed, hardly one showed two things; of photographs that were resized, compressed again,
or cropped by 5 % around the centre, nearly all were found (tests/data/test_likeness.py has the
shares). Turned and mirrored pictures, and crops of a fifth or more, are not found.

N pictures
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

BITS = 64
MOST_BITS = 10
"""Most bits in which pictures that look alike differ."""
LEAST_CORRELATION = 0.95
"""Least correlation of the tones of pictures that look alike."""

LEAST_SIDE = 24
"""Smaller pictures have no signature: they hold too little to tell two of them apart."""
LEAST_CONTRAST = 2.0
"""Least standard deviation of the tones, in grey levels of 255; flatter pictures, for example empty
ones, have no signature."""

MOST_COMPARED = 100_000
"""Largest number of pictures of which every pair is compared. In larger sets two pictures are
compared if one of the four quarters of their bits is equal, which is certain up to 3 different
bits."""

_SIDE, _CELLS, _FREQUENCIES = 32, 8, 8
_BLOCK = 1024
"""Pictures compared with as many others at once, so that the products stay in the cache."""
_MOST_BUCKET = 2000
"""Largest number of pictures with an equal quarter that are compared with each other."""


def _cosines() -> npt.NDArray[np.float32]:
    """The lowest frequencies of the discrete cosine transform. (_FREQUENCIES + 1, _SIDE)"""
    place = (2 * np.arange(_SIDE) + 1) * np.pi / (2 * _SIDE)
    return np.cos(np.arange(_FREQUENCIES + 1)[:, None] * place[None]).astype(np.float32)


_COSINES = _cosines()


@dataclass(frozen=True, eq=False, slots=True)
class Signature:
    """What a picture looks like. It is kept small: there may be a million."""

    bits: int
    """64 bits."""
    tones: npt.NDArray[np.float16]
    """(64,), mean 0, length 1."""


def signature(image: Image.Image) -> Signature | None:
    """The signature of a picture; None if it is too small or too flat to have one."""
    if min(image.size) < LEAST_SIDE:
        return None
    grey = image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    pixels = np.asarray(grey, np.float32)
    cell = _SIDE // _CELLS
    tones = pixels.reshape(_CELLS, cell, _CELLS, cell).mean((1, 3)).ravel()
    tones -= tones.mean()
    length = float(np.linalg.norm(tones))
    if length < LEAST_CONTRAST * _CELLS:
        return None
    frequencies = (_COSINES @ pixels @ _COSINES.T)[:_FREQUENCIES].ravel()[1 : BITS + 1]
    above = np.packbits(frequencies > np.median(frequencies))
    return Signature(int.from_bytes(above.tobytes(), "big"), (tones / length).astype(np.float16))


Pairs = npt.NDArray[np.int64]


def alike(
    signatures: list[Signature], *, on_progress: Callable[[int, int], None] | None = None
) -> Pairs:
    """The pairs that look alike, the lower number first, in order. (pairs, 2)

    Args:
        on_progress: called with the pictures that were compared so far, and their number.
    """
    count = len(signatures)
    if count < 2:
        return np.zeros((0, 2), np.int64)
    bits = np.array([one.bits for one in signatures], dtype=np.uint64)
    tones = np.stack([one.tones for one in signatures]).astype(np.float32)
    search = _every_pair if count <= MOST_COMPARED else _equal_quarters
    found = []
    for done, pairs in search(bits):
        first, second = pairs
        kept = np.einsum("ij,ij->i", tones[first], tones[second]) >= LEAST_CORRELATION
        found.append(np.stack([first[kept], second[kept]], axis=1))
        if on_progress is not None:
            on_progress(done, count)
    return np.unique(np.concatenate(found), axis=0)


def _signs(bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.float32]:
    """Each bit as 1 or -1: a product of two rows is 64 less twice their different bits. (N, 64)"""
    rows = np.unpackbits(bits.astype(">u8").view(np.uint8)).reshape(-1, BITS)
    return rows.astype(np.float32) * 2 - 1


Step = tuple[int, tuple[Pairs, Pairs]]
"""Pictures that are done, and the two numbers of each pair."""


def _every_pair(bits: npt.NDArray[np.uint64]) -> Iterator[Step]:
    """Pairs with few different bits, each pair compared."""
    signs = _signs(bits)
    for start in range(0, len(bits), _BLOCK):
        rows = signs[start : start + _BLOCK]
        for other in range(start, len(bits), _BLOCK):
            near = rows @ signs[other : other + _BLOCK].T >= BITS - 2 * MOST_BITS
            first, second = np.nonzero(near)
            first, second = first + start, second + other
            upper = first < second
            yield min(start + _BLOCK, len(bits)), (first[upper], second[upper])


def _equal_quarters(bits: npt.NDArray[np.uint64]) -> Iterator[Step]:
    """Pairs with few different bits, among those with an equal quarter of the bits."""
    signs = _signs(bits)
    quarter = BITS // 4
    for number in range(4):
        keys = (bits >> np.uint64(quarter * number)) & np.uint64(2**quarter - 1)
        order = np.argsort(keys, kind="stable")
        borders = np.flatnonzero(np.diff(keys[order])) + 1
        for members in np.split(order, borders):
            if 1 < len(members):
                members = np.sort(members)[:_MOST_BUCKET]
                near = signs[members] @ signs[members].T >= BITS - 2 * MOST_BITS
                first, second = np.nonzero(np.triu(near, 1))
                yield 0, (members[first], members[second])
        yield len(bits) * (number + 1) // 4, (order[:0], order[:0])
