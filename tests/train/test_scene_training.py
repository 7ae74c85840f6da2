"""Runs for detection, segmentation and hands: on the same loop, with the same promises."""

from __future__ import annotations

import csv
from dataclasses import replace

import pytest
import torch

from fleetfoot.data.hands import open_hands
from fleetfoot.data.preprocess import Preprocess
from fleetfoot.data.settings import Mix, Scene
from fleetfoot.errors import CheckpointError, TrainingError
from fleetfoot.network import resolve
from fleetfoot.tasks.catalogue import HEADS
from fleetfoot.train import checkpoint, limits
from fleetfoot.train.building import build
from fleetfoot.train.config import Augment, Ema, Init, Optim, Recipe, Run, Schedule
from fleetfoot.train.events import Saved
from fleetfoot.train.loop import train
from small_runs import changed
from tiny_tasks import BACKBONE, known
from tools.kills import differences
from tools.kills.scenes import CLASSES, scenes

RUN = Run(workers=0, threads=1, save_seconds=1e9)
RECIPE = Recipe(
    name="shapes",
    task="detect",
    epochs=2,
    batch=8,
    scene=Scene(scale=(0.7, 1.3), multiscale=(0.5, 1.5), multiscale_every=2, mosaic=0.5, until=1),
    optim=Optim(lr=3e-3, clip=5.0),
    schedule=Schedule(warmup=1.0),
    ema=Ema(decay=0.8),
)
SETS = {
    "detect": (lambda: scenes("detect", train=16, val=4), "tiny_detector"),
    "segment": (lambda: scenes("segment", train=16, val=4), "tiny_segmenter"),
    "hand": (lambda: open_hands(size=64, counts={"train": 16, "val": 4, "test": 2}), "tiny_hand"),
}
SCENES = {
    "detect": RECIPE.scene,
    "segment": Scene(scale=(0.7, 1.3), multiscale=(0.5, 1.5), photometric=0.5),
    "hand": Scene(rotate=20.0, shift=0.1, multiscale=(0.5, 1.5)),
}


@pytest.fixture(autouse=True)
def heads(monkeypatch):
    known(monkeypatch)
    monkeypatch.setattr("fleetfoot.train.journal.Journal.draw", lambda self, history: None)


def trained(folder, task="detect", *, recipe=RECIPE, run=RUN, **given):
    data, head = SETS[task]
    made = replace(recipe, task=task, scene=SCENES[task] if recipe.scene != Scene() else Scene())
    return train(
        given.pop("model", head), given.pop("dataset", None) or data(), made, run, folder, **given
    )


@pytest.mark.parametrize(
    ("task", "figures"),
    [
        ("detect", ("ap", "ap50", "ap75", "mask_ap", "mask_ap50")),
        ("segment", ("miou", "accuracy")),
        ("hand", ("pa_mpjpe", "pa_mpvpe", "f_5", "f_15")),
    ],
)
def test_a_run_measures_keeps_its_best_and_comes_back_from_its_file(tmp_path, task, figures):
    outcome = trained(tmp_path, task)
    assert outcome.finished
    assert outcome.task == task
    with (tmp_path / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:3] == ["epoch", "train_loss", f"eval_{figures[0]}"]
    assert {name.partition("_")[2] for name in rows[0] if name.startswith("ema_")} == set(figures)
    values = [row.figures[f"ema_{figures[0]}"] for row in outcome.history]
    chosen = min if task == "hand" else max
    assert (outcome.best.figure, outcome.best.value) == (figures[0], chosen(values))

    found = resolve(str(outcome.checkpoint))
    assert found.module.task == task
    assert found.module.pretrained_cfg.labels == SETS[task][0]().classes
    assert found.size == 64
    average = checkpoint.read(outcome.checkpoint).average
    for name, tensor in found.module.state_dict().items():
        assert torch.equal(tensor, average[name]), name


class Stopped(BaseException):
    """What the end of a process is to a test within it."""


def stopping(update: int):
    def tell(event: object) -> None:
        if isinstance(event, Saved) and event.update == update:
            raise Stopped

    return tell


@pytest.mark.parametrize(
    "task",
    ["detect", *(pytest.param(task, marks=pytest.mark.slow) for task in ("segment", "hand"))],
)
def test_a_run_that_goes_on_is_bit_equal_with_any_number_of_workers(tmp_path, task):
    recipe = replace(RECIPE, optim=replace(RECIPE.optim, accumulate=2), augment=Augment(repeats=2))
    run = replace(RUN, save_updates=1)
    trained(tmp_path / "whole", task, recipe=recipe)
    with pytest.raises(Stopped):
        trained(tmp_path / "parts", task, recipe=recipe, run=run, on_event=stopping(3))
    goes_on = replace(run, workers=2)
    trained(tmp_path / "parts", task, recipe=recipe, run=goes_on, resume="required")
    assert differences(tmp_path / "whole", tmp_path / "parts") == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "figure", "least"), [("detect", "ap50", 10.0), ("segment", "miou", 45.0)]
)
def test_shapes_are_learned(tmp_path, task, figure, least):
    """By networks of a few channels, of which nobody expects much; boxes or maps that are not where
    their pictures are would give nearly nothing."""
    recipe = replace(
        RECIPE, epochs=30, ema=Ema(decay=0.95, warmup="timm"), optim=Optim(lr=1e-2, clip=5.0)
    )
    outcome = trained(tmp_path, task, recipe=recipe, dataset=scenes(task, train=96, val=24))
    assert outcome.history[-1].figures[f"ema_{figure}"] > least


def test_a_backbone_begins_with_its_own_weights(tmp_path):
    from fleetfoot.models import create_model
    from fleetfoot.weights import files

    model = create_model(BACKBONE, num_classes=5)
    files.write(tmp_path / "body.safetensors", model.state_dict())
    recipe = replace(RECIPE, init=Init(weights=str(tmp_path / "body.safetensors")))
    made = build("tiny_detector", CLASSES, recipe, task="detect")
    assert made.name == f"tiny_detector:{BACKBONE}"
    assert torch.equal(made.module.backbone.backbone.stem[0].weight, model.stem[0].weight)
    assert "in the backbone, and a fresh head" in made.notes[0]


def test_a_detector_begins_with_that_of_another_set(tmp_path):
    outcome = trained(tmp_path / "a", recipe=replace(RECIPE, updates=1, ema=Ema()))
    weights = str(outcome.checkpoint)
    for given in (("tiny_detector", weights), (weights, "")):
        recipe = replace(RECIPE, init=Init(weights=given[1]))
        made = build(given[0], ("a", "b", "c", "d"), recipe, task="detect")
        before = checkpoint.read(outcome.checkpoint).weights
        assert made.module.num_classes == 4
        assert torch.equal(made.module.neck[0].weight, before["neck.0.weight"])
        assert made.preprocessing.labels == ("a", "b", "c", "d")


def test_freezing_and_rates_by_depth_know_the_backbone():
    from fleetfoot.train.groups import freeze_, parameter_groups

    made = build("tiny_detector", CLASSES, RECIPE, task="detect").module
    groups = parameter_groups(made, Optim(layer_decay=0.5))
    rates = {name: group.lr_scale for group in groups for name in group.names}
    assert rates["head.weight"] == 1.0
    assert rates["neck.0.weight"] == 1.0
    inside = {rate for name, rate in rates.items() if name.startswith("backbone.")}
    assert max(inside) == 0.5
    frozen = freeze_(made, 1)
    assert any(name.startswith("backbone.backbone.stages.0.") for name in frozen)
    assert not any(name.startswith(("neck", "head")) for name in frozen)


def test_training_and_evaluation_may_have_other_sizes(tmp_path):
    recipe = replace(RECIPE, size=32, eval_size=96, scene=Scene(), epochs=1)
    outcome = trained(tmp_path, recipe=recipe)
    assert outcome.history[0].size == 32
    assert Preprocess.of(resolve(str(outcome.checkpoint)).module).size == 96
    wide = trained(
        tmp_path / "wide", options={"input_size": (48, 80)}, recipe=replace(RECIPE, epochs=1)
    )
    assert wide.history[0].size == (48, 80)
    assert ",48x80," in (tmp_path / "wide" / "summary.csv").read_text()


def test_what_does_not_fit_is_refused(tmp_path):
    with pytest.raises(TrainingError, match=r"recipe small is for classify.*finetune-detect"):
        train("tiny_detector", scenes(), changed(), RUN, tmp_path)
    with pytest.raises(
        TrainingError, match="is a network for segment, and the data set is for det"
    ):
        train("tiny_segmenter", scenes(), RECIPE, RUN, tmp_path)
    with pytest.raises(TrainingError, match=r"run\.compile is offered for classification"):
        train("tiny_detector", scenes(), RECIPE, replace(RUN, compile=True), tmp_path)
    with pytest.raises(ValueError, match=r"mix\.mixup is 0\.2, and has no effect in the task det"):
        limits.check(replace(RECIPE, mix=Mix(mixup=0.2)))
    with pytest.raises(ValueError, match=r"scene\.mosaic is 0\.5, and has no effect in classific"):
        limits.check(changed(scene=Scene(mosaic=0.5)))
    with pytest.raises(
        ValueError, match=r"scene\.rotate is 3\.0, and has no effect in the task detect"
    ):
        limits.check(replace(RECIPE, scene=Scene(rotate=3.0)))


def test_another_task_does_not_go_on(tmp_path):
    trained(tmp_path, recipe=replace(RECIPE, updates=1))
    with pytest.raises(CheckpointError, match="the run is for detect"):
        trained(tmp_path, "segment", recipe=RECIPE, resume="required", model="tiny_segmenter")


def test_a_set_whose_targets_changed_does_not_go_on(tmp_path):
    trained(tmp_path, recipe=replace(RECIPE, updates=1))
    with pytest.raises(CheckpointError, match="sizes or targets of the pictures in shapes"):
        trained(tmp_path, dataset=scenes(seed=1), resume="required")


SMALL = {
    "ssdlite": {"input_size": 96},
    "onestage": {"input_size": 64, "width": 16, "head_depth": 1},
    "fcos": {"input_size": 64, "channels": 64, "depth": 1},
    "fasterrcnn": {"input_size": 64, "channels": 32},
    "maskrcnn": {"input_size": 64, "channels": 32},
    "lraspp": {"input_size": 64},
    "deeplabv3": {"input_size": 64},
    "semantic_fpn": {"input_size": 64},
    "handmesh": {"input_size": 64, "depth": 1, "dims": (32, 32, 32)},
}
"""Options that make each network small."""


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_every_network_trains_is_measured_and_goes_on(tmp_path, name):
    task = HEADS[name].task
    recipe = replace(
        RECIPE, updates=2, batch=4, augment=Augment(), optim=replace(RECIPE.optim, lr=1e-4)
    )
    given = {"model": f"{name}:{BACKBONE}", "options": SMALL[name], "recipe": recipe}
    outcome = trained(tmp_path / "whole", task, **given)
    (row,) = outcome.history
    measured = [value for name, value in row.figures.items() if not name.endswith("_loss")]
    assert measured
    assert row.train_loss > 0
    run = replace(RUN, save_updates=1)
    with pytest.raises(Stopped):
        trained(tmp_path / "parts", task, **given, run=run, on_event=stopping(1))
    trained(tmp_path / "parts", task, **given, run=run, resume="required")
    assert differences(tmp_path / "whole", tmp_path / "parts") == []
    found = resolve(str(outcome.checkpoint))
    assert found.name == str(outcome.checkpoint)
    assert found.module.options.items() >= {"input_size": SMALL[name]["input_size"]}.items()


def test_every_network_is_tried():
    own = {name for name in HEADS if not name.startswith("tiny_")}
    assert own == set(SMALL)
