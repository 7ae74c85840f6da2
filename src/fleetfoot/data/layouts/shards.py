"""WebDataset shards: tars in which the files of one sample follow each other and share a name up to
its first dot, for example ``0001.jpg`` and ``0001.cls``.

| file | meaning |
|---|---|
| ``.jpg``, ``.png``, ``.webp`` and other suffixes of pictures | the picture; exactly one a sample |
| ``.cls`` | number or name of the class |
| ``.json`` | the class is its field ``label``, ``cls``, ``class`` or ``target`` |

``classes.txt`` beside the shards names the classes, one a line. Shards belong to the part that
their name states: ``train-0001.tar``, ``imagenet-validation-02.tar``, ``val/0001.tar``.
Any picture is read at its place in the tar; nothing is unpacked, and no command is run.
"""

from __future__ import annotations

import glob
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from fleetfoot.data.dataset import Dataset
from fleetfoot.data.images import SUFFIXES
from fleetfoot.data.layouts.assembly import (
    PARTS,
    Part,
    assemble,
    classes_of,
    listed,
    part_of,
)
from fleetfoot.data.layouts.tars import BLOCK, Member, Stored, contents
from fleetfoot.data.pictures import Numbers, Texts
from fleetfoot.data.sources import Source
from fleetfoot.errors import DatasetError, RecordError, counted, visible
from fleetfoot.files import open_regular, parsed, read_text, remembered

SUFFIX = ".tar"
CLASSES = "classes.txt"
LABELS = (".cls", ".json")
"""Suffixes of the files that state a class, the best first."""
LABEL_FIELDS = ("label", "cls", "class", "target")
"""Fields of ``.json`` that hold the class, the first that is there."""

MOST_LABEL_BYTES = 2**20
"""Largest ``.cls`` or ``.json``."""

MOST_SHARDS = 100_000
"""Most files that one pattern with braces may stand for."""

VERSION = 1
"""Number of the way in which shards are read; another one makes kept answers invalid."""

READERS = 8
"""Threads that read the headers of shards, so that a slow disk is asked for several at once."""

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


@dataclass(frozen=True, eq=False)
class Members:
    """Pictures within shards."""

    shards: Texts
    """Paths of the shards."""
    names: Texts
    """Name of each picture in its shard."""
    places: Numbers
    """Number of the shard, offset and size in bytes of each picture, (N, 3)."""

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Source:
        name = self.names[index]
        shard, offset, size = self.places[index].tolist()
        path = self.shards[shard]
        return Source(f"{path}/{name}", Stored(path, offset, size))

    def name(self, index: int) -> str:
        shard = os.path.basename(self.shards[int(self.places[index, 0])])
        return f"{shard}/{self.names[index]}"

    def sizes(self) -> Numbers:
        return self.places[:, 2].copy()


def find_shards(where: str) -> list[str]:
    """The tars that ``where`` stands for: one file, a pattern with braces or stars, or a folder
    with tars or with parts that hold tars. An empty list if it stands for none.

    Raises:
        DatasetError: a file of a pattern with braces is not there.
    """
    if os.path.isdir(where):
        return _in_folder(where)
    if os.path.lexists(where):
        return [where] if where.lower().endswith(SUFFIX) else []
    found = []
    for one in _expanded(where):
        if glob.has_magic(one):
            found += [path for path in sorted(glob.glob(one)) if path.lower().endswith(SUFFIX)]
        elif os.path.exists(one):
            found.append(one)
        elif one != where:
            raise DatasetError(f"{where}: there is no file {one}")
    return found


def _in_folder(folder: str) -> list[str]:
    def tars(path: str) -> list[str]:
        names = [n for n in sorted(os.listdir(path)) if not n.startswith(".")]
        return [os.path.join(path, n) for n in names if n.lower().endswith(SUFFIX)]

    try:
        found = tars(folder)
        if not found:
            parts = [name for name in sorted(os.listdir(folder)) if part_of(name)]
            inside = [os.path.join(folder, name) for name in parts]
            found = [tar for path in inside if os.path.isdir(path) for tar in tars(path)]
    except OSError as error:
        raise DatasetError(f"{folder}: the folder cannot be read: {error.strerror}") from error
    return found


def _expanded(pattern: str) -> list[str]:
    """The names that a pattern with braces stands for, as a shell gives them.

    >>> _expanded("train-{08..10}.tar")
    ['train-08.tar', 'train-09.tar', 'train-10.tar']
    >>> _expanded("{a,b}.tar")
    ['a.tar', 'b.tar']
    """
    done, left = [], [pattern]
    while left:
        text = left.pop(0)
        braces = _BRACES.search(text)
        if braces is None:
            done.append(text)
            continue
        if numbers := _RANGE.fullmatch(braces[1]):
            first, last = numbers[1], numbers[2]
            width = len(first) if first.startswith("0") else 0
            if abs(int(last) - int(first)) >= MOST_SHARDS:
                raise DatasetError(f"{pattern}: more than {MOST_SHARDS:,} shards")
            words = [f"{n:0{width}}" for n in range(int(first), int(last) + 1)]
        else:
            words = braces[1].split(",")
        left = [text[: braces.start()] + word + text[braces.end() :] for word in words] + left
        if len(left) + len(done) > MOST_SHARDS:
            raise DatasetError(f"{pattern}: more than {MOST_SHARDS:,} shards")
    return done


def open_shards(where: str, paths: Sequence[str], *, val_share: float | None, seed: int) -> Dataset:
    """The data set in the shards ``paths``; ``where`` is what the user called them.

    Raises:
        DatasetError: a shard is not a tar or is damaged, or a sample lacks its picture or class.
    """
    if twice := [path for path, times in Counter(paths).items() if times > 1]:
        raise DatasetError(f"{where}: a shard is named twice: {listed(twice)}")
    by_part: dict[str, list[str]] = {}
    for path in paths:
        by_part.setdefault(_part(path), []).append(path)
    if "" in by_part:
        if len(by_part) > 1:
            raise DatasetError(
                f"{where}: the names of some shards state a part and others do not, the first "
                f"{by_part[''][0]}; name each after its part, for example train-0001.tar"
            )
        by_part = {"train": by_part[""]}
    with ThreadPoolExecutor(READERS) as pool:
        read = dict(zip(paths, pool.map(samples, paths), strict=True))
    classes = _classes(paths)
    numbered = all(label.isdecimal() for found in read.values() for label in found.labels)
    parts = {
        part: _one_part(by_part[part], read, classes, numbered) for part in PARTS if part in by_part
    }
    return assemble(
        where,
        _layout(by_part, read, classes),
        parts,
        classes=classes or (_numbers(parts) if numbered else None),
        val_share=val_share,
        seed=seed,
        notes=_notes(read),
    )


def _part(path: str) -> str:
    """The part that a shard's name, or else its folder's, states; "" if neither does."""
    stem = os.path.basename(path)[: -len(SUFFIX)]
    for word in [*re.split(r"[^A-Za-z]+", stem), os.path.basename(os.path.dirname(path))]:
        if part := part_of(word):
            return part
    return ""


@dataclass(frozen=True)
class Samples:
    """The samples of one shard."""

    pictures: tuple[Member, ...]
    labels: tuple[str, ...]
    """Class of each picture, as it is written."""
    source: str
    """Suffix of the files that the classes were read from; "" without any sample."""
    passed: tuple[str, ...]
    """Suffixes of files that were passed over."""
    whole: bool
    """Whether the shard ends with the mark of a tar's end."""


def samples(path: str) -> Samples:
    """The samples of a shard. The answer is kept in the cache until the shard changes.

    Raises:
        DatasetError: it is no tar, is damaged, or a sample lacks its picture or class.
    """
    try:
        state = os.stat(path)
        question = {
            "version": VERSION,
            "path": os.path.abspath(path),
            "bytes": state.st_size,
            "changed_ns": state.st_mtime_ns,
            "inode": state.st_ino,
        }
        return remembered(
            "shards", question, lambda: _read(path), read=lambda raw: _kept(raw, state.st_size)
        )
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}") from error


def _kept(raw: object, size: int) -> Samples:
    """``Samples`` from the cache's JSON.

    Raises:
        RecordError: ``samples`` cannot have kept this.
    """
    found = parsed(raw, Samples)
    end = 0
    for picture in found.pictures:
        # a header stands before each file, and files begin at a multiple of its size
        first = picture.offset >= end + BLOCK and picture.offset % BLOCK == 0
        if not first or not 0 <= picture.size <= size - picture.offset:
            raise RecordError("a picture that lies outside the shard or over another")
        end = picture.offset + picture.size
    if len(found.labels) != len(found.pictures) or not all(found.labels):
        raise RecordError("pictures without a class")
    if bool(found.pictures) != (found.source in LABELS):
        raise RecordError(f"no source of classes: {found.source!r}")
    return found


def _read(path: str) -> Samples:
    """Reads a shard's headers, and the classes of its samples."""
    held = contents(path)
    pictures: list[Member] = []
    labels: list[str] = []
    passed: dict[str, None] = {}
    source = ""
    seen: set[str] = set()
    with open_regular(path) as file:
        for key, files in _grouped(held.members):
            if key in seen:
                raise DatasetError(
                    f"{path}: the files of sample {visible(key)!r} do not follow each other, or "
                    "two samples have one name; sort the files by name when making the tar"
                )
            seen.add(key)
            picture, suffix = _picture(path, key, files)
            if picture is None:
                passed.update(dict.fromkeys(files))
                continue
            kind = next((kind for kind in LABELS if kind in files), "")
            if not kind:
                raise DatasetError(
                    f"{path}: sample {visible(key)!r} has {listed(files)}, and neither .cls nor "
                    ".json with its class"
                )
            member = files[kind]
            file.seek(member.offset)
            labels.append(_label(path, member, file.read(min(member.size, MOST_LABEL_BYTES))))
            pictures.append(picture)
            source = kind
            passed.update(dict.fromkeys(s for s in files if s not in (suffix, kind)))
    return Samples(tuple(pictures), tuple(labels), source, tuple(passed), held.whole)


def _grouped(members: Sequence[Member]) -> Iterator[tuple[str, dict[str, Member]]]:
    """The samples: each name up to the first dot, and its files by suffix. Hidden files, which
    macOS adds to tars, are left out."""
    key, files = "", dict[str, Member]()
    for member in members:
        folder, _, base = member.name.rpartition("/")
        stem, dot, suffix = base.partition(".")
        if not stem:
            continue
        name = f"{folder}/{stem}" if folder else stem
        if name != key:
            if files:
                yield key, files
            key, files = name, {}
        files[dot + suffix.lower()] = member
    if files:
        yield key, files


def _picture(path: str, key: str, files: dict[str, Member]) -> tuple[Member | None, str]:
    """The picture of a sample and its suffix; None for files that are no sample, for example a
    shard's own description."""
    found = [suffix for suffix in files if suffix in SUFFIXES]
    if len(found) > 1:
        raise DatasetError(
            f"{path}: sample {visible(key)!r} has {len(found)} pictures, {listed(found)}; a "
            "classifier takes one"
        )
    if found:
        return files[found[0]], found[0]
    if ".cls" in files:
        raise DatasetError(
            f"{path}: sample {visible(key)!r} has a class and no picture, only {listed(files)}"
        )
    return None, ""


def _label(path: str, member: Member, data: bytes) -> str:
    """The class in a ``.cls`` or ``.json``, as text."""
    name = f"{path}/{visible(member.name)}"
    if member.size > MOST_LABEL_BYTES:
        raise DatasetError(f"{name}: {member.size:,} bytes, too large for a class")
    try:
        text = data.decode().strip()
        if not member.name.lower().endswith(".json"):
            label: object = text
        else:
            found = json.loads(text)
            field = next((f for f in LABEL_FIELDS if isinstance(found, dict) and f in found), "")
            if not field:
                raise DatasetError(
                    f"{name}: no field {', '.join(LABEL_FIELDS[:-1])} or {LABEL_FIELDS[-1]}"
                )
            label = found[field]
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{name}: not a class: {error}") from error
    if isinstance(label, bool) or not isinstance(label, str | int) or str(label).strip() == "":
        raise DatasetError(f"{name}: the class must be a number or a name, not {label!r:.40}")
    return str(label).strip()


def _classes(paths: Sequence[str]) -> tuple[str, ...] | None:
    """The names in ``classes.txt`` beside the shards, or in the folder above them."""
    folder = os.path.dirname(os.path.abspath(paths[0]))
    for place in (folder, os.path.dirname(folder)):
        file = os.path.join(place, CLASSES)
        if not os.path.exists(file):
            continue
        try:
            lines = read_text(file, encoding="utf-8-sig").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise DatasetError(f"{file}: cannot be read: {error}") from error
        names = tuple(line.strip() for line in lines if line.strip())
        if twice := [name for name, n in Counter(names).items() if n > 1]:
            raise DatasetError(f"{file}: classes are named twice: {listed(twice)}")
        return names
    return None


def _one_part(
    paths: Sequence[str],
    read: dict[str, Samples],
    classes: tuple[str, ...] | None,
    numbered: bool,
) -> Part:
    rows = [
        (shard, member, label)
        for shard, path in enumerate(paths)
        for member, label in zip(read[path].pictures, read[path].labels, strict=True)
    ]
    if classes and numbered and not set(classes).issuperset(label for *_, label in rows):
        if wrong := next((label for *_, label in rows if int(label) >= len(classes)), None):
            raise DatasetError(
                f"{paths[0]}: class {wrong}, but {CLASSES} names {classes_of(len(classes))}, "
                f"0 to {len(classes) - 1}"
            )
        rows = [(shard, member, classes[int(label)]) for shard, member, label in rows]
    elif numbered:
        rows = [(shard, member, str(int(label))) for shard, member, label in rows]
    names = sorted({label for *_, label in rows})
    number = {name: place for place, name in enumerate(names)}
    places = [(shard, member.offset, member.size) for shard, member, _ in rows]
    return Part(
        Members(
            Texts(paths),
            Texts(member.name for _, member, _ in rows),
            np.array(places, dtype=np.int64).reshape(-1, 3),
        ),
        tuple(names),
        np.array([number[label] for *_, label in rows], dtype=np.int64),
    )


def _numbers(parts: dict[str, Part]) -> tuple[str, ...]:
    """Names of classes that are known by number only: all numbers up to the largest."""
    largest = max((int(name) for part in parts.values() for name in part.names), default=-1)
    if largest >= 10**6:
        raise DatasetError(f"class {largest:,}: such numbers are no counted classes")
    return tuple(map(str, range(largest + 1)))


def _layout(
    by_part: dict[str, list[str]], read: dict[str, Samples], classes: tuple[str, ...] | None
) -> str:
    counts = ", ".join(f"{len(by_part[part])} {part}" for part in PARTS if part in by_part)
    sources = " and ".join(sorted({found.source for found in read.values() if found.source}))
    named = f", named by {CLASSES}" if classes else ""
    return f"WebDataset shards ({counts}), classes from {sources or 'no file'}{named}"


def _notes(read: dict[str, Samples]) -> list[str]:
    open_ended = [path for path, found in read.items() if not found.whole]
    passed = sorted({suffix for found in read.values() for suffix in found.passed})
    said = []
    if open_ended:
        said.append(
            f"{counted(len(open_ended), 'shard')} without the mark of a tar's end, maybe cut off: "
            f"{listed(open_ended)}"
        )
    if passed:
        said.append(f"passed over: files {listed(passed)} of the samples")
    return said
