"""Copies of a network that may be changed and run while the given one stays as it was.

A network is more than its weights: it keeps configurations, locks, open files, tables of biases
that its forward fills by device. This is the one way to copy such a network, to put it into eval
mode, to give a copy in float64, and to put back what runs have changed in it.
"""

from __future__ import annotations

import copy
import functools
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, WeakValueDictionary

import torch
from torch import Tensor, fx, nn

M = TypeVar("M", bound=nn.Module)

_INTERNALS = frozenset(vars(nn.Module()))
"""What every module has: its parameters, buffers, children, hooks and mode."""
DEEPEST = 100
"""Most modules within one another that are handled: PyTorch itself walks a network by recursion,
and a call of each level takes several of Python's 1,000. Networks nest about ten."""
_CONTAINERS = (dict, list, set, deque)
_WALKED = {"argparse", "collections", "dataclasses", "types", "weakref"}
"""Modules of the standard library whose objects are containers of somebody's values."""


def check_nesting(model: nn.Module) -> None:
    """Checks that a network can be walked: no module contains itself, and not too many lie within
    one another.

    Raises:
        ValueError: it cannot; the message names the place.
    """
    heights: dict[int, int] = {}  # levels below each module that has been walked
    path: list[tuple[str, nn.Module, Iterator[tuple[str, nn.Module | None]]]]
    path = [("", model, iter(model._modules.items()))]
    above = {id(model)}
    deepest = [0]
    while path:
        _, module, children = path[-1]
        for key, child in children:
            if child is None:
                continue
            if id(child) in above:
                place = ".".join([step for step, _, _ in path[1:]] + [key])
                raise ValueError(
                    f"{type(model).__name__} cannot be used: its module {place[:80]!r} "
                    f"({type(child).__name__}) contains itself; keep such a reference outside "
                    "PyTorch's children, for example in a tuple"
                )
            if id(child) not in heights:
                path.append((key, child, iter(child._modules.items())))
                above.add(id(child))
                deepest.append(0)
                break
            deepest[-1] = max(deepest[-1], 1 + heights[id(child)])
        else:
            path.pop()
            above.discard(id(module))
            heights[id(module)] = height = deepest.pop()
            if deepest:
                deepest[-1] = max(deepest[-1], 1 + height)
    if heights[id(model)] > DEEPEST:
        raise ValueError(
            f"{type(model).__name__} cannot be used: {heights[id(model)]:,} of its modules lie "
            f"within one another, more than the {DEEPEST} that are handled; put them side by side"
        )


def copied(model: M, known: dict[int, Any] | None = None) -> M:
    """A deep copy of ``model``, tensors that it holds twice still shared.

    What cannot be copied, for example a Python module, a lock, an open file or a generator, is
    shared with the given network. Kept results that carry a gradient's history are copied without.

    Args:
        known: what stands for a value in the copy, by the value's ``id``, as ``copy.deepcopy``
            takes it.

    Raises:
        ValueError: the network cannot be copied, and why.
    """
    check_nesting(model)
    known = dict(known or {})
    for module in model.modules():
        for value in _tensors(_own(module).values()):
            if not value.is_leaf:
                known.setdefault(id(value), value.detach().clone())
    try:
        return copy.deepcopy(model, dict(known))
    except Exception:  # anything that a stranger's object can raise when it is copied
        shared = {id(value): value for value in _uncopyable(model)}
    try:
        return copy.deepcopy(model, known | shared)
    except Exception as error:
        raise ValueError(
            f"{type(model).__name__} cannot be copied: {type(error).__name__}: {error}"
        ) from error


def evaluated_(model: M) -> M:
    """``model`` itself, in eval mode, whatever its own ``train`` takes or returns.

    Raises:
        ValueError: a module contains itself, or too many lie within one another.
    """
    check_nesting(model)
    try:
        model.eval()
    except TypeError:  # a train() without the argument of nn.Module's
        for module in model.modules():
            module.training = False
    return model


def in_float64(model: M) -> M:
    """A copy of ``model`` on the CPU in float64, and with it the tensors that its modules keep
    outside parameters and buffers; its mode is that of ``model``."""
    made = copied(model)
    to_float64_(made)
    return made


def to_float64_(model: nn.Module) -> dict[Tensor, Tensor]:
    """Puts ``model`` and the tensors that its modules keep on the CPU in float64. Returns each kept
    tensor that changed, by what stands for it."""
    model.cpu().double()
    parameters = {id(parameter) for parameter in model.parameters()}
    changed: dict[int, tuple[Tensor, Tensor]] = {}

    def cast(tensor: Tensor) -> Tensor:
        if id(tensor) in parameters or not tensor.is_floating_point():
            return tensor
        made = changed.get(id(tensor))
        if made is None:
            made = changed[id(tensor)] = tensor, tensor.detach().to("cpu", torch.float64)
        return made[1]

    for place in list(_places(model)):
        _change_(place, cast)
    return {new: old for old, new in changed.values() if new is not old}


def _change_(place: Any, cast: Callable[[Tensor], Tensor]) -> None:
    """Changes the tensors that lie in the container ``place`` itself, or in tuples there."""

    def of(value: Any) -> Any:
        if isinstance(value, Tensor):
            return cast(value)
        if type(value) is tuple:
            new = tuple(map(of, value))
            return value if all(a is b for a, b in zip(value, new, strict=True)) else new
        return value

    if isinstance(place, dict | _Slots):
        for key, value in list(place.items()):
            if (new := of(value)) is not value:
                place[key] = new
    elif isinstance(place, list | deque):
        for i, value in enumerate(list(place)):
            if (new := of(value)) is not value:
                place[i] = new


class Kept:
    """What a network keeps between two calls, at the moment when this is made: attributes of its
    modules, what lies in their lists, dicts, sets and objects, buffers, and tables of their classes
    and of the files that define these."""

    def __init__(self, model: nn.Module) -> None:
        self.attributes = {m: (dict(vars(m)), dict(m._buffers)) for m in model.modules()}
        own = {id(vars(m)) for m in self.attributes}
        places = list(_places(model))
        self._places = [(place, copy.copy(place)) for place in places if id(place) not in own]
        kept = {id(t): t for place in places for t in _tensors([place])}
        kept |= {id(t): t for m in self.attributes for t in m._buffers.values() if t is not None}
        self._values = [
            (t, t._version, t.detach().clone())
            for t in kept.values()
            if not t.is_meta and not isinstance(t, nn.Parameter) and not t.is_inference()
        ]
        self._tables = [(table, copy.copy(table)) for table in _common_tables(model)]
        self._caches = [(cache, cache.cache_info().misses) for cache in _caches(model)]

    def restore_(self) -> None:
        """Puts all of it back, in the modules that were there; takes away what has been added."""
        for module, (before, buffers) in self.attributes.items():
            for name in set(vars(module)) - set(before):
                delattr(module, name)
            vars(module).update(before)
            module._buffers.clear()
            module._buffers.update(buffers)
        self._restore_contents_()

    def restore_kept_(self) -> None:
        """Puts back all but buffers, children and what every module has: for a network whose layers
        and types have changed since."""
        for module, (before, _) in self.attributes.items():
            for name, value in before.items():
                if name not in _INTERNALS:
                    vars(module)[name] = value
        self._restore_contents_()

    def _restore_contents_(self) -> None:
        for place, before in self._places:
            _refill_(place, before)
        for tensor, version, value in self._values:
            if tensor._version != version:
                with torch.no_grad():
                    tensor.copy_(value)
        for table, before in self._tables:
            now = set(map(id, _leaves(table)))
            if now != set(map(id, _leaves(before))) and any(_of_a_run(table)):
                _refill_(table, before)
        for cache, misses in self._caches:
            if cache.cache_info().misses != misses:  # what it holds may be of a run
                cache.cache_clear()


class _Slots(MutableMapping[str, Any]):
    """The attributes of an object that has ``__slots__``, as a mapping."""

    def __init__(self, held: Any) -> None:
        self._held = held
        self._names = [
            name
            for kind in type(held).__mro__
            for name in _slot_names(kind)
            if not name.startswith("__")
        ]

    def __getitem__(self, name: str) -> Any:
        try:
            return getattr(self._held, name)
        except AttributeError:
            raise KeyError(name) from None

    def __setitem__(self, name: str, value: Any) -> None:
        setattr(self._held, name, value)

    def __delitem__(self, name: str) -> None:
        delattr(self._held, name)

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._names if hasattr(self._held, name))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __copy__(self) -> dict[str, Any]:
        return dict(self)


def _slot_names(kind: type) -> tuple[str, ...]:
    names = vars(kind).get("__slots__", ())
    return (names,) if isinstance(names, str) else tuple(names)


def _refill_(place: Any, before: Any) -> None:
    if isinstance(place, list):
        place[:] = before
        return
    place.clear()
    (place.extend if isinstance(place, deque) else place.update)(before)


def _own(module: nn.Module) -> dict[str, Any]:
    """The attributes of ``module`` that not every module has."""
    return {name: value for name, value in vars(module).items() if name not in _INTERNALS}


def _places(model: nn.Module) -> Iterator[Any]:
    """Each container, once, in which some module keeps values; modules' own attributes first."""
    seen: dict[int, Any] = {}
    for module in model.modules():
        yield vars(module)
        waiting = [*_own(module).values()]
        while waiting:
            value = waiting.pop()
            if id(value) in seen or isinstance(value, nn.Module | Tensor):
                continue
            seen[id(value)] = value
            if isinstance(value, _CONTAINERS):
                yield value
            elif _is_plain_object(value):
                yield vars(value)
            if _is_slotted(value):
                yield _Slots(value)
            waiting += _inside(value)


def _inside(value: Any) -> list[Any]:
    found: list[Any] = []
    if isinstance(value, dict):
        found += value.values()
    elif isinstance(value, (*_CONTAINERS, tuple, frozenset)):
        found += value
    if _is_plain_object(value):
        found += vars(value).values()
    if _is_slotted(value):
        found += _Slots(value).values()
    return found


def _is_plain_object(value: Any) -> bool:
    """Whether ``value`` is an object whose attributes are its state: none of a runtime's."""
    return isinstance(getattr(value, "__dict__", None), dict) and _is_somebodys(value)


def _is_slotted(value: Any) -> bool:
    """Whether ``value`` is an object that keeps state in slots: none of a runtime's."""
    return any(map(_slot_names, type(value).__mro__)) and _is_somebodys(value)


def _is_somebodys(value: Any) -> bool:
    kinds = (nn.Module, Tensor, type, ModuleType, FunctionType, MethodType, BuiltinFunctionType)
    if isinstance(value, kinds):
        return False
    root = type(value).__module__.partition(".")[0]
    return root != "torch" and (root not in sys.stdlib_module_names or root in _WALKED)


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    return (leaf for value in values for leaf in _leaves(value) if isinstance(leaf, Tensor))


def _leaves(value: Any) -> Iterator[Any]:
    """What lies in nested containers; a container that holds itself is walked once."""
    waiting, seen = [value], set()
    while waiting:
        one = waiting.pop()
        if not isinstance(one, (*_CONTAINERS, _Slots, tuple, frozenset)):
            yield one
        elif id(one) not in seen:
            seen.add(id(one))
            waiting += one.values() if isinstance(one, dict | _Slots) else one


def _of_a_run(table: Any) -> Iterator[bool]:
    return (isinstance(leaf, Tensor | fx.Proxy) for leaf in _leaves(table))


def _common_tables(model: nn.Module) -> Iterator[Any]:
    """The containers that the classes of the modules hold, and the files that define them: all
    instances share these, copies too. A dictionary of weak keys or values holds a dict; an object
    of these files' classes holds its attributes."""
    homes = list(_homes(model))
    files = {home.get("__name__") for home in homes}
    seen = set()
    for home in homes:
        for name, value in list(home.items()):
            if isinstance(value, WeakKeyDictionary | WeakValueDictionary):
                value = vars(value)["data"]
            elif type(value).__module__ in files and _is_plain_object(value):
                value = vars(value)
            if name.startswith("__") or not isinstance(value, _CONTAINERS) or id(value) in seen:
                continue
            seen.add(id(value))
            yield value


def _homes(model: nn.Module) -> Iterator[Any]:
    """What the classes of the modules hold, and the files that define these classes."""
    classes = {kind for m in model.modules() for kind in type(m).__mro__}
    written = [k for k in classes if k.__module__.partition(".")[0] not in ("torch", "builtins")]
    names = {kind.__module__ for kind in written}
    yield from map(vars, written)
    yield from (vars(sys.modules[name]) for name in names if name in sys.modules)


def _caches(model: nn.Module) -> Iterator[Any]:
    """The functions and methods with ``functools.lru_cache`` in those places and on the modules."""
    seen = set()
    for home in (*_homes(model), *map(_own, model.modules())):
        for value in list(home.values()):
            cache = getattr(value, "__func__", value)  # of a static method or class method
            if isinstance(cache, _CACHED) and id(cache) not in seen:
                seen.add(id(cache))
                yield cache


_CACHED = type(functools.lru_cache(len))


def _uncopyable(model: nn.Module) -> list[Any]:
    """The values that ``copy.deepcopy`` fails on, the innermost ones."""
    found: list[Any] = []
    memo: dict[int, Any] = {}  # what a trial need not copy again
    held: list[Any] = []  # a value that is made while we look must not give its id to the next
    for module in model.modules():
        memo |= {id(t): t for t in (*module._parameters.values(), *module._buffers.values())}
        memo[id(module)] = module

    def look(value: Any) -> None:
        if id(value) in memo:
            return
        held.append(value)
        memo[id(value)] = value
        if isinstance(value, Tensor):
            return
        for one in _parts(value):
            look(one)
        del memo[id(value)]
        if type(value) in (dict, list, tuple, set, frozenset):
            memo[id(value)] = value  # it can be copied when its parts can
            return
        try:
            copy.deepcopy(value, dict(memo))
        except Exception:  # anything that a stranger's object can raise when it is copied
            found.append(value)
        memo[id(value)] = value

    for module in model.modules():
        for value in vars(module).values():
            look(value)
    return found


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if isinstance(value, (*_CONTAINERS, tuple, frozenset)):
        return list(value)
    if isinstance(value, MethodType):
        return [value.__self__]
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, type | ModuleType | FunctionType | BuiltinFunctionType):
        return []
    state = getattr(value, "__dict__", None)
    slots = [
        getattr(value, name, None)
        for kind in type(value).__mro__
        for name in getattr(kind, "__slots__", ())
        if isinstance(name, str)
    ]
    return [*(state.values() if isinstance(state, dict) else ()), *slots]
