"""What fills a batch: the network's input, and the answer that it should give, made from a picture
in the process that decodes it."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


class Maker(Protocol):
    """Makes inputs and answers of the pictures of one part. It can be sent to other processes.

    What it makes is a pure function of its fields and the arguments of ``write``: every draw comes
    from (seed, epoch, number, repeat) or (seed, update), and it may open other pictures of the part
    too, for example for a mosaic.
    """

    def shape(self, *, epoch: int, update: int) -> tuple[int, int, int]:
        """(C, H, W) of every input of that update."""
        ...

    @property
    def largest(self) -> int:
        """Bytes of the largest input that ``shape`` ever gives."""
        ...

    def write(self, out: Bytes, number: int, *, epoch: int, update: int, repeat: int) -> Any:
        """Writes the input of the picture ``number`` into ``out``, (C, H, W), and returns the
        answer that is wanted, in the input's pixels. It goes through a pipe, so it should be small:
        numbers and arrays.

        Raises:
            ImageError: the picture, or one that belongs to it, cannot be used.
            ValueError: something else about the picture is wrong, for example its target.
        """
        ...
