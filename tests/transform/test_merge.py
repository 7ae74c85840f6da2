"""Sums of kernels."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from fleetfoot.errors import FoldError
from fleetfoot.transform import Kernel, merge
from fleetfoot.transform.merge import module_of

# float64: some 7 * 7 * 6 terms near 1, each rounded by about 1e-16
CLOSE = {"rtol": 1e-11, "atol": 1e-12}


@st.composite
def parallel(draw) -> list[nn.Conv2d]:
    """Branches of one stride whose outputs have one size: "same" padding, less the same crop."""
    stride = draw(st.integers(1, 3))
    dilation = draw(st.integers(1, 2))
    crop = draw(st.integers(0, 1))
    mode = draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
    branches = []
    for _ in range(draw(st.integers(1, 4))):
        kernel = draw(st.sampled_from([(1, 1), (3, 3), (5, 5), (3, 1), (1, 5), (7, 3)]))
        padding = tuple(dilation * (k - 1) // 2 - crop for k in kernel)
        assume(min(padding) >= 0)
        groups = draw(st.sampled_from([1, 2, 6]))
        branches.append(
            nn.Conv2d(
                6, 12, kernel, stride=stride, padding=padding, dilation=dilation, groups=groups,
                bias=False, padding_mode=mode,
            ).double()
        )  # fmt: skip
    return branches


@given(branches=parallel(), size=st.tuples(st.integers(13, 16), st.integers(13, 16)))
@settings(max_examples=50, deadline=None)
def test_one_convolution_is_the_sum_of_the_branches(branches, size):
    x = torch.randn(2, 6, *size, dtype=torch.float64)
    kernels = [Kernel.of(branch) for branch in branches]
    area = max(k.size[0] for k in kernels) * max(k.size[1] for k in kernels)
    merged_values = 12 * 6 // min(k.groups for k in kernels) * area
    if merged_values > sum(k.weight.numel() for k in kernels):
        with pytest.raises(FoldError, match="would hold"):
            merge(kernels)
        return
    one = module_of(merge(kernels), None)

    torch.testing.assert_close(one(x), sum(branch(x) for branch in branches), **CLOSE)


def test_a_skip_is_a_one_at_the_centre():
    conv = nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False).double()
    scale = torch.randn(4, dtype=torch.float64)
    one = module_of(merge([Kernel.of(conv), Kernel.skip(scale, space=2)]), None)
    x = torch.randn(1, 4, 6, 6, dtype=torch.float64)

    torch.testing.assert_close(one(x), conv(x) + scale.view(4, 1, 1) * x, **CLOSE)


def test_linear_layers_merge_too():
    a, b = (nn.Linear(5, 3, bias=False).double() for _ in range(2))
    x = torch.randn(2, 7, 5, dtype=torch.float64)

    torch.testing.assert_close(
        module_of(merge([Kernel.of(a), Kernel.of(b)]), None)(x), a(x) + b(x), **CLOSE
    )


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (nn.Conv2d(4, 4, 1, stride=2), "strides differ"),
        (nn.Conv2d(4, 4, 3), "output sizes differ"),
        (nn.Conv2d(4, 8, 1), "channels .* differ"),
        (nn.Conv2d(4, 4, 3, padding=2, dilation=2), "dilations differ"),
        (nn.Conv2d(4, 4, 5, padding=2, padding_mode="reflect"), "padding modes differ"),
    ],
)
def test_kernels_that_are_no_sum_say_why(other, reason):
    with pytest.raises(FoldError, match=reason):
        merge([Kernel.of(nn.Conv2d(4, 4, 3, padding=1)), Kernel.of(other)])


def test_groups_that_do_not_nest_are_refused():
    with pytest.raises(FoldError, match=r"groups \[2, 3\] do not nest"):
        merge([Kernel.of(nn.Conv2d(6, 6, 1, groups=g)) for g in (2, 3)])


def test_a_merge_that_would_cost_more_is_refused():
    """A dense 1×1 beside a depthwise 7×7 would become a dense 7×7."""
    depthwise = nn.Conv2d(16, 16, 7, padding=3, groups=16)
    with pytest.raises(FoldError, match="12,544 values, the branches hold 1,040"):
        merge([Kernel.of(depthwise), Kernel.of(nn.Conv2d(16, 16, 1))])


def test_same_padding_of_an_even_kernel_has_no_centre():
    with pytest.raises(FoldError, match="not symmetric"):
        Kernel.of(nn.Conv2d(4, 4, 2, padding="same"))


def test_a_new_layer_draws_no_random_numbers():
    state = torch.get_rng_state()
    module_of(Kernel.of(nn.Linear(2, 2, device="meta")), None)
    module_of(Kernel(torch.ones(4, 4, 1, 1), 1, (1, 1), (0, 0), (1, 1)), torch.ones(4))

    assert torch.equal(torch.get_rng_state(), state)
