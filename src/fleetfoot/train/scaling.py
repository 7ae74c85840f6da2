"""What several processes cost: the bytes that they send in an update, counted from the network, and
the time of an update by a small model.

N processes · b bucket of gradients · t seconds

Values are summed over all processes by a ring or, if that takes less, by a tree, as NCCL chooses:
    ring  t = 2 (N - 1) · latency + 2 (N - 1) / N · bytes / bandwidth
    tree  t = 2 log2(N) · latency + 2 · bytes / bandwidth
A layer of synchronised batch norm gathers the statistics of all processes in its forward pass,
    t = (N - 1) · (latency + bytes / bandwidth)
and sums as many values in its backward pass. Sums of gradients go on beside the backward pass,
bucket by bucket, if hardware of their own carries them; the last bucket's sum comes after it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from fleetfoot.count.trace import Trace

BUCKET_BYTES = 25 * 2**20
"""Gradients that DistributedDataParallel sums at once."""
FIRST_BUCKET_BYTES = 2**20
"""Its first bucket, whose gradients come first in the backward pass."""
GRADIENT_BYTES = 4
"""Gradients are float32 in every precision but float64: parameters are."""
BACKWARD_SHARE = 2 / 3
"""Share of the backward pass in an update: it has about twice the operations of the forward."""
AGREEMENTS = 2
"""Sums of a few numbers in each update, by which the processes agree on signals and the loss."""


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What one process sends in an update, before the ring multiplies it."""

    gradient_bytes: int
    buffer_bytes: int
    """Running statistics, which the first process gives all others before each forward pass."""
    norm_layers: int
    """Batch norms with statistics over all processes; 0 without ``sync_bn``."""
    norm_channels: int
    """Their channels together."""

    @property
    def gather_bytes(self) -> int:
        """Mean and squares of each channel, forward."""
        return 2 * GRADIENT_BYTES * self.norm_channels

    @property
    def norm_bytes(self) -> int:
        """Forward and backward together."""
        return 2 * self.gather_bytes

    @property
    def bucket_bytes(self) -> list[int]:
        """Sizes of the sums in which the gradients go, in their order."""
        sizes, rest = [], self.gradient_bytes
        limit = FIRST_BUCKET_BYTES
        while rest > limit:
            sizes.append(limit)
            rest, limit = rest - limit, BUCKET_BYTES
        return [*sizes, rest]


def traffic(trace: Trace, *, sync_bn: bool) -> Traffic:
    """Counts what is sent from a network's trace."""
    norms = [one for one in trace.operators if "batch_norm" in one.name]
    channels = [one.shape[1] for one in norms]
    return Traffic(
        gradient_bytes=GRADIENT_BYTES * trace.params,
        buffer_bytes=sum(2 * GRADIENT_BYTES * count + 8 for count in channels),
        norm_layers=len(norms) if sync_bn else 0,
        norm_channels=sum(channels) if sync_bn else 0,
    )


@dataclass(frozen=True, kw_only=True)
class Link:
    """What connects two processes."""

    latency_s: float
    bytes_per_s: float

    def all_reduce_s(self, size: float, processes: int) -> float:
        """Time of a sum over all processes, of ``size`` bytes in each."""
        n = processes
        ring = 2 * (n - 1) * self.latency_s + 2 * (n - 1) / n * size / self.bytes_per_s
        tree = 2 * math.ceil(math.log2(n)) * self.latency_s + 2 * size / self.bytes_per_s
        return min(ring, tree)

    def all_gather_s(self, size: float, processes: int) -> float:
        """Time until every process has the ``size`` bytes of each."""
        return (processes - 1) * (self.latency_s + size / self.bytes_per_s)

    def broadcast_s(self, size: float, processes: int) -> float:
        """Time until every process has the ``size`` bytes of the first one, by a tree."""
        return math.ceil(math.log2(processes)) * (self.latency_s + size / self.bytes_per_s)


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """The time of an update in several processes."""

    compute_s: float
    gradients_s: float
    """All sums of gradients."""
    norms_s: float
    others_s: float
    """Buffers, and what is agreed on."""
    hidden_s: float
    """Part of ``gradients_s`` that goes on beside the backward pass."""

    @property
    def update_s(self) -> float:
        return self.compute_s + self.gradients_s + self.norms_s + self.others_s - self.hidden_s

    @property
    def efficiency(self) -> float:
        """Share of an update's time that is computation."""
        return self.compute_s / self.update_s


def predicted(
    compute_s: float, sent: Traffic, processes: int, link: Link, *, overlap: bool
) -> Predicted:
    """The time of an update.

    Args:
        compute_s: time of an update in one process, with the pictures of one.
        overlap: whether sums of gradients go on beside the backward pass. On CPUs that are busy
            with it they do not.
    """
    n = processes
    if n == 1:
        return Predicted(
            compute_s=compute_s, gradients_s=0.0, norms_s=0.0, others_s=0.0, hidden_s=0.0
        )
    sums = [link.all_reduce_s(size, n) for size in sent.bucket_bytes]
    gradients, last = sum(sums), sums[-1]
    layers = max(1, sent.norm_layers)
    norms = sent.norm_layers * (
        link.all_gather_s(sent.gather_bytes / layers, n)
        + link.all_reduce_s(sent.gather_bytes / layers, n)
    )
    others = link.broadcast_s(sent.buffer_bytes, n) + AGREEMENTS * link.all_reduce_s(16, n)
    hidden = min(gradients - last, BACKWARD_SHARE * compute_s) if overlap else 0.0
    return Predicted(
        compute_s=compute_s,
        gradients_s=gradients,
        norms_s=norms,
        others_s=others,
        hidden_s=hidden,
    )


def hiding_compute_s(sent: Traffic, processes: int, link: Link, efficiency: float) -> float:
    """Shortest computation of an update with which that efficiency is reached, with overlap."""
    low, high = 0.0, 1.0
    while predicted(high, sent, processes, link, overlap=True).efficiency < efficiency:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        if predicted(middle, sent, processes, link, overlap=True).efficiency < efficiency:
            low = middle
        else:
            high = middle
    return high
