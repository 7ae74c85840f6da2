"""Settings are changed by name, shown, saved and read back, and compared."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleetfoot.data.settings import Augment, Phase
from fleetfoot.errors import RecordError, UnknownNameError
from fleetfoot.train.config import Optim, Recipe, Run, Schedule
from fleetfoot.train.recipes import RECIPES
from fleetfoot.train.settings import (
    Line,
    Settings,
    changed,
    from_yaml,
    listed,
    names,
    safe_changes,
    to_yaml,
    written,
)


def test_values_are_read_in_their_types():
    made = Settings().changed(
        [
            "epochs=1e2",
            "size=none",
            "optim.lr = 1e-3",
            "optim.betas=0.8,0.95",
            "optim.nesterov=yes",
            "optim.name=sgd",
            "augment.interpolation=random",
            "schedule.curve=linear",
            "phases=40:160:rand-m2-n2, 100:192",
            "ema.decay=0.9",
            "run.workers=3",
            "run.compile=false",
            "augment.policy=rand-m9-mstd0.5-inc1",
            "distil.teacher=timm:resnet18",
        ]
    )
    recipe = made.recipe
    assert recipe.epochs == 100
    assert isinstance(recipe.epochs, int)
    assert (recipe.optim.lr, recipe.optim.betas) == (1e-3, (0.8, 0.95))
    assert (recipe.optim.nesterov, recipe.optim.name) == (True, "sgd")
    assert recipe.augment.interpolation == "random"
    assert recipe.phases == (
        Phase(until=40, size=160, policy="rand-m2-n2"),
        Phase(until=100, size=192),
    )
    assert (made.run.workers, made.run.compile, recipe.size) == (3, False, None)
    assert recipe.distil.teacher == "timm:resnet18"


def test_epochs_take_the_place_of_updates():
    assert changed(RECIPES["shufflenet_v2"], ["epochs=3"]).updates is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("optim.lrr=1", "unknown setting 'optim.lrr'; did you mean .*'optim.lr'"),
        ("lr=1", r"unknown setting 'lr'; did you mean 'optim.lr'\?"),
        ("warmup=1", "did you mean 'schedule.warmup' or 'ema.warmup'"),
        ("name=x", "unknown setting 'name'"),
        ("optim.name=adam", "unknown value of optim.name 'adam'; did you mean 'adamw'"),
        ("optim.lr=fast", "optim.lr must be a number, not 'fast'"),
        ("optim.lr=nan", "optim.lr must be a number, not 'nan'"),
        ("epochs=1.5", r"epochs must be a whole number, not '1\.5'"),
        ("epochs=none", "epochs must be a whole number, not 'none'"),
        ("bgr=maybe", "bgr must be true or false, not 'maybe'"),
        ("optim.betas=0.9", r"optim.betas takes 2 numbers such as 0\.1,0\.9, not '0\.9'"),
        ("schedule.milestones=8,b", "schedule.milestones must be a number, not 'b'"),
        ("phases=192", "phases takes UNTIL:SIZE or UNTIL:SIZE:POLICY, not '192'"),
        ("optim.lr", "a setting is changed by NAME=VALUE, not by 'optim.lr'"),
    ],
)
def test_a_mistake_is_an_error_that_helps(change, message):
    with pytest.raises(ValueError, match=message):
        changed(Recipe(), [change])


def test_an_unknown_name_has_its_own_error():
    with pytest.raises(UnknownNameError):
        changed(Recipe(), ["optim.lrr=1"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["optim.momentum=1.5"], r"optim.momentum must be in \[0, 1\), not 1.5"),
        (["optim.lr=0"], "optim.lr must be above 0, not 0"),
        (["batch=0"], "batch must be 1 or more, not 0"),
        (["augment.scale=0,1"], r"augment.scale must be in \(0, 1\], not 0"),
        (["run.keep=0"], "run.keep must be 1 or more, not 0"),
        (["schedule.warmup=11"], "schedule.warmup is 11 epochs, longer than the run: epochs is 10"),
        (["schedule.warmup=10", "schedule.warmup_prefix=1"], "warmup is 10 and epochs is 10"),
        (["schedule.min_lr=1"], r"schedule.min_lr is 1, above the learning rate 0\.001"),
        (
            ["schedule.cooldown=3", "schedule.curve=step"],
            "cooldown is 3, and schedule.curve 'step'",
        ),
        (
            ["schedule.milestones=8,11"],
            "schedule.milestones is 8,11, and schedule.curve is 'cosine'",
        ),
        (["schedule.curve=milestones"], "schedule.milestones is none"),
        (["schedule.curve=milestones", "schedule.milestones=11,8"], "milestones must rise"),
        (["scene.mosaic=0.5"], r"scene\.mosaic is 0\.5, and has no effect in classification"),
        (["schedule.cooldown=3", "updates=9"], r"cooldown is 3, and updates \(9\)"),
        (["optim.accumulate=3"], "batch is 128, which optim.accumulate 3 does not divide"),
        (["optim.nesterov=1", "optim.momentum=0"], "and optim.momentum is 0"),
        (["optim.name=sgd", "optim.eps=1"], "optim.eps is 1, and optim.name 'sgd' has none"),
        (["augment.scale=0.9,0.1"], r"the least and the largest value, not 0\.9,0\.1"),
        (["loss.threshold=0.2"], r"loss.threshold is 0\.2, and loss.kind is 'cross_entropy'"),
        (["loss.sum=1"], "loss.sum is true, and loss.kind is 'cross_entropy'"),
        (["phases=5:64,3:96"], "phases must end at rising epochs, not 5, 3"),
        (["phases=5:0"], "phases: size must be 1 or more, not 0"),
        (["phases=28:192,30:224"], "begins at epoch 28, and epochs is 10.*phases=9:192,10:224"),
    ],
)
def test_what_is_out_of_range_or_contradicts_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Settings().changed(changes)


def test_every_setting_can_be_written_and_read():
    """All names, from the defaults, by the text that is shown, to each recipe."""
    for recipe in RECIPES.values():
        target = Settings(recipe, Run(workers=2, on_nan="rollback", save_updates=7))
        changes = [f"{name}={written(value)}" for name, value in target.values().items()]
        made = Settings().changed([c for c in changes if not c.startswith("updates=")])
        assert made.changed([c for c in changes if c.startswith("updates=")]) == Settings(
            replace(recipe, name="custom", about=made.recipe.about), target.run
        )


def test_names_are_all_leaves():
    found = names()
    assert {"epochs", "optim.lr", "schedule.per", "run.device", "init.freeze"} <= set(found)
    assert not {"optim", "name", "about.source"} & set(found)


def test_settings_survive_yaml():
    for recipe in RECIPES.values():
        settings = Settings(
            replace(recipe, optim=replace(recipe.optim, lr=1e-5, weight_decay=0.1 + 0.2)),
            Run(save_seconds=1e-3, device="cuda:1"),
        )
        assert from_yaml(to_yaml(settings, model="fasternet_t0", classes=["ä", "no"])) == settings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "not YAML"),
        ("epochs: 3", "have the parts 'recipe' and 'run'"),
        (to_yaml(Settings()).replace("epochs: 10", "epocs: 10"), "unknown field recipe.epocs"),
        (to_yaml(Settings()).replace("epochs: 10", "epochs: ten"), "recipe.epochs must be a whole"),
        (to_yaml(Settings()).replace("epochs: 10", "epochs: 0"), "epochs must be 1 or more, not 0"),
    ],
)
def test_a_damaged_file_is_an_error(text, message):
    with pytest.raises(RecordError, match=message):
        from_yaml(text)


def test_differences_from_the_preset_are_marked():
    preset = Settings(RECIPES["fasternet_t0"])
    settings = preset.changed(["optim.lr=1e-2", "run.workers=2"])
    lines = {line.name: line for line in listed(settings, preset)}
    # those of scenes have no effect in classification
    assert set(lines) == {name for name in names() if not name.startswith("scene.")}
    assert lines["optim.lr"] == Line("optim.lr", "0.01", "0.004")
    assert lines["epochs"] == Line("epochs", "300", None)
    assert lines["phases"] == Line("phases", "280:192,300:224", None)
    assert [line.name for line in lines.values() if line.preset] == ["optim.lr", "run.workers"]


def test_changes_on_resume_are_sorted():
    old = Settings(Recipe(optim=Optim(lr=1e-3)), Run(workers=2))
    new = Settings(
        Recipe(optim=Optim(lr=1e-2), schedule=Schedule(warmup=1), augment=Augment(flip=0.0)),
        Run(workers=4, keep=7, threads=1, on_bad_image="skip"),
    )
    safe, telling = safe_changes(old, new)
    assert {change.name for change in safe} == {"run.workers", "run.keep", "run.on_bad_image"}
    assert [change.name for change in telling] == [
        "augment.flip", "optim.lr", "schedule.warmup", "run.threads",
    ]  # fmt: skip
    assert str(telling[1]) == "optim.lr: 0.001 -> 0.01 (the result is another one)"
    assert "last bits" in telling[-1].effect
    assert str(safe[0]) == "run.workers: 2 -> 4 (the result stays the same)"
    assert safe_changes(old, old) == ([], [])
