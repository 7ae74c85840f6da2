"""ExecuTorch with XNNPACK on the CPU."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fleetfoot.artifact import Artifact
from fleetfoot.engines.base import Engine, Options, Written, missing_package, quiet, refuse
from fleetfoot.engines.export import Last, output_nest
from fleetfoot.engines.inputs import Given, Inputs
from fleetfoot.errors import EngineError, FleetfootError


class Program(NamedTuple):
    """A network in ExecuTorch's form."""

    content: bytes
    """Content of a .pte file."""
    outside: str
    """Operators that XNNPACK did not take, for example "2 aten.split_copy"; "" if it took all."""
    outputs: pytree.TreeSpec
    """Structure of the program's outputs in the network's output."""


FILE = "network.pte"

_last = Last[Program]()


@contextmanager
def _quiet() -> Iterator[None]:
    """A block in which importing and setting up ExecuTorch stays silent: it warns, logs to stderr
    from C++, and gives the root logger a handler, which is removed again."""
    handlers = list(logging.root.handlers)
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
        logging.root.handlers[:] = handlers


def executorch_program(model: nn.Module, example: Given | Inputs) -> Program:
    """The network for inputs of exactly the shapes of ``example``, lowered to XNNPACK by
    ``to_edge_transform_and_lower``; 10 to 50 s.

    XNNPACK takes slices but no splits. Each split would divide its part of the graph in two and run
    in ExecuTorch's portable operators, so splits are rewritten as slices first.
    """
    return _last.of(model, Inputs.of(model, example), _lower)


def _lower(model: nn.Module, inputs: Inputs) -> Program:
    with _quiet():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

        with quiet():
            exported = torch.export.export(model, inputs.args, inputs.kwargs)
            nest = output_nest(exported, model)
            exported = exported.run_decompositions(_as_slices())
        lowered = to_edge_transform_and_lower(
            exported,
            partitioner=[XnnpackPartitioner()],
            # the check refuses ATen operators that ExecuTorch's own kernels run all the same
            compile_config=EdgeCompileConfig(_check_ir_validity=False),
        )
        content = lowered.to_executorch().buffer
    calls = [n for n in lowered.exported_program().graph.nodes if n.op == "call_function"]
    names = (_operator(node.target) for node in calls)
    outside = Counter(n for n in names if n not in ("executorch_call_delegate", "getitem"))
    told = ", ".join(f"{count} {name}" for name, count in outside.items())
    return Program(content, told, nest)


def _operator(target: Any) -> str:
    """Name of a node's target, for example "aten.split_copy.Tensor"."""
    return str(getattr(target, "_name", None) or target.__name__).replace("::", ".")


def _as_slices() -> dict[Any, Any]:
    aten = torch.ops.aten

    def sizes(x: Tensor, lengths: Sequence[int], dim: int = 0) -> list[Tensor]:
        ends = [sum(lengths[: i + 1]) for i in range(len(lengths))]
        return [
            aten.slice.Tensor(x, dim, end - length, end)
            for end, length in zip(ends, lengths, strict=True)
        ]

    def even(x: Tensor, length: int, dim: int = 0) -> list[Tensor]:
        total = x.shape[dim]
        return sizes(x, [min(length, total - start) for start in range(0, total, length)], dim)

    def chunk(x: Tensor, count: int, dim: int = 0) -> list[Tensor]:
        return even(x, -(-x.shape[dim] // count), dim)

    return {
        aten.split_with_sizes.default: sizes,
        aten.split.Tensor: even,
        aten.chunk.default: chunk,
    }


class ExecuTorch(Engine):
    """One XNNPACK program, float32, on ExecuTorch's pool of ``threads`` threads.

    The process has one pool, and a loaded program keeps the pool that it found. An engine that
    finds a pool of another engine makes one of its own size and loads its program again, in the
    first run of its turn. Operators that XNNPACK does not take run on one thread in ExecuTorch's
    own kernels; ``info.note`` names them.
    """

    name = "executorch"
    package = "executorch"
    _pools: ClassVar[int] = 0
    """Pools made so far in this process, which is the number of the current one."""

    saves = True

    def __init__(self, model: nn.Module, example: Given | Inputs, options: Options) -> None:
        refuse(self.name, options, precision="float32", layout="nchw", device="cpu")
        super().__init__(model, example, options)
        program = executorch_program(model, self.inputs)
        self._answers_as(program.outputs)
        self._use(program.content)
        outputs = self._module.method_meta("forward").num_outputs()
        if outputs != program.outputs.num_leaves:
            raise EngineError(
                f"executorch keeps {outputs} of the {program.outputs.num_leaves} outputs of "
                f"{type(model).__name__}"
            )
        if program.outside:
            self.info = replace(self.info, note=f"outside XNNPACK: {program.outside}")

    @classmethod
    def missing(cls) -> FleetfootError | None:
        # ruamel.yaml, tabulate, torchao: those of its many requirements that its lowering imports
        return missing_package(cls.name, cls.package, "ruamel.yaml", "tabulate", "torchao")

    def _write(self, folder: Path) -> Written:
        assert self._content is not None, "a closed engine is refused before"
        (folder / FILE).write_bytes(self._content)
        return Written((FILE,), {})

    def _read(self, artifact: Artifact) -> None:
        (file,) = artifact.files
        self._use(file.read_bytes())

    def _use(self, content: bytes) -> None:
        with _quiet():
            from executorch.extension.pybindings import portable_lib

            self._runtime: Any = portable_lib
        self._content: bytes | None = content  # the module reads it in place
        self._module: Any  # set by _take_pool
        self._pool = -1
        self._take_pool()

    def _take_pool(self) -> None:
        """Makes a process-wide pool of this engine's size if the current one is another's, and
        loads the program with it."""
        with _quiet():
            if self._runtime._threadpool_get_thread_count() != self.info.threads:
                self._runtime._unsafe_reset_threadpool(self.info.threads)
                ExecuTorch._pools += 1
            self._module = None  # its memory first
            self._module = self._runtime._load_for_executorch_from_buffer(self._content)
            self._pool = ExecuTorch._pools

    def _run(self, inputs: tuple[Tensor, ...]) -> Any:
        if (
            self._pool != ExecuTorch._pools
            or self._runtime._threadpool_get_thread_count() != self.info.threads
        ):
            self._take_pool()
        return self._nested(
            list(self._module.forward(tuple(tensor.contiguous() for tensor in inputs)))
        )

    def close(self) -> None:
        super().close()
        self._module = self._content = None
