from __future__ import annotations

import io
import tarfile

import pytest
import torch
import torch.nn.functional as F
import torchvision
from PIL import Image

from fleetfoot import create_model
from fleetfoot.models.shufflenet_v2 import authors_units, torchvision_units
from helpers import trained_
from shufflenet_by_hand import below, by_columns, conv_norm, depthwise, even_odd

SIZES = ["x0_5", "x1_0", "x1_5", "x2_0"]


def main_branch(x, weights, stride=1):
    """Figure 3, right branch."""
    y = F.relu(conv_norm(x, below(weights, "first")))
    y = depthwise(y, below(weights, "depthwise"), stride=stride)
    return F.relu(conv_norm(y, below(weights, "last")))


def side_branch(x, weights, stride):
    """Figure 3(d), left branch."""
    y = depthwise(x, below(weights, "depthwise"), stride=stride)
    return F.relu(conv_norm(y, below(weights, "last")))


@pytest.mark.parametrize("stride", [1, 2])
class TestUnits:
    """float64 and the same kernels underneath, so the outputs are equal, not close."""

    def unit(self, units, stride, place):
        made = list(units(24, 58, 2, stride))[place]
        return trained_(made.double()).eval()

    def test_torchvisions_stage_opens_with_two_equal_branches(self, stride):
        unit = self.unit(torchvision_units, stride, 0)
        weights = unit.state_dict()
        x = torch.randn(2, 24, 7, 6, dtype=torch.float64)
        left = side_branch(x, below(weights, "side"), stride)
        right = main_branch(x, below(weights, "main"), stride)
        assert left.shape[1] == right.shape[1] == 29
        assert torch.equal(unit(x), by_columns(torch.cat((left, right), dim=1), 2))

    def test_torchvisions_unit_halves_then_shuffles(self, stride):
        unit = self.unit(torchvision_units, stride, 1)
        x = torch.randn(2, 58, 7, 6, dtype=torch.float64)
        mixed = main_branch(x[:, 29:], below(unit.state_dict(), "main"))
        assert torch.equal(unit(x), by_columns(torch.cat((x[:, :29], mixed), dim=1), 2))

    def test_the_authors_stage_opens_with_a_branch_that_keeps_its_channels(self, stride):
        unit = self.unit(authors_units, stride, 0)
        weights = unit.state_dict()
        x = torch.randn(2, 24, 7, 6, dtype=torch.float64)
        left = side_branch(x, below(weights, "side"), stride)
        right = main_branch(x, below(weights, "main"), stride)
        assert (left.shape[1], right.shape[1]) == (24, 34)
        assert torch.equal(unit(x), torch.cat((left, right), dim=1))

    def test_the_authors_unit_parts_even_from_odd(self, stride):
        unit = self.unit(authors_units, stride, 1)
        x = torch.randn(2, 58, 7, 6, dtype=torch.float64)
        even, odd = even_odd(x)
        mixed = main_branch(odd, below(unit.state_dict(), "main"))
        assert torch.equal(unit(x), torch.cat((even, mixed), dim=1))


def test_a_whole_network_of_the_authors_form_is_its_parts():
    model = trained_(create_model("shufflenet_v2_x0_5_authors").double()).eval()
    weights = model.state_dict()
    x = image = torch.randn(2, 3, 65, 47, dtype=torch.float64)
    x = F.relu(conv_norm(x, below(weights, "stem.0"), stride=2))
    x = F.max_pool2d(x, 3, stride=2, padding=1)
    for stage, depth in ((1, 4), (2, 8), (3, 4)):
        for unit in range(depth):
            own = below(weights, f"stages.{stage}.{unit}")
            left, right = even_odd(x) if unit else (x, x)
            if not unit:
                left = side_branch(left, below(own, "side"), 2)
            right = main_branch(right, below(own, "main"), 1 if unit else 2)
            x = torch.cat((left, right), dim=1)
    x = F.relu(conv_norm(x, below(weights, "head.body.conv")))
    logits = x.mean((2, 3)) @ weights["head.classifier.weight"].T
    # 1e-12: the mean and the last product may add in another order
    torch.testing.assert_close(model(image), logits, rtol=0, atol=1e-12)


def pair(size):
    """Ours and torchvision's with the same weights; both list their tensors in the same order."""
    ours = create_model(f"shufflenet_v2_{size}").double()
    theirs = trained_(torchvision.models.get_model(f"shufflenet_v2_{size}", weights=None).double())
    values = theirs.state_dict().values()
    ours.load_state_dict(dict(zip(ours.state_dict(), values, strict=True)))
    return ours, theirs


@pytest.mark.parametrize("size", SIZES)
def test_outputs_are_torchvisions(size):
    ours, theirs = pair(size)
    x = torch.randn(2, 3, 97, 64, dtype=torch.float64)
    with torch.no_grad():
        expected = theirs.eval()(x)
        assert expected.abs().max() > 0.1
        # 1e-9 of float64: the algebra is the same, the order of sums may differ
        torch.testing.assert_close(ours.eval()(x), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("size", SIZES)
def test_gradients_and_running_statistics_are_torchvisions(size):
    ours, theirs = pair(size)
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    for model in (ours, theirs):
        model.train()(x).square().mean().backward()
    expected = [p.grad for p in theirs.parameters()]
    assert max(grad.abs().max() for grad in expected) > 1e-3
    for parameter, grad in zip(ours.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, grad, rtol=1e-9, atol=1e-9)
    for buffer, other in zip(ours.buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(buffer, other, rtol=1e-9, atol=1e-9)


def test_the_two_forms_differ_in_shape_in_the_first_unit_alone():
    with torch.device("meta"):
        forms = [create_model("shufflenet_v2_x1_0" + end) for end in ("", "_authors")]
    one, other = ({k: v.shape for k, v in form.state_dict().items()} for form in forms)
    different = {key for key in one if other.get(key) != one[key]}
    assert different == {
        key
        for key in one
        if key.startswith(("stages.1.0.side.last", "stages.1.0.main.last"))
        and not key.endswith("num_batches_tracked")
    } | {"head.classifier.bias"}


def test_the_50_layer_network_has_fifty_layers():
    with torch.device("meta"):
        model = create_model("shufflenet_v2_50")
    pooled, *others = (len(stage) for stage in model.stages)
    units = pooled - 1 + sum(others)  # the max-pool is in the first stage
    assert 1 + 3 * units + 1 == 50  # stem, three layers a unit, the 1×1 before the pooling


def test_the_public_cifar10_weights_need_the_small_input(real_data):
    state = torch.load(real_data / "weights" / "shufflenet_v2_x0_5_cifar10.pth", weights_only=True)
    model = create_model("shufflenet_v2_x0_5", num_classes=10, small_input=True)
    model.load_state_dict(dict(zip(model.state_dict(), state.values(), strict=True)))
    images, labels = [], []
    shard = sorted((real_data / "cifar10_jpeg").glob("test-*.tar"))[0]
    with tarfile.open(shard) as tar:
        for member in tar:
            content = tar.extractfile(member).read()
            if member.name.endswith(".cls"):
                labels.append(int(content))
            elif member.name.endswith(".jpg"):
                image = Image.open(io.BytesIO(content)).convert("RGB")
                images.append(torchvision.transforms.functional.to_tensor(image))
            if len(labels) == len(images) == 400:
                break
    mean, std = (
        torch.tensor(three).reshape(3, 1, 1)
        for three in ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
    )
    with torch.no_grad():
        answers = model.eval()((torch.stack(images) - mean) / std).argmax(dim=1)
    right = (answers == torch.tensor(labels)).float().mean()
    assert right > 0.78  # 83.4 % over all 5,000; a network of another stem guesses, at 10 %


def test_an_odd_width_is_refused():
    with pytest.raises(ValueError, match="widths must be even"):
        create_model("shufflenet_v2_x0_5", widths=(48, 97, 192))


def test_an_unknown_form_is_refused():
    with pytest.raises(ValueError, match="'torchvision' or 'authors', not 'paper'"):
        create_model("shufflenet_v2_x0_5", form="paper")


def test_drop_path_is_refused():
    with pytest.raises(ValueError, match=r"drop_path_rate must be 0, not 0\.1"):
        create_model("shufflenet_v2_x0_5", drop_path_rate=0.1)
