"""Classification: the names of the classes, the k most probable of them, and the share of pictures
that are named correctly.

B batch · N classes · k guesses a picture
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from torch import Tensor, nn

from fleetfoot.errors import UnknownNameError
from fleetfoot.files import read_text


@dataclass(frozen=True)
class Guess:
    """One of a picture's k most probable classes."""

    index: int
    label: str
    probability: float


@dataclass(frozen=True)
class Labels:
    """A name for each output of a classifier, and an id for each if the data set has them.

    >>> labels = Labels.of(1000)
    >>> labels.names[7], labels.index("n01440764")
    ('cock', 0)
    """

    names: tuple[str, ...]
    ids: tuple[str, ...] = ()
    """Ids of the classes if the file states them, for example ``n01440764``."""
    is_imagenet: bool = False
    numbered: bool = False
    """Whether nothing states the names, so that they are made of the numbers: ``class 7``."""

    @classmethod
    def imagenet(cls) -> Labels:
        """The 1,000 classes of ImageNet-1k by torchvision's names; ``index`` also accepts their
        WordNet ids."""
        from torchvision.models import ResNet50_Weights

        return cls(tuple(ResNet50_Weights.DEFAULT.meta["categories"]), is_imagenet=True)

    @classmethod
    def read(cls, file: str | Path) -> Labels:
        """Labels from a file: one name a line, or JSON: a list of names, or an object from class
        number to a name or to ``[id, name]``.

        Raises:
            ValueError: the file cannot be read or has none of these forms.
        """
        try:
            text = read_text(file, encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"labels: cannot read {file}: {error}") from error
        if not text.lstrip().startswith(("[", "{")):
            names = text.rstrip().splitlines()
            if not all(name.strip() for name in names):
                empty = [number for number, name in enumerate(names, 1) if not name.strip()]
                raise ValueError(f"labels: {file} has no name on line {empty[0]}")
            return cls(tuple(name.strip() for name in names))
        try:
            rows = json.loads(text)
            if isinstance(rows, dict):
                if sorted(map(int, rows)) != list(range(len(rows))):
                    raise ValueError("its class numbers are not 0, 1, 2 and so on without a gap")
                rows = [rows[key] for key in sorted(rows, key=int)]
        except ValueError as error:
            raise ValueError(f"labels: {file} cannot be used: {error}") from error
        if all(isinstance(row, str) for row in rows):
            return cls(tuple(rows))
        pairs = [
            row for row in rows if isinstance(row, list) and list(map(type, row)) == [str, str]
        ]
        if len(pairs) != len(rows):
            odd = next(row for row in rows if row not in pairs)
            raise ValueError(
                f"labels: {file} must hold a name for every class, or [id, name]; one is {odd!r}"
            )
        return cls(tuple(name for _, name in pairs), tuple(one for one, _ in pairs))

    @classmethod
    def of(cls, num_classes: int, file: str | Path | None = None) -> Labels:
        """The labels of a classifier with ``num_classes`` outputs: those of ``file`` if given,
        ImageNet's for 1,000 outputs, and ``class 7`` and so on for any other number.

        Raises:
            ValueError: ``file`` cannot be used or names another number of classes.
        """
        if file is not None:
            labels = cls.read(file)
            if len(labels.names) != num_classes:
                raise ValueError(
                    f"labels: {file} names {len(labels.names)} classes "
                    f"and the network has {num_classes}"
                )
            return labels
        if num_classes == 1000:
            return cls.imagenet()
        return cls(tuple(f"class {index}" for index in range(num_classes)), numbered=True)

    @classmethod
    def of_network(
        cls, model: nn.Module, num_classes: int, file: str | Path | None = None
    ) -> Labels:
        """The labels of ``file`` if given; otherwise those that the network's weights state, or
        else those of ``of``.

        Raises:
            ValueError: ``file`` cannot be used or names another number of classes.
        """
        stated = tuple(getattr(getattr(model, "pretrained_cfg", None), "labels", ()) or ())
        if file is None and len(stated) == num_classes:
            return cls(stated)
        return cls.of(num_classes, file)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        """Class number by id, by name if only one class has it, and by the number's own digits."""
        found = {str(index): index for index in range(len(self.names))}
        times = Counter(map(_plain, self.names))
        for index, name in enumerate(self.names):
            if times[_plain(name)] == 1:
                found[_plain(name)] = index
        ids: Sequence[str] = self.ids
        if self.is_imagenet:
            from timm.data.imagenet_info import (
                ImageNetInfo,
            )  # takes seconds, and most runs ask for no id

            ids = ImageNetInfo("imagenet-1k").label_names()
        return found | {_plain(name): index for index, name in enumerate(ids)}

    def has_name(self, name: str) -> bool:
        """Whether a class has this label or id. A class number is neither."""
        return _plain(name) in self._plain_names

    @cached_property
    def _plain_names(self) -> frozenset[str]:
        return frozenset(map(_plain, (*self.names, *self.ids)))

    def index(self, name: str) -> int:
        """The number of the class ``name``, which is an id, a label (case and underscores do not
        matter), or a class number.

        Raises:
            UnknownNameError: no class, or more than one, has that name.
        """
        if (index := self._numbers.get(_plain(name))) is None:
            raise UnknownNameError.of("class", name, self._numbers)
        return index


def _plain(name: str) -> str:
    return name.strip().replace("_", " ").casefold()


def top_k(logits: Tensor, k: int, labels: Labels) -> list[tuple[Guess, ...]]:
    """The k most probable classes of each picture, best first; all N if N is below k.

    (B, N) -> B tuples

    Raises:
        ValueError: ``k`` is below 1, or there are not N labels.
    """
    if k < 1:
        raise ValueError(f"topk must be 1 or more, not {k}")
    if logits.ndim != 2 or logits.shape[1] != len(labels.names):
        raise ValueError(
            f"logits of shape {tuple(logits.shape)} are not one row a picture "
            f"of {len(labels.names)} classes"
        )
    best, probabilities = first(logits, k)
    return [
        tuple(
            Guess(index, labels.names[index], probability)
            for index, probability in zip(*row, strict=True)
        )
        for row in zip(best.tolist(), probabilities.tolist(), strict=True)
    ]


def first(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The numbers and the probabilities of the k classes with the highest logits, best first; of
    equal logits the lower number comes first. (B, N) -> (B, min(k, N)) int64 and float64"""
    rows = logits.detach().cpu().double()
    best = rows.sort(dim=1, descending=True, stable=True).indices[:, :k]
    return best, rows.softmax(dim=1).gather(1, best)


@dataclass
class Accuracy:
    """How often the true class was among the first guesses. Two of them add up to that of both sets
    of pictures.

    >>> accuracy = Accuracy()
    >>> accuracy.count(0), accuracy.count(3), accuracy.count(None)
    (None, None, None)
    >>> accuracy.images, round(accuracy.top(1), 1), round(accuracy.top(5), 1)
    (3, 33.3, 66.7)
    """

    images: int = 0
    ranks: Counter[int] = field(default_factory=Counter)
    """Number of pictures by the rank of their true class; rank 0 is the best guess."""

    def count(self, rank: int | None, images: int = 1) -> None:
        """Counts pictures whose true class has this rank; None if it was not among the guesses."""
        self.images += images
        if rank is not None:
            self.ranks[rank] += images

    def update(self, guesses: Sequence[Guess], truth: int) -> None:
        """Counts one picture; its guesses are in order, best first."""
        self.count(next((r for r, guess in enumerate(guesses) if guess.index == truth), None))

    def __add__(self, other: Accuracy) -> Accuracy:
        return Accuracy(self.images + other.images, self.ranks + other.ranks)

    def right(self, k: int) -> int:
        """Number of pictures whose true class is among the first ``k`` guesses."""
        return sum(self.ranks[rank] for rank in range(k))

    def top(self, k: int) -> float:
        """Percentage of pictures whose true class is among the first ``k`` guesses.

        Raises:
            ValueError: no picture was counted.
        """
        if not self.images:
            raise ValueError("no picture was counted, so there is no accuracy")
        return 100 * self.right(k) / self.images
