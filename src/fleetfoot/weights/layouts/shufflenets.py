"""The ShuffleNets' keys: Megvii's of every kind, and torchvision's of V2."""

from __future__ import annotations

from collections.abc import Mapping

from fleetfoot.weights.layout import Layout
from fleetfoot.weights.layouts.rows import blocks, each

MEGVII_INPUT = {
    "mean": (0.0, 0.0, 0.0),
    "std": (1.0, 1.0, 1.0),
    "channel_order": "bgr",
    "pixel_scale": 1.0,
}
"""Preprocessing of Megvii's networks, which take bytes unscaled, blue first."""

MEGVII_ENDS = {"first_conv.0": "stem.0.0", "first_conv.1": "stem.0.1"}
UNITS = blocks(4, 8, 4, first=1)
"""Names of the units of V1 and V2; our stage 0 is the max-pool."""
FLAT_UNITS = [f"features.{n}" for n in range(16)]

SHUFFLENET_V1 = (
    Layout(
        family="shufflenet_v1",
        name="authors",
        modules={
            **MEGVII_ENDS,
            **each(
                FLAT_UNITS,
                UNITS,
                {
                    "branch_main_1.0": "main.reduce.0",
                    "branch_main_1.1": "main.reduce.1",
                    "branch_main_1.3": "main.depthwise.0",
                    "branch_main_1.4": "main.depthwise.1",
                    "branch_main_2.0": "main.expand.0",
                    "branch_main_2.1": "main.expand.1",
                },
            ),
            "classifier.0": "head.classifier",
        },
        preprocessing=MEGVII_INPUT,
    ),
)

V2_MAIN = {
    "0": "main.first.0",
    "1": "main.first.1",
    "3": "main.depthwise.0",
    "4": "main.depthwise.1",
    "5": "main.last.0",
    "6": "main.last.1",
}
V2_SIDE = {
    "0": "side.depthwise.0",
    "1": "side.depthwise.1",
    "2": "side.last.0",
    "3": "side.last.1",
}


def _unit(main: Mapping[str, str], *, main_name: str, side_name: str) -> dict[str, str]:
    return {f"{main_name}.{n}": ours for n, ours in main.items()} | {
        f"{side_name}.{n}": ours for n, ours in V2_SIDE.items()
    }


SHUFFLENET_V2 = (
    Layout(
        family="shufflenet_v2",
        name="torchvision",
        modules={
            "conv1.0": "stem.0.0",
            "conv1.1": "stem.0.1",
            **each(
                [f"stage{i}.*" for i in (2, 3, 4)],
                [f"stages.{i}.*" for i in (1, 2, 3)],
                _unit(V2_MAIN, main_name="branch2", side_name="branch1"),
            ),
            "conv5.0": "head.body.conv.0",
            "conv5.1": "head.body.conv.1",
            "fc": "head.classifier",
        },
        requires={"form": "torchvision"},
    ),
    Layout(
        family="shufflenet_v2",
        name="authors",
        modules={
            **MEGVII_ENDS,
            **each(
                FLAT_UNITS,
                UNITS,
                _unit(V2_MAIN, main_name="branch_main", side_name="branch_proj"),
            ),
            "conv_last.0": "head.body.conv.0",
            "conv_last.1": "head.body.conv.1",
            "classifier.0": "head.classifier",
        },
        requires={"form": "authors"},
        preprocessing=MEGVII_INPUT,
    ),
)


def _squeeze_excite(theirs: str, ours: str) -> dict[str, str]:
    return {
        f"{theirs}.SE_opr.1": f"{ours}.reduce.0",
        f"{theirs}.SE_opr.2": f"{ours}.reduce.1",
        f"{theirs}.SE_opr.4": f"{ours}.expand",
    }


V2_PLUS_XCEPTION = {
    "0": "main.depthwise_1.0",
    "1": "main.depthwise_1.1",
    "2": "main.pointwise_1.0",
    "3": "main.pointwise_1.1",
    "5": "main.depthwise_2.0",
    "6": "main.depthwise_2.1",
    "7": "main.pointwise_2.0",
    "8": "main.pointwise_2.1",
    "10": "main.depthwise_3.0",
    "11": "main.depthwise_3.1",
    "12": "main.pointwise_3.0",
    "13": "main.pointwise_3.1",
    **_squeeze_excite("15", "main.squeeze_excite"),
}
V2_PLUS_PLAIN = V2_MAIN | _squeeze_excite("8", "main.squeeze_excite")
XCEPTIONS = ("stages.0.2", "stages.3.2")
"""Units for which the searched plan has three depthwise convolutions instead of one."""


def _v2_plus_units() -> dict[str, str]:
    modules: dict[str, str] = {}
    for n, ours in enumerate(blocks(4, 4, 8, 4)):
        main = V2_PLUS_XCEPTION if ours in XCEPTIONS else V2_PLUS_PLAIN
        unit = _unit(main, main_name="branch_main", side_name="branch_proj")
        modules |= each([f"features.{n}"], [ours], unit)
    return modules


SHUFFLENET_V2_PLUS = (
    Layout(
        family="shufflenet_v2_plus",
        name="authors",
        modules={
            **MEGVII_ENDS,
            **_v2_plus_units(),
            "conv_last.0": "head.body.conv.0",
            "conv_last.1": "head.body.conv.1",
            **_squeeze_excite("LastSE", "head.body.squeeze_excite"),
            "fc.0": "head.body.linear",
            "classifier.0": "head.classifier",
        },
        preprocessing=MEGVII_INPUT,
    ),
)


def _conv_bn(pairs: Mapping[str, str]) -> dict[str, str]:
    """Pairs of keys: Megvii's large networks name a convolution and its norm; ours number them."""
    return {
        f"{theirs}.{word}": f"{ours}.{number}"
        for theirs, ours in pairs.items()
        for word, number in (("conv", "0"), ("bn", "1"))
    }


LARGE_NOTE = "the authors subtract a mean image from the bytes, which is not part of the weights"
LARGE_STEM = {f"first_conv.{n}": f"stem.{n}" for n in range(3)}
AUXILIARY = {
    f"predict_{size}.conv.{n}": f"auxiliary_heads.{i}.body.{name}"
    for i, size in enumerate((56, 28, 14))
    for n, name in enumerate(("first", "last"))
}
AUXILIARY_CLASSIFIERS = {
    f"predict_{size}.fc": f"auxiliary_heads.{i}.classifier" for i, size in enumerate((56, 28, 14))
}

LARGE_UNITS = [  # the authors count a stage's units by letters
    f"features.{i}.{i + 2}{chr(ord('a') + j)}"
    for i, depth in enumerate((10, 10, 23, 10))
    for j in range(depth)
]

SHUFFLENET_V2_LARGE = (
    Layout(
        family="shufflenet_v2_large",
        name="authors, large",
        modules={
            **_conv_bn(LARGE_STEM),
            **each(
                LARGE_UNITS,
                blocks(10, 10, 23, 10),
                _conv_bn(
                    {
                        "proj": "side",
                        "down": "down",
                        "branch_main.0": "main.first",
                        "branch_main.1": "main.grouped",
                        "branch_main.2": "main.last",
                    }
                )
                | {
                    "se_fc1": "main.squeeze_excite.reduce",
                    "se_fc2": "main.squeeze_excite.expand",
                },
            ),
            **_conv_bn({"conv_last": "head.body.conv"} | AUXILIARY),
            **AUXILIARY_CLASSIFIERS,
            "fc": "head.classifier",
        },
        repeated=tuple(f"{unit}.se_block.{n}" for unit in LARGE_UNITS for n in (0, 2)),
        preprocessing=MEGVII_INPUT,
        note=LARGE_NOTE,
    ),
    Layout(
        family="shufflenet_v2_large",
        name="authors, exlarge",
        modules={
            **_conv_bn(LARGE_STEM | {"features.*.*": "stages.*.*"}),
            **each(
                ["features.*.*"],
                ["stages.*.*"],
                _conv_bn(
                    {
                        "proj": "side",
                        "branch_main.0": "main.first",
                        "branch_main.1": "main.grouped",
                        "branch_main.2": "main.depthwise",
                        "branch_main.3": "main.last",
                    }
                )
                | {
                    "se_fc1.fc": "main.squeeze_excite.reduce",
                    "se_fc2.fc": "main.squeeze_excite.expand",
                },
            ),
            **_conv_bn(AUXILIARY),
            **AUXILIARY_CLASSIFIERS,
            "fc.fc": "head.classifier",
        },
        repeated=("features.*.*.se_block.0.fc", "features.*.*.se_block.2.fc"),
        preprocessing=MEGVII_INPUT,
        note=LARGE_NOTE,
    ),
)

LAYOUTS = (*SHUFFLENET_V1, *SHUFFLENET_V2, *SHUFFLENET_V2_PLUS, *SHUFFLENET_V2_LARGE)
