"""Networks nested very deep, or in themselves, are refused with a reason by every entry point."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fleetfoot import engines
from fleetfoot.copying import DEEPEST, check_nesting, copied
from fleetfoot.count import count, trace
from fleetfoot.engines.native import save_plan
from fleetfoot.explain.explanation import explain
from fleetfoot.explain.lint import lint
from fleetfoot.explain.rules.examples import ROUND
from fleetfoot.network.workload import Workload
from fleetfoot.transform.fusion import fuse
from fleetfoot.transform.replacement import swap

EXAMPLE = torch.zeros(1, 3, 8, 8)


def chain(levels: int) -> nn.Module:
    net: nn.Module = nn.Conv2d(3, 4, 3)
    for _ in range(levels):
        net = nn.Sequential(net)
    net.training = False
    return net


class InItself(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.blocks = nn.ModuleList([self.conv, nn.Sequential()])
        self.blocks[1].append(self)
        self.training = False

    def forward(self, x):
        return self.conv(x)


ENTRIES = {
    "count": lambda net: count(net, EXAMPLE),
    "trace": lambda net: trace(net, EXAMPLE),
    "fuse": lambda net: fuse(net, EXAMPLE),
    "swap": lambda net: swap(net, EXAMPLE),
    "lint": lambda net: lint(net, EXAMPLE, machine=ROUND, measure=False),
    "explain": lambda net: explain(net, EXAMPLE, machine=ROUND, threads=ROUND.threads),
    "workload": lambda net: Workload.of("net", net, size=8),
    "eager": lambda net: engines.load("eager", net, example=EXAMPLE),
    "native": lambda net: engines.load("native", net, example=EXAMPLE),
    "plan": lambda net: save_plan(net, EXAMPLE, "never.plan"),
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_chain_of_5000_is_refused_with_its_depth(entry):
    with pytest.raises(ValueError, match=r"5,000 of its modules lie within one another"):
        ENTRIES[entry](chain(5000))


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_network_within_itself_is_refused_with_its_place(entry):
    with pytest.raises(ValueError, match=r"its module 'blocks\.1\.0' \(InItself\) contains itself"):
        ENTRIES[entry](InItself())


def test_what_is_allowed_is_handled():
    deep = chain(DEEPEST - 1)
    assert fuse(copied(deep), EXAMPLE).model(EXAMPLE).shape == (1, 4, 6, 6)
    with pytest.raises(ValueError, match="cannot be used"):
        check_nesting(chain(DEEPEST + 1))


def test_a_shared_module_is_walked_once():
    net: nn.Module = nn.Conv2d(3, 3, 1)
    for _ in range(60):  # 2**60 paths
        net = nn.Sequential(net, net)
    check_nesting(net)
