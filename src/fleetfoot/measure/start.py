"""How soon a network answers in a new process, from its engine's own file, and how much memory it
takes while it runs.

``Engine.save`` writes the files from which each engine starts quickest by its own documentation:
ONNX Runtime the graph as it optimised it, OpenVINO the compiled blob, ncnn its .param and .bin,
ExecuTorch the .pte, ``native`` its plan. Then processes, one after the other and the engines in
turn, each open the files and answer once (``first_answer.py``). The files lie in the system's cache
by then: what is measured is the engine, not the disk.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from fleetfoot import engines
from fleetfoot.artifact import Artifact
from fleetfoot.engines import ENGINES, TOLERANCES, relative_error
from fleetfoot.errors import STRANGERS, EngineError
from fleetfoot.machine import environment
from fleetfoot.measure.networks import prepare
from fleetfoot.measure.pace import order
from fleetfoot.measure.record import Failure, Start
from fleetfoot.measure.run import images
from fleetfoot.network import resolved_size

REPEATS = 7
"""Processes for each engine."""
LONGEST_S = 120.0
"""Seconds after which a process that has not answered is ended; that is its failure."""


def measure(
    models: Sequence[str],
    engine_names: Sequence[str],
    *,
    threads: int = 1,
    repeats: int = REPEATS,
    seed: int = 0,
    on_note: Callable[[str], None] = lambda text: None,
) -> tuple[list[Start], list[Failure]]:
    """Every model, folded and for one picture of its own size, on those of ``engine_names`` that
    run from a file; and those that could not, with the reason.

    Args:
        threads: of each engine.
        repeats: processes for each model and engine; in each round the order is drawn anew.
        on_note: is told what is going on.

    Raises:
        UnknownNameError: no network has that name.
        ValueError: ``repeats`` or ``threads`` is less than 1.
    """
    if repeats < 1 or threads < 1:
        raise ValueError(f"repeats and threads must be 1 or more, not {repeats} and {threads}")
    found: list[Start] = []
    failures: list[Failure] = []
    saving = [name for name, kind in ENGINES.items() if kind.saves]
    names = [name for name in dict.fromkeys(engine_names) if name in saving]
    for model in dict.fromkeys(models):
        with tempfile.TemporaryDirectory() as scratch:
            one = _Model(model, threads, Path(scratch), failures, on_note)
            one.write(names)
            for number in range(repeats):
                turns = order(list(one.written), number, seed)
                on_note(f"{model}: start {number + 1} of {repeats} of {len(turns)} engines")
                for engine in turns:
                    one.start(engine)
            found += one.starts()
    return found, failures


class _Model:
    """One network: its files, and what its processes said."""

    def __init__(
        self,
        name: str,
        threads: int,
        folder: Path,
        failures: list[Failure],
        on_note: Callable[[str], None],
    ) -> None:
        self.name, self.threads, self.folder = name, threads, folder
        self.failures, self.on_note = failures, on_note
        self.size = resolved_size(name)
        self.network = prepare(name, self.size, True)
        self.example = images(1, self.size, self.network.channels)
        np.save(folder / "images.npy", self.example.numpy())
        with torch.inference_mode():
            self.reference = pytree.tree_leaves(self.network.model(self.example))
        self.written: dict[str, Artifact] = {}
        self.said: dict[str, list[dict[str, Any]]] = {}

    def write(self, names: Sequence[str]) -> None:
        reasons = engines.available()
        for engine in names:
            self.on_note(f"{self.name}: writing the file of {engine}")
            try:
                if reasons[engine] is not None:
                    raise EngineError(reasons[engine])
                with engines.load(
                    engine, self.network.model, example=self.example, threads=self.threads
                ) as built:
                    self.written[engine] = built.save(self.folder / engine)
            except STRANGERS as error:  # each runtime raises its own kinds; the others go on
                self.fail(engine, f"{type(error).__name__}: {error}")

    def start(self, engine: str) -> None:
        """One process; what it said, or its failure."""
        written, answer = self.written[engine], self.folder / f"{engine}.npz"
        request = {
            "engine": engine,
            "files": [str(file) for file in written.files],
            "settings": written.manifest.settings,
            "threads": self.threads,
            "images": str(self.folder / "images.npy"),
            "answer": str(answer),
        }
        try:
            done = subprocess.run(
                [sys.executable, "-m", "fleetfoot.measure.first_answer", json.dumps(request)],
                capture_output=True, encoding="utf-8", errors="replace", timeout=LONGEST_S,
                check=False,
            )  # fmt: skip
            if done.returncode:
                raise EngineError(
                    f"its process ended with {done.returncode}: {done.stderr.strip()[-300:]}"
                )
            said = json.loads(done.stdout.splitlines()[-1])
            with np.load(answer) as stored:
                found = [torch.from_numpy(stored[name]) for name in stored.files]
            error = relative_error(found, self.reference)
            if not error <= TOLERANCES["float32"]:
                raise EngineError(f"its logits are off eager's by {error:.1e} of the largest")
        except (EngineError, subprocess.TimeoutExpired, ValueError, IndexError, OSError) as error:
            self.fail(engine, str(error))
            del self.written[engine]
            self.said.pop(engine, None)
            return
        self.said.setdefault(engine, []).append(said)

    def fail(self, engine: str, reason: str) -> None:
        self.failures.append(
            Failure(
                model=self.name, engine=engine, threads=self.threads, batch=1, size=self.size,
                reason=f"start from its own file: {reason}",
            )
        )  # fmt: skip

    def starts(self) -> list[Start]:
        started = datetime.now(timezone.utc).isoformat(timespec="seconds")
        return [
            Start(
                model=self.name,
                engine=engine,
                threads=self.threads,
                size=self.size,
                weight_bytes=4 * self.network.params,
                file_bytes=sum(file.stat().st_size for file in self.written[engine].files),
                import_s=tuple(one["import_s"] for one in said),
                answer_s=tuple(one["answer_s"] for one in said),
                opening_bytes=_all(one["opening_bytes"] for one in said),
                running_bytes=_all(one["running_bytes"] for one in said),
                torch_imported=any(one["torch_imported"] for one in said),
                engine_version=version(ENGINES[engine].package),
                started=started,
                machine=environment.machine(),
                versions=environment.versions(),
                commit=environment.commit(),
            )
            for engine, said in self.said.items()
        ]


def _all(values: Iterable[int | None]) -> tuple[int, ...]:
    """Every value; empty if the system did not tell one of them."""
    told = list(values)
    known = tuple(value for value in told if value is not None)
    return known if len(known) == len(told) else ()
