"""The exponential moving average of a network's weights and buffers, and batch-norm statistics
estimated anew.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import get_ema_multi_avg_fn

from fleetfoot.copying import copied, evaluated_
from fleetfoot.train.groups import is_frozen


class Average:
    """The moving average of a network. ``module`` is the network with the averaged weights, in eval
    mode; its ``state_dict`` is the state to save.

    Numbers that are not floating point (batch norms count batches) are copied.
    """

    def __init__(self, model: nn.Module) -> None:
        self.module = evaluated_(copied(model)).requires_grad_(False)

    @torch.no_grad()
    def update_(self, model: nn.Module, decay: float) -> None:
        """average = decay · average + (1 - decay) · ``model``"""
        state = model.state_dict()
        averages, values = [], []
        for name, average in self.module.state_dict().items():
            if average.is_floating_point():
                averages.append(average)
                values.append(state[name])
            else:
                average.copy_(state[name])
        get_ema_multi_avg_fn(decay)(averages, values, None)


@torch.no_grad()
def reestimate_(model: nn.Module, batches: Iterable[Tensor]) -> int:
    """Replaces the running statistics of the batch norms by the plain mean over ``batches``, which
    pass through the network in training mode: batch i of these counts 1 / i, as Megvii's training
    code does it. Frozen batch norms keep theirs. Returns the number of batches; 0 changes
    nothing."""
    norms = [
        module
        for module in model.modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats and not is_frozen(module)
    ]
    momenta, mode, count = [norm.momentum for norm in norms], model.training, 0
    model.train()
    try:
        for count, batch in enumerate(batches, 1):
            for norm in norms:
                norm.momentum = 1 / count
            model(batch)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        model.train(mode)
    return count


def set_momentum_(model: nn.Module, momentum: float | None) -> None:
    """Sets the share of a batch in the running statistics of every batch norm; None changes
    nothing."""
    if momentum is not None:
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.momentum = momentum
