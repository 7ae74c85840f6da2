"""The operators of a trace as a graph: which operator feeds which, and what each one is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod

from fleetfoot.count.trace import Operator, Trace
from fleetfoot.count.vocabulary import BATCH_NORMS, ELEMENTWISE, LINEAR, bare


@dataclass(frozen=True, kw_only=True)
class Product:
    """A convolution or a linear layer.

    Rows are positions: B·H·W of a map, B·N of tokens. A linear layer is a 1×1 convolution.
    """

    index: int
    """Index of the operator in the trace."""
    operator: Operator
    channels_in: int
    channels_out: int
    kernel: tuple[int, ...]
    groups: int
    rows_in: int
    rows_out: int
    source: int
    """Position of the map among the operator's inputs."""

    @property
    def macs(self) -> int:
        return self.operator.macs or 0

    @property
    def taps(self) -> int:
        """Number of positions under the kernel."""
        return prod(self.kernel)

    @property
    def depthwise(self) -> bool:
        return self.groups > 1 and self.groups == self.channels_in

    @property
    def element_bytes(self) -> int:
        return self.operator.bytes_written // self.operator.elements_written

    @property
    def weights(self) -> int:
        """Number of weight values, without the bias."""
        return self.taps * self.channels_in * self.channels_out // self.groups

    @property
    def moved_bytes(self) -> int:
        """Bytes of input, output and weights, without the bias."""
        maps = self.rows_in * self.channels_in + self.rows_out * self.channels_out
        return self.element_bytes * (maps + self.weights)

    @property
    def words(self) -> str:
        """The layer in words, for example "3×3 convolution of 24 → 144 channels"."""
        widths = f"of {self.channels_in} → {self.channels_out} channels"
        if self.operator.name in LINEAR:
            return f"linear layer {widths}"
        kernel = "×".join(map(str, self.kernel))
        if self.depthwise and self.channels_in == self.channels_out:
            return f"depthwise {kernel} convolution of {self.channels_in} channels"
        return f"{kernel} convolution {widths}"


def product(index: int, op: Operator) -> Product | None:
    """The operator as a product; None if it is not one, or is a transposed convolution."""
    if not op.elements_written or not op.macs:
        return None
    if op.name == "aten.convolution":
        x, weight = op.input_shapes[0], op.input_shapes[1]
        rows_in, rows_out = x[0] * prod(x[2:]), op.shape[0] * prod(op.shape[2:])
        groups = x[1] // weight[1] if weight[1] else 0
        macs = rows_out * prod(weight)
        if weight[0] != op.shape[1] or groups * weight[1] != x[1] or macs != op.macs:
            return None
        return Product(
            index=index, operator=op, channels_in=x[1], channels_out=weight[0],
            kernel=tuple(weight[2:]), groups=groups, rows_in=rows_in, rows_out=rows_out, source=0,
        )  # fmt: skip
    if op.name in LINEAR:
        columns = op.shape[-1]
        rows = prod(op.shape[:-1])
        return Product(
            index=index, operator=op, channels_in=op.macs // (rows * columns),
            channels_out=columns, kernel=(1,), groups=1, rows_in=rows, rows_out=rows,
            source=1 if op.name == "aten.addmm" else 0,
        )  # fmt: skip
    return None


class Dataflow:
    """The graph of a trace. Operators are named by their index in it."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace

    @cached_property
    def _made_by(self) -> tuple[tuple[int | None, ...], ...]:
        """For each input of each operator, the operator that wrote its memory last."""
        writer: dict[int, int] = {}
        found = []
        for index, op in enumerate(self.trace.operators):
            found.append(tuple(map(writer.get, op.reads)))
            writer.update(dict.fromkeys(op.writes, index))
        return tuple(found)

    def producers(self, index: int) -> tuple[int, ...]:
        """The operators that made the inputs of an operator, seen through views; weights and the
        network's input have none."""
        return tuple(maker for maker in self._made_by[index] if maker is not None)

    def reads_input(self, layer: Product) -> bool:
        """Whether a product reads the network's input, which no operator made."""
        return self._made_by[layer.index][layer.source] is None

    @cached_property
    def consumers(self) -> tuple[tuple[int, ...], ...]:
        found: list[list[int]] = [[] for _ in self.trace.operators]
        for index in range(len(found)):
            for producer in set(self.producers(index)):
                found[producer].append(index)
        return tuple(map(tuple, found))

    @cached_property
    def ancestors(self) -> tuple[int, ...]:
        """For each operator, its ancestors as a set of bits."""
        found: list[int] = []
        for index in range(len(self.trace.operators)):
            bits = 0
            for producer in self.producers(index):
                bits |= found[producer] | 1 << producer
            found.append(bits)
        return tuple(found)

    def with_ancestors(self, index: int) -> int:
        return self.ancestors[index] | 1 << index

    def elementwise(self, index: int) -> bool:
        return bare(self.trace.operators[index].name) in ELEMENTWISE

    def batch_norm(self, index: int) -> bool:
        return self.trace.operators[index].name in BATCH_NORMS

    def hosts(self, index: int) -> tuple[int, ...]:
        """The producers that could do an operator's element-wise work while they write their
        output, as fusing engines do: nothing else reads that output, and it has the same size, so
        a gate of one value for each channel does not take the map with it."""
        if not self.elementwise(index):
            return ()
        operators = self.trace.operators
        return tuple(
            producer
            for producer in self.producers(index)
            if self.consumers[producer] == (index,)
            and operators[producer].elements_written == operators[index].elements_written
            and operators[producer].exact_flops != 0  # a mere copy has no pass to join
        )

    def through(self, index: int) -> int | None:
        """The operator that feeds the first input of ``index``, seen through element-wise work and
        batch norms; None if that input is the network's input."""
        before = self.producers(index)
        while before and (self.elementwise(before[0]) or self.batch_norm(before[0])):
            if len(self.producers(before[0])) > 1:
                return before[0]
            before = self.producers(before[0])
        return before[0] if before else None


def bits(members: int) -> Iterator[int]:
    """The indices in a set of bits, smallest first."""
    while members:
        lowest = members & -members
        yield lowest.bit_length() - 1
        members ^= lowest
