"""Training on a GPU: images a second beside timm's parts, and exact resume.

    scripts/gpu train --output DIR               # with CUDA, in under six minutes
    scripts/gpu train --output DIR --dry-run     # the same code on the CPU with tiny shapes

Each line of ``DIR/training.jsonl`` is written as soon as it is measured, so a run that is cut off
leaves what it has. Both sides train the same network with AdamW on the same pictures: ours by
``train.learner`` and ``data.loader``, theirs by ``timm.optim`` and ``timm.data.create_loader`` with
its prefetcher, in the loop of timm's ``train.py``. They take turns; a ratio is that of two turns
that follow each other. "synthetic" batches are bytes that lie on the device; "real" ones are
decoded from JPEG files, which are made first.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data.dataset_factory import create_dataset
from timm.data.loader import create_loader
from timm.optim._optim_factory import create_optimizer_v2
from torch import Tensor, nn

from fleetfoot.data.dataset import Dataset
from fleetfoot.data.layouts import open_dataset
from fleetfoot.data.loader import Batch, training_batches
from fleetfoot.data.order import Order
from fleetfoot.data.settings import Augment
from fleetfoot.files import to_json
from fleetfoot.machine import environment
from fleetfoot.models import create_model
from fleetfoot.train import checkpoint
from fleetfoot.train.building import Built, build
from fleetfoot.train.classification import Classification
from fleetfoot.train.config import Optim, Recipe, Run, Schedule
from fleetfoot.train.folder import Folder
from fleetfoot.train.learner import Learner
from fleetfoot.train.loop import train
from fleetfoot.train.processes import Processes

CLASSES = 10
OURS, THEIRS = "fleetfoot", "timm"


@dataclass(frozen=True, kw_only=True)
class Variant:
    precision: str
    channels_last: bool = False
    compile: bool = False

    def __str__(self) -> str:
        parts = [self.precision, "channels_last" * self.channels_last, "compile" * self.compile]
        return " ".join(filter(None, parts))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is measured."""

    device: str
    networks: tuple[str, ...]
    batch: int
    size: int
    rounds: int
    updates: int
    """Updates of one turn."""
    pictures: int
    workers: int
    variants: tuple[Variant, ...]


VARIANTS = (
    Variant(precision="float32"),
    Variant(precision="bf16"),
    Variant(precision="fp16"),
    Variant(precision="bf16", channels_last=True),
    Variant(precision="bf16", channels_last=True, compile=True),
)
FULL = Plan(
    device="cuda", networks=("fasternet_t0", "mobilenetv2_100"), batch=256, size=224, rounds=5,
    updates=12, pictures=4096, workers=14, variants=VARIANTS,
)  # fmt: skip
DRY = Plan(
    device="cpu", networks=("mobilenetv2_010",), batch=4, size=32, rounds=2, updates=2, pictures=24,
    workers=1, variants=(VARIANTS[0], VARIANTS[3]),
)  # fmt: skip

Step = Callable[[int], None]
"""Makes some updates, from the one with this number on."""


class Record:
    """Lines of JSON, each on disk as soon as it is known."""

    def __init__(self, folder: Path, seconds: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / "training.jsonl").open("w", encoding="utf-8")
        self._end = time.monotonic() + seconds

    @property
    def left_s(self) -> float:
        return self._end - time.monotonic()

    def add(self, kind: str, **values: Any) -> None:
        line = to_json({"kind": kind, **values})
        self._file.write(line + "\n")
        self._file.flush()
        print(line, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="images a second in training, and exact resume")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=330, help="time in all")
    parser.add_argument("--dry-run", action="store_true", help="tiny shapes on the CPU")
    given = parser.parse_args(arguments)
    plan = DRY if given.dry_run else FULL
    if plan.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("there is no CUDA device; --dry-run runs the same code on the CPU")
    record = Record(given.output, given.seconds)
    gpu = torch.cuda.get_device_name() if plan.device == "cuda" else ""
    record.add("machine", gpu=gpu, versions=environment.versions(), commit=environment.commit())
    with tempfile.TemporaryDirectory() as name:
        pictures = Path(name) / "pictures"
        write_pictures(pictures, plan.pictures)
        dataset = open_dataset(str(pictures), val_share=0)
        resume(plan, dataset, Path(name), record)
        for variant in plan.variants:
            for network in plan.networks:
                measure(plan, network, variant, dataset, pictures, record)
    record.add("end", left_s=round(record.left_s, 1))


def write_pictures(folder: Path, count: int) -> None:
    """Smooth random photographs of 500 × 375 pixels as JPEG, in folders of classes."""
    draw = np.random.default_rng(0)
    for number in range(count):
        place = folder / f"class{number % CLASSES}"
        place.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(draw.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        small.resize((500, 375), Image.Resampling.BICUBIC).save(place / f"{number:05}.jpg")


# ---- Exact resume


def resume(plan: Plan, dataset: Dataset, folder: Path, record: Record) -> None:
    """Whether a run that goes on from its middle ends bit-equal, with augmentation, an average,
    dropped paths and the scaler of fp16."""
    updates, batch = 12, min(plan.batch, plan.pictures // 6)
    recipe = Recipe(
        name="resume", updates=updates, batch=batch, size=plan.size, drop_path=0.1,
        precision="float32" if plan.device == "cpu" else "fp16",
        schedule=Schedule(warmup=1.0),
    )  # fmt: skip
    run = Run(device=plan.device, workers=plan.workers, deterministic=True, save_updates=6, keep=9)
    options = {"width": 16, "depths": (1, 1, 2, 1), "head_width": 64}
    whole = train("fasternet_t0", dataset, recipe, run, folder / "whole", options=options)
    middle = folder / "again" / "checkpoints"
    middle.mkdir(parents=True)
    (found,) = (path for update, path in Folder(whole.folder).files() if update == 6)
    shutil.copy(found, middle)
    again = train(
        "fasternet_t0", dataset, recipe, run, folder / "again", options=options, resume="required"
    )
    ends = [_last(outcome.folder) for outcome in (whole, again)]
    differing = [
        f"{part}.{name}"
        for part in ("weights", "average", "optimiser")
        for name, tensor in getattr(ends[0], part).items()
        if not torch.equal(tensor, getattr(ends[1], part)[name])
    ]
    record.add("resume", updates=updates, from_update=6, equal=not differing, differing=differing)


def _last(folder: Path) -> checkpoint.Checkpoint:
    good = Folder(folder).last_good(print)
    assert good is not None, "the run has ended, so there is a checkpoint"
    return good[1]


# ---- Images a second


def measure(
    plan: Plan, network: str, variant: Variant, dataset: Dataset, pictures: Path, record: Record
) -> None:
    """Turns of both sides on synthetic and on real batches; what has no time left is said."""
    what = {"network": network, "variant": str(variant), "batch": plan.batch}
    if record.left_s < 20:
        record.add("left out", reason="no time is left", **what)
        return
    try:
        sides = {
            OURS: Ours(plan, network, variant, dataset),
            THEIRS: Theirs(plan, network, variant),
        }
        for batches in ("synthetic", "real"):
            turns: dict[str, list[float]] = {OURS: [], THEIRS: []}
            for side in sides.values():
                side.turn(batches, pictures)  # compiles, chooses kernels, fills caches
            for number in range(plan.rounds):
                if record.left_s < 10:
                    break
                for name in (OURS, THEIRS) if number % 2 else (THEIRS, OURS):
                    turns[name].append(sides[name].turn(batches, pictures))
            ratios = [a / b for a, b in zip(turns[OURS], turns[THEIRS], strict=True)]
            record.add(
                "rate", batches=batches, images_per_s=turns, ratios=ratios,
                ratio=median(ratios) if ratios else None, **what,
            )  # fmt: skip
    except torch.cuda.OutOfMemoryError as error:
        record.add("failed", reason=str(error).partition("\n")[0], **what)
    finally:
        if plan.device == "cuda":
            torch.cuda.empty_cache()


class Side:
    """One way to train a network."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        draw = torch.Generator().manual_seed(0)
        shape = (plan.batch, 3, plan.size, plan.size)
        self.pixels = torch.randint(0, 256, shape, generator=draw, dtype=torch.uint8)
        self.pixels = self.pixels.to(plan.device)
        self.labels = torch.randint(0, CLASSES, (plan.batch,), generator=draw).to(plan.device)

    def turn(self, batches: str, pictures: Path) -> float:
        """Images a second over one turn; workers start before the clock does."""
        fed = self.synthetic() if batches == "synthetic" else self.real(pictures)
        with closing(fed) as source:
            self.step(next(source))
            self.wait()
            began = time.perf_counter()
            for batch in islice(source, self.plan.updates):
                self.step(batch)
            self.wait()
            return self.plan.updates * self.plan.batch / (time.perf_counter() - began)

    def wait(self) -> None:
        if self.plan.device == "cuda":
            torch.cuda.synchronize()

    def synthetic(self) -> Any:
        raise NotImplementedError

    def real(self, pictures: Path) -> Any:
        raise NotImplementedError

    def step(self, batch: Any) -> None:
        raise NotImplementedError


class Ours(Side):
    def __init__(self, plan: Plan, network: str, variant: Variant, dataset: Dataset) -> None:
        super().__init__(plan)
        assert dataset.train is not None
        self.dataset = dataset
        precision: Any = variant.precision
        self.recipe = Recipe(
            batch=plan.batch, size=plan.size, updates=10**6, precision=precision,
            augment=Augment(interpolation="bicubic"), optim=Optim(name="adamw", lr=1e-3),
        )  # fmt: skip
        self.order = Order(examples=len(dataset.train), batch=plan.batch, seed=0)
        built: Built = build(network, dataset.classes, self.recipe)
        self.built = built
        run = Run(device=plan.device, channels_last=variant.channels_last, compile=variant.compile)
        self.learner = Learner(
            Classification(built, self.recipe), run, self.order, Processes.here()
        )
        self.number = 0

    def synthetic(self) -> Iterator[Batch]:
        targets = tuple(self.labels.tolist())
        while True:
            indices = torch.arange(self.plan.batch)
            yield Batch(
                update=0, part=0, epoch=0, pixels=self.pixels, targets=targets, indices=indices,
                repeats=torch.zeros_like(indices),
            )  # fmt: skip

    def real(self, pictures: Path) -> Iterator[Batch]:
        assert self.dataset.train is not None
        return training_batches(
            self.dataset.train,
            order=self.order,
            maker=self.learner.objective.training(self.dataset.train),
            first_update=0,
            last_update=self.plan.updates + 1,
            workers=self.plan.workers,
            pin_memory=self.plan.device == "cuda",
        )  # fmt: skip

    def step(self, batch: Batch) -> None:
        self.learner.update_(self.number, [batch])
        self.number += 1


class Theirs(Side):
    """The loop of timm's ``train.py``, of timm's own parts."""

    def __init__(self, plan: Plan, network: str, variant: Variant) -> None:
        super().__init__(plan)
        model: Any = create_model(network, num_classes=CLASSES).to(plan.device)
        self.channels_last = variant.channels_last
        if variant.channels_last:
            model = model.to(memory_format=torch.channels_last)
        self.optimiser = create_optimizer_v2(model, opt="adamw", lr=1e-3, weight_decay=0.05)
        self.model: Any = torch.compile(model.train()) if variant.compile else model.train()
        self.loss = nn.CrossEntropyLoss()
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(variant.precision)
        self.autocast = nullcontext if dtype is None else lambda: torch.autocast(plan.device, dtype)
        self.scaler = torch.amp.GradScaler(plan.device) if variant.precision == "fp16" else None
        self.mean = torch.tensor([123.675, 116.28, 103.53], device=plan.device).view(1, 3, 1, 1)
        self.std = torch.tensor([58.395, 57.12, 57.375], device=plan.device).view(1, 3, 1, 1)

    def synthetic(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:  # as its prefetcher normalises them
            yield self.pixels.float().sub_(self.mean).div_(self.std), self.labels

    def real(self, pictures: Path) -> Iterator[tuple[Tensor, Tensor]]:
        loader = create_loader(
            create_dataset("", root=str(pictures)),
            input_size=(3, self.plan.size, self.plan.size),
            batch_size=self.plan.batch,
            is_training=True,
            interpolation="bicubic",
            color_jitter=0.0,
            num_workers=self.plan.workers,
            device=torch.device(self.plan.device),
            use_prefetcher=self.plan.device == "cuda",
        )
        yield from loader

    def step(self, batch: tuple[Tensor, Tensor]) -> None:
        x, labels = batch
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        with self.autocast():
            loss = self.loss(self.model(x), labels)
        if self.scaler is None:
            loss.backward()
            self.optimiser.step()
        else:
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimiser)
            self.scaler.update()
        self.optimiser.zero_grad()


if __name__ == "__main__":
    main()
