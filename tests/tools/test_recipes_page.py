"""docs/recipes.md is what the recipes and settings say of themselves."""

from __future__ import annotations

import shutil
from pathlib import Path

from fleetfoot.report import update_between_markers
from fleetfoot.train.recipes import EVERY
from fleetfoot.train.settings import names
from fleetfoot.train.timm_flags import FLAGS
from tools import recipes

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_current(tmp_path):
    copy = Path(shutil.copy(ROOT / "docs" / "recipes.md", tmp_path))

    assert not update_between_markers(copy, recipes.markdown())


def test_the_page_names_every_recipe_setting_and_flag():
    page = recipes.markdown()
    assert all(f"`{name}`" in page for name in (*EVERY, *names(), *FLAGS))
    shown = [recipe.name for _, starts in recipes.FAMILIES for recipe in recipes._members(starts)]
    assert sorted(shown) == sorted(EVERY)


def test_every_setting_says_what_it_means():
    known = recipes.meanings()
    assert set(names()) <= set(known)
    assert [name for name in names() if not known[name]] == []
