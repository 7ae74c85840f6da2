"""A run on several processes: their number, and what they agree on.

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
from torch import Tensor


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
