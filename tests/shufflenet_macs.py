"""Multiply-adds of convolutions and linear layers, counted by hooks from weights and outputs."""

from __future__ import annotations

import torch
from torch import nn


def macs_of(model: nn.Module, example: torch.Tensor) -> int:
    """For the whole of ``example``; works on the meta device, where nothing is computed."""
    total = 0

    def count(module, inputs, output):
        nonlocal total
        values = output.numel()
        # one output value of a convolution is a product with one filter, weight[0]
        total += values * module.weight[0].numel()

    hooks = [
        module.register_forward_hook(count)
        for module in model.modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    with torch.no_grad():
        model(example)
    for hook in hooks:
        hook.remove()
    return total


def device_for(name: str) -> torch.device:
    """The meta device for the networks of gigabytes; for the others the CPU is faster."""
    return torch.device("meta" if name.endswith(("v2_large", "v2_exlarge")) else "cpu")
