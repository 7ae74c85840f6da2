"""The recipes' own values, and which of them belongs to a network."""

from __future__ import annotations

import pytest

from fleetfoot.errors import UnknownNameError
from fleetfoot.models import configure, list_models
from fleetfoot.network import native_size
from fleetfoot.train import limits
from fleetfoot.train.config import Recipe, Run
from fleetfoot.train.recipes import RECIPES, recipe, recipe_of


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_within_the_limits_and_states_itself(name):
    made = recipe(name)
    limits.check(made, Run())
    assert made.name == name
    assert made.about.source
    assert made.about.expected
    assert made.about.time


def test_no_recipe_of_imagenet_claims_to_be_measured():
    assert not any(r.about.measured for n, r in RECIPES.items() if r.about.time.endswith("here"))


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
