"""A user's own network, by file and factory: ``nets/mine.py:build``, ``nets/mine.py:Net(depth=2)``.

The factory is a function or class that returns an ``nn.Module``, or a name that holds a module. The
file runs as Python would run it, so name only files that you trust. While it loads, its folder, the
folder that holds its package, and the working folder come first on Python's path. Afterwards they
stay at the end of the path, because a forward may import when it runs; there they hide no other
package.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import linecache
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from fleetfoot.copying import check_nesting
from fleetfoot.errors import FactoryError, UnknownNameError, first_line
from fleetfoot.files import read_text

_folders: dict[Path, None] = {}
"""Folders of the user's files loaded so far, in the order of loading."""
_FOREIGN = (Path(os.__file__).parent, Path(__file__).parents[1])
"""Folders of Python's own modules and of this package, which may lie below a user's folder."""


def is_file(name: str) -> bool:
    """Whether ``name`` means a user's file: it contains ``.py:`` or ends in ``.py``.

    >>> is_file("nets/mine.py:build"), is_file("timm:resnet18")
    (True, False)
    """
    return ".py:" in name or name.endswith(".py")


def create(name: str) -> nn.Module:
    """What the factory of ``path.py:factory`` returns; its train or eval mode stays as it is.

    Raises:
        UnknownNameError: the file has no such factory.
        FactoryError: the file is missing or raises; the factory raises, needs more arguments or
            returns something other than an ``nn.Module``; or an argument is not a literal.
    """
    wanted = _parsed(name)
    with _while_loading(wanted.file):
        namespace = _executed(wanted.file)
        if not hasattr(namespace, wanted.factory):
            own = [known for known, value in vars(namespace).items() if _is_factory(value)]
            raise UnknownNameError.of(f"factory of {wanted.path}", wanted.factory, own)
        factory = getattr(namespace, wanted.factory)
        if isinstance(factory, nn.Module) and not wanted.called:
            return factory
        return _called(wanted, factory)


@dataclass(frozen=True)
class _Wanted:
    """The parts of ``path.py:Factory(scale=2)``."""

    name: str
    path: str
    file: Path
    factory: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] | None = None
    """Keyword arguments; None if the name gives no arguments at all, not even ``()``."""

    @property
    def called(self) -> bool:
        return self.kwargs is not None


def _parsed(name: str) -> _Wanted:
    stem, _, text = name.partition(".py:")
    path = stem if stem.endswith(".py") and not text else f"{stem}.py"
    file = Path(path).expanduser()
    if not file.is_file():
        named = text or "FACTORY"
        raise FactoryError(f"there is no file {path}; write the network as path/to/file.py:{named}")
    if not text:
        found = _likely(file)
        example = f", for example {path}:{found[-1]}" if found else ""
        raise FactoryError(f"{path} names no factory; write {path}:FACTORY{example}")
    try:
        tree = ast.parse(text, mode="eval").body
        if isinstance(tree, ast.Name):
            return _Wanted(name, path, file, tree.id)
        if not isinstance(tree, ast.Call) or not isinstance(tree.func, ast.Name):
            raise ValueError("it is not the call of a name")
        args = tuple(ast.literal_eval(value) for value in tree.args)
        if any(keyword.arg is None for keyword in tree.keywords):
            raise ValueError("arguments after ** are not allowed")
        kwargs = {str(k.arg): ast.literal_eval(k.value) for k in tree.keywords}
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        raise FactoryError(
            f"{text!r} is not a factory; write a name, or a call with literals only, for example "
            f"{path}:Net(depth=2, act='relu')"
        ) from None
    return _Wanted(name, path, file, tree.func.id, args, kwargs)


def _likely(file: Path) -> list[str]:
    """Functions and classes that a file defines, read without running it; the last one is often
    the network."""
    try:
        body = ast.parse(read_text(file)).body
    except (SyntaxError, ValueError, OSError):
        return []
    kinds = (ast.FunctionDef, ast.ClassDef)
    return [one.name for one in body if isinstance(one, kinds) and not one.name.startswith("_")]


def _is_factory(value: Any) -> bool:
    """Whether ``value`` is a function or a network class, so that a mistyped name may mean it."""
    return inspect.isfunction(value) or (inspect.isclass(value) and issubclass(value, nn.Module))


def _package(file: Path) -> tuple[Path, str]:
    """The folder that holds the file's outermost package, and the file's name within it."""
    folder = file.parent
    parts = [] if file.stem == "__init__" else [file.stem]
    while (folder / "__init__.py").is_file() and folder.parent != folder:
        parts.insert(0, folder.name)
        folder = folder.parent
    return folder, ".".join(parts)


@contextmanager
def _while_loading(file: Path) -> Iterator[None]:
    """Lets the file's imports find its neighbours, and sends what the file prints to stderr, both
    now and when the network runs."""
    file = file.resolve()
    folders = dict.fromkeys((file.parent, _package(file)[0], Path.cwd()))
    _folders.update(dict.fromkeys((file.parent, _package(file)[0])))
    before, loaded = list(sys.path), set(map(id, sys.modules.values()))
    sys.path[:0] = [str(folder) for folder in folders]
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        added = [path for path in sys.path if path not in before and Path(path) not in folders]
        later = [str(folder) for folder in folders if str(folder) not in before]
        sys.path[:] = [*before, *added, *later]
        for module in list(sys.modules.values()):
            if id(module) not in loaded and _is_users(getattr(module, "__file__", None)):
                vars(module).setdefault("print", _print_to_stderr)


def _print_to_stderr(*values: Any, file: Any = None, **options: Any) -> None:
    """``print`` for a user's file; writes to stderr, so that a command's output stays clean."""
    print(*values, file=sys.stderr if file is None else file, **options)


def _is_users(file: str | None) -> bool:
    """Whether a source file lies in a user's folder, and belongs neither to Python nor to a package
    installed there."""
    if not isinstance(file, str) or "site-packages" in file:
        return False
    path = Path(file)
    if any(path.is_relative_to(folder) for folder in _FOREIGN):
        return False
    return any(path.is_relative_to(folder) for folder in _folders)


def _executed(file: Path) -> ModuleType:
    resolved = file.resolve()
    root, dotted = _package(resolved)
    try:
        if resolved.parent != root:
            return _imported(resolved, root, dotted)
        digest = hashlib.sha256(os.fsencode(resolved)).hexdigest()[:8]
        name = f"_fleetfoot_user_{digest}_{file.stem}"
        spec = importlib.util.spec_from_file_location(name, resolved)
        if spec is None or spec.loader is None:
            raise FactoryError(f"{file} cannot be imported; give a file whose name ends in .py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses and pickles look their module up there
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        return module
    except FactoryError:
        raise
    except (Exception, SystemExit) as error:
        raise FactoryError(f"{file} cannot be imported: {_told(error)}") from error


def _imported(file: Path, root: Path, dotted: str) -> ModuleType:
    """Imports the file as a module of its package, so that its relative imports work."""
    top = dotted.partition(".")[0]
    there = sys.modules.get(top)
    if there is not None and not _within(there, root / top):
        if not _is_users(getattr(there, "__file__", None)):
            raise FactoryError(
                f"{file} lies in a package named {top!r}, and another package of that name is "
                "already loaded; rename the folder"
            )
        for key in [key for key in sys.modules if key == top or key.startswith(f"{top}.")]:
            del sys.modules[key]  # another file's package of the same name
    importlib.invalidate_caches()
    return importlib.import_module(dotted)


def _within(module: ModuleType, folder: Path) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).resolve().is_relative_to(folder)


def _called(wanted: _Wanted, factory: Any) -> nn.Module:
    name = f"{wanted.path}:{wanted.factory}"
    if not callable(factory):
        raise FactoryError(f"{name} is a {type(factory).__name__}; name a function or a class")
    kwargs = wanted.kwargs or {}
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):  # a callable without a signature; the call itself will tell
        signature = None
    if signature is not None:
        given = signature.bind_partial() if not wanted.called else None
        needed = [p.name for p in signature.parameters.values() if _required(p)]
        if given is not None and needed:
            values = ", ".join(f"{one}=..." for one in needed)
            raise FactoryError(
                f"{name} needs {', '.join(needed)}; name a factory that needs no arguments, or "
                f"give them: '{name}({values})'"
            )
        try:
            signature.bind(*wanted.args, **kwargs)
        except TypeError as error:
            raise FactoryError(f"{name}{signature} cannot be called: {error}") from None
    try:
        made = factory(*wanted.args, **kwargs)
    except (Exception, SystemExit) as error:
        raise FactoryError(f"{name} raised {_told(error)}") from error
    if not isinstance(made, nn.Module):
        raise FactoryError(f"{name} returned a {type(made).__name__}; it must return an nn.Module")
    check_nesting(made)
    return made


def _required(parameter: inspect.Parameter) -> bool:
    return parameter.default is inspect.Parameter.empty and parameter.kind not in (
        inspect.Parameter.VAR_POSITIONAL,
        inspect.Parameter.VAR_KEYWORD,
    )


def _told(error: BaseException) -> str:
    """The error's type, the first line of its message, and the line of the user's file that it came
    from."""
    text = f"{type(error).__name__}: {first_line(error)}".removesuffix(": ")
    return text + place_of(error)


def place_of(error: BaseException) -> str:
    """The last line of a user's file that ``error`` passed through, written " (mine.py, line 3:
    x = y)"; "" if it passed through none."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, SyntaxError) and _is_users(seen.filename):
            line = (seen.text or "").strip()
            return f" ({Path(str(seen.filename)).name}, line {seen.lineno}: {line})"
        for frame, number in reversed(list(traceback.walk_tb(seen.__traceback__))):
            file = frame.f_code.co_filename
            if _is_users(file):
                line = linecache.getline(file, number).strip()
                return f" ({Path(file).name}, line {number}: {line})"
        seen = seen.__cause__ or seen.__context__
    return ""
