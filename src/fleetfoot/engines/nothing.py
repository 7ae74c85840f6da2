"""The engine that does nothing: what it takes is what the harness adds to every measurement."""

from __future__ import annotations

from torch import Tensor, nn

from fleetfoot.engines.base import Engine, Options


class Nothing(Engine):
    """Answers each batch with the same empty logits, (B, 0)."""

    name = "nothing"
    package = "torch"
    compared = False

    def __init__(self, model: nn.Module, example: Tensor, options: Options) -> None:
        super().__init__(model, example, options)
        self._answer = example.new_empty(example.shape[0], 0)

    @classmethod
    def missing(cls) -> None:
        return None

    def _run(self, batch: Tensor) -> Tensor:
        return self._answer
