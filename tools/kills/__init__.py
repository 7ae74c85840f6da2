"""Kills training runs with SIGKILL, lets them go on, and compares how they end.

``python -m tools.kills --count 100 --record benchmarks/training/kills.json`` kills runs in a
hundred places drawn from a seed, several in each run. A run is small, but has everything on that
could go wrong: average, mixing, accumulated parts, repeated augmentation, dropout, stochastic
depth, clipping, a schedule, sizes that change, workers in other processes. Its end is equal if
every tensor of the last checkpoint (parameters, averages, optimiser) and every figure except times
equals that of a run that nobody disturbed, bit for bit.

A place is one of these:

``update``      before an update, or between two of its parts
``evaluate``    within an evaluation
``half``        while the file of a checkpoint is half written
``written``     after it is written, before it takes its name
``named``       after it has its name, before the folder is flushed
``row``         after the epoch's row is in ``summary.csv``, before the checkpoint
``any``         at any time: another process sends the signal
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import random
import signal
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor

from fleetfoot.data.dataset import Dataset, Split
from fleetfoot.data.pictures import InMemory, Texts
from fleetfoot.data.scenes import SceneSet
from fleetfoot.files import write_text
from fleetfoot.machine import environment
from fleetfoot.train import checkpoint
from fleetfoot.train.config import (
    Augment,
    Ema,
    Loss,
    Mix,
    Optim,
    Phase,
    Recipe,
    Run,
    Scene,
    Schedule,
)
from tools.kills.scenes import scenes


@dataclass(frozen=True, kw_only=True)
class Case:
    """A run that is killed."""

    model: str
    options: Mapping[str, Any]
    recipe: Recipe
    data: Callable[[], Dataset | SceneSet]
    trained: int
    """Pictures that are trained on."""

    @property
    def updates(self) -> int:
        return self.recipe.epochs * (self.trained // self.recipe.batch)


PLACES = ("update", "evaluate", "half", "written", "named", "row", "any")
CLASSES = ("dark", "light", "striped", "spotted")
TRAINED, EVALUATED = 50, 10
MODEL = "fasternet_t0"
OPTIONS: dict[str, Any] = {"width": 8, "depths": (1, 1, 1, 1), "head_width": 16, "act": "relu"}
RECIPE = Recipe(
    name="kills",
    epochs=3,
    batch=16,
    phases=(Phase(until=1, size=32), Phase(until=3, size=40, policy="rand-m5-mstd0.5-inc1")),
    eval_size=32,
    drop=0.1,
    drop_path=0.2,
    augment=Augment(erase=0.3, erase_mode="pixel", repeats=2, colour_jitter=0.2),
    mix=Mix(mixup=0.3, cutmix=0.5),
    optim=Optim(lr=3e-3, clip=1.0, accumulate=2),
    schedule=Schedule(warmup=1.0, end_weight_decay=0.001),
    loss=Loss(smoothing=0.1),
    ema=Ema(decay=0.9, warmup="timm"),
    reestimate=2,
)
"""Three epochs of three updates."""
SCENE_RECIPE = Recipe(
    name="kills-detect",
    task="detect",
    epochs=3,
    batch=8,
    augment=Augment(repeats=2),
    scene=Scene(
        scale=(0.7, 1.3), multiscale=(0.5, 1.5), multiscale_every=2, iou_crop=0.3, expand=0.3,
        photometric=0.5, mosaic=0.6, mixup=0.3, until=2,
    ),
    optim=Optim(lr=3e-3, clip=1.0, accumulate=2),
    schedule=Schedule(warmup=1.0, end_weight_decay=0.001),
    ema=Ema(decay=0.9, warmup="timm"),
    reestimate=2,
)  # fmt: skip
"""The same for detection: inputs of three sizes, mosaics, mixed pictures."""
RUN = Run(workers=2, threads=1, save_updates=1, save_seconds=1e9)
PRELOADED = (
    "tools.kills", "fleetfoot.train.loop", "torch._dynamo", "timm.data.auto_augment",
    "matplotlib.backends.backend_agg",
)  # fmt: skip
"""What every run imports: the server of the processes imports it once."""
MOST_S = 300
"""Seconds after which a run is taken to hang."""


@dataclass(frozen=True)
class Kill:
    """Where a run is killed."""

    place: str
    at: float = 0
    """Number of the update (and of its part, as a half), evaluation, write or row in this process,
    counted from 0; for ``any``, seconds after the run's first event."""


def dataset() -> Dataset:
    """A few small pictures, the same every time."""
    draws = np.random.RandomState(0)

    def picture(label: int) -> bytes:
        pixels = draws.randint(0, 256, (40, 36, 3)) // 4 + 60 * label
        pixels[:: label + 2] //= 2
        file = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "PNG")
        return file.getvalue()

    def split(name: str, count: int) -> Split:
        labels = np.arange(count, dtype=np.int64) % len(CLASSES)
        names = Texts(f"{name}/{i}.png" for i in range(count))
        return Split(name, InMemory(names, tuple(map(picture, labels.tolist()))), labels)

    return Dataset(
        name="kills",
        layout="made in memory",
        classes=CLASSES,
        train=split("train", TRAINED),
        val=split("val", EVALUATED),
    )


CASES: dict[str, Case] = {
    "classify": Case(model=MODEL, options=OPTIONS, recipe=RECIPE, data=dataset, trained=TRAINED),
    "detect": Case(
        model="onestage:mobilenetv2_010",
        options={"input_size": 64, "width": 16, "head_depth": 1},
        recipe=SCENE_RECIPE,
        data=scenes,
        trained=24,
    ),
}


# ---- The run, in a process of its own


def child(task: dict[str, Any], told: Connection) -> None:
    """Begins the run, or goes on with it, and is killed where the task says. ``told`` is sent a
    word when the run has begun, and the traceback of an error."""
    from fleetfoot.train.loop import train

    torch.set_num_threads(1)
    # this process's own way to start is forkserver, and each worker would import torch
    multiprocessing.set_start_method("fork", force=True)
    if task["kill"] is not None:
        _arm(Kill(**task["kill"]))
    settings, case = task["settings"], CASES[task["case"]]

    def tell(event: object) -> None:
        if type(event).__name__ == "Begun":
            told.send("begun")

    try:
        train(
            case.model,
            case.data(),
            replace(case.recipe, **settings.get("recipe", {})),
            replace(RUN, **settings.get("run", {})),
            task["folder"],
            options=case.options,
            resume="if_any",
            on_event=tell,
        )
    except BaseException:
        told.send(traceback.format_exc())
        raise SystemExit(1) from None


def die() -> NoReturn:
    """Ends this process as the kernel would: nothing is flushed, nothing is cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def _arm(kill: Kill) -> None:
    """Makes the process kill itself at that place."""
    from fleetfoot.train import journal, learner
    from fleetfoot.train.classification import Classification
    from fleetfoot.train.scene_tasks import SceneObjective

    count = Counter[str]()

    def before(owner: Any, name: str, place: str) -> None:
        inner = getattr(owner, name)

        def counted(*given: Any, **named: Any) -> Any:
            if kill.place == place and count[place] == kill.at:
                die()
            count[place] += 1
            return inner(*given, **named)

        setattr(owner, name, counted)

    if kill.place == "update":
        loss = learner.Learner._loss

        def counted_loss(self: Any, batch: Any) -> Tensor:
            if count["update"] == round(2 * kill.at):
                die()
            count["update"] += 1
            return loss(self, batch)

        learner.Learner._loss = counted_loss  # type: ignore[method-assign]
    elif kill.place == "evaluate":
        before(Classification, "judge", "evaluate")
        before(SceneObjective, "judge", "evaluate")
    elif kill.place == "row":
        rows = journal.Journal.rows

        def then_die(self: Any, history: Any) -> None:
            rows(self, history)
            if count["row"] == kill.at:
                die()
            count["row"] += 1

        journal.Journal.rows = then_die  # type: ignore[method-assign]
    elif kill.place == "half":
        save = safetensors.torch.save_file

        def half(tensors: Any, path: Any, metadata: Any = None) -> None:
            save(tensors, path, metadata=metadata)
            if count["half"] == kill.at:
                os.truncate(path, os.path.getsize(path) // 2)
                die()
            count["half"] += 1

        safetensors.torch.save_file = half  # type: ignore[assignment]
    elif kill.place == "written":
        replaced = os.replace

        def die_first(source: Any, target: Any) -> None:
            if "update-" in str(target):
                if count["written"] == kill.at:
                    die()
                count["written"] += 1
            replaced(source, target)

        os.replace = die_first  # type: ignore[assignment]
    elif kill.place == "named":
        before(checkpoint, "flush_folder", "named")


# ---- Running and comparing


def run(
    folder: Path,
    kill: Kill | None = None,
    *,
    settings: dict[str, Any] | None = None,
    case: str = "classify",
) -> bool:
    """Begins the run in ``folder``, or goes on with it, in a new process; returns whether it was
    killed.

    Args:
        settings: fields of the recipe and of ``RUN`` to replace: ``{"recipe": {...}, "run":
            {...}}``.
        case: one of ``CASES``.

    Raises:
        RuntimeError: the process failed or hangs; the message has the end of what it said.
    """
    task = {
        "folder": str(folder),
        "kill": None if kill is None else asdict(kill),
        "settings": settings or {},
        "case": case,
    }
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=child, args=(task, there))
    process.start()
    there.close()
    try:
        if kill is not None and kill.place == "any" and here.poll(MOST_S):
            time.sleep(kill.at)
            process.kill()
        process.join(MOST_S)
        if process.exitcode is None:
            raise RuntimeError(f"a run hangs in {folder} after {kill}")
        said = _told(here)
    finally:
        process.kill()
        process.join()
        here.close()
    if process.exitcode == -signal.SIGKILL:
        return True
    if process.exitcode:
        raise RuntimeError(f"a run failed in {folder} after {kill}: {said}")
    return False


def _told(here: Connection) -> str:
    said = ""
    try:
        while here.poll(0):
            said = here.recv()
    except EOFError:
        pass
    return said


def end(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and figures of a run's last checkpoint, without times, versions and the settings that
    do not decide the result."""
    found = checkpoint.read(folder / "last.safetensors")
    tensors = {
        f"{part}.{key}": tensor
        for part in ("weights", "average", "optimiser")
        for key, tensor in getattr(found, part).items()
    }
    figures = asdict(found.training)
    for name in ("seconds", "versions", "run"):
        del figures[name]
    for row in figures["history"]:
        del row["seconds"], row["images_per_s"]
    return tensors, figures


def differences(a: Path, b: Path) -> list[str]:
    """Tensors and figures in which the ends of two runs differ in any bit."""
    (tensors, figures), (others, theirs) = end(a), end(b)
    names = [
        name
        for name in tensors.keys() | others.keys()
        if name not in tensors
        or name not in others
        or tensors[name].dtype != others[name].dtype
        or not torch.equal(tensors[name], others[name])
    ]
    return sorted(names) + [name for name in figures if figures[name] != theirs[name]]


def drawn(draws: random.Random, case: str = "classify") -> Kill:
    """A place that a run passes; a run that went on earlier may end before it."""
    place = draws.choice(PLACES)
    updates = CASES[case].updates
    if place == "update":
        return Kill(place, draws.randrange(2 * updates) / 2)
    if place == "any":
        return Kill(place, draws.uniform(0.0, 2.0))
    if place == "row":
        return Kill(place, draws.randrange(CASES[case].recipe.epochs))
    return Kill(place, draws.randrange(updates))


def many(
    count: int, *, seed: int, say: Callable[[str], None], case: str = "classify"
) -> dict[str, Any]:
    """Kills runs ``count`` times, up to five times each, and says how many ended equal."""
    draws = random.Random(seed)
    rows: list[dict[str, Any]] = []
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    commit = environment.commit()
    with tempfile.TemporaryDirectory() as place:
        base = Path(place)
        run(base / "undisturbed", case=case)
        kills = runs = 0
        while kills < count:
            folder, taken = base / str(runs), []
            for _ in range(min(draws.randint(2, 5), count - kills)):
                kill, workers = drawn(draws, case), draws.choice((0, 1, 2))
                if not run(folder, kill, settings={"run": {"workers": workers}}, case=case):
                    break  # it came to its end before that place
                taken.append({**asdict(kill), "workers": workers})
                kills += 1
            run(folder, case=case)
            wrong = differences(base / "undisturbed", folder)
            rows.append({"kills": taken, "equal": not wrong, "differences": wrong[:5]})
            runs += 1
            say(f"{kills} of {count} kills, {runs} runs, {sum(r['equal'] for r in rows)} equal")
    return {
        "started": started,
        "seed": seed,
        "kills": kills,
        "kills_by_place": dict(Counter(k["place"] for r in rows for k in r["kills"])),
        "kills_in_equal_runs": sum(len(r["kills"]) for r in rows if r["equal"]),
        "runs": len(rows),
        "equal": sum(r["equal"] for r in rows),
        "recipe": asdict(CASES[case].recipe),
        "model": {"name": CASES[case].model, **CASES[case].options},
        "machine": environment.machine(),
        "versions": environment.versions(),
        "commit": commit,
        "rows": rows,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--count", type=int, default=100, help="number of kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", type=Path, help="JSON file to write")
    parser.add_argument("--task", choices=sorted(CASES), default="classify")
    given = parser.parse_args(arguments)
    record = many(
        given.count, seed=given.seed, say=lambda text: print(text, flush=True), case=given.task
    )
    if given.record is not None:
        write_text(given.record, json.dumps(record, indent=1) + "\n")
    print(
        f"{record['kills']} kills in {record['runs']} runs; {record['kills_in_equal_runs']} of "
        "them in runs that ended equal, bit for bit"
    )
    return 0 if record["equal"] == record["runs"] else 1
