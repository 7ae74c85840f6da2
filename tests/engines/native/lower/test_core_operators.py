"""Operators with whole numbers, bools, and the rare ones of ATen's core set: the engine on every
instruction set against eager in float64."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils import _pytree as pytree

from fleetfoot import runtime
from fleetfoot.engines import load
from fleetfoot.engines import open as open_
from fleetfoot.engines.base import relative_error
from fleetfoot.engines.native.compile import compile
from fleetfoot.errors import EngineError, PlanError, UnsupportedOperatorError
from fleetfoot.explain.layers import in_reference_kernels

TOLERANCE = 2e-6
"""One or a few float32 operations on numbers of about 1, against float64."""

NAN, INF = math.nan, math.inf


class Does(nn.Module):
    """A network that does one thing after a convolution, whose map is channels-last."""

    def __init__(self, function) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 1)
        self.function = function

    def forward(self, x: torch.Tensor):
        return self.function(self.conv(x))


def same_as_eager(model: nn.Module, pictures: torch.Tensor, tolerance: float = TOLERANCE) -> None:
    """Values, types and nesting are eager's, on every instruction set, for one and two threads, and
    after NaN in all memory."""
    model = model.eval()
    with torch.no_grad():
        exact = copy.deepcopy(model).double()(pictures.double())
        eager = model(pictures)
    compiled = compile(model, pictures, independent=True)  # a batch of two is compared below
    content = compiled.bytes(checksum=runtime.checksum)
    for name in runtime.instruction_sets():
        with runtime.Plan.from_bytes(content) as plan, plan.context(2, name) as context:
            context.run(pictures.numpy())
            context.poison()
            answer = context.run(pictures.numpy())
            found = pytree.tree_leaves(answer)
            wanted, types = pytree.tree_leaves(exact), pytree.tree_leaves(eager)
            assert len(found) == len(wanted)
            for out, reference, typed in zip(found, wanted, types, strict=True):
                out = torch.from_numpy(out)
                assert out.dtype == typed.dtype
                assert relative_error(out, reference) <= tolerance, (name, out, reference)


def pictures(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, 5, 7, generator=torch.Generator().manual_seed(3))


def places(x):
    """Whole numbers from 0 to 4, which depend on the picture."""
    return (x * 10).floor().remainder(5).long()


POINTWISE = {
    "rounding": lambda x: (x.floor(), x.ceil(), (4 * x).round(), x.trunc(), x.frac()),
    "round half to even": lambda x: ((4 * x).round() / 2).round() + x.round(decimals=1),
    "trigonometry": lambda x: x.sin() + x.cos() + x.tan().clamp(-2, 2) + x.atan() + x.sinh(),
    "inverse trigonometry": lambda x: (x.tanh().asin() + x.tanh().acos(), x.asinh() + x.cosh()),
    "inverse hyperbolic": lambda x: (1 + x.abs()).acosh() + (x.tanh() / 2).atanh(),
    "exponentials": lambda x: x.exp2() + x.expm1() + x.erfc() + torch.special.expit(x),
    "logarithms": lambda x: x.abs().log2() + x.abs().log10() + x.abs().log1p(),
    "signs": lambda x: (x.sign(), x.sgn(), torch.signbit(x), torch.copysign(x, x.flip(1))),
    "comparisons": lambda x: (x > 0, x < x.flip(2), x >= 0.1, x <= -x, x == x.abs(), x != 0),
    "logic": lambda x: ((x > 0) & (x < 1), (x > 0) | (x < -1), (x > 0) ^ (x < 1), ~(x > 0)),
    "logic of numbers": lambda x: (
        torch.logical_and(x, x.floor()),
        torch.logical_or(x.floor(), x > 1),
        torch.logical_xor(x.floor(), places(x)),
        torch.logical_not(x.floor()),
    ),
    "casts": lambda x: (x.long(), (4 * x).int(), x.bool(), (x > 0).float(), places(x).float()),
    "casts of bools": lambda x: ((x > 0).long(), (x > 0).int() + 1, places(x).bool()),
    "type_as": lambda x: (x > 0).type_as(x) * x + places(x).type_as(x),
    "bools with numbers": lambda x: (x > 0) * x + (x < 0) + ((x > 0) & (x < 1)) * 2,
    "whole numbers": lambda x: (
        places(x) + 2 * places(-x) - 3,
        places(x) * -places(-x),
        -places(x),
    ),
    "whole numbers with alpha": lambda x: (
        torch.add(places(x), places(-x), alpha=3),
        torch.sub(places(x), 2, alpha=3),
        torch.rsub(places(x), 2, alpha=3),
    ),
    "mixed": lambda x: (places(x) + x, places(x) * 0.5, 2 ** places(x), places(x) / 4),
    "whole divisions": lambda x: (
        (places(x) - 2) // 2,
        (places(x) - 2) % 3,
        torch.fmod(places(x) - 2, 3),
        torch.div(places(x) - 2, 2, rounding_mode="trunc"),
        torch.div(7, places(x) + 1, rounding_mode="floor"),
    ),
    "divisions": lambda x: (
        x // 0.3,
        x % 0.7,
        x % -0.7,
        torch.fmod(x, 0.7),
        torch.div(x, 0.3, rounding_mode="trunc"),
    ),
    "powers of whole numbers": lambda x: places(x) ** 3 + (places(x) - 2) ** places(-x),
    "bits": lambda x: (
        places(x) & 3,
        places(x) | places(-x),
        places(x) ^ 5,
        ~places(x),
        places(x) << 2,
        places(x) >> 1,
    ),
    "extremes": lambda x: (
        torch.maximum(x, x.flip(2)),
        torch.minimum(places(x), places(-x)),
        torch.fmax(x, -x),
        torch.fmin(x, x * 2),
        torch.max(x, x.flip(3)),
    ),
    "two numbers": lambda x: (
        torch.atan2(x, x.flip(1)),
        torch.hypot(x, x.flip(1)),
        torch.logaddexp(x, x.flip(1)),
        torch.xlogy(x, x.abs()),
    ),
    "bounds": lambda x: (
        x.clamp(min=x.flip(1)),
        x.clamp(x.flip(1), x.flip(2)),
        places(x).clamp(1, 3),
        places(x).clamp(max=2),
    ),
    "where": lambda x: (
        torch.where(x > 0, x, 0.25 * x),
        torch.where(x > 0, x, 0.5),
        torch.where(x > 0, places(x), -1),
        torch.where(x > 0.5, x < 1, x > -1),
    ),
    "masked fill": lambda x: (
        x.masked_fill(x > 0.5, 0.5),
        x.masked_fill(torch.eye(5, 7).bool(), -INF),
        places(x).masked_fill(x > 0, 9),
    ),
    "not a number": lambda x: (
        (x / x.floor()).nan_to_num(1.5, 100.0, -100.0),
        (x.floor() / x.floor()).isnan(),
        (x / x.floor()).isinf(),
        (x / x.floor()).isfinite(),
        ((x.floor() / x.floor()) * 2).nan_to_num(),
    ),
    "triangles": lambda x: x.tril() + x.triu(1) * 2 + x.tril(-1),
    "one hot": lambda x: F.one_hot(places(x), 5),
    "activations": lambda x: (
        F.logsigmoid(x),
        F.softshrink(x, 0.3),
        F.hardshrink(x, 0.3),
        F.threshold(x, 0.1, -2.0),
        F.celu(x, 0.7),
        F.glu(x, 1),
        F.softplus(x, 2.0, 1.0),
        F.tanhshrink(x),
        F.softsign(x),
    ),
    "interpolation": lambda x: (
        torch.lerp(x, x.flip(1), 0.3),
        torch.addcdiv(x, x, 1 + x.abs(), value=2),
        torch.logit(x.sigmoid()),
    ),
    "no change of whole numbers": lambda x: (places(x).floor() + places(x).abs()).float(),
}


@pytest.mark.parametrize("name", POINTWISE)
def test_functions_of_single_elements(name):
    same_as_eager(Does(POINTWISE[name]), pictures())


REDUCTIONS = {
    "sums": lambda x: (places(x).sum((1, 2)), (x > 0).sum(1), x.sum(-1), x.sum((1, 3), True)),
    "products": lambda x: (x.prod(1), x.prod(3, keepdim=True), (places(x) - 2).prod(2)),
    "means": lambda x: (x.mean(1), (x > 0).float().mean((2, 3)), places(x).float().mean(-1)),
    "extremes": lambda x: (x.amax(1), x.amin((2, 3)), places(x).amax((1, 2)), x.aminmax(dim=1)),
    "extremes with places": lambda x: (x.max(1), x.min(-1, True), places(x).max(2)),
    "one of two answers": lambda x: x.max(1)[0] + x.min(1).indices,
    "places": lambda x: (x.argmax(1), x.argmin(2, keepdim=True), places(x).argmax(-1)),
    "logic": lambda x: ((x > 2).any(1), (x > -2).all(-1), (x > 1).any(2, True), x.bool().all(1)),
    "counts": lambda x: x.floor().count_nonzero(dim=1),
    "log of sums": lambda x: (x.logsumexp(1), x.logsumexp((2, 3), keepdim=True)),
    "spread": lambda x: (x.std(1), x.var((2, 3), correction=2), x.std((1, 2), unbiased=False)),
    "spread and mean": lambda x: (torch.var_mean(x, 1), torch.std_mean(x, (2, 3), keepdim=True)),
    "norms": lambda x: (
        x.norm(dim=1),
        x.norm(p=3, dim=(2, 3)),
        torch.linalg.vector_norm(x, INF, dim=1),
        torch.linalg.vector_norm(x, -INF, dim=-1, keepdim=True),
        torch.linalg.vector_norm(x, 0, dim=1),
        torch.linalg.vector_norm(x, 0.5, dim=1),
    ),
    "softmax": lambda x: (x.softmax(1), x.softmax(2), F.softmin(x, -1), F.log_softmax(x, 1)),
    "sum of numbers": lambda x: (x.floor() / x.floor()).nansum(1),
    "distance": lambda x: F.pairwise_distance(x.flatten(2), x.flatten(2).flip(1)),
    "similarity": lambda x: F.cosine_similarity(x, x.flip(1), 1),
}


@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions(name):
    same_as_eager(Does(REDUCTIONS[name]), pictures(), 4e-6)


ORDERS = {
    "sort": lambda x: (*x.sort(1), *x.sort(-1, descending=True)),
    "stable sort of equal numbers": lambda x: places(x).flatten(1).sort(stable=True, dim=1),
    "argsort": lambda x: (x.argsort(2), x.argsort(1, descending=True)),
    "largest": lambda x: (*x.topk(3, 1), *x.flatten(1).topk(5, largest=False)),
    "in the middle": lambda x: (*x.median(1), *x.kthvalue(2, 3)),
    "running sums": lambda x: (x.cumsum(1), x.cumprod(-1), places(x).cumsum(2), (x > 0).cumsum(1)),
    "running extremes": lambda x: (*x.cummax(1), *x.cummin(3), *places(x).cummax(2)),
    "running logarithm": lambda x: x.logcumsumexp(2),
    "buckets": lambda x: (
        torch.bucketize(x, torch.tensor([-1.0, 0.0, 0.5])),
        torch.bucketize(places(x), torch.tensor([1, 2, 4]), right=True),
    ),
}


@pytest.mark.parametrize("name", ORDERS)
def test_orders(name):
    same_as_eager(Does(ORDERS[name]), pictures())


def put(x, *indices, values, accumulate=False):
    return torch.ops.aten.index_put.default(x, indices, values, accumulate)


def rows_of(x):
    """(B, 4): places among 5 rows."""
    return places(x)[:, :4, 0, 0]


INDICES = {
    "gather": lambda x: (x.gather(1, places(x)), x.gather(2, places(x)[:, :, :2, :3])),
    "gather of one row": lambda x: x.gather(3, places(x)[..., :1].expand(-1, -1, -1, 7)),
    "take along": lambda x: torch.take_along_dim(x, x.argsort(1), 1),
    "of a batch": lambda x: x.flatten(2)[torch.arange(len(x))[:, None], :, rows_of(x)],
    "select": lambda x: (
        x.index_select(2, torch.tensor([3, 1])),
        x[:, 0].index_select(1, torch.arange(3)),
    ),
    "constant": lambda x: (x[:, [1, -1]], x[..., torch.tensor([[0, 2], [-1, 1]])]),
    "two constants": lambda x: (x[:, [1, 2], :, [0, -1]].transpose(0, 1), x[:, :, [1, 0], [2, 3]]),
    "constants and places": lambda x: x[torch.arange(len(x))[:, None], rows_of(x), 2],
    "embedding": lambda x: F.embedding(
        places(x)[:, 0], torch.arange(20.0, dtype=x.dtype).reshape(5, 4)
    ),
    "flip": lambda x: (
        x.flip(1),
        x.flip((2, 3)),
        x.fliplr() + x.rot90(2, (2, 3)),
        places(x).flip(-1),
    ),
    "roll": lambda x: (x.roll(1, 2), places(x).roll((1, -2), (2, 3)), (x > 0).roll(2, 1)),
    "scatter": lambda x: (
        x.scatter(1, places(x)[:, :1], 9.0),
        torch.zeros_like(x).scatter(1, x.argsort(1), x),
        x.scatter(2, places(x)[:, :3, :1, :4], x + 1),
    ),
    "scatter add": lambda x: (
        x.scatter_add(1, places(x), 0.5 * x),
        places(x).scatter_add(2, places(-x), places(x)),
        torch.zeros(len(x), 5, dtype=x.dtype).scatter_add(1, rows_of(x), x[:, :4, 0, 0]),
    ),
    "scatter reduce": lambda x: (
        x.scatter_reduce(1, places(x), x * 2, "amax"),
        x.scatter_reduce(2, places(x), x * 2, "prod"),
        x.scatter(1, places(x), x, reduce="add"),
        x.scatter_reduce(1, places(x), x, "mean"),
    ),
    "index add": lambda x: x.index_add(1, torch.tensor([1, 3, 1]), x[:, :3], alpha=2),
    "index copy and fill": lambda x: (
        x.index_copy(1, torch.tensor([4, 0]), x[:, 1:3]),
        x.index_fill(2, torch.tensor([0, 3]), -1.0),
    ),
    "index put": lambda x: (
        put(x, None, torch.tensor([1, 4]), values=x[:, :2] * 3),
        put(x, None, None, torch.tensor([1, 2]), torch.tensor([0, -1]), values=x.new_tensor(7.0)),
        put(x, None, torch.tensor([1, 1]), values=x[:, :2], accumulate=True),
    ),
    "put by a mask": lambda x: (
        put(x, x > 0.5, values=torch.tensor(0.5, dtype=x.dtype)),
        put(x, None, None, torch.eye(5, 7).bool(), values=x.new_tensor(2.0)),
    ),
    "cat and stack of whole numbers": lambda x: (
        torch.cat((places(x), places(-x)), 1),
        torch.stack((x > 0, x < 0), 2),
        torch.cat((places(x), x), 1),
    ),
    "pad of whole numbers": lambda x: (
        F.pad(places(x), (1, 2), value=3),
        F.pad(x > 0, (0, 0, 1, 1)),
    ),
    "views of whole numbers": lambda x: places(x).permute(0, 2, 3, 1).flatten(1, 2)[:, 1::2],
}


@pytest.mark.filterwarnings("ignore:The reduce argument of torch.scatter")
@pytest.mark.parametrize("name", INDICES)
def test_indices(name):
    same_as_eager(Does(INDICES[name]), pictures())


MIXING = {
    "flip": lambda x: x.flip(0),
    "running sum": lambda x: x.cumsum(0),
    "place in all": lambda x: x.argmax() + 0 * x[:, 0, 0, 0].long(),
    "largest of all": lambda x: x.max() + x,
    "sort": lambda x: x.sort(0)[0],
    "places of pictures": lambda x: x.gather(0, places(x) * 0),
}


@pytest.mark.parametrize("name", MIXING)
def test_what_mixes_pictures_is_refused_with_a_reason(name):
    with pytest.raises(UnsupportedOperatorError, match="over the pictures of a batch"):
        compile(Does(MIXING[name]).eval(), pictures(1), independent=True)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x: places(x) + 2**40, "with a whole number beyond int32"),
        (lambda x: x.double() + 1, "in float64"),
        (lambda x: (x * 10).to(torch.uint8), "in uint8"),
        (lambda x: F.one_hot(places(x)), "depends on the picture"),
        (lambda x: x.scatter_reduce(1, places(x), x, "sum", include_self=False), "without the val"),
    ],
)
def test_what_no_plan_can_hold_is_refused_with_a_reason(function, reason):
    with pytest.raises(EngineError, match=reason):
        compile(Does(function).eval(), pictures(1), independent=True)


def test_special_numbers_are_as_in_pytorch():
    special = torch.tensor([NAN, INF, -INF, 0.0, -0.0, 2.5, -2.5, 1e30])

    class Special(nn.Module):
        def forward(self, x):
            y = x[:, 0]
            return (
                *(y.sign(), y.round(), y.int(), y.bool(), y.trunc(), y.isnan(), y.isinf()),
                *(y // 2.0, y % -2.0, y.fmod(2.0), y == y, y != y, y > 0, y <= 0, y.signbit()),
                *(y.clamp(min=torch.tensor(0.0)), y.maximum(-y), y.fmin(torch.tensor(1.0))),
                *(y.masked_fill(torch.arange(8) < 3, 0.5), torch.where(y > 0, y, -y)),
                *(*y.sort(1), *y.sort(1, descending=True), y.topk(8, 1)[0], *y.max(1), *y.min(1)),
                *(y.argmax(1), y.argmin(1), *y.cummax(1), *y.cummin(1), *y.median(1)),
                *(y[:, 3:].logsumexp(1), y[:, 1:].logsumexp(1), y[:, 2:4].log_softmax(1)),
                *(y.any(1), y.all(1), y.prod(1), y[:, 1:].cumsum(1), y.nan_to_num(1.0, 2.0, 3.0)),
                *(y.isfinite(), y.logical_not(), torch.copysign(torch.ones(8), y), y.nansum(1)),
            )

    model = Special().eval()
    x = special.reshape(1, 1, 8).repeat(1, 2, 1)
    with runtime.Plan.from_bytes(compile(model, x).bytes(checksum=runtime.checksum)) as plan:
        for name in runtime.instruction_sets():
            with plan.context(1, name) as context:
                for i, (out, wanted) in enumerate(
                    zip(context.run(x.numpy()), model(x), strict=True)
                ):
                    found = torch.from_numpy(out)
                    assert found.dtype == wanted.dtype, i
                    torch.testing.assert_close(
                        found, wanted, rtol=1e-6, atol=0, equal_nan=True, msg=f"output {i}"
                    )


class Looks(nn.Module):
    """Looks its numbers up in a table of five."""

    def forward(self, x):
        return F.embedding(x[:, 0].long(), torch.arange(10.0).reshape(5, 2)), x[:, 0].long() // x[
            :, 1
        ].long()


def test_a_number_out_of_range_is_an_error_that_names_the_node():
    model = nn.ModuleDict({"looks": Looks()})
    model.forward = lambda x: model["looks"](x)  # type: ignore[method-assign]
    good = torch.tensor([[[0.0, 4.0], [1.0, 2.0]], [[3.0, 2.0], [1.0, 2.0]]])
    compiled = compile(model.eval(), good, independent=True)
    with runtime.Plan.from_bytes(compiled.bytes(checksum=runtime.checksum)) as plan:
        for name in runtime.instruction_sets():
            with plan.context(2, name) as context:
                for wrong in (5.0, -1.0):
                    bad = good.clone()
                    bad[1, 0, 1] = wrong
                    with pytest.raises(
                        ValueError, match=rf"node 'looks' \(take\).*{wrong:.0f} of 5"
                    ):
                        context.run(bad.numpy())
                bad = good.clone()
                bad[0, 1, 1] = 0
                with pytest.raises(ValueError, match="divides a whole number by 0"):
                    context.run(bad.numpy())
                for out, wanted in zip(context.run(good.numpy()), model(good), strict=True):
                    assert (torch.from_numpy(out) == wanted).all()


def test_the_engine_gives_types_back_and_says_what_is_slow(tmp_path):
    model = Does(lambda x: {"mask": x.argmax(1), "sure": x.amax(1) > 0.5, "map": x.sin()}).eval()
    x = pictures()
    with load("native", model, example=x) as engine:
        engine.save(tmp_path / "network")
        for one in (engine, open_(tmp_path / "network")):
            answer = one.run(x)
            with torch.no_grad():
                wanted = model(x)
            assert answer["mask"].dtype == torch.int64
            assert (answer["mask"] == wanted["mask"]).all()
            assert answer["sure"].dtype == torch.bool
            assert (answer["sure"] == wanted["sure"]).all()
        slow = in_reference_kernels(engine.profile(x))
        assert set(slow[""]) >= {"elementwise", "aggregate"}
        assert "reduce" not in slow[""]
        assert engine._plan.output_types == ("int64", "bool", "float32")
    compiled = compile(model, x)
    compiled.graph.signature = compiled.graph.signature.replace("int64", "float32")
    with pytest.raises(PlanError, match="the plan's outputs are i32, i32, f32, and it names them"):
        runtime.Plan.from_bytes(compiled.bytes(checksum=runtime.checksum))
    compiled.graph.signature = compiled.graph.signature.replace("bool", "float16")
    with pytest.raises(PlanError, match="it names the types"):
        runtime.Plan.from_bytes(compiled.bytes(checksum=runtime.checksum))
