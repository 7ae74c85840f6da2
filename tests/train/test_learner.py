"""One update: parts, precision, freezing, a teacher; and the state that a checkpoint takes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fleetfoot.errors import CheckpointError
from fleetfoot.train import checkpoint
from fleetfoot.train.config import Distil, Ema, Init, Loss, Mix, Optim
from small_runs import RECIPE, RUN, changed, small, trained
from tools.kills import MODEL, OPTIONS, differences


@pytest.fixture(autouse=True)
def without_curves(monkeypatch):
    monkeypatch.setattr("fleetfoot.train.journal.Journal.draw", lambda self, history: None)


def weights(folder) -> dict[str, torch.Tensor]:
    return dict(checkpoint.read(folder / "last.safetensors").weights)


def test_accumulated_parts_are_one_update(tmp_path):
    """In float64, and without batch norm and dropout, which see a part at a time."""
    recipe = changed(precision="float64")
    for parts in (1, 2):
        trained(
            tmp_path / str(parts),
            model=small(norm=False, drop=0.0),
            recipe=replace(recipe, optim=replace(recipe.optim, accumulate=parts)),
        )
    one, two = weights(tmp_path / "1"), weights(tmp_path / "2")
    # sums in another order, over nine updates
    torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("precision", ["float32", "float64", "bf16"])
def test_every_precision_learns(tmp_path, precision):
    recipe = changed(
        precision=precision, epochs=8, mix=Mix(), augment=replace(RECIPE.augment, erase=0.0)
    )
    outcome = trained(tmp_path, recipe=recipe)
    losses = [row.train_loss for row in outcome.history]
    assert losses[-1] < 0.8 * losses[0]
    wide = torch.float64 if precision == "float64" else torch.float32
    assert weights(tmp_path)["conv.weight"].dtype == wide


def test_frozen_stages_stay_as_they_are(tmp_path):
    recipe = changed(size=32, init=Init(freeze=1), optim=replace(RECIPE.optim, weight_decay=0.5))
    trained(tmp_path / "a", model=MODEL, options=OPTIONS, recipe=replace(recipe, updates=1))
    trained(tmp_path / "b", model=MODEL, options=OPTIONS, recipe=recipe)
    first, last = weights(tmp_path / "a"), weights(tmp_path / "b")
    for name, tensor in first.items():
        if name.startswith(("stem.", "stages.0.")):
            assert torch.equal(tensor, last[name]), name
    moved = [n for n in first if n.startswith("stages.1.") and not torch.equal(first[n], last[n])]
    assert len(moved) > 5


def test_a_checkpoint_can_teach(tmp_path):
    trained(tmp_path / "teacher", model=MODEL, options=OPTIONS, recipe=changed(size=32, updates=1))
    teacher = str(tmp_path / "teacher" / "best.safetensors")
    recipe = changed(distil=Distil(teacher=teacher, kind="soft", alpha=0.9, size=32), updates=3)
    trained(tmp_path / "a", recipe=recipe)
    trained(tmp_path / "b", recipe=changed(updates=3))
    assert "weights.conv.weight" in differences(tmp_path / "a", tmp_path / "b")


def test_clipping_limits_the_step(tmp_path):
    """With SGD, whose step is the gradient times the rate."""
    recipe = changed(
        updates=1,
        ema=Ema(),
        loss=Loss(),
        optim=Optim(name="sgd", lr=1.0, momentum=0.0, weight_decay=0.0, clip=1e-3),
        schedule=replace(RECIPE.schedule, warmup=0.0, curve="constant"),
    )
    before = small().state_dict()
    trained(tmp_path, recipe=recipe)
    moved = [
        (after - before[name]).square().sum()
        for name, after in weights(tmp_path).items()
        if name in dict(small().named_parameters())
    ]
    assert float(sum(moved)) ** 0.5 == pytest.approx(1e-3, rel=1e-4)


def test_statistics_estimated_anew_at_the_end_change_nothing_else(tmp_path):
    trained(tmp_path / "a")
    trained(tmp_path / "b", recipe=changed(reestimate=2))
    found = differences(tmp_path / "a", tmp_path / "b")
    changed_tensors = [name for name in found if name.startswith(("weights.", "average."))]
    assert changed_tensors == [
        f"{part}.norm.{name}"
        for part in ("average", "weights")
        for name in ("num_batches_tracked", "running_mean", "running_var")
    ]


def test_another_freezing_is_refused_by_name(tmp_path):
    recipe = changed(size=32, updates=1)
    trained(tmp_path, model=MODEL, options=OPTIONS, recipe=recipe)
    frozen = replace(recipe, init=Init(freeze=1), updates=2)
    with pytest.raises(CheckpointError, match=r"optimiser trains .*not trained now \(init\.freeze"):
        trained(tmp_path, model=MODEL, options=OPTIONS, recipe=frozen, resume="required")


@pytest.mark.slow
def test_a_compiled_network_trains_to_the_same_weights(tmp_path):
    model = {"model": small(drop=0.0), "recipe": changed(ema=Ema())}
    trained(tmp_path / "a", **model)
    trained(tmp_path / "b", **model | {"model": small(drop=0.0)}, run=replace(RUN, compile=True))
    # fused kernels round differently
    torch.testing.assert_close(
        weights(tmp_path / "a"), weights(tmp_path / "b"), rtol=1e-3, atol=1e-4
    )
