"""Whether a network's input, and a run on it, fit into memory: found before anything is allocated.

B batch · C channels · H W space
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from fleetfoot.copying import copied
from fleetfoot.memory import check_fits

LARGE_BYTES = 2**25
"""Size of an input above which a run's memory is found first: three channels of 1,672 pixels on a
side."""
ADVICE = "give a smaller --size or --batch"


def is_large(shape: Sequence[int]) -> bool:
    """Whether an input of float32 is so large that a run on it may not fit into memory."""
    return 4 * math.prod(shape) >= LARGE_BYTES


def zeros(name: str, shape: tuple[int, ...]) -> Tensor:
    """An input of zeros for the network ``name``.

    Raises:
        ValueError: it does not fit into memory.
    """
    check_fits(4 * math.prod(shape), f"an input {_times(shape)} of {name}", ADVICE)
    return torch.zeros(shape)


def check_run(name: str, module: nn.Module, shape: tuple[int, ...]) -> None:
    """Checks that a run on an input of this shape fits into memory, by a run without values.

    Raises:
        ValueError: it does not.
    """
    if not is_large(shape):
        return
    needed = max(_run_bytes(module, shape), 4 * math.prod(shape))
    check_fits(needed, f"a run of {name} on {_times(shape)}", ADVICE)


def without_values(module: nn.Module) -> nn.Module:
    """A copy whose tensors have shapes and no values; ``module`` itself if there can be none."""
    try:
        return copied(module).to("meta")
    except Exception:  # anything that a stranger's network raises there
        return module


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


class _Largest(TorchDispatchMode):
    """Bytes of the inputs and outputs of the operator that has the most, weights left out."""

    def __init__(self, weights: set[int]) -> None:
        super().__init__()
        self.bytes = 0
        self._weights = weights

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        found = {
            one.untyped_storage()._cdata: one.untyped_storage().nbytes()
            for one in pytree.tree_leaves((args, kwargs, out))
            if isinstance(one, Tensor) and id(one) not in self._weights
        }
        self.bytes = max(self.bytes, sum(found.values()))
        return out


def _run_bytes(module: nn.Module, shape: tuple[int, ...]) -> int:
    """Bytes that one run takes at least; 0 if the network does not run without values."""
    empty = without_values(module)
    largest = _Largest({id(one) for one in (*empty.parameters(), *empty.buffers())})
    try:
        with torch.no_grad(), redirect_stdout(sys.stderr), largest:
            empty(torch.empty(shape, device="meta"))
    except Exception:  # anything that a network raises without values
        return 0
    return largest.bytes
