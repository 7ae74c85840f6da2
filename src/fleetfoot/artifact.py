"""Saved engines: a folder with an engine's own files and a manifest that describes them.

``Engine.save`` writes one and ``engines.open`` reads it. Everything here needs no torch: a program
that only runs networks can read the manifest too.

    artifact = Artifact.read("fasternet_t0.onnxruntime")  # each file's SHA-256 is checked
    artifact.manifest.inputs[0].shape  # (1, 3, 224, 224)
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections import OrderedDict, namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from fleetfoot import files
from fleetfoot.errors import ArtifactError, RecordError

FORMAT = 1
"""Version of the manifest's format."""
MANIFEST = "manifest.json"
DEEPEST = 32
"""Most levels of a nest; no real network's output comes near it."""


class Nest:
    """The structure of a network's output: dicts, lists and tuples of tensors, nested to any depth.

    >>> nest = Nest.of({"map": 0, "pair": (1, [2])})
    >>> nest.names
    ('map', 'pair.0', 'pair.1.0')
    >>> nest.filled(["a", "b", "c"])
    {'map': 'a', 'pair': ('b', ['c'])}
    """

    def __init__(self, tree: Any) -> None:
        """``tree`` is the value of ``record``, read back from JSON.

        Raises:
            ValueError: ``tree`` is not the record of a nest.
        """
        self._tree = tree
        self.names = tuple(_names(tree, "", DEEPEST))
        """Path of each tensor: keys and indices joined by dots; "output" for a single tensor."""
        leaves = list(_leaves(tree))
        if leaves != list(range(len(leaves))):
            raise ValueError(f"a nest numbers its tensors from 0 on, not {leaves}")
        self.filled(leaves)  # names that no named tuple can have are found now

    @classmethod
    def of(cls, value: Any) -> Nest:
        """The nest of ``value``: anything that is not a dict, list or tuple counts as a tensor.

        Raises:
            ValueError: a key of a dict is neither a string nor a whole number.
        """
        count = 0

        def tree(value: Any) -> Any:
            nonlocal count
            if isinstance(value, Mapping):
                kind = "OrderedDict" if type(value) is OrderedDict else "dict"
                return {kind: [[_key(key), tree(item)] for key, item in value.items()]}
            if isinstance(value, tuple) and hasattr(value, "_fields"):
                pairs = [
                    [name, tree(item)] for name, item in zip(value._fields, value, strict=True)
                ]
                return {"namedtuple": [type(value).__name__, pairs]}
            if isinstance(value, list | tuple):
                kind = "list" if isinstance(value, list) else "tuple"
                return {kind: [tree(item) for item in value]}
            count += 1
            return count - 1

        return cls(tree(value))

    @property
    def plain(self) -> bool:
        """Whether the output is one tensor, not inside a dict, list or tuple."""
        return self._tree == 0

    @property
    def record(self) -> Any:
        """The nest as JSON: a number for each tensor, and one object for each container, whose
        only key is the container's kind."""
        return self._tree

    def filled(self, tensors: Sequence[Any]) -> Any:
        """The nest with ``tensors`` in place of the numbers.

        Raises:
            ValueError: there are more or fewer tensors than places.
        """
        if len(tensors) != len(self.names):
            raise ValueError(f"{len(self.names)} outputs were expected, not {len(tensors)}")
        return _filled(self._tree, tensors)


def _key(key: Any) -> str | int:
    if isinstance(key, str | int):
        return key
    raise ValueError(f"an output has the key {key!r}; keys must be strings or whole numbers")


def _children(tree: Any) -> tuple[str, list[tuple[Any, Any]]]:
    """The kind of a container, and its keys (or indices) with the value at each."""
    if not isinstance(tree, dict) or len(tree) != 1:
        raise ValueError(f"no nest of tensors: {str(tree)[:80]}")
    ((kind, items),) = tree.items()
    if kind == "namedtuple":
        if not isinstance(items, list) or len(items) != 2 or not isinstance(items[0], str):
            raise ValueError(f"no nest of tensors: {str(tree)[:80]}")
        items = items[1]
    if not isinstance(items, list):
        raise ValueError(f"no nest of tensors: {str(tree)[:80]}")
    if kind in ("list", "tuple"):
        return kind, list(enumerate(items))
    if kind not in ("dict", "OrderedDict", "namedtuple"):
        raise ValueError(f"a nest holds dicts, lists and tuples, not {kind!r}")
    if not all(isinstance(item, list) and len(item) == 2 for item in items):
        raise ValueError(f"no nest of tensors: {str(tree)[:80]}")
    keys = [_key(key) for key, _ in items]
    if len(set(keys)) < len(keys):
        raise ValueError(f"a nest has a key twice: {', '.join(map(repr, keys))[:80]}")
    return kind, [(key, item) for key, (_, item) in zip(keys, items, strict=True)]


def _is_leaf(tree: Any) -> bool:
    return type(tree) is int


def _leaves(tree: Any) -> Iterable[int]:
    if _is_leaf(tree):
        yield tree
    else:
        for _, item in _children(tree)[1]:
            yield from _leaves(item)


def _names(tree: Any, path: str, depth: int) -> Iterable[str]:
    if _is_leaf(tree):
        yield path or "output"
        return
    if not depth:
        raise ValueError(f"a nest of tensors is deeper than {DEEPEST} levels")
    for key, item in _children(tree)[1]:
        yield from _names(item, f"{path}.{key}" if path else str(key), depth - 1)


def _filled(tree: Any, tensors: Sequence[Any]) -> Any:
    if _is_leaf(tree):
        return tensors[tree]
    kind, items = _children(tree)
    values = [_filled(item, tensors) for _, item in items]
    if kind == "list":
        return values
    if kind == "tuple":
        return tuple(values)
    keys = [key for key, _ in items]
    if kind == "namedtuple":
        return namedtuple(tree[kind][0], [str(key) for key in keys])(*values)
    return (OrderedDict if kind == "OrderedDict" else dict)(zip(keys, values, strict=True))


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Facts about a network that its engine does not know; a manifest keeps all of them."""

    network: str = ""
    """Name of the network, for people."""
    preprocessing: dict[str, Any] | None = None
    """Preprocessing from a picture to the first input, as ``Preprocess`` states it."""
    labels: tuple[str, ...] | None = None
    licence: str | None = None
    """Licence of the weights."""
    certificate: dict[str, Any] | None = None
    """What was folded, and how far the folded network's output is from the given one's."""


@dataclass(frozen=True, kw_only=True)
class Described:
    """Name, shape and type of an input or an output."""

    name: str
    shape: tuple[int, ...]
    """Shape, with the batch first."""
    dtype: str
    """Type of the values by the name that numpy and torch share, for example "float32"."""


@dataclass(frozen=True, kw_only=True)
class File:
    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The description of an artifact: the content of its manifest file."""

    format: int
    engine: str
    engine_version: str
    settings: dict[str, Any]
    """Settings that the engine applies when it opens the files."""
    threads: int
    precision: str
    platform: str
    """System and processor on which the artifact was written, for example "linux x86_64"."""
    inputs: tuple[Described, ...]
    by_name: int
    """Number of inputs, counted from the last, that the network takes only by name."""
    outputs: tuple[Described, ...]
    nest: Any
    """Structure of the outputs, as ``Nest.record`` states it."""
    files: tuple[File, ...]
    error: float | None
    """Largest difference from eager's output over eager's largest value; None if not compared."""
    versions: dict[str, str]
    facts: Facts


@dataclass(frozen=True)
class Artifact:
    """A folder that holds a manifest and the files that it lists."""

    path: Path
    manifest: Manifest

    @property
    def files(self) -> tuple[Path, ...]:
        """Paths of the files, in the order in which the engine takes them."""
        return tuple(self.path / file.name for file in self.manifest.files)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Artifact:
        """The artifact at ``path``, after its manifest and the hash of each file are checked.

        Raises:
            ArtifactError: there is no artifact, its manifest is damaged or of another format, or a
                file is missing or was changed; the text says which.
        """
        folder = Path(path)
        try:
            text = files.read_text(folder / MANIFEST)
        except (FileNotFoundError, NotADirectoryError):
            raise ArtifactError(_no_artifact(folder)) from None
        except UnicodeDecodeError:
            raise ArtifactError(f"{folder / MANIFEST} is damaged: it is not UTF-8") from None
        except OSError as error:
            raise ArtifactError(f"{folder / MANIFEST} cannot be read: {error.strerror}") from None
        manifest = _manifest(text, folder / MANIFEST)
        for file in manifest.files:
            _check(folder, file)
        return cls(folder, manifest)


def _no_artifact(folder: Path) -> str:
    if not folder.exists():
        return f"{folder} does not exist; Engine.save writes an artifact"
    if folder.is_dir():
        return f"{folder} holds no {MANIFEST}; name the folder that Engine.save wrote"
    said = f"{folder} is a file, and an artifact is a folder with a {MANIFEST}"
    if folder.suffix == ".plan":
        said += "; fleetfoot.runtime.Plan.load opens a plan by itself"
    return said


def _manifest(text: str, path: Path) -> Manifest:
    try:
        raw = files.read_object(text)
        if raw.get("format") != FORMAT:
            raise ArtifactError(
                f"{path} has format {raw.get('format')!r}, and this release reads {FORMAT}; save "
                "the engine again, or open it with the release that wrote it"
            )
        manifest = files.parsed(raw, Manifest, "manifest")
        nest = Nest(manifest.nest)
    except (RecordError, ValueError) as error:
        raise ArtifactError(f"{path} is damaged: {error}") from None
    if len(nest.names) != len(manifest.outputs):
        raise ArtifactError(
            f"{path} is damaged: it lists {len(manifest.outputs)} outputs, and its nest has "
            f"{len(nest.names)}"
        )
    if not manifest.files or not 0 <= manifest.by_name <= len(manifest.inputs):
        raise ArtifactError(f"{path} is damaged: it lists no files, or inputs that are not there")
    for file in manifest.files:
        if Path(file.name).name != file.name or file.name in ("", ".", ".."):
            raise ArtifactError(f"{path} names {file.name!r}, which does not lie in its folder")
    return manifest


def _check(folder: Path, file: File) -> None:
    path = folder / file.name
    try:
        with files.open_regular(path) as opened:
            size = os.fstat(opened.fileno()).st_size
            if size != file.bytes:
                raise ArtifactError(f"{path} holds {size} bytes, and {file.bytes} were written")
            digest = _sha256(opened)
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing, and {MANIFEST} lists it") from None
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}") from None
    if digest != file.sha256:
        raise ArtifactError(
            f"{path} was changed: its SHA-256 is {digest[:12]}..., and {MANIFEST} says "
            f"{file.sha256[:12]}..."
        )


def _listed(path: Path) -> File:
    with files.open_regular(path) as file:
        return File(name=path.name, bytes=os.fstat(file.fileno()).st_size, sha256=_sha256(file))


def _sha256(file: BinaryIO) -> str:
    """Digest of as much of the file as it holds when this begins."""
    digest = hashlib.sha256()
    left = os.fstat(file.fileno()).st_size
    while left and (piece := file.read(min(left, 1 << 20))):
        digest.update(piece)
        left -= len(piece)
    return digest.hexdigest()


def write(
    path: str | os.PathLike[str],
    fill: Callable[[Path], Sequence[str]],
    manifest: Callable[[tuple[File, ...]], Manifest],
) -> Artifact:
    """Writes an artifact to ``path``: the whole artifact, or nothing.

    Args:
        fill: writes the engine's files into a folder, and names them in the engine's order.
        manifest: makes the manifest once the files are known.

    Raises:
        FileExistsError: there is something at ``path`` already.
        OSError: it cannot be written.
    """
    path = Path(path)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise FileExistsError(f"{path} exists; remove it, or name another folder for the artifact")
    with files.filling(path) as draft:
        names = fill(draft)
        listed = tuple(_listed(draft / name) for name in names)
        made = manifest(listed)
        text = files.to_json(asdict(made), indent=1)
        files.write_text(draft / MANIFEST, text + "\n")
    return Artifact(path, made)


def here() -> str:
    """This system and processor, as a manifest states them."""
    return f"{sys.platform} {platform.machine()}"
