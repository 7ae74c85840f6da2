from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from fleetfoot import configure, create_model
from fleetfoot.ops.drop_path import DropPath
from helpers import trained_
from shufflenet_by_hand import below, conv_norm, depthwise, even_odd

# The released networks are too large for a unit test: these are narrow ones of the same plan.
NARROW = {
    "stem": (8, 8, 16),
    "widths": (16, 32, 64, 128),
    "depths": (2, 3, 3, 2),
    "groups": 4,
    "auxiliary_widths": (8, 8, 8),
    "num_classes": 10,
}
CLOSE = {"rtol": 0, "atol": 1e-12}  # float64; means and products may add in another order


def narrow(name, **options):
    head_width = 24 if name == "shufflenet_v2_large" else 0
    return create_model(name, **(NARROW | {"head_width": head_width} | options))


def gated(x, weights):
    y = F.conv2d(x.mean((2, 3), keepdim=True), weights["reduce.weight"], weights["reduce.bias"])
    y = F.conv2d(F.relu(y), weights["expand.weight"], weights["expand.bias"])
    return x * torch.sigmoid(y)


def stem(x, weights, eps):
    for i in range(3):
        x = F.relu(conv_norm(x, below(weights, f"stem.{i}"), stride=1 if i else 2, eps=eps))
    return F.max_pool2d(x, 3, stride=2, padding=1)


def classified(x, weights):
    return x.mean((2, 3)) @ weights["classifier.weight"].T + weights["classifier.bias"]


def auxiliary(x, weights, eps):
    x = F.max_pool2d(x, 3, stride=2, padding=1)
    x = F.relu(conv_norm(x, below(weights, "body.first"), eps=eps))
    return classified(F.relu(conv_norm(x, below(weights, "body.last"), eps=eps)), weights)


def large(x, weights):
    """Every map of Large as released: a ReLU over both halves, which the kept one does not need."""
    eps = 1e-9
    x = stem(x, weights, eps)
    for stage, depth in enumerate(NARROW["depths"]):
        for unit in range(depth):
            own = below(weights, f"stages.{stage}.{unit}")
            stride = 2 if stage and not unit else 1
            kept, odd = even_odd(x)
            y = F.relu(conv_norm(odd, below(own, "main.first"), eps=eps))
            y = conv_norm(y, below(own, "main.grouped"), stride=stride, groups=4, eps=eps)
            y = conv_norm(F.relu(y), below(own, "main.last"), eps=eps)
            y = gated(y, below(own, "main.squeeze_excite"))
            if unit:
                y = odd + y
            else:
                kept = conv_norm(kept, below(own, "side"), stride=stride, eps=eps)
            x = F.relu(torch.cat((kept, y), dim=1))
            if stride == 2:
                x = F.relu(conv_norm(x, below(own, "down"), eps=eps))
        yield x


def exlarge(x, weights):
    x = stem(x, weights, 1e-5)
    for stage, depth in enumerate(NARROW["depths"]):
        for unit in range(depth):
            own = below(weights, f"stages.{stage}.{unit}")
            stride = 2 if stage and not unit else 1
            kept, mixed = even_odd(x) if unit else (x, x)
            y = F.relu(conv_norm(mixed, below(own, "main.first")))
            y = F.relu(conv_norm(y, below(own, "main.grouped"), stride=stride, groups=4))
            y = depthwise(y, below(own, "main.depthwise"))
            y = gated(conv_norm(y, below(own, "main.last")), below(own, "main.squeeze_excite"))
            if unit:
                y = F.relu(mixed + y)
            else:
                kept = F.relu(conv_norm(kept, below(own, "side"), stride=stride))
            x = torch.cat((kept, y), dim=1)
        x = F.relu(conv_norm(x, below(weights, f"stages.{stage}.{depth}")))
        yield x


NETWORKS = {"shufflenet_v2_large": (large, 1e-9), "shufflenet_v2_exlarge": (exlarge, 1e-5)}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_whole_network_is_its_parts(name):
    model = trained_(narrow(name, auxiliary_heads=True).double()).eval()
    weights = model.state_dict()
    by_hand, eps = NETWORKS[name]
    image = torch.randn(2, 3, 97, 65, dtype=torch.float64)
    maps = list(by_hand(image, weights))
    for ours, expected in zip(model.features(image)[1:], maps, strict=True):
        torch.testing.assert_close(ours, expected, **CLOSE)
    last = maps[-1]
    if "head.body.conv.0.weight" in weights:
        last = F.relu(conv_norm(last, below(weights, "head.body.conv"), eps=eps))
    logits, others = model.forward_with_auxiliary(image)
    torch.testing.assert_close(logits, classified(last, below(weights, "head")), **CLOSE)
    for i, (ours, x) in enumerate(zip(others, maps, strict=False)):
        expected = auxiliary(x, below(weights, f"auxiliary_heads.{i}"), eps)
        torch.testing.assert_close(ours, expected, **CLOSE)
    assert len(others) == 3


@pytest.mark.parametrize("name", NETWORKS)
def test_forward_answers_with_logits_alone_in_train_mode_too(name):
    model = narrow(name, auxiliary_heads=True, drop_rate=0.0)
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(model.train()(x), model.forward_with_auxiliary(x)[0])


@pytest.mark.parametrize("name", NETWORKS)
def test_the_auxiliary_losses_reach_every_parameter(name):
    model = narrow(name, auxiliary_heads=True)
    logits, others = model.forward_with_auxiliary(torch.randn(4, 3, 64, 64))
    sum(out.square().mean() for out in (logits, *others)).backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]


def test_auxiliary_logits_of_a_network_without_the_heads_are_refused():
    with pytest.raises(ValueError, match="make it with auxiliary_heads=True"):
        narrow("shufflenet_v2_large").forward_with_auxiliary(torch.randn(1, 3, 64, 64))


def test_auxiliary_heads_follow_a_new_classifier():
    model = narrow("shufflenet_v2_large", auxiliary_heads=True).eval()
    model.reset_classifier(7)
    logits, others = model.forward_with_auxiliary(torch.randn(1, 3, 64, 64))
    assert [out.shape[1] for out in (logits, *others)] == [7, 7, 7, 7]


def test_large_has_a_smaller_eps_than_exlarge():
    for name, (_, eps) in NETWORKS.items():
        assert configure(name).norm_eps == eps
        found = {
            module.eps
            for module in narrow(name).modules()
            if isinstance(module, torch.nn.BatchNorm2d)
        }
        assert found == {eps}


def test_drop_path_drops_residual_branches():
    model = narrow("shufflenet_v2_large", drop_path_rate=0.3)
    rates = [m.rate for m in model.modules() if isinstance(m, DropPath)]
    assert len(rates) == 10 - 4
    assert rates == sorted(rates)
    assert rates[-1] == 0.3


def test_an_unknown_form_is_refused():
    with pytest.raises(ValueError, match="'large' or 'exlarge', not 'huge'"):
        narrow("shufflenet_v2_large", form="huge")


def test_groups_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="groups must be 1 or more, not 0"):
        narrow("shufflenet_v2_large", groups=0)
    with pytest.raises(ValueError, match=r"groups \(3\) must divide in_channels \(8\)"):
        narrow("shufflenet_v2_large", groups=3)
