"""Our own parametric hand: capsules along the skeleton, a closed mesh around them, and skinning
weights by which it follows the skeleton.

It is no scan and has no licence but this project's: a hand to try networks on, and the default
topology.

V vertices · J joints, 21 · 16 bodies of the skeleton
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from fleetfoot.tasks.hand.skeleton import (
    ANGLES,
    BODIES,
    JOINTS,
    PARENTS,
    posed_joints,
    touching,
    transforms,
)
from fleetfoot.tasks.hand.surface import Capsules, surface
from fleetfoot.tasks.hand.topology import Topology, upsampling

Numbers = NDArray[np.float64]

CELL = (0.0065, 0.009, 0.0065)
"""Grid of the mesh, in metres; longer along the fingers, which are round across. Some grids leave
edges between more than two faces where fingers nearly touch; this one leaves none."""
SMOOTH = 0.0025
"""Length over which capsules flow into each other, in metres."""
BLEND = 0.0025
"""Length over which one body's movement passes into the next one's, in metres."""
REACH = 0.012
"""Length over which the weight of a vertex for a joint falls by e, in metres."""

_RADII = 1e-3 * np.array(
    [
        [14.5, 11.5, 10.0, 7.5],
        [10.5, 9.2, 8.2, 6.5],
        [10.8, 9.4, 8.4, 6.6],
        [10.4, 9.0, 8.0, 6.4],
        [9.4, 7.8, 7.0, 5.8],
    ]
)
"""Radius at each joint of each finger, in metres, (5, 4)."""
_CARPUS = 1e-3 * np.array([[18.0, 14, 2], [14, 14, 0], [3, 14, 0], [-8, 14, 0], [-17, 14, 0]])
"""Where each finger's ray begins in the palm, in metres, (5, 3)."""
_PALM_RADIUS, _WRIST_RADIUS = 0.0125, 0.016
_FOREARM = 1e-3 * np.array([[11.0, 8, 0], [-10, 8, 0]])
"""Where two capsules begin that run down to the cut through the forearm, in metres."""
_CUT = -0.022
"""y of their lower ends, in metres."""


def _capsules() -> tuple[Capsules, NDArray[np.int64]]:
    """The capsules of the hand at rest, and the body that each belongs to."""
    starts, ends, radii, bodies = [], [], [], []

    def add(start: Numbers, end: Numbers, first: float, last: float, body: int) -> None:
        starts.append(start)
        ends.append(end)
        radii.append((first, last))
        bodies.append(body)

    fingers = JOINTS[1:].reshape(5, 4, 3)
    for finger, joints in enumerate(fingers):
        add(_CARPUS[finger], joints[0], _PALM_RADIUS, _RADII[finger, 0] + 1e-3, 0)
        for bone in range(3):
            body = 1 + 3 * finger + bone
            first, last = _RADII[finger, bone : bone + 2]
            add(joints[bone], joints[bone + 1], first, last, body)
    for start in _FOREARM:
        low = np.array([0.9 * start[0], _CUT, 0.0])
        add(start, low, _WRIST_RADIUS, _WRIST_RADIUS + 1e-3, 0)
    made = Capsules(np.array(starts), np.array(ends), np.array(radii))
    return made, np.array(bodies)


@dataclass(frozen=True, eq=False, kw_only=True)
class ParametricHand:
    """A mesh that follows the 20 angles of the skeleton."""

    vertices: Numbers
    """At rest, in metres, (V, 3)."""
    faces: NDArray[np.int64]
    """(F, 3)"""
    weights: Numbers
    """How much each vertex follows each body, (V, 16); rows sum to 1."""
    regressor: Numbers
    """(21, V)"""

    def posed(self, angles: Numbers) -> tuple[Numbers, Numbers]:
        """Joints and vertices for the skeleton's angles, in degrees, in the frame of the hand.

        (20,) -> (21, 3), (V, 3)

        Raises:
            ValueError: there are not 20 angles.
        """
        if np.shape(angles) != (ANGLES,):
            raise ValueError(f"angles must be ({ANGLES},), not {np.shape(angles)}")
        rotations, shifts = transforms(angles)
        blended = (self.weights @ rotations.reshape(BODIES, 9)).reshape(-1, 3, 3)
        vertices = np.einsum("vij,vj->vi", blended, self.vertices) + self.weights @ shifts
        return posed_joints(rotations, shifts), vertices

    def topology(self) -> Topology:
        """The mesh as a network's topology."""
        return Topology(
            vertices=self.vertices,
            faces=self.faces,
            regressor=self.regressor,
            upsampling=upsampling(self.vertices, self.regressor),
        )


@cache
def parametric_hand() -> ParametricHand:
    """The hand, which is built once a process, in about a tenth of a second."""
    capsules, bodies = _capsules()
    vertices, faces = surface(capsules, cell=CELL, smooth=SMOOTH)
    weights = _skinning(capsules.distances(vertices), bodies)
    rows = [_regressor(vertices, weights, joint) for joint in range(len(JOINTS))]
    return ParametricHand(vertices=vertices, faces=faces, weights=weights, regressor=np.stack(rows))


def _skinning(distances: Numbers, bodies: NDArray[np.int64]) -> Numbers:
    """Weights by the distance to each body: a vertex follows the nearest one and those that hang on
    it or that it hangs on, never the next finger. (V, K) -> (V, 16)"""
    to_body = np.stack([distances[:, bodies == body].min(1) for body in range(BODIES)], 1)
    linked = np.eye(BODIES, dtype=bool)
    linked[np.arange(1, BODIES), PARENTS[1:]] = True
    linked |= linked.T
    nearest = to_body.argmin(1)
    closeness = np.exp((to_body.min(1, keepdims=True) - to_body) / BLEND)
    closeness[(closeness < 0.01) | ~linked[nearest]] = 0
    found: Numbers = closeness / closeness.sum(1, keepdims=True)
    return found


def _regressor(vertices: Numbers, weights: Numbers, joint: int) -> Numbers:
    """Weights of vertices near a joint whose mean is the joint in every pose.

    A posed vertex is sum_b w_vb T_b v, so the mean is sum_b T_b (sum_v r_v w_vb v). Each body b
    that meets in the joint j carries it, T_b j being the same for all of them. So it is enough that
    sum_v r_v w_vb (v - j) = 0 for each body, sum_v r_v w_vb = 0 for each that does not meet there,
    and sum_v r_v = 1. Of all such weights these are the least, if far vertices count for more.
    """
    offsets = vertices - JOINTS[joint]
    closeness = np.exp(-np.linalg.norm(offsets, axis=1) / REACH)
    closeness[closeness < closeness.max() * 0.02] = 0
    rows, wanted = [np.ones(len(vertices))], [1.0]
    for body in range(BODIES):
        if not (weights[:, body] * closeness).any():
            continue
        rows += [weights[:, body] * offsets[:, axis] for axis in range(3)]
        wanted += [0.0] * 3
        if body not in touching(joint):
            rows.append(weights[:, body] * REACH)  # of the size of the rows above
            wanted.append(0.0)
    matrix = np.stack(rows)
    scaled = matrix * np.sqrt(closeness)
    least: Numbers = np.linalg.lstsq(scaled, np.array(wanted), rcond=1e-12)[0]
    return np.sqrt(closeness) * least
