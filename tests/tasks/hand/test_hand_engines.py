"""The hand network after training: folded, counted, and on engines, with its answers unchanged."""

from __future__ import annotations

import pytest
import torch

from fleetfoot.count.trace import trace
from fleetfoot.engines import TOLERANCES, available, load, relative_error
from fleetfoot.tasks.catalogue import create_model
from fleetfoot.tasks.hand.network import HandMesh
from fleetfoot.transform import fuse
from helpers import trained_

SIZE = 64


@pytest.fixture(scope="module")
def model() -> HandMesh:
    torch.manual_seed(0)
    made = create_model("handmesh:mobilenetv1_025", input_size=SIZE, dims=(32, 32, 32), depth=1)
    trained_(made)
    with torch.no_grad():  # points all over the picture, and some beyond it
        made.head.points[1].bias.uniform_(-0.6, 0.6)
    return made.eval()


def test_folding_keeps_the_task_and_its_answers(model):
    fused = fuse(model, torch.zeros(1, 3, SIZE, SIZE))
    assert isinstance(fused.model, HandMesh)
    assert any(row.kind == "batch norm" for row in fused.folded)
    assert fused.certificate.max_rel < 1e-9
    x = torch.randn(2, 3, SIZE, SIZE)
    with torch.inference_mode():
        expected, found = model(x), fused.model(x)
    assert relative_error(found, expected) < TOLERANCES["float32"]
    for one, other in zip(
        model.decode(expected, (SIZE, SIZE)), fused.model.decode(found, (SIZE, SIZE)), strict=True
    ):
        assert torch.allclose(one.points, other.points, atol=1e-2)  # pixels
        assert torch.allclose(one.vertices, other.vertices, atol=1e-6)  # metres


OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in ("onnxruntime", "openvino")]


@pytest.mark.parametrize("engine", ["native", *OTHERS])
def test_engines_give_the_same_mesh(model, engine):
    if (reason := available()[engine]) is not None:
        pytest.skip(reason)
    x = torch.randn(2, 3, SIZE, SIZE)
    with torch.inference_mode():
        expected = model(x)
    with load(engine, fuse(model, x[:1]).model, example=torch.zeros_like(x)) as built:
        found = built.run(x)
    assert set(found) == set(expected)
    assert relative_error(found, expected) < TOLERANCES["float32"]
    for one, other in zip(
        model.decode(expected, (SIZE, SIZE)), model.decode(found, (SIZE, SIZE)), strict=True
    ):
        assert torch.allclose(one.points, other.points, atol=0.05)  # pixels
        assert torch.allclose(one.vertices, other.vertices, atol=1e-5)  # metres


def test_every_operator_is_counted(model):
    counted = trace(model, torch.zeros(1, 3, SIZE, SIZE))
    assert counted.unknown == ()
