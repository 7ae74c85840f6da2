"""fleetfoot's own engine: a plan compiled here (``compile.py``), run by the C++ library.

``fleetfoot.runtime`` runs the same plans without torch.

B batch · C channels · H W space
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fleetfoot import runtime
from fleetfoot.engines.base import TOLERANCES, Engine, NodeTime, Options, refuse, relative_error
from fleetfoot.engines.native.graph import Node
from fleetfoot.errors import EngineError, FleetfootError


class Native(Engine):
    """The plan in memory and one context of ``threads`` threads, the calling one among them.

    A batch is read where it lies if it is contiguous. Several outputs, as of ``features_only``, are
    a list.
    """

    name = "native"
    package = "fleetfoot"

    def __init__(self, model: nn.Module, example: Tensor, options: Options) -> None:
        refuse(self.name, options, precision="float32", layout="nchw", device="cpu")
        super().__init__(model, example, options)
        from fleetfoot.engines.native.compile import compile

        compiled = compile(model, example)
        self._nodes = [_Labels.of(n) for node in compiled.graph.nodes for n in (node, *node.nodes)]
        self._plan = runtime.Plan.from_bytes(compiled.bytes(checksum=runtime.checksum))
        self._context = self._plan.context(options.threads)
        self._shapes = [(len(example), *shape) for shape in self._plan.output_shapes]

    @classmethod
    def missing(cls) -> FleetfootError | None:
        reason = runtime.missing()
        return None if reason is None else EngineError(reason)

    def _run(self, batch: Tensor) -> Any:
        batch = batch.contiguous()
        outputs = [torch.empty(shape) for shape in self._shapes]
        self._context.run_pointers(
            [batch.data_ptr()], [out.data_ptr() for out in outputs], len(batch)
        )
        return outputs[0] if len(outputs) == 1 else outputs

    def _profile(self, batch: Tensor) -> list[NodeTime]:
        """A strip's own time is what is left of it beside that of its nodes."""
        times = self._context.profile(batch.contiguous().numpy())
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
    """What of a plan's node its times are given with."""

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
    """Of a node of a plan: its place, what it does and its module."""
    if number is None:
        return ""
    node = times[number].node
    return f"{number}: {node.op} {node.name}".rstrip()


def save_plan(model: nn.Module, example: Tensor, path: str | os.PathLike[str]) -> float:
    """Compiles ``model``, in eval mode and folded, for pictures of ``example``'s size (1, C, H, W),
    and writes the plan for ``fleetfoot.runtime`` and for C programs. Any batch may be run with it.

    Returns:
        The ``relative_error`` of the plan's first answer against eager's, on random pictures.

    Raises:
        OSError: the file cannot be written.
        EngineError: the native engine is absent, an operator of the network has no place in a
        plan (its module is named), or the plan does not answer as eager.
    """
    missing = Native.missing()
    if missing is not None:
        raise missing
    from fleetfoot.engines.native.compile import compile

    compiled = compile(model, example)
    data = compiled.bytes(checksum=runtime.checksum)
    pictures = torch.randn(example.shape, generator=torch.Generator().manual_seed(0))
    with runtime.Plan.from_bytes(data) as plan, plan.context() as context:
        answer = context.run(pictures.numpy())
    with torch.inference_mode():
        expected = model(pictures)
    if isinstance(answer, list):
        error = max(
            relative_error(torch.from_numpy(a), e) for a, e in zip(answer, expected, strict=True)
        )
    else:
        error = relative_error(torch.from_numpy(answer), expected)
    if not error <= TOLERANCES["float32"]:
        raise EngineError(
            f"the plan of {type(model).__name__} is off eager by {error:.1e} of the largest value, "
            f"more than {TOLERANCES['float32']:.0e}; it is not written. Please report this network"
        )
    compiled.save(path, checksum=runtime.checksum)
    return error
