"""Operators without a lowering of their own are lowered as PyTorch decomposes them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from lowering import Does, agrees, in_channels_last
from torch import fx, nn

from fleetfoot.engines.native.lower import lower as lowering_of_networks
from fleetfoot.engines.native.lower.decompose import decomposed
from fleetfoot.engines.native.lower.lower import lower
from fleetfoot.errors import EngineError, UnsupportedOperatorError

IMAGE = torch.zeros(1, 3, 6, 8)

DECOMPOSED = {
    "log_softmax": lambda x: F.log_softmax(x, 1),
    "glu": lambda x: F.glu(x, 1),
    "softsign and tanhshrink": lambda x: F.softsign(x) + F.tanhshrink(x),
    "std": lambda x: x.std((2, 3)) + torch.std_mean(x, (2, 3))[1],
    "cosine similarity": lambda x: F.cosine_similarity(x[:, :6], x[:, 6:], 1),
    "tensordot": lambda x: torch.tensordot(x, torch.arange(24.0).reshape(8, 3).to(x.dtype), 1),
    "tiles": lambda x: torch.hstack((x.tile(1, 2, 1, 1), torch.dstack((x, -x))[:, :, :6])),
    "addcdiv": lambda x: torch.addcdiv(x, x, 1 + x.abs(), value=0.5),
    "differences": lambda x: x.diff(dim=1),
    "names of dimensions": lambda x: (
        x.movedim(1, 3).swapdims(1, 2).moveaxis(3, 1) + x.swapaxes(2, 3)
    ),
    "narrow copies": lambda x: (
        torch.narrow_copy(x, 1, 2, 3) * x.ravel().mean(0, keepdim=True) * 0 + x[:, 2:5]
    ),
    "a matrix and a vector": lambda x: x @ torch.arange(8.0).to(x.dtype),
    "index_fill, index_copy, index_add": lambda x: (
        x.index_fill(1, torch.tensor([0, 3]), 2.0)
        + x.index_copy(1, torch.tensor([0, 3]), x[:, 4:6])
        + x.index_add(2, torch.tensor([4, 1]), x[:, :, :2], alpha=2)
    ),
    "repeat_interleave": lambda x: x.repeat_interleave(2, 1),
    "roll of everything": lambda x: x.flatten(1).roll(3, 1),
    "norms": lambda x: (
        x.norm(dim=1, keepdim=True)
        + torch.linalg.vector_norm(x, 3, dim=1, keepdim=True)
        + x.norm(p="fro", dim=(1, 3), keepdim=True)
    ),
    "dot products": lambda x: torch.linalg.vecdot(x, x.exp(), dim=1),
    "einsum": lambda x: torch.einsum("bchw,bcxw,bczw->bhxz", x, x, x),
    "einsum of one": lambda x: torch.einsum("bchw->bwh", x),
    "lower triangle": lambda x: x.tril() + x.triu(1),
    "average pools": lambda x: (
        F.avg_pool1d(x.flatten(2), 3, 2) + F.adaptive_avg_pool1d(x.flatten(2), 23)
    ),
    "area": lambda x: F.interpolate(x, (3, 4), mode="area"),
    "maximum by another name": lambda x: torch.max(x, -x) - torch.min(x, x[:, :1]).clip(-0.1, 0.1),
    "constants": lambda x: (
        x * torch.scalar_tensor(2.0)
        + torch.meshgrid(torch.arange(6.0), torch.linspace(0, 1, 8), indexing="ij")[0]
        + torch.full((8,), 3)
        + torch.eye(6, 8).type_as(x)
        + torch.ones_like(x, dtype=torch.int64)
        + torch.tensor([True, False] * 4)
        + torch.zeros(2, 3).shape[0]
    ),
    "shape arithmetic": lambda x: (
        x.reshape(x.size(0), -1, x.shape[1] * x.size(-1) // 16) / x.numel() * len(x)
    ),
    "casts without effect": lambda x: (
        x.to(x).float().type(torch.float32).type_as(x[:, :1]) if x.dtype == torch.float32 else x
    ),
}


@pytest.mark.parametrize("name", DECOMPOSED)
def test_decomposed(name):
    agrees(in_channels_last(DECOMPOSED[name]), torch.randn(1, 3, 6, 8))


INDICES = {
    "two neighbours": lambda x: x[:, :, [0, 5, 1], [7, 0, 1]],
    "two apart": lambda x: x.flatten(0, 0)[:, [0, 5, 1], :, [7, 0, 1]].transpose(0, 1),
    "of two dimensions": lambda x: x[:, [[0], [5]], [[5, 0, 1]]],
    "from the end": lambda x: x[:, [-1, -12], 2:4],
    "windows": lambda x: x.unfold(2, 2, 2).unfold(3, 3, 2),
    "overlapping windows": lambda x: x.unfold(3, 4, 1).softmax(-1),
    "a diagonal": lambda x: x.diagonal(1, 2, 3) + x.diagonal(-1, 3, 2),
    "a diagonal of a merged dimension": lambda x: (
        x.permute(0, 2, 3, 1).flatten(1, 2).diagonal(3, 1, 2)
    ),
}


@pytest.mark.parametrize("name", INDICES)
def test_indices_and_windows(name):
    agrees(in_channels_last(INDICES[name]), torch.randn(1, 3, 6, 8))


def test_grouped_queries():
    def forward(self, x):
        q, k, v = self.embed(x).flatten(2).unflatten(1, (12, 4)).split((6, 3, 3), 1)
        q, k, v = (t.transpose(2, 3) for t in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)

    agrees(Does(forward, embed=nn.Conv2d(3, 48, 1)), torch.randn(1, 3, 3, 4))


@pytest.mark.filterwarnings("ignore:The tensor attributes")  # the exporter's word on a GRU
def test_layers_in_a_decomposition_stay_whole():
    """A GRU's gates are linear layers, sigmoids and tanh: nothing smaller."""
    gru = nn.GRU(3, 5, batch_first=True)
    graph = agrees(
        Does(lambda self, x: self.gru(x.flatten(2).transpose(1, 2))[0], gru=gru),
        torch.randn(1, 3, 2, 2),
    )
    assert {node.op for node in graph.nodes} <= {"conv", "unary", "binary", "copy", "fill"}
    weights = {n.inputs["weight"].shape[:2] for n in graph.nodes if n.op == "conv"}
    assert weights == {(15, 3), (15, 5)}


def test_an_operator_with_a_lowering_is_never_decomposed(monkeypatch):
    asked = []
    monkeypatch.setattr(
        lowering_of_networks, "decomposed", lambda node: asked.append(node) or decomposed(node)
    )
    layers = nn.Sequential(
        *(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.GroupNorm(2, 8), nn.Hardswish(), nn.GELU()),
        *(nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(8), nn.Linear(8, 2)),
    )
    lower(layers.eval(), IMAGE)
    assert not asked


def test_what_lacks_is_named_with_what_the_network_calls():
    """The operator that the network's author wrote, what of it lacks, where, what to do."""
    inner = Does(lambda self, x: torch.fft.rfft2(x).abs())
    with pytest.raises(UnsupportedOperatorError) as error:
        lower(nn.Sequential(nn.Conv2d(3, 4, 1), inner).eval(), IMAGE)
    assert str(error.value) == (
        "native lacks aten.fft_rfft2.default which needs aten._fft_r2c.default (at 1). Run this "
        "network with another engine, or write these parts of it with other operators"
    )


def test_a_shape_that_depends_on_values_is_a_reason():
    model = in_channels_last(lambda x: x[..., torch.eye(6, 8, dtype=torch.bool)])
    with pytest.raises(UnsupportedOperatorError, match="shape that depends on what is in a tensor"):
        lower(model.eval(), IMAGE)


def test_an_operator_called_as_none_was_foreseen_is_named(monkeypatch):
    def fails(*arguments):
        raise IndexError("index 8 is out of bounds")

    monkeypatch.setitem(lowering_of_networks.OPERATORS, "relu.default", fails)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    with pytest.raises(EngineError, match=r"aten\.relu\.default \(at 1\): IndexError: index 8"):
        lower(model.eval(), IMAGE)


def test_an_operator_that_decomposes_into_itself_is_not_decomposed():
    def call(x):
        return torch.special.bessel_j0(x)

    graph = torch.export.export(Does(lambda self, x: call(x)), (IMAGE,)).graph
    node = next(node for node in graph.nodes if node.op == "call_function")
    assert isinstance(node, fx.Node)
    assert decomposed(node) is None
