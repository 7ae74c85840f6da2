"""FCOS: torchvision's under the same weights, and its assignment counted by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models.detection import FCOS as TheirFCOS
from torchvision.models.detection import fcos_resnet50_fpn
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.fcos import FCOSHead
from torchvision.ops.feature_pyramid_network import LastLevelP6P7
from torchvision_parity import SIZE, objects, pictures, same_weights_

from fleetfoot.tasks.catalogue import create_model
from fleetfoot.tasks.detect.fcos import assign, how_central
from helpers import trainable

# float64: sums of some thousand products of 1e-16 each, through some twenty layers
ROUNDING = {"rtol": 1e-9, "atol": 1e-9}
SPREAD = (
    "head.classification_head.cls_logits",
    "head.regression_head.bbox_reg",
    "head.regression_head.bbox_ctrness",
)
TINY = {"num_classes": 3, "channels": 64, "depth": 1, "input_size": 64}


@pytest.fixture(scope="module")
def both():
    torch.manual_seed(0)
    body = resnet_fpn_backbone(
        backbone_name="resnet18",
        weights=None,
        norm_layer=nn.BatchNorm2d,
        trainable_layers=5,
        returned_layers=[2, 3, 4],
        extra_blocks=LastLevelP6P7(256, 256),
    )
    theirs = TheirFCOS(
        body, 5, head=FCOSHead(256, 1, 5, num_convs=1), score_thresh=0.3, detections_per_img=20
    )
    with torch.device("meta"):
        ours = create_model(
            "fcos:timm:resnet18", num_classes=5, depth=1, score_threshold=0.3, max_detections=20
        )
    ours.to_empty(device="cpu")
    same_weights_(theirs, ours, spread=SPREAD)
    return theirs, ours


def tiny(backbone: str = "fasternet_t0", **options):
    return create_model("fcos", backbone=backbone, **{**TINY, **options})


@torch.no_grad()
def test_outputs_and_detections_are_torchvisions(both):
    theirs, ours = (one.eval() for one in both)
    x = pictures(2)
    outputs = ours(x)
    raw = theirs.head(list(theirs.backbone(x).values()))
    for kind, name in (
        ("logits", "cls_logits"),
        ("distances", "bbox_regression"),
        ("centerness", "bbox_ctrness"),
    ):
        flat = [outputs[f"{kind}_p{level}"].flatten(2).transpose(1, 2) for level in range(3, 8)]
        torch.testing.assert_close(torch.cat(flat, 1), raw[name], **ROUNDING)

    found, expected = ours.decode(outputs, SIZE), theirs(list(x))
    assert [len(one) for one in found] == [20, 20]
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.classes, other["labels"])
        assert torch.equal(one.boxes, other["boxes"])
        assert torch.equal(one.scores, other["scores"])


def test_losses_are_torchvisions(both):
    theirs, ours = (one.train() for one in both)
    x, targets = pictures(2), objects()
    expected = theirs(list(x), targets)
    found = ours(x, targets)
    for name, other in (
        ("classes", "classification"),
        ("boxes", "bbox_regression"),
        ("centerness", "bbox_ctrness"),
    ):
        assert expected[other] > 0
        torch.testing.assert_close(found[name], expected[other], **ROUNDING)


@pytest.mark.slow
@torch.no_grad()
def test_the_published_network_is_torchvisions():
    theirs = fcos_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91)
    ours = create_model("fcos", num_classes=91)
    same_weights_(theirs, ours, spread=SPREAD)
    x = pictures(1)
    found, expected = ours.eval().decode(ours(x), SIZE)[0], theirs.eval()(list(x))[0]
    assert len(found) == 100
    assert torch.equal(found.classes, expected["labels"])
    assert torch.equal(found.boxes, expected["boxes"])


def test_parameters_are_torchvisions():
    with torch.device("meta"):
        ours = create_model("fcos", num_classes=91)
    norms = (m for m in ours.backbone.modules() if isinstance(m, nn.BatchNorm2d))
    # torchvision's figure is for norms whose scale and shift are not learned
    assert trainable(ours) - sum(map(trainable, norms)) == 32_269_600


def test_points_take_the_smallest_object_of_their_size_near_its_centre():
    places = torch.tensor([[16.0, 16.0], [24.0, 24.0], [40.0, 24.0], [32.0, 32.0], [64.0, 64.0]])
    strides = torch.tensor([8.0, 8.0, 8.0, 16.0, 32.0])
    small = [10.0, 10.0, 38.0, 34.0]  # centre (24, 22)
    inner = [20.0, 20.0, 30.0, 30.0]  # centre (25, 25), within the small one
    middle = [0.0, 0.0, 66.0, 70.0]  # centre (33, 35); its edge is 38 from (32, 32)
    huge = [0.0, 0.0, 600.0, 600.0]  # too far from (64, 64) for centre sampling

    matched = assign(places, strides, torch.tensor([small, inner, middle, huge]), 1.5)
    # the first lies in the small one, 8 from its centre; the second in three; the third in the
    # middle one alone, 11 from its centre; (32, 32) asks for edges 64 to 128 away
    assert matched.tolist() == [0, 1, 2, -1, -1]
    # as the coarsest map, the one of stride 32 has no longest distance
    assert assign(places, strides, torch.tensor([[0.0, 0.0, 140.0, 120.0]]), 1.5).tolist() == [
        *[-1] * 3, -1, -1,
    ]  # fmt: skip
    wide = torch.tensor([[0.0, 0.0, 260.0, 128.0]])
    assert assign(places, strides, wide, 3.0).tolist() == [-1, -1, -1, -1, 0]


def test_an_edge_and_the_limit_of_a_range_do_not_count():
    places, strides = torch.tensor([[8.0, 8.0]]), torch.tensor([8.0])
    at_the_edge = torch.tensor([[8.0, 4.0, 20.0, 12.0]])
    assert assign(places, strides, at_the_edge, 9.0).tolist() == [-1]
    assert assign(places, strides, at_the_edge - 1, 9.0).tolist() == [0]
    assert assign(places, strides, torch.zeros(0, 4), 1.5).tolist() == [-1]


def test_centerness_by_hand():
    boxes = torch.tensor([[0.0, 0.0, 8.0, 8.0]] * 3)
    places = torch.tensor([[4.0, 4.0], [2.0, 4.0], [2.0, 2.0]])
    expected = torch.tensor([1.0, (2 / 6) ** 0.5, 2 / 6])
    torch.testing.assert_close(how_central(places, boxes), expected)


def test_every_parameter_learns():
    model = tiny()
    box = torch.tensor([[8.0, 8.0, 40.0, 44.0]])
    losses = model(torch.randn(2, 3, 128, 128), [{"boxes": box, "labels": torch.tensor([2])}] * 2)
    sum(losses.values()).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]


def test_pictures_without_objects_have_a_loss():
    model = tiny()
    none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    losses = model(torch.randn(1, 3, 128, 128), [none])
    assert losses["classes"] > 0
    assert losses["boxes"] == losses["centerness"] == 0
    sum(losses.values()).backward()
    assert model.head.centerness.weight.grad is not None


@torch.no_grad()
def test_a_picture_in_which_nothing_is_found_has_no_detections():
    model = tiny(score_threshold=1.0).eval()
    (found,) = model.decode(model(torch.zeros(1, 3, 64, 64)), (64, 64))
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)


@pytest.mark.parametrize("backbone", ["mobilenetv2_035", "shufflenet_v2_x0_5", "timm:resnet18"])
@torch.no_grad()
def test_it_runs_on_any_backbone(backbone):
    model = tiny(backbone).eval()
    outputs = model(torch.randn(1, 3, 64, 128))
    assert outputs["logits_p3"].shape == (1, 3, 8, 16)
    assert outputs["distances_p5"].shape == (1, 4, 2, 4)


def test_the_fixed_part_exports():
    program = torch.export.export(tiny().eval(), (torch.zeros(1, 3, 64, 64),))
    assert not [n for n in program.graph.nodes if "nonzero" in str(n.target)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 80}, r"channels \(80\) must be 64 or more, a multiple of 32"),
        ({"channels": 32}, r"channels \(32\) must be 64 or more"),
        ({"depth": 0}, r"depth \(0\) and candidates \(1000\) must be 1 or more"),
        ({"input_size": (0, 64)}, "input_size must be a number or .height, width., positive"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        tiny(**options)
