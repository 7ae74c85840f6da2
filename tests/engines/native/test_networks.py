"""Whole networks on the C++ core against eager in float64: every instruction set of this machine,
batches that divide among threads and that do not, odd sizes, repeated runs, NaN."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree

import fleetfoot.models
from fleetfoot import runtime
from fleetfoot.engines.base import relative_error
from fleetfoot.engines.native.compile import compile
from fleetfoot.models import create_model
from fleetfoot.transform import fuse
from helpers import trained_

pytestmark = pytest.mark.skipif(runtime.missing() is not None, reason=str(runtime.missing()))

TOLERANCE = 2e-5
"""Float32 sums of up to 9 × 2048 products over some 50 layers; 3e-7 to 2e-6 is seen."""

FAMILIES = [
    "fasternet_t0",
    "fastvit_t8",
    "mobileone_s0",
    "mobilenetv1_025",
    "mobilenetv2_035",
    "mobilenetv3_small_050",
    "shufflenet_v1_g3_x0_5",
    "shufflenet_v2_x0_5",
]
NARROW = {
    "cyclemlp_b1": {"widths": (16, 32, 48, 64), "depths": (1, 1, 1, 1)},
    "micronet_m0": {},
    "mobile_former_26m": {},
}
"""Families that are large or many: every structure of theirs, in few channels."""
PEERS = [
    "timm:convnext_atto",
    "timm:edgenext_xx_small",
    "timm:efficientnet_b0",
    "timm:ghostnet_100",
    "timm:mobilevit_xxs",
    "timm:poolformer_s12",
    "timm:repvit_m0_9",
    "timm:resnet18",
    "torchvision:densenet121",
    "torchvision:googlenet",
    "torchvision:mnasnet0_5",
    "torchvision:regnet_x_400mf",
    "torchvision:resnet18",
    "torchvision:shufflenet_v2_x0_5",
    "torchvision:squeezenet1_1",
    "torchvision:vgg11",
]
FIXED_SIZE = {"torchvision:swin_t": 224, "torchvision:vit_b_32": 224, "torchvision:maxvit_t": 224}


def folded(name: str, **options: object) -> nn.Module:
    torch.manual_seed(0)
    return fuse(trained_(create_model(name, **options)).eval()).model


def plan_of(model: nn.Module, size: int) -> runtime.Plan:
    example = torch.zeros(1, 3, size, size)
    return runtime.Plan.from_bytes(compile(model, example).bytes(checksum=runtime.checksum))


def answers_as_eager(
    model: nn.Module, size: int, batches: tuple[int, ...], threads: tuple[int, ...] = (1, 2)
) -> None:
    pictures = torch.randn(max(batches), 3, size, size)
    with torch.no_grad():
        wanted = pytree.tree_leaves(copy.deepcopy(model).double()(pictures.double()))
    with plan_of(model, size) as plan:
        for instruction_set in runtime.instruction_sets():
            for count in threads:
                with plan.context(count, instruction_set) as context:
                    for batch in batches:
                        found = context.run_flat([pictures[:batch].numpy()])
                        assert len(found) == len(wanted)
                        for out, reference in zip(found, wanted, strict=True):
                            error = relative_error(torch.from_numpy(out), reference[:batch])
                            assert error <= TOLERANCE, (instruction_set, count, batch)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_network_of_each_family_answers_as_eager(name):
    answers_as_eager(folded(name), 64, (1, 2, 3, 7))


@pytest.mark.parametrize("name", NARROW)
def test_a_narrow_network_answers_as_eager(name):
    answers_as_eager(folded(name, **NARROW[name]), 57, (1, 3), threads=(2,))


@pytest.mark.parametrize("size", [32, 57, 131])
@pytest.mark.parametrize("name", ["fasternet_t0", "shufflenet_v2_x0_5"])
def test_any_size_answers_as_eager(name, size):
    answers_as_eager(folded(name), size, (1, 2), threads=(2,))


def test_feature_maps_answer_as_eager():
    answers_as_eager(folded("mobilenetv3_small_050", features_only=True), 64, (1, 3))


@pytest.mark.slow
@pytest.mark.parametrize("name", fleetfoot.models.list_models())
def test_every_network_answers_as_eager(name):
    answers_as_eager(folded(name), 64, (1, 3), threads=(2,))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The default weight initialization of GoogleNet")
@pytest.mark.parametrize("name", PEERS + list(FIXED_SIZE))
def test_networks_of_others_answer_as_eager(name):
    answers_as_eager(folded(name), FIXED_SIZE.get(name, 96), (1, 2), threads=(2,))


@pytest.mark.slow
@pytest.mark.parametrize("size", [33, 215, 224, 512])
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_answers_as_eager_at_any_size(name, size):
    answers_as_eager(folded(name), size, (1,))


@pytest.fixture(scope="module", params=["mobilenetv3_small_050", "timm:resnet18"])
def small(request) -> nn.Module:
    """One without convolutions by Winograd's tiles, and one of little else."""
    return folded(request.param)


@pytest.mark.parametrize("threads", [1, 2])
def test_results_are_the_same_from_run_to_run(small, threads):
    pictures = np.random.default_rng(0).normal(size=(3, 3, 64, 64)).astype(np.float32)
    with plan_of(small, 64) as plan, plan.context(threads) as context:
        first = context.run(pictures)
        for _ in range(5):
            np.testing.assert_array_equal(context.run(pictures), first)


def test_results_do_not_depend_on_the_number_of_threads(small):
    pictures = np.random.default_rng(0).normal(size=(1, 3, 64, 64)).astype(np.float32)
    with plan_of(small, 64) as plan, plan.context(1) as one, plan.context(3) as three:
        np.testing.assert_array_equal(one.run(pictures), three.run(pictures))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_passes_as_in_eager(small, value):
    pictures = torch.randn(2, 3, 64, 64)
    pictures[1, 0, 5, 5] = value
    with torch.no_grad():
        wanted = small(pictures)
    with plan_of(small, 64) as plan:
        for instruction_set in runtime.instruction_sets():
            with plan.context(1, instruction_set) as context:
                found = torch.from_numpy(context.run(pictures.numpy()))
            assert torch.equal(found.isnan(), wanted.isnan()), instruction_set
            assert relative_error(found[:1], wanted[:1]) <= TOLERANCE
