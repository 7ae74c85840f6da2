"""Many runs in search of better settings, by Optuna, in one folder.

====================  ==========================================================================
``sweep.json``        what is searched
``study.journal``     the finished trials, as Optuna's own journal; its dashboard reads it
``trials/0003/``      the run of a trial, as ``fleetfoot train`` makes it
``summary.csv``       a row for each finished trial
====================  ==========================================================================

The values of a trial are a function of the seed, the trial's number and the finished trials before
it. So a sweep that was killed computes the same values for the trial that it was in, continues
this trial from its checkpoint, and ends as if nothing had happened.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, Literal

from fleetfoot.data.dataset import Dataset
from fleetfoot.errors import CheckpointError, MissingExtraError, RecordError, TrainingError
from fleetfoot.files import (
    locked,
    plain,
    read_json,
    read_object,
    read_text,
    to_json,
    write_text,
)
from fleetfoot.train.checkpoint import Epoch
from fleetfoot.train.config import Recipe
from fleetfoot.train.events import EpochDone, Event
from fleetfoot.train.folder import BEST, CHECKPOINTS, LAST, Folder
from fleetfoot.train.loop import train
from fleetfoot.train.settings import Settings, safe_changes
from fleetfoot.train.space import Axis

SEARCH, JOURNAL, TRIALS, SUMMARY, LOCK = (
    "sweep.json", "study.journal", "trials", "summary.csv", ".lock"
)  # fmt: skip
VALUES = "values.json"
"""File in a trial's folder with the values that were drawn for it."""
STUDY = "fleetfoot"
RANDOM_TRIALS = 10
"""Finished trials before the search leans on them; until then it draws at random."""
FULL_TRIALS = 4
"""Trials that ran to their end before one is pruned."""

State = Literal["complete", "pruned", "failed"]


@dataclass(frozen=True, kw_only=True)
class Search:
    """What a sweep searches: everything that its trials depend on."""

    model: str
    options: Mapping[str, Any]
    data: str
    train_pictures: str
    """Fingerprint of the pictures that are trained on."""
    val_pictures: str
    recipe: Recipe
    space: tuple[str, ...]
    seed: int
    prune_after: int | None
    """Epochs after which a trial may end early; None: never."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A finished trial."""

    number: int
    state: State
    values: Mapping[str, str]
    """The varied settings, as ``--set`` takes them."""
    top1: float | None
    """Highest accuracy on the validation pictures, in percent; of the averaged weights if the
    recipe keeps them. None: none was measured."""
    epochs: int
    seconds: float
    reason: str = ""
    """Why it failed."""

    @property
    def changes(self) -> list[str]:
        """The settings to copy.

        >>> Tried(number=0, state="complete", values={"optim.lr": "0.003"}, top1=97.0, epochs=2,
        ...       seconds=1.0).changes
        ['optim.lr=0.003']
        """
        return [f"{name}={value}" for name, value in self.values.items()]


@dataclass(frozen=True, kw_only=True)
class TrialBegun:
    """A trial begins, or goes on after an interruption."""

    number: int
    trials: int
    values: Mapping[str, str]
    resumed: bool


@dataclass(frozen=True, kw_only=True)
class TrialDone:
    tried: Tried
    trials: int
    is_best: bool


@dataclass(frozen=True, kw_only=True)
class SweepOutcome:
    """How a sweep ended."""

    folder: Path
    model: str
    trials: tuple[Tried, ...]
    wanted: int
    """Trials that were asked for."""
    best: Tried | None
    interrupted: str
    """The signal that ended it early; "" if it came to its end."""

    @property
    def weights(self) -> Path | None:
        """The best trial's best weights."""
        return None if self.best is None else trial_folder(self.folder, self.best.number) / BEST


OnSweepEvent = Callable[[Event | TrialBegun | TrialDone], None]


class Pruned(Exception):
    """A trial is worse than the median of those before it."""


def trial_folder(folder: Path, number: int) -> Path:
    return folder / TRIALS / f"{number:04d}"


def sweep(
    model: str,
    dataset: Dataset,
    settings: Settings,
    varied: tuple[Axis, ...],
    folder: str | os.PathLike[str],
    *,
    trials: int,
    seed: int = 0,
    prune_after: int | None = 1,
    options: Mapping[str, Any] | None = None,
    accept_licence: bool = False,
    on_event: OnSweepEvent = lambda event: None,
) -> SweepOutcome:
    """Trains a network ``trials`` times with other values of some settings, and keeps all in
    ``folder``. The same call again goes on with a sweep that was interrupted, or adds trials to a
    finished one. The weights of the best trial stay; those of others are removed when they end.

    Args:
        settings: what all trials share.
        varied: the settings that vary, from ``space.axes``.
        prune_after: epochs after which a trial ends early if its best accuracy so far is below the
            median of the others at the same epoch. None: none ends early.

    Raises:
        CheckpointError: the folder holds another sweep, or cannot be written.
        MissingExtraError: Optuna is not installed.
        TrainingError: the data set has no validation pictures.
        ValueError: a number is out of range.
    """
    optuna = optuna_package()
    if trials < 1:
        raise ValueError(f"trials must be 1 or more, not {trials}")
    if prune_after is not None and prune_after < 1:
        raise ValueError(f"prune_after must be 1 or more, not {prune_after}")
    place = Path(folder)
    search = searched(model, dataset, settings, varied, seed, prune_after, options or {})
    run = replace(settings.run, keep=1)
    with ExitStack() as stack:
        stack.enter_context(held(place))
        stack.enter_context(quiet(optuna))
        take_up(place, search)
        storage = open_storage(place, optuna)
        while True:
            study = optuna.load_study(study_name=STUDY, storage=storage)  # it caches its trials
            if len(study.trials) >= trials:
                return outcome(place, search, study, trials, "")
            done = {tried.number for tried in tried_of(study)}
            number = next(number for number in count() if number not in done)
            values = drawn(place, study, number, varied, seed)
            into = trial_folder(place, number)
            before = history(into)
            on_event(TrialBegun(number=number, trials=trials, values=values, resumed=bool(before)))
            watch = Watch(study, before, prune_after, on_event)
            state: State = "complete"
            reason = ""
            try:
                changed = settings.changed(f"{name}={value}" for name, value in values.items())
                watch.check()
                ended = train(
                    model,
                    dataset,
                    changed.recipe,
                    run,
                    into,
                    options=options,
                    resume="if_any",
                    accept_licence=accept_licence,
                    on_event=watch,
                )
                if ended.interrupted:
                    return outcome(place, search, study, trials, ended.interrupted)
            except Pruned:
                state = "pruned"
            except CheckpointError:
                raise  # of the disk, not of the settings
            except (TrainingError, ValueError) as error:
                state, reason = "failed", str(error)
            tried = Tried(
                number=number,
                state=state,
                values=values,
                top1=watch.best,
                epochs=watch.epochs,
                seconds=watch.seconds,
                reason=reason,
            )
            study.add_trial(frozen(tried, varied, watch.reports, optuna))
            is_best = settle(place, study, varied, number)
            on_event(TrialDone(tried=tried, trials=trials, is_best=is_best))


def searched(
    model: str,
    dataset: Dataset,
    settings: Settings,
    varied: tuple[Axis, ...],
    seed: int,
    prune_after: int | None,
    options: Mapping[str, Any],
) -> Search:
    """The search of these arguments.

    Raises:
        TrainingError: the data set has no pictures to train on or to choose by.
    """
    if dataset.train is None:
        raise TrainingError(f"{dataset.name} has no pictures to train on")
    if dataset.val is None:
        raise TrainingError(
            f"{dataset.name} has no validation pictures to choose settings by (test pictures must "
            "not be used for it); split some off: --val-share 0.1"
        )
    return Search(
        model=model,
        options=plain(dict(options)),  # as they are read back
        data=dataset.name,
        train_pictures=dataset.train.fingerprint,
        val_pictures=dataset.val.fingerprint,
        recipe=settings.recipe,
        space=tuple(map(str, varied)),
        seed=seed,
        prune_after=prune_after,
    )


class Watch:
    """Follows the epochs of one trial, and ends it if it is worse than the others."""

    def __init__(
        self,
        study: Any,
        before: tuple[Epoch, ...],
        prune_after: int | None,
        on_event: OnSweepEvent = lambda event: None,
    ) -> None:
        self._study, self._prune_after, self._tell = study, prune_after, on_event
        self.reports: dict[int, float] = {}
        """Accuracy after that many epochs."""
        self.epochs, self.seconds = 0, 0.0
        for row in before:
            self._take(row)

    def __call__(self, event: Event) -> None:
        self._tell(event)
        if isinstance(event, EpochDone):
            self._take(event.row)
            self.check()

    def check(self) -> None:
        """Raises:
        Pruned: the trial should end.
        """
        if self._prune_after is not None and is_hopeless(
            self._study, self.reports, self._prune_after
        ):
            raise Pruned

    @property
    def best(self) -> float | None:
        return max(self.reports.values(), default=None)

    def _take(self, row: Epoch) -> None:
        top1 = row.figure("top1")
        if top1 is not None:
            self.reports[row.epoch + 1] = top1
        self.epochs, self.seconds = row.epoch + 1, row.seconds


# ---- The search, by Optuna


def open_storage(folder: Path, optuna: Any) -> Any:
    """Optuna's storage in the folder of a sweep, with the finished trials. A line that was torn
    when the sweep was killed is removed first: its trial is done again, from its last
    checkpoint."""
    file = folder / JOURNAL
    if file.exists():
        with file.open("rb+") as journal:
            text = journal.read()
            journal.truncate(text.rfind(b"\n") + 1)
    file.with_name(f"{JOURNAL}.lock").unlink(missing_ok=True)  # of a writer that was killed
    backend = optuna.storages.journal.JournalFileBackend(str(file))
    storage = optuna.storages.JournalStorage(backend)
    optuna.create_study(
        study_name=STUDY, storage=storage, direction="maximize", load_if_exists=True
    )
    return storage


def drawn(
    place: Path, study: Any, number: int, varied: tuple[Axis, ...], seed: int
) -> Mapping[str, str]:
    """The values of a trial: those in its folder, if it was begun before; otherwise new ones."""
    file = trial_folder(place, number) / VALUES
    if file.exists():
        return read_object(read_text(file))
    values = suggested(study, number, varied, seed)
    write_text(file, to_json(values) + "\n")
    return values


def suggested(study: Any, number: int, varied: tuple[Axis, ...], seed: int) -> dict[str, str]:
    """The values of a trial: drawn at random at first, later by the tree-structured Parzen
    estimator (Bergstra et al. 2011), which prefers the surroundings of good values."""
    optuna = optuna_package()
    trial = optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING)
    trial.number = number
    values = {}
    for axis in varied:
        digest = hashlib.blake2b(repr((seed, number, axis.name)).encode(), digest_size=4).digest()
        sampler = optuna.samplers.TPESampler(
            n_startup_trials=RANDOM_TRIALS, seed=int.from_bytes(digest, "little")
        )
        drawn = sampler.sample_independent(study, trial, axis.name, distribution(axis, optuna))
        values[axis.name] = axis.text(drawn)
    return values


def is_hopeless(study: Any, reports: Mapping[int, float], after: int) -> bool:
    """Whether a trial's best accuracy so far is below the median of the others' at that epoch."""
    if not reports:
        return False
    optuna = optuna_package()
    trial = optuna.trial.create_trial(
        state=optuna.trial.TrialState.RUNNING, intermediate_values=dict(reports)
    )
    pruner = optuna.pruners.MedianPruner(n_startup_trials=FULL_TRIALS, n_warmup_steps=after)
    return bool(pruner.prune(study, trial))


def distribution(axis: Axis, optuna: Any) -> Any:
    kinds = optuna.distributions
    if axis.kind == "choice":
        return kinds.CategoricalDistribution(axis.choices)
    if axis.whole:
        return kinds.IntDistribution(int(axis.low), int(axis.high), log=axis.kind == "log")
    return kinds.FloatDistribution(axis.low, axis.high, log=axis.kind == "log")


def frozen(
    tried: Tried, varied: tuple[Axis, ...], reports: Mapping[int, float], optuna: Any
) -> Any:
    """A finished trial as Optuna keeps it."""
    state = {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}[tried.state]
    if state == "COMPLETE" and tried.top1 is None:
        state = "FAIL"
    number = {axis.name: int if axis.whole else float for axis in varied if not axis.choices}
    return optuna.trial.create_trial(
        state=optuna.trial.TrialState[state],
        value=None if state == "FAIL" else tried.top1,
        params={
            name: _within(axis, number[name](text)) if name in number else text
            for axis in varied
            for name, text in [(axis.name, tried.values[axis.name])]
        },
        distributions={axis.name: distribution(axis, optuna) for axis in varied},
        user_attrs={
            "number": tried.number,
            "values": dict(tried.values),
            "top1": tried.top1,
            "epochs": tried.epochs,
            "seconds": tried.seconds,
            "reason": tried.reason,
        },
        intermediate_values=dict(reports),
    )


def _within(axis: Axis, value: float) -> float:
    """A value with few digits may lie outside its range by the rounding."""
    return min(max(value, axis.low), axis.high)


def tried_of(study: Any) -> tuple[Tried, ...]:
    """The finished trials of a study."""
    states: dict[str, State] = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
    found = (
        Tried(state=states[one.state.name], **one.user_attrs)
        for one in study.get_trials(deepcopy=False)
    )
    return tuple(sorted(found, key=lambda tried: tried.number))


def best_of(trials: tuple[Tried, ...]) -> Tried | None:
    """The trial with the highest accuracy, the first of equals, among those that came to their
    end."""
    whole = [one for one in trials if one.state == "complete" and one.top1 is not None]
    return max(whole, key=lambda one: (one.top1, -one.number), default=None)


# ---- The folder


@contextmanager
def held(place: Path) -> Iterator[None]:
    """Makes the folder if there is none, and keeps other sweeps out of it while this lasts."""
    try:
        place.mkdir(parents=True, exist_ok=True)
        file = (place / LOCK).open("a")
    except OSError as error:
        raise CheckpointError(
            f"{place} cannot take a sweep: {error.strerror}; name another folder (--output)"
        ) from error
    with file, ExitStack() as stack:
        try:
            stack.enter_context(locked(file))
        except RecordError as error:
            raise CheckpointError(f"two sweeps cannot share a folder: {error}") from None
        yield


def take_up(place: Path, search: Search) -> None:
    """Writes what is searched, or checks that the folder's sweep searches the same.

    Raises:
        CheckpointError: it does not.
    """
    file = place / SEARCH
    if not file.exists():
        if (place / TRIALS).exists():
            raise CheckpointError(f"{place} holds trials, but no {SEARCH}; name another folder")
        write_text(file, to_json(asdict(search), indent=1) + "\n")
        return
    before = read_json(file, Search)
    others = [
        f"{name.replace('_', ' ')} {getattr(before, name)!r} there, {getattr(search, name)!r} here"
        for name in ("model", "options", "data", "train_pictures", "val_pictures", "space", "seed",
                     "prune_after")
        if getattr(before, name) != getattr(search, name)
    ]  # fmt: skip
    _, changing = safe_changes(Settings(before.recipe), Settings(search.recipe))
    others += [str(one) for one in changing]
    if others:
        raise CheckpointError(
            f"{place} holds a sweep of other settings ({'; '.join(others)}); give its own to go on "
            "with it, or name another folder (--output)"
        )


def history(folder: Path) -> tuple[Epoch, ...]:
    """The finished epochs of a trial that was interrupted."""
    found = Folder(folder).last_good(lambda text: None)
    return () if found is None else found[1].training.history


def settle(place: Path, study: Any, varied: tuple[Axis, ...], number: int) -> bool:
    """Brings the folder in line with the finished trials, after one more. Returns whether this one
    is the best."""
    trials = tried_of(study)
    _tidy(place, trials)
    write_text(place / SUMMARY, summary(trials, varied))
    best = best_of(trials)
    return best is not None and best.number == number


def _tidy(place: Path, trials: tuple[Tried, ...]) -> None:
    """Removes the weights of all trials but the best."""
    best = best_of(trials)
    for one in trials:
        if best is not None and one.number == best.number:
            continue
        into = trial_folder(place, one.number)
        shutil.rmtree(into / CHECKPOINTS, ignore_errors=True)
        for name in (BEST, LAST):
            (into / name).unlink(missing_ok=True)


def summary(trials: tuple[Tried, ...], varied: tuple[Axis, ...]) -> str:
    """The finished trials as CSV; an empty cell for what was not measured."""
    text = io.StringIO()
    written = csv.writer(text, lineterminator="\n")
    axis_names = [axis.name for axis in varied]
    written.writerow(["trial", "state", "top1", "epochs", "seconds", *axis_names, "reason"])
    for one in trials:
        values = [one.values[name] for name in axis_names]
        top1 = "" if one.top1 is None else one.top1
        written.writerow(
            [one.number, one.state, top1, one.epochs, f"{one.seconds:.1f}", *values, one.reason]
        )
    return text.getvalue()


def outcome(place: Path, search: Search, study: Any, wanted: int, interrupted: str) -> SweepOutcome:
    trials = tried_of(study)
    return SweepOutcome(
        folder=place,
        model=search.model,
        trials=trials,
        wanted=wanted,
        best=best_of(trials),
        interrupted=interrupted,
    )


def optuna_package() -> Any:
    try:
        import optuna
        import optuna.storages.journal
    except ImportError:
        raise MissingExtraError.of("fleetfoot sweep", "optuna", "sweep") from None
    return optuna


@contextmanager
def quiet(optuna: Any) -> Iterator[None]:
    """Optuna's own lines about each trial are not shown while this lasts."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
