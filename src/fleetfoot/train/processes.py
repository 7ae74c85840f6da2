"""A run on several processes: their number, what they agree on, and batch norms over all of them.

The processes are those of ``torch.distributed``'s default group, which the launcher made; without a
group there is one. Gradients are averaged by DistributedDataParallel. What is agreed on beside them
(to stop, a loss that is not finite) goes through a group of gloo, which does not wait for a GPU.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm


@dataclass(frozen=True)
class Processes:
    """This process among those of the run."""

    rank: int = 0
    world: int = 1
    control: Any = None
    """The group for what is agreed on; None for one process."""

    @classmethod
    def here(cls) -> Processes:
        """The processes of the default group; one if there is no group."""
        if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
            return cls()
        return cls(dist.get_rank(), dist.get_world_size(), dist.new_group(backend="gloo"))

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def largest(self, *values: int) -> tuple[int, ...]:
        """The largest of each value over all processes."""
        if self.world == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.int64)
        dist.all_reduce(tensor, dist.ReduceOp.MAX, group=self.control)
        return tuple(tensor.tolist())

    def sums(self, *values: float) -> tuple[float, ...]:
        """The sum of each value over all processes."""
        if self.world == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor, group=self.control)
        return tuple(tensor.tolist())

    def gathered(self, value: Any) -> list[Any]:
        """Every process's value, by rank."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value, group=self.control)
        return values

    def from_first(self, value: Any) -> Any:
        """The value of the first process."""
        if self.world == 1:
            return value
        held = [value]
        dist.broadcast_object_list(held, src=0, group=self.control)
        return held[0]

    def wait(self) -> None:
        """Waits until every process is here."""
        self.largest(0)

    def copy_from_first_(self, tensors: Iterable[Tensor]) -> None:
        """Gives every process the first one's values."""
        if self.world > 1:
            for tensor in tensors:
                dist.broadcast(tensor.detach(), src=0)


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """A batch norm whose statistics are those of the pictures of all processes, on any device:
    torch's own runs on GPUs alone. (B, C, H, W) -> (B, C, H, W)

    Each process must have the same number of pictures.
    """

    def forward(self, x: Tensor) -> Tensor:
        self._check_input_dim(x)
        if not self.training or not dist.is_initialized():
            return super().forward(x)
        count = x.numel() // x.shape[1] * dist.get_world_size()
        wide = x.to(self.weight.dtype if self.affine else torch.float32)  # of bf16 and fp16 too
        mean = all_reduce(wide.sum((0, 2, 3))) / count
        centred = wide - mean.view(1, -1, 1, 1)
        variance = all_reduce((centred * centred).sum((0, 2, 3))) / count
        self._track(mean.detach(), variance.detach() * (count / max(1, count - 1)))
        y = centred * (variance + self.eps).rsqrt().view(1, -1, 1, 1)
        if self.affine:
            y = y * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
        return y.to(x.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = self.momentum
        if share is None:
            share = 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean), share)
        self.running_var.lerp_(variance.to(self.running_var), share)


def synchronised(model: nn.Module, device: torch.device) -> nn.Module:
    """The network with batch norms over all processes; keys and values stay as they are."""
    if device.type == "cuda":
        made: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return made
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.__class__ = SyncedBatchNorm2d
        elif isinstance(module, _BatchNorm):
            raise ValueError(
                f"sync_bn: {type(module).__name__} is not offered on the CPU; leave it out"
            )
    return model
