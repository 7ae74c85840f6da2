"""The proof that comes with a fused network: it and the given one, on the same random input, in
float64.

In float64 a right fold differs from the original by rounding alone, some 1e-15 an operation; a
wrong one by about the size of the output. Float32 could not tell a small mistake from rounding.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from fleetfoot.errors import FoldError
from fleetfoot.network import Size, height_width, stated_size
from fleetfoot.transform.fold import is_batchnorm

SEED = 0
BOUND = 1e-9
"""Largest difference, over the largest magnitude of the output, that still counts as rounding: a
few hundred layers of 1e-15 each, with room for sums that cancel."""


ROUNDINGS = 4
"""The fused network rounds in other places than the given one: up to so many times what the given
one's own type moves its answer is taken for rounding."""


@dataclass(frozen=True, kw_only=True)
class Returned:
    """The returned network beside the given one, both in the given one's own type."""

    type: str
    """For example ``float32``."""
    max_abs: float | None = None
    """Largest absolute difference of any output value; None if they were not run."""
    max_rel: float | None = None
    """Largest difference over the largest magnitude of the same output tensor; None if they were
    not run."""
    not_run: str = ""
    """Why the given network does not run in its own type here."""

    def __str__(self) -> str:
        if self.not_run:
            return f"not run, for the given one does not run in {self.type}: {self.not_run}"
        return (
            f"{self.type}, the same input: largest difference {self.max_abs:.2g}, "
            f"{self.max_rel:.2g} of the largest output"
        )


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What was compared, and how far apart it was."""

    max_abs: float
    """Largest absolute difference of any output value."""
    max_rel: float
    """Largest difference over the largest magnitude of the same output tensor."""
    values: int
    """Output values compared."""
    parts: tuple[str, ...]
    """Modules that were compared one by one, each on the input that it has inside the given
    network, because the code around them cannot be followed (a detector's); empty when the
    network was compared as a whole."""
    input: str
    """Shapes of the input; its values are drawn from the normal distribution."""
    guessed: bool
    """No example was given, so the shape was read from the network."""
    returned: Returned
    """The differences above are those of the fold, in float64; rounding the kernels to the given
    network's type adds this."""
    seed: int = SEED
    bound: float = BOUND


def tensors(outputs: Any, path: str = "output") -> Iterator[tuple[str, Tensor]]:
    """Every tensor in nested dicts, lists, tuples and dataclasses, with where it is."""
    if isinstance(outputs, Tensor):
        yield path, outputs
    elif isinstance(outputs, Mapping):
        for key, value in outputs.items():
            yield from tensors(value, f"{path}[{key!r}]")
    elif isinstance(outputs, Sequence) and not isinstance(outputs, str):
        for i, value in enumerate(outputs):
            yield from tensors(value, f"{path}[{i}]")
    elif hasattr(outputs, "__dict__"):  # torchvision's ImageList, a dataclass
        for key, value in vars(outputs).items():
            yield from tensors(value, f"{path}.{key}")


def rounding(output: Any, exact: Any) -> float:
    """How far a network's own type moves its answer: the largest difference of ``output`` from that
    of the same network in float64, ``exact``, over the largest value of each tensor. Values that
    are not finite in both are left out."""
    found, largest = dict(tensors(output)), 0.0
    for path, expected in tensors(exact):
        got = found.get(path)
        if got is None or got.shape != expected.shape or not expected.is_floating_point():
            continue
        both = got.isfinite() & expected.isfinite()
        size = float(expected[both].abs().max()) if bool(both.any()) else 0.0
        if size:
            moved = float((got.to(expected.dtype) - expected)[both].abs().max())
            largest = max(largest, moved / size)
    return largest


@dataclass
class Difference:
    """The largest differences seen so far."""

    bound: float = BOUND
    """The largest that counts as rounding. Above that of float64 a decision may turn on the last
    bit: whole numbers are not compared then."""
    max_abs: float = 0.0
    max_rel: float = 0.0
    values: int = 0

    def add(self, fused: Any, reference: Any, where: str) -> None:
        """Compares two outputs of one structure.

        Raises:
            FoldError: they differ in structure or shape, or by more than rounding.
        """
        ours, theirs = dict(tensors(fused)), dict(tensors(reference))
        if ours.keys() != theirs.keys():
            raise FoldError(
                f"{where}: the fused network answers with {sorted(ours)}, "
                f"the given one with {sorted(theirs)}"
            )
        for path, expected in theirs.items():
            got = ours[path]
            if got.shape != expected.shape:
                raise FoldError(
                    f"{where}: {path} has the shape {tuple(got.shape)} when fused "
                    f"and {tuple(expected.shape)} in the given network"
                )
            self._add(got, expected, f"{where}: {path}")

    def _add(self, got: Tensor, expected: Tensor, where: str) -> None:
        if not expected.numel():
            return
        if not expected.is_floating_point():
            if self.bound > BOUND:
                return
            if not torch.equal(got, expected):
                raise FoldError(f"{where} is not equal")
            self.values += expected.numel()
            return
        finite = expected.isfinite()
        if not torch.equal(got.isfinite(), finite):
            raise FoldError(f"{where} is not finite at other places than in the given network")
        if not bool(finite.any()):
            return
        size = float(expected[finite].abs().max())
        absolute = float((got - expected)[finite].abs().max())
        relative = absolute / size if absolute else 0.0
        if relative > self.bound:
            raise FoldError(
                f"{where} differs by {absolute:.3g}, {relative:.3g} of its largest value; "
                f"rounding would stay below {self.bound:.2g}"
            )
        self.max_abs = max(self.max_abs, absolute)
        self.max_rel = max(self.max_rel, relative)
        self.values += int(finite.sum())


@dataclass
class Observation:
    """One run of a network: its answer, and what was seen of its modules."""

    output: Any = None

    calls: Counter[nn.Module] = field(default_factory=Counter)
    in_ranks: dict[nn.Module, frozenset[int]] = field(default_factory=dict)
    out_ranks: dict[nn.Module, frozenset[int]] = field(default_factory=dict)

    def inherit(self, new: nn.Module, old: nn.Module) -> None:
        """``new`` stands where ``old`` was when the network ran."""
        self.calls[new] = self.calls[old]
        self.in_ranks[new] = self.in_ranks.get(old, frozenset())
        self.out_ranks[new] = self.out_ranks.get(old, frozenset())


@contextmanager
def _fixed_seed() -> Iterator[None]:
    """For networks that draw numbers in eval mode too; the caller's seed stays as it is."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(SEED)
        yield


def run(model: nn.Module, arguments: tuple[Any, ...]) -> Any:
    """The network's answer to a copy of ``arguments``, which it may write into."""
    with _fixed_seed():
        return model(*_mapped(arguments, torch.clone))


def observe(model: nn.Module, arguments: tuple[Any, ...]) -> Observation:
    """Runs ``model`` and notes how often each module is called, on tensors of how many
    dimensions."""
    seen = Observation()

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        seen.calls[module] += 1
        for ranks, value in ((seen.in_ranks, inputs[:1]), (seen.out_ranks, (output,))):
            if value and isinstance(value[0], Tensor):
                ranks[module] = ranks.get(module, frozenset()) | {value[0].dim()}

    hooks = [
        module.register_forward_hook(note)
        for module in model.modules()
        if not isinstance(module, torch.jit.ScriptModule)
    ]
    with _removed(hooks):
        seen.output = run(model, arguments)
    return seen


_MULTIPLICATIONS = {"mul", "mul_", "multiply", "multiply_", "__mul__", "__rmul__", "__imul__"}


class _WrittenOut(TorchFunctionMode):
    """Notes each batch norm and layer scale that a forward computes by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[tuple[nn.Module, str], str] = {}
        self.running: list[nn.Module] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if self.running and not is_batchnorm(self.running[-1]):
            module = self.running[-1]
            if name == "batch_norm":
                self.found[module, ""] = "F.batch_norm"
            elif name in _MULTIPLICATIONS and len(args) == 2:
                for factor in args:
                    if scale := _scale_of(module, factor):
                        self.found[module, scale] = "layer scale"
        return func(*args, **(kwargs or {}))


def _scale_of(module: nn.Module, factor: Any) -> str:
    """The parameter of ``module`` that ``factor`` is a view of, one value a channel; "" if it is
    none."""
    if not isinstance(factor, Tensor) or factor.layout != torch.strided:
        return ""
    # an expanded view has a stride of 0 along what is repeated
    sides = [size for size, step in zip(factor.shape, factor.stride(), strict=True) if step]
    values = max(sides, default=0)
    if values < 2 or math.prod(sides) != values:
        return ""
    for name, parameter in module._parameters.items():
        if parameter is None or parameter.numel() != values:
            continue
        if parameter.data_ptr() == factor.data_ptr():
            return name
    return ""


@contextmanager
def written_out(model: nn.Module) -> Iterator[dict[tuple[nn.Module, str], str]]:
    """What the modules of ``model`` compute by themselves in the runs inside: the kind, by module
    and name of the parameter, which is "" for a batch norm."""
    mode = _WrittenOut()

    def enter(module: nn.Module, args: Any) -> None:
        mode.running.append(module)

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        mode.running.pop()

    hooks: list[RemovableHandle] = []
    for module in model.modules():
        if not isinstance(module, torch.jit.ScriptModule):
            hooks.append(module.register_forward_pre_hook(enter, prepend=True))
            hooks.append(module.register_forward_hook(leave, always_call=True))
    with _removed(hooks), mode:
        yield mode.found


def compare_parts(
    original: nn.Module,
    fused: nn.Module,
    arguments: tuple[Any, ...],
    parts: Sequence[str],
    *,
    bound: float = BOUND,
) -> Difference:
    """How far the ``parts`` of ``fused`` are from those of ``original``, each on the very input
    that it has there when ``original`` runs on ``arguments``.

    Then ``fused`` runs with the parts answering as the original's did, and its output has to be
    equal. So what lies between the parts is shown to be untouched, and its jumps do not count as
    differences: a detector sorts and suppresses boxes, which can turn on the last bit.

    Raises:
        FoldError: they differ by more than rounding.
    """
    difference = Difference(bound)
    given: dict[str, list[Any]] = {path: [] for path in parts}
    answers: dict[str, list[Any]] = {path: [] for path in parts}

    def before(path: str) -> Any:
        def keep(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            given[path].append(_mapped((args, kwargs), torch.clone))  # it may write into its input

        return keep

    def after(path: str) -> Any:
        def check(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            answers[path].append(_mapped(output, torch.clone))
            positional, named = given[path].pop()
            difference.add(fused.get_submodule(path)(*positional, **named), output, path)

        return check

    def instead(path: str) -> Any:
        return lambda _, args, output: answers[path].pop(0)

    hooks = []
    for path in parts:
        part = original.get_submodule(path)
        hooks.append(part.register_forward_pre_hook(before(path), with_kwargs=True))
        hooks.append(part.register_forward_hook(after(path)))
    with _removed(hooks):
        reference = run(original, arguments)
    hooks = [fused.get_submodule(path).register_forward_hook(instead(path)) for path in parts]
    with _removed(hooks):
        difference.add(run(fused, arguments), reference, "the network")
    return difference


@contextmanager
def _removed(hooks: Iterable[RemovableHandle]) -> Iterator[None]:
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _mapped(value: Any, change: Any) -> Any:
    """``value`` with ``change`` applied to each tensor in its lists, tuples and dicts."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple) and type(value) is tuple:
        return tuple(_mapped(one, change) for one in value)
    if isinstance(value, list):
        return [_mapped(one, change) for one in value]
    if isinstance(value, dict):
        return type(value)((key, _mapped(one, change)) for key, one in value.items())
    return value


def random_like(example: Any) -> tuple[Any, ...]:
    """Arguments of ``example``'s structure and shapes: float64 from the normal distribution, on
    the CPU; integers as they are. A tuple is the arguments, all else is the one argument."""
    generator = torch.Generator().manual_seed(SEED)

    def draw(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor.cpu()
        return torch.randn(tensor.shape, generator=generator, dtype=torch.float64)

    arguments = example if isinstance(example, tuple) else (example,)
    drawn: tuple[Any, ...] = _mapped(arguments, draw)
    return drawn


def placed(arguments: tuple[Any, ...], dtype: torch.dtype, device: torch.device) -> tuple[Any, ...]:
    """``arguments`` on ``device``, their floating-point tensors as ``dtype``."""

    def place(tensor: Tensor) -> Tensor:
        return tensor.to(device, dtype if tensor.is_floating_point() else tensor.dtype)

    moved: tuple[Any, ...] = _mapped(arguments, place)
    return moved


def describe(arguments: Any) -> str:
    """The shapes in ``arguments``."""
    return ", ".join(str(tuple(tensor.shape)) for _, tensor in tensors(arguments))


def guesses(model: nn.Module) -> Iterator[Any]:
    """Inputs that the network may take, the likeliest first; last, a list of images, as detectors
    want.

    Channels are those of the first layer. 128 pixels come before a larger size that the network's
    configuration states: most networks take them, and they are a third of the work. What is proved
    does not depend on the size.
    """
    first = next((m for m in model.modules() if isinstance(m, _FIRST)), None)
    if isinstance(first, nn.Linear):
        yield torch.empty(1, first.in_features)
        return
    space = 2 if first is None else first.weight.dim() - 2
    channels = 3 if first is None else first.in_channels
    if space != 2:
        for size in (256, 32, 16) if space == 1 else (32, 16):
            yield torch.empty(1, channels, *[size] * space)
        return
    stated = stated_size(model)
    own: list[Size] = [stated] if stated else []
    is_small = stated is not None and max(height_width(stated)) < 128
    sides: tuple[Size, ...] = (*(own if is_small else ()), 128, *own, 224, 256, 64, 32)
    for count in dict.fromkeys([channels, 3]):  # the first module need not be the first to run
        for one in dict.fromkeys(sides):
            yield torch.empty(1, count, *height_width(one))
        yield [torch.empty(count, 224, 224)]


_FIRST = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
