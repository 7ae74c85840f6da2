"""The data set that a run is told of, for whatever task."""

from __future__ import annotations

from fleetfoot.data.dataset import Dataset
from fleetfoot.data.hands.scenes import NAME
from fleetfoot.data.layouts import open_dataset
from fleetfoot.data.layouts.scenes import open_scenes
from fleetfoot.data.scenes import SceneSet
from fleetfoot.errors import DatasetError
from fleetfoot.train.figures import Kind

BUILT_IN: dict[Kind, str] = {"classify": "digits", "hand": NAME}
"""Names of the sets that need no download, by task."""


def opened(
    task: Kind, where: str | None, *, val_share: float | None = None, seed: int = 0
) -> Dataset | SceneSet:
    """The pictures at ``where``, or the built-in ones of the task. The other arguments are those of
    ``open_dataset``.

    Raises:
        DatasetError: nothing is there, the layout is not known, something in it is wrong, or the
            task has no built-in set.
        ValueError: ``val_share`` is out of range.
    """
    if task == "classify":
        return open_dataset(where, val_share=val_share, seed=seed)
    if where is None and task not in BUILT_IN:
        raise DatasetError(f"the task {task} has no built-in data set; name the place of one")
    return open_scenes(where or BUILT_IN[task], task, val_share=val_share, seed=seed)
