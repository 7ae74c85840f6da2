"""The maker for hands, against dots in pictures and against the geometry of a camera far away."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from fleetfoot.data.hand_making import AugmentedHands, MadeHand, Move
from fleetfoot.data.preprocess import Preprocess
from fleetfoot.data.scene_making import PlainScenes
from fleetfoot.data.settings import Scene
from small_scenes import with_hands, with_objects

SQUASH = Preprocess(size=64, crop_pct=1, resize_mode="squash")
LETTERBOX = Preprocess(size=(48, 96), crop_pct=1, resize_mode="letterbox")
MOVED = Scene(rotate=90.0, scale=(0.8, 1.4), shift=0.1)


def augmented(settings: Scene, preprocess: Preprocess = SQUASH, **fields) -> AugmentedHands:
    given = {"scenes": with_hands(), "settings": settings, "preprocess": preprocess}
    return AugmentedHands(**given | fields)


def write(maker, number: int = 0, *, epoch: int = 0, update: int = 0):
    out = np.full(maker.shape(epoch=epoch, update=update), 77, np.uint8)
    return out, maker.write(out, number, epoch=epoch, update=update, repeat=0)


def dot(x: float, y: float, height: int = 80, width: int = 80) -> Image.Image:
    """A round white spot on black, brightest at (x, y)."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    bright = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 18)
    return Image.fromarray((255 * bright).astype(np.uint8)).convert("RGB")


def centre(pixels: np.ndarray) -> np.ndarray:
    """Where the light of an (H, W, 3) picture lies on average, x and y."""
    light = pixels[:, :, 0].astype(float)
    rows, columns = np.mgrid[: light.shape[0], : light.shape[1]] + 0.5
    return np.array([(light * columns).sum(), (light * rows).sum()]) / light.sum()


@pytest.mark.parametrize("preprocess", [SQUASH, LETTERBOX, LETTERBOX.grey()])
def test_if_nothing_is_drawn_training_sees_what_evaluation_sees(preprocess):
    for number in range(3):
        pixels, made = write(augmented(Scene(), preprocess), number)
        plain = PlainScenes(scenes=with_hands(), preprocess=preprocess)
        expected, other = write(plain, number)
        np.testing.assert_array_equal(pixels, expected)
        # float32, from products that are formed in another order
        np.testing.assert_allclose(made.points, other.points, rtol=1e-6)
        np.testing.assert_array_equal(made.joints, other.joints)
        np.testing.assert_array_equal(made.vertices, other.vertices)
        assert other.placement == preprocess.placement(64, 64)


@pytest.mark.parametrize("preprocess", [SQUASH, Preprocess(size=(60, 90), crop_pct=1,
                                                           resize_mode="letterbox")])  # fmt: skip
@pytest.mark.parametrize("seed", range(6))
def test_points_move_with_the_picture(preprocess, seed):
    rng = np.random.default_rng(seed)
    angle = rng.uniform(-math.pi, math.pi)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    if seed % 2:
        turn = np.diag([-1.0, 1.0]) @ turn
    move = Move(turn=turn, factor=rng.uniform(0.9, 1.3), shift=tuple(rng.uniform(-4, 4, 2)))
    point = rng.uniform(34, 46, (1, 2))
    black = Preprocess(**vars(preprocess) | {"mean": (0.0,) * 3})
    pixels, (found,) = move.apply(dot(*point[0]), point, black, (0, 0, 0))
    # bytes are rounded, and a spot of three pixels' width is sampled bilinearly
    np.testing.assert_allclose(found, centre(pixels), rtol=0, atol=0.1)


@pytest.mark.parametrize("mirror", [0.0, 1.0])
def test_joints_turn_with_the_points(mirror):
    """A metre is 100 pixels at every depth, so points and joints differ by a factor alone."""
    settings = Scene(rotate=180.0, scale=(0.7, 1.5), shift=0.2, mirror=mirror)
    turned = 0
    for epoch in range(6):
        _, made = write(augmented(settings), 1, epoch=epoch)
        assert isinstance(made, MadeHand)
        flat = (made.points - made.points[0]).astype(float)
        factor = np.linalg.norm(flat[1]) / np.linalg.norm(made.joints[1, :2])
        assert 70 - 1e-3 < factor < 150 + 1e-3
        np.testing.assert_allclose(flat, factor * made.joints[:, :2], rtol=0, atol=1e-3)
        hand = with_hands().targets[1]
        own = hand.joints - hand.joints[0]
        np.testing.assert_allclose(made.joints[:, 2], own[:, 2], atol=1e-6)
        lengths = np.linalg.norm(made.joints, axis=1)
        np.testing.assert_allclose(lengths, np.linalg.norm(own, axis=1), atol=1e-6)
        sides = np.linalg.det(np.linalg.lstsq(own, made.joints.astype(float), rcond=None)[0])
        assert sides == pytest.approx(-1 if mirror else 1, abs=1e-5)
        turned += abs(made.joints[1, 0] - own[1, 0]) > 0.01
    assert turned > 3


def test_joints_and_vertices_are_seen_from_the_root():
    _, made = write(augmented(Scene()))
    hand = with_hands().targets[0]
    np.testing.assert_array_equal(made.joints[0], np.zeros(3))
    np.testing.assert_allclose(made.vertices, hand.vertices - hand.joints[0], atol=1e-6)


def test_the_same_draws_give_the_same_hand_and_others_give_others():
    maker = augmented(MOVED)
    points = write(maker, 1, epoch=2)[1].points
    np.testing.assert_array_equal(points, write(augmented(MOVED), 1, epoch=2)[1].points)
    assert (points != write(maker, 1, epoch=3)[1].points).any()
    assert (points != write(augmented(MOVED, seed=5), 1, epoch=2)[1].points).any()


def test_the_input_may_have_several_sizes():
    maker = augmented(Scene(multiscale=(0.5, 1.5), multiscale_every=1))
    sizes = {write(maker, update=update)[0].shape for update in range(12)}
    assert sizes == {(3, 32, 32), (3, 64, 64), (3, 96, 96)}


def test_what_is_no_hand_and_what_has_no_effect_is_named():
    with pytest.raises(ValueError, match="no hand"):
        write(augmented(Scene(), scenes=with_objects()))
    with pytest.raises(ValueError, match="mosaic has no effect in the task hand"):
        augmented(Scene(mosaic=0.5))
    with pytest.raises(ValueError, match="rotate must be an angle from 0 to 180 degrees"):
        augmented(Scene(rotate=200.0))
