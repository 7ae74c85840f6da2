"""Multiply-adds counted by hooks from weights and shapes, apart from the package's own counter so
that the two can disagree."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from fleetfoot.ops.attention import Attention, CrossAttention


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

    def cross_attention(module, inputs, output):
        (batch, reading, channels), seen = inputs[0].shape, inputs[1].shape[1]
        total.attention += batch * 2 * reading * seen * channels

    kinds = {
        nn.Conv2d: layer,
        nn.Linear: layer,
        Attention: attention,
        CrossAttention: cross_attention,
    }
    hooks = [
        module.register_forward_hook(hook)
        for module in model.modules()
        for kind, hook in kinds.items()
        if isinstance(module, kind)
    ]
    with torch.no_grad():
        model(example)
    for hook in hooks:
        hook.remove()
    return total


def device_for(name: str) -> torch.device:
    """The meta device for the networks of gigabytes; for the others the CPU is faster."""
    return torch.device("meta" if name.endswith(("v2_large", "v2_exlarge")) else "cpu")
