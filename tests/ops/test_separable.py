"""The MobileNets' blocks against their definition, written out, and against the cost they claim."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fleetfoot.ops.conv import conv_norm_act
from fleetfoot.ops.separable import DepthwiseSeparable, InvertedResidual, initialise_, squeezed
from helpers import trained_


def normed(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """Eval-mode batch norm from its formula."""

    def across(v: Tensor) -> Tensor:
        return v[:, None, None]

    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return (x - across(norm.running_mean)) * across(scale) + across(norm.bias)


def filtered(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """A depthwise convolution as one small convolution a channel."""
    each = [
        F.conv2d(x[:, i : i + 1], weight[i : i + 1], stride=stride, padding=weight.shape[-1] // 2)
        for i in range(x.shape[1])
    ]
    return torch.cat(each, dim=1)


def mixed(x: Tensor, weight: Tensor) -> Tensor:
    """A 1×1 convolution as the matrix product that it is."""
    return torch.einsum("oc,bchw->bohw", weight[:, :, 0, 0], x)


def image(channels: int, size: int = 9) -> Tensor:
    return torch.randn(2, channels, size, size, dtype=torch.float64)


@pytest.mark.parametrize("stride", [1, 2])
@torch.no_grad()
def test_a_separable_block_is_a_filter_a_channel_and_a_product_across_them(stride):
    block = trained_(DepthwiseSeparable(6, 10, stride=stride)).double().eval()
    x = image(6)
    depth, point = block.depthwise, block.pointwise
    expected = torch.relu(normed(filtered(x, depth[0].weight, stride), depth[1]))
    expected = torch.relu(normed(mixed(expected, point[0].weight), point[1]))
    torch.testing.assert_close(block(x), expected)  # float64's own tolerance: the algebra is tested


@pytest.mark.parametrize(("channels", "out"), [(32, 64), (512, 512), (8, 24)])
def test_a_separable_block_costs_a_nth_and_a_ninth_of_the_plain_convolution(channels, out):
    block = DepthwiseSeparable(channels, out)
    plain = nn.Conv2d(channels, out, 3, padding=1, bias=False)
    # at stride 1 each weight is used once a pixel, so the weights stand for the multiply-adds
    weights = block.depthwise[0].weight.numel() + block.pointwise[0].weight.numel()
    assert weights / plain.weight.numel() == pytest.approx(1 / out + 1 / 9)


@pytest.mark.parametrize(
    ("expanded", "out", "kernel", "stride", "reduced"),
    [
        (36, 6, 3, 1, 0),  # with a shortcut
        (36, 6, 3, 2, 0),
        (36, 8, 3, 1, 0),
        (6, 6, 3, 1, 0),  # nothing to widen
        (18, 6, 5, 1, 8),  # with squeeze-excite
        (6, 10, 5, 2, 8),
    ],
)
@torch.no_grad()
def test_an_inverted_residual_is_widen_filter_gate_narrow_add(
    expanded, out, kernel, stride, reduced
):
    brick = partial(conv_norm_act, act="hard_swish", eps=1e-3)
    block = InvertedResidual(
        6, expanded, out, kernel=kernel, stride=stride, reduced=reduced, brick=brick
    )
    trained_(block).double().eval()
    x = image(6)
    y = x
    if expanded != 6:
        y = F.hardswish(normed(mixed(y, block.expand[0].weight), block.expand[1]))
    y = filtered(y, block.depthwise[0].weight, stride)
    y = F.hardswish(normed(y, block.depthwise[1]))
    if reduced:
        se = block.squeeze_excite
        mean = y.mean((2, 3), keepdim=True)
        inner = torch.relu(mixed(mean, se.reduce.weight) + se.reduce.bias[:, None, None])
        outer = mixed(inner, se.expand.weight) + se.expand.bias[:, None, None]
        y = y * (outer + 3).clamp(0, 6) / 6
    y = normed(mixed(y, block.project[0].weight), block.project[1])
    if stride == 1 and out == 6:
        y = y + x
    torch.testing.assert_close(block(x), y)


@pytest.mark.parametrize(
    ("out", "stride", "shortcut"), [(8, 1, True), (8, 2, False), (16, 1, False), (16, 2, False)]
)
def test_the_shortcut_is_there_only_at_stride_1_with_equal_channels(out, stride, shortcut):
    block = InvertedResidual(8, 48, out, stride=stride).eval()
    nn.init.zeros_(block.project[1].weight)  # the branch answers 0, so only a shortcut is left
    x = torch.randn(1, 8, 6, 6)
    with torch.no_grad():
        left = block(x)
    assert block.shortcut == shortcut
    assert torch.equal(left, x if shortcut else torch.zeros_like(left))


def test_a_dropped_branch_leaves_the_shortcut():
    block = InvertedResidual(8, 48, 8, drop_path=0.5)
    x = torch.randn(64, 8, 4, 4)
    with torch.no_grad():
        kept = (block(x) != x).flatten(1).any(1)
    assert 16 < kept.sum() < 48  # 64 throws of a coin: outside with a probability of 3e-5


def test_a_drop_path_rate_is_checked_even_where_there_is_no_shortcut():
    assert isinstance(InvertedResidual(8, 48, 16, drop_path=0.5).drop_path, nn.Identity)
    with pytest.raises(ValueError, match=r"drop path rate must be in \[0, 1\), not 1\.5"):
        InvertedResidual(8, 48, 16, drop_path=1.5)


@pytest.mark.parametrize(("expanded", "reduced"), [(72, 24), (120, 32), (16, 8), (960, 240)])
def test_the_squeeze_is_a_quarter_of_the_expansion_rounded(expanded, reduced):
    assert squeezed(expanded) == reduced  # 72 / 4 = 18: 16 would be more than 10 % below


def test_a_fresh_network_keeps_the_size_of_what_passes_through_it():
    torch.manual_seed(1)
    convs = [nn.Conv2d(256, 256, 3, padding=1, groups=256), nn.Conv2d(256, 256, 1)]
    for conv in convs:
        conv.apply(initialise_)
        x = torch.relu(torch.randn(1, 256, 32, 32))
        # variance 2 over the fan undoes the half that a ReLU takes; three sigma of 256 drawn
        # kernels are 11 %, and the zeros beyond the edges take 4 %
        assert conv(x).pow(2).mean().item() == pytest.approx(2 * x.pow(2).mean().item(), rel=0.15)
        assert not conv.bias.any()
