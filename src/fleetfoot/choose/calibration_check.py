"""Checking a calibration on networks that were not in the fit.

``check`` measures networks of the zoo, timm and torchvision, and reports the errors of the
predictions, beside those of three simple predictors: multiply-accumulates, activations, and a
roofline, each scaled by the one factor that suits the synthetic networks of the fit best.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from fleetfoot import files, interrupts
from fleetfoot.choose.calibrate import CHECKING, Calibration, OnEvent, now, roofline_s
from fleetfoot.choose.latency import activations
from fleetfoot.choose.prediction_error import Agreement
from fleetfoot.count.trace import Trace, count
from fleetfoot.errors import EngineError
from fleetfoot.files import read_json
from fleetfoot.machine.machine import Machine
from fleetfoot.machine.measured import machine as measured_machine
from fleetfoot.measure.clock import quantile
from fleetfoot.measure.networks import Network
from fleetfoot.measure.record import Failure, Measurement
from fleetfoot.measure.run import Case, Tools, run
from fleetfoot.network import Size, resolved_size

CHECKED = (
    "fasternet_t0", "fasternet_t1", "fasternet_t2", "fastvit_t8", "fastvit_t12", "fastvit_sa12",
    "mobileone_s0", "mobileone_s1", "mobileone_s2", "mobilenetv1_025", "mobilenetv1_050",
    "mobilenetv1_100", "mobilenetv2_010", "mobilenetv2_035", "mobilenetv2_100",
    "mobilenetv3_small_100", "mobilenetv3_large_100", "shufflenet_v1_g3_x1_0",
    "shufflenet_v1_g8_x1_0", "shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x2_0",
    "shufflenet_v2_plus_small", "mobile_former_151m", "mobile_former_294m", "micronet_m1",
    "micronet_m3", "cyclemlp_b1", "timm:ghostnet_100", "timm:mobilevit_xxs", "timm:mobilevitv2_050",
    "timm:resnet18", "timm:resnet26", "timm:resnet50", "timm:efficientnet_b0",
    "timm:efficientnet_lite0", "timm:tf_efficientnetv2_b0", "timm:poolformer_s12",
    "timm:convnext_atto", "timm:edgenext_xx_small", "timm:regnetx_002", "timm:regnety_004",
    "timm:mnasnet_100", "timm:repvgg_a0", "timm:mobilenetv4_conv_small", "timm:lcnet_050",
    "timm:tinynet_e", "timm:mixnet_s", "timm:repvit_m0_9", "timm:rexnet_100",
    "timm:hardcorenas_a", "timm:fbnetc_100", "timm:semnasnet_075", "timm:densenet121",
    "timm:deit_tiny_patch16_224", "torchvision:squeezenet1_1", "torchvision:mnasnet0_5",
    "torchvision:regnet_x_400mf",
)  # fmt: skip
"""Networks that ``check`` measures by default: families of the zoo, and peers of other forms."""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A network that was first predicted and then measured."""

    model: str
    size: Size
    macs: int
    activations: int
    measured_s: float
    """Lower quartile of ``samples_s``."""
    samples_s: tuple[float, ...]
    predicted_s: float
    by_macs_s: float
    by_activations_s: float
    by_roofline_s: float

    @property
    def error(self) -> float:
        """Relative error of the prediction: predicted / measured - 1."""
        return self.predicted_s / self.measured_s - 1


PREDICTORS = {
    "latency model": "predicted_s",
    "roofline": "by_roofline_s",
    "activations": "by_activations_s",
    "MACs": "by_macs_s",
}
"""The predictors that a check compares, each with its field of ``Checked``."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """Predictions beside measurements, for networks that were not in the fit."""

    calibration: Calibration
    started: str
    seconds: float
    networks: tuple[Checked, ...]
    failures: tuple[Failure, ...]

    def agreement(self, predictor: str = "latency model") -> Agreement:
        """The agreement of one of ``PREDICTORS`` with the measurements."""
        field = PREDICTORS[predictor]
        return Agreement.of(
            [getattr(one, field) for one in self.networks],
            [one.measured_s for one in self.networks],
        )


def to_json(made: Check) -> str:
    return files.to_json(asdict(made))


def read_check(file: Path) -> Check:
    """Reads the check in a file.

    Raises:
        RecordError: there is no file, or ``check`` did not write it.
    """
    return read_json(file, Check)


def check(
    calibration: Calibration,
    names: Sequence[str] = CHECKED,
    *,
    output: Path | None = None,
    resume: bool = False,
    on_event: OnEvent = lambda event: None,
    tools: Tools | None = None,
    machine: Machine | None = None,
) -> Check:
    """Predicts networks from their traces, measures them interleaved, and compares the two.

    Args:
        names: networks, as names or shell patterns.
        output: folder of the run's journal, from which ``resume`` continues.
        tools: tools to measure with; their networks are traced as well.
        machine: measured rates for the roofline, as in ``calibrate``.

    Raises:
        UnknownNameError: no network has one of the names.
        EngineError: fewer than two networks could be measured; the message gives each reason.
        RecordError: the errors of ``measure.run``.
    """
    began, started = time.monotonic(), now()
    tools = tools or Tools()
    roof = machine or measured_machine(calibration.threads)
    cases = [
        Case(name, calibration.engine, calibration.threads, 1, resolved_size(name))
        for name in dict.fromkeys(names)
    ]
    traces: dict[str, Trace] = {}

    def network(name: str, size: Size, fold: bool) -> Network:
        made = tools.networks(name, size, fold)
        traces[name] = count(made.model, made.workload.image("measuring"))
        return made

    found = run(
        cases,
        CHECKING,
        output=output,
        resume=resume,
        on_event=on_event,
        tools=replace(tools, networks=network),
    )
    if found.interrupted:
        raise interrupts.Interrupted(found.interrupted)
    if len(found.measurements) < 2:
        reasons = "".join(f"\n  {one.model}: {one.reason}" for one in found.failures)
        raise EngineError(f"fewer than two networks could be measured{reasons}")
    for m in found.measurements:
        if m.model not in traces:  # measured before the run was resumed
            network(m.model, m.size, True)
    return Check(
        calibration=calibration,
        started=started,
        seconds=time.monotonic() - began,
        networks=tuple(_checked(m, traces[m.model], calibration, roof) for m in found.measurements),
        failures=tuple(found.failures),
    )


def _checked(m: Measurement, trace: Trace, calibration: Calibration, roof: Machine) -> Checked:
    scales, written = calibration.scales, activations(trace)
    return Checked(
        model=m.model,
        size=m.size,
        macs=trace.macs,
        activations=written,
        measured_s=quantile(m.samples_s, 0.25),
        samples_s=m.samples_s,
        predicted_s=calibration.model.predict(trace),
        by_macs_s=scales.s_per_mac * trace.macs,
        by_activations_s=scales.s_per_activation * written,
        by_roofline_s=scales.times_roofline * roofline_s(trace, roof),
    )
