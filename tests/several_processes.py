"""Two or more real processes for tests, joined by gloo. They come from a server that has imported
torch: this process may have run autograd, whose threads a fork would not have."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

SECONDS = 120
"""Time after which processes that wait for each other are ended."""


def in_processes(
    count: int, function: Callable[..., Any], *arguments: Any, store: Path
) -> list[Any]:
    """What ``function(rank, *arguments)`` returns in each of ``count`` processes of a group. The
    results must be picklable and hold no tensors that live in shared memory.

    Args:
        store: a file that does not exist yet, by which the processes find each other.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["fleetfoot.train.loop", "fleetfoot.data.layouts"])
    pipes, processes = [], []
    for rank in range(count):
        here, there = context.Pipe(duplex=False)
        process = context.Process(
            target=_run, args=(there, rank, count, store, function, arguments), daemon=True
        )
        process.start()
        there.close()
        pipes.append(here)
        processes.append(process)
    results = []
    try:
        for rank, pipe in enumerate(pipes):
            assert pipe.poll(SECONDS), f"process {rank} has not answered in {SECONDS} s"
            good, value = pipe.recv()
            assert good, f"process {rank} failed:\n{value}"
            results.append(value)
    finally:
        for process in processes:
            process.kill()
            process.join()
    return results


def _run(pipe: Any, rank: int, count: int, store: Path, function: Any, arguments: Any) -> None:
    try:
        torch.set_num_threads(1)
        dist.init_process_group(
            "gloo", store=dist.FileStore(str(store), count), rank=rank, world_size=count
        )
        pipe.send((True, function(rank, *arguments)))
        dist.barrier()  # so that nobody leaves while another one still needs it
    except BaseException:
        pipe.send((False, traceback.format_exc()))
