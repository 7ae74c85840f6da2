"""Batches of augmented scenes: whatever number of processes makes them, the bytes are the same."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch

from fleetfoot.data.hand_making import AugmentedHands
from fleetfoot.data.loader import evaluation_batches, training_batches
from fleetfoot.data.order import Order
from fleetfoot.data.preprocess import Preprocess
from fleetfoot.data.scene_making import AugmentedScenes, PlainScenes
from fleetfoot.data.settings import Scene
from fleetfoot.errors import ImageError
from small_scenes import part, with_hands, with_maps, with_objects

EVERYTHING = Scene(
    scale=(0.6, 1.8), mosaic=0.5, photometric=0.5, multiscale=(0.5, 1.5), multiscale_every=1
)
LETTERBOX = Preprocess(size=(64, 96), crop_pct=1, resize_mode="letterbox")
ORDER = Order(examples=10, batch=4, seed=3)


def maker(task: str):
    fields = {"preprocess": LETTERBOX, "seed": 3}
    if task == "hand":
        moved = Scene(rotate=90.0, scale=(0.8, 1.2), multiscale=(0.5, 1.5), multiscale_every=1)
        return AugmentedHands(scenes=with_hands(10), settings=moved, **fields)
    scenes = with_objects(10) if task == "detect" else with_maps(10)
    if task == "detect":
        settings = replace(EVERYTHING, mixup=0.5, iou_crop=0.5, expand=0.5)
        return AugmentedScenes(scenes=scenes, task=task, settings=settings, masks=True, **fields)
    return AugmentedScenes(scenes=scenes, task=task, settings=EVERYTHING, **fields)


def batches(made, first: int = 0, last: int = 6, **options) -> list:
    given = {"order": ORDER, "maker": made, "first_update": first, "last_update": last}
    with closing(training_batches(made.scenes, **given | options)) as found:
        return [(batch.pixels.clone(), batch.indices, batch.targets) for batch in found]


def same(some: list, others: list) -> None:
    assert len(some) == len(others)
    for (pixels, indices, targets), (other, numbers, answers) in zip(some, others, strict=True):
        assert torch.equal(pixels, other)
        assert torch.equal(indices, numbers)
        for one, answer in zip(targets, answers, strict=True):
            for name, value in vars(one).items():
                np.testing.assert_array_equal(value, getattr(answer, name), err_msg=name)


@pytest.mark.parametrize("task", ["detect", "segment", "hand"])
def test_any_number_of_workers_gives_the_same_bytes(task):
    made = maker(task)
    alone = batches(made, workers=0)
    assert len({pixels.shape for pixels, _, _ in alone}) > 1
    same(alone, batches(made, workers=1))
    same(alone, batches(made, workers=3))
    same(alone[3:], batches(made, first=3, workers=2))


def test_processes_share_an_update():
    made = maker("detect")
    whole = batches(made, workers=0)
    halves = [batches(made, workers=0, rank=rank, world=2) for rank in (0, 1)]
    for (pixels, indices, targets), *parts in zip(whole, *halves, strict=True):
        assert torch.equal(pixels, torch.cat([one[0] for one in parts]))
        assert torch.equal(indices, torch.cat([one[1] for one in parts]))
        assert sum(len(one[2]) for one in parts) == len(targets)


@pytest.mark.parametrize("masks", [False, True])
def test_an_evaluation_sees_every_picture_once(masks):
    scenes = with_objects(7)
    plain = PlainScenes(scenes=scenes, preprocess=LETTERBOX, masks=masks)
    found = []
    for workers in (0, 2):
        with closing(evaluation_batches(scenes, maker=plain, batch=3, workers=workers)) as read:
            found.append([(one.pixels.clone(), one.indices, one.targets) for one in read])
    for (pixels, indices, targets), (other, numbers, answers) in zip(*found, strict=True):
        assert torch.equal(pixels, other)
        assert torch.equal(indices, numbers)
        for one, answer in zip(targets, answers, strict=True):
            assert one.placement == answer.placement
            np.testing.assert_array_equal(one.boxes, answer.boxes)
            assert (one.masks is None) is not masks
    assert torch.cat([one[1] for one in found[0]]).tolist() == list(range(7))


def test_a_bad_picture_is_skipped_or_stops():
    scenes = with_objects(10)
    files = list(scenes.pictures.files)
    files[4] = b"no picture"
    broken = part(files, scenes.targets.targets)
    made = replace(maker("detect"), scenes=broken)
    with pytest.raises(ImageError, match=r"4\.png"):
        batches(made, workers=0)
    kept = batches(made, workers=0, on_bad="skip")
    same(kept, batches(made, workers=2, on_bad="skip"))
    assert all(len(pixels) == 4 for pixels, _, _ in kept)
    assert 4 not in torch.cat([indices for _, indices, _ in kept])
