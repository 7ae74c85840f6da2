"""What is seen of the pictures of a set, whatever is known of each: sizes, kinds, pictures that
cannot be read, and pictures that occur more than once.

The full form opens every picture as training does. The quick form reads the headers of a sample.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any, Literal, Protocol

import numpy as np

from fleetfoot.cores import usable_cores
from fleetfoot.data.dataset import Pictures
from fleetfoot.data.images import ORIENTATION, open_header, open_image
from fleetfoot.data.likeness import MOST_COMPARED, Signature, alike, signature
from fleetfoot.errors import ImageError

SAMPLE = 1000
"""Pictures whose headers the quick form reads."""

CHUNK = 32
"""Pictures that one thread opens in a row."""

Level = Literal["wrong", "doubt", "note"]
"""``wrong``: an accuracy will be wrong, or a picture or its label cannot be used; ``doubt``: likely
to hurt; ``note``: to be known."""

KINDS = {
    "grey": "grey, converted to colour",
    "16 bit": "16 bits a channel, brought to 8",
    "palette": "palette colours",
    "transparent": "transparent, laid over white",
    "CMYK": "CMYK, converted without colour profiles",
    "turned": "turned upright by their EXIF tag",
    "several frames": "several frames or pages, of which the first is used",
}
"""Kinds of pictures that are not plain 8-bit colour, and what is done with them."""


@dataclass(frozen=True)
class Place:
    """A picture's place in the data set."""

    split: str
    index: int
    """Number of the picture in its part."""
    name: str
    label: int | None = None
    """Number of its class; None if the picture has not one class."""


@dataclass(frozen=True)
class Unreadable:
    """A picture that cannot be used."""

    place: Place
    reason: str


@dataclass(frozen=True)
class Group:
    """Pictures that are equal, or look alike."""

    kind: Literal["equal", "alike"]
    """``equal``: the files are equal in every byte; ``alike``: the pictures look alike."""
    places: tuple[Place, ...]

    @property
    def splits(self) -> frozenset[str]:
        return frozenset(place.split for place in self.places)

    @property
    def classes(self) -> frozenset[int]:
        return frozenset(place.label for place in self.places if place.label is not None)


@dataclass(frozen=True)
class Spread:
    """The least, the middle and the greatest of several figures."""

    least: float
    median: float
    most: float


@dataclass(frozen=True)
class Leak:
    """Pictures of a part that occur in ``train`` too."""

    split: str
    equal: int
    """Pictures of this part with an equal file in train."""
    alike: int
    """Other pictures of this part that look like one in train."""
    pictures: int
    """Pictures of this part that could be opened."""


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What was seen of the pictures of a set."""

    name: str
    layout: str
    notes: tuple[str, ...]
    classes: tuple[str, ...]
    quick: bool
    """Whether only the headers of a sample were read."""
    opened: int
    """Pictures that were looked at."""
    stopped: bool
    """Whether it was stopped before all of them were."""
    size: int
    """Size for which the network is trained, in pixels."""
    smaller: int
    """Pictures with a side below ``size``."""
    widths: Spread | None
    """In pixels, turned upright. None if no picture could be read; so are the next three."""
    heights: Spread | None
    aspects: Spread | None
    """Width over height."""
    file_bytes: Spread | None
    formats: dict[str, int]
    """Pictures of each format, the most frequent first."""
    kinds: dict[str, int]
    """Pictures of each of ``KINDS`` that occurs."""
    unreadable: tuple[Unreadable, ...]
    groups: tuple[Group, ...]
    """Pictures that occur more than once; those across parts or classes first. Empty in the quick
    form, which does not look for them."""
    leaks: tuple[Leak, ...]
    """One for each part beside train in which something occurs that is in train too."""
    remarks: tuple[str, ...]
    """How the search for pictures that look alike was limited."""
    seconds: float

    @property
    def parts(self) -> dict[str, int]:
        """Pictures of each part."""
        raise NotImplementedError

    @property
    def pictures(self) -> int:
        """Pictures in all parts."""
        return sum(self.parts.values())

    def record(self) -> dict[str, Any]:
        """What was found as plain JSON."""
        return asdict(self)


class Part(Protocol):
    """A part of a set of any kind."""

    @property
    def name(self) -> str: ...
    @property
    def pictures(self) -> Pictures: ...
    def __len__(self) -> int: ...


class Surveyed(Protocol):
    """A set of any kind."""

    @property
    def name(self) -> str: ...
    @property
    def layout(self) -> str: ...
    @property
    def notes(self) -> tuple[str, ...]: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def splits(self) -> Sequence[Part]: ...


@dataclass(slots=True)
class Look:
    """What was seen of one picture."""

    number: int
    """Number of the picture in all parts together."""
    problem: str = ""
    width: int = 0
    height: int = 0
    file_bytes: int = 0
    format: str = ""
    kinds: tuple[str, ...] = ()
    digest: bytes = b""
    signature: Signature | None = None


Also = Callable[[Look, Place], None]
"""What else is done with a picture that could be opened."""


@dataclass
class _Everything:
    """All pictures of all parts, under one number each."""

    splits: tuple[Part, ...]
    starts: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.starts = np.cumsum([0, *map(len, self.splits)]).tolist()

    def __len__(self) -> int:
        return self.starts[-1]

    def split_of(self, number: int) -> tuple[Part, int]:
        part = int(np.searchsorted(self.starts, number, side="right")) - 1
        return self.splits[part], number - self.starts[part]

    def place(self, number: int) -> Place:
        split, index = self.split_of(number)
        labels = getattr(split, "labels", None)  # scenes have none
        label = None if labels is None else int(labels[index])
        return Place(split.name, index, split.pictures.name(index), label)


def survey(
    dataset: Surveyed,
    *,
    size: int,
    quick: bool,
    threads: int | None,
    on_progress: Callable[[str, int, int], None] | None,
    stop: Callable[[], bool],
    also: Also = lambda look, place: None,
) -> dict[str, Any]:
    """The fields of a ``Survey``, from looking at the pictures. Faults of pictures are reported,
    not raised.

    Args:
        also: called for each picture that could be opened, in the thread that opened it.
    """
    started = time.perf_counter()
    say = on_progress or (lambda words, done, of: None)
    everything = _Everything(tuple(dataset.splits))
    chunks = _sampled(len(everything)) if quick else _shuffled(len(everything))
    looks: list[Look] = []
    of = min(SAMPLE, len(everything)) if quick else len(everything)
    for found in _looked_at(everything, chunks, not quick, threads or usable_cores(), stop, also):
        looks += found
        say("reading headers" if quick else "opening pictures", len(looks), of)
    looks.sort(key=lambda look: look.number)
    groups, leaks, remarks = ((), (), ()) if quick else _repeated(everything, looks, say)
    good = [look for look in looks if not look.problem]
    counted = Counter(look.format for look in good)
    kinds = Counter(kind for look in good for kind in look.kinds)
    return {
        "name": dataset.name,
        "layout": dataset.layout,
        "notes": dataset.notes,
        "classes": dataset.classes,
        "quick": quick,
        "opened": len(looks),
        "stopped": len(looks) < of,
        "size": size,
        "smaller": sum(min(look.width, look.height) < size for look in good),
        "widths": spread_of(look.width for look in good),
        "heights": spread_of(look.height for look in good),
        "aspects": spread_of(look.width / look.height for look in good),
        "file_bytes": spread_of(look.file_bytes for look in good),
        "formats": dict(counted.most_common()),
        "kinds": {kind: kinds[kind] for kind in KINDS if kinds[kind]},
        "unreadable": tuple(
            Unreadable(everything.place(look.number), look.problem)
            for look in looks
            if look.problem
        ),
        "groups": groups,
        "leaks": leaks,
        "remarks": remarks,
        "seconds": time.perf_counter() - started,
    }


def _sampled(count: int) -> Iterator[range]:
    """Numbers of a sample, spread evenly over all pictures."""
    numbers = np.unique(np.linspace(0, count - 1, min(SAMPLE, count)).astype(int))
    return (range(number, number + 1) for number in numbers.tolist())


def _shuffled(count: int) -> Iterator[range]:
    """All numbers in rows, so that disks read ahead; the rows in a random order, so that what was
    seen when it is stopped tells of the whole. Always the same order."""
    order = np.random.default_rng(0).permutation(-(-count // CHUNK)).tolist()
    return (range(row * CHUNK, min(count, (row + 1) * CHUNK)) for row in order)


def _looked_at(
    everything: _Everything,
    chunks: Iterable[range],
    whole: bool,
    threads: int,
    stop: Callable[[], bool],
    also: Also,
) -> Iterator[list[Look]]:
    """Looks at the pictures of each chunk in threads; a few chunks are under way at a time."""

    def look(chunk: range) -> list[Look]:
        return [] if stop() else [_look(everything, number, whole, also) for number in chunk]

    chunks = iter(chunks)
    with ThreadPoolExecutor(threads) as pool:
        running: set[Future[list[Look]]] = set()
        try:
            while True:
                fresh = [] if stop() else list(islice(chunks, 4 * threads - len(running)))
                running |= {pool.submit(look, chunk) for chunk in fresh}
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for one in done:
                    yield one.result()
        finally:
            for one in running:
                one.cancel()


def _look(everything: _Everything, number: int, whole: bool, also: Also) -> Look:
    split, index = everything.split_of(number)
    look = Look(number)
    try:
        source = split.pictures[index]
        data = source.read()
        look.file_bytes = len(data)
        if whole:
            look.digest = hashlib.blake2b(data, digest_size=16).digest()
            # decoded small: this is about what a picture looks like, and whether it can be decoded
            image = open_image(data, name=source.path, least_side=64).image
            look.signature = signature(image)
        elif not data:
            raise ImageError(source.path, "empty file")
        _add_header(look, data, source.path)
        also(look, everything.place(number))
    except ImageError as error:
        look.problem = error.reason
    return look


def _add_header(look: Look, data: bytes, name: str) -> None:
    """Adds what the header of a picture says."""
    image = open_header(data, name)
    kinds, mode = [], image.mode
    if mode in ("1", "L", "LA", "La") or mode.startswith("I"):
        kinds.append("grey")
    if mode.startswith("I"):
        kinds.append("16 bit")
    if mode in ("P", "PA"):
        kinds.append("palette")
    if image.has_transparency_data:
        kinds.append("transparent")
    if mode == "CMYK":
        kinds.append("CMYK")
    turn = 1
    try:
        turn = image.getexif().get(ORIENTATION, 1)
        if turn in range(2, 9):
            kinds.append("turned")
        if getattr(image, "is_animated", False):
            kinds.append("several frames")
    except Exception:  # broken metadata leads Pillow to any of them; the picture itself is good
        pass
    look.width, look.height = image.size if turn not in range(5, 9) else image.size[::-1]
    look.format, look.kinds = image.format or "", tuple(kinds)


def spread_of(figures: Iterable[float]) -> Spread | None:
    """The least, the middle and the greatest; None of nothing."""
    values = list(figures)
    if not values:
        return None
    return Spread(float(min(values)), float(np.median(values)), float(max(values)))


def _repeated(
    everything: _Everything, looks: Sequence[Look], say: Callable[[str, int, int], None]
) -> tuple[tuple[Group, ...], tuple[Leak, ...], tuple[str, ...]]:
    """The pictures that occur more than once, and those of them that are in train too."""
    by_digest: dict[bytes, list[int]] = defaultdict(list)
    for look in looks:
        if not look.problem:
            by_digest[look.digest].append(look.number)
    equal = [numbers for numbers in by_digest.values() if len(numbers) > 1]
    # of equal files, one stands for all
    firsts = [
        look
        for look in looks
        if look.signature is not None and by_digest[look.digest][0] == look.number
    ]
    signatures = [look.signature for look in firsts if look.signature is not None]
    pairs = alike(signatures, on_progress=lambda done, of: say("comparing pictures", done, of))
    numbers = np.array([look.number for look in firsts], dtype=np.int64)
    members = {numbers_[0]: numbers_ for numbers_ in by_digest.values()}
    near = [(members[a], members[b]) for a, b in numbers[pairs].tolist()]
    groups = [
        *(Group("equal", tuple(map(everything.place, found))) for found in equal),
        *(Group("alike", tuple(map(everything.place, found))) for found in _joined(near)),
    ]
    groups.sort(key=lambda group: (len(group.splits) < 2, len(group.classes) < 2))
    without = sum(not look.problem and look.signature is None for look in looks)
    remarks = []
    if without:
        remarks.append(
            f"{without:,} pictures are too small or too flat to be compared by their looks; equal "
            "files are found among them too"
        )
    if len(firsts) > MOST_COMPARED:
        remarks.append(
            f"of more than {MOST_COMPARED:,} pictures not every pair is compared: resized and "
            "compressed copies are found, cropped ones only in part"
        )
    return tuple(groups), _leaks(everything, looks, equal, near), tuple(remarks)


def _joined(near: Iterable[tuple[list[int], list[int]]]) -> list[list[int]]:
    """Groups of numbers that pairs join, each sorted, the group with the least number first."""
    leader: dict[int, int] = {}

    def find(number: int) -> int:
        while leader.setdefault(number, number) != number:
            leader[number] = number = leader[leader[number]]
        return number

    for first, second in near:
        everyone = [*first, *second]
        heads = {find(number) for number in everyone}
        for head in heads:
            leader[head] = min(heads)
    found: dict[int, list[int]] = defaultdict(list)
    for number in sorted(leader):
        found[find(number)].append(number)
    return list(found.values())


def _leaks(
    everything: _Everything,
    looks: Sequence[Look],
    equal: Iterable[list[int]],
    near: Iterable[tuple[list[int], list[int]]],
) -> tuple[Leak, ...]:
    """How many pictures of each part beside train occur in train."""
    part = {look.number: everything.split_of(look.number)[0].name for look in looks}
    exact = {
        number
        for numbers in equal
        if any(part[n] == "train" for n in numbers)
        for number in numbers
    }
    similar: set[int] = set()
    for first, second in near:
        for some, others in ((first, second), (second, first)):
            if any(part[n] == "train" for n in others):
                similar.update(some)
    similar -= exact
    good = Counter(part[look.number] for look in looks if not look.problem)
    found = []
    for split in everything.splits:
        same = sum(part[n] == split.name for n in exact)
        like = sum(part[n] == split.name for n in similar)
        if split.name != "train" and (same or like):
            found.append(Leak(split.name, same, like, good[split.name]))
    return tuple(found)
