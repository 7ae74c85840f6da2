"""Procrustes against scipy and by construction; the figures by hand-counted cases."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes
from scipy.spatial import cKDTree, procrustes
from scipy.spatial.transform import Rotation

from fleetfoot.errors import RecordError
from fleetfoot.tasks.hand.metric import Meter, Seen, f_score
from fleetfoot.tasks.hand.procrustes import similarity
from fleetfoot.tasks.hand.reconstruction import Reconstruction


def cloud(seed: int, count: int = 21) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.05, (count, 3))


def turned(points: np.ndarray, seed: int = 0) -> np.ndarray:
    """Another place, direction and size of the same points."""
    rng = np.random.default_rng(seed)
    turn = Rotation.random(random_state=seed).as_matrix()
    return rng.uniform(0.5, 2) * points @ turn.T + rng.normal(0, 1, 3)


@pytest.mark.parametrize("seed", range(5))
def test_a_similarity_is_found_again(seed):
    points = cloud(seed)
    found = similarity(points, turned(points, seed))
    assert np.allclose(found(points), turned(points, seed), atol=1e-14)
    assert np.isclose(np.linalg.det(found.rotation), 1)


@pytest.mark.parametrize("seed", range(5))
def test_alignment_is_scipys(seed):
    truth = cloud(seed)
    points = turned(truth + np.random.default_rng(seed + 9).normal(0, 0.005, truth.shape), seed)
    aligned = similarity(points, truth)(points)
    # scipy's disparity is that of sets of unit norm
    spread = ((truth - truth.mean(0)) ** 2).sum()
    disparity = procrustes(truth, points)[2]
    assert np.isclose(((aligned - truth) ** 2).sum(), disparity * spread, rtol=1e-10)
    x, y = points - points.mean(0), truth - truth.mean(0)
    turn, size = orthogonal_procrustes(x, y)
    expected = x @ turn * size / (x**2).sum() + truth.mean(0)
    assert np.allclose(aligned, expected, atol=1e-14)


def test_a_mirrored_hand_is_not_mirrored_back():
    points = cloud(0)
    mirrored = points * [-1, 1, 1]
    found = similarity(mirrored, points)
    assert np.isclose(np.linalg.det(found.rotation), 1)
    assert np.linalg.norm(found(mirrored) - points, axis=1).mean() > 0.01
    turn, _ = orthogonal_procrustes(mirrored - mirrored.mean(0), points - points.mean(0))
    assert np.isclose(np.linalg.det(turn), -1)  # scipy's does, as FreiHAND's code has it


def test_no_other_similarity_is_nearer():
    points, truth = cloud(0), cloud(1)
    best = similarity(points, truth)
    least = ((best(points) - truth) ** 2).sum()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        turn = Rotation.from_rotvec(rng.normal(0, 0.05, 3)).as_matrix() @ best.rotation
        scale = best.scale * (1 + rng.normal(0, 0.05))
        moved = scale * points @ turn.T
        moved = moved + (truth - moved).mean(0)
        assert ((moved - truth) ** 2).sum() > least


def test_one_point_repeated_moves_without_scale():
    points = np.full((5, 3), 2.0)
    found = similarity(points, np.zeros((5, 3)))
    assert found.scale == 1
    assert np.allclose(found(points), 0)


def test_f_scores_by_nearest_neighbours_of_scipy():
    found, truth = cloud(0, 300), cloud(1, 250)
    for limit in (0.005, 0.015, 0.03):
        precision = (cKDTree(truth).query(found)[0] <= limit).mean()
        recall = (cKDTree(found).query(truth)[0] <= limit).mean()
        expected = 2 * precision * recall / (precision + recall)
        assert f_score(found, truth, limit) == pytest.approx(expected, abs=1e-15)


def test_f_scores_counted_by_hand():
    truth = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]])
    found = np.array([[0.1, 0, 0], [5, 0, 0]])
    # one of two found points is near, and one of three true ones: 2 · 1/2 · 1/3 / (5/6)
    assert f_score(found, truth, 0.2) == pytest.approx(0.4)
    assert f_score(found, truth, 0.05) == 0


def hand(seed: int = 0) -> SimpleNamespace:
    joints, vertices = cloud(seed), cloud(seed + 100, 50)
    return SimpleNamespace(joints=joints, vertices=vertices, points=100 * joints[:, :2])


def answer(truth: SimpleNamespace, change=lambda points: points) -> Reconstruction:
    made = {name: torch.from_numpy(change(getattr(truth, name))) for name in vars(truth)}
    return Reconstruction(**made)


def test_place_direction_and_size_do_not_count_after_alignment():
    truth = hand()
    meter = Meter()
    moved = Reconstruction(
        points=torch.from_numpy(truth.points + np.array([3.0, 4.0])),
        joints=torch.from_numpy(turned(truth.joints)),
        vertices=torch.from_numpy(turned(truth.vertices, 1)),
    )
    meter.update(0, moved, truth)
    figures = meter.figures()
    assert figures["pa_mpjpe"] == pytest.approx(0, abs=1e-10)
    assert figures["pa_mpvpe"] == pytest.approx(0, abs=1e-10)
    assert figures["f_5"] == figures["f_15"] == 1
    assert figures["points"] == pytest.approx(5)
    assert figures["mpjpe"] > 1


def test_mpjpe_is_in_millimetres_from_the_wrist():
    truth = hand()
    off = truth.joints.copy()
    off[1:, 2] += 0.021  # the wrist stays
    found = answer(truth)
    meter = Meter()
    meter.update(
        4,
        Reconstruction(
            points=found.points, joints=torch.from_numpy(off + 7), vertices=found.vertices
        ),
        truth,
    )
    assert meter.figures()["mpjpe"] == pytest.approx(20)  # 21 mm at 20 of 21 joints


def test_meters_of_parts_add_up_and_survive_json():
    truths = [hand(seed) for seed in range(6)]
    noise = np.random.default_rng(0)

    def noisy(points):
        return points + noise.normal(0, 0.003, points.shape)

    answers = [answer(truth, noisy) for truth in truths]
    whole, parts = Meter(), [Meter(), Meter()]
    for number, (found, truth) in enumerate(zip(answers, truths, strict=True)):
        whole.update(number, found, truth)
        parts[number % 2].update(number, found, truth)
    together = Meter.from_json(json.loads(json.dumps((parts[1] + parts[0]).as_json())))
    assert together == whole
    assert together.figures() == whole.figures()
    assert whole.images == 6
    mean = np.mean([one["pa_mpjpe"] for one in whole.per_picture().values()])
    assert whole.figures()["pa_mpjpe"] == pytest.approx(mean)
    assert 1 < mean < 6  # noise of 3 mm in each direction is 4.8 mm, less what alignment takes


def test_what_does_not_fit_is_named():
    truth = hand()
    meter = Meter()
    with pytest.raises(ValueError, match="no picture was counted"):
        meter.figures()
    short = SimpleNamespace(**{**vars(truth), "vertices": truth.vertices[:40]})
    with pytest.raises(ValueError, match=r"vertices are \(40, 3\) in the answer and \(50, 3\)"):
        meter.update(0, answer(short), truth)
    with pytest.raises(ValueError, match="points are not finite"):
        meter.update(0, answer(truth, lambda points: points * np.nan), truth)
    meter.update(0, answer(truth), truth)
    with pytest.raises(ValueError, match="picture 0 was counted before"):
        meter.update(0, answer(truth), truth)


def test_json_that_is_no_meter_is_refused():
    one = {"number": 3, **Seen(*range(6))._asdict()}
    with pytest.raises(RecordError, match="number 3 twice"):
        Meter.from_json({"pictures": [one, one]})
    del one["f_5"]
    with pytest.raises(RecordError, match=r"missing field meter.pictures\[0\].f_5"):
        Meter.from_json({"pictures": [one]})
