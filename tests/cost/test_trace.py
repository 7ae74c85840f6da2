"""Costs counted by hand, and against torch's own counter."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fleetfoot import create_model
from fleetfoot.cost import count, trace


def counted(module: nn.Module, *shape: int):
    return count(module, torch.empty(shape))


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_a_convolution_by_hand(groups):
    # 5×5 outputs of 16 channels, each a sum over 3·3·8/groups products
    made = counted(nn.Conv2d(8, 16, 3, stride=2, padding=1, groups=groups), 1, 8, 10, 10)

    assert made.macs == 5 * 5 * 16 * 9 * 8 // groups
    # background: Hi·Wi·Ci + Ho·Wo·Co + K²·Ci·Co/g, and the bias
    assert made.memory_access_elements == 800 + 400 + 9 * 8 * 16 // groups + 16
    assert made.memory_access_bytes == 4 * made.memory_access_elements
    assert made.params == 9 * 8 * 16 // groups + 16


def test_a_transposed_convolution_by_hand():
    # each of the 4·4·6 inputs meets 5 outputs × 2×2 kernel values
    assert counted(nn.ConvTranspose2d(6, 5, 2, stride=2), 1, 6, 4, 4).macs == 4 * 4 * 6 * 5 * 4


def test_a_linear_layer_by_hand():
    made = counted(nn.Linear(7, 5), 1, 7)

    assert made.macs == 35
    assert made.memory_access_elements == 7 + 5 + 35 + 5


def test_attention_counts_both_products():
    class Attend(nn.Module):
        def forward(self, x):
            return nn.functional.scaled_dot_product_attention(x, x, x)

    # 2 heads, 9 tokens, 4 channels: Q Kᵀ 9·9·4 and A V 9·9·4 a head
    assert counted(Attend(), 1, 2, 9, 4).macs == 2 * (9 * 9 * 4 + 9 * 9 * 4)


def test_batch_norm_and_relu_move_bytes_and_count_no_macs():
    made = counted(nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()), 1, 4, 3, 3)

    assert made.macs == 0
    # norm: 36 in, 36 out, 4 × 4 statistics and scales; relu: 36 in, 36 out
    assert made.memory_access_elements == 36 + 36 + 16 + 36 + 36


def test_views_cost_nothing():
    assert counted(nn.Flatten(), 1, 4, 3, 3).memory_access_bytes == 0


def test_partial_convolution_moves_what_its_concat_moves():
    model = create_model("fasternet_t0")
    block = model.stages[0][0][0].pconv  # 40 channels, 10 of them convolved
    made = counted(block, 1, 40, 8, 8)

    assert made.macs == 8 * 8 * 9 * 10 * 10
    conv = 64 * (10 + 10) + 9 * 10 * 10
    concat = 64 * 40 * 2  # eager copies every channel; an engine could reach the paper's 2·cp
    assert made.memory_access_elements == conv + concat


@pytest.mark.parametrize("build", [torchvision.models.resnet18, torchvision.models.vgg11])
def test_agrees_with_the_flop_counter_of_torch(build):
    model = build().to("meta").eval()
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, 64, 64, device="meta"))

    assert 2 * counted(model, 1, 3, 64, 64).macs == counter.get_total_flops()


def test_batch_does_not_change_the_count_of_one_image():
    model = create_model("fasternet_t0")

    assert counted(model, 4, 3, 64, 64).macs == counted(model, 1, 3, 64, 64).macs
    assert trace(model, torch.empty(4, 3, 64, 64)).macs == 4 * counted(model, 1, 3, 64, 64).macs


def test_an_operator_without_a_formula_lowers_the_coverage():
    class Odd(nn.Module):
        def forward(self, x):
            return torch.special.bessel_j0(x) + x

    made = counted(Odd(), 1, 4)

    assert made.coverage == 0.5
    assert made.unknown == ("aten.special_bessel_j0",)


def test_the_given_network_is_left_as_it_was():
    model = create_model("fasternet_t0")
    count(model, torch.empty(1, 3, 64, 64))

    assert model.training
    assert all(p.device.type == "cpu" for p in model.parameters())


def test_a_shape_that_the_network_cannot_take_is_named():
    with pytest.raises(ValueError, match=r"FasterNet cannot be counted at input \(1, 4, 64, 64\)"):
        counted(create_model("fasternet_t0"), 1, 4, 64, 64)
