"""Published ImageNet-1k top-1 of networks, with or without weights, each with its source.

These figures have no row in ``PRETRAINED``: they are from a paper or README whose weights cannot be
fetched, or timm's for the networks that the zoo is compared with. They are other people's figures
at their preprocessing, training and input size.
"""

from __future__ import annotations

import csv
import functools
from pathlib import Path

from fleetfoot.weights.pretrained import PRETRAINED

TF_SLIM = "TensorFlow-slim's README of MobileNetV1, 224 px"
TF_V2 = "TensorFlow's README of MobileNetV2, 224 px"
D_LI14_V2 = "README of d-li14/mobilenetv2.pytorch"
V1_README = "README of ShuffleNet-Series, V1"
V1_PAPER = "ShuffleNet, arXiv:1707.01083, table 2"
V2_README = "README of ShuffleNet-Series, V2"
V2_PAPER = "ShuffleNetV2, arXiv:1807.11164, appendix"
PLUS_README = "README of ShuffleNet-Series, V2+"
LARGE_README = "README of ShuffleNet-Series, V2.Large"
EXLARGE_README = "README of ShuffleNet-Series, V2.ExLarge (trained on further data)"
CYCLEMLP_README = "README of ShoufaChen/CycleMLP"
MICRONET_README = "README of liyunsheng13/micronet"
MOBILE_FORMER_README = "README of AAboys/MobileFormer"
TIMM = "timm's results table"
CPUBONE_README = "README of altair199797/CPUBone"

TOP1: dict[str, tuple[float, str]] = {
    "mobilenetv1_075": (68.4, TF_SLIM),
    "mobilenetv1_050": (63.3, TF_SLIM),
    "mobilenetv1_025": (49.8, TF_SLIM),
    "mobilenetv2_130": (74.4, TF_V2),
    "mobilenetv2_075": (69.8, TF_V2),
    "mobilenetv2_035": (60.3, TF_V2),
    "mobilenetv2_025": (52.352, D_LI14_V2),
    "mobilenetv2_010": (34.896, D_LI14_V2),
    # ShuffleNet's figures are printed as errors: 100 - error
    "shufflenet_v1_g1_x0_25": (42.9, V1_PAPER),
    "shufflenet_v1_g2_x0_25": (43.2, V1_PAPER),
    "shufflenet_v1_g3_x0_25": (45.0, V1_PAPER),
    "shufflenet_v1_g4_x0_25": (45.8, V1_PAPER),
    "shufflenet_v1_g8_x0_25": (47.3, V1_PAPER),
    "shufflenet_v1_g1_x0_5": (54.9, V1_PAPER),
    "shufflenet_v1_g2_x0_5": (55.6, V1_PAPER),
    "shufflenet_v1_g3_x0_5": (57.3, V1_README),
    "shufflenet_v1_g4_x0_5": (58.4, V1_PAPER),
    "shufflenet_v1_g8_x0_5": (58.8, V1_README),
    "shufflenet_v1_g1_x1_0": (66.4, V1_PAPER),
    "shufflenet_v1_g2_x1_0": (67.3, V1_PAPER),
    "shufflenet_v1_g3_x1_0": (67.8, V1_README),
    "shufflenet_v1_g4_x1_0": (67.2, V1_PAPER),
    "shufflenet_v1_g8_x1_0": (68.0, V1_README),
    "shufflenet_v1_g3_x1_5": (71.6, V1_README),
    "shufflenet_v1_g8_x1_5": (71.0, V1_README),
    "shufflenet_v1_g3_x2_0": (74.1, V1_README),
    "shufflenet_v1_g8_x2_0": (72.9, V1_README),
    "shufflenet_v1_50": (74.8, V2_PAPER),
    "shufflenet_v2_x0_5_authors": (61.1, V2_README),
    "shufflenet_v2_x1_0_authors": (69.4, V2_README),
    "shufflenet_v2_x1_5_authors": (72.6, V2_README),
    "shufflenet_v2_x2_0_authors": (75.0, V2_README),
    "shufflenet_v2_50": (77.2, V2_PAPER),
    "shufflenet_v2_plus_small": (74.1, PLUS_README),
    "shufflenet_v2_plus_medium": (75.7, PLUS_README),
    "shufflenet_v2_plus_large": (77.1, PLUS_README),
    "shufflenet_v2_large": (81.44, LARGE_README),
    "shufflenet_v2_exlarge": (84.48, EXLARGE_README),
    "cyclemlp_b1": (78.9, CYCLEMLP_README),  # FasterNet's paper prints 79.1
    "cyclemlp_b2": (81.6, CYCLEMLP_README),
    "cyclemlp_b3": (82.4, CYCLEMLP_README),
    "cyclemlp_b4": (83.0, CYCLEMLP_README),
    "cyclemlp_b5": (83.2, CYCLEMLP_README),
    "micronet_m0": (46.6, MICRONET_README),
    "micronet_m1": (51.4, MICRONET_README),
    "micronet_m2": (59.4, MICRONET_README),
    "micronet_m3": (62.5, MICRONET_README),
    "mobile_former_508m": (79.3, MOBILE_FORMER_README),
    "mobile_former_294m": (77.9, MOBILE_FORMER_README),
    "mobile_former_214m": (76.7, MOBILE_FORMER_README),
    "mobile_former_151m": (75.2, MOBILE_FORMER_README),
    "mobile_former_96m": (72.8, MOBILE_FORMER_README),
    "mobile_former_52m": (68.7, MOBILE_FORMER_README),
    "mobile_former_26m": (64.0, MOBILE_FORMER_README),
}

CPUBONE = {
    "cpubone_nano.r224_in1k": 72.67,
    "cpubone_t0.r224_in1k": 74.85,
    "cpubone_s0.r224_in1k": 75.89,
    "cpubone_b3.r224_in1k": 83.1,
}
"""Weights of CPUBone's authors that timm carries but does not list in its results file yet. For B0
to B2 timm has only its own form, whose accuracy is published nowhere."""

TIMM_TABLE = Path(__file__).with_name("timm_top1.csv")
"""File of timm's published figures by weights and input size, made by ``tools/timm_top1.py``. Its
first lines name the source file and commit."""


@functools.cache
def timm_table() -> dict[str, dict[int, float]]:
    """Top-1 in percent by timm's name with its tag, then by input size in pixels."""
    found: dict[str, dict[int, float]] = {}
    with TIMM_TABLE.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(line for line in file if not line.startswith("#")):
            found.setdefault(row["network"], {})[int(row["pixels"])] = float(row["top1"])
    return found


def published_top1(name: str) -> tuple[float, str] | None:
    """Published top-1 of a network in percent and where it is printed; ``None`` if there is none.

    >>> published_top1("fasternet_t0")
    (71.918, "name of the authors' released file")

    Names are those of ``create_model``; peers carry their prefix: ``timm:mobilevit_xxs`` is the
    score of timm's default weights, ``timm:resnet50.tv_in1k`` that of a tag.
    """
    library, _, bare = name.rpartition(":")
    if library == "timm":
        return timm_top1(bare)
    if library == "torchvision":
        return _of_torchvision(bare)
    if name in PRETRAINED:
        default = PRETRAINED[name][0]
        return None if default.top1 is None else (default.top1, default.top1_source)
    return TOP1.get(name)


def timm_top1(bare: str, pixels: int | None = None) -> tuple[float, str] | None:
    """Published top-1 of a timm network at an input size in percent, and where it is printed.

    Args:
        pixels: input size; default: that of timm's own configuration of these weights. The result
            is None if no figure is published for it.
    """
    import timm

    default = timm.get_pretrained_cfg(bare, allow_unregistered=True)
    if default is None or not (default.hf_hub_id or default.url):
        return None
    tagged = bare if "." in bare else f"{bare}.{default.tag}"
    own = default.input_size[-1]
    if tagged in CPUBONE and pixels in (None, own):
        return CPUBONE[tagged], CPUBONE_README
    figures, size = timm_table().get(tagged, {}), pixels or own
    return (figures[size], TIMM) if size in figures else None


def _of_torchvision(bare: str) -> tuple[float, str] | None:
    import torchvision

    if bare not in torchvision.models.list_models():
        return None
    default = torchvision.models.get_model_weights(bare).DEFAULT
    score = default.meta.get("_metrics", {}).get("ImageNet-1K", {}).get("acc@1")
    return None if score is None else (score, f"torchvision's model page, {default.name}")
