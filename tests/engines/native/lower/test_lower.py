"""What ``lower`` makes of single operators and of whole networks, run by the interpreter, against
PyTorch in float64."""

from __future__ import annotations

import copy
import math
from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from interpreter import interpret
from lowering import Does, agrees, in_channels_last
from torch import nn

import fleetfoot.models
from fleetfoot import runtime
from fleetfoot.engines import load
from fleetfoot.engines.native.lower.lower import check_independence, lower
from fleetfoot.errors import EngineError, UnsupportedOperatorError
from fleetfoot.transform import fuse
from helpers import trained_


# of an even kernel PyTorch's "same" pads more behind than before, and says that this costs it time
@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize(
    ("channels", "groups", "options"),
    [
        (8, 1, {}),
        (8, 1, {"stride": (2, 1), "padding": (0, 2), "dilation": (2, 1)}),
        (18, 3, {"padding": "same", "dilation": 3}),
        (24, 12, {"stride": 2, "padding": 1}),
        (12, 12, {"padding": "valid", "bias": False}),
    ],
)
def test_convolutions(channels, groups, options):
    conv = nn.Conv2d(12, channels, (3, 4), groups=groups, **options)
    graph = agrees(nn.Sequential(nn.Conv2d(3, 12, 1), conv), torch.randn(1, 3, 11, 10))
    node = graph.nodes[2]
    assert node.op == ("depthwise" if groups == 12 else "conv")
    assert node.name == "1"
    assert node.inputs["weight"].tensor.name == "1.weight"
    assert node.inputs["weight"].shape == tuple(conv.weight.shape)


@pytest.mark.parametrize(
    "activation",
    [
        *(nn.ReLU(), nn.ReLU6(), nn.Hardswish(), nn.Hardsigmoid(), nn.SiLU(), nn.GELU()),
        *(nn.GELU(approximate="tanh"), nn.Sigmoid(), nn.Tanh(), nn.LeakyReLU(0.2), nn.ELU(0.7)),
        *(nn.SELU(), nn.Mish(), nn.Softplus(), nn.Hardtanh(-0.5, 0.7), nn.ReLU(inplace=True)),
        nn.PReLU(),
    ],
    ids=str,
)
def test_activations(activation):
    graph = agrees(nn.Sequential(nn.Conv2d(3, 4, 1), activation), torch.randn(1, 3, 5, 6))
    # input to channels-last, convolution, activation, output to PyTorch's order
    assert [node.op for node in graph.nodes] == ["copy", "conv", "unary", "copy"]


ARITHMETIC = {
    "add": lambda x: x + x.mean((2, 3), keepdim=True),
    "add with alpha": lambda x: torch.add(x, x.abs(), alpha=3),
    "add a number": lambda x: 2 + x,
    "subtract": lambda x: x - x[:, :1],
    "subtract a number": lambda x: (x - 2) * (1 - x),
    "subtract from a number": lambda x: torch.rsub(x, 2, alpha=3),
    "multiply": lambda x: x * torch.arange(12.0).reshape(12, 1, 1).to(x.dtype),
    "divide": lambda x: x / (1 + x.abs()),
    "divide a number": lambda x: 3 / (1 + x.abs()) + x / 7,
    "powers": lambda x: x**2 + x.abs() ** 0.5 + (x.abs() + 1) ** -1 + x**3,
    "power of a number": lambda x: 2**x + (x.abs() + 1) ** x,
    "maximum": lambda x: torch.maximum(x, -x) + torch.minimum(x, x[:, :1]),
    "clamp": lambda x: x.clamp(-0.3, 0.5) + x.clamp(min=0.1) + torch.clamp_max(x, 0.2),
    "functions": lambda x: x.exp() + x.abs().sqrt() + x.erf() - x.square().add(1).log().rsqrt(),
    "addcmul": lambda x: torch.addcmul(x, x.abs(), x.sigmoid(), value=0.5),
    "masked fill": lambda x: x.masked_fill(torch.eye(6, dtype=torch.bool), 0.5),
    "where": lambda x: torch.where(torch.eye(6, dtype=torch.bool), x, 0.25),
    "an infinite number": lambda x: (x - torch.inf).exp() + x,
}


@pytest.mark.parametrize("name", ARITHMETIC)
def test_arithmetic(name):
    agrees(in_channels_last(ARITHMETIC[name]), torch.randn(1, 3, 6, 6))


POOLS = {
    "max": lambda x: F.max_pool2d(x, 3, 2, 1),
    "max, ceil, dilated": lambda x: F.max_pool2d(x, 2, 3, 1, dilation=2, ceil_mode=True),
    "average": lambda x: F.avg_pool2d(x, 3, 2, 1),
    "average, ceil": lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True),
    "average of what is there": lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False),
    "average with a divisor": lambda x: F.avg_pool2d(x, 3, 2, 1, divisor_override=5),
    "adaptive to one": lambda x: F.adaptive_avg_pool2d(x, 1),
    "adaptive, even": lambda x: F.adaptive_avg_pool2d(x, (5, 2)),
    "adaptive, overlapping": lambda x: F.adaptive_avg_pool2d(x, (9, 7)),
    "adaptive, uneven": lambda x: F.adaptive_avg_pool2d(x, (3, 5)),
    "adaptive, larger": lambda x: F.adaptive_avg_pool2d(x, (12, 8)),
    "adaptive from one pixel": lambda x: F.adaptive_avg_pool2d(x[:, :, :1, :1], (2, 3)),
    "nearest": lambda x: F.interpolate(x, scale_factor=(2.0, 1.5), mode="nearest"),
    "bilinear": lambda x: F.interpolate(x, (7, 13), mode="bilinear"),
    "bilinear by corners": lambda x: F.interpolate(x, (7, 13), mode="bilinear", align_corners=True),
    "bicubic": lambda x: F.interpolate(x, (13, 5), mode="bicubic"),
}


@pytest.mark.parametrize("name", POOLS)
def test_pools_and_resizing(name):
    agrees(in_channels_last(POOLS[name]), torch.randn(1, 3, 10, 8))


def chunked(x):
    a, b, c = x.chunk(3, 1)
    return torch.cat((c, a * b, torch.ones(len(x), 2, 6, 8, dtype=x.dtype)), 1)


SHAPES = {
    "flatten": lambda x: x.flatten(1),
    "a window that is no view": lambda x: x.reshape(-1, 9, 8, 8),
    "shuffle": lambda x: x.reshape(-1, 3, 4, 6, 8).transpose(1, 2).reshape(-1, 12, 6, 8),
    "channel_shuffle": lambda x: F.channel_shuffle(x, 2),
    "pixel_shuffle": lambda x: F.pixel_unshuffle(F.pixel_shuffle(x, 2), 2) + x,
    "chunks": chunked,
    "split": lambda x: torch.cat(x.split(5, 1)[::-1], 1),
    "unbind": lambda x: torch.stack(x.unbind(2)[::-1], 3),
    "steps": lambda x: torch.cat((x[:, :, 0::2, 1::2], x[:, :, 1::2, 0::2]), 1),
    "a step through a merged dimension": lambda x: x.permute(0, 2, 3, 1).flatten(1, 2)[:, 1::3],
    "an index of a merged dimension": lambda x: x.permute(0, 3, 1, 2).flatten(1, 3)[:, 41:43],
    "roll": lambda x: x.roll((1, -3), (2, 3)) + x.roll(2, 1),
    "zeros around": lambda x: F.pad(x, (1, 2, 3, 0)) ** 2,
    "a cut by negative padding": lambda x: F.pad(x, (-1, 2, 0, -3), value=0.5),
    "a cut that leaves nothing": lambda x: (
        F.pad(x[..., :2, :], (0, 0, -2, 3), value=0.5) + x[..., :3, :]
    ),
    "reflection": lambda x: F.pad(x, (1, 2, 3, 0), mode="reflect"),
    "replication": lambda x: F.pad(x, (1, 2, 3, 0), mode="replicate"),
    "circle": lambda x: F.pad(x, (1, 2, 3, 0), mode="circular"),
    "gather": lambda x: x[:, torch.tensor([3, -1, 3, 0])],
    "gather of two dimensions": lambda x: x[:, :, torch.tensor([[3, 1], [0, 2]])],
    "index_select": lambda x: x.index_select(3, torch.tensor([3, 1])),
    "repeat": lambda x: x[:, :2].repeat(1, 2, 1, 3),
    "expand": lambda x: x[:, :1].expand(-1, 4, 6, 8) * 2,
    "more dimensions than a node has": lambda x: (
        x.reshape(-1, 3, 2, 2, 3, 2, 2, 2, 2)
        .permute(0, 8, 6, 4, 2, 7, 5, 3, 1)
        .softmax(-1)
        .reshape(-1, 12, 16, 3)
    ),
    "windows": lambda x: (
        x.reshape(-1, 12, 3, 2, 4, 2).permute(0, 2, 4, 3, 5, 1).reshape(-1, 12, 4, 12)
    ).softmax(-1),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes(name):
    agrees(in_channels_last(SHAPES[name]), torch.randn(1, 3, 6, 8))


def test_a_shuffle_is_one_copy():
    shuffled = nn.Sequential(in_channels_last(SHAPES["shuffle"]), nn.Conv2d(12, 4, 1))
    graph = agrees(shuffled, torch.randn(1, 3, 6, 8))
    assert [node.op for node in graph.nodes] == ["copy", "conv", "copy", "conv", "copy"]


REDUCTIONS = {
    "mean": lambda x: x.mean((2, 3)),
    "mean of channels": lambda x: x.mean(1, keepdim=True) * x,
    "sum": lambda x: x.sum(-1),
    "of a whole picture": lambda x: x.sum((1, 2, 3), keepdim=True) + x,
    "largest": lambda x: x.amax((1, 2)) - x.amin((1, 2)),
    "variance": lambda x: x.var((2, 3)) + x.var(1, unbiased=False).mean((1, 2))[:, None],
    "norm": lambda x: (
        torch.linalg.vector_norm(x, dim=(2, 3)) + torch.linalg.vector_norm(x, 1, (2, 3))
    ),
    "normalize": lambda x: F.normalize(x.permute(0, 2, 3, 1), dim=-1),
    "normalize channels": lambda x: F.normalize(x, dim=1),
    "softmax": lambda x: x.softmax(1) + x.softmax(3),
    "softmax of a merged dimension": lambda x: x.permute(0, 3, 1, 2).flatten(1, 2).softmax(1),
    "layer norm": lambda x: F.layer_norm(x, (6, 8)),
    "rms norm": lambda x: F.rms_norm(x.permute(0, 2, 3, 1), (12,), eps=1e-5),
}


@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions(name):
    agrees(in_channels_last(REDUCTIONS[name]), torch.randn(1, 3, 6, 8))


def test_normalize_is_one_node():
    graph = agrees(in_channels_last(REDUCTIONS["normalize"]), torch.randn(1, 3, 6, 8))
    assert Counter(node.op for node in graph.nodes)["norm"] == 1
    assert not any(node.op in ("unary", "reduce", "binary") for node in graph.nodes)


@pytest.mark.parametrize(
    "norm",
    [
        *(nn.BatchNorm2d(12), nn.GroupNorm(1, 12), nn.GroupNorm(4, 12, affine=False)),
        *(nn.InstanceNorm2d(12), nn.InstanceNorm2d(12, affine=True)),
        nn.InstanceNorm2d(12, affine=True, track_running_stats=True),
        nn.LocalResponseNorm(5, alpha=0.5),
    ],
    ids=str,
)
def test_norms_of_maps(norm):
    agrees(trained_(nn.Sequential(nn.Conv2d(3, 12, 1), norm)), torch.randn(1, 3, 5, 6))


class Attention(nn.Module):
    def __init__(self, **options) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 2, 2)
        self.norm = nn.LayerNorm(8)
        self.qkv = nn.Linear(8, 24)
        self.project = nn.Linear(8, 8)
        self.options = options

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)  # B, N, C
        q, k, v = self.qkv(self.norm(x)).reshape(*x.shape[:2], 3, 2, 4).permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(q, k, v, **self.options)
        return self.project(x.transpose(1, 2).reshape(x.shape[0], -1, 8))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scale": 0.3},
        {"is_causal": True},
        {"attn_mask": torch.ones(12, 12, dtype=torch.bool).tril(2)},
    ],
    ids=["plain", "scale", "causal", "mask"],
)
def test_attention(options):
    graph = agrees(Attention(**options), torch.randn(1, 3, 6, 8))
    # nothing is copied between the layers: q, k, v and the joined heads are views
    assert Counter(node.op for node in graph.nodes)["copy"] == 1


PRODUCTS = {
    "matmul": lambda x: x @ x.transpose(2, 3),
    "matmul with a constant": lambda x: x @ torch.eye(8, 3, dtype=x.dtype),
    "baddbmm": lambda x: torch.baddbmm(
        torch.ones(1, 6, 6, dtype=x.dtype),
        x.flatten(0, 1),
        x.flatten(0, 1).transpose(1, 2),
        beta=0.5,
        alpha=2,
    ).unflatten(0, (-1, 12)),
    "addmm": lambda x: torch.addmm(
        torch.ones(3, dtype=x.dtype), x.mean((2, 3)), torch.eye(12, 3, dtype=x.dtype)
    ),
    "einsum": lambda x: torch.einsum("b g i d, b g j d -> b i j g", x, x),
    "einsum of several": lambda x: torch.einsum("bchw,bcxy->bhwxy", x, x[:, :, :2, :3]),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products(name):
    agrees(in_channels_last(PRODUCTS[name]), torch.randn(1, 3, 6, 8))


def test_multi_head_attention_of_torch():
    parts = {"embed": nn.Conv2d(3, 8, 2, 2), "mha": nn.MultiheadAttention(8, 2, batch_first=True)}

    def forward(self, x):
        x = self.embed(x).flatten(2).transpose(1, 2)
        return self.mha(x, x, x, need_weights=False)[0]

    before = torch.backends.mha.get_fastpath_enabled()
    agrees(Does(forward, **parts), torch.randn(1, 3, 6, 8))
    assert torch.backends.mha.get_fastpath_enabled() is before


def test_a_convolution_pads_what_is_padded_for_it():
    conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)
    graph = agrees(
        Does(lambda self, x: self.conv(F.pad(x, (0, 1, 2, 0))), conv=conv), torch.randn(1, 3, 6, 8)
    )
    assert [node.op for node in graph.nodes] == ["copy", "conv", "copy"]
    assert graph.nodes[1].attributes["padding"] == [3, 1]


WINDOWS = {
    "1x1": lambda: nn.Conv2d(3, 4, 1),
    "1x1, stride 2": lambda: nn.Conv2d(3, 4, 1, stride=2),
    "3x3, padded": lambda: nn.Conv2d(3, 4, 3, padding=1),
    "depthwise 3x3": lambda: nn.Conv2d(3, 3, 3, groups=3),
    "max pool": lambda: nn.MaxPool2d(2, 1),
    "average pool": lambda: nn.AvgPool2d(2, 1),
}


@pytest.mark.parametrize("value", [0.0, -math.inf, 1.5])
@pytest.mark.parametrize(
    "amounts", [(0, 1, 0, 1), (0, 2, 1, 1), (1, 5, 0, 4), (7, 0, 9, 0), (1, -1, -1, 6)]
)
@pytest.mark.parametrize("window", WINDOWS)
def test_any_padding_before_any_window(window, amounts, value):
    """Also more on one side than the window is wide: the core itself loads and runs the plan."""
    if value == -math.inf and window != "max pool":
        pytest.skip("a sum with -inf is -inf or NaN everywhere")

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # -9: `agrees` asks for a finite spread
        return self.op(F.pad(x, amounts, value=value)).clamp(min=-9.0)

    network = Does(forward, op=WINDOWS[window]())
    picture = torch.randn(1, 3, 6, 8)
    agrees(network, picture)

    if runtime.missing() is None:
        with load("native", network.eval(), example=picture) as engine:
            torch.testing.assert_close(engine.run(picture), network(picture))


def test_conv1d_and_squeeze():
    def forward(self, x):
        y = self.conv(x.mean((2, 3))[:, None])  # ECA: over the channels as a sequence
        return x * y.squeeze(1)[..., None, None].sigmoid()

    agrees(Does(forward, conv=nn.Conv1d(1, 1, 3, padding=1)), torch.randn(1, 3, 6, 8))


class TestInPlace:
    def test_later_readers_see_the_change(self):
        def forward(self, x):
            y = self.conv(x)
            same = y.detach()
            y.mul_(2).relu_()
            return y + same.sigmoid()

        agrees(Does(forward, conv=nn.Conv2d(3, 4, 1)), torch.randn(1, 3, 6, 8))

    def test_a_value_that_was_copied_before_stays(self):
        def forward(self, x):
            y = self.conv(x)
            return y.clone() - y.relu_()

        agrees(Does(forward, conv=nn.Conv2d(3, 4, 1)), torch.randn(1, 3, 6, 8))

    def test_a_constant_mask_is_written_by_pytorch(self):
        def forward(self, x):
            mask = x.new_zeros(6, 8)
            mask[:2, 3:] += 1
            mask[4:] = -2
            return self.conv(x) * mask

        agrees(Does(forward, conv=nn.Conv2d(3, 4, 1)), torch.randn(1, 3, 6, 8))

    def test_the_networks_own_buffer_is_left_alone(self):
        def forward(self, x):
            return x + self.table.mul_(2)

        model = Does(forward, table=torch.ones(6, 8))
        before = copy.deepcopy(model.table)
        with pytest.raises(
            EngineError, match="in a batch with"
        ):  # it gives other outputs each time
            lower(model.eval(), torch.randn(1, 3, 6, 8))
        assert not torch.equal(model.table, before), "the network writes to it when it runs"


def test_every_lacking_operator_is_named_with_its_module():
    class Modes(nn.Module):
        def forward(self, x):
            return x.mode(1)[0][:, None]

    model = nn.Sequential(
        nn.Conv2d(3, 4, 1), Modes(), Does(lambda _, x: torch.linalg.qr(x)[0]), Modes()
    )
    with pytest.raises(UnsupportedOperatorError) as error:
        lower(model.eval(), torch.randn(1, 3, 6, 8))
    assert str(error.value) == (
        "native lacks aten.mode.default (at 1). Run this network with another engine, or write "
        "these parts of it with other operators"
    )

    both = Does(lambda self, x: (self.a(x), torch.linalg.qr(x)[0], self.b(x)), a=Modes(), b=Modes())
    with pytest.raises(UnsupportedOperatorError) as error:
        lower(both.eval(), torch.randn(1, 3, 6, 8))
    assert error.value.places == {
        "aten.mode.default": ["a", "b"],
        "aten.linalg_qr.default": ["the network itself"],
    }


def test_another_precision_is_refused():
    model = Does(lambda self, x: x.double().exp().float())
    with pytest.raises(UnsupportedOperatorError, match=r"aten\.to\.dtype in float64"):
        lower(model.eval(), torch.randn(1, 3, 6, 8))


@pytest.mark.parametrize(
    "function",
    [
        lambda self, x: x - x.mean(),
        lambda self, x: F.batch_norm(x, None, None, training=True),
        lambda self, x: x.cumsum(0),
    ],
    ids=["mean of the batch", "batch statistics", "sum over the batch"],
)
def test_pictures_that_affect_each_other_are_refused(function):
    with pytest.raises(
        EngineError, match="gives a picture another output when it is in a batch with"
    ):
        check_independence(Does(function), torch.randn(1, 3, 6, 8))


def test_an_output_without_a_batch_is_refused():
    model = Does(
        lambda self, x: {"logits": x.mean((2, 3)), "width": self.width}, width=torch.ones(3)
    )
    with pytest.raises(EngineError, match="its first dimension is not the batch"):
        lower(model.eval(), torch.randn(2, 3, 6, 8))


def test_outputs_keep_their_order_and_are_dense():
    def forward(self, x):
        y = self.conv(x)
        return {"map": y, "again": y, "picture": x, "sum": (y.sum(1), [y.mean((2, 3))])}

    graph = agrees(Does(forward, conv=nn.Conv2d(3, 4, 1)), torch.randn(1, 3, 6, 8))
    shapes = [(4, 6, 8), (4, 6, 8), (3, 6, 8), (6, 8), (4,)]
    assert [view.shape for view in graph.outputs] == shapes
    assert len({id(view.tensor) for view in graph.outputs}) == 5
    for view in graph.outputs:
        assert view.tensor.kind == "output"
        assert view.strides == view.dense(view.tensor, view.shape).strides


def test_equal_constants_are_kept_once():
    table = torch.randn(6, 8)
    model = Does(lambda self, x: x * self.a + x * self.b, a=table, b=table.clone())
    constants = [
        t for t in agrees(model, torch.randn(1, 3, 6, 8)).tensors() if t.kind == "constant"
    ]
    assert [t.name for t in constants] == ["a"]


def test_constants_have_names_of_their_own():
    def forward(self, x):
        return x * torch.arange(8.0) + x / torch.arange(1.0, 9.0)

    graph = lower(Does(forward).eval(), torch.randn(1, 3, 6, 8))
    names = [t.name for t in graph.tensors() if t.kind == "constant"]
    assert names == ["constant", "constant.2"]


def test_the_graph_does_not_follow_the_networks_weights():
    model = nn.Conv2d(3, 4, 1).eval()
    picture = torch.randn(1, 3, 6, 8)
    graph = lower(model, picture)
    before = interpret(graph, [picture[0].numpy()])[0]
    nn.init.zeros_(model.weight)
    np.testing.assert_array_equal(interpret(graph, [picture[0].numpy()])[0], before)


def test_more_pictures_and_parts_that_are_not_read_leave_no_node():
    def forward(self, x):
        self.conv(x).relu()
        return x.mean((2, 3))

    graph = lower(Does(forward, conv=nn.Conv2d(3, 4, 1)).eval(), torch.randn(5, 3, 6, 8))
    assert [node.op for node in graph.nodes] == ["reduce"]


def folded(name: str, **options) -> nn.Module:
    return fuse(trained_(fleetfoot.models.create_model(name, **options)).eval()).model


@pytest.mark.parametrize("name", ["fasternet_t0", "shufflenet_v1_g3_x0_25", "timm:mobilevit_xxs"])
def test_networks(name):
    agrees(folded(name), torch.randn(1, 3, 64, 64))


@pytest.mark.slow
@pytest.mark.parametrize("name", fleetfoot.models.list_models())
def test_every_network_of_the_zoo(name):
    agrees(folded(name), torch.randn(1, 3, 64, 64))


PEERS = {  # the smallest of each family and form, at the smallest size that it takes
    "timm:convnext_atto": 64,
    "timm:convnext_zepto_rms": 64,
    "timm:convnextv2_atto": 64,
    "timm:edgenext_small": 64,
    "timm:edgenext_small_rw": 64,
    "timm:edgenext_xx_small": 64,
    "timm:efficientnet_b0": 64,
    "timm:efficientnet_b0_gn": 64,
    "timm:efficientnet_es": 64,
    "timm:efficientnet_lite0": 64,
    "timm:efficientnetv2_rw_t": 64,
    "timm:ghostnet_100": 64,
    "timm:ghostnetv2_100": 64,
    "timm:mobilevit_s": 96,
    "timm:mobilevit_xs": 64,
    "timm:mobilevitv2_050": 96,
    "timm:poolformer_s12": 64,
    "timm:poolformerv2_s12": 64,
    "timm:repvit_m0_9": 64,
    "timm:repvit_m1": 64,
    "timm:resnet18": 64,
    "timm:resnet50_gn": 64,
    "timm:resnet50d": 64,
    "timm:resnetblur18": 64,
    "timm:resnetrs50": 64,
    "timm:tf_efficientnet_b0": 65,
    "timm:tf_efficientnet_es": 65,
    "timm:tf_efficientnet_lite0": 65,
    "timm:tf_efficientnetv2_b0": 65,
    "torchvision:alexnet": 64,
    "torchvision:convnext_tiny": 64,
    "torchvision:densenet121": 64,
    "torchvision:efficientnet_b0": 64,
    "torchvision:efficientnet_v2_s": 64,
    "torchvision:googlenet": 64,
    "torchvision:inception_v3": 96,
    "torchvision:maxvit_t": 224,
    "torchvision:mnasnet0_5": 64,
    "torchvision:mobilenet_v2": 64,
    "torchvision:mobilenet_v3_small": 64,
    "torchvision:regnet_x_400mf": 64,
    "torchvision:regnet_y_400mf": 64,
    "torchvision:resnet18": 64,
    "torchvision:resnext50_32x4d": 64,
    "torchvision:shufflenet_v2_x0_5": 64,
    "torchvision:squeezenet1_0": 64,
    "torchvision:swin_t": 72,
    "torchvision:swin_v2_t": 72,
    "torchvision:vgg11_bn": 64,
    "torchvision:vit_b_32": 224,
    "torchvision:wide_resnet50_2": 64,
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The default weight initialization of")
@pytest.mark.parametrize("name", PEERS)
def test_networks_of_others(name):
    agrees(folded(name), torch.randn(1, 3, PEERS[name], PEERS[name]))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in PEERS if name.startswith("timm:")])
def test_features_of_networks_of_others(name):
    features = folded(name, features_only=True)
    agrees(features, torch.randn(1, 3, PEERS[name], PEERS[name]))


def test_features_of_a_network_that_is_not_folded():
    model = fleetfoot.models.create_model("mobilenetv3_small_050", features_only=True)
    agrees(trained_(model), torch.randn(1, 3, 45, 70))
