"""Multiply-adds of convolutions and linear layers, counted from shapes while a model runs.

Written apart from the package's own counter, so that the two can disagree.
"""

from __future__ import annotations

import torch
from torch import nn


def conv_and_linear_macs(model: nn.Module, *size: int) -> int:
    """Of one eval-mode run on an input of ``size``; norms, activations and pooling count as 0."""
    total = 0

    def count(layer: nn.Module, _: tuple[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal total
        weights_an_output = layer.weight.numel() // layer.weight.shape[0]
        total += output.numel() * weights_an_output

    hooks = [
        layer.register_forward_hook(count)
        for layer in model.modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    with torch.no_grad():
        model.eval()(torch.zeros(size))
    for hook in hooks:
        hook.remove()
    return total
