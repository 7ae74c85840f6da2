"""A swapped network folds, runs on the engines, and comes back from its file."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
import safetensors
import torch
from torch import nn
from torchvision.ops import Conv2dNormActivation

from fleetfoot.engines import TOLERANCES, available, load, relative_error
from fleetfoot.errors import (
    CorruptFileError,
    KeyMismatchError,
    WeightsError,
)
from fleetfoot.models import create_model
from fleetfoot.transform import SwapOptions, fuse, swap, swap_file
from helpers import trained_
from swaps_by_hand import IMAGE, Yolo, mixed

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
