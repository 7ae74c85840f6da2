"""Dynamic Shift-Max: its formula channel by channel, its start, and the circular shift by hand."""

from __future__ import annotations

import pytest
import torch

from fleetfoot.ops.shift_max import DynamicShiftMax, circular_shift


def test_the_shift_of_two_groups_of_three_by_hand():
    x = torch.arange(6.0).reshape(1, 6, 1, 1)
    assert circular_shift(x, 2).flatten().tolist() == [4, 5, 3, 1, 2, 0]
    assert circular_shift(x, 1).flatten().tolist() == [1, 2, 3, 4, 5, 0]
    assert circular_shift(x, 6).flatten().tolist() == [1, 2, 3, 4, 5, 0]


@pytest.mark.parametrize(("own", "shifted"), [((1.0, 0.5), (0.0, 0.5)), ((1.0,), (0.0,))])
@torch.no_grad()
def test_it_is_its_formula(own, shifted):
    layer = DynamicShiftMax(6, 4, groups=2, own=own, shifted=shifted).double()
    x = torch.randn(2, 6, 3, 5, dtype=torch.float64)
    hidden = layer.reduce(x.mean((2, 3), keepdim=True)).relu()
    moves = 4 * (layer.expand(hidden) + 3).clamp(0, 6) / 6 - 2  # (B, 2 K C, 1, 1)
    expected = torch.empty_like(x)
    for b in range(2):
        for c in range(6):
            other = (c // 3 + 1) % 2 * 3 + (c % 3 + 1) % 3
            mixtures = [
                x[b, c] * (own[k] + moves[b, 12 * k + c])
                + x[b, other] * (shifted[k] + moves[b, 12 * k + 6 + c])
                for k in range(len(own))
            ]
            expected[b, c] = torch.stack(mixtures).amax(0)
    torch.testing.assert_close(layer(x), expected)


@torch.no_grad()
def test_with_shares_that_do_not_move_it_is_a_leaky_relu():
    layer = DynamicShiftMax(4, 4, groups=2, own=(1.0, 0.5), shifted=(0.0, 0.0))
    layer.expand.weight.zero_()
    layer.expand.bias.zero_()
    x = torch.randn(1, 4, 3, 3)
    assert torch.equal(layer(x), torch.nn.functional.leaky_relu(x, 0.5))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": 4}, r"groups \(4\) must divide channels \(6\)"),
        ({"own": (1.0, 1.0)}, "1 or 2 mixtures; they have 2 and 1"),
        ({"own": (), "shifted": ()}, "1 or 2 mixtures; they have 0 and 0"),
    ],
)
def test_what_it_cannot_be_is_an_error(options, message):
    with pytest.raises(ValueError, match=message):
        DynamicShiftMax(6, 4, **{"groups": 2, "own": (1.0,), "shifted": (0.0,), **options})
