"""Strides become dilations: denser maps that hold the old ones."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch import nn

from fleetfoot.models import create_model
from fleetfoot.models.dilation import FeatureMap, dilate_, feature_maps
from fleetfoot.ops.conv import UnevenPadConv2d
from fleetfoot.transform import fuse
from helpers import trained_

CLOSE = {"rtol": 1e-10, "atol": 1e-10}
"""float64, the same sums in the same order but for those of the padding's zeros."""

LOCAL = {  # networks that look at no map as a whole, narrow where they can be
    "fasternet_t0": {"width": 16, "depths": (1, 1, 2, 1)},  # 2×2 kernels of stride 2
    "fastvit_t8": {"width": 16, "depths": (1, 1, 2, 2)},
    "mobileone_s0": {"widths": (0.25, 0.25, 0.25, 0.25)},
    "mobilenetv1_025": {},
    "mobilenetv2_025": {},
    "shufflenet_v2_x0_5": {},
}


def body_of(name, **options):
    body = create_model(name, features_only=True, **options)
    return trained_(body).double().eval()


def strides_of(body):
    return [one.stride for one in feature_maps(body)]


@pytest.mark.parametrize("name", LOCAL)
@torch.no_grad()
def test_denser_maps_hold_the_old_ones(name):
    sparse = body_of(name, **LOCAL[name])
    x = torch.randn(1, 3, 64, 96, dtype=torch.float64)
    expected = sparse(x)
    for output_stride in (8, 16):
        dense = copy.deepcopy(sparse)
        dilate_(dense, output_stride)
        for old, new in zip(expected, dense(x), strict=True):
            rate = max(1, new.shape[2] // old.shape[2])
            assert 64 // new.shape[2] == min(64 // old.shape[2], output_stride)
            assert new.std() > 1e-3, "a map without spread would hide a difference"
            torch.testing.assert_close(new[:, :, ::rate, ::rate], old, **CLOSE)


@pytest.mark.parametrize("name", ["shufflenet_v1_g3_x0_5", "timm:resnet10t"])
@torch.no_grad()
def test_averages_are_kept_at_16_and_refused_at_8(name):
    sparse = body_of(name)
    dense = copy.deepcopy(sparse)
    dilate_(dense, 16)
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    torch.testing.assert_close(dense(x)[-1][:, :, ::2, ::2], sparse(x)[-1], **CLOSE)
    with pytest.raises(ValueError, match=r"output_stride=8 .*AvgPool2d\) is an average of pixels"):
        dilate_(body_of(name), 8)


@pytest.mark.parametrize("output_stride", [8, 16])
@torch.no_grad()
def test_timms_own_dilation_gives_the_same_maps(output_stride):
    theirs = timm.create_model("resnet18", features_only=True, output_stride=output_stride)
    theirs = trained_(theirs).double().eval()
    ours = create_model("timm:resnet18", features_only=True).double().eval()
    ours.load_state_dict(theirs.state_dict())
    dilate_(ours, output_stride)
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    for mine, other in zip(ours(x), theirs(x), strict=True):
        torch.testing.assert_close(mine, other, **CLOSE)
    assert ours.feature_info.reduction() == theirs.feature_info.reduction()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mobilenetv3_small_050", {}),
        ("mobilenetv3_small_minimal_100", {}),  # TensorFlow's padding
        ("micronet_m0", {}),  # 3×1 and 1×3 kernels
        ("mobile_former_26m", {}),
        ("cyclemlp_b1", {"widths": (8, 16, 16, 32), "depths": (1, 1, 1, 1)}),
        ("fastvit_sa12", {"width": 16, "depths": (1, 1, 1, 1)}),
        ("shufflenet_v2_plus_small", {}),
    ],
)
def test_every_other_family_gets_the_wanted_strides(name, options):
    body = create_model(name, features_only=True, **options)
    before, channels = strides_of(body), [one.channels for one in feature_maps(body)]
    dilate_(body, 16)
    assert strides_of(body) == [min(stride, 16) for stride in before]
    assert body.feature_info.reduction() == strides_of(body)
    assert [one.channels for one in feature_maps(body)] == channels
    assert body.training, "the run that observes it leaves the mode as it was"


@torch.no_grad()
def test_cycle_fc_reads_pixels_that_lie_apart():
    body = create_model(
        "cyclemlp_b1", features_only=True, widths=(8, 16, 16, 32), depths=(1, 1, 1, 1)
    )
    dilate_(body, 8)
    steps = {m.dilation for m in body.modules() if hasattr(m, "step")}
    assert steps == {1, 2, 4}


@pytest.mark.parametrize("name", ["fasternet_t0", "fastvit_t8"])
@torch.no_grad()
def test_a_dilated_network_is_fused_like_any_other(name):
    body = trained_(create_model(name, features_only=True, **LOCAL[name])).eval()
    dilate_(body, 8)
    x = torch.randn(1, 3, 64, 64)
    expected = body(x)
    fused = fuse(body, x)
    assert not fused.left
    for mine, other in zip(fused.model(x), expected, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)


def test_a_stride_that_is_reached_already_changes_nothing():
    body = create_model("fasternet_t0", features_only=True, width=16, depths=(1, 1, 1, 1))
    before = repr(body)
    dilate_(body, 32)
    assert repr(body) == before


@torch.no_grad()
def test_an_uneven_kernel_keeps_the_size():
    conv = UnevenPadConv2d(1, 1, 2, bias=False, pads=(0, 1, 0, 1))
    conv.weight.fill_(1.0)
    x = torch.arange(9.0).reshape(1, 1, 3, 3)
    assert conv(x)[0, 0].tolist() == [[8.0, 12.0, 7.0], [20.0, 24.0, 13.0], [13.0, 15.0, 8.0]]


class Net(nn.Module):
    """One map, after the given layers."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return [self.layers(x)]


class Sliced(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x):
        return [self.conv(x)[:, :, ::16, ::16]]


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, stride=2, padding=1)

    def forward(self, x):
        return [self.conv(self.conv(self.conv(self.conv(x))))]


def strided(kernel, stride, padding, kind=nn.Conv2d):
    return kind(3, 3, kernel, stride=stride, padding=padding)


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (Net(strided(16, 16, 0)), r"layers\.0 \(Conv2d\) goes from stride 1 to 16 in one step"),
        (Net(strided(8, 8, 0), strided(3, 2, 0)), "a whole fraction of 64"),
        (
            Net(
                strided(8, 8, 0), strided(2, 2, 0), nn.ConvTranspose2d(3, 3, 2, 2), strided(2, 2, 0)
            ),
            r"layers\.2 \(ConvTranspose2d\) cannot be dilated",
        ),
        (
            Net(strided(8, 8, 0), nn.AvgPool2d(4, 2, 1)),
            r"layers\.1 \(AvgPool2d\) is an average with an even kernel and padding",
        ),
        (Sliced(), "has a layer with a stride that is no module"),
        (Twice(), r"conv \(Conv2d\) is called on maps of several strides"),
        (Net(nn.Flatten(), nn.Linear(3 * 64 * 64, 4)), "has shape"),
        (Net(nn.Conv2d(3, 3, 3), nn.Linear(7, 7)), "does not run on a picture of 64 x 64"),
        (Net(nn.Conv2d(3, 3, 3)), "a whole fraction of 64"),
    ],
)
def test_what_cannot_be_dilated_is_named(net, message):
    with pytest.raises(ValueError, match=message):
        dilate_(net, 8)


def test_an_output_stride_that_is_no_power_of_two_is_refused():
    with pytest.raises(ValueError, match="power of two, for example 8 or 16, not 12"):
        dilate_(Twice(), 12)


@torch.no_grad()
def test_pooling_keeps_its_pixels():
    net = Net(nn.Conv2d(3, 4, 8, stride=8), nn.MaxPool2d(2), nn.MaxPool2d(3, 2, 1)).double()
    dense = copy.deepcopy(net)
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    dilate_(dense, 8)
    assert feature_maps(dense) == [FeatureMap(4, 8)]
    torch.testing.assert_close(dense(x)[0][:, :, ::4, ::4], net(x)[0], rtol=0, atol=0)
