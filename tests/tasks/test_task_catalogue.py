"""Networks of the tasks by name, wherever a name is taken, and from their files."""

from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner

from fleetfoot.cli import app
from fleetfoot.count import count
from fleetfoot.errors import CorruptFileError, KeyMismatchError, UnknownNameError
from fleetfoot.measure.grid import networks
from fleetfoot.models import configure
from fleetfoot.network import is_weights, resolve, resolved_size
from fleetfoot.tasks.catalogue import create_model, is_task
from fleetfoot.weights import files, own
from tiny_tasks import BACKBONE, TinyDetector, known

NAME = f"tiny_detector:{BACKBONE}"


@pytest.fixture(autouse=True)
def heads(monkeypatch):
    known(monkeypatch)


def test_a_head_takes_its_backbone_from_its_name_or_by_itself():
    for model in (
        create_model("tiny_detector", num_classes=3),
        create_model(NAME, num_classes=3),
        create_model("tiny_detector", backbone=BACKBONE, num_classes=3),
    ):
        assert isinstance(model, TinyDetector)
        assert model.num_classes == 3
    with pytest.raises(ValueError, match="backbone='fasternet_t0' is another"):
        create_model(NAME, backbone="fasternet_t0")
    with pytest.raises(ValueError, match="pretrained_backbone=True"):
        create_model(NAME, pretrained=True)
    with pytest.raises(UnknownNameError, match="unknown library prefix 'tyni_detector'"):
        create_model("tyni_detector:fasternet_t0")


def test_a_network_of_timm_can_be_the_backbone():
    name = "tiny_detector:timm:mobilenetv3_small_050"
    assert is_task(name)
    assert not is_weights(name)
    assert resolve(name).outputs["edges"].shape == (1, 4, 8, 8)


def test_resolving_gives_the_fixed_part_at_the_networks_own_size():
    made = resolve("tiny_detector", options={"num_classes": 5, "input_size": 96})
    assert (made.name, made.size) == ("tiny_detector", 96)
    assert {name: tuple(t.shape) for name, t in made.outputs.items()} == {
        "classes": (1, 5, 12, 12),
        "edges": (1, 4, 12, 12),
    }
    assert (made.facts.family, made.facts.task) == ("tiny_detector", "detect")
    assert resolved_size(NAME) == 64
    assert resolve(NAME, size="32x64").outputs["edges"].shape == (1, 4, 4, 8)


def test_patterns_of_names_reach_the_backbone():
    assert networks(["tiny_detector"]) == [NAME]
    assert networks([NAME, "tiny_detector:fasternet_t?"]) == [
        NAME,
        *(f"tiny_detector:fasternet_t{n}" for n in range(3)),
    ]
    with pytest.raises(UnknownNameError, match="fasternet_q"):
        networks(["tiny_detector:fasternet_q"])


def written(path, model, **changes):
    header = own.header(NAME, model.options, model.pretrained_cfg, source="a test")
    header["labels"] = json.dumps([f"class {n}" for n in range(model.num_classes)])
    files.write(path, model.state_dict(), {**header, **changes})
    return str(path)


def test_a_file_says_which_network_it_is_and_how_it_is_made(tmp_path):
    model = create_model(NAME, num_classes=3, width=12, input_size=32)
    file = written(tmp_path / "a.safetensors", model)
    found = resolve(file)
    for name, tensor in found.module.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name
    assert found.size == 32
    assert found.module.pretrained_cfg.labels == ("class 0", "class 1", "class 2")
    again = resolve(NAME, weights=file)
    assert torch.equal(again.module.head.weight, model.head.weight)


def test_another_number_of_classes_keeps_all_but_what_depends_on_it(tmp_path):
    model = create_model(NAME, num_classes=3)
    file = written(tmp_path / "a.safetensors", model)
    other = create_model(NAME, weights=file, num_classes=7)
    assert other.num_classes == 7
    assert other.pretrained_cfg.labels == ()
    assert set(other.load_report.fresh) == {"head.weight", "head.bias"}
    assert torch.equal(other.neck[0].weight, model.neck[0].weight)


def test_a_file_chooses_nothing_else_that_is_read(tmp_path):
    model = create_model(NAME, num_classes=3)
    options = json.dumps({"backbone_weights": "/etc/passwd", "pretrained_backbone": True})
    file = written(tmp_path / "a.safetensors", model, options=options)
    assert resolve(file).module.num_classes == 3  # neither is used
    file = written(tmp_path / "b.safetensors", model, options=json.dumps({"depth": 3}))
    with pytest.raises(KeyMismatchError, match=r"b\.safetensors does not state options.*depth"):
        resolve(file)
    file = written(tmp_path / "c.safetensors", model, options="[1]")
    with pytest.raises(CorruptFileError, match="options are unsound"):
        resolve(file)


def test_a_classifiers_file_is_refused(tmp_path):
    from fleetfoot.models import create_model as classifier

    model = classifier(BACKBONE, num_classes=4)
    path = tmp_path / "a.safetensors"
    files.write(path, model.state_dict())
    with pytest.raises(KeyMismatchError):
        create_model(NAME, weights=path)
    assert configure(BACKBONE).num_classes == 1000


@pytest.mark.parametrize(
    "words", [("count", NAME), ("lint", NAME), ("fuse", NAME)], ids=lambda words: words[0]
)
def test_commands_take_such_a_name(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = CliRunner().invoke(app, [*words, "--json"])
    assert ran.exit_code in (0, 1), ran.output  # lint answers 1 if it has findings
    assert json.loads(ran.stdout)


def test_a_network_counts_whole():
    made = resolve(NAME)
    counted = count(made.module, *made.arguments)
    assert counted.params == sum(p.numel() for p in made.module.parameters())
    assert not counted.unknown
