"""ncnn on the CPU, with a graph made from the network by ncnn's own converter, pnnx."""

from __future__ import annotations

import subprocess
import tempfile
import warnings
import weakref
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fleetfoot import readers
from fleetfoot.artifact import Artifact
from fleetfoot.copying import evaluated_
from fleetfoot.engines.base import Engine, Options, Written, built_from, missing_package, refuse
from fleetfoot.engines.export import Last, no_tensor
from fleetfoot.engines.inputs import Given, Inputs
from fleetfoot.errors import EngineError, FleetfootError
from fleetfoot.readers import Net

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
    # by default, ncnn keeps maps and weights in 16 bits if the processor can
    "use_fp16_packed": False,
    "use_fp16_storage": False,
    "use_fp16_arithmetic": False,
    "use_bf16_packed": False,
    "use_bf16_storage": False,
}
"""Options of ``ncnn.Net.opt``, apart from the number of threads."""


class Converted(NamedTuple):
    """A network as pnnx writes it."""

    files: dict[str, bytes]
    """The files of graph and weights, by name."""
    outputs: pytree.TreeSpec
    """Structure of the graph's outputs in the network's output."""


_last = Last[Converted]()


def converted(model: nn.Module, example: Given | Inputs) -> Converted:
    """Converts the network to float32 and for one picture.

    pnnx reads what ``torch.jit.trace`` saw: of a branch that depends on the data it keeps only the
    side that the example took.

    Raises:
        EngineError: an input is not float32, the inputs share no batch, an output is not a tensor,
            pnnx fails, or it leaves operators for which ncnn has no layer; they are named.
    """
    inputs = Inputs.of(model, example)
    if inputs.batch is None or any(t.dtype != torch.float32 or t.ndim < 2 for t in inputs.tensors):
        told = ", ".join(f"{one.name} {one.shape} {one.dtype}" for one in inputs.describe())
        raise EngineError(
            "ncnn takes float32 inputs (B, ...) of one batch, and those of "
            f"{type(model).__name__} are {told}"
        )
    return _last.of(model, inputs.one, _convert)


class _Flat(nn.Module):
    """A network whose output is one tuple of its tensors, and whose inputs are by position."""

    def __init__(self, network: nn.Module, inputs: Inputs) -> None:
        super().__init__()
        self.network = network
        self._inputs = inputs
        self.outputs: pytree.TreeSpec | None = None

    def forward(self, *tensors: Tensor) -> Any:
        leaves, self.outputs = pytree.tree_flatten(self._inputs.call(self.network, tensors))
        for leaf in leaves:
            if not isinstance(leaf, Tensor):
                raise no_tensor(self.network, leaf)
        return leaves[0] if len(leaves) == 1 else tuple(leaves)


def _convert(model: nn.Module, inputs: Inputs) -> Converted:
    import pnnx

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # tracing is deprecated, but pnnx reads nothing else
            flat = evaluated_(_Flat(model, inputs))
            traced = torch.jit.trace(flat, inputs.tensors, check_trace=False)
            traced.save(folder / "network.pt")
        shapes = ",".join(f"{list(tensor.shape)}f32" for tensor in inputs.tensors)
        shape = f"inputshape={shapes}".replace(" ", "")
        done = subprocess.run(
            [pnnx.EXEC_PATH, "network.pt", shape, "fp16=0"],
            cwd=folder,
            capture_output=True,
            encoding="utf-8",
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
    assert flat.outputs is not None, "it was traced"
    return Converted(files, flat.outputs)


class Ncnn(Engine):
    """ncnn with packed layout, Winograd and matrix-product convolutions, light mode, in float32.

    ncnn's threads share one picture. If the batch has a picture for each thread, each thread takes
    whole pictures instead: for MobileOne-S0 on two threads that was 1.2 times as fast, and
    1.5 times as fast as ncnn's own batches.

    Its OpenMP threads spin for about 10 ms after a run; ``openmp_blocktime`` has no effect on the
    GNU library in its Linux wheels. A turn of the benchmark begins with untimed runs that take
    longer.
    """

    name = "ncnn"
    package = "ncnn"

    saves = True
    flushes_denormals = True

    def __init__(self, model: nn.Module, example: Given | Inputs, options: Options) -> None:
        refuse(self.name, options, precision="float32", layout="nchw", device="cpu")
        super().__init__(model, example, options)
        self._network = weakref.ref(model)
        made = converted(model, self.inputs)
        self._answers_as(made.outputs)
        with tempfile.TemporaryDirectory() as scratch:
            for name, content in made.files.items():
                (Path(scratch) / name).write_bytes(content)
            self._use([f"{scratch}/{PARAM_FILE}", f"{scratch}/{BIN_FILE}"], SETTINGS)
        assert self._runner is not None
        kept = len(self._runner.inputs), len(self._runner.outputs)
        if kept != (len(self.inputs.tensors), made.outputs.num_leaves):
            raise EngineError(
                f"pnnx keeps {kept[0]} inputs and {kept[1]} outputs of {type(model).__name__}, "
                f"which has {len(self.inputs.tensors)} and {made.outputs.num_leaves}"
            )

    def _write(self, folder: Path) -> Written:
        for name, content in converted(built_from(self, self._network), self.inputs).files.items():
            (folder / name).write_bytes(content)
        return Written((PARAM_FILE, BIN_FILE), SETTINGS)

    def _read(self, artifact: Artifact) -> None:
        self._use([str(file) for file in artifact.files], artifact.manifest.settings)

    def _use(self, files: list[str], settings: Mapping[str, Any]) -> None:
        threads = self.info.threads
        apart = self.shape[0] >= threads
        self._runner: Net | None = readers.ncnn()(files, settings, 1 if apart else threads)
        self._net: Any = self._runner.net
        workers = threads if apart and threads > 1 else 0
        self._pool = ThreadPoolExecutor(workers) if workers else None

    @classmethod
    def missing(cls) -> FleetfootError | None:
        return missing_package(cls.name, cls.package, "pnnx")

    def _run(self, inputs: tuple[Tensor, ...]) -> Any:
        assert self._runner is not None, "a closed engine is refused before"
        pictures = zip(*(tensor.contiguous().numpy() for tensor in inputs), strict=True)
        found = list((self._pool.map if self._pool else map)(self._runner.one, pictures))
        outputs = zip(*found, strict=True)
        return self._nested([torch.from_numpy(np.stack(output)) for output in outputs])

    def close(self) -> None:
        super().close()
        if self._pool is not None:
            self._pool.shutdown()
        self._net = self._runner = self._pool = None
