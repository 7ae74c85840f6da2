"""The oracle of the compiler's tests against PyTorch's own operators."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from interpreter import interpret

from fleetfoot.engines.native.graph import Graph, Node, Tensor, View


def run_node(op: str, inputs: dict[str, torch.Tensor], out: tuple[int, ...], **attributes):
    views = {}
    feeds = []
    for role, value in inputs.items():
        kind = "constant" if role in ("weight", "bias", "index") else "input"
        data = value.numpy() if kind == "constant" else None
        views[role] = View.dense(
            Tensor(kind=kind, size=value.numel(), name=role, data=data), tuple(value.shape)
        )
        if kind == "input":
            feeds.append((views[role], value.numpy()))
    result = View.dense(Tensor(kind="output", size=int(np.prod(out))), out)
    graph = Graph(
        model="one node",
        inputs=[view for view, _ in feeds],
        outputs=[result],
        nodes=[Node(op=op, inputs=views, out=result, attributes=attributes, name=op)],
    )
    return torch.from_numpy(interpret(graph, [value for _, value in feeds])[0])


def to_map(x: torch.Tensor) -> torch.Tensor:
    return x[0].permute(1, 2, 0).contiguous()


WINDOW = {"kernel": [3, 2], "stride": [2, 1], "padding": [1, 0], "dilation": [1, 2]}


@pytest.mark.parametrize("packed", [False, True])
def test_conv_is_torchs(packed):
    x, weight, bias = torch.randn(1, 6, 9, 8), torch.randn(40, 3, 3, 2), torch.randn(40)
    expected = F.conv2d(
        x.double(), weight.double(), bias.double(), (2, 1), (1, 0), (1, 2), groups=2
    )
    if packed:  # 20 outputs a group: two panels of 16, the second with 12 columns of zeros
        columns = F.pad(weight.permute(0, 2, 3, 1).reshape(2, 20, -1), (0, 0, 0, 12))
        weight = columns.reshape(2, 2, 16, -1).transpose(2, 3).contiguous()
        bias = F.pad(bias.reshape(2, 20), (0, 12))
    out = run_node(
        "conv",
        {"x": to_map(x), "weight": weight, "bias": bias},
        to_map(expected).shape,
        **WINDOW,
        groups=2,
    )
    torch.testing.assert_close(out, to_map(expected))


@pytest.mark.parametrize("packed", [False, True])
def test_depthwise_is_torchs(packed):
    x, weight = torch.randn(1, 5, 9, 8), torch.randn(10, 1, 3, 2)
    expected = F.conv2d(x.double(), weight.double(), None, (2, 1), (1, 0), (1, 2), groups=5)
    if packed:
        weight = F.pad(weight.reshape(10, 6).T, (0, 6)).contiguous()
    out = run_node(
        "depthwise",
        {"x": to_map(x), "weight": weight},
        to_map(expected).shape,
        **WINDOW,
        multiplier=2,
    )
    torch.testing.assert_close(out, to_map(expected))


@pytest.mark.parametrize("include", [0, 1])
@pytest.mark.parametrize("ceil", [False, True])
def test_average_pool_is_torchs(include, ceil):
    x = torch.randn(1, 3, 10, 8)
    expected = F.avg_pool2d(x.double(), 3, 2, 1, ceil_mode=ceil, count_include_pad=bool(include))
    out = run_node(
        "pool",
        {"x": to_map(x)},
        to_map(expected).shape,
        mode="average",
        kernel=[3, 3],
        stride=[2, 2],
        padding=[1, 1, 1, 1],
        dilation=[1, 1],
        count_include_pad=include,
    )
    torch.testing.assert_close(out, to_map(expected))


@pytest.mark.parametrize("ceil", [False, True])
def test_max_pool_is_torchs(ceil):
    x = torch.randn(1, 3, 10, 8)
    x[0, 1, 4, 4] = torch.nan
    expected = F.max_pool2d(x.double(), 3, 2, 1, dilation=2, ceil_mode=ceil)
    out = run_node(
        "pool",
        {"x": to_map(x)},
        to_map(expected).shape,
        mode="max",
        kernel=[3, 3],
        stride=[2, 2],
        padding=[1, 1, 1, 1],
        dilation=[2, 2],
        count_include_pad=0,
    )
    torch.testing.assert_close(out, to_map(expected), equal_nan=True)


@pytest.mark.parametrize(
    ("mode", "align"),
    [
        ("nearest", None),
        ("bilinear", False),
        ("bilinear", True),
        ("bicubic", False),
        ("bicubic", True),
    ],
)
@pytest.mark.parametrize("size", [(11, 4), (3, 16)])
def test_resize_is_torchs(mode, align, size):
    x = torch.randn(1, 3, 5, 8, dtype=torch.float64)
    expected = F.interpolate(x, size, mode=mode, align_corners=align)
    scale = [(i - 1) / max(o - 1, 1) if align else i / o for i, o in zip((5, 8), size, strict=True)]
    out = run_node(
        "resize",
        {"x": to_map(x)},
        to_map(expected).shape,
        mode=mode,
        align_corners=int(bool(align)),
        scale=scale,
    )
    torch.testing.assert_close(out, to_map(expected))


@pytest.mark.parametrize("trailing", [1, 2])
def test_norm_is_torchs(trailing):
    x = torch.randn(4, 5, 6, dtype=torch.float64)
    over = x.shape[-trailing:]
    out = run_node("norm", {"x": x}, x.shape, mode="layer", trailing=trailing, eps=1e-3)
    torch.testing.assert_close(out, F.layer_norm(x, over, eps=1e-3))
    out = run_node("norm", {"x": x}, x.shape, mode="rms", trailing=trailing, eps=1e-3)
    torch.testing.assert_close(out, F.rms_norm(x, over, eps=1e-3))
    out = run_node("norm", {"x": x}, x.shape, mode="l2", trailing=1, eps=1e-3)
    torch.testing.assert_close(out, F.normalize(x, dim=-1, eps=1e-3))


def test_reading_what_nobody_wrote_shows():
    tensor = Tensor(kind="arena", size=4)
    target = View.dense(Tensor(kind="output", size=4), (4,))
    node = Node(op="copy", inputs={"x": View.dense(tensor, (4,))}, out=target)
    graph = Graph(model="", inputs=[], outputs=[target], nodes=[node])
    assert np.isnan(interpret(graph, [])[0]).all()


def test_a_view_may_not_leave_its_tensor():
    tensor = Tensor(kind="input", size=4)
    target = View.dense(Tensor(kind="output", size=4), (4,))
    node = Node(op="copy", inputs={"x": View(tensor, (4,), (1,), 1)}, out=target)
    graph = Graph(model="", inputs=[View.dense(tensor, (4,))], outputs=[target], nodes=[node])
    with pytest.raises(AssertionError, match="leaves its tensor"):
        interpret(graph, [np.zeros(4)])
