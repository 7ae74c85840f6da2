"""Pickles read as data, by a machine for pickle's opcodes that imports nothing and calls nothing.

A pickle is a program. This machine keeps its lists, dictionaries, numbers and texts, and what it
would call is looked up in a table here: tensors and NumPy's arrays become descriptions of
themselves, other known data (dates, paths, namespaces) becomes a ``Thing``, and any other call is
refused. An object of an unknown class becomes a ``Thing`` too, because none of its code runs.

Each opcode costs time and memory in proportion to its own bytes. Keys of dictionaries are never
nested, since the hash of a nested tuple may take a time that is exponential in its size.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
import torch

from fleetfoot.weights.described import (
    DATA,
    QUANTISED,
    STORAGES,
    UNUSABLE,
    Array,
    Dtype,
    Name,
    Storage,
    Thing,
    Unusable,
    View,
)

MOST_BYTES = 64 << 20
"""Limit for the bytes of one pickle. Those of large training checkpoints take 10 MB."""
LONGEST_INTEGER = 255
"""Limit for the bytes of one integer."""
LARGEST_KEY = 1 << 60
"""Limit for an integer as a key. Larger ones can be chosen so that all have the same hash."""
MOST_TUPLE_KEYS = 2000
LONGEST_TUPLE_KEY = 16
MOST_DIMENSIONS = 32


class CodeError(Exception):
    """The pickle would call a function, or use a class in a way that runs code."""


class BrokenError(Exception):
    """The pickle is truncated, malformed or beyond a limit."""


_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}


def load(file: BinaryIO, size: int) -> Any:
    """The object that one pickle describes, read from the file's present place.

    >>> import io, pickle
    >>> text = pickle.dumps({"epoch": 3, "when": [1.5, None]}, protocol=2)
    >>> load(io.BytesIO(text), len(text))
    {'epoch': 3, 'when': [1.5, None]}

    Args:
        size: bytes from there to the end of the file.

    Raises:
        CodeError: the pickle would run code; the message names what it calls.
        BrokenError: the pickle is malformed or beyond a limit.
    """
    return _Machine(file, min(size, MOST_BYTES)).run()


class _Machine:
    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file = file
        self.left = size
        self.unspent = size
        """Items that may still be copied from one object to another."""
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.tuple_keys = 0

    def run(self) -> Any:
        try:
            while True:
                code = self.take(1)[0]
                if code == ord("."):
                    return self.stack.pop()
                step = _STEPS.get(code)
                if step is None:
                    raise BrokenError(f"it uses the opcode {code:#04x}, which weights never have")
                step(self)
        except (IndexError, KeyError, TypeError, ValueError, OverflowError, struct.error) as error:
            raise BrokenError(f"malformed at an opcode: {type(error).__name__}") from error

    def take(self, count: int) -> bytes:
        if not 0 <= count <= self.left:
            raise BrokenError("it ends early, or is larger than any pickle of weights")
        self.left -= count
        taken = self.file.read(count)
        if len(taken) != count:
            raise BrokenError("it ends early")
        return taken

    def number(self, form: str) -> int:
        return int(struct.unpack(form, self.take(struct.calcsize(form)))[0])

    def line(self) -> str:
        line = self.file.readline(min(self.left, 1000))
        self.left -= len(line)
        if not line.endswith(b"\n"):
            raise BrokenError("it ends early")
        return line[:-1].decode("utf-8")

    def spend(self, count: int) -> None:
        """Counts items that are copied: the same object may be copied often, at a few bytes each
        time, and honest pickles hold as many items as they copy."""
        self.unspent -= count
        if self.unspent < 0:
            raise BrokenError("it copies the same items over and over")

    def marked(self) -> list[Any]:
        """What stands above the last mark; the stack becomes what stood below it."""
        found, self.stack = self.stack, self.marks.pop()
        return found

    def key(self, value: Any) -> Any:
        """``value``, if it may be the key of a dictionary."""
        if isinstance(value, tuple) and not isinstance(value, Name):
            self.tuple_keys += 1
            if len(value) > LONGEST_TUPLE_KEY or self.tuple_keys > MOST_TUPLE_KEYS:
                raise BrokenError("too many keys are tuples, or one is too long")
            for item in value:
                if isinstance(item, tuple) and not isinstance(item, Name):
                    raise BrokenError("a key is a tuple within a tuple, which weights never have")
                self.key(item)
        elif isinstance(value, int):
            if abs(value) > LARGEST_KEY:
                raise BrokenError("a key is an integer that is too large")
        elif value is not None and not isinstance(value, str | bytes | float | Name | Thing):
            raise BrokenError(f"a key is a {type(value).__name__}, which weights never have")
        return value

    def dictionary(self, pairs: Any) -> dict[Any, Any]:
        return {self.key(name): value for name, value in pairs}

    def put(self, owner: Any, items: list[Any]) -> None:
        """Puts keys and values, which take turns in ``items``, into ``owner``."""
        if len(items) % 2:
            raise BrokenError("a key has no value")
        into = owner.entries if isinstance(owner, Thing) else owner
        if not isinstance(into, dict):
            raise BrokenError("entries go into something that has none")
        into.update(self.dictionary(zip(items[::2], items[1::2], strict=True)))

    def add(self, owner: Any, items: list[Any]) -> None:
        if isinstance(owner, list):
            owner.extend(items)
        elif isinstance(owner, Thing):
            first = len(owner.entries)
            owner.entries.update((first + i, item) for i, item in enumerate(items))
        else:
            raise BrokenError("items go into something that has none")

    def call(self, function: Any, args: Any) -> Any:
        if not isinstance(function, Name) or not isinstance(args, tuple) or isinstance(args, Name):
            raise CodeError("what another object returns")
        maker = _MAKERS.get(str(function))
        if maker is not None:
            return maker(self, args)
        if str(function) in DATA:
            return Thing(str(function))
        if function.module == "torch._utils" and function.name in UNUSABLE:
            return Unusable(UNUSABLE[function.name])
        raise CodeError(str(function))

    def make(self, kind: Any) -> Any:
        """An object of the class ``kind``, without what its own ``__new__`` would do."""
        if not isinstance(kind, Name):
            raise CodeError("what another object returns")
        return {} if str(kind) == "collections.OrderedDict" else Thing(str(kind))

    def build(self, owner: Any, state: Any) -> None:
        if isinstance(owner, Thing):
            owner.state = state
        elif isinstance(owner, Array):
            _, shape, dtype, fortran, raw = state
            owner.value = _array(raw, dtype, shape, "F" if fortran else "C")
        elif isinstance(owner, Dtype):
            owner.order = "<" if state[1] == "<" else ">" if state[1] == ">" else "="
        elif not isinstance(owner, dict | list | View | Unusable):
            raise BrokenError("a state is set on something that has none")

    def stored(self, identity: Any) -> Any:
        """What a persistent id of torch names: a storage."""
        if not isinstance(identity, tuple):
            raise BrokenError("it refers to something other than a storage")
        if len(identity) == 4 and identity[0] == "module":
            return identity[1]  # a class with its source text, which torch only compares
        kind, storage, key, _, count, *view = identity
        if kind != "storage" or not isinstance(storage, Name) or any(view):
            raise BrokenError("it refers to something other than a storage")
        if not isinstance(count, int) or not isinstance(key, str | int) or count < 0:
            raise BrokenError("the size of a storage is no number")
        if storage.module not in ("torch", "torch.storage") or storage.name not in STORAGES:
            known = storage.module == "torch" and storage.name in QUANTISED
            if not known:
                raise BrokenError(f"{storage} is no storage")
            return Unusable("a quantised tensor")
        return Storage(str(key), STORAGES[storage.name], count)


def _array(raw: Any, dtype: Any, shape: Any, order: str) -> np.ndarray[Any, Any]:
    if not isinstance(raw, bytes | bytearray) or not isinstance(dtype, Dtype):
        raise CodeError("NumPy's arrays of Python objects")
    kind = np.dtype(dtype.code)
    if kind.kind not in "fiubcSU":
        raise CodeError("NumPy's arrays of Python objects")
    kind = kind.newbyteorder("<" if dtype.order == "<" else ">" if dtype.order == ">" else "=")
    return np.frombuffer(raw, kind).reshape(_sizes(shape), order="F" if order == "F" else "C")


def _sizes(values: Any) -> tuple[int, ...]:
    if not isinstance(values, tuple | list) or len(values) > MOST_DIMENSIONS:
        raise BrokenError("the shape of a tensor is no tuple of a few numbers")
    if not all(type(value) is int and 0 <= value < 1 << 60 for value in values):
        raise BrokenError("the shape or stride of a tensor is not a number, or negative")
    return tuple(values)


def _tensor(machine: _Machine, args: tuple[Any, ...]) -> Any:
    storage, offset, shape, stride = args[:4]
    if isinstance(storage, Unusable):
        return storage
    if not isinstance(storage, Storage) or type(offset) is not int or offset < 0:
        raise BrokenError("a tensor has no storage, or lies outside it")
    dtype = storage.dtype
    if dtype is None:  # the form with an untyped storage names the type itself
        named = args[6] if len(args) > 6 else None
        dtype = getattr(torch, named.name, None) if isinstance(named, Name) else None
        if not isinstance(dtype, torch.dtype):
            raise BrokenError("a tensor has no type")
    sizes, strides = _sizes(shape), _sizes(stride)
    if len(sizes) != len(strides):
        raise BrokenError("a tensor has a shape and strides of different lengths")
    return View(storage, dtype, offset, sizes, strides)


def _of_type(machine: _Machine, args: tuple[Any, ...]) -> Any:
    function, _, inner, *_ = args  # a class of its own around a tensor
    made = machine.call(function, inner)
    return made if isinstance(made, View | Unusable) else Thing("torch.Tensor")


def _ordered(machine: _Machine, args: tuple[Any, ...]) -> Any:
    pairs = args[0] if args else ()
    if not isinstance(pairs, list | tuple):
        raise BrokenError("a dictionary is not made from pairs")
    machine.spend(len(pairs))
    return machine.dictionary(pairs)


def _counter(machine: _Machine, args: tuple[Any, ...]) -> Any:
    return args[0] if args and isinstance(args[0], dict) else {}


def _frombuffer(machine: _Machine, args: tuple[Any, ...]) -> Any:
    raw, dtype, shape, order = args
    return Array(_array(raw, dtype, shape, order))


def _dtype(machine: _Machine, args: tuple[Any, ...]) -> Any:
    if not isinstance(args[0], str) or not re.fullmatch(r"[<>|=]?[a-zA-Z]\d{0,6}", args[0]):
        raise BrokenError("the type of an array is none of NumPy's plain types")
    return Dtype(args[0])


def _encoded(machine: _Machine, args: tuple[Any, ...]) -> Any:
    text, encoding = args
    if encoding not in ("latin1", "latin-1") or not isinstance(text, str):
        raise CodeError("_codecs.encode")
    machine.spend(len(text))
    return text.encode("latin-1")


def _scalar(machine: _Machine, args: tuple[Any, ...]) -> Any:
    dtype, raw = args if len(args) == 2 else (*args, b"")
    if isinstance(raw, Storage | View) or not isinstance(dtype, Dtype):
        raise CodeError("NumPy's scalars of Python objects")
    return Thing("numpy.scalar")


def _reconstructed(machine: _Machine, args: tuple[Any, ...]) -> Any:
    kind, base, _ = args
    if not isinstance(base, Name) or base.module != "builtins":
        raise CodeError(str(base))
    return machine.make(kind)


_NUMPY = ("numpy.core.", "numpy._core.")

_MAKERS: dict[str, Callable[[_Machine, tuple[Any, ...]], Any]] = {
    "collections.OrderedDict": _ordered,
    "collections.defaultdict": lambda machine, args: {},
    "collections.Counter": _counter,
    "torch.Size": lambda machine, args: _sizes(args[0]),
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor,
    "torch._utils._rebuild_parameter": lambda machine, args: args[0],
    "torch._utils._rebuild_parameter_with_state": lambda machine, args: args[0],
    "torch._tensor._rebuild_from_type_v2": _of_type,
    "copyreg._reconstructor": _reconstructed,
    "_codecs.encode": _encoded,
    "numpy.dtype": _dtype,
    **{f"{root}multiarray._reconstruct": lambda machine, args: Array() for root in _NUMPY},
    **{f"{root}multiarray.scalar": _scalar for root in _NUMPY},
    **{f"{root}numeric._frombuffer": _frombuffer for root in _NUMPY},
}


# One function for each opcode that occurs in pickles of protocol 2 to 5

_Step = Callable[[_Machine], None]
_STEPS: dict[int, _Step] = {}


def _step(code: str | bytes) -> Callable[[_Step], _Step]:
    def keep(step: _Step) -> _Step:
        _STEPS[ord(code)] = step
        return step

    return keep


def _pushes(code: bytes, value: Callable[[_Machine], Any]) -> None:
    def step(machine: _Machine) -> None:
        made = value(machine)  # first, because it may put another stack in place
        machine.stack.append(made)

    _STEPS[code[0]] = step


def _text(machine: _Machine, count: int) -> str:
    return machine.take(count).decode("utf-8", "surrogatepass")


def _integer(machine: _Machine, count: int) -> int:
    if not 0 <= count <= LONGEST_INTEGER:
        raise BrokenError("it holds an integer of too many digits")
    return int.from_bytes(machine.take(count), "little", signed=True)


_pushes(b"N", lambda machine: None)
_pushes(b"\x88", lambda machine: True)
_pushes(b"\x89", lambda machine: False)
_pushes(b"K", lambda machine: machine.number("<B"))
_pushes(b"M", lambda machine: machine.number("<H"))
_pushes(b"J", lambda machine: machine.number("<i"))
_pushes(b"\x8a", lambda machine: _integer(machine, machine.number("<B")))
_pushes(b"\x8b", lambda machine: _integer(machine, machine.number("<i")))
_pushes(b"G", lambda machine: struct.unpack(">d", machine.take(8))[0])
_pushes(b"\x8c", lambda machine: _text(machine, machine.number("<B")))
_pushes(b"X", lambda machine: _text(machine, machine.number("<I")))
_pushes(b"\x8d", lambda machine: _text(machine, machine.number("<Q")))
_pushes(b"U", lambda machine: machine.take(machine.number("<B")).decode("latin-1"))
_pushes(b"T", lambda machine: machine.take(machine.number("<i")).decode("latin-1"))
_pushes(b"C", lambda machine: machine.take(machine.number("<B")))
_pushes(b"B", lambda machine: machine.take(machine.number("<I")))
_pushes(b"\x8e", lambda machine: machine.take(machine.number("<Q")))
_pushes(b"\x96", lambda machine: machine.take(machine.number("<Q")))
_pushes(b"]", lambda machine: [])
_pushes(b"}", lambda machine: {})
_pushes(b")", lambda machine: ())
_pushes(b"\x8f", lambda machine: Thing("builtins.set"))
_pushes(b"h", lambda machine: machine.memo[machine.number("<B")])
_pushes(b"j", lambda machine: machine.memo[machine.number("<I")])
_pushes(b"Q", lambda machine: machine.stored(machine.stack.pop()))
_pushes(b"t", lambda machine: tuple(machine.marked()))
_pushes(b"\x85", lambda machine: (machine.stack.pop(),))
_pushes(b"l", lambda machine: machine.marked())


@_step(b"\x80")
def _protocol(machine: _Machine) -> None:
    machine.take(1)


@_step(b"\x95")
def _frame(machine: _Machine) -> None:
    machine.take(8)


@_step("(")
def _mark(machine: _Machine) -> None:
    machine.marks.append(machine.stack)
    machine.stack = []


@_step("0")
def _pop(machine: _Machine) -> None:
    if machine.stack:
        machine.stack.pop()
    else:
        machine.marked()


@_step("1")
def _pop_mark(machine: _Machine) -> None:
    machine.marked()


@_step("2")
def _duplicate(machine: _Machine) -> None:
    machine.stack.append(machine.stack[-1])


@_step("q")
def _put(machine: _Machine) -> None:
    machine.memo[machine.number("<B")] = machine.stack[-1]


@_step("r")
def _long_put(machine: _Machine) -> None:
    machine.memo[machine.number("<I")] = machine.stack[-1]


@_step(b"\x94")
def _memoise(machine: _Machine) -> None:
    machine.memo[len(machine.memo)] = machine.stack[-1]


def _take_last(count: int) -> _Step:
    def step(machine: _Machine) -> None:
        items = tuple(machine.stack[-count:])
        if len(items) != count:
            raise BrokenError("a tuple lacks items")
        machine.stack[-count:] = [items]

    return step


_STEPS[0x86] = _take_last(2)
_STEPS[0x87] = _take_last(3)


@_step("a")
def _append(machine: _Machine) -> None:
    item = machine.stack.pop()
    machine.add(machine.stack[-1], [item])


@_step("e")
def _appends(machine: _Machine) -> None:
    items = machine.marked()
    machine.add(machine.stack[-1], items)


_STEPS[0x90] = _appends  # to a set


@_step(b"\x91")
def _frozen_set(machine: _Machine) -> None:
    machine.marked()
    machine.stack.append(Thing("builtins.frozenset"))


@_step("d")
def _dictionary(machine: _Machine) -> None:
    items, made = machine.marked(), dict[Any, Any]()
    machine.put(made, items)
    machine.stack.append(made)


@_step("s")
def _set_item(machine: _Machine) -> None:
    value, name = machine.stack.pop(), machine.stack.pop()
    machine.put(machine.stack[-1], [name, value])


@_step("u")
def _set_items(machine: _Machine) -> None:
    items = machine.marked()
    machine.put(machine.stack[-1], items)


@_step("c")
def _global(machine: _Machine) -> None:
    module, name = machine.line(), machine.line()
    machine.stack.append(Name(_PYTHON_2.get(module, module), name))


@_step(b"\x93")
def _stack_global(machine: _Machine) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise BrokenError("a name is no text")
    machine.stack.append(Name(module, name))


@_step("R")
def _reduce(machine: _Machine) -> None:
    args, function = machine.stack.pop(), machine.stack.pop()
    machine.stack.append(machine.call(function, args))


@_step(b"\x81")
def _new_object(machine: _Machine) -> None:
    _, kind = machine.stack.pop(), machine.stack.pop()
    machine.stack.append(machine.make(kind))


@_step(b"\x92")
def _new_object_ex(machine: _Machine) -> None:
    _, _, kind = machine.stack.pop(), machine.stack.pop(), machine.stack.pop()
    machine.stack.append(machine.make(kind))


@_step("b")
def _build(machine: _Machine) -> None:
    state = machine.stack.pop()
    machine.build(machine.stack[-1], state)
