"""The teacher sees a student's pictures in its own terms."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.testing import assert_close

from fleetfoot.data.preprocess import Preprocess
from fleetfoot.errors import UnknownNameError
from fleetfoot.models import create_model
from fleetfoot.train.config import Distil
from fleetfoot.train.distil import Teacher, adapted
from fleetfoot.weights.own import header

HALF = (0.5, 0.5, 0.5)
MEGVII = {"channel_order": "bgr", "pixel_scale": 1.0, "mean": (0.0,) * 3, "std": (1.0,) * 3}


@pytest.fixture
def picture():
    pixels = torch.randint(0, 256, (32, 32, 3), dtype=torch.uint8)
    return Image.fromarray(pixels.numpy())


@pytest.mark.parametrize(
    ("student", "teacher"),
    [({}, {"mean": HALF, "std": HALF}), ({}, MEGVII), (MEGVII, {}), (MEGVII, {"mean": HALF})],
)
def test_pictures_are_those_of_the_teachers_preprocessing(picture, student, teacher):
    ours, theirs = Preprocess(size=32, **student), Preprocess(size=32, **teacher)
    got = adapted(ours(picture)[None], ours, theirs)[0]
    # float32 rounding: bytes up to 255 lose about 1e-5 of them on the way
    assert_close(got, theirs(picture), rtol=1e-5, atol=1e-4)


def test_equal_preprocessing_changes_no_bit(picture):
    same = Preprocess(size=32)
    x = same(picture)[None]
    assert adapted(x, same, Preprocess(size=32, crop_pct=0.95)) is x


def test_mixing_and_erasing_mean_the_same(picture):
    ours, theirs = Preprocess(size=32), Preprocess(size=32, mean=HALF, std=HALF)
    x = ours(picture)[None]
    other = ours(picture.rotate(90))[None]
    mixed = adapted(0.3 * x + 0.7 * other, ours, theirs)
    apart = 0.3 * adapted(x, ours, theirs) + 0.7 * adapted(other, ours, theirs)
    assert_close(mixed, apart, rtol=1e-5, atol=1e-5)


def test_another_size_is_resized(picture):
    ours, theirs = Preprocess(size=32), Preprocess(size=(48, 64), interpolation="bicubic")
    assert adapted(ours(picture)[None], ours, theirs).shape == (1, 3, 48, 64)
    flat = torch.full((1, 3, 32, 32), 0.25)
    assert_close(adapted(flat, ours, theirs), torch.full((1, 3, 48, 64), 0.25))


@pytest.fixture
def taught(tmp_path):
    """A file of weights of a small network of 5 classes."""
    model = create_model("mobilenetv2_010", num_classes=5)
    file = tmp_path / "teacher.safetensors"
    save_file(model.state_dict(), file, header("mobilenetv2_010", {}, model.pretrained_cfg, "test"))
    return model.eval(), str(file)


def test_a_file_of_weights_teaches(taught):
    model, file = taught
    teacher = Teacher.of(Distil(teacher=file, size=32))
    teacher.check(classes=5, channels=3)
    x = torch.randn(2, 3, 32, 32)
    logits = teacher(x, teacher.preprocess)
    assert_close(logits, model(x))
    assert not logits.requires_grad
    assert not any(p.requires_grad for p in teacher.module.parameters())


def test_a_network_and_a_file_teach(taught):
    model, file = taught
    teacher = Teacher.of(Distil(teacher="mobilenetv2_010", weights=file))
    assert (teacher.preprocess.size, model.num_classes) == (224, 5)


def test_a_teacher_that_does_not_suit_is_refused(taught):
    teacher = Teacher.of(Distil(teacher=taught[1], size=32))
    with pytest.raises(ValueError, match="knows 5 classes, and the data set has 7"):
        teacher.check(classes=7, channels=3)
    with pytest.raises(ValueError, match="takes 3 channels, and the network 1"):
        teacher.check(classes=5, channels=1)
    with pytest.raises(ValueError, match=r"distil\.teacher names no network"):
        Teacher.of(Distil())
    with pytest.raises(UnknownNameError, match="mobilenetv2_010"):
        Teacher.of(Distil(teacher="mobilenetv2_01"))
    with pytest.raises(UnknownNameError, match="no weights of 'mobilenetv2_010' are published"):
        Teacher.of(Distil(teacher="mobilenetv2_010"))
