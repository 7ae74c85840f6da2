"""MobileOne's and FastViT's keys: Apple's and timm's, in the training form and folded."""

from __future__ import annotations

from collections.abc import Mapping

from fleetfoot.weights.folded import FOLDED, NOTE, unfold
from fleetfoot.weights.layout import Layout
from fleetfoot.weights.layouts.rows import blocks, each

SUM = {
    "authors": {
        "rbr_conv.*.conv": "branches.conv*.0",
        "rbr_conv.*.bn": "branches.conv*.1",
        "rbr_scale.conv": "branches.scale.0",
        "rbr_scale.bn": "branches.scale.1",
        "rbr_skip": "branches.skip",
    },
    "timm": {
        "conv_kxk.*.conv": "branches.conv*.0",
        "conv_kxk.*.bn": "branches.conv*.1",
        "conv_scale.conv": "branches.scale.0",
        "conv_scale.bn": "branches.scale.1",
        "identity": "branches.skip",
    },
}
"""Names of a block's branches: both libraries number the K×K ones and name the other two."""

FOLDED_SUM = {"reparam_conv": FOLDED}


def _block(parts: Mapping[str, str], excite: tuple[str, str]) -> dict[str, str]:
    """A MobileOne block: its sum of branches, and squeeze-and-excitation if it has one."""
    reduce, expand = excite
    return {theirs: f"sum.{ours}" for theirs, ours in parts.items()} | {
        reduce: "squeeze_excite.reduce",
        expand: "squeeze_excite.expand",
    }


# MobileOne: depthwise and pointwise blocks alternate in one list a stage

MOBILEONE_DEPTHS = (2, 8, 10, 1)
MOBILEONE_OURS = [
    f"{block}.{part}" for block in blocks(*MOBILEONE_DEPTHS) for part in ("depthwise", "pointwise")
]


def _mobileone(whose: str, form: str, parts: Mapping[str, str]) -> Layout:
    if whose == "authors":
        stem, linear, block = "stage0", "linear", _block(parts, ("se.reduce", "se.expand"))
        theirs = [
            f"stage{i}.{j}" for i, depth in enumerate(MOBILEONE_DEPTHS, 1) for j in range(2 * depth)
        ]
    else:
        stem, linear, block = "stem", "head.fc", _block(parts, ("attn.fc1", "attn.fc2"))
        theirs = blocks(*(2 * depth for depth in MOBILEONE_DEPTHS))
    folded = form == "folded"
    return Layout(
        family="mobileone",
        name=f"{whose}, {form}" if folded else whose,
        modules={
            **each([stem, *theirs], ["stem", *MOBILEONE_OURS], block),
            linear: "head.classifier",
        },
        fill=unfold if folded else None,
        note=NOTE if folded else "",
    )


# FastViT


def _fastvit(whose: str, form: str, parts: Mapping[str, str]) -> Layout:
    folded = form == "folded"
    if folded:
        mixer = {"token_mixer.reparam_conv": f"mixer.{FOLDED}"}
    else:
        skip = next(theirs for theirs, ours in parts.items() if ours == "branches.skip")
        mixer = {
            f"token_mixer.mixer.{theirs}": f"mixer.mix.{ours}" for theirs, ours in parts.items()
        }
        mixer[f"token_mixer.norm.{skip}"] = "mixer.norm"
    tables = _authors_fastvit if whose == "authors" else _timm_fastvit
    return Layout(
        family="fastvit",
        name=f"{whose}, {form}" if folded else whose,
        modules=tables(parts, mixer, folded),
        fill=unfold if folded else None,
        note=NOTE if folded else "",
    )


def _authors_fastvit(
    parts: Mapping[str, str], mixer: Mapping[str, str], folded: bool
) -> dict[str, str]:
    """Names of Apple's single list ``network``: stages at 0, 2, 4 and patch embeddings at 1, 3, 5;
    at 6 the last stage, or the positional encoding, followed by the last stage at 7."""
    block = _block(parts, ("se.reduce", "se.expand"))
    unit = {
        **mixer,
        "token_mixer.layer_scale": "mixer.layer_scale",
        "token_mixer.qkv": "attention.qkv",
        "token_mixer.proj": "attention.project",
        "norm": "norm",
        "layer_scale": "layer_scale",
        "layer_scale_1": "layer_scale_1",
        "layer_scale_2": "layer_scale_2",
        "convffn.conv.conv": "ffn.conv.0",
        "convffn.conv.bn": "ffn.conv.1",
        "convffn.fc1": "ffn.expand",
        "convffn.fc2": "ffn.project",
    }
    large = {
        "lkb_origin.conv": "large.0",
        "lkb_origin.bn": "large.1",
        "small_conv.conv": "small.0",
        "small_conv.bn": "small.1",
    }
    stages = [*((2 * i, i) for i in range(4)), (7, 3)]
    embeds = [(2 * i - 1, i) for i in range(1, 4)]
    return {
        **each(["patch_embed.*"], ["stem.*"], block),
        **each(
            [f"network.{theirs}.*" for theirs, _ in stages],
            [f"stages.{ours}.blocks.*" for _, ours in stages],
            unit,
        ),
        **each(
            [f"network.{theirs}.proj.0" for theirs, _ in embeds],
            [f"stages.{ours}.embed.0" for _, ours in embeds],
            {"lkb_reparam": FOLDED} if folded else large,
        ),
        **each(
            [f"network.{theirs}.proj.1" for theirs, _ in embeds],
            [f"stages.{ours}.embed.1" for _, ours in embeds],
            block,
        ),
        **(
            {"network.6.reparam_conv": f"stages.3.position.{FOLDED}"}
            if folded
            else {"network.6.pe": "stages.3.position.conv"}
        ),
        **each(["conv_exp"], ["head.body.0"], block),
        "head": "head.classifier",
    }


def _timm_fastvit(
    parts: Mapping[str, str], mixer: Mapping[str, str], folded: bool
) -> dict[str, str]:
    block = _block(parts, ("se.fc1", "se.fc2"))
    unit = {
        **mixer,
        "token_mixer.layer_scale.gamma": "mixer.layer_scale",
        "token_mixer.qkv": "attention.qkv",
        "token_mixer.proj": "attention.project",
        "norm": "norm",
        "layer_scale.gamma": "layer_scale",
        "layer_scale_1.gamma": "layer_scale_1",
        "layer_scale_2.gamma": "layer_scale_2",
        "mlp.conv.conv": "ffn.conv.0",
        "mlp.conv.bn": "ffn.conv.1",
        "mlp.fc1": "ffn.expand",
        "mlp.fc2": "ffn.project",
    }
    large = {
        "large_conv.conv": "large.0",
        "large_conv.bn": "large.1",
        "small_conv.conv": "small.0",
        "small_conv.bn": "small.1",
    }
    return {
        **each(["stem.*"], ["stem.*"], block),
        **each(["stages.*.blocks.*"], ["stages.*.blocks.*"], unit),
        **each(
            ["stages.*.downsample.proj.0"],
            ["stages.*.embed.0"],
            FOLDED_SUM if folded else large,
        ),
        **each(["stages.*.downsample.proj.1"], ["stages.*.embed.1"], block),
        **(
            {"stages.3.pos_emb.reparam_conv": f"stages.3.position.{FOLDED}"}
            if folded
            else {"stages.3.pos_emb.pos_enc": "stages.3.position.conv"}
        ),
        **each(["final_conv"], ["head.body.0"], block),
        "head.fc": "head.classifier",
    }


LAYOUTS = tuple(
    make(whose, form, parts)
    for make in (_mobileone, _fastvit)
    for whose in ("authors", "timm")
    for form, parts in (("train", SUM[whose]), ("folded", FOLDED_SUM))
)
