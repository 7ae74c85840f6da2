"""torch.compile with the inductor backend, weights frozen into the code."""

from __future__ import annotations

import os
import shutil
import sys

import torch
from torch import Tensor, nn

from fleetfoot.engines.base import Engine, NodeTime, Options, quiet
from fleetfoot.engines.eager import Eager
from fleetfoot.engines.inputs import Given, Inputs
from fleetfoot.errors import EngineError, FleetfootError

COMPILER = "cl" if sys.platform == "win32" else "clang++" if sys.platform == "darwin" else "g++"
"""Inductor's default compiler if the variable CXX does not name another."""


class Compiled(Eager):
    """The network as one compiled graph for one shape; a part that cannot be compiled is an error
    and does not fall back to eager.

    The input of torch.compile is ``torch.export``'s graph, not the module: torch.compile keeps its
    results by code object, all networks of the zoo share one ``forward``, and the ninth would be
    refused. The number of threads is fixed in the code. Building takes 10 to 50 seconds a network.
    """

    name = "compiled"

    def __init__(self, model: nn.Module, example: Given | Inputs, options: Options) -> None:
        super().__init__(model, example, options)
        network = self._forward
        placed = self.inputs.with_tensors([self._place(tensor) for tensor in self.inputs.tensors])
        assert isinstance(network, nn.Module)
        with self._as_stated():
            with quiet():
                graph = torch.export.export(network, placed.args, placed.kwargs).module()
            compiled = torch.compile(
                graph, fullgraph=True, dynamic=False, options={"freezing": True}
            )
            placed.call(compiled)  # compiles
        self._forward = compiled

    def _profile(self, inputs: tuple[Tensor, ...]) -> list[NodeTime]:
        return Engine._profile(self, inputs)  # its kernels do not state whose work they hold

    @classmethod
    def missing(cls) -> FleetfootError | None:
        compiler = os.environ.get("CXX", COMPILER)
        if shutil.which(compiler):
            return None
        return EngineError(
            f"compiled needs a C++ compiler, and there is no {compiler!r} on the path; "
            "install one (Debian, Ubuntu: apt install g++), or name yours in the variable CXX"
        )
