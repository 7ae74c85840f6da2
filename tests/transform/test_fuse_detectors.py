"""A fused detector is a detector still: its outputs, and what it decodes of them."""

from __future__ import annotations

import pytest
import torch

from fleetfoot.tasks.catalogue import create_model
from fleetfoot.transform import fuse
from fleetfoot.transform.fold import is_batchnorm
from helpers import trained_

SMALL = {"num_classes": 3, "channels": 32, "max_detections": 5, "input_size": 64}
OPTIONS = {
    "fcos": {"channels": 64, "depth": 1, "score_threshold": 0.0},
    "fasterrcnn": {"box_width": 16, "proposals": (20, 20)},
    "maskrcnn": {"box_width": 16, "proposals": (20, 20)},
}
# float64: through some thirty layers of 1e-16 each
ROUNDING = {"rtol": 1e-9, "atol": 1e-9}


@pytest.mark.parametrize("name", OPTIONS)
@torch.no_grad()
def test_fusing_keeps_what_a_detector_finds(name):
    model = create_model(name, backbone="fasternet_t0", **{**SMALL, **OPTIONS[name]})
    trained_(model).double().eval()
    fused = fuse(model, torch.zeros(1, 3, 64, 64)).model
    assert type(fused) is type(model)
    assert not [module for module in fused.modules() if is_batchnorm(module)]
    assert fused.options == model.options
    assert fused.parts() == model.parts()

    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    outputs, expected = fused(x), model(x)
    assert list(outputs) == list(expected)
    for key, tensor in outputs.items():
        torch.testing.assert_close(tensor, expected[key], **ROUNDING)
    (found,), (given,) = fused.decode(outputs, (64, 64)), model.decode(expected, (64, 64))
    assert len(found) == 5
    torch.testing.assert_close(found.boxes, given.boxes, **ROUNDING)
    assert torch.equal(found.classes, given.classes)
    if name == "maskrcnn":
        assert torch.equal(found.masks, given.masks)
