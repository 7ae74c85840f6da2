"""The order of turns and the runs of one: what interleaves a run, a start and a check of prices."""

from __future__ import annotations

import gc
import itertools

import pytest

from fleetfoot.errors import UnknownNameError
from fleetfoot.measure.pace import MOST_RUNS_A_TURN, PACES, Pace, order, turn

AMOUNTS = Pace(
    name="x", rounds=1, fewest_rounds=1, budget_s=1.0, burst_runs=3, burst_s=0.0, rewarm_s=0.0
)


class Counted:
    """A clock by which every run takes ``seconds``, and the call that it times."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.calls, self.timed = seconds, 0, 0

    def __call__(self) -> None:
        self.calls += 1
        self.collected = gc.isenabled()

    def time(self, call) -> float:
        call()
        self.timed += 1
        return self.seconds


def test_a_round_has_every_item_once_and_orders_differ():
    rounds = [tuple(order(range(6), number)) for number in range(8)]
    assert all(sorted(turns) == list(range(6)) for turns in rounds)
    assert len(set(rounds)) == 8  # of 720 orders: two equal by chance are unlikely
    assert rounds == [tuple(order(range(6), number)) for number in range(8)]
    assert rounds != [tuple(order(range(6), number, seed=1)) for number in range(8)]


def test_the_first_run_of_a_turn_is_not_timed():
    network = Counted(0.5)
    assert turn(network, network, AMOUNTS) == [0.5] * 3
    assert (network.calls, network.timed) == (4, 3)
    assert not network.collected
    assert gc.isenabled()


@pytest.mark.parametrize(("seconds", "runs"), [(1.0, 3), (0.004, 8), (1e-6, MOST_RUNS_A_TURN)])
def test_short_runs_fill_the_turn_up_to_a_number(seconds, runs):
    network = Counted(seconds)
    pace = Pace(
        name="x", rounds=1, fewest_rounds=1, budget_s=1.0, burst_runs=3, burst_s=0.03, rewarm_s=0.0
    )
    assert len(turn(network, network, pace)) == runs


def test_untimed_runs_go_on_for_their_time(monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr("fleetfoot.measure.pace.time.monotonic", lambda: next(ticks) * 0.01)
    network = Counted(1.0)
    pace = Pace(name="x", rounds=1, fewest_rounds=1, budget_s=1.0, burst_runs=1, rewarm_s=0.035)
    turn(network, network, pace)
    # at 0.01, 0.02 and 0.03 s there is time left, at 0.04 s there is none
    assert network.calls - network.timed == 1 + 3


def test_the_paces_are_those_promised():
    assert PACES["default"].budget_s < 180
    assert "no ground for a decision" in PACES["quick"].description
    assert Pace.named("quick", budget_s=5).budget_s == 5
    with pytest.raises(UnknownNameError, match="did you mean 'quick'"):
        Pace.named("quik")
    with pytest.raises(ValueError, match="seconds must be above 0, not -1"):
        Pace.named("quick", budget_s=-1)
    with pytest.raises(ValueError, match="rounds and burst_runs must be 1 or more, not 0 and 2"):
        Pace(name="x", rounds=0, fewest_rounds=0, budget_s=1.0)
