"""Two forms of one network beside one another on one engine: what the change is worth in time."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from fleetfoot.copying import copied
from fleetfoot.cores import check_threads
from fleetfoot.errors import EngineError
from fleetfoot.interrupts import Interrupted
from fleetfoot.measure.compare import Change, change
from fleetfoot.measure.grid import check_engines
from fleetfoot.measure.networks import Network, prepared
from fleetfoot.measure.pace import Pace
from fleetfoot.measure.record import Failure, Measurement
from fleetfoot.measure.run import Case, Form, Tools, run
from fleetfoot.network import Size, Workload

PACE = Pace(
    name="pair",
    description="two networks in turns: enough to tell their times apart",
    rounds=12,
    fewest_rounds=6,
    budget_s=30.0,
    warmup_s=0.5,
    memory_bytes=sys.maxsize,  # two groups would not be interleaved
)


@dataclass(frozen=True, kw_only=True)
class PairTimes:
    """The two measurements and what became of the first; None where one of them failed."""

    measurements: tuple[Measurement, ...]
    """Before, after."""
    failures: tuple[Failure, ...]
    change: Change | None

    def record(self) -> dict[str, Any]:
        """Plain values, every sample among them."""
        made = self.change
        return {
            "measurements": [asdict(one) for one in self.measurements],
            "failures": [asdict(one) for one in self.failures],
            "change": made and {**vars(made), "cell": made.cell._asdict()},
        }


def measure(
    before: nn.Module,
    after: nn.Module,
    *,
    engine: str,
    name: str = "before",
    changed_name: str = "after",
    threads: int = 1,
    batch: int = 1,
    size: Size = 224,
    channels: int = 3,
    fold: bool = True,
    pace: Pace = PACE,
    tools: Tools | None = None,
) -> PairTimes:
    """Times both networks in turns, in eval mode and folded, on (batch, channels, H, W).

    A network that the engine cannot run is a failure with its reason.

    Raises:
        UnknownNameError: no engine has that name.
        ValueError: the names are the same, the engine is the one that does nothing, or there are
            fewer usable cores than ``threads``.
    """
    if name == changed_name:
        raise ValueError(f"the two networks need two names, not {name!r} twice")
    check_engines([engine])
    check_threads(threads)
    networks = {name: before, changed_name: after}

    def network(wanted: str, size: Size, fold: bool) -> Network:
        made = Workload.of(wanted, copied(networks[wanted]), size=size, channels=channels)
        with torch.inference_mode():  # before it is folded, which takes a detector a minute
            answer = made.module(*made.arguments)
        if not isinstance(answer, torch.Tensor | Mapping):  # as a detector that ends in boxes
            raise EngineError(
                f"it answers with a {type(answer).__name__}, not one tensor, or tensors by name"
            )
        return prepared(made, fold)

    tools = tools or Tools()
    found = run(
        [Case(one, engine, threads, batch, size) for one in networks],
        pace,
        form=Form(fold=fold),
        tools=Tools(networks=network, load=tools.load, probe=tools.probe),
    )
    if found.interrupted:
        raise Interrupted(found.interrupted)
    by_name = {one.model: one for one in found.measurements}
    measurements = tuple(by_name[one] for one in networks if one in by_name)
    return PairTimes(
        measurements=measurements,
        failures=tuple(found.failures),
        change=change(*measurements) if len(measurements) == 2 else None,
    )
