"""Pictures of every kind, whole and broken. The files are made here."""

from __future__ import annotations

import io
import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fleetfoot.data import images
from fleetfoot.data.images import MAX_BYTES, open_image
from fleetfoot.errors import ImageError


def gradient(width: int = 40, height: int = 24) -> Image.Image:
    """No two corners and no two sides alike, so that a wrong turn is seen."""
    y, x = np.mgrid[0:height, 0:width]
    red, green = x * 255 // (width - 1), y * 255 // (height - 1)
    return Image.fromarray(np.stack((red, green, (red + green) // 2), axis=2).astype(np.uint8))


def encoded(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def far_apart(one: Image.Image, other: Image.Image) -> int:
    """Largest difference of a byte."""
    assert one.size == other.size
    return int(np.abs(np.asarray(one).astype(int) - np.asarray(other).astype(int)).max())


def png_with_header(width: int, height: int, *, mode: bytes = b"\x08\x02\x00\x00\x00") -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = chunk(b"IHDR", struct.pack(">II", width, height) + mode)
    body = chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + body


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "PPM"])
def test_a_plain_picture_comes_back_as_it_was(format):
    opened = open_image(encoded(gradient(), format))
    assert far_apart(opened.image, gradient()) == 0
    assert opened.image.mode == "RGB"
    assert opened.notes == ()


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "AVIF"])
def test_a_lossy_picture_comes_back_nearly_as_it_was(format):
    Image.init()
    if format not in Image.SAVE:
        pytest.skip(f"this Pillow was built without {format}")
    opened = open_image(encoded(gradient(), format, quality=95))
    # these formats halve the resolution of colour: a few levels at the edges of a smooth picture
    assert far_apart(opened.image, gradient()) <= 16


TURNED = {
    1: gradient(),
    2: gradient().transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    3: gradient().transpose(Image.Transpose.ROTATE_180),
    4: gradient().transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    5: gradient().transpose(Image.Transpose.TRANSPOSE),
    6: gradient().transpose(Image.Transpose.ROTATE_90),
    7: gradient().transpose(Image.Transpose.TRANSVERSE),
    8: gradient().transpose(Image.Transpose.ROTATE_270),
}
"""How a camera held that way stores the scene: the inverse of the turn that its tag asks for."""


@pytest.mark.parametrize(("least", "size"), [(30, (50, 38)), (60, (100, 75)), (200, (400, 300))])
def test_a_jpeg_may_be_decoded_at_a_fraction_of_its_size(least, size):
    whole = gradient(400, 300)
    small = open_image(encoded(whole, "JPEG", quality=95), least_side=least).image
    assert small.size == size
    assert far_apart(small, whole.resize(size, Image.Resampling.BOX)) < 12
    assert open_image(encoded(whole, "PNG"), least_side=least).image.size == (400, 300)
    with pytest.raises(ImageError, match="truncated JPEG"):
        open_image(encoded(whole, "JPEG")[:2000], least_side=least)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_comes_out_upright(format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = (
        {"lossless": True} if format == "WEBP" else {"quality": 95} if format == "JPEG" else {}
    )
    opened = open_image(encoded(TURNED[orientation], format, exif=exif, **options))
    assert far_apart(opened.image, gradient()) <= (8 if format == "JPEG" else 0)


def test_a_broken_exif_costs_only_the_turn():
    opened = open_image(encoded(gradient(), "PNG", exif=b"Exif\0\0no such thing"))
    assert far_apart(opened.image, gradient()) == 0
    assert [note.partition(":")[0] for note in opened.notes] == [
        "unreadable EXIF, so it is not turned"
    ]


def test_a_picture_broken_after_its_first_frame_is_used_and_said_to_be():
    frames = [Image.effect_noise((64, 64), 100), Image.effect_noise((64, 64), 90)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    whole = open_image(data)
    opened = open_image(data[: len(data) * 6 // 10])
    assert far_apart(opened.image, whole.image) == 0
    assert opened.notes == whole.notes == ("several frames: the first is used",)


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_grey_one_bit_and_palette_pictures_become_rgb(mode):
    image = gradient().convert(mode)
    opened = open_image(encoded(image, "PNG"))
    assert far_apart(opened.image, image.convert("RGB")) == 0
    assert opened.notes == ()


@pytest.mark.parametrize("format", ["PNG", "PPM", "TIFF"])
def test_16_bit_grey_is_scaled_and_not_clipped(format):
    grey = np.array([[0, 128, 129, 257], [25_700, 32_767, 65_406, 65_535]], dtype=np.uint16)
    opened = open_image(encoded(Image.fromarray(grey), format))
    expected = np.round(grey / 257).astype(np.uint8)
    assert (np.asarray(opened.image) == expected[..., None]).all()


def test_cmyk_becomes_rgb_with_adobes_inversion_undone():
    # Pillow writes CMYK JPEGs with Adobe's marker and inverted, as Photoshop does
    data = encoded(gradient().convert("CMYK"), "JPEG", quality=95)
    assert b"Adobe" in data
    assert far_apart(open_image(data).image, gradient()) <= 8  # JPEG's loss


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_a_transparent_picture_is_laid_over_white(mode):
    image = Image.new(mode, (2, 1), (0, 0) if mode == "LA" else (0, 0, 0, 0))
    image.putpixel((1, 0), (100, 255) if mode == "LA" else (100, 100, 100, 255))
    opened = open_image(encoded(image, "PNG"))
    assert list(np.asarray(opened.image)[0, :, 0]) == [255, 100]
    assert opened.notes == ("transparent: laid over white",)


def test_half_transparent_black_is_grey():
    opened = open_image(encoded(Image.new("RGBA", (1, 1), (0, 0, 0, 128)), "PNG"))
    assert opened.image.getpixel((0, 0)) == (127, 127, 127)


def test_alpha_that_hides_nothing_is_not_worth_a_note():
    opened = open_image(encoded(gradient().convert("RGBA"), "PNG"))
    assert far_apart(opened.image, gradient()) == 0
    assert opened.notes == ()


@pytest.mark.parametrize("mode", ["P", "RGB", "L"])
def test_a_transparent_colour_is_laid_over_white(mode):
    image = Image.new(mode, (2, 1))  # black, or the palette's first colour
    image.putpixel((1, 0), (9, 9, 9) if mode == "RGB" else 9)
    if mode == "P":
        image.putpalette([value // 3 for value in range(30)])
    key = (0, 0, 0) if mode == "RGB" else 0
    opened = open_image(encoded(image, "PNG", transparency=key))
    assert opened.image.getpixel((0, 0)) == (255, 255, 255)
    assert opened.image.getpixel((1, 0)) == (9, 9, 9)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_several_frames_the_first_is_used(format):
    first, second = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    options = {"lossless": True} if format == "WEBP" else {}
    data = encoded(first, format, save_all=True, append_images=[second], **options)
    opened = open_image(data)
    assert opened.image.getpixel((4, 4)) == (255, 0, 0)
    assert opened.notes == ("several frames: the first is used",)


@pytest.mark.parametrize(
    ("mode", "kind"), [("F", "32-bit float"), ("I", "32-bit integer"), ("LAB", "CIELAB")]
)
def test_pixels_with_no_one_meaning_as_rgb_are_an_error_that_names_them(mode, kind):
    with pytest.raises(ImageError, match=f"{kind} pixels .* save the picture as 8-bit RGB"):
        open_image(encoded(Image.new(mode, (4, 4)), "TIFF"))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_half_a_file_is_reported_as_truncated_or_broken(format):
    noise = Image.effect_noise((200, 200), 100).convert("RGB")
    data = encoded(noise, format)
    with pytest.raises(ImageError, match=r"truncated|broken") as caught:
        open_image(data[: len(data) // 2], name="half")
    assert caught.value.path == "half"
    assert format in caught.value.reason or "header" in caught.value.reason


def test_truncated_jpegs_are_called_so():
    data = encoded(Image.effect_noise((200, 200), 100), "JPEG")
    with pytest.raises(ImageError, match=r"^half\.jpg: truncated JPEG file"):
        open_image(data[: len(data) // 2], name="half.jpg")


@pytest.mark.parametrize(
    "data", [b"\0" * 4096, b"<html>not found</html>", b"PK\3\4" + b"x" * 100, b"\xff\xd8"]
)
def test_what_is_no_picture_is_called_so(data):
    with pytest.raises(ImageError, match="not a picture"):
        open_image(data)


def test_formats_off_the_list_are_not_tried():
    """Pillow knows EPS and runs Ghostscript for it."""
    eps = encoded(gradient(), "EPS")
    Image.open(io.BytesIO(eps)).verify()
    with pytest.raises(ImageError, match="not a picture"):
        open_image(eps)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("width", [9_500, 12_000, 100_000])
def test_a_huge_picture_is_refused_before_it_is_decoded(width):
    """The file holds no pixels, so decoding would say 'truncated'. Below Pillow's limit for a
    warning, between its two limits, above both."""
    with pytest.raises(ImageError, match="pixels"):
        open_image(png_with_header(width, width), max_pixels=89_000_000)


def test_the_limit_of_pixels_is_an_option():
    data = encoded(gradient(40, 24), "PNG")
    with pytest.raises(ImageError, match=r"40 × 24 is 960 pixels, over the limit of 959"):
        open_image(data, max_pixels=959)
    assert open_image(data, max_pixels=960).image.size == (40, 24)


def test_the_limit_of_bytes_holds_for_files_and_for_bytes(tmp_path):
    data = encoded(gradient(), "BMP")
    (tmp_path / "a.bmp").write_bytes(data)
    for source in (data, tmp_path / "a.bmp"):
        with pytest.raises(ImageError, match=f"limit of {len(data) - 1:,}"):
            open_image(source, max_bytes=len(data) - 1)
        assert open_image(source, max_bytes=len(data)).image.size == (40, 24)


def test_a_sparse_file_over_the_limit_is_not_read(tmp_path):
    path = tmp_path / "large.jpg"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(ImageError, match="268,435,457 bytes, over the limit of 268,435,456"):
        open_image(path)


def test_what_is_not_a_readable_file_is_named(tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "link.jpg").symlink_to("gone.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    reasons = {
        "absent.jpg": "no such file",
        "empty.jpg": "empty file",
        "link.jpg": "a link to gone.jpg, which is not there",
        "loop.jpg": "cannot be read",
        "folder.jpg": "a folder",
        "pipe.jpg": "not a regular file",
        "a\0b.jpg": "not a path",
        "x" * 300: "cannot be read",
    }
    for name, reason in reasons.items():
        with pytest.raises(ImageError, match=reason):
            open_image(tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_that_may_not_be_read_is_named(tmp_path):
    path = tmp_path / "locked.jpg"
    path.write_bytes(b"x")
    path.chmod(0)
    with pytest.raises(ImageError, match="Permission denied"):
        open_image(path)


def test_the_error_says_path_and_reason_and_survives_a_pool_of_processes():
    import pickle

    error = pickle.loads(pickle.dumps(ImageError("a.jpg", "empty file")))
    assert (str(error), error.path, error.reason) == ("a.jpg: empty file", "a.jpg", "empty file")


def _animated(format: str) -> bytes:
    frames = [gradient(), gradient().rotate(180)]
    return encoded(frames[0], format, save_all=True, append_images=frames[1:])


VALID = [
    encoded(
        gradient(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"
    ),
    encoded(gradient(), "PNG"),
    encoded(gradient().convert("P"), "PNG", transparency=3),
    encoded(gradient(), "WEBP"),
    encoded(gradient(), "BMP"),
    encoded(gradient(), "TIFF", compression="tiff_lzw"),
    encoded(gradient(), "PPM"),
    encoded(Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8)), "PNG"),
    *map(_animated, ("GIF", "WEBP", "PNG", "TIFF")),
]


@pytest.mark.filterwarnings("ignore")  # Pillow's, of what it found odd
@settings(max_examples=600, deadline=None)
@given(st.data())
def test_whatever_is_broken_raises_nothing_but_image_error(data):
    whole = bytearray(data.draw(st.sampled_from(VALID)))
    for _ in range(data.draw(st.integers(0, 4))):
        # the first hundred bytes hold what steers a decoder
        top = data.draw(st.sampled_from([min(100, len(whole)), len(whole)]))
        whole[data.draw(st.integers(0, top - 1))] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.one_of(st.just(len(whole)), st.integers(0, len(whole))))
    try:
        opened = open_image(bytes(whole[:cut]), max_pixels=4_000_000)
    except ImageError:
        return
    assert opened.image.mode == "RGB"
    assert opened.image.width * opened.image.height <= 4_000_000


def iso_media(brand: bytes) -> bytes:
    return b"\x00\x00\x00\x18ftyp" + brand + b"\0" * 40


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.HEIC", iso_media(b"heic"), r"HEIF, .*; convert it to JPEG, .* 'heif-convert"),
        ("a.jpg", iso_media(b"mif1"), "HEIF"),  # the content tells, whatever the suffix
        ("a.cr3", iso_media(b"crx "), "raw data, .* 'darktable-cli"),
        ("a.dng", b"nothing", "raw data"),
        ("a.jxl", b"\xff\x0a" + b"\0" * 40, "JPEG XL, .* 'djxl"),
        ("a.psd", b"8BPS" + b"\0" * 40, "convert it to PNG"),
        ("a.png", b"nothing", "not a picture"),
    ],
)
def test_a_picture_of_another_format_is_named_with_what_to_do(tmp_path, name, data, words):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ImageError, match=words):
        open_image(tmp_path / name)


def test_avif_without_its_decoder_is_named(monkeypatch):
    monkeypatch.setattr(images, "FORMATS", tuple(f for f in images.FORMATS if f != "AVIF"))
    with pytest.raises(ImageError, match=r"AVIF, .* install pillow 11\.3 or newer"):
        open_image(iso_media(b"avif"))


def test_a_plain_picture_with_the_suffix_of_another_format_is_opened(tmp_path):
    Image.new("RGB", (3, 2), "red").save(tmp_path / "a.heic", "PNG")
    assert open_image(tmp_path / "a.heic").image.size == (3, 2)
