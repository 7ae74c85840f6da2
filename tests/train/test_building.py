"""A network gets the data set's classes, the weights that are named, and the recipe's input."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from fleetfoot.errors import TrainingError
from fleetfoot.models import create_model
from fleetfoot.train.building import build, recompute_
from fleetfoot.train.config import Init, Phase, Recipe
from fleetfoot.weights.files import write

SMALL = {"width": 8, "depths": (1, 1, 1, 1), "head_width": 16}
CLASSES = ("a", "b", "c")


def test_a_network_of_the_zoo_gets_the_classes_and_the_recipes_rates():
    made = build("fasternet_t0", CLASSES, Recipe(size=48, drop=0.1, drop_path=0.2), options=SMALL)
    assert made.name == "fasternet_t0"
    assert made.module.num_classes == 3
    assert made.options == SMALL | {"drop_rate": 0.1, "drop_path_rate": 0.2}
    assert made.preprocess.size == 48
    assert made.preprocess.crop_pct == 1.0  # a small picture is seen whole
    assert made.preprocessing.labels == CLASSES
    again = build("fasternet_t0", CLASSES, Recipe(size=48, drop=0.1, drop_path=0.2), options=SMALL)
    state = again.module.state_dict()
    assert all(torch.equal(t, state[k]) for k, t in made.module.state_dict().items())


@pytest.mark.parametrize(
    ("recipe", "size"),
    [
        (Recipe(), 224),
        (Recipe(size=96), 96),
        (Recipe(phases=(Phase(until=2, size=64), Phase(until=4, size=128))), 128),
        (Recipe(size=96, eval_size=160), 160),
    ],
)
def test_the_size_of_evaluation(recipe, size):
    assert build("fasternet_t0", CLASSES, recipe, options=SMALL).preprocess.size == size


def test_bgr_is_bytes_without_mean_and_std():
    made = build("fasternet_t0", CLASSES, Recipe(size=32, bgr=True), options=SMALL).preprocess
    assert (made.channel_order, made.pixel_scale, made.mean, made.std) == (
        "bgr", 1.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0),
    )  # fmt: skip


def test_a_file_of_weights_keeps_the_body_and_gets_a_fresh_head(tmp_path):
    torch.manual_seed(1)
    before = create_model("fasternet_t0", num_classes=7, **SMALL)
    write(tmp_path / "w.safetensors", before.state_dict())
    recipe = Recipe(init=Init(weights=str(tmp_path / "w.safetensors")))
    made = build("fasternet_t0", CLASSES, recipe, options=SMALL)
    state = made.module.state_dict()
    kept = [k for k, t in before.state_dict().items() if "classifier" not in k]
    assert all(torch.equal(state[k], before.state_dict()[k]) for k in kept)
    assert state["head.classifier.weight"].shape[0] == 3
    assert any("a fresh classifier of 3 classes; the file has 7" in note for note in made.notes)


def test_a_file_of_weights_can_be_named_as_the_network(tmp_path):
    torch.manual_seed(1)
    before = create_model("shufflenet_v2_x0_5", num_classes=7)
    write(tmp_path / "w.safetensors", before.state_dict())
    made = build(str(tmp_path / "w.safetensors"), CLASSES, Recipe(size=32))
    assert made.name == "shufflenet_v2_x0_5"
    assert torch.equal(made.module.stem[0][0].weight, before.stem[0][0].weight)
    with pytest.raises(TrainingError, match=r"give one of them"):
        build(
            str(tmp_path / "w.safetensors"),
            CLASSES,
            Recipe(init=Init(weights=str(tmp_path / "w.safetensors"))),
        )


def test_a_peer_of_one_channel():
    made = build("timm:mobilenetv3_small_050", CLASSES, Recipe(size=64), options={"in_chans": 1})
    assert made.options == {"in_chans": 1}
    assert made.preprocess.channels == 1
    assert len(made.preprocessing.mean) == 3  # a header states colours; grey is made of them


def test_a_network_with_other_outputs_is_refused(tmp_path):
    (tmp_path / "net.py").write_text(
        "from torch import nn\ndef build(classes=5):\n    return nn.Sequential("
        "nn.Conv2d(3, classes, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())\n"
    )
    name = f"{tmp_path}/net.py:build"
    with pytest.raises(TrainingError, match=r"is \(2, 5\), and .* 3 classes gives \(2, 3\)"):
        build(name, CLASSES, Recipe(size=32))
    made = build(f"{name}(classes=3)", CLASSES, Recipe(size=32))
    assert made.module[0].out_channels == 3
    with pytest.raises(TrainingError, match="drop_path cannot be set"):
        build(f"{name}(classes=3)", CLASSES, Recipe(size=32, drop_path=0.1))


def test_activations_computed_again_change_no_gradient_and_no_statistics():
    torch.manual_seed(0)
    options = SMALL | {"drop_path_rate": 0.3}
    usual = create_model("fasternet_t0", num_classes=3, **options).double().train()
    again = create_model("fasternet_t0", num_classes=3, **options).double().train()
    again.load_state_dict(usual.state_dict())
    recompute_(again)
    assert list(again.state_dict()) == list(usual.state_dict())
    x = torch.randn(4, 3, 64, 64, dtype=torch.float64)
    for model in (usual, again):
        for step in range(2):
            torch.manual_seed(step)  # stochastic depth draws the same in both
            model(x).square().sum().backward()
    for (name, a), b in zip(usual.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad), name
    for (name, a), b in zip(usual.named_buffers(), again.buffers(), strict=True):
        assert torch.equal(a, b), name
    with pytest.raises(TrainingError, match="offered for networks of the zoo"):
        recompute_(nn.Linear(2, 2))


def test_the_input_must_be_pictures():
    with pytest.raises(TrainingError, match=r"does not run on pictures of \(3, 32, 32\)"):
        build(nn.Linear(4, 3), CLASSES, replace(Recipe(), size=32))
