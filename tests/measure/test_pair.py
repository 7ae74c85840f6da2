"""Two networks in turns on one engine: the change of the time, and what could not be measured."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest
import torch
from torch import nn

from fake_bench import PACE, Bench
from fleetfoot.errors import UnknownNameError
from fleetfoot.measure import pair
from fleetfoot.measure.run import Tools


class Slow(nn.Module):
    """Waits before it answers."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.layer = nn.Conv2d(3, 4, 1)

    def forward(self, x):
        time.sleep(self.seconds)
        return self.layer(x).mean((2, 3))


class Two(nn.Module):
    def forward(self, x):
        return x, x


def measured(before: nn.Module, after: nn.Module, **options) -> pair.PairTimes:
    options = {"engine": "eager", "size": 8, "pace": PACE, "fold": False, **options}
    return pair.measure(before, after, tools=Bench().tools, **options)


def test_the_faster_of_two_is_found_in_turns_of_one_run():
    before, after = Slow(0.03), Slow(0.001)
    made = measured(before, after)
    slow, fast = made.measurements

    assert made.change is not None
    assert made.change.ratio == fast.median_s / slow.median_s < 1
    assert made.change.ci95[0] <= made.change.ratio <= made.change.ci95[1]
    assert [m.model for m in made.measurements] == ["before", "after"]
    assert len({m.run_id for m in made.measurements}) == 1
    assert before.training  # the given ones stay
    assert json.loads(json.dumps(made.record()))["change"]["ratio"] == made.change.ratio


def test_both_are_folded_and_counted():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1))
    made = measured(model, model, fold=True)

    assert [m.fold["folded"] for m in made.measurements] == [1, 1]
    assert {m.macs for m in made.measurements} == {64 * 12}
    assert isinstance(model[1], nn.BatchNorm2d)


def test_a_network_that_cannot_run_is_a_failure_with_its_reason():
    made = measured(Slow(0), Two())

    assert made.change is None
    assert [m.model for m in made.measurements] == ["before"]
    assert "answers with a tuple, not one tensor" in made.failures[0].reason
    assert made.record()["change"] is None


def test_networks_of_outputs_by_name_are_timed():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x):
            return {"scores": self.conv(x), "boxes": x}

    tools = replace(Bench().tools, load=Tools().load)  # the engine itself
    made = pair.measure(Named(), Named(), engine="eager", size=8, pace=PACE, tools=tools)
    assert made.change is not None
    assert not made.failures


def test_what_cannot_be_asked_for():
    with pytest.raises(UnknownNameError, match="unknown engine 'egaer'; did you mean 'eager'"):
        measured(Two(), Two(), engine="egaer")
    with pytest.raises(ValueError, match="threads must be 1 to"):
        measured(Two(), Two(), threads=torch.get_num_threads() + 10_000)
    with pytest.raises(ValueError, match="need two names, not 'a' twice"):
        measured(Two(), Two(), name="a", changed_name="a")
