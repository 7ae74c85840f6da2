"""What several tests need: networks whose batch norms and scales are not trivial, and copied
weights."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def trained_(model: nn.Module, seed: int = 0) -> nn.Module:
    """Gives every batch norm, layer scale and bias a value that is not trivial, in place.

    A fresh batch norm is nearly the identity and would hide a wrong formula.
    """
    rng = torch.Generator().manual_seed(seed)

    def uniform(like: torch.Tensor, low: float, high: float) -> torch.Tensor:
        drawn = torch.rand(like.shape, generator=rng, dtype=torch.float64) * (high - low) + low
        return drawn.to(like)

    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.copy_(uniform(module.running_mean, -0.2, 0.2))
            module.running_var.copy_(uniform(module.running_var, 0.5, 1.5))
            if module.affine:
                module.weight.copy_(uniform(module.weight, 0.7, 1.3))
                module.bias.copy_(uniform(module.bias, -0.2, 0.2))
        elif isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            module.bias.copy_(uniform(module.bias, -0.2, 0.2))
    for name, parameter in model.named_parameters():
        if "layer_scale" in name or name.endswith("gamma"):
            parameter.copy_(uniform(parameter, 0.3, 0.7))
    return model


def trainable(model: nn.Module) -> int:
    """Number of learned values."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
