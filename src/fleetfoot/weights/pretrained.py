"""The published weights: where they are, their terms, their scores and the input they need.

Addresses, licences and preprocessing are those of timm's and torchvision's own tables; each score
says where it was printed. The first row of a network is its default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from fleetfoot.errors import UnknownNameError

Interpolation = Literal["bilinear", "bicubic"]
ResizeMode = Literal["shortest", "squash", "letterbox"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True, kw_only=True)
class PretrainedConfig:
    """One set of weights and the preprocessing that they were scored with."""

    tag: str
    """Name of the weights, in timm's style: ``apple_in1k``."""
    source: Literal["timm", "torchvision", "file", "none"]
    """Origin of the weights: timm's repositories on the hub, torchvision's server, a file of the
    user's, or none for a fresh network."""
    repo: str = ""
    """Place of the weights: the hub repository, ``timm/fastvit_t8.apple_in1k``, torchvision's URL,
    or the path of a file."""
    filename: str = "model.safetensors"
    revision: str = ""
    """Commit of the repository. If a row states none, the commit of the first download is stored
    and used from then on (``weights.hub``)."""
    sha256: str = ""
    """SHA-256 of the file, or its first digits."""
    licence: str = ""
    licence_url: str = ""
    research_only: bool = False
    """Whether the licence is the owner's own and does not allow every use: loading then asks for
    an explicit yes."""
    top1: float | None = None
    """ImageNet-1k validation top-1, percent, at ``input_size`` and ``crop_pct``."""
    top1_source: str = ""
    input_size: int | tuple[int, int] = 224
    """Height and width, in pixels; one number if they are equal."""
    crop_pct: float = 0.875
    resize_mode: ResizeMode = "shortest"
    """Whether the resize keeps the picture's shape (``shortest``, ``letterbox``) or not
    (``squash``); some of timm's weights are scored on squashed pictures."""
    interpolation: Interpolation = "bilinear"
    antialias: bool = True
    """Whether pictures are resized by Pillow's filters, as timm and torchvision do; False for
    OpenCV's."""
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    channel_order: Literal["rgb", "bgr"] = "rgb"
    pixel_scale: float = 1 / 255
    """Factor on each byte before mean and std: 1/255, or 1 for networks that take 0 to 255."""
    layout: str = ""
    """Name of the key layout of the file (``weights.layouts``)."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the network's config that these weights need, if their keys do not show it."""
    labels: tuple[str, ...] = ()
    """Names of the classes, in order, if the file states them."""


def _timm(
    name: str,
    top1: float,
    *,
    crop_pct: float = 0.875,
    interpolation: Interpolation = "bicubic",
    **rest: Any,
) -> PretrainedConfig:
    """Weights in timm's repository ``timm/{name}``; ``name`` is a network, a dot and a tag."""
    fields: dict[str, Any] = {
        "tag": name.partition(".")[2],
        "source": "timm",
        "repo": f"timm/{name}",
        "licence": "apache-2.0",
        "licence_url": f"https://huggingface.co/timm/{name}",
        "top1": top1,
        "top1_source": "timm's results table",
        "crop_pct": crop_pct,
        "interpolation": interpolation,
        "layout": "timm",
    }
    return PretrainedConfig(**fields | rest)


def _tf(name: str, top1: float) -> PretrainedConfig:
    """TensorFlow's MobileNetV3 weights in timm's repositories; ``name`` is without the ``tf_``."""
    return _timm(
        f"tf_{name}.in1k",
        top1,
        tag="tf_in1k",
        interpolation="bilinear",
        mean=HALF,
        std=HALF,
        options={"padding": "same", "norm_eps": 1e-3},
    )


def _apple(name: str, top1: float, **rest: Any) -> PretrainedConfig:
    """Apple's weights in timm's repositories, under Apple's own licence."""
    family = name.partition("_")[0]
    return _timm(
        name,
        top1,
        licence=f"{family}-license (Apple)",
        licence_url=f"https://github.com/apple/ml-{family}/blob/main/LICENSE",
        research_only=True,
        **rest,
    )


def _torchvision(
    file: str, top1: float, *, tag: str = "tv_in1k", layout: str = "torchvision", resize: int = 256
) -> PretrainedConfig:
    """Weights in torchvision's file, whose name ends with the first digits of its SHA-256."""
    return PretrainedConfig(
        tag=tag,
        source="torchvision",
        repo=f"https://download.pytorch.org/models/{file}",
        filename=file,
        sha256=file.removesuffix(".pth").rpartition("-")[2],
        licence="bsd-3-clause",
        licence_url="https://github.com/pytorch/vision/blob/main/LICENSE",
        top1=top1,
        top1_source="torchvision's model page",
        crop_pct=224 / resize,
        layout=layout,
    )


def _fasternet(size: str, top1: float) -> PretrainedConfig:
    """The authors' FasterNet weights in timm's repositories, scored at the authors' crop, 0.9."""
    return _timm(
        f"fasternet_{size}.in1k",
        top1,
        crop_pct=0.9,
        top1_source="name of the authors' released file",
    )


def _fastvit(size: str, top1: float, distilled: float, *, crop_pct: float = 0.9) -> Rows:
    return tuple(
        _apple(f"fastvit_{size}.{tag}", score, input_size=256, crop_pct=crop_pct)
        for tag, score in (("apple_in1k", top1), ("apple_dist_in1k", distilled))
    )


def _mobileone(size: str, top1: float, *, crop_pct: float = 0.9) -> Rows:
    name = f"mobileone_{size}.apple_in1k"
    return (_apple(name, top1, crop_pct=crop_pct, interpolation="bilinear"),)


Rows = tuple[PretrainedConfig, ...]

PRETRAINED: dict[str, Rows] = {
    "fasternet_t0": (_fasternet("t0", 71.918),),
    "fasternet_t1": (_fasternet("t1", 76.218),),
    "fasternet_t2": (_fasternet("t2", 78.886),),
    "fasternet_s": (_fasternet("s", 81.284),),
    "fasternet_m": (_fasternet("m", 82.962),),
    "fasternet_l": (_fasternet("l", 83.506),),
    "fastvit_t8": _fastvit("t8", 76.184, 77.170),
    "fastvit_t12": _fastvit("t12", 79.276, 80.364),
    "fastvit_s12": _fastvit("s12", 79.882, 81.074),
    "fastvit_sa12": _fastvit("sa12", 80.846, 81.838),
    "fastvit_sa24": _fastvit("sa24", 82.706, 83.368),
    "fastvit_sa36": _fastvit("sa36", 83.502, 84.028),
    "fastvit_ma36": _fastvit("ma36", 83.884, 84.608, crop_pct=0.95),
    "mobileone_s0": _mobileone("s0", 71.398, crop_pct=0.875),
    "mobileone_s1": _mobileone("s1", 75.760),
    "mobileone_s2": _mobileone("s2", 77.504),
    "mobileone_s3": _mobileone("s3", 78.002),
    "mobileone_s4": _mobileone("s4", 79.446),
    "mobilenetv1_100": (_timm("mobilenetv1_100.ra4_e3600_r224_in1k", 75.388, mean=HALF, std=HALF),),
    "mobilenetv1_100h": (
        _timm("mobilenetv1_100h.ra4_e3600_r224_in1k", 75.664, mean=HALF, std=HALF),
    ),
    "mobilenetv1_125": (
        _timm("mobilenetv1_125.ra4_e3600_r224_in1k", 76.920, crop_pct=0.9, mean=HALF, std=HALF),
    ),
    "mobilenetv2_050": (_timm("mobilenetv2_050.lamb_in1k", 65.928),),
    "mobilenetv2_100": (
        _timm("mobilenetv2_100.ra_in1k", 72.910),
        _torchvision("mobilenet_v2-b0353104.pth", 71.878),
        _torchvision("mobilenet_v2-7ebf99e0.pth", 72.154, tag="tv2_in1k", resize=232),
    ),
    "mobilenetv2_140": (_timm("mobilenetv2_140.ra_in1k", 76.528),),
    "mobilenetv3_large_100": (
        _timm("mobilenetv3_large_100.ra_in1k", 75.784),
        _timm(
            "mobilenetv3_large_100.ra4_e3600_r224_in1k",
            76.310,
            crop_pct=0.95,
            mean=HALF,
            std=HALF,
        ),
        _timm(
            "mobilenetv3_large_100.miil_in21k_ft_in1k",
            77.920,
            interpolation="bilinear",
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
        ),
        _tf("mobilenetv3_large_100", 75.510),
        _torchvision("mobilenet_v3_large-8738ca79.pth", 74.042),
        _torchvision("mobilenet_v3_large-5c1a4163.pth", 75.274, tag="tv2_in1k", resize=232),
    ),
    "mobilenetv3_large_075": (_tf("mobilenetv3_large_075", 73.442),),
    "mobilenetv3_large_minimal_100": (_tf("mobilenetv3_large_minimal_100", 72.270),),
    "mobilenetv3_small_100": (
        _timm("mobilenetv3_small_100.lamb_in1k", 67.636),
        _tf("mobilenetv3_small_100", 67.922),
        _torchvision("mobilenet_v3_small-047dcff4.pth", 67.668),
    ),
    "mobilenetv3_small_075": (
        _timm("mobilenetv3_small_075.lamb_in1k", 65.284),
        _tf("mobilenetv3_small_075", 65.706),
    ),
    "mobilenetv3_small_050": (_timm("mobilenetv3_small_050.lamb_in1k", 57.918),),
    "mobilenetv3_small_minimal_100": (_tf("mobilenetv3_small_minimal_100", 62.892),),
    "shufflenet_v2_x0_5": (_torchvision("shufflenetv2_x0.5-f707e7126e.pth", 60.552),),
    "shufflenet_v2_x1_0": (_torchvision("shufflenetv2_x1-5666bf0f80.pth", 69.362),),
    "shufflenet_v2_x1_5": (_torchvision("shufflenetv2_x1_5-3c479a10.pth", 72.996, resize=232),),
    "shufflenet_v2_x2_0": (_torchvision("shufflenetv2_x2_0-8be3c8ee.pth", 76.230, resize=232),),
}
"""Published weights by model name; the first row is the default."""


def choose(name: str, tag: str | None = None) -> PretrainedConfig:
    """The published weights of the network ``name``: those with the tag ``tag``, or the default.

    >>> choose("fasternet_t0").repo
    'timm/fasternet_t0.in1k'

    Raises:
        UnknownNameError: the network has no published weights, or none with that tag.
    """
    rows = PRETRAINED.get(name, ())
    if not rows:
        raise UnknownNameError(
            f"no weights of {name!r} are published where fleetfoot could fetch them; "
            "give your own with weights=FILE (--weights FILE), or see list_models(pretrained=True)"
        )
    if tag is None:
        return rows[0]
    for row in rows:
        if row.tag == tag:
            return row
    raise UnknownNameError.of(f"tag of {name}", tag, [row.tag for row in rows])


def untrained(input_size: int | tuple[int, int]) -> PretrainedConfig:
    """The row of a fresh network: ImageNet's preprocessing at its own size, and no weights."""
    return PretrainedConfig(tag="", source="none", filename="", input_size=input_size)


def of_file(
    path: str, name: str, layout: str, preprocessing: Mapping[str, Any], input_size: int
) -> PretrainedConfig:
    """The row of a network with weights from a user's file.

    The preprocessing is that of the network's published weights in the same layout, else of its
    default ones, with the layout's own fields in place; terms and score are unknown.
    """
    rows = PRETRAINED.get(name, ())
    whose = layout.partition(",")[0]
    like = next((row for row in rows if row.layout == whose), rows[0] if rows else None)
    like = like or untrained(input_size)
    fields: dict[str, Any] = {
        "tag": "",
        "source": "file",
        "repo": path,
        "filename": "",
        "sha256": "",
        "licence": "",
        "licence_url": "",
        "research_only": False,
        "top1": None,
        "top1_source": "",
        "layout": layout,
        "options": {},
        "labels": (),
    }
    return replace(like, **fields | dict(preprocessing))
