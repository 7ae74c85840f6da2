"""The one-stage detector: losses and decoding against cases counted by hand, and what its networks
promise."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
import torch
from drawn_shapes import CLASSES, shapes
from torch import Tensor, nn

from fleetfoot.errors import UnknownNameError
from fleetfoot.ops.pconv import PConv
from fleetfoot.tasks.catalogue import create_model
from fleetfoot.tasks.detect.onestage import distribution_focal_loss, quality_focal_loss
from fleetfoot.tasks.detect.pan import MIXERS
from fleetfoot.transform import SwapOptions, fuse, swap
from helpers import trained_

SMALL = {"num_classes": 3, "width": 16, "input_size": 64}


def tiny(**options) -> nn.Module:
    return create_model("onestage", **SMALL | options)


def background(bins: int = 16, classes: int = 3) -> dict[str, Tensor]:
    """Outputs for one input of 64 × 64 pixels on which nothing is found."""
    outputs = {}
    for i, side in enumerate((8, 4, 2)):
        outputs[f"classes_{i}"] = torch.full((1, classes, side, side), -20.0)
        outputs[f"distances_{i}"] = torch.zeros(1, 4 * bins, side, side)
    return outputs


def answer_(outputs: dict[str, Tensor], level: int, row: int, column: int, edges, **scores) -> None:
    """Makes one point answer a box whose edges are so many strides away."""
    for edge, distance in enumerate(edges):
        outputs[f"distances_{level}"][0, 16 * edge + distance, row, column] = 100.0
    for name, logit in scores.items():
        outputs[f"classes_{level}"][0, int(name[1:]), row, column] = logit


# --- decoding


def test_a_point_answers_the_box_around_its_centre_cut_at_the_edges():
    outputs = background()
    answer_(outputs, 1, 1, 2, (1, 0, 2, 3), c2=0.0)

    (found,) = tiny().decode(outputs, (64, 64))

    # the centre of column 2, row 1 at stride 16 is (40, 24)
    assert found.boxes.tolist() == [[24.0, 24.0, 64.0, 64.0]]  # 40 + 32 and 24 + 48 are outside
    assert found.classes.tolist() == [2]
    assert found.scores.tolist() == [0.5]


def test_a_distance_is_the_mean_of_its_distribution():
    outputs = background()
    answer_(outputs, 0, 4, 4, (2, 2, 2, 2), c0=0.0)
    outputs["distances_0"][0, 3, 4, 4] = 100.0  # the left edge: 2 and 3 strides alike

    (found,) = tiny().decode(outputs, (64, 64))

    assert found.boxes.tolist() == [[36 - 20.0, 20.0, 52.0, 52.0]]


def test_overlapping_boxes_are_dropped_within_a_class_only():
    outputs = background()
    answer_(outputs, 0, 3, 3, (2, 2, 3, 3), c0=2.0, c1=1.0)  # two classes for one box
    answer_(outputs, 0, 4, 4, (3, 3, 2, 2), c0=3.0)  # the same box, surer
    answer_(outputs, 2, 0, 0, (0, 0, 2, 1), c0=0.0)  # overlaps them by 1152 / 1984, less than 0.6

    (found,) = tiny().decode(outputs, (64, 64))

    assert found.classes.tolist() == [0, 1, 0]
    expected = [1 / (1 + math.exp(-logit)) for logit in (3, 1, 0)]
    torch.testing.assert_close(found.scores, torch.tensor(expected))
    assert found.boxes.tolist() == [[12.0, 12, 52, 52], [12.0, 12, 52, 52], [16.0, 16, 64, 48]]


def test_limits_of_the_answer():
    outputs = background()
    for column, logit in enumerate((0.0, 2.0, 1.0, -3.0)):
        answer_(outputs, 0, 0, 2 * column, (0, 0, 1, 1), c0=logit)

    (found,) = tiny(score_threshold=0.1, max_detections=2).decode(outputs, (64, 64))
    assert found.boxes[:, 0].tolist() == [20.0, 36.0]
    (found,) = tiny(score_threshold=0.1).decode(outputs, (64, 64))
    assert len(found) == 3  # the last scores 0.05
    (found,) = tiny().decode(background(), (64, 64))
    assert found.boxes.shape == (0, 4)
    assert len(found.classes) == len(found) == 0


def test_outputs_in_half_precision_are_decoded_in_single():
    outputs = background()
    answer_(outputs, 2, 0, 0, (0, 0, 1, 1), c1=2.0)

    (found,) = tiny().decode({k: v.half() for k, v in outputs.items()}, (64, 64))

    assert found.boxes.tolist() == [[16.0, 16.0, 48.0, 48.0]]
    assert found.scores.dtype == torch.float32


# --- losses


def test_quality_focal_loss_by_hand():
    logits, wanted = torch.tensor([0.0, 0.0, 0.0]), torch.tensor([1.0, 0.5, 0.0])

    loss = quality_focal_loss(logits, wanted)

    assert loss.tolist() == pytest.approx([0.25 * math.log(2), 0.0, 0.25 * math.log(2)])


def test_distribution_focal_loss_by_hand():
    chances = torch.tensor([0.1, 0.2, 0.3, 0.4])
    distances = torch.tensor([1.25, 2.0, 3.0, 9.0, -1.0])

    loss = distribution_focal_loss(chances.log().expand(5, 4), distances)

    expected = [
        -0.75 * math.log(0.2) - 0.25 * math.log(0.3),
        -math.log(0.3),
        -math.log(0.4),
        -math.log(0.4),  # cut to the last whole number
        -math.log(0.1),
    ]
    assert loss.tolist() == pytest.approx(expected)


def test_distribution_focal_loss_is_least_if_its_mean_is_the_distance():
    logits = torch.zeros(1, 4, requires_grad=True)
    best = torch.tensor([[-30.0, math.log(0.75), math.log(0.25), -30.0]])

    distribution_focal_loss(best + logits, torch.tensor([1.25])).sum().backward()

    assert logits.grad.abs().max() < 1e-6


def crafted_losses(outputs: dict[str, Tensor], boxes: list[list[float]], labels: list[int]):
    class Fixed(type(tiny())):
        def outputs(self, x: Tensor) -> dict[str, Tensor]:
            return outputs

    net = Fixed(backbone="fasternet_t0", num_classes=3, width=16, input_size=64)
    target = {"boxes": torch.tensor(boxes).reshape(-1, 4), "labels": torch.tensor(labels).long()}
    return {k: float(v) for k, v in net(torch.zeros(1, 3, 64, 64), [target]).items()}


def test_losses_of_one_right_point_by_hand():
    outputs = background()
    for i in range(3):
        outputs[f"distances_{i}"][:, ::16] = 100.0  # boxes without area: no overlap elsewhere
    answer_(outputs, 1, 1, 2, (1, 0, 2, 1), c2=0.0)
    outputs["distances_1"][0, 0, 1, 2] = outputs["distances_1"][0, 32, 1, 2] = 0.0

    losses = crafted_losses(outputs, [[24.0, 24.0, 72.0, 40.0]], [2])

    # its score is 0.5 and should be its overlap, 1; the box is right. Its top edge is at its
    # centre, so the nearest bins are 0 and 1, and both have 100.
    assert losses["classes"] == pytest.approx(0.25 * math.log(2), rel=1e-5)
    assert losses["boxes"] == pytest.approx(0.0, abs=1e-6)
    assert losses["distances"] == pytest.approx(0.0, abs=1e-6)


def test_a_worse_box_costs_overlap_and_distance_and_counts_less():
    outputs = background()
    for i in range(3):
        outputs[f"distances_{i}"][:, ::16] = 100.0
    answer_(outputs, 1, 1, 2, (1, 1, 1, 1), c2=0.0)
    for edge in range(4):
        outputs["distances_1"][0, 16 * edge, 1, 2] = 0.0

    losses = crafted_losses(outputs, [[24.0, 8.0, 56.0, 72.0]], [2])

    # the box found is 24, 8, 56, 40: half of the object. Overlap 1/2, which no enclosing area
    # lowers; it is the quality aimed at, and with 0.5 as score nothing is left for the class.
    assert losses["classes"] == pytest.approx(0.0, abs=1e-6)
    assert losses["boxes"] == pytest.approx(2.0 * 0.5 * 0.5, rel=1e-5)  # over 1, not over 0.5
    # one edge of four is two strides farther: 100 nats
    assert losses["distances"] == pytest.approx(0.25 * 100 / 4 * 0.5, rel=1e-5)


def test_losses_without_objects_are_of_the_background_alone():
    losses = crafted_losses(background(), [], [])
    assert losses["classes"] == pytest.approx(0.0, abs=1e-6)
    assert losses["boxes"] == losses["distances"] == 0.0


@pytest.mark.parametrize("neck", MIXERS)
def test_gradients_reach_every_parameter(neck):
    x, targets = shapes(2, size=64)
    net = tiny(neck=neck)

    losses = net(x, targets)
    sum(losses.values()).backward()

    assert set(losses) == {"classes", "boxes", "distances"}
    assert all(loss.ndim == 0 and loss.isfinite() for loss in losses.values())
    lacking = [name for name, p in net.named_parameters() if p.grad is None]
    assert not lacking


def test_a_batch_without_objects_reaches_every_parameter_too():
    net = tiny()
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}

    sum(net(torch.randn(2, 3, 64, 64), [empty, empty]).values()).backward()

    # processes of a run that wait for each other's gradients need them all
    assert not [name for name, p in net.named_parameters() if p.grad is None]


# --- the network


@pytest.mark.parametrize("backbone", ["shufflenet_v2_x0_5", "timm:mobilenetv3_small_050"])
def test_any_backbone_gives_maps_of_three_strides(backbone):
    net = create_model(f"onestage:{backbone}", **SMALL).eval()

    outputs = net(torch.zeros(1, 3, 64, 96))

    assert {name: tuple(x.shape) for name, x in outputs.items()} == {
        "classes_0": (1, 3, 8, 12),
        "distances_0": (1, 64, 8, 12),
        "classes_1": (1, 3, 4, 6),
        "distances_1": (1, 64, 4, 6),
        "classes_2": (1, 3, 2, 3),
        "distances_2": (1, 64, 2, 3),
    }
    assert net.task == "detect"
    assert (net.pretrained_cfg.input_size, net.pretrained_cfg.resize_mode) == (64, "letterbox")
    parts = [net.get_submodule(name) for part in net.parts().values() for name in part]
    assert sum(len(list(part.parameters())) for part in parts) == len(list(net.parameters()))


def test_the_neck_mixes_by_what_was_asked_for():
    kinds = {}
    for neck in MIXERS:
        modules = list(tiny(neck=neck, backbone="mobilenetv2_035").neck.modules())
        convs = [m for m in modules if isinstance(m, nn.Conv2d)]
        kinds[neck] = (
            any(m.groups > 1 for m in convs),
            any(isinstance(m, PConv) for m in modules),
            any(m.kernel_size == (3, 3) and m.in_channels == 16 for m in convs if m.groups == 1),
        )
    assert kinds == {
        "depthwise": (True, False, False),
        "pconv": (False, True, False),
        "full": (False, False, True),
    }


def test_options_build_the_same_network_again():
    given = {"neck": "pconv", "bins": 8, "backbone_options": {"drop_path_rate": 0.1}}
    net = tiny(**given)

    options = json.loads(json.dumps(net.options))
    again = create_model("onestage", **options)

    assert options == {"backbone": "fasternet_t0", **SMALL, **given}
    again.load_state_dict(net.state_dict())
    assert again.backbone.config.drop_path_rate == 0.1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"neck": "dense"}, "neck must be one of depthwise, pconv, full, not 'dense'"),
        ({"width": 20}, "width must be a multiple of 8, for example 96, not 20"),
        ({"depth": 0}, "depth must be 1 or more, not 0"),
        ({"bins": 1}, "bins must be 2 or more, not 1"),
        ({"num_classes": 0}, "num_classes must be 1 or more, not 0"),
        ({"nms_threshold": 1.5}, "nms_threshold must be from 0 to 1, not 1.5"),
        ({"input_size": 100}, "multiples of 32, not 100; near it: 96 × 96"),
        ({"input_size": (64,)}, "input_size must be a number or (height, width)"),
        ({"neckk": "full"}, "unknown option of onestage 'neckk'; did you mean 'neck'"),
        ({"backbone": "fasternet_t9"}, "unknown model 'fasternet_t9'"),
        ({"backbone": "timm:vit_tiny_patch16_224"}, "has feature maps at strides [16, 16, 16"),
    ],
)
def test_wrong_options_are_named(options, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        tiny(**options)


def test_two_backbones_are_one_too_many():
    with pytest.raises(ValueError, match="states its backbone; backbone='fasternet_s' is another"):
        create_model("onestage:fasternet_t0", backbone="fasternet_s")
    with pytest.raises(UnknownNameError, match="option"):
        create_model("onestage", chanels=3)


def target(boxes=((1.0, 1.0, 9.0, 9.0),), labels=(0,)):
    return {"boxes": torch.tensor(boxes), "labels": torch.tensor(labels)}


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        ([], "a batch of 1 pictures has 0 targets"),
        ([target(labels=(0, 1))], r"boxes of shape \(1, 4\) for 2 labels"),
        ([target(boxes=((9.0, 1.0, 9.0, 9.0),))], r"box \[9.0, 1.0, 9.0, 9.0\] has no area"),
        ([target(labels=(3,))], "labels go from 3 to 3, and this network has 3 classes, 0 to 2"),
    ],
)
def test_targets_that_cannot_be_used_are_named(targets, words):
    with pytest.raises(ValueError, match=words):
        tiny()(torch.zeros(1, 3, 64, 64), targets)


def test_an_input_of_another_size_is_refused():
    with pytest.raises(ValueError, match="the input is 64 × 100 pixels; both must be multiples"):
        tiny()(torch.zeros(1, 3, 64, 100))


def test_a_fresh_network_is_sure_of_nothing_and_answers_boxes_of_five_strides():
    net = tiny().eval()

    with torch.no_grad():
        outputs = net(torch.zeros(1, 3, 64, 64))

    assert outputs["classes_0"].sigmoid().max() < 0.02
    bins = outputs["distances_1"].unflatten(1, (4, 16)).softmax(2)
    mean = (bins * torch.arange(16.0)[None, None, :, None, None]).sum(2)
    assert 2.3 < mean.min() <= mean.max() < 2.7


# --- what the rest of fleetfoot does with it


@pytest.mark.parametrize("neck", ["depthwise", pytest.param("pconv", marks=pytest.mark.slow)])
def test_the_fused_network_is_a_detector_with_the_same_outputs(neck):
    net = trained_(tiny(neck=neck)).double().eval()
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)

    fused = fuse(net, x)

    assert not [m for m in fused.model.modules() if isinstance(m, nn.BatchNorm2d)]
    with torch.no_grad():
        outputs, expected = fused.model(x), net(x)
    for name, value in expected.items():
        torch.testing.assert_close(outputs[name], value, rtol=1e-9, atol=1e-9)
    found, wanted = fused.model.decode(outputs, (64, 64)), net.decode(expected, (64, 64))
    torch.testing.assert_close(found[0].boxes, wanted[0].boxes, rtol=1e-7, atol=1e-7)


@pytest.mark.slow
def test_depthwise_layers_of_backbone_and_neck_are_swapped_for_pconv():
    net = tiny(backbone="mobilenetv2_035").eval()
    x = torch.zeros(1, 3, 64, 64)

    swapped = swap(net, x, SwapOptions(which="depthwise"))

    rooms = {row.path.partition(".")[0] for row in swapped.replaced}
    assert rooms == {"backbone", "neck", "head"}
    outputs = swapped.model(x)
    assert {k: v.shape for k, v in outputs.items()} == {k: v.shape for k, v in net(x).items()}
    assert swapped.model.decode(outputs, (64, 64))[0].boxes.shape[1] == 4


@pytest.mark.slow
def test_the_fixed_part_exports_with_its_names():
    net = tiny().eval()
    x = torch.randn(1, 3, 64, 64)

    exported = torch.export.export(net, (x,)).module()

    expected = net(x)
    outputs = exported(x)
    assert list(outputs) == list(expected)
    for name in expected:
        torch.testing.assert_close(outputs[name], expected[name])


@pytest.mark.slow
@pytest.mark.parametrize("neck", MIXERS)
def test_it_learns_eight_pictures_of_shapes(neck):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    x, targets = shapes(8, size=96)
    net = create_model(
        "onestage:shufflenet_v2_x0_5", num_classes=len(CLASSES), width=32, neck=neck, input_size=96
    )
    steps = 100
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
    for _ in range(steps):
        optimiser.zero_grad()
        sum(net(x, targets).values()).backward()
        optimiser.step()
        schedule.step()
    net.eval()
    with torch.no_grad():
        answers = net.decode(net(x), (96, 96))

    truth, found = [], []
    for number, (wanted, answer) in enumerate(zip(targets, answers, strict=True), start=1):
        for box, label in zip(wanted["boxes"].numpy(), wanted["labels"].tolist(), strict=True):
            row = {"id": len(truth) + 1, "image_id": number, "category_id": label, "iscrowd": 0}
            sides = box[2:] - box[:2]
            truth.append(row | {"bbox": [*box[:2], *sides], "area": float(np.prod(sides))})
        for box, label, score in zip(
            answer.boxes.numpy(), answer.classes.tolist(), answer.scores.tolist(), strict=True
        ):
            row = {"image_id": number, "category_id": label, "score": score}
            found.append(row | {"bbox": [*box[:2], *(box[2:] - box[:2])]})
    coco = COCO()
    coco.dataset = {
        "info": {},
        "images": [{"id": i} for i in range(1, 9)],
        "categories": [{"id": i} for i in range(len(CLASSES))],
        "annotations": truth,
    }
    coco.createIndex()
    judged = COCOeval(coco, coco.loadRes(found), "bbox")
    judged.evaluate()
    judged.accumulate()
    judged.summarize()
    assert judged.stats[1] > 0.95  # AP at an overlap of 0.5
