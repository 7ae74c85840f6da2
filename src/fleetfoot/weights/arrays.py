"""NumPy's ``.npz`` and Keras's HDF5. ``most`` is the number of bytes that a file may unpack to."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fleetfoot.errors import (
    CorruptFileError,
    MissingExtraError,
    UnsafeFileError,
    WeightsError,
    visible,
)
from fleetfoot.files import open_regular

KERAS_GROUP = "model_weights/"
KERAS_MEMBER = "model.weights.h5"
"""The weights in the zip that Keras 3 writes as ``.keras``."""


def read_npz(path: Path, most: int) -> dict[str, Tensor]:
    state = {}
    with open_regular(path) as opened, zipfile.ZipFile(opened) as archive:
        members = archive.infolist()
        _within_bounds(path, sum(member.file_size for member in members), most)
        for member in members:
            key = member.filename.removesuffix(".npy")
            try:
                with archive.open(member) as file:
                    dtype, shape = _npy_header(file)
                if dtype.hasobject:
                    raise UnsafeFileError(
                        f"{path}: {visible(key)} is an array of Python objects, a pickle"
                    )
                # NumPy allocates by the header alone, which may claim any size.
                if int(np.prod(shape, dtype=object)) * dtype.itemsize > member.file_size:
                    raise CorruptFileError(
                        f"{path}: {visible(key)} claims shape {shape}, more than the file holds "
                        "of it"
                    )
                with archive.open(member) as file:
                    array = np.lib.format.read_array(file)
            except WeightsError:
                raise
            except Exception as error:  # zip, zlib, header and value errors, all from the file
                raise CorruptFileError(
                    f"{path}: {visible(key)} is damaged: {visible(error)}"
                ) from error
            if array.dtype.kind in "fiu":
                state[key] = _tensor(array)
    return state


def _npy_header(file: Any) -> tuple[np.dtype[Any], tuple[int, ...]]:
    version = np.lib.format.read_magic(file)
    reader = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if reader is None:
        raise ValueError(f"version {version} of the .npy format")
    shape, _, dtype = reader(file)
    return dtype, shape


def read_hdf5(path: Path, most: int) -> dict[str, Any]:
    return _hdf5(path, lambda: path, most)


def read_keras(path: Path, most: int) -> dict[str, Any]:
    """The weights of a ``.keras`` file, a zip with an HDF5 file in it."""

    def inner() -> io.BytesIO:
        with open_regular(path) as opened, zipfile.ZipFile(opened) as archive:
            _within_bounds(path, archive.getinfo(KERAS_MEMBER).file_size, most)
            return io.BytesIO(archive.read(KERAS_MEMBER))

    return _hdf5(path, inner, most)


def _hdf5(path: Path, source: Callable[[], Any], most: int) -> dict[str, Any]:
    try:
        import h5py
    except ImportError as error:
        raise MissingExtraError.of("reading HDF5", "h5py", "keras") from error

    datasets: dict[str, Any] = {}
    state: dict[str, Tensor] = {}

    def visit(name: str | bytes, item: Any) -> None:  # follows no soft or external link
        if isinstance(item, h5py.Dataset):  # a name that is no UTF-8 comes as bytes
            datasets[name if isinstance(name, str) else name.decode(errors="replace")] = item

    try:
        with h5py.File(source(), "r") as file:
            file.visititems(visit)
            for key, dataset in datasets.items():
                if dataset.external or dataset.is_virtual:
                    raise UnsafeFileError(f"{path}: {visible(key)} is read from another file")
            _within_bounds(path, sum(dataset.nbytes for dataset in datasets.values()), most)
            for key, dataset in datasets.items():
                if dataset.dtype.kind in "fiu":
                    state[key] = _tensor(np.asarray(dataset))
    except WeightsError:
        raise
    except Exception as error:  # h5py passes on whatever the C library says of a broken file
        raise CorruptFileError(f"{path}: not a sound HDF5 file: {visible(error)}") from error
    # A whole Keras model keeps its weights in one group, beside those of its optimiser.
    inside = {k.removeprefix(KERAS_GROUP): t for k, t in state.items() if k.startswith(KERAS_GROUP)}
    if not inside:
        return dict(state)
    rest = {key: None for key in state if not key.startswith(KERAS_GROUP)}
    return {"model_weights": inside, **rest}


def _within_bounds(path: Path, declared: int, most: int) -> None:
    if declared > most:
        raise CorruptFileError(
            f"{path}: its {path.stat().st_size} bytes claim to unpack to {declared}; refused as a "
            "bomb"
        )


def _tensor(array: np.ndarray[Any, Any]) -> Tensor:
    native = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
    return torch.from_numpy(native.copy()).reshape(array.shape)
