"""PConv and the T-shaped convolution, counted by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fleetfoot.ops.pconv import PConv, PConvPointwise, TShapedConv
from oracle_macs import macs_of


def doubles(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize(
    ("part", "convolved", "passed"),
    [("first", slice(0, 2), slice(2, 8)), ("last", slice(6, 8), slice(0, 6))],
)
def test_the_other_channels_come_out_as_they_went_in(part, convolved, passed):
    pconv = PConv(8, part=part)
    x = torch.randn(2, 8, 6, 7)
    before = x.clone()
    y = pconv(x)
    assert torch.equal(y[:, passed], x[:, passed])
    torch.testing.assert_close(y[:, convolved], pconv.conv(x[:, convolved]))
    assert not torch.equal(y[:, convolved], x[:, convolved])
    assert torch.equal(x, before), "a PConv in place would write into the shortcut"


def test_a_kernel_of_ones_sums_each_neighbourhood():
    pconv = PConv(4)  # one channel is convolved
    nn.init.ones_(pconv.conv.weight)
    y = pconv(torch.ones(1, 4, 3, 3))
    assert y[0, 0].tolist() == [[4, 6, 4], [6, 9, 6], [4, 6, 4]]
    assert torch.equal(y[0, 1:], torch.ones(3, 3, 3))


@pytest.mark.parametrize(("channels", "ratio", "kernel"), [(40, 4, 3), (32, 2, 5), (24, 8, 3)])
def test_the_work_is_that_of_a_convolution_of_the_part(channels, ratio, kernel):
    part, height, width = channels // ratio, 5, 7
    made = macs_of(PConv(channels, ratio=ratio, kernel=kernel), torch.empty(1, channels, 5, 7))
    assert made.layers == height * width * kernel**2 * part**2
    dense = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, bias=False)
    assert ratio**2 * made.layers == macs_of(dense, torch.empty(1, channels, 5, 7)).layers


def test_the_t_shaped_convolution_equals_the_two_steps():
    pconv = PConv(8, kernel=5).double()
    pointwise = nn.Conv2d(8, 12, 1, bias=False).double()
    x = doubles(2, 8, 6, 7)
    made = TShapedConv.of(pconv, pointwise)
    torch.testing.assert_close(made(x), pointwise(pconv(x)))  # the algebra, so float64


def test_its_kernel_is_a_t():
    made = TShapedConv(8, 6).double()
    kernel = torch.zeros(6, 8, 3, 3, dtype=torch.float64)
    kernel[:, :2] = made.wide.weight  # the bar: 3×3 over the convolved channels
    kernel[:, 2:, 1:2, 1:2] = made.narrow.weight  # the stem: only the centre
    x = doubles(2, 8, 5, 5)
    torch.testing.assert_close(made(x), nn.functional.conv2d(x, kernel, padding=1))


@pytest.mark.parametrize(("channels", "out_channels"), [(40, 80), (64, 64)])
def test_its_work_is_more_than_that_of_the_two_steps(channels, out_channels):
    x = torch.empty(1, channels, 7, 7)
    part = channels // 4
    pconv, pointwise = PConv(channels), nn.Conv2d(channels, out_channels, 1, bias=False)
    one = macs_of(TShapedConv(channels, out_channels), x).layers
    two = macs_of(nn.Sequential(pconv, pointwise), x).layers
    assert one == 49 * (9 * part * out_channels + (channels - part) * out_channels)
    assert two == 49 * (9 * part**2 + channels * out_channels)
    assert two < one


def test_gradients_reach_the_kernel_and_every_channel():
    pconv = PConv(8)
    x = torch.randn(2, 8, 5, 5, requires_grad=True)
    pconv(x).square().sum().backward()
    assert pconv.conv.weight.grad.all()
    assert x.grad.flatten(2).any(2).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 10}, r"channels \(10\) must be divisible by ratio \(4\)"),
        ({"channels": 8, "kernel": 2}, r"kernel \(2\) must be odd"),
        ({"channels": 8, "part": "middle"}, "must be 'first' or 'last', not 'middle'"),
    ],
)
def test_a_pconv_that_cannot_be_is_an_error(options, message):
    with pytest.raises(ValueError, match=message):
        PConv(**options)


@pytest.mark.parametrize(
    ("pconv", "second", "message"),
    [
        (PConv(8, part="last"), nn.Conv2d(8, 8, 1, bias=False), "on the first channels"),
        (PConv(8), nn.Conv2d(8, 8, 3, bias=False), "a dense 1×1 of stride 1"),
        (PConv(8), nn.Conv2d(8, 8, 1, groups=2, bias=False), "a dense 1×1 of stride 1"),
        (PConv(8), nn.Conv2d(8, 8, 1, stride=2, bias=False), "a dense 1×1 of stride 1"),
        (PConv(8), nn.Conv2d(8, 8, 1), "must have no bias"),
    ],
)
def test_what_has_no_t_shaped_equal_is_an_error(pconv, second, message):
    with pytest.raises(ValueError, match=message):
        TShapedConv.of(pconv, second)


def test_a_t_shaped_convolution_checks_its_channels():
    with pytest.raises(ValueError, match=r"channels \(10\) must be divisible by ratio \(4\)"):
        TShapedConv(10, 8)


def test_a_pair_is_the_t_shaped_convolution_of_its_two_steps():
    pair = PConvPointwise(8, 12, kernel=5).double()
    x = doubles(2, 8, 6, 7)
    torch.testing.assert_close(TShapedConv.of(pair.pconv, pair.pointwise)(x), pair(x))


@pytest.mark.parametrize(("stride", "shape"), [(2, (1, 12, 3, 4)), ((1, 2), (1, 12, 5, 4))])
def test_a_pairs_one_by_one_has_the_stride_and_the_convolutions_shape(stride, shape):
    pair = PConvPointwise(8, 12, ratio=2, stride=stride, bias=True)
    x = torch.randn(1, 8, 5, 7)
    assert pair(x).shape == nn.Conv2d(8, 12, 3, stride=stride, padding=1)(x).shape == shape
    assert macs_of(pair, x).layers == 35 * 9 * 4**2 + shape[2] * shape[3] * 8 * 12
