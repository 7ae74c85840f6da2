"""Our own hand: its skeleton, its closed mesh, and that the mesh follows the skeleton."""

from __future__ import annotations

import numpy as np
import pytest

from fleetfoot.tasks.hand.parametric import parametric_hand
from fleetfoot.tasks.hand.skeleton import (
    ANGLES,
    BODIES,
    JOINTS,
    LIMITS,
    PARENTS,
    PIVOTS,
    rotation,
    touching,
    transforms,
)
from fleetfoot.tasks.hand.surface import Capsules, surface


def poses(count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.uniform(LIMITS[..., 0], LIMITS[..., 1], (count, 5, 4)).reshape(count, ANGLES)


def is_closed(faces: np.ndarray) -> bool:
    """Whether each edge is that of two faces that run through it in opposite directions."""
    edges = np.concatenate((faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]))
    once = {*map(tuple, edges.tolist())}
    return len(once) == len(edges) and all((b, a) in once for a, b in once)


def volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    return float((a * np.cross(b, c)).sum() / 6)


def test_a_capsule_becomes_a_closed_surface_of_its_size():
    radius, length = 0.01, 0.03
    one = Capsules(np.zeros((1, 3)), np.array([[length, 0, 0]]), np.full((1, 2), radius))
    vertices, faces = surface(one, cell=(0.002, 0.002, 0.002), smooth=0.001)
    assert is_closed(faces)
    assert len(vertices) - len(faces) / 2 == 2  # Euler's V - E + F, with 3 F = 2 E
    assert np.abs(one.distances(vertices)).max() < 1e-9
    whole = np.pi * radius**2 * (length + 4 / 3 * radius)
    # flat faces between points of a round surface lie inside it: (cell / radius)² / 8 of 2 at most
    assert 0.97 * whole < volume(vertices, faces) < whole


def test_the_mesh_of_the_hand_is_closed():
    hand = parametric_hand()
    assert is_closed(hand.faces)
    assert len(hand.vertices) - len(hand.faces) / 2 == 2
    assert 250e-6 < volume(hand.vertices, hand.faces) < 500e-6  # a man's hand has 0.35 to 0.45 l
    assert np.array_equal(np.unique(hand.faces), np.arange(len(hand.vertices)))


def test_at_rest_nothing_moves():
    joints, vertices = parametric_hand().posed(np.zeros(ANGLES))
    assert np.array_equal(joints, JOINTS)
    assert np.allclose(vertices, parametric_hand().vertices, atol=1e-15)


@pytest.mark.parametrize("angles", poses(5))
def test_the_regressor_finds_the_joints_of_every_pose(angles):
    hand = parametric_hand()
    joints, vertices = hand.posed(angles)
    # exact but for rounding: coordinates are near 0.1 and weights add up to 2 in size
    assert np.abs(hand.regressor @ vertices - joints).max() < 1e-13


@pytest.mark.parametrize("angles", poses(3))
def test_bones_keep_their_length(angles):
    joints, _ = parametric_hand().posed(angles)
    before = np.where(np.arange(21) % 4 == 1, 0, np.arange(21) - 1)

    def lengths(points):
        return np.linalg.norm(points[1:] - points[before[1:]], axis=1)

    assert np.allclose(lengths(joints), lengths(JOINTS), atol=1e-15)


@pytest.mark.parametrize("finger", range(5))
def test_bending_brings_the_tip_to_the_palms_side(finger):
    tip = 4 + 4 * finger
    for bend in range(1, 4):
        angles = np.zeros((5, 4))
        angles[finger, bend] = 30
        joints, _ = parametric_hand().posed(angles.ravel())
        assert joints[tip, 2] > JOINTS[tip, 2] + 0.003
        others = [j for j in range(21) if not 4 * finger < j <= tip]
        assert np.array_equal(joints[others], JOINTS[others])


def test_spread_turns_a_finger_within_the_palm():
    angles = np.zeros((5, 4))
    angles[1, 0] = 10
    joints, _ = parametric_hand().posed(angles.ravel())
    assert np.allclose(joints[5:9, 2], 0)
    assert np.linalg.norm(joints[8] - JOINTS[8]) > 0.01


def test_a_rotation_turns_by_its_angle():
    quarter = rotation(np.array([0.0, 0, 1]), np.pi / 2)
    assert np.allclose(quarter @ [1, 0, 0], [0, 1, 0])


def test_every_body_that_meets_in_a_joint_carries_it():
    rotations, shifts = transforms(poses(1)[0])
    for joint, place in enumerate(JOINTS):
        carried = [rotations[body] @ place + shifts[body] for body in touching(joint)]
        assert np.allclose(carried, carried[0], atol=1e-15)
    assert {body for joint in range(21) for body in touching(joint)} == set(range(BODIES))
    assert len(PIVOTS) == len(PARENTS) == BODIES


def test_a_vertex_follows_bodies_that_are_linked():
    weights = parametric_hand().weights
    assert np.allclose(weights.sum(1), 1)
    for row in weights:
        bodies = np.flatnonzero(row)
        nearest = bodies[row[bodies].argmax()]
        assert all(b == nearest or PARENTS[b] == nearest or PARENTS[nearest] == b for b in bodies)
    assert (weights.max(0) > 0.7).all()  # each body has vertices that mostly follow it


def test_a_wrong_number_of_angles_is_named():
    with pytest.raises(ValueError, match=r"angles must be \(20,\), not \(5, 4\)"):
        parametric_hand().posed(np.zeros((5, 4)))
