"""ncnn on the CPU, from a graph that its own converter, pnnx, makes of the network."""

from __future__ import annotations

import subprocess
import tempfile
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fleetfoot.engines.base import Engine, Options, missing_package, refuse
from fleetfoot.engines.export import Last
from fleetfoot.errors import EngineError, FleetfootError

PARAM_FILE, BIN_FILE = "network.ncnn.param", "network.ncnn.bin"
SETTINGS = {
    "lightmode": True,
    "use_vulkan_compute": False,
    "use_packing_layout": True,
    "use_sgemm_convolution": True,
    "use_winograd_convolution": True,
    "use_winograd23_convolution": True,
    "use_winograd43_convolution": True,
    "use_winograd63_convolution": True,
    # as shipped, ncnn keeps maps and weights in 16 bits where the processor can
    "use_fp16_packed": False,
    "use_fp16_storage": False,
    "use_fp16_arithmetic": False,
    "use_bf16_packed": False,
    "use_bf16_storage": False,
}
"""Of ``ncnn.Net.opt``, beside the number of threads."""

_last = Last[dict[str, bytes]]()


def ncnn_files(model: nn.Module, example: Tensor) -> dict[str, bytes]:
    """The graph and its weights, in float32 and for one picture, by the names of their files.

    pnnx reads what ``torch.jit.trace`` saw: of a branch that depends on the data it keeps the side
    that the example took.

    Raises:
        EngineError: pnnx fails, or leaves operators for which ncnn has no layer; they are named.
    """
    return _last.of(model, example[:1], _convert)


def _convert(model: nn.Module, picture: Tensor) -> dict[str, bytes]:
    import pnnx

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # tracing is deprecated, and pnnx reads nothing else
            torch.jit.trace(model, picture, check_trace=False).save(folder / "network.pt")
        shape = f"inputshape={list(picture.shape)}f32".replace(" ", "")
        done = subprocess.run(
            [pnnx.EXEC_PATH, "network.pt", shape, "fp16=0"],
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode or not (folder / PARAM_FILE).exists():
            raise EngineError(
                f"pnnx ended with {done.returncode} and no ncnn graph: {done.stderr.strip()[-300:]}"
            )
        files = {name: (folder / name).read_bytes() for name in (PARAM_FILE, BIN_FILE)}
    # a line a layer after the first two; what pnnx could not translate keeps torch's dotted name
    kinds = [line.split()[0] for line in files[PARAM_FILE].decode().splitlines()[2:]]
    unknown = dict.fromkeys(kind for kind in kinds if "." in kind or "::" in kind)
    if unknown:
        raise EngineError(f"ncnn has no layer for {', '.join(unknown)}, as pnnx left them")
    return files


class Ncnn(Engine):
    """Packed layout, Winograd's and matrix-product convolutions, light mode, all in float32.

    ncnn's threads share one picture. Where the batch has a picture for each of them, each thread
    takes whole pictures instead: for MobileOne-S0 on two threads that was 1.2 times as fast, and
    1.5 times as fast as ncnn's own batches.

    Its OpenMP threads spin for about 10 ms after a run; ``openmp_blocktime`` has no effect on the
    GNU library that its Linux wheels bring. A turn of the benchmark begins with untimed runs that
    outlast them.
    """

    name = "ncnn"
    package = "ncnn"

    def __init__(self, model: nn.Module, example: Tensor, options: Options) -> None:
        refuse(self.name, options, precision="float32", layout="nchw", device="cpu")
        super().__init__(model, example, options)
        import ncnn

        apart = len(example) >= options.threads
        net = ncnn.Net()
        net.opt.num_threads = 1 if apart else options.threads
        for name, value in SETTINGS.items():
            setattr(net.opt, name, value)
        files = ncnn_files(model, example)
        with tempfile.TemporaryDirectory() as scratch:
            for name, content in files.items():
                (Path(scratch) / name).write_bytes(content)
            refused = net.load_param(f"{scratch}/{PARAM_FILE}") or net.load_model(
                f"{scratch}/{BIN_FILE}"
            )
        if refused:
            raise EngineError("ncnn refused the graph that pnnx made")
        if len(net.output_names()) != 1:
            raise EngineError(
                f"{type(model).__name__} has {len(net.output_names())} outputs; an engine runs one"
            )
        self._net: Any = net
        self._mat: Callable[..., Any] = ncnn.Mat
        workers = options.threads if apart and options.threads > 1 else 0
        self._pool = ThreadPoolExecutor(workers) if workers else None

    @classmethod
    def missing(cls) -> FleetfootError | None:
        return missing_package(cls.name, cls.package, "pnnx")

    def _run(self, batch: Tensor) -> Tensor:
        pictures = batch.contiguous().unbind()
        found = self._pool.map(self._one, pictures) if self._pool else map(self._one, pictures)
        return torch.stack(list(found))

    def _one(self, picture: Tensor) -> Tensor:
        values = picture.numpy()  # lives as long as the Mat, which is a view of it
        extractor = self._net.create_extractor()
        status = extractor.input(self._net.input_names()[0], self._mat(values))
        if not status:
            status, logits = extractor.extract(self._net.output_names()[0])
        if status:
            raise EngineError(f"ncnn ended with status {status}")
        return torch.from_numpy(logits.numpy().copy())

    def close(self) -> None:
        super().close()
        if self._pool is not None:
            self._pool.shutdown()
        self._net = self._pool = None
