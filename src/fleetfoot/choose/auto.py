"""The engine for a network on this machine: ``load_auto`` finds the fastest by measuring, and
``load_fast`` takes the likeliest at once.

``auto`` keeps each answer with the measurements that decided it. Each question has a file in
fleetfoot's cache folder. A question consists of the network's structure, the batch, size, threads,
the engines to choose from, the machine and the versions; if one of them changes, it is another
question, and is measured.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, fx, nn

from fleetfoot import engines
from fleetfoot.cores import check_threads
from fleetfoot.count import count
from fleetfoot.engines import Engine
from fleetfoot.errors import EngineError, FleetfootError, RecordError, first_line
from fleetfoot.files import parsed, recalled, remembered
from fleetfoot.interrupts import Interrupted
from fleetfoot.machine import environment
from fleetfoot.measure.clock import quantile
from fleetfoot.measure.grid import default_engines
from fleetfoot.measure.networks import Network
from fleetfoot.measure.pace import Pace
from fleetfoot.measure.record import Failure, Measurement
from fleetfoot.measure.run import Case, Tools, run
from fleetfoot.network import Workload, named_inputs

log = logging.getLogger("fleetfoot")

PACE = Pace(
    name="auto",
    description="short and interleaved: enough to tell engines apart",
    rounds=8,
    fewest_rounds=4,
    budget_s=30.0,
    warmup_s=0.5,
)

LIKELY = ("native", "openvino", "onnxruntime", "eager")
"""Engines from fast to slow, as in most rows of the project's records; eager runs everything."""
FEW = 32
"""Most pictures for which eager is done before another engine is built: engines build in one to ten
seconds, and eager takes 0.02 to 0.2 s a picture."""


@dataclass(frozen=True)
class Decision:
    """The engine that was chosen, and the measurements that decided it."""

    engine: str
    measurements: tuple[Measurement, ...]
    failures: tuple[Failure, ...]
    remembered: bool
    """Whether the decision was read from the cache; otherwise it was measured just now."""

    @property
    def doubt(self) -> str:
        """Why another run may choose another engine: the middle halves of two engines' times
        overlap, and one of the two is not stable; "" if there is no reason."""
        chosen = next(m for m in self.measurements if m.engine == self.engine)
        rivals = [
            m.engine
            for m in self.measurements
            if m is not chosen
            and not (m.stable and chosen.stable)
            and quantile(m.samples_s, 0.25) < quantile(chosen.samples_s, 0.75)
        ]
        if not rivals:
            return ""
        return (
            f"the machine was too busy to tell {chosen.engine} from {' and '.join(rivals)}; it is "
            "measured again next time"
        )

    def __str__(self) -> str:
        times = sorted((m.median_s, m.engine, m.stable) for m in self.measurements)
        listed = ", ".join(
            f"{name} {1e3 * median:.2f} ms{'' if stable else ' (unstable)'}"
            for median, name, stable in times
        )
        failed = "".join(f"; {f.engine} failed: {f.reason}" for f in self.failures)
        when = f"measured on {self.measurements[0].started}" if self.remembered else "measured now"
        return f"auto: {self.engine}, {when}: {listed}{failed}"


def load_auto(
    model: nn.Module,
    *,
    example: Tensor,
    threads: int = 1,
    candidates: Sequence[str] | None = None,
    cache: Path | None = None,
) -> Engine:
    """The fastest engine for ``model``, built for batches of the shape of ``example``; its
    ``decided_by`` is the ``Decision``.

    Arguments and errors are those of ``decide``.
    """
    decision = decide(model, example=example, threads=threads, candidates=candidates, cache=cache)
    engine = engines.load(decision.engine, model, example=example, threads=threads)
    engine.decided_by = decision
    return engine


def load_fast(
    model: nn.Module,
    *,
    example: Tensor,
    threads: int = 1,
    pictures: int | None = None,
    cache: Path | None = None,
) -> Engine:
    """An engine for ``model`` that is likely the fastest, chosen without a measurement: the one
    that ``auto`` has kept for this question; otherwise the first of ``LIKELY`` that is installed,
    builds the network and agrees with eager. For at most ``FEW`` pictures it is eager, since the
    others take seconds to build. The logger "fleetfoot" reports the choice with its reason.

    Args:
        example: a batch, (B, C, H, W) float32.
        pictures: number of pictures that the engine will run. Default: many.
        cache: folder of the answers that ``auto`` keeps. Default: fleetfoot's cache folder.

    Raises:
        EngineError: not even eager runs the network.
    """
    names = default_engines()[0]
    question = _question(model, example, threads, names)
    known = recalled("auto", question, read=_kept, cache=cache)
    if pictures is not None and pictures <= FEW:
        why = f"for {pictures} picture{'s' * (pictures != 1)}, another engine takes longer to build"
        order = ["eager"]
    elif known is not None:
        why = f"the fastest by the measurement of {known.measurements[0].started}"
        order = [known.engine, *LIKELY]
    else:
        why = "likely the fastest; --engine auto measures which is"
        absent = engines.available()
        order = [name for name in LIKELY if absent[name] is None]
    for name in order[:-1]:
        try:
            built = engines.load(name, model, example=example, threads=threads)
        except FleetfootError as error:
            log.warning("%s cannot run this network: %s", name, first_line(error))
            why = "the next"
            continue
        log.info("engine: %s, %s", name, why)
        return built
    log.info("engine: %s, %s", order[-1], why)
    return engines.load(order[-1], model, example=example, threads=threads)


def decide(
    model: nn.Module,
    *,
    example: Tensor,
    threads: int = 1,
    candidates: Sequence[str] | None = None,
    cache: Path | None = None,
    tools: Tools | None = None,
) -> Decision:
    """Finds the engine with the least median time for ``model``, in eval mode and usually folded.

    Uses the kept answer, or measures for 5 to 30 seconds, and reports the decision to the logger
    "fleetfoot". An answer is kept unless ``Decision.doubt`` has a reason not to.

    Args:
        example: a batch, (B, 3, S, S) float32.
        candidates: engines to choose from. Default: the default engines that are installed.
        cache: folder of the kept answers. Default: fleetfoot's cache folder.
        tools: tools to measure with; the network is always ``model``.

    Raises:
        ValueError: ``example`` has another shape, or there are fewer usable cores than
            ``threads``.
        EngineError: no engine can run the network; the message gives each reason.
    """
    if example.ndim != 4 or example.shape[1] != 3 or example.shape[2] != example.shape[3]:
        raise ValueError(f"example must be (B, 3, S, S), not {tuple(example.shape)}")
    check_threads(threads)
    names = list(candidates) if candidates is not None else default_engines()[0]
    decision = remembered(
        "auto",
        _question(model, example, threads, names),
        lambda: _measured(model, example, threads, names, tools or Tools()),
        read=_kept,
        write=lambda made: asdict(made) | {"remembered": True},
        doubt=lambda made: made.doubt,
        cache=cache,
    )
    log.info("%s", decision)
    return decision


def _question(
    model: nn.Module, example: Tensor, threads: int, names: Sequence[str]
) -> dict[str, Any]:
    return {
        "network": _structure(model),
        "shape": tuple(example.shape),
        "threads": threads,
        "engines": names,
        "pace": asdict(PACE),
        "machine": environment.machine(),
        "versions": environment.versions(),
    }


def _structure(model: nn.Module) -> str:
    """Digest of the modules, their options, order and sizes; it does not depend on the weights."""
    digest = hashlib.blake2b(f"{type(model).__qualname__}\n{model!r}".encode(), digest_size=16)
    for module in model.modules():
        if isinstance(module, fx.GraphModule):
            digest.update(module.code.encode())
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
    return digest.hexdigest()


def _measured(
    model: nn.Module, example: Tensor, threads: int, names: Sequence[str], tools: Tools
) -> Decision:
    cost = count(model, example)
    norms = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
    workload = Workload.of(type(model).__name__, model, inputs=named_inputs(model, example))
    # whether it is folded, only the caller knows: a module carries no certificate
    network = Network.counted(workload, cost, folded=not norms)
    batch, size = len(example), workload.size
    found = run(
        [Case(type(model).__name__, name, threads, batch, size) for name in names],
        PACE,
        tools=replace(tools, networks=lambda name, size, fold: network),
    )
    if found.interrupted:
        raise Interrupted(found.interrupted)
    if not found.measurements:
        reasons = "".join(f"\n  {failure.engine}: {failure.reason}" for failure in found.failures)
        raise EngineError(f"no engine can run {type(model).__name__}:{reasons}")
    fastest = min(found.measurements, key=lambda m: m.median_s)
    return Decision(
        fastest.engine, tuple(found.measurements), tuple(found.failures), remembered=False
    )


def _kept(raw: Any) -> Decision:
    """A decision from the cache.

    Raises:
        RecordError: a field is wrong, a measurement is invalid, or its engine is not the fastest.
    """
    decision = parsed(raw, Decision)
    times = {m.engine: m.median_s for m in decision.measurements}
    if decision.engine not in times:
        raise RecordError("no measurement supports its engine")
    if times[decision.engine] > min(times.values()):
        raise RecordError(f"{decision.engine} is not the fastest of its measurements")
    if decision.doubt:
        raise RecordError(decision.doubt)
    return decision
