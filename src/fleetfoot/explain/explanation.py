"""Explanation of a network's latency: each layer's time on an engine beside the floor that this
machine sets, kept as one JSON object.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from typing import Any

from torch import Tensor, nn

from fleetfoot import engines, files
from fleetfoot.count.trace import trace
from fleetfoot.engines import EngineInfo
from fleetfoot.errors import FoldError, RecordError
from fleetfoot.explain.denormals import denormals
from fleetfoot.explain.findings import Finding
from fleetfoot.explain.layers import in_reference_kernels, join, profile
from fleetfoot.explain.rules import findings, worth_saying
from fleetfoot.files import parsed, read_object
from fleetfoot.machine import environment
from fleetfoot.machine.machine import Machine
from fleetfoot.machine.peaks import torch_threads
from fleetfoot.machine.roofline import Bound, Layer
from fleetfoot.measure.clock import median_interval, quantile
from fleetfoot.network import Workload, is_file
from fleetfoot.transform import fuse

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A network on an engine, layer by layer.

    Raises:
        RecordError: a figure does not follow from the samples or from the layers.
    """

    model: str
    folded: bool
    engine: EngineInfo
    batch: int
    input_shape: tuple[int, ...]
    """Shape of the input, (B, C, H, W)."""
    params: int
    macs: int
    """Multiply-accumulates of the whole batch."""
    latency_s: float
    """Median of ``samples_s``. The 90th percentile and the interval follow."""
    p90_s: float
    ci95_s: tuple[float, float]
    samples_s: tuple[float, ...]
    """Times of the runs without timing of the nodes, in the order in which they were taken."""
    steady: bool
    """Whether the times settled within the budget."""
    layers: tuple[Layer, ...]
    """The layers, in the order in which their modules first ran."""
    unmapped: tuple[str, ...]
    """Nodes for which the engine does not tell the module; their time is in the row of the network
    itself."""
    unmapped_s: float
    machine: Machine
    trace_note: str
    """What a reader of the counts should know; usually ""."""
    findings: tuple[Finding, ...]
    """Findings worth reporting, the highest price first."""
    started: str
    """Time at which the run started: ISO 8601, UTC."""
    versions: dict[str, str]
    commit: str
    profiled_s: float = 0.0
    """Median, over the runs with timing, of the sum of all node times; 0 if unknown. It exceeds the
    latency by what timing adds, and lacks the time that is in no node."""
    fold_note: str = ""
    """Why the network runs unfolded although its fold was asked for."""
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise RecordError(
                f"schema is {self.schema}; this fleetfoot reads explanations of schema {SCHEMA}. "
                "Read it with the version that wrote it"
            )
        if not self.samples_s or min(self.samples_s) <= 0:
            raise RecordError(f"{self.model}: samples_s must hold times above 0")
        expected = {
            "latency_s": (self.latency_s, statistics.median(self.samples_s)),
            "macs": (self.macs, sum(layer.macs for layer in self.layers)),
        }
        for name, (value, parts) in expected.items():
            if not math.isclose(value, parts, rel_tol=1e-6):
                raise RecordError(
                    f"{self.model}: {name} is {value:g}, but its parts give {parts:g}"
                )

    @property
    def nodes_s(self) -> float:
        """Sum of the layers' times, each a median. It is less than ``profiled_s`` if other work
        interrupts different layers in different runs."""
        return sum(layer.time_s for layer in self.layers)

    @property
    def unmapped_share(self) -> float:
        """Share of ``nodes_s`` that is in unmapped nodes."""
        return self.unmapped_s / self.nodes_s if self.nodes_s else 0.0

    @property
    def floor_s(self) -> float:
        """Sum of the layers' floors: the time that these nodes would take on a perfect engine."""
        return sum(layer.floor.seconds for layer in self.layers)

    @property
    def flops_per_s(self) -> float:
        """Achieved rate: two operations for each multiply-accumulate, divided by the latency."""
        return 2 * self.macs / self.latency_s

    @property
    def peak_flops_per_s(self) -> float:
        """Measured peak rate, in the precision that the engine computed in."""
        return self.machine.peak_flops_per_s(self.engine.precision)

    @property
    def bound_shares(self) -> dict[Bound, float]:
        """Share of ``nodes_s`` in the layers of each bound."""
        shares: dict[Bound, float] = {"compute": 0.0, "memory": 0.0, "start": 0.0}
        for layer in self.layers:
            if layer.time_s:
                shares[layer.floor.bound] += layer.time_s / self.nodes_s
        return shares


DERIVED: dict[type, tuple[str, ...]] = {
    Explanation: (
        "nodes_s", "unmapped_share", "floor_s", "flops_per_s", "peak_flops_per_s", "bound_shares",
    ),
    Layer: ("macs", "flops", "moved_bytes", "intensity", "flops_per_s", "above_floor_s"),
}  # fmt: skip
"""Values written for programs that read the JSON; ``from_json`` derives them again."""


def to_json(explanation: Explanation) -> str:
    """The explanation as one JSON object: the fields in order, then the derived values."""
    raw = asdict(explanation)
    raw |= _derived(explanation, Explanation)
    for row, layer in zip(raw["layers"], explanation.layers, strict=True):
        row |= _derived(layer, Layer)
        row["floor"] |= {"seconds": layer.floor.seconds, "bound": layer.floor.bound}
    return files.to_json(raw)


def _derived(value: object, kind: type) -> dict[str, Any]:
    return {name: getattr(value, name) for name in DERIVED[kind]}


def from_json(text: str) -> Explanation:
    """Reads an explanation that ``to_json`` wrote.

    Raises:
        RecordError: the text is not a JSON object of this schema; the message names the field.
    """
    raw = read_object(text)
    if raw.get("schema") != SCHEMA:
        raise RecordError(
            f"schema is {raw.get('schema', 'missing')}; this fleetfoot reads explanations of "
            f"schema {SCHEMA}. Read it with the version that wrote it"
        )
    _drop(raw, DERIVED[Explanation])
    for layer in raw.get("layers", ()):
        if isinstance(layer, dict):
            _drop(layer, DERIVED[Layer])
            if isinstance(layer.get("floor"), dict):
                _drop(layer["floor"], ("seconds", "bound"))
    return parsed(raw, Explanation, "explanation")


def _drop(raw: dict[str, Any], names: Sequence[str]) -> None:
    for name in names:
        raw.pop(name, None)


def folded(workload: Workload) -> tuple[Workload, str]:
    """The workload with its network folded, and ""; or the workload unchanged, and the reason.

    A user's network stays unfolded if its fold cannot be proved.

    Raises:
        FoldError: the fold of a network of the zoo, timm or torchvision cannot be proved.
    """
    example = workload.arguments
    if len(example) == 1:  # one image proves as much as a batch, and faster
        example = (example[0][:1],)
    try:
        return replace(workload, module=fuse(workload.module, example).model), ""
    except FoldError as error:
        if not is_file(workload.name):
            raise
        return workload, f"not folded: {error}"


def explain(
    model: nn.Module,
    example: Tensor,
    *,
    machine: Machine,
    engine: str = "native",
    threads: int = 1,
    precision: str = "float32",
    name: str = "",
    folded: bool = False,
    fold_note: str = "",
    seconds: float = 5.0,
) -> Explanation:
    """Runs ``model``, in eval mode, on ``engine`` and measures each of its modules.

    The machine of this example has round numbers; ``machine.measured`` measures yours.

    >>> import torch
    >>> from fleetfoot.explain.rules.examples import ROUND
    >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.MaxPool2d(2)).eval()
    >>> found = explain(network, torch.zeros(1, 3, 32, 32), machine=replace(ROUND, threads=1),
    ...                 engine="eager", seconds=0.1)
    >>> [(layer.module, layer.macs) for layer in found.layers]
    [('0', 194400), ('1', 0)]

    Args:
        example: the batch to run on, (B, C, H, W).
        machine: what this machine can do with the same number of threads.
        name: name of the network in the explanation. Default: its class.
        folded, fold_note: whether ``model`` is folded, and why not; only recorded here.
        seconds: time budget of the runs, in seconds.

    Raises:
        UnknownNameError, MissingExtraError, EngineError: the errors of ``engines.load``;
            EngineError also if the engine does not time its nodes.
        ValueError: the network does not run on the example; ``machine`` was measured with another
            number of threads, or not in this precision; or an error of ``engines.load``.
    """
    if machine.threads != threads:
        raise ValueError(
            f"machine was measured with {machine.threads} threads, but the engine is to run with "
            f"{threads}; measure the machine with {threads}"
        )
    machine.peak_flops_per_s(precision)
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    traced = trace(model, example)
    with (
        torch_threads(threads),
        engines.load(engine, model, example=example, threads=threads, precision=precision) as built,
    ):
        measured = profile(built, example, seconds=seconds)
        info = built.info
    layers = join(traced, measured.runs, machine, precision=precision)
    found = findings(
        traced,
        machine,
        layers=layers,
        engine=info.name,
        engine_note=info.note,
        reference=in_reference_kernels(measured.runs[0]),
        denormals={} if built.flushes_denormals else denormals(model, example),
    )
    said, _ = worth_saying(found, sum(layer.time_s for layer in layers))
    unmapped = [node for node in measured.runs[0] if not node.modules]
    unmapped_s = [sum(node.seconds for node in run if not node.modules) for run in measured.runs]
    return Explanation(
        model=name or type(model).__name__,
        folded=folded,
        engine=info,
        batch=len(example),
        input_shape=tuple(example.shape),
        params=traced.params,
        macs=traced.macs,
        latency_s=statistics.median(measured.samples_s),
        p90_s=quantile(measured.samples_s, 0.9),
        ci95_s=median_interval(measured.samples_s),
        samples_s=measured.samples_s,
        steady=measured.steady,
        layers=layers,
        unmapped=tuple(node.name for node in unmapped),
        unmapped_s=statistics.median(unmapped_s),
        machine=machine,
        trace_note=traced.note,
        findings=tuple(said),
        started=started,
        versions=environment.versions(),
        commit=environment.commit(),
        profiled_s=statistics.median(sum(node.seconds for node in run) for run in measured.runs),
        fold_note=fold_note,
    )
