"""CycleMLP's keys: the authors', with one list for stages and the merging between them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from fleetfoot.weights.layout import Layout
from fleetfoot.weights.layouts.rows import each

STEP = 3
"""Offsets in the authors' cyclic layers, which read channel c at (c + 1) mod 3 - 1 pixels."""

BLOCK = {
    "norm1": "mixer_norm",
    "attn.sfc_h": "mixer.along_width.linear",
    "attn.sfc_w": "mixer.along_height.linear",
    "attn.mlp_c": "mixer.in_place",
    "attn.reweight.fc1": "mixer.weigh.0",
    "attn.reweight.fc2": "mixer.weigh.2",
    "attn.proj": "mixer.project",
    "norm2": "mlp_norm",
    "mlp.fc1": "mlp.0",
    "mlp.fc2": "mlp.2",
}


def _by_offset(tensors: dict[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Sorts the columns of the cyclic layers by offset: the authors' are in order of channels."""
    for key, weight in tensors.items():
        if key.endswith((".along_width.linear.weight", ".along_height.linear.weight")):
            channels = weight.shape[1]
            order = [c for first in range(STEP) for c in range(first, channels, STEP)]
            tensors[key] = weight[:, order]


LAYOUTS = (
    Layout(
        family="cyclemlp",
        name="authors",
        modules={
            "patch_embed.proj": "stem",
            # numbers 0, 2, 4, 6 of the authors' list are stages, 1, 3, 5 the merging between them
            **each(
                [f"network.{2 * i}.*" for i in range(4)],
                [f"stages.{i}.blocks.*" for i in range(4)],
                BLOCK,
            ),
            **each(
                [f"network.{2 * i - 1}" for i in range(1, 4)],
                [f"stages.{i}" for i in range(1, 4)],
                {"proj": "merge"},
            ),
            "norm": "head.body.0.norm",
            "head": "head.classifier",
        },
        useless=("offset",),
        options={"step": STEP},
        fill=_by_offset,
    ),
)
