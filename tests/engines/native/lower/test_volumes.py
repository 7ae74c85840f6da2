"""Windows in one and three dimensions, unfolding and folding, as their networks write them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from lowering import Does, agrees, in_channels_last
from torch import nn

from fleetfoot.engines.native.lower.lower import lower
from fleetfoot.errors import UnsupportedOperatorError

PICTURE = torch.randn(1, 3, 9, 10)


def volume(x: torch.Tensor) -> torch.Tensor:
    """(B, 12, H, W) as (B, 4, 3, H, W)."""
    return x.unflatten(1, (4, 3))


ROWS = {
    "max": lambda x: F.max_pool1d(x, 3, 2, 1),
    "max, values only": lambda x: F.max_pool1d(x, 2, return_indices=True)[0],
    "max, ceil, dilated": lambda x: F.max_pool1d(x, 2, 3, 1, dilation=2, ceil_mode=True),
    "average": lambda x: F.avg_pool1d(x, 3, 2, 1),
    "average of what is there": lambda x: F.avg_pool1d(x, 3, 2, 1, count_include_pad=False),
    "adaptive average": lambda x: F.adaptive_avg_pool1d(x, 4),
    "adaptive max": lambda x: F.adaptive_max_pool1d(x, 4),
    "adaptive max, to one": lambda x: F.adaptive_max_pool1d(x, 1),
    "instance norm": lambda x: F.instance_norm(x),
    "local response norm": lambda x: F.local_response_norm(x, 4, alpha=0.5),
    "reflected": lambda x: F.pad(x, (1, 2), mode="reflect"),
    "circular": lambda x: F.pad(x, (1, 2), mode="circular"),
}


@pytest.mark.parametrize("name", ROWS)
def test_rows(name):
    agrees(in_channels_last(lambda x: ROWS[name](x[:, :, 0])), PICTURE)


VOLUMES = {
    "max": lambda x: F.max_pool3d(x, 3, 2, 1, ceil_mode=True),
    "max, values only": lambda x: F.max_pool3d(x, 2, return_indices=True)[0],
    "average": lambda x: F.avg_pool3d(x, 2, 2, 1, ceil_mode=True),
    "average of what is there": lambda x: F.avg_pool3d(x, 3, 2, 1, count_include_pad=False),
    "average with a divisor": lambda x: F.avg_pool3d(x, 2, divisor_override=3),
    "adaptive average": lambda x: F.adaptive_avg_pool3d(x, (2, 3, 5)),
    "adaptive max": lambda x: F.adaptive_max_pool3d(x, (2, 3, 5)),
    "instance norm": lambda x: F.instance_norm(x),
    "local response norm": lambda x: F.local_response_norm(x, 3, alpha=0.5),
    "replicated": lambda x: F.pad(x, (1, 2, 0, 1, 2, 1), mode="replicate"),
    "reflected": lambda x: F.pad(x, (1, 2, 0, 1, 2, 1), mode="reflect"),
    "cut and padded": lambda x: F.pad(x, (1, 2, 0, 1, -1, 1), value=-1.0),
}


@pytest.mark.parametrize("name", VOLUMES)
def test_volumes(name):
    agrees(in_channels_last(lambda x: VOLUMES[name](volume(x))), PICTURE)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv3d(4, 5, 1),
        nn.Conv3d(4, 6, 3, (1, 2, 1), (2, 1, 0), (2, 1, 1), groups=2),
        nn.Conv3d(4, 4, (3, 2, 3), padding="same", groups=4),
        nn.Conv3d(4, 5, (3, 1, 1), (2, 1, 1), (1, 0, 0), bias=False),
        nn.ConvTranspose3d(4, 6, (3, 3, 2), 2, (1, 0, 1), (1, 0, 1), groups=2),
        nn.ConvTranspose3d(4, 3, (1, 2, 2), 2),
    ],
    ids=str,
)
def test_convolutions_of_volumes(layer):
    model = Does(lambda self, x: self.layer(volume(self.conv(x))), conv=nn.Conv2d(3, 12, 1))
    model.add_module("layer", layer)
    agrees(model, PICTURE)


def test_a_network_of_volumes():
    model = nn.Sequential(
        *(nn.Conv3d(2, 8, 3, (1, 2, 2), 1, bias=False), nn.BatchNorm3d(8), nn.ReLU()),
        *(nn.Conv3d(8, 8, 3, 1, 1, groups=8), nn.PReLU(8), nn.AdaptiveAvgPool3d(1), nn.Flatten()),
        nn.Linear(8, 5),
    )
    agrees(model, torch.randn(1, 2, 4, 10, 9))


def test_a_network_of_rows():
    model = nn.Sequential(
        *(nn.Conv1d(6, 8, 5, 2, 2, bias=False), nn.BatchNorm1d(8), nn.PReLU(8)),
        *(nn.MaxPool1d(2), nn.ConvTranspose1d(8, 4, 4, 2, 1), nn.ReLU(), nn.AdaptiveMaxPool1d(3)),
    )
    agrees(model, torch.randn(1, 6, 41))


def test_a_network_of_vectors():
    agrees(nn.Sequential(nn.Linear(7, 9), nn.PReLU(9), nn.Linear(9, 3)), torch.randn(1, 7))


MAPS = {
    "adaptive max": lambda x: F.adaptive_max_pool2d(x, (4, 3)),
    "adaptive max, even": lambda x: F.adaptive_max_pool2d(x, (3, 5)),
    "adaptive max, to one": lambda x: F.adaptive_max_pool2d(x, 1),
    "max, values only": lambda x: F.max_pool2d(x, 2, return_indices=True)[0],
    "max, places": lambda x: F.max_pool2d(x, 2, return_indices=True)[1].float(),
    "unfold": lambda x: F.unfold(x, (3, 2), dilation=(1, 2), padding=(2, 1), stride=(2, 1)),
    "fold": lambda x: F.fold(F.unfold(x, 3, padding=1, stride=2), (9, 10), 3, 1, 1, 2),
    "native shuffle": lambda x: F.native_channel_shuffle(x, 4),
    "unshuffle": lambda x: F.pixel_unshuffle(x[:, :, :8], 2),
}


@pytest.mark.parametrize("name", MAPS)
def test_maps(name):
    agrees(in_channels_last(MAPS[name]), PICTURE)


def test_indices_of_adaptive_maxima_are_refused():
    def function(x):
        return F.adaptive_max_pool2d(x, 2, return_indices=True)[1].float()

    with pytest.raises(UnsupportedOperatorError, match="of which the indices are read"):
        lower(in_channels_last(function).eval(), PICTURE)
