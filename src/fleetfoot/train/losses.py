"""The loss of a recipe: cross-entropy or binary cross-entropy against soft targets, with label
smoothing, and what a teacher adds.

Label smoothing: Szegedy et al. 2016, https://arxiv.org/abs/1512.00567. Smoothing is linear in the
targets, so it may follow mixing: the smoothed mixture is the mixture of smoothed targets.

Distillation: soft, Hinton et al. 2015, https://arxiv.org/abs/1503.02531; hard, Touvron et al. 2021
(DeiT), https://arxiv.org/abs/2012.12877. The soft loss is the mean over pictures; DeiT's code
divides by pictures times classes.

B batch · N classes
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from fleetfoot.train import config
from fleetfoot.train.config import Recipe


@dataclass(frozen=True)
class Loss:
    """(B, N) logits, (B, N) soft targets, (B, N) the teacher's logits -> one number

    Raises:
        ValueError: the recipe has a teacher and its logits are not given, or the other way round;
            or the shapes differ.
    """

    loss: config.Loss
    distil: config.Distil

    def __call__(self, logits: Tensor, targets: Tensor, teacher: Tensor | None = None) -> Tensor:
        if logits.shape != targets.shape:
            raise ValueError(
                f"logits {tuple(logits.shape)} and soft targets {tuple(targets.shape)} differ"
            )
        if (teacher is not None) != bool(self.distil.teacher):
            raise ValueError(
                f"distil.teacher is {self.distil.teacher!r}, and the teacher's logits are "
                f"{'missing' if teacher is None else 'given'}"
            )
        own = self._own(logits, smoothed(targets, self.loss.smoothing))
        if teacher is None:
            return own
        if teacher.shape != logits.shape:
            raise ValueError(
                f"the teacher {self.distil.teacher} has {teacher.shape[-1]} classes, and the "
                f"network {logits.shape[-1]}"
            )
        alpha = self.distil.alpha
        return (1 - alpha) * own + alpha * self._taught(logits, teacher.detach())

    def _own(self, logits: Tensor, targets: Tensor) -> Tensor:
        if self.loss.kind == "cross_entropy":
            return functional.cross_entropy(logits, targets)
        if self.loss.threshold is not None:
            targets = (targets > self.loss.threshold).to(targets.dtype)
        losses = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        return losses.sum(dim=1).mean() if self.loss.sum else losses.mean()

    def _taught(self, logits: Tensor, teacher: Tensor) -> Tensor:
        if self.distil.kind == "hard":
            return functional.cross_entropy(logits, teacher.argmax(dim=1))
        temperature = self.distil.temperature
        divergence = functional.kl_div(
            functional.log_softmax(logits / temperature, dim=1),
            functional.log_softmax(teacher / temperature, dim=1),
            reduction="batchmean",
            log_target=True,
        )
        return divergence * temperature**2


def loss(recipe: Recipe) -> Loss:
    """The loss that a recipe trains with."""
    return Loss(recipe.loss, recipe.distil)


def smoothed(targets: Tensor, smoothing: float) -> Tensor:
    """Targets of which the share ``smoothing`` is spread evenly over all classes. (B, N) -> (B,
    N)"""
    return targets if not smoothing else targets * (1 - smoothing) + smoothing / targets.shape[1]
