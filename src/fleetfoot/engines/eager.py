"""Torch's own operators, one by one: the reference, and on CUDA also their replay as one graph."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from fleetfoot.copying import copied
from fleetfoot.count.trace import Modules
from fleetfoot.engines.base import Engine, NodeTime, Options
from fleetfoot.engines.inputs import Given, Inputs
from fleetfoot.errors import EngineError, FleetfootError
from fleetfoot.machine.peaks import torch_threads


class Eager(Engine):
    """The network's own forward under ``torch.inference_mode``.

    In float32, NCHW and on the CPU it runs the given module itself, otherwise a copy. On CUDA,
    float32 is IEEE float32: TF32, which torch allows in convolutions, is off.
    """

    name = "eager"
    package = "torch"

    def __init__(self, model: nn.Module, example: Given | Inputs, options: Options) -> None:
        super().__init__(model, example, options)
        self._dtype = getattr(torch, options.precision)
        self._format = torch.channels_last if options.layout == "nhwc" else torch.contiguous_format
        if options != Options(threads=options.threads):
            model = copied(model).to(device=options.device, dtype=self._dtype)
            model = model.to(memory_format=self._format)
        elif type(self) is Eager:
            self.compared = False  # it is what the others are compared with
        self._forward: Callable[..., Any] | None = model

    @classmethod
    def missing(cls) -> FleetfootError | None:
        return None

    def _place(self, tensor: Tensor) -> Tensor:
        dtype = self._dtype if tensor.is_floating_point() else tensor.dtype
        form = self._format if tensor.ndim == 4 else torch.contiguous_format
        return tensor.to(device=self.info.device, dtype=dtype, memory_format=form)

    @contextmanager
    def _as_stated(self) -> Iterator[None]:
        """A block with the threads and arithmetic that ``info`` states."""
        with torch_threads(self.info.threads), torch.inference_mode():
            if self.info.device == "cpu":
                yield
                return
            with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False):
                yield

    def _run(self, inputs: tuple[Tensor, ...]) -> Any:
        return pytree.tree_map_only(Tensor, _answered, self._answer(inputs))

    def _answer(self, inputs: tuple[Tensor, ...]) -> Any:
        assert self._forward is not None, "a closed engine is refused before"
        with self._as_stated():
            return self.inputs.call(self._forward, [self._place(tensor) for tensor in inputs])

    def _profile(self, inputs: tuple[Tensor, ...]) -> list[NodeTime]:
        if self.info.device != "cpu":
            raise EngineError("eager has times of its operators on the CPU only")
        network = self._forward
        assert isinstance(network, nn.Module), "an engine that keeps another has its own _profile"
        modules = Modules(network)
        stopwatch = _Stopwatch(modules)
        try:
            with self._as_stated():
                placed = [self._place(tensor) for tensor in inputs]
                with stopwatch:
                    self.inputs.call(network, placed)
        finally:
            modules.remove()
        return stopwatch.nodes

    def timed_call(self, inputs: Given) -> Callable[[], object]:
        if self.info.device == "cpu":
            return lambda: self._checked(self._answer, inputs)
        placed = [self._place(tensor) for tensor in self._matched(inputs)]

        def call() -> Any:
            assert self._forward is not None
            with self._as_stated():
                return self.inputs.call(self._forward, placed)

        return call

    def close(self) -> None:
        super().close()
        self._forward = None


def _answered(output: Tensor) -> Tensor:
    return output.to("cpu", torch.float32 if output.is_floating_point() else output.dtype)


class _Stopwatch(TorchDispatchMode):
    """Times each operator as torch dispatches it, views too; the time of Python between them is not
    included."""

    def __init__(self, modules: Modules) -> None:
        super().__init__()
        self.nodes: list[NodeTime] = []
        self._modules = modules

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any | None = None
    ) -> Any:
        start = time.perf_counter_ns()
        out = func(*args, **(kwargs or {}))
        seconds = (time.perf_counter_ns() - start) / 1e9
        kind = str(func.overloadpacket)
        self.nodes.append(
            NodeTime(
                name=f"{len(self.nodes)}: {kind} {self._modules.here}".rstrip(),
                kind=kind,
                modules=(self._modules.here,),
                seconds=seconds,
            )
        )
        return out


class CudaGraph(Eager):
    """Eager on CUDA, recorded once and replayed as one graph: no launch costs between operators."""

    name = "cudagraph"

    def __init__(self, model: nn.Module, example: Given | Inputs, options: Options) -> None:
        if options.device != "cuda":
            raise EngineError(f"cudagraph runs on device 'cuda' only, not {options.device!r}")
        super().__init__(model, example, options)
        network = self._forward
        assert network is not None
        self._inputs = [self._place(tensor).clone() for tensor in self.inputs.tensors]
        with self._as_stated():
            side = torch.cuda.Stream()  # torch asks for warm-up runs beside the main stream
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(3):
                    self.inputs.call(network, self._inputs)
            torch.cuda.current_stream().wait_stream(side)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._output = self.inputs.call(network, self._inputs)
        self._forward = self._replay

    @classmethod
    def missing(cls) -> FleetfootError | None:
        return None if torch.cuda.is_available() else EngineError("cudagraph: no CUDA device here")

    def _replay(self, *placed: Tensor, **named: Tensor) -> Any:
        """Replays the graph on new inputs; the last ones are given by name, in their order."""
        for own, given in zip(self._inputs, (*placed, *named.values()), strict=True):
            if given is not own:
                own.copy_(given)
        self._graph.replay()
        return self._output

    def _profile(self, inputs: tuple[Tensor, ...]) -> list[NodeTime]:
        return Engine._profile(self, inputs)  # one graph: eager's operators are not what runs

    def timed_call(self, inputs: Given) -> Callable[[], object]:
        for own, given in zip(self._inputs, self._matched(inputs), strict=True):
            own.copy_(self._place(given))
        return lambda: self._replay(*self._inputs)

    def close(self) -> None:
        super().close()
        del self._graph, self._inputs, self._output
