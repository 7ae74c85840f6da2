"""Compilation of a folded network to a plan: lowering, fusing, Winograd's tiles, strips, memory,
packing.

Each pass is a file of its own and changes one graph; ``docs/engine-log.md`` states what each
gained.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from fleetfoot.engines.inputs import Given, Inputs
from fleetfoot.engines.native import arena, plan
from fleetfoot.engines.native.cpu import pack, strips, winograd
from fleetfoot.engines.native.cpu.strips import StripOptions
from fleetfoot.engines.native.graph import Graph
from fleetfoot.engines.native.lower.lower import check_independence, exported, lowered
from fleetfoot.engines.native.passes.elide_copies import elide_copies
from fleetfoot.engines.native.passes.fuse_nodes import fuse_nodes
from fleetfoot.engines.native.passes.transposed import split_transposed


@dataclass(frozen=True, kw_only=True)
class CompileOptions:
    """Options for compiling a network."""

    strips: StripOptions | None = field(default_factory=StripOptions)
    """Options for running nodes together by rows; None for never."""


@dataclass(frozen=True)
class PlanSummary:
    """Summary of a plan."""

    nodes: dict[str, int]
    """Count by operator; a strip counts, and so do the nodes in it."""
    arena_bytes: int
    ring_bytes: int
    """Bytes of the rings of each thread."""
    weight_bytes: int


@dataclass(frozen=True)
class CompiledGraph:
    """A compiled network, for one shape of picture and any batch."""

    graph: Graph
    memory: arena.Memory
    program: torch.export.ExportedProgram | None = None
    """The exported program that it was lowered from; None if there is none."""

    def with_weights(self, weights: Mapping[str, Tensor]) -> CompiledGraph:
        """The plan of the same network with other values of parameters, given by name."""
        assert self.program is not None, "only a plan of a lowered network has parameters"
        made = finish(lowered(self.program, self.graph.model, weights))
        return replace(made, program=self.program)

    def bytes(self, *, checksum: plan.Checksum) -> bytes:
        """Content of the plan file. ``checksum`` is XXH64 of bytes with a seed."""
        return plan.to_bytes(self.graph, self.memory, checksum=checksum)

    def save(self, path: str | os.PathLike[str], *, checksum: plan.Checksum) -> None:
        """Writes the plan file completely, or not at all.

        Raises:
            OSError: the file cannot be written.
        """
        plan.write(self.graph, self.memory, path, checksum=checksum)

    def summary(self) -> PlanSummary:
        nodes = [inner for node in self.graph.nodes for inner in (node, *node.nodes)]
        constants = [tensor for tensor in self.graph.tensors() if tensor.kind == "constant"]
        return PlanSummary(
            nodes=dict(Counter(node.op for node in nodes)),
            arena_bytes=self.memory.arena,
            ring_bytes=self.memory.rings,
            weight_bytes=sum(4 * tensor.size for tensor in constants),
        )


def compile(
    model: nn.Module,
    example: Given | Inputs,
    *,
    options: CompileOptions | None = None,
    independent: bool = False,
) -> CompiledGraph:
    """Compiles ``model``, in eval mode and usually folded, for pictures shaped as ``example`` (B,
    C, H, W). ``independent``: whether it is already known that no picture of a batch affects
    another, so that it need not be checked.

    Raises:
        EngineError: an operator has no kernel, or the network mixes the pictures of a batch.
    """
    inputs = Inputs.of(model, example)
    if not independent:
        check_independence(model, inputs)
    program = exported(model, inputs.one)
    return replace(finish(lowered(program, type(model).__name__), options=options), program=program)


def finish(graph: Graph, *, options: CompileOptions | None = None) -> CompiledGraph:
    """Runs all passes after the lowering. Changes the graph."""
    options = options or CompileOptions()
    fuse_nodes(graph)
    elide_copies(graph)
    split_transposed(graph)
    winograd.winograd(graph)
    if options.strips is not None:
        strips.group(graph, options.strips)
    pack.pack(graph)
    return CompiledGraph(graph, arena.place(graph))
