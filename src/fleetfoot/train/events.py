"""What a training run tells while it goes on. The command shows it, and the journal writes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fleetfoot.train.checkpoint import Epoch


@dataclass(frozen=True)
class Notice:
    """Something that a reader of the result should know."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Begun:
    """The run is ready for its next update."""

    update: int
    """Updates that are done: 0, or those of the checkpoint that the run goes on from."""
    updates: int
    epochs: int
    updates_per_epoch: int
    batch: int
    resumed: bool


@dataclass(frozen=True, kw_only=True)
class Updated:
    """Some updates were made; this is not told of every one."""

    update: int
    """Updates done."""
    updates: int
    epoch: int
    epochs: int
    loss: float
    """Loss of the last update."""
    lr: float
    images_per_s: float
    """Rate over the last seconds."""
    left_s: float
    """Seconds that the rest takes, if it goes on at this rate, evaluations included."""


@dataclass(frozen=True, kw_only=True)
class Evaluating:
    """Pictures of an evaluation so far."""

    done: int
    of: int


@dataclass(frozen=True)
class EpochDone:
    row: Epoch
    is_best: bool


@dataclass(frozen=True, kw_only=True)
class Saved:
    path: Path
    update: int


@dataclass(frozen=True, kw_only=True)
class BadImage:
    """A picture that cannot be used; another one took its place."""

    path: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class RolledBack:
    """The loss was not finite, and the run goes on from an earlier checkpoint."""

    at: int
    """Number of the update whose loss was not finite."""
    to: int
    """Updates done in the checkpoint."""
    skipped: tuple[int, ...]
    """Updates whose pictures are left out from now on."""


Event = Notice | Begun | Updated | Evaluating | EpochDone | Saved | BadImage | RolledBack
OnEvent = Callable[[Event], None]
