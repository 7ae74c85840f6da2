"""What is measured and for how long, by name; and the networks and engines taken where none are
named."""

from __future__ import annotations

from dataclasses import dataclass

from fleetfoot.errors import UnknownNameError

OWN = "native"
PEERS = ("onnxruntime", "openvino", "ncnn", "executorch", "compiled")
MOST_THREADS = 4
"""A latency on more threads than this says more of the scheduler than of the network."""


@dataclass(frozen=True)
class Row:
    """One setting in which each network and engine is timed."""

    batch: int
    threads: int | None
    """None: the usable cores, up to ``MOST_THREADS``; the record holds the number."""
    without: tuple[str, ...] = ()
    """Networks that are left out of this setting."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Settings and amounts. Two records by one protocol can be compared."""

    name: str
    description: str
    rows: tuple[Row, ...]
    rounds: int
    """Times that every cell has its turn."""
    fewest_rounds: int
    """So many are run even when the time is over."""
    budget_s: float
    """Wall time of the whole run, preparation included, after which no new round begins."""
    burst_runs: int = 2
    """Timed runs a turn, at least."""
    burst_s: float = 0.03
    """A turn goes on for this long where its runs are shorter."""
    rewarm_s: float = 0.015
    """Untimed runs at the start of a turn, one at least: they bring the caches back, and outlast
    the threads of a torch engine, which spin for about 9 ms after its last run."""
    warmup_s: float = 1.5
    """The longest warm-up of one cell, its first."""
    models: tuple[str, ...] = ()
    """Taken where none are named; ``DEFAULT_MODELS`` without one. Engines likewise."""
    engines: tuple[str, ...] = ()
    by_network: bool = False
    """Each network is measured on all its engines before the next is prepared: what is interleaved
    are its engines, and a run that is resumed builds nothing again that is measured."""
    starts: tuple[str, ...] = ()
    """Networks of which also the start from a file and the memory are measured."""


DEFAULT_MODELS = (
    "fasternet_t0",
    "fasternet_t1",
    "fastvit_t8",
    "fastvit_sa12",
    "mobileone_s0",
    "mobileone_s1",
    "mobilenetv1_100",
    "mobilenetv2_100",
    "mobilenetv3_large_100",
    "shufflenet_v1_g3_x1_0",
    "shufflenet_v2_x1_0",
    "torchvision:resnet50",
    "timm:mobilevit_xxs",
)
"""One or two of each family, beside the two that everybody knows."""

DEFAULT_ENGINES = ("eager", "onnxruntime", "openvino", "native")
"""The others are on request: ``compiled`` and ``executorch`` build for half a minute a network."""


COMPARED_ENGINES = (
    "compiled",
    "onnxruntime",
    "openvino",
    "ncnn",
    "executorch",
    "native",
)
"""All that run on a CPU but eager, which each of them is checked against."""

COMPARED_MODELS = (
    "fasternet_t0",
    "fasternet_t1",
    "fasternet_t2",
    "fasternet_s",
    "fasternet_l",
    "fastvit_t8",
    "fastvit_sa12",
    "fastvit_ma36",
    "mobileone_s0",
    "mobileone_s1",
    "mobileone_s4",
    "mobilenetv1_025",
    "mobilenetv1_100",
    "mobilenetv1_125",
    "mobilenetv2_010",
    "mobilenetv2_100",
    "mobilenetv2_140",
    "mobilenetv3_small_050",
    "mobilenetv3_small_100",
    "mobilenetv3_large_100",
    "shufflenet_v1_g1_x0_25",
    "shufflenet_v1_g3_x1_0",
    "shufflenet_v1_g3_x2_0",
    "shufflenet_v2_x0_5",
    "shufflenet_v2_x1_0",
    "shufflenet_v2_x2_0",
    "timm:ghostnet_100",
    "timm:mobilevit_xxs",
    "timm:resnet50",
    "timm:poolformer_s12",
)
"""Each family's smallest, the largest that every engine here could build (ExecuTorch asks for more
than 24 GiB for shufflenet_v2_exlarge), some between, and the peers that users bring."""
SECONDS_A_BATCH = ("fasternet_l", "fastvit_ma36")
"""Of those, the networks that take seconds for 32 pictures: six engines would take minutes."""
COMPARED_ROWS = (
    Row(batch=1, threads=1),
    Row(batch=1, threads=2),
    Row(batch=32, threads=2, without=SECONDS_A_BATCH),
)


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="default",
            description=(
                "latency: one image at a time, on the usable cores up to "
                f"{MOST_THREADS}; ends within three minutes for a dozen networks"
            ),
            rows=(Row(batch=1, threads=None),),
            rounds=25,
            fewest_rounds=10,
            budget_s=160.0,
        ),
        Protocol(
            name="fasternet",
            description=(
                "as in the FasterNet paper (https://arxiv.org/abs/2303.03667, section 4): latency "
                "at batch 1 and throughput at batch 32, both on one thread, folded"
            ),
            rows=(Row(batch=1, threads=1), Row(batch=32, threads=1)),
            rounds=15,
            fewest_rounds=6,
            budget_s=1800.0,
            burst_runs=1,
            warmup_s=8.0,
        ),
        Protocol(
            name="peers",
            description=(
                "every engine that runs on a CPU but eager, on every family: latency on one thread "
                "and on two, throughput at batch 32 on two, the start from a file and the memory; "
                "an hour and a quarter or so, of which half builds engines"
            ),
            rows=COMPARED_ROWS,
            rounds=20,
            fewest_rounds=5,
            budget_s=4500.0,
            burst_runs=1,
            warmup_s=4.0,
            models=COMPARED_MODELS,
            engines=COMPARED_ENGINES,
            by_network=True,
            starts=("fasternet_t0", "fastvit_t8", "mobilenetv2_100", "timm:resnet50"),
        ),
        Protocol(
            name="quick",
            description=(
                "batch 1 on one thread, few samples: shows that everything runs, and is no "
                "ground for a decision"
            ),
            rows=(Row(batch=1, threads=1),),
            rounds=3,
            fewest_rounds=3,
            budget_s=60.0,
            warmup_s=0.3,
        ),
    )
}


def protocol(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in PROTOCOLS:
        raise UnknownNameError.of("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]


def default_engines() -> tuple[list[str], dict[str, str]]:
    """The default engines that can be used here, and the others with the reason."""
    from fleetfoot.engines import available  # here: the names above are read where torch is not

    found = available()
    absent = {name: reason for name in DEFAULT_ENGINES if (reason := found[name]) is not None}
    return [name for name in DEFAULT_ENGINES if name not in absent], absent
