"""Every network of the zoo folds completely, into the sizes that can be counted by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fleetfoot.count import count
from fleetfoot.models import create_model, list_models
from fleetfoot.transform import fuse
from fleetfoot.transform.fold import is_batchnorm
from helpers import trained_

# Learned values and multiply-adds once fused: each batch norm is a bias, each sum one kernel. For
# FastViT, as its authors fuse it, who leave some batch norms (authors_left), and without the
# products of queries, keys and values, which have no weights.
FUSED = {
    "fasternet_t0": (3_900_660, 335_422_720),
    "fasternet_t1": (7_587_624, 850_511_872),
    "fasternet_t2": (14_971_272, 1_904_334_848),
    "fasternet_s": (31_160_424, 4_549_740_544),
    "fasternet_m": (53_488_488, 8_721_938_432),
    "fasternet_l": (93_421_224, 15_494_383_616),
    "fastvit_t8": (3_996_040, 685_160_448),
    "fastvit_t12": (7_508_840, 1_390_944_256),
    "fastvit_s12": (9_428_712, 1_793_597_440),
    "fastvit_sa12": (11_545_320, 1_937_219_584),
    "fastvit_sa24": (21_501_288, 3_762_069_504),
    "fastvit_sa36": (31_457_256, 5_586_919_424),
    "fastvit_ma36": (43_984_632, 7_814_930_432),
    "mobileone_s0": (2_078_504, 275_110_400),
    "mobileone_s1": (4_764_840, 825_057_024),
    "mobileone_s2": (7_808_168, 1_298_426_496),
    "mobileone_s3": (10_078_312, 1_895_790_592),
    "mobileone_s4": (14_838_352, 2_979_269_760),
}
QUICK = ["fasternet_t0", "fastvit_sa12", "mobileone_s0"]


def authors_left(model: nn.Module) -> int:
    """Values that FastViT's authors keep and ``fuse`` folds.

    In each block of C channels the batch norm of the feed-forward network (2C) becomes the bias of
    its depthwise convolution (C), and that network's layer scale (C) goes into its last one: 2C
    less. In an attention block the norm (2C) becomes the bias of the projection to Q, K and V
    (3C): C more. The layer scale of the attention stays, behind a reshape.
    """
    total = 0
    for width, depth, stage in zip(
        [model.config.width << i for i in range(4)], model.config.depths, range(4), strict=True
    ):
        attends = model.config.attention and stage == 3
        total += depth * width * (1 if attends else 2)
    return total


def small(model: nn.Module) -> torch.Tensor:
    """Fusing is exact at every size; the smallest that all networks take is soonest done."""
    return torch.zeros(1, model.config.in_chans, 64, 64)


def check_counts(name: str) -> None:
    model = trained_(create_model(name))
    params, macs = FUSED[name]
    left = 0
    if name.startswith("fastvit"):
        params -= authors_left(model)
        left = model.config.depths[3] if model.config.attention else 0
    fused = fuse(model, small(model))
    size = model.config.input_size

    assert sum(p.numel() for p in fused.model.parameters()) == params
    assert count(fused.model, torch.zeros(1, 3, size, size)).macs == macs
    assert not any(is_batchnorm(m) for m in fused.model.modules())
    assert [row.type for row in fused.left] == ["layer scale"] * left


@pytest.mark.parametrize("name", QUICK)
def test_the_fused_network_has_the_counted_size(name):
    check_counts(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(FUSED) - set(QUICK)))
def test_every_fused_network_has_the_counted_size(name):
    check_counts(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(list_models()) - set(FUSED)))
def test_every_other_network_of_the_zoo_has_no_batchnorm_left(name):
    model = trained_(create_model(name))
    fused = fuse(model, small(model))

    assert not any(is_batchnorm(m) for m in fused.model.modules())
    assert not fused.left
    # float64: some hundred layers of 1e-16 each
    assert fused.certificate.max_rel < 1e-12


@pytest.mark.parametrize("name", ["fasternet_t0", "fastvit_sa12"])
def test_a_fused_backbone_is_still_a_backbone(name):
    model = trained_(create_model(name)).eval()
    fused = fuse(model, small(model)).model
    x = torch.randn(1, 3, 64, 64)

    with torch.no_grad():
        maps, expected = fused.features(x), model.features(x)
        for got, wanted in zip(maps, expected, strict=True):
            # float32: some fifty layers of 1e-7 each
            assert (got - wanted).abs().max() < 1e-4 * wanted.abs().max()
        assert torch.equal(fused.forward_head(maps[-1]), fused(x))
    assert fused.config == model.config
    fused.reset_classifier(7)
    assert fused(x).shape == (1, 7)


def test_feature_extractors_fold():
    model = trained_(create_model("fastvit_sa12", features_only=True, out_indices=(1, 3)))
    fused = fuse(model, torch.zeros(1, 3, 64, 64))

    assert not any(is_batchnorm(m) for m in fused.model.modules())
    assert [m.shape[1] for m in fused.model(torch.zeros(1, 3, 64, 64))] == [128, 512]


def test_a_backbone_inside_a_sequential_folds():
    backbone = create_model("mobileone_s0", num_classes=0)
    model = trained_(nn.Sequential(backbone, nn.Linear(1024, 5), nn.BatchNorm1d(5)))
    fused = fuse(model, torch.zeros(1, 3, 64, 64))

    assert not any(is_batchnorm(m) for m in fused.model.modules())
    assert not fused.left
    assert not fused.certificate.parts
