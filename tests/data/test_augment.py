"""Augmentation beside timm's and torchvision's transforms: with the same draws, the same bytes."""

from __future__ import annotations

import pickle
import random
from dataclasses import replace

import numpy as np
import pytest
import timm.data
import torch
from PIL import Image, ImageOps
from timm.data.random_erasing import RandomErasing
from timm.data.transforms import RandomResizedCropAndInterpolation
from torchvision import transforms
from torchvision.transforms import v2

from fleetfoot.data import augment as module
from fleetfoot.data.augment import Augmentation, erase_, kept_generators, random_box
from fleetfoot.data.preprocess import Preprocess
from fleetfoot.data.settings import Augment, Phase
from fleetfoot.errors import UnknownNameError
from fleetfoot.weights.pretrained import IMAGENET_MEAN

SIZES = [(60, 45), (45, 60), (33, 200), (200, 21), (32, 32), (9, 7)]
POLICIES = [
    "rand-m9-mstd0.5-inc1",
    "rand-m15-n3-mmax20-p0.7",
    "rand-m7-mstd101-tweights",
    "augmix-m5-w4-d2",
    "augmix-m3-b1",
    "original-mstd0.5",
    "v0",
    "3a",
]


def photograph(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth colours with some noise: operations on colour change it as they would a photograph."""
    rng = np.random.default_rng([width, height, seed])
    y, x = np.mgrid[0:height, 0:width] / (height + width)
    planes = [128 + 100 * np.sin(7 * (a * x + b * y) + c) for a, b, c in rng.random((3, 3)) * 2]
    noisy = np.stack(planes, axis=2) + rng.normal(0, 10, (height, width, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def made(picture: Image.Image, index: int = 3, epoch: int = 0, repeat: int = 0, **fields):
    given = {"augment": Augment(), "preprocess": Preprocess(size=32), "size": 32} | fields
    return Augmentation(**given)(picture, epoch=epoch, index=index, repeat=repeat)


def pixels(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@pytest.fixture
def old_pillow(monkeypatch):
    """Pillow before version 13, for timm: it let no bits be kept."""
    ours = ImageOps.posterize
    monkeypatch.setattr(
        ImageOps,
        "posterize",
        lambda image, bits: ours(image, bits) if bits else Image.new(image.mode, image.size),
    )


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.9, 1.0)])
def test_the_box_is_timms_with_the_same_draws(size, scale):
    for seed in range(100):
        random.seed(seed)
        top, left, h, w = RandomResizedCropAndInterpolation.get_params(
            Image.new("RGB", size), scale, (3 / 4, 4 / 3)
        )
        box = random_box(size, scale, (3 / 4, 4 / 3), random.Random(seed))
        assert box == (left, top, left + w, top + h)


def test_a_box_is_never_empty():
    """timm's can be, and then its resize fails."""
    for seed in range(300):
        left, top, right, bottom = random_box((1, 2), (0.08, 1.0), (0.5, 2.0), random.Random(seed))
        assert right > left
        assert bottom > top


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_crop_and_resize_give_torchvisions_bytes(size, interpolation, monkeypatch):
    picture = photograph(*size)
    box = (1, 2, size[0] - 2, size[1] - 3)
    monkeypatch.setattr(module, "random_box", lambda *_: box)
    ours = made(picture, augment=Augment(flip=0, interpolation=interpolation))
    theirs = v2.functional.resized_crop(
        picture, 2, 1, box[3] - 2, box[2] - 1, [32, 32], v2.InterpolationMode(interpolation)
    )
    assert torch.equal(ours, pixels(theirs))


def test_random_interpolation_draws_both_filters():
    picture = photograph(60, 45)
    drawn = [made(picture, index=i, augment=Augment(interpolation="random")) for i in range(40)]
    smooth = [made(picture, index=i, augment=Augment(interpolation="bilinear")) for i in range(40)]
    share = np.mean([torch.equal(a, b) for a, b in zip(drawn, smooth, strict=True)])
    # the draw of the filter moves the draw of the flip: a quarter is the same
    assert 0 < share < 0.6


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("interpolation", ["bicubic", "random"])
def test_a_policy_is_what_timms_transform_does_with_the_same_draws(
    policy, interpolation, old_pillow
):
    """timm's whole training transform, whose crop keeps the picture as it is. Its generators are
    set to what they are when ours begins."""
    theirs = timm.data.create_transform(
        (3, 32, 32),
        is_training=True,
        scale=(1.0, 1.0),
        ratio=(1.0, 1.0),
        hflip=0.0,
        color_jitter=None,
        auto_augment=policy,
        interpolation=interpolation,
        use_prefetcher=True,
    ).transforms[1:]
    setting = Augment(
        scale=(1, 1), ratio=(1, 1), flip=0, policy=policy, interpolation=interpolation
    )
    changed = 0
    for index in range(25):
        picture = photograph(32, 32, index)
        with kept_generators():
            draws = random.Random(module.number("picture", 0, 0, index, 0))
            random_box((32, 32), (1, 1), (1, 1), draws)
            if interpolation == "random":
                draws.choice((0, 1))
            module.seed_generators(draws.getrandbits(128))
            expected = transforms.Compose(theirs)(picture)
        ours = made(picture, index=index, augment=setting)
        assert torch.equal(ours, expected)
        changed += not torch.equal(ours, pixels(picture))
    assert changed > 5


def test_trivial_augment_is_torchvisions_with_the_same_draws():
    theirs = v2.TrivialAugmentWide(interpolation=v2.InterpolationMode.BICUBIC)
    setting = Augment(scale=(1, 1), ratio=(1, 1), flip=0, policy="ta_wide")
    for index in range(25):
        picture = photograph(32, 32, index)
        with kept_generators():
            draws = random.Random(module.number("picture", 0, 0, index, 0))
            random_box((32, 32), (1, 1), (1, 1), draws)
            module.seed_generators(draws.getrandbits(128))
            expected = pixels(theirs(picture))
        assert torch.equal(made(picture, index=index, augment=setting), expected)


def test_colour_jitter_gives_torchvisions_bytes_for_the_same_factors():
    picture = photograph(32, 32)
    setting = Augment(scale=(1, 1), ratio=(1, 1), flip=0, colour_jitter=0.4)
    jitter = transforms.ColorJitter(0.4, 0.4, 0.4)
    draws = random.Random(7)
    copy = random.Random(7)
    order = [0, 1, 2]
    copy.shuffle(order)
    factors = [copy.uniform(0.6, 1.4) for _ in order]
    expected = picture
    for at, factor in zip(order, factors, strict=True):
        change = (
            transforms.functional.adjust_brightness,
            transforms.functional.adjust_contrast,
            transforms.functional.adjust_saturation,
        )[at]
        expected = change(expected, factor)
    assert torch.equal(pixels(module.jittered(picture, 0.4, draws)), pixels(expected))
    assert jitter.brightness == jitter.contrast == jitter.saturation == (0.6, 1.4)
    assert jitter.hue is None
    assert not torch.equal(made(picture, augment=setting), pixels(picture))


@pytest.mark.parametrize(("policy", "jitters"), [("", True), ("rand-m9", False), ("3a", True)])
def test_colour_jitter_beside_a_policy_is_as_in_timm(policy, jitters):
    theirs = timm.data.create_transform((3, 32, 32), is_training=True, auto_augment=policy or None)
    assert any(isinstance(t, transforms.ColorJitter) for t in theirs.transforms) == jitters
    setting = Augment(scale=(1, 1), ratio=(1, 1), flip=0, policy=policy)
    pairs = [
        [
            made(photograph(32, 32), index=index, augment=replace(setting, colour_jitter=strength))
            for index in range(10)
        ]
        for strength in (0.0, 0.4)
    ]
    assert any(not torch.equal(a, b) for a, b in zip(*pairs, strict=True)) == jitters


@pytest.mark.parametrize("mean", [IMAGENET_MEAN, (0.5, 0.5, 0.5), (0.0, 0.0, 0.0)])
def test_a_policy_fills_with_the_mean_as_timm_does(mean):
    theirs = timm.data.create_transform(
        (3, 32, 32), is_training=True, auto_augment="rand-m9", mean=mean
    ).transforms[2]
    filled = module.policy_of("rand-m9", 32, "bicubic", module._fill(Preprocess(mean=mean), "RGB"))
    for ours, other in zip(filled.ops, theirs.ops, strict=True):
        assert ours.kwargs["fillcolor"] == other.kwargs["fillcolor"]
        assert ours.hparams["translate_const"] == other.hparams["translate_const"]


def test_the_fill_of_a_network_in_bgr_is_turned_to_the_pictures_rgb():
    megvii = Preprocess(channel_order="bgr", pixel_scale=1, mean=(10, 20, 30), std=(1, 1, 1))
    assert module._fill(megvii, "RGB") == (30, 20, 10)
    assert module._fill(Preprocess(mean=(0.5,), std=(1,), channels=1), "L") == 128


def test_flips_come_as_often_as_asked():
    picture = photograph(32, 32)
    setting = Augment(scale=(1, 1), ratio=(1, 1), flip=0.3)
    flipped = pixels(picture).flip(2)
    many = [torch.equal(made(picture, index=i, augment=setting), flipped) for i in range(400)]
    assert abs(sum(many) - 120) < 5 * (400 * 0.3 * 0.7) ** 0.5


def test_the_padded_crop_is_that_of_cifar():
    """torchvision's RandomCrop(32, padding=4) has 81 crops: each of them comes, and no other."""
    picture = photograph(32, 32)
    setting = Augment(crop="padded", flip=0, padding=4)
    padded = torch.nn.functional.pad(pixels(picture), (4, 4, 4, 4))
    crops = {
        padded[:, y : y + 32, x : x + 32].numpy().tobytes() for y in range(9) for x in range(9)
    }
    seen = {made(picture, index=i, augment=setting).numpy().tobytes() for i in range(1000)}
    assert seen == crops


def test_the_padded_crop_resizes_the_shorter_side():
    got = made(photograph(50, 100), augment=Augment(crop="padded", padding=2, flip=0))
    assert got.shape == (3, 32, 32)


@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("grey", [False, True])
def test_without_a_crop_it_is_the_preprocessing_of_evaluation(order, grey):
    preprocess = Preprocess(size=32, crop_pct=0.9, interpolation="bicubic", channel_order=order)
    preprocess = preprocess.grey() if grey else preprocess
    picture = photograph(60, 45)
    setting = Augment(crop="none", flip=0)
    ours = made(picture, augment=setting, preprocess=preprocess)
    assert torch.equal(ours, preprocess.pixels(picture))
    assert not torch.equal(
        ours, made(picture, augment=replace(setting, flip=1), preprocess=preprocess)
    )


@pytest.mark.parametrize("policy", ["", *POLICIES, "ta_wide"])
def test_grey_networks_get_one_channel(policy):
    grey = Preprocess(size=32).grey()
    for index in range(8):
        got = made(photograph(60, 45), index=index, augment=Augment(policy=policy), preprocess=grey)
        assert got.shape == (1, 32, 32)


def test_bgr_is_rgb_with_its_channels_turned():
    picture = photograph(60, 45)
    setting = Augment(policy="rand-m9-inc1", colour_jitter=0.4)
    grey_mean = {"mean": (0.5, 0.5, 0.5)}  # the same fill in both orders
    rgb = made(picture, augment=setting, preprocess=Preprocess(size=32, **grey_mean))
    bgr = made(
        picture, augment=setting, preprocess=Preprocess(size=32, channel_order="bgr", **grey_mean)
    )
    assert torch.equal(bgr, rgb.flip(0))


def test_draws_follow_from_seed_epoch_picture_and_repeat():
    picture = photograph(60, 45)
    setting = Augment(policy="rand-m9-mstd0.5-inc1")

    def one(seed=0, epoch=0, index=0, repeat=0):
        got = made(picture, augment=setting, seed=seed, epoch=epoch, index=index, repeat=repeat)
        return got.numpy().tobytes()

    random.seed(1)
    first = one()
    np.random.seed(3)
    torch.manual_seed(9)
    random.gauss(0, 1)  # leaves a second value behind, which a later gauss would return
    assert one() == first
    others = [one(seed=1), one(epoch=1), one(index=1), one(repeat=1), one(epoch=1, repeat=1)]
    assert len({first, *others}) == 6


@pytest.mark.parametrize("policy", [*POLICIES, "ta_wide"])
def test_the_global_generators_stay_as_they_were(policy):
    np.random.randn()  # now numpy holds a second normal value
    random.gauss(0, 1)
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    made(photograph(60, 45), augment=Augment(policy=policy))
    assert random.getstate() == before[0]
    for now, then in zip(np.random.get_state(), before[1], strict=True):
        assert np.array_equal(now, then)
    assert torch.equal(torch.get_rng_state(), before[2])


def test_the_bytes_never_change():
    """Draws and geometry, without resizing: a later version goes on with the same pictures."""
    picture = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).convert("RGB")
    setting = Augment(crop="padded", padding=3)
    got = [
        made(picture, epoch=2, index=index, repeat=1, augment=setting, seed=5, size=8)[
            0, 4
        ].tolist()
        for index in range(4)
    ]
    assert got == [
        [0, 0, 32, 33, 34, 35, 36, 37],
        [0, 0, 0, 56, 57, 58, 59, 60],
        [0, 0, 31, 30, 29, 28, 27, 26],
        [0, 47, 46, 45, 44, 43, 42, 41],
    ]


def test_phases_change_size_and_policy():
    phases = (
        Phase(until=2, size=16, policy=""),
        Phase(until=4, size=24),
        Phase(until=6, size=40, policy="rand-m9-inc1"),
    )
    many = Augmentation(
        augment=Augment(policy="original"),
        preprocess=Preprocess(size=32),
        size=32,
        phases=phases,
    )
    assert [many.shape(epoch)[1] for epoch in range(8)] == [16, 16, 24, 24, 40, 40, 40, 40]
    policies = [many._phase(epoch)[1] for epoch in (0, 2, 4, 9)]
    assert policies == ["", "original", "rand-m9-inc1", "rand-m9-inc1"]
    for epoch in range(7):
        got = many(photograph(60, 45), epoch=epoch, index=0)
        assert got.shape == many.shape(epoch)


def test_it_can_be_sent_to_another_process():
    many = Augmentation(
        augment=Augment(policy="rand-m9-mstd0.5-inc1"), preprocess=Preprocess(size=32), size=32
    )
    picture = photograph(60, 45)
    before = many(picture, epoch=0, index=1)
    sent = pickle.loads(pickle.dumps(many))
    assert torch.equal(sent(picture, epoch=0, index=1), before)


@pytest.mark.parametrize("mode", ["const", "rand", "pixel"])
def test_erasing_takes_timms_rectangles_with_the_same_draws(mode):
    """timm's values come from torch's generator, ours from one of each picture; rectangles and the
    pictures that are erased are compared."""
    batch = torch.full((40, 3, 24, 30), 7.0)
    ours = erase_(
        batch.clone(),
        augment=Augment(erase=0.6, erase_mode=mode),
        seed=1,
        epoch=2,
        indices=range(40),
        repeats=[0] * 40,
    )
    theirs = batch.clone()
    reference = RandomErasing(0.6, mode=mode, device="cpu")
    with kept_generators():
        for at in range(40):
            random.seed(module.number("erase", 1, 2, at, 0))
            reference(theirs[at])
    assert torch.equal(ours != 7, theirs != 7)
    erased = (ours != 7).flatten(1).any(1)
    assert 10 < erased.sum() < 35
    for one in ours[erased]:
        values = one[:, (one != 7).all(0)]
        assert (values == values[:, :1]).all() == (mode != "pixel")
        assert (values == 0).all() == (mode == "const")


def test_erasing_follows_the_picture_and_not_its_place():
    batch = torch.randn(6, 3, 16, 16)
    setting = Augment(erase=0.8, erase_mode="pixel")
    fields = {"augment": setting, "seed": 0, "epoch": 1}
    whole = erase_(batch.clone(), indices=range(6), repeats=[0, 1, 2, 0, 1, 2], **fields)
    turned = erase_(batch.flip(0), indices=range(5, -1, -1), repeats=[2, 1, 0] * 2, **fields)
    assert torch.equal(turned.flip(0), whole)
    again = erase_(batch.clone(), indices=range(6), repeats=[1] * 6, **fields)
    assert not torch.equal(again, whole)


def test_erased_values_are_normal():
    batch = torch.full((300, 3, 32, 32), 7.0)
    setting = Augment(erase=1.0, erase_mode="pixel")
    erase_(batch, augment=setting, seed=0, epoch=0, indices=range(300), repeats=[0] * 300)
    values = batch[batch != 7]
    assert len(values) > 50_000
    assert abs(values.mean()) < 0.02  # 5 deviations at 50,000 values
    assert abs(values.std() - 1) < 0.02


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"flip": 1.5}, ValueError, "flip is a probability from 0 to 1, not 1.5"),
        ({"erase": -0.1}, ValueError, "erase is a probability"),
        ({"scale": (0.0, 1.0)}, ValueError, "scale must be two rising numbers above 0"),
        ({"scale": (0.5, 1.5)}, ValueError, "scale must be .* not 0.5 and 1.5"),
        ({"ratio": (2.0, 1.0)}, ValueError, "ratio must be two rising numbers"),
        ({"padding": -1}, ValueError, "padding must be 0 or more, not -1"),
        ({"colour_jitter": -1}, ValueError, "colour_jitter must be 0 or more"),
        ({"repeats": 0}, ValueError, "repeats must be 1 or more"),
        ({"crop": "centre"}, UnknownNameError, "unknown crop 'centre'"),
        ({"interpolation": "cubic"}, UnknownNameError, "did you mean 'bicubic'"),
        ({"erase_mode": "noise"}, UnknownNameError, "unknown erase_mode 'noise'"),
        ({"policy": "randaug-m9"}, UnknownNameError, "unknown augmentation policy 'randaug'; did"),
        ({"policy": "rand-m9-inc"}, ValueError, "'inc' in .* means nothing; timm's notation is"),
        ({"policy": "rand-x9"}, ValueError, "'rand-x9' is wrong: Unknown RandAugment config"),
        ({"policy": "augmix-tweights"}, ValueError, "'tweights' in .* means nothing"),
        ({"policy": "ta_wide-m9"}, ValueError, "ta_wide has no parameters"),
    ],
)
def test_a_setting_that_is_wrong_is_named(fields, error, message):
    with pytest.raises(error, match=message):
        Augmentation(augment=Augment(**fields), preprocess=Preprocess(), size=32)


def test_phases_that_are_wrong_are_named():
    fields = {"augment": Augment(), "preprocess": Preprocess(), "size": 32}
    with pytest.raises(ValueError, match=r"end one after another, not at epochs \[4, 2\]"):
        Augmentation(phases=(Phase(until=4, size=8), Phase(until=2, size=8)), **fields)
    with pytest.raises(ValueError, match="1 pixel or more"):
        Augmentation(phases=(Phase(until=4, size=0),), **fields)
    with pytest.raises(UnknownNameError, match="unknown augmentation policy 'rnd'"):
        Augmentation(phases=(Phase(until=4, size=8, policy="rnd-m9"),), **fields)


def test_a_policy_that_keeps_no_bits_makes_the_picture_black():
    """As before Pillow 13, which refuses it; with timm's recipes it comes up every few hundred
    pictures."""
    assert not np.asarray(module.posterize(photograph(8, 8), 0)).any()
    assert module.posterize(photograph(8, 8), 4).getextrema()[0][1] <= 240
    operations = module.policy_of("rand-m10-inc1-p1", 32, "bicubic", (1, 2, 3)).ops
    (posterizing,) = (one for one in operations if one.name == "PosterizeIncreasing")
    assert not np.asarray(posterizing(photograph(8, 8))).any()


def test_only_rgb_goes_in():
    with pytest.raises(ValueError, match="must be RGB, not L"):
        made(Image.new("L", (8, 8)))
