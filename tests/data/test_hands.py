"""The built-in set of drawn hands, and the rasteriser that draws them."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from fleetfoot.data.hands import open_hands
from fleetfoot.data.hands.rasteriser import normals, rasterise
from fleetfoot.data.hands.scenes import FOCAL, Drawing
from fleetfoot.data.preprocess import Preprocess
from fleetfoot.data.scene_making import PlainScenes
from fleetfoot.tasks.hand.parametric import parametric_hand
from fleetfoot.tasks.hand.surface import Capsules, surface

SMALL = {"train": 6, "val": 3, "test": 3}


def square(left, top, right, bottom, *, depth=1.0):
    """Two triangles that face a camera whose y points down: vertices, depths and faces."""
    points = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], float)
    return points, np.full(4, depth), np.array([[0, 2, 1], [0, 3, 2]])


def test_a_square_covers_the_pixels_whose_middles_it_holds():
    points, depths, faces = square(1, 2, 4, 3.6)
    drawn, covered = rasterise(points, depths, faces, np.ones((4, 1)), (6, 5))
    expected = np.zeros((6, 5), bool)
    expected[2:4, 1:4] = True  # the middle of row 3 lies at 3.5
    assert np.array_equal(covered, expected)
    assert np.array_equal(drawn[..., 0], expected)


def test_values_pass_evenly_between_vertices():
    points, depths, faces = square(0, 0, 8, 8)
    drawn, covered = rasterise(points, depths, faces, points, (8, 8))
    middles = np.arange(8) + 0.5
    assert covered.all()
    assert np.allclose(drawn[..., 0], middles[None], atol=1e-6)  # float32
    assert np.allclose(drawn[..., 1], middles[:, None], atol=1e-6)


def test_faces_from_behind_and_outside_are_not_drawn():
    points, depths, faces = square(1, 1, 4, 4)
    assert not rasterise(points, depths, faces[:, ::-1], np.ones((4, 1)), (6, 6))[1].any()
    assert not rasterise(points - 9, depths, faces, np.ones((4, 1)), (6, 6))[1].any()
    _, covered = rasterise(points - 2, depths, faces, np.ones((4, 1)), (6, 6))
    assert covered.sum() == 4  # what is cut at the corner


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_nearer_face_is_seen(order):
    far, near = square(0, 0, 6, 6, depth=2.0), square(2, 2, 4, 4, depth=1.0)
    pair = [(far, 0.25), (near, 0.75)]
    pair = [pair[i] for i in order]
    points = np.concatenate([shape[0] for shape, _ in pair])
    depths = np.concatenate([shape[1] for shape, _ in pair])
    faces = np.concatenate([shape[2] + 4 * i for i, (shape, _) in enumerate(pair)])
    values = np.repeat([value for _, value in pair], 4)[:, None]
    drawn, _ = rasterise(points, depths, faces, values, (6, 6))
    expected = np.full((6, 6), 0.25)
    expected[2:4, 2:4] = 0.75
    assert np.array_equal(drawn[..., 0], expected)


def test_a_ball_is_drawn_as_a_disc_and_its_normals_point_outwards():
    radius = 0.02
    ball = Capsules(np.zeros((1, 3)), np.array([[1e-6, 0, 0]]), np.full((1, 2), radius))
    vertices, faces = surface(ball, cell=(0.002,) * 3, smooth=0.001)
    outwards = vertices / np.linalg.norm(vertices, axis=1, keepdims=True)
    assert (np.sum(normals(vertices, faces) * outwards, 1) > 0.98).all()
    # seen from far away without perspective; y down turns the ball about x
    turned = vertices * [1, -1, -1]
    points = 50 + 2000 * turned[:, :2]
    _, covered = rasterise(points, 1 + turned[:, 2], faces, np.ones((len(points), 1)), (100, 100))
    assert covered.sum() == pytest.approx(np.pi * (2000 * radius) ** 2, rel=0.02)


def test_the_same_seed_gives_the_same_hands():
    first, again, other = (
        open_hands(counts=SMALL),
        open_hands(counts=SMALL),
        open_hands(counts=SMALL, seed=1),
    )
    assert first.train.fingerprint == again.train.fingerprint != other.train.fingerprint
    one, two, three = (s.train.pictures[2].read() for s in (first, again, other))
    assert one == two != three
    assert not np.array_equal(first.train.targets[0].joints, first.val.targets[0].joints)
    assert len({s.fingerprint for s in first.splits}) == 3


def test_pictures_are_files_of_the_stated_size():
    for size in (30, 31):
        part = open_hands(counts=SMALL, size=size).val
        source = part.pictures[1]
        assert len(source.read()) == part.pictures.sizes()[1]
        assert source.open().image.size == (size, size)
        assert part.pictures.name(1) == source.path == "hands/val/00001.bmp"


def test_the_hand_lies_before_the_camera_where_its_points_are():
    targets = open_hands(counts=SMALL).train.targets
    for index in range(len(targets)):
        hand = targets[index]
        assert hand.joints.shape == (21, 3)
        assert hand.vertices.shape == (len(parametric_hand().vertices), 3)
        assert np.allclose(parametric_hand().regressor @ hand.vertices, hand.joints, atol=1e-13)
        shares = FOCAL * hand.joints[:, :2] / hand.joints[:, 2:] + 0.5
        assert np.allclose(hand.points, 128 * shares)
        assert (0 < shares).all()
        assert (shares < 1).all()


def test_the_picture_shows_the_hand_where_its_joints_are():
    size = 96
    drawing = Drawing("train", 10, 0, size)
    for index in range(10):
        hand, draws = drawing.hand(index), drawing.draws(index)
        pixels = drawing.pixels(index).astype(float) / 255
        share = (np.arange(size) + 0.5) / size
        ends = np.stack((1 - share, share))
        empty = np.einsum("ih,jw,ijc->hwc", ends, ends, draws.background)
        changed = np.abs(pixels - np.clip(empty, 0, 1)).max(2) > 0.05
        x, y = hand.points.astype(int).T
        # a joint lies within the hand, whose colour may be the background's in some places
        assert changed[y, x].mean() > 0.6
        outside = np.ones_like(changed)
        low, high = hand.points.min(0) - 9, hand.points.max(0) + 10
        outside[max(int(low[1]), 0) : int(high[1]), max(int(low[0]), 0) : int(high[0])] = False
        # beyond the joints there is the cut of the forearm at most
        assert changed[outside].sum() < 0.1 * changed.sum()


def test_an_evaluations_input_is_the_picture_and_its_hand_from_the_wrist():
    part = open_hands(counts=SMALL, size=96).val
    maker = PlainScenes(
        scenes=part, preprocess=Preprocess(size=48, crop_pct=1.0, resize_mode="letterbox")
    )
    out = np.zeros(maker.shape(epoch=0, update=0), np.uint8)
    made = maker.write(out, 1, epoch=0, update=0, repeat=0)
    hand = part.targets[1]
    assert np.allclose(made.points, hand.points / 2, atol=1e-4)  # float32
    assert np.allclose(made.joints, hand.joints - hand.joints[0], atol=1e-7)
    assert np.allclose(made.vertices, hand.vertices - hand.joints[0], atol=1e-7)
    whole = np.asarray(part.pictures[1].open().image, float)
    halved = whole.reshape(48, 2, 48, 2, 3).mean((1, 3)).transpose(2, 0, 1)
    assert np.abs(out - halved).mean() < 3  # Pillow's filter is wider than two pixels


def test_hands_can_be_sent_to_other_processes():
    part = open_hands(counts=SMALL, size=24).train
    again = pickle.loads(pickle.dumps(part))
    assert again.pictures[3].read() == part.pictures[3].read()
    assert np.array_equal(again.targets[3].vertices, part.targets[3].vertices)
    assert len(pickle.dumps(part)) < 2000  # no mesh and no picture is in it


def test_what_cannot_be_is_named():
    with pytest.raises(ValueError, match=r"counts: all is no part; parts are train, val, test"):
        open_hands(counts={"all": 3})
    with pytest.raises(ValueError, match="val must be 1 or more, not 0"):
        open_hands(counts={"val": 0})
    with pytest.raises(ValueError, match="size must be 1 or more, not -1"):
        open_hands(size=-1)
    with pytest.raises(IndexError):
        open_hands(counts=SMALL).val.targets[3]
