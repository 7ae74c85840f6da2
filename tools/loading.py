"""The loader beside timm's: pictures a second from one folder, with the same augmentation.

    python -m tools.loading FOLDER --record benchmarks/loading/grocery.json
    python -m tools.loading --page docs/loading.md benchmarks/loading

The first measures, and adds its rounds to those of a record that is there; the second makes the
table of the page from the records. Every loader gives
normalised float32 batches on the CPU. In each round the loaders take turns, in an order that is
drawn anew; a turn starts the workers, passes over the first batches and times the next ones.

A ratio is that of two turns of one round, so a machine that is slow for a while slows both. Beside
the rate stands the time that all processes together spent on a core: other programs on the machine
change the rate, and hardly that. Linux only.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from statistics import median

import numpy as np
import torch
from timm.data import auto_augment
from timm.data.dataset_factory import create_dataset
from timm.data.loader import create_loader
from torch import Tensor

from fleetfoot.cores import usable_cores
from fleetfoot.data.augment import Augmentation, posterize
from fleetfoot.data.class_making import AugmentedClasses
from fleetfoot.data.dataset import Split
from fleetfoot.data.loader import training_batches
from fleetfoot.data.order import Order
from fleetfoot.data.pictures import Files, Texts
from fleetfoot.data.preprocess import Preprocess
from fleetfoot.data.settings import Augment
from fleetfoot.errors import RecordError
from fleetfoot.files import read_json, to_json, write_text
from fleetfoot.machine import environment
from fleetfoot.measure.clock import median_interval
from fleetfoot.measure.compare import FEWEST_SAMPLES, NOISE_FLOOR
from fleetfoot.measure.pace import no_garbage_collection, order
from fleetfoot.report import update_between_markers
from fleetfoot.report.record_tables import markdown_table
from fleetfoot.report.summary import digits

OURS, PLAIN, PREFETCHER = "fleetfoot", "timm", "timm, prefetcher"
LOADERS = (OURS, PLAIN, PREFETCHER)
AUGMENTATIONS = {
    "crop and flip": Augment(interpolation="bicubic"),
    "RandAugment": Augment(interpolation="bicubic", policy="rand-m9-mstd0.5-inc1"),
}
"""Random resized crop and flip; and with FastViT's policy beside them."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One turn of one loader."""

    round: int
    augmentation: str
    loader: str
    images_per_s: float
    cpu_s_per_image: float
    """Time on a core, of this process and the workers together."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """What was measured, where."""

    started: str
    pictures: int
    mean_bytes: float
    """Mean size of a file."""
    mean_pixels: float
    """Mean width × height of a picture."""
    size: int
    """Height and width of the network's input."""
    batch: int
    workers: int
    passed_over: int
    """Batches at the start of a turn that are not timed."""
    timed: int
    """Batches of a turn that are timed."""
    cpu: str
    cores: int
    versions: dict[str, str]
    commits: tuple[str, ...]
    """What fleetfoot was, for each time that rounds were added."""
    load_average: float | None
    turns: tuple[Turn, ...]

    def turns_of(self, augmentation: str, loader: str) -> list[Turn]:
        """In the order of the rounds."""
        return [
            turn
            for turn in self.turns
            if (turn.augmentation, turn.loader) == (augmentation, loader)
        ]


@dataclass(frozen=True)
class Bench:
    """Makes the loaders."""

    folder: str
    size: int
    batch: int
    workers: int

    def split(self) -> Split:
        """The pictures and classes that timm finds in the folder."""
        found = create_dataset("", root=self.folder).reader.samples
        paths, labels = zip(*found, strict=True)
        return Split("train", Files("", Texts(paths)), np.array(labels))

    def batches(self, loader: str, augment: Augment, turn: int) -> Generator[Tensor, None, None]:
        """Normalised batches without end."""
        return self._ours(augment, turn) if loader == OURS else self._timm(loader, augment)

    def _ours(self, augment: Augment, turn: int) -> Generator[Tensor, None, None]:
        split, preprocess = self.split(), Preprocess(size=self.size)
        made = Augmentation(augment=augment, preprocess=preprocess, size=self.size)
        pictures = Order(examples=len(split), batch=self.batch, seed=turn)
        with closing(
            training_batches(
                split,
                order=pictures,
                maker=AugmentedClasses(split, made),
                first_update=0,
                last_update=sys.maxsize,
                workers=self.workers,
            )
        ) as batches:
            for batch in batches:
                yield preprocess.normalise(batch.pixels)

    def _timm(self, loader: str, augment: Augment) -> Generator[Tensor, None, None]:
        made = create_loader(
            create_dataset("", root=self.folder),
            input_size=(3, self.size, self.size),
            batch_size=self.batch,
            is_training=True,
            scale=augment.scale,
            ratio=augment.ratio,
            hflip=augment.flip,
            color_jitter=augment.colour_jitter,
            auto_augment=augment.policy or None,
            interpolation=augment.interpolation,
            num_workers=self.workers,
            device=torch.device("cpu"),
            use_prefetcher=loader == PREFETCHER,
        )
        while True:
            for pixels, _ in made:
                yield pixels


def measure(bench: Bench, *, rounds: Iterable[int], passed_over: int, timed: int) -> Iterator[Turn]:
    """Every loader with every augmentation, once a round."""
    for number in rounds:
        for augmentation in order(list(AUGMENTATIONS), number):
            for loader in order(LOADERS, number, seed=1):
                with (
                    no_garbage_collection(),
                    closing(bench.batches(loader, AUGMENTATIONS[augmentation], number)) as batches,
                ):
                    for _ in range(passed_over):
                        next(batches)
                    began, began_cpu = time.perf_counter(), cpu_s()
                    images = sum(len(next(batches)) for _ in range(timed))
                    spent, spent_cpu = time.perf_counter() - began, cpu_s() - began_cpu
                yield Turn(
                    round=number,
                    augmentation=augmentation,
                    loader=loader,
                    images_per_s=images / spent,
                    cpu_s_per_image=spent_cpu / images,
                )


def cpu_s() -> float:
    """Time on a core, in seconds, of this process and its workers so far."""
    spent = time.process_time()
    for worker in multiprocessing.active_children():
        first, *_ = Path(f"/proc/{worker.pid}/schedstat").read_text().split()
        spent += int(first) / 1e9
    return spent


def record(
    bench: Bench, *, rounds: int, passed_over: int, timed: int, before: Record | None = None
) -> Record:
    """Measures, and notes what and where.

    Args:
        bench: makes the loaders.
        rounds: number of rounds.
        passed_over: batches of a turn that are not timed.
        timed: batches of a turn that are timed.
        before: a record to which the rounds are added.

    Raises:
        RecordError: ``before`` was measured in another way or elsewhere.
    """
    images = [source.open().image for source, _ in bench.split()]  # into the system's file cache
    host = environment.machine()
    empty = Record(
        started=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        pictures=len(images),
        mean_bytes=float(bench.split().pictures.sizes().mean()),
        mean_pixels=float(np.mean([image.width * image.height for image in images])),
        size=bench.size,
        batch=bench.batch,
        workers=bench.workers,
        passed_over=passed_over,
        timed=timed,
        cpu=host["cpu"],
        cores=host["cores"],
        versions={
            name: version
            for name, version in environment.versions().items()
            if name in ("python", "fleetfoot", "torch", "torchvision", "timm", "numpy", "pillow")
        },
        commits=(environment.commit(),),
        load_average=None,
        turns=(),
    )
    made = empty if before is None else continued(before, empty)
    turns = []
    first = 1 + max((turn.round for turn in made.turns), default=-1)
    for turn in measure(
        bench, rounds=range(first, first + rounds), passed_over=passed_over, timed=timed
    ):
        print(
            f"{turn.round:3} {turn.augmentation:14} {turn.loader:17} {turn.images_per_s:8.1f}/s "
            f"{turn.cpu_s_per_image * 1e3:.3f} ms",
            flush=True,
        )
        turns.append(turn)
    load = environment.surroundings().load_average
    return replace(made, load_average=load, turns=(*made.turns, *turns))


def continued(before: Record, now: Record) -> Record:
    """``before``, to which rounds are added that are measured as ``now`` says.

    Raises:
        RecordError: they differ in more than time and commit.
    """
    same = replace(now, started=before.started, commits=before.commits, turns=before.turns)
    for name, value in asdict(replace(same, load_average=before.load_average)).items():
        if value != asdict(before)[name]:
            raise RecordError(
                f"the record there has {name} {asdict(before)[name]!r}, and now it is {value!r}; "
                "name another file (--record)"
            )
    return replace(before, commits=(*before.commits, *now.commits))


def table(made: Record) -> str:
    """Each augmentation and loader: pictures a second, time on a core, and fleetfoot's figures as
    multiples of it."""
    titles = ["augmentation", "loader", "images/s", "fleetfoot / this", "95 % interval"]
    titles += ["core ms/image", "fleetfoot / this", "95 % interval", "fleetfoot is"]
    rows = []
    for augmentation in dict.fromkeys(turn.augmentation for turn in made.turns):
        ours = made.turns_of(augmentation, OURS)
        for loader in LOADERS:
            turns = made.turns_of(augmentation, loader)
            rate = digits(median(turn.images_per_s for turn in turns))
            cost = digits(1e3 * median(turn.cpu_s_per_image for turn in turns))
            if loader == OURS:
                rows.append([augmentation, loader, rate, "", "", cost, "", "", ""])
                continue
            faster = [a.images_per_s / b.images_per_s for a, b in zip(ours, turns, strict=True)]
            less = [a.cpu_s_per_image / b.cpu_s_per_image for a, b in zip(ours, turns, strict=True)]
            row = [augmentation, loader, rate, *interval(faster), cost, *interval(less)]
            rows.append([*row, verdict(faster)])
    rounds = len({turn.round for turn in made.turns})
    load = "unknown" if made.load_average is None else f"{made.load_average:.1f}"
    head = (
        f"{made.pictures:,} files of {digits(made.mean_bytes / 1000)} kB and "
        f"{made.mean_pixels:,.0f} pixels in the mean, to {made.size} × {made.size}; batches of "
        f"{made.batch}, {made.workers} workers; {rounds} rounds of {made.timed * made.batch} "
        f"pictures; {made.cpu}, {made.cores} cores, load average {load} at the end; "
        f"{', '.join(f'{name} {version}' for name, version in made.versions.items())}; "
        f"{made.started[:10]}."
    )
    return "\n".join([*markdown_table(titles, rows, left=(0, 1, 8)), "", head])


def interval(ratios: Sequence[float]) -> list[str]:
    """Median of the rounds' ratios, and its 95 % interval."""
    low, high = median_interval(ratios)
    return [f"{median(ratios):.2f}", f"{low:.2f} to {high:.2f}"]


def verdict(ratios: Sequence[float]) -> str:
    """What the rounds' ratios of rates say, by the rule of ``fleetfoot compare``."""
    if len(ratios) < FEWEST_SAMPLES:
        return "too few rounds"
    low, high = median_interval(ratios)
    if low <= 1 <= high or abs(median(ratios) - 1) <= NOISE_FLOOR:
        return "within noise"
    return "faster" if low > 1 else "slower"


def page(document: Path, folder: Path) -> bool:
    """Puts the tables of all records between the markers of ``document``; whether it changed.

    Raises:
        RecordError: there is no record, or one cannot be read.
    """
    files = sorted(folder.glob("*.json"))
    if not files:
        raise RecordError(f"there are no records in {folder}; --record makes one")
    tables = [table(read_json(file, Record)) for file in files]
    return update_between_markers(document, "\n\n".join(tables))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.loading", description=__doc__)
    parser.add_argument("folder", type=Path, help="class folders with pictures, or the records")
    parser.add_argument("--record", type=Path, help="file of the record")
    parser.add_argument("--page", type=Path, help="document whose table is made from the records")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--passed-over", type=int, default=6, help="untimed batches of a turn")
    parser.add_argument("--timed", type=int, default=16, help="timed batches of a turn")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--workers", type=int, default=usable_cores())
    given = parser.parse_args(arguments)
    if given.page:
        changed = page(given.page, given.folder)
        print(f"{given.page}: {'updated' if changed else 'already what the records give'}")
        return
    if not given.record:
        parser.error("name the file for the record (--record), or the document (--page)")
    # timm's own fails in Pillow 13 when a draw keeps no bits
    auto_augment.NAME_TO_OP |= {"Posterize": posterize, "PosterizeIncreasing": posterize}
    bench = Bench(str(given.folder), given.size, given.batch, given.workers)
    made = record(
        bench,
        rounds=given.rounds,
        passed_over=given.passed_over,
        timed=given.timed,
        before=read_json(given.record, Record) if given.record.exists() else None,
    )
    write_text(given.record, to_json(asdict(made), indent=1) + "\n")
    print(table(made))


if __name__ == "__main__":
    main()
