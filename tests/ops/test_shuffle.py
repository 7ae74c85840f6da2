from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from fleetfoot.ops.shuffle import (
    ChannelShuffle,
    channel_shuffle,
    channel_split,
    channel_unshuffle,
)

SHAPES = [(6, 2), (6, 3), (12, 4), (60, 3), (116, 2), (96, 8), (5, 1), (5, 5)]


def numbered(channels: int) -> torch.Tensor:
    """A map of one pixel whose value is the number of its channel."""
    return torch.arange(channels).reshape(1, channels, 1, 1)


def order(x: torch.Tensor) -> list[int]:
    return x[0, :, 0, 0].tolist()


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (2, [0, 3, 1, 4, 2, 5]),  # 0 1 2 / 3 4 5 read by columns
        (3, [0, 2, 4, 1, 3, 5]),  # 0 1 / 2 3 / 4 5 read by columns
    ],
)
def test_shuffle_of_six_channels_counted_by_hand(groups, expected):
    assert order(channel_shuffle(numbered(6), groups)) == expected


def test_unshuffle_of_six_channels_counted_by_hand():
    assert order(channel_unshuffle(numbered(6), 2)) == [0, 2, 4, 1, 3, 5]


@pytest.mark.parametrize(("channels", "groups"), SHAPES)
def test_unshuffle_undoes_shuffle(channels, groups):
    x = torch.randn(2, channels, 3, 5)
    assert torch.equal(channel_unshuffle(channel_shuffle(x, groups), groups), x)
    assert torch.equal(channel_shuffle(channel_unshuffle(x, groups), groups), x)


@pytest.mark.parametrize(("channels", "groups"), SHAPES)
def test_unshuffle_is_a_shuffle_of_the_other_factor(channels, groups):
    x = torch.randn(2, channels, 3, 5)
    assert torch.equal(channel_unshuffle(x, groups), channel_shuffle(x, channels // groups))


@pytest.mark.parametrize(("channels", "groups"), SHAPES)
def test_shuffle_is_torchs(channels, groups):
    x = torch.randn(2, channels, 3, 5)
    assert torch.equal(channel_shuffle(x, groups), F.channel_shuffle(x, groups))


def test_every_group_hears_of_every_group():
    came_from = channel_shuffle(numbered(60), 3).flatten() // 20  # group of each channel before
    assert all(set(group.tolist()) == {0, 1, 2} for group in came_from.chunk(3))


def test_the_authors_split_is_the_halves_of_an_unshuffle():
    x = torch.randn(2, 116, 3, 5)
    for ours, half in zip(channel_split(x), channel_unshuffle(x, 2).chunk(2, dim=1), strict=True):
        assert torch.equal(ours, half)


def test_the_authors_split_undoes_torchvisions_shuffle():
    x = torch.randn(2, 116, 3, 5)
    shuffled = channel_shuffle(x, 2)
    for ours, half in zip(channel_split(shuffled), x.chunk(2, dim=1), strict=True):
        assert torch.equal(ours, half)


@pytest.mark.parametrize("groups", [0, 4])
def test_a_layer_whose_groups_do_not_divide_is_refused(groups):
    with pytest.raises(ValueError, match=rf"groups \({groups}\) must divide channels \(6\)"):
        ChannelShuffle(6, groups)


def test_a_shuffle_whose_groups_do_not_divide_is_refused():
    with pytest.raises(RuntimeError, match="dim 1"):
        channel_shuffle(torch.randn(1, 6, 2, 2), 4)


def test_the_layer_is_the_function_and_keeps_the_layout_of_batch_and_space():
    x = torch.randn(3, 6, 4, 2)
    assert torch.equal(ChannelShuffle(6, 3)(x), x[:, [0, 2, 4, 1, 3, 5]])
