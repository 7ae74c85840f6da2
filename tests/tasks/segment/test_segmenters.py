"""LR-ASPP, DeepLabV3 and Semantic FPN: parity with torchvision, sizes, losses, decoding."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision

from fleetfoot.count import count
from fleetfoot.data.placement import Placement
from fleetfoot.errors import UnknownNameError
from fleetfoot.tasks.catalogue import create_model
from fleetfoot.tasks.segment.network import Segmenter
from helpers import trainable, trained_
from mobilenet_parity import renamed, torchvision_names

CLOSE = {"rtol": 1e-9, "atol": 1e-9}
"""float64, the same sums in the same order."""

TORCHVISION = {
    "form": "torchvision",
    "backbone": "mobilenetv3_large_100",
    "backbone_options": {"norm_eps": 1e-3, "norm_momentum": 0.01},
}
HEAD_NAMES = {
    "lraspp": [
        ("head.reduce.0", "classifier.cbr.0"),
        ("head.reduce.1", "classifier.cbr.1"),
        ("head.gate.1", "classifier.scale.1"),
        ("head.fine", "classifier.low_classifier"),
        ("head.coarse", "classifier.high_classifier"),
    ],
    "deeplabv3": [
        *[
            (f"context.branches.{i}.{j}", f"classifier.0.convs.{i}.{j}")
            for i in range(4)
            for j in (0, 1)
        ],
        *[(f"context.pooled.1.{j}", f"classifier.0.convs.4.{j + 1}") for j in (0, 1)],
        *[(f"context.project.{j}", f"classifier.0.project.{j}") for j in (0, 1)],
        ("refine.0", "classifier.1"),
        ("refine.1", "classifier.2"),
        ("classifier", "classifier.4"),
        *[(f"auxiliary.{j}", f"aux_classifier.{j}") for j in (0, 1, 4)],
    ],
}
NARROW = {"backbone": "fasternet_t0", "backbone_options": {"width": 16, "depths": (1, 1, 2, 1)}}


def as_torchvision(head):
    """Ours with torchvision's weights, and torchvision's network."""
    options = {"aux_loss": True} if head == "deeplabv3" else {}
    builder = getattr(torchvision.models.segmentation, f"{head}_mobilenet_v3_large")
    theirs = builder(weights=None, weights_backbone=None, **options)
    trained_(theirs).double().eval()
    mine = {"auxiliary": True} if head == "deeplabv3" else {}
    ours = create_model(head, **TORCHVISION, **mine).double().eval()
    body = [
        (f"backbone.backbone.{mine}", other.replace("features.", "backbone."))
        for mine, other in torchvision_names("large")
        if not mine.startswith("head.")
    ]
    state = renamed(theirs.state_dict(), [*body, *HEAD_NAMES[head]])
    ours.load_state_dict(state)
    return ours, theirs


def quiet_(model):
    """Without dropout, whose draws no two networks share."""
    for module in model.modules():
        if isinstance(module, torch.nn.modules.dropout._DropoutNd):
            module.p = 0.0
    return model


def assert_same_answers(ours, theirs, x):
    size = tuple(x.shape[-2:])
    expected = theirs(x)
    logits = ours(x)["logits"]
    scaled = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
    assert expected["out"].std() > 0.01, "an answer without spread would hide a difference"
    torch.testing.assert_close(scaled, expected["out"], **CLOSE)
    if "aux" in expected:
        auxiliary = ours.auxiliary_logits(ours.backbone(x))
        scaled = F.interpolate(auxiliary, size=size, mode="bilinear", align_corners=False)
        torch.testing.assert_close(scaled, expected["aux"], **CLOSE)
    maps = torch.stack(ours.decode(ours(x), size))
    assert (maps == expected["out"].argmax(1)).all()


@pytest.mark.parametrize(("head", "published"), [("lraspp", 3_221_538), ("deeplabv3", 11_029_328)])
def test_outputs_losses_and_gradients_equal_torchvisions(head, published):
    """The loss is that of torchvision's reference recipes: 0.5 times the auxiliary one is added."""
    ours, theirs = map(quiet_, as_torchvision(head))
    assert trainable(ours) == trainable(theirs) == published
    for size in ((32, 64), (75, 53)):
        with torch.no_grad():
            assert_same_answers(ours, theirs, torch.randn(1, 3, *size, dtype=torch.float64))

    x = torch.randn(2, 3, 48, 64, dtype=torch.float64)
    truth = torch.randint(0, 21, (2, 48, 64))
    truth[:, :9] = 255
    outputs = theirs.train()(x)
    expected = sum(
        weight * F.cross_entropy(outputs[name], truth, ignore_index=255)
        for name, weight in (("out", 1.0), ("aux", 0.5))
        if name in outputs
    )
    losses = ours.train()(x, [{"map": one} for one in truth])
    assert list(losses) == (["segment", "auxiliary"] if head == "deeplabv3" else ["segment"])
    torch.testing.assert_close(sum(losses.values()), expected, **CLOSE)

    sum(losses.values()).backward()
    expected.backward()
    torch.testing.assert_close(
        ours.backbone.backbone.stem[0].weight.grad, theirs.backbone["0"][0].weight.grad, **CLOSE
    )


@pytest.mark.parametrize(
    ("head", "options", "published"),
    [
        ("deeplabv3", {}, 4.52e6),  # MobileNetV2's table 7: with and without ASPP
        ("deeplabv3", {"aspp": False}, 2.11e6),
        ("semantic_fpn", {"backbone": "timm:resnet50"}, 28.5e6),  # PVT's and PoolFormer's tables
    ],
)
def test_parameters_are_those_of_the_papers(head, options, published):
    digits = 10_000 if published < 10e6 else 100_000  # that the papers print
    assert round(trainable(create_model(head, **options)) / digits) * digits == published


def test_what_torchvision_publishes_of_lraspp_is_what_is_counted():
    made = create_model("lraspp")
    assert trainable(made) == 3_221_538
    macs = count(made.eval(), torch.zeros(1, 3, 520, 520)).macs
    assert round(macs / 1e9, 3) == 2.086


def segmenter(head, **options):
    return create_model(head, **{"num_classes": 5, **NARROW, **options})


@pytest.mark.parametrize("head", ["lraspp", "deeplabv3", "semantic_fpn"])
@pytest.mark.parametrize("size", [(64, 64), (90, 120), (61, 47)])
@torch.no_grad()
def test_any_size_of_picture_is_answered(head, size):
    made = segmenter(head).eval()
    outputs = made(torch.randn(2, 3, *size))
    assert list(outputs) == ["logits"]
    maps = made.decode(outputs, size)
    assert [tuple(one.shape) for one in maps] == [size, size]
    assert maps[0].dtype == torch.uint8
    assert made.task == "segment"


@pytest.mark.parametrize("stride", [8, 16, 32])
@pytest.mark.parametrize("head", ["lraspp", "deeplabv3"])
@torch.no_grad()
def test_output_stride_is_that_of_the_coarse_map(head, stride):
    made = segmenter(head, output_stride=stride).eval()
    assert made.backbone(torch.zeros(1, 3, 64, 64))[-1].shape[-1] == 64 // stride
    shape = made(torch.zeros(1, 3, 64, 64))["logits"].shape[-1]
    assert shape == 64 // (8 if head == "lraspp" else stride)


@pytest.mark.parametrize(
    ("head", "options"),
    [
        ("lraspp", {}),
        ("deeplabv3", {"auxiliary": True}),
        ("deeplabv3", {"aspp": False}),
        ("semantic_fpn", {}),
    ],
)
def test_gradients_reach_every_parameter(head, options):
    made = segmenter(head, **options)
    targets = [{"map": torch.randint(0, 5, (64, 64))} for _ in range(2)]
    losses = made(torch.randn(2, 3, 64, 64), targets)
    assert all(loss.ndim == 0 for loss in losses.values())
    sum(losses.values()).backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("head", ["lraspp", "deeplabv3", "semantic_fpn"])
def test_ten_steps_learn_a_picture(head):
    torch.manual_seed(3)
    narrow = {"channels": 32} if head == "semantic_fpn" else {}
    made = quiet_(segmenter(head, width=32, **narrow))
    truth = torch.zeros(2, 64, 64, dtype=torch.int64)
    truth[:, 16:48, 16:48] = 3
    x = torch.randn(2, 3, 64, 64) * 0.1 + (truth == 3)[:, None]
    optimiser = torch.optim.AdamW(made.parameters(), lr=3e-3)
    first = None
    for _ in range(10):
        losses = made(x, [{"map": one} for one in truth])
        total = sum(losses.values())
        first = total.item() if first is None else first
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
    assert total.item() < 0.5 * first


def test_pixels_without_a_class_do_not_count():
    made = segmenter("lraspp").eval()
    x = torch.randn(2, 3, 32, 32)
    some = torch.full((2, 32, 32), 255)
    some[0, :16] = 2
    loss = made(x, [{"map": one} for one in some])["segment"]
    scaled = F.interpolate(made(x)["logits"], size=(32, 32), mode="bilinear")
    expected = F.cross_entropy(scaled[:1, :, :16], some[:1, :16])
    torch.testing.assert_close(loss, expected)
    none = torch.full((2, 32, 32), 255)
    assert made(x, [{"map": one} for one in none])["segment"].item() == 0


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([{"map": torch.zeros(32, 32)}], "2 pictures and 1 targets"),
        ([{"boxes": torch.zeros(1, 4)}] * 2, "target 0 has no map; it holds boxes"),
        ([{"map": torch.zeros(32, 30)}] * 2, r"map of target 0 has shape \(32, 30\)"),
    ],
)
def test_targets_that_do_not_fit_are_refused(targets, message):
    with pytest.raises(ValueError, match=message):
        segmenter("lraspp")(torch.zeros(2, 3, 32, 32), targets)


def test_a_batch_of_one_is_refused_where_its_norm_has_one_value():
    made = segmenter("deeplabv3")
    targets = [{"map": torch.zeros(32, 32, dtype=torch.int64)}]
    with pytest.raises(ValueError, match="batches of 2 pictures or more"):
        made(torch.zeros(1, 3, 32, 32), targets)
    assert "segment" in made.eval()(torch.zeros(1, 3, 32, 32), targets)


def placed(height, width, scale=(1.0, 1.0), offset=(0.0, 0.0)):
    return Placement(height=height, width=width, scale=scale, offset=offset)


@torch.no_grad()
def test_a_picture_that_fills_the_input_is_decoded_like_the_input():
    made = segmenter("semantic_fpn")
    outputs = {"logits": torch.randn(2, 5, 16, 24, dtype=torch.float64)}
    ours = made.decode(outputs, (64, 96), [placed(64, 96)] * 2)
    for mine, other in zip(ours, made.decode(outputs, (64, 96)), strict=True):
        assert (mine == other).all()


@torch.no_grad()
def test_a_letterboxed_picture_is_decoded_at_its_own_size():
    """The answer of a picture of twice the size equals that of the part of the input in which it
    lies, interpolated twice as finely."""
    made = segmenter("semantic_fpn")
    outputs = {"logits": torch.randn(1, 5, 16, 16, dtype=torch.float64)}
    ours = made.decode(outputs, (64, 64), [placed(96, 128, (0.5, 0.5), (0.0, 16.0))])[0]
    whole = made.decode(outputs, (128, 128))[0]
    assert ours.shape == (96, 128)
    assert (ours == whole[32:][:96]).all()


@torch.no_grad()
def test_large_maps_are_decoded_in_parts(monkeypatch):
    made = segmenter("semantic_fpn")
    outputs = {"logits": torch.randn(1, 5, 16, 16)}
    expected = made.decode(outputs, (64, 64), [placed(90, 70)])[0]
    monkeypatch.setattr("fleetfoot.tasks.segment.decoding.AT_ONCE", 5 * 70 * 7)
    assert (made.decode(outputs, (64, 64), [placed(90, 70)])[0] == expected).all()
    with pytest.raises(ValueError, match="1 pictures and 2 placements"):
        made.decode(outputs, (64, 64), [placed(90, 70)] * 2)


def test_options_say_how_to_build_the_network_again():
    made = segmenter("deeplabv3", output_stride=8, auxiliary=True, width=64, input_size=(96, 128))
    stated = json.loads(json.dumps(made.options))
    assert {name for name in stated if name not in ("backbone", "num_classes")} == {
        "backbone_options", "output_stride", "auxiliary", "width", "input_size",
    }  # fmt: skip
    stated["input_size"] = tuple(stated["input_size"])
    again = create_model("deeplabv3", **stated)
    assert {k: v.shape for k, v in again.state_dict().items()} == {
        k: v.shape for k, v in made.state_dict().items()
    }
    assert made.pretrained_cfg.input_size == (96, 128)
    assert made.pretrained_cfg.resize_mode == "letterbox"


@pytest.mark.parametrize("head", ["lraspp", "deeplabv3", "semantic_fpn"])
def test_parts_name_every_module_that_runs(head):
    made = segmenter(head, **({"auxiliary": True} if head == "deeplabv3" else {}))
    named = [name for names in made.parts().values() for name in names]
    idle = {"dropout", "auxiliary"}
    assert set(named) == {name for name, _ in made.named_children()} - idle


@pytest.mark.parametrize(
    ("head", "options", "message"),
    [
        ("lraspp", {"num_classes": 1}, "num_classes must be from 2 to 255, not 1"),
        ("semantic_fpn", {"num_classes": 256}, "num_classes must be from 2 to 255, not 256"),
        ("lraspp", {"output_stride": 12}, "output_stride must be 8, 16 or 32, not 12"),
        ("deeplabv3", {"form": "caffe"}, "form must be 'plain' or 'torchvision', not 'caffe'"),
        ("deeplabv3", {"aspp": False, "rates": (6,)}, r"rates=\(6,\) .* need aspp=True"),
        ("deeplabv3", {"rates": ()}, r"rates=\(\) must be 1 or more"),
        ("semantic_fpn", {"drop_rate": 1.0}, r"drop_rate must be in \[0, 1\), not 1.0"),
        ("lraspp", {"input_size": 0}, "input_size must be a number or"),
        (
            "lraspp",
            {"backbone": "timm:resnet18", "backbone_options": None, "form": "torchvision"},
            "offered for backbones of the zoo with plain stages",
        ),
    ],
)
def test_options_out_of_range_are_named(head, options, message):
    with pytest.raises(ValueError, match=message):
        segmenter(head, **options)


def test_a_backbone_of_another_library_takes_any_head():
    made = create_model("lraspp:timm:resnet18", num_classes=3, output_stride=8)
    assert isinstance(made, Segmenter)
    assert made.backbone(torch.zeros(1, 3, 64, 64))[-1].shape == (1, 512, 8, 8)


def test_an_unknown_option_of_the_backbone_is_named():
    with pytest.raises(UnknownNameError, match="norm_epsilon"):
        segmenter("lraspp", backbone_options={"norm_epsilon": 1e-3})


def test_a_map_of_classes_is_what_the_metric_takes():
    from fleetfoot.tasks.segment.metric import Meter

    made = segmenter("lraspp").eval()
    with torch.no_grad():
        found = made.decode(made(torch.zeros(1, 3, 32, 32)), (32, 32))[0]
    meter = Meter(5)
    meter.update(0, found, np.zeros((32, 32), np.uint8))
    assert meter.figures()["pixels"] == 1024
