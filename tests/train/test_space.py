"""The settings that a sweep varies: how they are written, and what is refused."""

from __future__ import annotations

import pytest

from fleetfoot.errors import UnknownNameError
from fleetfoot.train.config import Recipe
from fleetfoot.train.settings import Settings
from fleetfoot.train.space import Axis, axes, axis


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("optim.lr=log:1e-4:1e-1", Axis(name="optim.lr", kind="log", low=1e-4, high=0.1)),
        ("mix.mixup=uniform:0:0.8", Axis(name="mix.mixup", kind="uniform", low=0.0, high=0.8)),
        ("batch=log:16:128", Axis(name="batch", kind="log", low=16, high=128, whole=True)),
        ("optim.clip=uniform:1:5", Axis(name="optim.clip", kind="uniform", low=1.0, high=5.0)),
        ("optim.name=choice:sgd,lamb",
         Axis(name="optim.name", kind="choice", choices=("sgd", "lamb"))),
    ],
)  # fmt: skip
def test_an_axis_is_read_and_written_back(text, made):
    assert axis(text) == made
    assert axis(str(made)) == made


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optim.lr", "takes NAME=log:LOW:HIGH"),
        ("optim.lr=0.1", "takes NAME=log:LOW:HIGH"),
        ("optim.lr=log:0.1", "log:LOW:HIGH takes two numbers, not '0.1'"),
        ("optim.lr=log:0:1", "log needs numbers above 0"),
        ("optim.lr=log:1:0.1", "LOW must be below HIGH"),
        ("optim.lr=uniform:0:inf", "LOW must be below HIGH"),
        ("batch=uniform:16:32.5", "whole numbers"),
        ("optim.name=uniform:0:1", "not a number; give its values as optim.name=choice:A,B"),
        ("optim.name=choice:sgd", "two values or more"),
        ("seed=uniform:0:9", "compares settings at one seed"),
        ("run.workers=uniform:0:9", "does not decide the result"),
    ],
)
def test_a_wrong_axis_says_what_is_wrong(text, message):
    with pytest.raises(ValueError, match=message):
        axis(text)


def test_a_misspelt_name_or_kind_gets_the_nearest():
    with pytest.raises(UnknownNameError, match=r"did you mean 'optim\.lr'"):
        axis("optim.rl=log:1:2")
    with pytest.raises(UnknownNameError, match="did you mean 'uniform'"):
        axis("optim.lr=unifrom:1:2")


def test_values_out_of_a_settings_range_are_refused_before_the_first_trial():
    with pytest.raises(ValueError, match="schedule"):
        axes(["schedule.gamma=uniform:-1:1"], Settings(Recipe()))
    with pytest.raises(UnknownNameError, match="lambda"):
        axes(["optim.name=choice:sgd,lambda"], Settings(Recipe()))


def test_one_axis_or_more_each_once():
    with pytest.raises(ValueError, match="one setting or more"):
        axes([], Settings())
    with pytest.raises(ValueError, match=r"names optim\.lr twice"):
        axes(["optim.lr=log:1e-4:1", "optim.lr=log:1e-3:1"], Settings())


def test_values_have_four_digits_so_that_they_can_be_typed():
    assert axis("optim.lr=log:1e-4:1").text(0.00031622776) == "0.0003162"
    assert axis("batch=log:16:128").text(37) == "37"
