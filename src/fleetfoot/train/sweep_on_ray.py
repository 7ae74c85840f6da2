"""A sweep on a Ray cluster, by Ray Tune: several trials at once, on any of its machines.

Values are drawn and bad trials are ended by the same rules as in ``train.sweep``, from the same
files. Which trials have ended when the next one is drawn depends on their speed, so two sweeps do
not have the same trials, except one after the other (``parallel`` is 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fleetfoot.data.layouts import open_dataset
from fleetfoot.errors import TrainingError, first_line
from fleetfoot.files import parsed
from fleetfoot.interrupts import handled
from fleetfoot.train import sweep as room
from fleetfoot.train.events import EpochDone
from fleetfoot.train.loop import train
from fleetfoot.train.on_ray import RAY, Job, connected, imported
from fleetfoot.train.space import Axis
from fleetfoot.train.sweep import (
    OnSweepEvent,
    State,
    SweepOutcome,
    TrialBegun,
    TrialDone,
    Tried,
    trial_folder,
)


@dataclass(frozen=True)
class Report:
    """What a trial tells of an epoch."""

    number: int
    epochs: int
    top1: float | None
    seconds: float
    reason: str = ""
    """Why it failed."""


def sweep_on_ray(
    job: Job,
    search: room.Search,
    varied: tuple[Axis, ...],
    *,
    trials: int,
    parallel: int,
    on_event: OnSweepEvent = lambda event: None,
) -> SweepOutcome:
    """Searches as ``train.sweep.sweep`` does, in the folder ``job.folder``, on a Ray cluster (see
    ``on_ray.train_on_ray``). A sweep that was interrupted goes on: trials without an end are
    continued from their checkpoints.

    Args:
        search: what ``train.sweep.searched`` gives for the same arguments.
        parallel: most trials at once.

    Raises:
        CheckpointError: the folder holds another sweep, or cannot be written.
        MissingExtraError: Ray or Optuna is not installed.
        TrainingError: Ray Tune failed.
    """
    ray, optuna, place = imported(), room.optuna_package(), Path(job.folder)
    from ray import tune

    with ExitStack() as stack:
        stack.enter_context(room.held(place))
        stack.enter_context(room.quiet(optuna))
        room.take_up(place, search)
        keeper = Keeper(place, search, varied, trials, on_event)
        left = trials - len(keeper.study().trials)
        if left > 0:
            stack.enter_context(handled())  # Ray leaves its own handlers of signals behind
            stack.enter_context(connected(ray, parallel))
            on_gpu = job.settings.run.device.startswith("cuda")
            tuner = tune.Tuner(
                tune.with_resources(
                    tune.with_parameters(_trial, job=job),
                    {"cpu": 1, "gpu": 1 if on_gpu else 0},
                ),
                tune_config=tune.TuneConfig(
                    metric="top1",
                    mode="max",
                    search_alg=_searcher(keeper),
                    num_samples=left,
                    max_concurrent_trials=parallel,
                ),
                run_config=tune.RunConfig(
                    name=RAY, storage_path=str(place), stop=_stopper(keeper), verbose=0
                ),
            )
            try:
                tuner.fit()
            except Exception as error:
                raise TrainingError(f"Ray Tune: {first_line(error)}") from error
        return room.outcome(place, search, keeper.study(), trials, "")


class Keeper:
    """The state of a sweep, in the process that started it."""

    def __init__(
        self,
        place: Path,
        search: room.Search,
        varied: tuple[Axis, ...],
        trials: int,
        on_event: OnSweepEvent,
    ) -> None:
        self.place, self.search, self.varied = place, search, varied
        self.trials, self.tell = trials, on_event
        self._optuna = room.optuna_package()
        self._storage = room.open_storage(place, self._optuna)
        self.values: dict[int, Mapping[str, str]] = {}
        """Values of the trials that run, by number."""
        self.reports: dict[int, dict[int, float]] = {}
        self.last: dict[int, Report] = {}
        self.pruned: set[int] = set()
        done = {tried.number for tried in room.tried_of(self.study())}
        begun = {int(folder.name) for folder in (place / room.TRIALS).glob("[0-9]*")}
        self._again = sorted(begun - done)
        self._next = max([*done, *begun], default=-1) + 1

    def study(self) -> Any:
        return self._optuna.load_study(study_name=room.STUDY, storage=self._storage)

    def begin(self) -> int:
        """Number of the next trial: one without an end first, then a new one."""
        resumed = bool(self._again)
        number = self._again.pop(0) if resumed else self._next
        self._next += not resumed
        values = room.drawn(self.place, self.study(), number, self.varied, self.search.seed)
        self.values[number], self.reports[number] = values, {}
        self.tell(TrialBegun(number=number, trials=self.trials, values=values, resumed=resumed))
        return number

    def report(self, report: Report) -> bool:
        """Takes a trial's report. Returns whether the trial should end."""
        self.last[report.number] = report
        if report.top1 is None or report.reason:
            return False
        reports = self.reports[report.number]
        reports[report.epochs] = report.top1
        after = self.search.prune_after
        if after is not None and room.is_hopeless(self.study(), reports, after):
            self.pruned.add(report.number)
        return report.number in self.pruned

    def end(self, number: int, failed: str = "") -> None:
        """Keeps a trial that has ended."""
        last = self.last.get(number, Report(number, 0, None, 0.0))
        reason = failed or last.reason
        state: State = "failed" if reason else "pruned" if number in self.pruned else "complete"
        reports = self.reports[number]
        tried = Tried(
            number=number,
            state=state,
            values=self.values[number],
            top1=max(reports.values(), default=None),
            epochs=last.epochs,
            seconds=last.seconds,
            reason=reason,
        )
        self.study().add_trial(room.frozen(tried, self.varied, reports, self._optuna))
        is_best = room.settle(self.place, self.study(), self.varied, number)
        self.tell(TrialDone(tried=tried, trials=self.trials, is_best=is_best))


def _searcher(keeper: Keeper) -> Any:
    """Ray Tune's view of the search."""
    from ray.tune.search import Searcher

    class Search(Searcher):
        def __init__(self) -> None:
            super().__init__(metric="top1", mode="max")
            self.numbers: dict[str, int] = {}

        def suggest(self, trial_id: str) -> dict[str, Any]:
            number = self.numbers[trial_id] = keeper.begin()
            return {"number": number, "values": dict(keeper.values[number])}

        def on_trial_complete(
            self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
        ) -> None:
            keeper.end(self.numbers[trial_id], "its process ended" if error else "")

        def save(self, checkpoint_path: str) -> None:  # what is to be kept lies in the folder
            pass

        def restore(self, checkpoint_path: str) -> None:
            pass

    return Search()


def _stopper(keeper: Keeper) -> Any:
    from ray.tune import Stopper

    class Median(Stopper):
        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            return keeper.report(parsed(result["report"], Report))

        def stop_all(self) -> bool:
            return False

    return Median()


def _trial(config: dict[str, Any], job: Job) -> None:
    """One trial, in a process of its own, on any machine."""
    from ray import tune

    number = int(config["number"])
    settings = job.settings
    last = Report(number, 0, None, 0.0)

    def tell(report: Report) -> None:
        tune.report({"top1": report.top1 or 0.0, "report": asdict(report)})

    def watch(event: Any) -> None:
        nonlocal last
        if isinstance(event, EpochDone):
            row = event.row
            top1 = row.figure("top1")
            last = Report(number, row.epoch + 1, top1, row.seconds)
            tell(last)

    folder = trial_folder(Path(job.folder), number)
    try:
        for row in room.history(folder):  # an interrupted trial: what it has told before
            watch(EpochDone(row, is_best=False))
        changed = settings.changed(f"{name}={value}" for name, value in config["values"].items())
        recipe = changed.recipe
        dataset = open_dataset(job.data, val_share=recipe.val_share, seed=recipe.seed)
        train(
            job.model,
            dataset,
            recipe,
            replace(settings.run, keep=1),
            folder,
            options=job.options,
            resume="if_any",
            accept_licence=job.accept_licence,
            on_event=watch,
        )
    except (TrainingError, ValueError) as error:
        tell(replace(last, reason=str(error)))
