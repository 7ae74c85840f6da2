"""The activations of the zoo, by name.

hard_swish(x) = x * relu6(x + 3) / 6, hard_sigmoid(x) = relu6(x + 3) / 6: Howard et al. 2019,
"Searching for MobileNetV3", https://arxiv.org/abs/1905.02244, section 5.2. relu6: MobileNetV1's
and V2's. gelu is the exact one (erf).
"""

from __future__ import annotations

from typing import Literal

from torch import nn

Activation = Literal["relu", "relu6", "gelu", "hard_swish", "hard_sigmoid", "sigmoid", "identity"]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "gelu": nn.GELU,
    "hard_swish": nn.Hardswish,
    "hard_sigmoid": nn.Hardsigmoid,
    "sigmoid": nn.Sigmoid,
    "identity": nn.Identity,
}


def activation(name: Activation) -> nn.Module:
    """The module for an activation's name; any shape in, the same shape out.

    Raises:
        ValueError: no activation has that name.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"unknown activation {name!r}; one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()
