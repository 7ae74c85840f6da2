"""One batch norm and the layer beside it."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from fleetfoot.errors import FoldError
from fleetfoot.ops.conv import SamePadConv2d
from fleetfoot.transform import fold_batchnorm
from fleetfoot.transform.fold import affine_of, fold_before_
from helpers import trained_

# float64: these test the algebra. A convolution of at most 7 * 7 * 12 terms near 1 is rounded by
# some 1e-15 a term.
CLOSE = {"rtol": 1e-11, "atol": 1e-12}


def double(module: nn.Module, seed: int = 0) -> nn.Module:
    return trained_(module, seed).double().eval()


@st.composite
def convolutions(draw) -> nn.Conv2d:
    groups = draw(st.sampled_from([1, 2, 3, 6]))
    return nn.Conv2d(
        6 * draw(st.integers(1, 2)),
        6 * draw(st.integers(1, 2)),
        draw(st.sampled_from([1, 3, 5, 7])),
        stride=draw(st.integers(1, 3)),
        padding=draw(st.integers(0, 3)),
        dilation=draw(st.integers(1, 2)),
        groups=groups,
        bias=draw(st.booleans()),
        padding_mode=draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"])),
    )


@given(conv=convolutions(), affine=st.booleans(), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_folding_a_batchnorm_keeps_the_output(conv, affine, seed):
    double(conv, seed)
    norm = double(nn.BatchNorm2d(conv.out_channels, affine=affine), seed)
    x = torch.randn(2, conv.in_channels, 15, 17, dtype=torch.float64)

    torch.testing.assert_close(fold_batchnorm(conv, norm)(x), norm(conv(x)), **CLOSE)


@given(conv=convolutions(), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_a_batchnorm_before_a_convolution_folds_unless_zeros_are_padded(conv, seed):
    double(conv, seed)
    norm = double(nn.BatchNorm2d(conv.in_channels), seed)
    x = torch.randn(2, conv.in_channels, 15, 17, dtype=torch.float64)
    expected = conv(norm(x))

    if conv.padding_mode == "zeros" and any(conv.padding):
        with pytest.raises(FoldError, match="pads with zeros"):
            fold_before_(conv, affine_of(norm, rank=4))
    else:
        fold_before_(conv, affine_of(norm, rank=4))
        torch.testing.assert_close(conv(x), expected, **CLOSE)


@pytest.mark.parametrize(
    ("layer", "norm", "shape"),
    [
        (nn.Linear(6, 4), nn.BatchNorm1d(4), (3, 6)),
        (nn.Conv1d(6, 4, 3, padding=1), nn.BatchNorm1d(4), (3, 6, 9)),
        (nn.Conv3d(6, 4, 3, groups=2), nn.BatchNorm3d(4), (2, 6, 5, 5, 5)),
        (nn.ConvTranspose2d(6, 4, 3, stride=2, groups=2), nn.BatchNorm2d(4), (2, 6, 5, 5)),
        (nn.ConvTranspose1d(6, 4, 3, bias=False), nn.BatchNorm1d(4), (2, 6, 5)),
        (SamePadConv2d(6, 4, 3, stride=2), nn.BatchNorm2d(4), (2, 6, 8, 8)),
        (nn.Conv2d(6, 4, 3, padding="same"), nn.SyncBatchNorm(4), (2, 6, 8, 8)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_every_kind_of_linear_layer_folds(layer, norm, shape):
    double(layer), double(norm)
    x = torch.randn(shape, dtype=torch.float64)

    torch.testing.assert_close(fold_batchnorm(layer, norm)(x), norm(layer(x)), **CLOSE)


def test_a_frozen_batchnorm_folds():
    conv, norm = double(nn.Conv2d(3, 4, 3)), FrozenBatchNorm2d(4).double()
    for buffer in norm.buffers():
        buffer.copy_(torch.rand(4) + 0.5)
    x = torch.randn(1, 3, 8, 8, dtype=torch.float64)

    torch.testing.assert_close(fold_batchnorm(conv, norm)(x), norm(conv(x)), **CLOSE)


def test_folding_leaves_both_given_modules_as_they_were():
    conv, norm = double(nn.Conv2d(3, 4, 3)), double(nn.BatchNorm2d(4))
    before = copy.deepcopy((conv.state_dict(), norm.state_dict()))
    fold_batchnorm(conv, norm)

    torch.testing.assert_close((conv.state_dict(), norm.state_dict()), before, rtol=0, atol=0)


def test_what_cannot_be_folded_says_why():
    conv, norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
    with pytest.raises(FoldError, match="keeps no running statistics"):
        fold_batchnorm(conv, nn.BatchNorm2d(4, track_running_stats=False))
    with pytest.raises(FoldError, match="Sequential: not a convolution"):
        fold_batchnorm(nn.Sequential(conv), norm)
    with pytest.raises(ValueError, match="conv has 4 output channels and batchnorm 5"):
        fold_batchnorm(conv, nn.BatchNorm2d(5))
    with pytest.raises(FoldError, match="weight is computed"):
        fold_batchnorm(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)), norm)
    with pytest.raises(FoldError, match="complex"):
        fold_batchnorm(nn.Conv2d(3, 4, 3, dtype=torch.complex64), norm)
    hooked = nn.Conv2d(3, 4, 3)
    hooked.register_forward_hook(lambda *_: None)
    with pytest.raises(FoldError, match="hooks"):
        fold_batchnorm(hooked, norm)
