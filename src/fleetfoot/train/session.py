"""One process's part of a run: its counters, and what happens between two updates.

The processes of a run do the same things in the same order. What only one of them can know (a
signal, the time, a loss) is agreed on after each update; the first process alone writes files.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from fleetfoot.data.dataset import Dataset
from fleetfoot.data.loader import Batch, Part, evaluation_batches, training_batches
from fleetfoot.data.order import Order
from fleetfoot.data.scenes import SceneSet
from fleetfoot.errors import TrainingError
from fleetfoot.interrupts import NAMES, Asked
from fleetfoot.machine import environment
from fleetfoot.train import checkpoint
from fleetfoot.train.averaging import reestimate_
from fleetfoot.train.checkpoint import Best, Checkpoint, Data, Epoch, Training
from fleetfoot.train.config import Run
from fleetfoot.train.events import (
    BadImage,
    Begun,
    EpochDone,
    Evaluating,
    Notice,
    OnEvent,
    RolledBack,
    Saved,
    Updated,
)
from fleetfoot.train.folder import BEST, Folder
from fleetfoot.train.journal import Journal
from fleetfoot.train.learner import Learner, seed_of
from fleetfoot.train.objectives import Objective
from fleetfoot.train.processes import Processes
from fleetfoot.train.schedules import Schedules

LOOK_EVERY = 16
"""Updates on a GPU between two looks at the losses: each look waits for the GPU."""
TELL_S = 0.5
"""Least seconds between two ``Updated`` events."""
FEW_PICTURES = 512
"""Pictures of an evaluation below which other processes would take longer to start than to
decode."""
MOST_ROLLBACKS = 3
"""Rollbacks that follow one another within an epoch; then the run ends."""
SIGNALS = ("", *NAMES)


class NotFinite(Exception):
    """The loss of an update was not finite."""

    def __init__(self, update: int) -> None:
        super().__init__(update)
        self.update = update


class Unfed(Exception):
    """No more pictures come; the cause says why."""


class Session:
    """A run in one process, in memory."""

    def __init__(
        self,
        objective: Objective,
        dataset: Dataset | SceneSet,
        data: Data,
        run: Run,
        folder: Folder,
        processes: Processes,
        journal: Journal | None,
        tell: OnEvent,
    ) -> None:
        assert dataset.train is not None
        built, recipe = objective.built, objective.recipe
        self.objective, self.built, self.dataset, self.data = objective, built, dataset, data
        self.recipe, self.run, self.folder = recipe, run, folder
        self.processes, self.journal, self.tell = processes, journal, tell
        self.pictures = dataset.train
        self.evaluated: Part | None = dataset.val or dataset.test
        self.order = Order(
            examples=len(self.pictures),
            batch=recipe.batch,
            seed=recipe.seed,
            repeats=recipe.augment.repeats,
        )
        self.order.share(rank=processes.rank, world=processes.world, parts=recipe.optim.accumulate)
        self.course = Schedules.of(recipe, self.order.updates_per_epoch)
        self.learner = Learner(objective, run, self.order, processes)
        self.maker = objective.training(self.pictures)

        self.update = self.epochs = 0
        self.loss_sum, self.loss_count = 0.0, 0
        self.best: Best | None = None
        self.history: list[Epoch] = []
        self.skipped: frozenset[int] = frozenset()
        self.rollbacks = self.rolled_back_at = 0
        self.bad_images: dict[str, str] = {}
        self.reestimated = False

        self._pending: list[tuple[int, Tensor]] = []
        self._began = self._saved = self._told = time.monotonic()
        self._versions = environment.versions()
        self._saved_update = -1
        """Updates done in the last checkpoint of this process."""
        self._trained_s, self._trained_updates = 0.0, 0
        """Time and number of the present epoch's updates in this process."""
        self._evaluation_s = 0.0

    @property
    def seconds(self) -> float:
        """Time of the run so far, over all its parts."""
        return time.monotonic() - self._began

    # ---- From the first update to the last

    def begin(self, found: Checkpoint | None) -> None:
        """Starts, or takes the state of a checkpoint."""
        if found is not None:
            self._take(found)
        self.tell(
            Begun(
                update=self.update,
                updates=self.course.total_updates,
                epochs=self.course.total_epochs,
                updates_per_epoch=self.order.updates_per_epoch,
                batch=self.recipe.batch,
                resumed=found is not None,
            )
        )
        if found is None:
            self._save()  # shows at once whether it can be written, and is there to go back to

    def go(self, asked: Asked) -> str:
        """Runs to the end, or to a signal, whose name it returns."""
        if self._at_border() and self.epochs < self._epochs_due() and self.update:
            if stopped := self._finish_epoch(asked):
                return stopped
        total = self.course.total_updates
        while self.update < total:
            try:
                with closing(self._batches(self.update, total)) as batches:
                    if stopped := self._updates(batches, asked):
                        return stopped
            except NotFinite as found:
                self._roll_back(found.update)
            except Unfed as error:
                self._give_up(error)
        return ""

    def _batches(self, first: int, last: int) -> Generator[Batch, None, None]:
        """This process's pictures of the updates ``first`` to ``last`` - 1."""
        return training_batches(
            self.pictures,
            order=self.order,
            maker=self.maker,
            first_update=first,
            last_update=last,
            rank=self.processes.rank,
            world=self.processes.world,
            parts=self.recipe.optim.accumulate,
            workers=self.run.workers,
            on_bad=self.run.on_bad_image,
            pin_memory=self.learner.device.type == "cuda",
        )

    def _updates(self, batches: Iterator[Batch], asked: Asked) -> str:
        fed = self._fed(batches)
        while self.update < self.course.total_updates:
            number, began = self.update, time.monotonic()
            loss = self.learner.update_(
                number,
                islice(fed, self.recipe.optim.accumulate),
                skip=number in self.skipped,
            )
            if number not in self.skipped:
                self._pending.append((number, loss))
            self.update += 1
            self._trained_updates += 1
            stop, due = self.processes.largest(SIGNALS.index(asked.name), self._due())
            every = 1 if self.learner.device.type == "cpu" else LOOK_EVERY
            if stop or due or self._at_border() or self.update % every == 0:
                self._look()
            self._trained_s += time.monotonic() - began
            if stop:
                self._save()
                return SIGNALS[stop]
            if due:
                self._save()
            if self._at_border():
                if stopped := self._finish_epoch(asked):
                    return stopped
        return ""

    def _fed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        while True:
            try:
                batch = next(batches, None)
            except Exception as error:
                raise Unfed from error
            if batch is None:
                return
            self._note_bad(batch)
            yield batch

    def _note_bad(self, batch: Batch) -> None:
        for bad in batch.bad:
            if bad.path not in self.bad_images:
                self.bad_images[bad.path] = bad.reason
                self.tell(BadImage(path=bad.path, reason=bad.reason))

    def _at_border(self) -> bool:
        """Whether an epoch, or the run, ends after the updates that are done."""
        per_epoch = self.order.updates_per_epoch
        return self.update % per_epoch == 0 or self.update == self.course.total_updates

    def _epochs_due(self) -> int:
        """Epochs that are over after the updates that are done."""
        return -(-self.update // self.order.updates_per_epoch)

    def _due(self) -> int:
        if not self.processes.is_first:
            return 0
        every = self.run.save_updates
        if every is not None and self.update % every == 0:
            return 1
        return int(time.monotonic() - self._saved >= self.run.save_seconds)

    def _look(self) -> None:
        """Adds up the losses of the last updates over all processes, and tells of them.

        Raises:
            NotFinite: one of them is not finite.
        """
        values = torch.stack([loss for _, loss in self._pending]).tolist() if self._pending else []
        first = next(
            (n for (n, _), v in zip(self._pending, values, strict=True) if v - v != 0), None
        )
        (bad,) = self.processes.largest(-1 if first is None else first)
        if bad >= 0:
            raise NotFinite(bad)
        self._pending.clear()
        (total,) = self.processes.sums(sum(values))
        self.loss_sum += total / self.processes.world
        self.loss_count += len(values)
        self._tell_progress(values[-1] if values else 0.0)

    def _tell_progress(self, loss: float) -> None:
        now = time.monotonic()
        at_end = self.update == self.course.total_updates
        if now - self._told < TELL_S and not at_end:
            return
        self._told = now
        spent = self._trained_s
        rate = self._trained_updates * self.recipe.batch / spent if spent else 0.0
        left = self.course.total_updates - self.update
        epochs = self.course.total_epochs - self.epochs
        evaluations = epochs / max(1, self.run.eval_every) * self._evaluation_s
        self.tell(
            Updated(
                update=self.update,
                updates=self.course.total_updates,
                epoch=self.course.epoch(max(0, self.update - 1)),
                epochs=self.course.total_epochs,
                loss=loss,
                lr=self.course.lr(max(0, self.update - 1)),
                images_per_s=rate,
                left_s=(left * self.recipe.batch / rate if rate else 0.0) + evaluations,
            )
        )

    # ---- The end of an epoch

    def _finish_epoch(self, asked: Asked) -> str:
        """Evaluates, writes the epoch's row and saves. If a signal comes meanwhile, this saves what
        is there and returns the signal's name: the evaluation is made when the run goes on."""
        epoch, last = self._epochs_due() - 1, self.update == self.course.total_updates
        if last and self.recipe.reestimate and not self.reestimated:
            self._reestimate()
        figures: dict[str, float | None] = {}
        began = time.monotonic()
        if self.evaluated is not None and (last or (epoch + 1) % self.run.eval_every == 0):
            modules = {"eval": self.learner.module}
            if self.learner.average is not None:
                modules["ema"] = self.learner.average.module
            found, stopped = self.evaluate(list(modules.values()), self.evaluated, asked)
            if stopped:
                self._save()
                return stopped
            for kind, measured in zip(modules, found, strict=True):
                figures |= {
                    f"{kind}_{figure.name}": measured[figure.name]
                    for figure in self.objective.measured.figures
                    if figure.name in measured  # masks only if the network finds them
                }
            self._evaluation_s = time.monotonic() - began
        spent, updates = self._trained_s, self._trained_updates
        row = Epoch(
            epoch=epoch,
            update=self.update,
            train_loss=self.loss_sum / max(1, self.loss_count),
            lr=self.course.lr(self.update - 1),
            size=self.objective.size(epoch),
            images_per_s=updates * self.recipe.batch / spent if spent else 0.0,
            seconds=self.seconds,
            figures=figures,
        )
        is_best = False
        kind = "eval" if self.learner.average is None else "ema"
        name = self.objective.deciding.name
        if (value := figures.get(f"{kind}_{name}")) is not None:
            loss = figures.get(f"{kind}_loss")
            now = Best(update=self.update, epoch=epoch, figure=name, value=value, loss=loss)
            if is_best := now.is_better_than(self.best):
                self.best = now
        self.history.append(row)
        self.epochs = epoch + 1
        self.loss_sum, self.loss_count = 0.0, 0
        self._share_bad_images()
        if self.journal is not None:
            self.journal.rows(self.history)
        self.tell(EpochDone(row, is_best))
        self._save()
        self._trained_s, self._trained_updates = 0.0, 0
        return ""

    def _share_bad_images(self) -> None:
        for found in self.processes.gathered(self.bad_images):
            self.bad_images = found | self.bad_images

    def evaluate(
        self, modules: Sequence[nn.Module], part: Part, asked: Asked | None = None
    ) -> tuple[list[Mapping[str, Any]], str]:
        """The figures of each network on the same pictures, over all processes; or none, and the
        name of the signal that came meanwhile."""
        objective = self.objective
        meters = [objective.meter(part) for _ in modules]
        modes = [module.training for module in modules]
        for module in modules:
            self.processes.copy_from_first_(module.state_dict().values())
            module.eval()
        batches = evaluation_batches(
            part,
            maker=objective.evaluation(part),
            batch=max(1, self.recipe.batch // self.processes.world),
            workers=0 if len(part) < FEW_PICTURES else self.run.workers,
            rank=self.processes.rank,
            world=self.processes.world,
            on_bad=self.run.on_bad_image,
            pin_memory=self.learner.device.type == "cuda",
        )
        stop, done = 0, 0
        try:
            with closing(batches), torch.no_grad():
                while True:
                    batch = next(batches, None)
                    name = "" if asked is None else asked.name
                    stop, more = self.processes.largest(SIGNALS.index(name), int(batch is not None))
                    if stop or not more:
                        break
                    if batch is None:
                        continue
                    x = self.learner.normalised(batch.pixels)
                    for module, meter in zip(modules, meters, strict=True):
                        objective.judge(meter, part, module, x, batch, self.learner)
                    self._note_bad(batch)
                    done += len(batch.indices) * self.processes.world
                    self.tell(Evaluating(done=min(done, len(part)), of=len(part)))
        finally:
            for module, mode in zip(modules, modes, strict=True):
                module.train(mode)
        if stop:
            return [], SIGNALS[stop]
        whole = (objective.together(self.processes.gathered(meter)) for meter in meters)
        return [objective.figures(meter) for meter in whole], ""

    def test(self) -> Mapping[str, Any] | None:
        """Figures of the best weights on the test pictures, if they are other ones than those that
        the best were chosen by."""
        if self.dataset.test is None or self.dataset.test is self.evaluated:
            return None
        average = self.learner.average
        module = self.learner.module if average is None else average.module
        if self.best is not None and self.best.update != self.update:
            path = self.folder.path / BEST
            found = checkpoint.read(path)
            module.load_state_dict(found.weights if average is None else found.average)
        (figures,), _ = self.evaluate([module], self.dataset.test)
        return figures

    def _reestimate(self) -> None:
        """Estimates the statistics of the batch norms anew, over pictures that come after the
        run's."""
        total, count = self.course.total_updates, self.recipe.reestimate
        seed = seed_of("reestimate", self.recipe.seed, self.processes.rank)
        kinds = [self.learner.module]
        if self.learner.average is not None:
            kinds.append(self.learner.average.module)
        for module in kinds:
            torch.manual_seed(seed)
            with closing(self._batches(total, total + count)) as batches:
                inputs = (self.learner.normalised(batch.pixels) for batch in batches)
                with self.learner.autocast():
                    reestimate_(module, inputs)
        self.reestimated = True

    # ---- State

    def _save(self) -> None:
        """Writes a checkpoint, in the first process. Weights that are not finite are not written:
        the losses will show them."""
        if not self.processes.is_first:
            return
        if not self.learner.is_finite():
            self.tell(Notice(f"not saved after update {self.update}: weights are not finite"))
            return
        numbers = self.learner.numbers()
        made = Checkpoint(
            model=self.built.name,
            options=self.built.options,
            preprocessing=self.built.preprocessing,
            training=Training(
                update=self.update,
                epochs=self.epochs,
                recipe=self.recipe,
                run=self.run,
                data=self.data,
                loss_sum=self.loss_sum,
                loss_count=self.loss_count,
                seconds=self.seconds,
                best=self.best,
                history=tuple(self.history),
                skipped=tuple(sorted(self.skipped)),
                rollbacks=self.rollbacks,
                rolled_back_at=self.rolled_back_at,
                bad_images=tuple(self.bad_images.items()),
                reestimated=self.reestimated,
                versions=self._versions,
                **numbers,
            ),
            **self.learner.tensors(),
        )
        path = self.folder.save(made, keep=self.run.keep)
        self._saved, self._saved_update = time.monotonic(), self.update
        self.tell(Saved(path=path, update=self.update))

    def _take(self, found: Checkpoint) -> None:
        """Takes the state of a checkpoint."""
        self.learner.load_(found)
        state = found.training
        self.update, self.epochs = state.update, state.epochs
        self.loss_sum, self.loss_count = state.loss_sum, state.loss_count
        self.best, self.history = state.best, list(state.history)
        self.skipped = frozenset(state.skipped)
        self.rollbacks, self.rolled_back_at = state.rollbacks, state.rolled_back_at
        self.bad_images = dict(state.bad_images)
        self.reestimated = state.reestimated and self.update == self.course.total_updates
        per_epoch = self.order.updates_per_epoch
        if self.update < self.course.total_updates and self.update // per_epoch < self.epochs:
            self.epochs -= 1  # the run ended within an epoch, and is to be longer now
            self.history.pop()
        self._began = time.monotonic() - state.seconds
        self._saved_update = state.update
        self._pending.clear()
        self._trained_s, self._trained_updates = 0.0, 0

    def _roll_back(self, at: int) -> None:
        """Goes back to the last good checkpoint, and leaves out the pictures of the update ``at``
        and of the one before it: either the loss itself was not finite, or the step before it broke
        the weights.

        Raises:
            TrainingError: the run should stop at such a loss, or it has gone back too often.
        """
        good = self.folder.last_good(lambda text: self.tell(Notice(text)))
        assert good is not None, "a run begins with a checkpoint"
        path, found = good
        to = found.training.update
        again = self.rollbacks and at - self.rolled_back_at < self.order.updates_per_epoch
        times = self.rollbacks + 1 if again else 1
        advice = (
            "Try a lower learning rate (--set optim.lr=...), a limit for the gradient (--set "
            "optim.clip=1) or --set precision=float32"
        )
        if self.run.on_nan == "stop":
            raise TrainingError(
                f"the loss of update {at} is not finite. The last checkpoint is {path}, after "
                f"{to} updates. {advice}; or go on from it without these pictures: --resume "
                f"{self.folder.path} --on-nan rollback"
            )
        if times > MOST_ROLLBACKS:
            raise TrainingError(
                f"the loss of update {at} is not finite, and neither were {MOST_ROLLBACKS} shortly "
                f"before it; each time the run went back and left out the pictures. The last "
                f"checkpoint is {path}. {advice}"
            )
        self.processes.wait()  # until all have read it
        self._take(found)
        skipped = tuple(n for n in (at - 1, at) if n >= to)
        self.skipped |= set(skipped)
        self.rollbacks, self.rolled_back_at = times, at
        self._save()  # so that a run that is killed now does not begin to count again
        self.tell(RolledBack(at=at, to=to, skipped=skipped))

    def _give_up(self, error: Unfed) -> NoReturn:
        """Saves what is there, and raises why no more pictures come."""
        cause = error.__cause__
        assert cause is not None
        if self._saved_update != self.update:
            self._save()
        raise TrainingError(
            f"{cause}. The state after {self.update} updates is saved; go on by --resume "
            f"{self.folder.path}"
        ) from cause
