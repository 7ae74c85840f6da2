"""Mobile-Former's keys: the authors', one list of blocks."""

from __future__ import annotations

from fleetfoot.weights.layout import Layout
from fleetfoot.weights.layouts.rows import each

LITE = {
    "conv.0": "depthwise.0",
    "conv.1": "depthwise.1",
    "conv.4": "pointwise.0",
    "conv.5": "pointwise.1",
}
TO_TOKENS = {
    "q": "query",
    "alpha.0": "weigh.0",
    "proj": "project",
    "layer_norm": "norm",
}
BRIDGES = {
    **{f"local_global.{theirs}": f"to_tokens.{ours}" for theirs, ours in TO_TOKENS.items()},
    "global_block.q": "former.query",
    "global_block.channel_mlp": "former.project",
    "global_block.layer_norm": "former.norm",
    "global_block.ffn.0": "former.mlp.0",
    "global_block.ffn.2": "former.mlp.2",
    "global_block.ffn_norm": "former.mlp_norm",
    "global_local.k": "to_map.key",
    "global_local.proj": "to_map.value",
}
"""Modules of every block with tokens."""


def _mobile(convs: tuple[str, ...], acts: dict[int, str]) -> dict[str, str]:
    """A block's convolutions by their number from 1, and its token-controlled ReLUs."""
    return {
        **{f"conv{i}.{n}": f"mobile.{conv}.{n}" for i, conv in enumerate(convs, 1) for n in (0, 1)},
        **{f"hyper{i}.hyper.0": f"mobile.{act}.reduce" for i, act in acts.items()},
        **{f"hyper{i}.hyper.2": f"mobile.{act}.expand" for i, act in acts.items()},
        **BRIDGES,
    }


MOBILE = _mobile(("expand", "depthwise", "project"), {1: "expand_act", 2: "depthwise_act"})
DOWNSAMPLE = _mobile(("first", "narrow", "second", "project"), {1: "first_act", 3: "second_act"})


def _authors(*depths: int, lite: str) -> Layout:
    """The authors' layout. The first block of a stage halves the map, except in a stage that opens
    with the block without tokens."""
    modules = each(["features.0"], [lite], LITE)
    number = 1
    for i, depth in enumerate(depths):
        for j in range(depth):
            parts = MOBILE if j or (i == 0 and lite != "stem.1") else DOWNSAMPLE
            modules |= each([f"features.{number}"], [f"stages.{i}.blocks.{j}"], parts)
            number += 1
    stem = "stem.0" if lite == "stem.1" else "stem"
    return Layout(
        family="mobile_former",
        name="authors",
        modules={
            "tokens.weight": "tokens",
            "stem.0": f"{stem}.0",
            "stem.1": f"{stem}.1",
            **modules,
            **each(["local_global"], ["head.body.to_tokens"], TO_TOKENS),
            "classifier.conv.1": "head.body.conv.0",
            "classifier.conv.2": "head.body.conv.1",
            "classifier.fc.0": "head.body.linear",
            "classifier.fc.1": "head.body.norm",
            "classifier.classifier.1": "head.classifier",
        },
    )


LAYOUTS = (
    _authors(2, 2, 4, 3, lite="stem.1"),  # 508M to 151M
    _authors(1, 2, 3, 2, lite="stem.1"),  # 96M
    _authors(1, 2, 3, 2, lite="stages.0.lite"),  # 52M and 26M
)
