"""Files of weights, read without running anything that they carry.

safetensors, PyTorch's ``.pth``/``.pth.tar``/``.pt`` (the zip of torch >= 1.6 and the older bare
pickle), NumPy's ``.npz`` and Keras's ``.h5``. The first bytes decide the format, not the name:
``.pth.tar`` is seldom a tar. However a file is broken or hostile, reading it ends in one
``WeightsError`` that names the file.
"""

from __future__ import annotations

import argparse
import os
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from fleetfoot.errors import CorruptFileError, MissingExtraError, UnsafeFileError, WeightsError
from fleetfoot.files import replacing

WRAPPERS = (  # the averaged weights first: they are what the published figures were taken with
    "state_dict_ema",
    "model_ema",
    "state_dict",
    "model_state_dict",
    "model",
)
"""Entries of a training checkpoint that may hold the network."""

PREFIXES = ("module.", "_orig_mod.", "model.")
"""Prefixes that DataParallel, torch.compile and Lightning put before every key."""

AVERAGED = "n_averaged"
"""Key of the count that torch's ``AveragedModel`` keeps beside the keys that it prefixes."""

DTYPES = (
    torch.float64, torch.float32, torch.float16, torch.bfloat16,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
)  # fmt: skip

EXPANSION = 32
FREE_BYTES = 256 << 20
MOST_BYTES = 8 << 30
"""Limit for a compressed file: it may declare ``EXPANSION`` times its own size or ``FREE_BYTES``,
whichever is more, and never over ``MOST_BYTES``; beyond that it is refused as a bomb."""


@dataclass(frozen=True)
class WeightsFile:
    """The tensors of a file by key, after its wrappers are removed."""

    path: Path
    format: str
    """Name of the format: "safetensors", "torch", "torch (before 1.6)", "npz" or "hdf5"."""
    state: Mapping[str, Tensor]
    wrappers: tuple[str, ...]
    """Wrappers that were removed, outermost first: ``['state_dict']``, ``module.``."""
    beside: tuple[str, ...]
    """Entries of the file that are not weights of the network: ``optimizer``, ``epoch``."""
    metadata: Mapping[str, str]
    """Text that a safetensors file carries in its header."""

    @property
    def params(self) -> int:
        """Number of values in floating point, batch norm statistics included."""
        return sum(t.numel() for t in self.state.values() if t.is_floating_point())


def read(path: str | os.PathLike[str]) -> WeightsFile:
    """The tensors of a file of any known format.

    >>> write("conv.safetensors", {"weight": torch.zeros(8, 3, 3, 3)})
    >>> file = read("conv.safetensors")
    >>> file.format, file.params
    ('safetensors', 216)

    Raises:
        UnsafeFileError: reading it would run code that it carries, or open other files.
        CorruptFileError: the file is truncated, of no known format, or holds no tensors by name.
        WeightsError: there is no such file.
        MissingExtraError: the file is HDF5 and h5py is not installed.
    """
    path = Path(path)
    if not path.exists():
        raise WeightsError(f"{path}: no such file")
    if not path.is_file():
        raise WeightsError(f"{path}: not a file but a {'folder' if path.is_dir() else 'device'}")
    try:
        name, reader = _format(path)
        content, metadata = reader(path)
    except (WeightsError, MissingExtraError):
        raise
    except OSError as error:
        raise CorruptFileError(f"{path}: cannot be read: {error}") from error
    state, wrappers, beside = _unwrapped(path, content)
    _check(path, state)
    return WeightsFile(path, name, state, wrappers, beside, metadata)


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
            safetensors.torch.save_file(owned, draft, metadata=dict(metadata or {}))
    except (OSError, safetensors.SafetensorError) as error:
        raise WeightsError(f"{path}: cannot be written: {error}") from error


KERAS_GROUP = "model_weights/"

Content = tuple[Any, Mapping[str, str]]
"""What a reader returns: the object in the file, and the file's metadata."""


def _format(path: Path) -> tuple[str, Callable[[Path], Content]]:
    """The name of the format and its reader, from the file's first bytes."""
    with open(path, "rb") as file:
        start = file.read(512)
    if not start:
        raise CorruptFileError(f"{path}: the file is empty; fetch it again")
    if start.startswith(b"PK\x03\x04"):
        return _zip_format(path)
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return "hdf5", _read_hdf5
    if start[8:9] == b"{":  # before pickles: a header's length may begin with any byte
        return "safetensors", _read_safetensors
    if start.startswith(b"\x80\x02"):  # start of a pickle of protocol 2, which torch writes
        return "torch (before 1.6)", _read_torch
    if start.startswith(b"\x80"):
        raise UnsafeFileError(
            f"{path}: a plain pickle, which could be any program; save the network's state_dict() "
            "with torch.save or as safetensors"
        )
    text = start.lstrip().lower()
    if text.startswith(b"version https://git-lfs"):
        raise CorruptFileError(
            f"{path}: a pointer of Git LFS, not the weights; run 'git lfs pull' where it came from"
        )
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise CorruptFileError(
            f"{path}: a web page, not weights; the download answered with an error or a login page"
        )
    raise CorruptFileError(
        f"{path}: no known format of weights (safetensors, .pth, .npz, .h5); "
        f"it starts with {start[:8]!r}"
    )


def _zip_format(path: Path) -> tuple[str, Callable[[Path], Content]]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError) as error:
        raise CorruptFileError(f"{path}: truncated or damaged: {error}") from error
    if any(name.endswith("/data.pkl") for name in names):
        if any("/code/" in name for name in names):
            raise UnsafeFileError(
                f"{path}: a TorchScript archive, which holds a program; save the network's "
                "state_dict() instead"
            )
        return "torch", _read_torch_zip
    if names and all(name.endswith(".npy") for name in names):
        return "npz", _read_npz
    raise CorruptFileError(
        f"{path}: a zip that is neither PyTorch's nor NumPy's; it holds {', '.join(names[:5])}"
    )


def _read_safetensors(path: Path) -> Content:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}
            return state, file.metadata() or {}
    except Exception as error:  # of several kinds, some of torch's; all mean that the file is bad
        raise CorruptFileError(f"{path}: not a sound safetensors file: {error}") from error


def _read_torch_zip(path: Path) -> Content:
    """PyTorch's zip. Its checksums are compared first: torch maps the file and would not notice a
    flipped bit."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED:
                raise CorruptFileError(
                    f"{path}: {member.filename} is compressed, which PyTorch never does"
                )
        try:
            damaged = archive.testzip()
        except Exception as error:  # struct, zlib and value errors, all from the file's tables
            raise CorruptFileError(f"{path}: truncated or damaged: {error}") from error
    if damaged:
        raise CorruptFileError(f"{path}: {damaged} does not match its checksum; fetch it again")
    return _read_torch(path, mmap=True)


def _read_torch(path: Path, mmap: bool = False) -> Content:
    try:
        # Namespace: timm's checkpoints keep their arguments in one; it has no code of its own.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about TypedStorage and the like, not the user's doing
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap), {}
    except Exception as error:  # the unpickler fails in as many ways as there are broken files
        # torch words its refusals as advice to trust the file; the refused call is named last
        lines = str(error).partition("Check the documentation")[0].splitlines()
        reason = next((line.strip() for line in reversed(lines) if line.strip()), repr(error))
        if called := re.search(r"GLOBAL (\S+)", str(error)):
            raise UnsafeFileError(
                f"{path}: refused, since its pickle calls {called[1]}, which could be any program; "
                "if you trust its origin, load it where it was made and save its state_dict() alone"
            ) from error
        raise CorruptFileError(f"{path}: not a sound PyTorch file: {reason[:300]}") from error


def _read_npz(path: Path) -> Content:
    state = {}
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        _within_bounds(path, sum(member.file_size for member in members))
        for member in members:
            key = member.filename.removesuffix(".npy")
            try:
                with archive.open(member) as file:
                    dtype, shape = _npy_header(file)
                if dtype.hasobject:
                    raise UnsafeFileError(f"{path}: {key} is an array of Python objects, a pickle")
                # NumPy allocates by the header alone, which may claim any size.
                if int(np.prod(shape, dtype=object)) * dtype.itemsize > member.file_size:
                    raise CorruptFileError(
                        f"{path}: {key} claims shape {shape}, more than the file holds of it"
                    )
                with archive.open(member) as file:
                    state[key] = _tensor(path, key, np.lib.format.read_array(file))
            except WeightsError:
                raise
            except Exception as error:  # zip, zlib, header and value errors, all from the file
                raise CorruptFileError(f"{path}: {key} is damaged: {error}") from error
    return state, {}


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


def _read_hdf5(path: Path) -> Content:
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
        with h5py.File(path, "r") as file:
            file.visititems(visit)
            for key, dataset in datasets.items():
                if dataset.external or dataset.is_virtual:
                    raise UnsafeFileError(f"{path}: {key} is read from another file")
            _within_bounds(path, sum(dataset.nbytes for dataset in datasets.values()))
            for key, dataset in datasets.items():
                state[key] = _tensor(path, key, np.asarray(dataset))
    except WeightsError:
        raise
    except Exception as error:  # h5py passes on whatever the C library says of a broken file
        raise CorruptFileError(f"{path}: not a sound HDF5 file: {error}") from error
    # A whole Keras model keeps its weights in one group, beside those of its optimiser.
    inside = {k.removeprefix(KERAS_GROUP): t for k, t in state.items() if k.startswith(KERAS_GROUP)}
    if not inside:
        return state, {}
    rest = {key: None for key in state if not key.startswith(KERAS_GROUP)}
    return {"model_weights": inside, **rest}, {}


def _within_bounds(path: Path, declared: int) -> None:
    size = path.stat().st_size
    if declared > min(max(FREE_BYTES, EXPANSION * size), MOST_BYTES):
        raise CorruptFileError(
            f"{path}: its {size} bytes claim to unpack to {declared}; refused as a bomb"
        )


def _tensor(path: Path, key: str, array: np.ndarray[Any, Any]) -> Tensor:
    if array.dtype.kind not in "fiu":
        raise CorruptFileError(f"{path}: {key} holds {array.dtype}, not numbers")
    native = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
    return torch.from_numpy(native.copy()).reshape(array.shape)


def _unwrapped(
    path: Path, content: Any
) -> tuple[dict[str, Tensor], tuple[str, ...], tuple[str, ...]]:
    """The tensors of ``content``, the wrappers removed to reach them, and the other entries."""
    wrappers: list[str] = []
    beside: list[str] = []
    for _ in range(4):  # a pickle may hold itself; no honest checkpoint nests deeper
        if not isinstance(content, Mapping):
            raise CorruptFileError(f"{path}: holds a {type(content).__name__}, not tensors by name")
        inner = next(
            (w for w in (*WRAPPERS, "model_weights") if isinstance(content.get(w), Mapping)), None
        )
        if inner is None:
            break
        wrappers.append(f"[{inner!r}]")
        beside += [str(key) for key in content if key != inner]
        content = content[inner]
    state = {
        key: tensor
        for key, tensor in content.items()
        if isinstance(key, str) and isinstance(tensor, Tensor) and key != AVERAGED
    }
    beside += [str(key) for key in content if key not in state]
    if not state:
        raise CorruptFileError(
            f"{path}: holds no tensors by name; its entries are {', '.join(beside[:10]) or 'none'}"
        )
    found: str | None = ""
    while found is not None:
        found = next((p for p in PREFIXES if all(key.startswith(p) for key in state)), None)
        if found is not None:
            wrappers.append(found)
            state = {key.removeprefix(found): tensor for key, tensor in state.items()}
    return state, tuple(wrappers), tuple(beside)


def _check(path: Path, state: Mapping[str, Tensor]) -> None:
    """Refuses tensors that no network could take: sparse, quantised, complex or not finite."""
    for key, tensor in state.items():
        if tensor.layout is not torch.strided or tensor.dtype not in DTYPES:
            raise CorruptFileError(
                f"{path}: {key} is not a plain tensor of numbers ({tensor.dtype}, {tensor.layout})"
            )
        if tensor.device.type != "cpu" or tensor.nbytes > tensor.untyped_storage().nbytes():
            raise CorruptFileError(
                f"{path}: {key} claims shape {tuple(tensor.shape)}, more than the file holds of it"
            )
    broken = [k for k, t in state.items() if t.is_floating_point() and not t.isfinite().all()]
    if broken:
        raise CorruptFileError(
            f"{path}: NaN or infinity in {len(broken)} tensors: {', '.join(broken)}"
        )
