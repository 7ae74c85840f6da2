"""Mixup and cutmix beside timm's: the same values for the same shares and rectangles."""

from __future__ import annotations

import numpy as np
import pytest
import timm.data.mixup
import torch

from fleetfoot.data import mixing
from fleetfoot.data.mixing import apply, draw
from fleetfoot.data.settings import Mix

SIZE = (12, 20)
MIXES = {
    "mixup": Mix(mixup=0.8),
    "cutmix": Mix(cutmix=1.0),
    "both": Mix(mixup=0.2, cutmix=1.0, prob=0.8, switch_prob=0.4),
    "each mixup": Mix(mixup=0.8, mode="elem"),
    "each cutmix": Mix(cutmix=1.0, mode="elem"),
    "each both": Mix(mixup=0.3, cutmix=1.0, prob=0.7, mode="elem"),
}


def drawn(mix: Mix, *, update: int = 0, batch: int = 8, epoch: int = 0, seed: int = 3):
    return draw(mix, seed=seed, update=update, epoch=epoch, batch=batch, size=SIZE)


def batch_of(count: int = 8, dtype=torch.float64):
    return torch.randn(count, 3, *SIZE, dtype=dtype), torch.randint(0, 5, (count,))


def order_of_timm(count: int) -> list[int]:
    """timm mixes position i with the one as far from the end, ours with the neighbour: position 2k
    goes to k, position 2k + 1 to the other end."""
    front = list(range(0, count, 2))
    return front + [place + 1 for place in reversed(front)]


@pytest.mark.parametrize("mix", MIXES.values(), ids=MIXES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_it_equals_timm_for_the_same_shares_and_rectangles(mix, smoothing, monkeypatch):
    order = order_of_timm(8)
    kinds = set()
    for update in range(20):
        draws = drawn(mix, update=update)
        kept, boxes, cut = draws.kept[order], draws.boxes[order], draws.cut[order]
        asked = cut if mix.mode == "elem" else np.ones(8, bool)  # where timm asks for a rectangle
        given = iter([(tuple(boxes[at]), kept[at]) for at in np.flatnonzero(asked & (kept != 1))])
        theirs = timm.data.Mixup(
            mixup_alpha=1.0, mode=mix.mode, label_smoothing=smoothing, num_classes=5
        )
        monkeypatch.setattr(theirs, "_params_per_batch", lambda k=kept, c=cut: (k[0], c[0]))
        monkeypatch.setattr(theirs, "_params_per_elem", lambda n, k=kept, c=cut: (k.copy(), c))
        monkeypatch.setattr(
            timm.data.mixup, "cutmix_bbox_and_lam", lambda *_, given=given, **__: next(given)
        )
        pixels, labels = batch_of()
        expected, expected_targets = theirs(pixels[order].clone(), labels[order])
        soft = mixing.targets(labels, 5, smoothing=smoothing)
        ours, our_targets = apply(draws, pixels.clone(), soft)
        # float64 pixels differ by rounding at most; timm keeps its targets in float32
        torch.testing.assert_close(ours[order], expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(
            our_targets[order].double(), expected_targets.double(), rtol=0, atol=1e-6
        )
        kinds |= {
            "cut" if c else "mixed" if k != 1 else "kept" for k, c in zip(kept, cut, strict=True)
        }
    wanted = {"cut": mix.cutmix > 0, "mixed": mix.mixup > 0, "kept": mix.prob < 1}
    assert kinds == {kind for kind, comes in wanted.items() if comes}


@pytest.mark.parametrize("size", [(12, 20), (7, 7), (224, 224)])
def test_rectangles_are_timms_for_the_same_share_and_centre(size, monkeypatch):
    for kept in (0.0, 0.1, 0.5, 0.77, 0.999, 1.0):
        for place in np.random.default_rng(0).random((20, 2)):
            centre = iter((place * size).astype(int))
            monkeypatch.setattr(np.random, "randint", lambda *_, centre=centre, **__: next(centre))
            theirs = timm.data.mixup.rand_bbox((3, *size), kept)
            (ours,) = mixing.boxes_of(np.array([kept]), place[None], size)
            assert ours.tolist() == [int(edge) for edge in theirs]


def test_the_shares_have_timms_distribution():
    """Mean and spread of Beta(α, α), 1/2 and 1/(8α + 4); cutmix's share is what its rectangle
    leaves."""
    for alpha in (0.2, 1.0):
        kept = drawn(Mix(mixup=alpha, mode="elem"), batch=20_000).kept
        assert abs(kept.mean() - 0.5) < 5 * (1 / (8 * alpha + 4) / 20_000) ** 0.5
        assert kept.var() == pytest.approx(1 / (8 * alpha + 4), rel=0.05)
    draws = drawn(Mix(cutmix=1.0, mode="elem"), batch=200)
    areas = (draws.boxes[:, 1] - draws.boxes[:, 0]) * (draws.boxes[:, 3] - draws.boxes[:, 2])
    assert np.array_equal(draws.kept, 1 - areas / (SIZE[0] * SIZE[1]))
    assert draws.cut.all()


def test_probabilities_are_kept():
    draws = drawn(Mix(mixup=1.0, cutmix=1.0, prob=0.8, switch_prob=0.25, mode="elem"), batch=10_000)
    mixed = draws.cut | (draws.kept != 1)
    assert abs(mixed.mean() - 0.8) < 5 * (0.8 * 0.2 / 10_000) ** 0.5
    assert abs(draws.cut.mean() - 0.2) < 5 * (0.2 * 0.8 / 10_000) ** 0.5


@pytest.mark.parametrize("mix", MIXES.values(), ids=MIXES)
def test_the_parts_of_an_update_are_mixed_as_the_whole(mix):
    for update in range(5):
        draws = drawn(mix, update=update)
        pixels, labels = batch_of()
        soft = mixing.targets(labels, 5)
        whole = apply(draws, pixels.clone(), soft)
        for size in (2, 4):
            parts = [
                apply(draws, pixels[at : at + size].clone(), soft[at : at + size], first=at)
                for at in range(0, 8, size)
            ]
            for one, together in zip(zip(*parts, strict=True), whole, strict=True):
                assert torch.equal(torch.cat(one), together)


def test_the_draws_never_change():
    """A checkpoint of today must be mixed in the same way by every later version."""
    draws = drawn(Mix(mixup=0.8, cutmix=1.0, mode="elem"), batch=4, update=7, seed=42)
    # the last bits of a beta draw are the C library\'s
    assert draws.kept.tolist() == pytest.approx(
        [
            0.9907489970383618,
            0.025878130257416743,
            0.7333333333333334,
            0.2568559469738393,
        ],
        rel=1e-12,
    )
    assert draws.boxes.tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 8, 0, 8], [0, 0, 0, 0]]


def test_draws_follow_from_seed_and_update():
    mix = Mix(mixup=0.8)
    draws = {(s, u): drawn(mix, seed=s, update=u).kept[0] for s in range(3) for u in range(3)}
    assert len(set(draws.values())) == 9
    np.random.seed(5)
    assert drawn(mix, seed=1, update=2).kept[0] == draws[1, 2]


def test_nothing_is_mixed_when_it_is_off_or_over():
    pixels, labels = batch_of(7)
    soft = mixing.targets(labels, 5)
    over = Mix(mixup=0.8, until=3)
    for mix, epoch in ((Mix(), 0), (Mix(mixup=0.8, prob=0.0), 0), (over, 3), (over, 9)):
        draws = drawn(mix, batch=7, epoch=epoch)
        assert not draws.mixes
        same, targets = apply(draws, pixels, soft)
        assert same is pixels
        assert targets is soft
    assert drawn(over, epoch=2).mixes


def test_targets_are_timms():
    labels = torch.tensor([0, 4, 2])
    for smoothing in (0.0, 0.1):
        theirs = timm.data.mixup.mixup_target(labels, 5, smoothing=smoothing)
        assert torch.equal(mixing.targets(labels, 5, smoothing=smoothing), theirs)


def test_in_float32_whole_batches_equal_timm_bit_for_bit(monkeypatch):
    order = order_of_timm(8)
    for update in range(10):
        draws = drawn(MIXES["both"], update=update)
        theirs = timm.data.Mixup(label_smoothing=0.1, num_classes=5)
        chosen = draws.kept[0], draws.cut[0]
        monkeypatch.setattr(theirs, "_params_per_batch", lambda chosen=chosen: chosen)
        box = tuple(draws.boxes[0]), draws.kept[0]
        monkeypatch.setattr(timm.data.mixup, "cutmix_bbox_and_lam", lambda *_, box=box, **__: box)
        pixels, labels = batch_of(dtype=torch.float32)
        expected, targets = theirs(pixels[order].clone(), labels[order])
        ours, our_targets = apply(draws, pixels, mixing.targets(labels, 5, smoothing=0.1))
        assert torch.equal(ours[order], expected)
        assert torch.equal(our_targets[order], targets)


def test_what_cannot_be_paired_is_named():
    with pytest.raises(ValueError, match="must be even, not 7"):
        drawn(Mix(mixup=0.8), batch=7)
    draws = drawn(Mix(mixup=0.8), batch=6)
    pixels, labels = batch_of(3)
    soft = mixing.targets(labels, 5)
    with pytest.raises(ValueError, match="must be even, not 3 pictures from position 3"):
        apply(draws, pixels, soft, first=3)
    with pytest.raises(ValueError, match="an update of 6 pictures has no positions"):
        apply(draws, pixels, soft, first=4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mixup": -0.1}, "mixup is the alpha of a beta distribution, 0 or more, not -0.1"),
        ({"cutmix": -1}, "cutmix is the alpha"),
        ({"prob": 1.1}, "prob is a share from 0 to 1, not 1.1"),
        ({"switch_prob": -1}, "switch_prob is a share"),
        ({"mode": "pair"}, "mode must be batch or elem, not 'pair'"),
    ],
)
def test_a_setting_out_of_range_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        mixing.check(Mix(**fields))
