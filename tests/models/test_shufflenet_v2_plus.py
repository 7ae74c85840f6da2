from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from fleetfoot import create_model
from fleetfoot.models.shufflenet_v2_plus import NormedSqueezeExcite, main_branch
from helpers import trained_
from shufflenet_by_hand import below, conv_norm, depthwise, even_odd, hard_swish

# float64; hard swish and hard sigmoid round differently in torch's own kernels
CLOSE = {"rtol": 0, "atol": 1e-12}
ACTIVATIONS = {"relu": F.relu, "hard_swish": hard_swish}

# The released plan of the search, in its own numbers: 0, 1, 2 are kernels 3, 5, 7; 3 is Xception
RELEASED = (0, 0, 3, 1, 1, 1, 0, 0, 2, 0, 2, 1, 1, 0, 2, 0, 2, 1, 3, 2)


def squeeze_excite(x, weights):
    y = F.relu(conv_norm(x.mean((2, 3), keepdim=True), below(weights, "reduce")))
    y = F.conv2d(y, weights["expand.weight"])
    return x * torch.clamp(y + 3, 0, 6) / 6


def branch(x, weights, act, *, stride, xception, excite):
    if xception:
        for i in (1, 2, 3):
            x = depthwise(x, below(weights, f"depthwise_{i}"))
            x = act(conv_norm(x, below(weights, f"pointwise_{i}")))
    else:
        x = act(conv_norm(x, below(weights, "first")))
        x = depthwise(x, below(weights, "depthwise"), stride=stride)
        x = act(conv_norm(x, below(weights, "last")))
    return squeeze_excite(x, below(weights, "squeeze_excite")) if excite else x


@pytest.mark.parametrize("excite", [False, True])
@pytest.mark.parametrize("act", ACTIVATIONS)
@pytest.mark.parametrize("choice", [3, 5, 7, "xception"])
def test_each_choice_of_the_search(choice, act, excite):
    made = trained_(main_branch(choice, 10, 16, 12, 1, act, excite).double()).eval()
    if choice != "xception":
        assert made.depthwise[0].kernel_size == (choice, choice)
    x = torch.randn(2, 10, 9, 8, dtype=torch.float64)
    expected = branch(
        x, made.state_dict(), ACTIVATIONS[act],
        stride=1, xception=choice == "xception", excite=excite,
    )  # fmt: skip
    torch.testing.assert_close(made(x), expected, **CLOSE)


def test_squeeze_excite_has_a_norm_inside():
    made = trained_(NormedSqueezeExcite(16).double()).eval()
    x = torch.randn(2, 16, 3, 5, dtype=torch.float64)
    assert made.reduce[0].out_channels == 4
    torch.testing.assert_close(made(x), squeeze_excite(x, made.state_dict()), **CLOSE)


def test_a_whole_network_is_its_parts():
    model = trained_(create_model("shufflenet_v2_plus_small").double()).eval()
    weights = model.state_dict()
    x = image = torch.randn(2, 3, 97, 65, dtype=torch.float64)
    x = hard_swish(conv_norm(x, below(weights, "stem.0"), stride=2))
    released = iter(RELEASED)
    for stage, depth in enumerate((4, 4, 8, 4)):
        act = hard_swish if stage >= 1 else F.relu
        for unit in range(depth):
            own = below(weights, f"stages.{stage}.{unit}")
            choice = next(released)
            if choice != 3:
                side = 3 + 2 * choice
                assert own["main.depthwise.0.weight"].shape[-1] == side
            stride = 1 if unit else 2
            left, right = even_odd(x) if unit else (x, x)
            if not unit:
                left = depthwise(left, below(own, "side.depthwise"), stride=2)
                left = act(conv_norm(left, below(own, "side.last")))
            right = branch(
                right, below(own, "main"), act,
                stride=stride, xception=choice == 3, excite=stage >= 2,
            )  # fmt: skip
            x = torch.cat((left, right), dim=1)
    x = hard_swish(conv_norm(x, below(weights, "head.body.conv")))
    x = x.mean((2, 3), keepdim=True)
    x = squeeze_excite(x, below(weights, "head.body.squeeze_excite"))
    x = hard_swish(x.flatten(1) @ weights["head.body.linear.weight"].T)
    logits = x @ weights["head.classifier.weight"].T
    torch.testing.assert_close(model(image), logits, **CLOSE)


def test_an_xception_branch_with_a_stride_is_refused():
    with pytest.raises(ValueError, match="keeps the size; its stride cannot be 2"):
        main_branch("xception", 10, 16, 12, 2, "relu", False)


def test_a_plan_of_other_depths_is_refused():
    with pytest.raises(ValueError, match=r"plan has \(4, 4, 8, 4\) units a stage, but depths has"):
        create_model("shufflenet_v2_plus_small", depths=(4, 4, 4, 4))


def test_drop_path_is_refused():
    with pytest.raises(ValueError, match=r"drop_path_rate must be 0, not 0\.1"):
        create_model("shufflenet_v2_plus_small", drop_path_rate=0.1)
