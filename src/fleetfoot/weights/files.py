"""Files of weights, read without running anything that they carry.

safetensors, PyTorch's ``.pth``/``.pth.tar``/``.pt`` (the zip of torch >= 1.6 and the older bare
pickle), NumPy's ``.npz`` and Keras's ``.h5`` and ``.keras``. The first bytes decide the format, not
the name: ``.pth.tar`` is seldom a tar. However a file is broken or hostile, reading it ends in one
``WeightsError`` that names the file.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from fleetfoot.errors import (
    CorruptFileError,
    MissingExtraError,
    UnsafeFileError,
    WeightsError,
    visible,
)
from fleetfoot.files import open_regular, replacing
from fleetfoot.weights import arrays, formats, torch_files
from fleetfoot.weights.nest import Make, Nest

DTYPES = (
    torch.float64, torch.float32, torch.float16, torch.bfloat16,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
)  # fmt: skip

VARIANCES = ("running_var", "moving_variance")
"""Last words of the keys of variances, which are never negative."""
EXPANSION = 32
FREE_BYTES = 256 << 20
MOST_BYTES = 8 << 30
"""Limit for a compressed file: it may declare ``EXPANSION`` times its own size or ``FREE_BYTES``,
whichever is more, and never over ``MOST_BYTES``; beyond that it is refused as a bomb."""
SHOWN = 10
"""Number of names that a message lists."""


@dataclass(frozen=True)
class WeightsFile:
    """The tensors of a file by key, after its wrappers are removed."""

    path: Path
    format: str
    """Name of the format: "safetensors", "torch", "torch (before 1.6)", "npz", "hdf5", "keras" or
    "pickle"."""
    state: Mapping[str, Tensor]
    wrappers: tuple[str, ...]
    """Wrappers that were removed, outermost first: ``['state_dict']``, ``module.``."""
    beside: tuple[str, ...]
    """Entries of the file that are not weights of the network: ``optimizer``, ``epoch``."""
    metadata: Mapping[str, str]
    """Text that a safetensors file carries in its header."""
    prefix: str = ""
    """Start of the joined names of these tensors in ``nest``."""
    nest: Nest | None = field(default=None, repr=False)
    """All tensors of the file; None for tensors that come from no file."""

    @property
    def params(self) -> int:
        """Number of values in floating point, batch norm statistics included."""
        return sum(t.numel() for t in self.state.values() if t.is_floating_point())

    def below(self, prefix: str) -> WeightsFile:
        """The tensors below another prefix of the file's nest.

        Raises:
            CorruptFileError: they are no plain finite numbers, or not all in the file.
        """
        if self.nest is None or prefix == self.prefix:
            return self
        return _taken(self.path, self.format, self.nest, prefix, self.metadata)


def read(path: str | os.PathLike[str], key: str | None = None) -> WeightsFile:
    """The tensors of a file of any known format.

    A file may hold several sets of tensors. Here the names of its entries decide, averaged weights
    first; ``weights.loading`` decides by the keys of the network.

    >>> write("conv.safetensors", {"weight": torch.zeros(8, 3, 3, 3)})
    >>> file = read("conv.safetensors")
    >>> file.format, file.params
    ('safetensors', 216)

    Args:
        key: the part of the file to read: an entry (``model_ema``) or the start of keys. Default:
            the whole file.

    Raises:
        UnsafeFileError: reading it would run code that it carries, or open other files.
        CorruptFileError: the file is truncated, of no known format, or holds no tensors by name.
        KeyMismatchError: the file has no part ``key``.
        WeightsError: there is no such file.
        MissingExtraError: the file is HDF5 and h5py is not installed.
    """
    path = Path(path)
    shown = visible(path)
    if not path.exists():
        raise WeightsError(f"{shown}: no such file")
    try:
        if path.is_dir():
            raise WeightsError(f"{shown}: {formats.of_folder(path)}")
        if not path.is_file():
            open_regular(path)
        name, reader = _format(path)
        tree, make, metadata = reader(path)
    except (WeightsError, MissingExtraError):
        raise
    except OSError as error:
        raise CorruptFileError(f"{shown}: cannot be read: {error.strerror or error}") from error
    nest = Nest.of(tree, make)
    if not nest.leaves:
        raise _without_tensors(path, nest, tree)
    if key is not None:
        nest = nest.only(key, shown)
    return _taken(path, name, nest, nest.usual(), metadata)


def _without_tensors(path: Path, nest: Nest, tree: Any) -> WeightsError:
    whole = next(iter(nest.objects.values()), "") or getattr(tree, "name", "")
    if whole:
        return UnsafeFileError(
            f"{path}: holds a whole object of the class {visible(whole)}, which only that class's "
            "own code could make; load it where it was made and save its state_dict() alone"
        )
    if not nest.entries:
        return CorruptFileError(
            f"{path}: holds a {type(tree).__name__}, not tensors by name; save the network's "
            "state_dict()"
        )
    inside = ", ".join(visible(name) for name in nest.entries[""][:SHOWN])
    return CorruptFileError(f"{path}: holds no tensors by name; its entries are {inside or 'none'}")


def _taken(
    path: Path, name: str, nest: Nest, prefix: str, metadata: Mapping[str, str]
) -> WeightsFile:
    state = nest.make(nest.below(prefix))
    _check(path, state)
    return WeightsFile(
        path, name, state, nest.wrappers(prefix), nest.beside(prefix), metadata, prefix, nest
    )


def write(
    path: str | os.PathLike[str],
    state: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Saves tensors as safetensors, in a new file that replaces ``path`` when it is complete.

    Raises:
        WeightsError: ``path`` exists and ``overwrite`` is false, or its folder cannot be written.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise WeightsError(f"{path} exists already; pass overwrite=True (--force) to replace it")
    owned = {key: tensor.detach().cpu().clone().contiguous() for key, tensor in state.items()}
    try:
        with replacing(path) as draft:
            safetensors.torch.save_file(owned, draft, metadata=_text(metadata or {}))
    except (OSError, safetensors.SafetensorError) as error:
        raise WeightsError(f"{path}: cannot be written: {error}") from error


def _text(metadata: Mapping[str, str]) -> dict[str, str]:
    """Metadata that safetensors can hold: bytes of a path that are no text are escaped."""
    return {key: text.encode(errors="backslashreplace").decode() for key, text in metadata.items()}


Content = tuple[Any, Make, Mapping[str, str]]
"""What a reader returns: the file's entries, the function that reads their tensors, metadata."""
Reader = Callable[[Path], Content]


def _format(path: Path) -> tuple[str, Reader]:
    """The name of the format and its reader, from the file's first bytes."""
    with open_regular(path) as file:
        start = file.read(512)
        file.seek(max(0, path.stat().st_size - 8))
        end = file.read(8)
    if not start:
        raise CorruptFileError(f"{path}: the file is empty; fetch it again")
    if start.startswith(b"PK\x03\x04"):
        return _zip_format(path)
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return "hdf5", _unpacked(arrays.read_hdf5)
    if start[8:9] == b"{" and start[:1] != b"{":
        return "safetensors", _read_safetensors  # before pickles: a length begins with any byte
    if re.match(rb"\x80[\x02-\x05]", start):
        torchs = start[1] == 2 or torch_files.MARK in start[:32]
        return ("torch (before 1.6)", _read_legacy) if torchs else ("pickle", _read_pickle)
    if found := formats.named(start, end) or formats.of_name(path.name):
        raise CorruptFileError(f"{path}: {found[0]}; {found[1]}")
    raise CorruptFileError(
        f"{path}: no known format of weights (safetensors, .pth, .npz, .h5); "
        f"it starts with {start[:8]!r}"
    )


def _zip_format(path: Path) -> tuple[str, Reader]:
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError) as error:
        raise CorruptFileError(f"{path}: truncated or damaged: {visible(error)}") from error
    found = formats.of_zip(names)
    if found and "program" in found[0]:
        raise UnsafeFileError(f"{path}: {found[0]}; {found[1]}")
    if any(name.endswith("/data.pkl") for name in names):
        return "torch", _read_torch_zip
    if names and all(name.endswith(".npy") for name in names):
        return "npz", _unpacked(arrays.read_npz)
    if arrays.KERAS_MEMBER in names:
        return "keras", _unpacked(arrays.read_keras)
    if found:
        raise CorruptFileError(f"{path}: {found[0]}; {visible(found[1])}")
    raise CorruptFileError(
        f"{path}: a zip that is neither PyTorch's nor NumPy's; it holds "
        f"{', '.join(visible(name) for name in names[:5])}"
    )


def _unpacked(reader: Callable[[Path, int], Any]) -> Reader:
    """A reader of a compressed format, within the limit for the file's size."""

    def read_within(path: Path) -> Content:
        size = path.stat().st_size
        return reader(path, min(max(FREE_BYTES, EXPANSION * size), MOST_BYTES)), dict, {}

    return read_within


def _read_safetensors(path: Path) -> Content:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}
            return state, dict, file.metadata() or {}
    except Exception as error:  # of several kinds, some of torch's; all mean that the file is bad
        raise CorruptFileError(f"{path}: not a sound safetensors file: {visible(error)}") from error


def _read_torch_zip(path: Path) -> Content:
    return *torch_files.read_zip(path), {}


def _read_legacy(path: Path) -> Content:
    return *torch_files.read_legacy(path), {}


def _read_pickle(path: Path) -> Content:
    return *torch_files.read_pickle(path), {}


def _check(path: Path, state: Mapping[str, Tensor]) -> None:
    """Refuses tensors that no network could take: sparse, quantised, complex or not finite, and
    negative variances, whose square roots are NaN."""
    for key, tensor in state.items():
        if tensor.layout is not torch.strided or tensor.dtype not in DTYPES:
            raise CorruptFileError(
                f"{path}: {visible(key)} is not a plain tensor of numbers "
                f"({tensor.dtype}, {tensor.layout})"
            )
    broken = [key for key, tensor in state.items() if not _finite(key, tensor)]
    if broken:
        raise CorruptFileError(
            f"{path}: NaN or infinity in {len(broken)} tensors: {_names(broken)}"
        )
    negative = [
        key
        for key, tensor in state.items()
        if re.split(r"[./:]", key.partition(":")[0])[-1] in VARIANCES and (tensor < 0).any()
    ]
    if negative:
        raise CorruptFileError(
            f"{path}: negative variances in {len(negative)} tensors, which a batch norm turns into "
            f"NaN: {_names(negative)}; the file is damaged, or the training broke"
        )


def _finite(key: str, tensor: Tensor) -> bool:
    """Whether a tensor has no NaN and, except in a mask, no infinity."""
    if not tensor.is_floating_point():
        return True
    if "mask" in key.rpartition(".")[2]:  # attention masks hold minus infinity
        return not bool(tensor.isnan().any())
    return bool(tensor.isfinite().all())


def _names(keys: list[str]) -> str:
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return ", ".join(visible(key) for key in keys[:SHOWN]) + more
