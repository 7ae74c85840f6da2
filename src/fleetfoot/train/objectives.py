"""What a run is for: which inputs it makes of pictures, which loss it minimises, and how its
network is judged. Everything else in training is the same for every task.

b pictures of a batch · C channels · H W space
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from fleetfoot.data.loader import Batch
from fleetfoot.data.making import Maker
from fleetfoot.train.building import Built
from fleetfoot.train.config import Recipe
from fleetfoot.train.figures import MEASURED, Figure, Kind, Measured

if TYPE_CHECKING:
    from fleetfoot.train.learner import Learner


class Objective(ABC):
    """The part of a run that depends on its task.

    A meter is what judges: any object that can be sent to other processes. Meters of parts of the
    pictures add up (``together``) to that of all of them.
    """

    task: ClassVar[Kind]
    uses_all: ClassVar[bool]
    """Whether every parameter has a gradient in every update. Several processes then need not look
    for those without one."""

    def __init__(self, built: Built, recipe: Recipe) -> None:
        self.built, self.recipe = built, recipe

    @property
    def measured(self) -> Measured:
        return MEASURED[self.task]

    @property
    def deciding(self) -> Figure:
        """The figure by which the best weights are chosen."""
        return self.measured.deciding

    @abstractmethod
    def size(self, epoch: int) -> int | tuple[int, int]:
        """Height and width of the pictures in training, for the epoch's row."""

    @abstractmethod
    def training(self, part: Any) -> Maker:
        """What makes the inputs of training."""

    @abstractmethod
    def evaluation(self, part: Any) -> Maker:
        """What makes the inputs of an evaluation."""

    @abstractmethod
    def to_(self, device: torch.device, dtype: torch.dtype) -> None:
        """Brings what the objective itself computes with, for example a teacher, to a device."""

    @abstractmethod
    def loss(self, learner: Learner, batch: Batch) -> Tensor:
        """The loss of a batch, a scalar in the learner's type. The network is called through
        ``learner.forward``, which is the one that several processes share."""

    @abstractmethod
    def meter(self, part: Any) -> Any:
        """A new meter for the pictures of a part, which has judged nothing."""

    @abstractmethod
    def judge(
        self, meter: Any, part: Any, module: nn.Module, x: Tensor, batch: Batch, learner: Learner
    ) -> None:
        """Judges a network in eval mode by a batch.

        Args:
            part: where the batch's pictures are from.
            x: the batch's inputs, normalised, (b, C, H, W).
        """

    @abstractmethod
    def together(self, meters: Sequence[Any]) -> Any:
        """The meter of all pictures, from those of its parts in order."""

    @abstractmethod
    def figures(self, meter: Any) -> Mapping[str, Any]:
        """The figures of ``measured`` by name, ``images`` (their number), and whatever else the
        meter has to say."""
