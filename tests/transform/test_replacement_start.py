"""What a PConv and its 1×1 begin with: the 1×1 that already follows, or a fit to the old
kernel."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fleetfoot.models import create_model
from fleetfoot.ops.pconv import PConv, PConvPointwise
from fleetfoot.transform import SwapOptions, swap
from helpers import trained_
from swaps_by_hand import IMAGE, separable, swapped, swapped_double

# --- a depthwise convolution and its own 1×1


@pytest.mark.parametrize("between", [(), (nn.Identity(), nn.Dropout(0.1)), (nn.BatchNorm2d(8),)])
def test_a_one_by_one_right_behind_serves_as_the_pairs(between):
    model = trained_(separable(*between))
    done = swapped(model, which="depthwise")
    (row,) = done.replaced

    assert isinstance(done.model[0], PConv)
    assert row.pointwise == str(len(between) + 1)
    assert row.now == "PConv 3×3 2/8, own 1×1"
    assert torch.equal(done.model[-1].weight, model[-1].weight)
    assert done.new == ("0.conv.weight",)


@pytest.mark.parametrize(
    "between", [nn.ReLU(), nn.Conv2d(8, 8, 1, groups=2), nn.AvgPool2d(3, 1, 1), nn.ZeroPad2d(0)]
)
def test_anything_else_between_gets_a_pair_of_its_own(between):
    (row,) = swapped(separable(between), which="depthwise").replaced

    assert row.pointwise == "new"


def test_own_uses_the_one_by_one_behind_norm_and_activation_and_says_what_stands_between():
    model = separable(nn.BatchNorm2d(8), nn.ReLU6())
    (row,) = swapped(model, which="depthwise", pointwise="own").replaced
    assert row.pointwise == "3"
    assert row.between == ("BatchNorm2d", "ReLU6")

    (paper,) = swapped(model, which="depthwise").replaced
    assert paper.pointwise == "new"
    assert paper.between == ()


def test_a_one_by_one_that_is_not_the_only_reader_is_not_used():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = separable()

        def forward(self, x):
            mixed = self.part[0](x)
            return self.part[1](mixed).mean() + mixed

    (row,) = swapped(Both(), which="depthwise").replaced
    assert row.pointwise == "new"


def test_a_depthwise_convolution_in_two_places_gets_a_pair():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = separable()
            self.again = self.part[0]

        def forward(self, x):
            return self.part(x).mean() + (self.again(x) if float(x.sum()) == 0 else x)

    (row,) = swapped(Twice(), which="depthwise").replaced
    assert row.pointwise == "new"


def test_a_dropped_bias_is_said():
    (row,) = swapped(separable(bias=True), which="depthwise").replaced
    assert row.now == "PConv 3×3 2/8, own 1×1, without the bias"


def test_a_separable_part_within_code_that_cannot_be_followed_is_found():
    class Opaque(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = separable(nn.BatchNorm2d(8))

        def forward(self, x):
            return self.part(x) if float(x.sum()) == 0 else x

    (row,) = swapped(Opaque(), which="depthwise").replaced
    assert row.pointwise == "part.2"


def test_shufflenet_v2_has_its_own_one_by_ones():
    done = swap(create_model("shufflenet_v2_x1_0"), IMAGE, SwapOptions(which="depthwise"))

    assert {row.between for row in done.replaced} == {("BatchNorm2d",)}
    assert all(
        row.pointwise == row.path.replace("main.depthwise", "main.last") for row in done.replaced
    )
    assert "its 58 channels are not divisible by ratio 4; 1 and 2 divide them" in done.summary()


# --- the start


def test_fit_finds_the_kernel_that_a_pair_can_hold():
    torch.manual_seed(1)
    pair = PConvPointwise(8, 12, bias=True).double()
    conv = nn.Conv2d(8, 12, 3, padding=1).double()
    with torch.no_grad():
        conv.weight.zero_()
        conv.weight[:, 2:, 1, 1] = pair.pointwise.weight[:, 2:, 0, 0]
        conv.weight[:, :2] = torch.einsum(
            "op,pckl->ockl", pair.pointwise.weight[:, :2, 0, 0], pair.pconv.conv.weight
        )
    done = swapped_double(conv, init="fit")
    x = torch.randn(2, 8, 6, 7, dtype=torch.float64)

    assert done.replaced[0].fit_error < 1e-7  # the square root of float64's rounding
    torch.testing.assert_close(done.model[0](x), conv(x))


@pytest.mark.parametrize(("groups", "out_channels"), [(1, 8), (1, 1), (2, 8), (4, 8), (8, 8)])
def test_no_pair_is_nearer_than_the_fit(groups, out_channels):
    """The stated distance is that of the dense kernels; a step of gradient descent finds no
    nearer one."""
    conv = nn.Conv2d(8, out_channels, 3, padding=1, groups=groups if out_channels > 1 else 1)
    conv.double()
    done = swapped_double(conv, init="fit")
    pair = done.model[0]
    delta = torch.eye(8, dtype=torch.float64)[:, :, None, None]
    impulse = nn.functional.pad(delta, (2, 2, 2, 2))  # the answers to it are the kernels

    def distance() -> torch.Tensor:
        with torch.no_grad():
            wanted = conv(impulse) - conv.bias.view(1, -1, 1, 1)
        made = pair(impulse) - pair.pointwise.bias.view(1, -1, 1, 1)
        return (made - wanted).square().sum().sqrt() / wanted.square().sum().sqrt()

    found = distance()
    assert found.item() == pytest.approx(done.replaced[0].fit_error, abs=1e-7)
    if found > 1e-6:
        found.backward()
        largest = max(p.grad.abs().max().item() for p in pair.parameters() if p.grad is not None)
        assert largest < 1e-6


def test_fit_with_its_own_one_by_one_takes_the_depthwise_kernels():
    model = separable().double()
    done = swap(model, torch.zeros(1, 8, 6, 6, dtype=torch.float64), SwapOptions(init="fit"))
    x = torch.randn(2, 8, 6, 7, dtype=torch.float64)

    torch.testing.assert_close(done.model[0](x)[:, :2], model[0](x)[:, :2] - bias(model[0], 2))
    kernels = model[0].weight.detach().clone()
    size = kernels.square().sum()
    kernels[:2] = 0
    kernels[2:, :, 1, 1] -= 1  # the others are handed on
    assert done.replaced[0].fit_error == pytest.approx((kernels.square().sum() / size).sqrt())


def bias(conv: nn.Conv2d, channels: int) -> torch.Tensor | float:
    return 0.0 if conv.bias is None else conv.bias[:channels].view(1, -1, 1, 1)
