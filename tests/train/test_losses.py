"""Losses equal timm's and torch's, and the formulas of the papers."""

from __future__ import annotations

import pytest
import torch
from timm.data.mixup import mixup_target
from timm.loss import BinaryCrossEntropy, LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from torch.nn import functional

from fleetfoot.train.config import Distil, Loss, Recipe
from fleetfoot.train.losses import loss

B, N = 6, 5


@pytest.fixture
def logits():
    return torch.randn(B, N, dtype=torch.float64, requires_grad=True)


@pytest.fixture
def labels():
    return torch.arange(B) % N


def one_hot(labels):
    return functional.one_hot(labels, N).double()


def ours(**fields):
    return loss(Recipe(loss=Loss(**fields)))


def assert_same(ours, theirs, logits):
    """Equal values and equal gradients."""
    (grad,) = torch.autograd.grad(ours, logits)
    (expected,) = torch.autograd.grad(theirs, logits)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(grad, expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_equals_timms(logits, labels, smoothing):
    theirs = LabelSmoothingCrossEntropy(smoothing)(logits, labels)
    assert_same(ours(smoothing=smoothing)(logits, one_hot(labels)), theirs, logits)


def test_soft_targets_of_mixing_equal_timms(logits, labels):
    """timm smooths before it mixes, we smooth after: the same by linearity."""
    soft = mixup_target(labels, N, lam=0.3, smoothing=0.1).double()
    mixed = 0.3 * one_hot(labels) + 0.7 * one_hot(labels.flip(0))
    got, theirs = ours(smoothing=0.1)(logits, mixed), SoftTargetCrossEntropy()(logits, soft)
    # timm's targets are made in float32
    torch.testing.assert_close(got, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("threshold", [None, 0.2])
@pytest.mark.parametrize("over_classes", [False, True])
def test_binary_cross_entropy_equals_timms(logits, labels, threshold, over_classes):
    theirs = BinaryCrossEntropy(0.1, target_threshold=threshold, sum_classes=over_classes)
    got = ours(kind="bce", smoothing=0.1, threshold=threshold, sum=over_classes)
    assert_same(got(logits, one_hot(labels)), theirs(logits, labels), logits)


def test_hard_distillation_is_deits(logits, labels):
    teacher = torch.randn(B, N, dtype=torch.float64)
    recipe = Recipe(loss=Loss(smoothing=0.1), distil=Distil(teacher="t", kind="hard", alpha=0.3))
    own = functional.cross_entropy(logits, labels, label_smoothing=0.1)
    theirs = 0.7 * own + 0.3 * functional.cross_entropy(logits, teacher.argmax(1))
    assert_same(loss(recipe)(logits, one_hot(labels), teacher), theirs, logits)


def test_soft_distillation_is_hintons(logits, labels):
    """T² Σ p log(p / q), with both distributions at temperature T."""
    teacher, t = torch.randn(B, N, dtype=torch.float64), 4.0
    recipe = Recipe(distil=Distil(teacher="t", kind="soft", alpha=0.5, temperature=t))
    p, q = (teacher / t).softmax(1), (logits / t).softmax(1)
    taught = t**2 * (p * (p.log() - q.log())).sum(1).mean()
    theirs = 0.5 * functional.cross_entropy(logits, labels) + 0.5 * taught
    assert_same(loss(recipe)(logits, one_hot(labels), teacher), theirs, logits)


def test_no_gradient_reaches_the_teacher(logits, labels):
    teacher = torch.randn(B, N, dtype=torch.float64, requires_grad=True)
    recipe = Recipe(distil=Distil(teacher="t", kind="soft"))
    loss(recipe)(logits, one_hot(labels), teacher).backward()
    assert teacher.grad is None
    assert logits.grad is not None


def test_what_does_not_fit_is_refused(logits, labels):
    taught = loss(Recipe(distil=Distil(teacher="t")))
    with pytest.raises(ValueError, match=r"\(6, 5\) and soft targets \(6, 4\) differ"):
        ours()(logits, torch.zeros(B, 4))
    with pytest.raises(ValueError, match="logits are missing"):
        taught(logits, one_hot(labels))
    with pytest.raises(ValueError, match="logits are given"):
        ours()(logits, one_hot(labels), logits)
    with pytest.raises(ValueError, match="t has 7 classes, and the network 5"):
        taught(logits, one_hot(labels), torch.zeros(B, 7))
