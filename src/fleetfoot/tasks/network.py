"""The common structure of networks for tasks beside classification: a backbone's feature maps, a
head, and a rest that branches on values.

``forward`` is the fixed part: it has no branch on values, so that any engine can run it.
``decode`` makes the answer of a task from its outputs.

B batch · H W space
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from fleetfoot.weights.pretrained import PretrainedConfig

Task = Literal["detect", "segment", "hand"]

Targets = Sequence[Mapping[str, Tensor]]
"""What a picture should give, one mapping a picture; each task's networks say which tensors."""


class TaskNetwork(nn.Module):
    """Base of the networks of ``tasks``.

    ``forward(x)`` gives the fixed part's outputs by name; ``forward(x, targets)`` gives the losses
    by name, whose sum is minimised. Losses go through ``forward`` too, so that what wraps a network
    for many processes sees every parameter in use.
    """

    task: ClassVar[Task]
    with_masks: ClassVar[bool] = False
    """Whether it finds a mask for each object, and learns from masks."""
    backbone: nn.Module
    """Feature maps of a batch: a list of (B, C, H, W)."""
    num_classes: int
    """Classes of the data, numbered from 0; a background that a head adds is its own matter."""
    options: dict[str, Any]
    """The arguments that were not left at their defaults, as plain values and without the places of
    weights: what a checkpoint states, to build the network again."""
    pretrained_cfg: PretrainedConfig
    """Preprocessing, and the names of the classes if they are known."""

    def forward(self, x: Tensor, targets: Targets | None = None) -> dict[str, Tensor]:
        """Outputs of the fixed part, or the losses. (B, 3, H, W)"""
        return self.outputs(x) if targets is None else self.losses(x, targets)

    def outputs(self, x: Tensor) -> dict[str, Tensor]:
        """Outputs of the fixed part by name."""
        raise NotImplementedError

    def losses(self, x: Tensor, targets: Targets) -> dict[str, Tensor]:
        """The losses by name; each is a scalar and weighted already."""
        raise NotImplementedError

    def decode(self, outputs: Mapping[str, Tensor], size: tuple[int, int]) -> Any:
        """The task's answer for each picture.

        Args:
            outputs: what ``outputs`` gave, from whatever engine.
            size: height and width of the input, in pixels.
        """
        raise NotImplementedError

    def whole(self) -> nn.Module:
        """The network as it is counted: the fixed part, and what has weights after it, on a fixed
        amount of work. Its ``note`` says how much, if there is any."""
        return self

    def parts(self) -> dict[str, tuple[str, ...]]:
        """Names of the submodules of each part of the network, in the order in which they run:
        ``backbone``, ``neck`` and ``head``; what decodes has none."""
        raise NotImplementedError
