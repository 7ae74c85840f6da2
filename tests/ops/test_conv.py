"""Convolutions against plain torch, counted cases, and TensorFlow's padding as timm has it."""

from __future__ import annotations

import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import nn

from fleetfoot.ops.conv import SamePadConv2d, conv2d, conv_norm_act, make_divisible


def counted(conv: nn.Conv2d, height: int, width: int) -> torch.Tensor:
    """What an all-ones kernel answers on the image 1, 2, 3, ...; every value is a sum of pixels."""
    nn.init.ones_(conv.weight)
    image = torch.arange(1.0, height * width + 1).view(1, 1, height, width)
    with torch.no_grad():
        return conv(image)[0, 0]


def test_same_padding_of_a_5x5_image_at_stride_2_by_hand():
    # 5 -> 3 outputs, whose windows span 7 pixels: 2 to pad, one on each side
    out = counted(SamePadConv2d(1, 1, 3, stride=2, bias=False), 5, 5)
    #  1  2  3  4  5
    #  6  7  8  9 10      corner: 1 + 2 + 6 + 7 = 16; top middle: 2 + 3 + 4 + 7 + 8 + 9 = 33
    # 11 12 13 14 15      centre: 9 * 13 = 117
    # 16 17 18 19 20
    # 21 22 23 24 25
    expected = [[16.0, 33.0, 28.0], [69.0, 117.0, 87.0], [76.0, 123.0, 88.0]]
    assert out.tolist() == expected


def test_same_padding_of_an_even_image_at_stride_2_pads_the_right_and_the_bottom_only():
    #  1  2  3  4
    #  5  6  7  8
    #  9 10 11 12
    # 13 14 15 16
    out = counted(SamePadConv2d(1, 1, 3, stride=2, bias=False), 4, 4)
    assert out.tolist() == [[54.0, 45.0], [72.0, 54.0]]  # 1+2+3+5+6+7+9+10+11 = 54: no padding
    symmetric = counted(conv2d(1, 1, 3, stride=2), 4, 4)
    assert symmetric.tolist() == [[14.0, 30.0], [57.0, 99.0]]  # 1+2+5+6 = 14: padded left and top


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("size", [(8, 8), (7, 7), (9, 6), (5, 1)])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 2), (2, 1), (3, 1), (3, 2), (5, 2), (5, 3)])
def test_same_padding_equals_timms(kernel, stride, size, groups):
    ours = SamePadConv2d(4, 8, kernel, stride=stride, groups=groups)
    theirs = Conv2dSame(4, 8, kernel, stride=stride, groups=groups)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 4, *size)
    out = ours(x)
    assert torch.equal(out, theirs(x))
    assert out.shape[2:] == tuple(-(-n // stride) for n in size)


def test_same_padding_knows_dilation_and_unequal_sides():
    ours = SamePadConv2d(2, 2, (3, 5), stride=(2, 1), dilation=(2, 1))
    theirs = Conv2dSame(2, 2, (3, 5), stride=(2, 1), dilation=(2, 1))
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(1, 2, 10, 11)
    assert torch.equal(ours(x), theirs(x))


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (1, 2), (3, 1), (5, 1), (3, 2), (2, 1)])
@pytest.mark.parametrize("size", [8, 9])
def test_the_padding_by_name_is_the_padding_however_the_convolution_is_made(kernel, stride, size):
    made = conv2d(3, 6, kernel, stride=stride, padding="same")
    always = SamePadConv2d(3, 6, kernel, stride=stride, bias=False)
    always.load_state_dict(made.state_dict())
    x = torch.randn(1, 3, size, size)
    # the same sums; where the padding is written into the convolution torch may order them anew
    torch.testing.assert_close(made(x), always(x), rtol=1e-5, atol=1e-6)
    assert isinstance(made, SamePadConv2d) == ((kernel, stride) in [(3, 2), (2, 1)])


def test_a_symmetric_convolution_is_torchs():
    conv = conv2d(4, 8, 3, stride=2, groups=2, bias=True)
    plain = nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2)
    plain.load_state_dict(conv.state_dict())
    x = torch.randn(1, 4, 9, 9)
    assert torch.equal(conv(x), plain(x))
    assert conv2d(4, 8).bias is None


@pytest.mark.parametrize(("stride", "size"), [(1, 9), (2, 5)])
def test_a_brick_is_convolution_norm_activation(stride, size):
    brick = conv_norm_act(4, 8, 3, stride=stride, act="relu6", eps=0.5, momentum=0.25).eval()
    x = torch.randn(1, 4, 9, 9) * 10
    scaled = brick[0](x) / (1 + 0.5) ** 0.5  # a fresh norm: mean 0, variance 1
    torch.testing.assert_close(brick(x), scaled.clamp(0, 6))
    assert brick(x).shape == (1, 8, size, size)
    assert brick[1].momentum == 0.25
    assert [key for key, _ in brick.named_parameters()] == ["0.weight", "1.weight", "1.bias"]


def test_a_brick_with_no_activation_is_linear():
    brick = conv_norm_act(4, 8, act="identity").eval()
    assert len(brick) == 2
    x = torch.randn(1, 4, 3, 3)
    torch.testing.assert_close(brick(-2 * x), -2 * brick(x))


@pytest.mark.parametrize(
    ("channels", "divisor", "expected"),
    [
        (32, 8, 32),
        (11, 8, 16),  # the nearest is 8, more than 10 % below
        (35, 8, 32),  # the nearest, and 32 > 31.5
        (36, 8, 40),  # halfway goes up
        (18, 8, 24),  # the nearest is 16, and 16 < 16.2
        (17, 8, 16),  # 16 > 15.3
        (1, 8, 8),  # never 0
        (134.4, 8, 136),  # 96 * 1.4
        (11.2, 8, 16),  # 32 * 0.35
        (3.2, 4, 4),
        (9.6, 4, 12),  # 96 * 0.1: the nearest is 8, and 8 < 8.64
        (7, 1, 7),
    ],
)
def test_widths_are_rounded_to_the_nearest_multiple_never_ten_percent_down(
    channels, divisor, expected
):
    assert make_divisible(channels, divisor) == expected


def test_groups_that_do_not_divide_are_named():
    with pytest.raises(ValueError, match=r"groups \(3\) must divide in_channels \(4\)"):
        conv2d(4, 6, 3, groups=3)


@pytest.mark.parametrize("kernel", [1, 3])
def test_an_unknown_padding_is_named(kernel):
    with pytest.raises(ValueError, match="padding must be 'symmetric' or 'same', not 'valid'"):
        conv2d(4, 6, kernel, padding="valid")
