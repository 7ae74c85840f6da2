"""Operations counted by hand, one operator at a time."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from torchvision.ops import deform_conv2d

from fleetfoot.count import formulas, trace, vocabulary
from fleetfoot.count.exact import EXACT, WITHOUT


class Apply(nn.Module):
    """A function of one tensor as a network."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def counted(what, *shape: int, on: str = "meta"):
    module = what if isinstance(what, nn.Module) else Apply(what)
    return trace(module, torch.rand(shape), on=on)


@pytest.mark.parametrize(("groups", "dilation"), [(1, 1), (2, 1), (8, 1), (1, 2), (8, 2)])
@pytest.mark.parametrize("bias", [False, True])
def test_convolution(groups, dilation, bias):
    conv = nn.Conv2d(8, 16, 3, padding=dilation, dilation=dilation, groups=groups, bias=bias)
    made = counted(conv, 2, 8, 6, 5)

    outputs, products = 2 * 16 * 6 * 5, 9 * 8 // groups  # dilation changes where, not how many
    assert made.macs == outputs * products
    assert made.exact_flops == outputs * (2 * products - 1 + bias)


def test_transposed_convolution():
    # 4·4 inputs of 6 channels meet 5·2·2 kernel values each; 8·8·5 outputs take the sums
    made = counted(nn.ConvTranspose2d(6, 5, 2, stride=2, bias=False), 1, 6, 4, 4)

    assert made.macs == 16 * 6 * 20
    assert made.exact_flops == 2 * 16 * 6 * 20 - 64 * 5


def test_deformable_convolution():
    offset, mask = torch.rand(1, 2 * 9, 4, 4), torch.rand(1, 9, 4, 4)
    weight = torch.rand(5, 3, 3, 3)
    made = counted(lambda x: deform_conv2d(x, offset, weight, padding=1), 1, 3, 4, 4, on="given")
    with_mask = counted(
        lambda x: deform_conv2d(x, offset, weight, padding=1, mask=mask), 1, 3, 4, 4, on="given"
    )

    samples = 16 * 9 * 3
    assert made.macs == 16 * 5 * 27
    # torchvision always adds a bias, of zeros where none is given
    assert made.exact_flops == 2 * 16 * 5 * 27 + 7 * samples + 12 * 16 * 9
    assert with_mask.exact_flops == made.exact_flops + samples


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("leading", [(3,), (3, 2)])
def test_linear(bias, leading):
    rows = 3 if len(leading) == 1 else 6
    made = counted(nn.Linear(7, 5, bias=bias), *leading, 7)

    assert made.macs == rows * 35
    assert made.exact_flops == rows * 5 * (13 + bias)


@pytest.mark.parametrize(
    ("equation", "macs", "outputs"),
    [("bij,bjk->bik", 2 * 3 * 4 * 5, 2 * 3 * 5), ("bij,kj->bik", 2 * 3 * 4 * 5, 2 * 3 * 5)],
)
def test_matmul_and_einsum(equation, macs, outputs):
    other = torch.rand((2, 4, 5) if "bjk" in equation else (5, 4)).to("meta")
    made = counted(lambda x: torch.einsum(equation, x, other), 2, 3, 4)

    assert made.macs == macs
    assert made.exact_flops == 2 * macs - outputs


@pytest.mark.parametrize("on", ["meta", "given"])
def test_fused_attention(on):
    def attend(x):
        return F.scaled_dot_product_attention(x, x, x)

    made = counted(attend, 1, 2, 9, 4, on=on)
    product = sum(op.macs for op in made.operators)

    assert product == 2 * (9 * 9 * 4 + 9 * 9 * 4)
    if on == "given":  # one operator: 18 rows of 9 products of 4, scale, softmax, 4 sums of 9
        assert len(made.operators) == 1
        assert made.exact_flops == 18 * (9 * 7 + 9 + (5 * 9 - 2) + 4 * 17)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_fused_attention_on_a_gpu(dtype):
    def attend(x):
        return F.scaled_dot_product_attention(x, x, x)

    made = trace(Apply(attend), torch.rand(1, 2, 64, 32, device="cuda", dtype=dtype), on="given")

    assert made.device.startswith("cuda")
    assert made.macs == 2 * 2 * 64 * 64 * 32
    assert made.coverage == 1


@pytest.mark.parametrize("name", sorted(vocabulary.ATTENTION))
def test_attention_has_one_formula_on_every_device(name):
    q, v = torch.empty(1, 2, 9, 4), torch.empty(1, 2, 9, 6)
    assert formulas.MACS[name]([q, q, v], None) == 2 * 9 * 9 * (4 + 6)
    assert name in EXACT


@pytest.mark.parametrize(
    ("module", "shape", "flops"),
    [
        (nn.BatchNorm2d(4), (1, 4, 3, 3), 2 * 36 + 5 * 4),
        (nn.LayerNorm(8), (1, 5, 8), 5 * (5 * 8 + 2) + 2 * 40),
        (nn.LayerNorm(8, elementwise_affine=False), (1, 5, 8), 5 * (5 * 8 + 2)),
        (nn.GroupNorm(2, 4), (1, 4, 3, 3), 2 * (5 * 18 + 2) + 2 * 36),
        (nn.ReLU(), (1, 10), 10),
        (nn.ReLU6(), (1, 10), 20),
        (nn.Hardswish(), (1, 10), 50),
        (nn.Hardsigmoid(), (1, 10), 40),
        (nn.Sigmoid(), (1, 10), 40),
        (nn.SiLU(), (1, 10), 40),
        (nn.GELU(), (1, 10), 50),
        (nn.GELU(approximate="tanh"), (1, 10), 90),
        (nn.Softmax(dim=1), (3, 10), 3 * (10 - 1 + 10 + 10 + 10 - 1 + 10)),
        (nn.MaxPool2d(3, 2, 1), (1, 2, 8, 8), 2 * 16 * 8),
        (nn.AvgPool2d(2), (1, 2, 8, 8), 2 * 16 * 4),
        (nn.AdaptiveAvgPool2d(1), (1, 2, 8, 8), 2 * 64),  # 63 adds and a divide
        (nn.AdaptiveAvgPool2d(3), (1, 2, 8, 8), 2 * (3 + 4 + 3) ** 2),  # windows 0-3, 2-6, 5-8
        (nn.AdaptiveMaxPool2d(2), (1, 2, 8, 8), 2 * 4 * 15),
        (nn.Upsample(scale_factor=2), (1, 2, 4, 4), 0),
        (nn.Upsample(scale_factor=2, mode="bilinear"), (1, 2, 4, 4), 2 * 64 * 7),
        (nn.Upsample(scale_factor=2, mode="bicubic"), (1, 2, 4, 4), 2 * 64 * 31),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_layers_without_multiply_accumulates(module, shape, flops):
    made = counted(module, *shape)

    assert made.exact_flops == flops
    assert made.macs == 0
    assert made.coverage == made.exact_coverage == 1


@pytest.mark.parametrize(
    ("function", "flops"),
    [
        (lambda x: x + x, 24),
        (lambda x: x.add_(1), 24),
        (lambda x: x * 2, 24),
        (lambda x: x.mean(), 24),  # 23 adds and a divide
        (lambda x: x.sum((2, 3)), 24 - 4),
        (lambda x: x.amax(1), 24 - 6),
        (lambda x: x.var(), 4 * 24),
        (lambda x: x.pow(2), 24),
        (lambda x: x.clamp(0, 1), 48),
    ],
)
def test_element_wise_and_reductions(function, flops):
    assert counted(function, 1, 4, 2, 3).exact_flops == flops


@pytest.mark.parametrize(
    ("function", "elements"),
    [
        (lambda x: torch.cat((x, x), 1), 48 + 48),
        (nn.ChannelShuffle(2), 24 + 24),
        (lambda x: x.chunk(2, 1)[0] + 0, 12 + 12),  # the split is a view
        (lambda x: x.transpose(1, 2).contiguous(), 24 + 24),
    ],
)
def test_concat_shuffle_and_split_move_bytes_only(function, elements):
    made = counted(function, 1, 4, 2, 3)

    assert made.macs == 0
    assert made.memory_access_elements == elements


def test_weight_norm():
    # a norm of 27 values and a divide for each of 4 filters, then 108 products
    made = counted(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)), 1, 3, 3, 3)

    assert made.operators[0].exact_flops == 4 * (54 + 1) + 108
    assert made.params == 108 + 4 + 4


def test_every_operator_with_macs_has_an_exact_count():
    assert not formulas.MACS.keys() - EXACT.keys()
    assert not WITHOUT & EXACT.keys()


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (lambda: nn.Conv2d(4, 6, 3, groups=2), (2, 4, 9, 9)),
        (lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), (2, 4, 9, 9)),
        (lambda: nn.Linear(4, 3), (2, 5, 4)),
        (lambda: nn.MultiheadAttention(8, 2, batch_first=True), (2, 5, 8)),
        (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (2, 5, 8)),
    ],
)
def test_agrees_with_the_flop_counter_of_torch(build, shape):
    model, x = build().eval(), torch.rand(shape)
    example = (x, x, x) if isinstance(model, nn.MultiheadAttention) else (x,)
    made = trace(model, example, on="given")
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(*example)
    finally:
        torch.backends.mha.set_fastpath_enabled(True)

    assert made.mac_flops == counter.get_total_flops()
    assert made.coverage == 1
