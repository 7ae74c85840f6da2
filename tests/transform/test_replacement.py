"""Convolutions replaced by PConv and a 1×1: which, by what, what it costs, and what stays."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
import safetensors
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from torchvision.models.detection import (
    fasterrcnn_mobilenet_v3_large_320_fpn,
    ssdlite320_mobilenet_v3_large,
)
from torchvision.ops import Conv2dNormActivation

from fleetfoot.engines import TOLERANCES, available, load, relative_error
from fleetfoot.errors import (
    CorruptFileError,
    KeyMismatchError,
    SwapError,
    UnknownNameError,
    WeightsError,
)
from fleetfoot.models import create_model
from fleetfoot.ops.pconv import PConv, PConvPointwise
from fleetfoot.transform import SwapOptions, fuse, substitute, swap, swap_file
from helpers import trained_


class Bottleneck(nn.Module):
    """As in a YOLO: a 1×1, a 3×3, a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = Conv2dNormActivation(channels, channels // 2, 1, activation_layer=nn.SiLU)
        self.expand = Conv2dNormActivation(channels // 2, channels, 3, activation_layer=nn.SiLU)

    def forward(self, x):
        return x + self.expand(self.reduce(x))


class Yolo(nn.Module):
    """Two maps, joined by upsampling, each with a head that answers with boxes and classes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Conv2dNormActivation(3, 16, 3, stride=2, activation_layer=nn.SiLU)
        self.fine = nn.Sequential(
            Conv2dNormActivation(16, 32, 3, stride=2, activation_layer=nn.SiLU), Bottleneck(32)
        )
        self.coarse = nn.Sequential(
            Conv2dNormActivation(32, 64, 3, stride=2, activation_layer=nn.SiLU), Bottleneck(64)
        )
        self.lateral = nn.Conv2d(64, 32, 1)
        self.up = nn.Upsample(scale_factor=2)
        self.join = nn.Conv2d(64, 32, 3, padding=1)
        self.heads = nn.ModuleList([nn.Conv2d(32, 10, 1), nn.Conv2d(64, 10, 1)])

    def forward(self, x):
        fine = self.fine(self.stem(x))
        coarse = self.coarse(fine)
        fine = self.join(torch.cat((fine, self.up(self.lateral(coarse))), 1))
        maps = zip(self.heads, (fine, coarse), strict=True)
        return torch.cat([head(m).flatten(2) for head, m in maps], 2).transpose(1, 2)


IMAGE = torch.zeros(1, 3, 32, 32)


def separable(*between: nn.Module, bias: bool = False, channels: int = 8) -> nn.Sequential:
    depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=bias)
    return nn.Sequential(depthwise, *between, nn.Conv2d(channels, 12, 1))


def swapped(model: nn.Module, *shape: int, **options):
    return swap(model, torch.zeros(shape or (1, 8, 6, 6)), SwapOptions(**options))


def reasons(done) -> dict[str, str]:
    return {row.path: row.reason for row in done.left}


# --- what is made


def test_params_work_and_bytes_of_a_replaced_layer_are_those_counted_by_hand():
    done = swapped(nn.Sequential(nn.Conv2d(8, 12, 3, padding=1)), 1, 8, 5, 7)
    (row,) = done.replaced

    assert (row.was, row.now) == ("3×3 plain 8→12", "PConv 3×3 2/8 + 1×1 8→12")
    pixels, old, mix, point = 35, 9 * 8 * 12, 9 * 2 * 2, 8 * 12
    assert row.before.params == old + 12
    assert row.after.params == mix + point + 12
    assert row.before.macs == pixels * old
    assert row.after.macs == pixels * (mix + point)
    assert row.before.moved_bytes == 4 * (pixels * (8 + 12) + old + 12)
    convolved = pixels * (2 + 2) + mix
    joined = 2 * pixels * 8  # the concat reads and writes all channels
    assert row.after.moved_bytes == 4 * (convolved + joined + pixels * (8 + 12) + point + 12)
    assert done.after.macs == row.after.macs
    assert done.after.params == row.after.params


def test_a_pair_set_by_hand_is_the_convolution_that_it_stands_for():
    """Each output sums one 3×3 over the first two channels with the centres of the others."""
    conv = nn.Conv2d(8, 12, 3, padding=1).double()
    done = swapped_double(conv)
    pair = done.model[0]
    with torch.no_grad():
        part = conv.weight[:, 2:].clone()
        conv.weight[:, 2:] = 0
        conv.weight[:, 2:, 1, 1] = part[:, :, 1, 1]
        conv.weight[:, :2] = torch.einsum(
            "op,pckl->ockl", pair.pointwise.weight[:, :2, 0, 0], pair.pconv.conv.weight
        )
        pair.pointwise.weight[:, 2:, 0, 0] = part[:, :, 1, 1]
        pair.pointwise.bias.copy_(conv.bias)
    x = torch.randn(2, 8, 6, 7, dtype=torch.float64)

    torch.testing.assert_close(pair(x), conv(x))  # the algebra, so float64


def swapped_double(conv: nn.Conv2d, **options):
    example = torch.zeros(1, conv.in_channels, 6, 6, dtype=torch.float64)
    return swap(nn.Sequential(conv), example, SwapOptions(**options))


def test_no_activation_stands_in_a_pair_and_the_norm_behind_stays():
    model = Conv2dNormActivation(8, 8, 3, activation_layer=nn.ReLU)
    done = swapped(model)

    kinds = [type(m) for m in done.model]
    assert kinds == [PConvPointwise, nn.BatchNorm2d, nn.ReLU]
    assert [type(m) for m in done.model[0]] == [PConv, nn.Conv2d]
    assert done.model[0].pointwise.bias is None  # nor had the convolution
    assert done.model.out_channels == 8


def test_a_strided_convolution_is_left_unless_asked_for():
    model = nn.Sequential(nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.Conv2d(16, 16, 3, padding=1))
    left = swapped(model, 1, 8, 7, 6)
    assert reasons(left) == {"0": "its stride is 2×2; PConv has stride 1 (strided takes it too)"}

    taken = swapped(model, 1, 8, 7, 6, strided=True)
    assert not taken.left
    x = torch.randn(1, 8, 7, 6)
    pair = taken.model[0]
    assert pair(x).shape == model[0](x).shape == (1, 16, 4, 3)
    # the 1×1 reads every second pixel of what the PConv of stride 1 makes
    once = nn.functional.conv2d(pair.pconv(x), pair.pointwise.weight, pair.pointwise.bias)
    torch.testing.assert_close(pair(x), once[:, :, ::2, ::2])


def test_ratio_and_kernels_are_what_was_asked_for():
    model = nn.Sequential(nn.Conv2d(8, 8, 5, padding=2), nn.Conv2d(8, 8, 3, padding="same"))
    done = swapped(model, kernels=(3, 5), ratio=2)

    assert [m.pconv.conv.weight.shape for m in done.model] == [(4, 4, 5, 5), (4, 4, 3, 3)]


def test_modes_dtypes_and_what_is_trained_are_the_convolutions():
    model = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)).double()
    model[0].requires_grad_(False)
    model.train()
    model[1].eval()
    done = swap(model, torch.zeros(1, 8, 4, 4, dtype=torch.float64))

    assert [m.training for m in done.model] == [True, False]
    assert {t.dtype for t in done.model.parameters()} == {torch.float64}
    assert {t.requires_grad for t in done.model[0].parameters()} == {False}
    assert {t.requires_grad for t in done.model[1].parameters()} == {True}


# --- a depthwise convolution and its own 1×1


@pytest.mark.parametrize("between", [(), (nn.Identity(), nn.Dropout(0.1)), (nn.BatchNorm2d(8),)])
def test_a_one_by_one_right_behind_serves_as_the_pairs(between):
    model = trained_(separable(*between))
    done = swapped(model, which="depthwise")
    (row,) = done.replaced

    assert isinstance(done.model[0], PConv)
    assert row.pointwise == str(len(between) + 1)
    assert row.now == "PConv 3×3 2/8, own 1×1"
    assert torch.equal(done.model[-1].weight, model[-1].weight)
    assert done.new == ("0.conv.weight",)


@pytest.mark.parametrize(
    "between", [nn.ReLU(), nn.Conv2d(8, 8, 1, groups=2), nn.AvgPool2d(3, 1, 1), nn.ZeroPad2d(0)]
)
def test_anything_else_between_gets_a_pair_of_its_own(between):
    (row,) = swapped(separable(between), which="depthwise").replaced

    assert row.pointwise == "new"


def test_own_uses_the_one_by_one_behind_norm_and_activation_and_says_what_stands_between():
    model = separable(nn.BatchNorm2d(8), nn.ReLU6())
    (row,) = swapped(model, which="depthwise", pointwise="own").replaced
    assert row.pointwise == "3"
    assert row.between == ("BatchNorm2d", "ReLU6")

    (paper,) = swapped(model, which="depthwise").replaced
    assert paper.pointwise == "new"
    assert paper.between == ()


def test_a_one_by_one_that_is_not_the_only_reader_is_not_used():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = separable()

        def forward(self, x):
            mixed = self.part[0](x)
            return self.part[1](mixed).mean() + mixed

    (row,) = swapped(Both(), which="depthwise").replaced
    assert row.pointwise == "new"


def test_a_depthwise_convolution_in_two_places_gets_a_pair():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = separable()
            self.again = self.part[0]

        def forward(self, x):
            return self.part(x).mean() + (self.again(x) if float(x.sum()) == 0 else x)

    (row,) = swapped(Twice(), which="depthwise").replaced
    assert row.pointwise == "new"


def test_a_dropped_bias_is_said():
    (row,) = swapped(separable(bias=True), which="depthwise").replaced
    assert row.now == "PConv 3×3 2/8, own 1×1, without the bias"


def test_a_separable_part_within_code_that_cannot_be_followed_is_found():
    class Opaque(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = separable(nn.BatchNorm2d(8))

        def forward(self, x):
            return self.part(x) if float(x.sum()) == 0 else x

    (row,) = swapped(Opaque(), which="depthwise").replaced
    assert row.pointwise == "part.2"


def test_shufflenet_v2_has_its_own_one_by_ones():
    done = swap(create_model("shufflenet_v2_x1_0"), IMAGE, SwapOptions(which="depthwise"))

    assert {row.between for row in done.replaced} == {("BatchNorm2d",)}
    assert all(
        row.pointwise == row.path.replace("main.depthwise", "main.last") for row in done.replaced
    )
    assert "its 58 channels are not divisible by ratio 4; 1 and 2 divide them" in done.summary()


# --- the start


def test_fit_finds_the_kernel_that_a_pair_can_hold():
    torch.manual_seed(1)
    pair = PConvPointwise(8, 12, bias=True).double()
    conv = nn.Conv2d(8, 12, 3, padding=1).double()
    with torch.no_grad():
        conv.weight.zero_()
        conv.weight[:, 2:, 1, 1] = pair.pointwise.weight[:, 2:, 0, 0]
        conv.weight[:, :2] = torch.einsum(
            "op,pckl->ockl", pair.pointwise.weight[:, :2, 0, 0], pair.pconv.conv.weight
        )
    done = swapped_double(conv, init="fit")
    x = torch.randn(2, 8, 6, 7, dtype=torch.float64)

    assert done.replaced[0].fit_error < 1e-7  # the square root of float64's rounding
    torch.testing.assert_close(done.model[0](x), conv(x))


@pytest.mark.parametrize(("groups", "out_channels"), [(1, 8), (1, 1), (2, 8), (4, 8), (8, 8)])
def test_no_pair_is_nearer_than_the_fit(groups, out_channels):
    """The stated distance is that of the dense kernels; a step of gradient descent finds no
    nearer one."""
    conv = nn.Conv2d(8, out_channels, 3, padding=1, groups=groups if out_channels > 1 else 1)
    conv.double()
    done = swapped_double(conv, init="fit")
    pair = done.model[0]
    delta = torch.eye(8, dtype=torch.float64)[:, :, None, None]
    impulse = nn.functional.pad(delta, (2, 2, 2, 2))  # the answers to it are the kernels

    def distance() -> torch.Tensor:
        with torch.no_grad():
            wanted = conv(impulse) - conv.bias.view(1, -1, 1, 1)
        made = pair(impulse) - pair.pointwise.bias.view(1, -1, 1, 1)
        return (made - wanted).square().sum().sqrt() / wanted.square().sum().sqrt()

    found = distance()
    assert found.item() == pytest.approx(done.replaced[0].fit_error, abs=1e-7)
    if found > 1e-6:
        found.backward()
        largest = max(p.grad.abs().max().item() for p in pair.parameters() if p.grad is not None)
        assert largest < 1e-6


def test_fit_with_its_own_one_by_one_takes_the_depthwise_kernels():
    model = separable().double()
    done = swap(model, torch.zeros(1, 8, 6, 6, dtype=torch.float64), SwapOptions(init="fit"))
    x = torch.randn(2, 8, 6, 7, dtype=torch.float64)

    torch.testing.assert_close(done.model[0](x)[:, :2], model[0](x)[:, :2] - bias(model[0], 2))
    kernels = model[0].weight.detach().clone()
    size = kernels.square().sum()
    kernels[:2] = 0
    kernels[2:, :, 1, 1] -= 1  # the others are handed on
    assert done.replaced[0].fit_error == pytest.approx((kernels.square().sum() / size).sqrt())


def bias(conv: nn.Conv2d, channels: int) -> torch.Tensor | float:
    return 0.0 if conv.bias is None else conv.bias[:channels].view(1, -1, 1, 1)


# --- what stays


@pytest.mark.parametrize("name", ["timm:resnet18", "timm:mobilenetv2_100"])
def test_the_given_network_stays_and_untouched_weights_are_bit_equal(name):
    model = trained_(create_model(name))
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    kinds = [type(m) for m in model.modules()]
    done = swap(model, IMAGE)

    assert [type(m) for m in model.modules()] == kinds
    assert model.training
    assert done.model.training
    assert not any(m._forward_hooks for m in [*model.modules(), *done.model.modules()])
    after, now = done.model.state_dict(), model.state_dict()
    assert all(torch.equal(now[key], tensor) for key, tensor in before.items())
    assert set(done.kept) | set(done.new) == set(after)
    assert set(done.kept) == set(before) & set(after)
    assert all(torch.equal(after[key], before[key]) for key in done.kept)
    gone = {f"{row.path}.weight" for row in done.replaced}
    assert set(before) - set(after) == gone
    assert set(done.new) == {
        f"{path.removesuffix('.weight')}.{part}.weight"
        for path in gone
        for part in ("pconv.conv", "pointwise")
    }


def test_gradients_reach_every_parameter():
    done = swap(Yolo(), IMAGE, SwapOptions(strided=True, init="fit"))
    done.model(torch.randn(2, 3, 32, 32)).square().mean().backward()

    assert len(done.replaced) == 5
    assert all(p.grad is not None and p.grad.any() for p in done.model.parameters())


def test_a_network_of_the_users_own_keeps_its_outputs_shape():
    done = swap(Yolo(), IMAGE)

    assert [row.path for row in done.replaced] == ["fine.1.expand.0", "coarse.1.expand.0", "join"]
    assert done.model(IMAGE).shape == Yolo()(IMAGE).shape == (1, 64 + 16, 10)
    assert done.checked == "the same at the replaced layers and the outputs (1), in a run of both"


@pytest.mark.parametrize(
    "build", [fasterrcnn_mobilenet_v3_large_320_fpn, ssdlite320_mobilenet_v3_large]
)
def test_a_detectors_backbone(build):
    model = build(weights=None, weights_backbone=None)
    options = SwapOptions(which="depthwise", kernels=(3, 5), only=("backbone.*",))
    done = swap(model, [torch.rand(3, 96, 96)], options)

    assert len(done.replaced) >= 10
    assert all(row.path.startswith("backbone.") for row in done.replaced)
    assert "the first side of an output follows from values" in done.checked
    found = done.model.eval()([torch.rand(3, 96, 96)])
    assert set(found[0]) == {"boxes", "labels", "scores"}


def test_a_module_in_two_places_is_replaced_in_both_and_stays_one():
    conv = nn.Conv2d(8, 8, 3, padding=1)
    done = swapped(nn.Sequential(conv, nn.ReLU(), nn.Sequential(conv)))

    assert len(done.replaced) == 1
    assert done.model[0] is done.model[2][0]
    assert done.replaced[0].after.macs == done.after.macs  # both calls
    assert not done.kept


# --- which are taken


def mixed() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(8, 8, 3, padding=1),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=2),
        nn.Conv2d(8, 8, 1),
    )


@pytest.mark.parametrize(
    ("which", "paths"),
    [("plain", ["0"]), ("depthwise", ["1"]), ("grouped", ["3"]), ("all", ["0", "1", "3"])],
)
def test_which(which, paths):
    done = swapped(mixed(), which=which)

    assert [row.path for row in done.replaced] == paths
    assert len(done.replaced) + len(done.left) == 3  # a 1×1 is no candidate


def test_only_and_skip_are_patterns_of_paths():
    model = create_model("timm:resnet18")
    done = swap(model, IMAGE, SwapOptions(only=("layer3.*", "layer4.1.*"), skip=("*.conv2",)))

    assert [row.path for row in done.replaced] == ["layer3.1.conv1", "layer4.1.conv1"]
    assert reasons(done)["layer1.0.conv1"] == "it matches no pattern of only"
    assert reasons(done)["layer3.0.conv2"] == "it matches a pattern of skip"
    for name in ("only", "skip"):
        with pytest.raises(ValueError, match=rf"{name} pattern 'layer9.\*' matches no convolution"):
            swap(model, IMAGE, SwapOptions(**{name: ("layer9.*",)}))


class Pool(nn.Conv2d):
    def forward(self, x):
        return super().forward(x).relu()


def hooked(conv: nn.Conv2d) -> nn.Conv2d:
    conv.register_forward_hook(lambda *_: None)
    return conv


@pytest.mark.parametrize(
    ("conv", "reason"),
    [
        (nn.Conv2d(8, 8, 5, padding=2), "its kernel is 5×5, and 3×3 was asked for"),
        (nn.Conv2d(8, 8, (1, 3), padding=(0, 1)), "its kernel is 1×3, and 3×3 was asked for"),
        (nn.Conv2d(8, 8, 3, padding=2, dilation=2), "its dilation is 2×2"),
        (nn.Conv2d(8, 8, 3), "its padding is 0×0, so that it changes the size beyond stride"),
        (nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"), "it pads by 'reflect'"),
        (Pool(8, 8, 3, padding=1), "Pool has a forward of its own"),
        (hooked(nn.Conv2d(8, 8, 3, padding=1)), "it has forward hooks"),
        (weight_norm(nn.Conv2d(8, 8, 3, padding=1)), "its weight is computed"),
    ],
)
def test_what_a_pair_cannot_stand_for_is_left_with_the_reason(conv, reason):
    near = nn.Conv2d(8, 8, 3, padding=1)
    done = swapped(nn.Sequential(conv, near))

    assert [row.path for row in done.replaced] == ["1"]
    assert reason in reasons(done)["0"]


@pytest.mark.parametrize(
    ("channels", "ratio", "near"), [(6, 4, "3 and 6"), (3, 4, "1 and 3"), (12, 5, "4 and 6")]
)
def test_channels_that_the_ratio_does_not_divide_are_left(channels, ratio, near):
    model = nn.Sequential(
        nn.Conv2d(channels, ratio, 3, padding=1), nn.Conv2d(ratio, 5, 3, padding=1)
    )
    done = swapped(model, 1, channels, 6, 6, ratio=ratio)

    assert [row.path for row in done.replaced] == ["1"]
    assert reasons(done)["0"] == (
        f"its {channels} channels are not divisible by ratio {ratio}; {near} divide them"
    )


def test_shared_weights_unreached_layers_and_a_pconvs_own_are_left():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c, self.unused = (nn.Conv2d(8, 8, 3, padding=1) for _ in range(4))
            self.b.weight = self.a.weight
            self.pconv = PConv(8)

        def forward(self, x):
            return self.pconv(self.c(self.b(self.a(x))))

    done = swapped(Odd())
    assert [row.path for row in done.replaced] == ["c"]
    assert reasons(done) == {
        "a": "another module has its weights too",
        "b": "another module has its weights too",
        "unused": "a plain call in eval mode does not reach it",
        "pconv.conv": "it is the convolution of a PConv",
    }


def test_branches_are_left_and_the_convolution_that_they_fold_into_is_taken():
    model = trained_(create_model("mobileone_s0")).eval()
    with pytest.raises(SwapError, match="it is a branch of a sum"):
        swap(model, IMAGE)

    fused = fuse(model, IMAGE).model
    done = swap(fused, IMAGE)
    assert {row.kind for row in done.replaced} == {"depthwise"}
    assert all("stride" in row.reason or "ratio" in row.reason for row in done.left)


# --- errors


def test_nothing_to_replace_is_an_error_that_names_each_candidate_and_its_reason():
    with pytest.raises(SwapError) as caught:
        swapped(mixed(), kernels=(5,), which="depthwise")
    assert str(caught.value) == (
        "nothing to replace in Sequential; each of its 3 convolutions is left:\n"
        "  it is plain, and depthwise was asked for: 0\n"
        "  its kernel is 3×3, and 5×5 was asked for: 1\n"
        "  it is grouped, and depthwise was asked for: 3"
    )
    with pytest.raises(SwapError, match="Conv2d has no K×K convolution"):
        swapped(nn.Conv2d(8, 8, 1))
    with pytest.raises(SwapError, match="the network is one convolution"):
        swapped(nn.Conv2d(8, 8, 3, padding=1))


def test_a_block_that_asks_its_convolution_for_more_is_an_error():
    class Asks(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(8, 8, 3, padding=1)

        def forward(self, x):
            return self.conv(x.to(self.conv.weight.dtype))

    with pytest.raises(SwapError, match=r"no attribute 'weight'.*leave that block out by skip"):
        swapped(Asks())


def test_a_changed_shape_is_an_error(monkeypatch):
    class Grows(PConvPointwise):
        def forward(self, x):
            return nn.functional.pad(super().forward(x), (1, 1))

    monkeypatch.setattr(substitute, "PConvPointwise", Grows)
    with pytest.raises(SwapError, match=r"0 answers \(1, 8, 6, 6\) with \(1, 8, 6, 8\)"):
        swapped(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1)))


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"conv": "pcon"}, UnknownNameError, "did you mean 'pconv'"),
        ({"which": "deep"}, UnknownNameError, "unknown value of which 'deep'"),
        ({"pointwise": "old"}, UnknownNameError, "known: new, own"),
        ({"init": "zero"}, UnknownNameError, "known: fresh, fit"),
        ({"ratio": 0}, ValueError, "ratio must be 1 or more, not 0"),
        ({"kernels": (4,)}, ValueError, "kernels must be odd"),
        ({"kernels": (1,)}, ValueError, "3 or more"),
        ({"kernels": ()}, ValueError, "not \\(\\)"),
    ],
)
def test_options_that_make_no_sense(options, kind, text):
    with pytest.raises(kind, match=text):
        SwapOptions(**options)


def test_no_module_and_no_fitting_input():
    with pytest.raises(TypeError, match=r"model must be an nn\.Module"):
        swap(lambda x: x, IMAGE)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"cannot be counted at input \(1, 3, 32, 32\)"):
        swapped(mixed(), 1, 3, 32, 32)


# --- after the swap: fold, engines, files


@pytest.mark.parametrize(
    ("name", "options", "norms_left"),
    [
        ("timm:resnet18", SwapOptions(strided=True), 0),
        ("shufflenet_v2_x0_5", SwapOptions(ratio=2), 0),
        # a norm and activation behind a PConv: nothing linear beside the norm to take it
        ("timm:mobilenetv2_100", SwapOptions(pointwise="own"), 13),
    ],
    ids=["resnet18", "shufflenet_v2", "mobilenetv2"],
)
def test_the_new_network_folds_and_runs_on_the_engines(name, options, norms_left):
    done = swap(trained_(create_model(name)).eval(), IMAGE, options)
    fused = fuse(done.model, IMAGE)
    assert len(fused.left) == norms_left
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        expected = done.model(images)
    for engine in ("eager", "native"):
        if available()[engine] is not None:
            pytest.skip(available()[engine])
        with load(engine, fused.model, example=images) as running:
            assert relative_error(running.run(images), expected) < TOLERANCES["float32"]


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_the_new_network_exports(engine):
    if available()[engine] is not None:
        pytest.skip(available()[engine])
    done = swap(Yolo().eval(), IMAGE, SwapOptions(strided=True))
    images = torch.randn(1, 3, 32, 32)
    with load(engine, fuse(done.model, IMAGE).model, example=images) as running:
        expected = done.model(images).detach()
        assert relative_error(running.run(images), expected) < TOLERANCES["float32"]


def test_the_norm_behind_a_pair_folds_into_its_one_by_one():
    model = Conv2dNormActivation(8, 8, 3, activation_layer=nn.ReLU)
    done = swap(trained_(model), torch.zeros(1, 8, 6, 6))
    fused = fuse(done.model, torch.zeros(1, 8, 6, 6))

    assert [row.detail for row in fused.folded] == ["into 0.pointwise"]
    assert not fused.left


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("timm:resnet18", {}),
        ("mobilenetv2_035", {"num_classes": 7, "padding": "same"}),
        ("shufflenet_v2_x0_5", {}),
    ],
)
def test_a_saved_network_comes_back_from_its_file_alone(tmp_path, name, made):
    options = SwapOptions(strided=True, ratio=2)
    done = swap(trained_(create_model(name, **made)), IMAGE, options)
    file = tmp_path / "swapped.safetensors"
    swap_file.save(done, file, base=name)
    back = swap_file.load(file)

    assert back.training
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(
        back.eval()(images), copy.deepcopy(done.model).eval()(images), rtol=0, atol=0
    )
    with safetensors.safe_open(file, framework="pt") as opened:
        stated = opened.metadata()
    assert stated["model"] == name
    assert json.loads(stated["swap"])["ratio"] == 2


class Wrapped(nn.Module):
    """All of whose keys begin with ``model.``, as a training checkpoint's may."""

    def __init__(self):
        super().__init__()
        self.model = Yolo()

    def forward(self, x):
        return self.model(x)


def test_a_network_of_the_users_own_is_given_to_load(tmp_path):
    base, file = Wrapped(), tmp_path / "own.safetensors"
    done = swap(base, IMAGE)
    swap_file.save(done, file, base="nets/mine.py:build")
    with pytest.raises(WeightsError, match=r"nets/mine.py:build.*base=\.\.\."):
        swap_file.load(file)

    back = swap_file.load(file, base)
    state = done.model.state_dict()
    assert all(torch.equal(t, state[key]) for key, t in back.state_dict().items())
    assert isinstance(base.model.join, nn.Conv2d)


def test_files_that_are_no_swap_or_do_not_fit(tmp_path):
    done = swap(Yolo(), IMAGE)
    file = tmp_path / "swapped.safetensors"
    swap_file.save(done, file, base="mine.py:build")
    with pytest.raises(WeightsError, match="exists already"):
        swap_file.save(done, file, base="mine.py:build")
    with pytest.raises(CorruptFileError, match=r"does not fit mine\.py:build"):
        swap_file.load(file, mixed())

    narrow = Yolo()
    narrow.heads = nn.ModuleList([nn.Conv2d(32, 10, 1), nn.Conv2d(64, 11, 1)])
    with pytest.raises(KeyMismatchError, match=r"heads.1.weight"):
        swap_file.load(file, narrow)

    plain = tmp_path / "plain.safetensors"
    safetensors.torch.save_file(Yolo().state_dict(), plain)
    with pytest.raises(WeightsError, match="no file of fleetfoot swap"):
        swap_file.load(plain)
    for unsound in ("{", "[]", '{"ratio": 0, "alone": {}}', '{"ratio": 4, "alone": {"a": "b"}}'):
        header = {"model": "timm:resnet18", "swap": unsound}
        safetensors.torch.save_file(Yolo().state_dict(), plain, metadata=header)
        with pytest.raises(CorruptFileError, match="its header's swap is unsound"):
            swap_file.load(plain)


def test_a_header_cannot_make_load_fetch_or_read_another_file(tmp_path):
    file = tmp_path / "hostile.safetensors"
    header = {
        "fleetfoot": "0",
        "model": "mobilenetv2_035",
        "options": json.dumps({"weights": "/etc/passwd"}),
        "swap": json.dumps({"ratio": 4, "alone": {}, "num_classes": 3}),
    }
    safetensors.torch.save_file({"a": torch.zeros(1)}, file, metadata=header)
    with pytest.raises(CorruptFileError, match="its header's options are unsound: weights"):
        swap_file.load(file)


def test_the_published_accuracy_does_not_come_along():
    model = create_model("mobilenetv2_035")
    model.pretrained_cfg = replace(model.pretrained_cfg, top1=60.0, top1_source="a paper")
    done = swap(model, IMAGE)

    assert done.model.pretrained_cfg.top1 is None
    assert model.pretrained_cfg.top1 == 60.0
