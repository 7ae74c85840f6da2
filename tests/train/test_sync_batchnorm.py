"""A batch norm over several processes equals one over the whole batch: forward, backward and
running statistics, in float64, where only the order of sums differs (1e-12)."""

from __future__ import annotations

import copy

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from fleetfoot.train.sync_batchnorm import SyncedBatchNorm2d, synchronised
from helpers import trained_
from several_processes import in_processes

CPU = torch.device("cpu")


def network(momentum: float | None = 0.1, affine: bool = True) -> nn.Module:
    torch.manual_seed(3)
    made = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6, momentum=momentum, affine=affine),
        nn.ReLU(),
        nn.Conv2d(6, 4, 1),
        nn.BatchNorm2d(4, momentum=momentum, affine=affine),
    )
    return made.double()


def step(rank: int, model: nn.Module, x: torch.Tensor, weights: torch.Tensor, world: int):
    """Two forward passes and a backward pass over this process's share; values as lists."""
    share = slice(rank * len(x) // world, (rank + 1) * len(x) // world)
    mine = x[share].clone().requires_grad_()
    if world > 1:
        model = synchronised(copy.deepcopy(model), CPU)
    model(mine.detach() * 1.5 + 0.1)  # so that the running statistics have moved twice
    out = model(mine)
    (out * weights[share]).sum().backward()
    buffers = {name: value.tolist() for name, value in model.named_buffers()}
    gradients = {name: value.grad.tolist() for name, value in model.named_parameters()}
    return out.tolist(), mine.grad.tolist(), gradients, buffers


@pytest.mark.parametrize(
    ("world", "momentum", "affine"), [(2, 0.1, True), (3, None, True), (2, 0.3, False)]
)
def test_it_equals_a_batch_norm_over_the_whole_batch(world, momentum, affine, tmp_path):
    x = torch.randn(6, 3, 5, 4, dtype=torch.float64) * 2 + 3
    weights = torch.randn(6, 4, 5, 4, dtype=torch.float64)
    model = network(momentum, affine).train()

    parts = in_processes(world, step, model, x, weights, world, store=tmp_path / "store")
    out, grad, gradients, buffers = step(0, copy.deepcopy(model), x, weights, 1)

    def close(found, expected):
        found = torch.tensor(found, dtype=torch.float64)
        expected = torch.tensor(expected, dtype=torch.float64)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)

    close([row for part in parts for row in part[0]], out)
    close([row for part in parts for row in part[1]], grad)
    for name, expected in gradients.items():  # each process has its own share of the sum
        shares = torch.tensor([part[2][name] for part in parts], dtype=torch.float64)
        close(shares.sum(0).tolist(), expected)
    for part in parts:
        for name, expected in buffers.items():
            close(part[3][name], expected)


def test_a_pass_in_evaluation_needs_no_other_process():
    model = synchronised(network(), CPU).eval()
    x = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    torch.testing.assert_close(model(x), network().eval()(x), rtol=0, atol=0)


def test_the_keys_of_the_network_stay():
    before = network().state_dict()
    after = synchronised(network(), CPU)
    assert list(after.state_dict()) == list(before)
    assert sum(isinstance(module, SyncedBatchNorm2d) for module in after.modules()) == 2


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.BatchNorm1d(4), (6, 4)),
        (nn.BatchNorm1d(4), (6, 4, 5)),
        (nn.BatchNorm3d(4), (6, 4, 2, 3, 2)),
        (BatchNormAct2d(4, act_layer=nn.SiLU), (6, 4, 5, 4)),
    ],
    ids=str,
)
def test_every_kind_equals_its_own_over_the_whole_batch(layer, shape, tmp_path):
    x, weights = torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
    model = nn.Sequential(trained_(layer.double())).train()

    parts = in_processes(2, step, model, x, weights, 2, store=tmp_path / "store")
    out, grad, _, _ = step(0, copy.deepcopy(model), x, weights, 1)

    for place, expected in ((0, out), (1, grad)):
        found = torch.tensor([row for part in parts for row in part[place]], dtype=torch.float64)
        expected = torch.tensor(expected, dtype=torch.float64)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_a_batch_norm_of_a_class_of_its_own_is_refused():
    class Odd(nn.BatchNorm2d):
        pass

    with pytest.raises(ValueError, match="0 is a Odd, for which no synchronised form is known"):
        synchronised(nn.Sequential(Odd(3)), CPU)
