"""Files that the tool writes and reads: each opened only if it is a regular file, read up to a
stated size and replaced in one step; JSON read strictly into the dataclass that it was made from;
answers remembered in the user's cache.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import IO, Any, BinaryIO, TypeVar, Union

from fleetfoot.errors import RecordError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

Made = TypeVar("Made")


log = logging.getLogger("fleetfoot")

MOST_TEXT_BYTES = 256 * 2**20
"""Largest file that is read as text: records, labels, manifests, settings. The records of a whole
``bench`` are below a hundredth of it."""

_KINDS = (
    (stat.S_ISDIR, errno.EISDIR, "a folder"),
    (stat.S_ISFIFO, errno.EINVAL, "a named pipe"),
    (stat.S_ISSOCK, errno.EINVAL, "a socket"),
    (stat.S_ISCHR, errno.EINVAL, "a device"),
    (stat.S_ISBLK, errno.EINVAL, "a device"),
)


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Opens a regular file, or a link to one, to read its bytes. Anything else is refused at once:
    opening a pipe waits for a writer, and a device may have no end.

    Raises:
        OSError: there is no such file, it is not a regular file, or it cannot be opened.
    """
    try:
        _refuse_irregular(os.stat(path), path)  # before opening: a pipe's writer would notice
    except ValueError as error:  # a NUL in the path
        raise OSError(errno.EINVAL, f"not a path: {error}", os.fspath(path)) from None
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file = os.open(path, flags)
    try:
        _refuse_irregular(os.fstat(file), path)  # it may have been exchanged meanwhile
        return os.fdopen(file, "rb")
    except BaseException:
        os.close(file)
        raise


def _refuse_irregular(found: os.stat_result, path: str | os.PathLike[str]) -> None:
    if stat.S_ISREG(found.st_mode):
        return
    kind = ((code, text) for holds, code, text in _KINDS if holds(found.st_mode))
    code, text = next(kind, (errno.EINVAL, "something else"))
    raise OSError(code, f"{text}, not a regular file", os.fspath(path))


def read_bytes(path: str | os.PathLike[str], *, most: int) -> bytes:
    """The content of a regular file.

    Args:
        most: largest size in bytes; a larger file is refused before anything is read.

    Raises:
        OSError: the file cannot be opened, is not regular, is larger than ``most``, or changes
            while it is read.
    """
    with open_regular(path) as file:
        before = os.fstat(file.fileno())
        if before.st_size > most:
            raise OSError(
                errno.EFBIG,
                f"{before.st_size:,} bytes, more than the {most:,} that are read of such a file",
                os.fspath(path),
            )
        content = file.read(before.st_size + 1)
        after = os.fstat(file.fileno())
    state = [(found.st_size, found.st_mtime_ns) for found in (before, after)]
    if len(content) != before.st_size or state[0] != state[1]:
        raise OSError(errno.EAGAIN, "it changed while it was read; try again", os.fspath(path))
    return content


def read_text(
    path: str | os.PathLike[str], *, encoding: str = "utf-8", most: int = MOST_TEXT_BYTES
) -> str:
    """The text of a regular file; ``read_bytes`` says what is refused. Line ends become newlines.

    Raises:
        OSError: as ``read_bytes`` raises it.
        UnicodeDecodeError: the file is not in this encoding.
    """
    text = read_bytes(path, most=most).decode(encoding)
    return text.replace("\r\n", "\n").replace("\r", "\n")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives the path of a new, empty file beside ``path``, which replaces ``path`` when the block
    ends. A missing folder is made. If the block fails, ``path`` stays as it was. If two processes
    write at once, the whole file of one of them remains.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    # the mode of a new file, which a temporary file does not have: others may read the result
    os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    mode = stat.S_IMODE(os.stat(draft).st_mode)
    try:
        yield draft
        os.chmod(draft, mode)  # a writer may have put a file of its own in its place
        with open(draft, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def flush_folder(folder: Path) -> None:
    """Waits until the names in a folder are on the disk: a file that was just renamed keeps its new
    name after a loss of power. Where a folder cannot be opened, as on Windows, this does nothing.
    """
    try:
        opened = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system without it
            raise
    finally:
        os.close(opened)


@contextlib.contextmanager
def filling(folder: Path) -> Iterator[Path]:
    """Gives the path of a new, empty folder beside ``folder``, which takes its place when the block
    ends. If the block fails, nothing is left of it.

    Raises:
        FileExistsError: there is something at ``folder`` already, other than an empty folder.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise FileExistsError(errno.EEXIST, "it exists, and holds something", os.fspath(folder))
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        yield draft
        os.chmod(draft, 0o755)  # mkdtemp makes it private
        os.replace(draft, folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


@contextlib.contextmanager
def locked(file: IO[Any]) -> Iterator[None]:
    """Holds the lock of an open file while this lasts. The system releases it when the process
    ends, however it ends. Where there are no such locks, for example on Windows, this does nothing.

    Raises:
        RecordError: another process holds the lock; the message names it if the system does.
    """
    if fcntl is None:
        yield
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RecordError(
            f"{file.name} is in use by {_holder(file)}; wait for its end, or name another place"
        ) from None
    except OSError:  # a file system without locks
        yield
        return
    try:
        yield
    finally:
        if not file.closed:
            fcntl.flock(file, fcntl.LOCK_UN)


def _holder(file: IO[Any]) -> str:
    """The process that holds a file's lock, in words."""
    inode = os.fstat(file.fileno()).st_ino
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/locks").read_text(encoding="utf-8").splitlines():
            words = line.split()
            if len(words) > 5 and words[1] == "FLOCK" and words[5].endswith(f":{inode}"):
                pid = int(words[4])
                command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                return f"process {pid} ({os.fsdecode(b' '.join(command)).strip()})"
    return "another process"


def write_text(path: Path, text: str) -> None:
    """Replaces ``path`` by ``text`` as UTF-8 in one step. Makes its folder if there is none. A
    byte of a path that is no text is written as an escape."""
    with replacing(path) as draft:
        draft.write_bytes(text.encode(errors="backslashreplace"))


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Strict JSON of a value, with every sign as it is, except bytes of a path that are no text:
    these are escaped, so that the JSON can be written as UTF-8 and read back."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


_SURROGATE = re.compile("[\ud800-\udfff]")


def plain(value: Any) -> Any:
    """``value`` as JSON would bring it back: tuples as lists, keys as strings."""
    return json.loads(json.dumps(value, allow_nan=False))


def read_object(text: str) -> dict[str, Any]:
    """A JSON object, read strictly: no field twice, no number that is not finite.

    Raises:
        RecordError: the text is not such an object.
    """
    raw = _strict(text)
    if not isinstance(raw, dict):
        raise RecordError(f"expected a JSON object, found {_kind(raw)}")
    return raw


def _strict(text: str) -> object:
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"not JSON: {error}") from None


def fields(raw: dict[str, Any], kind: type, prefix: str) -> dict[str, Any]:
    """``raw`` with each value brought to the type that ``kind`` states for it."""
    hints = _hints(kind)
    required = getattr(kind, "__required_keys__", hints)  # a TypedDict may have others
    missing, unknown = [n for n in required if n not in raw], [n for n in raw if n not in hints]
    missing.sort(key=list(hints).index)
    if missing or unknown:
        raise RecordError(
            "; ".join(
                f"{what} field{'s' if len(names) > 1 else ''} "
                + ", ".join(prefix + name for name in names)
                for what, names in (("missing", missing), ("unknown", unknown))
                if names
            )
        )
    return {
        name: _value(raw[name], hint, prefix + name) for name, hint in hints.items() if name in raw
    }


def parsed(raw: object, kind: type[Made], name: str = "") -> Made:
    """A dataclass from the JSON of its ``asdict``: dataclasses, tuples and mappings within it too.

    Args:
        name: name of the value, for messages.

    Raises:
        RecordError: a field is missing, unknown or of another type; the message names it.
    """
    made: Made = _value(raw, kind, name or kind.__name__)
    return made


def parsed_text(text: str, kind: type[Made]) -> Made:
    """A dataclass from the JSON text of its ``asdict``, read as strictly as ``read_object`` reads.

    Raises:
        RecordError: the text is not valid JSON of this dataclass.
    """
    return parsed(_strict(text), kind)


def read_json(file: Path, kind: type[Made]) -> Made:
    """A dataclass from the file that holds the JSON of its ``asdict``.

    Raises:
        RecordError: the file cannot be read or is not valid JSON of this dataclass; the message
            names the file.
    """
    try:
        return parsed_text(read_text(file), kind)
    except OSError as error:
        raise RecordError(f"{file} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, RecordError) as error:
        raise RecordError(f"{file}: {error}") from error


def cache_folder() -> Path:
    """Folder for what fleetfoot may fetch or measure again: ``FLEETFOOT_CACHE``, or the cache
    folder of the user on this system."""
    if named := os.environ.get("FLEETFOOT_CACHE"):
        return Path(named)
    stated = {"win32": "LOCALAPPDATA", "darwin": ""}.get(sys.platform, "XDG_CACHE_HOME")
    if base := os.environ.get(stated):
        return Path(base) / "fleetfoot"
    below = {"win32": "AppData/Local", "darwin": "Library/Caches"}.get(sys.platform, ".cache")
    try:
        return Path.home() / below / "fleetfoot"
    except RuntimeError:  # no HOME, and a user whom the system does not know, as in containers
        return _folder_without_home()


@cache
def _folder_without_home() -> Path:
    """A folder for temporary files that belongs to this user alone."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir()) / f"fleetfoot-{user}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != user or found.st_mode & 0o022:
            raise OSError("others may write to it")
    except OSError:
        folder = Path(tempfile.mkdtemp(prefix="fleetfoot-"))
    log.warning("this user has no home folder; answers are kept in %s (FLEETFOOT_CACHE)", folder)
    return folder


@cache
def _say_once(text: str) -> None:
    log.warning("%s", text)


def remembered(
    subject: str,
    question: Mapping[str, Any],
    make: Callable[[], Made],
    *,
    read: Callable[[Any], Made],
    write: Callable[[Made], Any] = dataclasses.asdict,  # type: ignore[assignment]
    doubt: Callable[[Made], str] = lambda made: "",
    fresh: bool = False,
    cache: Path | None = None,
) -> Made:
    """The answer to ``question``, read from the file of an earlier call; if there is no valid one,
    ``make`` computes it and the file is written.

    The file is named after the question and also contains it. An answer is rejected if its file
    holds another question, is not strict JSON (for example contains NaN), or if ``read`` refuses
    it; the logger "fleetfoot" reports this. A cache that cannot be written is reported too, and is
    not an error.

    Args:
        subject: names the folder in the cache and the answer in messages, for example "machine".
        question: everything that the answer depends on, versions included, as JSON.
        read: makes the answer from the JSON that ``write`` made. It raises ``RecordError`` or
            ``ValueError`` for anything that ``make`` cannot have made.
        doubt: why a computed answer is not worth keeping, which is reported; "" if it is.
        fresh: compute the answer again and replace the file.
        cache: folder of all subjects; default: ``cache_folder()``.
    """
    if not fresh and (found := recalled(subject, question, read=read, cache=cache)) is not None:
        return found
    answer = make()
    if reason := doubt(answer):
        log.warning("%s: the answer is not kept: %s", subject, reason)
        return answer
    asked, file = plain(question), _answer_file(subject, question, cache)
    try:
        write_text(file, to_json({"question": asked, "answer": write(answer)}) + "\n")
    except OSError as error:  # said once: there may be hundreds of answers
        _say_once(f"answers cannot be kept in {file.parent}: {error.strerror or error}")
    return answer


def recalled(
    subject: str,
    question: Mapping[str, Any],
    *,
    read: Callable[[Any], Made],
    cache: Path | None = None,
) -> Made | None:
    """The answer that ``remembered`` kept, or None if there is no valid one; nothing is computed.
    Arguments are those of ``remembered``."""
    asked, file = plain(question), _answer_file(subject, question, cache)
    try:
        held = read_object(read_text(file))
        if held.keys() != {"question", "answer"} or held["question"] != asked:
            raise RecordError("it answers another question than its name says")
        return read(held["answer"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Exception as error:  # anything that a file's content leads ``read`` to
        log.warning("%s: %s is not valid and will be replaced: %s", subject, file, error)
        return None


def _answer_file(subject: str, question: Mapping[str, Any], cache: Path | None) -> Path:
    text = json.dumps(plain(question), sort_keys=True)
    digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    return (cache or cache_folder()) / subject / f"{digest}.json"


def refuse_negatives(value: Any, name: str = "") -> None:
    """Checks every number of plain JSON: counts and times are never below zero.

    Raises:
        RecordError: a number is negative; the message says where.
    """
    if isinstance(value, dict):
        for key, item in value.items():
            refuse_negatives(item, f"{name}.{key}" if name else key)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            refuse_negatives(item, f"{name}[{index}]")
    elif isinstance(value, int | float) and value < 0:
        raise RecordError(f"{name} must not be negative, but is {value}")


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _value(value: object, hint: Any, name: str) -> Any:
    """``value`` in the type that ``hint`` states: a number, a string, a tuple from a list, a dict
    from an object."""
    if hint is Any:
        return value
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        kinds = [arg for arg in args if arg is not type(None)]
        errors = []
        for kind in kinds:
            try:
                return _value(value, kind, name)
            except RecordError as error:
                errors.append(error)
        raise errors[0]
    if typing.is_typeddict(hint) and isinstance(value, dict):
        return fields(value, hint, f"{name}.")
    if dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, dict):
        made = fields(value, hint, f"{name}.")
        try:
            return hint(**made)
        except ValueError as error:  # what the dataclass itself demands of its fields
            raise RecordError(f"{name}: {error}") from None
    if origin is typing.Literal and value in args:
        return value
    if origin in (dict, Mapping) and isinstance(value, dict):
        return {key: _value(item, args[1], f"{name}.{key}") for key, item in value.items()}
    if origin is tuple and isinstance(value, list):
        if args[-1] is not Ellipsis and len(value) != len(args):
            raise RecordError(f"{name} must hold {len(args)} numbers, not {len(value)}")
        return tuple(_value(item, args[0], f"{name}[{i}]") for i, item in enumerate(value))
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not -sys.float_info.max <= value <= sys.float_info.max:  # NaN fails both
            raise RecordError(f"{name} must be finite, not {_kind(value)}")
        return float(value)
    if type(value) is hint:  # not isinstance: True is no number here
        return value
    raise RecordError(
        f"{name} must be {_WORDS.get(origin or hint, 'an object')}, not {_kind(value)}"
    )


_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a string",
    tuple: "a list of numbers",
}


def _kind(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number that a record may hold")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"field occurs twice: {next(n for n in names if names.count(n) > 1)!r}")
    return found
