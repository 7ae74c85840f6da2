"""Batch norms whose statistics are those of the pictures of all processes.

On GPUs they are torch's own SyncBatchNorm, which refuses the CPU; here is one for it. A layer sends
2 C values in the forward pass (mean and sum of squares about it, which all processes gather) and
2 C in the backward pass (the sums of dy and of dy z, which they add up).

B batch · C channels · H W space · n values of a channel in a process · R processes
z normalised x: (x - mean) / √(var + eps)
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from timm.layers.norm_act import BatchNormAct2d, convert_sync_batchnorm
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm


class _Normalise(torch.autograd.Function):
    """x -> y = (x - mean) / √(var + eps) · weight + bias, mean and var over all processes.

    dx = weight / √(var + eps) · (dy - E[dy] - z E[dy z]),  E over all processes
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """y, and the mean and variance by which it is made, both (C,)."""
        kind = torch.float32 if weight is None else weight.dtype
        wide = x.to(torch.promote_types(x.dtype, kind))  # of bf16 and fp16 too
        axes, count = _axes(x), x.numel() // x.shape[1]
        variance, mean = torch.var_mean(wide, axes, correction=0)
        mine = torch.cat((mean, variance * count))
        parts = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, mine)
        means, squares = torch.stack(parts).chunk(2, dim=1)  # (R, C)
        mean = means.mean(0)
        total = count * len(parts)
        variance = (squares.sum(0) + count * (means - mean).square().sum(0)) / total
        scale = (variance + eps).rsqrt()
        ctx.save_for_backward(x, weight, mean, scale)
        ctx.total = total
        if weight is not None:
            scale = scale * weight
        shift = -mean * scale if bias is None else bias - mean * scale
        y = torch.addcmul(_wide(shift, x), wide, _wide(scale, x)).to(x.dtype)
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, scale = ctx.saved_tensors
        axes = _axes(x)
        wide = dy.to(mean.dtype)
        normal = (x.to(mean.dtype) - _wide(mean, x)) * _wide(scale, x)
        d_bias = wide.sum(axes)
        d_weight = (wide * normal).sum(axes)
        sums = torch.cat((d_bias, d_weight))
        dist.all_reduce(sums)
        mean_dy, mean_dy_normal = (sums / ctx.total).chunk(2)
        dx = wide - _wide(mean_dy, x) - normal * _wide(mean_dy_normal, x)
        dx *= _wide(scale if weight is None else scale * weight, x)
        return (
            dx.to(x.dtype),
            d_weight if ctx.needs_input_grad[1] else None,
            d_bias if ctx.needs_input_grad[2] else None,
            None,
        )


def _axes(x: Tensor) -> list[int]:
    return [axis for axis in range(x.dim()) if axis != 1]


def _wide(values: Tensor, like: Tensor) -> Tensor:
    """(C,) -> (1, C, 1, ...)"""
    return values.view(1, -1, *[1] * (like.dim() - 2))


class _Synced(_BatchNorm):
    """What the batch norms below share. Each process must have the same number of pictures."""

    @torch.compiler.disable
    def normalised(self, x: Tensor) -> Tensor:
        """x after the batch norm. (B, C, ...) -> (B, C, ...)"""
        self._check_input_dim(x)
        if not (self.training and dist.is_initialized()):
            made: Tensor = _BatchNorm.forward(self, x)
            return made
        y, mean, variance = _Normalise.apply(x, self.weight, self.bias, self.eps)
        self._track(mean, variance, x.numel() // x.shape[1] * dist.get_world_size())
        return y

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, total: int) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = self.momentum
        if share is None:
            share = 1 / float(self.num_batches_tracked)
        unbiased = variance * (total / max(1, total - 1))
        self.running_mean.lerp_(mean.to(self.running_mean), share)
        self.running_var.lerp_(unbiased.to(self.running_var), share)


class SyncedBatchNorm1d(_Synced, nn.BatchNorm1d):
    def forward(self, x: Tensor) -> Tensor:
        return self.normalised(x)


class SyncedBatchNorm2d(_Synced, nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return self.normalised(x)


class SyncedBatchNorm3d(_Synced, nn.BatchNorm3d):
    def forward(self, x: Tensor) -> Tensor:
        return self.normalised(x)


class SyncedBatchNormAct2d(_Synced, BatchNormAct2d):
    """timm's: an activation follows the batch norm."""

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.drop(self.normalised(x)))


SYNCED: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: SyncedBatchNorm1d,
    nn.BatchNorm2d: SyncedBatchNorm2d,
    nn.BatchNorm3d: SyncedBatchNorm3d,
    BatchNormAct2d: SyncedBatchNormAct2d,
}


def synchronised(model: nn.Module, device: torch.device) -> nn.Module:
    """The network with batch norms over all processes; keys and values stay as they are.

    Raises:
        ValueError: a batch norm is of a class of its own, whose forward is not known.
    """
    for path, module in model.named_modules():
        if isinstance(module, _BatchNorm) and type(module) not in SYNCED:
            raise ValueError(
                f"sync_bn: {path} is a {type(module).__name__}, for which no synchronised form is "
                "known; leave sync_bn out"
            )
    if device.type == "cuda":
        made: nn.Module = convert_sync_batchnorm(model)
        return made
    for module in model.modules():
        if type(module) in SYNCED:
            module.__class__ = SYNCED[type(module)]
    return model
