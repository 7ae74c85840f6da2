"""CycleFC: the deformable convolution of its authors, and a case counted by hand."""

from __future__ import annotations

import pytest
import torch
from torchvision.ops import deform_conv2d

from fleetfoot.ops.cycle_fc import CycleFC


def deformed(layer: CycleFC, x: torch.Tensor) -> torch.Tensor:
    """A 1×1 deformable convolution whose offsets are d(c), the same at every pixel."""
    _, height, width, channels = x.shape
    step, offsets = layer.step, torch.zeros(1, channels, 2, dtype=x.dtype)
    for c in range(channels):
        offsets[0, c, 0 if layer.axis == "height" else 1] = (c + step // 2) % step - step // 2
    offsets = offsets.reshape(1, 2 * channels, 1, 1).expand(len(x), -1, height, width)
    weight = torch.empty_like(layer.linear.weight)
    weight[:, layer.order] = layer.linear.weight
    out = deform_conv2d(x.permute(0, 3, 1, 2), offsets, weight[:, :, None, None], layer.linear.bias)
    return out.permute(0, 2, 3, 1)


@pytest.mark.parametrize("axis", ["height", "width"])
@pytest.mark.parametrize("step", [1, 3, 5, 7])
@pytest.mark.parametrize("size", [(5, 8), (1, 1), (2, 9)])
@torch.no_grad()
def test_it_is_a_deformable_convolution_with_cyclic_offsets(axis, step, size):
    layer = CycleFC(11, 4, step=step, axis=axis).double()  # 11: the last cycle is cut short
    x = torch.randn(2, *size, 11, dtype=torch.float64)
    # float64: interpolating at a whole offset multiplies by 1 and 0, sums are in another order
    torch.testing.assert_close(layer(x), deformed(layer, x), rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_a_row_of_three_pixels_counted_by_hand():
    layer = CycleFC(4, 1, step=3, axis="width")
    assert layer.order == [0, 3, 1, 2]
    layer.linear.weight.copy_(torch.tensor([[1.0, 1000.0, 10.0, 100.0]]))  # of channels 0, 3, 1, 2
    layer.linear.bias.zero_()
    x = torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8], [0, 1, 2, 3]]).reshape(1, 1, 3, 4)
    # channels 0 and 3 in place, 1 from the right, 2 from the left
    expected = [1 + 60 + 0 + 4000, 5 + 10 + 300 + 8000, 0 + 0 + 700 + 3000]
    assert layer(x).flatten().tolist() == expected
    assert CycleFC(4, 1, step=3, axis="height")(x[:, :, :1]).shape == (1, 1, 1, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step": 4, "axis": "width"}, r"step \(4\) must be odd and 1 or more"),
        ({"step": -1, "axis": "width"}, r"step \(-1\) must be odd and 1 or more"),
        ({"step": 3, "axis": "depth"}, "axis must be 'height' or 'width', not 'depth'"),
    ],
)
def test_what_it_cannot_be_is_an_error(options, message):
    with pytest.raises(ValueError, match=message):
        CycleFC(8, 8, **options)
