"""Multiply-adds counted by hooks from weights and shapes, apart from the package's own counter so
that the two can disagree."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from fleetfoot.ops.attention import Attention


@dataclass
class Macs:
    layers: int = 0
    """Convolutions and linear layers; norms, activations and pooling count as 0."""
    attention: int = 0
    """The products Q Kᵀ and A V."""


def macs_of(model: nn.Module, example: torch.Tensor) -> Macs:
    """For the whole of ``example``; works on the meta device, where nothing is computed."""
    total = Macs()

    def layer(module, inputs, output):
        # a value of the output is one product with one filter, weight[0]
        total.layers += output.numel() * module.weight[0].numel()

    def attention(module, inputs, output):
        batch, channels, height, width = output.shape
        tokens = height * width
        # (N, D) by (D, N) and (N, N) by (N, D) in each head; the heads' D add up to C
        total.attention += batch * 2 * tokens * tokens * channels

    hooks = [
        module.register_forward_hook(attention if isinstance(module, Attention) else layer)
        for module in model.modules()
        if isinstance(module, nn.Conv2d | nn.Linear | Attention)
    ]
    with torch.no_grad():
        model(example)
    for hook in hooks:
        hook.remove()
    return total


def device_for(name: str) -> torch.device:
    """The meta device for the networks of gigabytes; for the others the CPU is faster."""
    return torch.device("meta" if name.endswith(("v2_large", "v2_exlarge")) else "cpu")
