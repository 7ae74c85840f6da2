"""The base of engines: an engine is built from one network for one shape of input, and runs it.

The eager engine is the reference: ``relative_error`` and ``TOLERANCES`` state how far another may
differ from it.
"""

from __future__ import annotations

import io
import math
import os
import re
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fleetfoot import artifact as artifacts
from fleetfoot.artifact import Artifact, Facts, Manifest, Nest
from fleetfoot.cores import check_threads
from fleetfoot.engines.inputs import Given, Inputs, Matcher, described
from fleetfoot.errors import (
    ArtifactError,
    EngineError,
    FleetfootError,
    MissingExtraError,
    first_line,
)

if TYPE_CHECKING:
    from fleetfoot.engines.agreement import Agreement

Result = TypeVar("Result")

TOLERANCES = {"float32": 1e-4, "bfloat16": 5e-2}
"""Largest ``relative_error`` against eager in float32, by the precision that an engine computes in.

float32: sums over up to 9 x 2048 products in another order, and Winograd's transforms, over some
50 layers; 1e-6 to 2e-5 is seen. bfloat16 keeps 8 bits, 4e-3 a value; 5e-3 to 2e-2 is seen.
"""


def relative_error(output: Any, reference: Any) -> float:
    """Largest difference over the largest value of the reference; infinite if the shapes differ, or
    if one is not finite and the other is not the same. For whole numbers and bools it is the share
    of those that differ: rounding may move a place, for example an argmax, by any distance.

    Nests of tensors are compared tensor by tensor, each over its own largest value; the result is
    the worst, or infinite if the structures differ.

    >>> round(relative_error(torch.tensor([1.0, 4.1]), torch.tensor([1.0, 4.0])), 3)
    0.025
    """
    return max(relative_errors(output, reference), default=0.0)


def relative_errors(output: Any, reference: Any) -> list[float]:
    """``relative_error`` of each tensor of a nest."""
    found, nest = pytree.tree_flatten(output)
    wanted, expected = pytree.tree_flatten(reference)
    if nest != expected:
        return [math.inf] * max(1, len(wanted))
    return [_error(one, other) for one, other in zip(found, wanted, strict=True)]


def _error(output: Any, reference: Any) -> float:
    if not isinstance(output, Tensor) or not isinstance(reference, Tensor):
        same = type(output) is type(reference) and output == reference
        return 0.0 if same else math.inf
    if output.shape != reference.shape:
        return math.inf
    if not reference.is_floating_point() and not output.is_floating_point() and output.numel():
        return (output != reference).double().mean().item()
    output, reference = output.double(), reference.double()
    finite = torch.isfinite(reference)
    if not torch.equal(finite, torch.isfinite(output)):
        return math.inf
    if not torch.equal(output[~finite].nan_to_num(), reference[~finite].nan_to_num()):
        return math.inf
    if not finite.any():
        return 0.0
    scale = reference[finite].abs().max().item()
    difference = (output - reference)[finite].abs().max().item()
    if difference == 0:
        return 0.0
    return difference / scale if scale else math.inf


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of an engine.

    Raises:
        ValueError: ``threads`` is not 1 to the usable cores, or a name is unknown.
    """

    threads: int = 1
    precision: str = "float32"
    """Type that the engine computes in, "float32" or "bfloat16"; inputs and logits are float32."""
    layout: str = "nchw"
    """Order in which torch keeps the maps, "nchw" or "nhwc". The other engines take NCHW input and
    choose their own order inside."""
    device: str = "cpu"
    """Device that the engine runs on, "cpu" or "cuda"."""

    def __post_init__(self) -> None:
        check_threads(self.threads)
        for name, known in (
            ("precision", tuple(TOLERANCES)),
            ("layout", ("nchw", "nhwc")),
            ("device", ("cpu", "cuda")),
        ):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} must be {' or '.join(known)}, not {getattr(self, name)!r}"
                )


@dataclass(frozen=True, kw_only=True)
class EngineInfo:
    """How an engine was built: what actually runs, not what was asked for."""

    name: str
    version: str
    threads: int
    precision: str
    layout: str
    device: str
    note: str = ""
    """Remark on its figures, for example operators that its fast part did not take."""


@dataclass(frozen=True, kw_only=True)
class NodeTime:
    """Time of one node of an engine's own graph in one run."""

    name: str
    """The engine's name for the node, or one made from its position."""
    kind: str
    """The engine's word for the node's operation."""
    modules: tuple[str, ...]
    """Paths of the modules whose work the node does, that of its main operator first; "" is the
    network itself. Empty if the engine does not state them: the node is unmapped."""
    seconds: float
    part_of: str = ""
    """Name of the node that runs this one piece by piece, so that data between its parts stays in
    the cache; "" if this node runs by itself. The other node's time excludes that of its parts."""
    macs_share: float = 1.0
    """Multiply-adds that the node computes at least for each that the network has: below 1 with
    Winograd's transforms."""
    reference: bool = False
    """Whether the engine lacks a fast kernel for the node here and ran a slow reference instead."""


class Written(NamedTuple):
    """Files and settings that an engine wrote into a folder."""

    files: tuple[str, ...]
    """Names of the files, in the order in which ``readers.py`` takes them."""
    settings: dict[str, Any]
    """Settings to apply when the files are opened."""


class Engine(ABC):
    """One network, built for inputs of the shapes of ``example``. ``close`` or a ``with``
    block ends it."""

    name: ClassVar[str]
    package: ClassVar[str]
    """Distribution whose version ``info`` states."""
    compared: bool = True
    """Whether the engine is compared with eager: not if it is eager or computes nothing."""
    agreement: Agreement | None = None
    """Difference of its output from eager's; None if not compared."""
    artifact: Artifact | None = None
    """The artifact that it was opened from; None if it was built from a network."""
    saves: ClassVar[bool] = False
    """Whether the engine has its own files, from which it can be opened again."""
    maps: ClassVar[bool] = False
    """Whether the engine can map its files instead of reading them."""
    _mmap = False

    portable: ClassVar[bool] = True
    """Whether its files also work on another processor and with another version of its package."""
    flushes_denormals: ClassVar[bool] = False
    """Whether it takes numbers below 2**-126 as 0, which many processors are slow with."""
    decided_by: object = None
    """The ``Decision`` of ``choose.auto`` if that chose this engine."""

    def __init__(self, model: nn.Module, example: Given | Inputs, options: Options) -> None:
        self._begin(Inputs.of(model, example), options)

    def _begin(self, inputs: Inputs, options: Options) -> None:
        self.inputs = inputs
        """The example inputs that the engine was built for."""
        self.shape = tuple(inputs.tensors[0].shape)
        """Shape of the first input."""
        self.info = EngineInfo(name=self.name, version=version(self.package), **vars(options))
        self._matched = Matcher(self.name, inputs)
        self._fill: Callable[[list[Tensor]], Any] | None = None
        self._closed = False

    @classmethod
    def opened(cls, artifact: Artifact, options: Options, *, mmap: bool = False) -> Engine:
        """Opens the engine that wrote ``artifact``. ``mmap`` has the same meaning as in
        ``engines.open``.

        Raises:
            ArtifactError: another engine wrote the files, or they are for another machine or
                version.
            EngineError: the engine's runtime refuses the files.
        """
        said = artifact.manifest
        if said.engine != cls.name or not cls.saves:
            raise ArtifactError(f"{artifact.path} was written by {said.engine}, not by {cls.name}")
        if not cls.portable:
            for what, wrote, here in (
                ("on", said.platform, artifacts.here()),
                (f"by {cls.package}", said.engine_version, version(cls.package)),
            ):
                if wrote != here:
                    raise ArtifactError(
                        f"{artifact.path} was written {what} {wrote}, and this is {here}; the "
                        f"files of {cls.name} work only there; save the network again here"
                    )
        if mmap and not cls.maps:
            raise EngineError(f"{cls.name} does not map its files; leave mmap out")
        engine = cls.__new__(cls)
        engine._mmap = mmap
        engine._begin(Inputs.described(said.inputs, said.by_name), options)
        nest = Nest(said.nest)
        engine._fill = None if nest.plain else nest.filled
        engine.artifact = artifact
        engine._read(artifact)
        return engine

    @classmethod
    @abstractmethod
    def missing(cls) -> FleetfootError | None:
        """The error that says why this engine cannot be used here; None if it can."""

    @classmethod
    def of_part(cls, part: nn.Module, example: Given | Inputs, options: Options) -> Engine:
        """An engine for a part of the network that this kind of engine was built from before."""
        return cls(part, example, options)

    def with_weights(self, weights: Mapping[str, Tensor]) -> Engine | None:
        """An engine with other values of parameters, by name; None if it would have to be built
        from the beginning. Only for the comparison with eager, which precedes any other use."""
        return None

    def agreed(self, agreement: Agreement) -> None:
        """Stores the result of the comparison with eager, and frees what only that needed."""
        self.agreement = agreement

    def run(self, inputs: Given) -> Any:
        """Runs the network on inputs on the CPU. -> its output, on the CPU: one tensor, or the
        same dicts, lists and tuples of tensors. A classifier: (B, C, H, W) float32 -> logits (B,
        N), float32.

        Args:
            inputs: one tensor, a sequence of them, or a mapping by the names of the network's
                parameters (``self.inputs.names``).

        Raises:
            ValueError: an input has not the shape, type or position that the engine was built for.
            EngineError: the engine failed, or is closed.
        """
        return self._checked(self._run, inputs)

    def profile(self, inputs: Given) -> list[NodeTime]:
        """Runs once and returns the time of each node, in the order in which they ran. The first
        call may build a second engine that measures times.

        Raises:
            ValueError: an input has not the shape or type that the engine was built for.
            EngineError: the engine failed, is closed, or has no times of its nodes.
        """
        if self.artifact is not None:
            raise EngineError(
                f"this {self.name} engine was opened from {self.artifact.path}, which does not "
                "tell whose work its nodes hold; load it from the network to profile it"
            )
        return self._checked(self._profile, inputs)

    def save(self, path: str | os.PathLike[str], *, facts: Facts | None = None) -> Artifact:
        """Writes the engine's own files and a manifest into the new folder ``path``, completely or
        not at all. ``engines.open`` opens them again.

        Raises:
            EngineError: the engine has no files of its own, is closed, was opened from an artifact,
                or the network that it was built from is gone.
            OSError: ``path`` exists, or it cannot be written.
        """
        if not self.saves:
            raise EngineError(
                f"{self.name} has no files of its own; native, onnxruntime, openvino, ncnn and "
                "executorch have"
            )
        if self.artifact is not None:
            raise EngineError(
                f"this {self.name} engine was opened from {self.artifact.path}; copy that folder"
            )
        answer = self.run(self.inputs.random().tensors)
        leaves, spec = pytree.tree_flatten(answer)
        try:
            nest = Nest.of(pytree.tree_unflatten(range(len(leaves)), spec))
        except ValueError as error:
            raise EngineError(
                f"a manifest cannot describe the output of this network: {error}"
            ) from error
        written = Written((), {})

        def fill(folder: Path) -> tuple[str, ...]:
            nonlocal written
            written = self._write(folder)
            return written.files

        return artifacts.write(
            path,
            fill,
            lambda files: Manifest(
                format=artifacts.FORMAT,
                engine=self.name,
                engine_version=self.info.version,
                settings=written.settings,
                threads=self.info.threads,
                precision=self.info.precision,
                platform=artifacts.here(),
                inputs=self.inputs.describe(),
                by_name=self.inputs.by_name,
                outputs=tuple(map(described, nest.names, leaves)),
                nest=nest.record,
                files=files,
                error=None if self.agreement is None else self.agreement.error,
                versions={name: version(name) for name in ("fleetfoot", "torch")},
                facts=facts or Facts(),
            ),
        )

    def _write(self, folder: Path) -> Written:
        """Writes the engine's own files into an empty folder. For engines that save."""
        raise NotImplementedError

    def _read(self, artifact: Artifact) -> None:
        """Opens the files that ``_write`` wrote. For engines that save."""
        raise NotImplementedError

    def _checked(self, work: Callable[[tuple[Tensor, ...]], Result], inputs: Given) -> Result:
        tensors = self._matched(inputs)
        if self._closed:
            raise EngineError(f"this {self.name} engine is closed; load it again")
        try:
            return work(tensors)
        except EngineError:
            raise
        except Exception as error:  # each runtime raises its own kinds
            raise EngineError(f"{self.name} failed on a batch {self.shape}: {error}") from error

    def _answers_as(self, nest: pytree.TreeSpec) -> None:
        """Sets the structure of the outputs, ``nest``, for all later runs."""
        if not nest.is_leaf():
            self._fill = lambda outputs: pytree.tree_unflatten(outputs, nest)

    def _nested(self, outputs: list[Tensor]) -> Any:
        """The network's output, with its structure, from its tensors."""
        return outputs[0] if self._fill is None else self._fill(outputs)

    @abstractmethod
    def _run(self, inputs: tuple[Tensor, ...]) -> Any: ...

    def _profile(self, inputs: tuple[Tensor, ...]) -> list[NodeTime]:
        raise EngineError(
            f"{self.name} has no times of its nodes; native, eager, onnxruntime and openvino have"
        )

    def timed_call(self, inputs: Given) -> Callable[[], object]:
        """The call that a benchmark times: ``run``; on CUDA the network alone, on inputs that are
        already on the device."""
        return lambda: self.run(inputs)

    def close(self) -> None:
        """Frees what the engine holds. A second call does nothing."""
        self._closed = True

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


_RAISED_AT = re.compile(
    r"The following call raised this error:\s+File \"(.+)\", line (\d+), in .+\n\s*(.+)"
)


def reason(error: BaseException) -> str:
    """Why a network could not be built: the kind of error, the first line of its message, and the
    line of the network at which torch's exporter stopped. The rest of that exporter's message is
    advice for torch's own developers."""
    while type(error).__name__ == "TorchExportError" and error.__cause__ is not None:
        error = error.__cause__
    text = f"{type(error).__name__}: {first_line(error)}".removesuffix(": ")
    if raised := _RAISED_AT.search(str(error)):
        text += "\n  at {}, line {}: {}".format(*raised.groups())
    if "DataDependent" in type(error).__name__:
        text += "\n  What it computes depends on values: eager can run it"
    return text


@contextmanager
def quiet() -> Iterator[None]:
    """A block without the output of torch's exporter, which prints whole graphs to stderr."""
    with redirect_stderr(io.StringIO()):
        yield


def installed(package: str) -> bool:
    """Whether a distribution of that name is installed; nothing is imported."""
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def missing_package(engine: str, *packages: str) -> MissingExtraError | None:
    """The error that names the first of ``packages`` that is not installed; None if all are."""
    for package in packages:
        if not installed(package):
            return MissingExtraError.of(f"engine {engine!r}", package, engine)
    return None


def built_from(engine: Engine, network: weakref.ref[nn.Module]) -> nn.Module:
    """The network that an engine was built from; the engine holds only a weak reference to it.

    Raises:
        EngineError: the network no longer exists.
    """
    model = network()
    if model is None:
        raise EngineError(
            f"{engine.name} builds a second engine from the network to profile or save it, and the "
            "network no longer exists; keep a reference to it until then"
        )
    return model


def refuse(engine: str, options: Options, **offered: str) -> None:
    """Refuses ``options`` that the engine does not offer.

    Raises:
        EngineError: an option is not the one that is ``offered``; both are named.
    """
    for name, value in offered.items():
        asked = getattr(options, name)
        if asked != value:
            raise EngineError(f"{engine} offers {name} {value!r} only; {asked!r} was asked for")
