"""A process's place among those of a run, and whether it goes on with an earlier attempt.

The launcher says it by the environment: torchrun does, and the operators of clusters that set the
same variables. Nothing heavy is imported here.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fleetfoot.errors import TrainingError
from fleetfoot.files import read_text, write_text

JOB = ".job"
"""File in a run's folder that names the job that began it."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """What the launcher says about this process."""

    rank: int
    """Number of the process, from 0 to ``world`` - 1."""
    world: int
    """Number of processes."""
    local_rank: int
    """Number of the process among those of this machine."""
    local_world: int
    """Number of processes on this machine."""
    attempt: int = 0
    """How often the launcher has started the processes again."""
    job: str = ""
    """A name of the job that stays when it is started again."""

    @property
    def is_first(self) -> bool:
        return self.rank == 0


def here(environ: Mapping[str, str] = os.environ) -> Place | None:
    """This process's place, from the variables that torchrun sets; None if no launcher started it.

    Raises:
        TrainingError: a variable is not a number, or the numbers contradict each other.
    """
    if not {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= environ.keys():
        return None

    def number(name: str, default: int | None = None) -> int:
        text = environ.get(name, "" if default is None else str(default))
        try:
            return int(text)
        except ValueError:
            raise TrainingError(
                f"the launcher's variable {name} must be a number, not {text!r}"
            ) from None

    rank, world = number("RANK"), number("WORLD_SIZE")
    if not 0 <= rank < world:
        raise TrainingError(f"the launcher says RANK={rank} and WORLD_SIZE={world}")
    run_id = environ.get("TORCHELASTIC_RUN_ID", "none")
    return Place(
        rank=rank,
        world=world,
        local_rank=number("LOCAL_RANK", 0),
        local_world=number("LOCAL_WORLD_SIZE", 1),
        attempt=number("TORCHELASTIC_RESTART_COUNT", 0),
        job=f"{socket.gethostname()} {os.getppid()}" if run_id == "none" else run_id,
    )


# ---- Restarts


def goes_on(place: Place | None, folder: Path) -> bool:
    """Whether the launcher has started the job again that began the run in ``folder``. A run that
    another job left there is not continued unasked."""
    if place is None or not place.attempt:
        return False
    with suppress(OSError, ValueError):
        return read_text(folder / JOB) == place.job
    return False


def mark(place: Place, folder: Path) -> None:
    """Notes in ``folder`` that this job has begun the run in it.

    Raises:
        TrainingError: the folder cannot be written.
    """
    try:
        write_text(folder / JOB, place.job)
    except OSError as error:
        raise TrainingError(f"{folder} cannot be written: {error.strerror}") from error
