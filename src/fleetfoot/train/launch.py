"""Processes of one run: what their launcher says, how they join, and how an error of one ends all.

``torchrun --nproc-per-node 2 -m fleetfoot train ...`` starts every process with the same arguments
and says by the environment which one it is; so do the operators of clusters that set the same
variables. ``start`` does it for one machine. torch's elastic agent, which both use, starts all
processes again if one dies; they then continue from the last checkpoint in the run's folder.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

import fleetfoot
from fleetfoot.cores import usable_cores
from fleetfoot.data.dataset import Dataset
from fleetfoot.data.scenes import SceneSet
from fleetfoot.errors import FleetfootError, ToldElsewhereError, TrainingError, first_line
from fleetfoot.files import write_text
from fleetfoot.train.config import Run
from fleetfoot.train.events import Begun, Event, OnEvent
from fleetfoot.train.place import Place, mark

HEARD_S = 5.0
"""Time in which a process that lost another one waits for that one's own error, in seconds."""
JOINED_S = 600.0
"""Time in which all processes must have started, in seconds."""


# ---- Joining, and ending together


class Team:
    """The processes of a run, which have joined."""

    def __init__(self, place: Place, store: Any) -> None:
        self.place, self.store = place, store

    def from_first(self, value: Any) -> Any:
        """The first process's value."""
        held = [value]
        dist.broadcast_object_list(held, src=0)
        return held[0]

    def check_same(self, facts: Mapping[str, str]) -> None:
        """Checks that all processes state the same facts, for example about the data set.

        Raises:
            TrainingError: one of them differs from the first process.
        """
        mine = (socket.gethostname(), dict(facts))
        stated: list[Any] = [None] * self.place.world
        dist.all_gather_object(stated, mine)
        host, first = stated[0]
        for rank, (other_host, other) in enumerate(stated):
            for name, value in first.items():
                if other.get(name) != value:
                    raise TrainingError(
                        f"the processes of the run do not have the same {name}: {value} in process "
                        f"0 on {host}, {other.get(name)} in process {rank} on {other_host}"
                    )

    def check_run(self, folder: Path, dataset: Dataset | SceneSet, run: Run) -> None:
        """Checks that all processes have the same pictures and versions, share ``folder``, and do
        not share a GPU.

        Raises:
            TrainingError: it is not so.
        """
        if self.place.local_world > 1 and run.device.startswith("cuda:"):
            raise TrainingError(
                f"{self.place.local_world} processes of this machine cannot share {run.device}; "
                "with --device cuda each has a GPU of its own"
            )
        pictures = dataset.train.fingerprint if dataset.train else ""
        self.check_same(
            {
                "pictures": f"{pictures[:12]} ({dataset.name})",
                "versions": f"fleetfoot {fleetfoot.__version__}, torch {torch.__version__}",
            }
        )
        if self.place.world > self.place.local_world:
            self.check_shared(folder)

    def check_shared(self, folder: Path) -> None:
        """Checks that all processes see the same files in ``folder``, which may not exist yet.

        Raises:
            TrainingError: one of them does not.
        """
        file = folder / self.from_first(f".shared-{uuid.uuid4().hex}")
        fault = ""
        if self.place.is_first:
            try:
                write_text(file, "")
            except OSError as error:
                fault = str(error.strerror)
        if fault := self.from_first(fault):
            raise TrainingError(f"{folder} cannot take a run: {fault}")
        seen: list[Any] = [None] * self.place.world
        dist.all_gather_object(seen, (socket.gethostname(), file.exists()))
        if self.place.is_first:
            file.unlink(missing_ok=True)
        blind = [(rank, host) for rank, (host, found) in enumerate(seen) if not found]
        if blind:
            rank, host = blind[0]
            raise TrainingError(
                f"process {rank} on {host} does not see the files that process 0 writes in "
                f"{folder}; name a folder (--output) on storage that all machines share"
            )

    def ended_by(self, error: BaseException) -> BaseException:
        """The error to raise for ``error``: itself in the process that tells it, which is the first
        one that had an error of its own; ``ToldElsewhereError`` in all others."""
        lost = isinstance(error, RuntimeError) and not isinstance(error, FleetfootError)
        with suppress(Exception):  # whatever befalls the store, an error is to be told
            if lost:  # it may be that another process has ended; that one knows why
                end = time.monotonic() + HEARD_S
                while not self.store.check(["error"]) and time.monotonic() < end:
                    time.sleep(0.05)  # where a signal of the launcher ends this process quietly
            mine = f"process {self.place.rank} on {socket.gethostname()}: {first_line(error)}"
            first = self.store.compare_set("error", "", mine).decode()
            if first != mine:
                return ToldElsewhereError(first)
        if lost and _is_lost_connection(error):
            return TrainingError(
                "another process of the run has ended or cannot be reached "
                f"({first_line(error)}); go on with the run by --resume"
            )
        return error


def _is_lost_connection(error: BaseException) -> bool:
    text = str(error).lower()
    return isinstance(error, dist.DistError) or any(
        word in text for word in ("gloo", "nccl", "connection", "socket")
    )


@contextmanager
def joined(place: Place) -> Iterator[Team | None]:
    """Makes the process group of a run while this lasts: gloo for tensors on the CPU, NCCL for
    those on GPUs. One process alone needs no group, and gets None.

    If processes fail, one of them raises its error: the first one that had an error of its own. In
    the others this raises ``ToldElsewhereError``.

    Raises:
        TrainingError: the processes cannot reach each other.
    """
    if place.world == 1:
        yield None
        return
    if place.local_world == place.world and "GLOO_SOCKET_IFNAME" not in os.environ:
        # on one machine neither the host's name nor a firewall matters
        if "lo" in [name for _, name in socket.if_nameindex()]:
            os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    has_gpu = torch.cuda.is_available() and place.local_rank < torch.cuda.device_count()
    if has_gpu:
        torch.cuda.set_device(place.local_rank)
    try:
        store, rank, world = next(rendezvous("env://", timeout=timedelta(seconds=JOINED_S)))
        store = PrefixStore(f"fleetfoot/{place.attempt}", store)
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if has_gpu else "gloo",
            store=PrefixStore("group", store),
            rank=rank,
            world_size=world,
        )
    except (RuntimeError, ValueError) as error:
        raise TrainingError(
            f"process {place.rank} of {place.world} cannot join the others at "
            f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}: {first_line(error)}"
        ) from error
    team = Team(place, store)
    try:
        yield team
    except Exception as error:
        told = team.ended_by(error)
        if not isinstance(told, ToldElsewhereError):
            _record(told)
        if told is error:
            raise
        raise told from error
    else:
        dist.destroy_process_group()


def _record(error: BaseException) -> None:
    """Gives torchrun the error for its own report."""
    from torch.distributed.elastic.multiprocessing.errors import get_error_handler

    if "TORCHELASTIC_ERROR_FILE" in os.environ:
        get_error_handler().record_exception(error)


# ---- Restarts


def marking(place: Place, folder: Path, on_event: OnEvent) -> OnEvent:
    """``on_event``, which also marks ``folder`` once a run has begun in it."""

    def tell(event: Event) -> None:
        if isinstance(event, Begun):
            mark(place, folder)
        on_event(event)

    return tell


# ---- Starting processes on this machine


def start(arguments: Sequence[str], *, processes: int, restarts: int, folder: Path) -> int:
    """Runs ``python -m fleetfoot ARGUMENTS`` in several processes on this machine, by torch's
    elastic agent, and returns the exit code of the whole.

    Args:
        folder: folder of the run, for messages.
        restarts: how often all processes are started again after one of them failed.

    Raises:
        TrainingError: a process was killed, and no restart is left.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    if processes < 1:
        raise ValueError(f"processes must be 1 or more, not {processes}")
    if restarts < 0:
        raise ValueError(f"restarts must be 0 or more, not {restarts}")
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // processes)))
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=restarts,
        monitor_interval=0.1,
        local_addr="127.0.0.1",
    )
    try:
        elastic_launch(config, sys.executable)("-u", "-m", "fleetfoot", *arguments)
        return 0
    except SignalException as stop:
        return 128 + int(stop.sigval)
    except ChildFailedError as failed:
        rank, failure = failed.get_first_failure()
        code = int(failure.exitcode)
        if code >= 0:
            return code  # the process has told why
        name = signal.Signals(-code).name
        hint = ": the system may have run out of memory" if name == "SIGKILL" else ""
        again = f", after {restarts} restarts" if restarts else ""
        raise TrainingError(
            f"process {rank} of {processes} was ended by {name}{hint}{again}; go on with the run "
            f"by --resume {folder}"
        ) from None
