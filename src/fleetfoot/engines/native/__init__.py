"""fleetfoot's own engine: a plan compiled here (``compile.py``), run by the C++ library.

``fleetfoot.runtime`` runs the same plans without torch.

B batch · C channels · H W space
"""

from __future__ import annotations

import copy
import os
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fleetfoot import runtime
from fleetfoot.artifact import Artifact
from fleetfoot.copying import check_nesting
from fleetfoot.engines.base import Engine, NodeTime, Options, Written, built_from, refuse
from fleetfoot.engines.inputs import Given, Inputs
from fleetfoot.engines.native.graph import Node
from fleetfoot.errors import EngineError, FleetfootError

if TYPE_CHECKING:
    from fleetfoot.engines.agreement import Agreement
    from fleetfoot.engines.native.compile import CompiledGraph

FILE = "network.plan"


class Native(Engine):
    """A plan in memory and one context with ``threads`` threads, the calling one included.

    Inputs are float32 and share their first dimension, the batch; contiguous ones are read in
    place.
    """

    name = "native"
    package = "fleetfoot"

    saves = True
    flushes_denormals = True
    maps = True

    def __init__(
        self,
        model: nn.Module,
        example: Given | Inputs,
        options: Options,
        *,
        independent: bool = False,
    ) -> None:
        """``independent`` has the same meaning as in ``compile``."""
        refuse(self.name, options, precision="float32", layout="nchw", device="cpu")
        super().__init__(model, example, options)
        from fleetfoot.engines.native.compile import compile

        self._network = weakref.ref(model)
        self._open(compile(model, self.inputs, independent=independent))

    def _open(self, compiled: CompiledGraph) -> None:
        self._compiled: CompiledGraph | None = compiled
        self._nodes = [_Labels.of(n) for node in compiled.graph.nodes for n in (node, *node.nodes)]
        assert compiled.program is not None, "it was lowered from one"
        self._answers_as(compiled.program.call_spec.out_spec)
        self._use(runtime.Plan.from_bytes(compiled.bytes(checksum=runtime.checksum)))

    def _use(self, plan: runtime.Plan) -> None:
        self._plan = plan
        self._context = self._plan.context(self.info.threads)
        self._shapes = [(self.shape[0], *shape) for shape in self._plan.output_shapes]
        self._types = [getattr(torch, name) for name in self._plan.output_types]

    def _write(self, folder: Path) -> Written:
        from fleetfoot.engines.native.compile import compile

        network = built_from(self, self._network)  # compiled anew, not held twice until then
        compile(network, self.inputs, independent=True).save(
            folder / FILE, checksum=runtime.checksum
        )
        return Written((FILE,), {})

    def _read(self, artifact: Artifact) -> None:
        (file,) = artifact.files
        self._compiled = None
        self._use(runtime.Plan.load(file, mmap=self._mmap))

    @classmethod
    def of_part(cls, part: nn.Module, example: Given | Inputs, options: Options) -> Native:
        return cls(part, example, options, independent=True)

    def with_weights(self, weights: Mapping[str, Tensor]) -> Native:
        assert self._compiled is not None, "the comparison comes before agreed()"
        other = copy.copy(self)
        other._open(self._compiled.with_weights(weights))
        return other

    def agreed(self, agreement: Agreement) -> None:
        super().agreed(agreement)
        self._compiled = None  # its weights are in the plan

    @classmethod
    def missing(cls) -> FleetfootError | None:
        reason = runtime.missing()
        return None if reason is None else EngineError(reason)

    def _run(self, inputs: tuple[Tensor, ...]) -> Any:
        read = [tensor.contiguous() for tensor in inputs]
        outputs = [
            torch.empty(shape, dtype=type if type == torch.float32 else torch.int32)
            for shape, type in zip(self._shapes, self._types, strict=True)
        ]
        self._context.run_pointers(
            [tensor.data_ptr() for tensor in read],
            [out.data_ptr() for out in outputs],
            self.shape[0],
        )
        return self._nested([out.to(type) for out, type in zip(outputs, self._types, strict=True)])

    def _profile(self, inputs: tuple[Tensor, ...]) -> list[NodeTime]:
        """Node times of the plan. A strip's own time is its total less that of its nodes."""
        times = self._context.profile(*(tensor.contiguous().numpy() for tensor in inputs))
        inside = [0.0] * len(times)
        for time in times:
            if time.node.strip is not None:
                inside[time.node.strip] += time.seconds
        return [
            NodeTime(
                name=_name(times, number),
                kind=labels.kind,
                modules=labels.modules,
                seconds=max(0.0, time.seconds - inner),
                part_of=_name(times, time.node.strip),
                macs_share=labels.macs_share,
                reference=time.node.reference,
            )
            for number, (time, labels, inner) in enumerate(
                zip(times, self._nodes, inside, strict=True)
            )
        ]

    def close(self) -> None:
        super().close()
        self._context.close()
        self._plan.close()


@dataclass(frozen=True)
class _Labels:
    """The names and the share of a plan's node, which its times are returned with."""

    kind: str
    modules: tuple[str, ...]
    macs_share: float

    @classmethod
    def of(cls, node: Node) -> _Labels:
        tile = node.attributes.get("winograd", 0)
        if not tile:
            return cls(node.op, node.modules, 1.0)
        share = (tile + 2) ** 2 / (9 * tile**2)  # products of a tile, transformed over direct
        return cls(f"{node.op} by Winograd's {tile}×{tile} tiles", node.modules, share)


def _name(times: Sequence[runtime.NodeTime], number: int | None) -> str:
    """Name of a plan's node: its index, its operation and its module."""
    if number is None:
        return ""
    node = times[number].node
    return f"{number}: {node.op} {node.name}".rstrip()


def save_plan(model: nn.Module, example: Given | Inputs, path: str | os.PathLike[str]) -> Agreement:
    """Compiles ``model`` for pictures of ``example``'s size (1, C, H, W), or for several inputs,
    and writes the plan for ``fleetfoot.runtime`` and for C programs. The model is in eval mode and
    usually folded. The plan runs batches of any size.

    Returns:
        The difference of the plan's output for random pictures from eager's.

    Raises:
        OSError: the file cannot be written.
        EngineError: the native engine is absent, or a plan cannot express an operator of the
            network (its module is named).
        DisagreementError: the plan's output differs from eager's; nothing is written.
    """
    missing = Native.missing()
    if missing is not None:
        raise missing
    check_nesting(model)
    from fleetfoot.engines.agreement import compare

    engine = Native(model, example, Options())
    with engine:
        compiled = engine._compiled
        compare(engine, model)
        assert compiled is not None
        assert engine.agreement is not None
        compiled.save(path, checksum=runtime.checksum)
        return engine.agreement
