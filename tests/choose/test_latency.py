"""The latency model: what it sees of a network, its fit, and what always holds of its prices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fleetfoot.choose import latency
from fleetfoot.choose.latency import (
    TERMS,
    LatencyModel,
    activations,
    features,
    fit,
    kind_of,
    nonnegative_least_squares,
)
from fleetfoot.count import trace


def conv(ci, co, kernel=1, stride=1, groups=1):
    return nn.Conv2d(ci, co, kernel, stride, kernel // 2, groups=groups)


def kinds(module: nn.Module, *shape: int) -> list[str]:
    return [kind_of(op) for op in trace(module, torch.zeros(shape)).operators]


def seen(module: nn.Module, *shape: int) -> dict[str, float]:
    """The terms of a network that are not 0."""
    sums = features(trace(module, torch.zeros(shape))).sum(0)
    return {name: value for name, value in zip(TERMS, sums, strict=True) if value}


@pytest.mark.parametrize(
    ("module", "channels", "kind"),
    [
        (conv(16, 32, 3), 16, "window3"),
        (conv(16, 32, 3, stride=2), 16, "window"),
        (conv(16, 32, 5), 16, "window"),
        (conv(16, 32), 16, "pointwise"),
        (conv(16, 16, 3, groups=16), 16, "depthwise"),
        (conv(16, 32, 3, groups=16), 16, "depthwise"),
        (conv(16, 32, 3, groups=4), 16, "grouped"),
        (nn.ReLU6(), 16, "cheap"),
        (nn.GELU(), 16, "smooth"),
        (nn.MaxPool2d(2), 16, "pool"),
        (nn.GroupNorm(1, 16), 16, "norm"),
        (nn.ChannelShuffle(2), 16, "move"),
    ],
)
def test_kinds_of_layers(module, channels, kind):
    assert kinds(module, 1, channels, 8, 8) == [kind]


def test_a_convolution_of_one_pixel_is_a_row_as_a_linear_layer_is():
    assert kinds(conv(16, 32), 1, 16, 1, 1) == ["row"]
    assert kinds(nn.Linear(16, 32), 1, 16) == ["row"]
    assert kinds(nn.Linear(16, 32), 1, 49, 16) == ["pointwise"]


class Products(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return functional.softmax(x @ x.transpose(-2, -1), -1) @ x


def test_a_product_of_activations_is_none_of_weights():
    assert kinds(Products(), 2, 49, 16) == ["product", "softmax", "product"]


class Gate(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x.mean((2, 3), keepdim=True) + x


def test_a_gate_is_told_from_a_sum():
    assert kinds(Gate(), 1, 16, 8, 8) == ["reduce", "gate", "pair"]


def test_an_activation_behind_a_convolution_is_another_term_than_one_alone():
    behind = seen(nn.Sequential(conv(16, 16), nn.SiLU()), 1, 16, 8, 8)
    alone = seen(nn.Sequential(nn.MaxPool2d(1), nn.SiLU()), 1, 16, 8, 8)

    assert behind["smooth.behind.bytes"] == 2 * 4 * 16 * 64
    assert "smooth.alone.bytes" not in behind
    assert alone["smooth.alone.start"] == 1


def test_terms_of_a_convolution_by_hand():
    found = seen(conv(8, 20, 3), 1, 8, 10, 10)

    assert found["call"] == 1
    assert found["input"] == 4 * 8 * 100
    assert found["window3.macs"] == pytest.approx(9 * 8 * 32 * 100)  # 20 channels fill two of 16
    assert found["window3.in"] == 4 * 8 * 100
    assert found["window3.out"] == 4 * 20 * 100
    assert found["window3.weights"] == 4 * (9 * 8 * 20 + 20)
    assert found["window3.start"] == 1


def test_depthwise_channels_fill_vectors_together():
    found = seen(conv(24, 24, 3, groups=24), 1, 24, 10, 10)
    assert found["depthwise.macs"] == pytest.approx(9 * 32 * 100)


def test_activations_are_what_products_write():
    made = trace(nn.Sequential(conv(3, 8, 3), nn.ReLU(), conv(8, 4)), torch.zeros(1, 3, 10, 10))
    assert activations(made) == 8 * 100 + 4 * 100


def network(width: int, side: int, depth: int, act: type[nn.Module]) -> latency.Array:
    layers: list[nn.Module] = [conv(3, width, 3, stride=2), act()]
    for _ in range(depth):
        layers += [conv(width, width, 3, groups=width), conv(width, 2 * width), act()]
        layers += [conv(2 * width, width), conv(width, width, 3)]
    head = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 100))
    return features(trace(head, torch.zeros(1, 3, side, side)))


NETWORKS = [
    network(width, side, depth, act)
    for width in (8, 24, 40, 96)
    for side in (32, 64, 112)
    for depth in (1, 2, 4)
    for act in (nn.ReLU, nn.GELU)
]
TRUE = LatencyModel(
    rates={
        "call": 5e-6,
        "window3.macs": 8e-12,
        "window.macs": 2e-11,
        "pointwise.macs": 1.5e-11,
        "pointwise.out": 4e-11,
        "depthwise.in": 9e-11,
        "row.weights": 1e-10,
        "smooth.behind.bytes": 3e-11,
        "pool.bytes": 1e-10,
    }
)


def test_exact_times_give_back_the_model_that_made_them():
    times = [TRUE.price(one) for one in NETWORKS]
    found = fit(NETWORKS[::2] + NETWORKS[1::4], times[::2] + times[1::4])

    for one, time_s in zip(NETWORKS, times, strict=True):
        assert found.price(one) == pytest.approx(time_s, rel=1e-6)  # some were not in the fit
    # terms that this family of networks tells apart come back one by one
    for name in ("window3.macs", "smooth.behind.bytes"):
        assert found.rates[name] == pytest.approx(TRUE.rates[name], rel=1e-3)


def test_runs_that_were_disturbed_move_the_others_little():
    times = np.array([TRUE.price(one) for one in NETWORKS])
    disturbed = np.arange(len(NETWORKS)) % 6 == 0
    times[disturbed] *= 1.6
    found = {rounds: fit(NETWORKS, times.tolist(), rounds=rounds) for rounds in (1, 8)}

    errors = {
        rounds: np.abs([model.price(one) for one in NETWORKS] / times - 1)[~disturbed]
        for rounds, model in found.items()
    }
    assert np.median(errors[8]) < 0.05  # a sixth of the networks took 60 % longer
    assert np.median(errors[8]) < 0.6 * np.median(errors[1])  # the first round's weights are equal


def test_no_rate_and_no_price_is_negative_whatever_the_times():
    times = np.random.default_rng(0).uniform(1e-4, 1e-2, len(NETWORKS))  # follow from nothing
    found = fit(NETWORKS, times.tolist())

    assert min(found.rates.values()) > 0
    made = trace(nn.Sequential(conv(3, 8, 3), nn.GELU(), conv(8, 4)), torch.zeros(1, 3, 10, 10))
    assert (found.prices(made) >= 0).all()
    assert found.prices(made).shape == (4,)  # three operators and the call
    assert found.predict(made) == pytest.approx(found.prices(made).sum())


def test_a_network_with_more_operators_or_more_channels_takes_no_less_time():
    found = fit(NETWORKS, [TRUE.price(one) for one in NETWORKS])
    base = [conv(16, 16), nn.GELU(), conv(16, 16, 3)]

    def predicted(*layers: nn.Module, channels: int = 16) -> float:
        return found.predict(trace(nn.Sequential(*layers), torch.zeros(1, channels, 14, 14)))

    assert predicted(*base, conv(16, 16), nn.MaxPool2d(2)) >= predicted(*base)
    wider = [conv(32, 32), nn.GELU(), conv(32, 32, 3)]
    assert predicted(*wider, channels=32) > predicted(*base)


def test_a_batch_of_two_takes_longer_than_one_and_less_than_two_calls():
    net = nn.Sequential(conv(3, 16, 3), nn.GELU(), conv(16, 16)).eval()
    one = TRUE.predict(trace(net, torch.zeros(1, 3, 32, 32)))
    two = TRUE.predict(trace(net, torch.zeros(2, 3, 32, 32)))
    assert one < two < 2 * one


def test_least_squares_that_cannot_be_negative_meet_their_conditions():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(30, 8)), rng.normal(size=30)
    x = nonnegative_least_squares(a, b)

    gradient = a.T @ (a @ x - b)
    assert (x >= 0).all()
    assert 0 < (x > 0).sum() < 8  # the bound matters here
    # Karush, Kuhn, Tucker: free variables are at their least, held ones would only add
    np.testing.assert_allclose(gradient[x > 0], 0, atol=1e-10)
    assert (gradient[x == 0] >= -1e-10).all()


def test_least_squares_take_a_column_of_zeros_and_units_far_apart():
    a = np.array([[1e9, 0.0, 1e-6], [2e9, 0.0, 3e-6], [1e9, 0.0, 5e-6]])
    truth = np.array([3e-9, 0.0, 2e6])
    np.testing.assert_allclose(nonnegative_least_squares(a, a @ truth), truth, rtol=1e-9)


@pytest.mark.parametrize("times", [[1.0], [1.0, 0.0], [1.0, 2.0, 3.0]])
def test_a_fit_refuses_what_it_cannot_use(times):
    with pytest.raises(ValueError, match=f"2 networks and {len(times)} times"):
        fit(NETWORKS[:2], times)


@pytest.mark.parametrize("rates", [{"call": -1.0}, {"windows.macs": 1.0}])
def test_a_model_refuses_rates_that_are_none(rates):
    with pytest.raises(ValueError, match="name of a term"):
        LatencyModel(rates=rates)
