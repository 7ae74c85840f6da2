"""Faster and Mask R-CNN: torchvision's under the same weights, whole counts, targets, gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models.detection import FasterRCNN as TheirFasterRCNN
from torchvision.models.detection import MaskRCNN as TheirMaskRCNN
from torchvision.models.detection import fasterrcnn_resnet50_fpn, maskrcnn_resnet50_fpn
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor
from torchvision_parity import SIZE, objects, pictures, same_weights_, with_background

from fleetfoot.tasks.catalogue import create_model
from fleetfoot.tasks.detect.masks import paste
from helpers import trainable

# float64: sums of some ten thousand products of 1e-16 each, through some twenty layers
ROUNDING = {"rtol": 1e-9, "atol": 1e-9}
SPREAD = ("rpn.head.cls_logits", "rpn.head.bbox_pred", "roi_heads.box_predictor.cls_score")
TINY = {
    "num_classes": 3, "channels": 32, "box_width": 32, "input_size": 64, "proposals": (30, 12),
    "max_detections": 5,
}  # fmt: skip
NAMES = ("fasterrcnn", "maskrcnn")


def tiny(name: str, backbone: str = "fasternet_t0", **options):
    return create_model(name, backbone=backbone, **{**TINY, **options})


@pytest.fixture(scope="module", params=NAMES)
def both(request):
    torch.manual_seed(0)
    masks = request.param == "maskrcnn"
    body = resnet_fpn_backbone(
        backbone_name="resnet18", weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5
    )
    narrow = {
        "box_head": TwoMLPHead(256 * 7 * 7, 32),
        "box_predictor": FastRCNNPredictor(32, 6),
        "rpn_post_nms_top_n_train": 30,
        "rpn_post_nms_top_n_test": 30,
        "box_detections_per_img": 4,
    }
    options = {
        "num_classes": 5, "box_width": 32, "proposals": (30, 30), "max_detections": 4,
    }  # fmt: skip
    if masks:
        narrow |= {"mask_predictor": MaskRCNNPredictor(256, 256, 6)}
    theirs = (TheirMaskRCNN if masks else TheirFasterRCNN)(body, **narrow)
    with torch.device("meta"):
        ours = create_model(request.param, backbone="timm:resnet18", **options)
    ours.to_empty(device="cpu")
    spread = (*SPREAD, "roi_heads.mask_predictor.mask_fcn_logits") if masks else SPREAD
    same_weights_(theirs, ours, spread=spread)
    return theirs, ours


@torch.no_grad()
def check_detections(theirs, ours, count: int) -> None:
    x = pictures(1)
    outputs = ours.eval()(x)
    maps = theirs.eval().backbone(x)
    for name, level in zip(("0", "1", "2", "3"), range(2, 6), strict=True):
        torch.testing.assert_close(outputs[f"p{level}"], maps[name], **ROUNDING)
    scores, deltas = theirs.rpn.head(list(maps.values()))
    for i, level in enumerate(range(2, 7)):
        torch.testing.assert_close(outputs[f"objectness_p{level}"], scores[i], **ROUNDING)
        torch.testing.assert_close(outputs[f"deltas_p{level}"], deltas[i], **ROUNDING)

    (found,), (expected,) = ours.decode(outputs, SIZE), theirs(list(x))
    assert len(found) == count
    assert torch.equal(found.classes, expected["labels"] - 1)
    assert torch.equal(found.boxes, expected["boxes"])
    assert torch.equal(found.scores, expected["scores"])
    if "masks" in expected:
        theirs_on = expected["masks"][:, 0] > 0.5
        assert theirs_on.any()
        assert torch.equal(found.masks, theirs_on)


def test_outputs_and_detections_are_torchvisions(both):
    check_detections(*both, count=4)


def test_losses_are_torchvisions(both):
    theirs, ours = (one.train() for one in both)
    masks = hasattr(theirs.roi_heads, "mask_head") and theirs.roi_heads.has_mask()
    x, targets = pictures(2), objects(masks=masks)
    torch.manual_seed(3)  # both draw their samples of the regions from torch's generator
    expected = theirs(list(x), with_background(targets))
    torch.manual_seed(3)
    found = ours(x, targets)
    names = {
        "objectness": "loss_objectness",
        "proposals": "loss_rpn_box_reg",
        "classes": "loss_classifier",
        "boxes": "loss_box_reg",
        "masks": "loss_mask",
    }
    assert {names[name] for name in found} == set(expected)
    for name, loss in found.items():
        assert loss > 0
        torch.testing.assert_close(loss, expected[names[name]], **ROUNDING)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "builder"),
    [("fasterrcnn", fasterrcnn_resnet50_fpn), ("maskrcnn", maskrcnn_resnet50_fpn)],
)
def test_the_published_networks_are_torchvisions(name, builder):
    # of 91 classes with weights at random, none is as likely as the default threshold
    theirs = builder(weights=None, weights_backbone=None, num_classes=91, box_score_thresh=0.001)
    ours = create_model(name, num_classes=90, score_threshold=0.001)
    same_weights_(theirs, ours, spread=SPREAD)
    check_detections(theirs, ours, count=100)


@pytest.mark.parametrize(("name", "published"), [("fasterrcnn", 41_755_286),
                                                 ("maskrcnn", 44_401_393)])  # fmt: skip
def test_parameters_are_torchvisions(name, published):
    with torch.device("meta"):
        ours = create_model(name, num_classes=90)
    norms = (m for m in ours.backbone.modules() if isinstance(m, nn.BatchNorm2d))
    # torchvision's figure is for norms whose scale and shift are not learned
    assert trainable(ours) - sum(map(trainable, norms)) == published


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_learns(name):
    model = tiny(name)
    targets = [
        {**one, "labels": one["labels"].clamp_max(2), "boxes": one["boxes"].float()}
        for one in objects(masks=True)
    ]
    losses = model(torch.randn(2, 3, *SIZE), targets)
    sum(losses.values()).backward()
    assert not [key for key, p in model.named_parameters() if p.grad is None]


@pytest.mark.parametrize("name", NAMES)
def test_pictures_without_objects_have_a_loss(name):
    model = tiny(name)
    empty = {
        "boxes": torch.zeros(0, 4),
        "labels": torch.zeros(0, dtype=torch.int64),
        "masks": torch.zeros(0, 64, 64, dtype=torch.uint8),
    }
    losses = model(torch.randn(1, 3, 64, 64), [empty])
    assert losses["objectness"] > 0
    assert losses["boxes"] == losses.get("masks", 0) == 0
    total = sum(losses.values())
    total.backward()
    assert total.isfinite()
    assert not [key for key, p in model.named_parameters() if p.grad is None]


@pytest.mark.parametrize(
    ("masks", "found"),
    [({}, "none"), ({"masks": torch.zeros(1, 32, 64)}, r"\(1, 32, 64\)")],
)
def test_masks_are_wanted_where_they_are_learned(masks, found):
    box = {"boxes": torch.tensor([[5.0, 5.0, 8.0, 9.0]]), "labels": torch.tensor([0]), **masks}
    wanted = rf"of shape \(1, 64, 64\), and the target has {found}; fasterrcnn learns from boxes"
    with pytest.raises(ValueError, match=wanted):
        tiny("maskrcnn")(torch.zeros(1, 3, 64, 64), [box])


def test_anchors_are_wanted_for_every_map():
    with pytest.raises(ValueError, match="anchor_sizes must name 5 sizes, one for each map"):
        tiny("fasterrcnn", anchor_sizes=(8, 16))
    with pytest.raises(ValueError, match=r"proposals must be two numbers .* not \(30, 0\)"):
        tiny("fasterrcnn", proposals=(30, 0))


def test_masks_are_pasted_into_their_boxes():
    soft = torch.zeros(2, 4, 4)
    soft[0] = 1
    soft[1, :, :2] = 1
    boxes = torch.tensor([[2.0, 3.0, 10.0, 11.0], [0.0, 0.0, 16.0, 16.0]])
    masks = paste(soft, boxes, (20, 24))
    assert masks.shape == (2, 20, 24)
    assert masks[0, 4:10, 3:9].all()
    assert not masks[0, :2].any()
    assert not masks[0, :, 12:].any()
    assert masks[1, :, :6].sum() > masks[1, :, 10:].sum() == 0
    assert paste(torch.zeros(0, 4, 4), torch.zeros(0, 4), (20, 24)).shape == (0, 20, 24)


@torch.no_grad()
def test_decoding_needs_only_the_outputs():
    model = tiny("maskrcnn").eval()
    outputs = model(torch.randn(1, 3, 64, 64))
    from_elsewhere = {name: torch.from_numpy(one.numpy().copy()) for name, one in outputs.items()}
    (one,), (other,) = (model.decode(given, (64, 64)) for given in (outputs, from_elsewhere))
    assert torch.equal(one.boxes, other.boxes)
    assert torch.equal(one.masks, other.masks)


@torch.no_grad()
def test_a_small_first_picture_changes_nothing():
    """torchvision's pooling keeps the strides that it derives from the first pictures it sees."""
    model, x = tiny("fasterrcnn").eval(), torch.randn(1, 3, 64, 64)
    before = model.decode(model(x), (64, 64))[0]
    model.decode(model(torch.randn(1, 3, 33, 33)), (33, 33))
    after = model.decode(model(x), (64, 64))[0]
    assert torch.equal(before.boxes, after.boxes)


def test_the_fixed_part_exports():
    program = torch.export.export(tiny("maskrcnn").eval(), (torch.zeros(1, 3, 64, 64),))
    assert not [n for n in program.graph.nodes if "nonzero" in str(n.target)]
