"""fleetfoot's own engine: a plan compiled here (``compile.py``), run by the C++ library.

``fleetfoot.runtime`` runs the same plans without torch.

B batch · C channels · H W space
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor, nn

from fleetfoot import runtime
from fleetfoot.engines.base import TOLERANCES, Engine, Options, refuse, relative_error
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

    def profile(self, batch: Tensor) -> list[runtime.NodeTime]:
        """Runs once and says what each node of the plan took, with the path of its module.

        Raises:
            EngineError: the engine is closed.
        """
        return self._context.profile(batch.contiguous().numpy())

    def close(self) -> None:
        super().close()
        self._context.close()
        self._plan.close()


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
