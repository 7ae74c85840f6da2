"""The feature pyramid, counted by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fleetfoot.tasks.detect.pyramid import FeaturePyramid


def constant_(pyramid: FeaturePyramid) -> FeaturePyramid:
    """Every lateral convolution adds its channels, the others give the pixel in the middle."""
    with torch.no_grad():
        for conv in pyramid.modules():
            if isinstance(conv, nn.Conv2d):
                conv.weight.zero_()
                conv.weight[:, :, conv.kernel_size[0] // 2, conv.kernel_size[1] // 2] = 1
    return pyramid


def test_coarse_maps_are_added_to_finer_ones():
    pyramid = constant_(FeaturePyramid([2, 1], 1))
    fine = torch.ones(1, 2, 3, 4)  # the channels add to 2
    coarse = torch.tensor([[[[10.0, 20.0], [30.0, 40.0]]]])
    first, second = pyramid([fine, coarse])
    # the nearest pixel of 2 for each of 3 rows: 0, 0, 1
    rows = [[12.0, 12, 22, 22], [12, 12, 22, 22], [32, 32, 42, 42]]
    assert first[0, 0].tolist() == rows
    assert torch.equal(second, coarse)


@pytest.mark.parametrize(("top", "shapes"), [("none", []), ("pool", [3]), ("convs", [3, 2])])
def test_what_follows_the_coarsest_map(top, shapes):
    pyramid = constant_(FeaturePyramid([1, 1], 1, top=top))
    coarse = torch.arange(-5.0, 20.0).reshape(1, 1, 5, 5)
    found = pyramid([torch.zeros(1, 1, 10, 10), coarse])
    assert [one.shape[-1] for one in found] == [10, 5, *shapes]
    if shapes:  # every other pixel
        assert torch.equal(found[2], coarse[..., ::2, ::2])
    if top == "convs":  # the second of them sees no negative value
        assert torch.equal(found[3], found[2].relu()[..., ::2, ::2])
