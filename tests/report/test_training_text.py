"""The settings of a run as the terminal shows them."""

from __future__ import annotations

from fleetfoot.report.training import settings_text
from fleetfoot.train.recipes import recipe
from fleetfoot.train.settings import Settings, listed


def test_every_setting_is_shown_with_the_recipes_value_where_it_differs():
    before = Settings(recipe("finetune"))
    now = before.changed(["optim.lr=0.25"])
    text = settings_text(listed(now, before), width=60)

    assert all(len(line) <= 60 for line in text.splitlines())
    words = " ".join(text.split())
    assert f"lr=0.25 (recipe: {before.recipe.optim.lr})" in words
    assert words.count("(recipe:") == 1
    # those of scenes have no effect in classification
    names = [name.rpartition(".")[2] for name in now.values() if not name.startswith("scene.")]
    assert all(f"{name}=" in words for name in names)
    assert "scene:" not in words
    assert "\n  optim: name=" in text
