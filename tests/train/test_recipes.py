"""The recipes' own values, and which of them belongs to a network."""

from __future__ import annotations

import pytest

from fleetfoot.errors import UnknownNameError
from fleetfoot.models import configure, list_models
from fleetfoot.network import native_size
from fleetfoot.train import limits
from fleetfoot.train.config import Recipe, Run
from fleetfoot.train.recipes import EVERY, RECIPES, general_recipe, recipe, recipe_of
from fleetfoot.train.schedules import Schedules


@pytest.mark.parametrize("name", EVERY)
def test_a_recipe_is_within_the_limits_and_states_itself(name):
    made = recipe(name)
    limits.check(made, Run())
    assert made.name == name
    assert made.about.source
    assert made.about.expected
    assert made.about.time


def test_a_network_of_a_task_has_the_one_of_its_backbone_or_of_its_head():
    assert recipe_of("maskrcnn:fasternet_m").drop_path == 0.2
    assert recipe_of("ssdlite").name == recipe_of("ssdlite:fasternet_t0").name == "ssdlite"
    with pytest.raises(UnknownNameError, match="for example finetune-detect"):
        recipe_of("fcos:fasternet_t0")
    for task in ("detect", "segment", "hand"):
        assert recipe(general_recipe(task)).task == task


def test_schedule_1x_of_mask_r_cnn():
    """mmdetection: 500 updates from a thousandth of the rate, a tenth after 8 and after 11 of 12
    epochs."""
    made = recipe("maskrcnn_fasternet_s")
    per_epoch = 117_266 // 16
    course = Schedules.of(made, per_epoch)
    assert course.total_updates == 12 * per_epoch
    for update in (0, 1, 250, 499, 500, 8 * per_epoch - 1):
        share = min(update, 500) / 500
        assert course.lr(update) == pytest.approx(2e-4 * (1 - (1 - share) * (1 - 1e-3)))
    for update in (8 * per_epoch, 11 * per_epoch - 1):
        assert course.lr(update) == pytest.approx(2e-5)
    assert course.lr(11 * per_epoch) == pytest.approx(2e-6)


def test_no_recipe_of_imagenet_claims_to_be_measured():
    untimed = [made for made in EVERY.values() if made.about.time.endswith("here")]
    assert not any(made.about.measured for made in untimed)


@pytest.mark.parametrize("name", [n for n in RECIPES if n in list_models()])
def test_a_recipe_of_one_network_agrees_with_its_catalogue(name):
    """Size and stochastic depth of the catalogue are those of the undistilled recipe."""
    config = configure(name)
    assert RECIPES[name].size == config.input_size
    if RECIPES[name].drop_path is not None:
        assert RECIPES[name].drop_path == config.drop_path_rate


def test_a_network_has_its_own_or_its_familys():
    assert recipe_of("fasternet_l").optim.clip == 0.01
    assert recipe_of("mobilenetv3_small_050").name == "mobilenet_v3"
    assert recipe_of("shufflenet_v1_g3_x0_5").bgr
    without = {name.split("_")[0] for name in list_models() if not _has(name)}
    assert without == {"cyclemlp", "micronet", "mobile", "shufflenet"}
    assert [name for name in list_models("shufflenet*") if not _has(name)] == [
        "shufflenet_v2_large",
        "shufflenet_v2_exlarge",
    ]


def _has(name):
    try:
        return bool(recipe_of(name))
    except UnknownNameError:
        return False


def test_what_has_none_is_told_what_there_is():
    for name in ("micronet_m0", "timm:resnet18", "nets/mine.py:build"):
        with pytest.raises(UnknownNameError, match=f"no recipe belongs to '{name}'.*finetune"):
            recipe_of(name)
    with pytest.raises(UnknownNameError, match="unknown recipe 'fasternet'; did you mean"):
        recipe("fasternet")


def test_the_teacher_of_fastvit_exists():
    (teacher,) = {r.distil.teacher for r in RECIPES.values() if r.distil.teacher}
    assert native_size(teacher) == 224


def test_custom_has_every_default():
    assert recipe("custom") == Recipe()
