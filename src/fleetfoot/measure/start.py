"""How soon a network answers in a new process, from its engine's own file, and how much memory it
takes while it runs.

Each engine writes the file from which it starts quickest by its own documentation: ONNX Runtime the
graph as it optimised it, OpenVINO the compiled blob, ncnn its .param and .bin, ExecuTorch the .pte,
``native`` its plan. Then processes, one after the other and the engines in turn, each open the file
and answer once (``first_answer.py``). The file lies in the system's cache by then: what is measured is
the engine, not the disk.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fleetfoot import engines
from fleetfoot.engines import TOLERANCES, Options, relative_error
from fleetfoot.errors import EngineError
from fleetfoot.machine import environment
from fleetfoot.measure.networks import prepare
from fleetfoot.measure.pace import order
from fleetfoot.measure.record import Failure, Start
from fleetfoot.measure.run import images
from fleetfoot.network import resolved_size

REPEATS = 7
"""Processes for each engine."""
LONGEST_S = 120.0
"""After which a process that has not answered is ended, and that is its failure."""


@dataclass(frozen=True)
class Written:
    """An engine's files, the first of which is named to the process, and what it sets."""

    files: tuple[Path, ...]
    settings: dict[str, Any]


def _onnxruntime(model: nn.Module, example: Tensor, folder: Path, threads: int) -> Written:
    import onnxruntime

    from fleetfoot.engines.export import onnx_bytes

    file = folder / "network.onnx"
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    settings.optimized_model_filepath = str(file)
    settings.log_severity_level = 3  # it warns that the graph fits this processor only
    onnxruntime.InferenceSession(
        onnx_bytes(model, example), settings, providers=["CPUExecutionProvider"]
    )
    return Written((file,), {})


def _openvino(model: nn.Module, example: Tensor, folder: Path, threads: int) -> Written:
    from fleetfoot.engines.export import onnx_bytes
    from fleetfoot.engines.openvino import settings, without_telemetry

    with without_telemetry():
        import openvino
    file, asked = folder / "network.blob", settings(Options(threads=threads))
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(onnx_bytes(model, example)), "CPU", asked)
    blob = io.BytesIO()
    compiled.export_model(blob)
    file.write_bytes(blob.getvalue())
    return Written((file,), asked)


def _ncnn(model: nn.Module, example: Tensor, folder: Path, threads: int) -> Written:
    from fleetfoot.engines.ncnn import BIN_FILE, PARAM_FILE, SETTINGS, ncnn_files

    for name, content in ncnn_files(model, example).items():
        (folder / name).write_bytes(content)
    return Written((folder / PARAM_FILE, folder / BIN_FILE), {**SETTINGS, "num_threads": threads})


def _executorch(model: nn.Module, example: Tensor, folder: Path, threads: int) -> Written:
    from fleetfoot.engines.executorch import executorch_program

    file = folder / "network.pte"
    file.write_bytes(executorch_program(model, example).content)
    return Written((file,), {})


def _native(model: nn.Module, example: Tensor, folder: Path, threads: int) -> Written:
    from fleetfoot.engines.native import save_plan

    file = folder / "network.plan"
    save_plan(model, example, file)
    return Written((file,), {})


WRITERS: dict[str, Callable[[nn.Module, Tensor, Path, int], Written]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "ncnn": _ncnn,
    "executorch": _executorch,
    "native": _native,
}
"""The engines that run from a file of their own."""


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
    names = [name for name in dict.fromkeys(engine_names) if name in WRITERS]
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
            self.reference = self.network.model(self.example)
        self.written: dict[str, Written] = {}
        self.said: dict[str, list[dict[str, Any]]] = {}

    def write(self, names: Sequence[str]) -> None:
        reasons = engines.available()
        for engine in names:
            self.on_note(f"{self.name}: writing the file of {engine}")
            folder = self.folder / engine
            folder.mkdir()
            try:
                if reasons.get(engine, "no such engine") is not None:
                    raise EngineError(str(reasons.get(engine, f"there is no engine {engine!r}")))
                writer = WRITERS[engine]
                self.written[engine] = writer(
                    self.network.model, self.example, folder, self.threads
                )
            except Exception as error:  # each runtime raises its own kinds; the others go on
                self.fail(engine, f"{type(error).__name__}: {error}")

    def start(self, engine: str) -> None:
        """One process; what it said, or its failure."""
        written, answer = self.written[engine], self.folder / f"{engine}.npy"
        request = {
            "engine": engine,
            "files": [str(file) for file in written.files],
            "settings": written.settings,
            "threads": self.threads,
            "images": str(self.folder / "images.npy"),
            "answer": str(answer),
        }
        try:
            done = subprocess.run(
                [sys.executable, "-m", "fleetfoot.measure.first_answer", json.dumps(request)],
                capture_output=True, text=True, errors="replace", timeout=LONGEST_S, check=False,
            )  # fmt: skip
            if done.returncode:
                raise EngineError(
                    f"its process ended with {done.returncode}: {done.stderr.strip()[-300:]}"
                )
            said = json.loads(done.stdout.splitlines()[-1])
            error = relative_error(torch.from_numpy(np.load(answer)), self.reference)
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
                engine_version=version(engines.ENGINES[engine].package),
                started=started,
                machine=environment.machine(),
                versions=environment.versions(),
                commit=environment.commit(),
            )
            for engine, said in self.said.items()
        ]


def _all(values: Iterable[int | None]) -> tuple[int, ...]:
    """Every value; none of them where the system did not tell one."""
    told = list(values)
    known = tuple(value for value in told if value is not None)
    return known if len(known) == len(told) else ()
