"""Against the pipelines of timm and torchvision, bit for bit: both and this resize with Pillow in
bytes, then do the same three float32 operations in the same order, so nothing may differ."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image
from torch import nn
from torchvision.transforms._presets import ImageClassification

from fleetfoot.data.preprocess import Preprocess
from fleetfoot.models.peers import published
from fleetfoot.weights.pretrained import PretrainedConfig

SIZES = [(500, 375), (375, 500), (333, 251), (224, 224), (257, 1000), (31, 47), (1, 1), (2, 301)]


def noise(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(width * 10_000 + height)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("picture", SIZES, ids=str)
@pytest.mark.parametrize(
    ("size", "crop_pct", "interpolation", "mean", "std", "mode"),
    [
        (224, 0.875, "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "center"),
        (224, 0.9, "bicubic", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "center"),
        (256, 0.95, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "center"),
        (192, 1.0, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "center"),
        (224, 1.15, "bicubic", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "center"),
        (225, 0.81, "bicubic", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "center"),
        (224, 0.9, "bicubic", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "squash"),
    ],
)
def test_it_equals_timms_evaluation_transform(
    picture, size, crop_pct, interpolation, mean, std, mode
):
    theirs = timm.data.create_transform(
        input_size=(3, size, size),
        crop_pct=crop_pct,
        interpolation=interpolation,
        mean=mean,
        std=std,
        crop_mode=mode,
    )
    ours = Preprocess(
        size=size,
        crop_pct=crop_pct,
        interpolation=interpolation,
        mean=mean,
        std=std,
        resize_mode="squash" if mode == "squash" else "shortest",
    )
    image = noise(*picture)
    assert torch.equal(ours(image), theirs(image))


def presets():
    for name in torchvision.models.list_models(module=torchvision.models):
        for weights in torchvision.models.get_model_weights(name):
            preset = weights.transforms()
            if isinstance(preset, ImageClassification):
                yield name, preset


def test_the_resized_side_equals_that_of_every_torchvision_preset():
    """They state it; here it is the floor of size / crop_pct, in floats that could fall short."""
    seen = set()
    for _, preset in presets():
        (size,), (resized,) = preset.crop_size, preset.resize_size
        seen.add((size, resized))
        assert Preprocess(size=size, crop_pct=size / resized).resized == resized
    assert len(seen) > 20


@pytest.mark.parametrize("picture", SIZES, ids=str)
@pytest.mark.parametrize(("size", "resized"), [(224, 256), (224, 232), (299, 342), (255, 260)])
def test_it_equals_torchvisions_preset(picture, size, resized):
    ours = Preprocess(size=size, crop_pct=size / resized)
    image = noise(*picture)
    assert torch.equal(ours(image), ImageClassification(crop_size=size, resize_size=resized)(image))


def test_a_picture_below_the_crop_is_centred_on_black():
    process = Preprocess(size=7)
    pixels = torch.full((3, 4, 9), 5, dtype=torch.uint8)
    cropped = process._crop(pixels)
    assert torch.equal(cropped, torchvision.transforms.functional.center_crop(pixels, [7, 7]))


def test_bytes_can_go_in_as_they_are_and_in_bgr():
    """What OpenCV-trained networks take: 0 to 255, blue first."""
    process = Preprocess(
        size=4, crop_pct=1.0, channel_order="bgr", pixel_scale=1, mean=(0, 0, 0), std=(1, 1, 1)
    )
    image = Image.new("RGB", (4, 4), (10, 20, 250))
    assert process(image)[:, 0, 0].tolist() == [250, 20, 10]


def test_without_antialiasing_a_shrunk_row_takes_two_neighbours_as_opencv_does():
    """8 -> 2: the new centres lie at 1.5 and 5.5, so each is the mean of pixels 1, 2 and 5, 6; the
    antialiased filter would weigh all of them."""
    row = np.array([0, 10, 20, 100, 200, 50, 90, 7], dtype=np.uint8)
    image = Image.fromarray(np.broadcast_to(row[None, :, None], (8, 8, 3)).copy())
    plain = Preprocess(size=2, crop_pct=1.0, antialias=False).pixels(image)
    smooth = Preprocess(size=2, crop_pct=1.0).pixels(image)
    assert plain[0].tolist() == [[15, 70], [15, 70]]
    assert smooth[0].tolist() != plain[0].tolist()


def test_a_batch_is_normalised_as_each_picture_is():
    process = Preprocess(size=32)
    images = [noise(50, 40), noise(40, 50)]
    batch = process.normalise(torch.stack([process.pixels(image) for image in images]))
    assert torch.equal(batch, torch.stack([process(image) for image in images]))


@pytest.mark.parametrize("picture", [(500, 375), (375, 500), (31, 47), (640, 64), (1, 999)])
@pytest.mark.parametrize("size", [224, (96, 160)])
@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_letterbox_keeps_the_shape_and_adds_the_mean_at_the_right_or_the_bottom(
    picture, size, order
):
    process = Preprocess(size=size, crop_pct=1, resize_mode="letterbox", channel_order=order)
    width, height = picture
    ratio = min(process.height / height, process.width / width)
    new = max(1, round(height * ratio)), max(1, round(width * ratio))
    assert process.height == new[0] or process.width == new[1]
    image = noise(*picture)
    resized = torchvision.transforms.v2.functional.resize(image, list(new))
    shown = torchvision.transforms.v2.functional.pil_to_tensor(resized)
    shown = shown.flip(0) if order == "bgr" else shown

    made = process.pixels(image)
    assert torch.equal(made[:, : new[0], : new[1]], shown)
    # half a byte, in units of the smallest deviation: the mean is rounded to bytes
    within = 0.5 / 255 / 0.224 + 1e-6
    normal = process(image)
    assert normal[:, new[0] :].abs().amax() <= within if new[0] < process.height else True
    assert normal[:, :, new[1] :].abs().amax() <= within if new[1] < process.width else True


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({"size": 64, "crop_pct": 1, "resize_mode": "letterbox"}, (64, 64)),
        ({"size": (128, 256), "crop_pct": 1, "resize_mode": "squash"}, (128, 256)),
        ({"size": 32, "crop_pct": 0.5}, (32, 32)),
        ({"size": (128, 64), "crop_pct": 1}, (128, 64)),
        ({"size": 96, "crop_pct": 1.5}, (96, 96)),
    ],
)
def test_the_placement_says_where_a_rectangle_of_the_picture_lies(fields, size):
    """Every resize here is by a power of two, so that the rectangle's edges fall between pixels."""
    process = Preprocess(**fields, mean=(0, 0, 0), std=(1, 1, 1))
    pixels = np.zeros((64, 128, 3), np.uint8)
    pixels[24:40, 56:72] = 255
    lit = process.pixels(Image.fromarray(pixels))[0].numpy() > 127
    assert lit.shape == size
    rows, columns = np.flatnonzero(lit.any(1)), np.flatnonzero(lit.any(0))
    found = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]

    placed = process.placement(64, 128)
    box = np.array([[56.0, 24.0, 72.0, 40.0]])
    assert placed.to_input(box).tolist() == [found]
    assert placed.to_picture(placed.to_input(box)).tolist() == box.tolist()
    assert (placed.height, placed.width) == (64, 128)


def test_a_picture_whose_resized_form_would_fill_the_memory_is_refused():
    with pytest.raises(ValueError, match=r"1 × 100000 is too narrow.*256 × 25600000"):
        Preprocess()(Image.new("RGB", (1, 100_000)))


def test_only_rgb_goes_in():
    with pytest.raises(ValueError, match="must be RGB, not L"):
        Preprocess()(Image.new("L", (8, 8)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": 0}, "size must be 1 pixel or more, not 0"),
        ({"crop_pct": 0}, "crop_pct is a share, above 0"),
        ({"crop_pct": 87.5}, "at most 2, not 87.5"),
        ({"interpolation": "cubic"}, "interpolation must be bilinear or bicubic, not 'cubic'"),
        ({"channel_order": "gbr"}, "channel_order must be rgb or bgr"),
        ({"resize_mode": "border"}, "resize_mode must be shortest or squash or letterbox"),
        ({"resize_mode": "letterbox"}, "letterbox shows the whole picture, so crop_pct must be 1"),
        ({"pixel_scale": 0}, "pixel_scale must be above 0"),
        ({"mean": (0.5,)}, "mean must be three numbers"),
        ({"std": (1, 1, float("nan"))}, "std must be three numbers"),
        ({"std": (1, 0, 1)}, "std must not hold a zero"),
    ],
)
def test_a_field_out_of_range_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        Preprocess(**fields)


def test_a_network_may_state_height_and_width():
    model = nn.Identity()
    model.pretrained_cfg = PretrainedConfig(
        tag="own", source="file", input_size=(96, 160), crop_pct=1.0, resize_mode="letterbox"
    )
    assert Preprocess.of(model) == Preprocess(size=(96, 160), crop_pct=1, resize_mode="letterbox")


def test_it_is_what_the_weights_were_scored_with():
    model = nn.Identity()
    model.pretrained_cfg = PretrainedConfig(
        tag="own",
        source="file",
        input_size=192,
        crop_pct=0.8,
        interpolation="bicubic",
        antialias=False,
        mean=(1, 2, 3),
        std=(4, 5, 6),
        channel_order="bgr",
        pixel_scale=1,
    )
    assert Preprocess.of(model) == Preprocess(
        size=192,
        crop_pct=0.8,
        interpolation="bicubic",
        antialias=False,
        mean=(1, 2, 3),
        std=(4, 5, 6),
        channel_order="bgr",
        pixel_scale=1,
    )


@pytest.mark.parametrize(
    "name",
    ["mobileone_s0", "mobilenetv1_100", "vit_base_patch16_siglip_224", "fastvit_sa12", "hrnet_w18"],
)
def test_the_rows_of_timms_networks_say_what_timm_does(name):
    """The second is scored with mean and std 0.5, the third on squashed pictures."""
    (row, *_) = published(f"timm:{name}")
    theirs = timm.data.create_transform(
        **timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    )
    model = nn.Identity()
    model.pretrained_cfg = row
    image = noise(300, 231)
    assert torch.equal(Preprocess.of(model)(image), theirs(image))


@pytest.mark.parametrize("name", ["resnet50", "efficientnet_v2_s", "vit_l_16", "inception_v3"])
def test_the_rows_of_torchvisions_networks_say_what_torchvision_does(name):
    model = nn.Identity()
    model.pretrained_cfg = published(f"torchvision:{name}")[0]
    theirs = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    image = noise(300, 231)
    assert torch.equal(Preprocess.of(model)(image), theirs(image))


@pytest.mark.parametrize("name", ["mobileone_s0", "mobilenetv1_100", "ghostnet_100"])
def test_timms_networks_bring_their_own(name):
    model = timm.create_model(name)
    theirs = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    image = noise(300, 231)
    assert torch.equal(Preprocess.of(model)(image), theirs(image))


def test_an_override_replaces_one_field_and_none_keeps_it():
    model = nn.Identity()
    model.pretrained_cfg = PretrainedConfig(tag="own", source="file", crop_pct=0.9)
    changed = Preprocess.of(model, size=256, crop_pct=None)
    assert changed == Preprocess(size=256, crop_pct=0.9)
    assert changed.resized == 284


def test_a_network_that_does_not_say_is_an_error():
    with pytest.raises(ValueError, match="Identity carries no pretrained_cfg"):
        Preprocess.of(nn.Identity())


def test_input_that_no_picture_gives_is_an_error():
    with pytest.raises(ValueError, match="takes 1 × 224 × 224"):
        Preprocess.of(
            timm.create_model("resnet10t", pretrained_cfg_overlay={"input_size": (1, 224, 224)})
        )


def test_megviis_input_is_bytes_with_blue_first():
    own = Preprocess(size=224).bgr_bytes()
    image = noise(300, 231)
    assert torch.equal(own(image), Preprocess(size=224).pixels(image).flip(0).float())
    assert Preprocess().grey().bgr_bytes().mean == (0.0,)
