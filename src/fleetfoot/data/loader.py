"""Batches of pictures and the answers that are wanted for them, made by other processes.

What a batch holds follows from its number alone, so any number of workers gives the same bytes, and
reading can begin at any update. The pictures of a batch are divided among the workers, which write
them into memory that they share with this process.

b pictures of a batch · C channels · H W space
"""

from __future__ import annotations

import itertools
import math
import multiprocessing
import os
import weakref
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fleetfoot.cores import usable_cores
from fleetfoot.data.augment import kept_generators
from fleetfoot.data.dataset import Pictures
from fleetfoot.data.making import Bytes, Maker
from fleetfoot.data.order import Order
from fleetfoot.data.workers import Workers
from fleetfoot.errors import ImageError

Numbers = NDArray[np.int64]
OnBad = Literal["skip", "stop"]

AHEAD = 4
"""Batches that are made ahead, at least."""
FEWEST_PICTURES = 8
"""Pictures that a worker is asked for at once, at least: fewer would cost more messages."""
NONE = -1
"""Stands for the number of a picture where there is none."""
SPARE = 2
"""Batches that the caller may hold, beside those made ahead, before their pixels are copied."""


class Part(Protocol):
    """One part of a data set, as far as reading needs it."""

    @property
    def name(self) -> str: ...

    @property
    def pictures(self) -> Pictures: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class BadPicture:
    """A picture that cannot be used."""

    index: int
    """Number of the picture in its part."""
    path: str
    reason: str


@dataclass(frozen=True, eq=False)
class Batch:
    """Pictures, and what a network should answer."""

    update: int
    """Number of the update; in an evaluation, of the batch."""
    part: int
    """Number of the accumulated part."""
    epoch: int
    pixels: Tensor
    """(b, C, H, W) uint8, in the network's order of channels, neither normalised nor erased."""
    targets: tuple[Any, ...]
    """What the maker returned for each picture, b of them: for classification the class."""
    indices: Tensor
    """Number of each picture in its part, (b,) int64."""
    repeats: Tensor
    """Number of each picture's copy in the epoch, (b,) int64."""
    bad: tuple[BadPicture, ...] = ()
    """Pictures that could not be used. Training takes the next good one of the part instead;
    evaluation leaves them out."""

    @property
    def labels(self) -> Tensor:
        """The classes of a batch for classification, (b,) int64."""
        return torch.tensor(self.targets, dtype=torch.int64)


def default_workers() -> int:
    """Number of processes that decode, if none is given: one a core, at most 16; the cores are
    divided among the processes of a run that a launcher has started on this machine."""
    beside = os.environ.get("LOCAL_WORLD_SIZE", "")
    return max(1, min(usable_cores() // int(beside if beside.isdigit() and int(beside) else 1), 16))


def training_batches(
    split: Part,
    *,
    order: Order,
    maker: Maker,
    first_update: int,
    last_update: int,
    rank: int = 0,
    world: int = 1,
    parts: int = 1,
    workers: int | None = None,
    on_bad: OnBad = "stop",
    start_method: str | None = None,
    pin_memory: bool = False,
) -> Generator[Batch, None, None]:
    """The batches of the updates from ``first_update`` up to, and not with, ``last_update``, as
    ``range`` counts: ``parts`` batches for each.

    The generator ends its workers when it is used up or closed; ``contextlib.closing`` closes it.

    Args:
        split: the pictures.
        order: which of them each update sees.
        maker: makes the network's input, and the answer that is wanted, from a picture.
        first_update: number of the first update.
        last_update: number of the first update that is not read.
        rank: number of this process among those that train.
        world: number of processes that train.
        parts: parts in which each process's share of an update goes through the network.
        workers: processes that decode; 0: this one does. Default: one a core.
        on_bad: what becomes of a picture that cannot be used: ``skip`` takes the next good one of
            the part instead, and names it in the batch; ``stop`` raises.
        start_method: fork, spawn or forkserver. Default: that of Python's ``multiprocessing``.
        pin_memory: whether the pixels lie where a GPU can fetch them by itself.

    Raises:
        ImageError: a picture cannot be used, and ``on_bad`` is ``stop``; or none of the split can.
        LoadingError: a worker died.
        ValueError: an argument is out of range.
    """
    if len(split) != order.examples:
        raise ValueError(
            f"the order is one of {order.examples} pictures, but {split.name} has {len(split)}"
        )
    order.share(rank=rank, world=world, part=0, parts=parts)
    wanted = (
        _Request(
            update,
            part,
            order.epoch(update),
            *order.part(update, rank=rank, world=world, part=part, parts=parts),
        )
        for update in range(first_update, last_update)
        for part in range(parts)
    )
    reader = _Reader(split, maker, on_bad, True, order.batch // (world * parts))
    return _batches(reader, wanted, _count(workers), _known(start_method), pin_memory)


def evaluation_batches(
    split: Part,
    *,
    maker: Maker,
    batch: int,
    workers: int | None = None,
    rank: int = 0,
    world: int = 1,
    on_bad: OnBad = "stop",
    start_method: str | None = None,
    pin_memory: bool = False,
) -> Generator[Batch, None, None]:
    """Every picture of the part once, in order, as ``maker`` writes it; epoch and repeat are 0.

    Process ``rank`` of ``world`` reads the pictures of one stretch. The last batch may be smaller;
    so is one with a bad picture, which is left out. The other arguments are those of
    ``training_batches``.

    Raises:
        ImageError: a picture cannot be used, and ``on_bad`` is ``stop``.
        LoadingError: a worker died.
        ValueError: an argument is out of range.
    """
    if batch < 1:
        raise ValueError(f"batch must be 1 or more, not {batch}")
    if not 0 <= rank < world:
        raise ValueError(f"rank must be from 0 to {world - 1}, not {rank}")
    stretch = range(len(split) * rank // world, len(split) * (rank + 1) // world)
    wanted = (
        _Request(number, 0, 0, indices, np.zeros_like(indices))
        for number, first in enumerate(range(stretch.start, stretch.stop, batch))
        for indices in [np.arange(first, min(first + batch, stretch.stop))]
    )
    reader = _Reader(split, maker, on_bad, False, max(1, min(batch, len(split))))
    return _batches(reader, wanted, _count(workers), _known(start_method), pin_memory)


@dataclass(frozen=True, eq=False)
class _Request:
    """The pictures of one batch."""

    update: int
    part: int
    epoch: int
    indices: Numbers
    repeats: Numbers


class _Stretch(NamedTuple):
    """Places of a batch that one worker fills."""

    batch: int
    """Number of the batch among those that are read."""
    epoch: int
    update: int
    first: int
    last: int


@dataclass(frozen=True)
class _Answer:
    """What became of a stretch."""

    batch: int
    first: int
    targets: tuple[Any, ...]
    """The answer that is wanted in each place; None if no picture can be used there."""
    others: dict[int, int]
    """Places of the batch that another picture fills than the wanted one, and its number, or
    ``NONE``."""
    bad: tuple[BadPicture, ...]


@dataclass(frozen=True, eq=False)
class _Reader:
    """Opens pictures and writes what the network will see."""

    part: Part
    maker: Maker
    on_bad: OnBad
    replaces: bool
    """Whether a bad picture that is skipped is replaced by another one."""
    most: int
    """Pictures of the largest batch."""

    def __post_init__(self) -> None:
        if self.on_bad not in ("skip", "stop"):
            raise ValueError(f"on_bad must be skip or stop, not {self.on_bad!r}")

    @property
    def slot_bytes(self) -> int:
        """Size of a slot: two numbers for each picture, and its pixels at their largest."""
        return self.most * (16 + self.maker.largest)

    def numbers(self, slot: Bytes) -> Numbers:
        """The part of a slot that says which pictures and which of their copies are wanted, (2,
        most)."""
        return slot[: 16 * self.most].view(np.int64).reshape(2, -1)

    def pixels(self, slot: Bytes, *, epoch: int, update: int, count: int) -> Bytes:
        """The part of a slot that holds pixels, (count, C, H, W)."""
        shape = (count, *self.maker.shape(epoch=epoch, update=update))
        return slot[16 * self.most :][: math.prod(shape)].reshape(shape)

    def __call__(self, slot: Bytes, wanted: _Stretch) -> _Answer:
        """Fills a stretch of the slot with the pictures that the slot asks for."""
        epoch, update = wanted.epoch, wanted.update
        pixels = self.pixels(slot, epoch=epoch, update=update, count=wanted.last)
        indices, repeats = self.numbers(slot).tolist()
        targets: list[Any] = []
        others: dict[int, int] = {}
        bad: list[BadPicture] = []
        with kept_generators():
            for place in range(wanted.first, wanted.last):
                index = indices[place]
                found, target = self._fill(pixels[place], wanted, index, repeats[place], bad)
                targets.append(target)
                if found != index:
                    others[place] = found
        return _Answer(wanted.batch, wanted.first, tuple(targets), others, tuple(bad))

    def _fill(
        self, out: Bytes, wanted: _Stretch, index: int, repeat: int, bad: list[BadPicture]
    ) -> tuple[int, Any]:
        """Writes a picture, or the one that takes its place, and returns its number and the answer
        that is wanted; ``NONE`` if no picture can be used."""
        replaced = self.on_bad == "skip" and self.replaces
        for further in range(len(self.part) if replaced else 1):
            number = (index + further) % len(self.part)
            try:
                return number, self.maker.write(
                    out, number, epoch=wanted.epoch, update=wanted.update, repeat=repeat
                )
            except ImageError as error:
                bad.append(BadPicture(number, error.path, error.reason))
            except ValueError as error:  # the settings are checked, so it is about the picture
                bad.append(BadPicture(number, self.part.pictures[number].path, str(error)))
        return NONE, None

    def batch(
        self, request: _Request, pixels: Bytes, answers: list[_Answer], pin_memory: bool
    ) -> Batch:
        """The batch, once every stretch is filled.

        Raises:
            ImageError: a picture that cannot be used stops the reading.
        """
        answers.sort(key=lambda answer: answer.first)
        bad = tuple(one for answer in answers for one in answer.bad)
        if bad and self.on_bad == "stop":
            raise ImageError(bad[0].path, bad[0].reason)
        indices, repeats = request.indices.copy(), request.repeats
        targets = tuple(one for answer in answers for one in answer.targets)
        tensor = torch.from_numpy(pixels)
        others = {place: by for answer in answers for place, by in answer.others.items()}
        if NONE in others.values():
            if self.replaces:
                raise ImageError(
                    self.part.name,
                    f"none of its {len(self.part)} pictures can be used; the first that was "
                    f"tried, {bad[0].path}: {bad[0].reason}",
                )
            kept = [place for place in range(len(indices)) if place not in others]
            tensor, indices, repeats = tensor[kept], indices[kept], repeats[kept]
            targets = tuple(targets[place] for place in kept)
        else:
            indices[list(others)] = list(others.values())
        return Batch(
            update=request.update,
            part=request.part,
            epoch=request.epoch,
            pixels=tensor.pin_memory() if pin_memory else tensor,
            targets=targets,
            indices=torch.from_numpy(indices),
            repeats=torch.from_numpy(repeats.astype(np.int64)),
            bad=bad,
        )


def _count(workers: int | None) -> int:
    if workers is None:
        return default_workers()
    if workers < 0:
        raise ValueError(f"workers must be 0 or more, not {workers}")
    return workers


def _known(start_method: str | None) -> str | None:
    methods = multiprocessing.get_all_start_methods()
    if start_method not in (None, *methods):
        raise ValueError(f"start_method must be {' or '.join(methods)}, not {start_method!r}")
    return start_method


def _batches(
    reader: _Reader,
    wanted: Iterator[_Request],
    workers: int,
    start_method: str | None,
    pin_memory: bool,
) -> Generator[Batch, None, None]:
    """The batches in the order of ``wanted``."""
    if not workers:
        for request in wanted:
            slot = np.empty(reader.slot_bytes, np.uint8)
            yield _alone(reader, request, slot, pin_memory)
        return
    stretch = max(FEWEST_PICTURES, math.ceil(reader.most / workers))
    ahead = max(AHEAD, math.ceil(2 * workers * stretch / reader.most))
    with Workers(
        reader,
        count=workers,
        slots=ahead + SPARE,
        slot_bytes=reader.slot_bytes,
        start_method=start_method,
    ) as pool:
        free = list(range(ahead + SPARE))
        begun: deque[_Begun] = deque()
        numbers = itertools.count()
        while True:
            for request in itertools.islice(wanted, ahead - len(begun)):
                begun.append(_Begun(request, free.pop(), next(numbers)))
                begun[-1].ask(reader, pool, stretch)
            if not begun:
                return
            while begun[0].missing:
                for answer in pool.answers():
                    begun[answer.batch - begun[0].number].take(answer)
            yield begun.popleft().batch(reader, pool, free, pin_memory)


def _alone(reader: _Reader, request: _Request, slot: Bytes, pin_memory: bool) -> Batch:
    """A batch that this process reads itself."""
    count = len(request.indices)
    reader.numbers(slot)[:, :count] = request.indices, request.repeats
    answer = reader(slot, _Stretch(0, request.epoch, request.update, 0, count))
    return reader.batch(request, _pixels(reader, slot, request), [answer], pin_memory)


def _pixels(reader: _Reader, slot: Bytes, request: _Request) -> Bytes:
    """The part of a slot that holds the pixels of a batch."""
    count = len(request.indices)
    return reader.pixels(slot, epoch=request.epoch, update=request.update, count=count)


@dataclass(eq=False)
class _Begun:
    """A batch that workers are filling."""

    request: _Request
    slot: int
    number: int
    missing: int = 0
    """Stretches that are not yet filled."""
    answers: list[_Answer] = field(default_factory=list)

    def ask(self, reader: _Reader, pool: Workers, stretch: int) -> None:
        """Divides the batch among the workers."""
        request, count = self.request, len(self.request.indices)
        reader.numbers(pool.slots[self.slot])[:, :count] = request.indices, request.repeats
        for first in range(0, count, stretch):
            last = min(first + stretch, count)
            wanted = _Stretch(self.number, request.epoch, request.update, first, last)
            pool.ask(self.slot, wanted)
            self.missing += 1

    def take(self, answer: _Answer) -> None:
        self.answers.append(answer)
        self.missing -= 1

    def batch(self, reader: _Reader, pool: Workers, free: list[int], pin_memory: bool) -> Batch:
        """The batch. Its pixels lie in the slot, which is free again as soon as nothing uses them;
        they are copied if no other slot is free."""
        pixels = _pixels(reader, pool.slots[self.slot], self.request)
        if free and not pin_memory:
            weakref.finalize(pixels, free.append, self.slot).atexit = False
            return reader.batch(self.request, pixels, self.answers, pin_memory=False)
        if not pin_memory:  # pinning makes a copy by itself
            pixels = pixels.copy()
        made = reader.batch(self.request, pixels, self.answers, pin_memory)
        free.append(self.slot)
        return made
