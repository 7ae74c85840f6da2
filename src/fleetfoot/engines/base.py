"""What an engine is: something that was built from one network for one shape of input, and runs it.

The eager engine is the oracle: ``relative_error`` and ``TOLERANCES`` say how far another may be
from it.
"""

from __future__ import annotations

import io
import math
import re
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from fleetfoot.cores import check_threads
from fleetfoot.errors import EngineError, FleetfootError, MissingExtraError, first_line

if TYPE_CHECKING:
    from fleetfoot.engines.agreement import Agreement

Result = TypeVar("Result")

TOLERANCES = {"float32": 1e-4, "bfloat16": 5e-2}
"""Largest ``relative_error`` against eager in float32, by the precision that an engine computes in.

float32: sums over up to 9 x 2048 products in another order, and Winograd's transforms, over some
50 layers; 1e-6 to 2e-5 is seen. bfloat16 keeps 8 bits, 4e-3 a value; 5e-3 to 2e-2 is seen.
"""


def relative_error(output: Tensor, reference: Tensor) -> float:
    """Largest difference over the largest value of the reference; infinite where the shapes differ,
    or where one is not finite and the other is not the same."""
    if output.shape != reference.shape:
        return math.inf
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
    """What an engine is asked for.

    Raises:
        ValueError: ``threads`` is not 1 to the usable cores, or a name is none of those known.
    """

    threads: int = 1
    precision: str = "float32"
    """What it computes in, "float32" or "bfloat16"; batches and logits are float32 either way."""
    layout: str = "nchw"
    """Order in which torch keeps the maps, "nchw" or "nhwc". The other engines take NCHW input and
    choose their own order inside."""
    device: str = "cpu"
    """"cpu" or "cuda"."""

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
    """What an engine was built as: what ran, not what was wished for."""

    name: str
    version: str
    threads: int
    precision: str
    layout: str
    device: str
    note: str = ""
    """What a reader of its figures should know: operators that its fast part did not take."""


@dataclass(frozen=True, kw_only=True)
class NodeTime:
    """What one node of an engine's own graph took in one run."""

    name: str
    """The engine's own, or one made from its place where it has none."""
    kind: str
    """The engine's own word for what it does."""
    modules: tuple[str, ...]
    """Paths of the modules whose work it holds, that of its main operator first; "" is the network
    itself. Empty where the engine does not tell: the node is unmapped."""
    seconds: float
    part_of: str = ""
    """Name of the node that runs it by pieces, so that what lies between its parts stays in the
    cache; "" where it runs by itself. The time of that other node is without its parts'."""
    macs_share: float = 1.0
    """Multiply-adds that it computes at least for each that the network asks for: below 1 with
    Winograd's transforms."""
    reference: bool = False
    """The engine has no kernel of its own for it here, and ran one that is only right."""


class Engine(ABC):
    """One network, built for batches of the shape of ``example``. Ends with ``close`` or a ``with``
    block."""

    name: ClassVar[str]
    package: ClassVar[str]
    """The distribution whose version is stated."""
    compared: bool = True
    """Whether it is compared with eager; not where it is eager itself, or computes nothing."""
    agreement: Agreement | None = None
    """How far its answer is from eager's; None until that was compared, or if it is not."""
    decided_by: object = None
    """Where ``choose.auto`` chose this engine, its ``Decision``."""

    def __init__(self, model: nn.Module, example: Tensor, options: Options) -> None:
        self.shape = tuple(example.shape)
        self.info = EngineInfo(name=self.name, version=version(self.package), **vars(options))
        self._closed = False

    @classmethod
    @abstractmethod
    def missing(cls) -> FleetfootError | None:
        """The error that says why this engine cannot be used here; None where it can."""

    @classmethod
    def of_part(cls, part: nn.Module, example: Tensor, options: Options) -> Engine:
        """The engine of a part of a network that the engine was built from before."""
        return cls(part, example, options)

    def with_weights(self, weights: Mapping[str, Tensor]) -> Engine | None:
        """The same engine with other values of parameters, by name; None where it would have to be
        built from the beginning. For the comparison with eager, which comes first of all."""
        return None

    def agreed(self, agreement: Agreement) -> None:
        """Keeps what the comparison with eager gave; what only that needed is given back."""
        self.agreement = agreement

    def run(self, batch: Tensor) -> Tensor:
        """(B, C, H, W) float32 on the CPU -> logits (B, N), float32 on the CPU.

        Raises:
            ValueError: the batch is not of the shape, type or place that the engine was built for.
            EngineError: the engine failed, or is closed.
        """
        return self._checked(self._run, batch)

    def profile(self, batch: Tensor) -> list[NodeTime]:
        """Runs once and says what each node took, in the order in which they ran. The first call
        may build a second engine that takes times.

        Raises:
            ValueError: as in ``run``.
            EngineError: as in ``run``, or this engine has no times of its nodes.
        """
        return self._checked(self._profile, batch)

    def _checked(self, work: Callable[[Tensor], Result], batch: Tensor) -> Result:
        if tuple(batch.shape) != self.shape:
            raise ValueError(
                f"batch has shape {tuple(batch.shape)}, but this {self.name} engine was built for "
                f"{self.shape}; load another with an example of the new shape"
            )
        if batch.dtype != torch.float32 or batch.device.type != "cpu":
            raise ValueError(
                "batch must be float32 on the CPU, not "
                f"{str(batch.dtype).removeprefix('torch.')} on {batch.device}"
            )
        if self._closed:
            raise EngineError(f"this {self.name} engine is closed; load it again")
        try:
            return work(batch)
        except EngineError:
            raise
        except Exception as error:  # each runtime raises its own kinds
            raise EngineError(f"{self.name} failed on a batch {self.shape}: {error}") from error

    @abstractmethod
    def _run(self, batch: Tensor) -> Tensor: ...

    def _profile(self, batch: Tensor) -> list[NodeTime]:
        raise EngineError(
            f"{self.name} has no times of its nodes; native, eager, onnxruntime and openvino have"
        )

    def timed_call(self, batch: Tensor) -> Callable[[], object]:
        """What a benchmark times: ``run``; on CUDA the network alone, its batch already there."""
        return lambda: self.run(batch)

    def close(self) -> None:
        """Gives back what the engine holds. A second call does nothing."""
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
    """Why a network could not be built: the kind of error, the first line of what it says, and the
    line of the network that torch's exporter stopped at. What else that exporter says is advice
    for torch's own developers."""
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
    """Around torch's exporter, which prints whole graphs to stderr before it raises."""
    with redirect_stderr(io.StringIO()):
        yield


def installed(package: str) -> bool:
    """Whether a distribution of that name is here; nothing is imported."""
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def missing_package(engine: str, *packages: str) -> MissingExtraError | None:
    """The error that names the first of ``packages`` that is not installed; None where all are."""
    for package in packages:
        if not installed(package):
            return MissingExtraError.of(f"engine {engine!r}", package, engine)
    return None


def built_from(engine: Engine, network: weakref.ref[nn.Module]) -> nn.Module:
    """The network that an engine was built from, of which it holds no more than this.

    Raises:
        EngineError: nobody holds it any longer.
    """
    model = network()
    if model is None:
        raise EngineError(
            f"{engine.name} takes times in a second engine, and the network that it would be built "
            "from is gone; keep the network while you profile"
        )
    return model


def refuse(engine: str, options: Options, **offered: str) -> None:
    """Raises where ``options`` ask for what the engine does not offer.

    Raises:
        EngineError: an option is not the one that is ``offered``; both are named.
    """
    for name, value in offered.items():
        asked = getattr(options, name)
        if asked != value:
            raise EngineError(f"{engine} offers {name} {value!r} only; {asked!r} was asked for")
