"""A run without real engines: small networks, engines whose speed and failures are chosen, and a
probe that takes no time."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from fleetfoot.engines import Engine, Options
from fleetfoot.machine.peaks import Peaks
from fleetfoot.measure.networks import NOT_FOLDED, Network
from fleetfoot.measure.pace import Pace
from fleetfoot.measure.run import Case, Tools
from fleetfoot.network import Size, Workload

PACE = Pace(
    name="small",
    description="for tests",
    rounds=5,
    fewest_rounds=2,
    budget_s=60.0,
    burst_runs=2,
    burst_s=0.0,
    rewarm_s=0.0,
    warmup_s=0.01,
)


def case(model: str = "a", engine: str = "eager", **changes) -> Case:
    return replace(Case(model, engine, threads=1, batch=1, size=8), **changes)


CASES = [case(model, engine) for model in "abc" for engine in ("eager", "openvino")]


def network(name: str, size: Size, fold: bool) -> Network:
    torch.manual_seed(len(name))
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    workload = Workload.of(name, model, size=size)
    pixels = workload.image("fake").shape[2:].numel()
    return Network(
        workload=workload,
        folded=fold,
        fold=NOT_FOLDED,
        params=16,
        macs=12 * pixels,
        memory_access_bytes=100,
    )


class Fake(Engine):
    """Eager's answer, with ``wrong`` added to it, after ``seconds``; each timed call is logged."""

    name = "fake"
    package = "torch"

    def __init__(self, model, example, options, *, log, label, seconds=0.0, wrong=0.0, dies_at=0):
        super().__init__(model, example, options)
        self.model, self.log, self.label = model, log, label
        self.seconds, self.wrong, self.dies_at = seconds, wrong, dies_at
        self.calls = 0

    @classmethod
    def missing(cls):
        return None

    def _run(self, inputs):
        self.calls += 1
        if self.calls == self.dies_at:
            raise RuntimeError("out of luck")
        self.log.append(self.label)
        time.sleep(self.seconds)
        with torch.inference_mode():
            return self.model(*inputs) + self.wrong


class Probe:
    """0.01 s a product, 0.25 s a copy and 4 TFLOP/s in registers, always."""

    def __init__(self, threads: int) -> None:
        self.threads, self.taken = threads, 0

    def sample(self) -> None:
        self.taken += 1

    def peaks(self) -> Peaks:
        return Peaks(self.threads, (0.01,) * self.taken, (0.25,) * self.taken, (4e12,) * self.taken)


@dataclass
class Bench:
    """``tools`` for a run, and what happened in it."""

    behaviour: dict[str, dict] = field(default_factory=dict)
    """By engine name: keywords of ``Fake``, or an exception to raise while it is built."""
    log: list = field(default_factory=list)
    built: list = field(default_factory=list)

    @property
    def tools(self) -> Tools:
        return Tools(networks=network, load=self.load, probe=Probe)

    def load(self, engine, model, *, example, **options):
        behaviour = self.behaviour.get(engine, {})
        if isinstance(behaviour, Exception):
            raise behaviour
        made = Fake(
            model, example, Options(**options), log=self.log, label=(engine, id(model)), **behaviour
        )
        self.built.append(made)
        return made
