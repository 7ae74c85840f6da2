"""Weights as people save them: any nesting, any prefix, any data beside the tensors."""

from __future__ import annotations

import argparse
import collections
import dataclasses
import datetime
import decimal
import enum
import os
import pathlib
import pickle
import types
import uuid

import numpy as np
import pytest
import torch
from torch import nn

from fleetfoot import create_model
from fleetfoot.errors import KeyMismatchError, UnsafeFileError
from fleetfoot.models import convert, inspect_weights
from fleetfoot.network import resolve
from fleetfoot.weights.files import read
from fleetfoot.weights.loading import load
from helpers import trained_

SMALL = "mobilenetv1_025"
STATE = {
    "conv.weight": torch.arange(24.0).reshape(2, 3, 2, 2),
    "norm.running_var": torch.tensor([0.5, 1.5]),
    "norm.num_batches_tracked": torch.tensor(7),
}


class Attributes(dict):
    """A mapping of a class that nobody here knows, as configurations are."""


class Plain:
    def __init__(self):
        self.lr = 0.1


@dataclasses.dataclass
class Config:
    lr: float = 0.1


class Net(nn.Module):
    """The network whose keys ``STATE`` has."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 2, bias=False)
        self.norm = nn.BatchNorm2d(2)


NET = Net().state_dict()
DATA = {
    "accuracy": np.float64(71.3),
    "best": np.float32(1),
    "step": np.int64(3),
    "flag": np.bool_(True),
    "text": np.str_("a"),
    "when": np.datetime64("2020-01-01"),
    "history": np.arange(6.0).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "folder": pathlib.Path("/data/runs"),
    "windows": pathlib.PureWindowsPath("c:/runs"),
    "date": datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc),
    "day": datetime.date(2020, 1, 1),
    "duration": datetime.timedelta(1),
    "counts": collections.Counter("abca"),
    "groups": collections.defaultdict(list, a=[1]),
    "recent": collections.deque([1.0], maxlen=5),
    "ordered": collections.OrderedDict(a=1),
    "args": argparse.Namespace(lr=0.1),
    "names": types.SimpleNamespace(lr=0.1),
    "id": uuid.UUID(int=1),
    "money": decimal.Decimal("1.2"),
    "set": {1, 2},
    "frozen": frozenset([1]),
    "complex": complex(1, 2),
    "slice": slice(1, 2),
    "range": range(3),
    "size": torch.Size([1, 2]),
    "device": torch.device("cpu"),
    "dtype": torch.float16,
    "random": np.random.RandomState(0).get_state(),
    "numpy": np.random.default_rng(0),
    "config": Attributes(lr=0.1),
    "plain": Plain(),
    "dataclass": Config(),
    "class": nn.ReLU,
    "function": nn.functional.relu,
    "bytes": b"abc",
    "array": bytearray(b"abc"),
    "large": 2**70,
    "nothing": None,
    "nested": {"a": [{"b": (1, None)}], 3: "x"},
    "sparse": torch.eye(2).to_sparse(),
}


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("old", [False, True], ids=["zip", "before 1.6"])
def test_data_of_every_kind_beside_the_weights_is_no_harm(protocol, old, tmp_path):
    path = tmp_path / "checkpoint.pth"
    beside = {k: v for k, v in DATA.items() if not (old and k == "sparse")}
    torch.save(
        {"net": NET, **beside, "epoch": 3},
        path,
        pickle_protocol=protocol,
        _use_new_zipfile_serialization=not old,
    )
    network = Net()
    report = load(network, read(path))
    assert report.wrappers == ("['net']",)
    torch.testing.assert_close(network.state_dict(), NET, rtol=0, atol=0)
    named = " ".join(read(path).beside)
    assert all(key in named for key in (*beside, "epoch"))
    assert "config (an object of test_checkpoints.Attributes, left out)" in read(path).beside


class Colour(enum.Enum):
    RED = 1


class Trap:
    def __init__(self, call, *args):
        self.call, self.args = call, args

    def __reduce__(self):
        return self.call, self.args


class Sets:
    """Python runs its ``__setstate__``; here it is left out unread."""

    def __init__(self, folder):
        self.folder = folder

    def __setstate__(self, state):
        os.mkdir(state["folder"])


@pytest.mark.parametrize(
    "trap",
    [
        lambda folder: Trap(os.mkdir, folder),
        lambda folder: Trap(eval, f"__import__('os').mkdir({folder!r})"),
        lambda folder: Trap(exec, f"open({folder!r}, 'w')"),
        lambda folder: Trap(type, "Made", (), {}),
        lambda folder: Trap(torch.load, folder),
        lambda folder: Colour.RED,
    ],
    ids=["call", "eval", "exec", "type", "load", "enum"],
)
@pytest.mark.parametrize("old", [False, True], ids=["zip", "before 1.6"])
def test_what_would_run_code_is_refused_and_does_not_run(trap, old, tmp_path):
    folder = tmp_path / "this ran"
    path = tmp_path / "checkpoint.pth"
    torch.save(
        {"net": NET, "extra": trap(str(folder))}, path, _use_new_zipfile_serialization=not old
    )
    with pytest.raises(UnsafeFileError, match="refused, since its pickle calls"):
        read(path)
    assert not folder.exists()


def test_an_object_is_never_made(tmp_path):
    folder = tmp_path / "this ran"
    path = tmp_path / "checkpoint.pth"
    torch.save({"net": NET, "extra": Sets(str(folder))}, path)
    assert read(path).state.keys() == NET.keys()
    assert not folder.exists()
    pickle.loads(pickle.dumps(Sets(str(folder))))
    assert folder.exists(), "the trap would have shown it"


@pytest.mark.parametrize("whole", [nn.Linear(2, 2), {"model": nn.Linear(2, 2), "epoch": 1}])
@pytest.mark.parametrize("old", [False, True], ids=["zip", "before 1.6"])
def test_a_whole_network_is_refused_with_advice(whole, old, tmp_path):
    path = tmp_path / "model.pth"
    torch.save(whole, path, _use_new_zipfile_serialization=not old)
    with pytest.raises(UnsafeFileError, match=r"class torch.nn.modules.linear.Linear.*state_dict"):
        read(path)


PLACES = {
    "another name": lambda s: {"weights_of_the_day": s},
    "deep": lambda s: {"a": {"b": {"c": {"d": s}}}},
    "in a list": lambda s: [{"epoch": 1}, s],
    "net.": lambda s: {f"net.{k}": v for k, v in s.items()},
    "model.model.": lambda s: {"state_dict": {f"model.model.{k}": v for k, v in s.items()}},
    "any.": lambda s: {f"my_wrapper.inner.{k}": v for k, v in s.items()},
    "metric beside a prefix": lambda s: {
        "state_dict": {
            **{f"net.{k}": v for k, v in s.items()},
            "val_acc.tp": torch.zeros(10),
            "confusion.matrix": torch.zeros(3, 3),
        }
    },
    "metric and loss beside": lambda s: {
        **s,
        "val_acc.tp": torch.zeros(3),
        "criterion.weight": torch.ones(3),
        "epoch": torch.tensor(3),
        "history": np.ones(3),
        "names": np.array(["a", "b"]),
    },
    "a mapping of a class of its own": lambda s: {"net": Attributes(s)},
    "an optimiser's mapping of the same keys": lambda s: {
        "optimizer": {"exp_avg": {k: v + 1 for k, v in s.items()}},
        "net": s,
    },
    "numpy": lambda s: {"state": {k: v.numpy() for k, v in s.items()}},
    "parameters": lambda s: {"net": {k: nn.Parameter(v) if v.is_floating_point() else v
                                     for k, v in s.items()}},
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("whose", ["a user's network", "the zoo's", "timm's"])
def test_the_network_is_found_wherever_it_is(place, whose, tmp_path):
    name = {"the zoo's": SMALL, "timm's": "timm:resnet10t"}.get(whose)
    made = trained_(create_model(name) if name else Net())
    state = made.state_dict()
    path = tmp_path / "checkpoint.pth"
    torch.save(PLACES[place](state), path)
    if name:
        loaded = create_model(name, weights=path)
        report = loaded.load_report
    else:
        loaded = Net()
        report = load(loaded, read(path))
    torch.testing.assert_close(loaded.state_dict(), state, rtol=0, atol=0)
    if place == "metric beside a prefix":
        assert set(report.ignored) == {"val_acc.tp", "confusion.matrix"}
    if place == "metric and loss beside":
        assert "val_acc.tp" in report.ignored


def test_what_is_no_metric_is_left_over(tmp_path):
    path = tmp_path / "checkpoint.pth"
    torch.save({**NET, "neck.weight": torch.ones(1)}, path)
    with pytest.raises(KeyMismatchError, match=r"1 left over:\n    neck.weight"):
        load(Net(), read(path))


@pytest.mark.parametrize(
    ("plain", "averaged"),
    [
        ("model", "ema"),
        ("model", "model_ema"),
        ("state_dict", "ema_state_dict"),
        ("net", "shadow"),
        ("online_model.", "ema_model."),
        ("ema.online_model.", "ema.ema_model."),
        ("model.", "swa."),
    ],
)
def test_averaged_weights_come_first_and_key_chooses(plain, averaged, tmp_path):
    def put(name, state):
        return {name + k: v for k, v in state.items()} if name.endswith(".") else {name: state}

    first = trained_(create_model(SMALL)).state_dict()
    other = trained_(create_model(SMALL), seed=1).state_dict()
    path = tmp_path / "checkpoint.pth"
    torch.save({**put(plain, first), **put(averaged, other)}, path)

    loaded = create_model(SMALL, weights=path)
    torch.testing.assert_close(loaded.state_dict(), other, rtol=0, atol=0)
    said = " ".join(loaded.load_report.notes)
    assert f"taken: {averaged.strip('.')}, averaged weights" in said
    assert f"{plain.strip('.')} (key=..., --key ...)" in said
    assert "averaged weights" in " ".join(inspect_weights(path).notes)
    chosen = create_model(SMALL, weights=path, key=plain.strip("."))
    torch.testing.assert_close(chosen.state_dict(), first, rtol=0, atol=0)
    assert not any("taken" in note for note in chosen.load_report.notes)
    assert resolve(str(path)).module.load_report.wrappers == loaded.load_report.wrappers
    same = resolve(SMALL, weights=path, key=plain.strip("."))
    assert torch.equal(next(same.module.parameters()), first["stem.0.weight"])
    convert(path, tmp_path / "out.safetensors", key=plain.strip("."))
    assert torch.equal(read(tmp_path / "out.safetensors").state["stem.0.weight"],
                       first["stem.0.weight"])  # fmt: skip
    with pytest.raises(KeyMismatchError, match=r"has no part 'nothing'; it has "):
        create_model(SMALL, weights=path, key="nothing")


def test_averages_that_lack_statistics_are_passed_over_and_that_is_said(tmp_path):
    model = trained_(create_model(SMALL))
    path = tmp_path / "checkpoint.pth"
    torch.save({"model": model.state_dict(), "ema": dict(model.named_parameters())}, path)
    report = create_model(SMALL, weights=path).load_report
    assert report.wrappers == ("['model']",)
    assert "ema does not fit, so it was not taken" in report.notes


def test_a_key_needs_a_file():
    with pytest.raises(ValueError, match="--key"):
        create_model(SMALL, key="ema")


def test_a_network_that_is_a_wrapper_takes_the_bare_keys(tmp_path):
    path = tmp_path / "checkpoint.pth"
    torch.save(NET, path)
    wrapped = nn.Sequential(Net())
    assert load(wrapped, read(path)).used == len(NET)


def test_a_plain_pickle_of_arrays_is_read(tmp_path):
    model = trained_(create_model(SMALL))
    arrays = {key: tensor.numpy() for key, tensor in model.state_dict().items()}
    for protocol in (2, 4, 5):
        path = tmp_path / "model.pkl"
        path.write_bytes(pickle.dumps({"model": arrays, "author": "me"}, protocol=protocol))
        loaded = create_model(SMALL, weights=path)
        torch.testing.assert_close(loaded.state_dict(), model.state_dict(), rtol=0, atol=0)


# Trunks, and networks of maps


def test_a_trunk_loads_into_a_network_of_maps_and_nowhere_else(tmp_path):
    name = "mobilenetv2_010"
    body = trained_(create_model(name, features_only=True))
    path = tmp_path / "body.pth"
    torch.save(body.state_dict(), path)  # its keys start with backbone.
    bare = tmp_path / "bare.pth"
    torch.save(body.backbone.state_dict(), bare)
    for file, options in ((path, {}), (bare, {"num_classes": 0}), (path, {"num_classes": 7})):
        loaded = create_model(name, weights=file, features_only=True, **options)
        torch.testing.assert_close(loaded.state_dict(), body.state_dict(), rtol=0, atol=0)
        assert not loaded.load_report.fresh
    with pytest.raises(KeyMismatchError, match=r"trunk of this network.*features_only=True"):
        create_model(name, weights=path)
    seen = inspect_weights(path)
    assert seen.trunks == (name,)
    assert not seen.fits


def test_a_whole_file_loads_into_timms_network_of_maps(tmp_path):
    whole = trained_(create_model("timm:resnet10t", num_classes=10))
    path = tmp_path / "whole.pth"
    torch.save({"net": whole.state_dict()}, path)
    maps = create_model("timm:resnet10t", weights=path, features_only=True)
    for key, tensor in maps.state_dict().items():
        torch.testing.assert_close(tensor, whole.state_dict()[key], rtol=0, atol=0)
    own = tmp_path / "own.pth"
    torch.save(maps.state_dict(), own)
    again = create_model("timm:resnet10t", weights=own, features_only=True)
    torch.testing.assert_close(again.state_dict(), maps.state_dict(), rtol=0, atol=0)


# Another number of classes


@pytest.mark.parametrize(
    "name", ["timm:resnet10t", "torchvision:shufflenet_v2_x0_5", "torchvision:squeezenet1_1"]
)
def test_a_peer_takes_its_classes_from_the_file(name, tmp_path):
    made = trained_(create_model(name, num_classes=10))
    path = tmp_path / "ten.pth"
    torch.save({"net": {f"module.{k}": v for k, v in made.state_dict().items()}}, path)
    loaded = resolve(name, weights=path)
    assert loaded.outputs["output"].shape == (1, 10)
    torch.testing.assert_close(loaded.module.state_dict(), made.state_dict(), rtol=0, atol=0)
    assert "num_classes=10, as in the file" in loaded.module.load_report.notes
    fresh = create_model(name, weights=path, num_classes=7)
    assert fresh.load_report.fresh
    assert "a fresh classifier of 7 classes; the file has 10" in fresh.load_report.notes
    first = next(iter(made.state_dict()))
    assert torch.equal(fresh.state_dict()[first], made.state_dict()[first])
    if name.startswith("timm"):
        none = create_model(name, weights=path, num_classes=0)
        assert torch.equal(none.state_dict()[first], made.state_dict()[first])


def test_a_peer_of_other_shapes_is_still_refused(tmp_path):
    path = tmp_path / "other.pth"
    torch.save(create_model("torchvision:shufflenet_v2_x1_0", num_classes=10).state_dict(), path)
    with pytest.raises(KeyMismatchError, match="wrongly shaped"):
        create_model("torchvision:shufflenet_v2_x0_5", weights=path)


# Forms of the same shapes

TWINS = ("shufflenet_v2_x0_5", "shufflenet_v2_x0_5_authors")


@pytest.mark.parametrize(("name", "other"), [TWINS, TWINS[::-1]])
def test_what_nothing_tells_apart_is_said(name, other, tmp_path):
    path = tmp_path / "headless.pth"
    torch.save(create_model(name, num_classes=0).state_dict(), path)
    for asked, options in (
        (name, {"num_classes": 0}),
        (other, {"num_classes": 5}),
        (other, {"features_only": True}),
    ):
        report = create_model(asked, weights=path, **options).load_report
        assert "nothing in the file tells" in " ".join(report.notes)
    assert {fit.name for fit in inspect_weights(path).fits} == set(TWINS)
    with pytest.raises(KeyMismatchError, match=r"nothing in it tells them apart.*--model"):
        convert(path, tmp_path / "out.safetensors")
    convert(path, tmp_path / "out.safetensors", model=name)  # whose header says it from now on
    report = create_model(name, weights=tmp_path / "out.safetensors", num_classes=0).load_report
    assert "nothing in the file" not in " ".join(report.notes)
    with pytest.raises(KeyMismatchError, match=f"header says that it holds {name}"):
        create_model(other, weights=tmp_path / "out.safetensors", num_classes=0)


@pytest.mark.parametrize(("name", "other"), [TWINS, TWINS[::-1]])
def test_a_classifier_that_is_left_out_still_tells_the_form(name, other, tmp_path):
    path = tmp_path / "whole.pth"
    torch.save(create_model(name, num_classes=10).state_dict(), path)
    report = create_model(name, weights=path, num_classes=0).load_report
    assert "nothing in the file" not in " ".join(report.notes)
    for options in ({"num_classes": 3}, {"features_only": True}):
        with pytest.raises(KeyMismatchError, match=f"These are weights of {name}."):
            create_model(other, weights=path, **options)


def test_a_layout_of_one_form_is_never_the_other(tmp_path):
    theirs = create_model("torchvision:shufflenet_v2_x0_5").state_dict()
    headless = {k: v for k, v in theirs.items() if not k.startswith("fc.")}
    path = tmp_path / "headless.pth"
    torch.save(headless, path)
    assert {fit.name for fit in inspect_weights(path).fits} == {"shufflenet_v2_x0_5"}
    create_model("shufflenet_v2_x0_5", weights=path, num_classes=0)
    with pytest.raises(KeyMismatchError, match="another function of these tensors"):
        create_model("shufflenet_v2_x0_5_authors", weights=path, num_classes=0)
