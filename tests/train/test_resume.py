"""Runs that are killed by SIGKILL and go on end as a run that nobody disturbed, bit for bit."""

from __future__ import annotations

import random

import pytest
import torch

from fleetfoot.train.config import Ema, Optim
from tools.kills import PLACES, RECIPE, Kill, differences, drawn, run


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kills") / "undisturbed"
    assert not run(folder)
    return folder


def killed(folder, *kills: tuple[Kill, int], settings=None) -> None:
    """Runs that are killed one after another, each with its number of workers; then one to the
    end."""
    settings = settings or {}
    for kill, workers in kills:
        one = settings | {"run": settings.get("run", {}) | {"workers": workers}}
        assert run(folder, kill, settings=one), f"{kill} came too late"
    assert not run(folder, settings=settings)


def test_two_kills_in_the_second_epoch_and_one_within_a_write(undisturbed, tmp_path):
    killed(
        tmp_path / "a",
        (Kill("update", 4.5), 2),  # between two accumulated parts
        (Kill("update", 0.5), 1),  # of the same update
        (Kill("half", 1), 0),
    )
    assert differences(undisturbed, tmp_path / "a") == []
    assert not list((tmp_path / "a").rglob("*.part"))


def test_a_comparison_sees_one_bit(undisturbed, tmp_path):
    assert not run(tmp_path / "a", settings={"recipe": {"seed": 1}})
    assert "weights.head.classifier.bias" in differences(undisturbed, tmp_path / "a")


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_twice_at_every_place_with_other_numbers_of_workers(undisturbed, tmp_path, place):
    at = 0.3 if place == "any" else 1
    killed(tmp_path / "a", (Kill(place, at), 2), (Kill(place, 0), 0))
    assert differences(undisturbed, tmp_path / "a") == []


@pytest.mark.slow
def test_at_the_border_of_an_epoch(undisturbed, tmp_path):
    """Before and after each step of what happens there."""
    killed(
        tmp_path / "a",
        (Kill("update", 3), 2),  # the first update of the second epoch
        (Kill("evaluate", 0), 0),  # at the end of the second: the first was evaluated
        (Kill("row", 0), 1),
        (Kill("written", 1), 1),
    )
    assert differences(undisturbed, tmp_path / "a") == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"recipe": {"precision": "bf16"}},
        {"recipe": {"precision": "float64"}},
        {"recipe": {"optim": Optim(name="sgd", lr=0.05, accumulate=2, nesterov=True)}},
        {"recipe": {"optim": Optim(name="rmsprop_tf", lr=1e-3, accumulate=2)}},
        {"recipe": {"optim": Optim(name="lamb", lr=1e-3, layer_decay=0.8, accumulate=2)}},
        {"recipe": {"ema": Ema()}, "run": {"channels_last": True}},
        {"run": {"checkpointing": True}},
        {"run": {"save_updates": None, "save_seconds": 0.3}},
    ],
    ids=lambda s: "-".join(f"{k}" for part in s.values() for k in part),
)
def test_with_other_settings(tmp_path, settings):
    assert not run(tmp_path / "a", settings=settings)
    if settings.get("run", {}).get("save_seconds"):
        kills = [(Kill("update", 4.5), 1)]
    else:
        kills = [(Kill("update", 4), 1), (Kill("update", 1.5), 0)]
    killed(tmp_path / "b", *kills, settings=settings)
    assert differences(tmp_path / "a", tmp_path / "b") == []


@pytest.mark.slow
def test_with_the_gradient_scaler(tmp_path):
    settings = {"recipe": {"precision": "fp16"}}
    try:
        x = torch.randn(1, 3, 8, 8, requires_grad=True)
        with torch.autocast("cpu", torch.float16):
            torch.nn.Conv2d(3, 4, 3)(x).sum().backward()
    except RuntimeError:
        pytest.skip("this processor has no convolution in float16")
    assert not run(tmp_path / "a", settings=settings)
    killed(tmp_path / "b", (Kill("update", 4), 1), (Kill("update", 1.5), 0), settings=settings)
    assert differences(tmp_path / "a", tmp_path / "b") == []


def test_places_drawn_at_random_are_passed():
    draws = random.Random(0)
    kills = [drawn(draws) for _ in range(200)]
    assert {kill.place for kill in kills} == set(PLACES)
    assert max(kill.at for kill in kills if kill.place == "update") < RECIPE.epochs * 3
