"""Writes into views and slices: what a network changes in place is lowered as new values."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from lowering import Does, agrees, in_channels_last
from torch import nn

from fleetfoot.engines.inputs import Inputs
from fleetfoot.engines.native.graph import Graph
from fleetfoot.engines.native.lower.functional import shows_a_write
from fleetfoot.engines.native.lower.lower import exported, lower
from fleetfoot.ops.pconv import PConv

IMAGE = torch.zeros(1, 3, 6, 8)


def slicing(x):
    """PConv as FasterNet's authors wrote it for inference."""
    x = x.clone()
    x[:, :3, :, :] = F.avg_pool2d(x[:, :3, :, :], 3, 1, 1)
    return x.relu()


def decoded(x):
    """A YOLO head: boxes and sizes are written back into the sigmoid."""
    y = x.view(-1, 2, 6, 6, 8).permute(0, 1, 3, 4, 2).contiguous().sigmoid()
    y[..., 0:2] = (y[..., 0:2] * 2.0 - 0.5 + torch.arange(8.0)[:, None]) * 16
    y[..., 2:4] = (y[..., 2:4] * 2) ** 2 * torch.tensor([10.0, 13.0])
    return y.view(len(x), -1, 6)


def corners(x):
    """Boxes by centre and size as boxes by corners (YOLO's xywh2xyxy)."""
    y = x.clone()
    y[:, 0] = x[:, 0] - x[:, 2] / 2
    y[:, 1] = x[:, 1] - x[:, 3] / 2
    y[:, 2] = x[:, 0] + x[:, 2] / 2
    y[:, 3] = x[:, 1] + x[:, 3] / 2
    return y


def interleaved(x):
    """A wavelet's inverse: each quarter of the result at every second place."""
    out = torch.zeros(len(x), 3, 12, 16, dtype=x.dtype)
    for i, part in enumerate(x.chunk(4, 1)):
        out[:, :, i // 2 :: 2, i % 2 :: 2] = part
    return out


def framed(x):
    out = x.new_zeros(len(x), 12, 9, 12)
    out[:, :, 1:-2, 2:-2] = x
    out[:, -1].fill_(0.5)
    return out


def shifted(x):
    """TSM: channels move by a row, some stay."""
    out = torch.zeros_like(x)
    out[:, :4, :-1] = x[:, :4, 1:]
    out[:, 4:8, 1:] = x[:, 4:8, :-1]
    out[:, 8:] = x[:, 8:]
    return out


def through_views(x):
    y = x.clone()
    y.view(len(x), 3, 4, 6, 8)[:, 1].mul_(2)
    y.transpose(1, 2)[:, 0, :, 1].zero_()
    part = y[:, 5:7]
    part += 1
    return y + part.mean(1, keepdim=True)


def read_before_and_after(x):
    y = x.abs()
    part = y[:, :4]
    before = part.exp()
    y.neg_()
    return before + part


def overwritten(x):
    y = torch.cat((x, x.relu()), 1)
    y[:, 3:9] = x[:, :6].exp()
    y[:, 7:20] = -y[:, 1:14]
    y[:, 0:24] = y * 2
    y[:, 23] = 4.0
    return y


def every_third(x):
    y = x.clone()
    y[:, ::3] = x[:, 1::3]
    y[..., 1::3] = 2.5
    return y


def two_names(x):
    y = x.relu()
    z = y
    y = y.add_(1)
    z[:, 0] = 0
    return y


WRITES = {
    "PConv's slicing form": slicing,
    "a YOLO head": decoded,
    "boxes to corners": corners,
    "every second place": interleaved,
    "a frame": framed,
    "a shift": shifted,
    "through views": through_views,
    "a view read before and after": read_before_and_after,
    "overwritten parts": overwritten,
    "every third place": every_third,
    "two names": two_names,
    "a slice activated": lambda x: (x.clone(), x[:, :4].relu_(), x)[2],
    "an index": lambda x: _set(x, (slice(None), torch.tensor([2])), x[:, 4:5]),
    "channels by index": lambda x: _set(x, (slice(None), [3, 1, -1]), x[:, 5:8].exp()),
    "channels by index, added": lambda x: (
        x.transpose(0, 1)
        .index_put((torch.tensor([2, 1]),), x[:, :2].transpose(0, 1), accumulate=True)
        .transpose(0, 1)
    ),
    "places by two indices": lambda x: _set(
        x, (slice(None), slice(None), [0, 5, 1], [7, 0, 1]), x[:, :, 0, :3] + 1
    ),
    "places by a constant mask": lambda x: _set(
        x, (slice(None), slice(None), torch.eye(6, 8, dtype=torch.bool)), -3.0
    ),
    "a constant overwritten": lambda x: torch.ones_like(x).copy_(x[:, :1]).mul_(x.abs()),
    "a view in place": lambda x: x.relu().transpose_(1, 2).unsqueeze_(2).squeeze_(2).square(),
    "a number into a corner": lambda x: _set(x, (..., 0, slice(2)), 7.0),
    "zeros": lambda x: (x[:, 1:3].zero_(), x + 1)[1],
}


def _set(x, key, value):
    y = x.clone()
    y[key] = value
    return y


@pytest.mark.parametrize("name", WRITES)
def test_writes(name):
    agrees(in_channels_last(WRITES[name]), torch.randn(1, 3, 6, 8))


class Slicing(nn.Module):
    def __init__(self, pconv: PConv) -> None:
        super().__init__()
        self.conv, self.convolved = pconv.conv, pconv.convolved

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.clone()
        x[:, : self.convolved, :, :] = self.conv(x[:, : self.convolved, :, :])
        return x


def listed(graph: Graph) -> list[tuple[object, ...]]:
    return [
        (n.op, {k: (v.shape, v.strides, v.offset) for k, v in n.inputs.items()}, n.out.shape)
        for n in graph.nodes
    ]


def test_slicing_is_as_cheap_as_concatenating():
    """FasterNet's two ways of writing a PConv are one graph."""
    pconv = PConv(12)

    def block(part: nn.Module) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 12, 1), part, nn.Conv2d(12, 5, 1))

    sliced = agrees(block(Slicing(pconv)), torch.randn(1, 3, 6, 8))
    joined = agrees(block(pconv), torch.randn(1, 3, 6, 8))
    assert listed(sliced) == listed(joined)


def test_a_second_write_copies_nothing_again():
    """The head's result is put together once, from three parts of its last dimension."""
    graph = agrees(in_channels_last(decoded), torch.randn(1, 3, 6, 8))
    last = [n for n in graph.nodes if n.op == "copy" and n.out.tensor is graph.nodes[-1].out.tensor]
    written = [n.out.shape[-1] for n in last]
    assert written in ([2, 2, 2], [6]), written
    copied = sum(n.out.size for n in graph.nodes if n.op == "copy" and n.out.tensor.kind == "arena")
    assert copied <= 3 * 6 * 8 + 2 * 12 * 6 * 8  # the picture, the head's order, its result


def test_a_program_without_such_writes_is_not_traced_again(monkeypatch):
    def fails(*arguments):
        raise AssertionError("traced again")

    monkeypatch.setattr(torch.export.ExportedProgram, "run_decompositions", fails)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(inplace=True), nn.Hardswish(inplace=True))
    lower(model.eval(), IMAGE)
    with pytest.raises(Exception, match="traced again"):
        lower(in_channels_last(slicing).eval(), IMAGE)


def test_layers_stay_whole_when_a_program_is_made_functional():
    class Layers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.batch_norm = nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8)
            self.norm, self.linear = nn.LayerNorm(8), nn.Linear(8, 8)

        def forward(self, x):
            x = F.hardswish(self.batch_norm(self.conv(x)))
            x[:, :3] = 1.5 * x[:, 3:6]
            x = self.linear(self.norm(x.flatten(2).transpose(1, 2)))
            x = F.normalize(F.scaled_dot_product_attention(x, x, x), dim=-1)
            return F.gelu(x)

    model = Layers()
    graph = agrees(model, torch.randn(1, 3, 4, 5))
    kinds = [(n.op, n.attributes.get("act", [""])[0], n.name) for n in graph.nodes]
    for wanted in (
        ("unary", "hardswish", ""),
        ("norm", "", "norm"),
        ("conv", "", "linear"),
        ("norm", "", ""),  # normalize
        ("unary", "gelu", ""),
    ):
        assert wanted in kinds


def test_an_input_that_the_network_writes_into():
    def forward(self, x):
        x[:, 0] = x[:, 0] * 2
        x[:, 1:].sub_(0.5)
        return self.conv(x)

    model = Does(forward, conv=nn.Conv2d(3, 4, 1)).eval()
    picture = torch.randn(1, 3, 6, 8)
    agrees(model, picture)


def test_a_buffer_that_the_network_writes_into():
    """A plan keeps nothing from one run to the next."""

    def forward(self, x):
        self.last[:, :2] = x[:1, :2] * 0 + 1
        self.seen.add_(1)
        return x + self.last * 2

    model = Does(forward, last=torch.zeros(1, 3, 6, 8), seen=torch.zeros(()))
    graph = lower(model.eval(), torch.randn(1, 3, 6, 8))
    assert len(graph.outputs) == 1


def test_regions_are_functional_too():
    def forward(self, x):
        with torch.autocast("cpu", enabled=False), torch.no_grad():
            x = self.conv(x)
            x[:, :2] = x[:, 2:].sigmoid()
        return x + 1

    model = Does(forward, conv=nn.Conv2d(3, 4, 1))
    agrees(model, torch.randn(1, 3, 6, 8))


def test_the_functional_program_shows_no_write():
    program = exported(in_channels_last(through_views).eval(), Inputs.of(nn.Identity(), IMAGE).one)
    assert not shows_a_write(program.graph)
