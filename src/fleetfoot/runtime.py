"""Runs plans with numpy alone: the native engine without torch.

A plan is a compiled network in one file, as ``fleetfoot compile`` writes it. This is the interface
of ``include/fleetfoot.h`` for Python; a C program has the same through that header.

    with Plan.load("fasternet_t0.plan") as plan, plan.context(threads=2) as context:
        scores = context.run(pictures)  # (B, 3, 224, 224) -> (B, 1000)

A plan never changes: any number of contexts may run it at the same time, also from different Python
threads, since the interpreter's lock is released while one runs. Any thread may call or close any
plan or context at any time. A process may be forked at any moment: in the child, a context starts
threads of its own when it next runs.

B batch · C channels · H W space
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from ctypes import (
    POINTER,
    byref,
    c_char_p,
    c_double,
    c_int32,
    c_int64,
    c_size_t,
    c_uint64,
    c_void_p,
)
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

import fleetfoot
from fleetfoot.cores import check_threads
from fleetfoot.errors import EngineError, PlanError

if TYPE_CHECKING:
    from fleetfoot.artifact import Nest

Array: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]
Bytes: TypeAlias = bytes | bytearray | memoryview | np.ndarray[Any, Any]

LIBRARY = "libfleetfoot.dylib" if sys.platform == "darwin" else "libfleetfoot.so"
ABSENT = "absent.txt"
"""File that an install without a compiler has in place of the library; it states the reason."""
MOST_THREADS = 256
"""Largest number of threads of a context, ``FF_MAX_THREADS``."""

_STORED = {"float32": "f32", "int64": "i32", "int32": "i32", "bool": "i32"}
"""How a plan stores an output, by the type that it is given back in."""

_ERRORS: dict[int, type[Exception]] = {  # ff_status; the others are an EngineError
    1: ValueError,
    2: OSError,
    3: PlanError,
    5: MemoryError,
}


class _PlanOptions(ctypes.Structure):
    _fields_ = (("map", c_int32), ("stop", POINTER(c_int32)))


class _Options(ctypes.Structure):
    _fields_ = (("threads", c_int32), ("instruction_set", c_char_p))


_LIVE: weakref.WeakSet[Plan | Context] = weakref.WeakSet()


def _release_after_fork() -> None:
    """A child has none of the parent's other threads, so nobody there would release their locks."""
    for each in _LIVE:
        each._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_after_fork)


_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "ff_version": (c_char_p, ()),
    "ff_last_error": (c_char_p, ()),
    "ff_checksum": (c_uint64, (c_void_p, c_size_t, c_uint64)),
    "ff_instruction_set_count": (c_int32, ()),
    "ff_instruction_set": (c_char_p, (c_int32,)),
    "ff_multiply_add_rate": (c_int32, (c_char_p, c_char_p, c_int32, c_double, POINTER(c_double))),
    "ff_memory_rate": (
        c_int32,
        (c_char_p, c_int32, c_int64, c_int32, c_double, POINTER(c_double)),
    ),
    "ff_region_time": (c_int32, (c_int32, c_double, POINTER(c_double))),
    "ff_plan_load_with": (c_int32, (c_char_p, POINTER(_PlanOptions), POINTER(c_void_p))),
    "ff_plan_load_memory_with": (
        c_int32,
        (c_void_p, c_size_t, POINTER(_PlanOptions), POINTER(c_void_p)),
    ),
    "ff_plan_free": (None, (c_void_p,)),
    "ff_plan_model": (c_char_p, (c_void_p,)),
    "ff_plan_signature": (c_char_p, (c_void_p,)),
    "ff_plan_input_count": (c_int32, (c_void_p,)),
    "ff_plan_output_count": (c_int32, (c_void_p,)),
    "ff_plan_input_rank": (c_int32, (c_void_p, c_int32)),
    "ff_plan_input_shape": (POINTER(c_int64), (c_void_p, c_int32)),
    "ff_plan_output_rank": (c_int32, (c_void_p, c_int32)),
    "ff_plan_output_shape": (POINTER(c_int64), (c_void_p, c_int32)),
    "ff_plan_output_type": (c_char_p, (c_void_p, c_int32)),
    "ff_plan_node_count": (c_int32, (c_void_p,)),
    "ff_plan_node_name": (c_char_p, (c_void_p, c_int32)),
    "ff_plan_node_op": (c_char_p, (c_void_p, c_int32)),
    "ff_plan_node_strip": (c_int32, (c_void_p, c_int32)),
    "ff_plan_node_reference": (c_int32, (c_void_p, c_int32)),
    "ff_plan_weight_bytes": (c_int64, (c_void_p,)),
    "ff_plan_arena_bytes": (c_int64, (c_void_p,)),
    "ff_plan_ring_bytes": (c_int64, (c_void_p,)),
    "ff_context_create": (c_int32, (c_void_p, POINTER(_Options), POINTER(c_void_p))),
    "ff_context_free": (None, (c_void_p,)),
    "ff_context_run": (c_int32, (c_void_p, c_void_p, c_void_p, c_int64)),
    "ff_context_threads": (c_int32, (c_void_p,)),
    "ff_context_instruction_set": (c_char_p, (c_void_p,)),
    "ff_context_bytes": (c_int64, (c_void_p,)),
    "ff_context_poison": (c_int32, (c_void_p,)),
    "ff_context_profile": (c_int32, (c_void_p, c_int32)),
    "ff_context_times": (c_int32, (c_void_p, POINTER(c_double), c_int32)),
}


def missing() -> str | None:
    """Why plans cannot be run here and what to do about it; None if they can."""
    try:
        _library()
    except EngineError as error:
        return str(error)
    return None


def library_path() -> Path:
    """Path of the library installed with this package; the C header is at
    ``../include/fleetfoot.h`` from there.

    Raises:
        EngineError: the install left the library out; the message says why and what to do.
    """
    # an editable install has two folders: what was built, and the sources
    folders = [Path(folder) / "_native" for folder in fleetfoot.__path__]
    for folder in folders:
        if (folder / LIBRARY).exists():
            return folder / LIBRARY
    for folder in folders:
        if (folder / ABSENT).exists():
            reason = (folder / ABSENT).read_text(encoding="utf-8").strip()
            raise EngineError(f"the native engine is absent: {reason}")
    raise EngineError(
        f"the native engine is absent: there is no {LIBRARY} in {' or '.join(map(str, folders))}; "
        "build it by installing fleetfoot: pip install ."
    )


@cache
def _library() -> ctypes.CDLL:
    path = library_path()
    try:
        library = ctypes.CDLL(str(path))
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise EngineError(
            f"{path} cannot be loaded ({error}); install fleetfoot again, so that it is built for "
            "this machine"
        ) from error
    version = library.ff_version().decode()
    if version != fleetfoot.__version__:
        raise EngineError(
            f"{path} is of version {version}, and this package of {fleetfoot.__version__}; install "
            "fleetfoot again"
        )
    return library


def _check(status: int) -> None:
    if status:
        text = _library().ff_last_error().decode(errors="replace")
        raise _ERRORS.get(status, EngineError)(text)


def _loaded(load: Callable[[Any, Any], int], mmap: bool = False) -> c_void_p:
    """The handle of a plan that ``load`` loads, given options and a place for the handle.

    It runs in a thread of its own while the main thread waits, so that a signal's handler can run
    meanwhile; if the handler raises, for example ``KeyboardInterrupt``, loading stops.
    """
    handle, stop = c_void_p(), c_int32(0)
    options = _PlanOptions(int(mmap), ctypes.pointer(stop))
    if threading.current_thread() is not threading.main_thread():  # which alone handles signals
        _check(load(byref(options), byref(handle)))
        return handle
    failures: list[BaseException] = []
    ended = threading.Lock()
    ended.acquire()

    def work() -> None:
        try:
            _check(load(byref(options), byref(handle)))
        except BaseException as error:
            failures.append(error)
        finally:
            ended.release()

    worker = threading.Thread(target=work, name="fleetfoot-load", daemon=True)
    try:
        worker.start()
        while not ended.acquire(timeout=0.1):  # the system may give the signal to another thread
            pass
        worker.join()
    except BaseException:
        stop.value = 1
        if worker.ident is not None:  # it was started, however start() ended
            worker.join()
        if handle:
            _library().ff_plan_free(handle)
        raise
    if failures:
        raise failures[0]
    return handle


def instruction_sets() -> tuple[str, ...]:
    """Instruction sets that both this build and this processor have, the fastest first; the last
    is "plain".

    Raises:
        EngineError: the library is absent.
    """
    library = _library()
    return tuple(
        library.ff_instruction_set(i).decode() for i in range(library.ff_instruction_set_count())
    )


def checksum(data: Bytes, seed: int = 0) -> int:
    """XXH64 of the bytes, the checksum of plan files.

    Raises:
        EngineError: the library is absent.
    """
    found: int = _library().ff_checksum(*_bytes_at(data), seed)
    return found


def multiply_add_rate(
    threads: int = 1,
    *,
    precision: str = "float32",
    seconds: float = 0.005,
    instruction_set: str | None = None,
) -> float:
    """Floating point operations a second, two a multiply-add, of ``threads`` threads in registers
    alone: a ceiling that no network on this processor exceeds.

    Args:
        precision: "float32" or "float64".
        seconds: how long it is measured, more than 0 and at most 60.
        instruction_set: one of ``instruction_sets()``; default: the fastest.

    Raises:
        ValueError: ``threads`` is not 1 to 256, another precision, or ``seconds`` out of range.
        EngineError: the library is absent, or there is no such instruction set here.
    """
    check_threads(threads, most=MOST_THREADS)
    rate = c_double()
    name = _encoded(instruction_set)
    _check(_library().ff_multiply_add_rate(name, precision.encode(), threads, seconds, byref(rate)))
    return rate.value


def memory_rate(
    working_set_bytes: int,
    threads: int = 1,
    *,
    copies: bool = False,
    seconds: float = 0.005,
    instruction_set: str | None = None,
) -> float:
    """Bytes a second that ``threads`` threads move together, each over its own
    ``working_set_bytes``: the bandwidth of the cache that holds them, or of memory.

    Args:
        copies: copy the first half into the second, bytes read and written both counted, instead of
            reading all.
        seconds: how long it is measured, more than 0 and at most 60.
        instruction_set: one of ``instruction_sets()``; default: the fastest.

    Raises:
        ValueError: ``threads`` is not 1 to 256, ``working_set_bytes`` is not 1024 to 4 GiB, or
            ``seconds`` is out of range.
        EngineError: the library is absent, there is no such instruction set here, or there is not
            enough memory.
    """
    check_threads(threads, most=MOST_THREADS)
    rate = c_double()
    name = _encoded(instruction_set)
    _check(
        _library().ff_memory_rate(
            name, int(copies), working_set_bytes, threads, seconds, byref(rate)
        )
    )
    return rate.value


def region_time(threads: int = 1, *, seconds: float = 0.005) -> float:
    """Seconds that the engine needs to hand all threads a piece of work and wait for all of them.

    Raises:
        ValueError: ``threads`` is not 1 to 256, or ``seconds`` is not above 0 and at most 60.
        EngineError: the library is absent.
    """
    check_threads(threads, most=MOST_THREADS)
    found = c_double()
    _check(_library().ff_region_time(threads, seconds, byref(found)))
    return found.value


def _signature(text: bytes) -> tuple[tuple[str, ...], Nest, list[str] | None]:
    """The names of a plan's inputs, the nest of its outputs, and their types if some are not
    float32."""
    import json

    from fleetfoot.artifact import Nest

    try:
        record = json.loads(text)
        names, nest = record["inputs"], Nest(record["outputs"])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("its inputs have no names")
        types = record.get("types")
        if types is not None and not set(types) <= set(_STORED):
            raise ValueError(f"it names the types {types}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise PlanError(f"the signature of the plan is damaged: {error}") from None
    return tuple(names), nest, types


def _encoded(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


def _bytes_at(data: Bytes) -> tuple[int, int]:
    """Address and size of ``data``, which the caller must keep alive."""
    array = np.frombuffer(data, dtype=np.uint8)
    return array.ctypes.data, array.nbytes


@dataclass(frozen=True, kw_only=True)
class Node:
    """One step of a plan."""

    name: str
    """Path of the module that the step came from."""
    op: str
    strip: int | None
    """Index of the strip that runs the step row by row; None if no strip does."""
    reference: bool = False
    """Whether plain code runs the step, far below what the processor can do."""


@dataclass(frozen=True, kw_only=True)
class NodeTime:
    node: Node
    seconds: float
    """Time of the calling thread for the whole batch, including waiting for other threads. A
    strip's time includes the time of its nodes."""


class Plan:
    """A compiled network, opened by ``Plan.load`` or ``Plan.from_bytes``. ``close`` or a ``with``
    block ends it; its contexts may outlive it.

    >>> import torch
    >>> from fleetfoot.engines.native import save_plan
    >>> model = torch.nn.Conv2d(3, 8, 3).eval()
    >>> agreement = save_plan(model, torch.zeros(1, 3, 16, 16), "conv.plan")
    >>> with Plan.load("conv.plan") as plan:
    ...     plan.input_shapes, plan.output_shapes
    (((3, 16, 16),), ((8, 14, 14),))
    """

    def __init__(self, handle: c_void_p) -> None:
        library = _library()
        self._handle: c_void_p | None = handle
        self._free = weakref.finalize(self, library.ff_plan_free, handle)
        self._lock = threading.Lock()
        _LIVE.add(self)
        self.model: str = library.ff_plan_model(handle).decode()
        """Name of the network that it was compiled from."""
        signature, types = library.ff_plan_signature(handle), None
        self.input_names: tuple[str, ...] = ()
        """Names of the inputs; none if there is one input and one output."""
        self._nest: Nest | None = None
        if signature:
            self.input_names, self._nest, types = _signature(signature)
        self.input_shapes = tuple(
            tuple(library.ff_plan_input_shape(handle, i)[: library.ff_plan_input_rank(handle, i)])
            for i in range(library.ff_plan_input_count(handle))
        )
        """Shape of each input without the batch: ((C, H, W),)."""
        self.output_shapes = tuple(
            tuple(library.ff_plan_output_shape(handle, i)[: library.ff_plan_output_rank(handle, i)])
            for i in range(library.ff_plan_output_count(handle))
        )
        """Shape of each output without the batch, for example ((N,),) for a classifier."""
        stored = [
            library.ff_plan_output_type(handle, i).decode() for i in range(len(self.output_shapes))
        ]
        self.output_types: tuple[str, ...] = tuple(
            types or ("float32" if one == "f32" else "int32" for one in stored)
        )
        """Type of each output, for example ("float32", "int64")."""
        if [_STORED[one] for one in self.output_types] != stored:
            raise PlanError(
                f"the plan's outputs are {', '.join(stored)}, and it names them "
                f"{', '.join(self.output_types)}"
            )
        self.weight_bytes: int = library.ff_plan_weight_bytes(handle)
        self.arena_bytes: int = library.ff_plan_arena_bytes(handle)
        """Bytes of the intermediate maps of one picture."""
        self.ring_bytes: int = library.ff_plan_ring_bytes(handle)
        """Bytes of the rows kept inside strips, for each thread."""

        names = 1 if self._nest is None else len(self._nest.names)
        if self._nest is not None and (
            names != len(self.output_shapes) or len(self.input_names) != len(self.input_shapes)
        ):
            raise PlanError(
                f"the plan has {len(self.input_shapes)} inputs and {len(self.output_shapes)} "
                f"outputs, and names {len(self.input_names)} and {names}"
            )

    @property
    def output_names(self) -> tuple[str, ...]:
        """Path of each output in the value of ``Context.run``: keys and indices joined by dots; ()
        if the plan does not state them."""
        return () if self._nest is None else self._nest.names

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, mmap: bool = False) -> Plan:
        """Opens a plan. Its file is read into memory and may change afterwards.

        Args:
            mmap: map the file instead: processes share its pages and use less memory, but the file
                must stay unchanged while the plan or one of its contexts lives. If it is written
                to, answers change; if it is cut, the process ends by SIGBUS.

        Raises:
            OSError: the file cannot be opened or read, or is not a regular file.
            PlanError: the file is damaged, not a plan, or of another version; the text says which.
            EngineError: the library is absent.
        """
        load, file = _library().ff_plan_load_with, os.fsencode(path)
        if b"\0" in file:
            raise OSError(errno.EINVAL, "not a path: it holds a NUL", os.fspath(path))
        return cls(_loaded(lambda options, handle: load(file, options, handle), mmap))

    @classmethod
    def from_bytes(cls, data: Bytes) -> Plan:
        """Opens a plan from the bytes of its file; they are copied.

        Raises:
            PlanError: the bytes are damaged, not a plan, or of another version.
            EngineError: the library is absent.
        """
        load, (address, size) = _library().ff_plan_load_memory_with, _bytes_at(data)
        return cls(_loaded(lambda options, handle: load(address, size, options, handle)))

    @property
    def nodes(self) -> list[Node]:
        """The nodes in the order in which they run; a strip comes before its nodes."""
        with self._lock:
            return self._listed(self._open())

    def _listed(self, handle: c_void_p) -> list[Node]:
        library = _library()
        nodes = []
        for i in range(library.ff_plan_node_count(handle)):
            strip = library.ff_plan_node_strip(handle, i)
            nodes.append(
                Node(
                    name=library.ff_plan_node_name(handle, i).decode(),
                    op=library.ff_plan_node_op(handle, i).decode(),
                    strip=None if strip < 0 else strip,
                    reference=library.ff_plan_node_reference(handle, i) == 1,
                )
            )
        return nodes

    def context(self, threads: int = 1, instruction_set: str | None = None) -> Context:
        """A context: the memory and threads to run this plan.

        Args:
            threads: number of threads, the calling one included; 1 starts no other.
            instruction_set: one of ``instruction_sets()``; default: the fastest.

        Raises:
            ValueError: ``threads`` is not 1 to 256.
            EngineError: there is no such instruction set here, or the plan is closed.
        """
        check_threads(threads, most=MOST_THREADS)
        name = _encoded(instruction_set)
        handle = c_void_p()
        options = _Options(threads, name)
        with self._lock:
            plan = self._open()
            _check(_library().ff_context_create(plan, byref(options), byref(handle)))
            return Context(self, handle, self._listed(plan))

    def close(self) -> None:
        """Frees what the plan holds, after its contexts are closed too."""
        with self._lock:
            self._handle = None
            self._free()

    def _open(self) -> c_void_p:
        if self._handle is None:
            raise EngineError(f"this plan of {self.model} is closed; load it again")
        return self._handle

    def __enter__(self) -> Plan:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Context:
    """Runs a plan with its own memory and threads. Made by ``Plan.context``; ``close`` or a
    ``with`` block ends it.

    Calls from several Python threads wait for each other: to run side by side, take one context a
    thread. In a child after ``os.fork`` the context works as before, with threads of its own.

    While the engine computes, numbers below 2**-126 (denormals) count as 0.

    >>> import numpy, torch
    >>> from fleetfoot.engines.native import save_plan
    >>> model = torch.nn.Conv2d(3, 8, 3).eval()
    >>> agreement = save_plan(model, torch.zeros(1, 3, 16, 16), "conv.plan")
    >>> with Plan.load("conv.plan") as plan, plan.context(threads=1) as context:
    ...     context.run(numpy.zeros((2, 3, 16, 16), numpy.float32)).shape
    (2, 8, 14, 14)
    """

    def __init__(self, plan: Plan, handle: c_void_p, nodes: list[Node]) -> None:
        library = _library()
        self.input_shapes, self.output_shapes = plan.input_shapes, plan.output_shapes
        self.output_types = plan.output_types
        self._stored_types = tuple(
            "float32" if one == "float32" else "int32" for one in plan.output_types
        )
        self._input_names, self._nest = plan.input_names, plan._nest
        self.threads: int = library.ff_context_threads(handle)
        self.instruction_set: str = library.ff_context_instruction_set(handle).decode()
        self._nodes = nodes
        self._run = library.ff_context_run
        self._handle: c_void_p | None = handle
        self._free = weakref.finalize(self, library.ff_context_free, handle)
        self._lock = threading.Lock()
        _LIVE.add(self)
        self._inputs = (c_void_p * len(self.input_shapes))()
        self._outputs = (c_void_p * len(self.output_shapes))()

    def run(self, *batches: Array, **named: Array) -> Any:
        """(B, C, H, W) float32 in C order, one for each input, in their order or by
        ``Plan.input_names`` -> the network's output: (B, N) for a classifier, or the network's
        dicts, lists and tuples of arrays. A list if a plan of several outputs does not state their
        structure.

        Raises:
            ValueError: a batch has another shape, type or order than the plan's input, or there is
                no input of that name.
            EngineError: the context is closed.
        """
        if named:
            missing = self._input_names[len(batches) :]
            if set(missing) != set(named):
                raise ValueError(
                    f"inputs {', '.join(missing) or '(none)'} are wanted by name, not "
                    f"{', '.join(named)}"
                )
            batches = (*batches, *(named[name] for name in missing))
        outputs = self.run_flat(batches)
        if self._nest is not None:
            return self._nest.filled(outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def run_flat(self, batches: Sequence[Array]) -> list[Array]:
        """Runs the plan on inputs in their order; returns every output in one flat list.

        Raises:
            ValueError: a batch has another shape, type or order than the plan's input.
            EngineError: the context is closed.
        """
        size = _batch_size(batches, self.input_shapes, "input")
        outputs = [
            np.empty((size, *shape), type)
            for shape, type in zip(self.output_shapes, self._stored_types, strict=True)
        ]
        self.run_pointers(_addresses(batches), _addresses(outputs), size)
        return [
            out.astype(type, copy=False)
            for out, type in zip(outputs, self.output_types, strict=True)
        ]

    def run_into(self, batches: Sequence[Array], outputs: Sequence[Array]) -> None:
        """Runs the plan and writes the outputs into the caller's arrays, of float32, or of int32
        where ``output_types`` says another type. Nothing is allocated after the first run.

        Raises:
            ValueError: a batch or an output array has another shape, type or order than the plan's.
            EngineError: the context is closed.
        """
        size = _batch_size(batches, self.input_shapes, "input")
        if _batch_size(outputs, self.output_shapes, "output", self._stored_types) != size:
            raise ValueError(
                f"the inputs hold {size} pictures and the outputs have room for {len(outputs[0])}"
            )
        for index, out in enumerate(outputs):
            if not out.flags.writeable:
                raise ValueError(f"output {index} is read-only; give an array that may be written")
        self.run_pointers(_addresses(batches), _addresses(outputs), size)

    def run_pointers(self, inputs: Sequence[int], outputs: Sequence[int], size: int) -> None:
        """Runs the plan on memory of any other library, unchecked: for each input and output, the
        address of ``size`` pictures of float32 in C order.

        Raises:
            EngineError: the context is closed.
        """
        with self._lock:
            self._run_held(self._open(), inputs, outputs, size)

    def _run_held(
        self, handle: c_void_p, inputs: Sequence[int], outputs: Sequence[int], size: int
    ) -> None:
        """Runs while the calling thread holds the lock."""
        self._inputs[:], self._outputs[:] = list(inputs), list(outputs)
        _check(self._run(handle, self._inputs, self._outputs, size))

    def profile(self, *batches: Array) -> list[NodeTime]:
        """Runs once and returns the time of each node, in order. The first run of a
        context is slower: run it before.

        Raises:
            ValueError: a batch has another shape, type or order than the plan's input.
            EngineError: the context is closed.
        """
        library = _library()
        seconds = (c_double * len(self._nodes))()
        size = _batch_size(batches, self.input_shapes, "input")
        outputs = [np.empty((size, *shape), np.float32) for shape in self.output_shapes]
        with self._lock:
            handle = self._open()
            _check(library.ff_context_profile(handle, 1))
            try:
                self._run_held(handle, _addresses(batches), _addresses(outputs), size)
                _check(library.ff_context_times(handle, seconds, len(seconds)))
            finally:
                _check(library.ff_context_profile(handle, 0))
        return [
            NodeTime(node=node, seconds=s) for node, s in zip(self._nodes, seconds, strict=True)
        ]

    def poison(self) -> None:
        """Fills the memory between layers with NaN, for tests: if the next run gives other bits
        than before, the plan reads memory that it has not written.

        Raises:
            EngineError: the context is closed.
        """
        with self._lock:
            _check(_library().ff_context_poison(self._open()))

    @property
    def memory_bytes(self) -> int:
        """Bytes held in addition to the plan: maps between layers, rings, scratch. They grow once,
        in the first run."""
        with self._lock:
            held: int = _library().ff_context_bytes(self._open())
        return held

    def close(self) -> None:
        """Ends the context's threads and frees its memory, after a run in progress has ended."""
        with self._lock:
            self._handle = None
            self._free()

    def _open(self) -> c_void_p:
        if self._handle is None:
            raise EngineError("this context is closed; make another by Plan.context")
        return self._handle

    def __enter__(self) -> Context:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _addresses(arrays: Sequence[Array]) -> list[int]:
    return [array.__array_interface__["data"][0] for array in arrays]  # .ctypes costs a microsecond


def _batch_size(
    arrays: Sequence[Array],
    shapes: Sequence[tuple[int, ...]],
    role: str,
    types: Sequence[str] | None = None,
) -> int:
    """Number of pictures in the batch, after every array is checked. ``types`` default to float32
    for all."""
    if len(arrays) != len(shapes):
        raise ValueError(f"the plan has {len(shapes)} {role}s, and {len(arrays)} were given")
    sizes = set()
    for index, (array, shape) in enumerate(zip(arrays, shapes, strict=True)):
        what = f"{role} {index}" if len(shapes) > 1 else f"the {role}"
        wanted_type = "float32" if types is None else types[index]
        if not isinstance(array, np.ndarray) or array.dtype != wanted_type:
            found = getattr(array, "dtype", type(array).__name__)
            raise ValueError(f"{what} must be a numpy array of {wanted_type}, not {found}")
        if array.shape[1:] != shape or not array.size:
            wanted = ", ".join(map(str, shape))
            raise ValueError(
                f"{what} must have the shape (B, {wanted}), B at least 1, not {array.shape}; "
                "another size needs another plan"
            )
        if not array.flags.c_contiguous:
            raise ValueError(f"{what} is not in C order; pass it through numpy.ascontiguousarray")
        sizes.add(len(array))
    if len(sizes) != 1:
        raise ValueError(f"the {role}s differ in the number of pictures: {sorted(sizes)}")
    return sizes.pop()
