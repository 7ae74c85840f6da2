"""How many cores there are to use, and the one check of threads."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fleetfoot import cores, engines, runtime
from fleetfoot.cgroups import Limits
from fleetfoot.machine.measured import machine


@pytest.mark.parametrize(
    ("limited", "expected"),
    [
        (Limits(), 8),
        (Limits(cores=2), 2),
        (Limits(cores=100), 8),
        (Limits(cpus=frozenset({0, 1, 9})), 2),
        (Limits(cpus=frozenset({99})), 8),  # numbers of another machine say nothing
        (Limits(cores=3, cpus=frozenset({0, 1})), 2),
    ],
)
def test_a_containers_limits_and_the_affinity_limit_the_usable_cores(
    monkeypatch, limited, expected
):
    monkeypatch.setattr(cores, "limits", lambda: limited)
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert cores.usable_cores() == expected


def test_without_limits_or_an_affinity_there_is_a_core(monkeypatch):
    monkeypatch.setattr(cores, "limits", Limits)
    monkeypatch.delattr(cores.os, "sched_getaffinity", raising=False)
    assert cores.usable_cores() >= 1


WRONG = [True, False, 0, -1, 1.0, 1.5, "1", None, 5, 2**40]


@pytest.mark.parametrize("threads", WRONG)
def test_a_number_of_threads_that_cannot_be_is_refused(monkeypatch, threads):
    monkeypatch.setattr(cores, "usable_cores", lambda: 4)
    with pytest.raises(ValueError, match=rf"threads must be 1 to 4, .*, not {threads!r}$"):
        cores.check_threads(threads)
    for allowed in (1, 4):
        cores.check_threads(allowed)


@pytest.mark.parametrize("threads", WRONG)
def test_engines_and_calls_ask_that_check(monkeypatch, threads):
    monkeypatch.setattr(cores, "usable_cores", lambda: 4)
    with pytest.raises(ValueError, match="threads must be 1 to 4"):
        engines.load("eager", nn.ReLU(), example=torch.zeros(1, 3, 8, 8), threads=threads)
    with pytest.raises(ValueError, match="threads must be 1 to 4"):
        machine(threads)


def test_a_plan_may_run_with_more_threads_than_cores_up_to_its_own_limit(monkeypatch):
    monkeypatch.setattr(cores, "usable_cores", lambda: 1)
    cores.check_threads(2, most=runtime.MOST_THREADS)
    with pytest.raises(ValueError, match="threads must be 1 to 256, not 257"):
        cores.check_threads(257, most=runtime.MOST_THREADS)
