"""Which pictures each update of a training run sees, and in which order.

The order is a pure function of the seed and the number of the epoch. No state is kept, so a run
that is continued at any update, on any number of processes, sees the same pictures.

The random numbers are the raw words of Philox (Salmon et al. 2011, "Parallel random numbers: as
easy as 1, 2, 3"), keyed by (seed, epoch), which numpy keeps the same in every version. A
permutation sorts one 64-bit word for each picture.

N pictures of the set · B pictures of an update · R repeats
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Order:
    """The pictures of each update.

    >>> order = Order(examples=10, batch=4, seed=0)
    >>> order.updates_per_epoch, order.epoch(5)
    (2, 2)

    An epoch is ``examples // batch`` updates; the pictures that are left over are other ones in
    each epoch.

    Raises:
        ValueError: a field is out of range.
    """

    examples: int
    """N, pictures of the set."""
    batch: int
    """B, pictures of an update, over all processes and accumulated parts together."""
    seed: int
    repeats: int = 1
    """R, times that a picture is seen in an epoch, each time augmented anew (repeated augmentation,
    Hoffer et al. 2020). An epoch keeps its length, so it sees one picture of R, as in DeiT. All R
    are in the same update, or in two that follow each other."""

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"batch must be 1 or more, not {self.batch}")
        if self.repeats < 1:
            raise ValueError(f"repeats must be 1 or more, not {self.repeats}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed must be 0 or more and below 2**63, not {self.seed}")
        if self.examples < self.batch:
            raise ValueError(
                f"the set has {self.examples} pictures and an update needs {self.batch}; "
                "choose a smaller batch"
            )

    @property
    def updates_per_epoch(self) -> int:
        return self.examples // self.batch

    def epoch(self, update: int) -> int:
        """The epoch, counted from 0, that the update with this number is part of."""
        if update < 0:
            raise ValueError(f"updates are counted from 0; there is none with number {update}")
        return update // self.updates_per_epoch

    def update(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The update's pictures: numbers in the set, and number of the repeat of each, both (B,).

        Positions 2k and 2k + 1 hold different pictures, so that mixing, which pairs them, mixes no
        picture with itself; only a batch of fewer than two pictures a repeat cannot keep this.
        """
        epoch = self.epoch(number)
        first = (number - epoch * self.updates_per_epoch) * self.batch
        places = np.arange(first, first + self.batch)
        repeats = places % self.repeats
        places = places[np.argsort(repeats, kind="stable")]  # the copies of a picture lie apart
        shuffled = permutation(self.examples, self.seed, epoch)
        return shuffled[places // self.repeats], places % self.repeats

    def part(
        self, number: int, *, rank: int, world: int, part: int = 0, parts: int = 1
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The share of the update that one process sees at once, both (B / world / parts,).

        The shares of all processes, each with its parts in turn, follow one another: together they
        are ``update(number)``.

        Args:
            rank: number of the process, from 0 to ``world`` - 1.
            world: number of processes.
            part: number of the accumulated part, from 0 to ``parts`` - 1.
            parts: parts in which each process's share goes through the network.
        """
        here = self.share(rank=rank, world=world, part=part, parts=parts)
        pictures, repeats = self.update(number)
        return pictures[here], repeats[here]

    def share(self, *, rank: int, world: int, part: int = 0, parts: int = 1) -> slice:
        """The positions in an update that ``part`` takes.

        Raises:
            ValueError: there is no such process or part, or they do not divide the batch.
        """
        if not 0 <= rank < world:
            raise ValueError(f"rank must be from 0 to {world - 1}, not {rank}")
        if not 0 <= part < parts:
            raise ValueError(f"part must be from 0 to {parts - 1}, not {part}")
        if self.batch % (world * parts):
            raise ValueError(
                f"a batch of {self.batch} pictures cannot be divided evenly among {world} "
                f"process{'es' * (world > 1)} with {parts} accumulated part{'s' * (parts > 1)} "
                f"each; choose a multiple of {world * parts}"
            )
        size = self.batch // (world * parts)
        first = (rank * parts + part) * size
        return slice(first, first + size)


@lru_cache(maxsize=4)
def permutation(examples: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The numbers from 0 to ``examples`` - 1 in the order of the epoch. The result is read-only."""
    key = np.array([seed, epoch], dtype=np.uint64)
    words = np.random.Philox(key=key).random_raw(examples)
    shuffled = np.argsort(words, kind="stable")
    shuffled.flags.writeable = False
    return shuffled
