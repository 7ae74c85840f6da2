"""An engine that is saved and opened again is the same engine, and what is not whole is refused."""

from __future__ import annotations

import gc
import json
import os

import pytest
import torch
from torch import nn

from fleetfoot import engines
from fleetfoot.artifact import MANIFEST, Artifact, Facts, Nest
from fleetfoot.engines import available, load, relative_error
from fleetfoot.engines.onnxruntime import OnnxRuntime
from fleetfoot.errors import ArtifactError, EngineError

SAVING = ["onnxruntime", "openvino", "ncnn", "native"]


def needs(engine: str) -> None:
    reason = available()[engine]
    if reason is not None:
        pytest.skip(reason)


class Heads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.linear = nn.Conv2d(3, 8, 3, stride=2), nn.Linear(5, 8)

    def forward(self, image, vector):
        found = self.stem(image).relu()
        return {"map": found, "scores": (found.mean((2, 3)) + self.linear(vector),)}


MODEL = Heads().eval()
INPUTS = {"image": torch.randn(2, 3, 16, 16), "vector": torch.randn(2, 5)}
FACTS = Facts(
    network="heads",
    preprocessing={"size": 16, "mean": [0.5, 0.5, 0.5]},
    labels=("cat", "dog"),
    licence="Apache-2.0",
    certificate={"error": 1e-15},
)


def changed(path, **values):
    """Writes other values into a manifest."""
    text = json.loads((path / MANIFEST).read_text())
    (path / MANIFEST).write_text(json.dumps({**text, **values}))


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    """One saved engine, for tests that copy it."""
    needs("native")
    with load("native", MODEL, example=INPUTS) as built:
        return built.save(tmp_path_factory.mktemp("saved") / "heads")


@pytest.fixture
def copied(plan, tmp_path):
    path = tmp_path / "heads"
    path.mkdir()
    for file in plan.path.iterdir():
        (path / file.name).write_bytes(file.read_bytes())
    return path


@pytest.mark.parametrize("engine", SAVING)
@pytest.mark.parametrize("threads", [1, 2])
def test_what_is_opened_answers_as_what_was_built_bit_for_bit(engine, threads, tmp_path):
    needs(engine)
    with load(engine, MODEL, example=INPUTS, threads=threads) as built:
        saved = built.save(tmp_path / "heads", facts=FACTS)
        expected, agreement = built.run(INPUTS), built.agreement
    said = saved.manifest
    assert (said.engine, said.threads, said.error) == (engine, threads, agreement.error)
    assert [(one.name, one.shape) for one in said.inputs] == [
        ("image", (2, 3, 16, 16)), ("vector", (2, 5)),
    ]  # fmt: skip
    assert [(one.name, one.shape) for one in said.outputs] == [
        ("map", (2, 8, 7, 7)), ("scores.0", (2, 8)),
    ]  # fmt: skip
    assert said.facts == FACTS
    with engines.open(tmp_path / "heads") as opened:
        assert opened.info == built.info
        assert opened.artifact == saved  # read back as it was written
        found = opened.run(INPUTS)
        assert relative_error(found, expected) == 0
        assert torch.equal(found["map"], expected["map"])
        assert torch.equal(found["scores"][0], expected["scores"][0])
        with pytest.raises(ValueError, match=r"input 'vector' has shape \(1, 5\)"):
            opened.run({**INPUTS, "vector": INPUTS["vector"][:1]})
        with pytest.raises(EngineError, match=r"was opened from .*; copy that folder"):
            opened.save(tmp_path / "other")
        with pytest.raises(EngineError, match="load it from the network to profile it"):
            opened.profile(INPUTS)


@pytest.mark.parametrize("engine", SAVING)
def test_one_tensor_stays_one_tensor(engine, tmp_path):
    needs(engine)
    model, images = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval(), torch.randn(1, 3, 9, 9)
    with load(engine, model, example=images) as built:
        built.save(tmp_path / "plain")
        expected = built.run(images)
    with engines.open(tmp_path / "plain", threads=2) as opened:
        assert opened.info.threads == 2
        assert torch.equal(opened.run(images), expected)


def test_an_engine_without_files_of_its_own_says_who_has_them(tmp_path):
    with (
        load("eager", MODEL, example=INPUTS) as built,
        pytest.raises(EngineError, match="eager has no files of its own; native, onnxruntime"),
    ):
        built.save(tmp_path / "heads")
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_already_is_not_replaced(copied):
    before = {file.name: file.read_bytes() for file in copied.iterdir()}
    with (
        load("native", MODEL, example=INPUTS) as built,
        pytest.raises(FileExistsError, match="exists; remove it"),
    ):
        built.save(copied)
    assert {file.name: file.read_bytes() for file in copied.iterdir()} == before


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    needs("native")
    with load("native", MODEL, example=INPUTS) as built:
        with pytest.raises(TypeError, match="not JSON serializable"):
            built.save(tmp_path / "heads", facts=Facts(certificate={"x": object()}))
        monkeypatch.setattr(os, "replace", lambda *paths: (_ for _ in ()).throw(OSError("full")))
        with pytest.raises(OSError, match="full"):
            built.save(tmp_path / "heads")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_artifact_is_told_from_a_folder_and_a_file(tmp_path):
    with pytest.raises(ArtifactError, match=r"does not exist; Engine\.save writes"):
        engines.open(tmp_path / "nowhere")
    with pytest.raises(ArtifactError, match=r"holds no manifest\.json"):
        engines.open(tmp_path)
    (tmp_path / "x.plan").write_bytes(b"plan")
    with pytest.raises(ArtifactError, match=r"is a file, .* fleetfoot\.runtime\.Plan\.load opens"):
        engines.open(tmp_path / "x.plan")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"manifest\.json is damaged: not JSON"),
        ("[1]", "is damaged: expected a JSON object"),
        ('{"format": 99}', "has format 99, and this release reads 1"),
        ('{"format": 1}', "is damaged: missing fields manifest.engine"),
    ],
)
def test_a_damaged_manifest_is_refused(copied, text, message):
    (copied / MANIFEST).write_text(text)
    with pytest.raises(ArtifactError, match=message):
        engines.open(copied)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"threads": "two"}, 'manifest.threads must be a whole number, not "two"'),
        ({"threads": 0}, "has a damaged manifest: threads must be 1 to "),
        ({"nest": {"dict": [["map", 0]]}}, "lists 2 outputs, and its nest has 1"),
        ({"nest": {"set": [0, 1]}}, "a nest holds dicts, lists and tuples, not 'set'"),
        ({"nest": {"list": [0, 0]}}, "numbers its tensors from 0 on"),
        ({"nest": {"dict": [["a", 0], ["a", 1]]}}, "a nest has a key twice: 'a', 'a'"),
        ({"nest": {"namedtuple": ["P", [["a b", 0], ["c", 1]]]}}, "valid identifiers: 'a b'"),
        ({"files": []}, "it lists no files"),
        ({"files": [{"name": "../x", "bytes": 1, "sha256": ""}]}, "does not lie in its folder"),
        ({"engine": "tensorrt"}, "was written by an engine 'tensorrt', unknown here"),
        ({"extra": 1}, "unknown field manifest.extra"),
    ],
)
def test_a_manifest_that_says_something_else_is_refused(copied, values, message):
    changed(copied, **values)
    with pytest.raises(ArtifactError, match=message):
        engines.open(copied)


def test_a_file_that_was_changed_or_is_missing_is_named(copied):
    file = copied / "network.plan"
    data = bytearray(file.read_bytes())
    data[-100] ^= 1
    file.write_bytes(data)
    with pytest.raises(ArtifactError, match=r"network\.plan was changed: its SHA-256 is"):
        engines.open(copied)
    file.write_bytes(data[:-1])
    with pytest.raises(ArtifactError, match=r"network\.plan holds \d+ bytes, and \d+ were written"):
        engines.open(copied)
    file.unlink()
    with pytest.raises(ArtifactError, match=r"network\.plan is missing, and manifest\.json lists"):
        engines.open(copied)


def test_the_artifact_of_another_engine_is_refused(copied, plan):
    needs("onnxruntime")
    with pytest.raises(ArtifactError, match="was written by native, not by onnxruntime"):
        OnnxRuntime.opened(plan, engines.Options())
    changed(copied, engine="onnxruntime", engine_version=available_version("onnxruntime"))
    with pytest.raises(EngineError, match="onnxruntime cannot open"):
        engines.open(copied)


def available_version(package):
    from importlib.metadata import version

    return version(package)


@pytest.mark.parametrize("field", ["platform", "engine_version"])
def test_files_that_serve_one_machine_and_version_are_refused_elsewhere(field, tmp_path):
    needs("onnxruntime")
    model = nn.Conv2d(3, 2, 1).eval()
    with load("onnxruntime", model, example=torch.randn(1, 3, 4, 4)) as built:
        built.save(tmp_path / "conv")
    changed(tmp_path / "conv", **{field: "other"})
    with pytest.raises(ArtifactError, match=r"other, and this is .*; save the network again here"):
        engines.open(tmp_path / "conv")


def test_an_engine_whose_network_is_gone_says_so(tmp_path):
    needs("onnxruntime")
    model = nn.Conv2d(3, 2, 1).eval()
    built = load("onnxruntime", model, example=torch.randn(1, 3, 4, 4))
    del model
    gc.collect()  # the exporter leaves cycles that hold the network
    with (
        built,
        pytest.raises(EngineError, match=r"the network .* no longer exists; keep a reference"),
    ):
        built.save(tmp_path / "conv")
    assert list(tmp_path.iterdir()) == []


def test_a_nest_through_json():
    value = {"a": [0, (1,)], 7: {"b": 2}}
    nest = Nest(json.loads(json.dumps(Nest.of(value).record)))
    assert nest.filled([0, 1, 2]) == value
    assert nest.names == ("a.0", "a.1.0", "7.b")
    assert Nest.of(0).plain
    assert not Nest.of((0,)).plain
    with pytest.raises(ValueError, match="3 outputs were expected, not 1"):
        nest.filled([0])
    with pytest.raises(
        ValueError, match=r"has the key 1\.5; keys must be strings or whole numbers"
    ):
        Nest.of({1.5: 0})
    deep = 0
    for _ in range(40):
        deep = {"list": [deep]}
    with pytest.raises(ValueError, match="deeper than 32 levels"):
        Nest(deep)


def test_an_artifact_is_read_without_torch(plan):
    import subprocess
    import sys

    code = (
        "import sys; from fleetfoot.artifact import Artifact; import fleetfoot.readers; "
        f"said = Artifact.read({str(plan.path)!r}).manifest; "
        "assert 'torch' not in sys.modules; print(said.engine, said.outputs[1].name)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["native", "scores.0"]
    assert isinstance(plan, Artifact)
