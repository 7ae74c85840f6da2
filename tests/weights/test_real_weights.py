"""Real files of four layouts, as their authors released them; skipped where they are not at
hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision

from fleetfoot import create_model
from fleetfoot.models import identify
from fleetfoot.weights.files import read


def pictures(size, dtype):
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0)).to(dtype)


def folded_mobileone(x, state):
    """The folded network as a plain chain of convolutions, by the keys of its file."""

    def block(x, name, stride):
        weight, bias = state[f"{name}.reparam_conv.weight"], state[f"{name}.reparam_conv.bias"]
        groups, padding = x.shape[1] // weight.shape[1], weight.shape[-1] // 2
        return F.relu(F.conv2d(x, weight.to(x), bias.to(x), stride, padding, groups=groups))

    x = block(x, "stage0", 2)
    for stage, blocks in ((1, 4), (2, 16), (3, 20), (4, 2)):
        for i in range(blocks):
            x = block(x, f"stage{stage}.{i}", 1 if i else 2)
    return F.linear(x.mean((2, 3)), state["linear.weight"].to(x), state["linear.bias"].to(x))


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    # float64: the norms that stand for nothing are 1e-12 off in each of 43 layers;
    # float32: 43 layers of rounding on logits up to 5
    [(torch.float64, 1e-9), (torch.float32, 1e-4)],
)
def test_folded_mobileone_s0_is_the_chain_of_convolutions_in_its_file(real_data, dtype, tolerance):
    path = real_data / "weights" / "mobileone_s0_authors_folded.pth"
    model = create_model("mobileone_s0", weights=path).to(dtype).eval()
    assert model.load_report.layout == "authors, folded"
    assert model.load_report.used == 88  # every key of the file
    x = pictures(224, dtype)
    with torch.inference_mode():
        difference = (model(x) - folded_mobileone(x, read(path).state)).abs().max().item()
    assert difference < tolerance


def test_mobilenet_v2_answers_as_torchvisions_network(real_data):
    path = real_data / "weights" / "mobilenet_v2_torchvision.pth"
    model = create_model("mobilenetv2_100", weights=path).double().eval()
    assert model.load_report.used == 314
    theirs = torchvision.models.mobilenet_v2()
    theirs.load_state_dict(torch.load(path, weights_only=True))
    x = pictures(224, torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(model(x), theirs.double().eval()(x), rtol=0, atol=1e-9)


def test_shufflenet_v2_for_cifar_answers_as_torchvisions_network_without_its_pool(real_data):
    path = real_data / "weights" / "shufflenet_v2_x0_5_cifar10.pth"
    model = create_model("shufflenet_v2_x0_5", weights=path, small_input=True, input_size=32)
    assert model.num_classes == 10
    assert model.pretrained_cfg.input_size == 32
    theirs = torchvision.models.shufflenet_v2_x0_5(num_classes=10)
    theirs.conv1[0].stride = (1, 1)
    theirs.maxpool = torch.nn.Identity()
    theirs.load_state_dict(torch.load(path, weights_only=True))
    x = pictures(32, torch.float64)
    with torch.inference_mode():
        expected = theirs.double().eval()(x)
        torch.testing.assert_close(model.double().eval()(x), expected, rtol=0, atol=1e-9)


def test_keras_mobilenet_v1_uses_every_array_of_its_file(real_data):
    path = real_data / "weights" / "mobilenet_v1_025_224_keras.npz"
    model = create_model("mobilenetv1_025", weights=path)
    with np.load(path) as arrays:
        assert model.load_report.used == len(arrays.files) == 137
        kernel = arrays["conv_dw_3/conv_dw_3/depthwise_kernel:0"]
        preds = arrays["conv_preds/conv_preds/kernel:0"]
    # channel 5, row 0, column 2 of the third depthwise kernel; class 7, feature 9
    assert model.stages[1][1].depthwise[0].weight[5, 0, 0, 2].item() == kernel[0, 2, 5, 0]
    assert model.get_classifier().weight[7, 9].item() == preds[0, 0, 9, 7]
    assert (model.config.padding, model.config.norm_eps) == ("same", 1e-3)
    assert model.pretrained_cfg.mean == model.pretrained_cfg.std == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("file", "name", "classes"),
    [
        ("mobileone_s0_authors_folded.pth", "mobileone_s0", 1000),
        ("mobilenet_v2_torchvision.pth", "mobilenetv2_100", 1000),
        ("mobilenet_v1_025_224_keras.npz", "mobilenetv1_025", 1000),
        ("shufflenet_v2_x0_5_cifar10.pth", "shufflenet_v2_x0_5", 10),
    ],
)
def test_each_file_is_identified_as_its_one_network(real_data, file, name, classes):
    fits = identify(read(real_data / "weights" / file))
    assert [(fit.name, fit.num_classes) for fit in fits] == [(name, classes)]
