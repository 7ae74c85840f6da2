"""Where a network of a task spends its time: backbone, neck and head in the engine, then decoding,
and non-maximum suppression within it.

The times of engine and decoding are shared out by one run of each in which operators are timed by
themselves, after one that warms up: shares to look at, not a measurement of speed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fleetfoot.engines import Engine
from fleetfoot.errors import EngineError
from fleetfoot.machine.peaks import torch_threads

OTHER = "other"
"""Time of the engine that is of no part's module: between them, or of nodes without a name."""


def split(
    engine: Engine,
    inputs: Tensor,
    parts: Mapping[str, tuple[str, ...]],
    decode: Callable[[Any], object],
    *,
    fixed_s: float,
    decode_s: float,
) -> dict[str, float]:
    """Seconds of a picture by part: those of ``parts`` that take any, ``other``, ``decoding``
    without suppression, and ``nms``; empty if the engine does not time its nodes.

    Args:
        inputs: a batch.
        parts: the modules of each part (``TaskNetwork.parts``).
        decode: makes the answers from the engine's outputs.
        fixed_s, decode_s: time of a picture in the engine, and in decoding.
    """
    try:
        engine.profile(inputs)
        nodes = engine.profile(inputs)
    except EngineError:
        return {}
    spent = dict.fromkeys([*parts, OTHER], 0.0)
    total = sum(node.seconds for node in nodes)
    for node in nodes:
        path = node.modules[0] if node.modules else ""
        spent[part_of(path, parts)] += fixed_s * node.seconds / total
    outputs = engine.run(inputs)
    with torch.inference_mode(), torch_threads(engine.info.threads):
        decode(outputs)
        with _Suppression() as suppression:
            decode(outputs)
    nms_s = min(decode_s, suppression.seconds / len(inputs))
    spent |= {"decoding": decode_s - nms_s, "nms": nms_s}
    return {name: seconds for name, seconds in spent.items() if seconds}


def part_of(path: str, parts: Mapping[str, tuple[str, ...]]) -> str:
    """The part that a module belongs to.

    >>> part_of("head.boxes.0", {"backbone": ("backbone",), "head": ("head",)})
    'head'
    """
    for name, modules in parts.items():
        if any(path == module or path.startswith(f"{module}.") for module in modules):
            return name
    return OTHER


class _Suppression(TorchDispatchMode):
    """Adds up the time of torchvision's non-maximum suppression."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any | None = None
    ) -> Any:
        start = time.perf_counter()
        out = func(*args, **(kwargs or {}))
        if str(func.overloadpacket) == "torchvision.nms":
            self.seconds += time.perf_counter() - start
        return out
