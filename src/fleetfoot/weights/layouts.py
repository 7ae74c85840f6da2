"""The tables of every known key layout, family by family.

The names on the left were read from the released files (their keys are facts); those on the right
are this package's modules.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from fleetfoot.weights.layout import Layout


def _blocks(*depths: int, root: str = "stages", first: int = 0) -> list[str]:
    """Names of all blocks in order: ``stages.0.0``, ``stages.1.0``, ``stages.1.1``, ..."""
    return [f"{root}.{i}.{j}" for i, depth in enumerate(depths, first) for j in range(depth)]


def _each(
    theirs: Iterable[str], ours: Iterable[str], parts: Mapping[str, str]
) -> Mapping[str, str]:
    """The same parts in each of a row of blocks."""
    return {
        f"{a}.{part}": f"{b}.{our_part}"
        for a, b in zip(theirs, ours, strict=True)
        for part, our_part in parts.items()
    }


# FasterNet ----------------------------------------------------------------------------------------

FASTERNET_BLOCK = {
    "spatial_mixing.partial_conv3": "pconv.conv",
    "mlp.0": "expand",
    "mlp.1": "norm",
    "mlp.3": "project",
}

FASTERNET = (
    Layout(
        family="fasternet",
        name="authors",
        modules={
            "patch_embed.proj": "stem.0",
            "patch_embed.norm": "stem.1",
            # stages 0, 2, 4, 6 of the authors' list are blocks, 1, 3, 5 the merging between them
            **_each(
                [f"stages.{2 * i}.blocks.*" for i in range(4)],
                [f"stages.{i}.blocks.*" for i in range(4)],
                FASTERNET_BLOCK,
            ),
            **_each(
                [f"stages.{2 * i - 1}" for i in range(1, 4)],
                [f"stages.{i}.merge" for i in range(1, 4)],
                {"reduction": "0", "norm": "1"},
            ),
            "avgpool_pre_head.1": "head.body.1",
            "head": "head.classifier",
        },
    ),
    Layout(
        family="fasternet",
        name="timm",
        modules={
            "patch_embed.proj": "stem.0",
            "patch_embed.norm": "stem.1",
            **_each(["stages.*.blocks.*"], ["stages.*.blocks.*"], FASTERNET_BLOCK),
            "stages.*.downsample.reduction": "stages.*.merge.0",
            "stages.*.downsample.norm": "stages.*.merge.1",
            "conv_head": "head.body.1",
            "classifier": "head.classifier",
        },
    ),
)

# MobileNets ---------------------------------------------------------------------------------------

TIMM_SEPARABLE = {
    "conv_dw": "depthwise.0",
    "bn1": "depthwise.1",
    "conv_pw": "pointwise.0",
    "bn2": "pointwise.1",
}
TIMM_INVERTED = {
    "conv_pw": "expand.0",
    "bn1": "expand.1",
    "conv_dw": "depthwise.0",
    "bn2": "depthwise.1",
    "se.conv_reduce": "squeeze_excite.reduce",
    "se.conv_expand": "squeeze_excite.expand",
    "conv_pwl": "project.0",
    "bn3": "project.1",
}
TIMM_UNEXPANDED = {
    "conv_dw": "depthwise.0",
    "bn1": "depthwise.1",
    "se.conv_reduce": "squeeze_excite.reduce",
    "se.conv_expand": "squeeze_excite.expand",
    "conv_pw": "project.0",
    "bn2": "project.1",
}
"""timm's name for a block that does not widen is that of V1's, so its numbers differ."""
TIMM_ENDS = {"conv_stem": "stem.0", "bn1": "stem.1", "classifier": "head.classifier"}


def keras_words(key: str) -> str:
    """``conv_dw_1/conv_dw_1/depthwise_kernel:0`` -> ``conv_dw_1.depthwise_kernel``"""
    return ".".join(key.partition(":")[0].split("/")[-2:])


def from_keras(array: Tensor) -> Tensor:
    """Keras's kernels to PyTorch's: (K, K, Ci, Co) -> (Co, Ci, K, K); depthwise (K, K, C, 1) -> (C,
    1, K, K)"""
    if array.ndim != 4:
        return array
    return array.permute(2, 3, 0, 1) if array.shape[3] == 1 else array.permute(3, 2, 0, 1)


V1_BLOCKS = _blocks(1, 2, 2, 6, 2)

MOBILENET_V1 = (
    Layout(
        family="mobilenet_v1",
        name="timm",
        modules={
            **TIMM_ENDS,
            **_each(["blocks.*.*"], ["stages.*.*"], TIMM_SEPARABLE),
            "conv_head": "head.body.conv.0",
            "bn2": "head.body.conv.1",
        },
    ),
    Layout(
        family="mobilenet_v1",
        name="keras",
        modules={
            "conv1": "stem.0",
            "conv1_bn": "stem.1",
            **{f"conv_dw_{n}": f"{ours}.depthwise.0" for n, ours in enumerate(V1_BLOCKS, 1)},
            **{f"conv_dw_{n}_bn": f"{ours}.depthwise.1" for n, ours in enumerate(V1_BLOCKS, 1)},
            **{f"conv_pw_{n}": f"{ours}.pointwise.0" for n, ours in enumerate(V1_BLOCKS, 1)},
            **{f"conv_pw_{n}_bn": f"{ours}.pointwise.1" for n, ours in enumerate(V1_BLOCKS, 1)},
            "conv_preds": "head.classifier",
        },
        leaves={
            "kernel": "weight",
            "depthwise_kernel": "weight",
            "gamma": "weight",
            "beta": "bias",
            "bias": "bias",
            "moving_mean": "running_mean",
            "moving_variance": "running_var",
        },
        plain=keras_words,
        turn=from_keras,
        options={"padding": "same", "norm_eps": 1e-3, "act": "relu6"},
        preprocessing={"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)},
    ),
)

V2_BLOCKS = _blocks(1, 2, 3, 7, 4)
FEATURES = [f"features.{n}" for n in range(19)]
"""V2's blocks in one flat list: the stem is number 0, the last 1×1 number 18."""

D_LI14_V2 = {
    "features.0.0": "stem.0",
    "features.0.1": "stem.1",
    **_each(
        FEATURES[1:2],
        V2_BLOCKS[:1],
        {
            "conv.0": "depthwise.0",
            "conv.1": "depthwise.1",
            "conv.3": "project.0",
            "conv.4": "project.1",
        },
    ),
    **_each(
        FEATURES[2:18],
        V2_BLOCKS[1:],
        {
            "conv.0": "expand.0",
            "conv.1": "expand.1",
            "conv.3": "depthwise.0",
            "conv.4": "depthwise.1",
            "conv.6": "project.0",
            "conv.7": "project.1",
        },
    ),
}

MOBILENET_V2 = (
    Layout(
        family="mobilenet_v2",
        name="timm",
        modules={
            **TIMM_ENDS,
            **_each(["blocks.0.0"], V2_BLOCKS[:1], TIMM_UNEXPANDED),
            **_each(
                _blocks(2, 3, 4, 3, 3, 1, root="blocks", first=1), V2_BLOCKS[1:], TIMM_INVERTED
            ),
            "conv_head": "head.body.conv.0",
            "bn2": "head.body.conv.1",
        },
    ),
    Layout(
        family="mobilenet_v2",
        name="torchvision",
        modules={
            "features.0.0": "stem.0",
            "features.0.1": "stem.1",
            **_each(
                FEATURES[1:2],
                V2_BLOCKS[:1],
                {
                    "conv.0.0": "depthwise.0",
                    "conv.0.1": "depthwise.1",
                    "conv.1": "project.0",
                    "conv.2": "project.1",
                },
            ),
            **_each(
                FEATURES[2:18],
                V2_BLOCKS[1:],
                {
                    "conv.0.0": "expand.0",
                    "conv.0.1": "expand.1",
                    "conv.1.0": "depthwise.0",
                    "conv.1.1": "depthwise.1",
                    "conv.2": "project.0",
                    "conv.3": "project.1",
                },
            ),
            "features.18.0": "head.body.conv.0",
            "features.18.1": "head.body.conv.1",
            "classifier.1": "head.classifier",
        },
    ),
    Layout(
        family="mobilenet_v2",
        name="d-li14",
        modules={
            **D_LI14_V2,
            "conv.0": "head.body.conv.0",
            "conv.1": "head.body.conv.1",
            "classifier": "head.classifier",
        },
    ),
    Layout(
        family="mobilenet_v2",
        name="tonylins",
        modules={
            **D_LI14_V2,
            "features.18.0": "head.body.conv.0",
            "features.18.1": "head.body.conv.1",
            "classifier": "head.classifier",
        },
        note="tonylins's network is this one at width 1.0 alone: it leaves stem and first block "
        "unscaled",
    ),
)

V3_BLOCKS = {"large": _blocks(1, 2, 3, 6, 3), "small": _blocks(1, 2, 5, 3, first=1)}
V3_TIMM = {
    "large": _blocks(2, 3, 4, 2, 3, root="blocks", first=1),
    "small": _blocks(2, 3, 2, 3, root="blocks", first=1),
}


def _v3_timm(size: str) -> Layout:
    blocks, timm = V3_BLOCKS[size], V3_TIMM[size]
    end = {"large": ("blocks.6.0", "stages.4.3"), "small": ("blocks.5.0", "stages.4.3")}[size]
    return Layout(
        family="mobilenet_v3",
        name=f"timm, {size}",
        modules={
            **TIMM_ENDS,
            **_each(["blocks.0.0"], blocks[:1], TIMM_UNEXPANDED),
            **_each(timm, blocks[1:], TIMM_INVERTED),
            **_each(end[:1], end[1:], {"conv": "0", "bn1": "1"}),
            "conv_head": "head.body.conv",
        },
        note="timm's weights named tf_ want padding='same' and norm_eps=1e-3, "
        "which their keys do not show",
    )


def _v3_torchvision(size: str) -> Layout:
    blocks = V3_BLOCKS[size]
    features = [f"features.{n}" for n in range(len(blocks) + 2)]
    # A block's layers are numbered in a row, and squeeze-excite takes a number where there is one;
    # that is seen from its keys, fc1 and fc2 where a convolution has 0 and 1.
    unexpanded = {
        "block.0.0": "depthwise.0",
        "block.0.1": "depthwise.1",
        "block.1.fc1": "squeeze_excite.reduce",
        "block.1.fc2": "squeeze_excite.expand",
        **{f"block.{n}.{m}": f"project.{m}" for n in (1, 2) for m in (0, 1)},
    }
    expanded = {
        "block.0.0": "expand.0",
        "block.0.1": "expand.1",
        "block.1.0": "depthwise.0",
        "block.1.1": "depthwise.1",
        "block.2.fc1": "squeeze_excite.reduce",
        "block.2.fc2": "squeeze_excite.expand",
        **{f"block.{n}.{m}": f"project.{m}" for n in (2, 3) for m in (0, 1)},
    }
    return Layout(
        family="mobilenet_v3",
        name=f"torchvision, {size}",
        modules={
            "features.0.0": "stem.0",
            "features.0.1": "stem.1",
            **_each(features[1:2], blocks[:1], unexpanded),
            **_each(features[2:-1], blocks[1:], expanded),
            f"{features[-1]}.0": "stages.4.3.0",
            f"{features[-1]}.1": "stages.4.3.1",
            "classifier.0": "head.body.conv",
            "classifier.3": "head.classifier",
        },
        options={"norm_eps": 1e-3, "norm_momentum": 0.01},
    )


MOBILENET_V3 = (
    _v3_timm("large"),
    _v3_timm("small"),
    _v3_torchvision("large"),
    _v3_torchvision("small"),
    Layout(
        family="mobilenet_v3",
        name="d-li14",
        modules={
            **{f"features.0.{n}": "" for n in (0, 1)},
            **{f"features.*.conv.{n}": "" for n in range(9)},
            **{f"features.*.conv.{n}.fc.{m}": "" for n in (3, 5) for m in (0, 2)},
            **{name: "" for name in ("conv.0", "conv.1", "classifier.0", "classifier.3")},
        },
        refused="d-li14's MobileNetV3 applies squeeze-excite before the activation of the "
        "depthwise convolution, where the paper's release, torchvision and timm apply it after: "
        "the shapes are the same and the function is another; "
        "take torchvision's or timm's weights",
    ),
)

# ShuffleNets --------------------------------------------------------------------------------------

MEGVII_INPUT = {
    "mean": (0.0, 0.0, 0.0),
    "std": (1.0, 1.0, 1.0),
    "channel_order": "bgr",
    "pixel_scale": 1.0,
}
"""Megvii's networks take the bytes themselves, blue first."""

MEGVII_ENDS = {"first_conv.0": "stem.0.0", "first_conv.1": "stem.0.1"}
UNITS = _blocks(4, 8, 4, first=1)
"""The units of V1 and V2; our stage 0 is the max-pool."""
FLAT_UNITS = [f"features.{n}" for n in range(16)]

SHUFFLENET_V1 = (
    Layout(
        family="shufflenet_v1",
        name="authors",
        modules={
            **MEGVII_ENDS,
            **_each(
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


def _unit(main: Mapping[str, str], *, main_name: str, side_name: str) -> Mapping[str, str]:
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
            **_each(
                [f"stage{i}.*" for i in (2, 3, 4)],
                [f"stages.{i}.*" for i in (1, 2, 3)],
                _unit(V2_MAIN, main_name="branch2", side_name="branch1"),
            ),
            "conv5.0": "head.body.conv.0",
            "conv5.1": "head.body.conv.1",
            "fc": "head.classifier",
        },
    ),
    Layout(
        family="shufflenet_v2",
        name="authors",
        modules={
            **MEGVII_ENDS,
            **_each(
                FLAT_UNITS,
                UNITS,
                _unit(V2_MAIN, main_name="branch_main", side_name="branch_proj"),
            ),
            "conv_last.0": "head.body.conv.0",
            "conv_last.1": "head.body.conv.1",
            "classifier.0": "head.classifier",
        },
        preprocessing=MEGVII_INPUT,
    ),
)


def _squeeze_excite(theirs: str, ours: str) -> Mapping[str, str]:
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
"""Where the searched plan has three depthwise convolutions in place of one."""


def _v2_plus_units() -> Mapping[str, str]:
    modules: dict[str, str] = {}
    for n, ours in enumerate(_blocks(4, 4, 8, 4)):
        main = V2_PLUS_XCEPTION if ours in XCEPTIONS else V2_PLUS_PLAIN
        unit = _unit(main, main_name="branch_main", side_name="branch_proj")
        modules |= _each([f"features.{n}"], [ours], unit)
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


def _conv_bn(pairs: Mapping[str, str]) -> Mapping[str, str]:
    """Megvii's large networks name a convolution and its norm; ours number them."""
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
            **_each(
                LARGE_UNITS,
                _blocks(10, 10, 23, 10),
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
            **_each(
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

LAYOUTS: tuple[Layout, ...] = (
    *FASTERNET,
    *MOBILENET_V1,
    *MOBILENET_V2,
    *MOBILENET_V3,
    *SHUFFLENET_V1,
    *SHUFFLENET_V2,
    *SHUFFLENET_V2_PLUS,
    *SHUFFLENET_V2_LARGE,
)
