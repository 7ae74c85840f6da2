"""Figures from logits: counted by hand, and as scikit-learn computes them."""

from __future__ import annotations

import json
import math
import pickle

import numpy as np
import pytest
import torch

from fleetfoot.errors import RecordError
from fleetfoot.evaluate.tally import BINS, Tally


def tally_of(logits, labels) -> Tally:
    logits = torch.as_tensor(logits)
    tally = Tally(logits.shape[1])
    tally.update(logits, torch.as_tensor(labels))
    return tally


def drawn(images: int, classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that are often right, and true classes; the last class occurs nowhere."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes - 1, (images,), generator=generator)
    logits = torch.randn(images, classes, generator=generator)
    logits[torch.arange(images), labels] += 1.5
    return logits, labels


def logits_for(*probabilities: float) -> list[float]:
    return [math.log(p) for p in probabilities]


def test_four_pictures_counted_by_hand():
    tally = tally_of(
        [
            logits_for(0.7, 0.2, 0.1),  # right
            logits_for(0.7, 0.2, 0.1),  # of class 1: second
            logits_for(0.3, 0.3001, 0.3999),  # right
            logits_for(0.25, 0.15, 0.6),  # of class 1: third
        ],
        [0, 1, 2, 1],
    )
    assert (tally.images, tally.top(1), tally.top(2), tally.top(5)) == (4, 50, 75, 100)
    logs = [math.log(p) for p in (0.7, 0.2, 0.3999, 0.15)]
    assert tally.loss == pytest.approx(-sum(logs) / 4, abs=1e-6)  # float32 logits
    assert tally.confusion.tolist() == [[1, 0, 0], [1, 0, 1], [0, 0, 1]]
    assert [(c.images, c.guessed, c.right) for c in tally.per_class] == [
        (1, 2, 1), (2, 0, 0), (1, 2, 1),
    ]  # fmt: skip
    assert [c.recall for c in tally.per_class] == [100, 0, 100]
    assert [c.precision for c in tally.per_class] == [50, None, 50]
    # ranges of confidence: 0.7 twice (one right), 0.3999 (right), 0.6 (wrong)
    gaps = 2 * abs(0.5 - 0.7) + abs(1 - 0.3999) + abs(0 - 0.6)
    assert tally.calibration_error == pytest.approx(100 * gaps / 4, abs=1e-5)


@pytest.mark.parametrize("classes", [2, 7, 40])
def test_figures_agree_with_scikit_learn(classes):
    metrics = pytest.importorskip("sklearn.metrics")
    logits, labels = drawn(300, classes)
    tally, truth = tally_of(logits, labels), labels.numpy()
    probabilities = logits.double().softmax(dim=1).numpy()
    guesses, every = probabilities.argmax(axis=1), range(classes)

    assert tally.top(1) == pytest.approx(100 * metrics.accuracy_score(truth, guesses))
    assert tally.loss == pytest.approx(
        metrics.log_loss(truth, probabilities, labels=every), rel=1e-9
    )
    np.testing.assert_array_equal(
        tally.confusion, metrics.confusion_matrix(truth, guesses, labels=every)
    )
    if classes > 5:  # scikit-learn refuses to count the first k of k classes
        top5 = metrics.top_k_accuracy_score(truth, probabilities, k=5, labels=every)
        assert tally.top(5) == pytest.approx(100 * top5)
    recall = metrics.recall_score(truth, guesses, labels=every, average=None, zero_division=np.nan)
    precision = metrics.precision_score(
        truth, guesses, labels=every, average=None, zero_division=np.nan
    )
    for figures in tally.per_class:
        for ours, theirs in (
            (figures.recall, recall[figures.number]),
            (figures.precision, precision[figures.number]),
        ):
            assert math.isnan(theirs) if ours is None else ours == pytest.approx(100 * theirs)
    assert tally.per_class[-1].recall is None  # no picture is of the last class


def test_calibration_follows_the_papers_formula():
    """Equations 2 and 3 of the paper, picture by picture."""
    logits, labels = drawn(500, 6)
    tally = tally_of(logits, labels)
    probabilities = logits.double().softmax(dim=1)
    total = 0.0
    for at in range(BINS):
        chosen = [
            (float(row.max()), int(row.argmax()) == int(label))
            for row, label in zip(probabilities, labels, strict=True)
            if at / BINS < float(row.max()) <= (at + 1) / BINS
        ]
        if chosen:
            confidence = sum(c for c, _ in chosen) / len(chosen)
            accuracy = sum(right for _, right in chosen) / len(chosen)
            total += len(chosen) / 500 * abs(accuracy - confidence)
            assert tally.reliability[at].images == len(chosen)
    assert tally.calibration_error == pytest.approx(100 * total, rel=1e-9)


def test_a_certain_guess_is_in_the_last_range():
    tally = tally_of([[1000.0, 0.0]], [0])
    assert (tally.reliability[-1].images, tally.calibration_error, tally.loss) == (1, 0, 0)


def test_of_equal_logits_the_lower_number_comes_first():
    tally = tally_of(torch.zeros(4, 4), [0, 1, 2, 3])
    assert [tally.top(k) for k in (1, 2, 3, 4)] == [25, 50, 75, 100]
    assert tally.confusion[:, 0].tolist() == [1, 1, 1, 1]


def test_parts_add_up_to_the_whole_exactly():
    logits, labels = drawn(101, 9)
    whole = tally_of(logits, labels)
    for parts in (2, 5, 101):
        pieces = [tally_of(logits[at::parts], labels[at::parts]) for at in range(parts)]
        added = Tally(9)
        for piece in reversed(pieces):
            added += pickle.loads(pickle.dumps(piece))  # as it comes from another process
        assert added == whole
        assert added.figures() == whole.figures()
    assert sum(one.images for one in whole.reliability) == 101
    with pytest.raises(ValueError, match="9 and 4 classes"):
        whole + Tally(4)


def test_a_tally_returns_from_json():
    logits, labels = drawn(50, 5)
    logits[3, 2] = math.nan
    tally = tally_of(logits, labels)
    assert Tally.from_json(json.loads(json.dumps(tally.as_json()))) == tally
    assert Tally.from_json(Tally(3).as_json()) == Tally(3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": 51}, "images are 51, 50 by the pairs"),
        ({"ranks": [[0, 50]]}, "rank 0 are 50"),
        ({"classes": 2}, "not a number of one of 2 classes"),
        ({"bins": []}, "15 ranges"),
        ({"pairs": [[0, 1]]}, "lists of 3 numbers"),
        ({"loss_parts": -1}, "loss_parts must not be negative"),
        ({"more": 1}, "unknown field tally.more"),
    ],
)
def test_json_that_no_tally_wrote_is_refused(change, message):
    raw = tally_of(*drawn(50, 5)).as_json() | change
    with pytest.raises(RecordError, match=message):
        Tally.from_json(raw)


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_logits_that_are_not_finite_are_wrong_and_counted(odd):
    tally = tally_of([[1.0, 0.0], [odd, 1.0]], [0, 1])
    assert (tally.images, tally.top(1), tally.top(2), tally.not_finite.total()) == (2, 50, 50, 1)
    assert tally.per_class[1].recall == 0
    assert tally.loss == pytest.approx(math.log(1 + math.exp(-1)))
    nothing = tally_of([[odd, 1.0]], [0])
    assert (nothing.loss, nothing.calibration_error, nothing.top(1)) == (None, None, 0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_floating_type_is_counted(dtype):
    logits, labels = drawn(20, 4)
    logits = logits.to(dtype)
    assert tally_of(logits, labels) == tally_of(logits.float(), labels)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(B, 4\)"):
        Tally(4).update(torch.zeros(2, 3), torch.zeros(2, dtype=torch.long))
    with pytest.raises(ValueError, match="label 4 is not a class number, 0 to 3"):
        Tally(4).update(torch.zeros(2, 4), torch.tensor([0, 4]))
    with pytest.raises(ValueError, match="no picture was counted"):
        Tally(4).figures()
    empty = Tally(4)
    empty.update(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))
    assert empty == Tally(4)
