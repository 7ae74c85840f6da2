"""What a data set holds, before a network is trained on it: pictures of each class, and what a
survey of the pictures finds.

The full form opens every picture as training does. The quick form counts, and reads the headers of
a sample; ``train`` runs it first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fleetfoot.data.dataset import Dataset
from fleetfoot.data.survey import Survey, survey

IMAGE_SIZE = 224
"""Size for which networks are mostly trained, in pixels."""


@dataclass(frozen=True, kw_only=True)
class Inspection(Survey):
    """What was seen in a data set."""

    counts: dict[str, tuple[int, ...]]
    """Pictures of each class, for each part."""

    @property
    def parts(self) -> dict[str, int]:
        """Pictures of each part."""
        return {name: sum(counts) for name, counts in self.counts.items()}


def inspect(
    dataset: Dataset,
    *,
    size: int = IMAGE_SIZE,
    quick: bool = False,
    threads: int | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Inspection:
    """Looks at the pictures of a data set. Faults of pictures are reported, not raised.

    Args:
        size: size for which a network will be trained; smaller pictures are counted.
        quick: read only the headers of ``survey.SAMPLE`` pictures.
        threads: threads that open pictures. Default: the usable cores.
        on_progress: called with what is being done, how much of it is done, and of how much.
        stop: asked again and again; once it answers True, the rest is left out.
    """
    fields = survey(
        dataset, size=size, quick=quick, threads=threads, on_progress=on_progress, stop=stop
    )
    counts = {
        split.name: tuple(np.bincount(split.labels, minlength=len(dataset.classes)).tolist())
        for split in dataset.splits
    }
    return Inspection(**fields, counts=counts)
