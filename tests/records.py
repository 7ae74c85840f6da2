"""Measurements as a run would leave them, drawn at random but fixed by a seed: what the tables,
pictures, pages and comparisons are tested on."""

from __future__ import annotations

import statistics
from dataclasses import replace

import numpy as np

from fleetfoot.evaluate.score import Score, published
from fleetfoot.measure.clock import stability
from fleetfoot.measure.record import Failure, Measurement, Start
from fleetfoot.report.joined import Joined, join

# name, params, MACs, memory access in bytes, top-1, its source, eager's time in ms; the shape of
# one thread of an AVX-512 server core, the figures rounded
NETWORKS = [
    ("fasternet_t0", 3_910_000, 338_000_000, 38_000_000, 71.92, "fasternet_t0.in1k", 25.1),
    ("fasternet_t2", 14_980_000, 1_900_000_000, 121_000_000, 78.89, "fasternet_t2.in1k", 80.4),
    ("fastvit_t8", 4_000_000, 698_000_000, 58_000_000, 76.18, "fastvit_t8.apple_in1k", 57.5),
    ("fastvit_sa12", 11_520_000, 1_940_000_000, 132_000_000, 80.84, "sa12.apple_in1k", 110.0),
    ("mobileone_s0", 2_080_000, 275_000_000, 40_000_000, 71.40, "mobileone_s0.apple_in1k", 19.9),
    ("mobileone_s1", 4_760_000, 825_000_000, 71_000_000, 75.76, "mobileone_s1.apple_in1k", 34.0),
    ("mobilenetv1_100", 4_210_000, 568_000_000, 62_000_000, 75.39, "ra4_e3600_r224_in1k", 43.4),
    ("mobilenetv2_100", 3_470_000, 300_000_000, 67_000_000, 72.91, "mobilenetv2.ra_in1k", 45.4),
    ("mobilenetv3_large_100", 5_470_000, 216_000_000, 52_000_000, 75.78, "ra_in1k", 38.7),
    ("mobilenetv3_small_100", 2_530_000, 56_500_000, 21_000_000, 67.64, "lamb_in1k", 21.4),
    ("shufflenet_v2_x1_0", 2_270_000, 144_000_000, 27_000_000, 69.36, "torchvision V1", 28.4),
    ("timm:mobilevit_xxs", 1_270_000, 300_000_000, 61_000_000, None, "", 51.5),
    ("torchvision:resnet50", 25_530_000, 4_089_000_000, 190_000_000, 80.86, "V2", 154.0),
]
ENGINES = {"eager": 1.0, "onnxruntime": 0.47, "openvino": 0.41}  # time, over eager's
MACHINE = {
    "cpu": "Example CPU @ 2.50GHz",
    "cores": 2,
    "governor": None,
    "os": "Linux 6.1",
    "memory_bytes": 8 << 30,
    "gpu": None,
}


SAMPLES_S = (0.0105, 0.011, 0.011, 0.011, 0.011, 0.011, 0.0115)


def measurement(samples=SAMPLES_S, **changes) -> Measurement:
    """A measurement of these samples, in seconds, with every derived figure drawn from them."""
    samples = tuple(float(s) for s in samples)
    median = statistics.median(samples)
    low, p10, p90, p99, high = (float(np.quantile(samples, q)) for q in (0.4, 0.1, 0.9, 0.99, 0.6))
    macs, batch = changes.get("macs", 338_000_000), changes.get("batch", 1)
    peak = changes.get("peak_gflops", 118.0)
    spread = (p90 - p10) / median
    row = dict(
        model="fasternet_t0", engine="eager", threads=1, batch=batch, size=224,
        median_s=median, p90_s=max(p90, median), p99_s=max(p99, p90, median), ci95_s=(low, high),
        samples_s=samples, warmup_s=0.4, steady=True, spread=spread,
        stable=stability(samples, steady=True).stable,
        folded=True, fold={"folded": 46, "left": 0, "max_abs": 3.1e-14, "max_rel": 8.2e-15},
        params=3_910_000, macs=macs, memory_access_bytes=38_000_000,
        images_per_s=batch / median, achieved_gflops=2 * macs * batch / median / 1e9,
        peak_gflops=peak, peak_share=2 * macs * batch / median / 1e9 / peak, fma_gflops=137.0,
        copy_gb_per_s=9.4,
        precision="float32", layout="nchw",
        device="cpu", engine_version="2.10.0", harness_s=2.1e-6, memory_peak_bytes=None,
        protocol="default", run_id="20250102T030405Z", started="2025-01-02T03:04:05+00:00",
        machine=dict(MACHINE), versions={"torch": "2.10.0", "fleetfoot": "0.1.0"},
        commit="b254d22",
    )  # fmt: skip
    return Measurement(**{**row, **changes})


def record(seed: int = 0, *, slower: float = 1.0, batch: int = 1, threads: int = 1, **changes):
    """Thirteen networks on three engines, 60 samples each; one cell of each engine is noisy."""
    rng = np.random.default_rng(seed)
    rows = []
    for i, (model, params, macs, access, _, _, eager_ms) in enumerate(NETWORKS):
        for j, (engine, factor) in enumerate(ENGINES.items()):
            centre = eager_ms / 1e3 * factor * (0.9 + 0.2 * rng.random()) * batch**0.93 * slower
            noise = 0.2 if i == 3 * j + 2 else 0.02
            samples = centre * (1 + noise * np.abs(rng.standard_normal(60)))
            rows.append(
                measurement(
                    samples, model=model, engine=engine, batch=batch, threads=threads,
                    params=params, macs=macs, memory_access_bytes=access, **changes,
                )
            )  # fmt: skip
    return rows


def scores(size: int = 224) -> list[Score]:
    """The published figures of ``record``."""
    return [
        published(model, size, top1, source)
        for model, *_, top1, source, _ in NETWORKS
        if top1 is not None
    ]


def joined_record(seed: int = 0, **changes) -> list[Joined]:
    """``record`` as tables have it."""
    return join(record(seed, **changes), scores())


def joined(
    samples=SAMPLES_S, *, top1: float | None = 71.92,
    top1_source: str = "timm/fasternet_t0.in1k", **changes,
) -> Joined:  # fmt: skip
    """``measurement`` as a table has it, with a published accuracy."""
    m = measurement(samples, **changes)
    (row,) = join([m], [] if top1 is None else [published(m.model, m.size, top1, top1_source)])
    return row


def failure(**changes) -> Failure:
    row = dict(
        model="fastvit_t8", engine="compiled", threads=1, batch=1, size=224,
        reason="torch.compile needs a C++ compiler, and none was found",
    )  # fmt: skip
    return Failure(**{**row, **changes})


def start(
    engine="native", model="fasternet_t0", import_s=0.02, answer_s=0.03, above=5_000_000, **more
) -> Start:
    """Three processes alike."""
    weights = 15_600_000
    return Start(
        **{
            **dict(
                model=model, engine=engine, threads=1, size=224, weight_bytes=weights,
                file_bytes=weights, import_s=(import_s,) * 3, answer_s=(answer_s,) * 3,
                opening_bytes=(weights + above,) * 3, running_bytes=(weights + above,) * 3,
                torch_imported=False, engine_version="1", started="2025-01-02T03:04:05+00:00",
                machine=dict(MACHINE), versions={}, commit="",
            ),
            **more,
        }
    )  # fmt: skip


def slowed(measurements, factor: float):
    """The same cells with every sample times ``factor``."""
    return [
        replace(
            measurement([s * factor for s in m.samples_s], macs=m.macs, batch=m.batch),
            **{
                name: getattr(m, name)
                for name in ("model", "engine", "threads", "params", "memory_access_bytes",
                             "machine", "versions", "protocol", "commit")
            },
        )
        for m in measurements
    ]  # fmt: skip


SEVEN_ENGINES = ("native", "onnxruntime", "openvino", "ncnn", "executorch", "compiled", "eager")


def seven():
    """Two networks on seven engines, 10 ms on the first and 1 ms more on each next; ncnn cannot run
    the second."""
    return [
        joined([0.010 + 0.001 * i] * 8, model=model, engine=engine)
        for model in ("fasternet_t0", "fastvit_sa12")
        for i, engine in enumerate(SEVEN_ENGINES)
        if (model, engine) != ("fastvit_sa12", "ncnn")
    ]
