"""In-place views, recurrent layers, products that are added to something, and torch's int8 modules,
each counted by hand."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from fleetfoot.count import trace


class Of(nn.Module):
    """What a function of the input gives."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class First(nn.Module):
    """The first output of a recurrent layer."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)[0]


def test_views_in_place_cost_nothing_and_are_known():
    def views(x):
        y = (x + 1).transpose_(0, 1).t_().unsqueeze_(0).swapaxes_(0, 1)
        return y.squeeze_().detach_()

    found = trace(Of(views), torch.zeros(3, 4))
    assert [one.name for one in found.operators] == ["aten.add"]
    assert not found.unknown


@pytest.mark.parametrize("layer", [nn.GRU, nn.LSTM, nn.RNN])
@pytest.mark.parametrize("on", ["meta", "given"])
def test_recurrent_layers(layer, on):
    # 5 steps of 2 rows: each meets the weights of 8 inputs and 16 states of every gate
    gates = {nn.GRU: 3, nn.LSTM: 4, nn.RNN: 1}[layer]
    made = First(layer(8, 16, batch_first=True, bidirectional=True))
    found = trace(made, torch.zeros(2, 5, 8), on=on)
    assert found.macs == 2 * 5 * 2 * gates * 16 * (8 + 16)
    assert not found.unknown
    assert not found.without_exact


def test_a_recurrent_layer_in_one_call_counts_what_its_steps_count():
    layer = nn.LSTM(8, 16, bidirectional=True)
    whole = trace(layer, torch.zeros(5, 2, 8), on="given")
    steps = trace(layer, torch.zeros(5, 2, 8), on="meta")
    assert whole.macs == steps.macs
    if any(one.name == "aten.mkldnn_rnn_layer" for one in whole.operators):
        # beyond the steps' own operations there are none: states are stacked by copies
        assert whole.exact_flops == steps.exact_flops


@pytest.mark.parametrize(
    ("function", "macs", "flops"),
    [
        (lambda x: torch.addbmm(x[0], x, x), 3 * 4 * 4 * 4, 2 * 192),
        (lambda x: torch.addmv(x[0, 0], x[0], x[0, 0]), 16, 32),
        (lambda x: torch.addr(x[0], x[0, 0], x[0, 1]), 0, 2 * 16),
    ],
)
def test_products_that_are_added_to_something(function, macs, flops):
    found = trace(Of(function), torch.zeros(3, 4, 4))
    assert (found.macs, found.exact_flops, found.unknown) == (macs, flops, ())


@pytest.fixture
def quantized():
    if not [one for one in torch.backends.quantized.supported_engines if one != "none"]:
        pytest.skip("this torch has no int8 engine")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls these modules deprecated
        import torch.ao.nn.quantized as static
        import torch.ao.nn.quantized.dynamic as dynamic

        yield static, dynamic


def test_int8_modules(quantized):
    static, _ = quantized

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.coded = static.Quantize(0.1, 0, torch.quint8)
            self.conv = static.Conv2d(3, 8, 3)
            self.linear = static.Linear(8 * 36, 4)
            self.plain = static.DeQuantize()

        def forward(self, x):
            return self.plain(self.linear(torch.flatten(self.conv(self.coded(x)), 1)))

    found = trace(Net(), torch.zeros(1, 3, 8, 8))
    conv, linear = 8 * 36 * 27, 4 * 8 * 36
    assert found.macs == conv + linear
    assert not found.unknown
    by_name = {one.name: one for one in found.operators}
    # with a bias each product has its add; an output becomes a code by 5 operations
    assert by_name["quantized.conv2d"].exact_flops == 2 * conv + 5 * 8 * 36
    assert by_name["quantized.linear"].exact_flops == 2 * linear + 5 * 4
    assert by_name["aten.dequantize"].exact_flops == 2 * 4
    # one byte a code: the input map and the weight; four bytes a bias
    assert by_name["quantized.conv2d"].bytes_read == 3 * 64 + 8 * 27 + 4 * 8


def test_a_linear_layer_that_quantises_its_input(quantized):
    _, dynamic = quantized
    found = trace(dynamic.Linear(8, 4), torch.zeros(2, 8))
    assert found.macs == 2 * 4 * 8
    assert found.exact_flops == 2 * 64 + (2 * 16 - 2) + 5 * 16 + 8
    assert not found.unknown
