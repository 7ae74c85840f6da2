"""Inputs of one call of a network: one tensor, several by position, or several by name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from fleetfoot.artifact import Described

Given: TypeAlias = Tensor | Sequence[Tensor] | Mapping[str, Tensor]
"""Inputs as a caller gives them: one tensor, a sequence in the order of the network's parameters,
or a mapping by the parameters' names."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """The tensors of one call, in the order of the network's parameters."""

    tensors: tuple[Tensor, ...]
    names: tuple[str, ...]
    """Names of the parameters, one for each tensor."""
    by_name: int = 0
    """Number of tensors, counted from the last, that are passed by name: the network has parameters
    before them that keep their defaults."""

    def __post_init__(self) -> None:
        if not self.tensors:
            raise ValueError("example holds no tensor; give one for each input of the network")
        for name, tensor in zip(self.names, self.tensors, strict=True):
            if not isinstance(tensor, Tensor):
                raise ValueError(
                    f"example must hold tensors, and {name!r} is a {type(tensor).__name__}"
                )
            if tensor.device.type != "cpu" or not tensor.numel():
                raise ValueError(
                    f"example must hold tensors on the CPU that are not empty, and {name!r} has "
                    f"shape {tuple(tensor.shape)} on {tensor.device}"
                )

    @classmethod
    def of(cls, model: nn.Module, given: Given | Inputs) -> Inputs:
        """The inputs of ``model`` from ``given``.

        >>> import torch
        >>> inputs = Inputs.of(torch.nn.ReLU(), torch.zeros(1, 8))
        >>> inputs.names, inputs.by_name
        (('input',), 0)

        Raises:
            ValueError: there is none, one is not a tensor on the CPU, or the network has no
                parameter of that name.
        """
        if isinstance(given, Inputs):
            return given
        if isinstance(given, Tensor):
            return cls((given,), _names(model, 1))
        if isinstance(given, Mapping):
            try:
                bound = inspect.signature(model.forward).bind(**given)
            except TypeError as error:
                raise ValueError(
                    f"example gives {', '.join(given)} to {type(model).__name__}: {error}"
                ) from None
            named = bound.kwargs
            ordered = [*_names(model, len(bound.args)), *named]
            return cls((*bound.args, *named.values()), tuple(ordered), len(named))
        tensors = tuple(given)
        return cls(tensors, _names(model, len(tensors)))

    @classmethod
    def described(cls, described: Sequence[Described], by_name: int) -> Inputs:
        """Inputs with only names, shapes and types; the tensors hold no meaningful values."""
        tensors = [torch.empty(one.shape, dtype=getattr(torch, one.dtype)) for one in described]
        return cls(tuple(tensors), tuple(one.name for one in described), by_name)

    @property
    def args(self) -> tuple[Tensor, ...]:
        return self.tensors[: len(self.tensors) - self.by_name]

    @property
    def kwargs(self) -> dict[str, Tensor]:
        first = len(self.tensors) - self.by_name
        return dict(zip(self.names[first:], self.tensors[first:], strict=True))

    def call(self, model: Any, tensors: Sequence[Tensor] | None = None) -> Any:
        """Calls ``model`` with the tensors; with ``tensors`` in their place if given."""
        tensors = self.tensors if tensors is None else tensors
        if not self.by_name:
            return model(*tensors)
        first = len(tensors) - self.by_name
        return model(
            *tensors[:first], **dict(zip(self.names[first:], tensors[first:], strict=True))
        )

    @property
    def copied(self) -> Inputs:
        """A copy with memory of its own, for a network that may write into its inputs."""
        return self.with_tensors([tensor.clone() for tensor in self.tensors])

    def with_tensors(self, tensors: Sequence[Tensor]) -> Inputs:
        """A copy with other tensors in place of these."""
        return Inputs(tuple(tensors), self.names, self.by_name)

    def random(self, seed: int = 0, *, batch: int | None = None) -> Inputs:
        """Inputs with normal random values, the same on every call; tensors of whole numbers or
        bools are kept, since a network may use them as indices.

        Args:
            batch: size of each first dimension; default: the inputs' own.
        """
        rng = torch.Generator().manual_seed(seed)
        drawn = []
        for tensor in self.tensors:
            shape = tuple(tensor.shape) if batch is None else (batch, *tensor.shape[1:])
            if tensor.is_floating_point():
                drawn.append(torch.randn(shape, generator=rng).to(tensor.dtype))
            else:
                drawn.append(tensor if batch is None else tensor[:1].expand(shape))
        return self.with_tensors(drawn)

    @property
    def batch(self) -> int | None:
        """The first dimension if all inputs share it, else None."""
        sizes = {tensor.shape[0] if tensor.ndim else None for tensor in self.tensors}
        return sizes.pop() if len(sizes) == 1 else None

    @property
    def one(self) -> Inputs:
        """The first picture of the batch alone; all of the inputs if they share no batch."""
        return self if self.batch is None else self.with_tensors([t[:1] for t in self.tensors])

    def __str__(self) -> str:
        if len(self.tensors) == 1:
            return f"a batch {tuple(self.tensors[0].shape)}"
        return ", ".join(f"{one.name} {one.shape}" for one in self.describe())

    def describe(self) -> tuple[Described, ...]:
        return tuple(
            described(name, tensor) for name, tensor in zip(self.names, self.tensors, strict=True)
        )


def described(name: str, tensor: Tensor) -> Described:
    dtype = str(tensor.dtype).removeprefix("torch.")
    return Described(name=name, shape=tuple(tensor.shape), dtype=dtype)


def _names(model: nn.Module, count: int) -> tuple[str, ...]:
    """Names of the first ``count`` parameters of the network's forward."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        parameters = inspect.signature(model.forward).parameters
    except (TypeError, ValueError):  # a callable without a signature
        parameters = {}  # type: ignore[assignment]
    names = [name for name, one in parameters.items() if one.kind in kinds][:count]
    return (*names, *(f"input{place}" for place in range(len(names), count)))


class Matcher:
    """Checks the inputs of a run against those that an engine was built for, and orders them."""

    def __init__(self, engine: str, inputs: Inputs) -> None:
        self._engine, self.names = engine, inputs.names
        self._shapes = tuple(tuple(tensor.shape) for tensor in inputs.tensors)
        self._dtypes = tuple(tensor.dtype for tensor in inputs.tensors)
        self._only = (self._shapes[0], self._dtypes[0]) if len(self._shapes) == 1 else None

    def __call__(self, given: Given) -> tuple[Tensor, ...]:
        """The tensors in the engine's order.

        Raises:
            ValueError: an input is missing or unknown, or has another shape, type or device.
        """
        if isinstance(given, Tensor) and self._only == (given.shape, given.dtype) and given.is_cpu:
            return (given,)  # the common case: it saves a microsecond in a benchmark
        if isinstance(given, Tensor):
            tensors: tuple[Tensor, ...] = (given,)
        elif isinstance(given, Mapping):
            if given.keys() != set(self.names):
                raise ValueError(
                    f"this {self._engine} engine takes {', '.join(self.names)}, not "
                    f"{', '.join(map(str, given)) or 'nothing'}"
                )
            tensors = tuple(given[name] for name in self.names)
        else:
            tensors = tuple(given)
        if len(tensors) != len(self._shapes):
            raise ValueError(
                f"this {self._engine} engine takes {len(self._shapes)} inputs "
                f"({', '.join(self.names)}), not {len(tensors)}"
            )
        for place, tensor in enumerate(tensors):
            if not isinstance(tensor, Tensor):
                raise ValueError(
                    f"{self._what(place)} must be a tensor, not a {type(tensor).__name__}"
                )
            if tuple(tensor.shape) != self._shapes[place]:
                raise ValueError(
                    f"{self._what(place)} has shape {tuple(tensor.shape)}, but this {self._engine} "
                    f"engine was built for {self._shapes[place]}; load another with an example of "
                    "the new shape"
                )
            if tensor.dtype != self._dtypes[place] or tensor.device.type != "cpu":
                raise ValueError(
                    f"{self._what(place)} must be {_word(self._dtypes[place])} on the CPU, not "
                    f"{_word(tensor.dtype)} on {tensor.device}"
                )
        return tensors

    def _what(self, place: int) -> str:
        return "batch" if len(self._shapes) == 1 else f"input {self.names[place]!r}"


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
