"""A checkpoint comes back bit by bit, is a file of weights for every command, and shows damage."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors
import torch
from torch import Tensor, nn

from fleetfoot.data.preprocess import Preprocess
from fleetfoot.errors import CheckpointError, CorruptFileError, KeyMismatchError
from fleetfoot.models import create_model, inspect_weights
from fleetfoot.network import resolve
from fleetfoot.predict import Predictor
from fleetfoot.train import checkpoint as ck
from fleetfoot.train.config import Recipe, Run
from fleetfoot.weights.files import read as read_weights
from fleetfoot.weights.pretrained import untrained

CLASSES = ("left", "right", "straight on")
OPTIONS = {"width": 8, "depths": (1, 1, 1, 1), "head_width": 16}


def small(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    model = create_model("fasternet_t0", num_classes=len(CLASSES), **OPTIONS)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):  # not the start values, which hide a wrong load
            norm.running_mean.normal_()
    return model


def made(**changes) -> ck.Checkpoint:
    model = small()
    training = ck.Training(
        update=1234,
        epochs=2,
        recipe=Recipe(),
        run=Run(),
        data=ck.Data(name="signs", classes=CLASSES, train="abc"),
        loss_sum=0.1 + 0.2,
        history=(
            ck.Epoch(
                epoch=0,
                update=617,
                train_loss=1 / 3,
                figures={"eval_top1": 50.0},
                lr=1e-3,
                size=32,
                images_per_s=9.0,
                seconds=2.0,
            ),
        ),
        optimiser={"groups": [], "state": {}},
    )
    whole = ck.Checkpoint(
        model="fasternet_t0",
        options=OPTIONS,
        preprocessing=replace(untrained(32), crop_pct=1.0, interpolation="bicubic", licence="mit"),
        training=training,
        weights=model.state_dict(),
        average={k: t + 1 if t.is_floating_point() else t for k, t in model.state_dict().items()},
        optimiser={
            "stem.weight.exp_avg": torch.randn(3, 4),
            "stem.weight.step": torch.tensor(7.0),
            "half": torch.randn(5).bfloat16(),
        },
    )
    return replace(whole, **changes)


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(
        a[k].dtype == b[k].dtype and torch.equal(a[k], b[k]) for k in a
    )


def test_a_checkpoint_comes_back_bit_by_bit(tmp_path):
    before = made()
    ck.write(tmp_path / "a.safetensors", before)
    after = ck.read(tmp_path / "a.safetensors")

    for part in ("weights", "average", "optimiser"):
        assert equal(dict(getattr(after, part)), dict(getattr(before, part))), part
    assert after.training == before.training
    assert after.training.loss_sum == 0.1 + 0.2  # exact: no digit of a float is lost in JSON
    assert after.preprocessing.crop_pct == 1.0
    assert after.preprocessing.licence == "mit"
    assert after.preprocessing.labels == CLASSES
    assert after.options == OPTIONS
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]  # no draft is left


def test_tied_weights_are_written_under_both_names(tmp_path):
    shared = torch.randn(3)
    ck.write(tmp_path / "a.safetensors", made(weights={"a": shared, "b": shared}, average={}))
    assert equal(dict(ck.read(tmp_path / "a.safetensors").weights), {"a": shared, "b": shared})


def test_resolve_takes_the_averages_with_size_and_class_names(tmp_path):
    file = tmp_path / "update.safetensors"
    ck.write(file, made())
    found = resolve(str(file))

    expected = made().average
    assert equal(dict(found.module.state_dict()), dict(expected))
    assert found.size == 32
    preprocess = Preprocess.of(found.module)
    assert (preprocess.size, preprocess.crop_pct, preprocess.interpolation) == (32, 1.0, "bicubic")
    predictor = Predictor.of(found.module, engine="eager")
    assert predictor.labels.names == CLASSES


def test_a_key_names_the_weights_without_averages(tmp_path):
    file = tmp_path / "update.safetensors"
    ck.write(file, made())
    found = resolve("fasternet_t0", weights=file, key="model", options=OPTIONS)
    assert equal(dict(found.module.state_dict()), dict(made().weights))
    assert found.size == 32


def test_a_fresh_classifier_of_another_size_drops_the_class_names(tmp_path):
    file = tmp_path / "update.safetensors"
    ck.write(file, made())
    model = create_model("fasternet_t0", weights=file, num_classes=5)
    assert model.num_classes == 5
    assert model.pretrained_cfg.labels == ()


def test_a_peer_comes_back_with_its_input_and_class_names(tmp_path):
    model = create_model("timm:mobilenetv3_small_050", num_classes=3, in_chans=1)
    file = tmp_path / "peer.safetensors"
    whole = made(
        model="timm:mobilenetv3_small_050", options={"in_chans": 1, "checkpoint_path": "evil.pth"},
        weights=model.state_dict(), average={}, optimiser={},
    )  # fmt: skip
    ck.write(file, whole)
    found = resolve(str(file))
    assert equal(dict(found.module.state_dict()), dict(model.state_dict()))
    assert found.module.pretrained_cfg.labels == CLASSES
    assert found.module.pretrained_cfg.input_size == 32


def test_a_file_of_a_users_own_network_runs_no_other_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(
        "from pathlib import Path\nfrom torch import nn\nPath('ran').touch()\n"
        "def build():\n    return nn.Sequential(nn.Conv2d(3, 3, 1), nn.AdaptiveAvgPool2d(1), "
        "nn.Flatten())\n"
    )
    state = {"0.weight": torch.randn(3, 3, 1, 1), "0.bias": torch.randn(3)}
    ck.write(
        Path("own.safetensors"), made(model="net.py:build", options={}, weights=state, average={})
    )
    with pytest.raises(KeyMismatchError, match=r"net.py:build --weights own.safetensors"):
        resolve("own.safetensors")
    assert not Path("ran").exists()

    found = resolve("net.py:build", weights="own.safetensors")
    assert equal(dict(found.module.state_dict()), state)
    assert Predictor.of(found.module, engine="eager").labels.names == CLASSES


def damaged(raw: bytes, kind: str) -> bytes:
    if kind == "torn":
        return raw[: len(raw) // 2]
    if kind == "empty":
        return b""
    if kind == "header":  # a digit of the state, which safetensors itself cannot see
        return raw.replace(b'\\"update\\": 1234', b'\\"update\\": 1235')
    return raw[:-3] + bytes([raw[-3] ^ 1]) + raw[-2:]


@pytest.mark.parametrize("kind", ["torn", "empty", "header", "bit"])
def test_damage_is_seen(tmp_path, kind):
    file = tmp_path / "a.safetensors"
    ck.write(file, made())
    raw = file.read_bytes()
    file.write_bytes(damaged(raw, kind))
    assert file.read_bytes() != raw
    with pytest.raises(CorruptFileError, match=r"a\.safetensors"):
        ck.read(file)


def test_a_file_of_weights_is_no_checkpoint(tmp_path):
    from fleetfoot.weights.files import read, write
    from fleetfoot.weights.own import is_checkpoint

    write(tmp_path / "w.safetensors", {"a": torch.zeros(2)})
    with pytest.raises(CheckpointError, match=r"init\.weights="):
        ck.read(tmp_path / "w.safetensors")
    assert not is_checkpoint(read(tmp_path / "w.safetensors").metadata)
    ck.write(tmp_path / "c.safetensors", made())
    assert is_checkpoint(read(tmp_path / "c.safetensors").metadata)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda raw: raw | {"format": 3}, r"another form than this version reads \(2\)"),
        (
            lambda raw: raw | {"recipe": raw["recipe"] | {"sparkle": 1}},
            r"unknown field training\.recipe\.sparkle",
        ),
    ],
)
def test_what_another_version_wrote_is_refused_by_name(tmp_path, change, said):
    written_otherwise(tmp_path / "b.safetensors", change)
    with pytest.raises(CheckpointError, match=f"fleetfoot 9.9.*{said}"):
        ck.read(tmp_path / "b.safetensors")
    assert read_weights(tmp_path / "b.safetensors", "model").params  # its weights stay usable


def written_otherwise(path: Path, change) -> None:
    """Writes a checkpoint whose state of the run was changed, as another version would."""
    ck.write(path, made())
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}
    metadata["training"] = json.dumps(change(json.loads(metadata["training"])))
    metadata["fleetfoot"] = "9.9"
    metadata["hash"] = ck.digest(tensors, metadata)
    safetensors.torch.save_file(tensors, path, metadata=metadata)


def test_a_checkpoint_from_before_other_tasks_is_read(tmp_path):
    def before(raw):
        measured = {
            "eval_loss": 0.5, "eval_top1": 50.0, "eval_top5": 100.0,
            "ema_loss": None, "ema_top1": None, "ema_top5": None,
        }  # fmt: skip
        (row,) = raw["history"]
        del row["figures"], raw["data"]["task"]
        best = {"update": 617, "epoch": 0, "top1": 50.0, "loss": 0.5}
        return raw | {"format": 1, "history": [row | measured], "best": best}

    written_otherwise(tmp_path / "old.safetensors", before)
    found = ck.read(tmp_path / "old.safetensors").training
    expected = made().training
    assert found.data == expected.data
    assert found.recipe == expected.recipe
    (row,), (given,) = found.history, expected.history
    assert row == replace(given, figures={"eval_loss": 0.5, "eval_top1": 50.0, "eval_top5": 100.0})
    assert found.best == ck.Best(update=617, epoch=0, figure="top1", value=50.0, loss=0.5)


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    file = tmp_path / "a.safetensors"
    ck.write(file, made())
    before = file.read_bytes()

    def full(*given):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        ck.write(file, made(average={}))
    monkeypatch.undo()
    assert file.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_inspection_names_the_network_and_groups_the_rest(tmp_path, caplog):
    file = tmp_path / "update.safetensors"
    state = {f"stem.{i}.exp_avg": torch.zeros(2) for i in range(9)}
    ck.write(file, made(optimiser=state))
    found = inspect_weights(file)
    assert [(fit.name, fit.num_classes) for fit in found.fits] == [("fasternet_t0", 3)]
    assert "optim.* (9 entries)" in found.beside
    assert len(found.beside) < 4

    with caplog.at_level("INFO", logger="fleetfoot"):
        resolve(str(file))
    (line,) = caplog.messages
    assert "its averaged weights" in line
    assert len(line) < 400  # neither every tensor of the optimiser nor every option
