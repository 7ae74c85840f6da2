"""Convolutions replaced by PConv and a 1×1: which, by what, what it costs, and what stays."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from torchvision.models.detection import (
    fasterrcnn_mobilenet_v3_large_320_fpn,
    ssdlite320_mobilenet_v3_large,
)
from torchvision.ops import Conv2dNormActivation

from fleetfoot.errors import (
    SwapError,
    UnknownNameError,
)
from fleetfoot.models import create_model
from fleetfoot.ops.pconv import PConv, PConvPointwise
from fleetfoot.transform import SwapOptions, fuse, substitute, swap
from helpers import trained_
from swaps_by_hand import IMAGE, Yolo, mixed, reasons, swapped, swapped_double

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
