"""What a user names becomes cells: each pattern means something, each absence has a reason."""

from __future__ import annotations

import pytest

from fleetfoot.errors import EngineError, UnknownNameError
from fleetfoot.measure import plan as planning
from fleetfoot.measure.plan import networks, plan
from fleetfoot.measure.protocols import DEFAULT_MODELS


def test_patterns_reach_the_zoo_and_the_libraries():
    assert networks(["fasternet_t?"]) == ["fasternet_t0", "fasternet_t1", "fasternet_t2"]
    assert "timm:ghostnet_100" in networks(["timm:ghostnet_*"])
    assert networks(["torchvision:resnet5*"]) == ["torchvision:resnet50"]


def test_a_network_named_twice_counts_once():
    assert networks(["fasternet_t0", "fasternet_t?"]).count("fasternet_t0") == 1


@pytest.mark.parametrize("pattern", ["none_*", "timm:none_*", "torchvision:*rcnn*", "apple:x"])
def test_a_pattern_that_means_nothing_is_an_error(pattern):
    with pytest.raises(UnknownNameError):
        networks(["fasternet_t0", pattern])


def test_each_number_of_threads_goes_with_each_batch():
    found = plan(["fasternet_t0"], engines=["eager"], threads=[1], batches=[1, 8]).cases
    assert [(c.threads, c.batch) for c in found] == [(1, 1), (1, 8)]


def test_a_protocol_gives_what_is_not_named():
    found = plan(["fasternet_t0"], engines=["eager"], protocol_name="fasternet").cases
    assert [(c.threads, c.batch) for c in found] == [(1, 1), (1, 32)]


def test_without_names_the_default_set_is_taken():
    found = plan(engines=["eager"], threads=[1])
    assert list(dict.fromkeys(c.model for c in found.cases)) == list(DEFAULT_MODELS)


def test_an_engine_that_is_not_here_is_absent_with_its_reason(monkeypatch):
    monkeypatch.setattr(planning, "available", lambda: {"eager": None, "openvino": "not installed"})
    found = plan(["fasternet_t0"], engines=["eager", "openvino"])
    assert {c.engine for c in found.cases} == {"eager"}
    assert [(f.engine, f.reason) for f in found.absent] == [("openvino", "not installed")]


def test_no_engine_at_all_is_an_error_with_every_reason(monkeypatch):
    monkeypatch.setattr(planning, "available", lambda: {"openvino": "not installed"})
    with pytest.raises(EngineError, match="openvino: not installed"):
        plan(["fasternet_t0"], engines=["openvino"])
