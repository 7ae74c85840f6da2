"""MicroNet's keys: the authors', one list of blocks."""

from __future__ import annotations

from collections.abc import Mapping

from fleetfoot.weights.layout import Layout
from fleetfoot.weights.layouts.rows import blocks, each


def _table(*parts: tuple[str, str, Mapping[str, str]]) -> dict[str, str]:
    return {
        f"layers.{theirs}.{part}": f"layers.{ours}.{our_part}"
        for theirs, ours, names in parts
        for part, our_part in names.items()
    }


CONV = {"conv.0": "0", "conv.1": "1"}
FACTORED = {f"conv.{i}": str(i) for i in range(4)}
DYNAMIC = {"fc.0": "reduce", "fc.2": "expand"}

DEPTHWISE_FIRST = 3
"""Blocks without a widening 1×1, whose depthwise convolution widens."""
FIRST = _table(
    ("0", "depthwise", FACTORED),
    ("1", "depthwise_act", DYNAMIC),
    ("4", "narrow", CONV),
    ("5", "narrow_act", DYNAMIC),
)
LATER = _table(
    ("0", "widen", CONV),
    ("1", "widen_act", DYNAMIC),
    ("3", "depthwise", FACTORED),
    ("5", "depthwise_act", DYNAMIC),
    ("7", "narrow", CONV),
    ("8", "narrow_act", DYNAMIC),
)


def _authors(*depths: int) -> Layout:
    """The authors' layout: numbers of their list are divided into stages where the map halves."""
    ours = blocks(*depths)
    theirs = [f"features.{i}" for i in range(1, len(ours) + 1)]
    return Layout(
        family="micronet",
        name="authors",
        modules={
            **each(["features.0.stem.0"], ["stem.0"], FACTORED),
            **each(theirs[:DEPTHWISE_FIRST], ours[:DEPTHWISE_FIRST], FIRST),
            **each(theirs[DEPTHWISE_FIRST:], ours[DEPTHWISE_FIRST:], LATER),
            "classifier.0.linear.0": "head.body.4.linear",
            "classifier.0.linear.1": "head.body.4.norm",
            "classifier.2.linear.0": "head.classifier.linear",
            "classifier.2.linear.1": "head.classifier.norm",
        },
    )


LAYOUTS = (
    _authors(1, 1, 2, 3),  # M0, M1; each network has more blocks than those before it here, so
    _authors(1, 2, 3, 3),  # M2      that the first table that knows all of a file's keys is its own
    _authors(1, 2, 5, 4),  # M3
)
