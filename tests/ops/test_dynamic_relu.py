"""The ReLU whose slopes a token decides: its start, its formula, its bounds."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from fleetfoot.ops.dynamic_relu import TokenReLU


@torch.no_grad()
def test_with_no_say_of_the_token_it_is_the_plain_relu():
    layer = TokenReLU(6, 8)
    layer.expand.weight.zero_()
    layer.expand.bias.zero_()
    x = torch.randn(2, 6, 3, 5)
    assert torch.equal(layer(x, torch.randn(2, 8)), x.relu())


@torch.no_grad()
def test_each_sample_and_channel_has_its_two_slopes():
    layer = TokenReLU(3, 8).double()
    x, token = torch.randn(2, 3, 4, 5).double(), torch.randn(2, 8).double()
    scores = F.linear(F.relu(F.linear(token, layer.reduce.weight, layer.reduce.bias)),
                      layer.expand.weight, layer.expand.bias)  # fmt: skip
    theta = (scores + 3).clamp(0, 6) / 6
    for b in range(2):
        for c in range(3):
            # the paper's alpha (1, 0) and lambda (1, 1) about them, theta from -1 to 1
            first = (1 + (2 * theta[b, c] - 1)) * x[b, c]
            second = (2 * theta[b, 3 + c] - 1) * x[b, c]
            torch.testing.assert_close(layer(x, token)[b, c], torch.maximum(first, second))


@torch.no_grad()
def test_its_slopes_are_bounded():
    layer = TokenReLU(1, 4)
    layer.expand.weight.zero_()
    x = torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1)
    for bias, expected in (((9.0, 9.0), [-1.0, 2.0]), ((-9.0, -9.0), [1.0, 0.0])):
        layer.expand.bias.copy_(torch.tensor(bias))
        assert layer(x, torch.zeros(2, 4)).flatten().tolist() == expected
