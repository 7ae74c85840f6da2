"""The order of pictures: every one once, the same for any division, and the same for ever."""

from __future__ import annotations

import numpy as np
import pytest

from fleetfoot.data.order import Order, permutation


def epoch_of(order: Order, epoch: int) -> np.ndarray:
    first = epoch * order.updates_per_epoch
    updates = range(first, first + order.updates_per_epoch)
    return np.concatenate([order.update(number)[0] for number in updates])


@pytest.mark.parametrize(("examples", "batch"), [(12, 4), (13, 4), (7, 7), (1000, 33)])
@pytest.mark.parametrize("epoch", [0, 1, 5])
def test_an_epoch_sees_every_picture_once_apart_from_the_remainder(examples, batch, epoch):
    order = Order(examples=examples, batch=batch, seed=3)
    seen = epoch_of(order, epoch)
    assert len(seen) == examples - examples % batch
    assert len(set(seen)) == len(seen)
    assert set(seen) <= set(range(examples))


def test_the_remainder_is_another_in_other_epochs():
    order = Order(examples=13, batch=4, seed=3)
    left = {frozenset(range(13)) - frozenset(epoch_of(order, epoch)) for epoch in range(20)}
    assert len(left) > 5


def test_the_order_never_changes():
    """A checkpoint of today must go on in the same order with every later version."""
    assert permutation(10, 0, 0).tolist() == [0, 2, 9, 1, 8, 5, 4, 3, 6, 7]
    assert permutation(10, 42, 7).tolist() == [6, 8, 7, 4, 5, 2, 9, 0, 1, 3]
    pictures, repeats = Order(examples=9, batch=6, seed=1, repeats=3).update(1)
    assert pictures.tolist() == [0, 6, 0, 6, 0, 6]
    assert repeats.tolist() == [0, 0, 1, 1, 2, 2]


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = {permutation(50, seed, epoch).tobytes() for seed in range(4) for epoch in range(4)}
    assert len(orders) == 16


def test_each_picture_comes_to_each_place_equally_often():
    """5 pictures, 3000 epochs: each of the 25 counts is 600 ± 22; 5 deviations are not passed."""
    counts = np.zeros((5, 5))
    for epoch in range(3000):
        counts[np.arange(5), permutation(5, 11, epoch)] += 1
    assert abs(counts - 600).max() < 5 * np.sqrt(3000 * 0.2 * 0.8)


@pytest.mark.parametrize("repeats", [1, 3])
@pytest.mark.parametrize(("world", "parts"), [(1, 1), (1, 3), (2, 1), (2, 3), (4, 3), (12, 1)])
def test_the_shares_of_all_processes_and_parts_are_the_update(world, parts, repeats):
    order = Order(examples=100, batch=24, seed=5, repeats=repeats)
    for number in (0, 3, 4, 17):
        shares = [
            order.part(number, rank=rank, world=world, part=part, parts=parts)
            for rank in range(world)
            for part in range(parts)
        ]
        pictures, numbers = order.update(number)
        assert np.array_equal(np.concatenate([share[0] for share in shares]), pictures)
        assert np.array_equal(np.concatenate([share[1] for share in shares]), numbers)


def test_an_update_far_on_needs_none_before_it():
    order = Order(examples=1000, batch=10, seed=0)
    alone = order.update(100 * 10**9 + 7)
    permutation.cache_clear()
    assert np.array_equal(order.update(100 * 10**9 + 7)[0], alone[0])
    assert order.epoch(100 * 10**9 + 7) == 10**9


def test_repeats_show_a_picture_that_often_and_keep_the_length_of_the_epoch():
    order = Order(examples=90, batch=15, seed=2, repeats=3)
    assert order.updates_per_epoch == 6
    pairs = [
        pair
        for number in range(6)
        for pair in zip(*map(np.ndarray.tolist, order.update(number)), strict=True)
    ]
    assert len(set(pairs)) == 90
    assert set(np.unique([picture for picture, _ in pairs], return_counts=True)[1]) == {3}
    assert len({picture for picture, _ in pairs}) == 30


def test_repeats_take_the_pictures_that_deits_sampler_takes():
    """facebookresearch/deit, samples.py: the shuffled list with each picture three times in a row,
    its first N kept."""
    order = Order(examples=90, batch=15, seed=2, repeats=3)
    theirs = np.repeat(permutation(90, 2, 0), 3)[:90]
    for number in range(6):
        mine = order.update(number)[0]
        assert sorted(mine) == sorted(theirs[15 * number : 15 * number + 15])


@pytest.mark.parametrize(("batch", "repeats"), [(8, 2), (10, 3), (12, 3), (64, 4), (6, 3), (8, 3)])
def test_no_pair_that_may_be_mixed_holds_one_picture_twice(batch, repeats):
    order = Order(examples=400, batch=batch, seed=0, repeats=repeats)
    for number in range(20):
        pictures = order.update(number)[0].reshape(-1, 2)
        assert (pictures[:, 0] != pictures[:, 1]).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"examples": 5}, "set has 5 pictures and an update needs 8; choose a smaller batch"),
        ({"batch": 0}, "batch must be 1 or more, not 0"),
        ({"repeats": 0}, "repeats must be 1 or more, not 0"),
        ({"seed": -1}, "seed must be 0 or more"),
        ({"seed": 2**63}, "seed must be 0 or more and below"),
    ],
)
def test_a_field_out_of_range_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        Order(**{"examples": 100, "batch": 8, "seed": 0} | fields)


def test_a_division_that_does_not_come_out_even_names_the_numbers():
    order = Order(examples=100, batch=8, seed=0)
    with pytest.raises(ValueError, match=r"8 pictures .* 3 processes with 2 .* a multiple of 6"):
        order.part(0, rank=0, world=3, part=0, parts=2)
    with pytest.raises(ValueError, match="rank must be from 0 to 1, not 2"):
        order.part(0, rank=2, world=2)
    with pytest.raises(ValueError, match="part must be from 0 to 0, not 1"):
        order.part(0, rank=0, world=2, part=1)
    with pytest.raises(ValueError, match="there is none with number -1"):
        order.update(-1)
