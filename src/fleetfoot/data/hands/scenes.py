"""The built-in set ``hands``: pictures of our own parametric hand, made from seeds.

Everything about a hand is drawn from (seed, part, number): the angles of its joints, within their
limits, its size and skin, the direction from which it is seen, the light and the background. The
pictures are drawn when they are read. Fingers may run into each other: nothing prevents it.

V vertices · H W the picture
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fleetfoot.data.hands.rasteriser import normals, rasterise
from fleetfoot.data.scenes import Hand, Scenes, SceneSet
from fleetfoot.data.sources import Source
from fleetfoot.tasks.hand.parametric import parametric_hand
from fleetfoot.tasks.hand.skeleton import JOINTS, LIMITS, rotation

Numbers = NDArray[np.float64]

NAME = "hands"
VERSION = 1
"""Rises when the same seed gives another hand; part of every fingerprint."""
PARTS = {"train": 8000, "val": 400, "test": 400}
"""Number of hands in each part."""
SIZE = 128
"""Height and width of a picture, in pixels."""
SAMPLES = 2
"""Each pixel is the mean of this number of samples squared, so that edges are smooth."""

TILT = (50.0, 40.0, 60.0)
"""Largest angle in degrees by which the palm is turned away from the camera: about the hand's long
axis, about the axis across it, and within the picture."""
DISTANCE = (0.5, 0.6)
"""Distance of the hand from the camera, in metres."""
FOCAL = 2.2
"""Focal length of the camera in widths of the picture."""
SHIFT = 0.05
"""Largest distance of the hand's middle from the picture's, in widths of the picture."""
GROWTH = (0.9, 1.1)
"""Size of the hand as a share of the skeleton's."""

_SKINS = np.array([[0.96, 0.80, 0.69], [0.87, 0.66, 0.51], [0.62, 0.42, 0.30], [0.38, 0.25, 0.18]])
"""Colours between which the skin is drawn."""
_FLUSH = np.array([0.10, -0.16, -0.14])
"""Change of the skin's red, green and blue over a joint, as shares."""
_NAIL = np.array([0.98, 0.84, 0.80])
_NAIL_SIZE = 0.0075
"""Radius of a nail, in metres."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Draws:
    """All that is drawn for one hand."""

    angles: Numbers
    """Of the skeleton, in degrees, (20,)."""
    tilt: Numbers
    """In degrees, as ``TILT``, (3,)."""
    distance: float
    shift: Numbers
    """Where the hand's middle lies, in widths of the picture from its middle, (2,)."""
    growth: float
    skin: float
    """Place between the first and the last of the skins, 0 to 1."""
    light: Numbers
    """Direction to the light, x and y of the camera, (2,)."""
    background: Numbers
    """Colours of the picture's four corners, (2, 2, 3)."""

    def packed(self) -> bytes:
        """All numbers as bytes."""
        numbers = [np.ravel(value) for value in vars(self).values()]
        return np.concatenate(numbers).astype("<f8").tobytes()


@dataclass(frozen=True)
class Drawing:
    """The hands of one part. Any of them can be made at any time, in any process."""

    part: str
    count: int
    seed: int
    size: int
    """Height and width of each picture, in pixels."""

    def draws(self, index: int) -> Draws:
        """All that is random about one hand."""
        if not 0 <= index < self.count:
            raise IndexError(f"number {index} of {self.count}")
        part = list(PARTS).index(self.part)
        rng = np.random.default_rng([self.seed, part, index])
        return Draws(
            angles=_angles(rng),
            tilt=rng.uniform(-1, 1, 3) * TILT,
            distance=rng.uniform(*DISTANCE),
            shift=rng.uniform(-SHIFT, SHIFT, 2),
            growth=rng.uniform(*GROWTH),
            skin=rng.uniform(),
            light=rng.uniform(-0.6, 0.6, 2),
            background=_background_colours(rng),
        )

    def hand(self, index: int) -> Hand:
        """Joints and vertices before the camera, and the joints in the picture."""
        return _seen(self.draws(index), self.size)

    def pixels(self, index: int) -> NDArray[np.uint8]:
        """The picture. (H, W, 3)"""
        draws = self.draws(index)
        return picture(_seen(draws, self.size), draws, self.size)

    def file(self, index: int) -> bytes:
        """The picture as a file, whose size is the same for every picture."""
        file = io.BytesIO()
        Image.fromarray(self.pixels(index)).save(file, "BMP")
        return file.getvalue()


def _angles(rng: np.random.Generator) -> Numbers:
    """Angles within the limits, in degrees, (20,). The fingers close together to some degree, and
    the outer bend of each goes with its middle one, as tendons have it."""
    low, high = LIMITS[..., 0], LIMITS[..., 1]
    shares = rng.uniform(size=(5, 4))
    closed = rng.uniform()
    shares[1:, 1:] = (shares[1:, 1:] + closed) / 2
    shares[1:, 3] = shares[1:, 2]
    return (low + shares * (high - low)).ravel()


def _background_colours(rng: np.random.Generator) -> Numbers:
    """Colours of four corners that are not far from grey. (2, 2, 3)"""
    grey, tint = rng.uniform(0.15, 0.85, (2, 2, 1)), rng.uniform(-0.15, 0.15, (2, 2, 3))
    return grey + tint


def _seen(draws: Draws, size: int) -> Hand:
    joints, vertices = parametric_hand().posed(draws.angles)
    x, y, z = np.eye(3)
    yaw, pitch, roll = np.deg2rad(draws.tilt)
    # the palm towards the camera, which looks along z with y down
    turn = rotation(z, roll) @ rotation(x, pitch) @ rotation(y, yaw) @ np.diag([1.0, -1.0, -1.0])
    middle = joints.mean(0)
    place = np.array([*(draws.shift * draws.distance / FOCAL), draws.distance])

    def placed(points: Numbers) -> Numbers:
        return draws.growth * (points - middle) @ turn.T + place

    joints = placed(joints)
    return Hand(joints=joints, vertices=placed(vertices), points=projected(joints, size))


def projected(points: Numbers, size: int) -> Numbers:
    """Where points before the camera lie in a picture of that size. (N, 3) -> (N, 2)"""
    found: Numbers = size * (0.5 + FOCAL * points[:, :2] / points[:, 2:])
    return found


def picture(hand: Hand, draws: Draws, size: int) -> NDArray[np.uint8]:
    """The picture of a hand. (H, W, 3)"""
    fine = size * SAMPLES
    faces = parametric_hand().faces
    sun = np.array([*draws.light, -1.0])
    sun /= np.linalg.norm(sun)
    facing = normals(hand.vertices, faces) @ sun
    shade = 0.35 + 0.65 * np.maximum(0.5 + 0.5 * facing, 0) ** 1.5
    colours = _colours(draws.skin) * shade[:, None]
    drawn, covered = rasterise(
        projected(hand.vertices, fine), hand.vertices[:, 2], faces, colours, (fine, fine)
    )
    whole = _mean_of_blocks(drawn) + _background(draws.background, size) * (
        1 - _mean_of_blocks(covered[..., None].astype(np.float32))
    )
    return np.rint(np.clip(whole, 0, 1) * 255).astype(np.uint8)


def _mean_of_blocks(fine: NDArray[np.float32]) -> NDArray[np.float32]:
    # a sum of slices takes a fifth of the time of a mean over blocks
    total = sum(fine[y::SAMPLES, x::SAMPLES] for y in range(SAMPLES) for x in range(SAMPLES))
    share = np.float32(1 / SAMPLES**2)
    return np.asarray(total, np.float32) * share


def _background(corners: Numbers, size: int) -> NDArray[np.float32]:
    """Colours that pass evenly from corner to corner. (2, 2, 3) -> (H, W, 3)"""
    share = (np.arange(size) + 0.5) / size
    ends = np.stack((1 - share, share))
    return np.einsum("ih,jw,ijc->hwc", ends, ends, corners).astype(np.float32)


def _colours(skin: float) -> Numbers:
    """Colour of each vertex without light: skin, redder over the joints, and nails. (V, 3)"""
    place = skin * (len(_SKINS) - 1)
    plain = np.stack([np.interp(place, range(len(_SKINS)), _SKINS[:, c]) for c in range(3)])
    flush, nail = _patches()
    mixed: Numbers = plain * (1 + flush[:, None] * _FLUSH)
    return mixed * (1 - nail[:, None]) + _NAIL * (0.35 + 0.65 * plain.mean()) * nail[:, None]


@cache
def _patches() -> tuple[Numbers, Numbers]:
    """How near each vertex is to a joint, and whether it belongs to a nail, 0 to 1, (V,) each."""
    vertices = parametric_hand().vertices
    to_joints = np.linalg.norm(vertices[:, None] - JOINTS[None, 1:], axis=2).min(1)
    flush = np.exp(-(((to_joints - 0.008) / 0.005).clip(0) ** 2))
    tips, before = JOINTS[4::4], JOINTS[3::4]
    nails = tips + 0.25 * (before - tips) - [0, 0, 0.006]
    to_nails = np.linalg.norm(vertices[:, None] - nails[None], axis=2).min(1)
    return flush, (to_nails < _NAIL_SIZE).astype(float)


@dataclass(frozen=True)
class _Drawn:
    """The place of one picture's bytes: they are made when they are read."""

    drawing: Drawing
    index: int

    def read(self, max_bytes: int) -> bytes:
        return self.drawing.file(self.index)


@dataclass(frozen=True)
class DrawnPictures:
    """The pictures of a part."""

    drawing: Drawing

    def __len__(self) -> int:
        return self.drawing.count

    def __getitem__(self, index: int) -> Source:
        return Source(self.name(index), _Drawn(self.drawing, range(len(self))[index]))

    def name(self, index: int) -> str:
        return f"{NAME}/{self.drawing.part}/{range(len(self))[index]:05}.bmp"

    def sizes(self) -> NDArray[np.int64]:
        size = self.drawing.size
        row = -(-3 * size // 4) * 4  # rows of a BMP are filled up to whole words
        return np.full(len(self), 54 + row * size, np.int64)


@dataclass(frozen=True)
class DrawnHands:
    """What is known of the pictures of a part."""

    drawing: Drawing

    def __len__(self) -> int:
        return self.drawing.count

    def __getitem__(self, index: int) -> Hand:
        return self.drawing.hand(range(len(self))[index])

    def described(self, index: int) -> bytes:
        return bytes([VERSION]) + self.drawing.draws(index).packed()


def open_hands(
    *, seed: int = 0, size: int = SIZE, counts: dict[str, int] | None = None
) -> SceneSet:
    """The built-in set of drawn hands.

    Args:
        seed: another seed gives other hands.
        size: height and width of the pictures, in pixels.
        counts: number of hands in ``train``, ``val`` and ``test``. Default: 8,000, 400 and 400.

    Raises:
        ValueError: the size or a number is not positive, or a part has another name.
    """
    chosen = {**PARTS, **(counts or {})}
    if wrong := sorted(chosen.keys() - PARTS.keys()):
        raise ValueError(f"counts: {', '.join(wrong)} is no part; parts are {', '.join(PARTS)}")
    for name, number in {"size": size, **chosen}.items():
        if number < 1:
            raise ValueError(f"{name} must be 1 or more, not {number}")
    parts: dict[str, Any] = {}
    for name, count in chosen.items():
        drawing = Drawing(name, count, seed, size)
        parts[name] = Scenes(name, DrawnPictures(drawing), DrawnHands(drawing))
    return SceneSet(
        name=NAME,
        task="hand",
        layout=f"built in: our own parametric hand, drawn from seed {seed} at {size} × {size}",
        classes=(),
        notes=("drawn hands: a network fitted to them says nothing of photographs",),
        **parts,
    )
