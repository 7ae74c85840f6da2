"""Networks of timm and torchvision, detectors, and other people's blocks."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from torch import nn
from torchvision.models import detection, segmentation
from torchvision.ops import FrozenBatchNorm2d

from fleetfoot.transform import Fused, fuse
from fleetfoot.transform.fold import is_batchnorm
from helpers import trained_

IMAGE = torch.zeros(1, 3, 64, 64)
# float64: up to some two hundred layers of 1e-16 each
ROUNDING = 1e-12


def norms(fused: Fused) -> int:
    return sum(is_batchnorm(m) for m in fused.model.modules())


def fused(model: nn.Module, example: object = IMAGE) -> Fused:
    done = fuse(trained_(model), example)
    assert done.certificate.max_rel < ROUNDING
    assert done.certificate.values > 0
    return done


# name, and an input size if 64 pixels are too few for it
FOLD_COMPLETELY = [
    ("timm:fastvit_sa12", 64),
    ("timm:repvgg_a0", 64),
    ("timm:ghostnet_100", 64),
    ("timm:mixnet_s", 64),
    ("timm:tf_mobilenetv3_small_minimal_100", 64),
    ("timm:levit_128s", 224),
    ("torchvision:resnet18", 64),
    ("torchvision:shufflenet_v2_x0_5", 64),
    ("torchvision:mobilenet_v3_small", 64),
]
FOLD_COMPLETELY_SLOWLY = [
    ("timm:mobileone_s0", 64),
    ("timm:repvit_m1", 64),
    ("timm:repghostnet_100", 64),
    ("timm:fastvit_ma36", 64),
    ("timm:mobileone_s4", 64),
    ("timm:ghostnetv2_100", 64),
    ("timm:ghostnetv3_100", 64),
    ("timm:mobilevit_xxs", 64),
    ("timm:mobilevitv2_050", 64),
    ("timm:mobilenetv4_conv_small", 64),
    ("timm:efficientnet_b0", 64),
    ("timm:tf_efficientnet_lite0", 64),
    ("timm:resnet50", 64),
    ("timm:resnet50d", 64),
    ("timm:efficientformer_l1", 224),
    ("timm:efficientformerv2_s0", 224),
    ("timm:regnety_002", 64),
    ("timm:hardcorenas_a", 64),
    ("timm:fasternet_t0", 64),
    ("timm:starnet_s1", 64),
    ("timm:swiftformer_xs", 224),
    ("torchvision:resnet50", 64),
    ("torchvision:mnasnet0_5", 64),
    ("torchvision:regnet_y_400mf", 64),
    ("torchvision:efficientnet_b0", 64),
    ("torchvision:efficientnet_v2_s", 64),
    ("torchvision:vgg11_bn", 64),
    ("torchvision:mobilenet_v2", 64),
]


def build(name: str) -> nn.Module:
    library, _, bare = name.partition(":")
    if library == "timm":
        return timm.create_model(bare)
    return torchvision.models.get_model(bare, weights=None)


@pytest.mark.parametrize(("name", "size"), FOLD_COMPLETELY)
def test_no_batchnorm_is_left(name, size):
    assert norms(fused(build(name), torch.zeros(1, 3, size, size))) == 0


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), FOLD_COMPLETELY_SLOWLY)
def test_no_batchnorm_is_left_in_more_networks(name, size):
    assert norms(fused(build(name), torch.zeros(1, 3, size, size))) == 0


@pytest.mark.parametrize(
    "name",
    [
        "timm:repvit_m1",
        pytest.param("timm:mobileone_s1", marks=pytest.mark.slow),
        pytest.param("timm:repvgg_a0", marks=pytest.mark.slow),
    ],
)
def test_the_size_is_that_of_timms_own_fused_form(name):
    """repvit's head is two of them, which timm's own function turns into one."""
    model = trained_(build(name)).eval()
    ours = fuse(model, IMAGE).model
    theirs = timm.utils.reparameterize_model(model)
    if name == "timm:repvit_m1":
        theirs, ours = theirs.stages, ours.stages

    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())


@pytest.mark.parametrize("name", ["timm:densenet121", "torchvision:densenet121"])
def test_a_batchnorm_before_an_activation_is_left(name):
    """DenseNet norms what it has joined, then activates: 59 of its norms follow a convolution."""
    model = build(name)
    total = sum(is_batchnorm(m) for m in model.modules())
    done = fused(model)

    assert norms(done) == len(done.left) == total - 59
    assert len(done.folded) == 59
    assert all("relu, which reads it" in row.reason.lower() for row in done.left)
    # a norm that stays keeps its class, and its activation with it
    assert {row.type for row in done.left} <= {"BatchNorm2d", "BatchNormAct2d"}


def test_networks_without_batchnorm_come_back_equal():
    done = fused(timm.create_model("mixer_s32_224"), torch.zeros(1, 3, 224, 224))

    assert not done.folded
    assert done.certificate.max_abs == 0


def test_of_a_network_without_batchnorm_only_the_layer_scales_fold():
    done = fused(timm.create_model("convnext_atto"))

    assert [row.kind for row in done.folded] == ["layer scale"] * 12  # 2 + 2 + 6 + 2 blocks
    assert done.certificate.max_rel < 1e-14


def test_heads_that_a_plain_call_does_not_reach_are_left():
    model = torchvision.models.googlenet(weights=None, init_weights=False)
    done = fused(model)

    assert {row.path for row in done.left} == {"aux1.conv.bn", "aux2.conv.bn"}


def test_a_feature_list_folds():
    done = fused(timm.create_model("fastvit_t8", features_only=True))

    assert norms(done) == 0
    assert len(done.model(IMAGE)) == 4


def test_segmentation_folds():
    done = fused(segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None))

    assert norms(done) == 0
    assert set(done.model(IMAGE)) == {"out"}


def test_frozen_batchnorms_fold():
    backbone = torchvision.models.resnet18(weights=None, norm_layer=FrozenBatchNorm2d)
    for module in backbone.modules():
        if isinstance(module, FrozenBatchNorm2d):
            for buffer in module.buffers():
                buffer.uniform_(0.5, 1.5)

    assert norms(fused(backbone)) == 0


def test_timms_frozen_and_synchronised_norms_fold():
    model = trained_(timm.create_model("mobilenetv3_small_050"))
    frozen = timm.utils.freeze(model, [], "freeze")
    for one in (model if frozen is None else frozen, timm.layers.convert_sync_batchnorm(model)):
        assert norms(fuse(one, IMAGE)) == 0


def test_a_detector_folds_part_by_part():
    """Its boxes are sorted and suppressed by code that turns on the last bit, so each of its parts
    is compared on the input it has, and the rest is shown to be untouched."""
    model = detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None)
    done = fused(model, [torch.zeros(3, 96, 96)])

    assert norms(done) == 0
    assert "backbone" in done.certificate.parts
    assert set(done.model([torch.rand(3, 96, 96)])[0]) == {"boxes", "labels", "scores"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fasterrcnn_mobilenet_v3_large_fpn", "fcos_resnet50_fpn"])
def test_more_detectors_fold(name):
    make = getattr(detection, name)
    model = make(weights=None, weights_backbone=None, min_size=96, max_size=128)
    done = fused(model, [torch.zeros(3, 96, 96)])

    assert norms(done) == 0
    assert done.certificate.parts == ("backbone",)


def test_no_input_is_needed_where_one_can_be_guessed():
    for model, guess in (
        (timm.create_model("levit_128s"), "(1, 3, 224, 224)"),
        (timm.create_model("resnet18", in_chans=1), "(1, 1, 128, 128)"),
    ):
        certificate = fuse(model).certificate
        assert certificate.guessed
        assert certificate.input == guess


@pytest.mark.slow
def test_a_detectors_input_can_be_guessed():
    model = detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None)

    assert fuse(model).certificate.guessed
