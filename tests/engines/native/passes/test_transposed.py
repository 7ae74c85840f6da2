"""Transposed convolutions: the phases by hand, and every kind against PyTorch's."""

from __future__ import annotations

import copy
from random import Random

import pytest
import torch
from interpreter import interpret
from lowering import TOLERANCE, agrees
from torch import nn

from fleetfoot import runtime
from fleetfoot.engines import load
from fleetfoot.engines.base import relative_error
from fleetfoot.engines.native.compile import compile, finish
from fleetfoot.engines.native.graph import Graph
from fleetfoot.engines.native.lower.lower import lower
from fleetfoot.engines.native.passes.transposed import Phase, phases

needs_library = pytest.mark.skipif(runtime.missing() is not None, reason=str(runtime.missing()))


def finished(model: nn.Module, picture: torch.Tensor) -> Graph:
    """The network's whole plan, whose answer is the network's."""
    graph = lower(model.eval(), picture)
    finish(graph)
    found = interpret(graph, [picture[0].numpy()], arena=True)[0]
    with torch.no_grad():
        wanted = copy.deepcopy(model).double()(picture.double())
    assert relative_error(torch.from_numpy(found)[None], wanted) < TOLERANCE
    return graph


def ops(graph: Graph) -> list[str]:
    inner = [one for node in graph.nodes for one in (node, *node.nodes)]
    return [node.op for node in inner if node.op not in ("copy", "strip")]


def test_phases_by_hand():
    # 4 taps, stride 2, padding 1: even rows see taps 3 and 1, odd ones 2 and 0
    assert phases(5, 10, 4, 2, 1, 1) == [
        Phase(0, 5, (3, 1), -1, 1),
        Phase(1, 5, (2, 0), 0, 1),
    ]
    # one tap, stride 3: two rows of three see none
    assert [phase.taps for phase in phases(4, 12, 1, 3, 0, 1)] == [(0,), (), ()]
    # an output row more than the windows reach
    assert phases(3, 7, 2, 2, 0, 1) == [
        Phase(0, 3, (0,), 0, 1),
        Phase(6, 1, (), 0, 1),
        Phase(1, 3, (1,), 0, 1),
    ]


@pytest.mark.parametrize("seed", range(40))
def test_any_window(seed):
    random = Random(seed)
    torch.manual_seed(seed)

    def two(low: int, high: int) -> tuple[int, int]:
        return random.randint(low, high), random.randint(low, high)

    groups = random.choice([1, 1, 1, 2, 3, 12])
    kernel, stride, dilation = two(1, 5), two(1, 4), two(1, 3)
    size = two(3, 7)
    reach = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    padding = tuple(
        random.randint(0, min(r, ((n - 1) * s + r) // 2))  # a pixel is left
        for r, n, s in zip(reach, size, stride, strict=True)
    )
    extra = tuple(random.randint(0, max(s, d) - 1) for s, d in zip(stride, dilation, strict=True))
    channels = random.choice([12, 24]) if groups == 12 else groups * random.randint(1, 9)
    layers = [
        nn.Conv2d(3, 12, 1),
        nn.ConvTranspose2d(
            *(12, channels, kernel, stride, padding, extra, groups),
            bias=random.random() < 0.5,
            dilation=dilation,
        ),
    ]
    slopes = nn.PReLU(channels)
    nn.init.uniform_(slopes.weight, -1, 1)
    after = [[], [slopes], [nn.PReLU()], [nn.SiLU(), nn.Tanh()], [nn.ReLU()]]
    layers += random.choice(after)
    picture = torch.randn(1, 3, *size)
    model = nn.Sequential(*layers)
    agrees(model, picture)
    finished(model, picture)


def test_a_kernel_as_large_as_its_stride_is_two_products():
    up = nn.Sequential(nn.Conv2d(3, 32, 1), nn.ConvTranspose2d(32, 16, 2, 2))
    assert ops(finished(up, torch.randn(1, 3, 6, 7))) == ["conv"] * 3


def test_few_channels_are_one_node():
    up = nn.Sequential(nn.Conv2d(3, 56, 1), nn.ConvTranspose2d(56, 1, 9, 4, 4, 3))
    assert ops(finished(up, torch.randn(1, 3, 6, 7))) == ["conv", "transposed"]


def test_norm_and_activation_are_fused():
    norm = nn.BatchNorm2d(16)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    nn.init.uniform_(norm.running_mean)
    up = nn.Sequential(
        *(nn.Conv2d(3, 32, 1), nn.ConvTranspose2d(32, 16, 4, 2, 1, bias=False), norm),
        nn.PReLU(16),
    )
    graph = finished(up, torch.randn(1, 3, 6, 7))
    assert ops(graph) == ["conv"] * 5
    acts = [node.attributes.get("act", [""])[0] for node in graph.nodes if node.op == "conv"]
    assert acts == ["", "prelu", "prelu", "prelu", "prelu"]


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.down = nn.Conv2d(16, 32, 3, 2, 1)
        self.up = nn.ConvTranspose2d(32, 16, 2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x).relu()
        return torch.cat((x, self.up(self.down(x)), (x + self.up(self.down(x))).relu()), 1)


def test_a_residual_and_a_place_in_a_concatenation():
    graph = finished(Residual(), torch.randn(1, 3, 8, 10))
    assert "binary" not in ops(graph)


@needs_library
@pytest.mark.parametrize(
    "layer", [nn.ConvTranspose2d(8, 4, 4, 2, 1), nn.ConvTranspose2d(8, 1, 5, 3, 1)], ids=str
)
def test_numbers_that_are_not_finite_go_where_pytorch_sends_them(layer):
    model = nn.Sequential(layer, nn.PReLU(layer.out_channels)).eval()
    picture = torch.randn(1, 8, 6, 6)
    picture[0, 2, 2, 3], picture[0, 5, 4, 4] = torch.nan, torch.inf
    with torch.no_grad():
        wanted = model(picture)
    with load("native", model, example=torch.randn(1, 8, 6, 6)) as engine:
        found = engine.run(picture)
    torch.testing.assert_close(found, wanted, equal_nan=True)


@needs_library
@pytest.mark.parametrize("channels", [1, 24])
def test_every_instruction_set_gives_the_answer(channels, tmp_path):
    layers = (nn.Conv2d(3, 20, 3, padding=1), nn.PReLU(20), nn.ConvTranspose2d(20, channels, 4, 2))
    model = nn.Sequential(*layers, nn.PReLU(channels)).eval()
    picture = torch.randn(2, 3, 9, 11)
    path = tmp_path / "up.plan"
    compile(model, picture).save(path, checksum=runtime.checksum)
    with torch.no_grad():
        wanted = copy.deepcopy(model).double()(picture.double())
    with runtime.Plan.load(path) as plan:
        for instruction_set in runtime.instruction_sets():
            for threads in (1, 2):
                with plan.context(threads, instruction_set) as context:
                    found = torch.from_numpy(context.run(picture.numpy()))
                assert relative_error(found, wanted) < 1e-5, instruction_set
