"""``docs/scale.md``: what several processes cost, predicted beside measured.

``python -m tools.scale docs/scale.md benchmarks/scale --measure`` measures one and two processes
here, keeps the record, prints the tables and puts them into the page; without ``--measure`` the
page is made from the record as it is.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from statistics import quantiles
from typing import Any

import torch
import torch.distributed as dist

from fleetfoot.count.trace import Trace, trace
from fleetfoot.data.loader import Batch
from fleetfoot.data.order import Order
from fleetfoot.files import read_json, to_json, write_text
from fleetfoot.machine import environment
from fleetfoot.models import create_model
from fleetfoot.report import update_between_markers
from fleetfoot.report.record_tables import markdown_table
from fleetfoot.report.summary import digits
from fleetfoot.train.building import build
from fleetfoot.train.classification import Classification
from fleetfoot.train.config import Optim, Recipe, Run
from fleetfoot.train.learner import Learner
from fleetfoot.train.processes import Processes
from fleetfoot.train.scaling import Link, Predicted, hiding_compute_s, predicted, traffic

RECORD = "record.json"
CLASSES = tuple(map(str, range(100)))
NETWORKS = (("mobilenetv1_025", 64, 16), ("shufflenet_v2_x0_5", 64, 16), ("fasternet_t0", 64, 16))
"""Name, height and width in pixels, pictures of a process."""
ROUNDS, UPDATES, WARM_UP = 8, 5, 1
SIZES = (16, 2**12, 2**16, 2**20, 2**24)
"""Bytes of the sums by which the link is measured."""
MODES = ("alone", "beside", "together", "synchronised")

LARGE = (("fasternet_t0", 224), ("fasternet_l", 224), ("fastvit_sa12", 256), ("mobileone_s0", 224),
         ("mobilenetv3_large_100", 224), ("shufflenet_v2_x1_0", 224))  # fmt: skip
"""Networks of the table for many GPUs."""
MANY = 1024
FABRIC = Link(latency_s=10e-6, bytes_per_s=50e9)
"""Assumed for the table: 400 Gbit/s for each GPU, and 10 µs a step."""
ENOUGH = 0.9


@dataclass(frozen=True, kw_only=True)
class Row:
    """Times of updates of one network, in seconds: ``ROUNDS`` times ``UPDATES`` of each kind."""

    model: str
    size: int
    batch: int
    """Pictures of a process."""
    alone_s: tuple[float, ...]
    """One process, while the other waits."""
    beside_s: tuple[float, ...]
    """Two processes that do not know of each other, both at once."""
    together_s: tuple[float, ...]
    """Two processes of one run."""
    synchronised_s: tuple[float, ...]
    """The same with batch norms over both."""


@dataclass(frozen=True, kw_only=True)
class Record:
    cpu: str
    versions: dict[str, str]
    started: str
    load: float
    """Processes that wanted a core when it began, by the system's mean over a minute."""
    sums_s: dict[str, tuple[float, ...]]
    """Times of a sum over both processes, by its bytes."""
    rows: tuple[Row, ...]

    @property
    def link(self) -> Link:
        """Latency from the smallest sum, rate from the largest."""
        small, large = quick(self.sums_s[str(SIZES[0])]), quick(self.sums_s[str(SIZES[-1])])
        return Link(latency_s=small / 2, bytes_per_s=SIZES[-1] / (large - small))


def quick(samples: Sequence[float]) -> float:
    """The time that a quarter of the samples stay below: what neighbours on a busy machine take
    from the others is not the network's cost."""
    return quantiles(samples, n=4)[0] if len(samples) > 1 else samples[0]


# ---- Measuring


def measure(folder: Path) -> Record:
    """Measures, and writes the record."""
    started = f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%S+00:00}"
    load = os.getloadavg()[0]
    context = multiprocessing.get_context("spawn")
    queue: Any = context.Queue()
    with tempfile.TemporaryDirectory() as place:
        processes = [
            context.Process(target=_process, args=(rank, f"{place}/store", queue), daemon=True)
            for rank in (0, 1)
        ]
        for process in processes:
            process.start()
        sums, rows = queue.get()
        for process in processes:
            process.join()
    record = Record(
        cpu=environment.cpu_name(),
        versions=environment.versions(),
        started=started,
        load=load,
        sums_s=sums,
        rows=rows,
    )
    write_text(folder / RECORD, to_json(asdict(record), indent=1) + "\n")
    return record


def _process(rank: int, store: str, queue: Any) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    meeting = dist.FileStore(store, 2)  # type: ignore[attr-defined]
    dist.init_process_group("gloo", store=meeting, rank=rank, world_size=2)
    sums = {str(size): _sums(size) for size in SIZES}
    rows = tuple(_row(*one, rank) for one in NETWORKS)
    if rank == 0:
        queue.put((sums, rows))
    dist.barrier()


def _sums(size: int) -> tuple[float, ...]:
    values = torch.ones(size // 4)

    def add() -> None:
        dist.all_reduce(values)
        values.fill_(1.0)

    return _timed(add, 30, 5)


def _timed(call: Callable[[], object], count: int, warm_up: int) -> tuple[float, ...]:
    times = []
    for number in range(warm_up + count):
        began = time.perf_counter()
        call()
        if number >= warm_up:
            times.append(time.perf_counter() - began)
    return tuple(times)


def _row(name: str, size: int, batch: int, rank: int) -> Row:
    updates = {mode: _updates(name, size, batch, mode, rank) for mode in MODES}
    times: dict[str, list[float]] = {mode: [] for mode in MODES}
    for _ in range(ROUNDS):  # interleaved, so that a slow minute befalls all kinds alike
        for mode in MODES:
            dist.barrier()
            if mode != "alone" or rank == 0:
                times[mode] += _timed(updates[mode], UPDATES, WARM_UP)
    kept = {f"{mode}_s": tuple(values) for mode, values in times.items()}
    return Row(model=name, size=size, batch=batch, **kept)


def _updates(name: str, size: int, batch: int, mode: str, rank: int) -> Callable[[], object]:
    """A function that makes the next update on fixed pictures."""
    several = mode in ("together", "synchronised")
    processes = Processes.here() if several else Processes()
    recipe = Recipe(
        batch=batch * processes.world, size=size, optim=Optim(name="sgd", lr=1e-3), epochs=10**6
    )
    run = Run(sync_bn=mode == "synchronised", threads=1)
    order = Order(examples=recipe.batch, batch=recipe.batch, seed=0)
    objective = Classification(build(name, CLASSES, recipe), recipe)
    learner = Learner(objective, run, order, processes)
    fixed = Batch(
        update=0,
        part=0,
        epoch=0,
        pixels=torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8),
        targets=tuple(number % len(CLASSES) for number in range(batch)),
        indices=torch.arange(batch),
        repeats=torch.zeros(batch, dtype=torch.int64),
    )
    number = 0

    def update() -> None:
        nonlocal number
        learner.update_(number, [replace(fixed, update=number)])
        if several:  # as the loop does after each update
            processes.largest(0, 0)
            processes.sums(0.0)
        number += 1

    return update


# ---- The page


def traced(name: str, size: int, classes: int = 1000) -> Trace:
    model = create_model(name, num_classes=classes)
    return trace(model, torch.zeros(1, 3, size, size, device="meta"))


def checked(row: Row, link: Link, *, sync_bn: bool) -> tuple[Predicted, float]:
    """Time of an update in two processes, by the model and measured. The computation is that of two
    processes at once: they share caches and memory."""
    sent = traffic(traced(row.model, row.size, len(CLASSES)), sync_bn=sync_bn)
    made = predicted(quick(row.beside_s), sent, 2, link, overlap=False)
    return made, quick(row.synchronised_s if sync_bn else row.together_s)


def markdown(record: Record) -> str:
    """The two tables of the page."""
    link = record.link
    here = (
        f"**Two processes with one thread each**, {record.cpu}, torch "
        f"{record.versions['torch']}, gloo over the loopback, {record.started[:10]}, load "
        f"{record.load:.1f} at the start: times are lower quartiles, of {ROUNDS * UPDATES} "
        f"updates of each kind, interleaved. Measured link: {1e6 * link.latency_s:.0f} µs a step, "
        f"{link.bytes_per_s / 1e9:.2f} GB/s."
    )
    titles = (
        "network", "pixels", "pictures a process", "batch norms", "MB of gradients",
        "one process ms", "both, apart ms", "one run ms, predicted", "one run ms, measured",
        "measured / predicted", "images/s, of one process's",
    )  # fmt: skip
    rows = []
    for row in record.rows:
        for sync_bn in (False, True):
            made, found = checked(row, link, sync_bn=sync_bn)
            sent = traffic(traced(row.model, row.size, len(CLASSES)), sync_bn=sync_bn)
            rows.append(
                (
                    row.model,
                    str(row.size),
                    str(row.batch),
                    "over both" if sync_bn else "own",
                    digits(sent.gradient_bytes / 1e6),
                    digits(1e3 * quick(row.alone_s)),
                    digits(1e3 * made.compute_s),
                    digits(1e3 * made.update_s),
                    digits(1e3 * found),
                    f"{found / made.update_s:.2f}",
                    f"{2 * quick(row.alone_s) / found:.2f} ×",
                )
            )
    return "\n".join(
        [here, "", *markdown_table(titles, rows), "", _many_text(), "", *_many_table()]
    )


def _many_text() -> str:
    return (
        f"**{MANY:,} GPUs, modelled, nothing of it measured**: {FABRIC.bytes_per_s / 1e9:.0f} GB/s "
        f"for each GPU and {1e6 * FABRIC.latency_s:.0f} µs a step, assumed. The computation is "
        f"what an update needs at least so that {100 * ENOUGH:.0f} % of its time is computation. "
        "The rate is that of a GPU that does this computation for 128 pictures in that time (three "
        "times the operations of a forward pass): slower GPUs stay above the efficiency, faster "
        "ones need more pictures."
    )


def _many_table() -> Iterable[str]:
    titles = (
        "network", "pixels", "MB sent an update", "of it sync-BN", "sum of gradients ms",
        "computation ms", "rate TFLOP/s", "with sync-BN: computation ms",
    )  # fmt: skip
    rows = []
    for name, size in LARGE:
        counted = traced(name, size)
        own, synced = traffic(counted, sync_bn=False), traffic(counted, sync_bn=True)
        compute_s = hiding_compute_s(own, MANY, FABRIC, ENOUGH)
        synced_s = hiding_compute_s(synced, MANY, FABRIC, ENOUGH)
        flops = 3 * counted.mac_flops * 128
        rows.append(
            (
                name,
                str(size),
                digits((synced.gradient_bytes + synced.buffer_bytes + synced.norm_bytes) / 1e6),
                digits(synced.norm_bytes / 1e6),
                digits(1e3 * sum(FABRIC.all_reduce_s(b, MANY) for b in own.bucket_bytes)),
                digits(1e3 * compute_s),
                digits(flops / compute_s / 1e12),
                digits(1e3 * synced_s),
            )
        )
    return markdown_table(titles, rows)


def main(document: str, folder: str, *flags: str) -> None:
    """Puts the tables between the markers of ``document``, and prints them."""
    if flags == ("--measure",):
        record = measure(Path(folder))
    else:
        record = read_json(Path(folder) / RECORD, Record)
    text = markdown(record)
    print(text)
    changed = update_between_markers(document, text)
    print(f"{document}: {'updated' if changed else 'already what the record gives'}")


if __name__ == "__main__":
    main(*sys.argv[1:])
