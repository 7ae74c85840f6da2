"""Each sum of branches against the one convolution that it equals, merged by hand here."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fleetfoot.ops.branches import (
    BranchSum,
    ConditionalPositionalEncoding,
    LargeKernelConv,
    MobileOneBlock,
    RepMixer,
)
from helpers import trained_


def doubles(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def ready(module: nn.Module) -> nn.Module:
    """In eval mode, with norms that are not trivial; float64, for what is tested is algebra."""
    return trained_(module.double()).eval()


def folded(kernel: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """norm(kernel * x) is one convolution: that kernel and bias."""
    factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return kernel * factor[:, None, None, None], norm.bias - norm.running_mean * factor


def centred(kernel: Tensor, size: int) -> Tensor:
    """The same convolution with a kernel of ``size``, zero around."""
    return nn.functional.pad(kernel, [(size - kernel.shape[-1]) // 2] * 4)


def unit_kernel(channels: int, groups: int, size: int) -> Tensor:
    """The convolution that changes nothing."""
    kernel = torch.zeros(channels, channels // groups, size, size, dtype=torch.float64)
    for channel in range(channels):
        kernel[channel, channel % (channels // groups), size // 2, size // 2] = 1
    return kernel


def merged(branches: BranchSum, size: int, groups: int) -> tuple[Tensor, Tensor]:
    kernel, bias = torch.zeros(()), torch.zeros(())
    for name, branch in branches.branches.items():
        if name == "skip":
            more = folded(unit_kernel(branch.num_features, groups, size), branch)
        else:
            more = folded(centred(branch[0].weight, size), branch[1])
        kernel, bias = kernel + more[0], bias + more[1]
    return kernel, bias


@pytest.mark.parametrize(
    ("channels", "out_channels", "kernel", "stride", "groups", "count", "names"),
    [
        (6, 6, 3, 1, 6, 4, ["conv0", "conv1", "conv2", "conv3", "scale", "skip"]),
        (6, 6, 3, 1, 2, 1, ["conv0", "scale", "skip"]),
        (6, 6, 3, 2, 6, 2, ["conv0", "conv1", "scale"]),
        (6, 8, 3, 1, 1, 1, ["conv0", "scale"]),
        (6, 6, 1, 1, 1, 2, ["conv0", "conv1", "skip"]),
        (6, 8, 1, 1, 1, 1, ["conv0"]),
        (6, 12, 5, 2, 6, 1, ["conv0", "scale"]),
    ],
)
def test_a_sum_of_branches_equals_the_kernel_merged_by_hand(
    channels, out_channels, kernel, stride, groups, count, names
):
    made = ready(
        BranchSum(channels, out_channels, kernel, stride=stride, groups=groups, count=count)
    )
    assert list(made.branches) == names
    x = doubles(2, channels, 9, 8)
    expected = nn.functional.conv2d(
        x, *merged(made, kernel, groups), stride=stride, padding=kernel // 2, groups=groups
    )
    torch.testing.assert_close(made(x), expected)


def test_ones_are_counted():
    made = BranchSum(1, 1, 3, count=4).eval()
    for module in made.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.ones_(module.weight)
        elif isinstance(module, nn.BatchNorm2d):
            module.eps = 0.0  # a fresh norm is then the identity
    # a corner has 4 neighbours, an edge 6, the centre 9, four times; the 1×1 and the skip add 2
    assert made(torch.ones(1, 1, 3, 3))[0, 0].tolist() == [[18, 26, 18], [26, 38, 26], [18, 26, 18]]


def test_stochastic_depth_keeps_the_skip_and_drops_what_stands_beside_it():
    made = ready(BranchSum(3, 3, 3, count=2, drop=0.5))
    x = doubles(64, 3, 4, 4)
    skip = made.branches["skip"](x)
    beside = made(x) - skip
    made.drop_path.train()  # the norms stay in eval mode, so that a sample answers for itself
    got = made(x)
    kept = (got - skip).flatten(1).any(1)
    assert 0 < kept.sum() < len(x)
    torch.testing.assert_close(got[~kept], skip[~kept], rtol=0, atol=0)
    torch.testing.assert_close(got[kept], (skip + 2 * beside)[kept])  # 1 / (1 - 0.5)


def test_a_sum_without_a_skip_is_never_dropped():
    assert isinstance(BranchSum(3, 4, 3, drop=0.5).drop_path, nn.Identity)


def test_squeeze_excitation_stands_before_the_activation():
    block = ready(MobileOneBlock(16, 32, 3, reduced=2, act="gelu"))
    x = doubles(2, 16, 5, 5)
    summed = block.sum(x)
    pooled = summed.mean((2, 3), keepdim=True)
    se = block.squeeze_excite
    gate = torch.sigmoid(se.expand(torch.relu(se.reduce(pooled))))
    torch.testing.assert_close(block(x), nn.functional.gelu(summed * gate))
    after = nn.functional.gelu(summed)
    gate = torch.sigmoid(se.expand(torch.relu(se.reduce(after.mean((2, 3), keepdim=True)))))
    assert not torch.allclose(block(x), after * gate)


def test_repmixer_is_its_formula_and_one_depthwise_convolution():
    made = ready(RepMixer(5))
    x = doubles(2, 5, 6, 7)
    torch.testing.assert_close(made(x), x + made.layer_scale * (made.mix(x) - made.norm(x)))

    unit = unit_kernel(5, 5, 3)
    mix, norm = merged(made.mix, 3, 5), folded(unit, made.norm)
    kernel = unit + made.layer_scale[..., None] * (mix[0] - norm[0])
    bias = made.layer_scale.flatten() * (mix[1] - norm[1])
    torch.testing.assert_close(made(x), nn.functional.conv2d(x, kernel, bias, padding=1, groups=5))


def test_a_fresh_repmixer_is_nearly_the_identity():
    x = torch.randn(2, 8, 6, 6)
    assert (RepMixer(8)(x) - x).abs().max() < 1e-3  # layer scale starts from 1e-5


def test_the_positional_encoding_is_one_depthwise_convolution():
    made = ready(ConditionalPositionalEncoding(4))
    x = doubles(2, 4, 5, 6)  # smaller than its kernel
    kernel = made.conv.weight + unit_kernel(4, 4, 7)
    expected = nn.functional.conv2d(x, kernel, made.conv.bias, padding=3, groups=4)
    torch.testing.assert_close(made(x), expected)


def test_the_border_tells_the_positional_encoding_where_it_is():
    made = ConditionalPositionalEncoding(1, kernel=3)
    nn.init.ones_(made.conv.weight)
    nn.init.zeros_(made.conv.bias)
    assert made(torch.ones(1, 1, 3, 3))[0, 0].tolist() == [[5, 7, 5], [7, 10, 7], [5, 7, 5]]


@pytest.mark.parametrize(
    ("small", "stride", "groups"), [(3, 2, 4), (3, 1, 1), (5, 2, 2), (7, 1, 4)]
)
def test_a_large_kernel_and_a_small_one_are_one(small, stride, groups):
    made = ready(LargeKernelConv(4, 8, small_kernel=small, stride=stride, groups=groups))
    x = doubles(2, 4, 9, 10)
    large = folded(made.large[0].weight, made.large[1])
    little = folded(centred(made.small[0].weight, 7), made.small[1])
    expected = nn.functional.conv2d(
        x, large[0] + little[0], large[1] + little[1], stride=stride, padding=3, groups=groups
    )
    torch.testing.assert_close(made(x), expected)


@pytest.mark.parametrize(
    "module",
    [
        BranchSum(16, 16, 3, count=2),
        MobileOneBlock(16, 16, 3, groups=16, reduced=4),
        RepMixer(16),
        ConditionalPositionalEncoding(16),
        LargeKernelConv(16, 32, stride=2, groups=16),
    ],
    ids=lambda module: type(module).__name__,
)
def test_gradients_reach_every_parameter(module):
    y = module.double().train()(doubles(4, 16, 8, 8))
    (y * torch.randn_like(y)).sum().backward()  # a plain sum is the same whatever a norm is given
    assert all(p.grad is not None and p.grad.any() for p in module.parameters())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BranchSum(4, 4, 2), r"kernel \(2\) must be odd"),
        (lambda: BranchSum(4, 4, 3, count=0), "count must be 1 or more, not 0"),
        (lambda: BranchSum(4, 6, 3, groups=4), r"groups \(4\) must divide .* out_channels \(6\)"),
        (lambda: BranchSum(4, 4, 3, drop=1.0), r"in \[0, 1\), not 1.0"),
        (lambda: RepMixer(4, kernel=4), r"kernel \(4\) must be odd"),
        (lambda: ConditionalPositionalEncoding(4, kernel=6), r"kernel \(6\) must be odd"),
        (lambda: LargeKernelConv(4, 4, kernel=6), r"kernel \(6\) must be odd"),
        (lambda: LargeKernelConv(4, 4, small_kernel=9), r"\(9\) must not exceed kernel \(7\)"),
    ],
)
def test_what_cannot_be_built_is_an_error(make, message):
    with pytest.raises(ValueError, match=message):
        make()
