"""An engine that does nothing: its time is what the harness adds to every measurement."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fleetfoot.engines.base import Engine, Options
from fleetfoot.engines.inputs import Given, Inputs


class Nothing(Engine):
    """Returns the same empty logits, (B, 0), for each batch."""

    name = "nothing"
    package = "torch"
    compared = False

    def __init__(self, model: nn.Module, example: Given | Inputs, options: Options) -> None:
        super().__init__(model, example, options)
        first = self.inputs.tensors[0]
        self._answer = torch.empty(first.shape[0] if first.ndim else 0, 0)

    @classmethod
    def missing(cls) -> None:
        return None

    def _run(self, inputs: tuple[Tensor, ...]) -> Tensor:
        return self._answer
