"""Resizing in every mode and dimension, and sampling at positions that the network computes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from lowering import agrees, in_channels_last

PICTURE = torch.randn(1, 3, 9, 10)

MODES = {
    "nearest-exact": lambda x: F.interpolate(x, (7, 13), mode="nearest-exact"),
    "nearest by factors": lambda x: F.interpolate(x, scale_factor=(1.3, 0.6), mode="nearest"),
    "antialiased": lambda x: F.interpolate(x, (4, 5), mode="bilinear", antialias=True),
    "antialiased by a factor": lambda x: F.interpolate(
        x, scale_factor=1.7, mode="bicubic", antialias=True
    ),
    "antialiased by corners": lambda x: F.interpolate(
        x, (4, 15), mode="bicubic", antialias=True, align_corners=True
    ),
    "row, linear": lambda x: F.interpolate(x[:, :, 0], scale_factor=2, mode="linear"),
    "row, by corners": lambda x: F.interpolate(x[:, :, 0], 5, mode="linear", align_corners=True),
    "row, nearest": lambda x: F.interpolate(x[:, :, 0], 7),
    "row, nearest-exact": lambda x: F.interpolate(x[:, :, 0], 7, mode="nearest-exact"),
    "volume": lambda x: F.interpolate(x.unflatten(1, (4, 3)), (5, 4, 9), mode="trilinear"),
    "volume, by corners": lambda x: F.interpolate(
        x.unflatten(1, (4, 3)), scale_factor=1.5, mode="trilinear", align_corners=True
    ),
    "volume, nearest": lambda x: F.interpolate(x.unflatten(1, (4, 3)), (5, 4, 9)),
    "volume, nearest-exact": lambda x: F.interpolate(
        x.unflatten(1, (4, 3)), (5, 4, 9), mode="nearest-exact"
    ),
}


@pytest.mark.parametrize("name", MODES)
def test_modes(name):
    agrees(in_channels_last(MODES[name]), PICTURE)


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_samples_at_computed_positions(mode, padding, align):
    def function(x):
        grid = x[:, :2, ::2].permute(0, 2, 3, 1)
        return F.grid_sample(x, grid, mode, padding, align_corners=align)

    agrees(in_channels_last(function), PICTURE)


def test_samples_at_constant_positions():
    grid = 2 * torch.rand(1, 5, 4, 2) - 1

    def function(x):
        return F.grid_sample(x, grid.to(x.dtype).expand(len(x), -1, -1, -1), align_corners=False)

    agrees(in_channels_last(function), PICTURE)


@pytest.mark.parametrize("align", [False, True])
def test_a_spatial_transformer(align):
    def function(x):
        theta = x.mean((2, 3))[:, :6].unflatten(1, (2, 3))
        grid = F.affine_grid(theta, [len(x), 12, 5, 4], align_corners=align)
        return F.grid_sample(x, grid, align_corners=align)

    agrees(in_channels_last(function), PICTURE)
