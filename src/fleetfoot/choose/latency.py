"""Predicting a network's latency from its trace, by a model fitted to one machine and engine.

A network's time is the sum of the prices of its operators and of a call. A price is an additive
roofline: operations, bytes and starts of the operator's kind, each with a rate that cannot be
negative (least squares of relative errors under that constraint, Lawson and Hanson 1974, "Solving
Least Squares Problems", chapter 23). So no price is negative, a network with one more operator
takes no less time, and every rate has a meaning.

Engines do not run operators one by one: an activation after a convolution becomes part of it. Each
kind has features for operators that follow one that could absorb them, so that the fit learns what
this saves.

P output pixels of all images · Ci Co channels of a group · K window taps
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fleetfoot.count import vocabulary
from fleetfoot.count.trace import Operator, Trace

Array = NDArray[np.float64]

VECTOR = 16
"""Vector width in channels: output channels are computed in vectors, the last one filled up."""
NEAR_BYTES, FAR_BYTES = float(1 << 20), float(32 << 20)
"""Approximate sizes of a core's own cache and of the last cache; more bytes come from farther."""

KIND_OF = {
    name: kind
    for kind, names in (
        ("cheap", vocabulary.CHEAP),
        ("smooth", vocabulary.SMOOTH),
        ("pair", vocabulary.PAIRED),
        ("move", vocabulary.MOVES),
        ("norm", vocabulary.NORMS),
        ("softmax", vocabulary.SOFTMAXES | vocabulary.LOG_SOFTMAXES),
        ("pool", vocabulary.POOLS),
        ("reduce", vocabulary.REDUCTIONS),
    )
    for name in names
}
"""Operators that are not products, by ATen name."""
COMPUTE = ("window3", "window", "pointwise", "row", "depthwise", "grouped", "product")
"""Kinds with multiply-accumulates: 3×3 at stride 1; other windows; 1×1 and linear over many pixels;
the same over one pixel; depthwise; grouped; and products of two activations."""
ELEMENTWISE = ("cheap", "smooth", "pair", "gate")
"""Kinds that an engine may fuse into the operator before."""
OTHERS = ("move", "norm", "softmax", "pool", "reduce", "other")

TERMS = (
    "call",
    "input",
    *(f"{kind}.{what}" for kind in COMPUTE for what in ("macs", "in", "out", "weights", "start")),
    *(f"{kind}.{where}.{what}" for kind in ELEMENTWISE for where in ("behind", "alone")
      for what in ("bytes", "start")),
    *(f"{kind}.{what}" for kind in OTHERS for what in ("bytes", "start")),
    "pool.operations", "near weights", "far weights", "near maps", "far maps",
)  # fmt: skip
"""Terms that have a rate, in seconds: for a multiply-accumulate (filled up to whole vectors), a
byte, an operation of a pooling, or a start."""
_TERM = {name: index for index, name in enumerate(TERMS)}


def kind_of(op: Operator) -> str:
    """The kind of an operator."""
    if op.name in vocabulary.CONVOLUTIONS:
        ci, _, groups, taps = _window(op)
        if groups > 1:
            return "depthwise" if ci == 1 else "grouped"
        if _pixels(op) == 1:
            return "row"
        if taps == 1:
            return "pointwise"
        same = op.input_shapes[0][2:] == op.shape[2:]
        return "window3" if op.input_shapes[1][2:] == (3, 3) and same else "window"
    if op.macs:
        if op.weight_bytes:
            return "row" if _pixels(op) == 1 else "pointwise"
        return "product"
    kind = KIND_OF.get(vocabulary.bare(op.name), "other")
    if kind == "pair" and len(op.input_shapes) > 1:
        largest = max(math.prod(shape) for shape in op.input_shapes)
        if any(1 < math.prod(shape) < largest for shape in op.input_shapes):
            return "gate"
    return kind


def _window(op: Operator) -> tuple[int, int, int, int]:
    """Input and output channels of a group, number of groups, and taps of a convolution."""
    x, weight = op.input_shapes[0], op.input_shapes[1]
    ci = weight[1]
    groups = max(1, x[1] // ci)
    return ci, max(1, op.shape[1] // groups), groups, math.prod(weight[2:])


def _pixels(op: Operator) -> int:
    """Rows of a product: output values divided by output channels."""
    if not op.shape:
        return 1
    channels = op.shape[1] if op.name in vocabulary.CONVOLUTIONS else op.shape[-1]
    return max(1, math.prod(op.shape) // max(1, channels))


def features(trace: Trace) -> Array:
    """Features of a network, (operators + 1, ``TERMS``); the last row is for the call."""
    terms = np.zeros((len(trace.operators) + 1, len(TERMS)))
    terms[-1, _TERM["call"]] = 1
    terms[-1, _TERM["input"]] = trace.input_bytes
    near = trace.weight_bytes / (trace.weight_bytes + NEAR_BYTES)
    far = trace.weight_bytes / (trace.weight_bytes + FAR_BYTES)
    before: Operator | None = None
    before_kind = ""
    for into, op in zip(terms[:-1], trace.operators, strict=True):
        kind = kind_of(op)
        maps = op.bytes_read - op.weight_bytes + op.bytes_written
        if kind in COMPUTE:
            into[_TERM[f"{kind}.macs"]] = _macs(op, kind)
            into[_TERM[f"{kind}.in"]] = op.bytes_read - op.weight_bytes
            into[_TERM[f"{kind}.out"]] = op.bytes_written
            into[_TERM[f"{kind}.weights"]] = op.weight_bytes
            into[_TERM[f"{kind}.start"]] = 1
            into[_TERM["near weights"]] = op.weight_bytes * near
            into[_TERM["far weights"]] = op.weight_bytes * far
            into[_TERM["near maps"]] = maps * maps / (maps + NEAR_BYTES)
            into[_TERM["far maps"]] = maps * maps / (maps + FAR_BYTES)
        elif kind in ELEMENTWISE:
            behind = (
                before is not None
                and before_kind in (*COMPUTE, *ELEMENTWISE)
                and before.shape in op.input_shapes
                and kind != "gate"
            )
            where = "behind" if behind else "alone"
            into[_TERM[f"{kind}.{where}.bytes"]] = maps
            into[_TERM[f"{kind}.{where}.start"]] = 1
        else:
            into[_TERM[f"{kind}.bytes"]] = maps
            into[_TERM[f"{kind}.start"]] = 1
            if kind == "pool":
                into[_TERM["pool.operations"]] = op.exact_flops or 0
        before, before_kind = op, kind
    return terms


def _macs(op: Operator, kind: str) -> float:
    """Multiply-accumulates, with output channels filled up to whole vectors."""
    if kind == "depthwise":
        channels = op.shape[1]
    elif op.name in vocabulary.CONVOLUTIONS:
        channels = _window(op)[1]
    else:
        channels = op.shape[-1]
    return (op.macs or 0) * (-(-channels // VECTOR) * VECTOR) / channels


def activations(trace: Trace) -> int:
    """Number of values that operators with multiply-accumulates write (Dollár et al. 2021, "Fast
    and accurate model scaling", https://arxiv.org/abs/2103.06877)."""
    return sum(op.elements_written for op in trace.operators if op.macs)


@dataclass(frozen=True, kw_only=True)
class LatencyModel:
    """A latency model: rates by the names of ``TERMS``; a missing name means 0.

    Raises:
        ValueError: a name is not a term, or a rate is negative.
    """

    rates: Mapping[str, float]
    """Seconds for each unit of the term."""

    def __post_init__(self) -> None:
        for name, rate in self.rates.items():
            if name not in _TERM or not rate >= 0:
                raise ValueError(
                    f"a rate of a latency model is 0 or more and has the name of a term, not "
                    f"{name!r}: {rate}"
                )

    def predict(self, trace: Trace) -> float:
        """Predicts the seconds of one run of the traced network, at the trace's batch."""
        return self.price(features(trace))

    def price(self, terms: Array) -> float:
        """Predicts the seconds of one run from the ``features`` of a trace."""
        return float(terms.sum(0) @ self._vector())

    def prices(self, trace: Trace) -> Array:
        """Each operator's share of the prediction, and the call's at the end, (operators + 1,)
        seconds. A share is part of the sum that fits best, not a time measured on its own."""
        return features(trace) @ self._vector()

    def _vector(self) -> Array:
        return np.array([self.rates.get(name, 0.0) for name in TERMS])


HUBER = 0.12
"""Relative error above which a network gets less weight in the fit."""


def fit(seen: Sequence[Array], times_s: Sequence[float], *, rounds: int = 6) -> LatencyModel:
    """Fits the model whose relative errors on these networks are least.

    Times far from the rest, for example of a disturbed run, get less weight (Huber 1964, by least
    squares whose weights follow from the previous errors).

    Args:
        seen: ``features`` of each network.
        times_s: measured time of each network, in seconds.

    Raises:
        ValueError: there are fewer than two networks, unequal numbers, or a time not above 0.
    """
    if len(seen) != len(times_s) or len(seen) < 2 or min(times_s) <= 0:
        raise ValueError(
            f"a fit needs two or more networks, each with a positive time; {len(seen)} networks "
            f"and {len(times_s)} times were given, the least of them {min(times_s, default=0)}"
        )
    relative = np.array([terms.sum(0) for terms in seen]) / np.asarray(times_s)[:, None]
    weights = np.ones(len(seen))
    for _ in range(rounds):
        rates = nonnegative_least_squares(relative * weights[:, None], weights)
        errors = np.abs(relative @ rates - 1)
        weights = np.sqrt(HUBER / np.maximum(errors, HUBER))
    return LatencyModel(
        rates={name: float(rate) for name, rate in zip(TERMS, rates, strict=True) if rate > 0}
    )


def nonnegative_least_squares(a: Array, b: Array) -> Array:
    """The x >= 0 that minimises |a x - b|, for ``a`` (rows, n) and ``b`` (rows,).

    Lawson and Hanson 1974, chapter 23: variables enter one at a time, the one with the steepest
    gradient first, and leave again if the unconstrained solution makes them negative.
    """
    scale = np.linalg.norm(a, axis=0)
    scale[scale == 0] = 1.0
    a = a / scale
    x, free = np.zeros(a.shape[1]), np.zeros(a.shape[1], dtype=bool)
    tolerance = 1e-10 * max(1.0, float(np.abs(a.T @ b).max(initial=0)))
    for _ in range(10 * a.shape[1]):
        gradient = a.T @ (b - a @ x)
        gradient[free] = -np.inf
        if gradient.max(initial=-np.inf) <= tolerance:
            break
        free[int(gradient.argmax())] = True
        while True:
            trial = np.zeros_like(x)
            trial[free] = np.linalg.lstsq(a[:, free], b, rcond=None)[0]
            below = free & (trial <= 0)
            if not below.any():
                x = trial
                break
            share = np.min(x[below] / np.maximum(x[below] - trial[below], 1e-300))
            x = x + share * (trial - x)
            free &= x > 1e-14
            x[~free] = 0
            if not free.any():
                break
    return x / scale
