"""Our own right hand as a skeleton: 21 joints, 16 rigid bodies, and the angles that move them.

The frame of the hand has its origin in the wrist; x points to the thumb's side, y along the middle
finger, z out of the palm. Lengths are those of an adult's hand in round figures, measured on none.

16 bodies: the palm, then three of each finger · 20 angles: spread and three bends of each finger
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

FINGERS = ("thumb", "index", "middle", "ring", "little")
BODIES = 1 + 3 * len(FINGERS)
ANGLES = 4 * len(FINGERS)

_MM = 1e-3
_BASE = _MM * np.array(
    [[24, 18, 6], [26, 88, 0], [3, 91, 0], [-19, 86, 0], [-39, 75, 0]], np.float64
)
"""First joint of each finger: the thumb's at the wrist, the others' at the knuckle."""
_DIRECTIONS = np.array(
    [
        [[0.72, 0.66, 0.22], [0.58, 0.80, 0.12], [0.50, 0.86, 0.06]],
        [[0.16, 1.0, 0.0]] * 3,
        [[0.03, 1.0, 0.0]] * 3,
        [[-0.12, 1.0, 0.0]] * 3,
        [[-0.27, 1.0, 0.0]] * 3,
    ]
)
"""Direction of each bone of each finger at rest, (5, 3, 3)."""
_LENGTHS = _MM * np.array([[45, 33, 27], [43, 26, 22], [47, 30, 23], [43, 28, 23], [34, 20, 20]])
"""Length of each bone of each finger, (5, 3)."""
_PALMAR = np.array([[-0.70, -0.10, 0.70], *[[0.0, 0.0, 1.0]] * 4])
"""Where each finger bends to, (5, 3)."""

LIMITS = np.array(
    [
        [[-15, 20], [-15, 30], [-5, 45], [-5, 60]],
        [[-12, 12], [-15, 80], [0, 95], [0, 65]],
        [[-8, 8], [-15, 80], [0, 95], [0, 65]],
        [[-10, 10], [-15, 80], [0, 95], [0, 65]],
        [[-16, 14], [-15, 80], [0, 95], [0, 65]],
    ],
    np.float64,
)
"""Least and largest angle in degrees of each finger's spread and three bends, (5, 4, 2); positive
bends close the hand."""


def _unit(vectors: Numbers) -> Numbers:
    norms: Numbers = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / norms


def _joints() -> Numbers:
    bones = _unit(_DIRECTIONS) * _LENGTHS[..., None]
    ends = _BASE[:, None] + np.cumsum(bones, axis=1)
    fingers = np.concatenate((_BASE[:, None], ends), axis=1)  # (5, 4, 3)
    return np.concatenate((np.zeros((1, 3)), fingers.reshape(-1, 3)))


JOINTS = _joints()
"""Joints at rest, in metres, (21, 3): the wrist, then four of each finger."""
PARENTS = np.array([-1, *(0 if k == 0 else 3 * f + k for f in range(5) for k in range(3))])
"""Body that each body hangs on, (16,)."""
PIVOTS = np.array([0, *(1 + 4 * f + k for f in range(5) for k in range(3))])
"""Joint about which each body turns, (16,)."""


_BENDS_ABOUT = _unit(np.cross(_unit(_DIRECTIONS), _PALMAR[:, None]))
"""Axis of each bone's bend, (5, 3, 3)."""
_SPREADS_ABOUT = np.cross(_BENDS_ABOUT[:, 0], _unit(_DIRECTIONS[:, 0]))
"""Axis of each finger's spread, (5, 3)."""


def touching(joint: int) -> tuple[int, ...]:
    """Bodies that meet in a joint, so that each of them carries it.

    >>> touching(0), touching(5), touching(8)
    ((0,), (0, 4), (6,))
    """
    if joint == 0:
        return (0,)
    finger, place = divmod(joint - 1, 4)
    body = 1 + 3 * finger + place
    if place == 0:
        return (0, body)
    return (body - 1, body) if place < 3 else (body - 1,)


def transforms(angles: Numbers) -> tuple[Numbers, Numbers]:
    """Rotation and shift of each body, which bring a point at rest to its place.

    (20,) angles in degrees, in the order of ``LIMITS`` -> (16, 3, 3), (16, 3)
    """
    rotations, shifts = np.empty((BODIES, 3, 3)), np.empty((BODIES, 3))
    rotations[0], shifts[0] = np.eye(3), 0.0
    for body, turn in enumerate(_turns(np.asarray(angles, np.float64).reshape(5, 4)), start=1):
        parent, pivot = PARENTS[body], JOINTS[PIVOTS[body]]
        rotations[body] = rotations[parent] @ turn
        # the pivot stays where the parent brings it
        shifts[body] = shifts[parent] + (rotations[parent] - rotations[body]) @ pivot
    return rotations, shifts


def posed_joints(rotations: Numbers, shifts: Numbers) -> Numbers:
    """The joints where ``transforms`` brings them. (16, 3, 3), (16, 3) -> (21, 3)"""
    carried = [touching(joint)[-1] for joint in range(len(JOINTS))]
    moved: Numbers = np.einsum("jik,jk->ji", rotations[carried], JOINTS) + shifts[carried]
    return moved


def _turns(angles: Numbers) -> Iterator[Numbers]:
    """Rotation of each body against its parent at rest, from the thumb to the little finger."""
    for finger, (spread, *bends) in enumerate(np.deg2rad(angles)):
        for bone, bend in enumerate(bends):
            turn = rotation(_BENDS_ABOUT[finger, bone], bend)
            if bone == 0:
                turn = rotation(_SPREADS_ABOUT[finger], spread) @ turn
            yield turn


def rotation(axis: Numbers, angle: float) -> Numbers:
    """Rodrigues' formula: the rotation about a unit vector, in radians. (3,) -> (3, 3)"""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    found: Numbers = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return found
