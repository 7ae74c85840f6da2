"""The MobileNets' keys: timm's, torchvision's, d-li14's and tonylins's."""

from __future__ import annotations

from fleetfoot.weights.layout import Layout
from fleetfoot.weights.layouts.rows import blocks, each

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
"""timm names a block that does not widen like V1's block, so its layer numbers differ."""
TIMM_ENDS = {"conv_stem": "stem.0", "bn1": "stem.1", "classifier": "head.classifier"}


MOBILENET_V1 = (
    Layout(
        family="mobilenet_v1",
        name="timm",
        modules={
            **TIMM_ENDS,
            **each(["blocks.*.*"], ["stages.*.*"], TIMM_SEPARABLE),
            "conv_head": "head.body.conv.0",
            "bn2": "head.body.conv.1",
        },
    ),
)

V2_BLOCKS = blocks(1, 2, 3, 7, 4)
FEATURES = [f"features.{n}" for n in range(19)]
"""Names of V2's blocks in one flat list: the stem is number 0, the last 1×1 number 18."""

D_LI14_V2 = {
    "features.0.0": "stem.0",
    "features.0.1": "stem.1",
    **each(
        FEATURES[1:2],
        V2_BLOCKS[:1],
        {
            "conv.0": "depthwise.0",
            "conv.1": "depthwise.1",
            "conv.3": "project.0",
            "conv.4": "project.1",
        },
    ),
    **each(
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
            **each(["blocks.0.0"], V2_BLOCKS[:1], TIMM_UNEXPANDED),
            **each(blocks(2, 3, 4, 3, 3, 1, root="blocks", first=1), V2_BLOCKS[1:], TIMM_INVERTED),
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
            **each(
                FEATURES[1:2],
                V2_BLOCKS[:1],
                {
                    "conv.0.0": "depthwise.0",
                    "conv.0.1": "depthwise.1",
                    "conv.1": "project.0",
                    "conv.2": "project.1",
                },
            ),
            **each(
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

V3_BLOCKS = {"large": blocks(1, 2, 3, 6, 3), "small": blocks(1, 2, 5, 3, first=1)}
V3_TIMM = {
    "large": blocks(2, 3, 4, 2, 3, root="blocks", first=1),
    "small": blocks(2, 3, 2, 3, root="blocks", first=1),
}


def _v3_timm(size: str) -> Layout:
    ours, theirs = V3_BLOCKS[size], V3_TIMM[size]
    end = {"large": ("blocks.6.0", "stages.4.3"), "small": ("blocks.5.0", "stages.4.3")}[size]
    return Layout(
        family="mobilenet_v3",
        name=f"timm, {size}",
        modules={
            **TIMM_ENDS,
            **each(["blocks.0.0"], ours[:1], TIMM_UNEXPANDED),
            **each(theirs, ours[1:], TIMM_INVERTED),
            **each(end[:1], end[1:], {"conv": "0", "bn1": "1"}),
            "conv_head": "head.body.conv",
        },
        note="timm's weights named tf_ want padding='same' and norm_eps=1e-3, "
        "which their keys do not show",
    )


def _v3_torchvision(size: str) -> Layout:
    ours = V3_BLOCKS[size]
    features = [f"features.{n}" for n in range(len(ours) + 2)]
    # A block's layers are numbered in a row, and squeeze-excite takes a number if the block has it;
    # its keys show that: fc1 and fc2 instead of a convolution's 0 and 1.
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
            **each(features[1:2], ours[:1], unexpanded),
            **each(features[2:-1], ours[1:], expanded),
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
        "depthwise convolution; the paper's release, torchvision and timm apply it after: "
        "the shapes are the same and the function is another; "
        "take torchvision's or timm's weights",
    ),
)

LAYOUTS = (*MOBILENET_V1, *MOBILENET_V2, *MOBILENET_V3)
