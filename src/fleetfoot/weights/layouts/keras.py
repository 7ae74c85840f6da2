"""Keras's MobileNets, by the names of their layers and, as Keras 3 saves them, by position.

``keras.applications`` names its layers in the code of each network. A file by name holds them as
groups (``Conv1/Conv1/kernel:0``) or as variables (``Conv1/kernel``); older V3 files write
``expanded_conv/depthwise/BatchNorm`` where newer ones write ``expanded_conv_depthwise_bn``. Keras 3
numbers the layers of each class in their order instead: ``layers/conv2d_3/vars/0``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from fleetfoot.weights.layout import Layout
from fleetfoot.weights.layouts.rows import blocks

LEAVES = {
    "kernel": "weight",
    "depthwise_kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "bias": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
VARS = {
    "conv2d": ("weight", "bias"),
    "depthwise_conv2d": ("weight", "bias"),
    "dense": ("weight", "bias"),
    "batch_normalization": ("weight", "bias", "running_mean", "running_var"),
}
"""Variables of each class of layers in the order in which Keras 3 saves them."""

FORM: Mapping[str, Any] = {"padding": "same", "norm_eps": 1e-3}
INPUT = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}

Rows = list[tuple[str, str, str]]
"""Layers in Keras's order: class, name in lower case, our module."""


def words(key: str) -> str:
    """A Keras key in lower case, with dots: ``Conv1/Conv1/kernel:0`` -> ``conv1.kernel``.

    >>> words("expanded_conv/depthwise/BatchNorm/gamma:0")
    'expanded_conv_depthwise_bn.gamma'
    """
    *path, leaf = key.partition(":")[0].split("/")
    half = len(path) // 2
    if path[:half] == path[half:]:  # the group of a layer, and the layer again
        path = path[half:]
    return f"{'_'.join(path).replace('BatchNorm', 'bn').lower()}.{leaf}"


def positions(key: str) -> str:
    """A key of Keras 3 with dots, without what comes before the list of layers.

    >>> positions("_layer_checkpoint_dependencies/conv2d/vars/0")
    'conv2d.vars.0'
    """
    return re.sub(r"^(layers|_layer_checkpoint_dependencies)\.", "", key.replace("/", "."))


def turned(array: Tensor) -> Tensor:
    """A Keras kernel in PyTorch's order of dimensions.

    (K, K, Ci, Co) -> (Co, Ci, K, K); depthwise (K, K, C, 1) -> (C, 1, K, K); dense (Ci, Co) ->
    (Co, Ci)
    """
    if array.ndim == 2:
        return array.T
    if array.ndim != 4:
        return array
    return array.permute(2, 3, 0, 1) if array.shape[3] == 1 else array.permute(3, 2, 0, 1)


def _by_name(family: str, size: str, rows: Rows, form: Mapping[str, Any]) -> Layout:
    return Layout(
        family=family,
        name=f"keras, {size}" if size else "keras",
        modules={name: ours for _, name, ours in rows},
        leaves=LEAVES,
        plain=words,
        turn=turned,
        options=form,
        preprocessing=INPUT,
    )


def _numbered(family: str, size: str, rows: Rows, form: Mapping[str, Any]) -> Layout:
    return Layout(
        family=family,
        name=f"keras 3, {size}" if size else "keras 3",
        modules=_by_position(rows),
        leaves={},
        plain=positions,
        turn=turned,
        options=form,
        preprocessing=INPUT,
    )


def _by_position(rows: Rows) -> dict[str, str]:
    """Keras 3's keys: each layer by its class and its number among those of the class."""
    seen = Counter[str]()
    found: dict[str, str] = {}
    for kind, _, ours in rows:
        name = f"{kind}_{seen[kind]}" if seen[kind] else kind
        seen[kind] += 1
        found |= {f"{name}.vars.{i}": f"{ours}.{leaf}" for i, leaf in enumerate(VARS[kind])}
    return found


def _pair(kind: str, name: str, norm: str, ours: str) -> Rows:
    """A convolution and the batch norm that follows it."""
    return [(kind, name, f"{ours}.0"), ("batch_normalization", norm, f"{ours}.1")]


def _v1() -> Rows:
    rows = _pair("conv2d", "conv1", "conv1_bn", "stem")
    for n, ours in enumerate(blocks(1, 2, 2, 6, 2), 1):
        rows += _pair("depthwise_conv2d", f"conv_dw_{n}", f"conv_dw_{n}_bn", f"{ours}.depthwise")
        rows += _pair("conv2d", f"conv_pw_{n}", f"conv_pw_{n}_bn", f"{ours}.pointwise")
    return [*rows, ("conv2d", "conv_preds", "head.classifier")]


def _block(name: str, ours: str, *, expand: bool, squeeze: bool = False) -> Rows:
    """An inverted residual. ``name`` is its prefix."""
    rows: Rows = []
    if expand:
        rows += _pair("conv2d", f"{name}expand", f"{name}expand_bn", f"{ours}.expand")
    rows += _pair(
        "depthwise_conv2d", f"{name}depthwise", f"{name}depthwise_bn", f"{ours}.depthwise"
    )
    if squeeze:
        part = f"{ours}.squeeze_excite"
        rows += [
            ("conv2d", f"{name}squeeze_excite_conv", f"{part}.reduce"),
            ("conv2d", f"{name}squeeze_excite_conv_1", f"{part}.expand"),
        ]
    return rows + _pair("conv2d", f"{name}project", f"{name}project_bn", f"{ours}.project")


def _v2() -> Rows:
    rows = _pair("conv2d", "conv1", "bn_conv1", "stem")
    for n, ours in enumerate(blocks(1, 2, 3, 7, 4)):
        rows += _block(f"block_{n}_" if n else "expanded_conv_", ours, expand=n > 0)
    rows += _pair("conv2d", "conv_1", "conv_1_bn", "head.body.conv")
    return [*rows, ("dense", "predictions", "head.classifier")]


def _v3(ours: list[str], squeezed: Iterable[int]) -> Rows:
    rows = _pair("conv2d", "conv", "conv_bn", "stem")
    squeezing = set(squeezed)
    for n, block in enumerate(ours):
        name = f"expanded_conv_{n}_" if n else "expanded_conv_"
        rows += _block(name, block, expand=n > 0, squeeze=n in squeezing)
    rows += _pair("conv2d", "conv_1", "conv_1_bn", "stages.4.3")
    return [*rows, ("conv2d", "conv_2", "head.body.conv"), ("conv2d", "logits", "head.classifier")]


LARGE, SMALL = blocks(1, 2, 3, 6, 3), blocks(1, 2, 5, 3, first=1)

V1 = ("mobilenet_v1", "", _v1(), {**FORM, "act": "relu6"})
V2 = ("mobilenet_v2", "", _v2(), FORM)
V3_LARGE = ("mobilenet_v3", "large", _v3(LARGE, [3, 4, 5, *range(10, 15)]), FORM)
V3_SMALL = ("mobilenet_v3", "small", _v3(SMALL, [0, *range(3, 11)]), FORM)
MINIMAL = (  # by name they are the tables above, with less in them
    ("mobilenet_v3", "large minimalistic", _v3(LARGE, ()), FORM),
    ("mobilenet_v3", "small minimalistic", _v3(SMALL, ()), FORM),
)

LAYOUTS = (
    *(_by_name(*one) for one in (V1, V2, V3_LARGE, V3_SMALL)),
    *(_numbered(*one) for one in (V1, V2, V3_LARGE, V3_SMALL, *MINIMAL)),
)
