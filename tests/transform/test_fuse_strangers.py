"""fuse on networks as people bring them: what they keep, share, replace and write out by hand."""

from __future__ import annotations

import copy
import math
import pickle
import threading
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fleetfoot.count import trace
from fleetfoot.errors import FoldError
from fleetfoot.models import create_model
from fleetfoot.network import Workload
from fleetfoot.transform import fuse, swap
from fleetfoot.transform.fold import is_batchnorm
from helpers import trained_

IMAGE = torch.zeros(1, 4, 12, 12)


def norms(module: nn.Module) -> int:
    return sum(is_batchnorm(m) for m in module.modules())


def conv(kernel: int = 3, **options) -> nn.Conv2d:
    return nn.Conv2d(4, 4, kernel, padding=kernel // 2, bias=False, **options)


def norm() -> nn.BatchNorm2d:
    return nn.BatchNorm2d(4)


def same(fused, model: nn.Module, example: Tensor = IMAGE) -> None:
    """The returned network beside the given one, in float32."""
    x = torch.randn(example.shape)
    model.eval()
    with torch.no_grad():
        got, expected = fused.model(x), model(x)
    # float32: a handful of layers, each rounded to 6e-8 of values near 1
    assert float((got - expected).abs().max() / expected.abs().max()) < 1e-5


class Block(nn.Module):
    """A module whose forward is the given function of it and its input."""

    def __init__(self, forward, **modules: nn.Module) -> None:
        super().__init__()
        self.run = forward
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


# --- what a forward keeps


class Biased(nn.Module):
    """Attention in little: a bias by position, indexed once for each device and kept."""

    def __init__(self, keep) -> None:
        super().__init__()
        self.conv, self.norm, self.mix = conv(), norm(), nn.Linear(12, 12)
        self.biases = nn.Parameter(torch.randn(4, 5))
        self.register_buffer("index", torch.arange(144).reshape(12, 12) % 5)
        self.cache = {"dict": {}, "list": [], "object": SimpleNamespace(rows={})}[keep]

    def bias(self, device) -> Tensor:
        if isinstance(self.cache, list):
            if not self.cache:
                self.cache.append(self.biases[:, self.index])
            return self.cache[0]
        table = self.cache if isinstance(self.cache, dict) else self.cache.rows
        if device not in table:
            table[device] = self.biases[:, self.index]
        return table[device]

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(torch.matmul(self.norm(self.conv(x)), self.bias(x.device)))


@pytest.mark.parametrize("branch", ["whole", "inside a sum"])
@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("keep", ["dict", "list", "object"])
def test_tables_that_a_forward_fills_are_as_they_were(keep, warm, branch):
    inner = trained_(Biased(keep))
    model = nn.Sequential(inner, conv(), norm())
    if branch == "inside a sum":
        model = Block(lambda m, x: m.a(x) + x, a=trained_(model))
    model.eval()
    if warm:
        with torch.no_grad():
            model(IMAGE)
    fused = fuse(model, IMAGE)

    assert norms(fused.model) == 0
    (kept,) = [m.cache for m in fused.model.modules() if hasattr(m, "cache")]
    rows = kept.rows if isinstance(kept, SimpleNamespace) else kept
    values = list(rows.values() if isinstance(rows, dict) else rows)
    assert [value.dtype for value in values] == [torch.float32] * warm
    same(fused, model)
    assert trace(fused.model, IMAGE).macs == trace(model, IMAGE).macs


@pytest.mark.parametrize(
    "name",
    [
        "levit_128s",
        pytest.param("efficientformer_l1", marks=pytest.mark.slow),
        *(pytest.param(f"efficientvit_m{i}", marks=pytest.mark.slow) for i in range(6)),
        pytest.param("tiny_vit_5m_224", marks=pytest.mark.slow),
    ],
)
def test_timms_networks_with_tables_by_device(name):
    model = create_model(f"timm:{name}").eval()
    (image,) = Workload.of(name, model).arguments
    fused = fuse(model, image)
    assert norms(fused.model) == 0
    same(fused, model, image)
    counted, before = trace(fused.model, image), trace(model, image)
    assert counted.device == "meta"
    # EfficientFormer's two heads are averaged: they become one
    assert before.macs - counted.macs == (448 * 1000 if name == "efficientformer_l1" else 0)
    assert fused.certificate.returned.max_rel < 1e-5
    paths = [row.path for row in fused.left]
    assert len({path.removesuffix(".gamma") for path in paths}) == len(paths)


def test_tensors_beside_the_state_come_along_to_float64_and_back():
    class Rotated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = conv(), norm()
            self.rotation = torch.linalg.qr(torch.randn(12, 12)).Q  # no buffer
            self.tables = {"back": [self.rotation.T.contiguous()]}

        def forward(self, x: Tensor) -> Tensor:
            y = self.norm(self.conv(x)) @ self.rotation
            return y.relu() @ self.tables["back"][0]

    for model in (Rotated(), Block(lambda m, x: m.a(x) + x, a=Rotated())):
        fused = fuse(trained_(model), IMAGE)
        assert norms(fused.model) == 0
        same(fused, model)


# --- copying and eval mode


class Silent(nn.Sequential):
    """train() returns nothing, so eval() gives None: OpenMMLab's way."""

    def train(self, mode: bool = True) -> None:
        super().train(mode)


def test_a_train_that_returns_nothing_is_no_hindrance():
    model = trained_(Silent(conv(), norm(), Silent(conv(1), norm())))
    fused = fuse(model, IMAGE)
    assert norms(fused.model) == 0
    same(fused, model)
    swapped = swap(Silent(conv(groups=2), norm(), nn.ReLU(), conv()), IMAGE)
    assert swapped.model(IMAGE).shape == IMAGE.shape
    assert trace(model, IMAGE).macs == 4 * 4 * 144 * (9 + 1)


@pytest.mark.parametrize(
    "held", [math, threading.Lock(), SimpleNamespace(cfg={"np": math}), (i for i in range(3))]
)
def test_what_cannot_be_copied_is_no_hindrance(held):
    model = trained_(Block(lambda m, x: m.b(m.a(x)), a=conv(groups=2), b=norm()))
    model.a.held = model.held = held
    before = copy.deepcopy(model.state_dict())
    fused = fuse(model, IMAGE)

    assert norms(fused.model) == 0
    assert model.held is held
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    same(fused, model)
    assert trace(fused.model, IMAGE).macs == trace(model, IMAGE).macs
    assert swap(model, IMAGE).replaced


# --- attributes that a forward reads


class Parser(nn.Module):
    """YOLO's way: each layer says by ``f`` from which output it reads."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.model = nn.Sequential(*layers)
        for i, layer in enumerate(layers):
            layer.i, layer.f, layer.kind = i, -1, type(layer).__name__

    def forward(self, x: Tensor) -> Tensor:
        answers: list[Tensor] = []
        for layer in self.model:
            assert layer.i == len(answers), layer.kind
            if isinstance(layer.f, list):
                x = layer([x if j == -1 else answers[j] for j in layer.f])
            elif layer.f != -1:
                x = layer(answers[layer.f])
            else:
                x = layer(x)
            answers.append(x)
        return x


class Added(nn.Module):
    def forward(self, xs: list[Tensor]) -> Tensor:
        return xs[0] + xs[1]


def test_attributes_are_kept_through_folding_copying_and_folding_again():
    rep = Block(lambda m, x: torch.relu(m.a(x) + m.b(x)), a=conv(), b=conv(1))
    plain_sum = Block(lambda m, x: m.a(x) + m.b(x), a=conv(), b=conv(1))
    scaled = Block(lambda m, x: m.a(x) * m.gamma, a=conv())
    scaled.gamma = nn.Parameter(torch.rand(4, 1, 1) + 0.5)
    layers = [
        conv(),
        norm(),
        rep,
        plain_sum,
        nn.Sequential(conv(), norm()),
        scaled,
        Added(),
        norm(),
    ]
    model = trained_(Parser(*layers))
    layers[6].f = [-1, 2]
    layers[7].f = 6
    expected = [(m.i, m.f, m.kind) for m in model.model]

    fused = fuse(model, IMAGE)
    again = fuse(copy.deepcopy(fused.model), IMAGE)
    for made in (fused.model, copy.deepcopy(fused.model), again.model):
        assert [(m.i, m.f, m.kind) for m in made.model] == expected
        with torch.no_grad():
            torch.testing.assert_close(
                made(IMAGE + 1), model.eval()(IMAGE + 1), rtol=1e-4, atol=1e-5
            )
    assert {row.kind for row in fused.folded} == {"batch norm", "branches", "layer scale"}


def test_a_rewritten_module_keeps_its_attributes_through_pickle_too():
    model = trained_(nn.Sequential(Block(_sum_of_two, a=conv(), b=conv(1))))
    model[0].f, model[0].stride = [-1, 4], torch.tensor([8.0])
    fused = fuse(model, IMAGE).model
    restored = copy.deepcopy(pickle.loads(pickle.dumps(fused)))

    assert restored[0].f == [-1, 4]
    assert restored[0].stride.tolist() == [8.0]
    assert restored[0].stride.dtype is torch.float32
    with torch.no_grad():
        torch.testing.assert_close(restored(IMAGE + 1), fused(IMAGE + 1))


def _sum_of_two(m: nn.Module, x: Tensor) -> Tensor:
    return torch.relu(m.a(x) + m.b(x))


# --- the second figure of the certificate


def test_the_returned_network_is_run_in_its_own_type():
    for dtype, bound in ((torch.float32, 1e-5), (torch.bfloat16, 5e-2), (torch.float64, 1e-14)):
        model = trained_(nn.Sequential(conv(), norm(), nn.ReLU(), conv(), norm())).to(dtype)
        fused = fuse(model, IMAGE)
        returned = fused.certificate.returned
        assert returned.type == str(dtype).removeprefix("torch.")
        assert returned.max_rel < bound
        assert (returned.max_rel > 1e-9) == (dtype is not torch.float64)
        assert f"the network returned: {returned.type}, the same input: largest difference " in str(
            fused
        )
        assert fused.record()["certificate"]["returned"]["max_rel"] == returned.max_rel


def test_a_given_network_that_runs_in_float64_alone_is_said():
    class Doubled(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            if x.dtype is not torch.float64:
                raise TypeError("needs float64")
            return super().forward(x)

    fused = fuse(trained_(Doubled(conv(), norm())), IMAGE)
    assert fused.certificate.returned.max_rel is None
    assert "does not run in float32: TypeError: needs float64" in str(fused)


def test_a_fold_that_is_wrong_in_its_own_type_alone_is_not_returned():
    """It answers otherwise in float32 as soon as a convolution has a bias."""

    def forward(m: nn.Module, x: Tensor) -> Tensor:
        y = m.b(m.a(x))
        return y * (2 if m.a.bias is not None and m.a.bias.dtype is torch.float32 else 1)

    with pytest.raises(FoldError, match=r"in float32, the network: output differs by"):
        fuse(trained_(Block(forward, a=conv(), b=norm())), IMAGE)


# --- forwards replaced on the instance


def _doubled(x: Tensor) -> Tensor:
    return x * 2


@pytest.mark.parametrize("name", ["a", "b", "d", "pool", "flat"])
def test_a_forward_replaced_on_the_instance_leaves_that_layer_alone(name):
    model = trained_(
        nn.Sequential(
            nn.Sequential(conv(), norm()),
            Block(
                lambda m, x: m.lin(m.flat(m.d(m.pool(m.b(m.a(x)))))),
                a=conv(),
                b=norm(),
                pool=nn.AdaptiveAvgPool2d(1),
                d=nn.Dropout(),
                flat=nn.Flatten(),
                lin=nn.Linear(4, 4),
            ),
        )
    )
    part = getattr(model[1], name)
    before = type(part).forward
    part.forward = _doubled if name in "abd" else lambda x: before(part, x) * 3
    fused = fuse(model, IMAGE)

    assert fused.folded[0].path == "0.1"
    same(fused, model)
    left = {row.path: row.reason for row in fused.left}
    if name == "b":
        assert list(left) == ["1.b"]
        assert "the forward of this BatchNorm2d was replaced by another" in left["1.b"]
    else:
        assert not left  # the norm folds into the convolution before it, or else the linear layer
        assert dict((row.path, row.detail) for row in fused.folded)["1.b"] == (
            "into 1.lin" if name == "a" else "into 1.a"
        )


def test_a_norm_whose_result_meets_a_replaced_layer_is_left():
    """It could only fold forwards, through a dropout that does something else now."""
    model = trained_(nn.Sequential(nn.ReLU(), norm(), nn.Dropout(), conv(1)))
    model[2].forward = torch.tanh
    fused = fuse(model, IMAGE)
    assert [row.path for row in fused.left] == ["1"]
    same(fused, model)


def test_a_class_that_is_called_in_its_own_way_is_left():
    class Twice(nn.BatchNorm2d):
        def __call__(self, x: Tensor) -> Tensor:
            return super().__call__(super().__call__(x))

    fused = fuse(trained_(nn.Sequential(conv(), Twice(4), conv(), norm())), IMAGE)
    assert [row.path for row in fused.left] == ["1"]
    assert [row.path for row in fused.folded] == ["3"]


# --- norms and scales written out in a forward


class OwnNorm(nn.Module):
    """F.batch_norm with statistics of its own, as in detectron2's frozen norm."""

    def __init__(self) -> None:
        super().__init__()
        self.gain, self.offset = nn.Parameter(torch.rand(4) + 0.5), nn.Parameter(torch.rand(4))
        self.register_buffer("mean", torch.rand(4))
        self.register_buffer("var", torch.rand(4) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.mean, self.var, self.gain, self.offset, False)


class OwnNormByBatch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.batch_norm(x, None, None, None, None, True, 0.1, 1e-5, False)


def _by_size(m: nn.Module, x: Tensor) -> Tensor:
    y = m.a(x) if x.shape[0] > 0 else x  # torch.fx cannot follow it
    return F.batch_norm(y, m.n.mean, m.n.var) * m.gamma.view(-1, 1, 1)


def test_batch_norms_written_out_are_folded_or_listed():
    fused = fuse(nn.Sequential(conv(), OwnNorm(), nn.ReLU(), OwnNorm(), OwnNormByBatch()), IMAGE)
    kinds = {row.path: row.type for row in fused.left}
    done = {row.path for row in fused.folded}
    assert set(kinds) | done == {"1", "3", "4"}
    assert set(kinds.values()) == {"F.batch_norm"}
    assert all("could not be rewritten" in row.reason for row in fused.left)


def test_what_an_untraceable_forward_writes_out_is_listed():
    model = Block(_by_size, a=conv(), n=OwnNorm())
    model.gamma = nn.Parameter(torch.rand(4))
    fused = fuse(nn.Sequential(model), IMAGE)
    assert {(row.path, row.type) for row in fused.left} == {
        ("0", "F.batch_norm"), ("0.gamma", "layer scale"),
    }  # fmt: skip


SCALES = {
    "reshape": lambda m, x: m.a(x) * m.gamma.reshape(1, -1, 1, 1),
    "view": lambda m, x: m.gamma.view(1, 4, 1, 1) * m.a(x),
    "unsqueeze": lambda m, x: m.a(x) * m.gamma.unsqueeze(-1).unsqueeze(-1),
    "index": lambda m, x: x + m.gamma[:, None, None] * m.a(x).relu(),
    "index after": lambda m, x: x.sigmoid() + m.gamma[None, :, None, None] * m.a(x),
    "mul_": lambda m, x: m.a(x).mul_(m.gamma[:, None, None]),
    "doubled": lambda m, x: torch.mul(m.a(x), (2 * m.gamma.float()).view(-1, 1, 1)),
}


@pytest.mark.parametrize("name", SCALES)
def test_layer_scales_through_views_are_folded_or_listed(name):
    model = Block(SCALES[name], a=conv(1))
    model.gamma = nn.Parameter(torch.rand(4) + 0.5)
    model = nn.Sequential(model, nn.ReLU())
    fused = fuse(model, IMAGE)

    if name == "index":
        assert [(row.path, row.type) for row in fused.left] == [("0.gamma", "layer scale")]
        assert "relu" in fused.left[0].reason
    elif name == "doubled":
        assert len(fused.left) + len(fused.folded) == 1
    else:
        assert not fused.left
        assert len(fused.folded) == 1
        assert not any(
            p.numel() == 4 and p.dim() == 1 and n.endswith("gamma")
            for n, p in fused.model.named_parameters()
        )
    same(fused, model)


class Sensitive(nn.Module):
    """In float32 its answer moves by as much as it is: a million radians lose their last bits."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, bias=False)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (1e6 * self.norm(self.conv(x))).sin()


def test_a_network_whose_own_type_moves_its_answer_is_held_to_no_less():
    done = fuse(trained_(Sensitive()), torch.randn(1, 3, 16, 16))

    assert len(done.folded) == 1
    assert done.certificate.max_rel < 1e-9
    assert done.certificate.returned.max_rel > torch.finfo(torch.float32).eps ** 0.25
