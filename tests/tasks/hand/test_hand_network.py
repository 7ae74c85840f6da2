"""The hand network: shapes, losses counted by hand, sampling, a user's topology, checkpoints."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from fleetfoot.tasks.catalogue import create_model, is_task
from fleetfoot.tasks.hand.network import HandMesh, MeshHead, sampled
from fleetfoot.tasks.hand.parametric import parametric_hand
from fleetfoot.tasks.hand.topology import Topology, write_topology

SIZE = 64
TINY = {"dims": (64, 32, 32), "depth": 1, "input_size": SIZE}


def network(**options) -> HandMesh:
    return create_model("handmesh:shufflenet_v2_x0_5", **{**TINY, **options})


def ring(count: int = 40) -> Topology:
    turn = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return Topology(
        vertices=0.05 * np.stack((np.cos(turn), np.sin(turn), 0 * turn), 1),
        faces=np.stack((np.arange(count), np.roll(np.arange(count), 1), np.arange(count) - 2), 1)
        % count,
        regressor=np.full((21, count), 1 / count),
        upsampling=tuple(np.full((b, a), 1 / a) for a, b in ((21, 30), (30, 35), (35, count))),
    )


def test_it_is_a_network_of_a_task():
    assert is_task("handmesh")
    assert is_task("handmesh:timm:resnet18")
    model = create_model("handmesh", backbone="shufflenet_v2_x0_5")
    assert model.task == "hand"
    assert model.num_classes == 0
    assert model.pretrained_cfg.input_size == 224
    assert model.pretrained_cfg.resize_mode == "letterbox"  # the whole picture, in its shape
    assert set(model.parts()) == {"backbone", "neck", "head"}
    assert all(hasattr(model, name) for names in model.parts().values() for name in names)


@pytest.mark.parametrize("levels", [1, 3])
def test_outputs_are_joints_in_the_picture_and_a_mesh(levels):
    model = network(levels=levels).eval()
    found = model(torch.randn(2, 3, SIZE, SIZE))
    count = len(parametric_hand().vertices)
    shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
    assert shapes == {"points": (2, 21, 2), "joints": (2, 21, 3), "vertices": (2, count, 3)}
    assert torch.equal(found["joints"][:, 0], torch.zeros(2, 3))
    regressor = torch.from_numpy(parametric_hand().regressor).float()
    joints = regressor @ found["vertices"]
    torch.testing.assert_close(joints - joints[:, :1], found["joints"])


def test_a_network_of_timm_is_a_backbone_too():
    model = create_model("handmesh:timm:resnet18", levels=2, **TINY).eval()
    assert model(torch.randn(1, 3, SIZE, SIZE))["points"].shape == (1, 21, 2)
    assert model.head.stages[0].project.in_features == 256 + 512 + 2


def test_features_are_sampled_at_the_middles_of_pixels_exactly():
    x = torch.arange(12, dtype=torch.float64).reshape(1, 1, 3, 4)
    column, row = torch.meshgrid(torch.arange(4).double(), torch.arange(3).double(), indexing="xy")
    shares = torch.stack(((column + 0.5) / 4, (row + 0.5) / 3), -1).reshape(1, 12, 2) - 0.5
    torch.testing.assert_close(sampled(x, shares)[0, :, 0], x.flatten())
    between = torch.tensor([[[0.0, 0.0], [9.0, 9.0]]], dtype=torch.float64)
    assert sampled(x, between)[0, :, 0].tolist() == [5.5, 11.0]  # the middle, and the far corner


def test_losses_are_weighted_distances():
    model = network().eval()
    x = torch.randn(2, 3, SIZE, SIZE)
    found = model(x)
    off = {"points": 0.25, "joints": 0.002, "vertices": 0.003}
    targets = [
        {
            name: (tensor[i] + off[name]) * (SIZE if name == "points" else 1)
            for name, tensor in found.items()
        }
        for i in range(2)
    ]
    losses = model(x, targets)
    expected = {"points": 0.25, "joints": 0.02, "vertices": 0.03}
    assert {name: loss.item() for name, loss in losses.items()} == pytest.approx(expected, rel=1e-4)


def test_points_of_an_input_that_is_no_square_are_shares_of_each_side():
    model = network().eval()
    x = torch.randn(1, 3, 64, 96)
    found = model(x)
    (hand,) = model.decode(found, (64, 96))
    torch.testing.assert_close(hand.points, found["points"][0] * torch.tensor([96.0, 64.0]))
    target = {"points": hand.points, "joints": hand.joints, "vertices": hand.vertices}
    assert all(loss < 1e-6 for loss in model(x, [target]).values())


def test_gradients_reach_every_parameter():
    model = network()
    count = len(parametric_hand().vertices)
    target = {
        "points": SIZE * torch.rand(21, 2),
        "joints": torch.randn(21, 3),
        "vertices": torch.randn(count, 3),
    }
    losses = model(torch.randn(2, 3, SIZE, SIZE), [target, target])
    sum(losses.values()).backward()
    lacking = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert lacking == []


def test_tokens_begin_as_the_topology_has_it():
    mesh = ring()
    head = MeshHead([8], mesh, (32, 32, 32), 1)
    for upsample, matrix in zip(head.upsample, mesh.upsampling, strict=True):
        torch.testing.assert_close(upsample.weight.data, torch.from_numpy(matrix).float())
    assert torch.equal(head.faces, torch.from_numpy(mesh.faces))


def test_a_users_topology_makes_the_mesh(tmp_path):
    write_topology(tmp_path / "ring.safetensors", ring())
    model = network(topology=tmp_path / "ring.safetensors").eval()
    assert model(torch.randn(1, 3, SIZE, SIZE))["vertices"].shape == (1, 40, 3)
    target = {
        "points": torch.rand(21, 2),
        "joints": torch.randn(21, 3),
        "vertices": torch.randn(50, 3),
    }
    with pytest.raises(ValueError, match=r"vertices are \(50, 3\) in the data and \(40, 3\)"):
        model(torch.randn(1, 3, SIZE, SIZE), [target])


def test_options_and_weights_make_the_network_again(tmp_path):
    model = network(topology=ring(), in_chans=1, levels=2).eval()
    options = json.loads(json.dumps(model.options))
    again = create_model("handmesh:shufflenet_v2_x0_5", **options).eval()
    again.load_state_dict(model.state_dict())
    x = torch.randn(1, 1, SIZE, SIZE)
    for name, expected in model(x).items():
        assert torch.equal(again(x)[name], expected)
    assert torch.equal(again.faces, model.faces)
    assert again.options == model.options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 5}, "num_classes must be 0 for a hand network, not 5"),
        ({"dims": (64, 32)}, "dims must be 3 multiples of 32, .* 21, 84, 336 tokens"),
        ({"dims": (64, 32, 33)}, "dims must be 3 multiples of 32"),
        ({"depth": 0}, "depth must be 1 or more, not 0"),
        ({"levels": 5}, "levels must be 1 to 4, .*not 5"),
    ],
)
def test_an_option_out_of_range_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        network(**options)


def test_the_default_mesh_is_our_own_hand():
    model = network()
    assert "topology" not in model.options
    assert np.array_equal(model.faces.numpy(), parametric_hand().faces)
    assert isinstance(model, nn.Module)
