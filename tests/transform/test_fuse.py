"""fuse on modules small enough to see through: what folds, what is left, what is refused."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from fleetfoot.errors import FoldError
from fleetfoot.models import create_model
from fleetfoot.transform import certificate, fold_batchnorm, fuse
from fleetfoot.transform.certificate import guesses
from fleetfoot.transform.fold import is_batchnorm
from helpers import trained_

IMAGE = torch.zeros(1, 4, 12, 12)


def norms(module: nn.Module) -> int:
    return sum(is_batchnorm(m) for m in module.modules())


def reasons(fused) -> str:
    return "; ".join(f"{row.path}: {row.reason}" for row in fused.left)


def same(fused, model: nn.Module, example: Tensor = IMAGE) -> None:
    """Holds the fused network against the given one, apart from the certificate, in float32."""
    x = torch.randn(example.shape)
    with torch.no_grad():
        expected = model.eval()(x.clone())  # some write into their input
        # float32: a handful of layers, each rounded to 6e-8 of values near 1
        torch.testing.assert_close(fused.model(x), expected, rtol=1e-4, atol=1e-5)


class Block(nn.Module):
    """A module whose forward is the given function of it and its input."""

    def __init__(self, forward, **modules: nn.Module) -> None:
        super().__init__()
        self.run = forward
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def conv(kernel: int = 3, *, groups: int = 1, bias: bool = False, **options) -> nn.Conv2d:
    return nn.Conv2d(4, 4, kernel, padding=kernel // 2, groups=groups, bias=bias, **options)


def norm() -> nn.BatchNorm2d:
    return nn.BatchNorm2d(4)


# --- what folds


def test_pairs_fold_and_the_network_keeps_its_classes_and_names():
    model = trained_(nn.Sequential(conv(), norm(), nn.ReLU(), nn.Sequential(conv(1)), norm()))
    fused = fuse(model, IMAGE)

    assert norms(fused.model) == 0
    assert [type(m) for m in fused.model] == [
        nn.Conv2d, nn.Identity, nn.ReLU, nn.Sequential, nn.Identity,
    ]  # fmt: skip
    assert [(row.path, row.kind, row.detail) for row in fused.folded] == [
        ("1", "batch norm", "into 0"),
        ("4", "batch norm", "into 3.0"),
    ]
    assert not fused.left
    same(fused, model)


@pytest.mark.parametrize(
    "block",
    [
        Block(lambda m, x: m.a(x) + m.b(x) + m.n(x), a=conv(), b=conv(1), n=norm()),
        Block(lambda m, x: x + (m.a(x) - m.n(x)) * 0.5, a=conv(groups=4), n=norm()),
        Block(lambda m, x: sum([m.a(x), m.b(x)]) / 2, a=conv(5), b=conv(5)),
        Block(lambda m, x: torch.add(m.a(x), m.b(x)).sub(x), a=conv(), b=conv(1)),
        Block(
            lambda m, x: m.n(m.a(x) + m.drop(m.b(x))) + x,
            a=conv(), b=conv(1), n=norm(), drop=StochasticDepth(0.5, "row"),
        ),
        Block(lambda m, x: -m.a(x) + m.b(m.drop(x)), a=conv(), b=conv(1), drop=nn.Dropout(0.5)),
        Block(lambda m, x: m.a(x).add_(m.b(x)), a=conv(), b=conv(1)),
        Block(lambda m, x: m.a(x) + 2 + x, a=conv(bias=True)),
    ],
)  # fmt: skip
def test_any_sum_of_linear_branches_becomes_one_convolution(block):
    model = trained_(block)
    fused = fuse(model, IMAGE)

    assert type(fused.model) is nn.Conv2d
    assert [row.kind for row in fused.folded] == ["branches"]
    same(fused, model)


@st.composite
def sums(draw) -> nn.Module:
    """A random tree of sums, scales, norms and convolutions over one input."""

    def branch(depth: int):
        kind = draw(st.sampled_from(["conv", "norm", "skip", "sum", "scale"]))
        if depth and kind == "sum":
            a, b = branch(depth - 1), branch(depth - 1)
            sign = draw(st.sampled_from([1, -1]))
            return Block(lambda m, x: m.a(x) + sign * m.b(x), a=a, b=b)
        if depth and kind == "scale":
            scaled = Block(lambda m, x: m.scale * m.a(x), a=branch(depth - 1))
            scaled.scale = nn.Parameter(torch.rand(4, 1, 1) + 0.5)
            return scaled
        if kind == "norm":
            return norm()
        if kind == "skip":
            return nn.Identity()
        kernel, groups = draw(st.sampled_from([(1, 1), (3, 1), (3, 1), (1, 4), (1, 2)]))
        made = conv(kernel, groups=groups, bias=draw(st.booleans()))
        return nn.Sequential(made, norm()) if draw(st.booleans()) else made

    tree = Block(lambda m, x: m.a(x) + m.b(x), a=conv(), b=branch(3))
    return trained_(tree, seed=draw(st.integers(0, 1000)))


@given(model=sums())
@settings(max_examples=15, deadline=None)
def test_a_random_tree_of_linear_branches_is_one_convolution(model):
    fused = fuse(model, IMAGE)

    assert type(fused.model) is nn.Conv2d
    # float64: some fifty terms near 1, each rounded by 1e-16
    assert fused.certificate.max_rel < 1e-13


def test_a_sum_inside_a_larger_forward_is_rewritten_and_the_rest_kept():
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        y = F.relu(m.first(x))
        return F.relu(m.a(y) + m.n(y)) + m.last(y).mean((2, 3), keepdim=True)

    model = trained_(Block(forward, first=conv(), a=conv(), n=norm(), last=conv(1)))
    model.stride = 7
    fused = fuse(model, IMAGE)

    assert norms(fused.model) == 0
    assert type(fused.model).__name__ == "Block"
    assert fused.model.stride == 7
    same(fused, model)


def test_a_layer_scale_folds_wherever_it_is_written():
    inline = Block(lambda m, x: x + m.gamma * m.act(m.a(x)).relu() * m.b(x), a=conv(), b=conv())
    inline.gamma = nn.Parameter(torch.rand(4, 1, 1))
    inline.act = nn.ReLU()
    scale = Block(lambda m, x: x * m.gamma)
    scale.gamma = nn.Parameter(torch.rand(4, 1, 1))
    block = Block(lambda m, x: F.relu(x) + m.scale(m.drop(m.a(F.relu(x)))), a=conv())
    block.add_module("scale", scale)
    block.add_module("drop", nn.Dropout(0.1))
    block.gamma = nn.Parameter(torch.rand(4, 1, 1))
    last = Block(lambda m, x: F.relu(x) * (m.a(F.relu(x)) * m.gamma), a=conv())
    last.gamma = nn.Parameter(torch.rand(1, 4, 1, 1))
    model = nn.Sequential(block, last)
    fused = fuse(model, IMAGE)

    assert {row.path: row.kind for row in fused.folded} == {
        "0.scale": "layer scale", "1.gamma": "layer scale",
    }  # fmt: skip
    assert "1.gamma" not in dict(fused.model.named_parameters())
    same(fused, model)
    left = fuse(inline, IMAGE)
    assert "relu" in reasons(left)
    same(left, inline)


def test_a_batchnorm_with_nothing_linear_before_it_folds_into_all_that_read_it():
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        y = m.n(F.relu(x))
        tokens = y.flatten(2).transpose(1, 2)
        return m.a(y).relu() + m.b(y) + m.q(tokens).transpose(-2, -1).reshape(x.shape)

    model = trained_(
        Block(
            forward,
            n=norm(),
            a=conv(1),
            b=conv(padding_mode="reflect"),
            q=nn.Linear(4, 4, bias=False),
        )
    )
    fused = fuse(model, IMAGE)

    assert norms(fused.model) == 0
    assert sorted(fused.folded[0].detail.removeprefix("into ").split(", ")) == ["a", "b", "q"]
    same(fused, model)


def test_linear_and_batchnorm1d_fold_through_flattened_tokens():
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        y = m.linear(x.flatten(2).transpose(1, 2))
        return m.n(y.flatten(0, 1)).reshape_as(y)

    model = trained_(Block(forward, linear=nn.Linear(4, 6), n=nn.BatchNorm1d(6)))
    fused = fuse(model, IMAGE)

    assert norms(fused.model) == 0
    same(fused, model)


def test_a_batchnorm_over_joined_convolutions_is_shared_out():
    model = trained_(
        Block(
            lambda m, x: m.n(torch.cat([m.a(x), m.b(x)], dim=1)),
            a=conv(), b=conv(5), n=nn.BatchNorm2d(8),
        )
    )  # fmt: skip
    fused = fuse(model, IMAGE)

    assert fused.folded[0].detail == "into a, b"
    same(fused, model)


def test_one_convolution_and_norm_called_at_several_places_fold_once():
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        return F.relu(m.head(x)) + F.relu(m.head(F.max_pool2d(x, 3, 1, 1)))

    model = trained_(Block(forward, head=nn.Sequential(conv(), norm())))
    fused = fuse(model, IMAGE)

    assert norms(fused.model) == 0
    same(fused, model)


# --- what is left, with the reason


def two_readers(m: nn.Module, x: Tensor) -> Tensor:
    y = m.a(x)
    return m.n(y) * y.sigmoid()


def reads_the_weight(m: nn.Module, x: Tensor) -> Tensor:
    return m.n(m.a(x)) + m.a.weight.mean()


def depends_on_data(m: nn.Module, x: Tensor) -> Tensor:
    return m.n(m.a(x)) if x.mean() > 100 else m.n(m.a(x)).relu()


def reused_norm(m: nn.Module, x: Tensor) -> Tensor:
    return m.n(m.a(x)) * m.n(m.b(x))


def with_hook(module: nn.Module) -> nn.Module:
    module.register_forward_hook(lambda module, inputs, output: output * 2)
    return module


def shared(a: nn.Conv2d, b: nn.Conv2d) -> nn.Sequential:
    b.weight = a.weight
    return nn.Sequential(a, norm(), nn.ReLU(), b, norm())


class OwnForward(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).abs()


def no_statistics() -> nn.BatchNorm2d:
    return nn.BatchNorm2d(4, track_running_stats=False)


@pytest.mark.parametrize(
    ("model", "left", "reason"),
    [
        (Block(two_readers, a=conv(), n=norm()), 1, "also read by sigmoid"),
        (Block(reads_the_weight, a=conv(), n=norm()), 1, "shares its weight, or reads it"),
        (Block(depends_on_data, a=conv(), n=norm()), 1, "cannot be followed: TraceError"),
        (Block(reused_norm, a=conv(), b=conv(), n=norm()), 1, "called in several places"),
        (nn.Sequential(with_hook(conv()), norm()), 1, "has forward hooks"),
        (nn.Sequential(conv(), with_hook(norm())), 1, "has forward hooks"),
        (shared(conv(), conv()), 2, "shares its weight"),
        (nn.Sequential(OwnForward(4, 4, 1), norm()), 1, "OwnForward has a forward of its own"),
        (nn.Sequential(conv(), no_statistics()), 1, "keeps no running statistics"),
        (nn.Sequential(nn.ReLU(), norm(), nn.ReLU()), 1, "it follows ReLU"),
        (nn.Sequential(nn.ReLU(), norm(), conv()), 1, "pads with zeros"),
        (nn.Sequential(nn.ReLU(), norm()), 1, "no layer reads it|which reads it"),
        (
            nn.Sequential(nn.utils.parametrizations.weight_norm(conv()), norm()),
            1,
            "a parametrisation|forward of its own",
        ),
        (nn.Sequential(nn.utils.parametrizations.spectral_norm(conv()), norm()), 1, "Parametrized"),
    ],
)
def test_what_cannot_be_proved_is_left_with_its_reason(model, left, reason):
    if "statistics" not in reason:
        trained_(model)
    fused = fuse(model, IMAGE)

    assert norms(fused.model) == left
    assert len(fused.left) == left
    assert re.search(reason, reasons(fused))
    same(fused, model)


def test_sums_that_are_no_convolution_are_left_with_their_reason():
    used = Block(lambda m, x: (y := m.a(x)) * (y + m.b(x)), a=conv(), b=conv(1))
    dear = Block(lambda m, x: m.a(x) + m.b(x), a=conv(11, groups=4), b=conv(1))
    written = Block(lambda m, x: m.a(x) + m.b(x.relu_()), a=conv(), b=conv(1))
    for model, reason in ((used, "also used by mul"), (dear, "would hold")):
        fused = fuse(model, IMAGE)
        assert not fused.folded
        assert reason in reasons(fused)
        same(fused, model)
    assert not fuse(written, IMAGE).folded
    same(fuse(written, IMAGE), written)


def test_what_an_untraceable_part_holds_is_fused_on_its_own():
    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(conv(), norm())
            self.conv, self.norm = conv(), norm()

        def forward(self, x: Tensor) -> Tensor:
            y = self.norm(self.conv(x))
            return self.body(y) if bool((x > 0).any()) else y

    model = trained_(nn.Sequential(conv(), norm(), Gate()))
    fused = fuse(model, IMAGE)

    assert {row.path for row in fused.folded} == {"1", "2.body.1"}
    assert [row.path for row in fused.left] == ["2.norm"]
    assert "Gate.forward cannot be followed: TraceError" in fused.left[0].reason
    same(fused, model)


def test_parts_that_their_owner_reaches_into_are_left():
    """The owner runs the conv of ``body`` by itself, in code that cannot be followed."""

    def forward(m: nn.Module, x: Tensor) -> Tensor:
        y = m.body[0](x)
        return m.body(x) + y if float(y.sum()) else m.body(x)

    model = trained_(Block(forward, body=nn.Sequential(conv(), norm())))
    fused = fuse(model, IMAGE)

    assert not fused.folded
    assert "called from outside" in reasons(fused)
    same(fused, model)


def test_a_module_that_a_plain_call_does_not_reach_is_left():
    model = trained_(Block(lambda m, x: m.a(x), a=conv(), unused=nn.Sequential(conv(), norm())))

    assert "does not reach it" in reasons(fuse(model, IMAGE))


# --- the given network, the certificate, the errors


def test_the_given_network_stays_as_it_was():
    model = trained_(nn.Sequential(conv(), norm(), nn.Sequential(conv(), norm()))).train()
    model[2].eval()
    state, modules = copy.deepcopy(model.state_dict()), list(model.modules())
    modes = [m.training for m in modules]
    seed = torch.get_rng_state()
    fused = fuse(model, IMAGE)

    assert list(model.modules()) == modules
    assert [m.training for m in modules] == modes
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in modules)
    torch.testing.assert_close(model.state_dict(), state, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), seed)
    assert not any(m.training for m in fused.model.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in fused.model.modules())
    assert not {id(p) for p in model.parameters()} & {id(p) for p in fused.model.parameters()}


def test_each_tensor_keeps_its_dtype_and_kernels_are_rounded_once():
    model = trained_(
        nn.Sequential(conv().bfloat16(), norm().bfloat16(), nn.ReLU(), conv(bias=True))
    )
    double = copy.deepcopy(model).double().eval()
    fused = fuse(model, IMAGE)

    assert [p.dtype for p in fused.model.parameters()] == [
        torch.bfloat16, torch.bfloat16, torch.float32, torch.float32,
    ]  # fmt: skip
    exact = fold_batchnorm(double[0], double[1]).weight
    assert torch.equal(fused.model[0].weight, exact.bfloat16())


def test_a_kernel_too_large_for_its_dtype_is_refused():
    model = nn.Sequential(conv().half(), norm().half())
    model[0].weight.data.fill_(6e4)
    model[1].running_var.fill_(0.25)
    with pytest.raises(FoldError, match=r"too large for torch\.float16"):
        fuse(model, IMAGE)


def test_a_wrong_fold_is_never_returned(monkeypatch):
    """A mistake of one part in a million in the algebra, which float32 would not show."""
    from fleetfoot.transform import absorb

    right = absorb.fold_after_

    def wrong(module, affine):
        right(module, replace(affine, scale=affine.scale * (1 + 1e-6)))

    monkeypatch.setattr(absorb, "fold_after_", wrong)
    with pytest.raises(FoldError, match=r"output differs by .* of its largest value"):
        fuse(trained_(nn.Sequential(conv(), norm())), IMAGE)


def test_the_certificate_says_what_was_compared():
    model = trained_(nn.Sequential(conv(), norm()))
    stated = fuse(model, torch.zeros(2, 4, 9, 9)).certificate
    guessed = fuse(model).certificate

    assert (stated.input, stated.guessed, stated.values) == ("(2, 4, 9, 9)", False, 2 * 4 * 9 * 9)
    assert (guessed.input, guessed.guessed) == ("(1, 4, 128, 128)", True)
    # float64: 36 products near 1 a value
    assert 0 < stated.max_rel < 1e-14
    assert stated.max_abs > 0
    assert stated == fuse(model, torch.ones(2, 4, 9, 9)).certificate  # shapes alone are read


def test_outputs_of_any_structure_are_compared():
    def forward(m: nn.Module, x: Tensor):
        y = m.n(m.a(x))
        return {"maps": [y, (y.relu(),)], "empty": y[:0], "index": y.argmax(1)}

    fused = fuse(trained_(Block(forward, a=conv(), n=norm())), IMAGE)

    assert fused.certificate.values == 2 * 4 * 144 + 144


def test_differences_are_found_in_any_structure():
    reference = {"a": [torch.ones(3), torch.tensor([1.0, float("nan")])]}
    difference = certificate.Difference()
    difference.add(copy.deepcopy(reference), reference, "x")
    assert (difference.max_abs, difference.values) == (0.0, 4)

    for wrong, message in (
        ({"a": [torch.ones(3)]}, "answers with"),
        ({"a": [torch.ones(4), torch.ones(2)]}, "shape"),
        ({"a": [torch.ones(3), torch.ones(2)]}, "not finite at other places"),
        ({"a": [torch.ones(3) * 1.01, reference["a"][1]]}, "differs by 0.01"),
    ):
        with pytest.raises(FoldError, match=message):
            certificate.Difference().add(wrong, reference, "x")


def test_the_card_and_the_record_say_what_was_done():
    fused = fuse(trained_(nn.Sequential(conv(), norm(), nn.ReLU(), norm(), nn.ReLU())), IMAGE)

    assert "folded: 1 batch norm" in str(fused)
    assert "float64, normal input (1, 4, 12, 12), seed 0" in str(fused)
    assert "left: 1 × BatchNorm2d: it follows ReLU" in str(fused)
    record = json.loads(json.dumps(fused.record()))
    assert record["folded"] == [{"path": "1", "kind": "batch norm", "detail": "into 0"}]
    assert record["certificate"]["max_rel"] == fused.certificate.max_rel


def test_networks_that_cannot_run_say_how_to_help():
    with pytest.raises(FoldError, match=r"pass example=.*\n  \(1, 4, 128, 128\): RuntimeError"):
        fuse(Block(lambda m, x: m.a(x.view(3, 5)), a=conv()))
    with pytest.raises(FoldError, match=r"(?s)has to run in float64.*\(1, 3, 8, 8\)"):
        fuse(nn.Sequential(conv()), torch.zeros(1, 3, 8, 8))
    with pytest.raises(FoldError, match="lazy layers"):
        fuse(nn.Sequential(nn.LazyConv2d(4, 3)))
    with pytest.raises(FoldError, match="no value that could be compared"):
        fuse(Block(lambda m, x: m.a(x)[:0], a=conv()), IMAGE)
    with pytest.raises(TypeError, match=r"torch.nn.Module, not str"):
        fuse("fasternet_t0")


def test_several_arguments_are_a_tuple():
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.n = conv(), norm()

        def forward(self, x: Tensor, scale: Tensor, flag: bool = False) -> Tensor:
            return self.n(self.a(x)) * scale if not flag else x

    fused = fuse(trained_(Two()), (IMAGE, torch.zeros(1)))

    assert norms(fused.model) == 0
    assert fused.certificate.input == "(1, 4, 12, 12), (1,)"


def test_the_fused_network_can_be_copied_saved_and_traced(tmp_path):
    model = trained_(nn.Sequential(conv(), norm(), nn.ReLU(), conv(1)))
    fused = copy.deepcopy(fuse(model, IMAGE).model)
    torch.save(fused.state_dict(), tmp_path / "fused.pt")
    fused.load_state_dict(torch.load(tmp_path / "fused.pt", weights_only=True))

    exported = torch.export.export(fused, (IMAGE,)).module()
    torch.testing.assert_close(exported(IMAGE), fused(IMAGE))


@pytest.mark.parametrize("branch", [nn.Identity(), nn.ReLU()])
def test_what_a_forward_keeps_for_its_next_call_is_not_kept_in_float64(branch):
    """With an identity beside the convolution its sum is rewritten, with a ReLU it is not."""

    class Cached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.branch = conv(), norm(), branch
            self.ramp = None
            self.register_buffer("grid", None)

        def forward(self, x: Tensor) -> Tensor:
            if self.ramp is None:
                self.ramp = torch.arange(12).to(x)
                self.grid = self.ramp[:, None] * self.ramp
            y = self.norm(self.conv(x)) + self.branch(x)
            return y.sigmoid() + self.ramp + self.grid * torch.tensor([2.0, 3.0] * 6)

    model = trained_(nn.Sequential(Cached()))
    fused = fuse(model, IMAGE)

    assert model[0].ramp is None
    assert fused.model[0].ramp is None
    assert not fused.left
    assert fused.model(IMAGE).dtype == torch.float32
    same(fused, model)


def test_a_network_for_small_pictures_is_proved_at_its_own_size():
    small = create_model("shufflenet_v2_x0_5", input_size=32, num_classes=10)
    large = create_model("shufflenet_v2_x0_5", num_classes=10)
    assert tuple(next(guesses(small)).shape) == (1, 3, 32, 32)
    assert tuple(next(guesses(large)).shape) == (1, 3, 128, 128)
