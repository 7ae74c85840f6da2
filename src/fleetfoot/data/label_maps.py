"""Label maps of many pictures: a picture file for each, whose values are classes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fleetfoot.data.dataset import Pictures
from fleetfoot.data.pictures import Chosen
from fleetfoot.data.scenes import LabelMap


@dataclass(frozen=True, eq=False, kw_only=True)
class LabelMaps:
    """The class of each pixel of each picture; see ``Targets``."""

    maps: Pictures
    """The files of the maps, one for each picture."""
    numbers: NDArray[np.uint8]
    """Class of each value in the files, (256,); ``IGNORED`` for none."""
    known: NDArray[np.bool_]
    """Values that may occur in the files, (256,)."""

    def __len__(self) -> int:
        return len(self.maps)

    def __getitem__(self, index: int) -> LabelMap:
        return LabelMap(source=self.maps[index], numbers=self.numbers, known=self.known)

    def described(self, index: int) -> bytes:
        """Bytes that change if the map's name, size in bytes or meaning does. Like a picture, the
        map itself is not read."""
        name = self.maps.name(index).encode("utf-8", "surrogateescape")
        size = str(int(self._sizes[index])).encode()
        return b"\0".join((name, size)) + self.numbers.tobytes()

    def chosen(self, pictures: NDArray[np.int64]) -> LabelMaps:
        """The maps of the pictures with these numbers, in this order."""
        return replace(self, maps=Chosen(self.maps, pictures))

    @cached_property
    def _sizes(self) -> NDArray[np.int64]:
        return self.maps.sizes()
