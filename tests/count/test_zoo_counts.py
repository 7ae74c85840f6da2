"""The package's counter against the hook-based oracle, for every network of the zoo."""

from __future__ import annotations

import pytest
import torch

from fleetfoot.count import count
from fleetfoot.models import create_model, list_models
from oracle_macs import macs_of


@pytest.mark.parametrize("name", list_models())
def test_macs_and_parameters_agree_with_the_oracle(name):
    with torch.device("meta"):
        model = create_model(name).eval()
        image = torch.empty(1, 3, 64, 64)
    counted, oracle = count(model, image), macs_of(model, image)

    assert counted.macs == oracle.layers + oracle.attention
    assert counted.params == sum(p.numel() for p in model.parameters())
    assert counted.coverage == 1.0, counted.unknown
