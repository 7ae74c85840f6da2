"""What is known of a peer, without the memory of its weights."""

from __future__ import annotations

import pytest

from fleetfoot.models import create_model, model_info
from fleetfoot.models.peers import skeleton


@pytest.mark.parametrize(
    "name",
    [
        "torchvision:regnet_y_400mf",  # it computes its widths from tensors
        "torchvision:mobilenet_v3_small",
        "timm:ghostnet_050",
    ],
)
def test_a_peer_is_known_without_its_weights(name):
    assert all(parameter.is_meta for parameter in skeleton(name).parameters())
    expected = sum(parameter.numel() for parameter in create_model(name).parameters())
    assert model_info(name).params == expected
