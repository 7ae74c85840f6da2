"""PyTorch's files of weights: the zip of torch >= 1.6, and the row of pickles before it.

The tree of entries comes from ``pickles``; values are read only for the tensors that are asked for,
and each tensor is compared with the storage that it claims to lie in before it is made.
"""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from fleetfoot.errors import CorruptFileError, UnsafeFileError, visible
from fleetfoot.files import open_regular
from fleetfoot.weights import pickles
from fleetfoot.weights.described import Storage, Thing, Unusable, View, array_of

MAGIC = 0x1950A86A20F9469CFC6C
"""First object of a file of torch before 1.6."""
MARK = MAGIC.to_bytes(10, "little")
ALIASES = 8
"""Limit for the bytes of all tensors together, in sizes of their file: tied weights share values,
but a few bytes may describe any number of tensors on one storage."""
FREE_BYTES = 64 << 20
LONGEST_NAME = 200

Tree = tuple[Any, Callable[[Mapping[str, Any]], dict[str, Tensor]]]
"""A file's entries, and the function that reads the tensors among them by key."""


def read_zip(path: Path) -> Tree:
    """The entries of a zip that ``torch.save`` wrote."""
    with open_regular(path) as file, zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        for member in members:
            if member.compress_type != zipfile.ZIP_STORED:
                raise CorruptFileError(
                    f"{path}: {visible(member.filename)} is compressed, which PyTorch never does"
                )
        if sum(member.file_size for member in members) > path.stat().st_size:
            raise CorruptFileError(
                f"{path}: its members overlap, or claim more than the file holds; refused as a bomb"
            )
        text = _checked(path, archive, _root(members) + "data.pkl")
    tree = _load(path, io.BytesIO(text), len(text), "its pickle")
    return tree, partial(_from_zip, path)


def _root(members: Iterable[zipfile.ZipInfo]) -> str:
    names = (member.filename for member in members)
    return next(name for name in names if name.endswith("/data.pkl")).removesuffix("data.pkl")


def _checked(path: Path, archive: zipfile.ZipFile, member: str) -> bytes:
    """A member's bytes, which match its checksum."""
    try:
        return archive.read(member)
    except KeyError:
        raise CorruptFileError(f"{path}: {visible(member)} is missing; fetch it again") from None
    except Exception as error:  # struct, zlib and value errors, all from the file's tables
        raise CorruptFileError(f"{path}: truncated or damaged: {visible(error)}") from error


def _from_zip(path: Path, wanted: Mapping[str, Any]) -> dict[str, Tensor]:
    with open_regular(path) as file, zipfile.ZipFile(file) as archive:
        names = set(archive.namelist())
        root = _root(archive.infolist())
        swap = False
        if f"{root}byteorder" in names:
            order = _checked(path, archive, f"{root}byteorder").decode("ascii", "replace")
            swap = order != sys.byteorder

        def storage(one: Storage) -> torch.UntypedStorage:
            values = _untyped(_checked(path, archive, f"{root}data/{one.key}"))
            if swap and one.dtype is not None:
                values.byteswap(one.dtype)
            return values

        return _made(path, wanted, storage)


def read_legacy(path: Path) -> Tree:
    """The entries of a file of torch before 1.6: pickles in a row, then the storages."""
    size = path.stat().st_size
    with open_regular(path) as file:

        def part(what: str) -> Any:
            return _load(path, file, size - file.tell(), what)

        first = part("its pickle")
        if first != MAGIC:
            if isinstance(first, dict):  # Python's own pickle, of NumPy's arrays
                return first, partial(_made, path, storage=_no_storage)
            raise CorruptFileError(
                f"{path}: not a sound PyTorch file: a pickle without PyTorch's mark"
            )
        part("its version")
        system = part("its system")
        tree = part("its pickle")
        keys = part("its list of storages")
        start = file.tell()
    if isinstance(system, dict) and system.get("little_endian") is False:
        raise CorruptFileError(f"{path}: its values are in big-endian order; save it again here")
    if not isinstance(keys, list) or not all(isinstance(key, str | int) for key in keys):
        raise CorruptFileError(f"{path}: not a sound PyTorch file: its storages have no names")
    return tree, partial(_from_legacy, path, start, [str(key) for key in keys], _storages(tree))


def read_pickle(path: Path) -> Tree:
    """The entries of a plain pickle of NumPy's arrays. Tensors in one are programs."""
    with open_regular(path) as file:
        tree = _load(path, file, path.stat().st_size, "the plain pickle")
    return tree, partial(_made, path, storage=_no_storage)


def _no_storage(one: Storage) -> torch.UntypedStorage:
    raise AssertionError("a plain pickle holds no storages")


def _storages(tree: Any) -> dict[str, Storage]:
    """Every storage that a tree mentions, by key."""
    found: dict[str, Storage] = {}
    rest, seen = [tree], set[int]()
    while rest:
        value = rest.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, View):
            found[value.storage.key] = value.storage
        elif isinstance(value, Storage):
            found[value.key] = value
        elif isinstance(value, Thing):
            rest += [value.entries, value.state]
        elif isinstance(value, dict):
            rest += value.values()
        elif isinstance(value, list | tuple):
            rest += value
    return found


def _from_legacy(
    path: Path, start: int, keys: list[str], known: Mapping[str, Storage], wanted: Mapping[str, Any]
) -> dict[str, Tensor]:
    places: dict[str, tuple[int, int]] = {}
    size = path.stat().st_size
    with open_regular(path) as file:
        place = start
        for key in keys:
            file.seek(place)
            count = int.from_bytes(file.read(8), "little", signed=True)
            one = known.get(key)
            if one is None or one.dtype is None or count != one.count:
                raise CorruptFileError(f"{path}: not a sound PyTorch file: a storage has no size")
            places[key] = (place + 8, count * one.dtype.itemsize)
            place += 8 + places[key][1]
            if place > size:
                raise CorruptFileError(f"{path}: not a sound PyTorch file: it ends early")

        def storage(one: Storage) -> torch.UntypedStorage:
            if one.key not in places:
                raise CorruptFileError(f"{path}: not a sound PyTorch file: a storage is missing")
            first, length = places[one.key]
            file.seek(first)
            return _untyped(file.read(length))

        return _made(path, wanted, storage)


def _load(path: Path, file: BinaryIO, size: int, what: str) -> Any:
    try:
        return pickles.load(file, size)
    except pickles.CodeError as error:
        raise UnsafeFileError(
            f"{path}: refused, since {what} calls {visible(error)[:LONGEST_NAME]}, which could "
            "be any program; if you trust its origin, load it where it was made and save its "
            "state_dict() alone"
        ) from None
    except pickles.BrokenError as error:
        raise CorruptFileError(
            f"{path}: not a sound PyTorch file: {what} is damaged: {visible(error)[:LONGEST_NAME]}"
        ) from None


def _untyped(data: bytes) -> torch.UntypedStorage:
    if not data:
        return torch.UntypedStorage(0)
    return torch.frombuffer(bytearray(data), dtype=torch.uint8).untyped_storage()


def _made(
    path: Path, wanted: Mapping[str, Any], storage: Callable[[Storage], torch.UntypedStorage]
) -> dict[str, Tensor]:
    """The tensors among ``wanted``, each within its storage."""
    most = max(FREE_BYTES, ALIASES * path.stat().st_size)
    read: dict[str, torch.UntypedStorage] = {}
    made: dict[str, Tensor] = {}
    for key, value in wanted.items():
        if isinstance(value, Unusable):
            raise CorruptFileError(
                f"{path}: {visible(key)} is {value.kind}, not a plain tensor of numbers; save its "
                "values as an ordinary tensor"
            )
        array = array_of(value)
        if array is not None:
            made[key] = torch.from_numpy(array.astype(array.dtype.newbyteorder("=")))
            continue
        if value.storage.key not in read:
            read[value.storage.key] = storage(value.storage)
        held = read[value.storage.key]
        if not _within(value, held.nbytes()):
            raise CorruptFileError(
                f"{path}: {visible(key)} claims shape {value.shape}, more than the file holds of it"
            )
        made[key] = torch.empty(0, dtype=value.dtype).set_(
            held, value.offset, value.shape, value.stride
        )
        most -= made[key].nbytes
        if most < 0:
            raise CorruptFileError(
                f"{path}: its tensors claim far more than the file holds; refused as a bomb"
            )
    return made


def _within(view: View, held: int) -> bool:
    """Whether every value of a tensor lies in a storage of ``held`` bytes, and there are not more
    values than the storage has: a stride of zero would repeat them without end."""
    values = 1
    for size in view.shape:
        values *= size
    if not values:
        return True
    last = sum((size - 1) * step for size, step in zip(view.shape, view.stride, strict=True))
    item = view.dtype.itemsize
    return (view.offset + last + 1) * item <= held and values * item <= held
