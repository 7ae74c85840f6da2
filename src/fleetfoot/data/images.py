"""Opening a picture safely: the result is upright RGB, or an error that says what is wrong with it.

The decision for each kind of picture that is not plain 8-bit colour:

| picture | what is done |
|---|---|
| turned by its EXIF tag | turned upright |
| transparent (alpha, or a transparent palette colour) | laid over white, as a viewer shows it |
| 16-bit grey | scaled by 1/257 to 8 bits (Pillow's own conversion would clip at 255) |
| 16-bit colour | 8 bits, by Pillow |
| grey, 1-bit, palette, YCbCr, HSV | converted by Pillow |
| CMYK, with Adobe's inversion too | converted by Pillow, without colour profiles |
| several frames or pages | the first |
| 32-bit integer or float, CIELAB | an error: Pillow has no defined way to RGB |

Colour profiles are not applied, as in the pipelines that networks are trained with.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from fleetfoot.errors import ImageError
from fleetfoot.files import open_regular

MAX_PIXELS = 89_478_485
"""Default limit of width × height: the size at which Pillow itself begins to warn."""

MAX_BYTES = 256 * 2**20
"""Default limit of a file's size."""

HEADER_BYTES = 2**16
"""Bytes of a file that are read first if only its header is wanted."""

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
"""Formats that are accepted, by Pillow's names. Pillow's other plugins never get a file."""

SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .apng .webp .gif .bmp .dib .tif .tiff "
    ".ppm .pgm .pbm .pnm .avif .avifs".split()
)
"""Suffixes by which pictures in a folder are recognised."""

RAW = frozenset(
    ".3fr .ari .arw .bay .cr2 .cr3 .crw .dcr .dng .erf .fff .gpr .iiq .k25 .kdc .mef .mos .mrw "
    ".nef .nrw .orf .pef .raf .raw .rw2 .rwl .sr2 .srf .srw .x3f".split()
)
"""Suffixes of cameras' raw data."""

OTHERS = {
    **dict.fromkeys(
        (".heic", ".heif", ".hif", ".heics", ".heifs"),
        "HEIF, as phones write it, which Pillow does not read; convert it to JPEG, for example by "
        "'heif-convert in.heic out.jpg', or set the phone to write JPEG",
    ),
    **dict.fromkeys(
        RAW,
        "a camera's raw data, not yet a picture; develop it to JPEG or TIFF, for example by "
        "'darktable-cli in.dng out.jpg'",
    ),
    **dict.fromkeys(
        (".jxl",), "JPEG XL, which Pillow does not read; convert it by 'djxl in.jxl out.png'"
    ),
    **dict.fromkeys(
        (".jp2", ".j2k", ".jpx", ".jpf", ".tga", ".exr", ".psd"),
        "a format that is not read here; convert it to PNG, for example by 'magick IN out.png'",
    ),
}  # fmt: skip
"""What to do with pictures of other formats, by suffix."""

_AVIF = "AVIF, which this Pillow cannot decode; install pillow 11.3 or newer, or convert it to PNG"
_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), _AVIF),
    **dict.fromkeys(
        (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"), OTHERS[".heic"]
    ),
    b"crx ": OTHERS[".cr3"],
}
"""What to do with a file that states this brand in its first bytes."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The operation that turns a picture upright, by its EXIF orientation."""

ORIENTATION = 0x0112


@dataclass(frozen=True)
class Picture:
    """An upright RGB image, and notes on how it was made from the file."""

    image: Image.Image
    notes: tuple[str, ...] = ()


def open_image(
    source: str | os.PathLike[str] | bytes,
    *,
    name: str | None = None,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
    least_side: int | None = None,
) -> Picture:
    """Reads a picture whose size is checked before anything is decoded.

    Args:
        source: a path, or the file's bytes.
        name: name of the picture in errors; default: the path.
        max_pixels: largest width × height. Pillow itself always refuses twice its own limit
            (``PIL.Image.MAX_IMAGE_PIXELS``).
        max_bytes: largest size of the file.
        least_side: a JPEG may be decoded at a half, a quarter or an eighth of its size, which is
            faster, as long as both sides keep so many pixels. Default: at its own size.

    Raises:
        ImageError: the picture cannot be used. No other error is raised, whatever the file holds.
    """
    if isinstance(source, bytes):
        name = name or "bytes"
        data = source
    else:
        name = name or os.fspath(source)
        data = read_image(Path(source), name, max_bytes)
    if len(data) > max_bytes:
        raise ImageError(name, f"more than the limit of {max_bytes:,} bytes (max_bytes)")
    if not data:
        raise ImageError(name, "empty file")
    image = open_header(data, name)
    pixels = image.width * image.height
    if pixels > max_pixels:
        raise ImageError(
            name,
            f"{image.width} × {image.height} is {pixels:,} pixels, "
            f"over the limit of {max_pixels:,} (max_pixels)",
        )
    if least_side is not None and image.format == "JPEG":
        image.draft(image.mode, (least_side, least_side))
    return _decode(image, name)


def read_image(path: Path, name: str, max_bytes: int) -> bytes:
    """The bytes of a picture's file.

    Raises:
        ImageError: the file cannot be read, or is larger than ``max_bytes``.
    """
    with _told(path, name), open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise ImageError(name, f"{size:,} bytes, over the limit of {max_bytes:,} (max_bytes)")
        # not max_bytes: Python sets aside what it is asked for, which takes longer than a small
        # picture does. Some file systems state no size
        return file.read((size or max_bytes) + 1)


def read_start(path: Path, name: str) -> bytes:
    """The first bytes of a picture's file, which mostly hold its header.

    Raises:
        ImageError: the file cannot be read.
    """
    with _told(path, name), open_regular(path) as file:
        return file.read(HEADER_BYTES)


@contextmanager
def _told(path: Path, name: str) -> Iterator[None]:
    """Turns an error of reading a picture's file into an ``ImageError`` that says what it is."""
    try:
        yield
    except FileNotFoundError as error:
        if path.is_symlink():
            raise ImageError(name, f"a link to {os.readlink(path)}, which is not there") from error
        raise ImageError(name, "no such file") from error
    except IsADirectoryError as error:
        raise ImageError(name, "a folder, not a picture") from error
    except OSError as error:
        raise ImageError(name, f"cannot be read: {error.strerror or error}") from error


def open_header(data: bytes, name: str) -> Image.Image:
    """Reads the header: width, height and format, without decoding a pixel.

    Raises:
        ImageError: this is not a picture of a known format.
    """
    Image.init()
    known = [kind for kind in FORMATS if kind in Image.OPEN]
    try:
        return Image.open(io.BytesIO(data), formats=known)
    except UnidentifiedImageError as error:
        reason = f"not a picture, or its header is broken (known: {', '.join(known)})"
        raise ImageError(name, _other_format(data, name) or reason) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(name, f"too large for PIL.Image.MAX_IMAGE_PIXELS: {error}") from error
    except Exception as error:  # see _decode
        raise ImageError(name, f"broken header: {error}") from error


def upright_size(data: bytes, name: str) -> tuple[int, int]:
    """Height and width of a picture after it was turned upright, from its header alone.

    Raises:
        ImageError: this is not a picture of a known format.
    """
    image = open_header(data, name)
    try:
        turned = image.getexif().get(ORIENTATION, 1) in range(5, 9)
    except Exception:  # broken metadata leads Pillow to any of them; the picture is not turned
        turned = False
    return (image.width, image.height) if turned else (image.height, image.width)


def _other_format(data: bytes, name: str) -> str:
    """What to do with a picture of a format that is not read; "" if it is none."""
    if data[4:8] == b"ftyp" and (reason := _BRANDS.get(data[8:12])):
        return reason
    if data.startswith((b"\xff\x0a", b"\x00\x00\x00\x0cJXL ")):
        return OTHERS[".jxl"]
    return OTHERS.get(Path(name).suffix.lower(), "")


def _decode(image: Image.Image, name: str) -> Picture:
    """Decodes the pixels, upright and as RGB.

    Catches every exception: decoders raise whatever a broken file leads them to (struct.error,
    IndexError, SyntaxError, zlib.error, MemoryError), and each means that the file is broken.
    """
    notes: list[str] = []
    try:
        image.load()
        rgb = _rgb(image, notes)
    except Exception as error:
        reason = str(error) or type(error).__name__
        kind = "truncated" if "truncated" in reason or isinstance(error, EOFError) else "broken"
        raise ImageError(name, f"{kind} {image.format} file: {reason}") from error
    try:
        turn = _TURNS.get(image.getexif().get(ORIENTATION, 1))
    except Exception as error:
        turn = None
        notes.append(f"unreadable EXIF, so it is not turned: {error}")
    try:
        if getattr(image, "is_animated", False):
            notes.append("several frames: the first is used")
    except Exception as error:
        notes.append(f"broken after its first frame, which is used: {error}")
    return Picture(rgb if turn is None else rgb.transpose(turn), tuple(notes))


def _rgb(image: Image.Image, notes: list[str]) -> Image.Image:
    mode = image.mode
    if mode.startswith("I;16") or (mode == "I" and image.format in ("PNG", "PPM")):
        # 65535 / 257 = 255; the sum rounds, and nothing lies halfway since 257 is odd
        image = Image.fromarray(
            ((np.asarray(image).astype(np.uint32) + 128) // 257).astype(np.uint8)
        )
    elif mode in ("I", "F", "LAB"):
        kind = {"I": "32-bit integer", "F": "32-bit float", "LAB": "CIELAB"}[mode]
        raise ValueError(
            f"{kind} pixels have no single meaning as RGB; save the picture as 8-bit RGB"
        )
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("LA").convert("RGBA") if mode == "La" else image.convert("RGBA")
    if rgba.getchannel("A").getextrema() == (255, 255):
        return rgba.convert("RGB")
    notes.append("transparent: laid over white")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
