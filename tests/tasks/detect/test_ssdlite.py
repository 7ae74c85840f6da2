"""SSDLite against torchvision's under copied weights, its published size, and what it promises."""

from __future__ import annotations

import json
import re

import pytest
import torch
from drawn_shapes import shapes
from torch import Tensor, nn
from torchvision.models.detection import ssdlite320_mobilenet_v3_large

from fleetfoot.tasks.catalogue import create_model
from fleetfoot.tasks.detect.ssdlite import ExpansionTap
from fleetfoot.transform import fuse
from helpers import trained_
from oracle_macs import macs_of

CLOSE = {"rtol": 1e-9, "atol": 1e-9}
"""float64, the same operations in the same order: only the rounding of sums may differ."""


@pytest.fixture(scope="module")
def pair() -> tuple[nn.Module, nn.Module]:
    """Ours and torchvision's, with the same weights. Both hold their layers in the order in which
    they run, so that their tensors pair by position."""
    theirs = trained_(ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None)).double()
    ours = create_model("ssdlite").double()
    mine, other = ours.state_dict(), theirs.state_dict()
    assert [v.shape for v in mine.values()] == [v.shape for v in other.values()]
    ours.load_state_dict(dict(zip(mine, other.values(), strict=True)))
    return ours.eval(), theirs.eval()


def picture(count: int = 1) -> Tensor:
    rng = torch.Generator().manual_seed(1)
    return torch.rand(count, 3, 320, 320, generator=rng, dtype=torch.float64)


def prepared(x: Tensor) -> Tensor:
    return (x - 0.5) / 0.5


def test_it_has_the_published_parameters_and_operations():
    with torch.device("meta"):
        net = create_model("ssdlite").eval()
        x = torch.zeros(1, 3, 320, 320)
    assert sum(p.numel() for p in net.parameters()) == 3_440_060
    assert round(macs_of(net, x).layers / 1e9, 3) == 0.583  # torchvision prints 0.583 "GFLOPS"


@torch.no_grad()
def test_raw_outputs_equal_torchvisions(pair):
    ours, theirs = pair
    x = prepared(picture())

    logits, corrections = ours.rows(ours(x))

    expected = theirs.head(list(theirs.backbone(x).values()))
    assert logits.shape == (1, 3234, 91)
    torch.testing.assert_close(logits, expected["cls_logits"], **CLOSE)
    torch.testing.assert_close(corrections, expected["bbox_regression"], **CLOSE)


@torch.no_grad()
def test_detections_equal_torchvisions_exactly(pair):
    ours, theirs = pair
    x = picture()

    (found,) = ours.decode(ours(prepared(x)), (320, 320))

    (expected,) = theirs(list(x))
    assert len(found) == 300
    assert torch.equal(found.boxes, expected["boxes"])
    assert torch.equal(found.scores, expected["scores"])
    assert torch.equal(found.classes, expected["labels"] - 1)  # they count the background


def test_losses_equal_torchvisions(pair):
    ours, theirs = pair
    x = picture(2)
    targets = [
        {
            "boxes": torch.tensor([[20.0, 30, 120, 200], [150, 40, 300, 310], [5, 5, 25, 30]]),
            "labels": torch.tensor([4, 0, 89]),
        },
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
    ]
    targets[0]["boxes"] = targets[0]["boxes"].double()
    targets[1]["boxes"] = targets[1]["boxes"].double()

    with torch.no_grad():
        losses = ours(prepared(x), targets)

    # in eval mode, so that the statistics of the batch norms stay; they compute losses in train
    # mode only
    for module in theirs.modules():
        module.training = module is theirs
    counted = [{"boxes": t["boxes"], "labels": t["labels"] + 1} for t in targets]
    with torch.no_grad():
        expected = theirs(list(x), counted)
    theirs.eval()
    torch.testing.assert_close(losses["classes"], expected["classification"], **CLOSE)
    torch.testing.assert_close(losses["boxes"], expected["bbox_regression"], **CLOSE)
    assert losses["boxes"] > 0.01


@pytest.mark.parametrize(
    ("backbone", "tapped", "channels"),
    [
        ("mobilenetv3_small_100", True, 288),  # 48 widened six times
        ("mobilenetv2_035", True, 192),  # 32 widened six times
        ("fasternet_t0", False, 160),  # the map of stride 16
        ("timm:mobilenetv3_small_050", False, 24),
    ],
)
def test_any_backbone_with_strides_16_and_32(backbone, tapped, channels):
    net = create_model(f"ssdlite:{backbone}", num_classes=3, input_size=96).eval()

    outputs = net(torch.zeros(1, 3, 96, 96))

    assert isinstance(net.backbone, ExpansionTap) == tapped
    assert net.head.classes[0][1].in_channels == channels
    sides = [outputs[f"classes_{i}"].shape[-1] for i in range(6)]
    assert sides == [6, 3, 2, 1, 1, 1]
    assert outputs["classes_0"].shape[1] == 6 * 4  # six boxes, three classes and background
    assert outputs["corrections_0"].shape[1] == 6 * 4
    assert net.pretrained_cfg.resize_mode == "squash"
    assert net.pretrained_cfg.mean == net.pretrained_cfg.std == (0.5, 0.5, 0.5)
    parts = [name for part in net.parts().values() for name in part]
    assert parts == ["backbone", "extras", "head"]
    held = sum(len(list(net.get_submodule(name).parameters())) for name in parts)
    assert held == len(list(net.parameters()))


@torch.no_grad()
def test_the_tap_leaves_the_last_map_as_it_was():
    plain = create_model("ssdlite:mobilenetv2_035", num_classes=3, tap="stage").backbone.eval()
    x = torch.randn(1, 3, 64, 64)

    maps = ExpansionTap(plain)(x)

    assert torch.equal(maps[1], plain(x)[1])
    assert torch.equal(maps[0], plain.backbone.stages[-1][0].expand(plain(x)[0]))


def test_gradients_reach_every_parameter():
    x, targets = shapes(2, size=96)
    net = create_model("ssdlite:mobilenetv3_small_100", num_classes=3, input_size=96)

    losses = net(x, targets)
    sum(losses.values()).backward()

    assert all(loss.isfinite() for loss in losses.values())
    assert not [name for name, p in net.named_parameters() if p.grad is None]


def test_a_batch_without_objects_trains_nothing_and_is_no_error():
    net = create_model("ssdlite:mobilenetv3_small_050", num_classes=3, input_size=96)
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}

    losses = net(torch.randn(2, 3, 96, 96), [empty, empty])

    assert [float(loss.detach()) for loss in losses.values()] == [0.0, 0.0]
    sum(losses.values()).backward()  # every process of a run can do this


def test_options_build_the_same_network_again():
    net = create_model("ssdlite:mobilenetv3_small_100", num_classes=3, score_threshold=0.1)

    options = json.loads(json.dumps(net.options))

    assert options == {
        "backbone": "mobilenetv3_small_100",
        "num_classes": 3,
        "score_threshold": 0.1,
        "backbone_options": {"norm_eps": 1e-3, "norm_momentum": 0.03, "reduced_tail": True},
    }
    again = create_model("ssdlite", **options)
    again.load_state_dict(net.state_dict())
    assert again.options == net.options


def test_weights_of_a_backbone_keep_what_they_mean(tmp_path):
    from safetensors.torch import save_file

    body = trained_(create_model("mobilenetv3_small_050"))
    save_file(body.state_dict(), tmp_path / "body.safetensors")

    net = create_model(
        "ssdlite:mobilenetv3_small_050",
        num_classes=3,
        backbone_weights=tmp_path / "body.safetensors",
        tap="stage",
    ).eval()

    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(net.backbone(x)[-1], body.eval().features(x)[-1])
    chosen = {"norm_eps": 1e-5, "norm_momentum": 0.03, "reduced_tail": False}
    assert net.options["backbone_options"] == chosen
    again = create_model("ssdlite", **json.loads(json.dumps(net.options)))
    again.load_state_dict(net.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(again.eval().backbone(x)[-1], net.backbone(x)[-1])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tap": "neck"}, "tap must be 'auto', 'expansion' or 'stage', not 'neck'"),
        ({"tap": "expansion", "backbone": "fasternet_t0"}, "use tap='stage' with any other"),
        ({"max_detections": 0}, "max_detections must be 1 or more, not 0"),
        ({"input_size": 0}, "input_size must be a number or (height, width), positive, not 0"),
    ],
)
def test_wrong_options_are_named(options, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        create_model("ssdlite", num_classes=3, **options)


@pytest.mark.slow
def test_the_fused_network_is_a_detector_with_the_same_outputs():
    net = create_model("ssdlite:mobilenetv3_small_100", num_classes=3, input_size=96)
    net = trained_(net).double().eval()
    x = torch.randn(1, 3, 96, 96, dtype=torch.float64)

    fused = fuse(net, x).model

    assert not [m for m in fused.modules() if isinstance(m, nn.BatchNorm2d)]
    with torch.no_grad():
        outputs, expected = fused(x), net(x)
    for name, value in expected.items():
        torch.testing.assert_close(outputs[name], value, **CLOSE)
    found, wanted = fused.decode(outputs, (96, 96)), net.decode(expected, (96, 96))
    torch.testing.assert_close(found[0].boxes, wanted[0].boxes, rtol=1e-7, atol=1e-7)
