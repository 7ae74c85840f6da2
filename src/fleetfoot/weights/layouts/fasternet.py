"""FasterNet's keys: the authors' and timm's, which numbers the stages differently."""

from __future__ import annotations

from fleetfoot.weights.layout import Layout
from fleetfoot.weights.layouts.rows import each

BLOCK = {
    "spatial_mixing.partial_conv3": "pconv.conv",
    "mlp.0": "expand",
    "mlp.1": "norm",
    "mlp.3": "project",
}

LAYOUTS = (
    Layout(
        family="fasternet",
        name="authors",
        modules={
            "patch_embed.proj": "stem.0",
            "patch_embed.norm": "stem.1",
            # stages 0, 2, 4, 6 of the authors' list are blocks, 1, 3, 5 the merging between them
            **each(
                [f"stages.{2 * i}.blocks.*" for i in range(4)],
                [f"stages.{i}.blocks.*" for i in range(4)],
                BLOCK,
            ),
            **each(
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
            **each(["stages.*.blocks.*"], ["stages.*.blocks.*"], BLOCK),
            "stages.*.downsample.reduction": "stages.*.merge.0",
            "stages.*.downsample.norm": "stages.*.merge.1",
            "conv_head": "head.body.1",
            "classifier": "head.classifier",
        },
    ),
)
