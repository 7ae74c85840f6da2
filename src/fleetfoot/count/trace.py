"""The list of operators that a network runs, with shapes, operations, bytes and memory.

One forward pass on tensors without storage (the "meta" device): no weights are read and nothing is
computed, so a large network costs no more than a small one. A network whose shapes follow from
values, as a detector's, runs on the tensors given instead, and the trace says so. Everything that
counts reads this list; ``docs/counting.md`` has the conventions.
"""

from __future__ import annotations

import re
import textwrap
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from fleetfoot.copying import check_nesting, copied, evaluated_
from fleetfoot.count.exact import EXACT, WITHOUT, Call, exact_flops
from fleetfoot.count.formulas import FIRST_OUTPUT_ONLY, MACS
from fleetfoot.count.vocabulary import FREE, bare
from fleetfoot.errors import first_line

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Operator:
    """One operator as it ran: what it is, where it came from, and what it cost."""

    name: str
    """Its ATen name."""
    module: str
    """Path of the module whose forward called it; "" is the network itself."""
    module_type: str
    """That module's class."""
    input_shapes: tuple[Shape, ...]
    """Shapes of all tensors that it reads, weights too."""
    shape: Shape
    """Shape of its first output."""
    params: int
    """Learned values that it reads and no operator before it has read."""
    macs: int | None
    """None where no formula has it: unknown, not zero."""
    exact_flops: int | None
    """Every operation, by the convention of ``count.exact``; None where that is not known."""
    elements_read: int
    elements_written: int
    bytes_read: int
    bytes_written: int
    weight_bytes: int
    """The part of ``bytes_read`` that is parameters and buffers."""
    live_activation_bytes: int
    """Memory of the activations that exist while it runs, its inputs and outputs among them."""
    reads: tuple[int, ...] = ()
    """Which memory each of its inputs lies in, by a number of the pass: views of one tensor have
    the same, an operator that writes in place reads and writes the same."""
    writes: tuple[int, ...] = ()
    """Which memory each of its outputs lies in, by the same numbers."""

    @property
    def known(self) -> bool:
        """Whether a formula has its multiply-accumulates."""
        return self.macs is not None

    @property
    def mac_flops(self) -> int | None:
        """Two a multiply-accumulate: the FLOPs of roofline figures."""
        return None if self.macs is None else 2 * self.macs


@dataclass(frozen=True, kw_only=True)
class ModuleCost:
    """What the operators within one module cost together."""

    module: str
    module_type: str
    operators: int
    unknown: int
    """Operators among them without a formula, which the sums below leave out."""
    params: int
    macs: int
    exact_flops: int
    elements: int
    bytes_read: int
    bytes_written: int
    weight_bytes: int
    peak_activation_bytes: int
    """The most while one of its operators ran."""

    @property
    def memory_access_bytes(self) -> int:
        """Bytes read and written."""
        return self.bytes_read + self.bytes_written


@dataclass(frozen=True, kw_only=True)
class Trace:
    """All operators of one forward pass, and their totals."""

    operators: tuple[Operator, ...]
    params: int
    """Learned values; a tensor that two modules share counts once."""
    unread_params: int
    """Learned values that no operator read."""
    weight_bytes: int
    """Memory of parameters and buffers, shared ones once."""
    input_bytes: int
    module_types: Mapping[str, str] = field(repr=False)
    """Class of every module by its path."""
    device: str = "meta"
    """Where the pass ran: "meta" unless the network's shapes follow from values."""
    note: str = ""
    """What a reader of the totals should know: that they are of these values, for example."""

    def __post_init__(self) -> None:
        read = sum(operator.params for operator in self.operators)
        assert read + self.unread_params == self.params, "parameters are not the sum of their parts"

    @property
    def macs(self) -> int:
        """Multiply-accumulates of convolutions, linear layers and matrix products; a lower bound
        where ``coverage`` is below 1."""
        return sum(operator.macs or 0 for operator in self.operators)

    @property
    def mac_flops(self) -> int:
        """Two a multiply-accumulate."""
        return 2 * self.macs

    @property
    def exact_flops(self) -> int:
        """Every operation, norms and activations too; a lower bound where ``exact_coverage`` is
        below 1."""
        return sum(operator.exact_flops or 0 for operator in self.operators)

    @property
    def bytes_read(self) -> int:
        return sum(operator.bytes_read for operator in self.operators)

    @property
    def bytes_written(self) -> int:
        return sum(operator.bytes_written for operator in self.operators)

    @property
    def memory_access_elements(self) -> int:
        """Values read and written, each operator reading its inputs and weights and writing its
        output once: FasterNet's h·w·2c + k²·c² summed over the network."""
        return sum(op.elements_read + op.elements_written for op in self.operators)

    @property
    def memory_access_bytes(self) -> int:
        """The same in bytes."""
        return self.bytes_read + self.bytes_written

    @property
    def peak_activation_bytes(self) -> int:
        """The most memory that activations take at once, the input among them, in eager order and
        freed as eager frees them."""
        return max((op.live_activation_bytes for op in self.operators), default=self.input_bytes)

    @property
    def coverage(self) -> float:
        """Share of the operators that some formula knows; below 1 the totals are lower bounds."""
        return self._share(sum(operator.known for operator in self.operators))

    @property
    def exact_coverage(self) -> float:
        """Share of the operators whose exact operations are known."""
        return self._share(sum(operator.exact_flops is not None for operator in self.operators))

    def _share(self, known: int) -> float:
        return known / len(self.operators) if self.operators else 1.0

    @property
    def unknown(self) -> tuple[str, ...]:
        """Names of the operators that no formula knows."""
        return tuple(sorted({op.name for op in self.operators if not op.known}))

    @property
    def without_exact(self) -> tuple[str, ...]:
        """Names of the operators whose exact operations are not known."""
        return tuple(sorted({op.name for op in self.operators if op.exact_flops is None}))

    def by_module(self, depth: int | None = None) -> tuple[ModuleCost, ...]:
        """The operators summed by module, in the order in which they first run.

        Args:
            depth: names of a path that are kept: 1 is the children of the network, 0 the network
                as one row, None every module that calls an operator itself.

        Raises:
            ValueError: ``depth`` is negative.
        """
        if depth is not None and depth < 0:
            raise ValueError(f"depth must be 0 or more, not {depth}")
        groups: dict[str, list[Operator]] = {}
        for operator in self.operators:
            kept = operator.module.split(".")[:depth]
            groups.setdefault(".".join(kept), []).append(operator)
        rows = tuple(self._summed(path, operators) for path, operators in groups.items())
        for name in ("macs", "exact_flops", "bytes_read", "bytes_written"):
            parts = sum(getattr(row, name) for row in rows)
            assert parts == getattr(self, name), f"{name} are not the sum of their parts"
        assert sum(row.params for row in rows) + self.unread_params == self.params
        return rows

    def _summed(self, path: str, operators: Sequence[Operator]) -> ModuleCost:
        return ModuleCost(
            module=path,
            module_type=self.module_types.get(path, ""),
            operators=len(operators),
            unknown=sum(not op.known for op in operators),
            params=sum(op.params for op in operators),
            macs=sum(op.macs or 0 for op in operators),
            exact_flops=sum(op.exact_flops or 0 for op in operators),
            elements=sum(op.elements_read + op.elements_written for op in operators),
            bytes_read=sum(op.bytes_read for op in operators),
            bytes_written=sum(op.bytes_written for op in operators),
            weight_bytes=sum(op.weight_bytes for op in operators),
            peak_activation_bytes=max(op.live_activation_bytes for op in operators),
        )


class Modules:
    """Which module is running, from hooks on every one until ``remove``.

    A module that stands in two places has two paths; the one within the module that called it is
    taken. A module that calls itself is on the stack twice.
    """

    def __init__(self, root: nn.Module) -> None:
        self.types: dict[str, str] = {}
        self._paths: dict[nn.Module, list[str]] = {}
        self._stack: list[str] = []
        self._hooks: list[Any] = []
        for path, module in root.named_modules(remove_duplicate=False):
            self.types[path] = type(module).__name__
            self._paths.setdefault(module, []).append(path)
        for module in self._paths:
            if isinstance(module, torch.jit.ScriptModule):
                continue  # it takes no hooks: what it runs counts for its caller
            self._hooks += (
                module.register_forward_pre_hook(self._enter, prepend=True),
                module.register_forward_hook(self._leave, always_call=True),
            )

    def remove(self) -> None:
        """Takes the hooks off."""
        for hook in self._hooks:
            hook.remove()

    @property
    def here(self) -> str:
        """Path of the module whose forward runs now; "" is the network itself."""
        return self._stack[-1] if self._stack else ""

    def _enter(self, module: nn.Module, args: Any) -> None:
        within = f"{self.here}." if self.here else ""
        paths = self._paths[module]
        self._stack.append(next((path for path in paths if path.startswith(within)), paths[0]))

    def _leave(self, module: nn.Module, args: Any, out: Any) -> None:
        self._stack.pop()


class _Weights:
    """Which parameters and buffers a storage holds, and which were read already."""

    def __init__(self, model: nn.Module) -> None:
        self._params: dict[int, int] = {}
        self._bytes: dict[int, int] = {}
        self._held: list[Any] = []  # a buffer that a forward replaces must not leave its place
        parameters = list(model.parameters())
        for tensor in (*parameters, *model.buffers()):
            storage = tensor.untyped_storage()
            self._held.append(storage)
            self._bytes[storage._cdata] = storage.nbytes()
        for tensor in parameters:
            key = tensor.untyped_storage()._cdata
            self._params[key] = self._params.get(key, 0) + tensor.numel()
        self.total = sum(self._params.values())
        self.total_bytes = sum(self._bytes.values())

    def __contains__(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage()._cdata in self._bytes

    def first_read(self, tensors: Iterable[Tensor]) -> int:
        """Learned values of the storages that are read for the first time."""
        return sum(self._params.pop(t.untyped_storage()._cdata, 0) for t in tensors)

    @property
    def unread(self) -> int:
        return sum(self._params.values())


class _Memory:
    """Bytes of the activations' storages that are alive: each counts from the operator that made
    it until the last tensor on it is gone."""

    def __init__(self, weights: _Weights) -> None:
        self._weights = weights
        self._alive: dict[int, weakref.finalize[Any, Any]] = {}
        self._numbers: dict[int, int] = {}
        self._next = 0
        self.live = 0

    def add(self, tensors: Iterable[Tensor]) -> None:
        for tensor in tensors:
            storage = tensor.untyped_storage()
            key, size = storage._cdata, storage.nbytes()
            if tensor in self._weights or key in self._alive:
                continue
            self.live += size
            self._number(key)
            self._alive[key] = weakref.finalize(storage, self._gone, key, size)
            self._alive[key].atexit = False

    def number(self, tensor: Tensor) -> int:
        """The number of the memory that the tensor lies in; a new one if memory is used again."""
        key = tensor.untyped_storage()._cdata
        return self._numbers[key] if key in self._numbers else self._number(key)

    def _number(self, key: int) -> int:
        self._next += 1
        self._numbers[key] = self._next
        return self._next

    def _gone(self, key: int, size: int) -> None:
        del self._alive[key]
        self.live -= size

    def forget(self) -> None:
        """What is still alive, the network's answer for one, is no longer followed."""
        for watcher in self._alive.values():
            watcher.detach()


class _Recorder(TorchDispatchMode):
    def __init__(self, modules: Modules, weights: _Weights, memory: _Memory) -> None:
        super().__init__()
        self.operators: list[Operator] = []
        self._held: list[Any] = []
        self._modules, self._weights, self._memory = modules, weights, memory

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = str(func.overloadpacket)
        if name not in FREE and not _has_formula(name):
            with self:  # an operator that is made of others is counted as these
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        out = func(*args, **kwargs)
        written = list(_tensors(out))
        self._memory.add(written)
        if name in FREE:
            return out
        if name in FIRST_OUTPUT_ONLY:
            del written[1:]
        if name.startswith("quantized."):
            args = tuple(map(self._unpacked, args))
        read = list(_tensors((args, kwargs)))
        if read or written:
            self.operators.append(self._operator(name, args, kwargs, read, written))
        return out

    def _unpacked(self, given: Any) -> Any:
        """The weight and bias in the one object that holds both for an operator of int8."""
        if not isinstance(given, torch.ScriptObject):
            return given
        kind = str(given._type())
        unpack = torch.ops.quantized.linear_unpack
        for one in ("1d", "2d", "3d"):
            if f"Conv{one}Packed" in kind:
                unpack = getattr(torch.ops.quantized, f"conv{one}_unpack")
        found = unpack(given)
        self._held.append(found)  # a later tensor must not get its place in memory
        return found

    def _operator(
        self, name: str, args: Any, kwargs: Any, read: list[Tensor], written: list[Tensor]
    ) -> Operator:
        formula = MACS.get(name)
        if formula:
            macs: int | None = formula(args, written[0])
        else:
            macs = 0 if _has_formula(name) else None
        return Operator(
            name=name,
            module=self._modules.here,
            module_type=self._modules.types[self._modules.here],
            input_shapes=tuple(tuple(t.shape) for t in read),
            shape=tuple(written[0].shape) if written else (),
            params=self._weights.first_read(read),
            macs=macs,
            exact_flops=exact_flops(name, Call(args, kwargs, written)),
            elements_read=sum(t.numel() for t in read),
            elements_written=sum(t.numel() for t in written),
            bytes_read=sum(map(_bytes, read)),
            bytes_written=sum(map(_bytes, written)),
            weight_bytes=sum(_bytes(t) for t in read if t in self._weights),
            live_activation_bytes=self._memory.live,
            reads=tuple(map(self._memory.number, read)),
            writes=tuple(map(self._memory.number, written)),
        )


def _has_formula(name: str) -> bool:
    """Whether its multiply-accumulates are known, 0 among them."""
    return name in MACS or name in EXACT or bare(name) in EXACT or name in WITHOUT


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _tensors(tree: Any) -> Iterable[Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))


def _copy(model: nn.Module, *, storage: bool) -> nn.Module:
    """A copy for the trace to spend, shared tensors still shared; without ``storage`` on the meta
    device, and no weight is copied on the way."""
    known: dict[int, Any] = {}
    if not storage:
        for tensor in (*model.parameters(), *model.buffers()):
            empty = torch.empty_like(tensor, device="meta")
            is_parameter = isinstance(tensor, nn.Parameter)
            known[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if is_parameter else empty
        for module in model.modules():
            for value in vars(module).values():
                if isinstance(value, Tensor) and not value.is_leaf:  # weight_norm keeps such
                    known[id(value)] = torch.empty_like(value.detach(), device="meta")
    return copied(model, known)


@contextmanager
def _separate_operators() -> Iterator[None]:
    """Torch's transformer layers as their operators, not as one fused call of their own."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _run(model: nn.Module, inputs: tuple[Any, ...], device: str, note: str) -> Trace:
    """Traces ``model``, which is the caller's to spend: hooks stay on it."""
    evaluated_(model)
    modules, weights = Modules(model), _Weights(model)
    memory = _Memory(weights)
    memory.add(_tensors(inputs))
    input_bytes = memory.live
    recorder = _Recorder(modules, weights, memory)
    try:
        with torch.no_grad(), _separate_operators(), recorder:
            model(*inputs)
    finally:
        memory.forget()
    return Trace(
        operators=tuple(recorder.operators),
        params=weights.total,
        unread_params=weights.unread,
        weight_bytes=weights.total_bytes,
        input_bytes=input_bytes,
        module_types=modules.types,
        device=device,
        note=note,
    )


def trace(
    model: nn.Module, example: Any, *, on: Literal["auto", "meta", "given"] = "auto"
) -> Trace:
    """Runs ``model`` once in eval mode and lists its operators. The given model is left as it is.

    Args:
        example: the network's input, (B, C, H, W) for most; a tuple holds several arguments, and a
            list is one argument, as torchvision's detectors take it.
        on: "meta" computes nothing and reads no weights; "given" computes, with the model and the
            example where they are; "auto" is "meta", and "given" where shapes follow from values.

    Raises:
        TypeError: ``model`` is no module.
        ValueError: the network cannot run on that input; the message carries the network's own.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model must be an nn.Module, not {type(model).__name__}; fleetfoot.create_model makes "
            "one by name, fleetfoot.network.resolve by path.py:factory too"
        )
    if on not in ("auto", "meta", "given"):
        raise ValueError(f"on must be 'auto', 'meta' or 'given', not {on!r}")
    check_nesting(model)
    inputs = example if isinstance(example, tuple) else (example,)
    held = [*_tensors(inputs), *model.parameters(), *model.buffers()]
    has_values = not any(tensor.is_meta for tensor in held)
    reason: Exception | None = None
    if on != "given":
        try:
            empty = tree_map_only(Tensor, lambda t: t.to("meta"), inputs)
            return _run(_copy(model, storage=False), empty, "meta", "")
        except Exception as error:  # whatever the network raises is said with the shape that it met
            reason = error
    if on == "given" or (on == "auto" and has_values):
        device = str(next((t.device for t in held), "cpu"))
        note = ""
        if reason:
            note = (
                f"computed on {device}, since the network does not run without values "
                f"({_shortened(reason)}); what follows from values is of this input and weights"
            )
        try:
            return _run(_copy(model, storage=True), inputs, device, note)
        except Exception as error:
            reason = error
    assert reason is not None
    raise ValueError(_refusal(model, inputs, reason, has_values)) from reason


def _shortened(error: Exception) -> str:
    text = first_line(error) or type(error).__name__
    return textwrap.shorten(text, width=100, placeholder=" …")


def _refusal(model: nn.Module, inputs: tuple[Any, ...], error: Exception, has_values: bool) -> str:
    shapes = ", ".join(str(tuple(t.shape)) for t in _tensors(inputs)) or "without tensors"
    text = f"{type(model).__name__} cannot be counted at input {shapes}: {error}"
    if not str(error):
        text += type(error).__name__
    if isinstance(error, NotImplementedError) or re.search(r"\bmeta\b", str(error)):
        text += (
            ". Its shapes seem to follow from values, which tensors without storage do not have; "
        )
        text += (
            "count it with on='auto' or on='given'"
            if has_values
            else "give it weights and an input with values, on the CPU or a GPU"
        )
    return text


def count(model: nn.Module, example: Tensor) -> Trace:
    """The costs of one image: as ``trace``, at batch 1 whatever the batch of ``example``."""
    return trace(model, example[:1])
