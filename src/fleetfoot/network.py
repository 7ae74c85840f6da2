"""A network by its name: of the zoo, of timm or torchvision by prefix, or a user's own by file and
factory, ``nets/mine.py:build``; and the size and accuracy that are published for it.

The factory is a function without required arguments, or a class, that gives an ``nn.Module``; a
name that holds a module will do. The file runs as Python would run it, its own folder on the path,
so name only files that you trust.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from fleetfoot.errors import FactoryError, UnknownNameError
from fleetfoot.models import configure, create_model
from fleetfoot.weights.published import published_top1, timm_top1


def is_file(name: str) -> bool:
    """Whether ``name`` means a user's file: it has ``.py:`` in it, or ends in ``.py``."""
    return ".py:" in name or name.endswith(".py")


def network(name: str, **options: Any) -> nn.Module:
    """A network by name, as ``create_model``, or by ``path.py:factory``, as ``create``.

    Raises:
        UnknownNameError: no network has that name, or the file has no such factory.
        FactoryError: the file or its factory does not give a network.
    """
    return create(name) if is_file(name) else create_model(name, **options)


def create(name: str) -> nn.Module:
    """What the factory of ``path.py:factory`` gives.

    Raises:
        UnknownNameError: the file has no such factory.
        FactoryError: the file is missing or raises, or the factory raises, asks for arguments or
            gives something else than an ``nn.Module``.
    """
    path, colon, factory_name = name.rpartition(":")
    if not colon or not factory_name:
        path = name.removesuffix(":")
        raise FactoryError(f"{name} names no factory; write {path}:FACTORY, as {path}:build")
    file = Path(path).expanduser()
    if not file.is_file():
        raise FactoryError(f"{path} is not a file here; name one as path/to/file.py:{factory_name}")
    with _folder_on_path(file):
        namespace = _executed(file)
        if not hasattr(namespace, factory_name):
            own = [known for known, value in vars(namespace).items() if _is_factory(value)]
            raise UnknownNameError.of(f"factory of {path}", factory_name, own)
        factory = getattr(namespace, factory_name)
        if isinstance(factory, nn.Module):
            return factory
        return _called(name, factory)


def _is_factory(value: Any) -> bool:
    """A function or network class, which an unknown name may have meant."""
    return inspect.isfunction(value) or (inspect.isclass(value) and issubclass(value, nn.Module))


@contextmanager
def _folder_on_path(file: Path) -> Iterator[None]:
    """The file may import its neighbours, as when Python runs it."""
    folder = str(file.resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


def _executed(file: Path) -> ModuleType:
    digest = hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:8]
    module_name = f"_fleetfoot_user_{digest}_{file.stem}"
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None:
        raise FactoryError(f"{file} cannot be imported; give a file whose name ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses and pickles look their module up there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[module_name]
        raise FactoryError(f"{file} does not import: {type(error).__name__}: {error}") from error
    return module


def _called(name: str, factory: Any) -> nn.Module:
    if not callable(factory):
        raise FactoryError(f"{name} is a {type(factory).__name__}; name a function or a class")
    try:
        needed = [p.name for p in inspect.signature(factory).parameters.values() if _required(p)]
    except (TypeError, ValueError):  # a callable without a signature; calling it will tell
        needed = []
    if needed:
        raise FactoryError(
            f"{name} asks for {', '.join(needed)}; name a factory that needs no arguments, as a "
            "function that calls it with yours"
        )
    try:
        made = factory()
    except Exception as error:
        raise FactoryError(f"{name} raised {type(error).__name__}: {error}") from error
    if not isinstance(made, nn.Module):
        raise FactoryError(
            f"{name} gave a {type(made).__name__}, not an nn.Module; let it return one"
        )
    return made


def _required(parameter: inspect.Parameter) -> bool:
    return parameter.default is inspect.Parameter.empty and parameter.kind not in (
        inspect.Parameter.VAR_POSITIONAL,
        inspect.Parameter.VAR_KEYWORD,
    )


def native_size(name: str) -> int:
    """Height and width, in pixels, at which the network's accuracy is published; 224 where its
    library does not say.

    Raises:
        UnknownNameError: no network has that name.
    """
    library, _, bare = name.rpartition(":")
    if library == "timm":
        import timm

        if not timm.is_model(bare):
            raise UnknownNameError.of("timm model", bare, timm.list_models())
        published = timm.get_pretrained_cfg(bare)
        return int(published.input_size[-1]) if published else 224
    if library == "torchvision":
        crop = getattr(_torchvision_weights(bare).transforms(), "crop_size", [224])
        return int(crop[0])
    return configure(name).input_size


def published(name: str, size: int) -> tuple[float | None, str]:
    """Published top-1 in percent and where it is printed; None and "" where no source is known.
    The source says so where the accuracy is that of another input size than ``size``."""
    library, _, bare = name.rpartition(":")
    if library == "timm" and (at_size := timm_top1(bare, size)):
        return at_size
    found = published_top1(name)
    if found is None:
        return None, ""
    top1, source = found
    own = native_size(name)
    return top1, source if own == size else f"{source}, at {own} pixels"


def _torchvision_weights(bare: str) -> Any:
    """The default weights of a torchvision classifier: a member of its enum.

    Raises:
        UnknownNameError: torchvision has no such network.
    """
    import torchvision

    if bare not in torchvision.models.list_models():
        raise UnknownNameError.of("torchvision model", bare, torchvision.models.list_models())
    return torchvision.models.get_model_weights(bare).DEFAULT
