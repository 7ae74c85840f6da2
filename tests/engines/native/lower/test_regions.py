"""Regions that change nothing at inference are lowered as what is in them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fleetfoot import engines
from fleetfoot.engines.inputs import Inputs
from fleetfoot.engines.native.lower.lower import exported
from fleetfoot.errors import EngineError

IMAGE = torch.zeros(1, 3, 6, 6)


class Regions(nn.Module):
    """A region of each kind; one within another, one that answers with two maps."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.scale = nn.Conv2d(3, 4, 1), nn.Parameter(torch.rand(4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(device_type=x.device.type, enabled=False):
            y = self.conv(x.float())
            with torch.no_grad():
                a = y.relu()
            b = y * self.scale
        with torch.no_grad():
            c = (a * torch.tensor(2.0)).sigmoid()
        return a + b * c


class Last(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return x.relu() + 1


@pytest.mark.parametrize("model", [Regions(), Last()])
def test_regions_without_effect_are_inlined(model):
    x = torch.randn(IMAGE.shape)
    program = exported(model.eval(), Inputs.of(model, IMAGE).one)
    names = {str(node.target) for node in program.graph.nodes}
    assert not any("wrap_with" in name or "submod" in name for name in names), names
    with torch.no_grad():
        expected = model(x)
        torch.testing.assert_close(program.module()(x), expected)
    with engines.load("native", model, example=IMAGE) as engine:
        # float32: three products of values near 1
        torch.testing.assert_close(engine.run(x), expected, rtol=1e-5, atol=1e-6)


def test_a_region_in_another_type_is_refused_by_name():
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast(device_type="cpu", dtype=torch.bfloat16):
                return self.conv(x).float()

    with pytest.raises(EngineError, match="under autocast in bfloat16"):
        engines.load("native", Half().eval(), example=IMAGE)
