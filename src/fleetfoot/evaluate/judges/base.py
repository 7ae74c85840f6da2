"""What every task's judge has in common: the meter of the task, and what follows from it.

P pictures · R sets of pictures
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fleetfoot.data.placement import Placement
from fleetfoot.data.scenes import Scenes, SceneSet, Target
from fleetfoot.evaluate.bootstrap import Numbers, Weights
from fleetfoot.tasks.network import Task, TaskNetwork


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One figure of an evaluation, for people."""

    name: str
    title: str
    says: str
    """What it means, in a few words."""
    unit: str = "%"
    """``%``; "" for a share from 0 to 1; or a unit of length."""
    rises: bool = True
    """Whether a higher number is a better one."""

    def text(self, value: float | None) -> str:
        """The number with its unit; a dash if there is none.

        >>> Metric(name="ap", title="AP", says="").text(40.25)
        '40.25 %'
        """
        return "-" if value is None else f"{self.number(value)} {self.unit}".rstrip()

    def number(self, value: float) -> str:
        """The number alone: shares from 0 to 1 with three decimals, others with two."""
        return f"{value:.2f}" if self.unit else f"{value:.3f}"


class Judge(ABC):
    """Judges the answers of one network.

    The meter holds what was counted of each picture, so a judge can be made again from a record.
    """

    task: ClassVar[Task]
    metrics: ClassVar[tuple[Metric, ...]]
    """The figures that are shown. The first decides which network is the better one."""
    columns: ClassVar[tuple[str, ...]]
    """What ``rows`` says of a picture."""
    meter: Any

    @property
    def score(self) -> float | None:
        """The score from which on an answer is shown; None if answers have no score."""
        return None

    @classmethod
    @abstractmethod
    def new(
        cls,
        network: TaskNetwork,
        scenes: SceneSet,
        part: Scenes,
        classes: NDArray[np.int64] | None,
    ) -> Judge:
        """A judge that has judged nothing.

        Args:
            classes: class of the data for each class of the network, -1 for none. Default: the same
                numbers.
        """

    @classmethod
    @abstractmethod
    def of_json(cls, meter: dict[str, Any]) -> Judge:
        """The judge whose meter's ``as_json`` this is.

        Raises:
            RecordError: it is not; the message says where.
        """

    def answers(
        self,
        network: TaskNetwork,
        outputs: Mapping[str, Tensor],
        size: tuple[int, int],
        placements: Sequence[Placement],
    ) -> Sequence[Any]:
        """The network's answer for each picture.

        Args:
            outputs: those of the fixed part.
            size: height and width of the input, in pixels.
            placements: where each picture lies in the input.
        """
        found: Sequence[Any] = network.decode(outputs, size)
        return found

    @abstractmethod
    def judge(self, number: int, answer: Any, placement: Placement, target: Target) -> None:
        """Counts one picture.

        Args:
            answer: the one of ``answers`` for this picture.
            placement: where the picture lies in the input.

        Raises:
            ImageError, ValueError: the target cannot be used.
        """

    def figures(self) -> dict[str, float | int | None]:
        """All figures of the meter, by name."""
        found: dict[str, float | int | None] = self.meter.figures()
        return found

    def shown(self) -> tuple[Metric, ...]:
        """The metrics of which there is a figure."""
        figures = self.figures()
        return tuple(one for one in self.metrics if figures.get(one.name) is not None)

    @property
    def ceilings(self) -> dict[str, float]:
        """The highest possible value of each figure that has one."""
        highest = {"%": 100.0, "": 1.0}
        return {one.name: highest[one.unit] for one in self.metrics if one.unit in highest}

    @property
    def numbers(self) -> list[int]:
        """Numbers of the pictures that were counted, ascending."""
        return sorted(self.meter.pictures)

    @abstractmethod
    def weighted(self, weights: Weights) -> Mapping[str, Numbers]:
        """The figures that have intervals, in each of R sets in which each picture counts as often
        as its weight says, (R, P); NaN for none. (R,)"""

    @abstractmethod
    def per_class(self) -> Sequence[Mapping[str, float | int | None]]:
        """What is said of each class, by number."""

    @abstractmethod
    def rows(self) -> dict[int, dict[str, float | int | None]]:
        """What is said of each picture, by its number."""

    @abstractmethod
    def worst(self, most: int) -> list[int]:
        """Numbers of the pictures with the worst answers, the worst first."""
