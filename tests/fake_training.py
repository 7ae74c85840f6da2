"""A stand-in for ``train`` in tests of sweeps, which ends at once."""

from __future__ import annotations

import math
from pathlib import Path

from fleetfoot.errors import TrainingError
from fleetfoot.train.checkpoint import Epoch
from fleetfoot.train.events import EpochDone


class Killed(BaseException):
    """What the end of a process is to a test within it."""


class Trainer:
    """Stands for ``train``: accuracy is a function of the settings and the epoch, at once."""

    def __init__(self, kill_at: tuple[int, int] | None = None, fails: int | None = None) -> None:
        self.kill_at, self.fails = kill_at, fails
        self.done: dict[Path, tuple[Epoch, ...]] = {}
        self.calls = 0
        self.interrupted = ""

    def history(self, folder):
        return self.done.get(Path(folder), ())

    def __call__(self, model, dataset, recipe, run, folder, *, on_event, **named):
        number = int(Path(folder).name)
        self.calls += 1
        if number == self.fails:
            raise TrainingError("the loss of update 3 is not finite")
        for epoch in range(len(self.history(folder)), recipe.epochs):
            top1 = 90 - 8 * abs(math.log10(recipe.optim.lr) + 2) - 9 * recipe.mix.mixup + epoch
            row = Epoch(
                epoch=epoch, update=epoch + 1, train_loss=1.0, figures={"eval_top1": top1},
                lr=0.1, size=8, images_per_s=1.0, seconds=epoch + 1.0,
            )  # fmt: skip
            if self.kill_at == (number, epoch):
                self.kill_at = None
                raise Killed
            on_event(EpochDone(row, is_best=False))
            self.done[Path(folder)] = (*self.history(folder), row)
        (Path(folder) / "checkpoints").mkdir(parents=True, exist_ok=True)
        (Path(folder) / "best.safetensors").write_text("")
        return type("Outcome", (), {"interrupted": self.interrupted})()
